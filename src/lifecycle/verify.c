#include "lifecycle/verify_in.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

const char *const fj_lost_names[FJ_LOSTS] = { "nothing", "template", "tokenizer", "adapter",
                                              "merge",   "quantise", "weights" };

/* ---- limits --------------------------------------------------------------------------------------- */
/* By the beginning of the name, longer ones first; nats. */
static const struct {
    const char *kind;
    double limit;
} limits[] = {
    { "adapter", 1e-6 }, { "gguf-adapter", 1e-6 }, { "F32", 1e-6 },  { "BF16", 1e-3 },
    { "F16", 1e-3 },     { "Q8_0", 5e-3 },         { "Q6_K", 1e-2 }, { "Q5_", 4e-2 },
    { "Q4_K", 1e-1 },    { "IQ4_", 1e-1 },         { "NF4", 1e-1 },  { "FP4", 2e-1 },
    { "Q4_", 2e-1 },     { "MXFP4", 5e-1 },        { "Q3_K", 3e-1 }, { "IQ3_", 3e-1 },
    { "Q2_K", 8e-1 },    { "IQ2_", 8e-1 },
};

double fj_verify_limit(const char *kind) {
    for (size_t i = 0; kind && i < FJ_LEN(limits); i++) {
        const char *a = limits[i].kind, *b = kind;
        while (*a && toupper((unsigned char)*a) == toupper((unsigned char)*b)) a++, b++;
        if (!*a) return limits[i].limit;
    }
    return 0;
}

/* Weights of another format are computed with in another arithmetic (rows of bf16, or of 8 bits), which is a
 * difference of its own: the coarsest matrices of a model say which.  Attention rounds to bf16 whatever the weights:
 * a last digit more or less before it is a step of 1/256 after it, here and there. */
static double arithmetic(const fj_model *m) {
    const double attention = m->dev->plan.f32 ? 0 : 1e-4;
    double most = m->dev->act == FJ_F32 ? attention : fj_verify_limit("BF16");
    for (int i = 0; i < m->n_w; i++) {
        fj_dtype t = m->w[i].dtype;
        if (fj_weight_is_vector(&m->w[i])) continue;
        most = FJ_MAX(most, t == FJ_F32                   ? fj_verify_limit("F32")
                            : t == FJ_F16 || t == FJ_BF16 ? fj_verify_limit("BF16")
                                                          : fj_verify_limit("Q8_0"));
    }
    return most;
}

/* ---- sides ---------------------------------------------------------------------------------------- */
/* What was opened for a side, and is closed here. */
typedef struct opened {
    fj_model *m;
    const fj_lora *lora;
    fj_model *own_m;
    fj_lora *own_lora;
} opened;

static void close_lora(opened *o) {
    fj_lora_close(o->own_lora);
    o->own_lora = NULL;
    o->lora = NULL;
}

static void close_side(opened *o) {
    close_lora(o);
    fj_model_close(o->own_m);
    *o = (opened){ 0 };
}

/* Opens side in o, which may hold the side before: its model stays where it is the same. */
static bool open_side(fj_dev *d, opened *o, const fj_verify_side *side, const fj_log *log,
                      fj_err *e) {
    bool same = o->m && (side->m ? o->m == side->m
                                 : o->own_m && side->model && !strcmp(o->m->path, side->model));
    if (same) close_lora(o);
    else close_side(o);
    if (!same && !side->m) {
        FJ_ASSERT(side->model);
        if (!(o->own_m = fj_model_open(d, side->model, NULL, log, e))) return false;
    }
    o->m = side->m ? side->m : o->own_m;
    o->lora = side->lora;
    if (side->lora || !side->adapter) return true;
    o->lora = o->own_lora = fj_lora_open(o->m, side->adapter, e);
    return o->lora != NULL;
}

static bool hash_adapter(const char *path, char hex[65], fj_err *e) {
    if (!fj_is_dir(path)) return fj_sha256_file(path, hex, e);
    char *file = fj_path_join(path, "adapter_model.safetensors");
    bool ok = fj_sha256_file(file, hex, e);
    free(file);
    return ok;
}

static bool about(fj_verified *v, fj_verify_about *a, const opened *o, const fj_verify_side *side,
                  const char *chat, fj_err *e) {
    fj_arena *mem = &v->arena;
    a->model = fj_arena_strdup(mem, side->model ? side->model : o->m->path);
    a->adapter = side->adapter ? fj_arena_strdup(mem, side->adapter) : NULL;
    a->formats = fj_arena_strdup(mem, o->m->formats ? o->m->formats : "");
    a->chat = fj_arena_strdup(mem, chat);
    a->vocab = o->m->hp.vocab;
    const fj_verify_about *t = &v->trained;
    const char *known = side->hash;
    if (!known && a != t && !strcmp(a->model, t->model)) known = t->model_hash;
    if (known) memcpy(a->model_hash, known, FJ_MIN(strlen(known), (size_t)64));
    else if (!fj_model_hash(o->m, a->model_hash, e)) return false;
    return !side->adapter || hash_adapter(side->adapter, a->adapter_hash, e);
}

/* ---- texts and ids -------------------------------------------------------------------------------- */
static bool within(const char *s, size_t n, size_t at) { /* a character? */
    return at < n && ((unsigned char)s[at] & 0xc0) == 0x80;
}

/* Around byte `at`; whole characters. */
static int around(const fj_spelled *x, size_t at, const char **s) {
    size_t from = at > 20 ? at - 20 : 0, to = FJ_MIN(x->text_n, at + 40);
    while (from && within(x->text, x->text_n, from)) from--;
    while (to > from && within(x->text, x->text_n, to)) to--;
    *s = x->text_n ? x->text + from : "";
    return (int)(to - from);
}

/* Around the first byte that differs; fj_fail makes control bytes visible and harmless. */
static void text_differs(fj_err *w, const char *name, const fj_spelled *a, const fj_spelled *b) {
    if (a->refused || b->refused) {
        fj_fail(w, FJ_EGATE, "%s: the %s side refuses it: %.200s", name,
                a->refused ? "trained" : "exported", a->refused ? a->refused : b->refused);
        return;
    }
    size_t i = 0, n = FJ_MIN(a->text_n, b->text_n);
    while (i < n && a->text[i] == b->text[i]) i++;
    const char *p, *q;
    int pn = around(a, i, &p), qn = around(b, i, &q);
    fj_fail(w, FJ_EGATE, "%s, byte %zu of its text: trained \"%.*s\", exported \"%.*s\"", name, i,
            pn, p, qn, q);
}

static void ids_differ(fj_err *w, const char *name, const fj_spelled *a, const fj_spelled *b) {
    size_t i = 0, n = FJ_MIN(a->n, b->n);
    while (i < n && a->ids[i] == b->ids[i]) i++;
    fj_str s = { 0 };
    const fj_spelled *side[] = { a, b };
    for (int k = 0; k < 2; k++) {
        fj_str_add(&s, k ? ", exported" : " trained");
        for (size_t j = i; j < i + 6 && j < side[k]->n; j++)
            fj_str_addf(&s, " %d", side[k]->ids[j]);
        if (i >= side[k]->n) fj_str_add(&s, " ends");
    }
    fj_fail(w, FJ_EGATE, "%s, token %zu of the same text:%s", name, i, s.s);
    fj_str_free(&s);
}

static bool same_text(const fj_spelled *a, const fj_spelled *b) {
    if (a->refused || b->refused) return a->refused && b->refused;
    if (a->text_n != b->text_n) return false;
    return !a->text_n || !memcmp(a->text, b->text, a->text_n);
}

static bool same_ids(const fj_spelled *a, const fj_spelled *b) {
    if (a->refused || b->refused) return a->refused && b->refused;
    return a->n == b->n && !memcmp(a->ids, b->ids, a->n * sizeof *a->ids);
}

/* Returns rows of the same text whose ids are not the same.  ChatML and raw have no text of their own:
 * the ids are the spelling then, unless the two sides spell in different ways. */
static int64_t compare_spelling(fj_verified *v, const fj_dataset *d, const fj_spelling *a,
                                const fj_spelling *b) {
    fj_err text = { 0 }, ids = { 0 };
    int64_t mangled = 0;
    char name[512];
    for (size_t i = 0; i < d->n; i++) {
        const fj_spelled *x = &a->row[i], *y = &b->row[i];
        bool talk = d->rows[i].messages != NULL,
             way = !talk || (a->kind == FJ_CHAT_RAW) == (b->kind == FJ_CHAT_RAW);
        bool t = way && same_text(x, y), k = same_ids(x, y);
        v->refused += x->refused != NULL;
        v->texts += talk;
        v->text_equal += talk && t;
        v->ids_equal += k;
        mangled += t && !k;
        fj_row_name(d, &d->rows[i], name, sizeof name);
        if (!way && !text.code)
            fj_fail(&text, FJ_EGATE, "%s: trained with %s, exported with %s", name, a->chat,
                    b->chat);
        else if (!t && !text.code) text_differs(&text, name, x, y);
        if (t && !k && !ids.code) ids_differ(&ids, name, x, y);
    }
    v->text_differs = fj_arena_strdup(&v->arena, text.msg);
    v->ids_differ = fj_arena_strdup(&v->arena, ids.msg);
    v->tokens = a->vocab;
    for (int32_t i = 0; i < a->vocab; i++) {
        bool there = i < b->vocab;
        bool same = there && a->token[i].n == b->token[i].n &&
                    !memcmp(a->token[i].p, b->token[i].p, a->token[i].n);
        /* Numbers that no text comes to have whatever name a file gives them. */
        v->tokens_other += (a->token[i].n && !same) || a->ends[i] != (there && b->ends[i]);
    }
    return mangled;
}

/* ---- verdict -------------------------------------------------------------------------------------- */
static bool over(const fj_verify_numbers *n, double limit) { return !(n->kl_mean <= limit); }

static void lose(fj_verified *v, fj_lost what, const char *fmt, ...) FJ_PRINTF(3, 4);
static void lose(fj_verified *v, fj_lost what, const char *fmt, ...) {
    if (v->lost) return; /* the first step is the cause of what follows */
    char why[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    v->lost = what;
    v->why = fj_arena_strdup(&v->arena, why);
}

static void judge(fj_verified *v, int64_t mangled, const fj_verify_opts *o) {
    if (v->text_equal < v->texts && !o->allow_text)
        lose(v, FJ_LOST_TEMPLATE, "%lld of %lld conversations are another text in the export: %s",
             (long long)(v->texts - v->text_equal), (long long)v->texts, v->text_differs);
    if (mangled && !o->allow_ids)
        lose(v, FJ_LOST_TOKENIZER,
             "%lld of %lld rows are other token ids in the export, from the same text: %s",
             (long long)mangled, (long long)v->rows, v->ids_differ);
    if (v->tokens_other && !o->allow_ids)
        lose(v, FJ_LOST_TOKENIZER,
             "%lld of %lld token ids stand for other bytes in the export, or end an answer on one "
             "side alone",
             (long long)v->tokens_other, (long long)v->tokens);
    if (!v->compared)
        lose(v, FJ_LOST_TOKENIZER,
             "the trained model predicts %lld tokens, the export %lld: they cannot be compared",
             (long long)v->trained.vocab, (long long)v->exported.vocab);
    else if (v->n.base_kl < 0.8 * v->n.near_kl)
        lose(v, FJ_LOST_MERGE,
             "the export is nearer to the base without the adapter (mean KL %.3g) than to the "
             "trained model (%.3g): the adapter is not in it",
             v->n.base_kl, v->n.near_kl);
    else if (over(&v->n, v->max_kl)) {
        const char *name = v->kind ? v->kind : "what was asked for";
        double kl = v->n.kl_mean, max = v->max_kl;
        if (v->exported.adapter)
            lose(v, FJ_LOST_ADAPTER, "mean KL %.3g is over %.3g, the limit of %s", kl, max, name);
        else if (!v->has_merged && !v->trained.adapter) /* nothing was merged */
            lose(v, FJ_LOST_QUANTISE, "mean KL %.3g is over %.3g, the limit of %s", kl, max, name);
        else if (!v->has_merged)
            lose(v, FJ_LOST_WEIGHTS,
                 "mean KL %.3g is over %.3g, the limit of %s; there is no merged model to tell "
                 "merging from quantising",
                 kl, max, name);
        else if (!(v->m.kl_mean <= kl / 2))
            lose(v, FJ_LOST_MERGE,
                 "mean KL %.3g is over %.3g, the limit of %s; merged and not quantised it is %.3g",
                 kl, max, name, v->m.kl_mean);
        else
            lose(v, FJ_LOST_QUANTISE,
                 "mean KL %.3g is over %.3g, the limit of %s; before quantising it is %.3g", kl,
                 max, name, v->m.kl_mean);
    }
    v->passed = v->lost == FJ_LOST_NOTHING;
}

/* ---- all of it ------------------------------------------------------------------------------------ */
typedef struct job {
    fj_dev *d;
    const fj_verify_opts *o;
    const fj_log *log;
    fj_verified *v;
    fj_dataset data;
    fj_spelling a, b;
    fj_pieces pieces;
    fj_kept kept, base;
    opened open;
    double now;
} job;

static bool trained(job *j, const fj_verify_side *side, fj_err *e) {
    fj_model *m;
    if (!open_side(j->d, &j->open, side, j->log, e)) return false;
    m = j->open.m;
    if (!fj_verify_spell(&j->a, m, side->chat, &j->data, j->o, j->now, e)) return false;
    if (j->a.no_chat) return fj_fail(e, FJ_EINVAL, "%s", j->a.chat);
    fj_verify_cut(&j->pieces, &j->a, m, j->o);
    if (!j->pieces.positions) {
        for (size_t i = 0; i < j->a.rows; i++)
            if (j->a.row[i].refused)
                return fj_fail(e, FJ_EINVAL, "%s spells none of the rows: %s", m->path,
                               j->a.row[i].refused);
        return fj_fail(e, FJ_EINVAL, "no row of %s has two tokens or more", j->data.files[0].path);
    }
    return about(j->v, &j->v->trained, &j->open, side, j->a.chat, e) &&
           fj_kept_open(&j->kept, &j->pieces, j->o->scratch, e) &&
           fj_verify_keep(&j->kept, &j->pieces, m, j->open.lora, "verify trained", j->log, e);
}

/* The trained model's base is in memory now: a part of the rows without the adapter. */
static bool without_adapter(job *j, fj_err *e) {
    fj_pieces few = fj_verify_first(&j->pieces, 500);
    if (!j->open.lora) return true;
    j->kept.base = &j->base;
    j->kept.base_positions = few.positions;
    return fj_kept_open(&j->base, &few, j->o->scratch, e) &&
           fj_verify_keep(&j->base, &few, j->open.m, NULL, "verify base", j->log, e);
}

static bool exported(job *j, const fj_verify_side *side, int64_t *mangled, fj_err *e) {
    fj_verified *v = j->v;
    if (!open_side(j->d, &j->open, side, j->log, e) ||
        !fj_verify_spell(&j->b, j->open.m, side->chat, &j->data, j->o, j->now, e) ||
        !about(v, &v->exported, &j->open, side, j->b.chat, e))
        return false;
    *mangled = compare_spelling(v, &j->data, &j->a, &j->b);
    v->compared = v->trained.vocab == v->exported.vocab;
    return !v->compared || fj_verify_against(&j->kept, &j->pieces, j->open.m, j->open.lora,
                                             "verify exported", j->log, &v->n, e);
}

/* Between the two: only where it decides something. */
static bool merged(job *j, fj_err *e) {
    fj_verified *v = j->v;
    fj_verify_side side = { 0 };
    if (!j->o->merged || v->exported.adapter || !v->compared || !over(&v->n, v->max_kl))
        return true;
    close_side(&j->open);
    if (!j->o->merged(j->o->ctx, &side, e) || !open_side(j->d, &j->open, &side, j->log, e) ||
        !about(v, &v->merged, &j->open, &side, "", e))
        return false;
    if (v->merged.vocab != v->trained.vocab)
        return fj_fail(e, FJ_EINVAL, "%s, the merged model, predicts %lld tokens, %s %lld",
                       v->merged.model, (long long)v->merged.vocab, v->trained.model,
                       (long long)v->trained.vocab);
    v->has_merged = true;
    return fj_verify_against(&j->kept, &j->pieces, j->open.m, j->open.lora, "verify merged", j->log,
                             &v->m, e);
}

static void data_of(fj_verified *v, const fj_dataset *d, bool own) {
    fj_str s = { 0 };
    for (int i = 0; i < d->n_files; i++) fj_str_addf(&s, "%s%s", i ? ", " : "", d->files[i].path);
    v->data = fj_arena_strdup(&v->arena, s.s);
    fj_str_free(&s);
    v->own_texts = own;
    v->rows = (int64_t)d->n;
    memcpy(v->data_hash, d->hash, sizeof v->data_hash);
}

bool fj_verify(fj_dev *d, const fj_verify_side *a, const fj_verify_side *b, const fj_verify_opts *o,
               const fj_log *log, fj_verified *v, fj_err *e) {
    *v = (fj_verified){ .why = "", .text_differs = "", .ids_differ = "", .max_kl = o->max_kl };
    double t0 = fj_clock();
    job j = { .d = d, .o = o, .log = log, .v = v, .kept.fd = -1, .base.fd = -1 };
    j.now = o->chat_now ? o->chat_now : fj_now(); /* a day that both sides print */
    if (o->kind) v->kind = fj_arena_strdup(&v->arena, o->kind);
    if (!v->max_kl && !(v->max_kl = fj_verify_limit(o->kind)))
        return fj_fail(e, FJ_EINVAL,
                       "\"%s\" is no kind of export with a limit of its own: say a limit (max_kl)",
                       o->kind ? o->kind : "");
    int64_t mangled = 0;
    bool ok = fj_verify_rows(&j.data, o, log, e);
    if (ok) data_of(v, &j.data, !o->n_data);
    ok = ok && trained(&j, a, e);
    /* A written adapter meets the weights that it was trained on; everything else another arithmetic. */
    if (ok && !o->max_kl && !b->adapter && !b->lora)
        v->max_kl = FJ_MAX(v->max_kl, arithmetic(j.open.m));
    ok = ok && (b->adapter || b->lora || without_adapter(&j, e)) && exported(&j, b, &mangled, e) &&
         merged(&j, e);
    if (ok) judge(v, mangled, o);
    v->seconds = fj_clock() - t0;
    close_side(&j.open);
    fj_kept_close(&j.kept);
    fj_kept_close(&j.base);
    free(j.pieces.p);
    fj_spelling_free(&j.a);
    fj_spelling_free(&j.b);
    fj_dataset_free(&j.data);
    return ok;
}

void fj_verified_free(fj_verified *v) {
    fj_arena_free(&v->arena);
    *v = (fj_verified){ 0 };
}
