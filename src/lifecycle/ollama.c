/* ollama.c - the Modelfile (ollama.h).  Its grammar: docs/modelfile.md and parser/parser.go of Ollama. */
#include "base/fs.h"
#include "formats/json.h"
#include "lifecycle/ollama_in.h"

enum {
    MAX_CTX = 8192, /* Ollama keeps room for all of num_ctx from the start */
    MAX_STOP = 64,
    MAX_STOPS = 16,
};

/* ---- stop strings ---------------------------------------------------------------------------- */
typedef struct stops {
    char *v[MAX_STOPS];
    int n;
} stops;

static void add_stop(stops *l, const char *s, size_t n) {
    if (n < 2 || n > MAX_STOP || l->n == MAX_STOPS || memchr(s, '"', n) ||
        !fj_go_plain(s, n, false))
        return;
    for (int i = 0; i < l->n; i++)
        if (strlen(l->v[i]) == n && !memcmp(l->v[i], s, n)) return;
    l->v[l->n++] = fj_strndup(s, n);
}

typedef struct found {
    size_t at, n;
} found;

static int by_place(const void *a, const void *b) {
    const found *x = a, *y = b;
    return x->at != y->at ? (x->at < y->at ? -1 : 1) : x->n > y->n ? -1 : x->n < y->n;
}

/* Control tokens that the template writes, but for BOS, in their order. */
static void add_control(stops *l, const char *marks, const fj_tokenizer *tok) {
    found *f = NULL;
    size_t n = 0, cap = 0;
    for (int32_t id = 0; id < fj_vocab_size(tok); id++) {
        if (!fj_token_is_special(tok, id) || id == fj_token_bos(tok)) continue;
        fj_bytes b = fj_token_piece(tok, id);
        char *piece = fj_strndup(b.p, b.n);
        const char *at = b.n && !memchr(b.p, 0, b.n) ? strstr(marks, piece) : NULL;
        free(piece);
        if (!at) continue;
        FJ_GROW(f, n + 1, cap);
        f[n++] = (found){ (size_t)(at - marks), b.n };
    }
    if (n) qsort(f, n, sizeof *f, by_place);
    for (size_t i = 0; i < n; i++) add_stop(l, marks + f[i].at, f[i].n);
    free(f);
}

/* What a turn begins or ends with, where it has no control token in it: "[INST]", "### Human:". */
static void add_marker(stops *l, const char *s) {
    if (!s) return;
    for (int i = 0; i < l->n; i++)
        if (strstr(s, l->v[i])) return;
    while (*s == ' ' || *s == '\n') s++;
    size_t n = strlen(s);
    while (n && (s[n - 1] == ' ' || s[n - 1] == '\n')) n--;
    add_stop(l, s, n);
}

static void find_stops(stops *l, const fj_model *m, const fj_ollama_template *t) {
    if (t->marks) {
        add_control(l, t->marks, m->tok);
        for (size_t i = 0; i < FJ_LEN(t->begin); i++) add_marker(l, t->begin[i]);
        add_marker(l, t->end);
    }
    for (int32_t id = 0; id < fj_vocab_size(m->tok); id++) {
        if (!fj_model_ends(m, id) || !fj_token_is_special(m->tok, id)) continue;
        fj_bytes b = fj_token_piece(m->tok, id);
        add_stop(l, b.p, b.n);
    }
}

/* ---- parameters ------------------------------------------------------------------------------ */
static bool put_sampling(fj_str *s, const fj_model *m, fj_err *e) {
    static const struct {
        const char *theirs, *ours;
        double least, most;
    } rows[] = { { "temperature", "temperature", 0, 100 },
                 { "top_p", "top_p", 0, 1 },
                 { "top_k", "top_k", 0, 1e6 },
                 { "min_p", "min_p", 0, 1 },
                 { "repetition_penalty", "repeat_penalty", 1e-3, 100 } };
    if (!m->gen_config) return true;
    json_t *g = fj_json_parse(m->gen_config, strlen(m->gen_config), "generation_config.json", e);
    if (!g) return false;
    bool greedy = json_is_false(json_object_get(g, "do_sample"));
    for (size_t i = 0; i < FJ_LEN(rows); i++) {
        const json_t *v = json_object_get(g, rows[i].theirs);
        double x = json_number_value(v);
        bool chosen = i == 0 && greedy;
        if (!chosen && (!json_is_number(v) || !(x >= rows[i].least && x <= rows[i].most))) continue;
        fj_str_addf(s, "PARAMETER %s %.6g\n", rows[i].ours, chosen ? 0 : x);
    }
    json_decref(g);
    return true;
}

/* ---- the file -------------------------------------------------------------------------------- */
/* NAME-00001-of-00003.gguf: Ollama keeps files under their hashes and finds no other parts. */
static bool is_part(const char *name) {
    size_t n = strlen(name);
    const char *s = n > 20 ? name + n - 20 : "";
    return *s == '-' && strspn(s + 1, "0123456789") == 5 && !strncmp(s + 6, "-of-", 4) &&
           strspn(s + 10, "0123456789") == 5 && !strcmp(s + 15, ".gguf");
}

static bool check_name(const char *dir, const char *name, const char *what, fj_err *e) {
    size_t n = strlen(name);
    if (!n || strchr(name, '/') || name[n - 1] == ' ' || !fj_go_plain(name, n, false))
        return fj_fail(e, FJ_EINVAL,
                       "the %s is called \"%s\", which a Modelfile cannot hold: expected the name "
                       "of a file in %s, of characters that print",
                       what, name, dir);
    if (is_part(name))
        return fj_fail(e, FJ_EUNSUP,
                       "the %s %s is part of a split GGUF, which Ollama cannot load: write it in "
                       "one file",
                       what, name);
    char *path = fj_path_join(dir, name);
    bool there = fj_exists(path);
    if (!there)
        fj_fail(e, FJ_EIO,
                "%s is missing: the %s has to be in the folder of its Modelfile (Ollama would look "
                "for a model of that name on the net)",
                path, what);
    free(path);
    return there;
}

static void put_template(fj_str *s, const fj_ollama_template *t) {
    if (t->text) {
        fj_str_addf(s,
                    "# Made from the model's chat template, and compared with it on %d "
                    "conversations.\n",
                    t->proofs);
        if (t->folds)
            fj_str_add(s, "# The chat template takes no system message: it is put in front of the "
                          "first message.\n");
        else if (!t->later)
            fj_str_add(s, "# System messages further on in a conversation were not compared.\n");
        if (t->trims)
            fj_str_add(s, "# The chat template takes blanks off both ends of a message, which "
                          "Ollama cannot.\n");
        if (t->tools) fj_str_add(s, "# Tools are not part of it.\n");
        fj_str_addf(s, "TEMPLATE \"\"\"%s\"\"\"\n\n", t->text);
        return;
    }
    fj_str_add(s, "# No TEMPLATE: ");
    /* A comment ends with its line. */
    for (const char *p = t->why; *p; p++)
        fj_str_addc(s, (unsigned char)*p < 0x20 || *p == 0x7f ? ' ' : *p);
    fj_str_add(s, "\n# Ollama uses what it makes of the chat template in the GGUF file.\n\n");
    size_t n = t->system ? strlen(t->system) : 0;
    if (!n) return;
    if (fj_go_plain(t->system, n, true) && !strstr(t->system, "\"\"\""))
        fj_str_addf(s, "SYSTEM \"\"\"%s\"\"\"\n\n", t->system);
    else
        fj_str_add(s, "# No SYSTEM: the chat template's own has characters that a Modelfile cannot "
                      "hold.\n\n");
}

static char *warn(const fj_ollama_template *t) {
    fj_str s = { 0 };
    if (!t->text)
        fj_str_addf(&s,
                    "the Modelfile has no TEMPLATE, and Ollama uses what it makes of the chat "
                    "template in the GGUF file: %s",
                    t->why);
    if (t->text && t->folds)
        fj_str_add(&s, "the model's chat template takes no system message: Ollama will put one in "
                       "front of the first message");
    if (t->lacks_bos)
        fj_str_addf(&s,
                    "%sthe chat template begins without the BOS token that Ollama will put in "
                    "front of it, since the tokenizer says add_bos_token",
                    s.n ? "; " : "");
    return s.n ? fj_str_take(&s) : NULL;
}

bool fj_ollama_write(const fj_model *m, const char *dir, const char *gguf_name,
                     const char *adapter_name, char **warning, fj_err *e) {
    *warning = NULL;
    if (!fj_is_dir(dir)) return fj_fail(e, FJ_EIO, "%s is not a folder", dir);
    if (!m->tok)
        return fj_fail(e, FJ_EUNSUP, "%s has no tokenizer, without which Ollama has no text",
                       m->path);
    if (!check_name(dir, gguf_name, "model", e) ||
        (adapter_name && !check_name(dir, adapter_name, "adapter", e)))
        return false;
    fj_ollama_template t;
    stops l = { .n = 0 };
    fj_str s = { 0 };
    fj_ollama_template_of(&m->templates, m->tok, &t);
    fj_str_addf(&s, "FROM ./%s\n", gguf_name);
    if (adapter_name) fj_str_addf(&s, "ADAPTER ./%s\n", adapter_name);
    fj_str_add(&s, "\n");
    put_template(&s, &t);
    find_stops(&l, m, &t);
    for (int i = 0; i < l.n; i++) fj_str_addf(&s, "PARAMETER stop \"%s\"\n", l.v[i]);
    if (m->hp.context > MAX_CTX)
        fj_str_addf(&s, "# The model knows contexts of up to %lld tokens; each costs memory.\n",
                    (long long)m->hp.context);
    if (m->hp.context > 0)
        fj_str_addf(&s, "PARAMETER num_ctx %lld\n", (long long)FJ_MIN(m->hp.context, MAX_CTX));
    bool ok = put_sampling(&s, m, e);
    char *path = fj_path_join(dir, "Modelfile");
    ok = ok && fj_write_file(path, s.s, s.n, e);
    if (ok) *warning = warn(&t);
    for (int i = 0; i < l.n; i++) free(l.v[i]);
    free(path);
    fj_str_free(&s);
    fj_ollama_template_free(&t);
    return ok;
}
