/* worldgen_read.c - a short text in the prompt and a question whose answer stands in it, or does not.
 *
 * What the texts say is drawn anew for every row, so the only way to be right is to read.  Each
 * sentence is about one person; a question about a person of another row has no answer. */
#include "worldgen.h"

/* Bound: p (the person, with gender), x (a noun of `kind`), c (colour), n (number), t (town), d (day),
 * w (place), y (a second noun). */
typedef struct scene {
    const char *s[2], *q[2], *a[2], *brief[2];
    char kind; /* of x: 't'hing, 'a'nimal, 'f'ood */
} scene;

static const scene scenes[] = {
    { { "[{p} has a {c} {x}.|{p} owns a {c} {x}.]",
        "[{p} tem {um:x} {c}.|{p} possui {um:x} {c}.]" },
      { "[what colour is the {x} of {p}?|which colour is the {x} of {p}?]",
        "[de que cor é {o:x} de {p}?|qual é a cor {do:x} de {p}?]" },
      { "the {x} of {p} is {c}.", "{o:x} de {p} é {c}." },
      { "{c}", "{c}" },
      't' },
    { { "[{p} keeps {n} {s:x}.|{p} has {n} {s:x}.]", "[{p} cria {n} {s:x}.|{p} tem {n} {s:x}.]" },
      { "[how many {s:x} does {p} have?|how many {s:x} has {p}?]",
        "[quantos animais {p} tem?|{p} tem quantos animais?]" },
      { "{p} has {n} {s:x}.", "{p} tem {n} {s:x}." },
      { "{n}", "{n}" },
      'a' },
    { { "[{p} lives in {t}.|the house of {p} is in {t}.]",
        "[{p} mora em {t}.|a casa de {p} fica em {t}.]" },
      { "[where does {p} live?|in which town does {p} live?]",
        "[onde {p} mora?|em que cidade {p} mora?]" },
      { "{p} lives in {t}.", "{p} mora em {t}." },
      { "{t}", "{t}" },
      't' },
    { { "[{p} put the {x} in the {w}.|{p} left the {x} in the {w}.]",
        "[{p} colocou {o:x} {no:w}.|{p} deixou {o:x} {no:w}.]" },
      { "[where is the {x} of {p}?|where did {p} put the {x}?|where did {p} leave the {x}?]",
        "[onde está {o:x} de {p}?|onde {p} colocou {o:x}?|onde {p} deixou {o:x}?]" },
      { "the {x} is in the {w}.", "{o:x} está {no:w}." },
      { "in the {w}", "{no:w}" },
      't' },
    { { "[{p} goes to the market on {d}.|on {d} {p} goes to the market.]",
        "[{p} vai à feira {no:d}.|{no:d} {p} vai à feira.]" },
      { "[when does {p} go to the market?|on which day does {p} go to the market?]",
        "[quando {p} vai à feira?|em que dia {p} vai à feira?]" },
      { "{p} goes to the market on {d}.", "{p} vai à feira {no:d}." },
      { "{d}", "{d}" },
      't' },
    { { "[{p} bought {n} {s:x} at the market.|at the market {p} bought {n} {s:x}.]",
        "[{p} comprou {n} {s:x} na feira.|na feira {p} comprou {n} {s:x}.]" },
      { "[what did {p} buy?|what did {p} buy at the market?]",
        "[o que {p} comprou?|o que {p} comprou na feira?]" },
      { "{p} bought {n} {s:x}.", "{p} comprou {n} {s:x}." },
      { "{n} {s:x}", "{n} {s:x}" },
      'f' },
    { { "[{p} works in the {w}.|the work of {p} is in the {w}.]",
        "[{p} trabalha {no:w}.|o trabalho de {p} fica {no:w}.]" },
      { "[where does {p} work?|in which place does {p} work?]",
        "[onde {p} trabalha?|em que lugar {p} trabalha?]" },
      { "{p} works in the {w}.", "{p} trabalha {no:w}." },
      { "in the {w}", "{no:w}" },
      't' },
    { { "[{p} likes {s:x} most of all.|{p} loves {s:x}.]",
        "[{p} gosta muito de {s:x}.|{p} adora {s:x}.]" },
      { "[what does {p} like?|what does {p} like to eat?]",
        "[do que {p} gosta?|o que {p} gosta de comer?]" },
      { "{p} likes {s:x}.", "{p} gosta de {s:x}." },
      { "{s:x}", "{s:x}" },
      'f' },
    { { "[{p} has {an:x} called {z}.|the {x} of {p} is called {z}.]",
        "[{p} tem {um:x} que se chama {z}.|{o:x} de {p} se chama {z}.]" },
      { "[what is the {x} of {p} called?|what is the name of the {x} of {p}?]",
        "[como se chama {o:x} de {p}?|qual é o nome {do:x} de {p}?]" },
      { "the {x} of {p} is called {z}.", "{o:x} de {p} se chama {z}." },
      { "{z}", "{z}" },
      'a' },
    { { "[{p} is {k} years old.|this year {p} is {k} years old.]",
        "[{p} tem {k} anos.|{p} fez {k} anos.]" },
      { "[how old is {p}?|what is the age of {p}?]",
        "[quantos anos {p} tem?|qual é a idade de {p}?]" },
      { "{p} is {k} years old.", "{p} tem {k} anos." },
      { "{k} years old", "{k} anos" },
      't' },
    { { "[{p} paid {k} coins for {an:x}.|for {an:x} {p} paid {k} coins.]",
        "[{p} pagou {kf} moedas por {um:x}.|por {um:x} {p} pagou {kf} moedas.]" },
      { "[how much did {p} pay?|how much did {p} pay for the {x}?|how many coins did {p} pay?]",
        "[quanto {p} pagou?|quanto {p} pagou {pelo:x}?|quantas moedas {p} pagou?]" },
      { "{p} paid {k} coins.", "{p} pagou {kf} moedas." },
      { "{k} coins", "{kf} moedas" },
      't' },
    { { "[{p} gave {an:x} to {v}.|{v} got {an:x} from {p}.]",
        "[{p} deu {um:x} para {v}.|{v} ganhou {um:x} de {p}.]" },
      { "[who got {an:x} from {p}?|to whom did {p} give {an:x}?]",
        "[quem ganhou {um:x} de {p}?|para quem {p} deu {um:x}?]" },
      { "{p} gave the {x} to {v}.", "{p} deu {o:x} para {v}." },
      { "{v}", "{v}" },
      't' },
    { { "[{p} is waiting in the {w} with {an:x}.|{p} sits in the {w} and holds {an:x}.]",
        "[{p} espera {no:w} com {um:x}.|{p} está {no:w} e segura {um:x}.]" },
      { "[who is in the {w}?|who has the {x}?]", "[quem está {no:w}?|quem tem {o:x}?]" },
      { "{p} is in the {w} with {an:x}.", "{p} está {no:w} com {um:x}." },
      { "{p}", "{p}" },
      't' },
    { { "[{p} came to {t} on {d}.|on {d} {p} came to {t}.]",
        "[{p} chegou a {t} {no:d}.|{no:d} {p} chegou a {t}.]" },
      { "[when did {p} come to {t}?|on which day did {p} come to {t}?]",
        "[quando {p} chegou a {t}?|em que dia {p} chegou a {t}?]" },
      { "{p} came to {t} on {d}.", "{p} chegou a {t} {no:d}." },
      { "{d}", "{d}" },
      't' },
    { { "[{p} is {wj} of the village.|the people chose {p} as {wj} of the village.]",
        "[{p} é {wj} da vila.|as pessoas escolheram {p} como {wj} da vila.]" },
      { "[what is the work of {p}?|what does {p} do in the village?]",
        "[qual é o trabalho de {p}?|o que {p} faz na vila?]" },
      { "{p} is {wj} of the village.", "{p} é {wj} da vila." },
      { "{wj}", "{wj}" },
      't' },
    { { "[the boat of {p} is called {z}.|{p} sails on a boat called {z}.]",
        "[o barco de {p} se chama {z}.|{p} navega em um barco chamado {z}.]" },
      { "[what is the boat of {p} called?|what is the name of the boat of {p}?]",
        "[como se chama o barco de {p}?|qual é o nome do barco de {p}?]" },
      { "the boat of {p} is called {z}.", "o barco de {p} se chama {z}." },
      { "{z}", "{z}" },
      't' },
};

/* What one row has used: no two sentences share a thing or a place, or "who has the key?" would have
 * two answers. */
typedef struct taken {
    const char *name[6]; /* the people of the row, and one who is not in it */
    char g[6];
    size_t nname;
    const wg_noun *noun[16];
    size_t nnoun;
} taken;

static const wg_noun *fresh(wg *w, taken *u, const wg_noun *pool, size_t n) {
    for (;;) {
        const wg_noun *x = &pool[wg_below(w, n)];
        size_t i = 0;
        while (i < u->nnoun && u->noun[i] != x) {
            i++;
        }
        if (i == u->nnoun) {
            FJ_ASSERT(i < FJ_LEN(u->noun));
            u->noun[u->nnoun++] = x;
            return x;
        }
    }
}

static void bind_scene(wg *w, const scene *s, const char *p, char pg, taken *u) {
    static const wg_noun jobs[] = { { "the cook", "", "o cozinheiro", "a cozinheira", 'm' },
                                    { "the gardener", "", "o jardineiro", "a jardineira", 'm' },
                                    { "the singer", "", "o cantor", "a cantora", 'm' },
                                    { "the doctor", "", "o médico", "a médica", 'm' },
                                    { "the painter", "", "o pintor", "a pintora", 'm' },
                                    { "the weaver", "", "o tecelão", "a tecelã", 'm' } };
    const wg_noun *x = s->kind == 'a'   ? fresh(w, u, wg_animals, wg_nanimals)
                       : s->kind == 'f' ? fresh(w, u, wg_foods, wg_nfoods)
                                        : fresh(w, u, wg_things, wg_nthings);
    const wg_noun *c = &wg_colours[wg_below(w, WG_COLOURS)];
    const wg_noun *j = &jobs[wg_below(w, FJ_LEN(jobs))];
    wg_bind_str(w, "p", p, p, pg);
    wg_bind_noun(w, "x", x);
    wg_bind_str(w, "c", c->en, x->g == 'f' ? c->pt_pl : c->pt, 'm');
    wg_bind_str(w, "wj", j->en, pg == 'f' ? j->pt_pl : j->pt, pg);
    wg_bind_num(w, "n", 2 + (int)wg_below(w, 9), x->g);
    int k = 3 + (int)wg_below(w, 21);
    wg_bind_num(w, "k", k, 'm');
    wg_bind_num(w, "kf", k, 'f');
    size_t t = wg_below(w, WG_TOWNS);
    wg_bind_str(w, "t", wg_towns[t].name, wg_towns[t].name, 'f');
    wg_bind_noun(w, "d", &wg_days[wg_below(w, WG_DAYS)]);
    wg_bind_noun(w, "w", fresh(w, u, wg_places, wg_nplaces));
    char g;
    const char *v, *z;
    bool again;
    do {
        v = wg_any_name(w, &g);
        z = wg_any_name(w, &g);
        again = !strcmp(v, z);
        for (size_t i = 0; i < u->nname; i++) {
            again = again || !strcmp(v, u->name[i]) || !strcmp(z, u->name[i]);
        }
    } while (again);
    wg_bind_str(w, "v", v, v, g);
    wg_bind_str(w, "z", z, z, g);
}

void wg_read_row(wg *w, wg_row *r) {
    size_t n = 2 + wg_below(w, 4), which[5];
    wg_pick(w, FJ_LEN(scenes), n, which);
    taken u = { 0 };
    for (size_t i = 0; i <= n; i++) {
        bool again;
        do {
            u.name[i] = wg_any_name(w, &u.g[i]);
            again = false;
            for (size_t j = 0; j < i; j++) {
                again = again || !strcmp(u.name[i], u.name[j]);
            }
        } while (again);
        u.nname = i + 1;
    }
    bool one = wg_chance(w, 20); /* all sentences about one person */
    bool missing = wg_chance(w, 22);
    FJ_ASSERT(n >= 2);
    size_t ask = wg_below(w, n), ask2 = (ask + 1 + wg_below(w, n - 1)) % n;
    bool twice = !missing && wg_chance(w, 25);
    static const char *const dont[2] = {
        "[I do not know. The text does not say.|I do not know. The text does not say it.|The text does not say. I do not "
        "know.]",
        "[Não sei. O texto não diz.|Não sei. O texto não diz isso.|O texto não diz. Não sei.]"
    };
    fj_str text = { 0 };
    char *q[2] = { NULL, NULL }, *a[2] = { NULL, NULL }, *b[2] = { NULL, NULL };
    for (size_t i = 0; i < n; i++) {
        const scene *s = &scenes[which[i]];
        size_t who = one ? 0 : i;
        bind_scene(w, s, u.name[who], u.g[who], &u);
        fj_str_addf(&text, "%s%s", i ? " " : "", wg_say(w, s->s[w->lang]));
        int slot = i == ask ? 0 : twice && i == ask2 ? 1 : -1;
        if (slot < 0) {
            continue;
        }
        if (missing && slot == 0) {
            /* About somebody who is not in the text, or what the text does not say of this one. */
            bool other = wg_chance(w, 50), said;
            do {
                s = &scenes[wg_below(w, FJ_LEN(scenes))];
                said = false;
                for (size_t j = 0; j < n && !other; j++) {
                    said = said || s == &scenes[which[j]];
                }
            } while (said || strstr(s->brief[0], "{p}"));
            who = other ? n : who;
            bind_scene(w, s, u.name[who], u.g[who], &u);
        }
        q[slot] = wg_say(w, s->q[w->lang]);
        b[slot] = wg_put(w, s->brief[w->lang]);
        a[slot] = wg_say(w, missing ? dont[w->lang] : s->a[w->lang]);
    }
    char *body = fj_arena_strdup(&w->a, text.s);
    fj_str_free(&text);
    static const char *const frame[2][6] = {
        { "Read the text: %s\nQuestion: %s", "%s\n%s", "Text: %s\n\nQuestion: %s",
          "Here is a short text. %s\n%s", "%s\n\nUse the text to answer: %s",
          "Answer with the text.\n\n%s\n\n%s" },
        { "Leia o texto: %s\nPergunta: %s", "%s\n%s", "Texto: %s\n\nPergunta: %s",
          "Aqui está um texto curto. %s\n%s", "%s\n\nUse o texto para responder: %s",
          "Responda com o texto.\n\n%s\n\n%s" }
    };
    size_t k = wg_below(w, 7);
    bool brief = !missing && wg_chance(w, 25);
    char *ask_text = q[0];
    if (brief) {
        ask_text = fj_arena_printf(
            &w->a, "%s %s", q[0],
            wg_put(w, w->lang == WG_EN
                          ? "[Answer with few words.|Give a short answer.|Be brief.]"
                          : "[Responda com poucas palavras.|Dê uma resposta curta.|Seja "
                            "breve.]"));
    }
    char *answer = brief ? b[0] : a[0];
    if (k == 6) {
        wg_add(r, "system",
               fj_arena_printf(&w->a,
                               w->lang == WG_EN ? "Answer with this text: %s"
                                                : "Responda com este texto: %s",
                               body));
        wg_ask(r, ask_text, answer);
    } else {
        const char *f = frame[w->lang][k];
        const char *m1 = strstr(f, "%s"), *m2 = strstr(m1 + 2, "%s");
        fj_str s = { 0 };
        fj_str_addn(&s, f, (size_t)(m1 - f));
        fj_str_add(&s, body);
        fj_str_addn(&s, m1 + 2, (size_t)(m2 - m1) - 2);
        fj_str_add(&s, ask_text);
        fj_str_add(&s, m2 + 2);
        wg_ask(r, fj_arena_strdup(&w->a, s.s), answer);
        fj_str_free(&s);
    }
    if (missing) {
        r->contains = w->lang == WG_EN ? "not know" : "Não sei";
    } else if (brief) {
        r->answer = b[0];
    } else {
        r->contains = b[0];
    }
    if (q[1]) {
        wg_ask(r, q[1], a[1]);
        r->answer = NULL;
        r->contains = b[1];
    }
}
