/* jinja_char.c - characters as Python's str sees them: spaces, cases, categories. */
#include "text/jinja_in.h"

#include <stdio.h>
#include <utf8proc.h>

uint32_t fjj_get_char(const char *s, size_t left, size_t *len) {
    const unsigned char *p = (const unsigned char *)s;
    if (p[0] < 128) {
        *len = 1;
        return p[0];
    }
    utf8proc_int32_t c;
    utf8proc_ssize_t n = utf8proc_iterate(p, (utf8proc_ssize_t)FJ_MIN(left, (size_t)4), &c);
    *len = n > 0 ? (size_t)n : 1;
    return n > 0 ? (uint32_t)c : 0xdc00u + p[0];
}

size_t fjj_put_char(uint32_t c, char out[4]) {
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) c = 0xfffd; /* a lone surrogate has no bytes */
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)c, (utf8proc_uint8_t *)out);
}

bool fjj_space(uint32_t c) {
    return (c >= 9 && c <= 13) || (c >= 28 && c <= 32) || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

bool fjj_line_end(uint32_t c) {
    return (c >= 10 && c <= 13) || (c >= 28 && c <= 30) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

/* ---- cases ---------------------------------------------------------------------------------------- */
/* Characters whose upper case is several characters (SpecialCasing.txt). */
static const char *many_upper(uint32_t c) {
    switch (c) {
    case 0xdf: return "SS";
    case 0x149: return "\xca\xbcN";
    case 0x1f0: return "J\xcc\x8c";
    case 0x390: return "\xce\x99\xcc\x88\xcc\x81";
    case 0x3b0: return "\xce\xa5\xcc\x88\xcc\x81";
    case 0x587: return "\xd4\xb5\xd5\x92";
    case 0x1e96: return "H\xcc\xb1";
    case 0x1e97: return "T\xcc\x88";
    case 0x1e98: return "W\xcc\x8a";
    case 0x1e99: return "Y\xcc\x8a";
    case 0x1e9a: return "A\xca\xbe";
    case 0xfb00: return "FF";
    case 0xfb01: return "FI";
    case 0xfb02: return "FL";
    case 0xfb03: return "FFI";
    case 0xfb04: return "FFL";
    case 0xfb05: return "ST";
    case 0xfb06: return "ST";
    default: return NULL;
    }
}

static const char *many_title(uint32_t c) {
    switch (c) {
    case 0xdf: return "Ss";
    case 0x587: return "\xd4\xb5\xd6\x82";
    case 0xfb00: return "Ff";
    case 0xfb01: return "Fi";
    case 0xfb02: return "Fl";
    case 0xfb03: return "Ffi";
    case 0xfb04: return "Ffl";
    case 0xfb05: return "St";
    case 0xfb06: return "St";
    default: return many_upper(c);
    }
}

static int category(uint32_t c) { return utf8proc_category((utf8proc_int32_t)c); }
static bool is_upper(uint32_t c) {
    return c < 128 ? c >= 'A' && c <= 'Z' : utf8proc_isupper((utf8proc_int32_t)c) != 0;
}
static bool is_lower(uint32_t c) {
    return c < 128 ? c >= 'a' && c <= 'z' : utf8proc_islower((utf8proc_int32_t)c) != 0;
}
static bool is_title(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_LT; }
static bool cased(uint32_t c) { return is_upper(c) || is_lower(c) || is_title(c); }
static bool ignorable(uint32_t c) { /* for the final sigma: marks, formats, a few signs */
    int k = category(c);
    return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_ME || k == UTF8PROC_CATEGORY_CF ||
           k == UTF8PROC_CATEGORY_LM || k == UTF8PROC_CATEGORY_SK || c == '\'' || c == '.' ||
           c == ':' || c == '^' || c == '`' || c == 0xb7 || c == 0x2019;
}

/* A capital sigma at the end of a word becomes another small letter. */
static bool final_sigma(const jstr *s, size_t at, size_t len) {
    bool before = false;
    size_t n;
    for (size_t i = at; i > 0 && !before;) {
        do i--;
        while (i > 0 && ((unsigned char)s->p[i] & 0xc0) == 0x80);
        uint32_t c = fjj_get_char(s->p + i, s->n - i, &n);
        if (ignorable(c)) continue;
        before = cased(c);
        break;
    }
    if (!before) return false;
    for (size_t i = at + len; i < s->n; i += n) {
        uint32_t c = fjj_get_char(s->p + i, s->n - i, &n);
        if (!ignorable(c)) return !cased(c);
    }
    return true;
}

static void put(jb *b, const jstr *s, size_t at, size_t len, uint32_t c, enum jcase how) {
    char out[4];
    const char *many = how == CASE_UPPER ? many_upper(c) : how == CASE_TITLE ? many_title(c) : NULL;
    if (how == CASE_LOWER && c == 0x130) many = "i\xcc\x87";
    if (how == CASE_LOWER && c == 0x3a3 && final_sigma(s, at, len)) many = "\xcf\x82";
    if (many) {
        fjb_like(b, many, strlen(many), s, at, len);
        return;
    }
    utf8proc_int32_t x = (utf8proc_int32_t)c;
    x = how == CASE_UPPER   ? utf8proc_toupper(x)
        : how == CASE_LOWER ? utf8proc_tolower(x)
                            : utf8proc_totitle(x);
    if (c >= 0xdc00 && c < 0xe000) fjb_sub(b, s, at, len);
    else fjb_like(b, out, fjj_put_char((uint32_t)x, out), s, at, len);
}

jv fjj_case(jr *r, const jstr *s, enum jcase how) {
    jb b = { .r = r };
    bool in_word = false;
    for (size_t i = 0, len; i < s->n; i += len) {
        uint32_t c = fjj_get_char(s->p + i, s->n - i, &len);
        enum jcase h = how;
        if (how == CASE_SWAP) h = is_upper(c) ? CASE_LOWER : CASE_UPPER;
        if (how == CASE_CAPITAL) h = i ? CASE_LOWER : CASE_TITLE;
        if (how == CASE_TITLE) {
            h = in_word ? CASE_LOWER : CASE_TITLE;
            in_word = cased(c);
        }
        if (how == CASE_SWAP && !is_upper(c) && !is_lower(c)) fjb_sub(&b, s, i, len);
        else put(&b, s, i, len, c, h);
    }
    return fjb_take(&b);
}

/* ---- isalpha() and kin ---------------------------------------------------------------------------- */
static bool letter(uint32_t c) {
    int k = category(c);
    return k >= UTF8PROC_CATEGORY_LU && k <= UTF8PROC_CATEGORY_LO;
}
static bool digit(uint32_t c) { /* also superscripts and circled digits, which isdigit() takes */
    return category(c) == UTF8PROC_CATEGORY_ND || c == 0xb2 || c == 0xb3 || c == 0xb9 ||
           c == 0x2070 || (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089) ||
           (c >= 0x2460 && c <= 0x2468) || (c >= 0x2474 && c <= 0x247c) ||
           (c >= 0x2488 && c <= 0x2490);
}
static bool numeric(uint32_t c) {
    int k = category(c);
    return k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_NL || k == UTF8PROC_CATEGORY_NO;
}
static bool printable(uint32_t c) {
    int k = category(c);
    return c == ' ' ||
           !(k == UTF8PROC_CATEGORY_CC || k == UTF8PROC_CATEGORY_CF || k == UTF8PROC_CATEGORY_CS ||
             k == UTF8PROC_CATEGORY_CO || k == UTF8PROC_CATEGORY_CN || k == UTF8PROC_CATEGORY_ZS ||
             k == UTF8PROC_CATEGORY_ZL || k == UTF8PROC_CATEGORY_ZP);
}
static bool ident_start(uint32_t c) {
    return c == '_' || letter(c) || category(c) == UTF8PROC_CATEGORY_NL;
}
static bool ident(uint32_t c) {
    int k = category(c);
    return ident_start(c) || k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC ||
           k == UTF8PROC_CATEGORY_ND || k == UTF8PROC_CATEGORY_PC;
}
static bool decimal(uint32_t c) { return category(c) == UTF8PROC_CATEGORY_ND; }
static bool alnum(uint32_t c) { return letter(c) || digit(c) || numeric(c); }
static bool ascii(uint32_t c) { return c < 128; }

/* upper and lower: at least one letter with a case, and none of the other one; title: words. */
static bool is_case(const jstr *s, char want) {
    bool any = false, in_word = false;
    for (size_t i = 0, len; i < s->n; i += len) {
        uint32_t c = fjj_get_char(s->p + i, s->n - i, &len);
        bool up = is_upper(c) || is_title(c), low = is_lower(c);
        if (want == 'u' && (low || is_title(c))) return false;
        if (want == 'l' && up) return false;
        if (want == 't' && ((up && in_word) || (low && !in_word))) return false;
        in_word = up || low;
        any = any || up || low;
    }
    return any;
}

bool fjj_is(const jstr *s, const char *what) {
    static const struct {
        const char *name;
        bool (*is)(uint32_t c);
        bool empty;
    } kinds[] = {
        { "alpha", letter, false },       { "digit", digit, false },
        { "alnum", alnum, false },        { "decimal", decimal, false },
        { "numeric", numeric, false },    { "space", fjj_space, false },
        { "printable", printable, true }, { "ascii", ascii, true },
    };
    if (!strcmp(what, "upper") || !strcmp(what, "lower") || !strcmp(what, "title"))
        return is_case(s, what[0]);
    bool identifier = !strcmp(what, "identifier");
    size_t k = 0;
    while (!identifier && strcmp(kinds[k].name, what)) k++;
    if (!s->n) return !identifier && kinds[k].empty;
    for (size_t i = 0, len; i < s->n; i += len) {
        uint32_t c = fjj_get_char(s->p + i, s->n - i, &len);
        if (identifier ? !(i ? ident : ident_start)(c) : !kinds[k].is(c)) return false;
    }
    return true;
}
