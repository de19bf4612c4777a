#include "text/chat.h"

#include "base/mem.h"

static const char start[] = "<|im_start|>", end[] = "<|im_end|>";

void fj_mask_free(fj_mask *m) {
    free(m->p);
    *m = (fj_mask){ 0 };
}

static int32_t control(const fj_tokenizer *t, const char *s) {
    int32_t id = fj_token_id(t, s, strlen(s));
    return id >= 0 && fj_token_is_special(t, id) ? id : -1;
}

fj_chat_kind fj_chat_default(const fj_tokenizer *t) {
    return control(t, start) >= 0 && control(t, end) >= 0 ? FJ_CHAT_CHATML : FJ_CHAT_RAW;
}

const char *fj_chat_name(fj_chat_kind k) { return k == FJ_CHAT_CHATML ? "chatml" : "raw"; }

bool fj_chat_parse(const char *name, fj_chat_kind *k) {
    for (*k = FJ_CHAT_CHATML; *k <= FJ_CHAT_RAW; ++*k)
        if (strcmp(name, fj_chat_name(*k)) == 0) return true;
    return false;
}

typedef struct out {
    const fj_tokenizer *t;
    fj_ids *ids;
    fj_mask *mask;
    size_t from; /* mask->n belongs to ids->n here */
    fj_err *e;
} out;

static void marked(out *o, bool answer) {
    size_t n = o->ids->n - o->from;
    o->from = o->ids->n;
    if (!o->mask || !n) return;
    FJ_GROW(o->mask->p, o->mask->n + n, o->mask->cap);
    memset(o->mask->p + o->mask->n, answer, n);
    o->mask->n += n;
}

static bool text(out *o, const char *s, size_t n, bool answer) {
    if (!fj_tokenize(o->t, s, n, 0, o->ids, o->e)) return false;
    marked(o, answer);
    return true;
}

static void token(out *o, int32_t id, bool answer) {
    fj_ids_push(o->ids, id);
    marked(o, answer);
}

static bool is_answer(const fj_msg *m) { return strcmp(m->role, "assistant") == 0; }

static bool role_ok(const char *r, fj_err *e) {
    if (!*r || strlen(r) > 64 || strpbrk(r, "\r\n<>|"))
        return fj_fail(
            e, FJ_EINVAL,
            "message role \"%.64s\": expected a short word such as system, user or assistant", r);
    return true;
}

static bool header(out *o, int32_t s, const char *role) {
    fj_str h = { 0 };
    fj_str_addf(&h, "%s\n", role);
    token(o, s, false);
    bool ok = text(o, h.s, h.n, false);
    fj_str_free(&h);
    return ok;
}

static bool chatml(out *o, const fj_msg *m, size_t n, bool prompt) {
    int32_t s = control(o->t, start), z = control(o->t, end);
    if (s < 0 || z < 0)
        return fj_fail(
            o->e, FJ_EINVAL,
            "chat format chatml needs the tokens %s and %s, which this vocabulary does not have; "
            "use raw",
            start, end);
    for (size_t i = 0; i < n; i++) {
        bool answer = is_answer(&m[i]);
        if (!header(o, s, m[i].role) || !text(o, m[i].content, m[i].n, answer)) return false;
        token(o, z, answer);
        if (!text(o, "\n", 1, false)) return false;
    }
    return !prompt || header(o, s, "assistant");
}

/* What stands before an answer is one text: the contents since the answer before, joined. */
static bool raw(out *o, const fj_msg *m, size_t n, bool prompt) {
    int32_t eos = fj_token_eos(o->t);
    if (eos < 0)
        return fj_fail(
            o->e, FJ_EINVAL,
            "chat format raw needs an eos token to end answers; this vocabulary names none");
    fj_str before = { 0 };
    bool ok = true, pending = false;
    for (size_t i = 0; i < n && ok; i++) {
        if (!is_answer(&m[i])) {
            if (pending) fj_str_addc(&before, '\n');
            fj_str_addn(&before, m[i].content, m[i].n);
            pending = true;
            continue;
        }
        if (pending) {
            fj_str_addc(&before, '\n');
            ok = text(o, before.s, before.n, false);
            fj_str_clear(&before);
            pending = false;
        }
        ok = ok && text(o, m[i].content, m[i].n, true);
        if (ok) token(o, eos, true);
    }
    if (ok && pending) {
        if (prompt) fj_str_addc(&before, '\n');
        ok = text(o, before.s ? before.s : "", before.n, false);
    }
    fj_str_free(&before);
    return ok;
}

bool fj_chat_render(const fj_tokenizer *t, fj_chat_kind k, const fj_msg *msgs, size_t n,
                    bool add_generation_prompt, fj_ids *ids, fj_mask *mask, fj_err *e) {
    size_t ids_before = ids->n, mask_before = mask ? mask->n : 0;
    out o = { t, ids, mask, ids->n, e };
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) ok = role_ok(msgs[i].role, e);
    ok = ok && fj_tokenize(t, "", 0, FJ_TOK_BOS, ids, e);
    if (ok) {
        marked(&o, false);
        ok = (k == FJ_CHAT_CHATML ? chatml : raw)(&o, msgs, n, add_generation_prompt);
    }
    if (!ok) {
        ids->n = ids_before;
        if (mask) mask->n = mask_before;
    }
    return ok;
}
