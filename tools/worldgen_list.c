/* worldgen_list.c - lists: make, sort, count, first and last, the biggest number, small sums. */
#include "worldgen.h"

#include <stdio.h>

static const wg_noun *pool_of(wg *w, size_t *n, const char **en, const char **pt) {
    switch (wg_below(w, 3)) {
    case 0:
        *n = wg_nfoods;
        *en = "things to eat";
        *pt = "coisas de comer";
        return wg_foods;
    case 1:
        *n = wg_nanimals;
        *en = "animals";
        *pt = "animais";
        return wg_animals;
    default:
        *n = wg_nthings;
        *en = "things";
        *pt = "coisas";
        return wg_things;
    }
}

static const char *join(wg *w, const char *const *s, size_t n, const char *sep) {
    fj_str out = { 0 };
    for (size_t i = 0; i < n; i++) {
        fj_str_addf(&out, "%s%s", i ? sep : "", s[i]);
    }
    char *p = fj_arena_strdup(&w->a, out.s);
    fj_str_free(&out);
    return p;
}

static void bind(wg *w, const char *key, const char *s) { wg_bind_str(w, key, s, s, 'm'); }

/* In the order of a Portuguese dictionary: an accent does not count (C3 A0..BF in UTF-8 are these). */
static int compare(const char *a, const char *b) {
    static const char plain[] = "aaaaaaaceeeeiiiidnooooo/ouuuuyty";
    for (;; a++, b++) {
        bool la = (uint8_t)*a == 0xc3 && (uint8_t)a[1] >= 0xa0,
             lb = (uint8_t)*b == 0xc3 && (uint8_t)b[1] >= 0xa0;
        char x = la ? plain[(uint8_t) * ++a - 0xa0] : *a,
             y = lb ? plain[(uint8_t) * ++b - 0xa0] : *b;
        if (x != y) return x < y ? -1 : 1;
        if (!x) return 0;
    }
}

static void numbers(wg *w, wg_row *r) {
    size_t n = 3 + wg_below(w, 3), v[6];
    wg_pick(w, 30, n, v);
    const char *s[6] = { "" }, *sorted[6] = { "" };
    for (size_t i = 0; i < n; i++) {
        s[i] = fj_arena_printf(&w->a, "%zu", v[i]);
        size_t j = i;
        for (; j && strtoul(sorted[j - 1], NULL, 10) > v[i]; j--) {
            sorted[j] = sorted[j - 1];
        }
        sorted[j] = s[i];
    }
    static const struct {
        const char *q[2], *a[2];
    } t[] = {
        { { "[Which number is the biggest: {s}?|What is the biggest of these numbers: {s}?]",
            "[Qual número é o maior: {s}?|Qual é o maior destes números: {s}?]" },
          { "The biggest number is {hi}.", "O maior número é {hi}." } },
        { { "[Which number is the smallest: {s}?|What is the smallest of these numbers: {s}?]",
            "[Qual número é o menor: {s}?|Qual é o menor destes números: {s}?]" },
          { "The smallest number is {lo}.", "O menor número é {lo}." } },
        { { "[Put these numbers in order: {s}.|Sort these numbers: {s}.]",
            "[Coloque estes números em ordem: {s}.|Ordene estes números: {s}.]" },
          { "{o}", "{o}" } },
        { { "[What is {p} plus {q}?|How much is {p} plus {q}?|Add {p} and {q}.]",
            "[Quanto é {p} mais {q}?|Some {p} e {q}.]" },
          { "{p} plus {q} is {u}.", "{p} mais {q} é {u}." } },
    };
    size_t k = wg_below(w, FJ_LEN(t)), p = 1 + wg_below(w, 12), q = 1 + wg_below(w, 12);
    bind(w, "s", join(w, s, n, ", "));
    bind(w, "o", join(w, sorted, n, ", "));
    bind(w, "lo", sorted[0]);
    bind(w, "hi", sorted[n - 1]);
    bind(w, "p", fj_arena_printf(&w->a, "%zu", p));
    bind(w, "q", fj_arena_printf(&w->a, "%zu", q));
    bind(w, "u", fj_arena_printf(&w->a, "%zu", p + q));
    char *ask = wg_put(w, t[k].q[w->lang]);
    char *a = wg_put(w, t[k].a[w->lang]);
    wg_ask(r, ask, a);
    r->answer = a;
}

void wg_list_row(wg *w, wg_row *r) {
    if (wg_chance(w, 25)) {
        numbers(w, r);
        return;
    }
    const char *en, *pt;
    size_t size, n = 2 + wg_below(w, 5), at[6];
    const wg_noun *pool = pool_of(w, &size, &en, &pt);
    wg_pick(w, size, n, at);
    const char *s[6] = { "" }, *sorted[6] = { "" };
    for (size_t i = 0; i < n; i++) {
        s[i] = w->lang == WG_EN ? pool[at[i]].en : pool[at[i]].pt;
        size_t j = i;
        for (; j && compare(sorted[j - 1], s[i]) > 0; j--) {
            sorted[j] = sorted[j - 1];
        }
        sorted[j] = s[i];
    }
    bind(w, "s", join(w, s, n, ", "));
    bind(w, "o", join(w, sorted, n, ", "));
    bind(w, "dash", fj_arena_printf(&w->a, "- %s", join(w, s, n, "\n- ")));
    fj_str num = { 0 };
    for (size_t i = 0; i < n; i++) {
        fj_str_addf(&num, "%s%zu. %s", i ? "\n" : "", i + 1, s[i]);
    }
    bind(w, "num", fj_arena_strdup(&w->a, num.s));
    fj_str_free(&num);
    bind(w, "first", s[0]);
    bind(w, "last", s[n - 1]);
    bind(w, "second", s[1]);
    wg_bind_str(w, "kind", en, pt, 'f');
    wg_bind_num(w, "n", (int)n, strcmp(pt, "animais") ? 'f' : 'm');
    static const struct {
        const char *q[2], *a[2];
    } t[] = {
        { { "[Make a list of {n} {kind}.|Write a list of {n} {kind}.|Give me a list of {n} {kind}.|Name {n} {kind} in a list.]",
            "[Faça uma lista de {n} {kind}.|Escreva uma lista de {n} {kind}.|Dê-me uma lista de {n} {kind}.]" },
          { "{dash}", "{dash}" } },
        { { "[Make a list: {s}.|Write this as a list: {s}.|Turn this into a list: {s}.]",
            "[Faça uma lista: {s}.|Escreva isto como lista: {s}.|Transforme isto em lista: {s}.]" },
          { "{dash}", "{dash}" } },
        { { "[Make a list with numbers: {s}.|Number this list: {s}.]",
            "[Faça uma lista com números: {s}.|Numere esta lista: {s}.]" },
          { "{num}", "{num}" } },
        { { "[What is the first in this list: {s}?|Which word is the first: {s}?|Take the first word: {s}.]",
            "[Qual é o primeiro desta lista: {s}?|Que palavra é a primeira: {s}?|Pegue a primeira palavra: {s}.]" },
          { "{first}", "{first}" } },
        { { "[What is the last in this list: {s}?|Which word is the last: {s}?|Take the last word: {s}.]",
            "[Qual é o último desta lista: {s}?|Que palavra é a última: {s}?|Pegue a última palavra: {s}.]" },
          { "{last}", "{last}" } },
        { { "[What is the second in this list: {s}?|Which word is the second: {s}?]",
            "[Qual é o segundo desta lista: {s}?|Que palavra é a segunda: {s}?]" },
          { "{second}", "{second}" } },
        { { "[How many words are in this list: {s}?|Count the words: {s}.|How many are these: {s}?]",
            "[Quantas palavras há nesta lista: {s}?|Conte as palavras: {s}.]" },
          { "{nw}", "{nw}" } },
        { { "[Sort these words: {s}.|Put these words in alphabetical order: {s}.|Order from A to Z: {s}.]",
            "[Ordene estas palavras: {s}.|Coloque estas palavras em ordem alfabética: {s}.|Ordene de A a Z: {s}.]" },
          { "{o}", "{o}" } },
        { { "[Repeat the list the other way round: {s}.|Write this list from last to first: {s}.]",
            "[Repita a lista ao contrário: {s}.|Escreva esta lista do último ao primeiro: {s}.]" },
          { "{back}", "{back}" } },
    };
    const char *back[6] = { "" };
    for (size_t i = 0; i < n; i++) {
        back[i] = s[n - 1 - i];
    }
    bind(w, "back", join(w, back, n, ", "));
    wg_bind_num(w, "nw", (int)n, 'f');
    size_t k = wg_below(w, FJ_LEN(t));
    char *q = wg_put(w, t[k].q[w->lang]);
    char *a = wg_put(w, t[k].a[w->lang]);
    wg_ask(r, q, a);
    r->answer = k ? a : NULL; /* a free list has many right answers */
}
