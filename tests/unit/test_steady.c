/* A step of decoding allocates nothing: no call of malloc, calloc or realloc between two steps of one
 * shape, greedy or not. */
#include "engine/engine.h"
#include "engine/sample.h"

#include "test_device.h"

#include <stdatomic.h>

/* Sanitizers have a malloc of their own. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
enum { COUNTS = 0 };
static _Atomic int64_t calls;
#else
enum { COUNTS = 1 };
static _Atomic int64_t calls;
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *malloc(size_t n) {
    calls++;
    return __libc_malloc(n);
}
void *calloc(size_t n, size_t size) {
    calls++;
    return __libc_calloc(n, size);
}
void *realloc(void *p, size_t n) {
    calls++;
    return __libc_realloc(p, n);
}
#endif

static void steps(const char *folder, const fj_sampling *p, bool seen) {
    fj_err e = { 0 };
    fj_dev *d = fj_test_dev(2, false);
    fj_model *m = fj_model_open(d, folder, NULL, NULL, &e);
    if (!m) fail_msg("%s", e.msg);
    fj_engine *g = fj_engine_open(m, 128, &e);
    if (!g) fail_msg("%s", e.msg);
    fj_seq s = { 0 };
    fj_rng r;
    fj_rng_seed(&r, 1);
    static const int32_t prompt[] = { 5, 9, 13, 21 };
    int32_t *bits = fj_zalloc((size_t)(m->hp.vocab + 31) / 32 * sizeof *bits);
    float how[FJ_PICK_COLS];
    const int32_t *id;
    fj_step_item it = { .seq = &s, .ids = prompt, .n = 4, .how = how, .seen = seen ? bits : NULL };
    fj_sampling_how(p, &r, how);
    FJ_OK_OR_FAIL(fj_engine_choose(g, &it, 1, &id, &e), e);
    for (int i = 0; i < 60; i++) {
        int32_t next = *id;
        int64_t before = calls;
        it.ids = &next;
        it.n = 1;
        fj_sampling_how(p, &r, how);
        FJ_OK_OR_FAIL(fj_engine_choose(g, &it, 1, &id, &e), e);
        /* The first makes the graph. */
        if (COUNTS && i > 0 && calls != before)
            fail_msg("step %d at position %lld: %lld allocations", i, (long long)s.n,
                     (long long)(calls - before));
    }
    free(bits);
    fj_seq_free(g, &s);
    fj_engine_close(g);
    fj_model_close(m);
    fj_dev_close(d);
}

static void test_steps(void **state) {
    (void)state;
    static const char *const folders[] = { FORJA_SOURCE_DIR "/tests/golden/tiny-default",
                                           FORJA_SOURCE_DIR "/tests/golden/tiny-dynamic" };
    for (size_t i = 0; i < FJ_LEN(folders); i++) {
        fj_sampling p = FJ_SAMPLING_DEFAULT;
        steps(folders[i], &p, false);
        p.temperature = 1;
        p.top_p = 0.9;
        steps(folders[i], &p, false);
        p.top_k = 5;
        p.repetition_penalty = 1.2;
        steps(folders[i], &p, true);
    }
}

/* What counts is what is called: a planted allocation is seen. */
static void test_planted(void **state) {
    (void)state;
    int64_t before = calls;
    char *volatile p = fj_alloc(10);
    free(p);
    assert_true(!COUNTS || calls == before + 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_planted),
        cmocka_unit_test(test_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
