/* ollama_tmpl.c - a Jinja chat template as one of Go: rendered, taken apart, written, proven (ollama.h). */
#include "base/fs.h"
#include "lifecycle/ollama_in.h"
#include "text/jinja.h"
#include "text/tok.h"

static const char *const role_names[ROLES] = { "", "system", "user", "assistant" };

static int role_of(char c) { return c == 's' ? SYS : c == 'u' ? USER : ASST; }

/* ---- rendering ------------------------------------------------------------------------------- */
json_t *fj_ollama_conversation(const char *turns, const char *const *contents) {
    json_t *list = json_array();
    for (size_t i = 0; turns[i]; i++)
        json_array_append_new(
            list, fj_chat_message(role_names[role_of(turns[i])], contents[i], strlen(contents[i])));
    return list;
}

bool fj_ollama_jinja(const fj_chat *c, const json_t *messages, bool prompt, fj_str *out,
                     fj_err *e) {
    char *s = NULL;
    size_t n = 0;
    bool raised;
    if (!fj_chat_text(c, &(fj_conv){ .messages = messages }, prompt, &s, &n, &raised, e))
        return false;
    bool ok = n && fj_utf8_span(s, n) == n && !memchr(s, 0, n);
    if (!ok)
        fj_fail(e, FJ_EUNSUP, n ? "its text is not UTF-8 without 0 bytes" : "its text is empty");
    fj_str_clear(out);
    if (ok) fj_str_addn(out, s, n);
    free(s);
    return ok;
}

/* What stands around the contents of a conversation: gap[i] in front of the i-th in the text, which is turn
 * order[i]; gap[n] behind the last. */
typedef struct cut {
    char *gap[MAX_TURNS + 1];
    int order[MAX_TURNS], n;
} cut;

const char *fj_ollama_without_bos(fj_ollama_work *w, const char *s) {
    size_t n = w->bos ? strlen(w->bos) : 0;
    if (!n || strncmp(s, w->bos, n) != 0) return s;
    w->has_bos = true;
    return s + n;
}

static const char *mark(int i) {
    static const char *const marks[MAX_TURNS] = { "zqxa0zq", "zqxb1zq", "zqxc2zq", "zqxd3zq",
                                                  "zqxe4zq", "zqxf5zq", "zqxg6zq", "zqxh7zq" };
    return marks[i];
}

static bool take_apart(fj_ollama_work *w, const char *turns, bool prompt, cut *k) {
    const char *contents[MAX_TURNS];
    fj_str s = { 0 };
    k->n = (int)strlen(turns);
    for (int i = 0; i < k->n; i++) contents[i] = mark(i);
    json_t *list = fj_ollama_conversation(turns, contents);
    bool ok = fj_ollama_jinja(w->c, list, prompt, &s, &w->err);
    json_decref(list);
    const char *p = ok ? fj_ollama_without_bos(w, s.n ? s.s : "") : "";
    bool used[MAX_TURNS] = { false };
    for (int i = 0; ok && i < k->n; i++) {
        const char *first = NULL;
        for (int j = 0; j < k->n; j++) {
            const char *at = strstr(p, mark(j));
            if (at && (!first || at < first)) {
                first = at;
                k->order[i] = j;
            }
        }
        ok = first && !used[k->order[i]];
        if (!ok) {
            fj_fail(&w->err, FJ_EUNSUP, "a message is not there once and as it was written");
            break;
        }
        used[k->order[i]] = true;
        k->gap[i] = fj_arena_strndup(&w->mem, p, (size_t)(first - p));
        p = first + strlen(mark(k->order[i]));
    }
    if (ok) k->gap[k->n] = fj_arena_strdup(&w->mem, p);
    fj_str_free(&s);
    return ok;
}

static bool in_order(const cut *k) {
    for (int i = 0; i < k->n; i++)
        if (k->order[i] != i) return false;
    return true;
}

/* ---- pieces ---------------------------------------------------------------------------------- */
/* How many bytes both begin with, up to the end of a markup or a line. */
static size_t shared(const char *a, const char *b) {
    size_t n = 0;
    while (a[n] && a[n] == b[n]) n++;
    if (!a[n] && !b[n]) return n;
    while (n && !strchr(">]\n", a[n - 1])) n--;
    return n;
}

/* What is left of s in front of `tail`; NULL: it does not end so. */
char *fj_ollama_before(fj_ollama_work *w, const char *s, const char *tail) {
    size_t n = strlen(s), k = strlen(tail);
    return n >= k && !strcmp(s + n - k, tail) ? fj_arena_strndup(&w->mem, s, n - k) : NULL;
}

static char *joined(fj_ollama_work *w, const char *a, const char *b) {
    return fj_arena_printf(&w->mem, "%s%s", a, b);
}

static bool learn_user_and_answer(fj_ollama_work *w) {
    cut k, x;
    if (!take_apart(w, "uau", true, &k)) return false;
    if (!in_order(&k)) return fj_fail(&w->err, FJ_EUNSUP, "messages do not keep their order");
    const char *to_answer = k.gap[1], *to_user = k.gap[2];
    size_t n = shared(to_answer, k.gap[3]);
    if (take_apart(w, "uau", false, &x) && in_order(&x)) n = FJ_MIN(n, shared(to_answer, x.gap[3]));
    w->behind[USER] = fj_arena_strndup(&w->mem, to_answer, n);
    w->end = fj_arena_strdup(&w->mem, k.gap[3] + n);
    n = 0;
    if (take_apart(w, "ua", false, &x) && in_order(&x)) {
        w->answer_end = x.gap[2];
        n = shared(to_user, x.gap[2]);
    }
    w->behind[ASST] = fj_arena_strndup(&w->mem, to_user, n);
    w->front[START][USER] = k.gap[0];
    w->front[USER][USER] = fj_arena_strdup(&w->mem, to_user + n); /* between them: tools */
    w->front[ASST][USER] = k.gap[2];                              /* with what ends the answer */
    w->front[USER][ASST] = w->front[START][ASST] =
        fj_arena_strdup(&w->mem, to_answer + strlen(w->behind[USER]));
    w->front[ASST][ASST] = joined(w, w->behind[ASST], w->front[USER][ASST]);
    w->err = (fj_err){ 0 };
    return true;
}

static bool learn_system(fj_ollama_work *w) {
    cut k, x;
    const char *user = w->front[USER][USER];
    bool taken = take_apart(w, "su", true, &k) && in_order(&k);
    w->folds = !taken;
    w->err = (fj_err){ 0 };
    if (taken && take_apart(w, "suau", true, &x) && x.order[0] != 0) {
        size_t n = strlen(w->front[START][USER]);
        w->last = true;
        if (x.order[2] != 0 || strncmp(k.gap[0], w->front[START][USER], n) != 0)
            return fj_fail(&w->err, FJ_EUNSUP, "the system message moves within the text");
        w->in_front = k.gap[0] + n;
        w->at_back = k.gap[1];
        return true;
    }
    const char *start = taken ? k.gap[0] : w->front[START][USER],
               *to_user = taken ? k.gap[1] : "\n\n";
    const char *own = taken ? fj_ollama_before(w, to_user, user) : NULL;
    w->behind[SYS] = fj_arena_strdup(&w->mem, own ? own : to_user);
    w->front[SYS][USER] = own ? fj_arena_strdup(&w->mem, user) : "";
    w->front[SYS][ASST] = joined(w, own ? "" : w->behind[USER], w->front[USER][ASST]);
    w->front[START][SYS] = fj_arena_strdup(&w->mem, start);
    const char *further = taken ? start : user;
    size_t bos = strlen(w->spelled);
    if (taken && !strncmp(further, w->spelled, bos)) further += bos; /* not in the middle */
    if (taken && take_apart(w, "uasu", true, &x) && in_order(&x) &&
        !strcmp(x.gap[0], w->front[START][USER]) && !strcmp(x.gap[3], to_user) &&
        !strncmp(x.gap[2], w->behind[ASST], strlen(w->behind[ASST]))) {
        further = x.gap[2] + strlen(w->behind[ASST]);
        w->later = true;
    }
    w->front[USER][SYS] = w->front[SYS][SYS] = fj_arena_strdup(&w->mem, further);
    w->front[ASST][SYS] = joined(w, w->behind[ASST], further);
    w->err = (fj_err){ 0 };
    return true;
}

/* ---- writing --------------------------------------------------------------------------------- */
static void put(fj_str *s, const char *text) { fj_go_text(s, text, strlen(text)); }

/* What goes in front of a content, by the role of the message before. */
static void put_front(fj_ollama_work *w, fj_str *s, int role) {
    static const int order[ROLES] = { START, SYS, ASST, USER };
    const char *t[ROLES], *common = NULL;
    int n = 0;
    for (int i = 0; i < ROLES; i++) {
        int from = order[i];
        /* In the last turn of the user there is no system message before anything. */
        t[i] = w->last && (from == SYS || role == SYS) ? NULL : w->front[from][role];
        if (t[i] && (!common || strlen(t[i]) < strlen(common))) common = t[i];
    }
    for (int i = 0; i < ROLES; i++)
        if (t[i] && !fj_ollama_before(w, t[i], common)) common = "";
    for (int i = 0; i < ROLES; i++) {
        const char *own = t[i] ? fj_ollama_before(w, t[i], common) : "";
        bool seen = false;
        for (int j = 0; j < i; j++) seen |= t[j] && t[i] && !strcmp(t[i], t[j]);
        if (!*own || seen) continue;
        for (int j = i; j < ROLES; j++) {
            if (!t[j] || strcmp(t[i], t[j]) != 0) continue;
            fj_str_addf(s, "{{ %sif eq $p \"%s\" }}", n++ ? "else " : "", role_names[order[j]]);
            put(s, own);
        }
    }
    if (n) fj_str_add(s, "{{ end }}");
    put(s, common);
}

static char *write_template(fj_ollama_work *w) {
    static const int order[] = { SYS, USER, ASST };
    fj_str s = { 0 };
    int n = 0;
    fj_str_add(&s, "{{ $p := \"\" }}{{ range $i, $_ := .Messages }}");
    for (size_t i = 0; i < FJ_LEN(order); i++) {
        int r = order[i];
        if (w->last && r == SYS) continue;
        fj_str_addf(&s, "{{ %sif eq .Role \"%s\" }}", n++ ? "else " : "", role_names[r]);
        put_front(w, &s, r);
        if (w->last && r == USER) {
            fj_str_add(&s, "{{ if eq (len (slice $.Messages $i)) 1 }}{{ if $.System }}");
            put(&s, w->in_front);
            fj_str_add(&s, "{{ $.System }}");
            put(&s, w->at_back);
            fj_str_add(&s, "{{ end }}{{ end }}");
        }
        fj_str_add(&s, "{{ .Content }}");
        if (w->behind[r])
            put(&s, r == ASST ? "" : w->behind[r]); /* an answer's is the next one's */
        fj_str_addf(&s, "{{ $p = \"%s\" }}", role_names[r]);
    }
    fj_str_add(&s, "{{ end }}{{ end }}");
    if (*w->end) {
        fj_str_add(&s, "{{ if ne $p \"assistant\" }}");
        put(&s, w->end);
        fj_str_add(&s, "{{ end }}");
    }
    return fj_str_take(&s);
}

/* ---- what else is to be known ---------------------------------------------------------------- */
static bool trims(fj_ollama_work *w, const char *turns) {
    const char *c[] = { " x", " y", " z" }, *d[] = { "x", "y", "z" };
    fj_str a = { 0 }, b = { 0 };
    json_t *x = fj_ollama_conversation(turns, c), *y = fj_ollama_conversation(turns, d);
    bool same = fj_ollama_jinja(w->c, x, true, &a, NULL) &&
                fj_ollama_jinja(w->c, y, true, &b, NULL) && a.n < b.n + strlen(turns);
    json_decref(x);
    json_decref(y);
    fj_str_free(&a);
    fj_str_free(&b);
    return same;
}

/* The system prompt of a template that writes one where the conversation has none. */
static char *default_system(fj_ollama_work *w) {
    cut k, x;
    if (!take_apart(w, "u", true, &k) || !take_apart(w, "su", true, &x) || !in_order(&x))
        return NULL;
    size_t head = strlen(x.gap[0]);
    char *s = fj_ollama_before(w, k.gap[0], x.gap[1]);
    if (!s || strlen(s) <= head || strncmp(s, x.gap[0], head) != 0) return NULL;
    return fj_strdup(s + head);
}

/* Does any text change with the day? */
static bool dated(const fj_chat *a, const fj_chat *b) {
    static const char *const shapes[] = { "u", "su" };
    static const char *const c[] = { "x", "y" };
    bool changes = false;
    for (size_t i = 0; i < FJ_LEN(shapes) && !changes; i++) {
        fj_str s = { 0 }, t = { 0 };
        json_t *list = fj_ollama_conversation(shapes[i], c);
        changes = fj_ollama_jinja(a, list, true, &s, NULL) &&
                  fj_ollama_jinja(b, list, true, &t, NULL) &&
                  (s.n != t.n || memcmp(s.s, t.s, s.n) != 0);
        json_decref(list);
        fj_str_free(&s);
        fj_str_free(&t);
    }
    return changes;
}

static char *keep(const char *s) { return s ? fj_strdup(s) : NULL; }

static void keep_marks(const fj_ollama_work *w, fj_ollama_template *out) {
    fj_str all = { 0 };
    for (int to = SYS; to < ROLES; to++)
        for (int from = START; from < ROLES; from++)
            if (w->front[from][to]) fj_str_addf(&all, "%s\n", w->front[from][to]);
    for (int r = SYS; r < ROLES; r++) fj_str_addf(&all, "%s\n", w->behind[r] ? w->behind[r] : "");
    fj_str_addf(&all, "%s\n", w->end);
    out->marks = fj_str_take(&all);
    out->begin[0] = w->last || w->folds ? NULL : keep(w->front[USER][SYS]);
    out->begin[1] = keep(w->front[USER][USER]);
    out->begin[2] = keep(w->front[USER][ASST]);
    out->end = keep(w->behind[USER]);
}

static void derive(fj_ollama_work *w, fj_ollama_template *out, fj_err *e) {
    bool apart = learn_user_and_answer(w) && learn_system(w);
    if (!apart) *e = w->err;
    char *text = apart ? write_template(w) : NULL;
    if (apart) keep_marks(w, out);
    if (text && fj_ollama_prove(w, text, &out->proofs, e)) {
        out->text = text;
        out->folds = w->folds;
        out->later = w->later;
        out->trims = trims(w, "uau") || (!w->folds && trims(w, "su"));
        return;
    }
    free(text);
}

/* ---- the whole ------------------------------------------------------------------------------- */
static const char *spelled_bos(fj_arena *mem, const fj_tokenizer *tok) {
    if (fj_token_bos(tok) < 0) return "";
    fj_bytes piece = fj_token_piece(tok, fj_token_bos(tok));
    return fj_arena_strndup(mem, piece.p, piece.n);
}

void fj_ollama_template_of(const fj_templates *t, const fj_tokenizer *tok,
                           fj_ollama_template *out) {
    *out = (fj_ollama_template){ 0 };
    fj_err e = { 0 };
    fj_templates own = { 0 };
    const char *source = fj_templates_find(t, "default");
    if (!t->n && fj_chat_default(tok) == FJ_CHAT_CHATML) source = fj_chatml_template;
    if (!source) {
        out->why = fj_strdup("the model has no chat template");
        return;
    }
    fj_templates_add(&own, "default", source);
    own.tokens = t->tokens ? json_incref(t->tokens) : NULL;
    enum { DAY = 86400 };
    double now = fj_now();
    fj_chat *c = fj_chat_open(tok, &(fj_chat_opts){ .model = &own, .now = now }, &e);
    fj_chat *later =
        c ? fj_chat_open(tok, &(fj_chat_opts){ .model = &own, .now = now + 500. * DAY }, &e) : NULL;
    if (later) {
        fj_jinja *j = fj_jinja_compile(source, strlen(source), "template", NULL);
        out->tools = j && fj_jinja_uses(j, "tools");
        fj_jinja_free(j);
        bool adds = fj_tokenizer_adds_bos(tok) && fj_token_bos(tok) >= 0;
        fj_ollama_work w = { .c = c,
                             .spelled =
                                 json_string_value(json_object_get(own.tokens, "bos_token")) };
        if (!w.spelled) w.spelled = spelled_bos(&w.mem, tok);
        if (adds) w.bos = spelled_bos(&w.mem, tok);
        if (dated(c, later)) fj_fail(&e, FJ_EUNSUP, "its text has the day of today in it");
        else derive(&w, out, &e);
        out->lacks_bos = adds && !w.has_bos;
        if (!out->text && !dated(c, later)) out->system = default_system(&w);
        fj_arena_free(&w.mem);
    }
    if (!out->text) out->why = fj_strdup(e.msg);
    fj_chat_close(c);
    fj_chat_close(later);
    fj_templates_free(&own);
}

void fj_ollama_template_free(fj_ollama_template *t) {
    free(t->text);
    free(t->why);
    free(t->system);
    free(t->marks);
    for (size_t i = 0; i < FJ_LEN(t->begin); i++) free(t->begin[i]);
    free(t->end);
    *t = (fj_ollama_template){ 0 };
}
