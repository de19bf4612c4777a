#include "train/recipe.h"

#include "base/fs.h"
#include "device/device.h"
#include "eval/run.h"
#include "formats/yaml.h"
#include "train/recipe_keys.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

/* ---- the table -------------------------------------------------------------------------------- */
static const char *const methods[] = { "lora", "full", NULL };
static const char *const scheds[] = { "linear", "constant", "cosine", NULL };
static const char *const inits[] = { "true", "gaussian", NULL };
static const char *const on_spike[] = { "stop", "skip", "rewind", NULL };
static const char *const autos[] = { "auto", "true", "false", NULL };
static const char *const templates[] = { "auto", "chatml", "raw", NULL };
static const char *const devices[] = { "auto", "cpu", "cuda", "cuda:N", NULL };
static const char *const truncations[] = { "drop", "keep_start", "error", NULL };
static const char *const exports[] = { "f32",   "f16",  "bf16", "q8_0", "q4_0",
                                       "mxfp4", "q4_k", "q6_k", NULL };
static const char *const formats[] = { "auto",   "alpaca", "sharegpt", "messages",
                                       "prompt", "text",   NULL };

#define AT(f) offsetof(fj_recipe, f)
#define FREE FJ_KEY_FREE
const fj_key fj_recipe_keys[] = {
    /* name, type, place, low, high, default, choices, flags, also known as, help */
    { "base", FJ_KEY_PATH, AT(base), 0, 0, NULL, NULL, 0,
      "model base_model model_name model_name_or_path",
      "the model to start from: a GGUF file or a Hugging Face folder" },
    { "data", FJ_KEY_PATHS, AT(data), 0, 0, NULL, NULL, 0,
      "dataset dataset_name train_data train_file datasets",
      "training data: a file or a list of files (.jsonl, .json, .txt, also .gz and .zst)" },
    { "data_format", FJ_KEY_CHOICE, AT(data_format), 0, 0, "auto", formats, 0,
      "dataset_format format", "shape of the rows; auto finds it for each file" },
    { "eval_data", FJ_KEY_PATHS, AT(eval_data), 0, 0, NULL, NULL, 0,
      "eval_dataset eval_file validation_file", "data to measure on, before and after" },
    { "eval_split", FJ_KEY_FLOAT, AT(eval_split), 0, 0.9, "0", NULL, 0,
      "val_size test_size val_set_size validation_split",
      "share of `data` kept apart to measure on, when there is no eval_data" },
    { "general_data", FJ_KEY_PATHS, AT(general_data), 0, 0, NULL, NULL, 0, "forgetting_data",
      "general text on which forgetting is measured" },
    { "output_dir", FJ_KEY_PATH, AT(output_dir), 0, 0, NULL, NULL, FREE, "output out run_dir",
      "the run folder; default runs/<run_name>-<time>" },
    { "run_name", FJ_KEY_STR, AT(run_name), 0, 0, NULL, NULL, FREE, "name",
      "name of the run; default the recipe's file name" },
    { "method", FJ_KEY_CHOICE, AT(method), 0, 0, "lora", methods, 0, "finetuning_type adapter",
      "lora: train an adapter; full: train every weight" },
    { "lora_r", FJ_KEY_INT, AT(lora_r), 1, 4096, "8", NULL, 0, "r rank lora_rank",
      "rank of the adapter" },
    { "lora_alpha", FJ_KEY_FLOAT, AT(lora_alpha), 1e-6, 1e6, "16", NULL, 0, "alpha",
      "the adapter is scaled by lora_alpha / lora_r" },
    { "lora_dropout", FJ_KEY_FLOAT, AT(lora_dropout), 0, 0.95, "0", NULL, 0, "dropout",
      "share of the adapter's input set to zero in training" },
    { "target_modules", FJ_KEY_STRS, AT(target_modules), 0, 0, "all-linear", NULL, 0,
      "lora_target lora_target_modules lora_target_linear",
      "all-linear, or a list of modules such as [q_proj, v_proj]; an expression has to match the whole path" },
    { "exclude_modules", FJ_KEY_STRS, AT(exclude_modules), 0, 0, NULL, NULL, 0, "lora_exclude",
      "modules left out of target_modules, named in the same way" },
    { "layers_to_transform", FJ_KEY_INTS, AT(layers_to_transform), 0, 1 << 20, NULL, NULL, 0,
      "layers lora_layers peft_layers_to_transform",
      "adapters in these layers alone, counted from 0" },
    { "rank_pattern", FJ_KEY_TABLE, AT(rank_pattern), 1, 4096, NULL, NULL, 0, "",
      "other ranks, by the end of a module's path or an expression: {down_proj: 16}" },
    { "alpha_pattern", FJ_KEY_TABLE, AT(alpha_pattern), 1e-6, 1e6, NULL, NULL, 0, "",
      "other alphas, in the same way" },
    { "init_lora_weights", FJ_KEY_CHOICE, AT(init_lora_weights), 0, 0, "true", inits, 0,
      "init_lora init_weights",
      "first values of A: true: uniform, as a linear layer of PyTorch; gaussian: normal with deviation 1 / lora_r" },
    { "loraplus_lr_ratio", FJ_KEY_FLOAT, AT(loraplus_lr_ratio), 1e-3, 1e4, "1", NULL, 0,
      "lora_plus loraplus lora_plus_lr_ratio",
      "LoRA+: B learns with learning_rate times this; 16 is what its paper uses" },
    { "use_rslora", FJ_KEY_BOOL, AT(use_rslora), 0, 0, "false", NULL, 0, "rslora",
      "scale by lora_alpha / sqrt(lora_r) instead" },
    { "init_adapter", FJ_KEY_PATH, AT(init_adapter), 0, 0, NULL, NULL, 0,
      "adapter_name_or_path lora_model_dir", "adapter (PEFT folder) to go on from" },
    { "max_length", FJ_KEY_INT, AT(max_length), 2, 1 << 20, "1024", NULL, 0,
      "max_seq_length max_seq_len sequence_len cutoff_len seq_len block_size context_length",
      "tokens of the longest sample" },
    { "truncation", FJ_KEY_CHOICE, AT(truncation), 0, 0, "drop", truncations, 0, "truncate",
      "a conversation over max_length is dropped, cut at its end, or an error; it is always reported" },
    { "skip_bad_rows", FJ_KEY_BOOL, AT(skip_bad_rows), 0, 0, "false", NULL, 0, "ignore_errors",
      "leave out rows that cannot be used, and report them, instead of stopping" },
    { "packing", FJ_KEY_BOOL, AT(packing), 0, 0, "true", NULL, 0, "pack sample_packing",
      "fill each batch up to per_device_train_batch_size * max_length tokens; samples never see each other" },
    { "chat_template", FJ_KEY_PATH, AT(chat_template), 0, 0, "auto", templates, 0, "template",
      "how conversations become text; auto: the model's own template, else what its vocabulary has tokens for; a file with a Jinja template" },
    { "chat_template_kwargs", FJ_KEY_STR, AT(chat_template_kwargs), 0, 0, NULL, NULL, FJ_KEY_JSON,
      "template_kwargs", "variables for the chat template, such as {enable_thinking: false}" },
    { "chat_template_date", FJ_KEY_STR, AT(chat_template_date), 0, 0, NULL, NULL, 0, "date_string",
      "the day, such as 2026-01-31, that a chat template with strftime_now prints; default the day on which the run begins" },
    { "system_prompt", FJ_KEY_STR, AT(system_prompt), 0, 0, NULL, NULL, 0, "system",
      "system message for rows that have none" },
    { "per_device_train_batch_size", FJ_KEY_INT, AT(batch), 1, 65536, "4", NULL, 0,
      "batch_size batch micro_batch_size train_batch_size",
      "samples in a micro-batch (of max_length tokens, when packing)" },
    { "gradient_accumulation_steps", FJ_KEY_INT, AT(accum), 1, 65536, "1", NULL, 0,
      "grad_accum accumulation_steps accumulate_grad_batches",
      "micro-batches in a step; the loss does not depend on the division" },
    { "num_train_epochs", FJ_KEY_FLOAT, AT(epochs), 1e-6, 1e6, "1", NULL, 0, "epochs num_epochs",
      "how often the data is gone through" },
    { "max_steps", FJ_KEY_INT, AT(max_steps), -1, 1 << 30, "-1", NULL, 0, "steps iters",
      "stop after so many steps, over any number of epochs; -1: by num_train_epochs" },
    { "learning_rate", FJ_KEY_FLOAT, AT(learning_rate), 0, 100, NULL, NULL, 0, "lr",
      "peak learning rate; default 0.0002 for lora, 0.00002 for full" },
    { "lr_scheduler_type", FJ_KEY_CHOICE, AT(lr_scheduler_type), 0, 0, "linear", scheds, 0,
      "lr_scheduler scheduler schedule", "course of the learning rate after warm-up" },
    { "warmup_steps", FJ_KEY_INT, AT(warmup_steps), 0, 1 << 30, "0", NULL, 0, "warmup",
      "steps over which the learning rate rises from 0" },
    { "warmup_ratio", FJ_KEY_FLOAT, AT(warmup_ratio), 0, 1, "0", NULL, 0, "",
      "the same as a share of all steps" },
    { "weight_decay", FJ_KEY_FLOAT, AT(weight_decay), 0, 10, "0", NULL, 0, "wd",
      "decoupled weight decay of AdamW" },
    { "adam_beta1", FJ_KEY_FLOAT, AT(adam_beta1), 0, 0.999999, "0.9", NULL, 0, "beta1",
      "AdamW: mean of gradients" },
    { "adam_beta2", FJ_KEY_FLOAT, AT(adam_beta2), 0, 0.999999, "0.999", NULL, 0, "beta2",
      "AdamW: mean of their squares" },
    { "adam_epsilon", FJ_KEY_FLOAT, AT(adam_epsilon), 1e-30, 1, "1e-08", NULL, 0,
      "eps epsilon adam_eps", "AdamW: added to the root" },
    { "max_grad_norm", FJ_KEY_FLOAT, AT(max_grad_norm), 0, 1e9, "1", NULL, 0,
      "grad_clip gradient_clipping clip", "gradients are scaled down to this norm; 0: never" },
    { "on_spike", FJ_KEY_CHOICE, AT(on_spike), 0, 0, "stop", on_spike, FREE, "",
      "a step whose loss or gradient is not finite, or leaps: stop the run; skip the step; or rewind to the last checkpoint, where there is one, and skip from there to behind it; its rows and tokens are kept in any case" },
    { "spike_threshold", FJ_KEY_FLOAT, AT(spike_threshold), 0, 1e9, "0", NULL, FREE,
      "loss_watchdog_threshold",
      "a gradient norm over this many times the median of the last 100 steps is a leap; 0: none is" },
    { "early_stopping_patience", FJ_KEY_INT, AT(early_stopping_patience), 0, 1 << 30, "0", NULL,
      FREE, "early_stopping early_stopping_steps patience",
      "end after so many evaluations without a better loss; 0: never" },
    { "early_stopping_threshold", FJ_KEY_FLOAT, AT(early_stopping_threshold), 0, 1e6, "0", NULL,
      FREE, "min_delta", "a loss is better when it is lower by more than this" },
    { "target_eval_loss", FJ_KEY_FLOAT, AT(target_eval_loss), 0, 1e6, "0", NULL, FREE,
      "target_loss", "end when the evaluation loss is this or lower; 0: no target" },
    { "load_best_model_at_end", FJ_KEY_BOOL, AT(load_best_model_at_end), 0, 0, "false", NULL, FREE,
      "load_best save_best",
      "what is kept in the end is the best evaluation's, not the last step's" },
    { "eval_steps", FJ_KEY_INT, AT(eval_steps), 0, 1 << 30, "0", NULL, 0, "eval_every",
      "evaluate every so many steps; 0: at the end of each epoch" },
    { "save_steps", FJ_KEY_INT, AT(save_steps), 0, 1 << 30, "0", NULL, FREE, "save_every",
      "checkpoint every so many steps; 0: after each evaluation" },
    { "save_total_limit", FJ_KEY_INT, AT(save_total_limit), 1, 100000, "2", NULL, FREE,
      "keep_checkpoints", "checkpoints kept, besides the best" },
    { "logging_steps", FJ_KEY_INT, AT(logging_steps), 1, 1 << 30, "1", NULL, FREE, "log_every",
      "a line in metrics.jsonl every so many steps" },
    { "seed", FJ_KEY_INT, AT(seed), 0, 9007199254740992.0, "42", NULL, 0, "random_seed",
      "of everything drawn at random" },
    { "device", FJ_KEY_STR, AT(device), 0, 0, "auto", devices, FREE,
      "device_map accelerator use_cpu no_cuda",
      "where it is computed; auto: the first GPU that can be used, else the CPU; cuda:N: GPU N" },
    { "threads", FJ_KEY_INT, AT(threads), 0, 4096, "0", NULL, FREE,
      "num_threads n_threads num_proc",
      "threads; 0: as many as this process may use; the numbers do not depend on it" },
    { "f32", FJ_KEY_BOOL, AT(f32), 0, 0, "false", NULL, 0, "fp32 float32",
      "compute everything in f32, for comparisons" },
    { "gradient_checkpointing", FJ_KEY_CHOICE, AT(gradient_checkpointing), 0, 0, "auto", autos,
      FREE, "recompute",
      "compute activations again instead of keeping them; auto: as far as max_memory asks for it" },
    { "max_memory", FJ_KEY_SIZE, AT(max_memory), 0, 1e18, "0", NULL, FREE, "memory_limit",
      "memory of the device that the run may plan for, such as 4GiB; 0: nine tenths of the machine's, 95 % of a GPU's" },
    { "no_eval", FJ_KEY_BOOL, AT(no_eval), 0, 0, "false", NULL, 0, "skip_eval",
      "train without measuring; it is recorded" },
    { "eval_max_rows", FJ_KEY_INT, AT(eval_max_rows), 0, 1 << 30, "0", NULL, 0, "max_eval_samples",
      "rows of the evaluation set used; 0: all" },
    { "eval_max_new_tokens", FJ_KEY_INT, AT(eval_max_new_tokens), 1, 1 << 20, "64", NULL, 0,
      "max_new_tokens generation_max_length", "tokens of an answer when answers are compared" },
    { "export_gguf", FJ_KEY_PATH, AT(export_gguf), 0, 0, NULL, NULL, FREE, "gguf",
      "with method: full: write the model to this GGUF file at the end" },
    { "export_type", FJ_KEY_CHOICE, AT(export_type), 0, 0, "f16", exports, FREE, "quantization",
      "number format of export_gguf" },
};
const int fj_recipe_n_keys = (int)FJ_LEN(fj_recipe_keys);
_Static_assert(FJ_LEN(fj_recipe_keys) <= FJ_RECIPE_KEYS_MAX, "fj_recipe.set is too short");

/* ---- reading ---------------------------------------------------------------------------------- */
/* Where a value stands, for messages and for relative paths. */
typedef struct fj_place {
    const char *name;   /* file, or "override" */
    size_t line;        /* 0: none */
    const char *folder; /* absolute */
} fj_place;

static bool fail_at(const fj_place *at, fj_err *e, const char *fmt, ...) FJ_PRINTF(3, 4);
static bool fail_at(const fj_place *at, fj_err *e, const char *fmt, ...) {
    char msg[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(msg, sizeof msg, fmt, ap);
    va_end(ap);
    if (at->line) return fj_fail(e, FJ_EINVAL, "%s:%zu: %s", at->name, at->line, msg);
    return fj_fail(e, FJ_EINVAL, "%s: %s", at->name, msg);
}

static const char *absolute(fj_recipe *r, const fj_place *at, const char *path) {
    if (*path == '/') return fj_arena_strdup(&r->arena, path);
    if (path[0] == '~' && path[1] == '/') {
        const char *home = getenv("HOME");
        if (home && *home == '/') return fj_arena_printf(&r->arena, "%s%s", home, path + 1);
    }
    while (!strncmp(path, "./", 2)) path += 2;
    size_t n = strlen(at->folder);
    return fj_arena_printf(&r->arena, "%s%s%s", at->folder, at->folder[n - 1] == '/' ? "" : "/",
                           path);
}

static bool text(fj_recipe *r, const fj_key *k, const fj_place *at, const fj_yaml *y,
                 const char **out, fj_err *e) {
    if (y->kind != FJ_YAML_SCALAR) return fail_at(at, e, "%s: expected text", k->name);
    bool path = k->type == FJ_KEY_PATH || k->type == FJ_KEY_PATHS;
    if (path && !*y->text) return fail_at(at, e, "%s: expected a path, found nothing", k->name);
    /* Where there are words to choose from, one without / and dot is a word. */
    bool word = k->choices && !strchr(y->text, '/') && !strchr(y->text, '.');
    *out = path && !word ? absolute(r, at, y->text) : fj_arena_strdup(&r->arena, y->text);
    return true;
}

static bool texts(fj_recipe *r, const fj_key *k, const fj_place *at, const fj_yaml *y, fj_strs *out,
                  fj_err *e) {
    bool list = y->kind == FJ_YAML_LIST;
    size_t count = list ? y->n : 1;
    if (count < 1 || count > 10000)
        return fail_at(at, e, "%s: expected one or more names", k->name);
    out->s = fj_arena_alloc(&r->arena, count * sizeof *out->s);
    out->n = 0;
    for (size_t i = 0; i < count; i++) {
        const fj_yaml *item = list ? y->item[i] : y;
        if (fj_yaml_is_null(item)) return fail_at(at, e, "%s: an entry is empty", k->name);
        if (!text(r, k, at, item, &out->s[i], e)) return false;
        out->n++;
    }
    return true;
}

/* Decimal only, the whole of s; the C library would take hex, inf and nan too. */
static bool number(const char *s, double *v) {
    if (!*s || strspn(s, "0123456789+-.eE") != strlen(s)) return false;
    char *end;
    *v = strtod(s, &end);
    return !*end && isfinite(*v);
}

static bool size_of(const char *s, double *v) {
    static const struct {
        const char *unit;
        double bytes;
    } units[] = { { "", 1 },
                  { "B", 1 },
                  { "KiB", 1024.0 },
                  { "MiB", 1048576.0 },
                  { "GiB", 1073741824.0 },
                  { "TiB", 1099511627776.0 },
                  { "KB", 1e3 },
                  { "MB", 1e6 },
                  { "GB", 1e9 },
                  { "TB", 1e12 },
                  { "K", 1024.0 },
                  { "M", 1048576.0 },
                  { "G", 1073741824.0 },
                  { "T", 1099511627776.0 } };
    char digits[40];
    size_t n = strspn(s, "0123456789.");
    if (n == 0 || n >= sizeof digits) return false;
    memcpy(digits, s, n);
    digits[n] = 0;
    if (!number(digits, v)) return false;
    const char *unit = s + n;
    while (*unit == ' ') unit++;
    for (size_t i = 0; i < FJ_LEN(units); i++)
        if (!strcmp(unit, units[i].unit)) {
            *v *= units[i].bytes;
            return true;
        }
    return false;
}

void fj_key_wants(const fj_key *k, char *buf, size_t n) {
    fj_str s = { 0 };
    switch (k->type) {
    case FJ_KEY_INT: fj_str_addf(&s, "a whole number from %.0f to %.0f", k->low, k->high); break;
    case FJ_KEY_FLOAT: fj_str_addf(&s, "a number from %g to %g", k->low, k->high); break;
    case FJ_KEY_SIZE: fj_str_add(&s, "a size such as 4GiB or 500MB, or 0"); break;
    case FJ_KEY_BOOL: fj_str_add(&s, "true or false"); break;
    case FJ_KEY_CHOICE:
    case FJ_KEY_STR:
        for (int i = 0; k->choices && k->choices[i]; i++)
            fj_str_addf(&s, "%s%s", i == 0 ? "" : k->choices[i + 1] ? ", " : " or ", k->choices[i]);
        if (!k->choices) fj_str_add(&s, "text");
        break;
    case FJ_KEY_PATH:
        for (int i = 0; k->choices && k->choices[i]; i++) fj_str_addf(&s, "%s, ", k->choices[i]);
        fj_str_add(&s, k->choices ? "or a path" : "a path");
        break;
    case FJ_KEY_PATHS: fj_str_add(&s, "a path or a list of paths"); break;
    case FJ_KEY_STRS: fj_str_add(&s, "a name or a list of names"); break;
    case FJ_KEY_INTS:
        fj_str_addf(&s, "a whole number or a list of them, from %.0f to %.0f", k->low, k->high);
        break;
    case FJ_KEY_TABLE: fj_str_add(&s, "a table of names and numbers"); break;
    }
    snprintf(buf, n, "%s", s.s);
    fj_str_free(&s);
}

static bool wrong(const fj_key *k, const fj_place *at, const char *found, fj_err *e) {
    char wants[200];
    fj_key_wants(k, wants, sizeof wants);
    return fail_at(at, e, "%s wants %s, not \"%.60s\"", k->name, wants, found);
}

static bool whole_in(const fj_key *k, double v) {
    return v >= k->low && v <= k->high && v == floor(v);
}

static bool ints(fj_recipe *r, const fj_key *k, const fj_place *at, const fj_yaml *y, fj_ints *out,
                 fj_err *e) {
    bool list = y->kind == FJ_YAML_LIST;
    size_t count = list ? y->n : 1;
    if (count < 1 || count > 10000 || y->kind == FJ_YAML_MAP)
        return wrong(k, at, y->kind == FJ_YAML_MAP ? "a table" : "an empty list", e);
    *out = (fj_ints){ fj_arena_alloc(&r->arena, count * sizeof *out->v), (int)count };
    for (size_t i = 0; i < count; i++) {
        const fj_yaml *item = list ? y->item[i] : y;
        double v;
        if (item->kind != FJ_YAML_SCALAR || !number(item->text, &v) || !whole_in(k, v))
            return wrong(k, at, item->kind == FJ_YAML_SCALAR ? item->text : "a list in a list", e);
        out->v[i] = (int)v;
    }
    return true;
}

static bool table(fj_recipe *r, const fj_key *k, const fj_place *at, const fj_yaml *y,
                  fj_patterns *out, fj_err *e) {
    if (y->kind != FJ_YAML_MAP || y->n > 10000)
        return wrong(k, at, y->kind == FJ_YAML_SCALAR ? y->text : "a list", e);
    bool whole = floor(k->low) == k->low && k->low >= 1;
    *out = (fj_patterns){ fj_arena_alloc(&r->arena, (y->n + 1) * sizeof *out->p), (int)y->n };
    for (size_t i = 0; i < y->n; i++) {
        const fj_yaml *item = y->item[i];
        const char *name = y->key[i]->text;
        double v;
        bool ok = item->kind == FJ_YAML_SCALAR && number(item->text, &v) && v >= k->low &&
                  v <= k->high && (!whole || v == floor(v));
        if (!ok)
            return fail_at(at, e, "%s: \"%.60s\" wants a %snumber from %g to %g, not \"%.60s\"",
                           k->name, name, whole ? "whole " : "", k->low, k->high,
                           item->kind == FJ_YAML_SCALAR ? item->text : "a list");
        fj_err why = { 0 };
        if (!fj_peft_name_ok(name, k->name, &why)) return fail_at(at, e, "%s", why.msg);
        out->p[i] = (fj_peft_pattern){ fj_arena_strdup(&r->arena, name), v };
    }
    return true;
}

/* A table of YAML as JSON: what is not quoted and reads as a number, true, false or null is that. */
static void as_json(fj_str *s, const fj_yaml *y) {
    if (y->kind == FJ_YAML_SCALAR) {
        static const char *const words[] = { "true", "false", "null" };
        double v;
        bool bare = !y->quoted && number(y->text, &v) && y->text[0] != '+' && y->text[0] != '.';
        for (size_t i = 0; !y->quoted && i < FJ_LEN(words); i++)
            bare = bare || !strcmp(y->text, words[i]);
        json_t *j = bare ? json_loads(y->text, JSON_DECODE_ANY, NULL) : NULL;
        if (!j) j = json_string(y->text);
        char *text = j ? json_dumps(j, JSON_ENCODE_ANY) : NULL;
        fj_str_add(s, text ? text : "null");
        free(text);
        json_decref(j);
        return;
    }
    bool map = y->kind == FJ_YAML_MAP;
    fj_str_addc(s, map ? '{' : '[');
    for (size_t i = 0; i < y->n; i++) {
        if (i) fj_str_add(s, ", ");
        if (map) {
            json_t *key = json_string(y->key[i]->text);
            char *text = key ? json_dumps(key, JSON_ENCODE_ANY) : NULL;
            fj_str_addf(s, "%s: ", text ? text : "\"\"");
            free(text);
            json_decref(key);
        }
        as_json(s, y->item[i]);
    }
    fj_str_addc(s, map ? '}' : ']');
}

static bool json_ok(const char *text) {
    json_t *j = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    bool ok = json_is_object(j);
    json_decref(j);
    return ok;
}

static bool assign(fj_recipe *r, const fj_key *k, const fj_place *at, const fj_yaml *y, fj_err *e) {
    char *field = (char *)r + k->offset;
    bool pointer = k->type == FJ_KEY_STR || k->type == FJ_KEY_PATH;
    bool list = k->type == FJ_KEY_PATHS || k->type == FJ_KEY_STRS;
    if (fj_yaml_is_null(y)) {
        if (k->def) return wrong(k, at, "nothing", e);
        if (pointer) *(const char **)field = NULL;
        else if (list) *(fj_strs *)field = (fj_strs){ 0 };
        else if (k->type == FJ_KEY_INTS) *(fj_ints *)field = (fj_ints){ 0 };
        else if (k->type == FJ_KEY_TABLE) *(fj_patterns *)field = (fj_patterns){ 0 };
        r->set[k - fj_recipe_keys] = false;
        return true;
    }
    r->set[k - fj_recipe_keys] = true;
    if (list) return texts(r, k, at, y, (fj_strs *)field, e);
    if (k->type == FJ_KEY_INTS) return ints(r, k, at, y, (fj_ints *)field, e);
    if (k->type == FJ_KEY_TABLE) return table(r, k, at, y, (fj_patterns *)field, e);
    if ((k->flags & FJ_KEY_JSON) && y->kind == FJ_YAML_MAP) {
        fj_str json = { 0 };
        as_json(&json, y);
        *(const char **)field = fj_arena_strdup(&r->arena, json.s);
        fj_str_free(&json);
        return true;
    }
    if (y->kind != FJ_YAML_SCALAR)
        return wrong(k, at, y->kind == FJ_YAML_LIST ? "a list" : "a table", e);
    if (pointer) return text(r, k, at, y, (const char **)field, e);
    const char *s = y->text;
    double v;
    switch (k->type) {
    case FJ_KEY_BOOL: {
        static const char *const yes[] = { "true", "True", "TRUE", "yes", "on" };
        static const char *const no[] = { "false", "False", "FALSE", "no", "off" };
        for (size_t i = 0; i < FJ_LEN(yes); i++) {
            if (!strcmp(s, yes[i])) return *(bool *)field = true;
            if (!strcmp(s, no[i])) {
                *(bool *)field = false;
                return true;
            }
        }
        return wrong(k, at, s, e);
    }
    case FJ_KEY_CHOICE:
        for (int i = 0; k->choices[i]; i++)
            if (!strcmp(s, k->choices[i])) {
                *(int *)field = i;
                return true;
            }
        return wrong(k, at, s, e);
    case FJ_KEY_FLOAT:
        if (!number(s, &v) || v < k->low || v > k->high) return wrong(k, at, s, e);
        *(double *)field = v;
        return true;
    case FJ_KEY_SIZE:
        if (!size_of(s, &v) || v > k->high) return wrong(k, at, s, e);
        *(int64_t *)field = (int64_t)v;
        return true;
    default: /* INT: a double holds every whole number of the ranges in the table */
        if (!number(s, &v) || !whole_in(k, v)) return wrong(k, at, s, e);
        *(int64_t *)field = (int64_t)v;
        return true;
    }
}

static const fj_key *find(const char *name) {
    for (int i = 0; i < fj_recipe_n_keys; i++)
        if (!strcmp(fj_recipe_keys[i].name, name)) return &fj_recipe_keys[i];
    return NULL;
}

static bool unknown(const fj_place *at, const char *name, fj_err *e) {
    const char *near = fj_key_near(name);
    if (near) return fail_at(at, e, "unknown key \"%.60s\": did you mean %s?", name, near);
    return fail_at(at, e, "unknown key \"%.60s\": `forja train --keys` lists them all", name);
}

static bool put(fj_recipe *r, const char *name, const fj_place *at, const fj_yaml *value,
                bool *seen, fj_err *e) {
    if (!strcmp(name, "export") && value->kind == FJ_YAML_MAP) {
        for (size_t i = 0; i < value->n; i++) {
            const char *s = value->key[i]->text;
            const char *full = !strcmp(s, "gguf")   ? "export_gguf"
                               : !strcmp(s, "type") ? "export_type"
                                                    : NULL;
            fj_place here = *at;
            here.line = (size_t)value->key[i]->line;
            if (!full)
                return fail_at(&here, e, "export: unknown key \"%.60s\": expected gguf or type", s);
            if (!put(r, full, &here, value->item[i], seen, e)) return false;
        }
        return true;
    }
    const fj_key *k = find(name);
    if (!k) return unknown(at, name, e);
    if (seen[k - fj_recipe_keys]) return fail_at(at, e, "%s is said twice", name);
    seen[k - fj_recipe_keys] = true;
    return assign(r, k, at, value, e);
}

static bool read_file_part(fj_recipe *r, const char *s, size_t n, const fj_place *at, fj_err *e) {
    fj_yaml_doc doc;
    if (!fj_yaml_parse(&doc, s, n, at->name, e)) return false;
    const fj_yaml *root = doc.root;
    bool ok = true, seen[FJ_RECIPE_KEYS_MAX] = { false };
    if (root->kind != FJ_YAML_MAP && !fj_yaml_is_null(root))
        ok = fail_at(at, e, "expected `key: value` lines, found %s",
                     root->kind == FJ_YAML_LIST ? "a list" : "text");
    for (size_t i = 0; ok && root->kind == FJ_YAML_MAP && i < root->n; i++) {
        fj_place here = *at;
        here.line = (size_t)root->key[i]->line;
        ok = put(r, root->key[i]->text, &here, root->item[i], seen, e);
    }
    fj_yaml_close(&doc);
    return ok;
}

static bool set_one(fj_recipe *r, const char *key, const char *value, const char *folder,
                    fj_err *e) {
    fj_place at = { "override", 0, folder };
    const fj_key *k = find(key);
    if (!k) return unknown(&at, key, e);
    /* Text is taken as it stands: a prompt with a colon in it need not be quoted twice. */
    if (k->type == FJ_KEY_STR || k->type == FJ_KEY_PATH) {
        bool null = !*value || !strcmp(value, "null");
        fj_yaml y = { .kind = FJ_YAML_SCALAR, .text = null ? "" : value, .quoted = !null };
        return assign(r, k, &at, &y, e);
    }
    fj_yaml_doc doc;
    if (!fj_yaml_parse(&doc, value, strlen(value), key, e)) return fj_wrap(e, "override");
    bool ok = assign(r, k, &at, doc.root, e);
    fj_yaml_close(&doc);
    return ok;
}

static bool override(fj_recipe *r, const char *said, const char *cwd, fj_err *e) {
    const char *eq = strchr(said, '=');
    fj_place at = { "override", 0, cwd };
    if (!eq || eq == said) return fail_at(&at, e, "expected key=value, found \"%.60s\"", said);
    char key[80];
    snprintf(key, sizeof key, "%.*s", (int)FJ_MIN(eq - said, 79), said);
    return set_one(r, key, eq + 1, cwd, e);
}

/* ---- what keys say about each other ----------------------------------------------------------- */
bool fj_recipe_said(const fj_recipe *r, const char *key) {
    return r->set[find(key) - fj_recipe_keys];
}

static bool modules(const fj_recipe *r, const fj_place *at, fj_err *e) {
    const struct {
        const char *key;
        bool set,
            new_only; /* new_only: of an adapter that is made, not of one that is gone on with */
    } keys[] = { { "exclude_modules", r->exclude_modules.n > 0, true },
                 { "layers_to_transform", r->layers_to_transform.n > 0, true },
                 { "rank_pattern", r->rank_pattern.n > 0, true },
                 { "alpha_pattern", r->alpha_pattern.n > 0, true },
                 { "init_lora_weights", r->init_lora_weights != FJ_INIT_TRUE, true },
                 { "loraplus_lr_ratio", r->loraplus_lr_ratio != 1, false } };
    const fj_strs *lists[] = { &r->target_modules, &r->exclude_modules };
    for (size_t k = 0; k < FJ_LEN(lists); k++)
        for (int i = 0; i < lists[k]->n; i++) {
            fj_err why = { 0 };
            if (!fj_peft_name_ok(lists[k]->s[i], k ? "exclude_modules" : "target_modules", &why))
                return fail_at(at, e, "%s", why.msg);
            if (!strcmp(lists[k]->s[i], "all-linear") && (k || lists[k]->n > 1))
                return fail_at(at, e,
                               k ? "exclude_modules: all-linear would leave nothing to train"
                                 : "target_modules: all-linear stands alone");
        }
    for (size_t i = 0; i < FJ_LEN(keys); i++) {
        if (!keys[i].set) continue;
        if (r->method == FJ_METHOD_FULL)
            return fail_at(at, e, "%s goes with method: lora, and method is full", keys[i].key);
        if (r->init_adapter && keys[i].new_only)
            return fail_at(at, e,
                           "%s is for a new adapter, and init_adapter names one that is there: "
                           "take one of them away",
                           keys[i].key);
    }
    return true;
}

static bool check(fj_recipe *r, const char *name, fj_err *e) {
    fj_place at = { name, 0, "/" };
    if (!r->base)
        return fail_at(&at, e, "base is missing: name a GGUF file or a Hugging Face folder");
    if (!r->data.n) return fail_at(&at, e, "data is missing: name at least one data file");
    if (r->eval_data.n && r->eval_split > 0)
        return fail_at(&at, e,
                       "eval_data and eval_split are both set: measure on a file of its own, "
                       "or on a share of data, not both");
    if (r->warmup_steps > 0 && r->warmup_ratio > 0)
        return fail_at(&at, e, "warmup_steps and warmup_ratio are both set: keep one");
    fj_err why = { 0 };
    if (!fj_dev_known(r->device, &why)) return fail_at(&at, e, "%s", why.msg);
    const struct {
        const char *key;
        bool set;
    } measured[] = { { "early_stopping_patience", r->early_stopping_patience > 0 },
                     { "target_eval_loss", r->target_eval_loss > 0 },
                     { "load_best_model_at_end", r->load_best_model_at_end } };
    for (size_t i = 0; i < FJ_LEN(measured); i++)
        if (measured[i].set && (r->no_eval || (!r->eval_data.n && !(r->eval_split > 0))))
            return fail_at(&at, e, "%s needs evaluations: %s", measured[i].key,
                           r->no_eval ? "no_eval is true" : "set eval_data or eval_split");
    if (r->early_stopping_threshold > 0 && !r->early_stopping_patience)
        return fail_at(&at, e, "early_stopping_threshold goes with early_stopping_patience");
    double noon;
    if (r->chat_template_date && !fj_chat_day(r->chat_template_date, &noon))
        return fail_at(&at, e, "chat_template_date wants a day such as 2026-01-31, not \"%.40s\"",
                       r->chat_template_date);
    if (r->chat_template_kwargs && !json_ok(r->chat_template_kwargs))
        return fail_at(
            &at, e,
            "chat_template_kwargs: expected a table such as {enable_thinking: false}, found %.80s",
            r->chat_template_kwargs);
    if (r->max_steps == 0)
        return fail_at(&at, e, "max_steps is 0: give at least 1, or -1 for epochs");
    if (r->max_steps > 0 && r->warmup_steps > r->max_steps)
        return fail_at(&at, e, "warmup_steps (%lld) is over max_steps (%lld)",
                       (long long)r->warmup_steps, (long long)r->max_steps);
    if (r->method == FJ_METHOD_FULL && r->init_adapter)
        return fail_at(&at, e, "init_adapter goes with method: lora, and method is full");
    if (!r->export_gguf && fj_recipe_said(r, "export_type") && r->export_type != FJ_RECIPE_F16)
        return fail_at(&at, e, "export_type is set and export_gguf names no file");
    if (r->run_name && (!*r->run_name || strchr(r->run_name, '/') || r->run_name[0] == '.'))
        return fail_at(&at, e,
                       "run_name \"%.60s\": expected a name without / that does not begin "
                       "with a dot",
                       r->run_name);
    if (!modules(r, &at, e)) return false;
    if (!fj_recipe_said(r, "learning_rate"))
        r->learning_rate = r->method == FJ_METHOD_FULL ? 2e-5 : 2e-4;
    return true;
}

static void defaults(fj_recipe *r) {
    fj_place at = { "default", 0, "/" };
    for (int i = 0; i < fj_recipe_n_keys; i++) {
        const fj_key *k = &fj_recipe_keys[i];
        if (!k->def) continue;
        fj_err e = { 0 };
        FJ_ASSERT(set_one(r, k->name, k->def, at.folder, &e));
        r->set[i] = false;
    }
}

static const char *folder_of(fj_recipe *r, const char *folder, fj_err *e) {
    if (*folder == '/') return folder;
    char cwd[4096];
    if (!getcwd(cwd, sizeof cwd)) {
        fj_fail_errno(e, "cannot tell the current folder");
        return NULL;
    }
    if (!*folder || !strcmp(folder, ".")) return fj_arena_strdup(&r->arena, cwd);
    return fj_arena_printf(&r->arena, "%s/%s", cwd, folder);
}

/* demo.yaml is the run "demo", and so is demo/recipe.yaml. */
static const char *name_of(fj_recipe *r, const char *file, const char *folder) {
    const char *stem = fj_base_name(file);
    while (*stem == '.') stem++;
    const char *dot = strrchr(stem, '.');
    size_t n = dot ? (size_t)(dot - stem) : strlen(stem);
    const char *parent = fj_base_name(folder);
    if (n == 6 && !memcmp(stem, "recipe", 6) && *parent && *parent != '.')
        return fj_arena_strdup(&r->arena, parent);
    return n ? fj_arena_strndup(&r->arena, stem, n) : "run";
}

bool fj_recipe_parse(fj_recipe *r, const char *text_, size_t n_text, const char *name,
                     const char *folder, const char *const *overrides, int n, fj_err *e) {
    *r = (fj_recipe){ 0 };
    defaults(r);
    r->file = fj_arena_strdup(&r->arena, name);
    const char *from = folder_of(r, folder, e), *cwd = folder_of(r, "", e);
    fj_place at = { name, 0, from };
    bool ok = from && cwd && read_file_part(r, text_, n_text, &at, e);
    for (int i = 0; ok && i < n; i++) ok = override(r, overrides[i], cwd, e);
    if (ok && !r->run_name) r->run_name = name_of(r, name, from);
    ok = ok && check(r, name, e);
    if (!ok) fj_recipe_free(r);
    return ok;
}

bool fj_recipe_load(fj_recipe *r, const char *path, const char *const *overrides, int n,
                    fj_err *e) {
    *r = (fj_recipe){ 0 };
    size_t size;
    char *s = fj_read_file(path, 1 << 20, &size, e);
    if (!s) return false;
    char *folder = fj_strdup(path), *slash = strrchr(folder, '/');
    if (slash) slash[slash == folder] = 0;
    bool ok = fj_recipe_parse(r, s, size, path, slash ? folder : "", overrides, n, e);
    free(folder);
    free(s);
    return ok;
}

bool fj_recipe_set(fj_recipe *r, const char *key, const char *value, fj_err *e) {
    const char *cwd = folder_of(r, "", e);
    return cwd && set_one(r, key, value, cwd, e) && check(r, r->file ? r->file : "recipe", e);
}

void fj_recipe_free(fj_recipe *r) {
    fj_arena_free(&r->arena);
    *r = (fj_recipe){ 0 };
}

bool fj_recipe_gate(const fj_recipe *r, fj_err *e) {
    if (r->no_eval || r->eval_data.n || r->eval_split > 0) return true;
    return fj_fail(
        e, FJ_EGATE,
        "%s: nothing to measure: name an evaluation set (eval_data: FILE), or keep a share of "
        "the data apart (eval_split: 0.1); no_eval: true trains without, and is recorded",
        r->file ? r->file : "recipe");
}

fj_chat *fj_recipe_chat(const fj_recipe *r, const fj_model *m, fj_err *e) {
    fj_eval_opts o = { .chat = r->chat_template, .chat_kwargs = r->chat_template_kwargs };
    if (r->chat_template_date) fj_chat_day(r->chat_template_date, &o.chat_now);
    return fj_eval_chat(m, &o, e);
}

fj_samples_opts fj_recipe_samples(const fj_recipe *r, const fj_chat *chat) {
    return (fj_samples_opts){ .max_length = (int)r->max_length,
                              .truncation = (fj_truncation)r->truncation,
                              .skip_bad_rows = r->skip_bad_rows,
                              .chat = chat,
                              .system_prompt = r->system_prompt };
}

fj_plan_opts fj_recipe_plan(const fj_recipe *r) {
    return (fj_plan_opts){ .packing = r->packing,
                           .batch = (int)r->batch,
                           .max_length = (int)r->max_length,
                           .accum = (int)r->accum,
                           .epochs = r->epochs,
                           .max_steps = r->max_steps,
                           .seed = (uint64_t)r->seed };
}
