/* load.c - a model from its files into device memory.
 *
 * Two passes: sizes first, so that memory is asked for once and its lack is told before any work; then
 * every weight is checked, brought into HF row order, converted where needed and packed by the team. */
#include "base/fs.h"
#include "models/source.h"
#include "models/templates.h"
#include "ops/gemm.h"

#include <math.h>
#include <stdio.h>

enum { ALIGN = 64 };

const fj_weight *fj_model_weight(const fj_model *m, int id, int layer) {
    int i = m->index[(int64_t)id * (m->hp.layers + 1) + layer + 1];
    return i < 0 ? NULL : &m->w[i];
}

char *fj_weight_name(const fj_weight *w, bool gguf, fj_arena *a) {
    fj_str s = { 0 };
    for (const char *p = gguf ? w->row->gguf : w->row->hf; *p; p++) {
        if (p[0] == '%' && p[1] == 'd') {
            fj_str_addf(&s, "%d", w->layer);
            p++;
        } else {
            fj_str_addc(&s, *p);
        }
    }
    char *name = fj_arena_strdup(a, s.s);
    fj_str_free(&s);
    return name;
}

/* GGUF row 2i + j of a head is HF row j * hd/2 + i (llama.cpp convert_hf_to_gguf.py, permute). */
int64_t fj_gguf_row(const fj_model *m, const fj_weight *w, int64_t hf_row) {
    if (!w->row->gguf_pairs) return hf_row;
    int64_t hd = m->hp.head_dim, head = hf_row / hd, r = hf_row % hd;
    return head * hd + r % (hd / 2) * 2 + r / (hd / 2);
}

static bool per_layer(const fj_weight_row *r) { return strstr(r->hf, "%d") != NULL; }

/* What a weight becomes in memory. */
static void choose(const fj_model *m, fj_weight *w, fj_dtype source) {
    bool matrix = w->row->rows != FJ_ONE;
    /* The tied table is the head as well. */
    bool head = w->row == &m->arch->weights[m->arch->embed] && m->hp.tied;
    w->dtype = matrix && !m->trainable && source != FJ_F64 ? source : FJ_F32;
    w->panels = matrix && !m->trainable && (w->row->linear || head) && m->dev->kern &&
                fj_wmat_packed_bytes(w->dtype, w->rows, w->cols) >= 0;
}

static int64_t bytes_of(const fj_weight *w) {
    return w->panels ? fj_wmat_packed_bytes(w->dtype, w->rows, w->cols)
                     : fj_dtype_size(w->dtype, w->rows, w->cols);
}

typedef struct pack_job {
    const fj_kern *kern;
    const fj_weight *w;
    const void *rows;
    void *panels;
} pack_job;

static void pack_fn(void *ctx, int i, int n) {
    const pack_job *j = ctx;
    fj_wmat_pack(j->kern, j->w->dtype, j->w->rows, j->w->cols, j->rows, j->panels, i, n);
}

/* Rows of the file in HF order and in w's dtype; returns t->data itself when nothing has to change, else
 * *tmp, grown as needed. */
static const void *rows_of(const fj_model *m, const fj_weight *w, const fj_source *s,
                           const fj_source_tensor *t, uint8_t **tmp, size_t *cap) {
    bool move = s->gguf && w->row->gguf_pairs;
    if (!move && t->dtype == w->dtype) return t->data;
    int64_t vector = w->row->rows == FJ_ONE, n = vector ? w->cols : w->rows,
            k = vector ? 1 : w->cols;
    size_t from = (size_t)fj_dtype_size(t->dtype, 1, k), to = (size_t)fj_dtype_size(w->dtype, 1, k);
    FJ_GROW(*tmp, (size_t)n * to + (size_t)k * 4, *cap);
    float *wide = (float *)(void *)(*tmp + (size_t)n * to);
    for (int64_t r = 0; r < n; r++) {
        const uint8_t *src = t->data + (size_t)(move ? fj_gguf_row(m, w, r) : r) * from;
        uint8_t *dst = *tmp + (size_t)r * to;
        if (t->dtype == w->dtype) memcpy(dst, src, from);
        else if (w->dtype == FJ_F32) fj_dequant_row(t->dtype, src, (float *)(void *)dst, k);
        else {
            fj_dequant_row(t->dtype, src, wide, k);
            fj_quant_row(w->dtype, wide, dst, k);
        }
    }
    return *tmp;
}

bool fj_weight_put(fj_model *m, const fj_weight *w, const void *rows, fj_err *e) {
    if (!w->panels)
        return m->dev->fn->upload(m->buf, w->off, rows,
                                  (size_t)fj_dtype_size(w->dtype, w->rows, w->cols), e);
    pack_job j = { m->dev->kern, w, rows, (char *)m->buf->ptr + w->off };
    fj_dev_team_run(m->dev, pack_fn, &j);
    return true;
}

/* The tensor of w in the file, checked against the hyper-parameters; its format is *type. */
static bool look_up(const fj_model *m, const fj_weight *w, const fj_source *s, fj_dtype *type,
                    fj_err *e) {
    fj_arena names = { 0 };
    const char *name = fj_weight_name(w, s->gguf, &names);
    fj_source_tensor t;
    bool ok = fj_source_tensor_get(s, name, &t, e);
    if (ok && (t.rows != w->rows || t.cols != w->cols))
        ok = fj_fail(e, FJ_EFORMAT,
                     "%s: tensor %s is %lld x %lld, the hyper-parameters say %lld x %lld", m->path,
                     name, (long long)t.rows, (long long)t.cols, (long long)w->rows,
                     (long long)w->cols);
    if (ok && t.dtype == FJ_I32)
        ok = fj_fail(e, FJ_EFORMAT, "%s: tensor %s holds whole numbers", m->path, name);
    if (ok) *type = t.dtype;
    fj_arena_free(&names);
    return ok;
}

bool fj_model_list(fj_model *m, const fj_source *s, fj_dtype type, fj_err *e) {
    const fj_arch *a = m->arch;
    int64_t slots = (int64_t)a->n_weights * (m->hp.layers + 1);
    m->index = fj_arena_alloc(&m->arena, (size_t)slots * sizeof *m->index);
    m->w = fj_arena_alloc(&m->arena, (size_t)slots * sizeof *m->w);
    size_t total = 0;
    for (int64_t i = 0; i < slots; i++) m->index[i] = -1;
    for (int l = -1; l < (int)m->hp.layers; l++)
        for (int id = 0; id < a->n_weights; id++) {
            const fj_weight_row *r = &a->weights[id];
            if (per_layer(r) != (l >= 0) || !fj_weight_there(&m->hp, r)) continue;
            fj_weight *w = &m->w[m->n_w];
            *w = (fj_weight){ .row = r,
                              .layer = l,
                              .rows = fj_size_of(&m->hp, r->rows),
                              .cols = fj_size_of(&m->hp, r->cols),
                              .off = total };
            if (s && !look_up(m, w, s, &type, e)) return false;
            choose(m, w, type);
            int64_t bytes = bytes_of(w);
            if (bytes < 0 ||
                __builtin_add_overflow(total, ((size_t)bytes + ALIGN - 1) / ALIGN * ALIGN, &total))
                return fj_fail(e, FJ_EFORMAT, "%s: tensor %s, %lld x %lld of %s, has no size",
                               m->path, fj_weight_name(w, s && s->gguf, &m->arena),
                               (long long)w->rows, (long long)w->cols,
                               fj_dtype_get(w->dtype)->name);
            m->index[(int64_t)id * (m->hp.layers + 1) + l + 1] = m->n_w++;
        }
    m->buf = m->dev->fn->alloc(m->dev, total, "the weights", e);
    return m->buf != NULL;
}

/* A tensor of a layer that no row knows would change the mathematics: refuse it by name. */
static bool no_strangers(const fj_model *m, const fj_source *s, fj_err *e) {
    fj_map known = { 0 };
    for (int i = 0; i < m->n_w; i++) {
        const char *name = fj_weight_name(&m->w[i], s->gguf, &known.keys);
        fj_map_put(&known, name, strlen(name), NULL);
    }
    bool ok = true;
    size_t n = s->gguf ? s->gguf->n_tensors : s->st->n_tensors;
    for (size_t i = 0; i < n && ok; i++) {
        const char *name = s->gguf ? s->gguf->tensors[i].name : s->st->tensors[i].name;
        /* Tables derived from other values; a tied head stored once more. */
        if (fj_map_get(&known, name, strlen(name)) || strstr(name, "rotary_emb.inv_freq") ||
            !strcmp(name, "rope_freqs.weight") || (m->hp.tied && !strcmp(name, "lm_head.weight")))
            continue;
        ok = fj_fail(e, FJ_EUNSUP, "%s: tensor %s is not part of %s, so the model is refused",
                     s->path, name, m->arch->name);
    }
    fj_map_free(&known);
    return ok;
}

static bool fill(fj_model *m, const fj_source *s, const fj_log *log, fj_err *e) {
    uint8_t *tmp = NULL;
    size_t cap = 0;
    bool ok = true;
    for (int i = 0; i < m->n_w && ok; i++) {
        fj_source_tensor t;
        fj_arena names = { 0 };
        ok = fj_source_tensor_get(s, fj_weight_name(&m->w[i], s->gguf, &names), &t, e) &&
             fj_weight_put(m, &m->w[i], rows_of(m, &m->w[i], s, &t, &tmp, &cap), e);
        fj_arena_free(&names);
        fj_log_progress(log, &(fj_progress){ .what = "load",
                                             .done = i + 1,
                                             .total = m->n_w,
                                             .unit = "tensor",
                                             .loss = NAN,
                                             .eta_s = -1 });
    }
    free(tmp);
    return ok;
}

bool fj_model_summarize(fj_model *m) {
    int64_t count[FJ_DTYPES] = { 0 };
    for (int i = 0; i < m->n_w; i++) {
        m->params += m->w[i].rows * m->w[i].cols;
        count[m->w[i].dtype]++;
    }
    fj_str s = { 0 };
    for (int t = 0; t < FJ_DTYPES; t++)
        if (count[t])
            fj_str_addf(&s, "%s%s x %lld", s.n ? ", " : "", fj_dtype_get((fj_dtype)t)->name,
                        (long long)count[t]);
    m->formats = fj_arena_strdup(&m->arena, s.s);
    fj_str_free(&s);
    return true;
}

static bool rope_factors(fj_model *m, const fj_source *s, fj_err *e) {
    if (!s->gguf || !fj_source_has(s, "rope_freqs.weight")) return true;
    fj_source_tensor t;
    if (!fj_source_tensor_get(s, "rope_freqs.weight", &t, e)) return false;
    if (t.dtype != FJ_F32 || t.rows != 1 || t.cols != m->hp.head_dim / 2)
        return fj_fail(e, FJ_EFORMAT, "%s: rope_freqs.weight is not %lld values of F32", s->path,
                       (long long)m->hp.head_dim / 2);
    float *f = fj_arena_alloc(&m->arena, (size_t)t.cols * sizeof *f);
    memcpy(f, t.data, (size_t)t.cols * sizeof *f);
    for (int64_t i = 0; i < t.cols; i++)
        if (!(f[i] > 0))
            return fj_fail(e, FJ_EFORMAT, "%s: rope_freqs.weight has a value that is not positive",
                           s->path);
    m->hp.rope_factors = f;
    return true;
}

/* eos_token_id: a number or a list of them. */
static bool read_ends(fj_model *m, const fj_source *s, fj_err *e) {
    json_t *o = s->hf && s->hf->generation ? fj_js_find(s->hf->generation, "eos_token_id") : NULL;
    if (!o) return true;
    size_t n = json_is_array(o) ? json_array_size(o) : 1;
    m->ends = fj_arena_alloc(&m->arena, (n + 1) * sizeof *m->ends);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_is_array(o) ? json_array_get(o, i) : o;
        if (!json_is_integer(v) || json_integer_value(v) < 0 ||
            json_integer_value(v) >= m->hp.vocab)
            return fj_fail(e, FJ_EFORMAT,
                           "%s/generation_config.json: eos_token_id is not a token of the "
                           "vocabulary, or a list of such",
                           s->path);
        m->ends[m->n_ends++] = (int32_t)json_integer_value(v);
    }
    return true;
}

bool fj_model_ends(const fj_model *m, int32_t id) {
    for (int i = 0; i < m->n_ends; i++)
        if (m->ends[i] == id) return true;
    return fj_token_ends(m->tok, id);
}

/* Files that an export repeats. */
static bool keep_files(fj_model *m, const fj_source *s, fj_err *e) {
    if (s->gguf) {
        if (!fj_templates_of_gguf(&m->templates, s->gguf, e)) return false;
    } else {
        if (!fj_templates_of_folder(&m->templates, s->path, e)) return false;
        m->tok_json = fj_hf_load(s->hf, "tokenizer.json", &m->tok_json_n, e);
        if (!m->tok_json) return false;
        if (s->hf->tokenizer_config)
            m->tok_config = fj_hf_load(s->hf, "tokenizer_config.json", NULL, e);
        if (s->hf->generation) m->gen_config = fj_hf_load(s->hf, "generation_config.json", NULL, e);
    }
    m->chat_template = fj_templates_find(&m->templates, "default");
    return true;
}

fj_model *fj_model_open(fj_dev *d, const char *path, const fj_model_opts *o, const fj_log *log,
                        fj_err *e) {
    fj_source s;
    if (!fj_source_open(&s, path, e)) return NULL;
    fj_model *m = fj_zalloc(sizeof *m);
    m->dev = d;
    m->path = fj_arena_strdup(&m->arena, path);
    m->trainable = o && o->trainable;
    bool ok = (m->arch = fj_source_arch(&s, e)) && fj_source_hparams(&s, m->arch, &m->hp, e) &&
              rope_factors(m, &s, e) && (m->tok = fj_source_tokenizer(&s, e)) &&
              fj_model_list(m, &s, FJ_F32, e) && no_strangers(m, &s, e) && fill(m, &s, log, e) &&
              keep_files(m, &s, e) && read_ends(m, &s, e) && fj_model_summarize(m);
    if (ok && fj_vocab_size(m->tok) > m->hp.vocab)
        ok = fj_fail(e, FJ_EFORMAT, "%s: the tokenizer has %d tokens, the model's table %lld", path,
                     (int)fj_vocab_size(m->tok), (long long)m->hp.vocab);
    fj_source_close(&s);
    if (ok) return m;
    fj_model_close(m);
    return NULL;
}

void fj_model_close(fj_model *m) {
    if (!m) return;
    m->dev->fn->free(m->buf);
    fj_tokenizer_free(m->tok);
    fj_templates_free(&m->templates);
    free(m->tok_json);
    free(m->tok_config);
    free(m->gen_config);
    fj_arena_free(&m->arena);
    free(m);
}

const fj_tokenizer *fj_model_tokenizer(const fj_model *m) { return m->tok; }

bool fj_weight_get(const fj_model *m, const fj_weight *w, float *out, fj_err *e) {
    size_t n = (size_t)bytes_of(w);
    uint8_t *raw = fj_try_alloc(n, 1, "a copy of a weight", e);
    if (!raw) return false;
    bool ok = m->dev->fn->download(m->buf, w->off, raw, n, e);
    if (ok && w->panels) {
        fj_wmat mat = {
            .dtype = w->dtype, .panels = true, .data = raw, .n = w->rows, .k = w->cols
        };
        fj_wmat_block(m->dev->kern, &mat, 0, w->rows, 0, w->cols, out, w->cols);
    } else if (ok) {
        size_t row = (size_t)fj_dtype_size(w->dtype, 1, w->cols);
        for (int64_t r = 0; r < w->rows; r++)
            fj_dequant_row(w->dtype, raw + (size_t)r * row, out + r * w->cols, w->cols);
    }
    free(raw);
    return ok;
}

void fj_model_about(const fj_model *m, fj_model_info *info) {
    *info = (fj_model_info){ .path = m->path,
                             .arch = m->arch->name,
                             .params = m->params,
                             .layers = m->hp.layers,
                             .width = m->hp.width,
                             .vocab = m->hp.vocab,
                             .context = m->hp.context,
                             .bytes = (int64_t)m->buf->size,
                             .formats = m->formats,
                             .chat_template = m->chat_template };
}

bool fj_model_hash(const fj_model *m, char hex[65], fj_err *e) {
    if (!fj_is_dir(m->path)) return fj_sha256_file(m->path, hex, e);
    /* A folder: the hash of the hashes of its parts, in a fixed order. */
    fj_st *st = fj_st_open(m->path, e);
    if (!st) return false;
    fj_str all = { 0 };
    bool ok = true;
    char one[65];
    static const char *const parts[] = { "config.json", "tokenizer.json" };
    for (size_t i = 0; i < FJ_LEN(parts) && ok; i++) {
        char *p = fj_path_join(m->path, parts[i]);
        ok = fj_sha256_file(p, one, e);
        fj_str_addf(&all, "%s %s\n", one, parts[i]);
        free(p);
    }
    for (size_t i = 0; i < st->n_files && ok; i++) {
        ok = fj_sha256_file(st->files[i], one, e);
        fj_str_addf(&all, "%s %s\n", one, fj_base_name(st->files[i]));
    }
    if (ok) fj_sha256(all.s, all.n, hex);
    fj_str_free(&all);
    fj_st_close(st);
    return ok;
}
