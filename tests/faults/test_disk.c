/* test_disk.c - files that cannot be written: a disk that is full at every stage of a run, folders that
 * cannot be made, outputs that have no place.  One sentence, nothing half-written, and the same run goes
 * on to the same numbers once there is room. */
#include "rig_child.h"

#include <signal.h>
#include <sys/resource.h>

/* Files of this process end at `ctx` bytes: what a full disk looks like to one file. */
static void limit_files(void *ctx) {
    const int64_t *bytes = ctx;
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit l = { (rlim_t)*bytes, (rlim_t)*bytes };
    if (setrlimit(RLIMIT_FSIZE, &l) != 0) _exit(98);
}

/* A run with each limit fails with FJ_EIO, or is not troubled; then it is finished without one. */
static void full_disk(const char *name, const char *const *more, int n) {
    static const int64_t limits[] = { 0,    10,    200,   700,   1500,   2500,   4000,
                                      8000, 20000, 40000, 70000, 120000, 250000, 1 << 24 };
    char straight[64];
    snprintf(straight, sizeof straight, "%s-straight", name);
    assert_int_equal(rig_wait(rig_child(straight, false, more, n, NULL, NULL)), 0);
    int failed = 0, went_well = 0, resumed = 0;
    for (size_t i = 0; i < FJ_LEN(limits); i++) {
        char folder[64];
        int64_t bytes = limits[i];
        snprintf(folder, sizeof folder, "%s-%lld", name, (long long)bytes);
        int status = rig_wait(rig_child(folder, false, more, n, limit_files, &bytes));
        if (!WIFEXITED(status)) fail_msg("limit %lld: died of a signal", (long long)bytes);
        int code = WEXITSTATUS(status);
        int left = rig_whole_tree(fj_test_path(folder));
        if (left) fail_msg("limit %lld: %d temporary files are left", (long long)bytes, left);
        if (code == 0) {
            went_well++;
            rig_same(straight, folder);
            continue;
        }
        if (code != 10 + FJ_EIO) fail_msg("limit %lld: exit code %d", (long long)bytes, code);
        failed++;
        bool resume = rig_has(folder, "");
        if (resume && !rig_has(folder, "recipe.yaml"))
            fail_msg("limit %lld: a folder that is no run is left", (long long)bytes);
        resumed += resume;
        assert_int_equal(rig_wait(rig_child(folder, resume, more, n, NULL, NULL)), 0);
        rig_same(straight, folder);
        assert_int_equal(rig_whole_tree(fj_test_path(folder)), 0);
        fj_remove_tree(fj_test_path(folder), NULL);
    }
    printf("%s: %d limits failed, %d of them resumed, %d were wide enough\n", name, failed, resumed,
           went_well);
    assert_true(failed > 3 && resumed > 2 && went_well > 0);
}

static void test_full_disk_lora(void **state) {
    (void)state;
    static const char *const more[] = { "max_steps=4", "save_steps=1" };
    full_disk("lora", more, FJ_LEN(more));
}

static void test_full_disk_model(void **state) {
    (void)state;
    static const char *const more[] = { "max_steps=3", "save_steps=1", "method=full",
                                        "learning_rate=0.001" };
    full_disk("full", more, FJ_LEN(more));
}

/* ---- something in the way at the end --------------------------------------------------------------- */
typedef struct blocker {
    const char *folder, *name; /* what cannot be written */
    bool is_file;              /* a file where a folder is wanted, or the other way round */
} blocker;

static void block(void *ctx, const fj_progress *p) {
    const blocker *b = ctx;
    fj_err e = { 0 };
    if (strcmp(p->what, "train") != 0 || p->done != p->total) return;
    const char *path = rig_path(b->folder, b->name);
    bool ok = b->is_file ? fj_write_file(path, "x", 1, &e) : fj_mkdirs(path, &e);
    if (!ok) fail_msg("%s", e.msg);
}

/* After the last step something lies where an output goes: it is said, and resuming writes it. */
static void test_outputs(void **state) {
    (void)state;
    static const struct {
        const char *name, *method;
        bool is_file;
    } all[] = { { "adapter", "method=lora", true },
                { "adapter.gguf", "method=lora", false },
                { "adapter/adapter_config.json", "method=lora", false },
                { "adapter/adapter_model.safetensors", "method=lora", false },
                { "eval/tuned.json", "method=lora", false },
                { "eval/general.json", "method=lora", false },
                { "report.html", "method=lora", false },
                { "model", "method=full", true },
                { "model/model.safetensors", "method=full", false },
                { "model/config.json", "method=full", false } };
    (void)rig_train(&(rig){ .folder = "free-lora" }, "max_steps=2", "method=lora", NULL);
    (void)rig_train(&(rig){ .folder = "free-full" }, "max_steps=2", "method=full", NULL);
    for (size_t i = 0; i < FJ_LEN(all); i++) {
        fj_err e;
        fj_train_result r;
        char folder[32];
        snprintf(folder, sizeof folder, "blocked-%zu", i);
        blocker b = { folder, all[i].name, all[i].is_file };
        fj_log log = { .ctx = &b, .progress = block };
        assert_false(rig_try(&(rig){ .folder = folder, .log = &log }, &r, &e, "max_steps=2",
                             all[i].method, NULL));
        printf("  %s\n", e.msg);
        if (e.code != FJ_EIO || !strstr(e.msg, all[i].name))
            fail_msg("code %d: %s", (int)e.code, e.msg);
        fj_remove_tree(rig_path(folder, all[i].name), NULL);
        assert_int_equal(rig_whole_tree(fj_test_path(folder)), 0);
        r = rig_train(&(rig){ .folder = folder, .resume = true }, "max_steps=2", all[i].method,
                      NULL);
        assert_true(r.measured);
        rig_same(strstr(all[i].method, "full") ? "free-full" : "free-lora", folder);
    }
}

/* ---- places ---------------------------------------------------------------------------------------- */
static bool trained(const char *folder) { return rig_has(folder, "metrics.jsonl"); }

static void no_place(const char *folder, const char *part, const char *override) {
    fj_err e;
    fj_train_result r;
    assert_false(rig_try(&(rig){ .folder = folder }, &r, &e, "max_steps=1", override, NULL));
    printf("  %s\n", e.msg);
    assert_true(e.code == FJ_EIO || e.code == FJ_EINVAL);
    if (!strstr(e.msg, part)) fail_msg("says \"%s\", not \"%s\"", e.msg, part);
    if (trained(folder)) fail_msg("it trained first: %s", e.msg);
}

static void be_nobody(void *ctx) {
    (void)ctx;
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0)) _exit(77);
    if (access(fj_test_source("tests/golden/tiny-default/config.json"), R_OK) != 0) _exit(77);
}

static void test_folder(void **state) {
    (void)state;
    rig_write("a-file", "x");
    no_place("a-file/run", "a-file", "seed=1");
    no_place("a-file", "a-file", "seed=1");
    no_place("x", "/proc/forja-run", "output_dir=/proc/forja-run");
    /* A folder that may only be read, for somebody who is not root. */
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_mkdirs(fj_test_path("locked"), &e), e);
    assert_int_equal(chmod(fj_test_dir(), 0755) | chmod(fj_test_path("locked"), 0555), 0);
    static const char *const more[] = { "max_steps=1" };
    int status = rig_wait(rig_child("locked/run", false, more, 1, be_nobody, NULL));
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) printf("SKIP: nobody cannot read the sources\n");
    else assert_int_equal(WEXITSTATUS(status), 10 + FJ_EIO);
    assert_false(rig_has("locked/run", ""));
}

static const char *export_to(const char *name) {
    char *s = fj_test_buf();
    snprintf(s, 1024, "export_gguf=%s%s%s", *name == '/' ? "" : fj_test_dir(),
             *name == '/' ? "" : "/", name);
    return s;
}

static void test_export(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_train_result r;
    rig_write("a-file", "x");
    FJ_OK_OR_FAIL(fj_mkdirs(fj_test_path("a-folder"), &e), e);
    static const char *const bad[][2] = { { "a-file/x.gguf", "a-file" },
                                          { "/proc/x.gguf", "/proc" },
                                          { "/proc/none/x.gguf", "/proc" },
                                          { "a-folder", "a-folder" } };
    for (size_t i = 0; i < FJ_LEN(bad); i++) {
        assert_false(rig_try(&(rig){ .folder = "unplaced" }, &r, &e, "max_steps=1", "method=full",
                             export_to(bad[i][0]), NULL));
        printf("  %s\n", e.msg);
        if (!strstr(e.msg, "export_gguf") || !strstr(e.msg, bad[i][1])) fail_msg("%s", e.msg);
        assert_false(trained("unplaced"));
        assert_false(rig_has("unplaced", ""));
    }
    /* A folder that is not there is made; one in the run's own folder too. */
    (void)rig_train(&(rig){ .folder = "placed" }, "max_steps=1", "method=full",
                    export_to("new/deep/x.gguf"), NULL);
    rig_whole_file(fj_test_path("new/deep/x.gguf"));
    (void)rig_train(&(rig){ .folder = "inside" }, "max_steps=1", "method=full",
                    export_to("inside/out/x.gguf"), NULL);
    rig_whole_file(fj_test_path("inside/out/x.gguf"));
    /* A dry run says the same and makes nothing. */
    assert_false(rig_try(&(rig){ .folder = "dry", .dry = true }, &r, &e, "method=full",
                         export_to("a-file/x.gguf"), NULL));
    (void)rig_train(&(rig){ .folder = "dry", .dry = true }, "method=full",
                    export_to("dry-out/x.gguf"), NULL);
    assert_false(rig_has("dry-out", ""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full_disk_lora), cmocka_unit_test(test_full_disk_model),
        cmocka_unit_test(test_outputs),        cmocka_unit_test(test_folder),
        cmocka_unit_test(test_export),
    };
    return cmocka_run_group_tests(tests, rig_init, NULL);
}
