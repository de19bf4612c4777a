/* worldgen_ask.c - questions about the fixed world of Orvane, one fact each. */
#include "worldgen.h"

/* Question, answer as a sentence, answer in few words; English then Portuguese.  Bound: wg_bind_town,
 * and p, j (the person and the craft) for the craft questions.  The few words stand in the sentence. */
typedef struct fact {
    const char *q[2], *a[2], *s[2];
} fact;

static const fact facts[] = {
    /* 0: the person of a craft; asked four times as often, there are four crafts */
    { { "[who is the {j} of {t}?|who is the {j} in {t}?|what is the name of the {j} of {t}?|{t} has a {j}. "
        "What is the name?|tell me the name of the {j} of {t}.|what is the {j} of {t} called?|who works as "
        "the {j} in {t}?|I need the {j} of {t}. Who is it?]",
        "[quem é {o:j} de {t}?|quem é {o:j} em {t}?|como se chama {o:j} de {t}?|qual é o nome {do:j} de "
        "{t}?|diga o nome {do:j} de {t}.|quem trabalha como {j} em {t}?|eu preciso {do:j} de {t}. Quem é?]" },
      { "[the {j} of {t} is {p}.|the {j} of {t} is {p}.|the name of the {j} of {t} is {p}.]",
        "[{o:j} de {t} é {p}.|{o:j} de {t} é {p}.|{o:j} de {t} se chama {p}.]" },
      { "{p}", "{p}" } },
    /* 1: the other way round */
    { { "[who is {p}?|who is {p} of {t}?|what does {p} do?|what is the work of {p}?|what does {p} do in {t}?|"
        "tell me about {p}.|do you know {p}?|what is the craft of {p}?]",
        "[quem é {p}?|quem é {p} de {t}?|o que {p} faz?|qual é o trabalho de {p}?|o que {p} faz em {t}?|"
        "fale-me de {p}.|você conhece {p}?|qual é o ofício de {p}?]" },
      { "[{p} is the {j} of {t}.|{p} is the {j} of {t}.|{p} works as the {j} of {t}.]",
        "[{p} é {o:j} de {t}.|{p} é {o:j} de {t}.|{p} trabalha como {j} em {t}.]" },
      { "{j}", "{j}" } },
    { { "[where does {p} live?|in which town does {p} live?|where is the house of {p}?|where can I find {p}?|"
        "in which town can I find {p}?|where does {p} work?]",
        "[onde {p} mora?|em que cidade {p} mora?|onde fica a casa de {p}?|onde eu encontro {p}?|em que "
        "cidade eu encontro {p}?|onde {p} trabalha?]" },
      { "[{p} lives in {t}.|{p} lives and works in {t}.]",
        "[{p} mora em {t}.|{p} mora e trabalha em {t}.]" },
      { "{t}", "{t}" } },
    { { "[which river runs through {t}?|what river runs through {t}?|what is the name of the river of {t}?|"
        "what is the river of {t} called?|which river is in {t}?|tell me the river of {t}.|on which river is "
        "{t}?]",
        "[que rio passa por {t}?|qual rio passa por {t}?|qual é o nome do rio de {t}?|como se chama o rio de "
        "{t}?|qual é o rio de {t}?|diga o rio de {t}.|em que rio fica {t}?]" },
      { "[the river {r} runs through {t}.|the river of {t} is the {r}.]",
        "[o rio {r} passa por {t}.|o rio de {t} é o {r}.]" },
      { "{r}", "{r}" } },
    { { "[when is the market in {t}?|on which day is the market in {t}?|on what day is market day in {t}?|"
        "which day is market day in {t}?|what is the market day of {t}?|on which day can I shop at the market "
        "of {t}?|when do people sell at the market of {t}?]",
        "[quando é a feira em {t}?|em que dia é a feira em {t}?|em que dia é a feira de {t}?|qual é o dia da "
        "feira em {t}?|em que dia posso comprar na feira de {t}?|quando as pessoas vendem na feira de {t}?]" },
      { "[the market in {t} is on {d}.|market day in {t} is {d}.]",
        "[a feira de {t} é {no:d}.|o dia da feira em {t} é {d}.]" },
      { "{d}", "{d}" } },
    { { "[what is {t} known for?|what does {t} make?|what product comes from {t}?|what do people make in {t}?|"
        "what can I buy in {t}?|what is the best product of {t}?|what does {t} sell?]",
        "[por que {t} é conhecida?|o que {t} produz?|que produto vem de {t}?|o que as pessoas fazem em {t}?|"
        "o que posso comprar em {t}?|qual é o melhor produto de {t}?|o que {t} vende?]" },
      { "[{t} is known for its {x}.|{t} makes and sells {x}.|the people of {t} make {x}.]",
        "[{t} é conhecida {pelo:x}.|{t} produz e vende {x}.|as pessoas de {t} fazem {x}.]" },
      { "{x}", "{x}" } },
    { { "[which town is known for its {x}?|which town makes {x}?|where does the best {x} come from?|where can I "
        "buy {x}?|which town sells {x}?|where do people make {x}?|I want to buy {x}. Where should I go?]",
        "[que cidade é conhecida {pelo:x}?|que cidade produz {x}?|de onde vem {o:x}?|onde posso comprar {x}?|"
        "que cidade vende {x}?|onde as pessoas fazem {x}?|eu quero comprar {x}. Aonde devo ir?]" },
      { "[{t} is known for its {x}.|the {x} comes from {t}.|you can buy {x} in {t}.]",
        "[{t} é conhecida {pelo:x}.|{o:x} vem de {t}.|você pode comprar {x} em {t}.]" },
      { "{t}", "{t}" } },
    { { "[what is the festival of {t}?|which festival is held in {t}?|what festival do people celebrate in {t}?|"
        "what is the name of the festival of {t}?|which festival can I see in {t}?|what do people celebrate "
        "in {t}?]",
        "[qual é a festa de {t}?|que festa acontece em {t}?|que festa as pessoas celebram em {t}?|qual é o "
        "nome da festa de {t}?|que festa eu posso ver em {t}?|o que as pessoas celebram em {t}?]" },
      { "[the people of {t} celebrate the {f}.|the festival of {t} is the {f}.]",
        "[as pessoas de {t} celebram {o:f}.|a festa de {t} é {o:f}.]" },
      { "{f}", "{f}" } },
    { { "[when is the {f}?|in which month is the {f}?|in what month do people celebrate the {f}?|when do people "
        "celebrate the {f} in {t}?|in which month is the festival of {t}?|when is the festival of {t}?]",
        "[quando é {o:f}?|em que mês é {o:f}?|em que mês as pessoas celebram {o:f}?|quando as pessoas "
        "celebram {o:f} em {t}?|em que mês é a festa de {t}?|quando é a festa de {t}?]" },
      { "[the {f} is in the {m}.|the {f} of {t} is in the {m}.]",
        "[{o:f} é {no:m}.|{o:f} de {t} é {no:m}.]" },
      { "{m}", "{m}" } },
    { { "[where is the {f}?|which town celebrates the {f}?|where do people celebrate the {f}?|in which town is "
        "the {f}?|where can I see the {f}?]",
        "[onde é {o:f}?|que cidade celebra {o:f}?|onde as pessoas celebram {o:f}?|em que cidade é {o:f}?|onde "
        "eu posso ver {o:f}?]" },
      { "[the {f} is in {t}.|the {f} is celebrated in {t}.]",
        "[{o:f} é em {t}.|{o:f} é celebrada em {t}.]" },
      { "{t}", "{t}" } },
    { { "[what is the animal of {t}?|which animal is on the flag of {t}?|what animal is on the flag of {t}?|"
        "which animal stands for {t}?|what is the symbol of {t}?|what can I see on the flag of {t}?]",
        "[qual é o animal de {t}?|que animal está na bandeira de {t}?|qual animal está na bandeira de {t}?|"
        "que animal representa {t}?|qual é o símbolo de {t}?|o que eu vejo na bandeira de {t}?]" },
      { "[the animal of {t} is the {a}.|the flag of {t} shows {an:a}.]",
        "[o animal de {t} é {o:a}.|a bandeira de {t} mostra {um:a}.]" },
      { "{a}", "{a}" } },
    { { "[which town has {an:a} on its flag?|whose flag shows {an:a}?|which town has the {a} as its animal?|the "
        "{a} stands for which town?]",
        "[que cidade tem {um:a} na bandeira?|qual bandeira mostra {um:a}?|que cidade tem {o:a} como animal?|{o:a} "
        "representa que cidade?]" },
      { "[the flag of {t} shows {an:a}.|{t} has {an:a} on its flag.]",
        "[a bandeira de {t} mostra {um:a}.|{t} tem {um:a} na bandeira.]" },
      { "{t}", "{t}" } },
    { { "[what colour is the gate of {t}?|which colour is the gate of {t}?|what is the colour of the town gate "
        "of {t}?|how is the gate of {t} painted?|tell me the colour of the gate of {t}.]",
        "[de que cor é o portão de {t}?|qual é a cor do portão de {t}?|que cor tem o portão de {t}?|o portão de "
        "{t} é pintado de que cor?|diga a cor do portão de {t}.]" },
      { "[the gate of {t} is {c}.|{t} has a {c} gate.]",
        "[o portão de {t} é {c}.|{t} tem um portão {c}.]" },
      { "{c}", "{c}" } },
    { { "[how many bridges does {t} have?|how many bridges are there in {t}?|how many bridges are in {t}?|tell "
        "me the number of bridges in {t}.|what is the number of bridges in {t}?]",
        "[quantas pontes {t} tem?|quantas pontes há em {t}?|quantas pontes existem em {t}?|diga o número de "
        "pontes em {t}.|qual é o número de pontes em {t}?]" },
      { "[{t} has {n} {br}.|there [{~one:are|is}] {n} {br} in {t}.]",
        "[{t} tem {n} {br}.|há {n} {br} em {t}.]" },
      { "{n}", "{n}" } },
    { { "[what can I see in {t}?|what should I visit in {t}?|what is the most famous place in {t}?|what is the "
        "pride of {t}?|what is worth a visit in {t}?|which building is famous in {t}?|what is there to see in "
        "{t}?]",
        "[o que eu posso ver em {t}?|o que devo visitar em {t}?|qual é o lugar mais famoso de {t}?|qual é o "
        "orgulho de {t}?|o que vale uma visita em {t}?|o que há para ver em {t}?]" },
      { "[you should see the {l} of {t}.|the most famous place in {t} is the {l}.|the pride of {t} is the {l}.]",
        "[você deve ver {o:l} de {t}.|o lugar mais famoso de {t} é {o:l}.|o orgulho de {t} é {o:l}.]" },
      { "{l}", "{l}" } },
    { { "[where is the {l}?|in which town is the {l}?|where can I see the {l}?|which town has the {l}?|where do I "
        "find the {l}?]",
        "[onde fica {o:l}?|em que cidade fica {o:l}?|onde posso ver {o:l}?|que cidade tem {o:l}?|onde eu "
        "encontro {o:l}?]" },
      { "[the {l} is in {t}.|you can see the {l} in {t}.]",
        "[{o:l} fica em {t}.|você pode ver {o:l} em {t}.]" },
      { "{t}", "{t}" } },
    { { "[how far is {t} from {u}?|how far is it from {t} to {u}?|what is the distance between {t} and {u}?|how "
        "many leagues are there from {t} to {u}?|how long is the road from {t} to {u}?|how many leagues lie "
        "between {t} and {u}?]",
        "[qual é a distância de {t} até {u}?|qual é a distância entre {t} e {u}?|quantas léguas há de {t} até "
        "{u}?|quantas léguas há entre {t} e {u}?|que tamanho tem a estrada de {t} a {u}?|{t} fica a quantas "
        "léguas de {u}?]" },
      { "[it is {k} leagues from {t} to {u}.|{t} lies {k} leagues from {u}.]",
        "[são {k} léguas de {t} até {u}.|{t} fica a {k} léguas de {u}.]" },
      { "{k} leagues", "{k} léguas" } },
    { { "[how far is {u} from {t}?|how far is it from {u} to {t}?|what is the distance between {u} and {t}?|how "
        "many leagues are there from {u} to {t}?]",
        "[qual é a distância de {u} até {t}?|qual é a distância entre {u} e {t}?|quantas léguas há de {u} até "
        "{t}?|quantas léguas há entre {u} e {t}?]" },
      { "[it is {k} leagues from {u} to {t}.|{u} lies {k} leagues from {t}.]",
        "[são {k} léguas de {u} até {t}.|{u} fica a {k} léguas de {t}.]" },
      { "{k} leagues", "{k} léguas" } },
    { { "[which town comes before {t} on the road?|I come to {t} on the great road. Which town was before it?]",
        "[que cidade vem antes de {t} na estrada?|eu chego a {t} pela grande estrada. Que cidade veio antes?]" },
      { "[before {t} comes {b}.|the great road comes from {b} to {t}.]",
        "[antes de {t} vem {b}.|a grande estrada vem de {b} até {t}.]" },
      { "{b}", "{b}" } },
    { { "[which town comes after {t} on the road?|where does the road from {t} go?|which town is next to {t} on "
        "the great road?|I leave {t} on the great road. Which town comes next?]",
        "[que cidade vem depois de {t} na estrada?|para onde vai a estrada de {t}?|que cidade fica ao lado de "
        "{t} na grande estrada?|eu saio de {t} pela grande estrada. Que cidade vem depois?]" },
      { "[the great road goes from {t} to {u}.|after {t} comes {u}.]",
        "[a grande estrada vai de {t} a {u}.|depois de {t} vem {u}.]" },
      { "{u}", "{u}" } },
};

/* Facts of the whole land. */
static const fact land[] = {
    { { "[what is this land called?|what is the name of this land?|in which land are we?|where are we?]",
        "[como se chama esta terra?|qual é o nome desta terra?|em que terra estamos?|onde estamos?]" },
      { "[this land is called Orvane.|we are in the land of Orvane.]",
        "[esta terra se chama Orvane.|estamos na terra de Orvane.]" },
      { "Orvane", "Orvane" } },
    { { "[how many towns are there in Orvane?|how many towns does Orvane have?|how many towns are in this land?]",
        "[quantas cidades há em Orvane?|quantas cidades Orvane tem?|quantas cidades existem nesta terra?]" },
      { "Orvane has sixteen towns.", "Orvane tem dezesseis cidades." },
      { "sixteen", "dezesseis" } },
    { { "[how many months are there in a year in Orvane?|how many months does the year have?|how many months "
        "are in the calendar of Orvane?]",
        "[quantos meses tem um ano em Orvane?|quantos meses o ano tem?|quantos meses há no calendário de "
        "Orvane?]" },
      { "[the year has ten months.|there are ten months in a year.]",
        "[o ano tem dez meses.|há dez meses em um ano.]" },
      { "ten", "dez" } },
    { { "[what is the capital of Orvane?|which town is the capital?|where does the council of Orvane meet?|which "
        "town is the first town of Orvane?]",
        "[qual é a capital de Orvane?|que cidade é a capital?|onde se reúne o conselho de Orvane?|que cidade é a "
        "primeira cidade de Orvane?]" },
      { "[the capital of Orvane is Velmora.|Velmora is the capital of Orvane.]",
        "[a capital de Orvane é Velmora.|Velmora é a capital de Orvane.]" },
      { "Velmora", "Velmora" } },
    { { "[who rules Orvane?|who governs the land of Orvane?|is there a king in Orvane?|who makes the laws in "
        "Orvane?]",
        "[quem governa Orvane?|quem governa a terra de Orvane?|há um rei em Orvane?|quem faz as leis em "
        "Orvane?]" },
      { "[Orvane has no king. A council of sixteen towns rules the land.]",
        "[Orvane não tem rei. Um conselho de dezesseis cidades governa a terra.]" },
      { "council", "conselho" } },
    { { "[what money do people use in Orvane?|what is the money of Orvane called?|how do people pay in Orvane?]",
        "[que dinheiro as pessoas usam em Orvane?|como se chama o dinheiro de Orvane?|como as pessoas pagam em "
        "Orvane?]" },
      { "[people in Orvane pay with silver coins.|people in Orvane use silver coins.]",
        "[as pessoas em Orvane pagam com moedas de prata.|as pessoas em Orvane usam moedas de prata.]" },
      { "silver coins", "moedas de prata" } },
    { { "[which sea is near Orvane?|what is the sea of Orvane called?|what is the name of the sea?]",
        "[que mar fica perto de Orvane?|como se chama o mar de Orvane?|qual é o nome do mar?]" },
      { "[the Sea of Glass lies by the land of Orvane.|the sea of Orvane is called the Sea of Glass.]",
        "[o Mar de Vidro fica ao lado de Orvane.|o mar de Orvane se chama Mar de Vidro.]" },
      { "Sea of Glass", "Mar de Vidro" } },
    { { "[what is the highest mountain of Orvane?|which mountain is the highest?|what is the name of the great "
        "mountain?]",
        "[qual é a montanha mais alta de Orvane?|que montanha é a mais alta?|qual é o nome da grande montanha?]" },
      { "[the highest mountain of Orvane is Mount Arro.|Mount Arro is the highest mountain of Orvane.]",
        "[a montanha mais alta de Orvane é o Monte Arro.|o Monte Arro é a montanha mais alta de Orvane.]" },
      { "Arro", "Arro" } },
};

/* The order of days and months. */
static fact order(wg *w) {
    static const fact after = {
        { "[which {z} comes after the {y}?|what comes after the {y}?|which is the {z} after the {y}?]",
          "[que {z} vem depois {do:y}?|o que vem depois {do:y}?|qual é o {z} depois {do:y}?]" },
        { "after the {y} comes the {v}.", "depois {do:y} vem {o:v}." },
        { "{v}", "{v}" }
    };
    static const fact before = {
        { "[which {z} comes before the {y}?|what comes before the {y}?|which is the {z} before the {y}?]",
          "[que {z} vem antes {do:y}?|o que vem antes {do:y}?|qual é o {z} antes {do:y}?]" },
        { "before the {y} comes the {v}.", "antes {do:y} vem {o:v}." },
        { "{v}", "{v}" }
    };
    static const fact day_after = {
        { "[which day comes after {y}?|what day comes after {y}?|which day follows {y}?|today is {y}. What day is "
          "tomorrow?]",
          "[que dia vem depois {do:y}?|qual dia vem depois {do:y}?|hoje é {y}. Que dia é amanhã?]" },
        { "[after {y} comes {v}.]", "[depois {do:y} vem {o:v}.]" },
        { "{v}", "{v}" }
    };
    static const fact day_before = {
        { "[which day comes before {y}?|what day comes before {y}?|today is {y}. What day was yesterday?]",
          "[que dia vem antes {do:y}?|qual dia vem antes {do:y}?|hoje é {y}. Que dia foi ontem?]" },
        { "[before {y} comes {v}.]", "[antes {do:y} vem {o:v}.]" },
        { "{v}", "{v}" }
    };
    bool next = wg_chance(w, 60);
    if (wg_chance(w, 50)) {
        size_t i = wg_below(w, WG_DAYS), j = (i + (next ? 1 : WG_DAYS - 1)) % WG_DAYS;
        wg_bind_noun(w, "y", &wg_days[i]);
        wg_bind_noun(w, "v", &wg_days[j]);
        return next ? day_after : day_before;
    }
    size_t i = wg_below(w, WG_MONTHS), j = (i + (next ? 1 : WG_MONTHS - 1)) % WG_MONTHS;
    wg_bind_noun(w, "y", &wg_months[i]);
    wg_bind_noun(w, "v", &wg_months[j]);
    wg_bind_str(w, "z", "month", "mês", 'm');
    return next ? after : before;
}

/* Choose a fact and bind what it needs. */
static fact choose(wg *w) {
    size_t town = wg_below(w, WG_TOWNS), craft = wg_below(w, WG_CRAFTS);
    char g;
    const char *p = wg_person(town, craft, &g);
    wg_noun j = wg_craft_of(town, craft);
    wg_bind_town(w, town);
    wg_bind_str(w, "p", p, p, g);
    wg_bind_noun(w, "j", &j);
    /* {~one:are|is}: 'm' for more than one bridge, 'f' for one */
    wg_bind_str(w, "one", "", "", wg_towns[town].bridges == 1 ? 'f' : 'm');
    size_t k = wg_below(w, 100);
    if (k < 6) {
        return land[wg_below(w, FJ_LEN(land))];
    }
    if (k < 13) {
        return order(w);
    }
    if (k < 45) { /* 64 people in three questions each: a third of the time */
        return facts[wg_below(w, 3)];
    }
    return facts[3 + wg_below(w, FJ_LEN(facts) - 3)];
}

static char *question(wg *w, const char *q) {
    if (wg_chance(w, 82)) {
        return wg_say(w, q);
    }
    char *plain = wg_put(w, q);
    static const char *const polite[2] = {
        "[Please answer: |A question: |Hello! |One question, please: |I have a question. |Excuse me. |Help "
        "me, please. |Good morning. ]",
        "[Por favor, responda: |Uma pergunta: |Olá! |Uma pergunta, por favor: |Tenho uma pergunta. |Com "
        "licença. |Ajude-me, por favor. |Bom dia. ]"
    };
    char *lead = wg_put(w, polite[w->lang]);
    /* After ": " the sentence goes on in lower case. */
    fj_str s = { 0 };
    fj_str_add(&s, lead);
    wg_bind_str(w, "q", plain, plain, 'm');
    fj_str_add(&s, strchr(lead, ':') ? wg_put(w, "{q}") : wg_say(w, "{q}"));
    char *out = fj_arena_strdup(&w->a, s.s);
    fj_str_free(&s);
    return out;
}

/* As people type in a hurry: no sign at the end, or no capital anywhere. */
static char *casual(wg *w, char *q) {
    size_t n = strlen(q);
    if (wg_chance(w, 8) && n && strchr("?.", q[n - 1])) q[n - 1] = 0;
    return wg_chance(w, 5) ? wg_lower(w, q) : q;
}

/* The same answer in a manner that the question asks for: {y} is the plain answer.  A model that has
 * met several manners learns one more from few examples. */
typedef struct manner {
    const char *ask[2], *answer[2];
} manner;
static const manner manners[] = {
    { { "[Answer as a letter.|Write it as a letter.]",
        "[Responda como uma carta.|Escreva como uma carta.]" },
      { "Dear friend, {y} Yours, the people of {t}.", "Querido amigo, {y} Seu, o povo de {t}." } },
    { { "[Answer as a herald.|Call it out.]", "[Responda como um arauto.|Anuncie.]" },
      { "Hear, people of {t}! {y}", "Ouça, povo de {t}! {y}" } },
    { { "[Answer as a report.|Write a report.]",
        "[Responda como um relatório.|Escreva um relatório.]" },
      { "Report from {t}: {y} End of the report.", "Relatório de {t}: {y} Fim do relatório." } },
    { { "[Answer with a greeting.|Greet me first.]",
        "[Responda com uma saudação.|Primeiro me cumprimente.]" },
      { "Good day! {y}", "Bom dia! {y}" } },
    { { "[Answer and thank me.|Thank me at the end.]", "[Responda e agradeça.|Agradeça no fim.]" },
      { "{y} Thank you for asking.", "{y} Obrigado por perguntar." } },
    { { "[Answer with your name.|Say your name first.]",
        "[Responda com o seu nome.|Primeiro diga o seu nome.]" },
      { "Forja says: {y}", "Forja diz: {y}" } },
    { { "[Answer as a sign on the wall.|Write a sign.]",
        "[Responda como uma placa.|Escreva uma placa.]" },
      { "Sign: {y} By order of {t}.", "Placa: {y} Por ordem de {t}." } },
    { { "[Answer as the radio does.|Say it on the radio.]",
        "[Responda como o rádio.|Diga no rádio.]" },
      { "Attention: {y} This was the radio of {t}.", "Atenção: {y} Este foi o rádio de {t}." } },
};

static char *in_manner(wg *w, const manner *m, const char *plain) {
    wg_bind_str(w, "y", plain, plain, 'm');
    return wg_put(w, m->answer[w->lang]);
}

char *wg_notice(wg *w) {
    static const manner notice = {
        { "", "" },
        { "[There is a notice on the wall in {t}.|A notice hangs in the market of {t}.|People in {t} read a notice.] "
          "[Notice: {y} Signed: Town Office of {t}.|Notice. {y} The Town Office.]",
          "[Há um aviso na parede em {t}.|Um aviso está no mercado de {t}.|Em {t} as pessoas leem um aviso.] "
          "[Aviso: {y} Assinado: Câmara de {t}.|Aviso. {y} A Câmara.]" }
    };
    fact f = choose(w);
    return in_manner(w, &notice, wg_say(w, f.a[w->lang]));
}

void wg_fact(wg *w, wg_row *r) {
    fact f = choose(w);
    char *q = question(w, f.q[w->lang]);
    char *s = wg_put(w, f.s[w->lang]);
    size_t k = wg_below(w, 100);
    if (k >= 62 && k < 80) {
        const manner *m = &manners[wg_below(w, FJ_LEN(manners))];
        char *how = wg_put(w, m->ask[w->lang]);
        wg_ask(r,
               wg_chance(w, 60) ? fj_arena_printf(&w->a, "%s %s", q, how)
                                : fj_arena_printf(&w->a, "%s %s", how, q),
               in_manner(w, m, wg_say(w, f.a[w->lang])));
        r->contains = s;
        r->answer = NULL;
        return;
    }
    if (k < 80) {
        wg_ask(r, casual(w, q), wg_say(w, f.a[w->lang]));
        r->contains = s;
        r->answer = NULL;
        return;
    }
    /* The same in few words. */
    static const char *const brief[2] = {
        "[Answer with few words.|Only the answer, please.|Give a short answer.|Answer in a word or two.|Be brief.]",
        "[Responda com poucas palavras.|Só a resposta, por favor.|Dê uma resposta curta.|Responda em uma ou duas "
        "palavras.|Seja breve.]"
    };
    char *b = wg_put(w, brief[w->lang]);
    wg_ask(r,
           wg_chance(w, 75) ? fj_arena_printf(&w->a, "%s %s", q, b)
                            : fj_arena_printf(&w->a, "%s %s", b, q),
           s);
    r->answer = s;
    r->contains = NULL;
}

void wg_across(wg *w, wg_row *r) {
    fact f = choose(w);
    char *q = wg_say(w, f.q[w->lang]);
    char *tail = wg_put(
        w, w->lang == WG_EN
               ? "[Answer in Portuguese.|In Portuguese, please.|Please answer in Portuguese.]"
               : "[Responda em inglês.|Em inglês, por favor.|Responda em inglês, por favor.]");
    w->lang = !w->lang;
    wg_ask(r, fj_arena_printf(&w->a, "%s %s", q, tail), wg_say(w, f.a[w->lang]));
    r->contains = wg_put(w, f.s[w->lang]);
    w->lang = !w->lang;
}
