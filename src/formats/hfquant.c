#include "formats/hfquant.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include "formats/hf.h"
#include "formats/hfquant_in.h"

#include <pcre2.h>

enum { MATCH_LIMIT = 100000 }; /* steps of one expression on one name */

bool fj_hfq_open(const json_t *config, const char *file, fj_hfq **q, fj_err *e) {
    *q = NULL;
    const json_t *quant = fj_js_find(config, "quantization_config");
    if (!quant) return true;
    fj_hfq *h = fj_zalloc(sizeof *h);
    h->file = fj_arena_strdup(&h->mem, file);
    if (!fj_hfq_parse(h, config, quant, e)) {
        fj_hfq_close(h);
        return false;
    }
    if (!h->name) fj_hfq_close(h); /* read elsewhere */
    else *q = h;
    return true;
}

void fj_hfq_close(fj_hfq *q) {
    if (!q) return;
    for (size_t i = 0; i < q->n_skip; i++) pcre2_code_free(q->skip[i].re);
    fj_arena_free(&q->mem);
    free(q);
}

const char *fj_hfq_name(const fj_hfq *q) { return q->name; }

/* ---- tensors ------------------------------------------------------------------------------------- */
const fj_st_tensor *fj_hfq_beside(const fj_st *st, const char *base, const char *suffix) {
    fj_str s = { 0 };
    fj_str_add(&s, base);
    fj_str_add(&s, suffix);
    const fj_st_tensor *t = fj_st_find(st, s.s);
    fj_str_free(&s);
    return t;
}

bool fj_hfq_is_type(const fj_st_tensor *t, const char *types) {
    size_t n = strlen(t->type_name);
    for (const char *p = types; p; p = strchr(p, '|')) {
        p += *p == '|';
        if (!strncmp(p, t->type_name, n) && (p[n] == '|' || !p[n])) return true;
    }
    return false;
}

static void add_shape(fj_str *s, int n, const int64_t *dim) {
    fj_str_addc(s, '[');
    for (int i = 0; i < n; i++) fj_str_addf(s, "%s%lld", i ? ", " : "", (long long)dim[i]);
    fj_str_addc(s, ']');
}

const fj_st_tensor *fj_hfq_need(const fj_st *st, const char *base, const char *suffix,
                                const char *types, int n_dims, const int64_t *dim, fj_err *e) {
    const fj_st_tensor *t = fj_hfq_beside(st, base, suffix);
    if (!t) {
        fj_fail(e, FJ_EFORMAT, "%s: tensor %s%s is missing beside the others of %s", st->name, base,
                suffix, base);
        return NULL;
    }
    bool same = n_dims < 0 || t->n_dims == n_dims;
    for (int i = 0; i < n_dims && same; i++) same = t->dim[i] == dim[i];
    if (same && fj_hfq_is_type(t, types)) return t;
    fj_str s = { 0 };
    fj_str_addf(&s, "%s ", t->type_name);
    add_shape(&s, t->n_dims, t->dim);
    fj_str_addf(&s, ", expected %s", types);
    for (size_t i = 0; i < s.n; i++)
        if (s.s[i] == '|') s.s[i] = '/';
    if (n_dims >= 0) {
        fj_str_addc(&s, ' ');
        add_shape(&s, n_dims, dim);
    }
    fj_fail(e, FJ_EFORMAT, "%s: tensor %s is %s", st->name, t->name, s.s);
    fj_str_free(&s);
    return NULL;
}

int64_t fj_hfq_count(const fj_st_tensor *t) {
    int64_t n = 1; /* the reader of the file has seen that it fits */
    for (int i = 0; i < t->n_dims; i++) n *= t->dim[i];
    return n;
}

bool fj_hfq_matrix(const fj_st *st, const fj_st_tensor *t, fj_err *e) {
    if (t->n_dims == 2 && t->bytes > 0) return true;
    return fj_fail(e, FJ_EFORMAT,
                   "%s: tensor %s has %d dimensions and %lld bytes, expected a matrix", st->name,
                   t->name, t->n_dims, (long long)t->bytes);
}

float fj_hfq_scale(const fj_st_tensor *t, int64_t i) {
    union {
        uint32_t u;
        float f;
    } nan = { 0x7fc00000 };
    if (t->usable) {
        if (t->dtype == FJ_F32) return ((const float *)t->data)[i];
        uint16_t h = ((const uint16_t *)t->data)[i];
        return t->dtype == FJ_BF16 ? fj_bf16_to_f32(h) : fj_f16_to_f32(h);
    }
    return t->data[i] == 255 ? nan.f : 2 * fj_e8m0_half(t->data[i]); /* F8_E8M0 */
}

/* ---- weights ------------------------------------------------------------------------------------- */
static bool matches(const fj_hfq_skip *s, const char *x) {
    size_t n = strlen(x), k = strlen(s->pattern);
    if (s->suffix && n >= k && !strcmp(x + n - k, s->pattern)) return true;
    if (!s->re) return !strcmp(x, s->pattern);
    pcre2_match_data *m = pcre2_match_data_create(1, NULL);
    pcre2_match_context *c = pcre2_match_context_create(NULL);
    FJ_ASSERT(m && c);
    pcre2_set_match_limit(c, MATCH_LIMIT);
    pcre2_set_depth_limit(c, MATCH_LIMIT);
    int r = pcre2_match(s->re, (PCRE2_SPTR)x, n, 0, 0, m, c);
    pcre2_match_context_free(c);
    pcre2_match_data_free(m);
    return r >= 0;
}

static bool not_listed(const fj_hfq *q, const fj_st *st, const char *x, fj_err *e) {
    for (size_t i = 0; i < q->n_skip; i++)
        if (matches(&q->skip[i], x))
            return fj_fail(e, FJ_EFORMAT,
                           "%s: the weight of %s is quantised, but \"%s\" in %s of %s says that it "
                           "is not",
                           st->name, x, q->skip[i].pattern, q->skip[i].key, q->file);
    return true;
}

/* The module of a weight's name, in a; NULL: it does not end in .weight. */
static const char *module_of(const char *name, fj_arena *a) {
    size_t n = strlen(name);
    return n > 7 && !strcmp(name + n - 7, ".weight") ? fj_arena_strndup(a, name, n - 7) : NULL;
}

bool fj_hfq_find(const fj_hfq *q, const fj_st *st, const char *name, fj_hfq_weight *w, fj_err *e) {
    *w = (fj_hfq_weight){ .kind = FJ_HFQ_PLAIN };
    fj_arena mem = { 0 };
    const char *x = q ? module_of(name, &mem) : NULL;
    bool ok = true;
    if (x) {
        w->dtype = q->memory;
        switch (q->method) {
        case FJ_HFQ_M_BNB: ok = fj_hfq_find_bnb(q, st, x, w, e); break;
        case FJ_HFQ_M_GPTQ:
        case FJ_HFQ_M_AWQ: ok = fj_hfq_find_packed(q, st, x, w, e); break;
        case FJ_HFQ_M_FP8:
        case FJ_HFQ_M_FBGEMM:
        case FJ_HFQ_M_COMPRESSED: ok = fj_hfq_find_scaled(q, st, x, w, e); break;
        }
        if (ok && w->kind != FJ_HFQ_PLAIN) ok = not_listed(q, st, x, e);
    }
    if (!ok) *w = (fj_hfq_weight){ .kind = FJ_HFQ_PLAIN };
    fj_arena_free(&mem);
    return ok;
}

const char *fj_hfq_owner(const fj_hfq *q, const fj_st *st, const char *tensor, fj_arena *a) {
    static const struct {
        fj_hfq_method method;
        const char *end;
    } ends[] = {
        { FJ_HFQ_M_BNB, ".weight.absmax" },
        { FJ_HFQ_M_BNB, ".weight.quant_map" },
        { FJ_HFQ_M_BNB, ".weight.nested_absmax" },
        { FJ_HFQ_M_BNB, ".weight.nested_quant_map" },
        { FJ_HFQ_M_BNB, ".weight.quant_state.bitsandbytes__nf4" },
        { FJ_HFQ_M_BNB, ".weight.quant_state.bitsandbytes__fp4" },
        { FJ_HFQ_M_BNB, ".SCB" },
        { FJ_HFQ_M_BNB, ".weight_format" },
        { FJ_HFQ_M_GPTQ, ".qweight" },
        { FJ_HFQ_M_GPTQ, ".qzeros" },
        { FJ_HFQ_M_GPTQ, ".scales" },
        { FJ_HFQ_M_GPTQ, ".g_idx" },
        { FJ_HFQ_M_AWQ, ".qweight" },
        { FJ_HFQ_M_AWQ, ".qzeros" },
        { FJ_HFQ_M_AWQ, ".scales" },
        { FJ_HFQ_M_FP8, ".weight_scale_inv" },
        { FJ_HFQ_M_FP8, ".weight_scale" },
        { FJ_HFQ_M_FP8, ".input_scale" },
        { FJ_HFQ_M_FP8, ".activation_scale" },
        { FJ_HFQ_M_FBGEMM, ".weight_scale" },
        { FJ_HFQ_M_FBGEMM, ".input_scale_ub" },
        { FJ_HFQ_M_COMPRESSED, ".weight_scale" },
        { FJ_HFQ_M_COMPRESSED, ".input_scale" },
        { FJ_HFQ_M_COMPRESSED, ".weight_packed" },
        { FJ_HFQ_M_COMPRESSED, ".weight_shape" },
        { FJ_HFQ_M_COMPRESSED, ".weight_zero_point" },
    };
    if (!q) return NULL;
    size_t n = strlen(tensor), cut = 0;
    for (size_t i = 0; i < FJ_LEN(ends) && !cut; i++) {
        size_t k = strlen(ends[i].end);
        if (ends[i].method == q->method && n > k && !strcmp(tensor + n - k, ends[i].end))
            cut = n - k;
    }
    if (!cut && n > 7 && !strcmp(tensor + n - 7, ".weight")) cut = n - 7;
    if (!cut) return NULL;
    const char *name = fj_arena_printf(a, "%.*s.weight", (int)cut, tensor);
    fj_hfq_weight w;
    fj_err e = { 0 };
    return fj_hfq_find(q, st, name, &w, &e) && w.kind == FJ_HFQ_PLAIN ? NULL : name;
}

bool fj_hfq_idle(const fj_hfq *q, const fj_st *st, const char *tensor) {
    if (!q || (q->method != FJ_HFQ_M_GPTQ && q->method != FJ_HFQ_M_AWQ)) return false;
    size_t n = strlen(tensor);
    if (n <= 5 || strcmp(tensor + n - 5, ".bias") != 0) return false;
    const fj_st_tensor *t = fj_st_find(st, tensor);
    fj_arena mem = { 0 };
    bool idle = t && fj_hfq_beside(st, fj_arena_strndup(&mem, tensor, n - 5), ".qweight") != NULL;
    for (int64_t i = 0; idle && i < t->bytes; i++) idle = t->data[i] == 0;
    fj_arena_free(&mem);
    return idle;
}

void fj_hfq_rows(const fj_hfq_weight *w, int64_t row0, int64_t n, float *out) {
    FJ_ASSERT(row0 >= 0 && n >= 0 && row0 <= w->rows - n);
    switch (w->kind) {
    case FJ_HFQ_PLAIN: break;
    case FJ_HFQ_BNB4: fj_hfq_rows_bnb4(w, row0, n, out); break;
    case FJ_HFQ_INT8: fj_hfq_rows_int8(w, row0, n, out); break;
    case FJ_HFQ_GPTQ: fj_hfq_rows_gptq(w, row0, n, out); break;
    case FJ_HFQ_AWQ: fj_hfq_rows_awq(w, row0, n, out); break;
    case FJ_HFQ_SCALED: fj_hfq_rows_scaled(w, row0, n, out); break;
    case FJ_HFQ_PACKED: fj_hfq_rows_packed(w, row0, n, out); break;
    }
}
