/* templates.c - how many conversations a second one thread renders: `forja-bench-templates [FILE.jinja [ROWS]]`.
 *
 * Without arguments ChatML over conversations of four messages (a system message, a question, an answer, a
 * question; 640 bytes of content), with the generation prompt, from the caller's JSON to text with its
 * provenance.  ROWS: rows as `forja template` reads them.  Best of seven rounds of at least 0.2 s. */
#include "base/fs.h"
#include "text/jinja.h"

#include <stdio.h>
#include <time.h>

static const char chatml[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/* Seconds of this process on its processor: other work on the machine shows less in it. */
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static json_t *talk(int seed) {
    static const char words[] =
        "the moon pulls the sea and the sea pulls back, so the harbour fills twice a day; ";
    static const struct {
        const char *role;
        size_t n;
    } turns[] = { { "system", 80 }, { "user", 160 }, { "assistant", 320 }, { "user", 80 } };
    json_t *list = json_array(), *row = json_object();
    for (size_t i = 0; i < FJ_LEN(turns); i++) {
        fj_str s = { 0 };
        while (s.n < turns[i].n)
            fj_str_addn(&s, words + (seed + (int)s.n) % 40, FJ_MIN(turns[i].n - s.n, (size_t)40));
        json_array_append_new(
            list, json_pack("{s:s, s:s#}", "role", turns[i].role, "content", s.s, (int)s.n));
        fj_str_free(&s);
    }
    json_object_set_new(row, "messages", list);
    json_object_set_new(row, "add_generation_prompt", json_true());
    return row;
}

static size_t render(const fj_jinja *t, const json_t *row, fj_err *e) {
    fj_jinja_var v[32];
    size_t n = 0;
    const char *key;
    json_t *x;
    json_object_foreach((json_t *)(uintptr_t)row, key, x) {
        if (n < FJ_LEN(v))
            v[n++] = (fj_jinja_var){ .name = key, .value = x, .roles = !strcmp(key, "messages") };
    }
    fj_jinja_text out;
    if (!fj_jinja_render(t, v, n, &(fj_jinja_opts){ .now = 1e9 }, &out, NULL, e)) return 0;
    n = out.n;
    fj_jinja_text_free(&out);
    return n;
}

static bool read_rows(const char *path, json_t *rows, fj_err *e) {
    size_t n;
    char *text = fj_read_file(path, (size_t)1 << 30, &n, e);
    json_error_t je;
    for (size_t at = 0; text && at < n;) {
        json_t *row = json_loadb(text + at, n - at, JSON_DISABLE_EOF_CHECK, &je);
        if (!row) break;
        json_array_append_new(rows, row);
        at += (size_t)je.position;
        while (at < n && (text[at] == '\n' || text[at] == ' ')) at++;
    }
    free(text);
    return text != NULL;
}

int main(int argc, char **argv) {
    fj_err e = { 0 };
    size_t n = sizeof chatml - 1, bytes = 0;
    char *own = argc > 1 ? fj_read_file(argv[1], 1 << 22, &n, &e) : NULL;
    json_t *rows = json_array();
    fj_jinja *t = argc > 1 && !own
                      ? NULL
                      : fj_jinja_compile(own ? own : chatml, n, argc > 1 ? argv[1] : "chatml", &e);
    if (argc > 2 && !read_rows(argv[2], rows, &e)) t = NULL;
    for (int i = 0; argc < 3 && i < 64; i++) json_array_append_new(rows, talk(i));
    double best = 0;
    for (int round = 0; t && round < 7; round++) {
        double t0 = now(), s = 0;
        size_t done = 0;
        bytes = 0;
        while ((s = now() - t0) < 0.2)
            for (size_t i = 0; i < json_array_size(rows); i++, done++)
                bytes += render(t, json_array_get(rows, i), &e);
        best = FJ_MAX(best, (double)done / s);
        bytes = done ? bytes / done : 0;
    }
    if (*e.msg) fprintf(stderr, "%s\n", e.msg);
    if (t)
        printf("%s: %.0f conversations/s on one thread, %zu bytes each\n",
               argc > 1 ? argv[1] : "chatml", best, bytes);
    fj_jinja_free(t);
    json_decref(rows);
    free(own);
    return t ? 0 : 1;
}
