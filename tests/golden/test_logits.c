/* stories260K against transformers: logits, 200 greedy tokens, loss and gradients; from the Hugging
 * Face folder and from the GGUF file of the same weights. */
#include "golden_model.h"

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logits),
        cmocka_unit_test(test_greedy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
