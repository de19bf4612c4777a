/* ollama_prove.c - the same conversations through the chat template and through the Go template made of it. */
#include "lifecycle/ollama_in.h"

static const char *const plain[] = {
    "Hello",
    "What is 2 + 2?",
    "Two lines\n\nand a third,\twith a tab",
    "{{ .Content }} {{ end }} {% raw %} \"\"\"quotes\"\"\" \\n %s <b>&amp;</b>",
    "Ol\303\241! \350\277\231\346\230\257 \360\237\221\215",
    "42",
    "[INST] <|im_end|> <|eot_id|> </s>",
    "- a\n- b",
    "None",
    "{\"name\": \"f\", \"arguments\": {}}",
};
static const struct {
    const char *text, *why;
} special[] = {
    { "<think>\nI wonder.\n</think>\n\nYes.",
      "it changes messages with <think> ... </think> in them" },
    { "Yes. /no_think", "it reads /no_think in messages" },
    { "Well /think of it", "it reads /think in messages" },
};

/* One conversation through both; false: e says what differs. */
static bool compare(fj_ollama_work *w, const char *text, const char *turns, const char *const *c,
                    fj_err *e) {
    bool open = turns[strlen(turns) - 1] == 'a', ok = true;
    json_t *list = fj_ollama_conversation(turns, c);
    fj_str want = { 0 }, got = { 0 };
    if (fj_ollama_jinja(w->c, list, !open, &want, e)) {
        const char *s = fj_ollama_without_bos(w, want.n ? want.s : "");
        ok = fj_ollama_render(text, list, &got, e);
        if (ok && open) { /* Ollama leaves it open */
            char *left = fj_ollama_before(w, s, w->answer_end);
            s = left ? left : s;
        }
        if (ok && strcmp(got.n ? got.s : "", s) != 0) {
            size_t at = 0;
            while (got.n && s[at] && s[at] == got.s[at]) at++;
            ok = fj_fail(e, FJ_EUNSUP,
                         "a conversation of %zu messages differs from byte %zu on (\"%.24s\", not "
                         "\"%.24s\")",
                         strlen(turns), at, got.n ? got.s + at : "", s + at);
        }
    } else ok = false;
    json_decref(list);
    fj_str_free(&want);
    fj_str_free(&got);
    return ok;
}

bool fj_ollama_prove(fj_ollama_work *w, const char *text, int *proofs, fj_err *e) {
    static const char *const shapes[] = { "u",  "uau",  "uauau",  "uauauau", "su",   "suau",
                                          "ua", "uaua", "suauau", "sua",     "uasu", "uasuau" };
    const char *c[MAX_TURNS];
    for (size_t k = 0; k < FJ_LEN(plain) + FJ_LEN(special); k++)
        for (size_t i = 0; i < FJ_LEN(shapes); i++) {
            const char *t = shapes[i];
            size_t n = strlen(t);
            bool system = strchr(t, 's'), further = system && t[0] != 's', open = t[n - 1] == 'a';
            if ((system && w->folds) || (further && (w->last || !w->later)) ||
                (open && !w->answer_end))
                continue;
            for (size_t j = 0; j < n; j++) c[j] = plain[(k + 7 * j) % FJ_LEN(plain)];
            size_t x = k - FJ_LEN(plain);
            for (size_t j = 0; j < (k < FJ_LEN(plain) ? 1 : n); j++) { /* everywhere in turn */
                const char *was = c[j];
                if (k >= FJ_LEN(plain)) c[j] = special[x].text;
                if (!compare(w, text, t, c, e))
                    return k < FJ_LEN(plain) ? false : fj_fail(e, FJ_EUNSUP, "%s", special[x].why);
                c[j] = was;
                ++*proofs;
            }
        }
    return true;
}
