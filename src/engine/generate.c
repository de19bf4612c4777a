/* generate.c - one sequence: prefill what the cache does not have, then token by token. */
#include "base/fs.h"
#include "engine/engine.h"
#include "engine/sample.h"

enum { CHUNK = 512 }; /* rows of a prefill step: bounds its activations */

struct fj_session {
    fj_model *m;
    fj_engine *engine;
    const fj_lora *lora;
    int64_t context;
    fj_seq seq;
    fj_ids ids; /* what the cache holds */
    int turn;   /* fj_rope_turn of its keys */
};

const char *fj_finish_name(fj_finish f) {
    static const char *const names[] = { "eos", "stop", "length", "context", "asked" };
    return names[f];
}

fj_session *fj_session_open(fj_model *m, int64_t context, fj_err *e) {
    if (context < 0) {
        fj_fail(e, FJ_EINVAL, "a context of %lld tokens", (long long)context);
        return NULL;
    }
    fj_session *s = fj_zalloc(sizeof *s);
    s->m = m;
    s->context = context ? context : m->hp.context;
    s->engine = fj_engine_open(m, s->context, e);
    if (s->engine) return s;
    free(s);
    return NULL;
}

void fj_session_close(fj_session *s) {
    if (!s) return;
    fj_seq_free(s->engine, &s->seq);
    fj_engine_close(s->engine);
    fj_ids_free(&s->ids);
    free(s);
}

void fj_session_reset(fj_session *s) {
    fj_seq_cut(s->engine, &s->seq, 0);
    fj_ids_clear(&s->ids);
}

void fj_session_adapter(fj_session *s, const fj_lora *l) {
    if (s->lora != l) fj_session_reset(s);
    s->lora = l;
}

/* How the next token is chosen. */
typedef struct choice {
    const fj_sampling *p;
    fj_rng rng;
    int32_t *seen; /* bits of the tokens so far; NULL: there is no penalty */
} choice;

static void see(const fj_session *s, choice *c, int32_t id) {
    if (c->seen && id >= 0 && id < s->m->hp.vocab)
        c->seen[id / 32] = (int32_t)((uint32_t)c->seen[id / 32] | 1u << (id % 32));
}

/* Feeds n tokens; *next is what follows them. */
static bool feed_all(fj_session *s, const int32_t *ids, int64_t n, choice *c, int32_t *next,
                     fj_err *e) {
    float how[FJ_PICK_COLS];
    fj_sampling_how(c->p, &c->rng, how);
    int64_t total = (int64_t)s->ids.n + n;
    s->turn = fj_rope_turn(&s->m->hp, total);
    for (int64_t i = 0; i < n; i += CHUNK) {
        int64_t k = FJ_MIN((int64_t)CHUNK, n - i);
        bool last = i + k == n;
        fj_step_item it = { .seq = &s->seq,
                            .ids = ids + i,
                            .n = k,
                            .lora = s->lora,
                            .how = last ? how : NULL,
                            .seen = c->seen,
                            .total = total };
        const int32_t *chosen;
        if (!fj_engine_choose(s->engine, &it, 1, &chosen, e)) return false;
        if (last) *next = chosen[0];
        for (int64_t j = 0; j < k; j++) fj_ids_push(&s->ids, ids[i + j]);
    }
    return true;
}

/* Where a text has become so long that its positions are of another kind, all of it is computed again, as
 * transformers does for Phi-3. */
static bool feed(fj_session *s, const int32_t *ids, int64_t n, choice *c, int32_t *next,
                 fj_err *e) {
    if (!s->ids.n || fj_rope_turn(&s->m->hp, (int64_t)s->ids.n + n) == s->turn)
        return feed_all(s, ids, n, c, next, e);
    fj_ids all = s->ids;
    s->ids = (fj_ids){ 0 };
    fj_session_reset(s);
    for (int64_t i = 0; i < n; i++) fj_ids_push(&all, ids[i]);
    bool ok = feed_all(s, all.p, (int64_t)all.n, c, next, e);
    fj_ids_free(&all);
    return ok;
}

/* Text on its way out: held back while it may be the beginning of a stop string. */
typedef struct out {
    const fj_sampling *p;
    bool (*text)(void *ctx, const char *bytes, size_t n);
    void *ctx;
    fj_str held;
    bool stop, asked;
} out;

static void give(out *o, size_t n) {
    if (!n) return;
    if (o->text && !o->asked && !o->text(o->ctx, o->held.s, n)) o->asked = true;
    memmove(o->held.s, o->held.s + n, o->held.n - n);
    o->held.n -= n;
}

static void push_text(out *o, const char *bytes, size_t n) {
    if (!n || o->stop) return;
    fj_str_addn(&o->held, bytes, n);
    size_t first = SIZE_MAX, keep = 0;
    for (int i = 0; i < o->p->n_stop; i++) {
        const char *st = o->p->stop[i];
        size_t len = strlen(st);
        for (size_t at = 0; at < o->held.n; at++) {
            size_t k = FJ_MIN(len, o->held.n - at);
            if (memcmp(o->held.s + at, st, k)) continue;
            if (k == len) first = FJ_MIN(first, at);
            else keep = FJ_MAX(keep, k);
            break;
        }
    }
    if (first != SIZE_MAX) {
        give(o, first);
        o->stop = true;
    } else {
        give(o, o->held.n - keep);
    }
}

static bool generate(fj_session *s, int32_t id, choice *c, out *o, fj_ids *made, fj_generated *g,
                     fj_err *e) {
    const fj_tokenizer *t = s->m->tok;
    const fj_sampling *p = c->p;
    fj_detok d = { 0 };
    char *piece = fj_alloc(fj_token_bytes_max(t) + 8);
    bool ok = true;
    /* The decoder takes away the space that encoding puts in front of a text: not ours to lose here. */
    d.started = true;
    g->finish = FJ_FINISH_LENGTH;
    while (g->made < p->max_new_tokens) {
        see(s, c, id);
        if (made) fj_ids_push(made, id);
        g->made++;
        if (!p->ignore_eos && fj_model_ends(s->m, id)) {
            g->finish = FJ_FINISH_EOS;
            break;
        }
        push_text(o, piece, fj_detok_push(t, &d, id, false, piece));
        if (o->stop || o->asked) {
            g->finish = o->stop ? FJ_FINISH_STOP : FJ_FINISH_ASKED;
            break;
        }
        if (g->made == p->max_new_tokens) break;
        if ((int64_t)s->ids.n >= s->context) {
            g->finish = FJ_FINISH_CONTEXT;
            break;
        }
        int32_t fed = id;
        if (!(ok = feed(s, &fed, 1, c, &id, e))) break;
    }
    if (ok) {
        push_text(o, piece, fj_detok_end(&d, piece));
        if (!o->stop) give(o, o->held.n);
    }
    free(piece);
    return ok;
}

bool fj_generate(fj_session *s, const int32_t *ids, int64_t n, const fj_sampling *p,
                 bool (*text)(void *ctx, const char *bytes, size_t n), void *ctx, fj_ids *made,
                 fj_generated *g, fj_err *e) {
    fj_generated none;
    if (!g) g = &none;
    *g = (fj_generated){ .prompt = n };
    if (!fj_sampling_check(p, e)) return false;
    if (n < 1) return fj_fail(e, FJ_EINVAL, "the prompt is empty: there is nothing to continue");
    if (n > s->context)
        return fj_fail(e, FJ_EINVAL, "the prompt has %lld tokens, the context holds %lld",
                       (long long)n, (long long)s->context);
    /* At least one token is computed, for its logits. */
    int64_t same = 0;
    while (same < (int64_t)s->ids.n && same < n - 1 && s->ids.p[same] == ids[same]) same++;
    if (fj_rope_turn(&s->m->hp, n) != s->turn) same = 0;
    fj_seq_cut(s->engine, &s->seq, same);
    s->ids.n = (size_t)same;
    g->cached = same;
    choice c = { .p = p };
    fj_rng_seed(&c.rng, p->seed);
    if (p->repetition_penalty != 1)
        c.seen = fj_zalloc((size_t)(s->m->hp.vocab + 31) / 32 * sizeof *c.seen);
    for (int64_t i = 0; i < n; i++) see(s, &c, ids[i]);
    int32_t next = 0;
    double t0 = fj_clock();
    if (!feed(s, ids + same, n - same, &c, &next, e)) {
        free(c.seen);
        fj_session_reset(s);
        return false;
    }
    g->prefill_s = fj_clock() - t0;
    out o = { .p = p, .text = text, .ctx = ctx };
    t0 = fj_clock();
    bool ok = generate(s, next, &c, &o, made, g, e);
    free(c.seen);
    g->decode_s = fj_clock() - t0;
    fj_str_free(&o.held);
    if (!ok) fj_session_reset(s);
    return ok;
}
