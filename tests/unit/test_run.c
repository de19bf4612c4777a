#include "test_util.h"

#include "train/run.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

static fj_recipe recipe(const char *folder) {
    fj_recipe r;
    fj_err e = { 0 };
    fj_str s = { 0 };
    fj_str_addf(&s, "base: b.gguf\ndata: d.jsonl\nno_eval: true\nrun_name: \"a <b> & c\"\n");
    if (folder) fj_str_addf(&s, "output_dir: %s\n", folder);
    FJ_OK_OR_FAIL(fj_recipe_parse(&r, s.s, s.n, "r.yaml", "/x", NULL, 0, &e), e);
    fj_str_free(&s);
    return r;
}

static fj_run *open_run(const char *folder, bool resume) {
    fj_recipe r = recipe(folder);
    fj_err e = { 0 };
    fj_run *run = fj_run_open(&r, resume, &e);
    if (!run) fail_msg("%s", e.msg);
    fj_recipe_free(&r);
    return run;
}

static char *slurp(const char *path) {
    fj_err e = { 0 };
    char *s = fj_read_file(path, 1 << 24, NULL, &e);
    if (!s) fail_msg("%s", e.msg);
    return s;
}

static void metric(fj_run *run, int64_t step, double loss) {
    fj_err e = { 0 };
    json_t *o = json_pack("{s:I, s:f}", "step", (json_int_t)step, "loss", loss);
    FJ_OK_OR_FAIL(fj_run_metric(run, o, &e), e);
    json_decref(o);
}

static void test_open(void **state) {
    (void)state;
    const char *dir = fj_test_path("open/deep/run");
    fj_recipe r = recipe(dir);
    fj_err e = { 0 };
    fj_run *run = fj_run_open(&r, false, &e);
    if (!run) fail_msg("%s", e.msg);
    assert_string_equal(fj_run_folder(run), dir);
    assert_true(fj_run_busy(dir));
    assert_true(fj_exists(fj_run_path(run, "recipe.yaml")));
    FJ_FAILS_WITH(fj_run_open(&r, false, &e), e, "is in use by another process");
    FJ_FAILS_WITH(fj_run_open(&r, true, &e), e, "is in use by another process");
    fj_run_close(run);
    assert_false(fj_run_busy(dir));
    FJ_FAILS_WITH(fj_run_open(&r, false, &e), e, "is not empty: go on with that run (--resume)");
    run = fj_run_open(&r, true, &e);
    if (!run) fail_msg("%s", e.msg);
    fj_run_close(run);
    FJ_OK_OR_FAIL(fj_recipe_set(&r, "threads", "2", &e), e); /* changes no number */
    run = fj_run_open(&r, true, &e);
    if (!run) fail_msg("%s", e.msg);
    fj_run_close(run);
    FJ_OK_OR_FAIL(fj_recipe_set(&r, "lora_r", "2", &e), e);
    FJ_FAILS_WITH(fj_run_open(&r, true, &e), e, "lora_r is not what the run began with");
    FJ_OK_OR_FAIL(fj_recipe_set(&r, "output_dir", fj_test_path("none"), &e), e);
    FJ_FAILS_WITH(fj_run_open(&r, true, &e), e, "there is no such folder");
    assert_false(fj_exists(fj_test_path("none")));
    fj_recipe_free(&r);
}

/* The recipe in the folder, given alone, is the same run again. */
static void test_recipe_again(void **state) {
    (void)state;
    const char *dir = fj_test_path("again");
    fj_run *run = open_run(dir, false);
    char *path = fj_strdup(fj_run_path(run, "recipe.yaml"));
    fj_run_close(run);
    fj_recipe r;
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_recipe_load(&r, path, NULL, 0, &e), e);
    assert_string_equal(r.output_dir, dir);
    run = fj_run_open(&r, true, &e);
    if (!run) fail_msg("%s", e.msg);
    fj_run_close(run);
    fj_recipe_free(&r);
    free(path);
}

static void test_default_folder(void **state) {
    (void)state;
    char was[1024];
    assert_non_null(getcwd(was, sizeof was));
    assert_int_equal(chdir(fj_test_dir()), 0);
    fj_recipe a = recipe(NULL), b = recipe(NULL);
    fj_err e = { 0 };
    fj_run *x = fj_run_open(&a, false, &e), *y = fj_run_open(&b, false, &e);
    assert_non_null(x);
    assert_non_null(y);
    assert_non_null(strstr(a.output_dir, "/runs/a <b> & c-2"));
    assert_string_not_equal(a.output_dir, b.output_dir);
    fj_run_close(x);
    fj_run_close(y);
    fj_recipe_free(&a);
    fj_recipe_free(&b);
    a = recipe(NULL);
    FJ_FAILS_WITH(fj_run_open(&a, true, &e), e, "name the run's folder");
    fj_recipe_free(&a);
    assert_int_equal(chdir(was), 0);
}

/* A process that is killed lets its lock go: no stale locks. */
static void test_killed(void **state) {
    (void)state;
    const char *dir = fj_test_path("killed");
    int ready[2];
    assert_int_equal(pipe(ready), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        fj_recipe r = recipe(dir);
        fj_err e = { 0 };
        char ok = fj_run_open(&r, false, &e) ? 'y' : 'n';
        if (write(ready[1], &ok, 1) != 1) _exit(1);
        for (;;) pause();
    }
    char ok = 0;
    assert_int_equal(read(ready[0], &ok, 1), 1);
    assert_int_equal(ok, 'y');
    assert_true(fj_run_busy(dir));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    assert_false(fj_run_busy(dir));
    fj_run_close(open_run(dir, true));
    close(ready[0]);
    close(ready[1]);
}

static void test_metrics(void **state) {
    (void)state;
    fj_run *run = open_run(fj_test_path("metrics"), false);
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_run_rewind(run, 3, &e), e); /* nothing there yet */
    for (int i = 1; i <= 5; i++) metric(run, i, 1.0 / i);
    json_t *note = json_pack("{s:s}", "note", "stays");
    FJ_OK_OR_FAIL(fj_run_metric(run, note, &e), e);
    json_decref(note);
    FILE *f = fopen(fj_run_path(run, "metrics.jsonl"), "a");
    assert_non_null(f);
    fputs("{\"step\": 2, \"lo", f); /* cut short by a crash */
    fclose(f);
    json_t *all = fj_run_metrics(run, &e);
    assert_int_equal(json_array_size(all), 6);
    json_decref(all);
    FJ_OK_OR_FAIL(fj_run_rewind(run, 3, &e), e);
    metric(run, 4, 0.5);
    char *s = slurp(fj_run_path(run, "metrics.jsonl"));
    assert_non_null(strstr(s, "{\"step\":3,"));
    assert_null(strstr(s, "\"step\":5"));
    assert_null(strstr(s, "lo\n"));
    assert_non_null(strstr(s, "stays"));
    free(s);
    all = fj_run_metrics(run, &e);
    assert_int_equal(json_array_size(all), 5);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(all, 4), "step")), 4);
    json_decref(all);
    json_t *list = json_array();
    FJ_FAILS_WITH(fj_run_metric(run, list, &e), e, "expected an object");
    json_decref(list);
    fj_run_close(run);
}

static void test_manifest_and_evals(void **state) {
    (void)state;
    fj_run *run = open_run(fj_test_path("manifest"), false);
    fj_err e = { 0 };
    json_t *more = json_pack("{s:i}", "rows", 7);
    FJ_OK_OR_FAIL(fj_run_manifest(run, "aaaa", "bbbb", more, &e), e);
    json_t *j = json_load_file(fj_run_path(run, "manifest.json"), 0, NULL);
    assert_string_equal(json_string_value(json_object_get(j, "base_sha256")), "aaaa");
    assert_string_equal(json_string_value(json_object_get(j, "data_sha256")), "bbbb");
    assert_int_equal(json_integer_value(json_object_get(j, "rows")), 7);
    assert_int_equal(json_integer_value(json_object_get(j, "seed")), 42);
    assert_true(json_integer_value(json_object_get(json_object_get(j, "machine"), "cores")) >= 1);
    assert_non_null(json_string_value(json_object_get(j, "forja")));
    json_decref(j);
    FJ_OK_OR_FAIL(fj_run_eval(run, "base", more, &e), e);
    assert_true(fj_exists(fj_run_path(run, "eval/base.json")));
    static const char *const bad[] = { "", "../x", "a/b", ".hidden", "a b" };
    for (size_t i = 0; i < FJ_LEN(bad); i++)
        FJ_FAILS_WITH(fj_run_eval(run, bad[i], more, &e), e, "cannot name an evaluation");
    json_decref(more);
    fj_run_close(run);
}

static void test_report(void **state) {
    (void)state;
    fj_run *run = open_run(fj_test_path("report"), false);
    fj_err e = { 0 };
    fj_report rep = { .note = "evaluation off <script>" };
    FJ_OK_OR_FAIL(fj_run_report(run, &rep, &e), e); /* nothing was logged */
    char *s = slurp(fj_run_path(run, "report.html"));
    assert_non_null(strstr(s, "No step was logged"));
    free(s);
    for (int i = 1; i <= 3000; i++) metric(run, i, 5.0 - i * 1e-3);
    json_t *o = json_pack("{s:i, s:f}", "step", 3000, "eval_loss", 2.5);
    FJ_OK_OR_FAIL(fj_run_metric(run, o, &e), e);
    json_decref(o);
    FJ_OK_OR_FAIL(fj_run_manifest(run, "aaaa", "bbbb", NULL, &e), e);
    const fj_report_row task[] = { { "loss <i>", 3.5, 2.25, -1 },
                                   { "exact match", 0.5, 0.25, 1 },
                                   { "f1", NAN, 1, 1 } };
    const fj_report_text ex[] = { { "Who's \"there\"?", "a & b",
                                    "</pre><script>alert(1)</script>" } };
    rep = (fj_report){ .task = task, .n_task = 3, .examples = ex, .n_examples = 1 };
    FJ_OK_OR_FAIL(fj_run_report(run, &rep, &e), e);
    s = slurp(fj_run_path(run, "report.html"));
    assert_non_null(strstr(s, "<title>a &lt;b&gt; &amp; c</title>"));
    assert_non_null(
        strstr(s, "<td>loss &lt;i&gt;</td><td>3.5</td><td>2.25</td><td class=\"good\">-1.25"));
    assert_non_null(strstr(s, "<td class=\"bad\">-0.25"));
    assert_non_null(strstr(s, "<td>not measured</td>"));
    assert_non_null(strstr(s, "&lt;/pre&gt;&lt;script&gt;"));
    assert_null(strstr(s, "<script"));
    assert_null(strstr(s, "http"));
    assert_non_null(strstr(s, "<polyline"));
    assert_non_null(strstr(s, "<circle"));
    assert_null(strstr(s, "nan"));
    assert_non_null(strstr(s, "lora_r: 8"));
    assert_true(strlen(s) < 40000); /* 3000 points are thinned */
    free(s);
    fj_run_close(run);
}

static void test_refused_by_the_system(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *file = fj_test_path("file");
    FJ_OK_OR_FAIL(fj_write_file(file, "x", 1, &e), e);
    char sub[1100];
    snprintf(sub, sizeof sub, "%s/run", file);
    fj_recipe r = recipe(sub);
    FJ_FAILS_WITH(fj_run_open(&r, false, &e), e, "file");
    fj_recipe_free(&r);
    if (geteuid() != 0) {
        const char *ro = fj_test_path("readonly");
        assert_int_equal(mkdir(ro, 0555), 0);
        snprintf(sub, sizeof sub, "%s/run", ro);
        r = recipe(sub);
        FJ_FAILS_WITH(fj_run_open(&r, false, &e), e, "cannot create folder");
        fj_recipe_free(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),           cmocka_unit_test(test_recipe_again),
        cmocka_unit_test(test_default_folder), cmocka_unit_test(test_killed),
        cmocka_unit_test(test_metrics),        cmocka_unit_test(test_manifest_and_evals),
        cmocka_unit_test(test_report),         cmocka_unit_test(test_refused_by_the_system),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
