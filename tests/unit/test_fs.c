/* fs: nothing half-written has a final name: not after an abort, not on a full disk, not in a folder
 * that cannot be written; and the plain life of files and folders. */
#include "test_util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static int files_in(const char *dir) {
    DIR *d = opendir(dir);
    assert_non_null(d);
    int n = 0;
    for (struct dirent *f; (f = readdir(d));) n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

static const char *fresh_dir(const char *name) {
    const char *dir = fj_test_path(name);
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    return dir;
}

static char *in(const char *dir, const char *name) {
    char *p = fj_test_buf();
    snprintf(p, 1024, "%s/%s", dir, name);
    return p;
}

static void test_write_read(void **state) {
    (void)state;
    const char *dir = fresh_dir("write"), *path = in(dir, "f");
    fj_err e = { 0 };
    size_t n;
    FJ_OK_OR_FAIL(fj_write_file(path, "a\0b", 3, &e), e);
    char *got = fj_read_file(path, 3, &n, &e);
    FJ_OK_OR_FAIL(got, e);
    assert_int_equal(n, 3);
    assert_memory_equal(got, "a\0b", 4); /* and the terminating 0 */
    free(got);
    FJ_FAILS_WITH(fj_read_file(path, 2, &n, &e), e, "larger than the 2 bytes");
    FJ_FAILS_WITH(fj_read_file(in(dir, "none"), 2, &n, &e), e, "No such file");
    FJ_FAILS_WITH(fj_read_file(dir, 100, &n, &e), e, "Is a directory");
    FJ_OK_OR_FAIL(fj_write_file(path, "", 0, &e), e); /* replaces, and empty is a file */
    assert_int_equal(fj_file_size(path), 0);
    fj_mapped m;
    FJ_OK_OR_FAIL(fj_map_file(path, &m, &e), e);
    assert_int_equal(m.n, 0);
    fj_unmap_file(&m);
    FJ_FAILS_WITH(fj_map_file(dir, &m, &e), e, "not a regular file");
    FJ_FAILS_WITH(fj_map_file(in(dir, "none"), &m, &e), e, "No such file");
    assert_int_equal(files_in(dir), 1);
}

/* Pieces of all sizes around the buffer's own, against the same bytes in memory. */
static void test_writer(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    const char *dir = fresh_dir("writer"), *path = in(dir, "f");
    for (int round = 0; round < 10; round++) {
        fj_err e = { 0 };
        fj_out *o = fj_out_open(path, &e);
        FJ_OK_OR_FAIL(o, e);
        fj_str want = { 0 };
        static unsigned char piece[200000];
        for (int i = 0; i < 40; i++) {
            size_t n = fj_rng_below(&r, fj_rng_below(&r, 4) ? 300 : sizeof piece);
            if (i == 7) n = 1 << 16;
            for (size_t k = 0; k < n; k++) piece[k] = (unsigned char)fj_rng_u64(&r);
            fj_out_write(o, piece, n);
            fj_str_addn(&want, piece, n);
            if (i % 5 == 0) {
                fj_out_pad(o, 32);
                while (want.n % 32) fj_str_addc(&want, 0);
            }
            assert_int_equal(fj_out_pos(o), want.n);
        }
        FJ_OK_OR_FAIL(fj_out_commit(o, &e), e);
        fj_mapped m;
        FJ_OK_OR_FAIL(fj_map_file(path, &m, &e), e);
        assert_int_equal(m.n, want.n);
        assert_memory_equal(m.p, want.s, want.n);
        char a[FJ_SHA256_HEX], b[FJ_SHA256_HEX];
        fj_sha256(want.s, want.n, a);
        FJ_OK_OR_FAIL(fj_sha256_file(path, b, &e), e);
        assert_string_equal(a, b);
        fj_unmap_file(&m);
        fj_str_free(&want);
    }
    assert_int_equal(files_in(dir), 1);
}

static void test_not_half(void **state) {
    (void)state;
    const char *dir = fresh_dir("half"), *path = in(dir, "f");
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_write_file(path, "old", 3, &e), e);
    fj_out *o = fj_out_open(path, &e);
    fj_out_write(o, "new", 3);
    assert_int_equal(fj_file_size(path), 3);
    fj_out_abort(o);
    fj_out_abort(NULL);
    size_t n;
    char *got = fj_read_file(path, 100, &n, &e);
    assert_string_equal(got, "old");
    free(got);
    assert_int_equal(files_in(dir), 1);
    /* A folder stands where the file should go: the rename fails, and the rest is tidied. */
    FJ_OK_OR_FAIL(fj_mkdirs(in(dir, "g/sub"), &e), e);
    FJ_FAILS_WITH(fj_write_file(in(dir, "g"), "x", 1, &e), e, "cannot write");
    assert_int_equal(files_in(dir), 2);
}

/* A limit on file size stands for the full disk: the same short write, without needing to be root. */
static void test_full_disk(void **state) {
    (void)state;
    const char *dir = fresh_dir("full"), *path = in(dir, "f"), *lines = in(dir, "log");
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_write_file(path, "old", 3, &e), e);
    FJ_OK_OR_FAIL(fj_append_line(lines, "{\"step\":1}", &e), e);
    struct rlimit was, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    small = was;
    small.rlim_cur = 100000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    static char big[300000], line[200000];
    memset(line, 'x', sizeof line - 1);
    fj_err e1 = { 0 }, e2 = { 0 }, e3 = { 0 };
    bool one = fj_write_file(path, big, sizeof big, &e1);
    fj_out *o = fj_out_open(path, &e2); /* many small pieces: the error comes out at commit */
    for (int i = 0; o && i < 300; i++) fj_out_write(o, big, 1000);
    bool many = o && fj_out_commit(o, &e2);
    bool appended = fj_append_line(lines, line, &e3);
    setrlimit(RLIMIT_FSIZE, &was);
    signal(SIGXFSZ, handler);
    assert_false(one);
    assert_false(many);
    assert_false(appended);
    assert_non_null(strstr(e1.msg, path));
    assert_non_null(strstr(e2.msg, "cannot write"));
    assert_non_null(strstr(e3.msg, "cannot append to"));
    size_t n;
    char *got = fj_read_file(path, 100, &n, &e);
    assert_string_equal(got, "old");
    free(got);
    got = fj_read_file(lines, 1000, &n, &e); /* no half line */
    FJ_OK_OR_FAIL(got, e);
    assert_string_equal(got, "{\"step\":1}\n");
    free(got);
    assert_int_equal(files_in(dir), 2);
    FJ_OK_OR_FAIL(fj_append_line(lines, "{\"step\":2}", &e), e);
    assert_int_equal(fj_file_size(lines), 22);
    /* /dev/full says "No space left" at every write. */
    if (fj_exists("/dev/full")) FJ_FAILS_WITH(fj_append_line("/dev/full", "x", &e), e, "No space");
}

/* Root may write anywhere: the check runs in a child that gave that up. */
static void test_read_only(void **state) {
    (void)state;
    const char *dir = fresh_dir("ro"), *path = in(dir, "f");
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_write_file(path, "old", 3, &e), e);
    assert_int_equal(chmod(fj_test_dir(), 0755), 0);
    assert_int_equal(chmod(dir, 0555), 0);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (geteuid() == 0 && setuid(65534) != 0) _exit(10);
        fj_err c = { 0 };
        if (fj_write_file(path, "new", 3, &c) || !strstr(c.msg, "Permission denied")) _exit(11);
        if (!strstr(c.msg, path)) _exit(12);
        if (fj_mkdirs(in(dir, "a/b"), &c) || !strstr(c.msg, "cannot create folder")) _exit(13);
        if (fj_append_line(in(dir, "log"), "x", &c)) _exit(14);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    chmod(dir, 0755);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    assert_int_equal(files_in(dir), 1);
    assert_int_equal(fj_file_size(path), 3);
}

static void test_paths(void **state) {
    (void)state;
    fj_err e = { 0 };
    char *p = fj_path_join("a", "b"), *q = fj_path_join("a/", "b"), *s = fj_path_join("", "b");
    assert_string_equal(p, "a/b");
    assert_string_equal(q, "a/b");
    assert_string_equal(s, "b");
    free(p);
    free(q);
    free(s);
    assert_string_equal(fj_base_name("/x/y.gguf"), "y.gguf");
    assert_string_equal(fj_base_name("y"), "y");
    const char *dir = fresh_dir("tree"), *deep = in(dir, "a/b//c/");
    FJ_OK_OR_FAIL(fj_mkdirs(deep, &e), e);
    FJ_OK_OR_FAIL(fj_mkdirs(deep, &e), e); /* again is fine */
    FJ_OK_OR_FAIL(fj_mkdirs("/", &e), e);
    FJ_FAILS_WITH(fj_mkdirs("", &e), e, "without a name");
    FJ_OK_OR_FAIL(fj_write_file(in(dir, "a/b/f"), "x", 1, &e), e);
    FJ_FAILS_WITH(fj_mkdirs(in(dir, "a/b/f"), &e), e, "is not a folder");
    FJ_FAILS_WITH(fj_mkdirs(in(dir, "a/b/f/g"), &e), e, "Not a directory");
    /* A link is removed, not followed. */
    const char *outside = in(fresh_dir("outside"), "keep");
    FJ_OK_OR_FAIL(fj_write_file(outside, "x", 1, &e), e);
    assert_int_equal(symlink(fj_test_path("outside"), in(dir, "a/link")), 0);
    FJ_OK_OR_FAIL(fj_remove_tree(dir, &e), e);
    assert_false(fj_exists(dir));
    assert_true(fj_exists(outside));
    FJ_OK_OR_FAIL(fj_remove_tree(dir, &e), e); /* not there is fine */
    setenv("XDG_DATA_HOME", "/x", 1);
    p = fj_data_dir();
    assert_string_equal(p, "/x/forja");
    free(p);
    setenv("XDG_DATA_HOME", "relative", 1); /* the XDG rule: not absolute is as not set */
    setenv("HOME", "/h", 1);
    p = fj_data_dir();
    assert_string_equal(p, "/h/.local/share/forja");
    free(p);
    unsetenv("HOME");
    assert_null(fj_data_dir());
}

static void test_sha_and_time(void **state) {
    (void)state;
    char hex[FJ_SHA256_HEX];
    fj_sha256("abc", 3, hex); /* FIPS 180-4, example */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    fj_sha256("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    fj_err e = { 0 };
    FJ_FAILS_WITH(fj_sha256_file("/nowhere/x", hex, &e), e, "cannot open /nowhere/x");
    FJ_FAILS_WITH(fj_sha256_file("/", hex, &e), e, "Is a directory");
    char t[32];
    fj_utc(1769860800.9, t);
    assert_string_equal(t, "2026-01-31T12:00:00Z");
    fj_utc(1e300, t);
    assert_string_equal(t, "1970-01-01T00:00:00Z");
    double a = fj_clock(), b = fj_clock();
    assert_true(b >= a && fj_now() > 1.7e9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_read),   cmocka_unit_test(test_writer),
        cmocka_unit_test(test_not_half),     cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_read_only),    cmocka_unit_test(test_paths),
        cmocka_unit_test(test_sha_and_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
