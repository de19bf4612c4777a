/* test_save.c - models written elsewhere: from their files as from memory, with an adapter merged, in several
 * tries; over every architecture of golden/archs. */
#include "golden_archs.h"
#include "models/save.h"
#include "test_device.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static fj_dev *cpu(int threads) {
    fj_err e;
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .threads = threads, .f32 = true }, &e);
    if (!d) fail_msg("%s", e.msg);
    return d;
}

static bool same_file(const char *a, const char *b) {
    fj_mapped x, y;
    fj_err e;
    FJ_OK_OR_FAIL(fj_map_file(a, &x, &e) && fj_map_file(b, &y, &e), e);
    bool same = x.n == y.n && !memcmp(x.p, y.p, x.n);
    fj_unmap_file(&x);
    fj_unmap_file(&y);
    return same;
}

/* In a folder of golden/archs. */
static void each_arch(void (*f)(const char *name, const char *folder)) {
    const char *names[64];
    size_t n = archs_list(names, FJ_LEN(names));
    assert_true(n > 10);
    for (size_t i = 0; i < n; i++) f(names[i], archs_path(names[i], ""));
}

/* GGUF cannot say everything about these. */
static bool no_gguf(const char *name) {
    static const char *const list[] = { "qwen3-moe-mixed", "smollm3-pattern", "gpt-oss" };
    for (size_t i = 0; i < FJ_LEN(list); i++)
        if (!strncmp(name, list[i], strlen(list[i]))) return true;
    return false;
}

static void listed_as_loaded(const char *name, const char *folder) {
    static const char *const types[] = { "F32", "BF16", "Q8_0" };
    fj_dev *d = cpu(2);
    fj_err e = { 0 };
    fj_model *m = fj_model_open(d, folder, NULL, NULL, &e), *l = fj_model_listed(d, folder, &e);
    if (!m || !l) fail_msg("%s: %s", name, e.msg);
    for (size_t t = 0; t < FJ_LEN(types) && !no_gguf(name); t++) {
        const char *a = fj_test_path("a.gguf"), *b = fj_test_path("b.gguf");
        FJ_OK_OR_FAIL(
            fj_model_save_gguf(m, a, types[t], &e) && fj_model_save_gguf(l, b, types[t], &e), e);
        if (!same_file(a, b)) fail_msg("%s as %s: other bytes without loading", name, types[t]);
        /* And back from that file, which says all its metadata itself. */
        fj_model *again = fj_model_listed(d, a, &e);
        if (!again) fail_msg("%s: %s", name, e.msg);
        FJ_OK_OR_FAIL(fj_model_save_gguf(again, b, types[t], &e), e);
        if (!same_file(a, b))
            fail_msg("%s as %s: a file is not written as it was read", name, types[t]);
        fj_model_close(again);
        if (t > 0) continue; /* 16-bit vectors keep their format when it is known */
        FJ_OK_OR_FAIL(fj_model_save_hf(m, fj_test_path("x"), types[t], &e) &&
                          fj_model_save_hf(l, fj_test_path("y"), types[t], &e),
                      e);
        if (!same_file(fj_test_path("x/model.safetensors"), fj_test_path("y/model.safetensors")))
            fail_msg("%s as %s: another folder without loading", name, types[t]);
    }
    fj_model_close(l);
    fj_model_close(m);
    fj_dev_close(d);
}

static void test_without_loading(void **state) {
    (void)state;
    each_arch(listed_as_loaded);
}

/* An adapter over all linear layers whose B is not zero. */
static fj_lora *some_lora(fj_model *m, fj_err *e) {
    static const char *const all[] = { "all-linear" };
    fj_lora *l = fj_lora_new(
        m, &(fj_lora_opts){ .r = 3, .alpha = 5, .targets = all, .n_targets = 1, .seed = 7 }, e);
    if (!l) return NULL;
    float *v = malloc(l->bytes);
    fj_rng r;
    fj_rng_seed(&r, 11);
    bool ok = m->dev->fn->download(l->buf, 0, v, l->bytes, e);
    for (int i = 0; i < l->n_pairs; i++) {
        float *b = v + l->pairs[i].b / sizeof *v;
        for (int64_t k = 0; k < l->pairs[i].out * l->pairs[i].r; k++)
            b[k] = (float)(0.1 * fj_rng_normal(&r));
    }
    ok = ok && m->dev->fn->upload(l->buf, 0, v, l->bytes, e);
    free(v);
    return ok ? l : NULL;
}

/* W + scale B A, plainly. */
static void merged_by_hand(const fj_model *m, const fj_lora *l, int at, float *out, fj_err *e) {
    const fj_weight *w = &m->w[at];
    const fj_lora_pair *p = fj_lora_find(l, at);
    FJ_OK_OR_FAIL(fj_weight_get(m, w, out, e), *e);
    if (!p) return;
    float *v = malloc(l->bytes);
    FJ_OK_OR_FAIL(m->dev->fn->download(l->buf, 0, v, l->bytes, e), *e);
    for (int64_t r = 0; r < p->out; r++)
        for (int64_t c = 0; c < p->in; c++) {
            double sum = 0;
            for (int64_t k = 0; k < p->r; k++)
                sum += (double)v[p->b / sizeof *v + (size_t)(r * p->r + k)] *
                       (double)v[p->a / sizeof *v +
                                 (size_t)((r / (p->out / p->mats) * p->r + k) * p->in + c)];
            out[r * p->in + c] = (float)((double)out[r * p->in + c] + p->scale * sum);
        }
    free(v);
}

static void merged(const char *name, const char *folder) {
    fj_dev *d = cpu(2);
    fj_err e = { 0 };
    fj_model *m = fj_model_open(d, folder, NULL, NULL, &e), *l = fj_model_listed(d, folder, &e);
    if (!m || !l) fail_msg("%s: %s", name, e.msg);
    fj_lora *lora = some_lora(m, &e), *same = lora ? some_lora(l, &e) : NULL;
    if (!same) fail_msg("%s: %s", name, e.msg);
    const char *out[2] = { fj_test_path("merged"), fj_test_path("merged.gguf") };
    fj_save_opts o = { .merge = same, .type = FJ_F32 };
    FJ_OK_OR_FAIL(fj_save_hf(l, out[0], &o, &e), e);
    if (!no_gguf(name)) FJ_OK_OR_FAIL(fj_save_gguf(l, out[1], &o, &e), e);
    for (int k = 0; k < (no_gguf(name) ? 1 : 2); k++) {
        fj_model *x = fj_model_open(d, out[k], NULL, NULL, &e);
        if (!x) fail_msg("%s: %s", name, e.msg);
        assert_int_equal(x->n_w, m->n_w);
        for (int i = 0; i < m->n_w; i++) {
            int64_t n = m->w[i].rows * m->w[i].cols;
            float *want = malloc((size_t)n * sizeof *want), *got = malloc((size_t)n * sizeof *got);
            merged_by_hand(m, lora, i, want, &e);
            FJ_OK_OR_FAIL(fj_weight_get(x, &x->w[i], got, &e), e);
            for (int64_t j = 0; j < n; j++)
                if (!(fabsf(want[j] - got[j]) <= 2e-6f))
                    fail_msg("%s: weight %d, value %lld is %g, not %g", name, i, (long long)j,
                             (double)got[j], (double)want[j]);
            free(want);
            free(got);
        }
        fj_model_close(x);
    }
    /* The same of a model in memory. */
    FJ_OK_OR_FAIL(fj_model_merge(m, lora, &e), e);
    for (int i = 0; i < m->n_w; i++) {
        int64_t n = m->w[i].rows * m->w[i].cols;
        float *want = malloc((size_t)n * sizeof *want), *got = malloc((size_t)n * sizeof *got);
        merged_by_hand(l, same, i, want, &e);
        FJ_OK_OR_FAIL(fj_weight_get(m, &m->w[i], got, &e), e);
        for (int64_t j = 0; j < n; j++)
            if (!(fabsf(want[j] - got[j]) <= 2e-6f))
                fail_msg("%s: weight %d in memory, value %lld is %g, not %g", name, i, (long long)j,
                         (double)got[j], (double)want[j]);
        free(want);
        free(got);
    }
    fj_lora_close(lora);
    fj_lora_close(same);
    fj_model_close(l);
    fj_model_close(m);
    fj_dev_close(d);
}

static void test_merged(void **state) {
    (void)state;
    each_arch(merged);
}

/* ---- in several tries ---------------------------------------------------------------------------- */
typedef struct tries {
    int left, wrote,
        measured; /* tensors before the stop; tensors told of; those with an error's size */
} tries;

static bool stop_after(void *ctx) {
    tries *t = ctx;
    return t->left-- <= 0;
}

static void told(void *ctx, const fj_saved *s) {
    tries *t = ctx;
    t->wrote++;
    t->measured += !isnan(s->rmse);
}

static void test_goes_on(void **state) {
    (void)state;
    const char *folder = archs_path("llama", "");
    fj_dev *d = cpu(1);
    fj_err e = { 0 };
    fj_model *m = fj_model_listed(d, folder, &e);
    if (!m) fail_msg("%s", e.msg);
    tries t = { 0 };
    fj_log log = { .ctx = &t, .should_stop = stop_after };
    fj_save_opts whole = { .type = FJ_Q8_0, .wrote = told, .ctx = &t },
                 part = { .type = FJ_Q8_0, .wrote = told, .ctx = &t, .key = "a", .log = &log };
    const char *a = fj_test_path("whole.gguf"), *b = fj_test_path("parts.gguf");
    FJ_OK_OR_FAIL(fj_save_gguf(m, a, &whole, &e), e);
    int all = t.wrote, measured = t.measured;
    assert_true(all > 10 && measured > 5);
    t = (tries){ .left = 7 };
    FJ_FAILS_WITH(fj_save_gguf(m, b, &part, &e), e, "goes on from there");
    assert_int_equal(e.code, FJ_ESTOP);
    assert_int_equal(t.wrote, 7);
    assert_false(fj_exists(b));
    assert_true(fj_exists(fj_test_path("parts.gguf.part")));
    /* Two at once are not let in. */
    uint64_t have;
    fj_out *other = fj_out_resume(b, "a", &have, &e);
    assert_non_null(other);
    assert_true(have > 1000);
    FJ_FAILS_WITH(fj_save_gguf(m, b, &part, &e), e, "by another process");
    fj_out_abort(other);
    /* The rest: those of before are told of without their errors. */
    t = (tries){ .left = 1000 };
    FJ_OK_OR_FAIL(fj_save_gguf(m, b, &part, &e), e);
    assert_int_equal(t.wrote, all);
    assert_true(t.measured < measured);
    assert_int_equal(1000 - t.left, all - 7);
    assert_true(same_file(a, b));
    assert_false(fj_exists(fj_test_path("parts.gguf.part")));
    assert_false(fj_exists(fj_test_path("parts.gguf.part.mark")));
    /* Another key: from the start. */
    t = (tries){ .left = 7 };
    FJ_FAILS_WITH(fj_save_gguf(m, b, &part, &e), e, "goes on from there");
    t = (tries){ .left = 1000 };
    part.key = "b";
    FJ_OK_OR_FAIL(fj_save_gguf(m, b, &part, &e), e);
    assert_int_equal(1000 - t.left, all);
    assert_true(same_file(a, b));
    fj_model_close(m);
    fj_dev_close(d);
}

static void test_shards_go_on(void **state) {
    (void)state;
    fj_dev *d = cpu(1);
    fj_err e = { 0 };
    fj_model *m = fj_model_listed(d, archs_path("qwen2", ""), &e);
    if (!m) fail_msg("%s", e.msg);
    tries t = { 0 };
    fj_log log = { .ctx = &t, .should_stop = stop_after };
    fj_save_opts o = { .type = FJ_F32, .max_bytes = 20000 };
    FJ_OK_OR_FAIL(fj_save_hf(m, fj_test_path("whole"), &o, &e), e);
    o.key = "k";
    o.log = &log;
    int rounds = 0;
    for (bool ok = false; !ok; rounds++) {
        t.left = 5;
        ok = fj_save_hf(m, fj_test_path("parts"), &o, &e);
        if (!ok) assert_int_equal(e.code, FJ_ESTOP);
        assert_true(rounds < 20);
    }
    assert_true(rounds > 2);
    fj_st *st = fj_st_open(fj_test_path("whole"), &e);
    if (!st) fail_msg("%s", e.msg);
    assert_true(st->n_files > 2);
    for (size_t i = 0; i < st->n_files; i++) {
        char rel[200];
        snprintf(rel, sizeof rel, "parts/%s", fj_base_name(st->files[i]));
        assert_true(same_file(st->files[i], fj_test_path(rel)));
    }
    fj_st_close(st);
    fj_model_close(m);
    fj_dev_close(d);
}

/* The same of a GGUF model in several files. */
static void test_splits_go_on(void **state) {
    (void)state;
    fj_dev *d = cpu(1);
    fj_err e = { 0 };
    fj_model *m = fj_model_listed(d, archs_path("qwen2", ""), &e);
    if (!m) fail_msg("%s", e.msg);
    tries t = { 0 };
    fj_log log = { .ctx = &t, .should_stop = stop_after };
    fj_save_opts o = { .type = FJ_F32, .max_bytes = 20000 };
    FJ_OK_OR_FAIL(fj_mkdirs(fj_test_path("s"), &e) && fj_mkdirs(fj_test_path("t"), &e) &&
                      fj_save_gguf(m, fj_test_path("s/x.gguf"), &o, &e),
                  e);
    o.key = "k";
    o.log = &log;
    int rounds = 0;
    for (bool ok = false; !ok; rounds++) {
        t.left = 5;
        ok = fj_save_gguf(m, fj_test_path("t/x.gguf"), &o, &e);
        if (!ok) assert_int_equal(e.code, FJ_ESTOP);
        assert_true(rounds < 20);
    }
    assert_true(rounds > 2);
    fj_model_close(m);
    fj_gguf *g = NULL;
    for (uint32_t count = 3; !g && count < 500; count++) {
        char *first = fj_gguf_part_path(fj_test_path("s/x.gguf"), 0, count);
        if (fj_exists(first)) g = fj_gguf_open(first, &e);
        free(first);
    }
    if (!g) fail_msg("no split file was written");
    for (size_t i = 0; i < g->n_files; i++) {
        char rel[200];
        snprintf(rel, sizeof rel, "t/%s", fj_base_name(g->files[i]));
        assert_true(same_file(g->files[i], fj_test_path(rel)));
    }
    fj_gguf_close(g);
    fj_dev_close(d);
}

/* ---- in a process of its own ---------------------------------------------------------------------- */
/* Runs f(ctx) in a child: its result, or 200 and more when it died. */
static int child(int (*f)(void *ctx), void *ctx) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) _exit(f(ctx));
    int status;
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 200 + WTERMSIG(status);
}

typedef struct to_save {
    const char *folder, *path;
    rlim_t limit;  /* of a file; 0: none */
    size_t own;    /* bytes that the process may add to its own memory; 0: any, here and below */
    long resident; /* KiB that may be added to what is resident, mapped files among them */
    fj_save_opts o;
} to_save;

/* The memory that this process has of its own may grow by so many bytes; past that allocations fail.  What
 * a system counts as resident says less: pages of a mapped file, in lots as large as it likes. */
static bool may_grow(size_t bytes) {
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    fj_err e = { 0 };
    size_t n;
    char *status = fj_read_file("/proc/self/status", 1 << 16, &n, &e);
    const char *at = status ? strstr(status, "VmData:") : NULL;
    unsigned long kib = at ? strtoul(at + 7, NULL, 10) : 0;
    free(status);
    rlim_t most = kib * (rlim_t)1024 + bytes;
    return kib && setrlimit(RLIMIT_DATA, &(struct rlimit){ most, most }) == 0;
#else
    return bytes > 0;
#endif
}

static int save_it(void *ctx) {
    const to_save *s = ctx;
    fj_err e = { 0 };
    struct rusage before, after;
    fj_dev *d = fj_dev_open(&(fj_dev_opts){ .threads = 2 }, &e);
    fj_model *m = d ? fj_model_listed(d, s->folder, &e) : NULL;
    if (!m) return 1;
    signal(SIGXFSZ, SIG_IGN);
    if (s->limit && setrlimit(RLIMIT_FSIZE, &(struct rlimit){ s->limit, s->limit }) != 0) return 2;
    getrusage(RUSAGE_SELF, &before);
    if (s->own && !may_grow(s->own)) return 4;
    bool ok = fj_save_gguf(m, s->path, &s->o, &e);
    getrusage(RUSAGE_SELF, &after);
    if (s->own && after.ru_maxrss - before.ru_maxrss > s->resident) {
        printf("grew by %ld KiB\n", after.ru_maxrss - before.ru_maxrss);
        fflush(stdout);
        return 3;
    }
    fj_model_close(m);
    fj_dev_close(d);
    return ok ? 0 : 10 + (int)e.code;
}

/* A disk that fills: the old file stays whole, and the new one goes on when there is room. */
static void test_full_disk(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *path = fj_test_path("full.gguf"), *whole = fj_test_path("room.gguf");
    to_save s = { archs_path("llama", ""), whole, 0, 0, 0, { .type = FJ_F32, .key = "k" } };
    assert_int_equal(child(save_it, &s), 0);
    FJ_OK_OR_FAIL(fj_write_file(path, "old", 3, &e), e);
    s.path = path;
    int64_t size = fj_file_size(whole);
    for (int part = 1; part < 4; part++) {
        s.limit = (rlim_t)(size * part / 4);
        assert_int_equal(child(save_it, &s), 10 + FJ_EIO);
        assert_int_equal(fj_file_size(path), 3);
    }
    s.limit = 0;
    assert_int_equal(child(save_it, &s), 0);
    assert_true(same_file(path, whole));
}

/* A folder of half a gigabyte (with holes), written in a few megabytes, its pages given back on the way. */
static void test_memory(void **state) {
    (void)state;
    enum { WIDTH = 2048, FFN = 8192, VOCAB = 32000 };
    const char *folder = fj_test_path("large");
    char cmd[2400];
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_mkdirs(folder, &e), e);
    snprintf(cmd, sizeof cmd, "cp '%s/tokenizer.json' '%s'", archs_path("llama", ""), folder);
    assert_int_equal(system(cmd), 0);
    json_t *c = json_load_file(archs_path("llama", "/config.json"), 0, NULL);
    json_object_set_new(c, "hidden_size", json_integer(WIDTH));
    json_object_set_new(c, "intermediate_size", json_integer(FFN));
    json_object_set_new(c, "vocab_size", json_integer(VOCAB));
    json_object_set_new(c, "head_dim", json_integer(WIDTH / 4));
    json_object_set_new(c, "num_hidden_layers", json_integer(4));
    assert_int_equal(json_dump_file(c, fj_test_path("large/config.json"), 0), 0);
    json_decref(c);
    static const struct {
        const char *name;
        int64_t rows, cols;
    } of_layer[] = {
        { "input_layernorm", 0, WIDTH },          { "post_attention_layernorm", 0, WIDTH },
        { "self_attn.q_proj", WIDTH, WIDTH },     { "self_attn.k_proj", WIDTH / 2, WIDTH },
        { "self_attn.v_proj", WIDTH / 2, WIDTH }, { "self_attn.o_proj", WIDTH, WIDTH },
        { "mlp.gate_proj", FFN, WIDTH },          { "mlp.up_proj", FFN, WIDTH },
        { "mlp.down_proj", WIDTH, FFN }
    };
    json_t *h = json_object();
    int64_t at = 0;
    for (int l = -1; l < 4; l++)
        for (size_t i = 0; i < (l < 0 ? 2 : FJ_LEN(of_layer)); i++) {
            char name[100];
            int64_t rows = l < 0 ? (i ? 0 : VOCAB) : of_layer[i].rows,
                    cols = l < 0 ? WIDTH : of_layer[i].cols, next = at + 2 * cols * FJ_MAX(rows, 1);
            if (l < 0) snprintf(name, sizeof name, "model.%s.weight", i ? "norm" : "embed_tokens");
            else snprintf(name, sizeof name, "model.layers.%d.%s.weight", l, of_layer[i].name);
            json_t *shape = json_array();
            if (rows) json_array_append_new(shape, json_integer(rows));
            json_array_append_new(shape, json_integer(cols));
            json_object_set_new(h, name,
                                json_pack("{s:s, s:o, s:[I, I]}", "dtype", "BF16", "shape", shape,
                                          "data_offsets", (json_int_t)at, (json_int_t)next));
            at = next;
        }
    char *text = json_dumps(h, JSON_COMPACT);
    json_decref(h);
    fj_str file = { 0 };
    size_t n = (strlen(text) + 7) / 8 * 8;
    for (int i = 0; i < 8; i++) fj_str_addc(&file, (char)(n >> 8 * i));
    fj_str_add(&file, text);
    while (file.n < n + 8) fj_str_addc(&file, ' ');
    const char *st = fj_test_path("large/model.safetensors");
    FJ_OK_OR_FAIL(fj_write_file(st, file.s, file.n, &e), e);
    assert_int_equal(truncate(st, (off_t)(file.n + (size_t)at)), 0);
    fj_str_free(&file);
    free(text);
    to_save s = { folder,    fj_test_path("large.gguf"),     0, 32 << 20,
                  256 << 10, { .type = FJ_Q8_0, .key = "k" } };
    assert_int_equal(child(save_it, &s), 0);
    assert_true(fj_file_size(s.path) > 200 << 20);
    unlink(s.path);
}

/* The stamp of a model's files says whether somebody wrote to them, not what is in them. */
static void test_stamp(void **state) {
    (void)state;
    fj_dev *d = cpu(1);
    fj_err e = { 0 };
    const char *path = fj_test_path("stamp.gguf");
    fj_model *m = fj_model_open(d, archs_path("llama", ""), NULL, NULL, &e);
    if (!m) fail_msg("%s", e.msg);
    FJ_OK_OR_FAIL(fj_model_save_gguf(m, path, "F16", &e), e);
    fj_model *x = fj_model_open(d, path, NULL, NULL, &e), *y = fj_model_listed(d, path, &e);
    if (!x || !y) fail_msg("%s", e.msg);
    char stamp[2][65], hash[2][65];
    FJ_OK_OR_FAIL(fj_model_stamp(x, stamp[0], &e) && fj_model_stamp(y, stamp[1], &e), e);
    assert_string_equal(stamp[0], stamp[1]);
    FJ_OK_OR_FAIL(fj_model_hash(x, hash[0], &e), e);
    assert_string_not_equal(stamp[0], hash[0]);
    FJ_OK_OR_FAIL(fj_model_save_gguf(m, path, "F16", &e), e); /* the same bytes in another file */
    FJ_OK_OR_FAIL(fj_model_stamp(x, stamp[1], &e) && fj_model_hash(x, hash[1], &e), e);
    assert_string_not_equal(stamp[0], stamp[1]);
    assert_string_equal(hash[0], hash[1]);
    fj_model_close(y);
    fj_model_close(x);
    fj_model_close(m);
    fj_dev_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_without_loading), cmocka_unit_test(test_merged),
        cmocka_unit_test(test_goes_on),         cmocka_unit_test(test_shards_go_on),
        cmocka_unit_test(test_splits_go_on),    cmocka_unit_test(test_stamp),
        cmocka_unit_test(test_full_disk),       cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
