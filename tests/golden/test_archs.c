/* Every architecture against transformers and peft: tiny random models of tests/golden/archs.
 *
 *     test_archs [CASE]          one case alone; also ONLY=CASE
 *     FORJA_RESULTS=FILE         "architecture case kind value" lines are added: the largest differences
 *     FORJA_KEEP=FOLDER          what is saved stays there: CASE-folder/, CASE-adapter/, CASE.gguf and,
 *                                with the config of gguf.json, CASE-standard.gguf
 *
 * Logits are compared absolutely, losses relatively, gradients relatively to their own norm. */
#include "golden_archs.h"

#include "engine/engine.h"

#define MOST 64 /* cases */

typedef struct kind {
    const char *name;
    void (*run)(const char *name);
} kind;

typedef struct job {
    const char *name;
    const kind *k;
    char title[96];
} job;

/* What forja cannot write, by case: the words of its refusal. */
typedef struct refusal {
    const char *name, *words;
} refusal;
static const refusal gguf_refused[] = {
    { "qwen3-moe-mixed", "GGUF has experts in every layer of qwen3moe" },
    { "smollm3-pattern", "GGUF cannot say which layers have no rotary positions" },
    { "gpt-oss", "GGUF cannot say that swiglu_limit is 1.5" },
    { "gpt-oss-mxfp4", "GGUF cannot say that swiglu_limit is 1.5" },
    { NULL, NULL },
};
static const refusal gguf_lora_refused[] = { { NULL, NULL } };

static const char *refused(const refusal *r, const char *name) {
    for (; r->name; r++)
        if (!strcmp(r->name, name)) return r->words;
    return NULL;
}

/* Prints, writes to FORJA_RESULTS, and fails above the limit. */
static void result(const fj_model *m, const char *name, const char *what, double value,
                   double limit) {
    printf("%-16s %-14s %.2g\n", name, what, value);
    const char *path = getenv("FORJA_RESULTS");
    if (path && *path) {
        FILE *f = fopen(path, "a");
        if (!f) fail_msg("%s: %s", path, strerror(errno));
        fprintf(f, "%s %s %s %.3g\n", m->arch->hf_type, name, what, value);
        fclose(f);
    }
    if (!(value <= limit)) fail_msg("%s: %s differ by %g, allowed %g", name, what, value, limit);
}

/* ---- logits ------------------------------------------------------------------------------------- */
/* The largest difference of the last rows of `ids_name` from `logits_name`. */
static double logits_apart(fj_model *m, const fj_lora *l, const fj_st *s, const char *ids_name,
                           const char *logits_name) {
    int64_t n, count;
    const int32_t *ids = golden_i32(s, ids_name, &n);
    const float *want = golden_f32(s, logits_name, &count);
    assert_int_equal(count % m->hp.vocab, 0);
    float *got = malloc((size_t)count * sizeof *got);
    golden_logits(m, l, ids, n, count / m->hp.vocab, got);
    double d = golden_apart(got, want, count);
    free(got);
    return d;
}

static void check_logits(fj_model *m, const char *name, const fj_st *s, const char *what) {
    double a = logits_apart(m, NULL, s, "long.ids", "long.logits");
    double b = logits_apart(m, NULL, s, "short.ids", "short.logits");
    result(m, name, what, isnan(a) || a > b ? a : b, GOLDEN_LOGITS);
}

static void run_logits(const char *name) {
    fj_st *s = archs_open(name);
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, archs_path(name, ""), false);
    check_logits(m, name, s, "logits");
    fj_model_close(m);
    fj_dev_close(d);
    fj_st_close(s);
}

/* A folder with the weights of `name` and another config.json: NAMEend; NULL: there is none. */
static const char *with_config(const char *name, const char *end) {
    const char *config = archs_path(name, end), *dir = fj_test_path("other");
    if (access(config, R_OK)) return NULL;
    fj_err e = { 0 };
    fj_remove_tree(dir, NULL);
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    const char *const files[][2] = {
        { config, "other/config.json" },
        { archs_path(name, "/tokenizer.json"), "other/tokenizer.json" },
        { archs_path(name, "/model.safetensors"), "other/model.safetensors" },
    };
    for (size_t i = 0; i < FJ_LEN(files); i++) {
        char *real = realpath(files[i][0], NULL);
        if (!real || symlink(real, fj_test_path(files[i][1])))
            fail_msg("%s: %s", files[i][0], strerror(errno));
        free(real);
    }
    return dir;
}

/* The same model under the other spelling of config.json: that of released checkpoints. */
static void run_hub(const char *name) {
    const char *dir = with_config(name, "/hub.json");
    if (!dir) skip();
    fj_st *s = archs_open(name);
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, dir, false);
    check_logits(m, name, s, "other config");
    fj_model_close(m);
    fj_dev_close(d);
    fj_st_close(s);
}

/* Where a file of the case goes: FORJA_KEEP, or a folder that goes away. */
static const char *keep(const char *name, const char *end) {
    char *path = fj_test_buf();
    const char *dir = getenv("FORJA_KEEP");
    snprintf(path, 1024, "%s/%s%s", dir && *dir ? dir : fj_test_dir(), name, end);
    return path;
}

static void run_folder(const char *name) {
    fj_err e = { 0 };
    fj_st *s = archs_open(name);
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, archs_path(name, ""), false);
    const char *dir = keep(name, "-folder");
    fj_remove_tree(dir, NULL);
    FJ_OK_OR_FAIL(fj_model_save_hf(m, dir, "F32", &e), e);
    fj_model_close(m);
    m = golden_model(d, dir, false);
    check_logits(m, name, s, "saved folder");
    fj_model_close(m);
    fj_dev_close(d);
    fj_st_close(s);
}

/* The model itself as GGUF, or why it cannot be one; then with gguf.json, where there is one, that is a
 * config after whose changes it can.  CASE.gguf, where it is beside the golden file (the interop ring
 * puts it there): the same model as another program writes it. */
static void run_gguf(const char *name) {
    fj_err e = { 0 };
    fj_st *s = archs_open(name);
    fj_dev *d = golden_dev();
    const char *words = refused(gguf_refused, name), *gguf = keep(name, ".gguf");
    fj_model *m = golden_model(d, archs_path(name, ""), false);
    if (words) FJ_FAILS_WITH(fj_model_save_gguf(m, gguf, "F32", &e), e, words);
    else FJ_OK_OR_FAIL(fj_model_save_gguf(m, gguf, "F32", &e), e);
    fj_model_close(m);
    if (!words) {
        m = golden_model(d, gguf, false);
        check_logits(m, name, s, "saved GGUF");
        fj_model_close(m);
    }
    const char *dir = with_config(name, "/gguf.json");
    if (dir) {
        gguf = keep(name, "-standard.gguf");
        m = golden_model(d, dir, false);
        FJ_OK_OR_FAIL(fj_model_save_gguf(m, gguf, "F32", &e), e);
        fj_model_close(m);
        m = golden_model(d, gguf, false);
        result(m, name, "standard GGUF", logits_apart(m, NULL, s, "long.ids", "gguf.logits"),
               GOLDEN_LOGITS);
        fj_model_close(m);
    }
    const char *peer = archs_path(name, ".gguf");
    if (!access(peer, R_OK)) {
        m = golden_model(d, peer, false);
        result(m, name, "GGUF of a peer",
               logits_apart(m, NULL, s, "long.ids", dir ? "gguf.logits" : "long.logits"),
               GOLDEN_LOGITS);
        fj_model_close(m);
    }
    fj_dev_close(d);
    fj_st_close(s);
}

/* ---- cached decode ------------------------------------------------------------------------------ */
static int32_t best(const float *x, int64_t n) {
    int64_t at = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[at]) at = i;
    return (int32_t)at;
}

/* A prompt in two pieces, then token by token: the ids of transformers, and the logits of every step
 * have the bits of one pass over the whole text. */
static void run_cached(const char *name) {
    fj_err e = { 0 };
    fj_st *s = archs_open(name);
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, archs_path(name, ""), false);
    int64_t n, steps, vocab = m->hp.vocab;
    const int32_t *prompt = golden_i32(s, "greedy.prompt", &n);
    const int32_t *want = golden_i32(s, "greedy.ids", &steps);
    int32_t *ids = malloc((size_t)(n + steps) * sizeof *ids);
    float *rows = malloc((size_t)(steps * vocab) * sizeof *rows),
          *whole = malloc((size_t)(steps * vocab) * sizeof *whole);
    memcpy(ids, prompt, (size_t)n * sizeof *ids);
    fj_engine *g = fj_engine_open(m, n + steps, &e);
    if (!g) fail_msg("%s", e.msg);
    fj_seq seq = { 0 };
    const float *logits;
    int64_t first = n - 7;
    fj_step_item item = { .seq = &seq, .ids = ids, .n = first, .want = 0 };
    FJ_OK_OR_FAIL(fj_engine_step(g, &item, 1, &logits, &e), e);
    item = (fj_step_item){ .seq = &seq, .ids = ids + first, .n = n - first, .want = 1 };
    for (int64_t k = 0; k < steps; k++) {
        FJ_OK_OR_FAIL(fj_engine_step(g, &item, 1, &logits, &e), e);
        memcpy(rows + k * vocab, logits, (size_t)vocab * sizeof *rows);
        ids[n + k] = best(logits, vocab);
        if (ids[n + k] != want[k])
            fail_msg("%s: greedy token %lld is %d, not %d", name, (long long)k, ids[n + k],
                     want[k]);
        item = (fj_step_item){ .seq = &seq, .ids = ids + n + k, .n = 1, .want = 1 };
    }
    golden_logits(m, NULL, ids, n + steps - 1, steps, whole);
    for (int64_t k = 0; k < steps; k++)
        if (memcmp(rows + k * vocab, whole + k * vocab, (size_t)vocab * sizeof *rows))
            fail_msg("%s: cached step %lld differs from the whole pass by %g", name, (long long)k,
                     golden_apart(rows + k * vocab, whole + k * vocab, vocab));
    result(m, name, "cached decode", golden_apart(rows, whole, steps * vocab), 0);
    fj_seq_free(g, &seq);
    fj_engine_close(g);
    free(ids);
    free(rows);
    free(whole);
    fj_model_close(m);
    fj_dev_close(d);
    fj_st_close(s);
}

/* ---- training ----------------------------------------------------------------------------------- */
/* Loss and gradients of all weights; the largest relative difference of any gradient. */
static double full_apart(golden_grads *t, const fj_st *s) {
    fj_err e = { 0 };
    const fj_model *m = t->m;
    double worst = 0;
    size_t off = 0;
    int found = 0;
    for (int i = 0; i < m->n_w; i++) {
        fj_arena a = { 0 };
        char name[256];
        snprintf(name, sizeof name, "grad/%s", fj_weight_name(&m->w[i], &a));
        fj_arena_free(&a);
        int64_t n = m->w[i].rows * m->w[i].cols;
        float *g = malloc((size_t)n * sizeof *g);
        FJ_OK_OR_FAIL(m->dev->fn->download(t->grads, off, g, (size_t)n * sizeof *g, &e), e);
        double d = archs_apart(s, name, g, n);
        if (!(d <= GOLDEN_GRADIENT)) printf("%s: off by %.3g of its norm\n", name, d);
        if (!(d <= worst)) worst = d;
        free(g);
        off += fj_param_bytes(m->w[i].rows, m->w[i].cols);
        found++;
    }
    assert_int_equal(found, archs_count(s, "grad/"));
    return worst;
}

static void run_full(const char *name) {
    fj_st *s = archs_open(name);
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, archs_path(name, ""), true);
    golden_grads t;
    golden_grads_init(&t, m, NULL);
    fj_batch b = { 0 };
    archs_batch(&b, s);
    double want = (double)golden_value(s, "loss");
    for (int recompute = 0; recompute <= m->hp.layers; recompute += (int)m->hp.layers) {
        double loss = (double)golden_backward_batch(&t, &b, recompute);
        result(m, name, recompute ? "loss again" : "loss", fabs(loss - want) / fabs(want),
               GOLDEN_LOSS);
        result(m, name, recompute ? "gradients again" : "gradients", full_apart(&t, s),
               GOLDEN_GRADIENT);
    }
    fj_batch_free(&b);
    golden_grads_free(&t);
    fj_model_close(m);
    fj_dev_close(d);
    fj_st_close(s);
}

/* The gradients as an adapter of their own, written as PEFT names and orders it; the adapter's values
 * are put back. */
static double lora_apart(golden_grads *t, const fj_st *s) {
    fj_err e = { 0 };
    const fj_dev_fns *fn = t->m->dev->fn;
    char *keep = malloc(t->grads->size), *g = malloc(t->grads->size);
    FJ_OK_OR_FAIL(fn->download(t->grads, 0, g, t->grads->size, &e), e);
    size_t off = 0;
    for (int i = 0; i < t->n_p; i++) {
        size_t n = (size_t)(t->p[i].rows * t->p[i].cols) * sizeof(float);
        FJ_OK_OR_FAIL(fn->download(t->p[i].buf, t->p[i].off, keep + off, n, &e), e);
        FJ_OK_OR_FAIL(fn->upload(t->p[i].buf, t->p[i].off, g + off, n, &e), e);
        off += fj_param_bytes(t->p[i].rows, t->p[i].cols);
    }
    const char *dir = fj_test_path("gradients");
    FJ_OK_OR_FAIL(fj_lora_save_peft(t->l, dir, &e), e);
    off = 0;
    for (int i = 0; i < t->n_p; i++) {
        size_t n = (size_t)(t->p[i].rows * t->p[i].cols) * sizeof(float);
        FJ_OK_OR_FAIL(fn->upload(t->p[i].buf, t->p[i].off, keep + off, n, &e), e);
        off += fj_param_bytes(t->p[i].rows, t->p[i].cols);
    }
    fj_st *ours = fj_st_open(fj_test_path("gradients/adapter_model.safetensors"), &e);
    if (!ours) fail_msg("%s", e.msg);
    assert_int_equal(ours->n_tensors, archs_count(s, "lora/"));
    double worst = 0;
    for (size_t i = 0; i < ours->n_tensors; i++) {
        char name[256];
        int64_t n;
        snprintf(name, sizeof name, "lora/%s", ours->tensors[i].name);
        const float *v = golden_f32(ours, ours->tensors[i].name, &n);
        double d = archs_apart(s, name, v, n);
        if (!(d <= GOLDEN_GRADIENT)) printf("%s: off by %.3g of its norm\n", name, d);
        if (!(d <= worst)) worst = d;
    }
    fj_st_close(ours);
    free(keep);
    free(g);
    return worst;
}

static void check_lora(fj_model *m, const char *name, const fj_st *s, const char *path,
                       const char *what) {
    fj_err e = { 0 };
    fj_lora *l = fj_lora_open(m, path, &e);
    if (!l) fail_msg("%s", e.msg);
    result(m, name, what, logits_apart(m, l, s, "long.ids", "lora.logits"), GOLDEN_LOGITS);
    fj_lora_close(l);
}

static void run_lora(const char *name) {
    fj_err e = { 0 };
    fj_st *s = archs_open(name);
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, archs_path(name, ""), false);
    check_lora(m, name, s, archs_path(name, "/lora"), "adapter logits");
    fj_lora *l = fj_lora_open(m, archs_path(name, "/lora"), &e);
    if (!l) fail_msg("%s", e.msg);
    golden_grads t;
    golden_grads_init(&t, m, l);
    fj_batch b = { 0 };
    archs_batch(&b, s);
    double want = (double)golden_value(s, "lora.loss");
    for (int recompute = 0; recompute <= m->hp.layers; recompute += (int)m->hp.layers) {
        double loss = (double)golden_backward_batch(&t, &b, recompute);
        result(m, name, recompute ? "adapter loss again" : "adapter loss",
               fabs(loss - want) / fabs(want), GOLDEN_LOSS);
        result(m, name, recompute ? "adapter gradients again" : "adapter gradients",
               lora_apart(&t, s), GOLDEN_GRADIENT);
    }
    fj_batch_free(&b);
    golden_grads_free(&t);

    const char *dir = keep(name, "-adapter"), *gguf = keep(name, "-adapter.gguf");
    FJ_OK_OR_FAIL(fj_lora_save_peft(l, dir, &e), e);
    const char *words = refused(gguf_lora_refused, name);
    if (words) FJ_FAILS_WITH(fj_lora_save_gguf(l, gguf, &e), e, words);
    else FJ_OK_OR_FAIL(fj_lora_save_gguf(l, gguf, &e), e);
    fj_lora_close(l);
    check_lora(m, name, s, dir, "adapter saved");
    if (!words) check_lora(m, name, s, gguf, "adapter GGUF");
    fj_model_close(m);
    fj_dev_close(d);
    fj_st_close(s);
}

/* ---- the comparisons must be able to fail ----------------------------------------------------------- */
/* The weights of one model with the logits of another; a gradient with its largest value of the wrong
 * sign, and with two values exchanged. */
static void test_sees_a_difference(void **state) {
    (void)state;
    fj_err e = { 0 };
    fj_st *s = archs_open("llama"), *other = archs_open("mistral");
    fj_dev *d = golden_dev();
    fj_model *m = golden_model(d, archs_path("llama", ""), true);
    assert_true(logits_apart(m, NULL, other, "long.ids", "long.logits") > 100 * GOLDEN_LOGITS);
    golden_grads t;
    golden_grads_init(&t, m, NULL);
    fj_batch b = { 0 };
    archs_batch(&b, s);
    golden_backward_batch(&t, &b, 0);
    const char *name = "grad/model.embed_tokens.weight";
    int64_t n = m->hp.vocab * m->hp.width, big = 0, other_place = 0;
    float *g = malloc((size_t)n * sizeof *g);
    size_t off = 0;
    for (int i = 0; i < m->n_w && m->w[i].row != &m->arch->weights[FJ_W_EMBED]; i++)
        off += fj_param_bytes(m->w[i].rows, m->w[i].cols);
    FJ_OK_OR_FAIL(d->fn->download(t.grads, off, g, (size_t)n * sizeof *g, &e), e);
    assert_true(archs_apart(s, name, g, n) <= GOLDEN_GRADIENT);
    for (int64_t i = 0; i < n; i++)
        if (fabsf(g[i]) > fabsf(g[big])) big = i;
    g[big] = -g[big];
    assert_true(archs_apart(s, name, g, n) > 10 * GOLDEN_GRADIENT);
    g[big] = -g[big];
    /* Two values exchanged show where the signs of a projection are different for them. */
    while (other_place < n - 1 && (fj_rng_at(GOLDEN_SIGNS, (uint64_t)other_place) >> 60 ==
                                       fj_rng_at(GOLDEN_SIGNS, (uint64_t)big) >> 60 ||
                                   fabsf(g[other_place] - g[big]) < fabsf(g[big]) / 2))
        other_place++;
    assert_true(other_place < n - 1);
    float keep = g[big];
    g[big] = g[other_place];
    g[other_place] = keep;
    assert_true(archs_apart(s, name, g, n) > 10 * GOLDEN_GRADIENT);
    g[big] = NAN;
    assert_false(archs_apart(s, name, g, n) <= GOLDEN_GRADIENT);
    free(g);
    fj_batch_free(&b);
    golden_grads_free(&t);
    fj_model_close(m);
    fj_dev_close(d);
    fj_st_close(s);
    fj_st_close(other);
}

static const kind kinds[] = {
    { "logits", run_logits }, { "other config", run_hub }, { "cached decode", run_cached },
    { "folder", run_folder }, { "GGUF", run_gguf },        { "gradients", run_full },
    { "adapter", run_lora },
};

static void run_job(void **state) {
    const job *j = *state;
    j->k->run(j->name);
}

int main(int argc, char **argv) {
    const char *only = argc > 1 ? argv[1] : getenv("ONLY"), *names[MOST];
    size_t n_names = archs_list(names, MOST), n = 0;
    static job jobs[MOST * FJ_LEN(kinds)];
    struct CMUnitTest tests[MOST * FJ_LEN(kinds) + 1];
    for (size_t i = 0; i < n_names; i++)
        for (size_t k = 0; k < FJ_LEN(kinds); k++) {
            if (only && *only && strcmp(only, names[i]) != 0) continue;
            job *j = &jobs[n];
            *j = (job){ .name = names[i], .k = &kinds[k] };
            snprintf(j->title, sizeof j->title, "%s: %s", names[i], kinds[k].name);
            tests[n++] = (struct CMUnitTest){ j->title, run_job, NULL, NULL, j };
        }
    if (!n) {
        fprintf(stderr, "no case %s in %s\n", only ? only : "", golden_path("archs/list.txt"));
        return 1;
    }
    if (!only || !*only) tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_sees_a_difference);
    return _cmocka_run_group_tests("archs", tests, n, NULL, NULL);
}
