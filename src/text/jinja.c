/* jinja.c - compiling and rendering: the two doors. */
#include "text/jinja_in.h"

enum { SOURCE_MAX = 4 << 20, COMPILE_DEPTH = 400 };

/* The interpreter stands on the C stack: deeper than this it may not go, whatever is asked for. */
enum { DEPTH = 1000, DEPTH_MAX = 2000 };

static size_t not_utf8(const char *s, size_t n) {
    size_t len;
    for (size_t i = 0; i < n; i += len) {
        uint32_t c = fjj_get_char(s + i, n - i, &len);
        if (c >= 0xdc00 && c < 0xe000) return i;
    }
    return n;
}

static void compile(jr *r, fj_jinja *t, const char *source, size_t n) {
    size_t count;
    jp p = { .r = r, .t = t, .k = fjj_lex(r, source, n, &count) };
    t->root = fjp_template(&p);
    t->globals = fjj_zalloc(r, (t->n_names + 1) * sizeof *t->globals);
    for (uint32_t i = 0; i < t->n_names; i++)
        t->globals[i] = fjj_global_find(t->names[i]->p, t->names[i]->n);
}

fj_jinja *fj_jinja_compile(const char *source, size_t n, const char *name, fj_err *e) {
    if (n > SOURCE_MAX) {
        fj_fail(e, FJ_EFORMAT, "%s: a chat template of %zu bytes: expected at most %d", name, n,
                SOURCE_MAX);
        return NULL;
    }
    size_t bad = not_utf8(source, n);
    if (bad < n) {
        fj_fail(e, FJ_EFORMAT, "%s: byte %zu of the chat template is not UTF-8", name, bad + 1);
        return NULL;
    }
    fj_jinja *t = fj_zalloc(sizeof *t);
    jr *r = fj_zalloc(sizeof *r); /* not on this frame, which longjmp returns to */
    r->e = e;
    r->name = name;
    r->mem = (jmem){ .limit = (size_t)256 << 20 };
    r->max_steps = UINT64_MAX;
    r->max_depth = COMPILE_DEPTH;
    r->max_output = SOURCE_MAX;
    bool ok = !setjmp(r->jump); // NOLINT(cert-err52-cpp)
    if (ok) {
        t->name = fjj_printf(r, "%s", name);
        compile(r, t, source, n);
        t->mem = r->mem;
    } else {
        fjm_free(&r->mem);
        free(t);
        t = NULL;
    }
    free(r);
    return t;
}

void fj_jinja_free(fj_jinja *t) {
    if (!t) return;
    fjm_free(&t->mem);
    free(t);
}

bool fj_jinja_marks_answers(const fj_jinja *t) { return t->marks; }

bool fj_jinja_uses(const fj_jinja *t, const char *name) {
    for (uint32_t i = 0; i < t->n_names; i++)
        if (fjj_same(t->names[i], name)) return true;
    return false;
}

static void variables(jr *r, const fj_jinja_var *vars, size_t n_vars) {
    const fj_jinja *t = r->t;
    r->root = fjj_alloc(r, (t->n_names + 1) * sizeof *r->root);
    memcpy(r->root, t->globals, t->n_names * sizeof *r->root);
    for (size_t i = 0; i < n_vars; i++)
        for (uint32_t k = 0; k < t->n_names;
             k++) /* names that the template does not use are not made */
            if (fjj_same(t->names[k], vars[i].name))
                r->root[k] = fjj_from_json(r, vars[i].value, vars[i].trusted, vars[i].roles);
}

bool fj_jinja_render(const fj_jinja *t, const fj_jinja_var *vars, size_t n_vars,
                     const fj_jinja_opts *o, fj_jinja_text *out, bool *raised, fj_err *e) {
    static const fj_jinja_opts none = { 0 };
    if (!o) o = &none;
    jr *r = fj_zalloc(sizeof *r);
    *out = (fj_jinja_text){ 0 };
    r->e = e;
    r->t = t;
    r->name = t->name;
    r->mem = (jmem){ .limit = o->max_memory ? o->max_memory : (size_t)256 << 20 };
    r->max_steps = o->max_steps ? o->max_steps : 20000000;
    r->max_depth = FJ_MIN(o->max_depth ? o->max_depth : DEPTH, DEPTH_MAX);
    r->max_output = FJ_MIN(o->max_output ? o->max_output : (size_t)64 << 20, (size_t)INT32_MAX);
    r->now = o->now;
    r->top.r = r;
    r->out = &r->top;
    bool ok = !setjmp(r->jump); // NOLINT(cert-err52-cpp)
    if (ok) {
        variables(r, vars, n_vars);
        fjj_run(r, NULL, t->root);
        out->n = r->top.n;
        out->s = fj_strndup(out->n ? r->top.p : "", out->n);
        if (r->top.from) {
            out->from = fj_alloc(out->n);
            memcpy(out->from, r->top.from, out->n);
        }
    }
    if (raised) *raised = r->raised;
    fjm_free(&r->mem);
    free(r);
    return ok;
}

void fj_jinja_text_free(fj_jinja_text *t) {
    free(t->s);
    free(t->from);
    *t = (fj_jinja_text){ 0 };
}
