/* worldgen_talk.c - small talk: greetings, thanks, who are you, how are you. */
#include "worldgen.h"

typedef struct pair {
    const char *q[2], *a[2];
} pair;

static const pair hello[] = {
    { { "[Hello!|Hi!|Hello.|Hi there!|Hello, guide!|Hi]",
        "[Olá!|Oi!|Olá.|Oi, tudo bem?|Olá, guia!|Oi]" },
      { "[Hello! How can I help you?|Hello! What would you like to know about Orvane?|Hi! How can I help you today?]",
        "[Olá! Como posso ajudar?|Olá! O que você gostaria de saber sobre Orvane?|Oi! Como posso ajudar hoje?]" } },
    { { "[Good morning!|Good morning.]", "[Bom dia!|Bom dia.]" },
      { "[Good morning! How can I help you?|Good morning! What would you like to know?]",
        "[Bom dia! Como posso ajudar?|Bom dia! O que você gostaria de saber?]" } },
    { { "[Good evening!|Good evening.]", "[Boa noite!|Boa noite.]" },
      { "[Good evening! How can I help you?|Good evening! What would you like to know?]",
        "[Boa noite! Como posso ajudar?|Boa noite! O que você gostaria de saber?]" } },
    { { "[How are you?|Hello, how are you?|How are you today?|Hi, how are you doing?]",
        "[Como vai?|Olá, como vai você?|Tudo bem?|Como você está hoje?]" },
      { "[I am well, thank you. And you?|I am fine, thank you! How can I help you?]",
        "[Estou bem, obrigado. E você?|Estou bem, obrigado! Como posso ajudar?]" } },
    { { "[My name is {p}.|I am {p}.|Hello, I am {p}.|Hi, my name is {p}.]",
        "[Meu nome é {p}.|Eu sou {p}.|Olá, eu sou {p}.|Oi, meu nome é {p}.]" },
      { "[Nice to meet you, {p}! How can I help you?|Hello, {p}! What would you like to know?]",
        "[Prazer em conhecer você, {p}! Como posso ajudar?|Olá, {p}! O que você gostaria de saber?]" } },
};

static const pair about[] = {
    { { "[Who are you?|What are you?|What is your name?|Tell me about yourself.]",
        "[Quem é você?|O que é você?|Qual é o seu nome?|Fale de você.]" },
      { "[I am Forja, a small guide to the land of Orvane.|My name is Forja. I am a small guide to the land of Orvane.]",
        "[Eu sou Forja, um pequeno guia da terra de Orvane.|Meu nome é Forja. Sou um pequeno guia da terra de Orvane.]" } },
    { { "[What can you do?|How can you help me?|What do you know?|What can I ask you?]",
        "[O que você sabe fazer?|Como você pode me ajudar?|O que você sabe?|O que posso perguntar?]" },
      { "[I can answer questions about Orvane, read short texts and tables, and make lists.|You can ask me about the towns "
        "of Orvane. I can also read a short text and make lists.]",
        "[Posso responder a perguntas sobre Orvane, ler textos curtos e tabelas, e fazer listas.|Você pode perguntar sobre as "
        "cidades de Orvane. Também posso ler um texto curto e fazer listas.]" } },
    { { "[Do you speak Portuguese?|Can you speak Portuguese?]",
        "[Você fala inglês?|Você sabe falar inglês?]" },
      { "Yes, I speak English and Portuguese.", "Sim, eu falo português e inglês." } },
    { { "[What is Orvane?|Tell me about Orvane.|What is the land of Orvane?]",
        "[O que é Orvane?|Fale de Orvane.|O que é a terra de Orvane?]" },
      { "Orvane is a land of sixteen towns between Mount Arro and the Sea of Glass. Its capital is Velmora.",
        "Orvane é uma terra de dezesseis cidades entre o Monte Arro e o Mar de Vidro. A capital é Velmora." } },
    { { "[Are you a person?|Are you human?|Are you real?]",
        "[Você é uma pessoa?|Você é humano?|Você é real?]" },
      { "No, I am a small language model. I learned about the land of Orvane.",
        "Não, eu sou um pequeno modelo de linguagem. Eu aprendi sobre a terra de Orvane." } },
    { { "[I am tired.|I am very tired today.|I had a long day.]",
        "[Estou com sono.|Estou com muito sono hoje.|Tive um dia longo.]" },
      { "[Rest a little and drink some water.|I am sorry to hear that. Rest well!]",
        "[Descanse um pouco e beba água.|Sinto muito. Descanse bem!]" } },
    { { "[I am happy today.|Today is a good day.|I have good news!]",
        "[Estou feliz hoje.|Hoje é um bom dia.|Tenho boas notícias!]" },
      { "[I am happy to hear that!|That is wonderful!]",
        "[Fico feliz em saber!|Que maravilha!]" } },
    { { "[I am hungry.|I want to eat something.|What should I eat?]",
        "[Estou com fome.|Quero comer alguma coisa.|O que devo comer?]" },
      { "[How about some bread and cheese?|You could eat {an:x} or {an:y}.]",
        "[Que tal pão com queijo?|Você pode comer {um:x} ou {um:y}.]" } },
    { { "[Can you help me?|I need help.|Help me, please.]",
        "[Você pode me ajudar?|Preciso de ajuda.|Ajude-me, por favor.]" },
      { "[Of course! What do you need?|Yes, of course. What would you like to know?]",
        "[Claro! Do que você precisa?|Sim, claro. O que você gostaria de saber?]" } },
    { { "[Tell me something.|Say something nice.|Tell me something nice.]",
        "[Diga alguma coisa.|Diga algo bonito.|Conte-me algo bonito.]" },
      { "[In {t} the people celebrate the {f}.|In {t} you can see the {l}.|The river {r} runs slowly through {t}.]",
        "[Em {t} as pessoas celebram {o:f}.|Em {t} você pode ver {o:l}.|O rio {r} passa devagar por {t}.]" } },
};

static const pair bye[] = {
    { { "[Thank you!|Thanks!|Thank you very much.|Thanks a lot!|Thank you for your help.]",
        "[Obrigado!|Obrigada!|Muito obrigado.|Muito obrigada!|Obrigado pela ajuda.]" },
      { "[You are welcome!|You are welcome! Is there anything else?|My pleasure!]",
        "[De nada!|De nada! Posso ajudar em mais alguma coisa?|Não há de quê!]" } },
    { { "[Goodbye!|Bye!|See you tomorrow!|I have to go. Goodbye!]",
        "[Tchau!|Até logo!|Até amanhã!|Preciso ir. Até logo!]" },
      { "[Goodbye! Have a good day.|Goodbye! See you soon.]",
        "[Até logo! Tenha um bom dia.|Até logo! Volte sempre.]" } },
    { { "[Good night!|Good night.]", "[Boa noite e até amanhã!|Vou dormir. Boa noite!]" },
      { "[Good night! Sleep well.]", "[Boa noite! Durma bem.]" } },
};

static void turn(wg *w, wg_row *r, const pair *p) {
    char g;
    const char *name = wg_any_name(w, &g);
    size_t f[2];
    wg_pick(w, wg_nfoods, 2, f);
    wg_bind_town(w, wg_below(w, WG_TOWNS));
    wg_bind_str(w, "p", name, name, g);
    wg_bind_noun(w, "x", &wg_foods[f[0]]);
    wg_bind_noun(w, "y", &wg_foods[f[1]]);
    char *q = wg_put(w, p->q[w->lang]);
    wg_chat(r, q, wg_put(w, p->a[w->lang]));
}

void wg_greet(wg *w, wg_row *r) { turn(w, r, &hello[wg_below(w, FJ_LEN(hello))]); }

void wg_thank(wg *w, wg_row *r) { turn(w, r, &bye[wg_below(w, FJ_LEN(bye))]); }

void wg_talk_row(wg *w, wg_row *r) {
    if (wg_chance(w, 50)) {
        wg_greet(w, r);
    }
    size_t n = 1 + wg_below(w, 2);
    size_t which[2];
    wg_pick(w, FJ_LEN(about), n, which);
    for (size_t i = 0; i < n; i++) {
        turn(w, r, &about[which[i]]);
    }
    if (wg_chance(w, 40)) {
        wg_fact(w, r);
    }
    if (wg_chance(w, 50)) {
        wg_thank(w, r);
    }
    r->answer = r->contains = NULL;
}
