/* save.c - a model to a GGUF file or a Hugging Face folder, from the rows that loading reads. */
#include "base/fs.h"
#include "models/source.h"

#include <math.h>
#include <stdio.h>

/* Norms, biases and what does not come in whole blocks keep a plain format. */
static fj_dtype type_for(const fj_weight *w, fj_dtype wanted) {
    if (w->row->rows == FJ_ONE) return FJ_F32;
    if (w->cols % fj_dtype_get(wanted)->block) return FJ_F16;
    return wanted;
}

/* Rows of w in `type`; gguf: in GGUF's order.  What comes back is *buf, grown. */
static bool rows_as(const fj_model *m, const fj_weight *w, fj_dtype type, bool gguf, float **wide,
                    uint8_t **buf, size_t *wide_cap, size_t *buf_cap, fj_err *e) {
    size_t count = (size_t)(w->rows * w->cols), row = (size_t)fj_dtype_size(type, 1, w->cols);
    FJ_GROW(*wide, count, *wide_cap);
    FJ_GROW(*buf, (size_t)w->rows * row, *buf_cap);
    if (!fj_weight_get(m, w, *wide, e)) return false;
    if (w->row->rows == FJ_ONE) { /* a vector: always F32; its values may move */
        float *y = (float *)(void *)*buf;
        for (int64_t i = 0; i < w->cols; i++) y[gguf ? fj_gguf_row(m, w, i) : i] = (*wide)[i];
        return true;
    }
    for (int64_t r = 0; r < w->rows; r++)
        fj_quant_row(type, *wide + r * w->cols,
                     *buf + (size_t)(gguf ? fj_gguf_row(m, w, r) : r) * row, w->cols);
    return true;
}

static bool parse_type(const char *type, fj_dtype *t, fj_err *e) {
    if (fj_dtype_parse(type, t) && *t != FJ_I32 && *t != FJ_F64) return true;
    return fj_fail(e, FJ_EINVAL,
                   "weights cannot be written as \"%s\" (F32, F16, BF16, Q8_0 and Q4_0 can)", type);
}

static bool has_tokenizer(const fj_model *m, fj_err *e) {
    return m->tok ||
           fj_fail(e, FJ_EUNSUP, "%s has no tokenizer, and a file of it would need one", m->path);
}

/* ---- GGUF ---------------------------------------------------------------------------------------- */
static void put_tokenizer(fj_gguf_writer *w, const fj_tok_parts *p, const char *chat_template) {
    fj_gguf_str *s = fj_alloc((FJ_MAX(p->n, p->n_merges) + 1) * sizeof *s);
#define K(x) "tokenizer.ggml." x
    fj_gguf_put_string(w, K("model"), p->model);
    if (p->pre) fj_gguf_put_string(w, K("pre"), p->pre);
    for (size_t i = 0; i < p->n; i++) s[i] = (fj_gguf_str){ p->tokens[i].p, p->tokens[i].n };
    fj_gguf_put_strings(w, K("tokens"), s, p->n);
    if (p->scores) fj_gguf_put_f32s(w, K("scores"), p->scores, p->n);
    if (p->types) fj_gguf_put_i32s(w, K("token_type"), p->types, p->n);
    for (size_t i = 0; i < p->n_merges; i++) s[i] = (fj_gguf_str){ p->merges[i].p, p->merges[i].n };
    if (p->n_merges) fj_gguf_put_strings(w, K("merges"), s, p->n_merges);
    const struct {
        const char *key;
        int32_t id;
    } ids[] = {
        { K("bos_token_id"), p->bos },       { K("eos_token_id"), p->eos },
        { K("eot_token_id"), p->eot },       { K("unknown_token_id"), p->unk },
        { K("padding_token_id"), p->pad },   { K("cls_token_id"), p->cls },
        { K("seperator_token_id"), p->sep },
    };
    for (size_t i = 0; i < FJ_LEN(ids); i++)
        if (ids[i].id >= 0) fj_gguf_put_u32(w, ids[i].key, (uint32_t)ids[i].id);
    if (p->add_bos >= 0) fj_gguf_put_bool(w, K("add_bos_token"), p->add_bos);
    if (p->add_eos >= 0) fj_gguf_put_bool(w, K("add_eos_token"), p->add_eos);
    if (p->add_prefix >= 0) fj_gguf_put_bool(w, K("add_space_prefix"), p->add_prefix);
    if (p->remove_spaces >= 0) fj_gguf_put_bool(w, K("remove_extra_whitespaces"), p->remove_spaces);
    if (p->charsmap.n)
        fj_gguf_put(w, &(fj_gguf_kv){ .key = K("precompiled_charsmap"),
                                      .type = FJ_GGUF_U8,
                                      .array = true,
                                      .n = p->charsmap.n,
                                      .data = p->charsmap.p });
#undef K
    if (chat_template) fj_gguf_put_string(w, "tokenizer.chat_template", chat_template);
    free(s);
}

static const char *arch_key(fj_arena *a, const fj_arch *arch, const char *pattern) {
    const char *rest = strstr(pattern, "%s");
    return fj_arena_printf(a, "%s%s", arch->name, rest ? rest + 2 : pattern);
}

static bool put_hparams(fj_gguf_writer *w, const fj_model *m, fj_arena *a, fj_err *e) {
    const fj_arch *arch = m->arch;
    const fj_rope_hp *r = &m->hp.rope;
    for (int i = 0; i < arch->n_hp; i++) {
        const fj_hp_row *row = &arch->hp[i];
        if (!row->gguf) continue;
        const char *key = arch_key(a, arch, row->gguf), *at = (const char *)&m->hp + row->offset;
        if (row->type == FJ_HP_INT)
            fj_gguf_put_u32(w, key, (uint32_t) * (const int64_t *)(const void *)at);
        if (row->type == FJ_HP_FLOAT)
            fj_gguf_put_f32(w, key, (float)*(const double *)(const void *)at);
        if (row->type == FJ_HP_BOOL) fj_gguf_put_bool(w, key, *(const bool *)(const void *)at);
    }
    fj_gguf_put_u32(w, arch_key(a, arch, "%s.attention.value_length"), (uint32_t)m->hp.head_dim);
    fj_gguf_put_u32(w, arch_key(a, arch, "%s.rope.dimension_count"), (uint32_t)m->hp.head_dim);
    if (r->kind == FJ_ROPE_DYNAMIC)
        return fj_fail(e, FJ_EUNSUP,
                       "GGUF has no name for dynamic rope scaling: save a Hugging Face folder");
    if (r->kind == FJ_ROPE_LINEAR || r->kind == FJ_ROPE_YARN) {
        fj_gguf_put_string(w, arch_key(a, arch, "%s.rope.scaling.type"),
                           r->kind == FJ_ROPE_YARN ? "yarn" : "linear");
        fj_gguf_put_f32(w, arch_key(a, arch, "%s.rope.scaling.factor"), (float)r->factor);
        if (r->original)
            fj_gguf_put_u32(w, arch_key(a, arch, "%s.rope.scaling.original_context_length"),
                            (uint32_t)r->original);
    }
    if (r->kind == FJ_ROPE_YARN) {
        if (r->beta_fast != 32 || r->beta_slow != 1 || !r->truncate)
            return fj_fail(
                e, FJ_EUNSUP,
                "GGUF readers take beta_fast 32, beta_slow 1 and rounded bounds for YaRN; "
                "this model has others: save a Hugging Face folder");
        double mscale;
        float *freq = fj_alloc((size_t)m->hp.head_dim * sizeof *freq);
        fj_rope_freqs(&m->hp, 1, freq, &mscale);
        free(freq);
        fj_gguf_put_f32(w, arch_key(a, arch, "%s.rope.scaling.attn_factor"),
                        (float)(mscale / (0.1 * log(r->factor) + 1)));
    }
    return true;
}

/* llama3 scaling is a table of divisors in GGUF. */
static float *divisors(const fj_model *m) {
    if (m->hp.rope.kind != FJ_ROPE_LLAMA3 && !m->hp.rope_factors) return NULL;
    int64_t half = m->hp.head_dim / 2;
    float *f = fj_alloc((size_t)half * 2 * sizeof *f);
    double s;
    fj_hparams plain = m->hp;
    plain.rope.kind = FJ_ROPE_PLAIN;
    plain.rope_factors = NULL;
    fj_rope_freqs(&m->hp, 1, f, &s);
    fj_rope_freqs(&plain, 1, f + half, &s);
    for (int64_t i = 0; i < half; i++) f[i] = f[half + i] / f[i];
    return f;
}

bool fj_model_save_gguf(const fj_model *m, const char *path, const char *type, fj_err *e) {
    static const struct {
        fj_dtype t;
        uint32_t ftype;
    } ftypes[] = {
        { FJ_F32, 0 }, { FJ_F16, 1 }, { FJ_Q4_0, 2 }, { FJ_Q8_0, 7 }, { FJ_BF16, 32 },
    };
    fj_dtype t;
    fj_tok_parts parts = FJ_TOK_PARTS_INIT;
    if (!parse_type(type, &t, e) || !has_tokenizer(m, e) || !fj_tokenizer_parts(m->tok, &parts, e))
        return false;
    fj_gguf_writer *w = fj_gguf_writer_open(path, e);
    if (!w) {
        fj_tokenizer_parts_free(&parts);
        return false;
    }
    fj_arena names = { 0 };
    fj_gguf_put_string(w, "general.architecture", m->arch->name);
    fj_gguf_put_string(w, "general.type", "model");
    for (size_t i = 0; i < FJ_LEN(ftypes); i++)
        if (ftypes[i].t == t) fj_gguf_put_u32(w, "general.file_type", ftypes[i].ftype);
    fj_gguf_put_u32(w, "general.quantization_version", 2);
    bool ok = put_hparams(w, m, &names, e);
    put_tokenizer(w, &parts, m->chat_template);
    float *div = divisors(m), *wide = NULL;
    uint8_t *buf = NULL;
    size_t wide_cap = 0, buf_cap = 0;
    if (div)
        fj_gguf_add_tensor(w, "rope_freqs.weight", FJ_F32, 1, (int64_t[]){ m->hp.head_dim / 2 });
    for (int i = 0; i < m->n_w; i++) {
        const fj_weight *x = &m->w[i];
        fj_gguf_add_tensor(w, fj_weight_name(x, true, &names), type_for(x, t),
                           x->row->rows == FJ_ONE ? 1 : 2, (int64_t[]){ x->cols, x->rows });
    }
    if (div) fj_gguf_write_data(w, div, (size_t)m->hp.head_dim / 2 * sizeof *div);
    for (int i = 0; ok && i < m->n_w; i++) {
        const fj_weight *x = &m->w[i];
        ok = rows_as(m, x, type_for(x, t), true, &wide, &buf, &wide_cap, &buf_cap, e);
        if (ok) fj_gguf_write_data(w, buf, (size_t)fj_dtype_size(type_for(x, t), x->rows, x->cols));
    }
    if (ok) ok = fj_gguf_writer_close(w, e);
    else fj_gguf_writer_abort(w);
    free(div);
    free(wide);
    free(buf);
    fj_arena_free(&names);
    fj_tokenizer_parts_free(&parts);
    return ok;
}

/* ---- Hugging Face folder ------------------------------------------------------------------------- */
static json_t *rope_json(const fj_rope_hp *r) {
    static const char *const names[] = { "default", "linear", "dynamic", "llama3", "yarn" };
    if (r->kind == FJ_ROPE_PLAIN) return json_null();
    json_t *o = json_pack("{s:s, s:f}", "rope_type", names[r->kind], "factor", r->factor);
    if (r->kind == FJ_ROPE_LLAMA3) {
        json_object_set_new(o, "low_freq_factor", json_real(r->low));
        json_object_set_new(o, "high_freq_factor", json_real(r->high));
    }
    if (r->original)
        json_object_set_new(o, "original_max_position_embeddings", json_integer(r->original));
    if (r->kind == FJ_ROPE_YARN) {
        json_object_set_new(o, "beta_fast", json_real(r->beta_fast));
        json_object_set_new(o, "beta_slow", json_real(r->beta_slow));
        json_object_set_new(o, "truncate", json_boolean(r->truncate));
        if (r->attention_factor > 0)
            json_object_set_new(o, "attention_factor", json_real(r->attention_factor));
        if (r->mscale > 0) json_object_set_new(o, "mscale", json_real(r->mscale));
        if (r->mscale_all_dim > 0)
            json_object_set_new(o, "mscale_all_dim", json_real(r->mscale_all_dim));
    }
    return o;
}

static void set_id(json_t *o, const char *key, int32_t id) {
    if (id >= 0) json_object_set_new(o, key, json_integer(id));
}

static json_t *config_json(const fj_model *m, fj_dtype t, fj_err *e) {
    if (m->hp.rope_factors) {
        fj_fail(e, FJ_EUNSUP, "%s has rope_freqs.weight, which config.json cannot say: save GGUF",
                m->path);
        return NULL;
    }
    json_t *o = json_pack("{s:[s], s:s, s:s}", "architectures", m->arch->hf_class, "model_type",
                          m->arch->hf_type, "hidden_act", "silu");
    for (int i = 0; i < m->arch->n_hp; i++) {
        const fj_hp_row *row = &m->arch->hp[i];
        const char *at = (const char *)&m->hp + row->offset;
        if (!row->hf) continue;
        if (row->type == FJ_HP_INT)
            json_object_set_new(o, row->hf, json_integer(*(const int64_t *)(const void *)at));
        if (row->type == FJ_HP_FLOAT)
            json_object_set_new(o, row->hf, json_real(*(const double *)(const void *)at));
        if (row->type == FJ_HP_BOOL)
            json_object_set_new(o, row->hf, json_boolean(*(const bool *)(const void *)at));
    }
    json_object_set_new(o, "rope_scaling", rope_json(&m->hp.rope));
    set_id(o, "bos_token_id", fj_token_bos(m->tok));
    set_id(o, "eos_token_id", fj_token_eos(m->tok));
    json_object_set_new(o, "torch_dtype",
                        json_string(t == FJ_F32   ? "float32"
                                    : t == FJ_F16 ? "float16"
                                                  : "bfloat16"));
    return o;
}

static bool write_json(const char *dir, const char *name, json_t *o, fj_err *e) {
    char *path = fj_path_join(dir, name),
         *text = json_dumps(o, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
    bool ok = text ? fj_write_file(path, text, strlen(text), e)
                   : fj_fail(e, FJ_EINVAL, "%s cannot be written as JSON", name);
    free(text);
    free(path);
    json_decref(o);
    return ok;
}

static bool write_text(const char *dir, const char *name, const char *text, size_t n, fj_err *e) {
    char *path = fj_path_join(dir, name);
    bool ok = fj_write_file(path, text, n, e);
    free(path);
    return ok;
}

static void set_piece(json_t *o, const char *key, const fj_tokenizer *t, int32_t id) {
    if (id < 0) return;
    fj_bytes b = fj_token_piece(t, id);
    json_object_set_new(o, key, json_stringn(b.p, b.n));
}

static bool write_tokenizer(const fj_model *m, const char *dir, fj_err *e) {
    bool ok;
    if (m->tok_json) {
        ok = write_text(dir, "tokenizer.json", m->tok_json, m->tok_json_n, e);
    } else {
        size_t n;
        char *json = fj_tokenizer_to_json(m->tok, &n, e);
        ok = json && write_text(dir, "tokenizer.json", json, n, e);
        free(json);
    }
    if (ok && m->tok_config) {
        ok = write_text(dir, "tokenizer_config.json", m->tok_config, strlen(m->tok_config), e);
    } else if (ok) {
        json_t *o = json_pack("{s:s, s:b, s:I}", "tokenizer_class", "PreTrainedTokenizerFast",
                              "add_bos_token", (int)fj_tokenizer_adds_bos(m->tok),
                              "model_max_length", (json_int_t)m->hp.context);
        set_piece(o, "bos_token", m->tok, fj_token_bos(m->tok));
        set_piece(o, "eos_token", m->tok, fj_token_eos(m->tok));
        set_piece(o, "unk_token", m->tok, fj_token_unk(m->tok));
        set_piece(o, "pad_token", m->tok, fj_token_pad(m->tok));
        if (m->chat_template)
            json_object_set_new(o, "chat_template", json_string(m->chat_template));
        ok = write_json(dir, "tokenizer_config.json", o, e);
    }
    if (ok && m->gen_config)
        return write_text(dir, "generation_config.json", m->gen_config, strlen(m->gen_config), e);
    if (!ok) return false;
    json_t *o = json_object();
    set_id(o, "bos_token_id", fj_token_bos(m->tok));
    set_id(o, "eos_token_id", fj_token_eos(m->tok));
    return write_json(dir, "generation_config.json", o, e);
}

bool fj_model_save_hf(const fj_model *m, const char *dir, const char *type, fj_err *e) {
    fj_dtype t;
    if (!parse_type(type, &t, e) || !has_tokenizer(m, e)) return false;
    if (!fj_dtype_get(t)->st)
        return fj_fail(e, FJ_EUNSUP,
                       "safetensors has no %s: write F32, F16 or BF16, or a GGUF file",
                       fj_dtype_get(t)->name);
    json_t *config = config_json(m, t, e);
    if (!config) return false;
    if (!fj_mkdirs(dir, e)) {
        json_decref(config);
        return false;
    }
    fj_st_writer *w = fj_st_writer_open_sharded(dir, (int64_t)5 << 30, e);
    bool ok = w != NULL;
    fj_arena names = { 0 };
    for (int i = 0; ok && i < m->n_w; i++) {
        const fj_weight *x = &m->w[i];
        bool vector = x->row->rows == FJ_ONE;
        fj_st_writer_add(w, fj_weight_name(x, false, &names), fj_dtype_get(type_for(x, t))->st,
                         vector ? 1 : 2,
                         vector ? (int64_t[]){ x->cols } : (int64_t[]){ x->rows, x->cols });
    }
    float *wide = NULL;
    uint8_t *buf = NULL;
    size_t wide_cap = 0, buf_cap = 0;
    for (int64_t i; ok && (i = fj_st_writer_next(w)) >= 0;) {
        const fj_weight *x = &m->w[i];
        ok = rows_as(m, x, type_for(x, t), false, &wide, &buf, &wide_cap, &buf_cap, e);
        if (ok) fj_st_writer_data(w, buf, (size_t)fj_dtype_size(type_for(x, t), x->rows, x->cols));
    }
    if (ok) ok = fj_st_writer_close(w, e);
    else fj_st_writer_abort(w);
    free(wide);
    free(buf);
    fj_arena_free(&names);
    ok = ok && write_tokenizer(m, dir, e);
    if (ok) return write_json(dir, "config.json", config, e); /* last: a folder with it is whole */
    json_decref(config);
    return false;
}
