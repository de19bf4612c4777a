/* config.json from anyone: strict JSON and the typed getters that a model asks. */
#include "base/mem.h"
#include "formats/hf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char *const keys[] = { "hidden_size",
                                        "rms_norm_eps",
                                        "rope_theta",
                                        "model_type",
                                        "tie_word_embeddings",
                                        "rope_scaling.factor",
                                        "rope_scaling.rope_type",
                                        "architectures",
                                        "eos_token_id",
                                        "a.b.c.d",
                                        "",
                                        "." };
    fj_err e = { 0 };
    json_t *j = fj_json_parse((const char *)data, n, "fuzz", &e);
    FJ_ASSERT(j || (e.code != FJ_OK && e.msg[0]));
    for (size_t i = 0; i < FJ_LEN(keys); i++) {
        int64_t l = 1;
        double x = 1;
        bool b = true;
        const char *s = "";
        e = (fj_err){ 0 };
        bool there = fj_js_find(j, keys[i]) != NULL, ok = fj_js_int_opt(j, "fuzz", keys[i], &l, &e);
        FJ_ASSERT(ok ? there || l == 1 : e.msg[0] != 0);
        FJ_ASSERT(there || !fj_js_int(j, "fuzz", keys[i], &l, &e));
        fj_js_float_opt(j, "fuzz", keys[i], &x, &e);
        fj_js_bool_opt(j, "fuzz", keys[i], &b, &e);
        if (fj_js_string(j, "fuzz", keys[i], &s, &e)) FJ_ASSERT(strlen(s) <= n);
    }
    json_decref(j);
    return 0;
}
