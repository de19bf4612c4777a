/* rng: known first values, no bias, state that copies. */
#include "test_util.h"

#include <math.h>

static void test_known(void **state) {
    (void)state;
    /* splitmix64 from state 0 (Vigna, splitmix64.c): its first three outputs. */
    assert_int_equal(fj_rng_at(0, 0), 0xe220a8397b1dcdafu);
    assert_int_equal(fj_rng_at(0, 1), 0x6e789e6aa1b965f4u);
    assert_int_equal(fj_rng_at(0, 2), 0x06c45d188009454fu);
    /* xoshiro256** from state 1, 2, 3, 4 (rand_xoshiro's reference vector). */
    fj_rng r = { { 1, 2, 3, 4 } };
    static const uint64_t want[] = { 11520u, 0u, 1509978240u, 1215971899390074240u };
    for (int i = 0; i < 4; i++) assert_int_equal(fj_rng_u64(&r), want[i]);
}

static void test_copy(void **state) {
    (void)state;
    fj_rng a = fj_test_rng();
    for (int i = 0; i < 100; i++) fj_rng_normal(&a);
    fj_rng b = a;
    for (int i = 0; i < 1000; i++) assert_true(fj_rng_normal(&a) == fj_rng_normal(&b));
    assert_memory_equal(&a, &b, sizeof a);
}

static void test_below(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    enum { N = 7, DRAWS = 70000 };
    int count[N] = { 0 };
    for (int i = 0; i < DRAWS; i++) {
        uint64_t x = fj_rng_below(&r, N);
        assert_true(x < N);
        count[x]++;
    }
    /* chi square with 6 degrees of freedom: 45 is passed once in 2e7 runs. */
    double chi = 0, want = (double)DRAWS / N;
    for (int i = 0; i < N; i++) chi += (count[i] - want) * (count[i] - want) / want;
    assert_true(chi < 45);
    /* n just over half of the range: a plain remainder would take the low values twice as often. */
    uint64_t big = (UINT64_C(1) << 63) + 1;
    int low = 0;
    for (int i = 0; i < 10000; i++) low += fj_rng_below(&r, big) < big / 2;
    assert_in_range(low, 4700, 5300);
    for (int i = 0; i < 100; i++) assert_int_equal(fj_rng_below(&r, 1), 0);
}

static void test_shape(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    double sum = 0, sq = 0, u = 0;
    enum { N = 100000 };
    for (int i = 0; i < N; i++) {
        double x = fj_rng_normal(&r), d = fj_rng_double(&r);
        assert_true(isfinite(x) && d >= 0 && d < 1);
        sum += x;
        sq += x * x;
        u += d;
    }
    assert_true(fabs(sum / N) < 0.02 && fabs(sq / N - 1) < 0.03 && fabs(u / N - 0.5) < 0.006);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_below),
        cmocka_unit_test(test_shape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
