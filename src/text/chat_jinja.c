/* chat_jinja.c - a conversation through a chat template, with what transformers does around one. */
#include "text/chat_in.h"

/* ---- templates of a model ------------------------------------------------------------------------- */
const char *fj_templates_find(const fj_templates *t, const char *name) {
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->v[i].name, name)) return t->v[i].text;
    return NULL;
}

void fj_templates_add(fj_templates *t, const char *name, const char *text) {
    if (fj_templates_find(t, name)) return;
    struct fj_template_source *v = fj_arena_alloc(&t->arena, (t->n + 1) * sizeof *v);
    if (t->n) memcpy(v, t->v, t->n * sizeof *v);
    v[t->n++] = (struct fj_template_source){ fj_arena_strdup(&t->arena, name),
                                             fj_arena_strdup(&t->arena, text) };
    t->v = v;
}

void fj_templates_replace(fj_templates *t, const char *name, const char *text) {
    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->v[i].name, name)) t->v[i].text = fj_arena_strdup(&t->arena, text);
    fj_templates_add(t, name, text); /* where there was none */
}

const char fj_chatml_template[] =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

void fj_templates_token(fj_templates *t, const char *key, const char *text) {
    json_t *s = json_string(text);
    if (!s) return; /* not UTF-8: no template could print it */
    if (!t->tokens) t->tokens = json_object();
    if (json_object_get(t->tokens, key)) json_decref(s);
    else json_object_set_new(t->tokens, key, s);
}

void fj_templates_free(fj_templates *t) {
    fj_arena_free(&t->arena);
    json_decref(t->tokens);
    *t = (fj_templates){ 0 };
}

/* ---- messages ------------------------------------------------------------------------------------- */
/* Members that are null are left out, and the reasoning, under whichever of its names it comes, is also
 * there under the names that templates read. */
static json_t *message(const json_t *m) {
    static const char *const names[] = { "reasoning_content", "thinking", "reasoning" };
    const json_t *reasoning = NULL;
    for (size_t i = 0; i < FJ_LEN(names) && !reasoning; i++) {
        reasoning = json_object_get(m, names[i]);
        if (json_is_null(reasoning)) reasoning = NULL;
    }
    json_t *o = json_object(), *x;
    const char *key;
    if (reasoning) json_object_set(o, "thinking", (json_t *)(uintptr_t)reasoning);
    json_object_foreach((json_t *)(uintptr_t)m, key, x) {
        if (!json_is_null(x)) json_object_set(o, key, x);
    }
    if (reasoning) json_object_set(o, "reasoning_content", (json_t *)(uintptr_t)reasoning);
    return o;
}

static bool needs_change(const json_t *m) {
    const char *key;
    json_t *x;
    json_object_foreach((json_t *)(uintptr_t)m, key, x) {
        if (json_is_null(x) || !strcmp(key, "reasoning_content") || !strcmp(key, "thinking") ||
            !strcmp(key, "reasoning"))
            return true;
    }
    return false;
}

static json_t *messages(const json_t *list, size_t n, fj_err *e) {
    json_t *out = json_array();
    for (size_t i = 0; i < n; i++) {
        json_t *m = json_array_get(list, i);
        if (!json_is_object(m)) {
            fj_fail(e, FJ_EFORMAT, "messages[%zu]: expected an object with role and content", i);
            json_decref(out);
            return NULL;
        }
        if (needs_change(m)) json_array_append_new(out, message(m));
        else json_array_append(out, m);
    }
    return out;
}

/* ---- rendering ------------------------------------------------------------------------------------ */
enum { VARS_MAX = 256 };

static void add(fj_jinja_var *v, size_t *n, const char *name, const json_t *value, bool trusted) {
    for (size_t i = 0; i < *n; i++)
        if (!strcmp(v[i].name, name)) {
            v[i].value = value;
            v[i].trusted = trusted;
            return;
        }
    if (*n < VARS_MAX)
        v[(*n)++] = (fj_jinja_var){ .name = name, .value = value, .trusted = trusted };
}

static void add_all(fj_jinja_var *v, size_t *n, const json_t *o, bool trusted) {
    const char *key;
    json_t *x;
    json_object_foreach((json_t *)(uintptr_t)o, key, x) add(v, n, key, x, trusted);
}

bool fj_chat_flagged(const fj_chat *c, const fj_conv *v, size_t n_messages, bool prompt,
                     fj_jinja_text *out, bool *raised, fj_err *e) {
    fj_jinja_var vars[VARS_MAX];
    size_t n = 0;
    json_t *list = messages(v->messages, n_messages, e);
    if (!list) return false;
    add_all(vars, &n, c->tokens, true);
    add_all(vars, &n, c->kwargs, false);
    add_all(vars, &n, v->kwargs, false);
    add(vars, &n, "tools", v->tools, false);
    add(vars, &n, "documents", v->documents, false);
    json_t *flag = prompt ? json_true() : json_false();
    add(vars, &n, "add_generation_prompt", flag, true);
    add(vars, &n, "messages", list, false);
    for (size_t i = 0; i < n; i++) vars[i].roles = !strcmp(vars[i].name, "messages");
    fj_jinja_opts o = { .now = c->now };
    bool with_tools = v->tools && !json_is_null(v->tools);
    bool ok =
        fj_jinja_render(with_tools && c->tools ? c->tools : c->jinja, vars, n, &o, out, raised, e);
    json_decref(list);
    return ok;
}

/* As fj_chatml_template has it. */
static bool chatml_text(const fj_conv *v, bool add_generation_prompt, fj_str *out, fj_err *e) {
    size_t i;
    json_t *m;
    json_array_foreach(v->messages, i, m) {
        const json_t *role = json_object_get(m, "role"), *content = json_object_get(m, "content");
        if (!json_is_string(role) || !json_is_string(content))
            return fj_fail(e, FJ_EINVAL,
                           "message %zu: chatml takes a role and a content that are text", i + 1);
        fj_str_addf(out, "<|im_start|>%s\n", json_string_value(role));
        fj_str_addn(out, json_string_value(content), json_string_length(content));
        fj_str_add(out, "<|im_end|>\n");
    }
    if (add_generation_prompt) fj_str_add(out, "<|im_start|>assistant\n");
    return true;
}

bool fj_chat_text(const fj_chat *c, const fj_conv *v, bool add_generation_prompt, char **s,
                  size_t *n, bool *raised, fj_err *e) {
    fj_jinja_text x;
    if (raised) *raised = false;
    if (c->kind == FJ_CHAT_RAW)
        return fj_fail(e, FJ_EINVAL,
                       "chat format %s has no text of its own: expected a chat template", c->name);
    if (!json_array_size(v->messages))
        return fj_fail(e, FJ_EINVAL, "the conversation is empty: expected at least one message");
    if (c->kind == FJ_CHAT_CHATML) {
        fj_str text = { 0 };
        bool ok = chatml_text(v, add_generation_prompt, &text, e);
        *n = text.n;
        if (ok) *s = fj_str_take(&text);
        else fj_str_free(&text);
        return ok;
    }
    if (!fj_chat_flagged(c, v, json_array_size(v->messages), add_generation_prompt, &x, raised, e))
        return false;
    *s = x.s;
    *n = x.n;
    free(x.from);
    return true;
}
