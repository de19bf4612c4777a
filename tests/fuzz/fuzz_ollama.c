/* Go templates from anyone: the evaluator of the constructs that Modelfiles get, over two conversations. */
#include "lifecycle/ollama.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char *const talks[] = {
        "[{\"role\": \"user\", \"content\": \"a\"}]",
        "[{\"role\": \"system\", \"content\": \"s\"}, {\"role\": \"user\", \"content\": \"\"},"
        " {\"role\": \"user\", \"content\": \"b\"}, {\"role\": \"assistant\", \"content\": \"c\"}]"
    };
    char *text = fj_strndup((const char *)data, n);
    for (size_t i = 0; i < FJ_LEN(talks); i++) {
        fj_err e = { 0 };
        fj_str out = { 0 };
        json_t *m = json_loads(talks[i], 0, NULL);
        if (!fj_ollama_render(text, m, &out, &e)) FJ_ASSERT(e.code != FJ_OK && e.msg[0]);
        json_decref(m);
        fj_str_free(&out);
    }
    free(text);
    return 0;
}
