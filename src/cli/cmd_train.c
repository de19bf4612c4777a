/* cmd_train.c - one run from a recipe. */
#include "cli/opt.h"
#include "cli/results.h"
#include "cli/talk.h"
#include "train/recipe.h"
#include <forja/train.h>
#include <math.h>

typedef struct opts {
    const char *device;
    bool resume, dry_run, eval, json, keys, markdown;
} opts;
static const opts defaults = { .eval = true };
static const fj_opt table[] = {
    { .name = "resume",
      .letter = 'r',
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, resume),
      .help = "go on with the run in output_dir, from its last whole checkpoint" },
    { .name = "dry-run",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, dry_run),
      .help = "say what would be done: rows, tokens, steps, memory; train and write nothing" },
    { .name = "eval",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, eval),
      .help = "--no-eval trains without a measurement; the run says so" },
    FJ_DEVICE_ROW(offsetof(opts, device), "the recipe's, which is auto where it says nothing"),
    { .name = "keys",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, keys),
      .help = "print every key of a recipe with its meaning and default, and end" },
    { .name = "markdown",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, markdown),
      .help = "with --keys: as the page docs/recipe.md" },
    { .name = "json",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, json),
      .help = "the outcome as one JSON object" },
    { 0 },
};

static void bytes_row(fj_table *t, const char *name, int64_t n) {
    fj_str s = { 0 };
    fj_put_bytes(&s, (double)n);
    fj_table_pair(t, name, "%s (%lld bytes)", s.s, (long long)n);
    fj_str_free(&s);
}

static void print_plan(const fj_train_result *r) {
    fj_table t;
    fj_table_open(&t, 2, "", "");
    fj_table_pair(&t, "device", "%s", r->device);
    fj_table_pair(&t, "trained", "%lld of %lld parameters", (long long)r->trainable,
                  (long long)r->params);
    fj_table_pair(&t, "rows", "%lld rows, %lld samples, %lld too long", (long long)r->rows,
                  (long long)r->samples, (long long)r->too_long);
    fj_table_pair(&t, "evaluation", "%lld samples", (long long)r->eval_samples);
    fj_table_pair(&t, "run", "%lld steps, %lld micro-steps, %lld tokens of which %lld are learned",
                  (long long)r->steps, (long long)r->micro_steps, (long long)r->tokens,
                  (long long)r->learn_tokens);
    bytes_row(&t, "memory", r->planned_bytes);
    bytes_row(&t, "  weights", r->weights_bytes);
    bytes_row(&t, "  optimizer", r->optimizer_bytes);
    bytes_row(&t, "  activations", r->activation_bytes);
    bytes_row(&t, "allowed", r->allowed_bytes);
    fj_table_pair(&t, "recomputed", "%d of %d layers", r->recomputed_layers, r->layers);
    fj_table_print(&t, stdout, 0);
}

static void print_outcome(const fj_train_result *r) {
    fj_str took = { 0 };
    fj_table t;
    fj_put_time(&took, r->seconds);
    fj_table_open(&t, 2, "", "");
    fj_table_pair(&t, "folder", "%s", r->folder);
    fj_table_pair(&t, "steps", "%lld of %lld in %s, %.0f tokens/s", (long long)r->steps_done,
                  (long long)r->steps, took.s, r->tokens_per_s);
    fj_table_pair(&t, "train loss", "%.4f", r->train_loss);
    if (isfinite(r->best_loss) && r->best_step > 0)
        fj_table_pair(&t, "best", "step %lld, loss %.4f", (long long)r->best_step, r->best_loss);
    bytes_row(&t, "peak memory", r->peak_bytes);
    fj_table_print(&t, stdout, 0);
    fj_str_free(&took);
    if (r->measured) {
        fj_eval_result both[2] = { r->base, r->tuned };
        printf("\ntask: ");
        fj_print_results(both, 2);
    }
    if (r->measured_general) fj_print_forgetting(&r->forgetting);
}

static json_t *real(double v) { return isfinite(v) ? json_real(v) : json_null(); }

static json_t *outcome_json(const fj_train_result *r, const char *status) {
    json_t *o = json_object(), *plan = json_object();
    const struct {
        const char *key;
        int64_t v;
    } numbers[] = {
        { "rows", r->rows },
        { "samples", r->samples },
        { "eval_samples", r->eval_samples },
        { "too_long", r->too_long },
        { "tokens", r->tokens },
        { "learn_tokens", r->learn_tokens },
        { "steps", r->steps },
        { "micro_steps", r->micro_steps },
        { "trainable", r->trainable },
        { "parameters", r->params },
        { "planned_bytes", r->planned_bytes },
        { "allowed_bytes", r->allowed_bytes },
        { "weights_bytes", r->weights_bytes },
        { "optimizer_bytes", r->optimizer_bytes },
        { "activation_bytes", r->activation_bytes },
        { "recomputed_layers", r->recomputed_layers },
    };
    for (size_t i = 0; i < FJ_LEN(numbers); i++)
        json_object_set_new(plan, numbers[i].key, json_integer(numbers[i].v));
    json_object_set_new(o, "status", json_string(status));
    json_object_set_new(o, "device", json_string(r->device));
    json_object_set_new(o, "plan", plan);
    if (!*r->folder) return o; /* a dry run has no folder */
    json_object_set_new(o, "folder", fj_json_text(r->folder, strlen(r->folder)));
    json_object_set_new(o, "steps_done", json_integer(r->steps_done));
    json_object_set_new(o, "train_loss", real(r->train_loss));
    json_object_set_new(o, "tokens_per_s", real(r->tokens_per_s));
    json_object_set_new(o, "seconds", real(r->seconds));
    json_object_set_new(o, "peak_bytes", json_integer(r->peak_bytes));
    json_object_set_new(o, "best_step", json_integer(r->best_step));
    json_object_set_new(o, "best_loss", real(r->best_loss));
    json_object_set_new(o, "base", r->measured ? fj_result_json(&r->base) : json_null());
    json_object_set_new(o, "tuned", r->measured ? fj_result_json(&r->tuned) : json_null());
    json_object_set_new(o, "general",
                        r->measured_general ? fj_forgetting_json(&r->forgetting) : json_null());
    return o;
}

static int usage(fj_call *c, const char *why) {
    fj_term_say(c->term, FJ_INFO, "%s", why);
    return FJ_EXIT_USAGE;
}

static int run(fj_call *c) {
    const opts *o = c->opts;
    if (o->keys) {
        char *text = o->markdown ? fj_recipe_markdown() : fj_recipe_help();
        fputs(text, stdout);
        free(text);
        return FJ_EXIT_OK;
    }
    if (o->markdown) return usage(c, "--markdown goes with --keys");
    if (!c->n_args) return usage(c, "wants a recipe: forja train RECIPE.yaml [key=value ...]");
    if (o->resume && o->dry_run) return usage(c, "--resume and --dry-run do not go together");
    for (int i = 1; i < c->n_args; i++)
        if (!strchr(c->args[i], '='))
            return usage(c, "after the recipe come key=value pairs; --keys lists the keys");
    const char *isa = getenv("FORJA_ISA"), **more = fj_alloc((size_t)c->n_args * sizeof *more);
    int n = c->n_args - 1;
    char device[80];
    for (int i = 0; i < n; i++) more[i] = c->args[i + 1];
    if (o->device) {
        snprintf(device, sizeof device, "device=%s", o->device);
        more[n++] = device;
    }
    fj_train_opts to = { .recipe = c->args[0],
                         .overrides = more,
                         .n_overrides = n,
                         .resume = o->resume,
                         .dry_run = o->dry_run,
                         .no_eval = !o->eval,
                         .isa = isa && *isa ? isa : NULL };
    fj_train_result r;
    fj_err e = { 0 };
    fj_term_catch();
    bool ok = fj_train(&to, &c->term->log, &r, &e);
    free(more);
    fj_term_close(c->term);
    bool stopped = !ok && e.code == FJ_ESTOP;
    if (o->json && (ok || stopped))
        fj_print_json(outcome_json(&r, !ok ? "stopped" : o->dry_run ? "planned" : "done"));
    else if (ok && o->dry_run) print_plan(&r);
    else if (ok) print_outcome(&r);
    return ok ? FJ_EXIT_OK : fj_term_fail(c->term, &e);
}

const fj_cmd fj_cmd_train = {
    .name = "train",
    .args = "RECIPE [KEY=VALUE...]",
    .summary = "Fine-tune a model by a recipe: measured before and after.",
    .manual =
        "The recipe is YAML with the names of transformers, peft and trl; KEY=VALUE changes a key for\n"
        "this run. Ctrl-C saves and stops after the micro-step; --resume goes on bit for bit. Without\n"
        "anything to measure with nothing is trained (exit code 3), unless --no-eval says so.\n\n"
        "  forja train recipe.yaml --dry-run\n"
        "  forja train recipe.yaml learning_rate=1e-4 output_dir=runs/two",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .max_args = -1,
    .run = run,
};
