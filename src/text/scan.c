/* scan.c - the expressions that nearly all models cut words by, matched by hand.
 *
 * They are one family: contractions, words with something in front, runs of digits, runs of signs, white
 * space.  A row below says how an expression fills these places; a test holds every row against
 * PCRE2.  What is not in the table runs in PCRE2. */
#include "text/tok.h"

typedef enum fj_scan_lead { LEAD_SPACE, LEAD_SIGN, LEAD_OTHER } fj_scan_lead;

struct fj_scan {
    const char *re;
    char contraction;  /* 0: none, 's': as written, 'i': in any case, 'e': any case, behind words */
    fj_scan_lead lead; /* before letters: " ?", "[^\r\n\p{L}\p{N}]?", "[^\r\n\p{L}\p{P}\p{S}]?" */
    uint8_t letters;   /* classes of a word; 0: cased words, upper case then lower */
    bool ascii_words;  /* a sign of ASCII and letters of ASCII first */
    uint8_t digits;    /* at most so many; 255: any; 0: no such place */
    bool digits_spaced;        /* " ?" before digits */
    uint8_t sign_in, sign_out; /* a run of signs: in one of (when not 0), in none of */
    const char *tail;          /* behind signs: any of these */
    bool lines;                /* \s*[\r\n]+ before the rest of white space */
    bool han;                  /* [\p{Han}]+ first, and no such character in a cased word */
    char grouped; /* digits by three from the right, nothing else: 'b', Nd before a border of
                                  words; 'n', any numbers */
};

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define C1 "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SP "\\s+(?!\\S)|\\s+"
#define LINES "\\s*[\\r\\n]+|" SP
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define SIGNS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
#define CASED_A                                                                                    \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
#define CASED_B                                                                                    \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
#define CASED_END " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LINES
#define DEEP                                                                                             \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|" \
    " ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES
/* DeepSeek-V3's own file has the line ends themselves in it. */
#define DEEP_RAW                                                                                       \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|" \
    " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|" SP

#define UP "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
#define LO "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}&&[^\\p{Han}]]"
#define LEAD "[^\\r\\n\\p{L}\\p{N}]?["

enum { L = FJ_CH_L, N = FJ_CH_N, M = FJ_CH_M, WS = FJ_CH_WS, PS = FJ_CH_PS };

static const fj_scan known[] = {
    { GPT2, 's', LEAD_SPACE, L, false, 255, true, 0, WS | L | N, "", false, false, 0 },
    { C1 "|" WORD "\\p{N}{1,3}|" SIGNS LINES, 'i', LEAD_SIGN, L, false, 3, false, 0, WS | L | N,
      "\r\n", true, false, 0 },
    { C1 "|" WORD "\\p{N}|" SIGNS LINES, 'i', LEAD_SIGN, L, false, 1, false, 0, WS | L | N, "\r\n",
      true, false, 0 },
    { C1 "|" WORD "\\p{N}+|" SIGNS LINES, 'i', LEAD_SIGN, L, false, 255, false, 0, WS | L | N,
      "\r\n", true, false, 0 },
    { WORD "\\p{N}|" SIGNS LINES, 0, LEAD_SIGN, L, false, 1, false, 0, WS | L | N, "\r\n", true,
      false, 0 },
    { C1
      "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES,
      'i', LEAD_SIGN, L | M, false, 1, false, 0, WS | L | M | N, "\r\n", true, false, 0 },
    { CASED_A "|" CASED_B "|\\p{N}|" CASED_END, 0, LEAD_SIGN, 0, false, 1, false, 0, WS | L | N,
      "\r\n/", true, false, 0 },
    { CASED_A C1 "?|" CASED_B C1 "?|\\p{N}{1,3}|" CASED_END, 'e', LEAD_SIGN, 0, false, 3, false, 0,
      WS | L | N, "\r\n/", true, false, 0 },
    { CASED_A C1 "?|" CASED_B C1 "?|\\p{N}|" CASED_END, 'e', LEAD_SIGN, 0, false, 1, false, 0,
      WS | L | N, "\r\n/", true, false, 0 },
    { "[\\p{Han}]+|" LEAD UP "*[" LO "+" C1 "?|" LEAD UP "+[" LO "*" C1
      "?|\\p{N}{1,3}|" SIGNS LINES,
      'e', LEAD_SIGN, 0, false, 3, false, 0, WS | L | N, "\r\n", true, true, 0 },
    { DEEP, 0, LEAD_OTHER, L | M, true, 0, false, PS, 0, "\r\n", true, false, 0 },
    { DEEP_RAW, 0, LEAD_OTHER, L | M, true, 0, false, PS, 0, "\r\n", true, false, 0 },
    { "\\d{1,3}(?=(?:\\d{3})*\\b)", 0, LEAD_SIGN, 0, false, 0, false, 0, 0, "", false, false, 'b' },
    { "\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))", 0, LEAD_SIGN, 0, false, 0, false, 0, 0, "", false,
      false, 'n' },
};

const fj_scan *fj_scan_find(const fj_tok_pre *p) {
    if (p->kind != FJ_PRE_SPLIT || p->literal) return NULL;
    for (size_t i = 0; i < FJ_LEN(known); i++)
        if (strlen(known[i].re) == p->regex.n && memcmp(known[i].re, p->regex.p, p->regex.n) == 0)
            return &known[i];
    return NULL;
}

const char *fj_scan_expression(size_t i) { return i < FJ_LEN(known) ? known[i].re : NULL; }

typedef struct text {
    const uint8_t *tab;
    const unsigned char *s;
    size_t n;
} text;

/* Class of the character at i, and its length. */
static inline uint8_t at(const text *t, size_t i, size_t *len) {
    const unsigned char *u = t->s + i;
    if (u[0] < 0x80) {
        *len = 1;
        return t->tab[u[0]];
    }
    if (u[0] < 0xe0) {
        *len = 2;
        return t->tab[(uint32_t)(u[0] & 0x1f) << 6 | (u[1] & 0x3f)];
    }
    if (u[0] < 0xf0) {
        *len = 3;
        return t->tab[(uint32_t)(u[0] & 0x0f) << 12 | (uint32_t)(u[1] & 0x3f) << 6 | (u[2] & 0x3f)];
    }
    *len = 4;
    return fj_char_class(fj_utf8_get((const char *)u, 4));
}

/* Script=Han, of what is a letter, a number or a mark. */
static bool han(const text *t, size_t i) {
    const unsigned char *u = t->s + i;
    if (u[0] < 0xe2) return false;
    uint32_t c = fj_utf8_get((const char *)u, u[0] < 0xf0 ? 3 : 4);
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || c == 0x3005 ||
           c == 0x3007 || (c >= 0x3021 && c <= 0x3029) || (c >= 0x3038 && c <= 0x303b) ||
           (c >= 0x2e80 && c <= 0x2ef3 && c != 0x2e9a) || (c >= 0x2f00 && c <= 0x2fd5) ||
           (c >= 0xf900 && c <= 0xfa6d) || (c >= 0xfa70 && c <= 0xfad9) || c == 0x16fe2 ||
           c == 0x16fe3 || c == 0x16ff0 || c == 0x16ff1 || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2ebe0) || (c >= 0x2f800 && c <= 0x2fa1d) ||
           (c >= 0x30000 && c <= 0x323af);
}

/* End of the run from i of characters in one of `in` and none of `out`. */
static inline size_t run(const text *t, size_t i, uint8_t in, uint8_t out) {
    size_t len;
    while (i < t->n) {
        uint8_t c = at(t, i, &len);
        if ((in && !(c & in)) || (c & out)) break;
        i += len;
    }
    return i;
}

/* End of a contraction at i (an apostrophe is there), i: none. */
static size_t contraction(const text *t, size_t i, bool any_case) {
    const unsigned char *s = t->s + i;
    size_t n = t->n - i;
    if (n < 2) return i;
    unsigned a = s[1], b = n > 2 ? s[2] : 0;
    if (any_case) {
        if (a < 0x80) a |= 0x20;
        if (b < 0x80) b |= 0x20;
        /* U+017F is another lower case of S. */
        if (a == 0xc5 && b == 0xbf) return i + 3;
    }
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return i + 2;
    if ((a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l')) return i + 3;
    return i;
}

/* A word in upper case, then lower (A), or in upper case alone (B), from i; i: none.  The classes overlap
 * (marks, letters without case), so that a run of "upper" gives back to its last such character. */
static size_t cased(const text *t, size_t i, bool b, bool no_han) {
    size_t j = i, len, both = i;
    while (j < t->n) {
        uint8_t c = at(t, j, &len);
        if (!(c & FJ_CH_UP) || (no_han && c & FJ_CH_LO && han(t, j))) break;
        j += len;
        if (c & FJ_CH_LO) both = j;
    }
    if (b && j == i) return i;
    size_t end = j;
    while (end < t->n && at(t, end, &len) & FJ_CH_LO && !(no_han && han(t, end))) end += len;
    return b || end > j ? end : both;
}

static bool ascii_letter(unsigned c) { return (c | 0x20) >= 'a' && (c | 0x20) <= 'z'; }

static size_t word(const fj_scan *sc, const text *t, size_t i, size_t len, uint8_t c) {
    size_t lead = i;
    if (sc->lead == LEAD_SPACE) lead += t->s[i] == ' ';
    else if (sc->lead == LEAD_SIGN) lead += c & (FJ_CH_NL | L | N) ? 0 : len;
    else lead += c & (FJ_CH_NL | L | PS) ? 0 : len;
    if (sc->letters) {
        size_t end = run(t, lead, sc->letters, 0);
        if (end == lead && lead > i) { /* what was taken in front may be of the word itself */
            lead = i;
            end = run(t, lead, sc->letters, 0);
        }
        return end > lead ? end : i;
    }
    for (int b = 0; b < 2; b++) {
        size_t end = cased(t, lead, b, sc->han);
        if (end == lead && lead > i) {
            end = cased(t, i, b, sc->han);
            if (end == i) continue;
        } else if (end == lead) continue;
        if (sc->contraction == 'e' && end < t->n && t->s[end] == '\'')
            end = contraction(t, end, true);
        return end;
    }
    return i;
}

static size_t space(const fj_scan *sc, const text *t, size_t i) {
    size_t end = i, last = i, line = i, len;
    while (end < t->n) {
        uint8_t c = at(t, end, &len);
        if (!(c & WS)) break;
        last = end;
        end += len;
        if (c & FJ_CH_NL) line = end;
    }
    if (sc->lines && line > i) return line;
    /* A space before a word is the word's. */
    return end < t->n && last > i ? last : end;
}

/* A run of digits is counted once, however many groups it has. */
static size_t grouped(const fj_scan *sc, const text *t, size_t i, fj_scan_run *d) {
    size_t len, k;
    bool nd = sc->grouped == 'b';
    if (i >= d->end) {
        *d = (fj_scan_run){ i, i, 0 };
        while (d->end < t->n) {
            uint8_t c = at(t, d->end, &len);
            const char *p = (const char *)t->s + d->end;
            if (!(c & N) || (nd && !fj_char_digit(fj_utf8_get(p, len)))) break;
            d->end += len;
            d->left++;
        }
        if (!d->left) return 0;
    }
    for (; d->at < i; d->left--) {
        at(t, d->at, &len);
        d->at += len;
    }
    if (nd && d->end < t->n) {
        at(t, d->end, &len);
        if (fj_char_word(fj_utf8_get((const char *)t->s + d->end, len))) return 0;
    }
    size_t end = i;
    for (k = d->left % 3 ? d->left % 3 : 3; k > 0; k--) {
        at(t, end, &len);
        end += len;
    }
    return end - i;
}

size_t fj_scan_at(const fj_scan *sc, const uint8_t *table, const char *s, size_t n, size_t i,
                  fj_scan_run *digits) {
    text t = { table, (const unsigned char *)s, n };
    size_t len, end;
    if (sc->grouped) return grouped(sc, &t, i, digits);
    uint8_t c = at(&t, i, &len);
    unsigned b = t.s[i];
    if (b == '\'' && (sc->contraction == 's' || sc->contraction == 'i') &&
        (end = contraction(&t, i, sc->contraction == 'i')) > i)
        return end - i;
    if (sc->han && han(&t, i)) {
        for (end = i; end < n && han(&t, end);) end += t.s[end] < 0xf0 ? 3 : 4;
        return end - i;
    }
    if (sc->ascii_words && b < 0x80 && c & PS && i + 1 < n && ascii_letter(t.s[i + 1])) {
        for (end = i + 1; end < n && ascii_letter(t.s[end]);) end++;
        return end - i;
    }
    if ((end = word(sc, &t, i, len, c)) > i) return end - i;
    size_t from = i + (b == ' ');
    if (sc->digits && (sc->digits_spaced || b != ' ')) {
        size_t k = 0;
        for (end = from; end < n && k < sc->digits; k += sc->digits != 255) {
            if (!(at(&t, end, &len) & N)) break;
            end += len;
        }
        if (end > from) return end - i;
    }
    end = run(&t, from, sc->sign_in, sc->sign_out);
    if (end > from) {
        while (end < n && *sc->tail && t.s[end] && strchr(sc->tail, t.s[end])) end++;
        return end - i;
    }
    return c & WS ? space(sc, &t, i) - i : 0;
}
