/* isa.c - which instruction sets this CPU and this operating system have, and the climb. */
#include "kernels/kern.h"

#include <string.h>

enum { SCALAR, AVX2, AVX512, LEVELS };
static const char *const names[LEVELS] = { "scalar", "avx2", "avx512" };

typedef struct cpu {
    int level;
    bool vnni, bf16;
} cpu;

static cpu detect(void) { return (cpu){ SCALAR, false, false }; }
static void climb(fj_kern *k, cpu c) { (void)k, (void)c; }

bool fj_kern_init(fj_kern *k, const char *isa, fj_err *e) {
    cpu c = detect();
    if (isa) {
        int want = 0;
        while (want < LEVELS && strcmp(isa, names[want])) want++;
        if (want == LEVELS)
            return fj_fail(e, FJ_EINVAL,
                           "instruction set \"%s\" is not known: scalar, avx2 or avx512", isa);
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
