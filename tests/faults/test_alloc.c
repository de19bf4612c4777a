/* test_alloc.c - the n-th piece of device memory cannot be had, for every n: FJ_ENOMEM in one sentence,
 * everything taken before is given back, and the next try goes well. */
#include "train_rig.h"

#include "engine/engine.h"
#include "lifecycle/imatrix.h"
#include "train/trainer.h"

#include <forja/eval.h>
#include <forja/generate.h>

/* The CPU's own table with an alloc that can say no.  One device at a time: a device's functions know
 * nothing but the device. */
static const fj_dev_fns *real_fns;
static int64_t countdown; /* allocations until one fails; negative: none does */
static int64_t made;

static fj_buf *failing_alloc(fj_dev *d, size_t size, const char *what, fj_err *e) {
    made++;
    if (countdown >= 0 && countdown-- == 0) {
        fj_fail(e, FJ_ENOMEM, "no memory for %s: %zu bytes", what, size);
        return NULL;
    }
    return real_fns->alloc(d, size, what, e);
}

typedef struct place {
    fj_dev *d;
    fj_model *m; /* NULL while the model itself is opened */
    fj_lora *l;
    const char *adapter; /* PEFT folder */
} place;

/* One operation, undone again: true when it went well. */
typedef bool (*op_fn)(const place *p, fj_err *e);

static void every_allocation(const char *name, const place *p, op_fn op, int64_t at_least) {
    fj_err e = { 0 };
    int64_t before, after;
    fj_dev_memory(p->d, &before, NULL);
    made = 0;
    countdown = -1;
    FJ_OK_OR_FAIL(op(p, &e), e);
    fj_dev_memory(p->d, &after, NULL);
    assert_int_equal(before, after);
    int64_t all = made;
    if (all < at_least) fail_msg("%s: %lld allocations", name, (long long)all);
    for (int64_t n = 0; n < all; n++) {
        e = (fj_err){ 0 };
        countdown = n;
        bool ok = op(p, &e);
        countdown = -1;
        if (ok) fail_msg("%s: went well without allocation %lld", name, (long long)n);
        if (e.code != FJ_ENOMEM || !strstr(e.msg, "no memory for "))
            fail_msg("%s, allocation %lld: code %d: %s", name, (long long)n, (int)e.code, e.msg);
        fj_dev_memory(p->d, &after, NULL);
        if (after != before)
            fail_msg("%s, allocation %lld: %lld bytes are kept", name, (long long)n,
                     (long long)(after - before));
    }
    e = (fj_err){ 0 };
    FJ_OK_OR_FAIL(op(p, &e), e);
    printf("%s: %lld allocations\n", name, (long long)all);
}

static fj_lora *new_adapter(fj_model *m, double dropout, fj_err *e) {
    const char *all = "all-linear";
    return fj_lora_new(
        m,
        &(fj_lora_opts){
            .r = 4, .alpha = 8, .dropout = dropout, .targets = &all, .n_targets = 1, .seed = 1 },
        e);
}

/* ---- the operations -------------------------------------------------------------------------------- */
static bool open_model(const place *p, fj_err *e) {
    for (int trainable = 0; trainable < 2; trainable++) {
        fj_model *m = fj_model_open(p->d, fj_test_source("tests/golden/tiny-default"),
                                    &(fj_model_opts){ .trainable = trainable }, NULL, e);
        if (!m) return false;
        fj_model_close(m);
    }
    return true;
}

static bool make_adapter(const place *p, fj_err *e) {
    fj_lora *l = new_adapter(p->m, 0, e);
    fj_lora_close(l);
    return l != NULL;
}

static bool open_adapter(const place *p, fj_err *e) {
    fj_lora *l = fj_lora_open(p->m, p->adapter, e);
    fj_lora_close(l);
    return l != NULL;
}

static bool generate(const place *p, fj_err *e) {
    static const int32_t ids[] = { 1, 3, 12, 7, 9 };
    fj_session *s = fj_session_open(p->m, 0, e);
    if (!s) return false;
    fj_sampling how = FJ_SAMPLING_DEFAULT;
    how.max_new_tokens = 20;
    how.ignore_eos = true;
    fj_generated g;
    fj_session_adapter(s, p->l);
    bool ok = fj_generate(s, ids, FJ_LEN(ids), &how, NULL, NULL, NULL, &g, e);
    fj_session_close(s);
    return ok;
}

static bool train(const place *p, fj_err *e) {
    fj_trainer_opts o = { .lora = p->l,
                          .max = { 20, 2, 20 },
                          .eval_max = { 20, 2, 20 },
                          .beta1 = 0.9,
                          .beta2 = 0.999,
                          .eps = 1e-8 };
    fj_trainer *t = fj_trainer_open(p->m, &o, e);
    if (!t) return false;
    static const int32_t ids[] = { 1, 5, 6, 7, 8, 9 };
    fj_batch b = { 0 };
    double loss, norm;
    float nll[8];
    fj_batch_add_sample(&b, ids, NULL, FJ_LEN(ids), 1);
    bool ok = fj_trainer_eval(t, &b, nll, e) && fj_trainer_micro(t, &b, 0, &loss, e) &&
              fj_trainer_norm(t, &norm, e) && fj_trainer_step(t, 1, 0.0, norm, e);
    fj_batch_free(&b);
    fj_trainer_close(t);
    return ok;
}

static bool evaluate(const place *p, fj_err *e) {
    const char *path = fj_test_path("answers.jsonl");
    rig_write("answers.jsonl", "{\"prompt\": \"Say red\", \"answer\": \"It red.\"}\n"
                               "{\"prompt\": \"Say blue\", \"answer\": \"It blue.\"}\n");
    fj_eval_result r;
    return fj_eval_files(p->m, p->l, &path, 1, &(fj_eval_opts){ .max_new_tokens = 4 }, NULL, NULL,
                         NULL, &r, e);
}

static bool forgetting(const place *p, fj_err *e) {
    const char *path = fj_test_path("general.jsonl");
    fj_forgetting f;
    return fj_eval_forgetting(p->m, NULL, p->l, &path, 1, &(fj_eval_opts){ .max_new_tokens = 0 },
                              NULL, &f, e);
}

static bool importance(const place *p, fj_err *e) {
    static const int32_t ids[] = { 1, 5, 6, 7, 8, 9 };
    fj_imatrix *im = fj_imatrix_new(p->m, e);
    bool ok = im && fj_imatrix_add(im, ids, 4, e) && fj_imatrix_add(im, ids, 6, e) &&
              fj_imatrix_finish(im, e);
    fj_imatrix_close(im);
    return ok;
}

/* ---- with a device each ---------------------------------------------------------------------------- */
static void with(bool trainable, bool adapter, void (*body)(place *)) {
    fj_err e = { 0 };
    place p = { .d = fj_dev_open(&(fj_dev_opts){ .threads = 1 }, &e) };
    if (!p.d) fail_msg("%s", e.msg);
    real_fns = p.d->fn;
    fj_dev_fns mine = *real_fns;
    mine.alloc = failing_alloc;
    p.d->fn = &mine;
    countdown = -1;
    p.m = fj_model_open(p.d, fj_test_source("tests/golden/tiny-default"),
                        &(fj_model_opts){ .trainable = trainable }, NULL, &e);
    if (!p.m) fail_msg("%s", e.msg);
    if (adapter && !(p.l = new_adapter(p.m, 0.1, &e))) fail_msg("%s", e.msg);
    p.adapter = fj_test_path("an-adapter");
    if (adapter) FJ_OK_OR_FAIL(fj_lora_save_peft(p.l, p.adapter, &e), e);
    body(&p);
    fj_lora_close(p.l);
    fj_model_close(p.m);
    int64_t now;
    fj_dev_memory(p.d, &now, NULL);
    assert_int_equal(now, 0);
    p.d->fn = real_fns;
    fj_dev_close(p.d);
}

static void of_adapter(place *p) {
    every_allocation("opening a model", p, open_model, 2);
    every_allocation("a new adapter", p, make_adapter, 1);
    every_allocation("opening an adapter", p, open_adapter, 1);
    every_allocation("a session", p, generate, 2);
    every_allocation("training an adapter", p, train, 5);
    every_allocation("an evaluation", p, evaluate, 3);
    every_allocation("forgetting", p, forgetting, 2);
    every_allocation("an importance matrix", p, importance, 2);
}

static void test_adapter(void **state) {
    (void)state;
    with(false, true, of_adapter);
}

static void of_full(place *p) { every_allocation("training all weights", p, train, 5); }

static void test_full(void **state) {
    (void)state;
    with(true, false, of_full);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_adapter),
        cmocka_unit_test(test_full),
    };
    return cmocka_run_group_tests(tests, rig_init, NULL);
}
