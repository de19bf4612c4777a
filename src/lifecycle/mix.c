/* mix.c - the table of mixes, and the few rules that are not in it. */
#include "lifecycle/mix.h"

#include "base/mem.h"

#include <stdio.h>
#include <strings.h>

typedef enum when {
    NEVER,
    ALWAYS,
    SHARED,     /* four heads or more share a key and a value: those are small */
    SOME,       /* the first and the last eighth of the layers, and every third between */
    EIGHTH,     /* the first eighth */
    SIXTEENTH,  /* the first sixteenth */
    FIRST_2,    /* layers 0 and 1 */
    FIRST_4,    /* layers 0 to 3 */
    EIGHTH_IM,  /* the first eighth, with an importance matrix */
    EIGHTH_NOT, /* the first eighth, without one */
} when;

typedef struct rule {
    when w;
    fj_ggml type;
} rule;

struct fj_mix {
    const char *name;
    uint32_t file_type;
    fj_ggml base;
    rule value[2],
        down[2]; /* attn_v and attn_qkv, ffn_down: the first rule that holds, else base */
    rule out;    /* attn_output */
    rule out8;   /* the same of models with eight experts */
};

#define Q(x) FJ_GGML_##x
static const fj_mix mixes[] = {
    { "Q2_K_S", 21, Q(Q2_K), { { SHARED, Q(Q4_K) } }, { { EIGHTH, Q(Q4_K) } }, { 0 }, { 0 } },
    { "Q2_K",
      10,
      Q(Q2_K),
      { { SHARED, Q(Q4_K) }, { ALWAYS, Q(Q3_K) } },
      { { ALWAYS, Q(Q3_K) } },
      { ALWAYS, Q(Q3_K) },
      { ALWAYS, Q(Q5_K) } },
    { "Q3_K_S", 11, Q(Q3_K), { { 0 } }, { { 0 } }, { 0 }, { ALWAYS, Q(Q5_K) } },
    { "Q3_K_M",
      12,
      Q(Q3_K),
      { { FIRST_2, Q(Q5_K) }, { ALWAYS, Q(Q4_K) } },
      { { SIXTEENTH, Q(Q5_K) }, { ALWAYS, Q(Q4_K) } },
      { ALWAYS, Q(Q4_K) },
      { ALWAYS, Q(Q5_K) } },
    { "Q3_K_L",
      13,
      Q(Q3_K),
      { { ALWAYS, Q(Q5_K) } },
      { { ALWAYS, Q(Q5_K) } },
      { ALWAYS, Q(Q5_K) },
      { 0 } },
    { "IQ4_XS",
      30,
      Q(IQ4_XS),
      { { SHARED, Q(Q5_K) } },
      { { EIGHTH_NOT, Q(Q5_K) } },
      { 0 },
      { ALWAYS, Q(Q5_K) } },
    { "MXFP4_MOE", 38, Q(MXFP4), { { 0 } }, { { 0 } }, { 0 }, { 0 } },
    { "IQ4_NL",
      25,
      Q(IQ4_NL),
      { { SHARED, Q(Q5_K) } },
      { { EIGHTH_NOT, Q(Q5_K) } },
      { 0 },
      { ALWAYS, Q(Q5_K) } },
    { "Q4_0", 2, Q(Q4_0), { { 0 } }, { { EIGHTH_IM, Q(Q4_1) } }, { 0 }, { 0 } },
    { "Q4_K_S",
      14,
      Q(Q4_K),
      { { FIRST_4, Q(Q5_K) } },
      { { EIGHTH, Q(Q5_K) } },
      { 0 },
      { ALWAYS, Q(Q5_K) } },
    { "Q4_K_M",
      15,
      Q(Q4_K),
      { { SOME, Q(Q6_K) } },
      { { SOME, Q(Q6_K) } },
      { 0 },
      { ALWAYS, Q(Q5_K) } },
    { "Q4_1", 3, Q(Q4_1), { { 0 } }, { { 0 } }, { 0 }, { 0 } },
    { "Q5_0", 8, Q(Q5_0), { { 0 } }, { { EIGHTH_IM, Q(Q5_1) } }, { 0 }, { 0 } },
    { "Q5_K_S", 16, Q(Q5_K), { { 0 } }, { { 0 } }, { 0 }, { 0 } },
    { "Q5_K_M", 17, Q(Q5_K), { { SOME, Q(Q6_K) } }, { { SOME, Q(Q6_K) } }, { 0 }, { 0 } },
    { "Q5_1", 9, Q(Q5_1), { { 0 } }, { { 0 } }, { 0 }, { 0 } },
    { "Q6_K", 18, Q(Q6_K), { { 0 } }, { { 0 } }, { 0 }, { 0 } },
    { "Q8_0", 7, Q(Q8_0), { { 0 } }, { { 0 } }, { 0 }, { 0 } },
    { "F16", 1, Q(F16), { { 0 } }, { { 0 } }, { 0 }, { 0 } },
    { "BF16", 32, Q(BF16), { { 0 } }, { { 0 } }, { 0 }, { 0 } },
    { "F32", 0, Q(F32), { { 0 } }, { { 0 } }, { 0 }, { 0 } },
};

static const char *const aliases[][2] = { { "Q3_K", "Q3_K_M" },
                                          { "Q4_K", "Q4_K_M" },
                                          { "Q5_K", "Q5_K_M" } };

const fj_mix *fj_mix_at(size_t i) { return i < FJ_LEN(mixes) ? &mixes[i] : NULL; }
const char *fj_mix_name(const fj_mix *m) { return m->name; }
uint32_t fj_mix_file_type(const fj_mix *m) { return m->file_type; }

const fj_mix *fj_mix_find(const char *name, fj_err *e) {
    const char *want = name;
    for (size_t i = 0; i < FJ_LEN(aliases); i++)
        if (!strcasecmp(name, aliases[i][0])) want = aliases[i][1];
    for (size_t i = 0; i < FJ_LEN(mixes); i++)
        if (!strcasecmp(want, mixes[i].name)) return &mixes[i];
    fj_str all = { 0 };
    for (size_t i = 0; i < FJ_LEN(mixes); i++) fj_str_addf(&all, " %s", mixes[i].name);
    fj_fail(e, FJ_EINVAL, "unknown quantisation \"%.40s\"; there are%s", name, all.s);
    fj_str_free(&all);
    return NULL;
}

static int64_t block_of(fj_ggml t) {
    switch (t) {
    case FJ_GGML_F32:
    case FJ_GGML_F16:
    case FJ_GGML_BF16: return 1;
    case FJ_GGML_Q2_K:
    case FJ_GGML_Q3_K:
    case FJ_GGML_Q4_K:
    case FJ_GGML_Q5_K:
    case FJ_GGML_Q6_K:
    case FJ_GGML_IQ4_XS: return 256;
    default: return 32;
    }
}

/* Rows that are not whole blocks of t. */
static fj_ggml fitting(fj_ggml t, int64_t cols) {
    if (cols % block_of(t) == 0) return t;
    switch (t) {
    case FJ_GGML_Q2_K:
    case FJ_GGML_Q3_K: t = FJ_GGML_Q4_0; break;
    case FJ_GGML_IQ4_XS: t = FJ_GGML_IQ4_NL; break;
    case FJ_GGML_Q4_K: t = FJ_GGML_Q5_0; break;
    case FJ_GGML_Q5_K: t = FJ_GGML_Q5_1; break;
    case FJ_GGML_Q6_K: t = FJ_GGML_Q8_0; break;
    default: return FJ_GGML_F16;
    }
    return cols % block_of(t) == 0 ? t : FJ_GGML_F16;
}

static bool holds(when w, const fj_mix_model *m, int l) {
    int n = m->layers, eighth = n / 8;
    switch (w) {
    case NEVER: return false;
    case ALWAYS: return true;
    case SHARED: return m->kv_heads > 0 && m->heads / m->kv_heads >= 4;
    case SOME: return l < eighth || l >= 7 * n / 8 || (l - eighth) % 3 == 2;
    case EIGHTH: return l < eighth;
    case SIXTEENTH: return l < n / 16;
    case FIRST_2: return l < 2;
    case FIRST_4: return l < 4;
    case EIGHTH_IM: return l < eighth && m->imatrix;
    case EIGHTH_NOT: return l < eighth && !m->imatrix;
    }
    return false;
}

static fj_ggml first_of(const rule *r, size_t n, fj_ggml base, const fj_mix_model *m, int l) {
    for (size_t i = 0; i < n; i++)
        if (holds(r[i].w, m, l)) return r[i].type;
    return base;
}

/* Those of 80 layers whose values get at least five bits: llama.cpp's "70B". */
static bool is_70b(const fj_mix_model *m) {
    return m->layers == 80 &&
           (!strcmp(m->arch, "qwen2") || (!strcmp(m->arch, "llama") && m->heads != m->kv_heads));
}

static bool contains(const fj_mix_tensor *t, const char *part) {
    return strstr(t->name, part) != NULL;
}

/* Everything else stays F32. */
static bool is_quantised(const fj_mix_tensor *t) {
    size_t n = strlen(t->name);
    return (t->rows > 1 || t->mats > 1) && n >= 6 && !strcmp(t->name + n - 6, "weight") &&
           !contains(t, "_norm.weight") && !contains(t, "ffn_gate_inp.weight") &&
           strcmp(t->name, "position_embd.weight") != 0;
}

static fj_ggml of_value(const fj_mix *x, const fj_mix_model *m, int l) {
    fj_ggml t = first_of(x->value, FJ_LEN(x->value), x->base, m, l);
    if (is_70b(m) && (t == FJ_GGML_Q3_K || t == FJ_GGML_Q4_K)) t = FJ_GGML_Q5_K;
    return m->experts == 8 ? FJ_GGML_Q8_0 : t;
}

static fj_ggml of_head(const fj_mix *x, int64_t cols) {
    if (x->base == FJ_GGML_Q8_0 || x->base == FJ_GGML_MXFP4 || cols % block_of(x->base) != 0)
        return FJ_GGML_Q8_0;
    return FJ_GGML_Q6_K;
}

uint32_t fj_mix_type(const fj_mix *x, const fj_mix_model *m, const fj_mix_tensor *t) {
    if (!is_quantised(t)) return FJ_GGML_F32;
    bool embed = !strcmp(t->name, "token_embd.weight");
    fj_ggml type = x->base;
    if (block_of(type) == 1) return type;
    if (!strcmp(t->name, "output.weight") || (embed && m->tied)) type = of_head(x, t->cols);
    else if (type == FJ_GGML_MXFP4) type = t->mats > 1 ? FJ_GGML_MXFP4 : FJ_GGML_Q8_0;
    else if (embed) type = x->base;
    else if (contains(t, "attn_v.weight") || contains(t, "attn_qkv.weight"))
        type = of_value(x, m, t->layer);
    else if (contains(t, "attn_k.weight")) type = m->experts == 8 ? FJ_GGML_Q8_0 : type;
    else if (contains(t, "ffn_down")) type = first_of(x->down, FJ_LEN(x->down), type, m, t->layer);
    else if (contains(t, "attn_output.weight"))
        type = first_of(m->experts == 8 ? &x->out8 : &x->out, 1, type, m, t->layer);
    return fitting(type, t->cols);
}

bool fj_mix_needs_imatrix(const fj_mix *x, const fj_mix_tensor *t, uint32_t type) {
    return x->file_type == 21 && type == FJ_GGML_Q2_K &&
           strcmp(t->name, "token_embd.weight") != 0 && strcmp(t->name, "output.weight") != 0;
}
