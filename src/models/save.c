/* save.c - a model to a GGUF file or a Hugging Face folder, from the rows that loading reads. */
#include "base/fs.h"
#include "models/parts.h"
#include "models/source.h"

#include <stdio.h>

/* Norms, biases and what does not come in whole blocks keep a plain format. */
static fj_dtype type_for(const fj_weight *w, fj_dtype wanted) {
    if (fj_weight_is_vector(w)) return FJ_F32;
    if (w->cols % fj_dtype_get(wanted)->block) return FJ_F16;
    return wanted;
}

/* The tensors of a file: the parts of every weight, in order. */
typedef struct pieces {
    fj_arena mem;
    struct piece {
        const fj_weight *w;
        fj_part part;
        fj_dtype type;
    } * v;
    int n;
    const fj_weight *last; /* whose values are in wide */
    float *wide, *row;
    uint8_t *buf;
    size_t wide_cap, row_cap, buf_cap;
} pieces;

static void list_pieces(pieces *p, const fj_model *m, fj_dtype type, bool gguf) {
    size_t cap = 0;
    for (int i = 0; i < m->n_w; i++) {
        fj_part *parts;
        int n = fj_parts_of(m, &m->w[i], gguf, &p->mem, &parts);
        FJ_GROW(p->v, (size_t)(p->n + n), cap);
        for (int k = 0; k < n; k++)
            p->v[p->n++] = (struct piece){ &m->w[i], parts[k], type_for(&m->w[i], type) };
    }
}

static void free_pieces(pieces *p) {
    free(p->v);
    free(p->wide);
    free(p->row);
    free(p->buf);
    fj_arena_free(&p->mem);
}

/* Bytes of a piece in p->buf, as the file has them. */
static bool piece_bytes(pieces *p, const fj_model *m, int64_t at_piece, size_t *bytes, fj_err *e) {
    FJ_ASSERT(p->v && at_piece < p->n);
    const struct piece *x = &p->v[at_piece];
    const fj_weight *w = x->w;
    const fj_part *t = &x->part;
    int64_t rows = t->turned ? t->cols : t->rows, cols = t->turned ? t->rows : t->cols;
    size_t one = (size_t)fj_dtype_size(x->type, 1, cols);
    *bytes = one * (size_t)(rows * t->mats);
    FJ_GROW(p->buf, *bytes, p->buf_cap);
    FJ_GROW(p->row, (size_t)cols, p->row_cap);
    if (p->last != w) {
        FJ_GROW(p->wide, (size_t)(w->rows * w->cols), p->wide_cap);
        if (!fj_weight_get(m, w, p->wide, e)) return false;
        p->last = w;
    }
    for (int64_t i = 0; i < t->mats; i++)
        for (int64_t r = 0; r < rows; r++) {
            int64_t from = t->turned ? 0 : fj_part_row(m, w, t, i, r) * t->cols;
            for (int64_t k = 0; k < cols; k++)
                p->row[k] = (t->turned ? p->wide[fj_part_row(m, w, t, i, k) * t->cols + r]
                                       : p->wide[from + k]) -
                            (t->less_one ? 1 : 0);
            int64_t at = i * rows + (t->pairs ? fj_gguf_row(m, w, r) : r);
            fj_quant_row(x->type, p->row, p->buf + (size_t)at * one, cols);
        }
    return true;
}

static bool parse_type(const char *type, fj_dtype *t, fj_err *e) {
    if (fj_dtype_parse(type, t) && *t != FJ_I32 && *t != FJ_F64 && *t != FJ_NF4) return true;
    return fj_fail(
        e, FJ_EINVAL,
        "weights cannot be written as \"%s\" (F32, F16, BF16, Q8_0, Q4_0, Q4_K, Q6_K and "
        "MXFP4 can)",
        type);
}

static bool has_tokenizer(const fj_model *m, fj_err *e) {
    return m->tok ||
           fj_fail(e, FJ_EUNSUP, "%s has no tokenizer, and a file of it would need one", m->path);
}

/* ---- GGUF ---------------------------------------------------------------------------------------- */
static void put_tokenizer(fj_gguf_writer *w, const fj_tok_parts *p, const fj_templates *t) {
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
    for (size_t i = 0; i < t->n; i++) {
        bool is_default = !strcmp(t->v[i].name, "default");
        fj_str key = { 0 };
        fj_str_addf(&key, "tokenizer.chat_template%s%s", is_default ? "" : ".",
                    is_default ? "" : t->v[i].name);
        fj_gguf_put_string(w, key.s, t->v[i].text);
        fj_str_free(&key);
    }
    free(s);
}

bool fj_model_save_gguf(const fj_model *m, const char *path, const char *type, fj_err *e) {
    static const struct {
        fj_dtype t;
        uint32_t ftype;
    } ftypes[] = {
        { FJ_F32, 0 },   { FJ_F16, 1 },   { FJ_Q4_0, 2 },  { FJ_Q8_0, 7 },
        { FJ_Q4_K, 14 }, { FJ_Q6_K, 18 }, { FJ_BF16, 32 }, { FJ_MXFP4, 38 },
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
    fj_gguf_put_string(w, "general.architecture", m->arch->name);
    fj_gguf_put_string(w, "general.type", "model");
    for (size_t i = 0; i < FJ_LEN(ftypes); i++)
        if (ftypes[i].t == t) fj_gguf_put_u32(w, "general.file_type", ftypes[i].ftype);
    fj_gguf_put_u32(w, "general.quantization_version", 2);
    bool ok = fj_hparams_to_gguf(m->arch, &m->hp, w, e);
    put_tokenizer(w, &parts, &m->templates);
    pieces p = { 0 };
    list_pieces(&p, m, t, true);
    fj_rope_file rope[2];
    int n_rope = fj_hparams_rope_tables(&m->hp, rope);
    for (int i = 0; i < n_rope; i++)
        fj_gguf_add_tensor(w, rope[i].name, FJ_F32, 1, (int64_t[]){ m->hp.rope.dims / 2 });
    for (int i = 0; i < p.n; i++) {
        const fj_part *x = &p.v[i].part;
        int64_t dim[3];
        for (int k = 0; k < x->n_dims; k++) dim[k] = x->dim[x->n_dims - 1 - k];
        fj_gguf_add_tensor(w, x->name, p.v[i].type, x->n_dims, dim);
    }
    for (int i = 0; i < n_rope; i++) {
        fj_gguf_write_data(w, rope[i].v, (size_t)m->hp.rope.dims / 2 * sizeof *rope[i].v);
        free(rope[i].v);
    }
    for (int i = 0; ok && i < p.n; i++) {
        size_t bytes;
        ok = piece_bytes(&p, m, i, &bytes, e);
        if (ok) fj_gguf_write_data(w, p.buf, bytes);
    }
    if (ok) ok = fj_gguf_writer_close(w, e);
    else fj_gguf_writer_abort(w);
    free_pieces(&p);
    fj_tokenizer_parts_free(&parts);
    return ok;
}

/* ---- Hugging Face folder ------------------------------------------------------------------------- */
/* "None" is written down: a class may have another default. */
static void set_id(json_t *o, const char *key, int32_t id) {
    json_object_set_new(o, key, id >= 0 ? json_integer(id) : json_null());
}

static json_t *config_json(const fj_model *m, fj_dtype t, fj_err *e) {
    json_t *o = fj_hparams_to_config(m->arch, &m->hp, e);
    if (!o) {
        fj_wrap(e, "%s", m->path);
        return NULL;
    }
    set_id(o, "bos_token_id", fj_token_bos(m->tok));
    set_id(o, "eos_token_id", fj_token_eos(m->tok));
    set_id(o, "pad_token_id", fj_token_pad(m->tok));
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

/* Is the one template of the model in the tokenizer_config.json that is written anyway? */
static bool template_in_config(const fj_model *m) {
    if (!m->tok_config) return m->chat_template != NULL;
    json_t *o = json_loads(m->tok_config, 0, NULL);
    const char *s = json_string_value(json_object_get(o, "chat_template"));
    bool same = s && m->chat_template && !strcmp(s, m->chat_template);
    json_decref(o);
    return same;
}

/* Names come from files and become file names. */
static bool name_ok(const char *s) {
    static const char ok[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    return *s && strlen(s) < 100 && strspn(s, ok) == strlen(s);
}

static bool write_templates(const fj_model *m, const char *dir, fj_err *e) {
    const fj_templates *t = &m->templates;
    if (t->n == 0 || (t->n == 1 && template_in_config(m))) return true;
    char *more = fj_path_join(dir, "additional_chat_templates");
    bool ok = t->n == 1 || fj_mkdirs(more, e);
    for (size_t i = 0; ok && i < t->n; i++) {
        bool is_default = !strcmp(t->v[i].name, "default");
        fj_str name = { 0 };
        fj_str_addf(&name, "%s.jinja", is_default ? "chat_template" : t->v[i].name);
        ok = (is_default || name_ok(t->v[i].name) ||
              fj_fail(e, FJ_EUNSUP,
                      "%s: a chat template is called \"%.60s\", which cannot be the name of a file",
                      m->path, t->v[i].name)) &&
             write_text(is_default ? dir : more, name.s, t->v[i].text, strlen(t->v[i].text), e);
        fj_str_free(&name);
    }
    free(more);
    return ok;
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
        if (m->chat_template && m->templates.n == 1)
            json_object_set_new(o, "chat_template", json_string(m->chat_template));
        ok = write_json(dir, "tokenizer_config.json", o, e);
    }
    ok = ok && write_templates(m, dir, e);
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
    pieces p = { 0 };
    list_pieces(&p, m, t, false);
    for (int i = 0; ok && i < p.n; i++)
        fj_st_writer_add(w, p.v[i].part.name, fj_dtype_get(p.v[i].type)->st, p.v[i].part.n_dims,
                         p.v[i].part.dim);
    for (int64_t i; ok && (i = fj_st_writer_next(w)) >= 0;) {
        size_t bytes;
        ok = piece_bytes(&p, m, i, &bytes, e);
        if (ok) fj_st_writer_data(w, p.buf, bytes);
    }
    if (ok) ok = fj_st_writer_close(w, e);
    else fj_st_writer_abort(w);
    free_pieces(&p);
    ok = ok && write_tokenizer(m, dir, e);
    if (ok) return write_json(dir, "config.json", config, e); /* last: a folder with it is whole */
    json_decref(config);
    return false;
}
