#include "test_util.h"

#include "train/registry.h"
#include "train/run.h"

#include <sqlite3.h>
#include <sys/wait.h>

static void hear(void *ctx, fj_level level, const char *text) {
    assert_int_equal(level, FJ_WARN);
    fj_str_addf(ctx, "%s\n", text);
}

static fj_run_info info(const char *name, const char *folder, double started) {
    return (fj_run_info){ .name = name,
                          .folder = folder,
                          .base_hash = "b",
                          .data_hash = "d",
                          .recipe = "lora_r: 8\n",
                          .started = started };
}

static void test_runs(void **state) {
    (void)state;
    const char *path = fj_test_path("runs.db");
    fj_registry *g = fj_registry_open(path, NULL);
    assert_non_null(g);
    fj_run_info a = info("one'); DROP TABLE runs; --", "/r/1", 100), b = info("two", "/r/2", 200);
    int64_t ia = fj_registry_begin(g, &a), ib = fj_registry_begin(g, &b);
    assert_true(ia > 0 && ib > 0 && ia != ib);
    fj_registry_end(g, ia, "done", "{\"loss\":1.5}");
    fj_registry_data(g, "d", "x.jsonl", 9);
    fj_registry_data(g, "d", "y.jsonl", 9);
    fj_registry_eval(g, ia, "task", "base", "{\"loss\":3}");
    fj_registry_eval(g, ia, "task", "tuned", "{\"loss\":2}");
    fj_registry_close(g);

    g = fj_registry_open(path, NULL); /* it is in the file */
    fj_run_list l;
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_registry_list(g, 0, &l, &e), e);
    assert_int_equal(l.n, 2);
    assert_string_equal(l.runs[0].name, "two");
    assert_string_equal(l.runs[0].status, "interrupted"); /* nobody holds /r/2 */
    assert_string_equal(l.runs[1].name, "one'); DROP TABLE runs; --");
    assert_string_equal(l.runs[1].status, "done");
    assert_string_equal(l.runs[1].metrics, "{\"loss\":1.5}");
    assert_string_equal(l.runs[1].recipe, "lora_r: 8\n");
    assert_true(l.runs[1].started == 100 && l.runs[1].finished > 1e9);
    fj_run_list_free(&l);
    FJ_OK_OR_FAIL(fj_registry_list(g, 1, &l, &e), e);
    assert_int_equal(l.n, 1);
    fj_run_list_free(&l);

    char id[32];
    snprintf(id, sizeof id, "%lld", (long long)ia);
    FJ_OK_OR_FAIL(fj_registry_get(g, id, &l, &e), e);
    assert_string_equal(l.runs[0].folder, "/r/1");
    fj_run_list_free(&l);
    FJ_OK_OR_FAIL(fj_registry_get(g, "two", &l, &e), e);
    assert_true(l.runs[0].id == ib);
    fj_run_list_free(&l);
    FJ_FAILS_WITH(fj_registry_get(g, "three", &l, &e), e, "there is no run \"three\"");

    fj_eval_list v;
    FJ_OK_OR_FAIL(fj_registry_evals(g, ia, &v, &e), e);
    assert_int_equal(v.n, 2);
    assert_string_equal(v.evals[1].which, "tuned");
    assert_string_equal(v.evals[1].result, "{\"loss\":2}");
    fj_eval_list_free(&v);

    /* Resumed: the same folder is the same run. */
    b.data_hash = "d2";
    assert_true(fj_registry_begin(g, &b) == ib);
    FJ_OK_OR_FAIL(fj_registry_list(g, 0, &l, &e), e);
    assert_int_equal(l.n, 2);
    assert_string_equal(l.runs[0].data_hash, "d2");
    assert_true(l.runs[0].started == 200);
    fj_run_list_free(&l);
    fj_registry_close(g);
}

/* While a process has the folder, the run is running. */
static void test_running(void **state) {
    (void)state;
    fj_registry *g = fj_registry_open(fj_test_path("running.db"), NULL);
    fj_recipe r;
    fj_err e = { 0 };
    fj_str s = { 0 };
    fj_str_addf(&s, "base: b\ndata: d\noutput_dir: %s\n", fj_test_path("running"));
    FJ_OK_OR_FAIL(fj_recipe_parse(&r, s.s, s.n, "r.yaml", "/", NULL, 0, &e), e);
    fj_run *run = fj_run_open(&r, false, &e);
    assert_non_null(run);
    fj_run_info i = info("r", r.output_dir, 0);
    assert_true(fj_registry_begin(g, &i) > 0);
    fj_run_list l;
    for (int held = 1; held >= 0; held--) {
        FJ_OK_OR_FAIL(fj_registry_list(g, 0, &l, &e), e);
        assert_string_equal(l.runs[0].status, held ? "running" : "interrupted");
        assert_true(l.runs[0].started > 1e9);
        fj_run_list_free(&l);
        if (held) fj_run_close(run);
    }
    fj_str_free(&s);
    fj_recipe_free(&r);
    fj_registry_close(g);
}

/* Nothing that is wrong with the registry is more than a warning. */
static void test_never_fatal(void **state) {
    (void)state;
    fj_str said = { 0 };
    fj_log log = { .ctx = &said, .message = hear };
    assert_null(fj_registry_open("/nowhere/at/all.db", &log));
    assert_non_null(strstr(said.s, "cannot open /nowhere/at/all.db"));
    assert_non_null(strstr(said.s, "this run is not indexed"));
    fj_run_info i = info("n", "/f", 0);
    assert_int_equal(fj_registry_begin(NULL, &i), 0);
    fj_registry_end(NULL, 1, "done", NULL);
    fj_registry_data(NULL, "h", "f", 1);
    fj_registry_eval(NULL, 1, "n", "base", "{}");
    fj_registry_close(NULL);
    fj_run_list l;
    fj_err e;
    FJ_FAILS_WITH(fj_registry_list(NULL, 0, &l, &e), e, "there is no registry");

    const char *junk = fj_test_path("junk.db");
    e = (fj_err){ 0 };
    FJ_OK_OR_FAIL(fj_write_file(junk,
                                "this is no database, and long enough to be looked at as one.....",
                                64, &e),
                  e);
    fj_str_clear(&said);
    assert_null(fj_registry_open(junk, &log));
    assert_non_null(strstr(said.s, "not a database"));

    /* Written by a program of the future: not touched. */
    const char *newer = fj_test_path("newer.db");
    sqlite3 *db;
    assert_int_equal(sqlite3_open(newer, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    fj_str_clear(&said);
    assert_null(fj_registry_open(newer, &log));
    assert_non_null(strstr(said.s, "newer forja (schema 99"));

    /* A table lost while it is open. */
    const char *broken = fj_test_path("broken.db");
    fj_registry *g = fj_registry_open(broken, &log);
    assert_non_null(g);
    assert_int_equal(sqlite3_open(broken, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "DROP TABLE evals; DROP TABLE runs", NULL, NULL, NULL),
                     SQLITE_OK);
    sqlite3_close(db);
    fj_str_clear(&said);
    assert_int_equal(fj_registry_begin(g, &i), 0);
    assert_non_null(strstr(said.s, "cannot note that the run begins: no such table"));
    FJ_FAILS_WITH(fj_registry_list(g, 0, &l, &e), e, "cannot read the registry: no such table");
    fj_registry_close(g);
    fj_str_free(&said);
}

/* Several processes at once: every run is noted. */
static void test_together(void **state) {
    (void)state;
    enum { PROCS = 4, RUNS = 10 };
    const char *path = fj_test_path("together.db");
    for (int p = 0; p < PROCS; p++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid) continue;
        fj_registry *g = fj_registry_open(path, NULL);
        int bad = !g;
        for (int k = 0; g && k < RUNS; k++) {
            char folder[64];
            snprintf(folder, sizeof folder, "/r/%d/%d", p, k);
            fj_run_info i = info("x", folder, 1 + k);
            bad |= fj_registry_begin(g, &i) == 0;
        }
        fj_registry_close(g);
        _exit(bad);
    }
    for (int p = 0; p < PROCS; p++) {
        int status;
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    fj_registry *g = fj_registry_open(path, NULL);
    fj_run_list l;
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_registry_list(g, 0, &l, &e), e);
    assert_int_equal(l.n, PROCS * RUNS);
    fj_run_list_free(&l);
    fj_registry_close(g);
}

static void test_own_place(void **state) {
    (void)state;
    setenv("XDG_DATA_HOME", fj_test_dir(), 1);
    fj_registry *g = fj_registry_open(NULL, NULL);
    assert_non_null(g);
    fj_registry_close(g);
    assert_true(fj_exists(fj_test_path("forja/registry.db")));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runs),        cmocka_unit_test(test_running),
        cmocka_unit_test(test_never_fatal), cmocka_unit_test(test_together),
        cmocka_unit_test(test_own_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
