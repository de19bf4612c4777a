/* stories260K against transformers: logits, 200 greedy tokens; from the Hugging
 * Face folder and from the GGUF file of the same weights. */
#include "golden_model.h"

#include <forja/generate.h>

static const char *const places[] = { "models/stories260K/hf",
                                      "models/stories260K/stories260K.gguf" };

static void test_logits(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const char *path = fj_test_shared(places[i]);
        if (!path) skip();
        fj_st *s = golden_open("stories260k/logits.safetensors");
        fj_dev *d = golden_dev();
        fj_model *m = golden_model(d, path, false);
        golden_check_logits(m, NULL, s, "prompt0.", places[i]);
        golden_check_logits(m, NULL, s, "prompt1.", places[i]);
        golden_check_logits(m, NULL, s, "prompt2.", places[i]);
        fj_model_close(m);
        fj_dev_close(d);
        fj_st_close(s);
    }
}

static int32_t best(const float *x, int64_t n) {
    int64_t at = 0;
    for (int64_t i = 1; i < n; i++)
        if (x[i] > x[at]) at = i;
    return (int32_t)at;
}

/* Without a cache: the whole text again for each token. */
static void test_greedy(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const char *path = fj_test_shared(places[i]);
        if (!path) skip();
        fj_st *s = golden_open("stories260k/logits.safetensors");
        fj_dev *d = golden_dev();
        fj_model *m = golden_model(d, path, false);
        int64_t n, steps;
        const int32_t *prompt = golden_i32(s, "greedy.prompt", &n);
        const int32_t *want = golden_i32(s, "greedy.ids", &steps);
        assert_int_equal(steps, 200);
        int32_t ids[256];
        memcpy(ids, prompt, (size_t)n * sizeof *ids);
        float *row = malloc((size_t)m->hp.vocab * sizeof *row);
        for (int64_t k = 0; k < steps; k++) {
            golden_logits(m, NULL, ids, n + k, 1, row);
            ids[n + k] = best(row, m->hp.vocab);
            if (ids[n + k] != want[k])
                fail_msg("%s: greedy token %lld is %d, not %d", places[i], (long long)k, ids[n + k],
                         want[k]);
        }
        free(row);
        fj_model_close(m);
        fj_dev_close(d);
        fj_st_close(s);
    }
}

/* With keys and values in pages, as everybody else generates. */
static void test_greedy_session(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const char *path = fj_test_shared(places[i]);
        if (!path) skip();
        fj_err e = { 0 };
        fj_st *s = golden_open("stories260k/logits.safetensors");
        fj_dev *d = golden_dev();
        fj_model *m = golden_model(d, path, false);
        fj_session *session = fj_session_open(m, 256, &e);
        if (!session) fail_msg("%s", e.msg);
        int64_t n, steps;
        const int32_t *prompt = golden_i32(s, "greedy.prompt", &n);
        const int32_t *want = golden_i32(s, "greedy.ids", &steps);
        fj_sampling p = FJ_SAMPLING_DEFAULT;
        p.max_new_tokens = steps;
        p.ignore_eos = true;
        fj_ids out = { 0 };
        fj_generated g;
        FJ_OK_OR_FAIL(fj_generate(session, prompt, n, &p, NULL, NULL, &out, &g, &e), e);
        assert_int_equal(out.n, steps);
        for (int64_t k = 0; k < steps; k++)
            if (out.p[k] != want[k])
                fail_msg("%s: greedy token %lld is %d, not %d", places[i], (long long)k, out.p[k],
                         want[k]);
        fj_ids_free(&out);
        fj_session_close(session);
        fj_model_close(m);
        fj_dev_close(d);
        fj_st_close(s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_greedy),
        cmocka_unit_test(test_greedy_session),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
