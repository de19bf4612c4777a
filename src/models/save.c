/* save.c - a model to a GGUF file or a Hugging Face folder, from the rows that loading reads. */
#include "models/save.h"
#include "base/fs.h"
#include "kernels/quant.h"
#include "models/reader.h"

#include <math.h>
#include <stdio.h>

fj_dtype fj_save_float(const fj_model *m, fj_err *e) {
    int64_t count[FJ_DTYPES] = { 0 };
    for (int i = 0; i < m->n_w; i++) {
        fj_reader r;
        if (fj_weight_is_vector(&m->w[i])) continue;
        if (!fj_reader_open(&r, m, NULL, &m->w[i], e)) return FJ_DTYPES;
        count[r.type] += m->w[i].rows * m->w[i].cols;
        fj_reader_close(&r);
    }
    fj_dtype best = FJ_F32;
    for (int t = 0; t < FJ_DTYPES; t++)
        if (count[t] > count[best]) best = (fj_dtype)t;
    return best == FJ_F32 || best == FJ_F16 ? best : FJ_BF16;
}

static bool parse_type(const char *type, fj_dtype *t, fj_err *e) {
    if (fj_dtype_parse(type, t) && *t != FJ_F64 && *t != FJ_NF4 && fj_quant_can(*t)) return true;
    return fj_fail(
        e, FJ_EINVAL,
        "weights cannot be written as \"%s\" (F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, "
        "Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS and MXFP4 can)",
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

/* Metadata of the model's own file that a new one has differently. */
static bool replaced(const char *key) {
    return !strncmp(key, "split.", 6) || !strcmp(key, "general.file_type") ||
           !strcmp(key, "general.quantization_version") || !strncmp(key, "quantize.imatrix.", 17);
}

/* A GGUF file that is open says all by itself; otherwise metadata are made of what the model knows. */
static bool put_metadata(const fj_model *m, const fj_save_opts *o, fj_gguf_writer *w, fj_err *e) {
    const fj_gguf *g = m->source ? m->source->gguf : NULL;
    bool ok = true;
    static const char template[] = "tokenizer.chat_template";
    for (size_t i = 0; g && i < g->n_kv; i++)
        if (replaced(g->kv[i].key)) continue;
        else if (m->chat_template && !strcmp(g->kv[i].key, template))
            fj_gguf_put_string(w, template, m->chat_template);
        else fj_gguf_put(w, &g->kv[i]);
    if (g && m->chat_template && !fj_gguf_find(g, template)) /* given since */
        fj_gguf_put_string(w, template, m->chat_template);
    if (!g) {
        fj_tok_parts parts = FJ_TOK_PARTS_INIT;
        fj_gguf_put_string(w, "general.architecture", m->arch->name);
        fj_gguf_put_string(w, "general.type", "model");
        ok = fj_hparams_to_gguf(m->arch, &m->hp, w, e) &&
             (!m->tok || fj_tokenizer_parts(m->tok, &parts, e));
        if (ok && m->tok) put_tokenizer(w, &parts, &m->templates);
        fj_tokenizer_parts_free(&parts);
    }
    fj_gguf_put_u32(w, "general.file_type", o->file_type);
    fj_gguf_put_u32(w, "general.quantization_version", 2);
    if (o->more) o->more(o->ctx, w);
    return ok;
}

static bool stopped(const fj_save_opts *o, const char *path, fj_err *e) {
    if (!fj_log_stop(o->log)) return false;
    if (o->key)
        fj_fail(e, FJ_ESTOP,
                "stopped; what is written of %s is kept, and the same command goes on from there",
                path);
    else fj_fail(e, FJ_ESTOP, "stopped before %s was written", path);
    return true;
}

/* Tensors before `next` are there. */
static void tell(const fj_save_opts *o, const fj_pieces *p, const char *path, int64_t next) {
    fj_log_progress(o->log, &(fj_progress){ .what = fj_base_name(path),
                                            .done = next,
                                            .total = p->n,
                                            .unit = "tensor",
                                            .loss = NAN,
                                            .eta_s = -1 });
}

static void to_gguf(void *w, const void *bytes, size_t n) { fj_gguf_write_data(w, bytes, n); }
static void to_st(void *w, const void *bytes, size_t n) { fj_st_writer_data(w, bytes, n); }

bool fj_save_gguf(const fj_model *m, const char *path, const fj_save_opts *o, fj_err *e) {
    fj_gguf_writer *w = NULL;
    fj_pieces p = { 0 };
    fj_rope_file rope[2];
    if (!o->more && !has_tokenizer(m, e)) return false;
    int n_rope = fj_hparams_rope_tables(&m->hp, rope);
    bool ok =
        fj_pieces_open(&p, m, true, o, e) &&
        (w = o->key ? fj_gguf_writer_resume(path, o->key, e) : fj_gguf_writer_open(path, e)) &&
        put_metadata(m, o, w, e);
    if (ok && o->max_bytes) fj_gguf_writer_split(w, (uint64_t)o->max_bytes);
    for (int i = 0; ok && i < n_rope; i++)
        fj_gguf_add_tensor(w, rope[i].name, FJ_F32, 1, (int64_t[]){ m->hp.rope.dims / 2 });
    for (int i = 0; ok && i < p.n; i++) {
        const fj_part *x = &p.v[i].part;
        int64_t dim[3];
        for (int k = 0; k < x->n_dims; k++) dim[k] = x->dim[x->n_dims - 1 - k];
        fj_gguf_add_tensor(w, x->name, p.v[i].s.to, x->n_dims, dim);
    }
    int64_t next = ok ? fj_gguf_writer_next(w) : -1;
    for (int64_t i = n_rope; ok && o->wrote && i < (next < 0 ? p.n + n_rope : next); i++)
        o->wrote(o->ctx, &p.v[i - n_rope].s);
    for (; ok && next >= 0; next = fj_gguf_writer_next(w)) {
        if (next < n_rope) {
            fj_gguf_write_data(w, rope[next].v, (size_t)m->hp.rope.dims / 2 * sizeof(float));
            continue;
        }
        fj_piece *x = &p.v[next - n_rope];
        ok = !stopped(o, path, e) && fj_piece_write(&p, x, to_gguf, w, e);
        if (ok && o->wrote) o->wrote(o->ctx, &x->s);
        if (ok) tell(o, &p, path, next - n_rope + 1);
    }
    if (ok) ok = fj_gguf_writer_close(w, e);
    else fj_gguf_writer_abort(w);
    for (int i = 0; i < n_rope; i++) free(rope[i].v);
    fj_pieces_close(&p);
    return ok;
}

bool fj_model_save_gguf(const fj_model *m, const char *path, const char *type, fj_err *e) {
    static const struct {
        fj_dtype t;
        uint32_t ftype;
    } ftypes[] = {
        { FJ_F32, 0 },     { FJ_F16, 1 },     { FJ_Q4_0, 2 },  { FJ_Q4_1, 3 },
        { FJ_Q8_0, 7 },    { FJ_Q5_0, 8 },    { FJ_Q5_1, 9 },  { FJ_Q2_K, 10 },
        { FJ_Q3_K, 11 },   { FJ_Q4_K, 14 },   { FJ_Q5_K, 16 }, { FJ_Q6_K, 18 },
        { FJ_IQ4_NL, 25 }, { FJ_IQ4_XS, 30 }, { FJ_BF16, 32 }, { FJ_MXFP4, 38 },
    };
    fj_save_opts o = { 0 };
    if (!parse_type(type, &o.type, e)) return false;
    for (size_t i = 0; i < FJ_LEN(ftypes); i++)
        if (ftypes[i].t == o.type) o.file_type = ftypes[i].ftype;
    return fj_save_gguf(m, path, &o, e);
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

bool fj_save_hf(const fj_model *m, const char *dir, const fj_save_opts *o, fj_err *e) {
    if (!has_tokenizer(m, e)) return false;
    if (!fj_dtype_get(o->type)->st)
        return fj_fail(e, FJ_EUNSUP,
                       "safetensors has no %s: write F32, F16 or BF16, or a GGUF file",
                       fj_dtype_get(o->type)->name);
    json_t *config = config_json(m, o->type, e);
    if (!config) return false;
    fj_pieces p = { 0 };
    fj_st_writer *w = NULL;
    bool ok =
        fj_mkdirs(dir, e) && fj_pieces_open(&p, m, false, o, e) &&
        (w = fj_st_writer_open_sharded(dir, o->max_bytes ? o->max_bytes : (int64_t)5 << 30, e));
    if (ok && o->key) fj_st_writer_resume(w, o->key);
    for (int i = 0; ok && i < p.n; i++)
        fj_st_writer_add(w, p.v[i].part.name, fj_dtype_get(p.v[i].s.to)->st, p.v[i].part.n_dims,
                         p.v[i].part.dim);
    int64_t done = 0;
    for (int64_t i; ok && (i = fj_st_writer_next(w)) >= 0;) {
        ok = !stopped(o, dir, e) && fj_piece_write(&p, &p.v[i], to_st, w, e);
        if (ok && o->wrote) o->wrote(o->ctx, &p.v[i].s);
        if (ok) tell(o, &p, dir, ++done);
    }
    if (ok) ok = fj_st_writer_close(w, e);
    else fj_st_writer_abort(w);
    fj_pieces_close(&p);
    ok = ok && write_tokenizer(m, dir, e);
    if (ok) return write_json(dir, "config.json", config, e); /* last: a folder with it is whole */
    json_decref(config);
    return false;
}

bool fj_model_save_hf(const fj_model *m, const char *dir, const char *type, fj_err *e) {
    fj_save_opts o = { 0 };
    return parse_type(type, &o.type, e) && fj_save_hf(m, dir, &o, e);
}
