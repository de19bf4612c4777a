/* isa.c - which instruction sets this CPU and this operating system have, and the climb. */
#define _GNU_SOURCE
#include "kernels/kern.h"

#include <string.h>

enum { SCALAR, AVX2, AVX512, AMX, LEVELS };
static const char *const names[LEVELS] = { "scalar", "avx2", "avx512", "amx" };

typedef struct cpu {
    int level;
    bool vnni, bf16;
} cpu;

#if defined(__x86_64__)
#include <cpuid.h>

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>

/* Tiles are 8 KiB more of registers, which the kernel saves for processes that ask, for all their threads
 * (Documentation/arch/x86/xstate.rst). */
static bool tiles_granted(void) {
    const long request = 0x1023, tile_data = 18; /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA */
    return syscall(SYS_arch_prctl, request, tile_data) == 0;
}
#else
static bool tiles_granted(void) { return false; }
#endif

/* The operating system must save the registers too: XCR0 bits 1, 2 for ymm, 5, 6, 7 for zmm and 17, 18 for
 * tiles (Intel SDM vol. 1, 13.3 and 14.3). */
static uint64_t xcr0(void) {
    uint32_t a, d;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (uint64_t)d << 32 | a;
}

static cpu detect(void) {
    cpu r = { SCALAR, false, false };
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return r;
    const unsigned need1 = bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C;
    if ((c & need1) != need1 || (xcr0() & 6) != 6) return r;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return r;
    r.level = AVX2;
    const unsigned need7 = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    if ((b & need7) != need7 || (xcr0() & 0xe6) != 0xe6) return r;
    r.level = AVX512;
    r.vnni = c & bit_AVX512VNNI;
    const unsigned tiles = 1u << 22 | 1u << 24 | 1u << 25; /* AMX-BF16, AMX-TILE, AMX-INT8 */
    bool amx = (d & tiles) == tiles && (xcr0() & 0x60000) == 0x60000;
    r.bf16 = a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & bit_AVX512BF16;
    if (amx && r.vnni && r.bf16 && tiles_granted()) r.level = AMX;
    return r;
}

static void climb(fj_kern *k, cpu c) {
    if (c.level < AVX2) return;
    fj_kern_avx2_rows(k);
    fj_kern_avx2(k);
    fj_kern_avx2_w8(k);
    fj_kern_avx2_quant(k);
    k->isa = "avx2";
    if (c.level < AVX512) return;
    fj_kern_avx512_rows(k);
    fj_kern_avx512(k);
    fj_kern_avx512_quant(k);
    k->isa = "avx512";
    if (c.vnni) {
        fj_kern_avx512_vnni(k);
        k->isa = "avx512 vnni";
    }
    if (c.bf16) {
        fj_kern_avx512_bf16(k);
        k->isa = c.vnni ? "avx512 vnni bf16" : "avx512 bf16";
    }
    if (c.level < AMX) return;
    fj_kern_amx_gemm(k);
    k->isa = "avx512 vnni bf16 amx";
}
#else
static cpu detect(void) { return (cpu){ SCALAR, false, false }; }
static void climb(fj_kern *k, cpu c) { (void)k, (void)c; }
#endif

bool fj_kern_init(fj_kern *k, const char *isa, fj_err *e) {
    cpu c = detect();
    if (isa) {
        int want = 0;
        while (want < LEVELS && strcmp(isa, names[want])) want++;
        if (want == LEVELS)
            return fj_fail(e, FJ_EINVAL,
                           "instruction set \"%s\" is not known: scalar, avx2, avx512 or amx", isa);
        if (want > c.level)
            return fj_fail(e, FJ_EUNSUP, "this CPU does not have %s: its best is %s", isa,
                           names[c.level]);
        c.level = want;
    }
    fj_kern_ref_f32(k);
    climb(k, c);
    return true;
}

void fj_kern64_init(fj_kern64 *k) { fj_kern_ref_f64(k); }
