/* worldgen_text.c - the template language of worldgen.h, and words that both languages need. */
#include "worldgen.h"

#include <stdio.h>

size_t wg_below(wg *w, size_t n) { return (size_t)fj_rng_below(&w->rng, n); }

bool wg_chance(wg *w, int percent) { return wg_below(w, 100) < (size_t)percent; }

void wg_bind_noun(wg *w, const char *key, const wg_noun *n) {
    size_t i = 0;
    while (i < w->nb && strcmp(w->b[i].key, key)) {
        i++;
    }
    FJ_ASSERT(i < WG_BINDS);
    snprintf(w->b[i].key, sizeof w->b[i].key, "%s", key);
    w->b[i].n = *n;
    if (i == w->nb) {
        w->nb++;
    }
}

void wg_bind_str(wg *w, const char *key, const char *en, const char *pt, char g) {
    wg_noun n = { en, en, pt, pt, g };
    wg_bind_noun(w, key, &n);
}

const char *wg_number(int n, int lang, char g) {
    static const char *const en[] = { "zero",       "one",        "two",        "three",
                                      "four",       "five",       "six",        "seven",
                                      "eight",      "nine",       "ten",        "eleven",
                                      "twelve",     "thirteen",   "fourteen",   "fifteen",
                                      "sixteen",    "seventeen",  "eighteen",   "nineteen",
                                      "twenty",     "twenty-one", "twenty-two", "twenty-three",
                                      "twenty-four" };
    static const char *const pt[] = { "zero",          "um",         "dois",         "três",
                                      "quatro",        "cinco",      "seis",         "sete",
                                      "oito",          "nove",       "dez",          "onze",
                                      "doze",          "treze",      "catorze",      "quinze",
                                      "dezesseis",     "dezessete",  "dezoito",      "dezenove",
                                      "vinte",         "vinte e um", "vinte e dois", "vinte e três",
                                      "vinte e quatro" };
    FJ_ASSERT(n >= 0 && n < (int)FJ_LEN(en));
    if (lang == WG_EN) {
        return en[n];
    }
    if (g == 'f') {
        switch (n) {
        case 1: return "uma";
        case 2: return "duas";
        case 21: return "vinte e uma";
        case 22: return "vinte e duas";
        default: break;
        }
    }
    return pt[n];
}

void wg_bind_num(wg *w, const char *key, int n, char g) {
    wg_bind_str(w, key, wg_number(n, WG_EN, g), wg_number(n, WG_PT, g), g);
}

const char *wg_article(const char *word) { return strchr("aeiouAEIOU", word[0]) ? "an" : "a"; }

size_t wg_chars(const char *s) {
    size_t n = 0;
    for (; *s; s++) {
        n += (*s & 0xc0) != 0x80;
    }
    return n;
}

void wg_pick(wg *w, size_t n, size_t k, size_t *out) {
    FJ_ASSERT(k <= n);
    for (size_t i = 0; i < k; i++) {
        bool again;
        do {
            out[i] = wg_below(w, n);
            again = false;
            for (size_t j = 0; j < i; j++) {
                again = again || out[j] == out[i];
            }
        } while (again);
    }
}

static const wg_noun *find(const wg *w, const char *key, size_t n) {
    for (size_t i = 0; i < w->nb; i++) {
        if (strlen(w->b[i].key) == n && !memcmp(w->b[i].key, key, n)) {
            return &w->b[i].n;
        }
    }
    fprintf(stderr, "worldgen: no value for {%.*s}\n", (int)n, key);
    FJ_ASSERT(!"a template names a value that is not bound");
}

static void slot(wg *w, fj_str *out, const char *s, size_t n) {
    static const struct {
        const char *op, *m, *f;
        bool plural;
    } ops[] = {
        { "o", "o ", "a ", false },      { "um", "um ", "uma ", false },
        { "do", "do ", "da ", false },   { "no", "no ", "na ", false },
        { "ao", "ao ", "à ", false },    { "pelo", "pelo ", "pela ", false },
        { "os", "os ", "as ", true },    { "aos", "aos ", "às ", true },
        { "dos", "dos ", "das ", true }, { "s", "", "", true },
    };
    const char *colon = memchr(s, ':', n);
    if (*s == '~') {
        const char *bar = memchr(s, '|', n);
        FJ_ASSERT(colon && bar && bar > colon);
        if (find(w, s + 1, (size_t)(colon - s) - 1)->g == 'm') {
            fj_str_addn(out, colon + 1, (size_t)(bar - colon) - 1);
        } else {
            fj_str_addn(out, bar + 1, (size_t)(s + n - bar) - 1);
        }
        return;
    }
    const wg_noun *x = find(w, colon ? colon + 1 : s, colon ? (size_t)(s + n - colon) - 1 : n);
    if (!colon) {
        fj_str_add(out, w->lang == WG_EN ? x->en : x->pt);
        return;
    }
    size_t k = (size_t)(colon - s);
    if (k == 2 && !memcmp(s, "an", 2)) {
        fj_str_addf(out, "%s %s", wg_article(x->en), x->en);
        return;
    }
    for (size_t i = 0; i < FJ_LEN(ops); i++) {
        if (strlen(ops[i].op) == k && !memcmp(ops[i].op, s, k)) {
            fj_str_add(out, x->g == 'm' ? ops[i].m : ops[i].f);
            if (w->lang == WG_EN) {
                fj_str_add(out, ops[i].plural ? x->en_pl : x->en);
            } else {
                fj_str_add(out, ops[i].plural ? x->pt_pl : x->pt);
            }
            return;
        }
    }
    FJ_ASSERT(!"a template uses an article that does not exist");
}

static void expand(wg *w, fj_str *out, const char *s, const char *end) {
    while (s < end) {
        if (*s == '{') {
            const char *close = memchr(s, '}', (size_t)(end - s));
            FJ_ASSERT(close);
            slot(w, out, s + 1, (size_t)(close - s) - 1);
            s = close + 1;
        } else if (*s == '[') {
            /* Two walks: count the alternatives, then find the chosen one. A '|' inside braces
             * belongs to {~x:a|b}. */
            size_t n = 1, depth = 0;
            const char *close = s;
            bool brace = false;
            for (;; close++) {
                FJ_ASSERT(close < end);
                brace = *close == '{' || (brace && *close != '}');
                depth += *close == '[';
                depth -= *close == ']';
                if (!depth) {
                    break;
                }
                n += *close == '|' && depth == 1 && !brace;
            }
            size_t want = wg_below(w, n), at = 0;
            const char *from = s + 1, *p = s + 1;
            brace = false;
            for (depth = 1; p < close; p++) {
                brace = *p == '{' || (brace && *p != '}');
                depth += *p == '[';
                depth -= *p == ']';
                if (*p == '|' && depth == 1 && !brace) {
                    if (at++ == want) {
                        break;
                    }
                    from = p + 1;
                }
            }
            expand(w, out, from, p);
            s = close + 1;
        } else {
            fj_str_addc(out, *s++);
        }
    }
}

char *wg_put(wg *w, const char *tmpl) {
    fj_str out = { 0 };
    fj_str_add(&out, "");
    expand(w, &out, tmpl, tmpl + strlen(tmpl));
    char *s = fj_arena_strndup(&w->a, out.n ? out.s : "", out.n);
    fj_str_free(&out);
    return s;
}

/* Latin-1 letters in UTF-8 are C3 A0..C3 BE in lower case, 32 below in upper case. */
static void capital(char *s) {
    s += *s == '"'; /* a sentence may open with a quotation */
    if (*s >= 'a' && *s <= 'z') {
        *s = (char)(*s - 32);
    } else if ((uint8_t)s[0] == 0xc3 && (uint8_t)s[1] >= 0xa0 && (uint8_t)s[1] != 0xb7) {
        s[1] = (char)(s[1] - 32);
    }
}

char *wg_say(wg *w, const char *tmpl) {
    char *s = wg_put(w, tmpl);
    capital(s);
    for (char *p = s; *p; p++) {
        if (strchr(".?!", *p) && (p[1] == ' ' || p[1] == '\n')) {
            capital(p + 2);
        }
    }
    return s;
}

char *wg_upper(wg *w, const char *s) {
    char *u = fj_arena_strdup(&w->a, s);
    for (char *p = u; *p; p++) {
        capital(p);
        p += (uint8_t)*p == 0xc3;
    }
    return u;
}

char *wg_lower(wg *w, const char *s) {
    char *u = fj_arena_strdup(&w->a, s);
    for (char *p = u; *p; p++) {
        if (*p >= 'A' && *p <= 'Z') {
            *p = (char)(*p + 32);
        } else if ((uint8_t)*p == 0xc3 && (uint8_t)p[1] >= 0x80 && (uint8_t)p[1] <= 0x9e) {
            p[1] = (char)(p[1] + 32);
        }
    }
    return u;
}

int wg_side(const char *question) {
    fj_str s = { 0 }; /* letters and digits only: haste and capitals make no new question */
    fj_str_add(&s, "");
    for (const char *p = question; *p; p++)
        if (!strchr(" .,?!\n", *p)) fj_str_addc(&s, *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p);
    uint64_t k = fj_hash(s.n ? s.s : "", s.n) % 25;
    fj_str_free(&s);
    return k == 0 ? WG_VALID : k == 1 ? WG_EVAL : WG_TRAIN;
}

void wg_add(wg_row *r, const char *role, char *text) {
    FJ_ASSERT(r->n < WG_MSGS);
    r->m[r->n++] = (wg_msg){ role, text, false };
}

void wg_ask(wg_row *r, char *question, char *answer) {
    wg_add(r, "user", question);
    r->m[r->n - 1].fact = true;
    wg_add(r, "assistant", answer);
}

void wg_chat(wg_row *r, char *question, char *answer) {
    wg_add(r, "user", question);
    wg_add(r, "assistant", answer);
}
