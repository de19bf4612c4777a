/* pool: every thread runs once per call, the barrier holds everybody, results are seen by the caller. */
#include "base/cpus.h"
#include "base/fs.h"
#include "base/pool.h"
#include "test_util.h"

#include <stdatomic.h>
#include <sys/stat.h>

enum { MAX = 8, PHASES = 4 };

typedef struct job {
    fj_pool *p;
    int64_t slot[MAX]; /* plain memory: the pool itself has to order it */
    int64_t sum[MAX];
    int seen_n;
    _Atomic int calls, wrong;
} job;

/* In each phase a thread writes its slot, and after the barrier reads all of them. */
static void phases(void *ctx, int i, int n) {
    job *j = ctx;
    if (i == 0) j->seen_n = n;
    for (int ph = 1; ph <= PHASES; ph++) {
        j->slot[i] = (int64_t)ph * 100 + i;
        fj_pool_barrier(j->p);
        for (int k = 0; k < n; k++)
            if (j->slot[k] != (int64_t)ph * 100 + k) atomic_fetch_add(&j->wrong, 1);
        fj_pool_barrier(j->p);
    }
    j->sum[i] = i + 1;
    atomic_fetch_add(&j->calls, 1);
}

static void test_threads(void **state) {
    (void)state;
    for (int n = 1; n <= MAX; n++) {
        fj_err e = { 0 };
        fj_pool *p = fj_pool_open(n, &e);
        FJ_OK_OR_FAIL(p, e);
        assert_int_equal(fj_pool_threads(p), n);
        for (int run = 0; run < 125; run++) {
            job j = { .p = p };
            fj_pool_run(p, phases, &j);
            int64_t sum = 0;
            for (int i = 0; i < MAX; i++) sum += j.sum[i];
            assert_int_equal(j.seen_n, n);
            assert_int_equal(j.calls, n);
            assert_int_equal(j.wrong, 0);
            assert_int_equal(sum, n * (n + 1) / 2);
        }
        fj_pool_close(p);
    }
}

static void add(void *ctx, int i, int n) {
    int64_t *slots = ctx;
    slots[i] += n;
}

/* Short runs one after another, with pauses longer than the spinning, so that threads do sleep. */
static void test_many_runs(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_pool *p = fj_pool_open(4, &e);
    FJ_OK_OR_FAIL(p, e);
    int64_t slots[4] = { 0 };
    for (int run = 0; run < 1000; run++) {
        fj_pool_run(p, add, slots);
        if (run % 50 == 0) nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
        for (int i = 0; i < 4; i++) assert_int_equal(slots[i], 4 * (run + 1));
    }
    fj_pool_close(p);
}

static void test_open(void **state) {
    (void)state;
    for (int i = 0; i < 50; i++) { /* closed before any run */
        fj_pool *p = fj_pool_open(3, NULL);
        assert_non_null(p);
        fj_pool_close(p);
    }
    fj_pool *p = fj_pool_open(0, NULL);
    assert_non_null(p);
    assert_true(fj_pool_threads(p) >= 1);
    fj_pool_close(p);
    fj_pool_close(NULL);
}

/* ---- quotas: trees as kernels show them ------------------------------------------------------------- */
static void put(const char *root, const char *path, const char *text) {
    fj_str full = { 0 };
    fj_str_addf(&full, "%s%s", root, path);
    for (char *p = full.s + 1; (p = strchr(p, '/')); p++) {
        *p = 0;
        mkdir(full.s, 0755);
        *p = '/';
    }
    FILE *f = fopen(full.s, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    fj_str_free(&full);
}

static void test_quota(void **state) {
    (void)state;
    const char *root = fj_test_path("root");
    assert_int_equal(fj_cpus_at_most(0), 0);
    assert_int_equal(fj_cpus_at_most(1), 1);
    assert_int_equal(fj_cpus_at_most(4096), fj_cpus());
    assert_int_equal(fj_cpus_quota(root), 0); /* nothing there */
    put(root, "/proc/self/cgroup", "0::/a/b\n");
    put(root, "/sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    assert_int_equal(fj_cpus_quota(root), 0);
    put(root, "/sys/fs/cgroup/a/cpu.max", "350000 100000\n"); /* of the group that it is in */
    assert_int_equal(fj_cpus_quota(root), 4);
    put(root, "/sys/fs/cgroup/a/b/cpu.max", "10000 100000\n");
    assert_int_equal(fj_cpus_quota(root), 1);
    put(root, "/proc/self/cgroup", "0::/\n");
    assert_int_equal(fj_cpus_quota(root), 0);
    put(root, "/sys/fs/cgroup/cpu.max",
        "200000 100000\n"); /* a container sees its own as the first */
    assert_int_equal(fj_cpus_quota(root), 2);
    put(root, "/proc/self/cgroup", "5:cpuset:/x\n4:cpu,cpuacct:/x\nbroken\n3:cpu\n");
    put(root, "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "-1\n");
    put(root, "/sys/fs/cgroup/cpu/x/cpu.cfs_period_us", "100000\n");
    assert_int_equal(fj_cpus_quota(root), 0);
    put(root, "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "150000\n");
    assert_int_equal(fj_cpus_quota(root), 2);
    put(root, "/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us", "many\n");
    assert_int_equal(fj_cpus_quota(root), 0);
    put(root, "/proc/self/cgroup", "0::/../../x\n"); /* seen from another name space */
    assert_int_equal(fj_cpus_quota(root), 0);
    assert_true(fj_cpus() >= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_many_runs),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_quota),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
