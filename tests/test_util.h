/* test_util.h - what every test program needs: a seed that is printed, a folder that goes away, the
 * shared data, and fj_err in assertions.  Includes cmocka and what cmocka wants before it.
 *
 *     static void test_x(void **state) {
 *         (void)state;
 *         fj_rng r = fj_test_rng();                   prints "seed N: repeat with FORJA_SEED=N"
 *         const char *file = fj_test_path("x.gguf");  in a folder that is removed at exit
 *         const char *hf = fj_test_shared("models/stories260K/hf");
 *         if (!hf) skip();                            the reason is printed
 *         fj_err e = { 0 };
 *         FJ_OK_OR_FAIL(fj_write_file(file, "x", 1, &e), e);
 *         FJ_FAILS_WITH(fj_map_file("/nowhere", &m, &e), e, "cannot open /nowhere");
 *     } */
#ifndef FORJA_TEST_UTIL_H
#define FORJA_TEST_UTIL_H

/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include "base/fs.h"
#include "base/mem.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef FORJA_SOURCE_DIR
#define FORJA_SOURCE_DIR "."
#endif

#if defined(__GNUC__)
#define FJ_UNUSED __attribute__((unused))
#else
#define FJ_UNUSED
#endif

/* Under an emulator a case takes dozens of times as long: tests that say so take one of n in turns, of
 * which the seed says the first. */
#ifdef FJ_EMULATED
#define FJ_IN_TURN(i, n) (((size_t)(i) + fj_test_seed()) % (n) == 0)
#else
#define FJ_IN_TURN(i, n) true
#endif

/* The seed of this process: FORJA_SEED, or one made from the clock; printed once. */
static FJ_UNUSED uint64_t fj_test_seed(void) {
    static uint64_t seed;
    static bool done;
    if (done) return seed;
    done = true;
    const char *env = getenv("FORJA_SEED");
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    seed = env && *env ? strtoull(env, NULL, 0)
                       : fj_rng_at((uint64_t)t.tv_nsec, (uint64_t)t.tv_sec) >> 32;
    printf("seed %llu: repeat with FORJA_SEED=%llu\n", (unsigned long long)seed,
           (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

static FJ_UNUSED fj_rng fj_test_rng(void) {
    fj_rng r;
    fj_rng_seed(&r, fj_test_seed());
    return r;
}

/* One of 16 turning buffers: a result is good until 16 more calls. */
static FJ_UNUSED char *fj_test_buf(void) {
    static char bufs[16][1024];
    static unsigned next;
    return bufs[next++ % 16];
}

/* A path under the shared data (FORJA_SHARED, or ../shared beside the sources), or NULL with the
 * reason printed: then the test calls skip(). */
static FJ_UNUSED const char *fj_test_shared(const char *rel) {
    const char *root = getenv("FORJA_SHARED");
    char *path = fj_test_buf();
    snprintf(path, 1024, "%s/%s", root && *root ? root : FORJA_SOURCE_DIR "/../shared", rel);
    if (access(path, R_OK) == 0) return path;
    printf("SKIP: no %s (shared data; FORJA_SHARED=FOLDER says where it is)\n", path);
    fflush(stdout);
    return NULL;
}

/* A path in the source tree: tests/golden/x.json. */
static FJ_UNUSED const char *fj_test_source(const char *rel) {
    char *path = fj_test_buf();
    snprintf(path, 1024, "%s/%s", FORJA_SOURCE_DIR, rel);
    return path;
}

static FJ_UNUSED char *fj_test_dir_place(void) {
    static char dir[512];
    return dir;
}

static FJ_UNUSED void fj_test_dir_remove(void) {
    if (fj_test_dir_place()[0]) fj_remove_tree(fj_test_dir_place(), NULL);
}

/* A private folder, made at the first call and removed at exit. */
static FJ_UNUSED const char *fj_test_dir(void) {
    char *dir = fj_test_dir_place();
    if (dir[0]) return dir;
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, 512, "%s/forja-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) {
        perror(dir);
        exit(99);
    }
    atexit(fj_test_dir_remove);
    return dir;
}

static FJ_UNUSED const char *fj_test_path(const char *name) {
    char *path = fj_test_buf();
    snprintf(path, 1024, "%s/%s", fj_test_dir(), name);
    return path;
}

/* Asserts that call succeeds; prints the error when it does not. */
#define FJ_OK_OR_FAIL(call, e)                                                                     \
    do {                                                                                           \
        if (!(call)) fail_msg("%s: %s", #call, (e).msg);                                           \
    } while (0)

/* Asserts that call fails and that its message has `part` in it. */
#define FJ_FAILS_WITH(call, e, part)                                                               \
    do {                                                                                           \
        (e) = (fj_err){ 0 };                                                                       \
        if (call) fail_msg("%s went well and should not", #call);                                  \
        if ((e).code == FJ_OK || !strstr((e).msg, (part)))                                         \
            fail_msg("%s says \"%s\", not \"...%s...\"", #call, (e).msg, (part));                  \
    } while (0)

#endif
