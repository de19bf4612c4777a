/* Checkpoints: whole or not there, damage found, the run folder kept tidy. */
#include "test_util.h"

#include "formats/ckpt.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static int count_files(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d));) n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

static const char *fresh_run(const char *name) {
    fj_err e = { 0 };
    const char *run = fj_test_path(name);
    FJ_OK_OR_FAIL(fj_mkdirs(run, &e), e);
    return run;
}

static bool save(const char *run, int64_t step, float value, fj_err *e) {
    fj_ckpt_writer *w = fj_ckpt_begin(run, step, e);
    if (!w) return false;
    json_t *state = json_pack("{s:I,s:f}", "tokens", (json_int_t)step * 10, "loss", 0.1);
    float x[64];
    for (int i = 0; i < 64; i++) x[i] = value + (float)i;
    fj_st_writer *st = fj_ckpt_state(w, state, e);
    bool ok = st != NULL;
    if (st) {
        fj_st_writer_add(st, "m", "F32", 1, (int64_t[]){ 64 });
        for (int64_t i; (i = fj_st_writer_next(st)) >= 0;) fj_st_writer_data(st, x, sizeof x);
        ok = fj_st_writer_close(st, e);
    }
    char *extra = fj_path_join(fj_ckpt_folder(w), "extra.txt");
    ok = ok && fj_write_file(extra, "x", 1, e);
    free(extra);
    json_decref(state);
    if (ok) return fj_ckpt_commit(w, e);
    fj_ckpt_abort(w);
    return false;
}

static void round_trip(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *run = fresh_run("rt");
    FJ_FAILS_WITH(fj_ckpt_open_newest(run, NULL, &e), e, "has no checkpoint");
    FJ_OK_OR_FAIL(save(run, 7, 1, &e), e);
    FJ_OK_OR_FAIL(save(run, 7, 2, &e), e); /* the same step again replaces */
    assert_int_equal(count_files(run), 1);
    fj_ckpt *c = fj_ckpt_open(fj_test_path("rt/checkpoint-7"), &e);
    FJ_OK_OR_FAIL(c, e);
    assert_int_equal(c->step, 7);
    assert_int_equal(json_integer_value(json_object_get(c->state, "tokens")), 70);
    assert_true(json_real_value(json_object_get(c->state, "loss")) == 0.1); /* every bit */
    const fj_st_tensor *t = fj_st_get(c->tensors, "m", &e);
    assert_true(((const float *)(const void *)t->data)[63] == 65);
    fj_ckpt_close(c);
}

static void flip(const char *path, long at) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, at, at < 0 ? SEEK_END : SEEK_SET);
    int b = fgetc(f);
    fseek(f, -1, SEEK_CUR);
    fputc(b ^ 1, f);
    fclose(f);
}

static void hear(void *ctx, fj_level level, const char *text) {
    assert_int_equal(level, FJ_WARN);
    snprintf(ctx, 600, "%s", text);
}

static void damage(void **state) {
    (void)state;
    fj_err e = { 0 };
    char heard[600] = "";
    fj_log log = { .ctx = heard, .message = hear };
    const char *run = fresh_run("bad");
    for (int i = 1; i <= 3; i++) FJ_OK_OR_FAIL(save(run, i * 5, (float)i, &e), e);
    flip(fj_test_path("bad/checkpoint-15/state.safetensors"), -1);
    FJ_FAILS_WITH(fj_ckpt_open(fj_test_path("bad/checkpoint-15"), &e), e,
                  "checkpoint-15/state.safetensors is not what its manifest says");
    fj_ckpt *c = fj_ckpt_open_newest(run, &log, &e);
    FJ_OK_OR_FAIL(c, e);
    assert_int_equal(c->step, 10);
    assert_non_null(strstr(heard, "checkpoint-15/state.safetensors"));
    fj_ckpt_close(c);
    assert_int_equal(truncate(fj_test_path("bad/checkpoint-10/extra.txt"), 0), 0);
    FJ_FAILS_WITH(fj_ckpt_open(fj_test_path("bad/checkpoint-10"), &e), e, "has 0 bytes");
    assert_int_equal(unlink(fj_test_path("bad/checkpoint-5/manifest.json")), 0);
    FJ_FAILS_WITH(fj_ckpt_open(fj_test_path("bad/checkpoint-5"), &e), e, "manifest.json");
    FJ_FAILS_WITH(fj_ckpt_open_newest(run, &log, &e), e, "no checkpoint is whole");
    assert_int_equal(unlink(fj_test_path("bad/checkpoint-10/extra.txt")), 0);
    FJ_FAILS_WITH(fj_ckpt_open(fj_test_path("bad/checkpoint-10"), &e), e, "extra.txt is missing");
}

static void keeps(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *run = fresh_run("keep");
    for (int i = 1; i <= 12; i++) FJ_OK_OR_FAIL(save(run, i, 0, &e), e);
    FJ_OK_OR_FAIL(fj_mkdirs(fj_test_path("keep/checkpoint-99.tmp"), &e), e);
    FJ_OK_OR_FAIL(fj_mkdirs(fj_test_path("keep/checkpoint-x"), &e), e);
    FJ_OK_OR_FAIL(fj_ckpt_prune(run, 2, 4, &e), e);
    int64_t *steps;
    size_t n;
    FJ_OK_OR_FAIL(fj_ckpt_list(run, &steps, &n, &e), e);
    assert_int_equal(n, 3);
    assert_true(steps[0] == 12 && steps[1] == 11 && steps[2] == 4);
    free(steps);
    assert_int_equal(count_files(run), 4); /* and the folder that is none of ours */
    /* died between the two renames of a replacement */
    assert_int_equal(
        rename(fj_test_path("keep/checkpoint-12"), fj_test_path("keep/checkpoint-12.old")), 0);
    FJ_OK_OR_FAIL(fj_ckpt_list(run, &steps, &n, &e), e);
    assert_true(n == 3 && steps[0] == 12);
    free(steps);
}

static void no_room(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *run = fresh_run("full");
    struct rlimit was;
    getrlimit(RLIMIT_FSIZE, &was);
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 200, was.rlim_max });
    bool ok = save(run, 1, 0, &e);
    setrlimit(RLIMIT_FSIZE, &was);
    signal(SIGXFSZ, old);
    assert_false(ok);
    assert_non_null(strstr(e.msg, "state.safetensors"));
    assert_int_equal(count_files(run), 0);
    FJ_FAILS_WITH(fj_ckpt_begin(fj_test_path("nowhere"), 1, &e), e, "nowhere is not there");
}

/* Killed at any moment: what is there under a final name is whole. */
static void killed(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_rng r = fj_test_rng();
    const char *run = fresh_run("kill");
    for (int round = 0; round < 12; round++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            for (int64_t i = 1;; i = i % 3 + 1) save(run, i, 0, NULL);
        usleep((useconds_t)(1000 + fj_rng_below(&r, 15000)));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        int64_t *steps;
        size_t n;
        FJ_OK_OR_FAIL(fj_ckpt_list(run, &steps, &n, &e), e);
        for (size_t i = 0; i < n; i++) {
            char *dir = fj_ckpt_path(run, steps[i]);
            fj_ckpt *c = fj_ckpt_open(dir, &e);
            FJ_OK_OR_FAIL(c, e);
            fj_ckpt_close(c);
            free(dir);
        }
        free(steps);
    }
    FJ_OK_OR_FAIL(fj_ckpt_prune(run, 1, -1, &e), e);
    assert_true(count_files(run) <= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trip), cmocka_unit_test(damage), cmocka_unit_test(keeps),
        cmocka_unit_test(no_room),    cmocka_unit_test(killed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
