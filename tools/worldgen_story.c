/* worldgen_story.c - plain text: descriptions of towns that keep to the facts, and short stories. */
#include "worldgen.h"

static void add(wg *w, fj_str *s, const char *tmpl) {
    fj_str_addf(s, "%s%s", s->n && s->s[s->n - 1] != '\n' ? " " : "", wg_say(w, tmpl));
}

static void person(wg *w, size_t town, size_t craft) {
    char g;
    const char *p = wg_person(town, craft, &g);
    wg_noun j = wg_craft_of(town, craft);
    wg_bind_str(w, "p", p, p, g);
    wg_bind_noun(w, "j", &j);
}

/* A few true sentences about one town, in random order after the first. */
static void describe(wg *w, fj_str *s) {
    static const char *const open[2] = {
        "[{t} is a town in the land of Orvane.|{t} is a quiet town on the river {r}.|{t} lies on the river {r}.|among the sixteen towns "
        "of Orvane there is {t}.|this is the town of {t}.]",
        "[{t} é uma cidade na terra de Orvane.|{t} é uma cidade tranquila no rio {r}.|{t} fica no rio {r}.|entre as dezesseis cidades de "
        "Orvane está {t}.|esta é a cidade de {t}.]"
    };
    static const char *const more[][2] = {
        { "[the river {r} runs through {t}, and there {~one:are|is} {n} {br} over the water.|{t} has {n} {br} over the river {r}.]",
          "[o rio {r} passa por {t}, e há {n} {br} sobre a água.|{t} tem {n} {br} sobre o rio {r}.]" },
        { "[the gate of the town is {c}.|every visitor sees the {c} gate first.|the old gate is painted {c}.]",
          "[o portão da cidade é {c}.|todo visitante vê primeiro o portão {c}.|o velho portão é pintado de {c}.]" },
        { "[the market is on {d}.|on {d} the market begins early in the morning.|people come to the market on {d}.]",
          "[a feira é {no:d}.|{no:d} a feira começa cedo de manhã.|as pessoas vêm à feira {no:d}.]" },
        { "[the town is known for its {x}.|people from all the land come to buy the {x} of {t}.|its {x} is the best in Orvane.]",
          "[a cidade é conhecida {pelo:x}.|pessoas de toda a terra vêm comprar {o:x} de {t}.|{o:x} de {t} é {~x:o melhor|a melhor} de Orvane.]" },
        { "[the baker of {t} is {p0}.|{p0}, the baker, gets up before the sun.]",
          "[{o:j0} de {t} é {p0}.|{p0}, {o:j0}, acorda antes do sol.]" },
        { "[the smith is {p1}.|all day one hears the hammer of {p1}, the smith.]",
          "[{o:j1} é {p1}.|o dia todo se ouve o martelo de {p1}, {o:j1}.]" },
        { "[{p2} is the teacher of the children.|the children learn with {p2}, the teacher.]",
          "[{p2} é {o:j2} das crianças.|as crianças aprendem com {p2}, {o:j2}.]" },
        { "[{p3} is the miller.|the miller, {p3}, grinds the wheat.]",
          "[{p3} é {o:j3}.|{o:j3}, {p3}, mói o trigo.]" },
        { "[in the {m} the people celebrate the {f}.|the {f} is held every year in the {m}.]",
          "[{no:m} as pessoas celebram {o:f}.|{o:f} acontece todo ano {no:m}.]" },
        { "[the flag of {t} shows {an:a}.|the animal of the town is the {a}.]",
          "[a bandeira de {t} mostra {um:a}.|o animal da cidade é {o:a}.]" },
        { "[the most famous place is the {l}.|who comes to {t} should see the {l}.]",
          "[o lugar mais famoso é {o:l}.|quem vem a {t} deve ver {o:l}.]" },
        { "[the great road goes from {t} to {u}, {k} leagues away.|from {t} it is {k} leagues to {u}.]",
          "[a grande estrada vai de {t} a {u}, a {k} léguas.|de {t} são {k} léguas até {u}.]" },
    };
    size_t town = wg_below(w, WG_TOWNS), order[FJ_LEN(more)], n = 3 + wg_below(w, 5);
    wg_bind_town(w, town);
    wg_bind_str(w, "one", "", "", wg_towns[town].bridges == 1 ? 'f' : 'm');
    wg_bind_people(w, town);
    add(w, s, open[w->lang]);
    wg_pick(w, FJ_LEN(more), n, order);
    for (size_t i = 0; i < n; i++) {
        add(w, s, more[order[i]][w->lang]);
    }
}

static const wg_noun *by_name(const wg_noun *pool, size_t n, const char *en) {
    size_t i = 0;
    while (i < n && strcmp(pool[i].en, en)) i++;
    FJ_ASSERT(i < n);
    return &pool[i];
}

/* A walk through a small plot; each step has its own words. */
static void story(wg *w, fj_str *s) {
    static const char *const steps[][8][2] = {
        { { "[one morning|one day|early on {d}] {p}, the {j} of {t}, lost {an:x}.",
            "[certa manhã|um dia] {p}, {o:j} de {t}, perdeu {um:x}." },
          { "{p} looked in the {w}, but the {x} was not there.",
            "{p} procurou {no:w}, mas {o:x} não estava lá." },
          { "then {p} asked {v}, an old friend.",
            "então {p} perguntou a {v}, {~v:um velho amigo|uma velha amiga}." },
          { "[\"did you see my {x}?\" {p} asked.|\"where is my {x}?\" asked {p}.]",
            "[\"você viu {o:x}?\", perguntou {p}.|\"onde está {o:x}?\", perguntou {p}.]" },
          { "[\"it is in the {z},\" said {v}.|\"I saw it in the {z},\" said {v}.]",
            "[\"está {no:z}\", disse {v}.|\"eu vi {no:z}\", disse {v}.]" },
          { "they went to the {z} and found it.", "os dois foram {ao:z} e encontraram {o:x}." },
          { "[{p} was happy again.|{p} laughed and thanked {v}.]",
            "[{p} ficou feliz de novo.|{p} riu e agradeceu a {v}.]" },
          { "[in the evening they ate {s:y} together.|after that they drank tea together.]",
            "[à noite os dois comeram {s:y}.|depois os dois tomaram chá.]" } },
        { { "{p} of {t} had a little {a2}.", "{p}, de {t}, tinha {um:a2}." },
          { "[every day the {a2} ran to the river {r}.|the {a2} liked the river {r}.]",
            "[todo dia {o:a2} corria até o rio {r}.|{o:a2} gostava do rio {r}.]" },
          { "[one day it rained for a long time.|then came a cold night.]",
            "[um dia choveu muito.|então veio uma noite fria.]" },
          { "the {a2} did not come home.", "{o:a2} não voltou para casa." },
          { "{p} took a lamp and walked through the dark.",
            "{p} pegou uma lâmpada e andou no escuro." },
          { "near the {l} there was a small sound.", "perto {do:l} havia um pequeno som." },
          { "[there was the {a2}, wet but well.|the {a2} was there, cold and tired.]",
            "[lá estava {o:a2}, com frio mas bem.|{o:a2} estava lá, com frio e com fome.]" },
          { "{p} carried the {a2} home, and all was well.",
            "{p} levou {o:a2} para casa, e tudo ficou bem." } },
        { { "in the {m} the people of {t} prepare the {f}.",
            "{no:m} as pessoas de {t} preparam {o:f}." },
          { "{p}, the {j}, had an idea.", "{p}, {o:j}, teve uma ideia." },
          { "[\"this year we will make the biggest {x} of all,\" said {p}.|\"let us make a great {x},\" said {p}.]",
            "[\"este ano vamos fazer {um:x} muito grande\", disse {p}.]" },
          { "the children helped for {n3} days.", "as crianças ajudaram por {n3} dias." },
          { "[the neighbours brought {s:y}.|somebody brought {s:y} for all.]",
            "[os vizinhos trouxeram {s:y}.|alguém trouxe {s:y} para todos.]" },
          { "when the evening came, there was music near the {l}.",
            "quando a noite chegou, havia música perto {do:l}." },
          { "[nobody in {t} slept that night.|the music went on until the morning.]",
            "[ninguém em {t} dormiu naquela noite.|a música continuou até a manhã.]" },
          { "people still talk about it.", "as pessoas ainda falam disso." } },
        { { "{v} walked from {t} to {u} with {an:x}.", "{v} andou de {t} a {u} com {um:x}." },
          { "it is a road of {k} leagues.", "é uma estrada de {k} léguas." },
          { "[on the way the sun was hot.|on the way there was a strong wind.]",
            "[no caminho o sol era forte.|no caminho havia muito vento.]" },
          { "near an old tree {v} met a man with {an:a2}.",
            "perto de uma velha árvore {v} encontrou um homem com {um:a2}." },
          { "[\"where are you going?\" the man asked.|\"good day,\" said the man, \"where are you going?\"]",
            "[\"aonde você vai?\", perguntou o homem.|\"bom dia\", disse o homem, \"aonde você vai?\"]" },
          { "\"to {u},\" said {v}.", "\"para {u}\", disse {v}." },
          { "they shared some bread and walked on together.",
            "os dois dividiram o pão e seguiram juntos." },
          { "[at night they saw the lights of {u}.|before the night they were in {u}.]",
            "[à noite os dois viram as luzes de {u}.|antes da noite os dois estavam em {u}.]" } },
        { { "{v} was new in {t} and knew nobody.",
            "{v} era {~v:novo|nova} em {t} e não conhecia ninguém." },
          { "[on {d} there was a market, and {v} went to see it.|on {d} {v} went to the market.]",
            "[{no:d} havia feira, e {v} foi ver.|{no:d} {v} foi à feira.]" },
          { "[many people were there to buy {x1}.|the air was full of voices, and everybody wanted {x1}.]",
            "[muita gente estava lá para comprar {x1}.|o ar estava cheio de vozes, e todos queriam {x1}.]" },
          { "{v} had only {n3} coins.", "{v} tinha só {nf} moedas." },
          { "{p}, the {j}, saw this and smiled.", "{p}, {o:j}, viu isso e sorriu." },
          { "[\"take some {s:y},\" said {p}, \"today you are our guest.\"|\"you need no coins today,\" said {p} and gave {v} some {s:y}.]",
            "[\"pegue {s:y}\", disse {p}, \"hoje você é visita.\"|\"hoje você não precisa de moedas\", disse {p} e deu {s:y} a {v}.]" },
          { "they talked until the evening.", "os dois conversaram até a noite." },
          { "[now {v} had a friend in {t}.|from that day {v} was at home in {t}.]",
            "[agora {v} tinha amigos em {t}.|desde aquele dia {v} se sentiu em casa em {t}.]" } },
        { { "the {a} is the animal of {t}, and this is why.",
            "{o:a} é o animal de {t}, e esta é a razão." },
          { "[long ago there was a hard winter in {t}.|many years ago the winter was long and cold.]",
            "[há muito tempo houve um inverno duro em {t}.|há muitos anos o inverno foi longo e frio.]" },
          { "the river {r} was all ice, and there was nothing to eat.",
            "o rio {r} era só gelo, e não havia nada para comer." },
          { "then a child saw {an:a} near the {w}.", "então uma criança viu {um:a} perto {do:w}." },
          { "the child followed the {a} through the snow.", "a criança seguiu {o:a} pela neve." },
          { "[behind an old wall there was a cellar full of {s:y}.|in an old house they found many {s:y}.]",
            "[atrás de um velho muro havia um porão cheio de {s:y}.|em uma velha casa havia muito para comer, até {s:y}.]" },
          { "nobody was hungry that winter.", "ninguém passou fome naquele inverno." },
          { "since then the flag of {t} shows {an:a}.",
            "desde então a bandeira de {t} mostra {um:a}." } },
        { { "{p}, the {j} of {t}, had too much work.",
            "{p}, {o:j} de {t}, tinha trabalho demais." },
          { "[\"I need help,\" said {p} to {v}.|\"who can help me?\" asked {p}.]",
            "[\"preciso de ajuda\", disse {p} a {v}.|\"quem pode me ajudar?\", perguntou {p}.]" },
          { "[{v} had time and came the next morning.|so {v} came on {d}, before the sun.]",
            "[{v} tinha tempo e veio na manhã seguinte.|assim {v} veio {no:d}, antes do sol.]" },
          { "at first everything went wrong.", "no começo tudo deu errado." },
          { "{v} broke {an:x} and lost the key of the {w}.",
            "{v} quebrou {um:x} e perdeu a chave {do:w}." },
          { "[but {p} was patient and showed it again.|\"try again,\" said {p}.]",
            "[mas {p} teve paciência e mostrou de novo.|\"tente de novo\", disse {p}.]" },
          { "after {n3} days {v} could do it alone.",
            "depois de {n3} dias {v} já sabia fazer tudo." },
          { "[now there are two of them, and the work is easy.|they still work together today.]",
            "[agora são dois, e o trabalho é fácil.|os dois trabalham juntos até hoje.]" } },
    };
    size_t town = wg_below(w, WG_TOWNS), plot = wg_below(w, FJ_LEN(steps)), pl[2];
    wg_bind_town(w, town);
    person(w, town, wg_below(w, WG_CRAFTS));
    char g;
    const char *v = wg_any_name(w, &g);
    /* Nobody walks with a table; and what is made for a festival is festive. */
    static const char *const heavy[] = { "table", "chair", "boat", "mirror", "wheel" };
    static const char *const festive[] = { "cake", "candle", "bell", "drum", "kite", "lamp" };
    const wg_noun *x;
    if (plot == 2) {
        const char *want = festive[wg_below(w, FJ_LEN(festive))];
        x = strcmp(want, "cake") ? by_name(wg_things, wg_nthings, want)
                                 : by_name(wg_foods, wg_nfoods, want);
    } else {
        bool no;
        do {
            x = &wg_things[wg_below(w, wg_nthings)];
            no = false;
            for (size_t i = 0; i < FJ_LEN(heavy); i++) no = no || !strcmp(heavy[i], x->en);
        } while (no);
    }
    wg_bind_noun(w, "x1", &wg_products[town]);
    wg_bind_str(w, "v", v, v, g);
    wg_bind_noun(w, "x", x);
    wg_bind_noun(w, "y", &wg_foods[wg_below(w, wg_nfoods)]);
    wg_bind_noun(w, "a2", &wg_animals[wg_below(w, wg_nanimals)]);
    wg_pick(w, wg_nplaces, 2, pl);
    wg_bind_noun(w, "w", &wg_places[pl[0]]);
    wg_bind_noun(w, "z", &wg_places[pl[1]]);
    int days = 2 + (int)wg_below(w, 8);
    wg_bind_num(w, "n3", days, 'm');
    wg_bind_num(w, "nf", days, 'f');
    for (size_t i = 0; i < FJ_LEN(steps[0]); i++) {
        add(w, s, steps[plot][i][w->lang]);
    }
}

/* What one sees: loose sentences, for the language more than for the facts. */
static void scenery(wg *w, fj_str *s) {
    static const char *const t[][2] = {
        { "[the sun is high|the sky is grey|the wind is cold|the evening is warm] and the {w} is [quiet|full of people|empty].",
          "[o sol está alto|o céu está cinza|o vento está frio|a noite está quente] e {o:w} está [em silêncio|{~w:cheio|cheia} de "
          "gente|{~w:vazio|vazia}]." },
        { "[a child|an old man|a woman] carries {an:x} to the {w}.",
          "[uma criança|um velho|uma mulher] leva {um:x} {ao:w}." },
        { "{n3} {s:a2} [walk|sleep|stand] near the {w}.",
          "{nx} {s:a2} [andam|dormem|estão] perto {do:w}." },
        { "{p} sells {s:y} and [sings a song|tells a story|counts the coins].",
          "{p} vende {s:y} e [canta uma canção|conta uma história|conta as moedas]." },
        { "there is {an:x} by the window and a {c2} {x2} by the door.",
          "há {um:x} perto da janela e {um:x2} {c2} perto da porta." },
        { "[nobody knows why|people say that] the {a2} [likes|watches] the {w}.",
          "[ninguém sabe por que|as pessoas dizem que] {o:a2} [gosta {do:w}|olha {o:w}]." },
        { "on {d} {p} [opens the shop early|stays at home|goes to the {w}].",
          "{no:d} {p} [abre a loja cedo|fica em casa|vai {ao:w}]." },
        { "in the {m} the days are [short|long|cold|warm] and the people [stay at home|work in the fields|sit by the river].",
          "{no:m} os dias são [curtos|longos|frios|quentes] e as pessoas [ficam em casa|trabalham no campo|sentam perto do rio]." },
    };
    size_t n = 3 + wg_below(w, 4);
    for (size_t i = 0; i < n; i++) {
        char g;
        const char *p = wg_any_name(w, &g);
        size_t x[2];
        wg_pick(w, wg_nthings, 2, x);
        const wg_noun *a = &wg_animals[wg_below(w, wg_nanimals)],
                      *c = &wg_colours[wg_below(w, WG_COLOURS)];
        wg_bind_str(w, "p", p, p, g);
        wg_bind_noun(w, "x", &wg_things[x[0]]);
        wg_bind_noun(w, "x2", &wg_things[x[1]]);
        wg_bind_str(w, "c2", c->en, wg_things[x[1]].g == 'f' ? c->pt_pl : c->pt, 'm');
        wg_bind_noun(w, "a2", a);
        int k = 2 + (int)wg_below(w, 6);
        wg_bind_num(w, "n3", k, 'm');
        wg_bind_num(w, "nx", k, a->g);
        wg_bind_noun(w, "y", &wg_foods[wg_below(w, wg_nfoods)]);
        wg_bind_noun(w, "w", &wg_places[wg_below(w, wg_nplaces)]);
        wg_bind_noun(w, "d", &wg_days[wg_below(w, WG_DAYS)]);
        wg_bind_noun(w, "m", &wg_months[wg_below(w, WG_MONTHS)]);
        add(w, s, t[wg_below(w, FJ_LEN(t))][w->lang]);
    }
}

static void piece(wg *w, fj_str *s) {
    switch (wg_below(w, 5)) {
    case 0:
    case 1: describe(w, s); break;
    case 2:
    case 3: story(w, s); break;
    default: scenery(w, s); break;
    }
}

/* One piece, or up to three in a row: the model has to see far positions too. */
void wg_text_row(wg *w, wg_row *r) {
    if (wg_chance(w, 12)) {
        r->text = wg_notice(w);
        return;
    }
    fj_str s = { 0 };
    piece(w, &s);
    if (wg_chance(w, 30) && wg_side(s.s) == WG_TRAIN) {
        for (size_t n = 1 + wg_below(w, 2); n; n--) {
            fj_str more = { 0 };
            piece(w, &more);
            if (wg_side(more.s) == WG_TRAIN) {
                fj_str_addf(&s, " %s", more.s);
                r->train_only = true;
            }
            fj_str_free(&more);
        }
    }
    r->text = fj_arena_strdup(&w->a, s.s);
    fj_str_free(&s);
}
