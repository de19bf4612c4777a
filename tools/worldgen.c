/* worldgen.c - writes the text that the embedded model is trained on: an invented land, in English and
 * Portuguese.  The same seed gives the same bytes on every machine.
 *
 *     forja-worldgen --out DIR [--rows N] [--seed S]
 *
 * train.jsonl  {"messages": [...]}, and text.jsonl {"text": ...}: N rows together, none twice
 * train.txt    what both say, without JSON: for the vocabulary
 * valid.jsonl  messages whose last question (its exact words) is in no row of train.jsonl
 * eval.jsonl   {"messages": [... user], "answer": "..."} or "contains"; also held out, none in valid
 * general.txt  held-out plain text, one piece a line: what forgetting is measured on
 *
 * What is held out is decided by a hash of the question's words, so it is the same for every seed and
 * every number of rows. */
#include "worldgen.h"
#include "base/fs.h"

#include <stdio.h>

#define MAX_CHARS 1200

static void json_string(fj_str *o, const char *s) {
    fj_str_addc(o, '"');
    for (; *s; s++) {
        if (*s == '\n') {
            fj_str_add(o, "\\n");
        } else {
            if (*s == '"' || *s == '\\') {
                fj_str_addc(o, '\\');
            }
            fj_str_addc(o, *s);
        }
    }
    fj_str_addc(o, '"');
}

static void json_messages(fj_str *o, const wg_row *r, size_t n) {
    fj_str_add(o, "{\"messages\": [");
    for (size_t i = 0; i < n; i++) {
        fj_str_addf(o, "%s{\"role\": \"%s\", \"content\": ", i ? ", " : "", r->m[i].role);
        json_string(o, r->m[i].text);
        fj_str_addc(o, '}');
    }
    fj_str_addc(o, ']');
}

/* Per cent of rows: world 40, read 18, text 13, instructions 9, lists 8, tables 7, talk 5. */
static void make(wg *w, wg_row *r, int kind) {
    static void (*const kinds[])(wg *, wg_row *) = { wg_world_row, wg_read_row, wg_text_row,
                                                     wg_do_row,    wg_list_row, wg_table_row,
                                                     wg_talk_row };
    static const uint8_t share[] = { 40, 18, 13, 9, 8, 7, 5 };
    fj_arena_free(&w->a);
    w->nb = 0;
    w->lang = wg_chance(w, 60) ? WG_EN : WG_PT;
    *r = (wg_row){ 0 };
    size_t k = wg_below(w, 100), i = 0;
    while (k >= share[i]) {
        k -= share[i++];
    }
    kinds[kind < 0 ? (int)i : kind](w, r);
}

/* Does the row belong to the wanted file? */
static bool fits(const wg_row *r, int want) {
    if (r->text) {
        if (r->train_only && want != WG_TRAIN) return false;
        return wg_chars(r->text) <= MAX_CHARS && wg_side(r->text) == want;
    }
    size_t chars = 0;
    for (size_t i = 0; i < r->n; i++) {
        chars += wg_chars(r->m[i].text) + 8;
        bool last = i + 2 == r->n;
        if (!r->m[i].fact) {
            if (last && want != WG_TRAIN && !strcmp(r->m[i].role, "user")) {
                return false;
            }
            continue;
        }
        /* A held-out row may have questions of the training side before its own. */
        int s = wg_side(r->m[i].text);
        if (last || want == WG_TRAIN || s != WG_TRAIN ? s != want : false) {
            return false;
        }
    }
    return chars <= MAX_CHARS;
}

/* Where rows go: messages, text rows and their bare text apart (a data file has one shape of row).
 * text and bare are NULL but for training; text rows are then left out. */
typedef struct outs {
    fj_out *rows, *text, *bare;
} outs;

/* Up to n different rows; fewer when the language has no more to say (4096 failures in a row). */
static size_t write_rows(wg *w, outs o, size_t n, int want) {
    fj_map seen = { 0 };
    fj_str line = { 0 };
    size_t made = 0, failed = 0;
    while (made < n && failed < 4096) {
        wg_row r;
        make(w, &r, -1);
        bool ok = fits(&r, want) && (!r.text || o.text);
        if (want == WG_EVAL) {
            ok = ok && r.n <= 3 && (r.answer || r.contains);
        }
        fj_str_clear(&line);
        if (ok && r.text) {
            fj_str_add(&line, "{\"text\": ");
            json_string(&line, r.text);
        } else if (ok) {
            json_messages(&line, &r, want == WG_EVAL ? r.n - 1 : r.n);
        }
        if (ok) {
            fj_map_put(&seen, line.s, line.n, &ok);
        }
        if (!ok) {
            failed++;
            continue;
        }
        failed = 0;
        if (want == WG_EVAL) {
            fj_str_add(&line, r.answer ? ", \"answer\": " : ", \"contains\": ");
            json_string(&line, r.answer ? r.answer : r.contains);
        }
        fj_str_add(&line, "}\n");
        fj_out_write(r.text ? o.text : o.rows, line.s, line.n);
        made++;
        for (size_t i = 0; o.bare && i < FJ_MAX(r.n, 1); i++) {
            const char *s = r.text ? r.text : r.m[i].text;
            fj_out_write(o.bare, s, strlen(s));
            fj_out_write(o.bare, "\n", 1);
        }
    }
    fj_map_free(&seen);
    fj_str_free(&line);
    return made;
}

static size_t write_text(wg *w, fj_out *o, size_t n) {
    fj_map seen = { 0 };
    size_t made = 0;
    for (size_t i = 0; i < n * 100 && made < n; i++) {
        wg_row r;
        make(w, &r, 2);
        bool fresh = fits(&r, WG_EVAL);
        if (fresh) {
            fj_map_put(&seen, r.text, strlen(r.text), &fresh);
        }
        if (fresh) {
            fj_out_write(o, r.text, strlen(r.text));
            fj_out_write(o, "\n", 1);
            made++;
        }
    }
    fj_map_free(&seen);
    return made;
}

static bool number(const char *s, uint64_t *v) {
    char *end;
    if (*s < '0' || *s > '9') {
        return false;
    }
    *v = strtoull(s, &end, 10);
    return !*end;
}

static fj_out *open_in(const char *dir, const char *name, fj_err *e) {
    char *path = fj_path_join(dir, name);
    fj_out *o = fj_out_open(path, e);
    free(path);
    return o;
}

/* Keep the file, or, when something went wrong before, nothing of it. */
static bool finish(fj_out *o, bool ok, fj_err *e) {
    if (ok) return fj_out_commit(o, e);
    fj_out_abort(o);
    return false;
}

int main(int argc, char **argv) {
    static const char usage[] = "usage: forja-worldgen --out DIR [--rows N] [--seed S]\n";
    const char *dir = NULL;
    uint64_t rows = 20000, seed = 1;
    for (int i = 1; i < argc; i += 2) {
        bool ok = i + 1 < argc;
        if (ok && !strcmp(argv[i], "--out")) {
            dir = argv[i + 1];
        } else if (ok && !strcmp(argv[i], "--rows")) {
            ok = number(argv[i + 1], &rows) && rows > 0 && rows <= 10000000;
        } else if (ok && !strcmp(argv[i], "--seed")) {
            ok = number(argv[i + 1], &seed);
        } else {
            ok = false;
        }
        if (!ok) {
            fputs(usage, stderr);
            return 2;
        }
    }
    if (!dir) {
        fputs(usage, stderr);
        return 2;
    }
    fj_err e = { 0 };
    if (!fj_mkdirs(dir, &e)) {
        fprintf(stderr, "forja-worldgen: %s\n", e.msg);
        return 1;
    }
    uint64_t held = FJ_MAX(rows / 50, 20);
    const struct {
        const char *name;
        int want; /* -1: plain text */
        size_t n;
    } files[] = { { "train.jsonl", WG_TRAIN, (size_t)rows },
                  { "valid.jsonl", WG_VALID, (size_t)FJ_MIN(held, 1000) },
                  { "eval.jsonl", WG_EVAL, (size_t)FJ_MIN(held, 500) },
                  { "general.txt", -1, (size_t)FJ_MIN(held, 300) } };
    for (size_t i = 0; i < FJ_LEN(files); i++) {
        bool train = files[i].want == WG_TRAIN;
        wg w = { 0 };
        fj_rng_seed(&w.rng, fj_rng_at(seed, i));
        outs o = { open_in(dir, files[i].name, &e), NULL, NULL };
        if (o.rows && train) o.text = open_in(dir, "text.jsonl", &e);
        if (o.text) o.bare = open_in(dir, "train.txt", &e);
        bool ok = train ? o.bare != NULL : o.rows != NULL;
        size_t made = 0;
        if (ok)
            made = files[i].want < 0 ? write_text(&w, o.rows, files[i].n)
                                     : write_rows(&w, o, files[i].n, files[i].want);
        ok = finish(o.rows, ok, &e);
        if (train) {
            ok = finish(o.text, ok, &e);
            ok = finish(o.bare, ok, &e);
        }
        fj_arena_free(&w.a);
        if (!ok) {
            fprintf(stderr, "forja-worldgen: %s\n", e.msg);
            return 1;
        }
        fprintf(stderr, "%s/%s: %zu rows\n", dir, train ? "{train,text}.jsonl" : files[i].name,
                made);
    }
    return 0;
}
