/* isa.c - which instruction sets this CPU and this operating system have, and the climb. */
#define _GNU_SOURCE
#include "kernels/kern.h"

#include <stdio.h>
#include <string.h>

/* A step of the climb: the sets that it needs, and those that it takes besides where they are there. */
typedef struct step {
    const char *name;
    unsigned needs, takes;
} step;

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

/* SLOW: bf16 is there, but f32 multiply-adds do its products faster. */
enum { AVX2 = 1, AVX512 = 2, VNNI = 4, BF16 = 8, AMX = 16, SLOW = 32 };
static const step steps[] = { { "scalar", 0, 0 },
                              { "avx2", AVX2, 0 },
                              { "avx512f", AVX2 | AVX512, 0 },
                              { "avx512vnni", AVX2 | AVX512 | VNNI, 0 },
                              { "avx512bf16", AVX2 | AVX512 | BF16, VNNI },
                              { "avx512", AVX2 | AVX512, VNNI | BF16 | SLOW },
                              { "amx", AVX2 | AVX512 | VNNI | BF16 | AMX, 0 } };

/* The operating system must save the registers too: XCR0 bits 1, 2 for ymm, 5, 6, 7 for zmm and 17, 18 for
 * tiles (Intel SDM vol. 1, 13.3 and 14.3). */
static uint64_t xcr0(void) {
    uint32_t a, d;
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (uint64_t)d << 32 | a;
}

static bool intel(void) {
    unsigned a, b, c, d;
    return __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx && d == signature_INTEL_edx &&
           c == signature_INTEL_ecx;
}

static unsigned detect(void) {
    unsigned a, b, c, d, has = AVX2;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const unsigned need1 = bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C;
    if ((c & need1) != need1 || (xcr0() & 6) != 6) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return 0;
    const unsigned need7 = bit_AVX512F | bit_AVX512BW | bit_AVX512VL | bit_AVX512DQ;
    if ((b & need7) != need7 || (xcr0() & 0xe6) != 0xe6) return has;
    has |= AVX512;
    if (c & bit_AVX512VNNI) has |= VNNI;
    const unsigned tiles = 1u << 22 | 1u << 24 | 1u << 25; /* AMX-BF16, AMX-TILE, AMX-INT8 */
    bool amx = (d & tiles) == tiles && (xcr0() & 0x60000) == 0x60000;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & bit_AVX512BF16) has |= BF16;
    if (has & BF16 && intel()) has |= SLOW;
    if (amx && has & VNNI && has & BF16 && tiles_granted()) has |= AMX;
    return has;
}

static void climb(fj_kern *k, unsigned has) {
    static const char *const avx512[] = { "avx512", "avx512 vnni", "avx512 bf16",
                                          "avx512 vnni bf16" };
    if (!(has & AVX2)) return;
    fj_kern_avx2_rows(k);
    fj_kern_avx2(k);
    fj_kern_avx2_w8(k);
    fj_kern_avx2_quant(k);
    fj_kern_avx2_pack(k);
    fj_kern_avx2_attn(k);
    k->isa = "avx2";
    if (!(has & AVX512)) return;
    fj_kern_avx512_rows(k);
    fj_kern_avx512(k);
    fj_kern_avx512_quant(k);
    fj_kern_avx512_blocks(k);
    fj_kern_avx512_pack(k);
    if (has & VNNI) fj_kern_avx512_vnni(k);
    if (has & BF16) fj_kern_avx512_bf16(k);
    if (has & BF16) fj_kern_avx512_few(k);
    if (has & BF16) fj_kern_avx512_w8_bf16(k);
    if (has & BF16) fj_kern_avx512_attn(k);
    if (has & SLOW) fj_kern_avx512_bf16_fma(k);
    k->isa = avx512[(has & (VNNI | BF16)) / VNNI];
    if (!(has & AMX)) return;
    fj_kern_amx_gemm(k);
    fj_kern_amx_w8(k);
    fj_kern_amx_few(k);
    fj_kern_amx_attn(k);
    k->isa = "avx512 vnni bf16 amx";
}
#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>
#endif

/* Bits of the kernel's AT_HWCAP and AT_HWCAP2 (arm64 ELF hwcaps), written out: older headers lack some. */
enum { HAS_DOTPROD = 1 << 20, HAS_I8MM = 1 << 13, HAS_BF16 = 1 << 14 };
enum { NEON = 1, DOTPROD = 2, I8MM = 4, BF16 = 8 };
static const step steps[] = { { "scalar", 0, 0 },
                              { "neon", NEON, 0 },
                              { "dotprod", NEON | DOTPROD, 0 },
                              { "i8mm", NEON | DOTPROD | I8MM, 0 },
                              { "bf16", NEON | BF16, DOTPROD | I8MM } };

static unsigned detect(void) {
    unsigned has = NEON; /* part of the architecture */
#if defined(__linux__)
    unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    if (cap & HAS_DOTPROD) has |= DOTPROD;
    if (has & DOTPROD && cap2 & HAS_I8MM) has |= I8MM;
    if (cap2 & HAS_BF16) has |= BF16;
#endif
    return has;
}

static void climb(fj_kern *k, unsigned has) {
    static const char *const neon[] = { "neon",      "neon dotprod",
                                        NULL,        "neon dotprod i8mm",
                                        "neon bf16", "neon dotprod bf16",
                                        NULL,        "neon dotprod i8mm bf16" };
    if (!(has & NEON)) return;
    fj_kern_neon_rows(k);
    fj_kern_neon(k);
    fj_kern_neon_w8(k);
    fj_kern_neon_quant(k);
    fj_kern_neon_attn(k);
    if (has & DOTPROD) fj_kern_dotprod(k);
    if (has & I8MM) fj_kern_i8mm(k);
    if (has & BF16) fj_kern_bf16(k);
    k->isa = neon[has / DOTPROD];
}
#else
static const step steps[] = { { "scalar", 0, 0 } };
static unsigned detect(void) { return 0; }
static void climb(fj_kern *k, unsigned has) { (void)k, (void)has; }
#endif

enum { STEPS = sizeof steps / sizeof *steps };

const char *fj_kern_step(int i) { return i < STEPS ? steps[i].name : NULL; }

bool fj_kern_init(fj_kern *k, const char *isa, fj_err *e) {
    unsigned has = detect();
    if (isa) {
        int i = 0, best = STEPS;
        while (i < STEPS && strcmp(isa, steps[i].name)) i++;
        if (i == STEPS) {
            char known[64];
            for (int n = i = 0; i < STEPS; i++)
                n += snprintf(known + n, sizeof known - (size_t)n, "%s%s", i ? ", " : "",
                              steps[i].name);
            return fj_fail(e, FJ_EINVAL, "instruction set \"%s\" is not known: expected one of %s",
                           isa, known);
        }
        if (steps[i].needs & ~has) {
            while (steps[--best].needs & ~has) {}
            return fj_fail(e, FJ_EUNSUP, "this CPU does not have %s: its best is %s", isa,
                           steps[best].name);
        }
        has &= steps[i].needs | steps[i].takes;
    }
    fj_kern_ref_f32(k);
    climb(k, has);
    return true;
}

void fj_kern64_init(fj_kern64 *k) { fj_kern_ref_f64(k); }
