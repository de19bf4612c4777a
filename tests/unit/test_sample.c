/* The choice of a token, what makes an answer right, and how sure a share is. */
#include "device/device.h"
#include "engine/sample.h"
#include "eval/score.h"
#include "ops/ops.h"

#include "test_util.h"

#include <math.h>

static const float five[5] = { 1.0f, 3.0f, 2.0f, 3.0f, -1.0f };

static fj_dev *dev;

/* The device's choice for one row, with the penalty for tokens seen [n_seen]. */
static int32_t chosen(const float *l, int32_t n, const fj_sampling *p, const int32_t *seen,
                      int n_seen, fj_rng *r) {
    fj_err e = { 0 };
    float how[FJ_PICK_COLS];
    int32_t bits = 0, id = -1;
    fj_sampling_how(p, r, how);
    for (int i = 0; i < n_seen; i++) bits |= 1 << seen[i];
    fj_graph *g = fj_graph_new();
    fj_buf *mem = NULL;
    fj_tensor *x = fj_input(g, "logits", FJ_F32, 1, n),
              *h = fj_input(g, "how", FJ_F32, 1, FJ_PICK_COLS),
              *s = fj_input(g, "seen", FJ_I32, 1, n_seen ? 1 : 0),
              *y = fj_keep(fj_choose(g, x, h, s));
    FJ_OK_OR_FAIL(fj_dev_prepare(dev, g, &mem, "a test", &e) && fj_tensor_set(x, l, &e) &&
                      fj_tensor_set(h, how, &e) && fj_tensor_set(s, &bits, &e) &&
                      dev->fn->run(dev, g, &e) && fj_tensor_get(y, &id, &e),
                  e);
    dev->fn->free(mem);
    fj_graph_free(g);
    return id;
}

static int32_t draw(const float *l, int32_t n, fj_sampling p, fj_rng *r) {
    return chosen(l, n, &p, NULL, 0, r);
}

static void test_greedy(void **state) {
    (void)state;
    fj_rng r;
    fj_rng_seed(&r, 1);
    fj_rng before = r;
    fj_sampling p = FJ_SAMPLING_DEFAULT;
    assert_int_equal(draw(five, 5, p, &r), 1); /* the lowest id of two equal ones */
    assert_memory_equal(&r, &before, sizeof r);
    p.temperature = 1;
    p.top_k = 1;
    for (int i = 0; i < 20; i++) assert_int_equal(draw(five, 5, p, &r), 1);
    p.top_k = 0;
    p.top_p = 1e-9;
    for (int i = 0; i < 20; i++) assert_int_equal(draw(five, 5, p, &r), 1);
    p.top_p = 1;
    p.min_p = 1;
    for (int i = 0; i < 50; i++) {
        int32_t id = draw(five, 5, p, &r);
        assert_true(id == 1 || id == 3);
    }
}

/* Shares of many draws against softmax of the logits over what top-k, top-p, min-p leave. */
static void check_shares(fj_sampling p, const double *want, fj_rng *r) {
    enum { N = 40000 };
    int count[5] = { 0 };
    for (int i = 0; i < N; i++) count[draw(five, 5, p, r)]++;
    for (int i = 0; i < 5; i++) {
        double sd = sqrt(want[i] * (1 - want[i]) / N);
        assert_true(fabs((double)count[i] / N - want[i]) <= 6 * sd + 1e-12);
    }
}

static void softmax(double t, const int *keep, double *p) {
    double sum = 0;
    for (int i = 0; i < 5; i++) sum += p[i] = keep[i] ? exp((double)five[i] / t) : 0;
    for (int i = 0; i < 5; i++) p[i] /= sum;
}

static void test_shares(void **state) {
    (void)state;
    fj_rng r;
    fj_rng_seed(&r, fj_test_seed());
    double want[5];
    fj_sampling p = FJ_SAMPLING_DEFAULT;
    p.temperature = 1;
    softmax(1, (int[]){ 1, 1, 1, 1, 1 }, want);
    check_shares(p, want, &r);
    p.temperature = 2.5;
    softmax(2.5, (int[]){ 1, 1, 1, 1, 1 }, want);
    check_shares(p, want, &r);
    p.temperature = 1;
    p.top_k = 3;
    softmax(1, (int[]){ 0, 1, 1, 1, 0 }, want);
    check_shares(p, want, &r);
    p.top_k = 0;
    p.top_p = 0.7; /* two of .397 reach it */
    softmax(1, (int[]){ 0, 1, 0, 1, 0 }, want);
    check_shares(p, want, &r);
    p.top_p = 1;
    p.min_p = 0.3; /* e^-1 = .37 of the largest stays, e^-2 goes */
    softmax(1, (int[]){ 0, 1, 1, 1, 0 }, want);
    check_shares(p, want, &r);
}

static void test_penalty(void **state) {
    (void)state;
    fj_sampling p = FJ_SAMPLING_DEFAULT;
    p.repetition_penalty = 2;
    fj_rng r;
    fj_rng_seed(&r, 1);
    /* 3 / 2 < 2, and once only however often a token was there */
    assert_int_equal(chosen(five, 5, &p, (int32_t[]){ 1, 3, 3, 1 }, 4, &r), 2);
    float neg[2] = { -1, -1.5f }; /* below zero the penalty multiplies */
    assert_int_equal(chosen(neg, 2, &p, (int32_t[]){ 0 }, 1, &r), 1);
    assert_int_equal(chosen(neg, 2, &p, (int32_t[]){ 9 }, 1, &r), 0); /* an id of nobody */
}

/* ---- against a plain sort ------------------------------------------------------------------------ */
typedef struct tok {
    float logit;
    int32_t id;
    double p;
} tok;

static int by_logit(const void *a, const void *b) {
    const tok *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : x->id > y->id;
}

/* What ops/sample.c says, the long way.  *near: the draw or a limit is within rounding of a border. */
static int32_t plain(const float *l, int32_t n, const fj_sampling *p, double u, bool *near) {
    tok *c = fj_alloc((size_t)n * sizeof *c);
    for (int32_t i = 0; i < n; i++) c[i] = (tok){ l[i], i, 0 };
    qsort(c, (size_t)n, sizeof *c, by_logit);
    int32_t kept = p->top_k && p->top_k < n ? p->top_k : n, id = c[0].id;
    double sum = 0, part = 0;
    *near = false;
    for (int32_t i = 0; i < kept; i++)
        sum += c[i].p =
            exp(((double)c[i].logit - (double)c[0].logit) / (double)(float)p->temperature);
    if (p->top_p < 1) {
        double want = (double)(float)p->top_p * sum;
        int32_t k = 0;
        while (k < kept && part < want) part += c[k++].p;
        *near = fabs(part - want) < 3e-6 * sum ||
                (k > 0 && fabs(part - c[k - 1].p - want) < 3e-6 * sum);
        kept = k;
    }
    double *w = fj_zalloc((size_t)n * sizeof *w);
    sum = 0;
    for (int32_t i = 0; i < kept; i++)
        if (c[i].p >= (double)(float)p->min_p) sum += w[c[i].id] = c[i].p;
    u *= sum;
    for (int32_t i = 0; i < n; i++) {
        if (w[i] <= 0) continue;
        id = i;
        *near |= fabs(u - w[i]) < 3e-6 * sum;
        if ((u -= w[i]) < 0) break;
        *near |= u < 3e-6 * sum;
    }
    free(w);
    free(c);
    return id;
}

/* Draws of one row by one graph. */
static void same_as_plain(const float *l, int32_t n, fj_sampling p, fj_rng *r, int *compared) {
    enum { DRAWS = 8 };
    fj_err e = { 0 };
    float how[DRAWS][FJ_PICK_COLS];
    int32_t id[DRAWS];
    fj_graph *g = fj_graph_new();
    fj_buf *mem = NULL;
    fj_tensor *x = fj_input(g, "logits", FJ_F32, DRAWS, n),
              *h = fj_input(g, "how", FJ_F32, DRAWS, FJ_PICK_COLS),
              *s = fj_input(g, "seen", FJ_I32, DRAWS, 0), *y = fj_keep(fj_choose(g, x, h, s));
    float *all = fj_alloc((size_t)n * DRAWS * sizeof *all);
    for (int i = 0; i < DRAWS; i++) {
        memcpy(all + (int64_t)i * n, l, (size_t)n * sizeof *l);
        fj_sampling_how(&p, r, how[i]);
    }
    FJ_OK_OR_FAIL(fj_dev_prepare(dev, g, &mem, "a test", &e) && fj_tensor_set(x, all, &e) &&
                      fj_tensor_set(h, how, &e) && dev->fn->run(dev, g, &e) &&
                      fj_tensor_get(y, id, &e),
                  e);
    for (int i = 0; i < DRAWS; i++) {
        bool near;
        int32_t want = plain(l, n, &p, (double)how[i][FJ_PICK_DRAW], &near);
        if (near) continue;
        ++*compared;
        if (id[i] != want)
            fail_msg("%d tokens, T %g k %d p %g min %g draw %.9g: %d, wanted %d", n, p.temperature,
                     p.top_k, p.top_p, p.min_p, (double)how[i][FJ_PICK_DRAW], id[i], want);
    }
    free(all);
    dev->fn->free(mem);
    fj_graph_free(g);
}

/* Vocabularies below, at and over the sizes where the ways part; sharp, flat, tied and masked rows. */
static void test_as_sorted(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    int compared = 0, draws = 0;
    static const int32_t sizes[] = { 1, 2, 127, 128, 129, 300, 5000, 60000 };
    for (size_t k = 0; k < FJ_LEN(sizes); k++)
        for (int kind = 0; kind < 5; kind++) {
            int32_t n = sizes[k];
            float *l = fj_alloc((size_t)n * sizeof *l);
            for (int32_t i = 0; i < n; i++) {
                float z = (float)fj_rng_normal(&r);
                if (kind == 1) z *= 8;
                else if (kind == 2) z = roundf(z * 2);
                else if (kind == 3) z = i % 3 ? z * 3 : -INFINITY;
                else if (kind == 4) z = 1;
                l[i] = z;
            }
            for (int way = 0; way < 10; way++) {
                fj_sampling p = FJ_SAMPLING_DEFAULT;
                p.temperature = way % 2 ? 1 : 0.7;
                if (way >= 2 && way < 6)
                    p.top_k = way == 2 ? 1 : way == 3 ? 40 : way == 4 ? 600 : 4000;
                if (way >= 5 && way < 9) p.top_p = way == 5 ? 0.9 : way == 6 ? 0.95 : 0.5;
                if (way == 4 || way >= 8) p.min_p = way == 9 ? 0.2 : 0.05;
                same_as_plain(l, n, p, &r, &compared);
                draws += 8;
            }
            free(l);
        }
    assert_true(compared > draws * 3 / 4);
}

static void refused(fj_sampling p, const char *word) {
    fj_err e = { 0 };
    assert_false(fj_sampling_check(&p, &e));
    assert_non_null(strstr(e.msg, word));
}

static void test_ranges(void **state) {
    (void)state;
    fj_sampling p = FJ_SAMPLING_DEFAULT;
    assert_true(fj_sampling_check(&p, NULL));
    fj_sampling q = p;
    q.temperature = NAN;
    refused(q, "temperature");
    q = p;
    q.top_p = 0;
    refused(q, "top_p");
    q = p;
    q.min_p = 2;
    refused(q, "min_p");
    q = p;
    q.top_k = -1;
    refused(q, "top_k");
    q = p;
    q.repetition_penalty = 0;
    refused(q, "repetition_penalty");
    const char *empty[] = { "" };
    q = p;
    q.stop = empty;
    q.n_stop = 1;
    refused(q, "stop string 1");
}

static void test_scores(void **state) {
    (void)state;
    fj_err e = { 0 };
    bool hit;
    assert_true(fj_score_exact(" Paris\n", "Paris"));
    assert_true(fj_score_exact("", " \n"));
    assert_false(fj_score_exact("Paris.", "Paris"));
    const char *two[] = { "a", "bc" };
    assert_true(fj_score_contains("xbca", two, 2));
    assert_false(fj_score_contains("xbc", two, 2));
    assert_true(fj_score_regex("Notice: x\ny. Signed: z", "^Notice: .+ Signed: \\w$", &hit, &e) &&
                hit);
    assert_true(fj_score_regex("Note", "^Notice", &hit, &e) && !hit);
    assert_true(fj_score_regex("\xff\xfe", ".", &hit, &e) &&
                !hit); /* not UTF-8: no match, no error */
    assert_false(fj_score_regex("x", "(", &hit, &e));
    assert_non_null(strstr(e.msg, "character"));
    char many[40];
    memset(many, 'a', sizeof many - 1);
    many[sizeof many - 1] = 0;
    assert_false(fj_score_regex(many, "^(a+)+(?=[bc])", &hit, &e)); /* would take 2^n steps */
    assert_non_null(strstr(e.msg, "too many steps"));
}

static void test_rate(void **state) {
    (void)state;
    fj_rate r = { .n = 24, .hit = 20 };
    fj_rate_finish(&r); /* Wilson 1927, worked out apart */
    assert_true(fabs(r.rate - 0.8333333) < 1e-6 && fabs(r.low - 0.6414693) < 1e-6 &&
                fabs(r.high - 0.9332132) < 1e-6);
    r = (fj_rate){ .n = 10, .hit = 0 };
    fj_rate_finish(&r);
    assert_true(r.low == 0 && r.high > 0.25 && r.high < 0.31);
}

int main(void) {
    fj_err e = { 0 };
    dev = fj_dev_open(&(fj_dev_opts){ .threads = 1 }, &e);
    if (!dev) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_greedy),  cmocka_unit_test(test_shares),
        cmocka_unit_test(test_penalty), cmocka_unit_test(test_as_sorted),
        cmocka_unit_test(test_ranges),  cmocka_unit_test(test_scores),
        cmocka_unit_test(test_rate),
    };
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    fj_dev_close(dev);
    return bad;
}
