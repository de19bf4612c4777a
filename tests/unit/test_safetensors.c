/* safetensors: what is written is read, files of others are read, and no bytes do harm. */
#include "test_util.h"

#include "formats/safetensors.h"

static void stories(void **state) {
    (void)state;
    const char *path = fj_test_shared("models/stories260K/hf");
    if (!path) skip();
    fj_err e = { 0 };
    fj_st *s = fj_st_open(path, &e);
    FJ_OK_OR_FAIL(s, e);
    assert_int_equal(s->n_tensors, 47);
    assert_string_equal(fj_st_meta(s, "format"), "pt");
    const fj_st_tensor *t = fj_st_get(s, "model.layers.0.mlp.down_proj.weight", &e);
    FJ_OK_OR_FAIL(t, e);
    assert_true(t->n_dims == 2 && t->dim[0] == 64 && t->dim[1] == 172 && t->dtype == FJ_F32);
    fj_st_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stories),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
