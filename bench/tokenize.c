/* tokenize.c - forja-bench-tokenize: how fast a tokenizer is loaded, and how fast it encodes on one thread.
 *
 *     forja-bench-tokenize TOKENIZER TEXT-FILE
 *
 * Lines out: what, and a number: milliseconds to load; MB/s for the text at once, line by line, and for
 * what has no space in it, 1 MB and 10 MB of it (equal when the time grows with the length alone).
 * Each is the best of several runs, in time of the processor.  tools/golden/tokenize_bench.py runs it beside
 * `tokenizers`. */
#include "base/fs.h"
#include "base/mem.h"
#include "models/source.h"

#include <stdio.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void die(const fj_err *e) {
    fprintf(stderr, "forja-bench-tokenize: %s\n", e->msg);
    exit(1);
}

static fj_tokenizer *load(const char *path, fj_err *e) {
    size_t n = strlen(path);
    if (fj_is_dir(path)) return fj_tokenizer_from_folder(path, e);
    if (n < 5 || strcmp(path + n - 5, ".gguf") != 0) return fj_tokenizer_from_file(path, e);
    fj_source s;
    if (!fj_source_open(&s, path, e)) return NULL;
    fj_tokenizer *t = fj_source_tokenizer(&s, e);
    fj_source_close(&s);
    return t;
}

static void encode(const fj_tokenizer *t, const char *s, size_t n, fj_ids *ids) {
    fj_err e = { 0 };
    fj_ids_clear(ids);
    if (!fj_tokenize(t, s, n, 0, ids, &e)) die(&e);
}

static void whole(const fj_tokenizer *t, const char *s, size_t n, fj_ids *ids) {
    encode(t, s, n, ids);
}

static void by_lines(const fj_tokenizer *t, const char *s, size_t n, fj_ids *ids) {
    for (const char *end = s + n; s < end;) {
        const char *nl = memchr(s, '\n', (size_t)(end - s)), *stop = nl ? nl : end;
        encode(t, s, (size_t)(stop - s), ids);
        s = stop + 1;
    }
}

typedef void (*work_fn)(const fj_tokenizer *t, const char *s, size_t n, fj_ids *ids);

static void measure(const char *what, const fj_tokenizer *t, work_fn work, const char *s, size_t n,
                    int runs) {
    fj_ids ids = { 0 };
    double best = 1e9;
    for (int i = 0; i < runs; i++) {
        double t0 = now();
        work(t, s, n, &ids);
        best = FJ_MIN(best, now() - t0);
    }
    printf("%-16s %10.2f MB/s\n", what, (double)n / best * 1e-6);
    fj_ids_free(&ids);
}

int main(int argc, char **argv) {
    fj_err e = { 0 };
    size_t n;
    if (argc != 3) {
        fprintf(stderr, "usage: forja-bench-tokenize TOKENIZER TEXT-FILE\n");
        return 2;
    }
    double best = 1e9;
    fj_tokenizer *t = NULL;
    for (int i = 0; i < 5; i++) {
        fj_tokenizer_free(t);
        double t0 = now();
        if (!(t = load(argv[1], &e))) die(&e);
        best = FJ_MIN(best, now() - t0);
    }
    printf("%-16s %10.2f ms (%d tokens)\n", "load", best * 1e3, (int)fj_vocab_size(t));
    char *text = fj_read_file(argv[2], (size_t)1 << 30, &n, &e);
    if (!text) die(&e);
    measure("text", t, whole, text, n, 5);
    measure("lines", t, by_lines, text, n, 5);
    size_t big = 10000000, k = 0;
    char *line = fj_alloc(big);
    for (size_t i = 0; k < big; i = i + 1 < n ? i + 1 : 0) {
        char c = text[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (unsigned char)c >= 0x80)
            line[k++] = c;
    }
    measure("no space, 1 MB", t, whole, line, big / 10, 3);
    measure("no space, 10 MB", t, whole, line, big, 2);
    free(line);
    free(text);
    fj_tokenizer_free(t);
    return 0;
}
