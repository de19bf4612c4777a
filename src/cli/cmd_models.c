/* cmd_models.c - which architectures there are, under which names, and what they are made of. */
#include "cli/opt.h"
#include "cli/term.h"
#include "models/arch.h"

typedef struct opts {
    bool json;
} opts;
static const opts defaults = { 0 };
static const fj_opt table[] = {
    { .name = "json", .kind = FJ_OPT_FLAG, .at = offsetof(opts, json), .help = "one JSON list" },
    { 0 },
};

static int run(fj_call *c) {
    const opts *o = c->opts;
    json_t *list = json_array();
    fj_table t;
    fj_table_open(&t, 4, "model_type", "GGUF", "models", "features");
    for (int i = 0; fj_archs[i]; i++) {
        const fj_arch *a = fj_archs[i];
        fj_str s = { 0 };
        fj_arch_features(a, &s);
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s}", "model_type", a->hf_type,
                                              "class", a->hf_class, "gguf", a->name, "models",
                                              a->families, "features", s.s));
        fj_table_row(&t, a->hf_type, a->name, a->families, s.s);
        fj_str_free(&s);
    }
    if (!o->json) {
        fj_table_print(&t, stdout, 0);
        json_decref(list);
        return FJ_EXIT_OK;
    }
    fj_table_free(&t);
    fj_print_json(list);
    return FJ_EXIT_OK;
}

const fj_cmd fj_cmd_models = {
    .name = "models",
    .args = "",
    .summary = "List the architectures: model_type of config.json, name in GGUF, features.",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .run = run,
};
