/* worldgen_do.c - simple instructions: repeat, upper case, one word, the other language, translate. */
#include "worldgen.h"

static const wg_noun *word(wg *w) {
    switch (wg_below(w, 6)) {
    case 0: return &wg_foods[wg_below(w, wg_nfoods)];
    case 1: return &wg_animals[wg_below(w, wg_nanimals)];
    case 2: return &wg_places[wg_below(w, wg_nplaces)];
    case 3: return &wg_emblems[wg_below(w, WG_TOWNS)];
    case 4:
        return wg_chance(w, 50) ? &wg_colours[wg_below(w, WG_COLOURS)]
                                : &wg_days[wg_below(w, WG_DAYS)];
    default: return &wg_things[wg_below(w, wg_nthings)];
    }
}

/* A plain sentence in both languages from the same values. */
static void sentence(wg *w, char **en, char **pt) {
    static const char *const t[][2] = {
        { "The {x} is in the {w}.", "{o:x} está {no:w}." },
        { "{p} has a {c} {x}.", "{p} tem {um:x} {c}." },
        { "{p} lives in {t}.", "{p} mora em {t}." },
        { "{p} goes to the {w} on {d}.", "{p} vai {ao:w} {no:d}." },
        { "The {x} is {c}.", "{o:x} é {c}." },
        { "The market in {t} is on {d}.", "a feira de {t} é {no:d}." },
        { "{p} sees the {y} in the {w}.", "{p} vê {o:y} {no:w}." },
        { "The {y} sleeps in the {w}.", "{o:y} dorme {no:w}." },
        { "I like the {w} of {t}.", "eu gosto {do:w} de {t}." },
        { "The river {r} is long.", "o rio {r} é longo." },
    };
    wg_bind_town(w, wg_below(w, WG_TOWNS));
    char g;
    const char *p = wg_any_name(w, &g);
    const wg_noun *x = &wg_things[wg_below(w, wg_nthings)],
                  *c = &wg_colours[wg_below(w, WG_COLOURS)];
    wg_bind_str(w, "p", p, p, g);
    wg_bind_noun(w, "x", x);
    wg_bind_noun(w, "y", &wg_animals[wg_below(w, wg_nanimals)]);
    wg_bind_str(w, "c", c->en, x->g == 'f' ? c->pt_pl : c->pt, 'm');
    wg_bind_noun(w, "w", &wg_places[wg_below(w, wg_nplaces)]);
    size_t k = wg_below(w, FJ_LEN(t));
    if (k != 5) { /* the market day of a town stays the world's */
        wg_bind_noun(w, "d", &wg_days[wg_below(w, WG_DAYS)]);
    }
    int lang = w->lang;
    w->lang = WG_EN;
    *en = wg_say(w, t[k][0]);
    w->lang = WG_PT;
    *pt = wg_say(w, t[k][1]);
    w->lang = lang;
}

void wg_do_row(wg *w, wg_row *r) {
    char *en, *pt, *q, *a;
    const char *lead;
    bool eng = w->lang == WG_EN;
    sentence(w, &en, &pt);
    char *mine = eng ? en : pt, *theirs = eng ? pt : en;
    const wg_noun *x = word(w);
    switch (wg_below(w, 8)) {
    case 0:
        lead = eng ? "[Repeat: |Repeat this: |Say this again: |Write this again: ]"
                   : "[Repita: |Repita isto: |Diga de novo: |Escreva de novo: ]";
        q = fj_arena_printf(&w->a, "%s%s", wg_put(w, lead), mine);
        a = mine;
        break;
    case 1:
        lead =
            eng ? "[Write in uppercase: |In capital letters: |Write this in capital letters: ]"
                : "[Escreva em maiúsculas: |Em letras maiúsculas: |Escreva isto em letras maiúsculas: ]";
        q = fj_arena_printf(&w->a, "%s%s", wg_put(w, lead), eng ? x->en : x->pt);
        a = wg_upper(w, eng ? x->en : x->pt);
        break;
    case 2:
    case 3:
        wg_bind_noun(w, "x", x);
        q = wg_put(
            w,
            eng ? "[How do you say \"{x}\" in Portuguese?|Translate into Portuguese: {x}|What is the Portuguese word for "
                  "{x}?|What is \"{x}\" in Portuguese?]"
                : "[Como se diz \"{x}\" em inglês?|Traduza para o inglês: {x}|Qual é a palavra inglesa para {x}?|O que é "
                  "\"{x}\" em inglês?]");
        a = fj_arena_strdup(&w->a, eng ? x->pt : x->en);
        break;
    case 4:
    case 5:
        lead = eng ? "[Translate into Portuguese: |Say this in Portuguese: |Write in Portuguese: ]"
                   : "[Traduza para o inglês: |Diga isto em inglês: |Escreva em inglês: ]";
        q = fj_arena_printf(&w->a, "%s%s", wg_put(w, lead), mine);
        a = theirs;
        break;
    default: wg_across(w, r); return;
    }
    wg_ask(r, q, a);
    r->answer = a;
}
