#include "data/samples.h"

#include "base/rng.h"

/* What building carries along. */
typedef struct fj_build {
    fj_samples *s;
    const fj_dataset *d;
    const fj_tokenizer *t;
    const fj_samples_opts *o;
    fj_ids front; /* what the model wants in front of a text: often one BOS, often nothing */
    fj_map seen;
    fj_ids ids;
    fj_mask mask;
    fj_err first_long; /* names the first row over max_length */
} fj_build;

/* Takes a sample of n tokens; false when there is nothing in it to learn. */
static bool add(fj_build *b, const int32_t *ids, const uint8_t *learn, size_t n, int64_t row,
                int32_t part) {
    fj_samples *s = b->s;
    int32_t targets = 0;
    for (size_t i = 1; i < n; i++) targets += learn[i] != 0;
    if (!targets) return false;
    fj_sample x = { .n = (int32_t)n, .n_learn = targets, .row = row, .part = part };
    int32_t *own = fj_arena_alloc(&s->arena, n * sizeof *own);
    uint8_t *mask = fj_arena_alloc(&s->arena, n);
    memcpy(own, ids, n * sizeof *own);
    for (size_t i = 1; i < n; i++) mask[i] = learn[i] != 0; /* nothing comes before the first */
    x.ids = own;
    x.learn = mask;
    x.hash = fj_hash(own, n * sizeof *own);
    FJ_GROW(s->s, s->n + 1, s->cap);
    s->s[s->n++] = x;
    s->tokens += x.n;
    s->learn_tokens += x.n_learn;
    bool fresh;
    fj_map_put(&b->seen, &x.hash, sizeof x.hash, &fresh);
    s->duplicates += !fresh;
    return true;
}

static bool no_target(fj_build *b, const fj_data_row *r, bool is_error, fj_err *e) {
    b->s->no_target++;
    if (!is_error || b->o->skip_bad_rows) return true;
    char name[300];
    return fj_fail(e, FJ_EFORMAT,
                   "%s: no token of this row is learned: expected an answer that is not empty "
                   "(skip_bad_rows: true leaves such rows out)",
                   fj_row_name(b->d, r, name, sizeof name));
}

/* A row over max_length: *n is made shorter when it is to be cut, 0 when it is to be dropped. */
static bool too_long(fj_build *b, const fj_data_row *r, size_t *n, fj_err *e) {
    char name[300];
    fj_row_name(b->d, r, name, sizeof name);
    if (b->o->truncation == FJ_TRUNC_ERROR)
        return fj_fail(
            e, FJ_EINVAL,
            "%s: %zu tokens, and max_length is %d: raise it, or set truncation to drop or "
            "keep_start",
            name, *n, b->o->max_length);
    if (!b->s->too_long++) fj_fail(&b->first_long, FJ_EINVAL, "%s with %zu tokens", name, *n);
    *n = b->o->truncation == FJ_TRUNC_KEEP_START ? (size_t)b->o->max_length : 0;
    return true;
}

static bool conversation(fj_build *b, const fj_data_row *r, int64_t row, fj_err *e) {
    bool open_row = true;
    for (int i = 0; i < r->n_messages; i++)
        if (!strcmp(r->messages[i].role, "assistant")) open_row = false;
    json_t *own = fj_row_conversation(r, b->o->system_prompt, false, open_row ? r->answer : NULL);
    fj_conv v = fj_row_conv(own);
    fj_ids_clear(&b->ids);
    b->ids.dropped = 0;
    b->mask.n = 0;
    bool ok = fj_chat_render(b->o->chat, &v, false, &b->ids, &b->mask, e);
    json_decref(own);
    if (!ok) {
        char name[300];
        return fj_wrap(e, "%s", fj_row_name(b->d, r, name, sizeof name));
    }
    b->s->lost_bytes += (int64_t)b->ids.dropped;
    size_t len = b->ids.n;
    b->s->longest_row = FJ_MAX(b->s->longest_row, (int32_t)FJ_MIN(len, (size_t)INT32_MAX));
    if (len > (size_t)b->o->max_length) {
        if (!too_long(b, r, &len, e)) return false;
        if (len == 0) return true;
        /* Cut before its answer: counted twice, as too long and as without a target. */
        return add(b, b->ids.p, b->mask.p, len, row, 0) || no_target(b, r, false, e);
    }
    return add(b, b->ids.p, b->mask.p, len, row, 0) || no_target(b, r, !open_row, e);
}

static bool raw_text(fj_build *b, const fj_data_row *r, int64_t row, fj_err *e) {
    char name[300];
    fj_ids_clear(&b->ids);
    b->ids.dropped = 0;
    if (!fj_tokenize(b->t, r->text, r->text_n, 0, &b->ids, e))
        return fj_wrap(e, "%s", fj_row_name(b->d, r, name, sizeof name));
    b->s->lost_bytes += (int64_t)b->ids.dropped;
    int32_t eos = fj_token_eos(b->t);
    if (eos >= 0) fj_ids_push(&b->ids, eos);
    size_t front = b->front.n, max = (size_t)b->o->max_length, body = max - front, at = 0,
           parts = 0;
    int32_t *ids = fj_alloc(max * sizeof *ids);
    uint8_t *learn = fj_alloc(max);
    if (front) memcpy(ids, b->front.p, front * sizeof *ids);
    memset(learn, 0, front);
    memset(learn + front, 1, body);
    while (at < b->ids.n) {
        size_t n = FJ_MIN(body, b->ids.n - at);
        memcpy(ids + front, b->ids.p + at, n * sizeof *ids);
        at += n;
        parts += add(b, ids, learn, front + n, row, (int32_t)parts);
    }
    free(ids);
    free(learn);
    b->s->chunked += parts > 1;
    return parts > 0 || no_target(b, r, true, e);
}

static void say(const fj_build *b, const fj_log *log) {
    const fj_samples *s = b->s;
    const fj_samples_opts *o = b->o;
    fj_log_message(log, FJ_INFO, "samples: %zu, %lld tokens, %lld of them learned", s->n,
                   (long long)s->tokens, (long long)s->learn_tokens);
    if (s->too_long)
        fj_log_message(
            log, FJ_WARN,
            "samples: %lld rows are longer than max_length %d and were %s; the first: %s; the "
            "longest has %d tokens",
            (long long)s->too_long, o->max_length,
            o->truncation == FJ_TRUNC_KEEP_START ? "cut at their end" : "left out",
            b->first_long.msg, s->longest_row);
    if (s->no_target)
        fj_log_message(log, FJ_WARN, "samples: %lld rows have no token to learn and were left out",
                       (long long)s->no_target);
    if (s->chunked)
        fj_log_message(log, FJ_INFO,
                       "samples: %lld text%s longer than max_length %d, cut into consecutive "
                       "samples%s",
                       (long long)s->chunked, s->chunked == 1 ? "" : "s", o->max_length,
                       b->front.n ? ", each with BOS in front" : "");
    if (s->duplicates)
        fj_log_message(log, FJ_INFO, "samples: %lld are the same as an earlier one",
                       (long long)s->duplicates);
    if (s->lost_bytes)
        fj_log_message(log, FJ_WARN, "samples: %lld bytes of text have no token in this vocabulary",
                       (long long)s->lost_bytes);
}

bool fj_samples_build(fj_samples *s, const fj_dataset *d, const fj_tokenizer *t,
                      const fj_samples_opts *o, const fj_log *log, fj_err *e) {
    *s = (fj_samples){ 0 };
    fj_build b = { .s = s, .d = d, .t = t, .o = o };
    bool ok = fj_tokenize(t, "", 0, FJ_TOK_BOS, &b.front, e);
    if (ok && (o->max_length < 2 || (size_t)o->max_length <= b.front.n))
        ok = fj_fail(e, FJ_EINVAL, "max_length %d is too small: expected at least %zu",
                     o->max_length, FJ_MAX(b.front.n + 1, (size_t)2));
    for (size_t i = 0; ok && i < d->n; i++) {
        const fj_data_row *r = &d->rows[i];
        if (i % 256 == 0 && fj_log_stop(log)) ok = fj_fail(e, FJ_ESTOP, "stopped on request");
        else ok = r->text ? raw_text(&b, r, (int64_t)i, e) : conversation(&b, r, (int64_t)i, e);
    }
    if (ok) say(&b, log);
    if (ok && !s->n)
        ok = fj_fail(
            e, FJ_EINVAL,
            "%s%s: no sample is left of %zu rows: %lld are longer than max_length %d, %lld have no "
            "token to learn",
            d->n_files ? d->files[0].path : "data", d->n_files > 1 ? " and others" : "", d->n,
            (long long)s->too_long, o->max_length, (long long)s->no_target);
    fj_ids_free(&b.front);
    fj_ids_free(&b.ids);
    fj_mask_free(&b.mask);
    fj_map_free(&b.seen);
    if (!ok) fj_samples_free(s);
    return ok;
}

void fj_samples_free(fj_samples *s) {
    fj_arena_free(&s->arena);
    free(s->s);
    *s = (fj_samples){ 0 };
}

/* ---- split ------------------------------------------------------------------------------------ */
static uint64_t draw(const fj_sample *x, uint64_t seed) { return fj_rng_at(seed, x->hash); }

bool fj_samples_split(const fj_samples *s, double share, uint64_t seed, fj_split *out, fj_err *e) {
    *out = (fj_split){ 0 };
    if (!(share > 0 && share < 1))
        return fj_fail(e, FJ_EINVAL, "eval_split wants a share between 0 and 1, not %g", share);
    uint64_t least = UINT64_MAX, most = 0;
    for (size_t i = 0; i < s->n; i++) {
        uint64_t v = draw(&s->s[i], seed);
        least = FJ_MIN(least, v);
        most = FJ_MAX(most, v);
    }
    if (s->n == 0 || least == most)
        return fj_fail(e, FJ_EINVAL,
                       "eval_split needs at least two different samples, found %zu; name "
                       "an evaluation set (eval_data) instead",
                       s->n ? (size_t)1 : 0);
    /* Few samples may all fall on one side: then the lowest draw is measured on, or the highest is
     * learned from. */
    double limit = share * 0x1p64;
    uint64_t cut = limit >= 0x1p64 ? UINT64_MAX : (uint64_t)limit;
    cut = FJ_MAX(cut, least + 1);
    cut = FJ_MIN(cut, most);
    out->train = fj_alloc(s->n * sizeof *out->train);
    out->eval = fj_alloc(s->n * sizeof *out->eval);
    for (size_t i = 0; i < s->n; i++) {
        if (draw(&s->s[i], seed) < cut) out->eval[out->n_eval++] = (int64_t)i;
        else out->train[out->n_train++] = (int64_t)i;
    }
    return true;
}

void fj_split_free(fj_split *p) {
    free(p->train);
    free(p->eval);
    *p = (fj_split){ 0 };
}
