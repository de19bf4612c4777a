/* cmd_ops.c - which ops there are, and where they run: the holes are public. */
#include "cli/opt.h"
#include "cli/term.h"
#include "ops/ops.h"

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
    fj_table_open(&t, 5, "op", "gradient", "cpu", "oracle", "cuda");
    for (size_t i = 0; fj_ops[i]; i++) {
        const fj_op *p = fj_ops[i];
        json_t *x = json_object();
        json_object_set_new(x, "name", json_string(p->name));
        json_object_set_new(x, "gradient", json_boolean(p->grad != NULL));
        json_object_set_new(x, "cpu", json_boolean(p->cpu != NULL));
        json_object_set_new(x, "oracle", json_boolean(p->cpu64 != NULL));
        json_object_set_new(x, "cuda", json_boolean(p->cuda != NULL));
        json_array_append_new(list, x);
        fj_table_row(&t, p->name, p->grad ? "yes" : "-", p->cpu ? "yes" : "-",
                     p->cpu64 ? "f64" : "-", p->cuda ? "yes" : "-");
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

const fj_cmd fj_cmd_ops = {
    .name = "ops",
    .args = "",
    .summary = "List the ops of the graph: gradient, CPU, f64 oracle, CUDA in this build.",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .run = run,
};
