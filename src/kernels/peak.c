#include "kernels/peak.h"

#include "base/fs.h"

#include <string.h>

/* Without an instruction set the compiler's own registers: 8 chains hide the latency of one. */
static int64_t f32_scalar(int64_t turns) {
    float s[8] = { 0 }, a = 1, b = 0;
    for (int64_t i = 0; i < turns; i++) {
        __asm__ volatile("" : "+m"(a), "+m"(b));
        for (int k = 0; k < 8; k++) s[k] += a * b;
    }
    __asm__ volatile("" : : "m"(s));
    return turns * 8 * 2;
}

static int64_t int8_scalar(int64_t turns) {
    int32_t s[8] = { 0 }, a = 1, b = 0;
    for (int64_t i = 0; i < turns; i++) {
        __asm__ volatile("" : "+m"(a), "+m"(b));
        for (int k = 0; k < 8; k++) s[k] += a * b;
    }
    __asm__ volatile("" : : "m"(s));
    return turns * 8 * 2;
}

fj_peak fj_peak_of(const fj_kern *k) {
    fj_peak p = { f32_scalar, f32_scalar, int8_scalar };
#if defined(__x86_64__)
    /* bf16 without vdpbf16ps is f32 on widened numbers. */
    if (!strncmp(k->isa, "avx", 3)) {
        p = (fj_peak){ fj_peak_f32_avx2, fj_peak_f32_avx2, fj_peak_int8_avx2 };
        if (!strncmp(k->isa, "avx512", 6)) p.f32 = p.bf16 = fj_peak_f32_avx512;
        if (strstr(k->isa, "vnni")) p.int8 = fj_peak_int8_avx512;
        if (strstr(k->isa, "bf16")) p.bf16 = fj_peak_bf16_avx512;
        if (strstr(k->isa, "amx")) {
            p.bf16 = fj_peak_bf16_amx;
            p.int8 = fj_peak_int8_amx;
        }
    }
#elif defined(__aarch64__)
    if (!strncmp(k->isa, "neon", 4)) {
        p = (fj_peak){ fj_peak_f32_neon, fj_peak_f32_neon, fj_peak_int8_neon };
        if (strstr(k->isa, "dotprod")) p.int8 = fj_peak_int8_dotprod;
        if (strstr(k->isa, "i8mm")) p.int8 = fj_peak_int8_i8mm;
        if (strstr(k->isa, "bf16")) p.bf16 = fj_peak_bf16_bf16;
    }
#else
    (void)k;
#endif
    return p;
}

double fj_peak_rate(fj_peak_fn *fn) {
    double most = 0, begin = fj_clock(), t0 = begin, t1;
    do {
        double ops = (double)fn(1 << 15);
        t1 = fj_clock();
        if (t1 > t0 && ops / (t1 - t0) > most) most = ops / (t1 - t0);
        t0 = t1;
    } while (t1 - begin < 0.05);
    return most;
}
