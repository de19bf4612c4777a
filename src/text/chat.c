#include "text/chat_in.h"

#include "base/fs.h"

#include <stdio.h>
#include <time.h>

static const char start[] = "<|im_start|>", end[] = "<|im_end|>";

void fj_mask_free(fj_mask *m) {
    free(m->p);
    *m = (fj_mask){ 0 };
}

void fj_mask_add(fj_mask *m, uint8_t value, size_t n) {
    if (!n) return;
    FJ_GROW(m->p, m->n + n, m->cap);
    memset(m->p + m->n, value, n);
    m->n += n;
}

static int32_t control(const fj_tokenizer *t, const char *s) {
    int32_t id = fj_token_id(t, s, strlen(s));
    return id >= 0 && fj_token_is_special(t, id) ? id : -1;
}

fj_chat_kind fj_chat_default(const fj_tokenizer *t) {
    return control(t, start) >= 0 && control(t, end) >= 0 ? FJ_CHAT_CHATML : FJ_CHAT_RAW;
}

const char *fj_chat_name(const fj_chat *c) { return c->name; }
fj_chat_kind fj_chat_kind_of(const fj_chat *c) { return c->kind; }

bool fj_chat_uses_clock(const fj_chat *c) {
    return (c->jinja && fj_jinja_uses(c->jinja, "strftime_now")) ||
           (c->tools && fj_jinja_uses(c->tools, "strftime_now"));
}

bool fj_chat_day(const char *day, double *now) {
    struct tm tm = { .tm_hour = 12, .tm_isdst = -1 };
    int y, m, d, read = 0;
    if (sscanf(day, "%4d-%2d-%2d%n", &y, &m, &d, &read) != 3 || day[read] || y < 1970 || m < 1 ||
        m > 12 || d < 1 || d > 31)
        return false;
    tm.tm_year = y - 1900;
    tm.tm_mon = m - 1;
    tm.tm_mday = d;
    *now = (double)mktime(&tm);
    return true;
}

json_t *fj_chat_message(const char *role, const char *content, size_t n) {
    json_t *m = json_object();
    json_object_set_new(m, "role", json_string(role));
    json_t *s = json_stringn(content, n);
    if (!s) { /* not UTF-8: what a terminal or a model gave; the bad bytes are replaced */
        fj_str clean = { 0 };
        for (size_t i = 0; i < n; i++) {
            json_t *one = NULL;
            size_t k = 0;
            while (!one && ++k <= 4 && i + k <= n) one = json_stringn(content + i, k);
            if (one) fj_str_addn(&clean, content + i, k);
            else fj_str_add(&clean, "\xef\xbf\xbd");
            i += one ? k - 1 : 0;
            json_decref(one);
        }
        s = json_stringn(clean.s, clean.n);
        fj_str_free(&clean);
    }
    json_object_set_new(m, "content", s);
    return m;
}

/* ---- opening -------------------------------------------------------------------------------------- */
static bool is_path(const char *s) { return strchr(s, '/') || strchr(s, '.'); }

/* What the files of the model do not say is asked from its tokenizer. */
static void token(fj_chat *c, const char *key, int32_t id) {
    if (id < 0 || json_object_get(c->tokens, key)) return;
    fj_bytes s = fj_token_piece(c->t, id);
    json_object_set_new(c->tokens, key, json_stringn(s.p, s.n));
}

static bool unknown(const fj_chat_opts *o, const char *how, fj_err *e) {
    fj_str names = { 0 };
    for (size_t i = 0; o->model && i < o->model->n; i++)
        fj_str_addf(&names, ", %s", o->model->v[i].name);
    fj_fail(e, FJ_EINVAL,
            "chat template \"%s\": expected auto, chatml, raw%s, or the path of a file", how,
            names.n ? names.s : "");
    fj_str_free(&names);
    return false;
}

/* Finds the source; *text NULL: chatml or raw.  The caller frees *own. */
static bool choose(fj_chat *c, const fj_chat_opts *o, const char **text, size_t *n, char **own,
                   fj_err *e) {
    const char *how = o->how ? o->how : "auto";
    bool automatic = !strcmp(how, "auto");
    c->kind = FJ_CHAT_JINJA;
    if (!strcmp(how, "chatml") || !strcmp(how, "raw")) {
        c->kind = *how == 'c' ? FJ_CHAT_CHATML : FJ_CHAT_RAW;
    } else if (automatic && !(o->model && o->model->n)) {
        c->kind = fj_chat_default(c->t);
    } else if (o->model && (*text = fj_templates_find(o->model, automatic ? "default" : how))) {
        c->name = fj_strdup("the model's chat template");
        *n = strlen(*text);
    } else if (automatic) {
        return fj_fail(
            e, FJ_EFORMAT,
            "the model has several chat templates and none is called default: name one of them%s%s",
            o->model->n ? ", such as " : "", o->model->n ? o->model->v[0].name : "");
    } else if (is_path(how)) {
        *text = *own = fj_read_file(how, 4 << 20, n, e);
        if (!*own) return false;
        c->name = fj_strdup(how);
    } else {
        return unknown(o, how, e);
    }
    if (c->kind != FJ_CHAT_JINJA) c->name = fj_strdup(c->kind == FJ_CHAT_CHATML ? "chatml" : "raw");
    return true;
}

static bool compile(fj_chat *c, const fj_chat_opts *o, const char *text, size_t n, fj_err *e) {
    c->jinja = fj_jinja_compile(text, n, c->name, e);
    if (!c->jinja) return false;
    bool own = o->model && (!o->how || !strcmp(o->how, "auto"));
    const char *tools = own ? fj_templates_find(o->model, "tool_use") : NULL;
    if (tools && !(c->tools = fj_jinja_compile(tools, strlen(tools),
                                               "the model's chat template tool_use", e)))
        return false;
    fj_err ignored = { 0 };
    fj_chat_list_control(c);
    if (!fj_tokenize(c->t, "\n", 1, 0, &c->newline, &ignored)) fj_ids_clear(&c->newline);
    c->tokens = o->model && o->model->tokens ? json_deep_copy(o->model->tokens) : json_object();
    token(c, "bos_token", fj_token_bos(c->t));
    token(c, "eos_token", fj_token_eos(c->t));
    token(c, "pad_token", fj_token_pad(c->t));
    token(c, "unk_token", fj_token_unk(c->t));
    c->kwargs = o->kwargs ? json_deep_copy((json_t *)(uintptr_t)o->kwargs) : NULL;
    c->now = o->now != 0 ? o->now : fj_now();
    return true;
}

fj_chat *fj_chat_open(const fj_tokenizer *t, const fj_chat_opts *o, fj_err *e) {
    static const fj_chat_opts none = { 0 };
    if (!o) o = &none;
    fj_chat *c = fj_zalloc(sizeof *c);
    const char *text = NULL;
    char *own = NULL;
    size_t n = 0;
    c->t = t;
    bool ok = choose(c, o, &text, &n, &own, e);
    if (ok && text) ok = compile(c, o, text, n, e);
    free(own);
    if (ok) return c;
    fj_chat_close(c);
    return NULL;
}

void fj_chat_close(fj_chat *c) {
    if (!c) return;
    fj_jinja_free(c->jinja);
    fj_jinja_free(c->tools);
    json_decref(c->tokens);
    json_decref(c->kwargs);
    fj_ids_free(&c->newline);
    free(c->control);
    free(c->name);
    free(c);
}

/* ---- the two that this file writes ---------------------------------------------------------------- */
typedef struct out {
    const fj_tokenizer *t;
    fj_ids *ids;
    fj_mask *mask;
    size_t from; /* mask->n belongs to ids->n here */
    fj_err *e;
} out;

typedef struct msg {
    const char *role, *content;
    size_t n;
} msg;

static void marked(out *o, bool answer) {
    size_t n = o->ids->n - o->from;
    o->from = o->ids->n;
    if (o->mask) fj_mask_add(o->mask, answer, n);
}

static bool text(out *o, const char *s, size_t n, bool answer) {
    if (!fj_tokenize(o->t, s, n, 0, o->ids, o->e)) return false;
    marked(o, answer);
    return true;
}

static void put(out *o, int32_t id, bool answer) {
    fj_ids_push(o->ids, id);
    marked(o, answer);
}

static bool is_answer(const msg *m) { return strcmp(m->role, "assistant") == 0; }

static bool role_ok(const char *r, fj_err *e) {
    if (!*r || strlen(r) > 64 || strpbrk(r, "\r\n<>|"))
        return fj_fail(
            e, FJ_EINVAL,
            "message role \"%.64s\": expected a short word such as system, user or assistant", r);
    return true;
}

/* Role and text of a message, and nothing that these two could not spell.  A list of text parts is their
 * texts joined, owned by *joined. */
static bool read_message(const fj_chat *c, const json_t *j, size_t i, msg *m, fj_str *joined,
                         fj_err *e) {
    const char *role = json_string_value(json_object_get(j, "role"));
    const json_t *content = json_object_get(j, "content"),
                 *calls = json_object_get(j, "tool_calls");
    if (!role) return fj_fail(e, FJ_EFORMAT, "messages[%zu] has no role", i);
    if (!role_ok(role, e)) return false;
    if (json_array_size(calls) || json_object_size(calls))
        return fj_fail(
            e, FJ_EUNSUP,
            "messages[%zu] has tool_calls, which chat format %s cannot spell: use a model or a file "
            "with a chat template, or write the call into the content",
            i, c->name);
    *m = (msg){ strcmp(role, "developer") ? role : "system", "", 0 };
    if (json_is_string(content)) {
        m->content = json_string_value(content);
        m->n = json_string_length(content);
        return true;
    }
    if (!json_is_array(content))
        return fj_fail(e, FJ_EFORMAT, "messages[%zu]: content is no text", i);
    for (size_t k = 0; k < json_array_size(content); k++) {
        const json_t *s = json_object_get(json_array_get(content, k), "text");
        if (!json_is_string(s))
            return fj_fail(e, FJ_EUNSUP, "messages[%zu]: content part %zu is no text", i, k + 1);
        fj_str_addn(joined, json_string_value(s), json_string_length(s));
    }
    m->content = joined->s ? joined->s : "";
    m->n = joined->n;
    return true;
}

static bool header(out *o, int32_t s, const char *role) {
    fj_str h = { 0 };
    fj_str_addf(&h, "%s\n", role);
    put(o, s, false);
    bool ok = text(o, h.s, h.n, false);
    fj_str_free(&h);
    return ok;
}

static bool chatml(out *o, const msg *m, size_t n, bool prompt) {
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
        put(o, z, answer);
        if (!text(o, "\n", 1, false)) return false;
    }
    return !prompt || header(o, s, "assistant");
}

/* What stands before an answer is one text: the contents since the answer before, joined. */
static bool raw(out *o, const msg *m, size_t n, bool prompt) {
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
        if (ok) put(o, eos, true);
    }
    if (ok && pending) {
        if (prompt) fj_str_addc(&before, '\n');
        ok = text(o, before.s ? before.s : "", before.n, false);
    }
    fj_str_free(&before);
    return ok;
}

static bool plain(const fj_chat *c, const fj_conv *v, bool prompt, fj_ids *ids, fj_mask *mask,
                  fj_err *e) {
    size_t n = json_array_size(v->messages);
    msg *m = fj_zalloc((n + 1) * sizeof *m);
    fj_str *joined = fj_zalloc((n + 1) * sizeof *joined);
    out o = { c->t, ids, mask, ids->n, e };
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++)
        ok = read_message(c, json_array_get(v->messages, i), i, &m[i], &joined[i], e);
    ok = ok && fj_tokenize(c->t, "", 0, FJ_TOK_BOS, ids, e);
    if (ok) {
        marked(&o, false);
        ok = (c->kind == FJ_CHAT_CHATML ? chatml : raw)(&o, m, n, prompt);
    }
    for (size_t i = 0; i < n; i++) fj_str_free(&joined[i]);
    free(joined);
    free(m);
    return ok;
}

/* ---- all ------------------------------------------------------------------------------------------ */
static bool templated(const fj_chat *c, const fj_conv *v, bool prompt, fj_ids *ids, fj_mask *mask,
                      fj_err *e) {
    fj_jinja_text x = { 0 };
    size_t n = json_array_size(v->messages);
    if (!n)
        return fj_fail(e, FJ_EINVAL, "the conversation is empty: expected at least one message");
    bool with_tools = c->tools && v->tools && !json_is_null(v->tools);
    bool ok = fj_chat_flagged(c, v, n, prompt, &x, NULL, e);
    if (ok && mask && !fj_jinja_marks_answers(with_tools ? c->tools : c->jinja))
        ok = fj_chat_find_answers(c, v, &x, e);
    ok = ok && fj_chat_encode(c, &x, ids, mask, e);
    fj_jinja_text_free(&x);
    return ok;
}

bool fj_chat_render(const fj_chat *c, const fj_conv *v, bool add_generation_prompt, fj_ids *ids,
                    fj_mask *mask, fj_err *e) {
    size_t ids_before = ids->n, mask_before = mask ? mask->n : 0;
    bool ok =
        (c->kind == FJ_CHAT_JINJA ? templated : plain)(c, v, add_generation_prompt, ids, mask, e);
    if (!ok) {
        ids->n = ids_before;
        if (mask) mask->n = mask_before;
    }
    return ok;
}
