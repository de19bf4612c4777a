/* chat_span.c - where the answers are in the text of a template that does not mark them. */
#include "text/chat_in.h"

static bool is_answer(const json_t *m) {
    const char *role = json_string_value(json_object_get(m, "role"));
    return role && !strcmp(role, "assistant");
}

static size_t common(const char *a, size_t n, const char *b, size_t m) {
    size_t i = 0;
    while (i < n && i < m && a[i] == b[i]) i++;
    return i;
}

static bool begins(const fj_jinja_text *whole, const fj_jinja_text *part) {
    return part->n <= whole->n && !memcmp(whole->s, part->s, part->n);
}

static bool cannot(const fj_chat *c, size_t i, const char *why, fj_err *e) {
    return fj_fail(e, FJ_EUNSUP,
                   "%s: the answer of message %zu cannot be found in the text: %s; use a template "
                   "with {%% generation %%} around answers",
                   c->name, i + 1, why);
}

/* Where the content of message i begins or ends when parts of the conversation do not tell: the whole, and
 * the whole with something more at that end of the content, differ there and agree up to it. */
static bool by_change(const fj_chat *c, const fj_conv *v, size_t i, bool at_end,
                      const fj_jinja_text *whole, size_t *at, fj_err *e) {
    static const char more[] = "\xee\x80\x80"; /* U+E000: in nobody's text */
    const json_t *m = json_array_get(v->messages, i), *content = json_object_get(m, "content");
    if (!json_is_string(content) || !json_string_length(content))
        return cannot(c, i, "the template writes it another way when other messages follow", e);
    json_t *list = json_copy((json_t *)(uintptr_t)v->messages);
    json_t *changed = json_copy((json_t *)(uintptr_t)m);
    fj_str s = { 0 };
    if (!at_end) fj_str_add(&s, more);
    fj_str_addn(&s, json_string_value(content), json_string_length(content));
    if (at_end) fj_str_add(&s, more);
    json_object_set_new(changed, "content", json_stringn(s.s, s.n));
    json_array_set_new(list, i, changed);
    fj_conv w = *v;
    w.messages = list;
    fj_jinja_text x = { 0 };
    bool ok = fj_chat_flagged(c, &w, json_array_size(list), false, &x, NULL, e);
    size_t k = 0;
    if (!at_end) k = ok ? common(x.s, x.n, whole->s, whole->n) : 0;
    while (ok && at_end && k < x.n && k < whole->n &&
           x.s[x.n - 1 - k] == whole->s[whole->n - 1 - k])
        k++;
    if (ok && (x.n <= whole->n || k == whole->n))
        ok = cannot(c, i, "the template does not write its content", e);
    *at = at_end ? whole->n - k : k;
    fj_jinja_text_free(&x);
    fj_str_free(&s);
    json_decref(list);
    return ok;
}

/* The end-of-turn token that follows at `at`, behind blanks, is learned with the answer. */
static size_t with_end(const fj_chat *c, const fj_jinja_text *x, size_t at) {
    size_t i = at;
    while (i < x->n && (x->s[i] == ' ' || x->s[i] == '\n')) i++;
    const fj_control *k = i < x->n ? fj_chat_control_at(c, x->s, x->n, i) : NULL;
    return k && fj_token_ends(c->t, k->id) ? i + k->s.n : at;
}

/* Blanks behind a control token that ends the answer are the template's, and no model has to write them. */
static size_t without_blanks(const fj_chat *c, const fj_jinja_text *x, size_t start, size_t end) {
    size_t z = end;
    while (z > start && (x->s[z - 1] == ' ' || x->s[z - 1] == '\n')) z--;
    for (size_t i = start; i < z; i++) {
        const fj_control *k = fj_chat_control_at(c, x->s, x->n, i);
        if (k && i + k->s.n == z) return z;
    }
    return end;
}

/* The start of answer i when the generation prompt is not in the whole text: behind what the two have in
 * common, but not behind the beginning of the content, which may begin as the prompt goes on. */
static size_t shared_start(const fj_chat *c, const fj_conv *v, size_t i, const fj_jinja_text *whole,
                           const fj_jinja_text *before, size_t bare) {
    size_t at = bare + common(before->s + bare, before->n - bare, whole->s + bare, whole->n - bare);
    size_t content = 0;
    fj_err ignored;
    return by_change(c, v, i, false, whole, &content, &ignored) ? FJ_MIN(at, content) : at;
}

static bool span(const fj_chat *c, const fj_conv *v, size_t i, const fj_jinja_text *whole,
                 size_t *start, size_t *end, fj_err *e) {
    size_t n = json_array_size(v->messages);
    fj_jinja_text before = { 0 }, after = { 0 }, bare = { 0 };
    bool ok = true;
    if (i == 0) ok = by_change(c, v, i, false, whole, start, e); /* nothing stands in front of it */
    if (i > 0) {
        ok = fj_chat_flagged(c, v, i, true, &before, NULL, e);
        if (ok && begins(whole, &before)) *start = before.n;
        else if (ok && (ok = fj_chat_flagged(c, v, i, false, &bare, NULL, e))) {
            if (begins(whole, &bare) && begins(&before, &bare))
                *start = shared_start(c, v, i, whole, &before, bare.n);
            else ok = by_change(c, v, i, false, whole, start, e);
        }
    }
    if (ok && i + 1 == n) {
        *end = whole->n;
    } else if (ok) {
        ok = fj_chat_flagged(c, v, i + 1, false, &after, NULL, e);
        if (ok && begins(whole, &after)) *end = after.n;
        else if (ok && (ok = by_change(c, v, i, true, whole, end, e)))
            *end = with_end(c, whole, *end);
    }
    if (ok) *end = without_blanks(c, whole, *start, *end);
    fj_jinja_text_free(&before);
    fj_jinja_text_free(&after);
    fj_jinja_text_free(&bare);
    return ok;
}

bool fj_chat_find_answers(const fj_chat *c, const fj_conv *v, fj_jinja_text *whole, fj_err *e) {
    size_t n = json_array_size(v->messages);
    for (size_t i = 0; i < n; i++) {
        size_t start = 0, end = 0;
        if (!is_answer(json_array_get(v->messages, i))) continue;
        if (!span(c, v, i, whole, &start, &end, e)) return false;
        if (!whole->from) {
            whole->from = fj_alloc(whole->n + 1);
            memset(whole->from, 0, whole->n + 1);
        }
        for (size_t k = start; k < end; k++) whole->from[k] |= FJ_FROM_ANSWER;
    }
    return true;
}
