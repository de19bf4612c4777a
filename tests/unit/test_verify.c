/* What verifying an export sees: nothing where nothing is, and each planted loss under its own name. */
#include "test_device.h"

#include "formats/json.h"
#include "lifecycle/verify_in.h"

#include <math.h>

static const char *base(void) { return fj_test_source("models/forja-base.gguf"); }

static fj_model *model(fj_dev *d, const char *path) {
    fj_err e = { 0 };
    fj_model *m = fj_model_open(d, path, NULL, NULL, &e);
    if (!m) fail_msg("%s", e.msg);
    return m;
}

/* The embedded model in F32, as a folder and as a GGUF, and in Q4_0; "-a" and "-b" are copies to change. */
static int prepare(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_dev *d = fj_test_dev(2, false);
    fj_model *m = model(d, base());
    FJ_OK_OR_FAIL(fj_model_save_hf(m, fj_test_path("hf"), "F32", &e), e);
    FJ_OK_OR_FAIL(fj_model_save_gguf(m, fj_test_path("f32.gguf"), "F32", &e), e);
    FJ_OK_OR_FAIL(fj_model_save_gguf(m, fj_test_path("q4.gguf"), "Q4_0", &e), e);
    fj_model_close(m);
    fj_dev_close(d);
    return 0;
}

/* The folder "hf" once more, under name. */
static const char *copy(const char *name) {
    static const char *const files[] = { "config.json",           "tokenizer.json",
                                         "tokenizer_config.json", "generation_config.json",
                                         "chat_template.jinja",   "model.safetensors" };
    fj_err e = { 0 };
    const char *to = fj_test_path(name), *from = fj_test_path("hf");
    FJ_OK_OR_FAIL(fj_mkdirs(to, &e), e);
    for (size_t i = 0; i < FJ_LEN(files); i++) {
        char *a = fj_path_join(from, files[i]), *b = fj_path_join(to, files[i]);
        size_t n;
        char *bytes = fj_exists(a) ? fj_read_file(a, 1 << 28, &n, &e) : NULL;
        if (bytes) FJ_OK_OR_FAIL(fj_write_file(b, bytes, n, &e), e);
        free(bytes);
        free(a);
        free(b);
    }
    return to;
}

static void put(const char *dir, const char *name, const void *bytes, size_t n) {
    fj_err e = { 0 };
    char *path = fj_path_join(dir, name);
    FJ_OK_OR_FAIL(fj_write_file(path, bytes, n, &e), e);
    free(path);
}

/* Value `at` behind the header of model.safetensors becomes x. */
static void plant_weight(const char *dir, size_t at, float x) {
    fj_err e = { 0 };
    size_t n;
    uint64_t head;
    char *path = fj_path_join(dir, "model.safetensors");
    char *bytes = fj_read_file(path, 1 << 28, &n, &e);
    if (!bytes) fail_msg("%s", e.msg);
    memcpy(&head, bytes, 8);
    memcpy(bytes + 8 + head + at * sizeof x, &x, sizeof x);
    FJ_OK_OR_FAIL(fj_write_file(path, bytes, n, &e), e);
    free(bytes);
    free(path);
}

static json_t *json_of(const char *dir, const char *name) {
    fj_err e = { 0 };
    char *path = fj_path_join(dir, name);
    json_t *j = fj_json_file(path, 1 << 26, &e);
    if (!j) fail_msg("%s", e.msg);
    free(path);
    return j;
}

static void put_json(const char *dir, const char *name, json_t *j) {
    fj_err e = { 0 };
    char *path = fj_path_join(dir, name);
    FJ_OK_OR_FAIL(fj_json_save(path, j, &e), e);
    free(path);
    json_decref(j);
}

static fj_verified verify_on(int threads, const fj_verify_side *a, const fj_verify_side *b,
                             const fj_verify_opts *o) {
    fj_err e = { 0 };
    fj_dev *d = fj_test_dev(threads, false);
    fj_verified v;
    FJ_OK_OR_FAIL(fj_verify(d, a, b, o, NULL, &v, &e), e);
    fj_dev_close(d);
    return v;
}

/* On a few hundred positions, unless o says how many. */
static fj_verified verify(const char *a, const char *b, const fj_verify_opts *o) {
    fj_verify_opts few = *o;
    if (!few.positions) few.positions = 300;
    return verify_on(2, &(fj_verify_side){ .model = a }, &(fj_verify_side){ .model = b }, &few);
}

static void all_equal(const fj_verified *v) {
    assert_true(v->passed && v->lost == FJ_LOST_NOTHING && v->compared);
    assert_string_equal(v->why, "");
    assert_int_equal(v->text_equal, v->texts);
    assert_int_equal(v->ids_equal, v->rows);
    assert_int_equal(v->tokens_other, 0);
    assert_true(v->texts >= 10 && v->rows > v->texts && v->n.positions >= 300);
    assert_int_equal(v->n.agree, v->n.positions);
    assert_true(v->n.kl_max == 0 && v->n.kl_mean == 0 && v->n.logp_max == 0);
    assert_true(v->n.trained_perplexity == v->n.exported_perplexity);
    assert_true(v->n.learned > 100 && v->n.learned < v->n.positions);
}

static void test_nothing_is_lost(void **state) {
    (void)state;
    char hex[65];
    fj_err e = { 0 };
    fj_verify_opts o = { .kind = "Q8_0", .positions = 2000 }; /* logits wait in a file */
    fj_verified v = verify(base(), base(), &o);
    all_equal(&v);
    assert_true(v.n.positions > 1000);
    assert_true(v.own_texts && v.refused == 0);
    FJ_OK_OR_FAIL(fj_sha256_file(base(), hex, &e), e);
    assert_string_equal(v.trained.model_hash, hex);
    assert_string_equal(v.exported.model_hash, hex);
    fj_verified_free(&v);
    /* The same numbers in another kind of file. */
    v = verify(fj_test_path("hf"), fj_test_path("f32.gguf"), &(fj_verify_opts){ .kind = "F32" });
    all_equal(&v);
    assert_string_not_equal(v.trained.model_hash, v.exported.model_hash);
    assert_true(v.max_kl == 1e-4);
    fj_verified_free(&v);
}

/* Callback: the folder or file at ctx. */
typedef struct plain {
    const char *path;
    int asked;
} plain;
static bool give(void *ctx, fj_verify_side *side, fj_err *e) {
    (void)e;
    plain *p = ctx;
    p->asked++;
    side->model = p->path;
    return true;
}

static void test_one_weight(void **state) {
    (void)state;
    const char *hf = fj_test_path("hf"), *bad = copy("weight");
    plant_weight(bad, 12345, 40);
    fj_verify_opts o = { .kind = "F32" };
    fj_verified v = verify(hf, bad, &o);
    assert_true(!v.passed && v.lost == FJ_LOST_QUANTISE && v.n.kl_mean > 1e-6);
    assert_true(v.n.kl_max > v.n.kl_mean && v.n.worst_row >= 1 && v.n.logp_max > 0);
    assert_int_equal(v.ids_equal, v.rows);
    assert_non_null(strstr(v.why, "the limit of F32"));
    double kl = v.n.kl_mean;
    fj_verified_free(&v);
    /* It is there before quantising: merging lost it. */
    plain merged = { .path = bad };
    o.merged = give;
    o.ctx = &merged;
    v = verify(hf, bad, &o);
    assert_true(v.lost == FJ_LOST_MERGE && v.has_merged && v.m.kl_mean == v.n.kl_mean);
    fj_verified_free(&v);
    /* A limit above it: nothing is lost, and nobody asks for the merged model. */
    o.max_kl = 2 * kl;
    v = verify(hf, bad, &o);
    assert_true(v.passed && !v.has_merged && v.n.kl_mean == kl && merged.asked == 1);
    fj_verified_free(&v);
    /* Broken numbers are over every limit. */
    plant_weight(bad, 12345, NAN);
    o.max_kl = INFINITY;
    v = verify(hf, bad, &o);
    assert_true(!v.passed && isnan(v.n.kl_mean) && isnan(v.n.kl_max) && isnan(v.n.logp_max));
    fj_verified_free(&v);
}

static void test_quantised(void **state) {
    (void)state;
    plain merged = { .path = fj_test_path("f32.gguf") };
    fj_verify_opts o = { .kind = "Q4_0", .merged = give, .ctx = &merged };
    fj_verified v = verify(fj_test_path("hf"), fj_test_path("q4.gguf"), &o);
    assert_true(v.passed && v.n.kl_mean > 1e-2 && v.n.agree < v.n.positions && !merged.asked);
    double kl = v.n.kl_mean;
    fj_verified_free(&v);
    o.max_kl = kl / 2;
    v = verify(fj_test_path("hf"), fj_test_path("q4.gguf"), &o);
    assert_true(v.lost == FJ_LOST_QUANTISE && merged.asked == 1 && v.m.kl_mean == 0);
    assert_true(v.n.kl_mean == kl);
    fj_verified_free(&v);
}

static void test_template(void **state) {
    (void)state;
    static const char other[] =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    const char *hf = fj_test_path("hf"), *bad = copy("template");
    put(bad, "chat_template.jinja", other, sizeof other - 1);
    fj_verify_opts o = { .kind = "F32" };
    fj_verified v = verify(hf, bad, &o);
    assert_true(!v.passed && v.lost == FJ_LOST_TEMPLATE && v.text_equal == 0);
    assert_int_equal(v.ids_equal, v.rows - v.texts);
    assert_true(v.n.kl_mean == 0); /* of the ids of the trained side */
    assert_non_null(strstr(v.text_differs, "line 1, byte"));
    fj_verified_free(&v);
    o.allow_text = true;
    v = verify(hf, bad, &o);
    assert_true(v.passed && v.text_equal == 0);
    fj_verified_free(&v);
    /* The generation prompt alone is enough. */
    static const char prompt[] =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant{% endif %}";
    put(bad, "chat_template.jinja", prompt, sizeof prompt - 1);
    v = verify(hf, bad, &(fj_verify_opts){ .kind = "F32" });
    assert_true(v.lost == FJ_LOST_TEMPLATE && v.text_equal == 0);
    fj_verified_free(&v);
    /* One that refuses everything is another text, and its words are said. */
    static const char refuses[] = "{{ raise_exception('no such role here') }}";
    put(bad, "chat_template.jinja", refuses, sizeof refuses - 1);
    v = verify(hf, bad, &(fj_verify_opts){ .kind = "F32" });
    assert_true(v.lost == FJ_LOST_TEMPLATE && v.refused == 0);
    assert_non_null(strstr(v.why, "no such role here"));
    fj_verified_free(&v);
    /* On the trained side, too: then texts are what is left to compare. */
    v = verify(bad, bad, &(fj_verify_opts){ .kind = "F32" });
    assert_true(v.passed && v.refused == v.texts && v.n.positions > 100);
    fj_verified_free(&v);
    /* Trained with forja's own ChatML, exported with a template that spells it: the ids are the proof. */
    static const char chatml[] =
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
    put(bad, "chat_template.jinja", chatml, sizeof chatml - 1);
    v = verify_on(2, &(fj_verify_side){ .model = hf, .chat = "chatml" },
                  &(fj_verify_side){ .model = bad }, &(fj_verify_opts){ .kind = "F32" });
    assert_true(v.passed && v.text_equal == v.texts && v.texts > 10);
    fj_verified_free(&v);
    /* ChatML is not raw, although neither has a text of its own. */
    v = verify_on(2, &(fj_verify_side){ .model = hf, .chat = "chatml" },
                  &(fj_verify_side){ .model = hf, .chat = "raw" },
                  &(fj_verify_opts){ .kind = "F32" });
    assert_true(v.lost == FJ_LOST_TEMPLATE && v.text_equal == 0);
    fj_verified_free(&v);
}

static void test_tokenizer(void **state) {
    (void)state;
    const char *hf = fj_test_path("hf"), *bad = copy("merges");
    json_t *t = json_of(bad, "tokenizer.json");
    json_t *merges = json_object_get(json_object_get(t, "model"), "merges");
    assert_true(json_array_size(merges) > 100);
    json_array_remove(merges, 0);
    put_json(bad, "tokenizer.json", t);
    fj_verify_opts o = { .kind = "F32" };
    fj_verified v = verify(hf, bad, &o);
    assert_true(!v.passed && v.lost == FJ_LOST_TOKENIZER && v.text_equal == v.texts);
    assert_true(v.ids_equal < v.rows && v.n.kl_mean == 0);
    assert_non_null(strstr(v.ids_differ, "of the same text: trained"));
    fj_verified_free(&v);
    o.allow_ids = true;
    v = verify(hf, bad, &o);
    assert_true(v.passed && v.ids_equal < v.rows);
    fj_verified_free(&v);

    /* A token more that ends an answer. */
    bad = copy("ends");
    static const char ends[] = "{\"eos_token_id\": [300, 2]}";
    put(bad, "generation_config.json", ends, sizeof ends - 1);
    v = verify(hf, bad, &(fj_verify_opts){ .kind = "F32" });
    assert_true(v.lost == FJ_LOST_TOKENIZER && v.tokens_other >= 1 && v.ids_equal == v.rows);
    fj_verified_free(&v);
}

static void test_other_vocabulary(void **state) {
    (void)state;
    fj_verified v = verify(base(), fj_test_source("tests/golden/tiny-default"),
                           &(fj_verify_opts){ .kind = "F32", .allow_text = true });
    assert_true(!v.passed && !v.compared && v.lost == FJ_LOST_TOKENIZER);
    json_t *j = fj_verified_json(&v);
    assert_true(json_is_null(json_object_get(j, "numbers")));
    json_decref(j);
    fj_verified_free(&v);
}

/* ---- adapters ------------------------------------------------------------------------------------- */
static fj_lora *adapter(fj_model *m, double size) {
    fj_err e = { 0 };
    const char *all = "all-linear";
    fj_lora *l = fj_lora_new(
        m, &(fj_lora_opts){ .r = 4, .alpha = 8, .targets = &all, .n_targets = 1, .seed = 1 }, &e);
    if (!l) fail_msg("%s", e.msg);
    size_t n = l->bytes / sizeof(float);
    float *v = fj_alloc(l->bytes);
    for (size_t i = 0; i < n; i++)
        v[i] = (float)(((double)(fj_rng_at(7, i) >> 40) * 0x1p-24 - 0.5) * size);
    FJ_OK_OR_FAIL(m->dev->fn->upload(l->buf, 0, v, l->bytes, &e), e);
    fj_lora_changes(l);
    FJ_OK_OR_FAIL(fj_lora_ready(l, &e), e);
    free(v);
    return l;
}

static void test_adapters(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_dev *d = fj_test_dev(2, false);
    fj_model *m = model(d, base());
    fj_lora *l = adapter(m, 0.1);
    const char *to[] = { fj_test_path("peft"), fj_test_path("adapter.gguf") };
    FJ_OK_OR_FAIL(fj_lora_save_peft(l, to[0], &e), e);
    FJ_OK_OR_FAIL(fj_lora_save_gguf(l, to[1], &e), e);
    fj_verify_side trained = { .m = m, .lora = l };
    for (int i = 0; i < 2; i++) { /* an open side against files */
        fj_verified v;
        fj_verify_side exported = { .model = base(), .adapter = to[i] };
        FJ_OK_OR_FAIL(fj_verify(d, &trained, &exported,
                                &(fj_verify_opts){ .kind = "adapter", .positions = 300 }, NULL, &v,
                                &e),
                      e);
        assert_true(v.passed && v.n.logp_max <= 1e-6 && v.n.agree == v.n.positions);
        assert_true(strlen(v.exported.adapter_hash) == 64 && !*v.trained.adapter_hash);
        fj_verified_free(&v);
    }
    /* Against the base alone there is a difference: the adapter is computed with. */
    fj_verified v;
    FJ_OK_OR_FAIL(fj_verify(d, &trained, &(fj_verify_side){ .m = m },
                            &(fj_verify_opts){ .kind = "F32", .max_kl = 1e-4, .positions = 300 },
                            NULL, &v, &e),
                  e);
    assert_true(v.lost == FJ_LOST_MERGE && v.n.kl_mean > 1e-4 && v.n.base_kl == 0);
    fj_verified_free(&v);
    /* One that was written with other numbers. */
    fj_lora *other = adapter(m, 0.11);
    FJ_OK_OR_FAIL(fj_lora_save_peft(other, fj_test_path("other"), &e), e);
    FJ_OK_OR_FAIL(fj_verify(d, &trained,
                            &(fj_verify_side){ .model = base(), .adapter = fj_test_path("other") },
                            &(fj_verify_opts){ .kind = "adapter", .positions = 300 }, NULL, &v, &e),
                  e);
    assert_true(v.lost == FJ_LOST_ADAPTER && v.max_kl == 1e-6);
    fj_verified_free(&v);
    fj_lora_close(other);
    fj_lora_close(l);
    fj_model_close(m);
    fj_dev_close(d);
}

/* W + scale B A in every weight of the model in F32, saved as type. */
static void merge(const char *adapter, const char *path, const char *type) {
    fj_err e = { 0 };
    fj_dev *d = fj_test_dev(2, false);
    fj_model *m =
        fj_model_open(d, fj_test_path("hf"), &(fj_model_opts){ .trainable = true }, NULL, &e);
    if (!m) fail_msg("%s", e.msg);
    fj_lora *l = fj_lora_open(m, adapter, &e);
    if (!l) fail_msg("%s", e.msg);
    char *all = fj_alloc(l->bytes);
    FJ_OK_OR_FAIL(d->fn->download(l->buf, 0, all, l->bytes, &e), e);
    for (int i = 0; i < l->n_pairs; i++) {
        const fj_lora_pair *p = &l->pairs[i];
        const fj_weight *w = &m->w[p->w];
        const float *a = (float *)(all + p->a), *b = (float *)(all + p->b);
        size_t bytes = (size_t)(p->out * p->in) * sizeof(float);
        float *x = fj_alloc(bytes);
        FJ_OK_OR_FAIL(d->fn->download(m->buf, w->off, x, bytes, &e), e);
        for (int64_t r = 0; r < p->out; r++)
            for (int64_t k = 0; k < p->r; k++)
                for (int64_t c = 0; c < p->in; c++)
                    x[r * p->in + c] += (float)p->scale * b[r * p->r + k] * a[k * p->in + c];
        FJ_OK_OR_FAIL(d->fn->upload(m->buf, w->off, x, bytes, &e), e);
        free(x);
    }
    FJ_OK_OR_FAIL(fj_model_save_gguf(m, path, type, &e), e);
    free(all);
    fj_lora_close(l);
    fj_model_close(m);
    fj_dev_close(d);
}

/* A small adapter, whose absence no limit of the quantised types would see. */
static void test_merge(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_dev *d = fj_test_dev(2, false);
    fj_model *m = model(d, fj_test_path("hf"));
    fj_lora *l = adapter(m, 0.14);
    const char *peft = fj_test_path("small"), *f32 = fj_test_path("m32.gguf"),
               *q4 = fj_test_path("m4.gguf");
    FJ_OK_OR_FAIL(fj_lora_save_peft(l, peft, &e), e);
    fj_lora_close(l);
    fj_model_close(m);
    fj_dev_close(d);
    merge(peft, f32, "F32");
    merge(peft, q4, "Q4_0");
    fj_verify_side trained = { .model = fj_test_path("hf"), .adapter = peft };
    fj_verify_side whole = { .model = f32 }, quantised = { .model = q4 };
    fj_verify_opts o = { .kind = "F32", .positions = 600 };
    fj_verified v = verify_on(2, &trained, &whole, &o);
    double effect = v.n.base_kl;
    printf("effect %g, merged %g\n", effect, v.n.kl_mean);
    assert_true(v.passed && v.max_kl == 1e-4 && v.n.base_positions >= 500 && effect > 1e-2);
    fj_verified_free(&v);
    o.kind = "Q4_0";
    v = verify_on(2, &trained, &quantised, &o);
    assert_true(v.passed && v.n.base_kl > v.n.near_kl);
    fj_verified_free(&v);
    quantised.model = fj_test_path("q4.gguf"); /* nobody merged it */
    v = verify_on(2, &trained, &quantised, &o);
    printf("not merged: %g from the base, %g from the trained model\n", v.n.base_kl, v.n.near_kl);
    assert_true(v.n.kl_mean < v.max_kl && v.lost == FJ_LOST_MERGE);
    assert_non_null(strstr(v.why, "the adapter is not in it"));
    fj_verified_free(&v);
}

/* An adapter that peft trained, on both files of its base. */
static void test_adapter_of_peft(void **state) {
    (void)state;
    const char *hf = fj_test_shared("models/stories260K/hf");
    const char *gguf = fj_test_shared("models/stories260K/stories260K.gguf");
    if (!hf || !gguf) skip();
    fj_verify_side trained = { .model = hf,
                               .adapter = fj_test_source("tests/golden/stories260k/lora-final") };
    fj_err e = { 0 };
    fj_dev *d = fj_test_dev(2, false);
    fj_model *m = model(d, hf);
    fj_lora *l = fj_lora_open(m, trained.adapter, &e);
    if (!l) fail_msg("%s", e.msg);
    FJ_OK_OR_FAIL(fj_lora_save_peft(l, fj_test_path("s-peft"), &e), e);
    FJ_OK_OR_FAIL(fj_lora_save_gguf(l, fj_test_path("s.gguf"), &e), e);
    fj_lora_close(l);
    fj_model_close(m);
    fj_dev_close(d);
    const fj_verify_side to[] = { { .model = hf, .adapter = fj_test_path("s-peft") },
                                  { .model = hf, .adapter = fj_test_path("s.gguf") },
                                  { .model = gguf, .adapter = fj_test_path("s-peft") },
                                  { .model = gguf, .adapter = fj_test_path("s.gguf") } };
    for (size_t i = 0; i < FJ_LEN(to); i++) {
        fj_verified v = verify_on(2, &trained, &to[i],
                                  &(fj_verify_opts){ .kind = "adapter", .positions = 300 });
        assert_true(v.passed && v.n.logp_max <= 1e-6 && v.ids_equal == v.rows);
        fj_verified_free(&v);
    }
}

/* ---- the same whatever else ----------------------------------------------------------------------- */
static void test_threads(void **state) {
    (void)state;
    fj_verify_numbers first;
    for (int t = 1; t <= 3; t++) {
        fj_verify_side a = { .model = base() }, b = { .model = fj_test_path("q4.gguf") };
        fj_verified v = verify_on(t, &a, &b, &(fj_verify_opts){ .kind = "Q4_0", .positions = 200 });
        assert_int_equal(v.n.positions, 200);
        if (t == 1) first = v.n;
        assert_memory_equal(&v.n, &first, sizeof first);
        fj_verified_free(&v);
    }
}

/* Rows cut in pieces of 16 positions have the logits of whole rows. */
static void test_pieces(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_dev *d = fj_test_dev(2, false);
    fj_model *m = model(d, base());
    fj_verify_opts o = { .positions = 300 };
    fj_dataset rows;
    fj_spelling s;
    FJ_OK_OR_FAIL(fj_verify_rows(&rows, &o, NULL, &e), e);
    FJ_OK_OR_FAIL(fj_verify_spell(&s, m, NULL, &rows, &o, 1, &e), e);
    fj_pieces whole = { 0 }, small = { .room = 16 };
    fj_verify_cut(&whole, &s, m, &o);
    fj_verify_cut(&small, &s, m, &o);
    assert_true(small.n > whole.n && small.positions == 300 && whole.positions == 300);
    fj_kept k;
    assert_int_equal(fj_verify_first(&small, 100).positions,
                     small.p[fj_verify_first(&small, 100).n].at);
    fj_verify_numbers n;
    FJ_OK_OR_FAIL(fj_kept_open(&k, &whole, NULL, &e), e);
    FJ_OK_OR_FAIL(fj_verify_keep(&k, &whole, m, NULL, "", NULL, &e), e);
    FJ_OK_OR_FAIL(fj_verify_against(&k, &small, m, NULL, "", NULL, &n, &e), e);
    assert_true(n.positions == 300 && n.agree == 300 && n.logp_max == 0 && n.kl_max == 0);
    fj_kept_close(&k);
    free(whole.p);
    free(small.p);
    fj_spelling_free(&s);
    fj_dataset_free(&rows);
    fj_model_close(m);
    fj_dev_close(d);
}

static void test_data_and_errors(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_dev *d = fj_test_dev(2, false);
    fj_verify_side a = { .model = base() };
    fj_str s = { 0 };
    for (int i = 0; i < 40; i++)
        fj_str_addf(&s, "{\"prompt\": \"%d\", \"completion\": \"yes %d\"}\n", i, i);
    put(fj_test_dir(), "rows.jsonl", s.s, s.n);
    fj_str_free(&s);
    const char *rows = fj_test_path("rows.jsonl");
    fj_verified v;
    fj_verify_opts o = { .kind = "Q8_0", .data = &rows, .n_data = 1, .max_rows = 20 };
    FJ_OK_OR_FAIL(fj_verify(d, &a, &a, &o, NULL, &v, &e), e);
    assert_true(v.passed && v.rows == 20 && v.texts == 20 && !v.own_texts);
    assert_string_equal(v.data, rows);

    /* What is shown is what was measured. */
    fj_verified_text(&v, &s);
    assert_non_null(strstr(s.s, "20 of 20 conversations equal"));
    assert_non_null(strstr(s.s, "mean 0 nats (limit 0.005, Q8_0)"));
    assert_non_null(strstr(s.s, "passed"));
    fj_str_free(&s);
    json_t *j = fj_verified_json(&v), *n = json_object_get(j, "numbers");
    assert_true(json_is_true(json_object_get(j, "passed")));
    assert_string_equal(json_string_value(json_object_get(j, "lost")), "nothing");
    assert_int_equal(json_integer_value(json_object_get(n, "positions")), v.n.positions);
    assert_true(json_real_value(json_object_get(n, "agreement")) == 1);
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(j, "trained"), "model_sha256")),
        v.trained.model_hash);
    json_decref(j);
    fj_verified_free(&v);

    /* A book is rows from all of it, none of which begins within a character. */
    for (int i = 0; i < 3000; i++) fj_str_addf(&s, "linha %d é ção…\n", i);
    put(fj_test_dir(), "book.txt", s.s, s.n);
    const char *book = fj_test_path("book.txt");
    o.data = &book;
    fj_dataset rd;
    FJ_OK_OR_FAIL(fj_verify_rows(&rd, &o, NULL, &e), e);
    assert_int_equal(rd.n, 20);
    const char *text = rd.rows[0].text;
    for (size_t i = 0; i < rd.n; i++) {
        const fj_data_row *r = &rd.rows[i];
        assert_true(r->text_n >= 900 && r->text_n <= 1100);
        assert_true(((unsigned char)r->text[0] & 0xc0) != 0x80);
        assert_true(i == 0 || r->line > rd.rows[i - 1].line);
    }
    assert_true(rd.rows[19].text - text > (ptrdiff_t)(s.n * 9 / 10));
    fj_dataset_free(&rd);
    o.max_rows = 1000; /* all of it, in one piece after the other */
    FJ_OK_OR_FAIL(fj_verify_rows(&rd, &o, NULL, &e), e);
    size_t bytes = 0;
    for (size_t i = 0; i < rd.n; i++) {
        assert_memory_equal(rd.rows[i].text, s.s + bytes, rd.rows[i].text_n);
        bytes += rd.rows[i].text_n;
    }
    assert_int_equal(bytes, s.n - (rd.rows[0].text[bytes] == '\n'));
    fj_dataset_free(&rd);
    fj_str_free(&s);

    o = (fj_verify_opts){ .kind = "F32", .chat_kwargs = "[1]" };
    FJ_FAILS_WITH(fj_verify(d, &a, &a, &o, NULL, &v, &e), e, "expected a JSON object");
    fj_verified_free(&v);
    FJ_FAILS_WITH(fj_verify(d, &a, &a, &(fj_verify_opts){ .kind = "Q9" }, NULL, &v, &e), e,
                  "\"Q9\" is no kind of export");
    fj_verified_free(&v);
    FJ_FAILS_WITH(fj_verify(d, &a, &(fj_verify_side){ .model = "/nowhere" },
                            &(fj_verify_opts){ .kind = "F32" }, NULL, &v, &e),
                  e, "/nowhere");
    fj_verified_free(&v);
    FJ_FAILS_WITH(fj_verify(d, &a, &a,
                            &(fj_verify_opts){ .kind = "F32", .scratch = fj_test_path("none") },
                            NULL, &v, &e),
                  e, "bytes of logits");
    fj_verified_free(&v);
    fj_dev_close(d);
}

static void test_limits(void **state) {
    (void)state;
    assert_true(fj_verify_limit("q4_k_m") == fj_verify_limit("Q4_K"));
    assert_true(fj_verify_limit("Q4_0") > fj_verify_limit("Q4_K_S"));
    assert_true(fj_verify_limit("adapter") > 0 && fj_verify_limit("gguf-adapter") > 0);
    assert_true(fj_verify_limit("") == 0 && fj_verify_limit(NULL) == 0);
    assert_true(fj_verify_limit("Q") == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nothing_is_lost), cmocka_unit_test(test_one_weight),
        cmocka_unit_test(test_quantised),       cmocka_unit_test(test_template),
        cmocka_unit_test(test_tokenizer),       cmocka_unit_test(test_other_vocabulary),
        cmocka_unit_test(test_adapters),        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_adapter_of_peft), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_pieces),          cmocka_unit_test(test_data_and_errors),
        cmocka_unit_test(test_limits),
    };
    return cmocka_run_group_tests(tests, prepare, NULL);
}
