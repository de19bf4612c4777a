/* json_model.c - the vocabulary and the merges of a tokenizer.json, without a tree of values. */
#include "text/tok_json.h"

#include <locale.h>

typedef struct js {
    const char *p, *end, *start;
    fj_json_model *m;
    fj_err *e;
} js;

static bool bad(js *j, const char *what) {
    size_t line = 1;
    for (const char *q = j->start; q < j->p; q++) line += *q == '\n';
    return fj_fail(j->e, FJ_EFORMAT, "line %zu, byte %zu: expected %s", line,
                   (size_t)(j->p - j->start), what);
}

/* Most of a large file is the indentation of its merges. */
static void ws(js *j) {
    while (j->p < j->end && (*j->p == ' ' || *j->p == '\n' || *j->p == '\r' || *j->p == '\t')) {
        j->p++;
        while (j->end - j->p >= 4 && !memcmp(j->p, "    ", 4)) j->p += 4;
    }
}

static bool eat(js *j, char c) {
    if (j->p < j->end && *j->p != c) ws(j);
    if (j->p == j->end || *j->p != c) return false;
    j->p++;
    return true;
}

static int hex4(const char *p) {
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        int d = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 87
                                                     : -1;
        if (d < 0) return -1;
        v = v * 16 + d;
    }
    return v;
}

static bool unescape(js *j, const char *from, const char *to, fj_bytes *out) {
    char *s = fj_arena_alloc(&j->m->mem, (size_t)(to - from) + 1);
    size_t n = 0;
    for (const char *p = from; p < to;) {
        if (*p != '\\') {
            s[n++] = *p++;
            continue;
        }
        static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
        char c = p[1]; /* a string does not end in the middle of an escape */
        const char *k = c ? strchr(names, c) : NULL;
        p += 2;
        if (k) {
            s[n++] = values[k - names];
            continue;
        }
        int u = c == 'u' && to - p >= 4 ? hex4(p) : -1;
        if (u < 0) return bad(j, "a known escape in a string");
        p += 4;
        uint32_t cp = (uint32_t)u;
        if (cp >= 0xd800 && cp < 0xdc00) {
            int low = to - p >= 6 && p[0] == '\\' && p[1] == 'u' ? hex4(p + 2) : -1;
            if (low < 0xdc00 || low > 0xdfff) return bad(j, "the other half of a surrogate pair");
            cp = 0x10000 + ((cp - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
            p += 6;
        } else if (cp >= 0xdc00 && cp < 0xe000) return bad(j, "a surrogate pair in its order");
        n += fj_utf8_put(cp, s + n);
    }
    *out = (fj_bytes){ s, n };
    return true;
}

static bool string(js *j, fj_bytes *out) {
    if (!eat(j, '"')) return bad(j, "a string");
    const char *from = j->p;
    bool escapes = false, wide = false;
    for (; j->p < j->end && *j->p != '"'; j->p++) {
        unsigned char c = (unsigned char)*j->p;
        if (c < 0x20) return bad(j, "no control characters in a string");
        wide |= c >= 0x80;
        if (c == '\\') {
            escapes = true;
            if (++j->p == j->end) break;
        }
    }
    if (j->p >= j->end) return bad(j, "the end of a string");
    size_t n = (size_t)(j->p - from);
    if (wide && fj_utf8_span(from, n) != n) return bad(j, "UTF-8 in a string");
    const char *to = j->p++;
    *out = (fj_bytes){ from, n };
    return escapes ? unescape(j, from, to, out) : true;
}

static bool whole(js *j, int64_t *v) {
    ws(j);
    bool minus = j->p < j->end && *j->p == '-';
    const char *from = j->p += minus;
    int64_t x = 0;
    for (; j->p < j->end && *j->p >= '0' && *j->p <= '9'; j->p++) {
        if (j->p - from > 17) return bad(j, "an id of fewer digits");
        x = x * 10 + (*j->p - '0');
    }
    if (j->p == from || (j->p < j->end && (*j->p == '.' || (*j->p | 32) == 'e')))
        return bad(j, "a whole number for an id");
    *v = minus ? -x : x;
    return true;
}

static bool real(js *j, double *v) {
    ws(j);
    const char *from = j->p;
    while (j->p < j->end && *j->p && strchr("+-0123456789.eE", *j->p)) j->p++;
    size_t n = (size_t)(j->p - from);
    char buf[64];
    if (!n || n >= sizeof buf) return bad(j, "a number");
    memcpy(buf, from, n);
    buf[n] = 0;
    const char *point = localeconv()->decimal_point; /* of the program that uses the library */
    char *dot = strchr(buf, '.'), *end;
    if (dot && point[0] && !point[1]) *dot = point[0];
    *v = strtod(buf, &end);
    return *end ? bad(j, "a number") : true;
}

static void room(fj_json_model *m) {
    if (m->n < m->cap) return;
    size_t cap = m->cap ? m->cap * 2 : 4096;
    m->piece = fj_realloc(m->piece, cap * sizeof *m->piece);
    m->id = fj_realloc(m->id, cap * sizeof *m->id);
    if (m->scored) m->score = fj_realloc(m->score, cap * sizeof *m->score);
    m->cap = cap;
}

void fj_rd_piece(fj_tok_rd *r, fj_bytes s, int64_t id, double score) {
    fj_json_model *m = &r->m;
    room(m);
    m->piece[m->n] = s;
    m->id[m->n] = id;
    if (m->scored) m->score[m->n] = score;
    m->n++;
    m->has_vocab = true;
}

static bool vocab_object(js *j) {
    fj_json_model *m = j->m;
    if (!eat(j, '{')) return bad(j, "{ in front of a vocabulary");
    if (eat(j, '}')) return true;
    do {
        room(m);
        if (!string(j, &m->piece[m->n])) return false;
        if (!eat(j, ':')) return bad(j, ": behind a spelling");
        if (!whole(j, &m->id[m->n])) return false;
        m->n++;
    } while (eat(j, ','));
    return eat(j, '}') ? true : bad(j, "} behind a vocabulary");
}

static bool vocab_list(js *j) {
    fj_json_model *m = j->m;
    m->scored = true;
    if (!eat(j, '[')) return bad(j, "[ in front of a vocabulary");
    if (eat(j, ']')) return true;
    do {
        room(m);
        if (!eat(j, '[')) return bad(j, "[piece, score]");
        if (!string(j, &m->piece[m->n])) return false;
        if (!eat(j, ',')) return bad(j, "[piece, score]");
        if (!real(j, &m->score[m->n])) return false;
        if (!eat(j, ']')) return bad(j, "[piece, score]");
        m->id[m->n] = (int64_t)m->n;
        m->n++;
    } while (eat(j, ','));
    return eat(j, ']') ? true : bad(j, "] behind a vocabulary");
}

static bool merges(js *j) {
    fj_json_model *m = j->m;
    if (!eat(j, '[')) return bad(j, "[ in front of merges");
    if (eat(j, ']')) return true;
    do {
        FJ_GROW(m->merges, m->n_merges + 1, m->merges_cap);
        fj_tok_merge *x = &m->merges[m->n_merges];
        fj_bytes s;
        if (eat(j, '[')) {
            if (!string(j, &x->l)) return false;
            if (!eat(j, ',') || !string(j, &x->r) || !eat(j, ']'))
                return fj_fail(j->e, FJ_EFORMAT, "model.merges[%zu] is not a pair of strings",
                               m->n_merges);
        } else {
            if (!string(j, &s)) return false;
            const char *sp = s.n ? memchr(s.p, ' ', s.n) : NULL;
            if (!sp || sp == s.p || sp == s.p + s.n - 1 ||
                memchr(sp + 1, ' ', (size_t)(s.p + s.n - sp - 1)))
                return fj_fail(j->e, FJ_EFORMAT,
                               "model.merges[%zu] is not two parts with a space between: \"%.*s\"",
                               m->n_merges, (int)FJ_MIN(s.n, (size_t)80), s.p);
            *x = (fj_tok_merge){ { s.p, (size_t)(sp - s.p) },
                                 { sp + 1, (size_t)(s.p + s.n - sp - 1) } };
        }
        m->n_merges++;
    } while (eat(j, ','));
    return eat(j, ']') ? true : bad(j, "] behind merges");
}

/* Over one value of any kind; jansson looks at it later. */
static bool skip(js *j) {
    int depth = 0;
    for (;;) {
        ws(j);
        if (j->p == j->end) return bad(j, "a value");
        fj_bytes s;
        char c = *j->p;
        if (c == '"') {
            if (!string(j, &s)) return false;
        } else if (c == '{' || c == '[') {
            depth++;
            j->p++;
            continue;
        } else if (c == '}' || c == ']') {
            depth--;
            j->p++;
        } else if (c == ',' || c == ':') {
            j->p++;
            continue;
        } else {
            const char *from = j->p;
            while (j->p < j->end && *j->p && !strchr(",:]} \t\r\n\"[{", *j->p)) j->p++;
            if (j->p == from) return bad(j, "a value");
        }
        if (depth < 0) return bad(j, "a value");
        if (depth == 0) return true;
    }
}

static bool is(fj_bytes s, const char *name) {
    return s.n == strlen(name) && memcmp(s.p, name, s.n) == 0;
}

static bool in_model(js *j, fj_str *rest, const char **copied) {
    fj_bytes key;
    if (!eat(j, '{')) return skip(j);
    if (eat(j, '}')) return true;
    do {
        if (!string(j, &key)) return false;
        if (!eat(j, ':')) return bad(j, ": behind a key");
        ws(j);
        const char *from = j->p;
        fj_json_model *m = j->m;
        char c = j->p < j->end ? *j->p : 0;
        bool vocab = is(key, "vocab") && (c == '{' || c == '[') && !m->has_vocab,
             merge = is(key, "merges") && c == '[' && !m->has_merges;
        if (!vocab && !merge) {
            if (!skip(j)) return false;
            continue;
        }
        if (!(merge ? merges(j) : c == '{' ? vocab_object(j) : vocab_list(j))) return false;
        m->has_vocab |= vocab;
        m->has_merges |= merge;
        fj_str_addn(rest, *copied, (size_t)(from - *copied));
        fj_str_add(rest, "null");
        *copied = j->p;
    } while (eat(j, ','));
    return eat(j, '}') ? true : bad(j, "} behind a model");
}

bool fj_json_model_cut(const char *s, size_t n, fj_json_model *m, fj_str *rest, fj_err *e) {
    js j = { s, s + n, s, m, e };
    const char *copied = s;
    fj_bytes key;
    if (!eat(&j, '{')) return bad(&j, "an object");
    if (!eat(&j, '}')) do {
            if (!string(&j, &key)) return false;
            if (!eat(&j, ':')) return bad(&j, ": behind a key");
            if (!(is(key, "model") ? in_model(&j, rest, &copied) : skip(&j))) return false;
        } while (eat(&j, ','));
    fj_str_addn(rest, copied, (size_t)(j.end - copied));
    return true;
}

bool fj_json_vocab(const char *s, size_t n, fj_json_model *m, fj_err *e) {
    js j = { s, s + n, s, m, e };
    if (!vocab_object(&j)) return false;
    ws(&j);
    m->has_vocab = true;
    return j.p == j.end ? true : bad(&j, "nothing behind the vocabulary");
}

void fj_json_model_free(fj_json_model *m) {
    free(m->piece);
    free(m->id);
    free(m->score);
    free(m->merges);
    fj_arena_free(&m->mem);
    *m = (fj_json_model){ 0 };
}
