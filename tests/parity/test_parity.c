/* test_parity.c - the same bits, whatever else happens: threads, neighbours in the batch, chunks, the
 * cache, training or evaluation, adapters beside the base.  Everything is compared with memcmp against
 * one sequence alone, without a cache, on one thread.
 *
 * Run on tiny models of tests/golden (also saved in every weight format) and on stories260K. */
#include "test_device.h"

#include "engine/engine.h"

#include <forja/generate.h>

enum { MAX = 80 };

/* One model on devices of 1, 2 and 3 threads; on a GPU, which has none, on three devices. */
typedef struct rig {
    const char *name;
    bool f32;
    fj_dev *dev[3];
    fj_model *m[3];
    fj_lora *lora[3][2]; /* two adapters, or NULL */
    int64_t vocab, len;  /* of the longest prompt */
    int32_t ids[MAX];
    float *ref; /* logits of ids, of the base: [len, vocab] */
} rig;

static fj_lora *adapter(fj_model *m, int r, uint64_t seed) {
    fj_err e = { 0 };
    const char *all = "all-linear";
    fj_lora *l = fj_lora_new(
        m, &(fj_lora_opts){ .r = r, .alpha = 2 * r, .targets = &all, .n_targets = 1, .seed = seed },
        &e);
    if (!l) fail_msg("%s", e.msg);
    size_t n = l->bytes / sizeof(float);
    float *v = fj_alloc(l->bytes); /* B is zero in a new adapter: it would change nothing */
    for (size_t i = 0; i < n; i++) v[i] = (float)(fj_rng_at(seed, i) >> 40) * 0x1p-25f - 0.25f;
    FJ_OK_OR_FAIL(m->dev->fn->upload(l->buf, 0, v, l->bytes, &e), e);
    free(v);
    return l;
}

static float *get(const fj_tensor *t) {
    fj_err e = { 0 };
    float *v = fj_alloc((size_t)fj_tensor_bytes(t) + 1);
    FJ_OK_OR_FAIL(fj_tensor_get(t, v, &e), e);
    return v;
}

/* A forward pass over b without a cache; the caller frees.  grads: as in training. */
static float *forward(fj_model *m, const fj_batch *b, fj_want_out out, const fj_rows_lora *loras,
                      int n_loras, fj_buf *grads) {
    fj_err e = { 0 };
    fj_buf *mem = NULL;
    fj_fwd *f = fj_fwd_new(m,
                           &(fj_fwd_opts){ .n = b->n,
                                           .n_seqs = b->n_seqs,
                                           .n_blocks = b->n_blocks,
                                           .n_out = b->n_out,
                                           .out = out,
                                           .loras = loras,
                                           .n_loras = n_loras,
                                           .train_lora = grads && n_loras,
                                           .train_full = grads && !n_loras,
                                           .grads = grads },
                           &e);
    if (!f) fail_msg("%s", e.msg);
    FJ_OK_OR_FAIL(fj_dev_prepare(m->dev, f->g, &mem, "a test", &e), e);
    FJ_OK_OR_FAIL(fj_fwd_fill(f, b, &e) && m->dev->fn->run(m->dev, f->g, &e), e);
    float *v = get(out == FJ_OUT_LOSS ? f->nll : f->logits);
    fj_fwd_free(f);
    m->dev->fn->free(mem);
    return v;
}

/* Logits of every token of one prompt alone. */
static float *alone(fj_model *m, const int32_t *ids, int64_t n, const fj_lora *l) {
    fj_batch b = { 0 };
    fj_batch_add_prompt(&b, ids, n, n);
    fj_rows_lora rows = { l, 0, n };
    float *v = forward(m, &b, FJ_OUT_LOGITS, &rows, l ? 1 : 0, NULL);
    fj_batch_free(&b);
    return v;
}

static void same(const rig *r, const float *got, const float *want, int64_t n, int64_t cols,
                 const char *what) {
    for (int64_t i = 0; i < n; i++)
        if (memcmp(got + i * cols, want + i * cols, (size_t)cols * sizeof *got))
            fail_msg("%s, %s: %s: row %lld has other bits", r->name,
                     r->f32 ? "f32" : "default mode", what, (long long)i);
}

static void rig_open(rig *r, const char *path, const char *name, bool f32, bool trainable) {
    fj_err e = { 0 };
    *r = (rig){ .name = name, .f32 = f32 };
    for (int t = 0; t < 3; t++) {
        r->dev[t] = fj_test_dev(t + 1, f32);
        r->m[t] =
            fj_model_open(r->dev[t], path, &(fj_model_opts){ .trainable = trainable }, NULL, &e);
        if (!r->m[t]) fail_msg("%s: %s", path, e.msg);
        if (trainable) continue;
        r->lora[t][0] = adapter(r->m[t], 3, 11);
        r->lora[t][1] = adapter(r->m[t], 8, 12);
        for (int k = 0; k < 2 && t == 1; k++) /* those of rig 1 as they are served */
            FJ_OK_OR_FAIL(fj_lora_ready(r->lora[t][k], &e), e);
    }
    r->vocab = r->m[0]->hp.vocab;
    r->len = FJ_MIN(FJ_MIN((int64_t)MAX, 70), r->m[0]->hp.context);
    for (int i = 0; i < MAX; i++)
        r->ids[i] = (int32_t)(fj_rng_at(3, (uint64_t)i) % (uint64_t)r->vocab);
    r->ref = alone(r->m[0], r->ids, r->len, NULL);
}

static void rig_close(rig *r) {
    free(r->ref);
    for (int t = 0; t < 3; t++) {
        for (int k = 0; k < 2; k++) fj_lora_close(r->lora[t][k]);
        fj_model_close(r->m[t]);
        fj_dev_close(r->dev[t]);
    }
}

/* ---- the checks ------------------------------------------------------------------------------------ */
static void any_team(const rig *r) {
    float *a[2] = { NULL, NULL };
    for (int t = 0; t < 3; t++) {
        float *v = alone(r->m[t], r->ids, r->len, NULL);
        same(r, v, r->ref, r->len, r->vocab,
             t == 0   ? "run again"
             : t == 1 ? "2 threads"
                      : "3 threads");
        free(v);
        if (!r->lora[t][0]) continue;
        v = alone(r->m[t], r->ids, r->len, r->lora[t][0]);
        if (t == 0) a[0] = v;
        else {
            same(r, v, a[0], r->len, r->vocab, "an adapter on several threads");
            free(v);
        }
    }
    free(a[0]);
}

static void packed_or_alone(const rig *r) {
    int64_t from[] = { 5, 0, 9, 1 }, len[] = { 17, r->len, 1, 33 };
    fj_batch b = { 0 };
    for (int i = 0; i < 4; i++) fj_batch_add_prompt(&b, r->ids + from[i], len[i], len[i]);
    float *v = forward(r->m[1], &b, FJ_OUT_LOGITS, NULL, 0, NULL), *at = v;
    for (int i = 0; i < 4; i++) {
        float *one = alone(r->m[0], r->ids + from[i], len[i], NULL);
        same(r, at, one, len[i], r->vocab, "packed with others");
        at += len[i] * r->vocab;
        free(one);
    }
    free(v);
    fj_batch_free(&b);
}

/* Feeds ids to s in chunks and compares the logits of all of them. */
static void fed(const rig *r, fj_engine *g, const int64_t *chunk, int n, const char *what) {
    fj_err e = { 0 };
    fj_seq s = { 0 };
    int64_t at = 0;
    for (int i = 0; at < r->len; i++) {
        int64_t k = FJ_MIN(chunk[i % n], r->len - at);
        const float *logits;
        fj_step_item it = { .seq = &s, .ids = r->ids + at, .n = k, .want = k, .total = r->len };
        FJ_OK_OR_FAIL(fj_engine_step(g, &it, 1, &logits, &e), e);
        same(r, logits, r->ref + at * r->vocab, k, r->vocab, what);
        at += k;
    }
    fj_seq_free(g, &s);
}

static void cached(const rig *r) {
    fj_err e = { 0 };
    for (int t = 0; t < 2; t++) {
        fj_engine *g = fj_engine_open(r->m[t], 4 * MAX, &e);
        if (!g) fail_msg("%s", e.msg);
        fed(r, g, (int64_t[]){ MAX }, 1, "the whole prompt through the cache");
        fed(r, g, (int64_t[]){ 1 }, 1, "token by token");
        fed(r, g, (int64_t[]){ 32 }, 1, "chunks of a page");
        fed(r, g, (int64_t[]){ 7, 33, 1, 2 }, 4, "ragged chunks");
        /* Drafted tokens that were wrong leave no trace; nor does a page that another sequence had. */
        fj_seq s = { 0 };
        const float *logits;
        fj_step_item it = { .seq = &s, .ids = r->ids, .n = 30, .want = 0, .total = r->len };
        FJ_OK_OR_FAIL(fj_engine_step(g, &it, 1, &logits, &e), e);
        it = (fj_step_item){ .seq = &s, .ids = r->ids + 3, .n = 6, .want = 6, .total = r->len };
        FJ_OK_OR_FAIL(fj_engine_step(g, &it, 1, &logits, &e), e);
        fj_seq_cut(g, &s, 29);
        it = (fj_step_item){
            .seq = &s, .ids = r->ids + 29, .n = r->len - 29, .want = r->len - 29, .total = r->len
        };
        FJ_OK_OR_FAIL(fj_engine_step(g, &it, 1, &logits, &e), e);
        same(r, logits, r->ref + 29 * r->vocab, r->len - 29, r->vocab, "after a cut");
        fj_seq_free(g, &s);
        fj_engine_close(g);
    }
}

/* Three sequences a step at a time, some of new tokens and some of one, base and adapters side by side. */
static void together(const rig *r, bool adapters) {
    fj_err e = { 0 };
    fj_engine *g = fj_engine_open(r->m[1], 4 * MAX, &e);
    if (!g) fail_msg("%s", e.msg);
    fj_seq s[3] = { { 0 } };
    int64_t from[] = { 0, 4, 8 }, done[3] = { 0 }, len[] = { 40, 36, 45 };
    const fj_lora *use[3] = { NULL, adapters ? r->lora[1][0] : NULL,
                              adapters ? r->lora[1][1] : NULL };
    float *one[3];
    for (int i = 0; i < 3; i++)
        one[i] = alone(r->m[0], r->ids + from[i], len[i], i && adapters ? r->lora[0][i - 1] : NULL);
    for (int step = 0; done[0] < len[0] || done[1] < len[1] || done[2] < len[2]; step++) {
        fj_step_item it[3];
        int n = 0, who[3];
        for (int k = 0; k < 3; k++) {
            int i = (step + k) % 3; /* in any order, not all in every step */
            int64_t left = len[i] - done[i],
                    take = FJ_MIN(left, step % 2 ? 1 : 1 + (step * 5 + i * 11) % 20);
            if (take < 1 || (n && step % 4 == 3)) continue;
            it[n] = (fj_step_item){ .seq = &s[i],
                                    .ids = r->ids + from[i] + done[i],
                                    .n = take,
                                    .want = take,
                                    .lora = use[i],
                                    .total = len[i] };
            who[n++] = i;
        }
        if (!n) continue;
        const float *logits;
        FJ_OK_OR_FAIL(fj_engine_step(g, it, n, &logits, &e), e);
        for (int k = 0; k < n; k++) {
            same(r, logits, one[who[k]] + done[who[k]] * r->vocab, it[k].n, r->vocab,
                 adapters ? "beside rows of other adapters" : "beside other sequences");
            logits += it[k].n * r->vocab;
            done[who[k]] += it[k].n;
        }
    }
    for (int i = 0; i < 3; i++) {
        fj_seq_free(g, &s[i]);
        free(one[i]);
    }
    fj_engine_close(g);
}

/* The loss of every target: in a packed training step and in evaluation alone. */
static void trained_or_evaluated(const rig *r, bool full) {
    fj_err e = { 0 };
    fj_batch packed = { 0 }, one = { 0 };
    int64_t from[] = { 3, 0, 20 }, len[] = { 21, r->len, 2 };
    for (int i = 0; i < 3; i++) fj_batch_add_sample(&packed, r->ids + from[i], NULL, len[i], 0.25f);
    fj_model *m = r->m[1];
    const fj_lora *l = full ? NULL : r->lora[1][0], *l0 = full ? NULL : r->lora[0][0];
    int n;
    size_t bytes = 0;
    fj_param *p = fj_params_of(m, l, &n);
    for (int i = 0; i < n; i++) bytes += fj_param_bytes(p[i].rows, p[i].cols);
    free(p);
    fj_buf *grads = m->dev->fn->alloc(m->dev, bytes, "gradients", &e);
    if (!grads) fail_msg("%s", e.msg);
    fj_rows_lora rows = { l, 0, packed.n };
    float *nll = forward(m, &packed, FJ_OUT_LOSS, &rows, l ? 1 : 0, grads), *at = nll;
    for (int i = 0; i < 3; i++) {
        fj_batch_clear(&one);
        fj_batch_add_sample(&one, r->ids + from[i], NULL, len[i], 1);
        rows = (fj_rows_lora){ l0, 0, one.n };
        float *v = forward(r->m[0], &one, FJ_OUT_LOSS, &rows, l ? 1 : 0, NULL);
        same(r, at, v, one.n_out, 1,
             full ? "loss in full training" : "loss in training an adapter");
        at += one.n_out;
        free(v);
    }
    free(nll);
    m->dev->fn->free(grads);
    fj_batch_free(&packed);
    fj_batch_free(&one);
}

static void all_checks(const char *path, const char *name) {
    for (int f32 = 0; f32 < 2; f32++) {
        rig r;
        rig_open(&r, path, name, f32, false);
        any_team(&r);
        packed_or_alone(&r);
        cached(&r);
        together(&r, false);
        together(&r, true);
        trained_or_evaluated(&r, false);
        rig_close(&r);
        printf("%s, %s: same bits\n", name, f32 ? "f32" : "default mode");
    }
}

/* ---- the tests -------------------------------------------------------------------------------------- */
static void test_tiny(void **state) {
    (void)state;
    static const char *const list[] = { "tiny-default", "tiny-untied-bias", "tiny-llama3" };
    for (size_t i = 0; i < FJ_LEN(list); i++) {
        char rel[64];
        snprintf(rel, sizeof rel, "tests/golden/%s", list[i]);
        all_checks(fj_test_source(rel), list[i]);
    }
}

/* Every architecture, by its case of tests/golden/archs. */
static void test_archs(void **state) {
    (void)state;
    FILE *list = fopen(fj_test_source("tests/golden/archs/list.txt"), "r");
    assert_non_null(list);
    char name[64], rel[128];
    int n = 0;
    while (fscanf(list, "%63s", name) == 1) {
        snprintf(rel, sizeof rel, "tests/golden/archs/%s", name);
        all_checks(fj_test_source(rel), name);
        n++;
    }
    fclose(list);
    assert_true(n > 10);
}

/* LongRoPE: an answer that grows over the original context goes on as if the whole text had been given. */
static void test_growing(void **state) {
    (void)state;
    fj_err e = { 0 };
    rig r;
    rig_open(&r, fj_test_source("tests/golden/archs/phi3-longrope"), "phi3-longrope", true, false);
    int64_t first = 18, made = 14, original = r.m[1]->hp.rope.original;
    assert_true(first < original && first + made > original + 4);
    fj_session *s = fj_session_open(r.m[1], 0, &e);
    if (!s) fail_msg("%s", e.msg);
    fj_sampling p = FJ_SAMPLING_DEFAULT;
    p.temperature = 0;
    p.ignore_eos = true;
    p.max_new_tokens = made;
    fj_ids ids = { 0 };
    for (int again = 0; again < 2; again++) { /* and back: the cache is of a long text then */
        fj_ids_clear(&ids);
        FJ_OK_OR_FAIL(fj_generate(s, r.ids, first, &p, NULL, NULL, &ids, NULL, &e), e);
        assert_int_equal(ids.n, made);
        int32_t text[MAX];
        memcpy(text, r.ids, (size_t)first * sizeof *text);
        for (int64_t i = 0; i < made; i++) {
            float *v = alone(r.m[1], text, first + i, NULL), *last = v + (first + i - 1) * r.vocab;
            int32_t best = 0;
            for (int32_t k = 1; k < r.vocab; k++)
                if (last[k] > last[best]) best = k;
            assert_int_equal(ids.p[i], best);
            text[first + i] = best;
            free(v);
        }
    }
    fj_ids_free(&ids);
    fj_session_close(s);
    rig_close(&r);
}

/* Weights that stay in the file: the same bits as those in panels.  On a GPU it is as if not said. */
static void mapped(const char *path, const char *name, bool f32) {
    fj_err e = { 0 };
    rig r;
    rig_open(&r, path, name, f32, false);
    fj_model *m = fj_model_open(r.dev[1], path, &(fj_model_opts){ .mapped = true }, NULL, &e);
    if (!m) fail_msg("%s", e.msg);
    if (r.dev[1]->kern) assert_true(m->buf->size < r.m[1]->buf->size / 2);
    else assert_true(m->buf->size == r.m[1]->buf->size);
    float *v = alone(m, r.ids, r.len, NULL);
    same(&r, v, r.ref, r.len, r.vocab, "weights in the file");
    free(v);
    fj_model_close(m);
    rig_close(&r);
}

static void test_mapped(void **state) {
    (void)state;
    for (int f32 = 0; f32 < 2; f32++) {
        mapped(fj_test_source("tests/golden/tiny-sharded"), "shards", f32);
        mapped(fj_test_source("tests/golden/archs/qwen3"), "qwen3", f32);
        mapped(fj_test_source("models/forja-base.gguf"), "forja-base", f32);
    }
}

static void test_stories(void **state) {
    (void)state;
    const char *hf = fj_test_shared("models/stories260K/hf"),
               *gguf = fj_test_shared("models/stories260K/stories260K.gguf");
    if (!hf || !gguf) skip();
    all_checks(hf, "stories260K, HF");
    all_checks(gguf, "stories260K, GGUF");
}

static void test_formats(void **state) {
    (void)state;
    static const char *const types[] = { "F16", "BF16", "Q8_0", "Q4_0", "MXFP4" };
    static const char *const super[] = { "Q4_K", "Q6_K" }; /* blocks of 256: a wider model */
    fj_err e = { 0 };
    fj_dev *d = fj_test_dev(1, false);
    fj_model *m = fj_model_open(d, fj_test_source("tests/golden/tiny-default"),
                                &(fj_model_opts){ 0 }, NULL, &e);
    if (!m) fail_msg("%s", e.msg);
    for (size_t i = 0; i < FJ_LEN(types); i++) {
        char name[32];
        snprintf(name, sizeof name, "tiny-%s.gguf", types[i]);
        const char *path = fj_test_path(name);
        FJ_OK_OR_FAIL(fj_model_save_gguf(m, path, types[i], &e), e);
        all_checks(path, types[i]);
    }
    fj_model_close(m);
    m = fj_model_open(d, fj_test_source("models/forja-base.gguf"), &(fj_model_opts){ 0 }, NULL, &e);
    if (!m) fail_msg("%s", e.msg);
    for (size_t i = 0; i < FJ_LEN(super); i++) {
        char name[32];
        snprintf(name, sizeof name, "base-%s.gguf", super[i]);
        const char *path = fj_test_path(name);
        FJ_OK_OR_FAIL(fj_model_save_gguf(m, path, super[i], &e), e);
        all_checks(path, super[i]);
    }
    fj_model_close(m);
    fj_dev_close(d);
}

static void test_full_training(void **state) {
    (void)state;
    for (int f32 = 0; f32 < 2; f32++) {
        rig r;
        rig_open(&r, fj_test_source("tests/golden/tiny-default"), "tiny-default", f32, true);
        trained_or_evaluated(&r, true);
        rig_close(&r);
        const char *hf = fj_test_shared("models/stories260K/hf");
        if (!hf) continue;
        rig_open(&r, hf, "stories260K", f32, true);
        trained_or_evaluated(&r, true);
        rig_close(&r);
    }
}

/* Planted: two samples packed as one sequence see one another, and that is other bits; so is an adapter. */
static void test_leaks_are_seen(void **state) {
    (void)state;
    rig r;
    rig_open(&r, fj_test_source("tests/golden/tiny-default"), "tiny-default", false, false);
    float *joined = alone(r.m[0], r.ids, 40, NULL), *second = alone(r.m[0], r.ids + 20, 20, NULL);
    assert_memory_not_equal(joined + 20 * r.vocab, second, (size_t)r.vocab * sizeof(float));
    float *tuned = alone(r.m[0], r.ids, 40, r.lora[0][0]),
          *other = alone(r.m[0], r.ids, 40, r.lora[0][1]);
    assert_memory_not_equal(joined, tuned, (size_t)r.vocab * sizeof(float));
    assert_memory_not_equal(other, tuned, (size_t)r.vocab * sizeof(float));
    free(joined);
    free(second);
    free(tuned);
    free(other);
    rig_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tiny),           cmocka_unit_test(test_formats),
        cmocka_unit_test(test_stories),        cmocka_unit_test(test_full_training),
        cmocka_unit_test(test_leaks_are_seen), cmocka_unit_test(test_archs),
        cmocka_unit_test(test_mapped),         cmocka_unit_test(test_growing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
