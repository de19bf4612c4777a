/* golden_archs.h - the files of tests/golden/archs (tools/golden/archs.py): the list of cases, a batch of
 * sequences of different lengths, and gradients by their norm and four projections. */
#ifndef FORJA_GOLDEN_ARCHS_H
#define FORJA_GOLDEN_ARCHS_H

#include "golden_train.h"

#include <errno.h>

#define GOLDEN_GRADIENT 1e-4 /* relative to the norm of the gradient */
#define GOLDEN_SIGNS 1       /* seed of the projections */

/* "archs/NAMEend": one of the turning buffers. */
static FJ_UNUSED const char *archs_path(const char *name, const char *end) {
    char *rel = fj_test_buf();
    snprintf(rel, 1024, "archs/%s%s", name, end);
    return golden_path(rel);
}

static FJ_UNUSED fj_st *archs_open(const char *name) {
    char *rel = fj_test_buf();
    snprintf(rel, 1024, "archs/%s.safetensors", name);
    return golden_open(rel);
}

/* Names of archs/list.txt; they live as long as the process. */
static FJ_UNUSED size_t archs_list(const char **names, size_t cap) {
    static char text[4096];
    const char *path = golden_path("archs/list.txt");
    FILE *f = fopen(path, "r");
    if (!f) {
        fprintf(stderr, "%s: %s (tools/golden/archs.py makes it)\n", path, strerror(errno));
        exit(1);
    }
    text[fread(text, 1, sizeof text - 1, f)] = 0;
    fclose(f);
    size_t n = 0;
    char *rest = NULL;
    for (char *w = strtok_r(text, "\n", &rest); w && n < cap; w = strtok_r(NULL, "\n", &rest))
        names[n++] = w;
    return n;
}

/* The two sequences of the file, each as long as it is; weights as golden_fill. */
static FJ_UNUSED void archs_batch(fj_batch *b, const fj_st *s) {
    int64_t rows, all, n;
    const int32_t *lens = golden_i32(s, "batch.lens", &rows);
    const int32_t *ids = golden_i32(s, "batch.ids", &all),
                  *labels = golden_i32(s, "batch.labels", &n);
    int64_t width = all / rows, learned = 0;
    uint8_t *mask = malloc((size_t)all);
    for (int64_t i = 0; i < all; i++) {
        mask[i] = labels[i] != GOLDEN_IGNORE;
        learned += mask[i] && i % width;
    }
    for (int64_t r = 0; r < rows; r++)
        fj_batch_add_sample(b, ids + r * width, mask + r * width, lens[r], 1.0f / (float)learned);
    free(mask);
}

/* out[0]: the norm; out[1 + j]: the sum with the signs of bit 60 + j of fj_rng_at(GOLDEN_SIGNS, i). */
static FJ_UNUSED void archs_summary(const float *g, int64_t n, double out[5]) {
    memset(out, 0, 5 * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits = fj_rng_at(GOLDEN_SIGNS, (uint64_t)i) >> 60;
        double v = (double)g[i];
        out[0] += v * v;
        for (int j = 0; j < 4; j++) out[1 + j] += bits >> j & 1 ? -v : v;
    }
    out[0] = sqrt(out[0]);
}

/* How far a gradient lies from `name` of the file, relative to its norm: the largest of five numbers.
 * An error vector of length x moves each projection by about x. */
static FJ_UNUSED double archs_apart(const fj_st *s, const char *name, const float *g, int64_t n) {
    int64_t five;
    const float *want = golden_f32(s, name, &five);
    assert_int_equal(five, 5);
    double got[5], worst = 0;
    archs_summary(g, n, got);
    for (int j = 0; j < 5; j++) {
        double d = fabs(got[j] - (double)want[j]) / (double)want[0];
        if (!(d <= worst)) worst = d;
        if (isnan(d)) return d;
    }
    return worst;
}

static FJ_UNUSED int archs_count(const fj_st *s, const char *prefix) {
    int n = 0;
    for (size_t i = 0; i < s->n_tensors; i++)
        n += !strncmp(s->tensors[i].name, prefix, strlen(prefix));
    return n;
}

#endif
