/* base: errors, log, arenas, strings, the map against a naive one, hashes. */
#include "test_util.h"

#include <errno.h>
#include <forja/log.h>
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>

static void test_err(void **state) {
    (void)state;
    fj_err e = { 0 };
    assert_false(fj_fail(&e, FJ_EFORMAT, "%s: row %d", "x.jsonl", 7));
    assert_int_equal(e.code, FJ_EFORMAT);
    assert_string_equal(e.msg, "x.jsonl: row 7");
    assert_false(fj_wrap(&e, "recipe %s", "a.yaml"));
    assert_int_equal(e.code, FJ_EFORMAT);
    assert_string_equal(e.msg, "recipe a.yaml: x.jsonl: row 7");
    fj_fail(&e, FJ_EINVAL, "again: %s", e.msg); /* may quote itself */
    assert_string_equal(e.msg, "again: recipe a.yaml: x.jsonl: row 7");
    errno = ENOSPC;
    assert_false(fj_fail_errno(&e, "cannot write %s", "f"));
    assert_int_equal(e.code, FJ_EIO);
    assert_non_null(strstr(e.msg, "cannot write f: No space"));
    errno = ENOMEM;
    fj_fail_errno(&e, "x");
    assert_int_equal(e.code, FJ_ENOMEM);
    assert_false(fj_fail(NULL, FJ_EIO, "%d", 1));
    assert_false(fj_wrap(NULL, "x"));
    assert_false(fj_fail_errno(NULL, "x"));
}

static void test_err_hostile(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_fail(&e, FJ_EINVAL, "name \"%s\"",
            "a\x1b[31m\n\x7f\xc2\x9b"
            "b\xc3\xa9");
    assert_string_equal(e.msg, "name \"a?[31m????b\xc3\xa9\"");
    char big[2000];
    memset(big, 'x', sizeof big);
    big[sizeof big - 1] = 0;
    memcpy(big + sizeof e.msg - 2, "\xc3\xa9", 2); /* cut in two by the end of the message */
    fj_fail(&e, FJ_EINVAL, "%s", big);
    assert_int_equal(strlen(e.msg), sizeof e.msg - 2);
    fj_wrap(&e, "%s", big);
    assert_true(strlen(e.msg) < sizeof e.msg);
}

static void count(void *ctx, fj_level level, const char *text) {
    if (level == FJ_WARN && !strcmp(text, "n=3")) ++*(int *)ctx;
}

static void test_log(void **state) {
    (void)state;
    int n = 0;
    fj_log l = { .ctx = &n, .message = count };
    fj_log_message(&l, FJ_WARN, "n=%d", 3);
    assert_int_equal(n, 1);
    fj_log_message(NULL, FJ_WARN, "n=%d", 3);
    fj_log_progress(&l, NULL);
    fj_log_progress(NULL, NULL);
    assert_false(fj_log_stop(&l));
    assert_false(fj_log_stop(NULL));
}

static void test_arena(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_arena a = { 0 };
    enum { N = 2000 };
    static unsigned char *p[N];
    static size_t len[N];
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < N; i++) {
            len[i] = fj_rng_below(&r, i % 100 ? 200 : 100000);
            p[i] = fj_arena_alloc(&a, len[i]);
            assert_int_equal((uintptr_t)p[i] % 16, 0);
            for (size_t k = 0; k < len[i]; k++) assert_int_equal(p[i][k], 0);
            memset(p[i], i, len[i]);
        }
        for (int i = 0; i < N; i++) /* nobody wrote into another's bytes */
            for (size_t k = 0; k < len[i]; k++) assert_int_equal(p[i][k], i & 255);
        assert_true(a.used > 0);
        fj_arena_free(&a);
        assert_int_equal(a.used, 0);
    }
    assert_string_equal(fj_arena_printf(&a, "%s-%d", "x", 5), "x-5");
    assert_string_equal(fj_arena_strdup(&a, "abc"), "abc");
    assert_string_equal(fj_arena_strndup(&a, "abc", 2), "ab");
    assert_string_equal(fj_arena_strndup(&a, NULL, 0), "");
    fj_arena_free(&a);
}

static void test_str(void **state) {
    (void)state;
    fj_str s = { 0 };
    fj_str_clear(&s);
    for (int i = 0; i < 1000; i++) fj_str_addf(&s, "%d,", i);
    assert_int_equal(s.n, strlen(s.s));
    assert_int_equal(s.n, 10 * 2 + 90 * 3 + 900 * 4);
    fj_str_clear(&s);
    assert_string_equal(s.s, "");
    fj_str_addc(&s, 0);
    fj_str_addn(&s, "ab", 2);
    fj_str_addn(&s, NULL, 0);
    fj_str_add(&s, "c");
    assert_memory_equal(s.s, "\0abc", 5);
    char *taken = fj_str_take(&s);
    assert_null(s.s);
    free(taken);
    taken = fj_str_take(&s);
    assert_string_equal(taken, "");
    free(taken);
    fj_str_free(&s);
}

static void test_try_alloc(void **state) {
    (void)state;
    fj_err e = { 0 };
    assert_null(fj_try_alloc(SIZE_MAX / 2, 4, "the planted tensor", &e));
    assert_int_equal(e.code, FJ_ENOMEM);
    assert_non_null(strstr(e.msg, "the planted tensor"));
    unsigned char *p = fj_try_alloc(10, 10, "x", &e);
    for (int i = 0; i < 100; i++) assert_int_equal(p[i], 0);
    free(p);
    p = fj_try_alloc(0, 8, "x", &e);
    assert_non_null(p);
    free(p);
}

/* The map and an array searched from the front get the same operations. */
static void test_map(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    fj_map m = { 0 };
    assert_null(fj_map_get(&m, "x", 1));
    enum { KEYS = 700, OPS = 40000 };
    static char keys[KEYS][24];
    static size_t len[KEYS];
    static int64_t value[KEYS];
    static bool there[KEYS];
    size_t n = 0;
    for (int i = 0; i < KEYS; i++) { /* different by their first bytes, with zero bytes within */
        snprintf(keys[i], sizeof keys[i], "%d", i);
        len[i] = strlen(keys[i]) + 1 + fj_rng_below(&r, 10);
    }
    len[0] = 0; /* the empty key is a key */
    for (int op = 0; op < OPS; op++) {
        size_t i = fj_rng_below(&r, KEYS);
        if (fj_rng_below(&r, 2)) {
            bool fresh;
            int64_t *v = fj_map_put(&m, len[i] ? keys[i] : NULL, len[i], &fresh);
            assert_int_equal(fresh, !there[i]);
            assert_int_equal(*v, there[i] ? value[i] : 0);
            *v = value[i] = (int64_t)fj_rng_u64(&r);
            n += !there[i];
            there[i] = true;
        } else {
            const int64_t *v = fj_map_get(&m, keys[i], len[i]);
            assert_int_equal(v != NULL, there[i]);
            if (v) assert_int_equal(*v, value[i]);
        }
        assert_int_equal(m.n, n);
    }
    assert_null(fj_map_get(&m, "not there", 9));
    fj_map_free(&m);
    assert_int_equal(m.n, 0);
    *fj_map_put(&m, "a", 1, NULL) = 5; /* usable again */
    assert_int_equal(*fj_map_get(&m, "a", 1), 5);
    fj_map_free(&m);
}

/* A programmer's mistake ends the process with a message; it must not go on. */
static void test_assert(void **state) {
    (void)state;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(3);
        FJ_ASSERT(1 + 1 == 2);
        FJ_ASSERT(1 + 1 == 3);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_err), cmocka_unit_test(test_err_hostile),
        cmocka_unit_test(test_log), cmocka_unit_test(test_arena),
        cmocka_unit_test(test_str), cmocka_unit_test(test_try_alloc),
        cmocka_unit_test(test_map), cmocka_unit_test(test_assert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
