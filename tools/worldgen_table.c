/* worldgen_table.c - small tables: questions on a table in the prompt, and tables made of sentences. */
#include "worldgen.h"

#include <stdio.h>

#define ROWS 5

void wg_table_row(wg *w, wg_row *r) {
    size_t n = 2 + wg_below(w, ROWS - 1), item[ROWS];
    bool pt = w->lang == WG_PT, food = wg_chance(w, 50);
    const wg_noun *pool = food ? wg_foods : wg_things;
    wg_pick(w, food ? wg_nfoods : wg_nthings, n, item);
    /* Different numbers, so that the most and the least are one. */
    size_t value[ROWS];
    wg_pick(w, 20, n, value);
    size_t hi = 0, lo = 0;
    for (size_t i = 0; i < n; i++) {
        value[i] += 2;
        hi = value[i] > value[hi] ? i : hi;
        lo = value[i] < value[lo] ? i : lo;
    }
    size_t form = wg_below(w, 2); /* price, or how many */
    static const char *const head[2][2] = { { "| item | price |", "| item | number |" },
                                            { "| item | preço |", "| item | número |" } };
    fj_str table = { 0 }, said = { 0 };
    fj_str_addf(&table, "%s\n| --- | --- |", head[w->lang][form]);
    for (size_t i = 0; i < n; i++) {
        const wg_noun *x = &pool[item[i]];
        wg_bind_noun(w, "x", x);
        char num[24];
        snprintf(num, sizeof num, "%zu", value[i]);
        wg_bind_str(w, "n", fj_arena_strdup(&w->a, num), fj_arena_strdup(&w->a, num), 'm');
        fj_str_addf(&table, "\n| %s | %s |", pt ? x->pt : x->en, num);
        static const char *const sentence[2][2] = {
            { "[the {x} costs {n} coins.|price of the {x}: {n} coins.|the {x} is {n} coins.]",
              "[number of {s:x}: {n}.|we have {n} {s:x}.|there are {n} {s:x}.]" },
            { "[{o:x} custa {n} moedas.|preço {do:x}: {n} moedas.|{o:x} sai por {n} moedas.]",
              "[número de {s:x}: {n}.|temos {n} {s:x}.|há {n} {s:x}.]" }
        };
        fj_str_addf(&said, "%s%s", i ? " " : "", wg_say(w, sentence[w->lang][form]));
    }
    /* Portuguese "two" has a gender in words, none in digits: tables keep to digits. */
    char *t = fj_arena_strdup(&w->a, table.s), *s = fj_arena_strdup(&w->a, said.s);
    fj_str_free(&table);
    fj_str_free(&said);
    if (wg_chance(w, 25)) {
        char *lead = wg_put(
            w,
            pt ? "[Faça uma tabela: |Escreva uma tabela com isto: |Coloque isto em uma tabela: |Transforme em "
                 "tabela: ]"
               : "[Make a table: |Write a table of this: |Put this in a table: |Turn this into a table: ]");
        wg_ask(r, fj_arena_printf(&w->a, "%s%s", lead, s), t);
        r->answer = t;
        return;
    }
    size_t i = wg_below(w, n), kind = wg_below(w, 100);
    FJ_ASSERT(n >= 2);
    size_t turns = wg_chance(w, 25) ? 2 : 1;
    char *lead =
        wg_put(w, pt ? "[Aqui está uma tabela:|Veja a tabela:|Leia esta tabela:|Uma tabela:]"
                     : "[Here is a table:|Look at the table:|Read this table:|A table:]");
    for (size_t k = 0; k < turns; k++) {
        const char *q, *a, *b;
        size_t at = i;
        bool absent = kind >= 88;
        char num[24];
        if (kind < 50 || absent) {
            q = form
                    ? (pt ? "[qual é o número de {s:x}?|qual número está ao lado de {x}?|o que a tabela diz de {x}?]"
                          : "[how many {s:x} are there?|what is the number of {s:x}?|which number is next to {x}?]")
                    : (pt ? "[quanto custa {o:x}?|qual é o preço {do:x}?|quantas moedas custa {o:x}?]"
                          : "[how much is the {x}?|what is the price of the {x}?|how many coins does the {x} cost?]");
            a = form ? (pt ? "o número de {s:x} é {n}." : "the number of {s:x} is {n}.")
                     : (pt ? "{o:x} custa {n} moedas." : "the {x} costs {n} coins.");
            b = "{n}";
        } else if (kind < 63) {
            at = hi;
            q = form
                    ? (pt ? "[qual item tem o maior número?|qual é o item com o maior número?]"
                          : "[which item has the highest number?|what is the item with the highest number?]")
                    : (pt ? "[qual é o item mais caro?|o que custa mais?]"
                          : "[what is the most expensive item?|which item costs the most?]");
            a = form
                    ? (pt ? "{o:x} tem o maior número, {n}."
                          : "the {x} has the highest number, {n}.")
                    : (pt ? "{o:x} custa mais, {n} moedas." : "the {x} costs the most, {n} coins.");
            b = "{x}";
        } else if (kind < 76) {
            at = lo;
            q = form
                    ? (pt ? "[qual item tem o menor número?|qual é o item com o menor número?]"
                          : "[which item has the lowest number?|what is the item with the lowest number?]")
                    : (pt ? "[qual é o item mais barato?|o que custa menos?]"
                          : "[what is the cheapest item?|which item costs the least?]");
            a = form ? (pt ? "{o:x} tem o menor número, {n}."
                           : "the {x} has the lowest number, {n}.")
                     : (pt ? "{o:x} custa menos, {n} moedas."
                           : "the {x} costs the least, {n} coins.");
            b = "{x}";
        } else {
            q = form ? (pt ? "[qual item tem o número {n}?|que item está ao lado do número {n}?]"
                           : "[which item has the number {n}?|what is next to the number {n}?]")
                     : (pt ? "[o que custa {n} moedas?|qual item custa {n} moedas?]"
                           : "[what costs {n} coins?|which item costs {n} coins?]");
            a = form ? (pt ? "{o:x} tem o número {n}." : "the {x} has the number {n}.")
                     : (pt ? "{o:x} custa {n} moedas." : "the {x} costs {n} coins.");
            b = "{x}";
        }
        const wg_noun *x = &pool[item[at]];
        if (absent) {
            size_t other;
            bool again;
            do {
                other = wg_below(w, food ? wg_nfoods : wg_nthings);
                again = false;
                for (size_t j = 0; j < n; j++) {
                    again = again || item[j] == other;
                }
            } while (again);
            x = &pool[other];
            a = pt ? "[Não sei. A tabela não diz.]" : "[I do not know. The table does not say.]";
            b = pt ? "Não sei" : "not know";
        }
        snprintf(num, sizeof num, "%zu", value[at]);
        wg_bind_noun(w, "x", x);
        char *ns = fj_arena_strdup(&w->a, num);
        wg_bind_str(w, "n", ns, ns, 'm');
        char *ask = wg_say(w, q);
        if (k == 0) {
            ask = wg_chance(w, 80) ? fj_arena_printf(&w->a, "%s\n%s\n%s", lead, t, ask)
                                   : fj_arena_printf(&w->a, "%s\n\n%s", ask, t);
        }
        wg_ask(r, ask, wg_say(w, a));
        r->contains = wg_put(w, b);
        i = (i + 1) % n;
        kind = (kind + 37) % 88;
    }
}
