#include "formats/yaml.h"

#include "base/fs.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <strings.h>
#include <yaml.h>

enum { MAX_TEXT = 1 << 20, MAX_DEPTH = 64, MAX_NODES = 100000, MAX_QUOTE = 60 };

struct fj_yaml_own {
    fj_arena mem;
};

typedef struct state {
    yaml_parser_t parser;
    fj_arena *mem;
    const char *file;
    fj_map anchors; /* name to index of nodes */
    const fj_yaml **nodes;
    size_t n_nodes, cap;
    fj_err *e;
} state;

static bool bad_at(const state *s, yaml_mark_t m, const char *what) {
    return fj_fail(s->e, FJ_EFORMAT, "%s:%zu:%zu: %s", s->file, m.line + 1, m.column + 1, what);
}

static bool next(state *s, yaml_event_t *ev) {
    if (yaml_parser_parse(&s->parser, ev)) return true;
    const yaml_parser_t *p = &s->parser;
    if (p->error == YAML_READER_ERROR)
        return fj_fail(s->e, FJ_EFORMAT, "%s: byte %zu: %s", s->file, p->problem_offset,
                       p->problem ? p->problem : "not readable as text");
    return bad_at(s, p->problem_mark, p->problem ? p->problem : "not valid YAML");
}

static fj_yaml *fresh(state *s, fj_yaml_kind kind, yaml_mark_t m) {
    fj_yaml *y = fj_arena_alloc(s->mem, sizeof *y);
    *y = (fj_yaml){ .kind = kind,
                    .line = (int)m.line + 1,
                    .col = (int)m.column + 1,
                    .file = s->file,
                    .weight = 1 };
    return y;
}

/* Only what the standard tags say anyway; a string tag works like quotes. */
static bool tag(state *s, const char *t, yaml_mark_t m, fj_yaml *y) {
    static const char std[] = "tag:yaml.org,2002:";
    static const char *const fine[] = { "str", "int", "float", "bool", "null", "seq", "map" };
    if (!t || !strcmp(t, "!")) return true;
    bool ok = false;
    for (size_t i = 0; !strncmp(t, std, sizeof std - 1) && i < FJ_LEN(fine); i++)
        ok = ok || !strcmp(t + sizeof std - 1, fine[i]);
    if (!ok) return bad_at(s, m, "tags of applications are not supported");
    if (!strcmp(t + sizeof std - 1, "str")) y->quoted = true;
    return true;
}

static void anchor(state *s, const char *name, const fj_yaml *y) {
    if (!name) return;
    FJ_GROW(s->nodes, s->n_nodes + 1, s->cap);
    *fj_map_put(&s->anchors, name, strlen(name), NULL) = (int64_t)s->n_nodes;
    s->nodes[s->n_nodes++] = y;
}

static const fj_yaml *node(state *s, yaml_event_t *ev, int depth);

static const fj_yaml *scalar(state *s, const yaml_event_t *ev) {
    fj_yaml *y = fresh(s, FJ_YAML_SCALAR, ev->start_mark);
    const char *text = (const char *)ev->data.scalar.value;
    size_t n = ev->data.scalar.length;
    y->quoted = ev->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    if (memchr(text, 0, n)) return bad_at(s, ev->start_mark, "a text holds a 0 byte"), NULL;
    if (!tag(s, (const char *)ev->data.scalar.tag, ev->start_mark, y)) return NULL;
    y->text = fj_arena_strndup(s->mem, text, n);
    anchor(s, (const char *)ev->data.scalar.anchor, y);
    return y;
}

static const fj_yaml *alias(state *s, const yaml_event_t *ev) {
    const char *name = (const char *)ev->data.alias.anchor;
    const int64_t *i = fj_map_get(&s->anchors, name, strlen(name));
    if (i) return s->nodes[*i];
    bad_at(s, ev->start_mark, "an alias names an anchor that does not stand before it");
    return NULL;
}

/* The next node that is not the end of this collection; *end says that it was. */
static const fj_yaml *child(state *s, yaml_event_type_t stop, int depth, bool *end) {
    yaml_event_t ev;
    *end = false;
    if (!next(s, &ev)) return NULL;
    *end = ev.type == stop;
    const fj_yaml *y = *end ? NULL : node(s, &ev, depth + 1);
    yaml_event_delete(&ev);
    return y;
}

static bool check_key(state *s, const fj_yaml *k, fj_map *seen) {
    yaml_mark_t m = { .line = (size_t)k->line - 1, .column = (size_t)k->col - 1 };
    if (k->kind != FJ_YAML_SCALAR) return bad_at(s, m, "a key must be a plain text");
    if (!strcmp(k->text, "<<") && !k->quoted)
        return bad_at(s, m, "merge keys (<<) are not supported");
    bool first;
    int64_t *line = fj_map_put(seen, k->text, strlen(k->text), &first);
    if (!first)
        return fj_fail(s->e, FJ_EFORMAT,
                       "%s:%d:%d: key \"%.*s\" is there twice, first on line %" PRId64, s->file,
                       k->line, k->col, MAX_QUOTE, k->text, *line);
    *line = k->line;
    return true;
}

static const fj_yaml *collection(state *s, const yaml_event_t *ev, bool map, int depth) {
    const yaml_event_type_t stop = map ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;
    fj_yaml *y = fresh(s, map ? FJ_YAML_MAP : FJ_YAML_LIST, ev->start_mark);
    const fj_yaml **item = NULL, **key = NULL;
    size_t item_cap = 0, key_cap = 0;
    fj_map seen = { 0 };
    bool end = false,
         ok = tag(s, (const char *)(map ? ev->data.mapping_start.tag : ev->data.sequence_start.tag),
                  ev->start_mark, y);
    while (ok) {
        const fj_yaml *k = map ? child(s, stop, depth, &end) : NULL;
        if (map && (end || !(ok = k && check_key(s, k, &seen)))) break;
        const fj_yaml *v = child(s, stop, depth, &end);
        if (end || !(ok = v != NULL)) break;
        y->weight += v->weight + (map ? 1 : 0);
        if (y->weight > MAX_NODES) {
            ok = bad_at(s, ev->start_mark, "too many values, aliases followed (at most 100000)");
            break;
        }
        FJ_GROW(item, y->n + 1, item_cap);
        item[y->n] = v;
        if (map) FJ_GROW(key, y->n + 1, key_cap);
        if (map) key[y->n] = k;
        y->n++;
    }
    if (ok && item) {
        y->item = fj_arena_alloc(s->mem, y->n * sizeof *item);
        memcpy(y->item, item, y->n * sizeof *item);
        if (key) {
            y->key = fj_arena_alloc(s->mem, y->n * sizeof *key);
            memcpy(y->key, key, y->n * sizeof *key);
        }
    }
    free(item);
    free(key);
    fj_map_free(&seen);
    /* only now: a collection that holds itself has no end */
    if (ok)
        anchor(s,
               (const char *)(map ? ev->data.mapping_start.anchor : ev->data.sequence_start.anchor),
               y);
    return ok ? y : NULL;
}

static const fj_yaml *node(state *s, yaml_event_t *ev, int depth) {
    if (depth > MAX_DEPTH) return bad_at(s, ev->start_mark, "nested deeper than 64"), NULL;
    switch (ev->type) {
    case YAML_SCALAR_EVENT: return scalar(s, ev);
    case YAML_ALIAS_EVENT: return alias(s, ev);
    case YAML_SEQUENCE_START_EVENT: return collection(s, ev, false, depth);
    case YAML_MAPPING_START_EVENT: return collection(s, ev, true, depth);
    default: return bad_at(s, ev->start_mark, "a value is missing"), NULL;
    }
}

/* Stream start, one document or none, stream end. */
static const fj_yaml *document(state *s) {
    yaml_event_t ev;
    const fj_yaml *root = NULL;
    for (bool more = true; more;) {
        if (!next(s, &ev)) return NULL;
        bool ok = true;
        switch (ev.type) {
        case YAML_STREAM_START_EVENT:
        case YAML_DOCUMENT_END_EVENT: break;
        case YAML_DOCUMENT_START_EVENT:
            if (root) ok = bad_at(s, ev.start_mark, "a second document, expected one");
            break;
        case YAML_STREAM_END_EVENT:
            more = false;
            if (!root) {
                fj_yaml *y = fresh(s, FJ_YAML_SCALAR, ev.start_mark);
                y->text = "";
                root = y;
            }
            break;
        default: root = node(s, &ev, 0); ok = root != NULL;
        }
        yaml_event_delete(&ev);
        if (!ok) return NULL;
    }
    return root;
}

bool fj_yaml_parse(fj_yaml_doc *d, const char *text, size_t n, const char *name, fj_err *e) {
    *d = (fj_yaml_doc){ 0 };
    if (n > MAX_TEXT)
        return fj_fail(e, FJ_EFORMAT, "%s has %zu bytes, at most %d are read", name, n, MAX_TEXT);
    state s = { .e = e };
    d->own = fj_zalloc(sizeof *d->own);
    s.mem = &d->own->mem;
    s.file = fj_arena_strdup(s.mem, name);
    if (!yaml_parser_initialize(&s.parser)) {
        fj_yaml_close(d);
        return fj_fail(e, FJ_ENOMEM, "no memory to read %s", name);
    }
    yaml_parser_set_encoding(&s.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&s.parser, (const unsigned char *)text, n);
    d->root = document(&s);
    yaml_parser_delete(&s.parser);
    fj_map_free(&s.anchors);
    free(s.nodes);
    if (d->root) return true;
    fj_yaml_close(d);
    return false;
}

bool fj_yaml_open(fj_yaml_doc *d, const char *path, fj_err *e) {
    *d = (fj_yaml_doc){ 0 };
    size_t n;
    char *text = fj_read_file(path, MAX_TEXT, &n, e);
    bool ok = text && fj_yaml_parse(d, text, n, path, e);
    free(text);
    return ok;
}

void fj_yaml_close(fj_yaml_doc *d) {
    if (!d->own) return;
    fj_arena_free(&d->own->mem);
    free(d->own);
    *d = (fj_yaml_doc){ 0 };
}

/* ---- getters --------------------------------------------------------------------------------- */
const fj_yaml *fj_yaml_get(const fj_yaml *map, const char *key) {
    if (!map || map->kind != FJ_YAML_MAP) return NULL;
    for (size_t i = 0; i < map->n; i++)
        if (!strcmp(map->key[i]->text, key)) return map->item[i];
    return NULL;
}

static bool one_of(const char *s, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!strcasecmp(s, list[i])) return true;
    return false;
}

bool fj_yaml_is_null(const fj_yaml *y) {
    static const char *const nulls[] = { "", "~", "null" };
    return !y || (y->kind == FJ_YAML_SCALAR && !y->quoted && one_of(y->text, nulls, FJ_LEN(nulls)));
}

bool fj_yaml_fail(const fj_yaml *y, const char *what, fj_err *e, const char *fmt, ...) {
    char msg[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    return fj_fail(e, FJ_EINVAL, "%s:%d:%d: %s: %s", y->file, y->line, y->col, what, msg);
}

static bool wrong(const fj_yaml *y, const char *what, const char *expected, fj_err *e) {
    if (y->kind == FJ_YAML_SCALAR)
        return fj_yaml_fail(y, what, e, "expected %s, found %s\"%.*s\"", expected,
                            y->quoted ? "the text " : "", MAX_QUOTE, y->text);
    return fj_yaml_fail(y, what, e, "expected %s, found a %s", expected,
                        y->kind == FJ_YAML_LIST ? "list" : "map");
}

/* Digits, signs, point and exponent; no hex, inf, nan, blanks. */
static bool number(const fj_yaml *y, double *v) {
    char buf[64];
    size_t n = 0;
    if (y->kind != FJ_YAML_SCALAR || y->quoted || !*y->text) return false;
    for (const char *s = y->text; *s; s++) {
        if (*s == '_') continue;
        if (!strchr("0123456789+-.eE", *s) || n + 1 == sizeof buf) return false;
        buf[n++] = *s;
    }
    buf[n] = 0;
    char *end;
    *v = strtod(buf, &end);
    return n && !*end && isfinite(*v);
}

bool fj_yaml_int(const fj_yaml *y, const char *what, int64_t *v, fj_err *e) {
    double x;
    if (!number(y, &x) || x != floor(x) || fabs(x) > 0x1p53)
        return wrong(y, what, "a whole number", e);
    *v = (int64_t)x;
    return true;
}

bool fj_yaml_float(const fj_yaml *y, const char *what, double *v, fj_err *e) {
    return number(y, v) || wrong(y, what, "a number", e);
}

bool fj_yaml_bool(const fj_yaml *y, const char *what, bool *v, fj_err *e) {
    static const char *const yes[] = { "true", "yes", "on" }, *const no[] = { "false", "no",
                                                                              "off" };
    bool plain = y->kind == FJ_YAML_SCALAR && !y->quoted;
    *v = plain && one_of(y->text, yes, FJ_LEN(yes));
    return *v || (plain && one_of(y->text, no, FJ_LEN(no))) || wrong(y, what, "true or false", e);
}

bool fj_yaml_string(const fj_yaml *y, const char *what, const char **v, fj_err *e) {
    if (y->kind != FJ_YAML_SCALAR || fj_yaml_is_null(y)) return wrong(y, what, "a text", e);
    *v = y->text;
    return true;
}
