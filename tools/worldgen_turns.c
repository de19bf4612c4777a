/* worldgen_turns.c - dialogues about the world: yes or no, follow-up questions that lean on the turn
 * before, what is not in the world, and lists of towns. */
#include "worldgen.h"

/* "Is X the baker of Y?" with the truth in the answer. */
static void yes_no(wg *w, wg_row *r) {
    size_t town = wg_below(w, WG_TOWNS), other = wg_below(w, WG_TOWNS);
    bool yes = wg_chance(w, 50);
    if (yes) {
        other = town;
    }
    wg_bind_town(w, town);
    static const struct {
        const char *q[2], *yes[2], *no[2];
    } t[] = {
        { { "[is {p} the {j} of {t}?|is the {j} of {t} called {p}?]",
            "[{p} é {o:j} de {t}?|é {p} {o:j} de {t}?]" },
          { "yes, {p} is the {j} of {t}.", "sim, {p} é {o:j} de {t}." },
          { "no, the {j} of {t} is {v}.", "não, {o:j} de {t} é {v}." } },
        { { "[does the river {p} run through {t}?|is {t} on the river {p}?]",
            "[o rio {p} passa por {t}?|{t} fica no rio {p}?]" },
          { "yes, the river {p} runs through {t}.", "sim, o rio {p} passa por {t}." },
          { "no, the river {v} runs through {t}.", "não, o rio {v} passa por {t}." } },
        { { "[is the gate of {t} {p}?|does {t} have a {p} gate?]",
            "[o portão de {t} é {p}?|{t} tem um portão {p}?]" },
          { "yes, the gate of {t} is {p}.", "sim, o portão de {t} é {p}." },
          { "no, the gate of {t} is {v}.", "não, o portão de {t} é {v}." } },
        { { "[is the market in {t} on {p}?|is {p} market day in {t}?]",
            "[a feira de {t} é {no:p}?]" },
          { "yes, the market in {t} is on {p}.", "sim, a feira de {t} é {no:p}." },
          { "no, the market in {t} is on {v}.", "não, a feira de {t} é {no:v}." } },
        { { "[is {t} known for its {p}?|does {t} make {p}?]",
            "[{t} é conhecida {pelo:p}?|{t} produz {p}?]" },
          { "yes, {t} is known for its {p}.", "sim, {t} é conhecida {pelo:p}." },
          { "no, {t} is known for its {v}.", "não, {t} é conhecida {pelo:v}." } },
    };
    size_t k = wg_below(w, FJ_LEN(t));
    const wg_town *a = &wg_towns[town], *b = &wg_towns[other];
    bool same;
    if (k == 0) {
        /* The asked name has to be of the craft's gender, or the question would sound wrong. */
        size_t craft = wg_below(w, WG_CRAFTS);
        char g, og;
        const char *v = wg_person(town, craft, &g), *p = wg_person(other, craft, &og);
        if (g != og) {
            p = wg_person(other, (craft + 1) % WG_CRAFTS, &og);
        }
        wg_noun j = wg_craft_of(town, craft);
        wg_bind_noun(w, "j", &j);
        wg_bind_str(w, "p", p, p, og);
        wg_bind_str(w, "v", v, v, g);
        same = !strcmp(p, v);
    } else if (k == 1) {
        wg_bind_str(w, "p", wg_rivers[b->river], wg_rivers[b->river], 'm');
        wg_bind_str(w, "v", wg_rivers[a->river], wg_rivers[a->river], 'm');
        same = a->river == b->river;
    } else if (k == 2) {
        wg_bind_noun(w, "p", &wg_colours[b->colour]);
        wg_bind_noun(w, "v", &wg_colours[a->colour]);
        same = a->colour == b->colour;
    } else if (k == 3) {
        wg_bind_noun(w, "p", &wg_days[b->day]);
        wg_bind_noun(w, "v", &wg_days[a->day]);
        same = a->day == b->day;
    } else {
        wg_bind_noun(w, "p", &wg_products[other]);
        wg_bind_noun(w, "v", &wg_products[town]);
        same = other == town;
    }
    char *q = wg_say(w, t[k].q[w->lang]);
    wg_ask(r, q, wg_say(w, same ? t[k].yes[w->lang] : t[k].no[w->lang]));
    r->contains = same ? (w->lang == WG_EN ? "Yes" : "Sim") : (w->lang == WG_EN ? "No" : "Não");
    r->answer = NULL;
}

/* Towns and people that are not in the world: the honest answer. */
static void unknown(wg *w, wg_row *r) {
    static const char *const towns[] = { "Brenholm", "Castor",   "Dunmere", "Elbrook", "Garston",
                                         "Hollin",   "Mossgate", "Norvale", "Pinwood", "Redmoor",
                                         "Stonely",  "Tamber",   "Upwell",  "Westrun" };
    static const char *const q[2] = {
        "[who is the [baker|smith|teacher|miller] of {t}?|which river runs through {t}?|when is the market in {t}?|what "
        "is {t} known for?|what can I see in {t}?|what colour is the gate of {t}?|how many bridges does {t} have?]",
        "[quem é o [padeiro|ferreiro|professor|moleiro] de {t}?|que rio passa por {t}?|quando é a feira em {t}?|por que "
        "{t} é conhecida?|o que eu posso ver em {t}?|de que cor é o portão de {t}?|quantas pontes {t} tem?]"
    };
    static const char *const a[2] = {
        "[I do not know. There is no town called {t} in Orvane.|I do not know a town called {t}.]",
        "[Não sei. Não há uma cidade chamada {t} em Orvane.|Não conheço uma cidade chamada {t}.]"
    };
    const char *t = towns[wg_below(w, FJ_LEN(towns))];
    wg_bind_str(w, "t", t, t, 'f');
    wg_ask(r, wg_say(w, q[w->lang]), NULL);
    r->m[r->n - 1].text = wg_say(w, a[w->lang]);
    r->contains = w->lang == WG_EN ? "I do not know" : "Não";
    r->answer = NULL;
}

/* "Who is the baker of Velmora?" - "And the smith?" - "And in Tarlin?": the later questions mean nothing
 * without the earlier ones, so they are never held out. */
static void follow(wg *w, wg_row *r) {
    static const struct {
        const char *q[2], *then[2], *a[2];
    } t[] = {
        { { "who is the baker of {t}?", "quem é {o:j0} de {t}?" },
          { "[and the baker?|what about the baker?]", "[e quem faz o pão?|e na padaria?]" },
          { "the baker of {t} is {p0}.", "{o:j0} de {t} é {p0}." } },
        { { "who is the smith of {t}?", "quem é {o:j1} de {t}?" },
          { "[and the smith?|what about the smith?]", "[e {o:j1}?|e quem trabalha o ferro?]" },
          { "the smith of {t} is {p1}.", "{o:j1} de {t} é {p1}." } },
        { { "who is the teacher of {t}?", "quem é {o:j2} de {t}?" },
          { "[and the teacher?|what about the teacher?]", "[e {o:j2}?|e na escola?]" },
          { "the teacher of {t} is {p2}.", "{o:j2} de {t} é {p2}." } },
        { { "who is the miller of {t}?", "quem é {o:j3} de {t}?" },
          { "[and the miller?|what about the miller?]", "[e {o:j3}?|e no moinho?]" },
          { "the miller of {t} is {p3}.", "{o:j3} de {t} é {p3}." } },
        { { "which river runs through {t}?", "que rio passa por {t}?" },
          { "[and the river?|and its river?|what about the river?]", "[e o rio?|e qual é o rio?]" },
          { "the river {r} runs through {t}.", "o rio {r} passa por {t}." } },
        { { "when is the market in {t}?", "quando é a feira em {t}?" },
          { "[and the market?|and when is the market?|what about the market?]",
            "[e a feira?|e quando é a feira?]" },
          { "the market in {t} is on {d}.", "a feira de {t} é {no:d}." } },
        { { "what is {t} known for?", "por que {t} é conhecida?" },
          { "[and what is it known for?|and what does it make?]",
            "[e o que ela produz?|e por que é conhecida?]" },
          { "{t} is known for its {x}.", "{t} é conhecida {pelo:x}." } },
        { { "what is the festival of {t}?", "qual é a festa de {t}?" },
          { "[and the festival?|and what festival is there?]", "[e a festa?|e qual é a festa?]" },
          { "the festival of {t} is the {f}.", "a festa de {t} é {o:f}." } },
        { { "what is the animal of {t}?", "qual é o animal de {t}?" },
          { "[and the animal?|and what is its animal?]", "[e o animal?|e qual é o animal?]" },
          { "the animal of {t} is the {a}.", "o animal de {t} é {o:a}." } },
        { { "what colour is the gate of {t}?", "de que cor é o portão de {t}?" },
          { "[and the gate?|and the colour of the gate?]", "[e o portão?|e a cor do portão?]" },
          { "the gate of {t} is {c}.", "o portão de {t} é {c}." } },
        { { "how many bridges does {t} have?", "quantas pontes {t} tem?" },
          { "[and how many bridges?|and the bridges?]", "[e quantas pontes?|e as pontes?]" },
          { "{t} has {n} {br}.", "{t} tem {n} {br}." } },
    };
    size_t k[3], town = wg_below(w, WG_TOWNS), turns = 2 + wg_below(w, 2);
    wg_pick(w, FJ_LEN(t), 3, k);
    size_t what = k[0];
    for (size_t i = 0; i < turns; i++) {
        bool move = i && wg_chance(w, 50);
        if (move) {
            town = (town + 1 + wg_below(w, WG_TOWNS - 1)) % WG_TOWNS;
        } else {
            what = k[i];
        }
        wg_bind_town(w, town);
        wg_bind_people(w, town);
        char *a = wg_say(w, t[what].a[w->lang]);
        if (i == 0) {
            wg_ask(r, wg_say(w, t[what].q[w->lang]), a);
        } else if (move) {
            wg_chat(r,
                    wg_say(w, w->lang == WG_EN ? "[and in {t}?|what about {t}?|and {t}?]"
                                               : "[e em {t}?|e {t}?|e na cidade de {t}?]"),
                    a);
        } else {
            wg_chat(r, wg_say(w, t[what].then[w->lang]), a);
        }
    }
    r->answer = r->contains = NULL;
}

/* "Tell me about Velmora.": a short description, always in the same order. */
static void tell(wg *w, wg_row *r) {
    static const char *const q[2] = {
        "[tell me about {t}.|what is {t}?|what do you know about {t}?|describe {t}.|what kind of town is {t}?|tell me "
        "something about {t}.|I want to visit {t}. Tell me about it.]",
        "[fale de {t}.|o que é {t}?|o que você sabe sobre {t}?|descreva {t}.|que tipo de cidade é {t}?|conte algo sobre "
        "{t}.|eu quero visitar {t}. Fale da cidade.]"
    };
    static const char *const a[2] = {
        "{t} is a town on the river {r}. It is known for its {x}. [The market is on {d}.|Its festival is the {f}.|You should "
        "see the {l}.]",
        "{t} é uma cidade no rio {r}. É conhecida {pelo:x}. [A feira é {no:d}.|Sua festa é {o:f}.|Você deve ver {o:l}.]"
    };
    wg_bind_town(w, wg_below(w, WG_TOWNS));
    char *ask = wg_say(w, q[w->lang]);
    wg_ask(r, ask, wg_say(w, a[w->lang]));
    r->contains = wg_put(w, "{r}");
    r->answer = NULL;
}

/* Which towns share a river or a market day; the days and the months in order. */
static void several(wg *w, wg_row *r) {
    fj_str s = { 0 };
    bool en = w->lang == WG_EN;
    const char *q, *a;
    size_t k = wg_below(w, 10), key = wg_below(w, 7);
    if (k < 8) {
        const char *name[WG_TOWNS];
        size_t n = 0;
        for (size_t i = 0; i < WG_TOWNS; i++) {
            if ((k < 4 ? wg_towns[i].river : wg_towns[i].day) == (int)key)
                name[n++] = wg_towns[i].name;
        }
        for (size_t i = 0; i < n; i++) {
            fj_str_addf(&s, "%s%s", !i ? "" : i + 1 < n ? ", " : en ? " and " : " e ", name[i]);
        }
        wg_bind_str(w, "r", wg_rivers[key], wg_rivers[key], 'm');
        wg_bind_noun(w, "d", &wg_days[key]);
        if (k < 4) {
            q = en ? "[which towns lie on the river {r}?|which towns are on the river {r}?|where does the river {r} run?]"
                   : "[que cidades ficam no rio {r}?|quais cidades ficam no rio {r}?|por onde passa o rio {r}?]";
            a = en ? "the river {r} runs through {s}." : "o rio {r} passa por {s}.";
        } else {
            q = en ? "[which towns have a market on {d}?|where is there a market on {d}?|in which towns is {d} market day?]"
                   : "[que cidades têm feira {no:d}?|onde há feira {no:d}?|em que cidades a feira é {no:d}?]";
            a = en ? "on {d} there is a market in {s}." : "{no:d} há feira em {s}.";
        }
    } else if (k == 8) {
        for (size_t i = 0; i < WG_DAYS; i++) {
            fj_str_addf(&s, "%s%s", i ? ", " : "", en ? wg_days[i].en : wg_days[i].pt);
        }
        q = en ? "[what are the days of the week?|name the days of the week.|list the days of the week.]"
               : "[quais são os dias da semana?|diga os dias da semana.|liste os dias da semana.]";
        a = "{s}.";
    } else {
        for (size_t i = 0; i < WG_MONTHS; i++) {
            const char *m =
                en ? wg_months[i].en + strlen("month of ") : wg_months[i].pt + strlen("mês ");
            fj_str_addf(&s, "%s%s", i ? ", " : "", m);
        }
        q = en ? "[what are the months of the year?|name the months of the year.|list the ten months.]"
               : "[quais são os meses do ano?|diga os meses do ano.|liste os dez meses.]";
        a = en ? "the months of the year are the months of {s}."
               : "os meses do ano são os meses {s}.";
    }
    const char *list = fj_arena_strdup(&w->a, s.s);
    fj_str_free(&s);
    wg_bind_str(w, "s", list, list, 'm');
    char *ask = wg_say(w, q);
    wg_ask(r, ask, wg_say(w, a));
    r->contains = fj_arena_strdup(&w->a, list);
    r->answer = NULL;
}

void wg_world_row(wg *w, wg_row *r) {
    if (wg_chance(w, 8)) {
        wg_add(
            r, "system",
            wg_put(
                w,
                w->lang == WG_EN
                    ? "[You are a guide to the land of Orvane.|You are a helpful guide.|You answer questions "
                      "about Orvane.]"
                    : "[Você é um guia da terra de Orvane.|Você é um guia prestativo.|Você responde a perguntas "
                      "sobre Orvane.]"));
    }
    if (wg_chance(w, 10)) {
        follow(w, r);
        return;
    }
    size_t k = wg_below(w, 100), turns = k < 55   ? 1
                                         : k < 88 ? 2 + wg_below(w, 2)
                                                  : 4 + wg_below(w, 2);
    if (turns > 1 && wg_chance(w, 35)) {
        wg_greet(w, r);
    }
    for (size_t i = 0; i < turns; i++) {
        k = wg_below(w, 100);
        if (k < 9) {
            yes_no(w, r);
        } else if (k < 12) {
            unknown(w, r);
        } else if (k < 16) {
            tell(w, r);
        } else if (k < 21) {
            several(w, r);
        } else {
            wg_fact(w, r);
        }
    }
    if (turns > 1 && wg_chance(w, 25)) {
        wg_thank(w, r);
    }
}
