/* load.c - a model from its files: which weights it has and what becomes of each.
 *
 * Sizes come first, so that memory is asked for once and its lack is told before any work; then fill.c
 * brings every weight into HF row order, converts it where needed and packs it, while one of the threads
 * reads the tokenizer. */
#include "base/fs.h"
#include "models/reader.h"
#include "models/templates.h"
#include "ops/gemm.h"

#include <stdio.h>
#include <sys/stat.h>

enum { ALIGN = 64 };

const fj_weight *fj_model_weight(const fj_model *m, int id, int layer) {
    int i = m->index[(int64_t)id * (m->hp.layers + 1) + layer + 1];
    return i < 0 ? NULL : &m->w[i];
}

/* What a weight becomes in memory. */
static void choose(const fj_model *m, fj_weight *w, fj_dtype source) {
    bool matrix = !fj_weight_is_vector(w);
    /* The tied table is the head as well. */
    bool head = w->row == &m->arch->weights[FJ_W_EMBED] && m->hp.tied;
    w->dtype = matrix && !m->trainable && source != FJ_F64 ? source : FJ_F32;
    /* A GPU has kernels for the common formats; products there round all of them to BF16 anyway. */
    if (!m->dev->kern && !fj_dtype_on_gpu(w->dtype)) w->dtype = m->dev->plan.f32 ? FJ_F32 : FJ_BF16;
    w->panels = matrix && !m->trainable && (w->row->is & FJ_IS_LINEAR || head) && m->dev->kern &&
                fj_wmat_packed_bytes(w->dtype, w->rows / w->mats, w->cols) >= 0;
}

/* Bytes of one of its matrices, -1: too many. */
static int64_t mat_bytes(const fj_weight *w) {
    return w->panels ? fj_wmat_packed_bytes(w->dtype, w->rows / w->mats, w->cols)
                     : fj_dtype_size(w->dtype, w->rows / w->mats, w->cols);
}

static int64_t bytes_of(const fj_weight *w) {
    int64_t one = mat_bytes(w), all;
    return one < 0 || __builtin_mul_overflow(one, w->mats, &all) ? -1 : all;
}

typedef struct pack_job {
    const fj_kern *kern;
    const fj_weight *w;
    const char *rows;
    char *panels;
} pack_job;

static void pack_fn(void *ctx, int i, int n) {
    const pack_job *j = ctx;
    const fj_weight *w = j->w;
    int64_t rows = w->rows / w->mats, from = fj_dtype_size(w->dtype, rows, w->cols);
    for (int64_t k = 0; k < w->mats; k++)
        fj_wmat_pack(j->kern, w->dtype, rows, w->cols, j->rows + k * from,
                     j->panels + k * mat_bytes(w), i, n);
}

bool fj_weight_put(fj_model *m, const fj_weight *w, const void *rows, fj_err *e) {
    if (!w->panels)
        return m->dev->fn->upload(m->buf, w->off, rows,
                                  (size_t)fj_dtype_size(w->dtype, w->rows, w->cols), e);
    pack_job j = { m->dev->kern, w, rows, (char *)m->buf->ptr + w->off };
    fj_dev_team_run(m->dev, pack_fn, &j);
    return true;
}

bool fj_model_list(fj_model *m, const fj_source *s, const fj_formats *formats, fj_err *e) {
    const fj_arch *a = m->arch;
    int64_t slots = (int64_t)FJ_W_ROLES * (m->hp.layers + 1);
    m->index = fj_arena_alloc(&m->arena, (size_t)slots * sizeof *m->index);
    m->w = fj_arena_alloc(&m->arena, (size_t)slots * sizeof *m->w);
    size_t total = 0;
    for (int64_t i = 0; i < slots; i++) m->index[i] = -1;
    for (int l = -1; l < (int)m->hp.layers; l++)
        for (int id = 0; id < FJ_W_ROLES; id++) {
            const fj_weight_row *r = &a->weights[id];
            if (!fj_weight_there(&m->hp, r, l)) continue;
            fj_weight *w = &m->w[m->n_w];
            int64_t mats = r->is & FJ_IS_EXPERTS ? m->hp.experts : 1;
            *w = (fj_weight){ .row = r,
                              .layer = l,
                              .mats = mats,
                              .rows = fj_size_of(&m->hp, r->rows) * mats,
                              .cols = fj_size_of(&m->hp, r->cols),
                              .off = total };
            const uint8_t *where = NULL;
            fj_dtype type = FJ_F32;
            if (!s) {
                type = formats->of ? formats->of(formats->ctx, m, w) : formats->all;
            } else {
                fj_reader from;
                if (!fj_reader_open(&from, m, s, w, e)) return false;
                type = from.type;
                if (!fj_weight_is_vector(w)) where = from.whole;
                fj_reader_close(&from);
            }
            choose(m, w, type);
            m->index[(int64_t)id * (m->hp.layers + 1) + l + 1] = m->n_w++;
            if (m->mapped && where && w->dtype == type) {
                fj_buf *b = fj_arena_alloc(&m->arena, sizeof *b);
                *b = (fj_buf){ m->dev, (void *)(uintptr_t)where,
                               (size_t)fj_dtype_size(type, w->rows, w->cols) };
                w->panels = false;
                w->buf = b;
                w->off = 0;
                continue;
            }
            int64_t bytes = bytes_of(w);
            if (w->cols % fj_dtype_get(w->dtype)->block)
                return fj_fail(e, FJ_EUNSUP,
                               "%s: tensor %s: rows of %lld values are not whole blocks of %d (%s)",
                               m->path, fj_weight_name(w, &m->arena), (long long)w->cols,
                               fj_dtype_get(w->dtype)->block, fj_dtype_get(w->dtype)->name);
            if (bytes < 0 ||
                __builtin_add_overflow(total, ((size_t)bytes + ALIGN - 1) / ALIGN * ALIGN, &total))
                return fj_fail(e, FJ_EFORMAT, "%s: tensor %s, %lld x %lld of %s, has no size",
                               m->path, fj_weight_name(w, &m->arena), (long long)w->rows,
                               (long long)w->cols, fj_dtype_get(w->dtype)->name);
        }
    if (m->listed) return true;
    m->buf = m->dev->fn->alloc(m->dev, total, "the weights", e);
    for (int i = 0; i < m->n_w; i++)
        if (!m->w[i].buf) m->w[i].buf = m->buf;
    return m->buf != NULL;
}

/* Tables derived from other values, a causal mask, a tied head stored once more. */
static bool known_stranger(const fj_model *m, const char *name) {
    size_t n = strlen(name);
    static const char *const ends[] = { "rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias" };
    for (size_t i = 0; i < FJ_LEN(ends); i++)
        if (n >= strlen(ends[i]) && !strcmp(name + n - strlen(ends[i]), ends[i])) return true;
    return !strcmp(name, "rope_freqs.weight") || !strncmp(name, "rope_factors_", 13) ||
           (m->hp.tied && !strcmp(name, "lm_head.weight"));
}

static bool is_known(const fj_map *known, const fj_source *s, const char *name, fj_arena *a) {
    const char *full = s->prefix ? fj_arena_printf(a, "%s%s", s->prefix, name) : name;
    return fj_map_get(known, name, strlen(name)) || fj_map_get(known, full, strlen(full));
}

/* A tensor that no row knows would change the mathematics: refuse it by name. */
static bool no_strangers(const fj_model *m, const fj_source *s, fj_err *e) {
    fj_map known = { 0 };
    for (int i = 0; i < m->n_w; i++) {
        fj_part *parts;
        int n = fj_parts_of(m, &m->w[i], s->gguf, &known.keys, &parts);
        for (int k = 0; k < n; k++) {
            const char *name = parts[k].name;
            fj_map_put(&known, name, strlen(name), NULL);
            if (m->w[i].mats < 2) continue;
            static const char *const ends[] = { "_blocks", "_scales" };
            for (size_t j = 0; j < FJ_LEN(ends); j++) {
                const char *mx = fj_arena_printf(&known.keys, "%s%s", name, ends[j]);
                fj_map_put(&known, mx, strlen(mx), NULL);
            }
        }
    }
    bool ok = true;
    size_t n = s->gguf ? s->gguf->n_tensors : s->st->n_tensors;
    for (size_t i = 0; i < n && ok; i++) {
        const char *name = s->gguf ? s->gguf->tensors[i].name : s->st->tensors[i].name;
        const char *of =
            s->quant && !s->gguf ? fj_hfq_owner(s->quant, s->st, name, &known.keys) : NULL;
        if (is_known(&known, s, of ? of : name, &known.keys) || known_stranger(m, name) ||
            (!s->gguf && fj_hfq_idle(s->quant, s->st, name)))
            continue;
        ok = fj_fail(e, FJ_EUNSUP, "%s: tensor %s is not part of %s, so the model is refused",
                     s->path, name, m->arch->name);
    }
    fj_map_free(&known);
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

/* The tokenizer, and files that an export repeats. */
static bool words(fj_model *m, const fj_source *s, fj_err *e) {
    if (!(m->tok = fj_source_tokenizer(s, e))) return false;
    if (s->gguf) {
        if (!fj_templates_of_gguf(&m->templates, s->gguf, e)) return false;
    } else {
        if (!fj_templates_of_folder(&m->templates, s->path, e)) return false;
        /* A folder with an older kind of tokenizer file is saved with a tokenizer.json of the same ids. */
        if (s->hf->has_tokenizer &&
            !(m->tok_json = fj_hf_load(s->hf, "tokenizer.json", &m->tok_json_n, e)))
            return false;
        if (s->hf->tokenizer_config)
            m->tok_config = fj_hf_load(s->hf, "tokenizer_config.json", NULL, e);
        if (s->hf->generation) m->gen_config = fj_hf_load(s->hf, "generation_config.json", NULL, e);
    }
    m->chat_template = fj_templates_find(&m->templates, "default");
    return true;
}

static fj_model *open_as(fj_dev *d, const char *path, const fj_model_opts *o, bool listed,
                         const fj_log *log, fj_err *e) {
    fj_source s;
    if (!fj_source_open(&s, path, e)) return NULL;
    fj_model *m = fj_zalloc(sizeof *m);
    m->mapped = o && o->mapped && !o->trainable && d->kern;
    m->listed = listed;
    m->dev = d;
    m->path = fj_arena_strdup(&m->arena, path);
    m->trainable = o && o->trainable;
    bool ok = (m->arch = fj_source_arch(&s, e)) &&
              fj_source_hparams(&s, m->arch, &m->hp, &m->arena, e) &&
              fj_model_list(m, &s, NULL, e) && no_strangers(m, &s, e) &&
              fj_model_fill(m, &s, words, log, e) && read_ends(m, &s, e) && fj_model_summarize(m);
    if (ok && fj_vocab_size(m->tok) > m->hp.vocab)
        ok = fj_fail(e, FJ_EFORMAT, "%s: the tokenizer has %d tokens, the model's table %lld", path,
                     (int)fj_vocab_size(m->tok), (long long)m->hp.vocab);
    if (ok && (m->mapped || listed)) {
        m->source = fj_zalloc(sizeof s);
        *m->source = s;
        m->source->path = m->path;
        return m;
    }
    fj_source_close(&s);
    if (ok) return m;
    fj_model_close(m);
    return NULL;
}

fj_model *fj_model_open(fj_dev *d, const char *path, const fj_model_opts *o, const fj_log *log,
                        fj_err *e) {
    return open_as(d, path, o, false, log, e);
}

fj_model *fj_model_listed(fj_dev *d, const char *path, fj_err *e) {
    return open_as(d, path, NULL, true, NULL, e);
}

void fj_model_close(fj_model *m) {
    if (!m) return;
    m->dev->fn->free(m->buf);
    m->dev->fn->free(m->merged);
    if (m->source) fj_source_close(m->source);
    free(m->source);
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
    fj_reader r;
    bool ok = fj_reader_open(&r, m, NULL, w, e) && fj_reader_rows(&r, FJ_F32, 0, w->rows, out, e);
    fj_reader_close(&r);
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
                             .bytes = m->buf ? (int64_t)m->buf->size : 0,
                             .formats = m->formats,
                             .chat_template = m->chat_template };
}

/* The SHA-256 of what is in a file, or of its size, time of change and number: cheap, and the same as long as
 * nobody touched it. */
static bool hash_file(const char *path, bool contents, char hex[65], fj_err *e) {
    if (contents) return fj_sha256_file(path, hex, e);
    struct stat st;
    if (stat(path, &st) != 0) return fj_fail_errno(e, "cannot look at %s", path);
    char s[160];
    int n =
        snprintf(s, sizeof s, "%lld %lld.%09ld %llu", (long long)st.st_size,
                 (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (unsigned long long)st.st_ino);
    fj_sha256(s, (size_t)n, hex);
    return true;
}

/* The hash of a file, or of the hashes of the parts of a split model, whatever these are called. */
static bool hash_gguf(const char *path, bool contents, char hex[65], fj_err *e) {
    fj_gguf *g = fj_gguf_open(path, e);
    if (!g) return false;
    fj_str all = { 0 };
    bool ok = true;
    for (size_t i = 0; i < g->n_files && ok; i++) {
        ok = hash_file(g->files[i], contents, hex, e);
        fj_str_addf(&all, "%s %zu\n", hex, i + 1);
    }
    if (ok && g->n_files > 1) fj_sha256(all.s, all.n, hex);
    fj_str_free(&all);
    fj_gguf_close(g);
    return ok;
}

static bool hash_model(const fj_model *m, bool contents, char hex[65], fj_err *e) {
    if (!fj_is_dir(m->path)) return hash_gguf(m->path, contents, hex, e);
    /* A folder: the hash of the hashes of its parts, in a fixed order. */
    fj_st *st = fj_st_open(m->path, e);
    if (!st) return false;
    fj_str all = { 0 };
    bool ok = true;
    char one[65];
    static const char *const parts[] = { "config.json", "tokenizer.json", "tokenizer.model",
                                         "tekken.json", "vocab.json",     "merges.txt",
                                         "vocab.txt" };
    for (size_t i = 0; i < FJ_LEN(parts) && ok; i++) {
        if (i > 1 && m->tok_json) break; /* it is what was read */
        char *p = fj_path_join(m->path, parts[i]);
        if (i == 0 || fj_exists(p)) {
            ok = hash_file(p, contents, one, e);
            fj_str_addf(&all, "%s %s\n", one, parts[i]);
        }
        free(p);
    }
    for (size_t i = 0; i < st->n_files && ok; i++) {
        ok = hash_file(st->files[i], contents, one, e);
        fj_str_addf(&all, "%s %s\n", one, fj_base_name(st->files[i]));
    }
    if (ok) fj_sha256(all.s, all.n, hex);
    fj_str_free(&all);
    fj_st_close(st);
    return ok;
}

bool fj_model_hash(const fj_model *m, char hex[65], fj_err *e) {
    return hash_model(m, true, hex, e);
}

bool fj_model_stamp(const fj_model *m, char hex[65], fj_err *e) {
    return hash_model(m, false, hex, e);
}
