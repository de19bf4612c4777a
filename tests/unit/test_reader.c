/* Rows of weights that stay in their files: given back and read again they are the same, also where the
 * file has them unaligned. */
#include "test_device.h"
#include "test_util.h"

#include "models/reader.h"

/* The folder with one more blank at the end of the header: every tensor lies at an odd address. */
static const char *unaligned(const char *hf) {
    static const char *const files[] = { "config.json", "tokenizer.json", "model.safetensors" };
    const char *dir = fj_test_path("odd");
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    for (size_t i = 0; i < FJ_LEN(files); i++) {
        char *from = fj_path_join(hf, files[i]), *to = fj_path_join(dir, files[i]);
        size_t n;
        char *p = fj_read_file(from, 64 << 20, &n, &e);
        FJ_OK_OR_FAIL(p, e);
        fj_str s = { 0 };
        if (i == 2) {
            uint64_t head;
            memcpy(&head, p, 8);
            uint64_t longer = head + 1 + (head % 2 == 0 ? 0 : 1);
            fj_str_addn(&s, &longer, 8);
            fj_str_addn(&s, p + 8, head);
            for (; head < longer; head++) fj_str_addc(&s, ' ');
            memcpy(&head, p, 8);
            fj_str_addn(&s, p + 8 + head, n - 8 - head);
        } else fj_str_addn(&s, p, n);
        FJ_OK_OR_FAIL(fj_write_file(to, s.s, s.n, &e), e);
        fj_str_free(&s);
        free(p);
        free(from);
        free(to);
    }
    return dir;
}

static void test_done(void **state) {
    (void)state;
    const char *hf = fj_test_shared("models/stories260K/hf");
    if (!hf) skip();
    fj_dev *d = fj_test_dev(1, true);
    const char *dirs[2] = { hf, unaligned(hf) };
    for (int i = 0; i < 2; i++) {
        fj_err e = { 0 };
        fj_model *m = fj_model_listed(d, dirs[i], &e);
        FJ_OK_OR_FAIL(m, e);
        int copied = 0;
        for (int k = 0; k < m->n_w; k++) {
            fj_reader r;
            const fj_weight *w = &m->w[k];
            size_t bytes = (size_t)(w->rows * w->cols) * sizeof(float);
            float *before = malloc(bytes), *after = malloc(bytes);
            FJ_OK_OR_FAIL(fj_reader_open(&r, m, NULL, w, &e), e);
            copied += r.from[0].t.copied;
            FJ_OK_OR_FAIL(fj_reader_rows(&r, FJ_F32, 0, w->rows, before, &e), e);
            fj_reader_done(&r);
            FJ_OK_OR_FAIL(fj_reader_rows(&r, FJ_F32, 0, w->rows, after, &e), e);
            assert_memory_equal(before, after, bytes);
            fj_reader_close(&r);
            free(before);
            free(after);
        }
        assert_int_equal(copied, i == 0 ? 0 : m->n_w);
        fj_model_close(m);
    }
    fj_dev_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_done) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
