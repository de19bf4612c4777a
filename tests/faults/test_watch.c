/* test_watch.c - spikes: stopped at, skipped, rewound from; runs that end early; the best of a run kept. */
#include "train_rig.h"

#include <dirent.h>

/* A threshold close to 1 makes spikes of ordinary steps. */
#define LEAPS                                                                                      \
    "spike_threshold=1.15", "max_steps=30", "save_steps=4", "eval_steps=10", "eval_max_new_tokens=1"

static int spikes_kept(const char *folder) {
    DIR *d = opendir(rig_path(folder, "spikes"));
    int n = 0;
    for (struct dirent *x; d && (x = readdir(d));) n += strncmp(x->d_name, "step-", 5) == 0;
    if (d) closedir(d);
    return n;
}

/* Asks to stop at every nth question. */
typedef struct stopper {
    int every, asked;
} stopper;

static bool now_and_then(void *ctx) {
    stopper *s = ctx;
    return ++s->asked % s->every == 0;
}

static void test_skip(void **state) {
    (void)state;
    fj_train_result r = rig_train(&(rig){ .folder = "skip" }, LEAPS, "on_spike=skip", NULL);
    int n = spikes_kept("skip"), lines = 0;
    printf("%d of 30 steps skipped\n", n);
    assert_int_equal(r.steps_done, 30);
    assert_true(n > 0 && n < 20);
    json_t *all = rig_metrics("skip"), *o;
    size_t i;
    json_array_foreach(all, i, o) {
        const char *why = json_string_value(json_object_get(o, "spike"));
        if (!why) continue;
        lines++;
        char name[64];
        int64_t step = json_integer_value(json_object_get(o, "step"));
        snprintf(name, sizeof name, "spikes/step-%lld.json", (long long)step);
        json_t *kept = rig_json("skip", name), *rows = json_object_get(kept, "rows"), *row;
        size_t k;
        assert_int_equal(json_integer_value(json_object_get(kept, "step")), step);
        assert_string_equal(json_string_value(json_object_get(kept, "why")), why);
        assert_true(json_array_size(rows) > 0);
        json_array_foreach(rows, k, row) {
            assert_true(json_integer_value(json_object_get(row, "line")) >= 1);
            assert_true(json_array_size(json_object_get(row, "tokens")) >= 2);
            assert_non_null(strstr(json_string_value(json_object_get(row, "file")), "rows.jsonl"));
        }
        json_decref(kept);
    }
    json_decref(all);
    assert_int_equal(lines, n);

    /* stopped now and then, and resumed: the same */
    stopper s = { .every = 23 };
    fj_log log = { .ctx = &s, .should_stop = now_and_then };
    fj_err e;
    int resumed = 0;
    while (!rig_try(&(rig){ .folder = "parts", .resume = resumed > 0, .log = &log }, &r, &e, LEAPS,
                    "on_spike=skip", NULL)) {
        if (e.code != FJ_ESTOP) fail_msg("%s", e.msg);
        assert_true(++resumed < 50);
    }
    printf("resumed %d times\n", resumed);
    assert_true(resumed > 1);
    rig_same("skip", "parts");
}

static void test_stop(void **state) {
    (void)state;
    fj_err e;
    fj_train_result r;
    assert_false(rig_try(&(rig){ .folder = "stop" }, &r, &e, LEAPS, NULL));
    printf("%s\n", e.msg);
    assert_int_equal(e.code, FJ_EINVAL);
    assert_non_null(strstr(e.msg, "--resume on_spike=skip"));
    assert_int_equal(spikes_kept("stop"), 1);
    assert_false(rig_has("stop", "adapter"));
    (void)rig_train(&(rig){ .folder = "stop", .resume = true }, LEAPS, "on_spike=skip", NULL);
    (void)rig_train(&(rig){ .folder = "through" }, LEAPS, "on_spike=skip", NULL);
    rig_same("stop", "through");
}

static void test_rewind(void **state) {
    (void)state;
    fj_train_result r = rig_train(&(rig){ .folder = "rewind" }, LEAPS, "on_spike=rewind", NULL);
    assert_int_equal(r.steps_done, 30);
    int n = spikes_kept("rewind");
    assert_true(n > 0);
    json_t *all = rig_metrics("rewind"), *o;
    bool made[31] = { false }, bad[31] = { false };
    size_t i;
    json_array_foreach(all, i, o) {
        int64_t step = json_integer_value(json_object_get(o, "step"));
        assert_true(step >= 1 && step <= 30);
        if (json_object_get(o, "loss")) made[step] = true;
        if (json_object_get(o, "spike")) bad[step] = true;
    }
    json_decref(all);
    int passed = 0;
    for (int s = 1; s <= 30; s++) {
        assert_false(made[s] && bad[s]);
        passed += !made[s];
        /* what was made since the checkpoint before a spike counts no more */
        for (int k = s; bad[s] && k > s / 4 * 4; k--) assert_false(made[k]);
    }
    printf("%d spikes, %d of 30 steps passed over\n", n, passed);
    assert_true(passed >= n);

    /* no checkpoint to go back to: the step alone is skipped, as with on_spike: skip */
    (void)rig_train(&(rig){ .folder = "nowhere" }, "spike_threshold=1.15", "max_steps=30",
                    "save_steps=1000", "eval_steps=1000", "on_spike=rewind", NULL);
    (void)rig_train(&(rig){ .folder = "skipped" }, "spike_threshold=1.15", "max_steps=30",
                    "save_steps=1000", "eval_steps=1000", "on_spike=skip", NULL);
    assert_true(spikes_kept("nowhere") > 0);
    rig_same("nowhere", "skipped");
}

static void test_early(void **state) {
    (void)state;
    fj_train_result r = rig_train(&(rig){ .folder = "patience" }, "learning_rate=0", "max_steps=20",
                                  "eval_steps=2", "early_stopping_patience=2", NULL);
    assert_int_equal(r.steps_done, 6); /* best at 2, worse at 4 and 6 */
    assert_int_equal(r.best_step, 2);
    assert_true(rig_has("patience", "adapter") && r.measured);
    r = rig_train(&(rig){ .folder = "patience", .resume = true }, "learning_rate=0", "max_steps=20",
                  "eval_steps=2", "early_stopping_patience=2", NULL);
    assert_int_equal(r.steps_done, 6);
    r = rig_train(&(rig){ .folder = "target" }, "max_steps=20", "eval_steps=3",
                  "target_eval_loss=1000", NULL);
    assert_int_equal(r.steps_done, 3);
    r = rig_train(&(rig){ .folder = "small" }, "max_steps=12", "eval_steps=2", "learning_rate=1e-6",
                  "early_stopping_patience=3", "early_stopping_threshold=0.5", NULL);
    assert_int_equal(r.steps_done, 8); /* better each time, but never by half */
}

static void test_best(void **state) {
    (void)state;
    fj_train_result r =
        rig_train(&(rig){ .folder = "best" }, "learning_rate=0.05", "lr_scheduler_type=constant",
                  "max_steps=80", "eval_steps=5", "load_best_model_at_end=true", NULL);
    printf("best: step %lld, loss %.4f\n", (long long)r.best_step, r.best_loss);
    assert_true(r.best_step > 0 && r.best_step < 80);
    assert_true(fabs(r.tuned.loss - r.best_loss) < 1e-9);
    char name[96];
    snprintf(name, sizeof name, "checkpoints/checkpoint-%lld/adapter_model.safetensors",
             (long long)r.best_step);
    fj_err e = { 0 };
    size_t n, k;
    char *kept = fj_read_file(rig_path("best", name), 1 << 26, &n, &e);
    char *out =
        fj_read_file(rig_path("best", "adapter/adapter_model.safetensors"), 1 << 26, &k, &e);
    if (!kept || !out) fail_msg("%s", e.msg);
    assert_int_equal(n, k);
    assert_memory_equal(kept, out, n);
    free(kept);
    free(out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_skip),  cmocka_unit_test(test_stop), cmocka_unit_test(test_rewind),
        cmocka_unit_test(test_early), cmocka_unit_test(test_best),
    };
    return cmocka_run_group_tests(tests, rig_init, NULL);
}
