/* peak.h - the arithmetic limit of one core: multiply-adds on registers alone.
 *
 * Each function runs `turns` turns and returns how many operations that were (a multiply and an add
 * are two).  They belong to the instruction set of a table of kernels: what that table's products
 * could reach if nothing had to be loaded.  int8 is that of u8 times s8 added up in 32 bits, of AMX s8 times s8. */
#ifndef FJ_KERNELS_PEAK_H
#define FJ_KERNELS_PEAK_H

#include "kernels/kern.h"

typedef int64_t fj_peak_fn(int64_t turns);
typedef struct fj_peak {
    fj_peak_fn *f32, *bf16, *int8;
} fj_peak;
fj_peak fj_peak_of(const fj_kern *k);
/* Operations a second of the calling thread: the best of many bursts of a fraction of a millisecond,
 * so that a neighbour who takes the core away does not lower it. */
double fj_peak_rate(fj_peak_fn *fn);

fj_peak_fn fj_peak_f32_avx2, fj_peak_int8_avx2;
fj_peak_fn fj_peak_f32_avx512, fj_peak_bf16_avx512, fj_peak_int8_avx512;
fj_peak_fn fj_peak_bf16_amx, fj_peak_int8_amx;
fj_peak_fn fj_peak_f32_neon, fj_peak_int8_neon, fj_peak_int8_dotprod, fj_peak_int8_i8mm,
    fj_peak_bf16_bf16;

#endif
