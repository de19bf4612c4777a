/* test_train.c - a run gives the same numbers however it is made: stopped and resumed anywhere, on any
 * team, packed or not, with any division of its steps, with activations kept or computed again. */
#include "train_rig.h"

#include "formats/ckpt.h"

/* ---- stopped and resumed --------------------------------------------------------------------------- */
typedef struct stopper {
    int64_t left; /* questions until the answer is yes; negative: never */
    int64_t asked;
} stopper;

static bool should_stop(void *ctx) {
    stopper *s = ctx;
    s->asked++;
    return s->left >= 0 && s->left-- == 0;
}

/* Micro-steps that the newest checkpoint has of an unfinished step; -1: there is none. */
static int64_t in_the_middle(const char *folder) {
    fj_err e = { 0 };
    const char *dir = rig_path(folder, "checkpoints");
    fj_ckpt *c = fj_is_dir(dir) ? fj_ckpt_open_newest(dir, NULL, &e) : NULL;
    if (!c) return -1;
    int64_t micro = json_integer_value(json_object_get(c->state, "micro"));
    fj_ckpt_close(c);
    return micro;
}

/* more: of both runs.  Stops again and again, each time after a random number of questions. */
static void stopped_anywhere(const char *name, const char *const *more, int n) {
    fj_rng rng = fj_test_rng();
    fj_err e = { 0 };
    fj_train_result r;
    char straight[64], stopped[64];
    snprintf(straight, sizeof straight, "%s-straight", name);
    snprintf(stopped, sizeof stopped, "%s-stopped", name);
    stopper s = { .left = -1 };
    fj_log log = { .ctx = &s, .should_stop = should_stop };
    if (!rig_run_list(&(rig){ .folder = straight, .log = &log }, more, n, &r, &e))
        fail_msg("%s", e.msg);
    int64_t all = s.asked;
    int stops = 0, middle = 0;
    bool done = false;
    for (int i = 0; !done; i++) {
        s.left = i < 60 ? (int64_t)(fj_rng_u64(&rng) % (uint64_t)(all / 2)) : -1;
        e = (fj_err){ 0 };
        bool resume = rig_has(stopped, ""); /* not yet, when stopped while the data was read */
        done = rig_run_list(&(rig){ .folder = stopped, .resume = resume, .log = &log }, more, n, &r,
                            &e);
        if (done) break;
        if (e.code != FJ_ESTOP) fail_msg("attempt %d: %s", i, e.msg);
        if (r.folder[0] && !strstr(e.msg, "--resume"))
            fail_msg("does not say how to go on: %s", e.msg);
        stops++;
        middle += in_the_middle(stopped) > 0;
    }
    printf("%s: stopped %d times, %d of them within a step\n", name, stops, middle);
    assert_true(stops > 0);
    rig_same(straight, stopped);
}

static void test_stopped_lora(void **state) {
    (void)state;
    static const char *const more[] = { "lora_dropout=0.1",
                                        "gradient_accumulation_steps=4",
                                        "per_device_train_batch_size=1",
                                        "packing=false",
                                        "max_steps=8",
                                        "save_steps=3",
                                        "eval_steps=2",
                                        "logging_steps=3" };
    stopped_anywhere("lora", more, FJ_LEN(more));
}

static void test_stopped_full(void **state) {
    (void)state;
    static const char *const more[] = { "method=full",
                                        "gradient_accumulation_steps=3",
                                        "per_device_train_batch_size=1",
                                        "packing=false",
                                        "max_steps=6",
                                        "save_steps=2",
                                        "learning_rate=0.001",
                                        "weight_decay=0.1",
                                        "logging_steps=2" };
    stopped_anywhere("full", more, FJ_LEN(more));
}

/* Between the micro-steps of one step: the sums of gradients go through the checkpoint. */
static void test_stopped_within_step(void **state) {
    (void)state;
    fj_err e;
    fj_train_result r;
    stopper s = { .left = -1 };
    fj_log log = { .ctx = &s, .should_stop = should_stop };
    static const char *const more[] = { "lora_dropout=0.1",
                                        "gradient_accumulation_steps=8",
                                        "per_device_train_batch_size=1",
                                        "packing=false",
                                        "max_steps=2",
                                        "eval_steps=2",
                                        "no_eval=true" };
    int n = (int)FJ_LEN(more);
    e = (fj_err){ 0 };
    assert_true(rig_run_list(&(rig){ .folder = "within-a", .log = &log }, more, n, &r, &e));
    s.left = s.asked - 16 + 5; /* 16 micro-steps ask last, there is nothing to measure afterwards */
    assert_false(rig_run_list(&(rig){ .folder = "within-b", .log = &log }, more, n, &r, &e));
    assert_int_equal(e.code, FJ_ESTOP);
    assert_int_equal(in_the_middle("within-b"), 5);
    s.left = -1;
    FJ_OK_OR_FAIL(
        rig_run_list(&(rig){ .folder = "within-b", .resume = true, .log = &log }, more, n, &r, &e),
        e);
    rig_same("within-a", "within-b");
}

static void test_measured_first(void **state) {
    (void)state;
    fj_err e;
    fj_train_result r;
    stopper s = { .left = -1 };
    fj_log log = { .ctx = &s, .should_stop = should_stop };
    (void)rig_train(&(rig){ .folder = "first-all", .log = &log }, "max_steps=1", NULL);
    /* The first questions are asked while the base is measured: stop at each until training began. */
    for (int64_t k = 0; k < s.asked; k++) {
        char name[32];
        snprintf(name, sizeof name, "first-%lld", (long long)k);
        stopper t = { .left = k };
        fj_log l = { .ctx = &t, .should_stop = should_stop };
        assert_false(rig_try(&(rig){ .folder = name, .log = &l }, &r, &e, "max_steps=1", NULL));
        assert_int_equal(e.code, FJ_ESTOP);
        if (rig_has(name, "checkpoints")) { /* the first question of training */
            assert_true(rig_has(name, "eval/base.json"));
            assert_int_equal(r.steps_done, 0);
            return;
        }
        assert_false(rig_has(name, "metrics.jsonl"));
        assert_false(rig_has(name, "eval/tuned.json"));
    }
    fail_msg("training never began");
}

/* What would make other numbers is refused, by name. */
static void test_other_inputs(void **state) {
    (void)state;
    fj_err e;
    fj_train_result r;
    rig_rows("mine.jsonl", 12, 5);
    char data[1100];
    snprintf(data, sizeof data, "data=%s", fj_test_path("mine.jsonl"));
    (void)rig_train(&(rig){ .folder = "inputs" }, data, "max_steps=1", NULL);
    const rig again = { .folder = "inputs", .resume = true };
    assert_false(rig_try(&again, &r, &e, data, "max_steps=1", "lora_r=5", NULL));
    assert_non_null(strstr(e.msg, "lora_r"));
    rig_rows("mine.jsonl", 12, 6); /* the same name, other rows */
    assert_false(rig_try(&again, &r, &e, data, "max_steps=1", NULL));
    assert_non_null(strstr(e.msg, "training data"));
    rig_rows("mine.jsonl", 12, 5);
    (void)rig_train(&again, data, "max_steps=1", "threads=2", NULL);
}

/* ---- divisions of a step --------------------------------------------------------------------------- */
static void losses_near(const char *a, const char *b, const char *key, double limit) {
    json_t *x = rig_metrics(a), *y = rig_metrics(b);
    assert_int_equal(json_array_size(x), json_array_size(y));
    int n = 0;
    double worst = 0;
    for (size_t i = 0; i < json_array_size(x); i++) {
        const json_t *p = json_object_get(json_array_get(x, i), key),
                     *q = json_object_get(json_array_get(y, i), key);
        if (!p) continue;
        double u = json_number_value(p), v = json_number_value(q);
        worst = fmax(worst, fabs(u - v) / fabs(u));
        if (!(fabs(u - v) <= limit * fabs(u)))
            fail_msg("line %zu: %s is %.12g in %s, %.12g in %s", i, key, u, a, v, b);
        n++;
    }
    printf("%s and %s: %d of %s within %.2g\n", a, b, n, key, worst);
    assert_true(n > 0);
    json_decref(x);
    json_decref(y);
}

static void divisions(const char *name, const char *method, const char *rate) {
    static const char *const how[][2] = {
        { "per_device_train_batch_size=8", "gradient_accumulation_steps=1" },
        { "per_device_train_batch_size=1", "gradient_accumulation_steps=8" },
        { "per_device_train_batch_size=2", "gradient_accumulation_steps=4" },
        { "per_device_train_batch_size=4", "gradient_accumulation_steps=2" }
    };
    char folder[4][64];
    for (int i = 0; i < 4; i++) {
        snprintf(folder[i], sizeof folder[i], "%s-%d", name, i);
        (void)rig_train(&(rig){ .folder = folder[i] }, "packing=false", how[i][0], how[i][1],
                        method, rate, "max_steps=6", "f32=true", NULL);
        if (i) losses_near(folder[0], folder[i], "loss", 1e-6);
    }
}

static void test_divisions(void **state) {
    (void)state;
    divisions("div-lora", "method=lora", "learning_rate=0.002");
    divisions("div-full", "method=full", "learning_rate=0.0005");
}

/* ---- packed or alone ------------------------------------------------------------------------------- */
/* At a rate of 0 nothing changes: the loss of a step is that of its samples.  Their bits are compared
 * through an evaluation (double sums over the same floats in the same order). */
static void test_packed(void **state) {
    (void)state;
    fj_train_result a, b;
    /* Evaluation batches: 8 samples in one, or one by one. */
    a = rig_train(&(rig){ .folder = "pack-a" }, "per_device_train_batch_size=8", "max_steps=1",
                  "learning_rate=0", NULL);
    b = rig_train(&(rig){ .folder = "pack-b" }, "per_device_train_batch_size=1", "max_steps=1",
                  "learning_rate=0", "packing=false", NULL);
    assert_true(a.base.tokens > 0);
    assert_memory_equal(&a.base.loss, &b.base.loss, sizeof a.base.loss);
    assert_memory_equal(&a.tuned.loss, &b.tuned.loss, sizeof a.tuned.loss);
    assert_memory_equal(&a.tuned.loss, &a.base.loss, sizeof a.tuned.loss);
    assert_true(a.forgetting.kl == 0);
    /* One epoch in one step, packed and in micro-batches of one: the same samples, the same loss. */
    (void)rig_train(&(rig){ .folder = "pack-c" }, "per_device_train_batch_size=24", "packing=true",
                    "max_steps=2", "f32=true", NULL);
    (void)rig_train(&(rig){ .folder = "pack-d" }, "per_device_train_batch_size=1", "packing=false",
                    "gradient_accumulation_steps=24", "max_steps=2", "f32=true", NULL);
    losses_near("pack-c", "pack-d", "loss", 1e-6);
}

/* ---- the machine ----------------------------------------------------------------------------------- */
static void test_threads(void **state) {
    (void)state;
    static const char *const method[] = { "method=lora", "method=full" };
    for (int i = 0; i < 2; i++) {
        char name[3][32];
        for (int t = 0; t < 3; t++) {
            char threads[32];
            snprintf(name[t], sizeof name[t], "threads-%d-%d", i, t + 1);
            snprintf(threads, sizeof threads, "threads=%d", t + 1);
            (void)rig_train(&(rig){ .folder = name[t] }, threads, method[i], "lora_dropout=0.1",
                            "max_steps=4", NULL);
            if (t) rig_same(name[0], name[t]);
        }
    }
}

/* Begun on the GPU, ended on the CPU and the other way round: what is saved is the same thing on both. */
static void test_other_device(void **state) {
    (void)state;
    if (!strcmp(fj_test_device(), "cpu")) {
        printf("SKIP: nothing was moved: FORJA_TEST_DEVICE names no GPU\n");
        skip();
    }
    char here[64];
    snprintf(here, sizeof here, "device=%s", fj_test_device());
    const char *place[2] = { here, "device=cpu" };
    for (int i = 0; i < 4; i++) {
        char name[2][32];
        const char *more[] = { i % 2 ? "method=full" : "method=lora",
                               "f32=true",
                               "gradient_accumulation_steps=4",
                               "per_device_train_batch_size=1",
                               "packing=false",
                               "no_eval=true",
                               "learning_rate=0.001",
                               place[i / 2] };
        int n = (int)FJ_LEN(more);
        fj_err e = { 0 };
        fj_train_result r;
        stopper s = { .left = -1 };
        fj_log log = { .ctx = &s, .should_stop = should_stop };
        for (int k = 0; k < 2; k++)
            snprintf(name[k], sizeof name[k], "move-%d-%s", i, k ? "stays" : "goes");
        FJ_OK_OR_FAIL(rig_run_list(&(rig){ .folder = name[1], .log = &log }, more, n, &r, &e), e);
        s.left =
            s.asked - 24 + 14; /* 6 steps of 4 micro-steps, each asks once: within the fourth */
        assert_false(rig_run_list(&(rig){ .folder = name[0], .log = &log }, more, n, &r, &e));
        assert_int_equal(e.code, FJ_ESTOP);
        assert_int_equal(in_the_middle(name[0]), 2);
        s.left = -1;
        more[n - 1] = place[1 - i / 2];
        FJ_OK_OR_FAIL(
            rig_run_list(&(rig){ .folder = name[0], .resume = true, .log = &log }, more, n, &r, &e),
            e);
        losses_near(name[1], name[0], "loss", 1e-4);
        json_t *m = rig_json(name[0], "manifest.json");
        assert_int_equal(json_array_size(json_object_get(m, "devices_before")), 1);
        json_decref(m);
    }
}

static void test_recompute(void **state) {
    (void)state;
    static const char *const method[] = { "method=lora", "method=full" };
    for (int i = 0; i < 2; i++) {
        const char *off = i ? "keep-full" : "keep-lora", *on = i ? "again-full" : "again-lora";
        fj_train_result a = rig_train(&(rig){ .folder = off }, method[i],
                                      "gradient_checkpointing=false", "lora_dropout=0.1", NULL);
        fj_train_result b = rig_train(&(rig){ .folder = on }, method[i],
                                      "gradient_checkpointing=true", "lora_dropout=0.1", NULL);
        assert_int_equal(a.recomputed_layers, 0);
        assert_int_equal(b.recomputed_layers, b.layers);
        assert_true(b.planned_bytes < a.planned_bytes);
        rig_same(off, on);
    }
}

/* ---- memory ---------------------------------------------------------------------------------------- */
static void test_memory(void **state) {
    (void)state;
    fj_err e;
    fj_train_result a, b, c;
    static const char *const method[] = { "method=lora", "method=full" };
    for (int i = 0; i < 2; i++) {
        const char *free_run = i ? "free-full" : "free-lora",
                   *tight = i ? "tight-full" : "tight-lora";
        a = rig_train(&(rig){ .folder = free_run }, method[i], NULL);
        assert_int_equal(a.recomputed_layers, 0);
        assert_int_equal(a.planned_bytes, a.peak_bytes);
        char limit[64];
        snprintf(limit, sizeof limit, "max_memory=%lld", (long long)a.planned_bytes - 1);
        b = rig_train(&(rig){ .folder = tight }, method[i], limit, NULL);
        assert_true(b.recomputed_layers > 0);
        assert_true(b.planned_bytes < a.planned_bytes);
        assert_int_equal(b.planned_bytes, b.peak_bytes);
        rig_same(free_run, tight);
        /* The least that is possible is said, and is enough. */
        assert_false(
            rig_try(&(rig){ .folder = "least" }, &c, &e, method[i], "max_memory=1000", NULL));
        assert_int_equal(e.code, FJ_ENOMEM);
        if (!strstr(e.msg, "at least")) fail_msg("%s", e.msg);
        assert_false(rig_has("least", ""));
    }
}

/* ---- the gate -------------------------------------------------------------------------------------- */
static void test_gate(void **state) {
    (void)state;
    fj_err e;
    fj_train_result r;
    assert_false(rig_try(&(rig){ .folder = "gate" }, &r, &e, "eval_data=null", NULL));
    assert_int_equal(e.code, FJ_EGATE);
    assert_non_null(strstr(e.msg, "eval"));
    assert_false(rig_has("gate", ""));
    r = rig_train(&(rig){ .folder = "gate", .no_eval = true }, "eval_data=null", "max_steps=1",
                  NULL);
    assert_false(r.measured);
    assert_false(rig_has("gate", "eval/base.json"));
    json_t *m = rig_json("gate", "manifest.json");
    assert_true(json_is_true(json_object_get(m, "no_eval")));
    json_decref(m);
    size_t n;
    char *html = fj_read_file(rig_path("gate", "report.html"), 1 << 24, &n, &e);
    assert_non_null(html);
    assert_non_null(strstr(html, "no_eval"));
    free(html);
    r = rig_train(&(rig){ .folder = "open" }, "max_steps=1", NULL);
    assert_true(r.measured && r.measured_general);
    m = rig_json("open", "manifest.json");
    assert_true(json_is_false(json_object_get(m, "no_eval")));
    json_decref(m);
    html = fj_read_file(rig_path("open", "report.html"), 1 << 24, &n, &e);
    assert_null(strstr(html, "switched off by no_eval"));
    free(html);
    /* A split of the data is something to measure with. */
    r = rig_train(&(rig){ .folder = "split" }, "eval_data=null", "eval_split=0.25", "max_steps=1",
                  NULL);
    assert_true(r.measured && r.eval_samples > 0);
}

static void test_dry_run(void **state) {
    (void)state;
    fj_train_result a = rig_train(&(rig){ .folder = "dry", .dry = true }, NULL);
    assert_false(rig_has("dry", ""));
    fj_train_result b = rig_train(&(rig){ .folder = "dry" }, NULL);
    assert_int_equal(a.planned_bytes, b.peak_bytes);
    assert_int_equal(a.steps, b.steps_done);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stopped_lora),
        cmocka_unit_test(test_stopped_full),
        cmocka_unit_test(test_stopped_within_step),
        cmocka_unit_test(test_measured_first),
        cmocka_unit_test(test_other_inputs),
        cmocka_unit_test(test_divisions),
        cmocka_unit_test(test_packed),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_other_device),
        cmocka_unit_test(test_recompute),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_gate),
        cmocka_unit_test(test_dry_run),
    };
    return cmocka_run_group_tests(tests, rig_init, NULL);
}
