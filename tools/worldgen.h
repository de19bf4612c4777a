/* worldgen.h - the parts of forja-worldgen, the program that writes the text of the embedded model.
 *
 * The world (worldgen_world.c) is fixed: towns, people, rivers, markets.  Random is only which fact is
 * told, in which words and in which language, and everything in the rows that teach reading.
 * Templates are strings in a small language, expanded by worldgen_text.c:
 *     [a|b|c]        one of these, nested as deep as wanted
 *     {x}            the value bound to x (a noun gives its singular)
 *     {an:x} {s:x}   English: "an owl"; plural "owls"
 *     {o:x} {um:x} {do:x} {no:x} {ao:x} {pelo:x}   Portuguese singular with article or contraction
 *     {os:x} {aos:x} {dos:x}                       Portuguese plural with article or contraction
 *     {~x:he|she}    by the gender of x
 * One wg is used by one thread. */
#ifndef FJ_TOOLS_WORLDGEN_H
#define FJ_TOOLS_WORLDGEN_H

#include "base/mem.h"
#include "base/rng.h"

enum { WG_EN, WG_PT };

/* A word in both languages; g is the Portuguese gender, 'm' or 'f'. */
typedef struct wg_noun {
    const char *en, *en_pl, *pt, *pt_pl;
    char g;
} wg_noun;

typedef struct wg_bind {
    char key[8];
    wg_noun n;
} wg_bind;

#define WG_BINDS 48
typedef struct wg {
    fj_rng rng;
    int lang;
    wg_bind b[WG_BINDS];
    size_t nb;
    fj_arena a; /* strings of the row being made; emptied between rows */
} wg;

/* ---- worldgen_text.c ---- */
size_t wg_below(wg *w, size_t n);
bool wg_chance(wg *w, int percent);
void wg_bind_noun(wg *w, const char *key, const wg_noun *n);
void wg_bind_str(wg *w, const char *key, const char *en, const char *pt, char g);
void wg_bind_num(wg *w, const char *key, int n, char g); /* written as a word */
char *wg_put(wg *w, const char *tmpl);                   /* expanded, as it stands; of w->a */
char *wg_say(wg *w, const char *tmpl); /* expanded, sentences begin with a capital */
char *wg_upper(wg *w, const char *s);
char *wg_lower(wg *w, const char *s);
const char *wg_number(int n, int lang, char g); /* 0..30 as a word */
/* k different numbers below n, in random order. */
void wg_pick(wg *w, size_t n, size_t k, size_t *out);
/* A word that an article stands before in English: "a" or "an". */
const char *wg_article(const char *word);
size_t wg_chars(const char *s); /* code points */

/* Which file a question or a plain text belongs to: a hash of its words. */
enum { WG_TRAIN, WG_VALID, WG_EVAL };
int wg_side(const char *question);

/* ---- a row ---- */
typedef struct wg_msg {
    const char *role;
    char *text;
    bool fact; /* a question whose words decide on which side of the split the row is */
} wg_msg;

#define WG_MSGS 16
typedef struct wg_row {
    wg_msg m[WG_MSGS];
    size_t n;
    char *text;      /* a plain text row: no messages */
    bool train_only; /* text of several pieces, each of the training side */
    char *answer;    /* the last answer is exactly this; or NULL */
    char *contains;  /* the last answer has this in it; or NULL */
} wg_row;

void wg_add(wg_row *r, const char *role, char *text);
void wg_ask(wg_row *r, char *question, char *answer);  /* a user turn that counts as a fact */
void wg_chat(wg_row *r, char *question, char *answer); /* small talk: never held out */

/* ---- worldgen_world.c: the fixed world ---- */
enum { WG_TOWNS = 16, WG_CRAFTS = 4, WG_DAYS = 7, WG_MONTHS = 10, WG_COLOURS = 8 };
typedef struct wg_town {
    const char *name;
    int river, day, month, colour, bridges, far; /* far: leagues to the next town of the list */
} wg_town;
extern const wg_town wg_towns[WG_TOWNS];
extern const char *const wg_rivers[8];
extern const wg_noun wg_days[WG_DAYS], wg_months[WG_MONTHS];
extern const wg_noun wg_products[WG_TOWNS], wg_festivals[WG_TOWNS], wg_emblems[WG_TOWNS],
    wg_landmarks[WG_TOWNS];
extern const wg_noun wg_colours[WG_COLOURS]; /* en; pt is masculine, pt_pl is FEMININE singular */
extern const wg_noun wg_crafts[WG_CRAFTS];   /* pt is the man's word, pt_pl the woman's */
extern const wg_noun wg_things[];            /* things to own, count, sell */
extern const size_t wg_nthings;
extern const wg_noun wg_foods[];
extern const size_t wg_nfoods;
extern const wg_noun wg_animals[];
extern const size_t wg_nanimals;
extern const wg_noun wg_places[]; /* rooms and spots: kitchen, garden */
extern const size_t wg_nplaces;
const char *wg_person(size_t town, size_t craft, char *g); /* who does what where */
wg_noun wg_craft_of(size_t town, size_t craft);            /* the craft in the person's gender */
void wg_bind_people(wg *w, size_t town); /* p0..p3 and j0..j3: the people and their crafts */
const char *wg_any_name(wg *w, char *g); /* any name, some made up */
void wg_bind_town(wg *w, size_t town);   /* t, r, x, d, f, m, a, c, n, l, u, k */

/* ---- the kinds of rows ---- */
void wg_world_row(wg *w, wg_row *r); /* worldgen_turns.c: a dialogue about the world */
void wg_fact(wg *w, wg_row *r);      /* worldgen_ask.c: one more turn about the world */
char *wg_notice(wg *w); /* worldgen_ask.c: plain text, a fact as a town office puts it up */
void wg_across(wg *w, wg_row *r);    /* asked in one language, answered in the other */
void wg_read_row(wg *w, wg_row *r);  /* worldgen_read.c: answer from a text in the prompt */
void wg_table_row(wg *w, wg_row *r); /* worldgen_table.c */
void wg_list_row(wg *w, wg_row *r);  /* worldgen_list.c */
void wg_do_row(wg *w, wg_row *r);    /* worldgen_do.c: follow an instruction */
void wg_talk_row(wg *w, wg_row *r);  /* worldgen_talk.c */
void wg_greet(wg *w, wg_row *r);     /* one turn of small talk: hello */
void wg_thank(wg *w, wg_row *r);     /* one turn: thanks or goodbye */
void wg_text_row(wg *w, wg_row *r);  /* worldgen_story.c: plain text */

#endif
