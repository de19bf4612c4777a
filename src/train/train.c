/* train.c - the order of a run: recipe, gate, model, data, plan, base measured, steps, tuned measured.
 * Nothing is trained before the base is measured, and nothing is written before all input was read. */
#include "base/cpus.h"
#include "base/fs.h"
#include "formats/json.h"
#include "train/job.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { EXAMPLES = 12 }; /* answers before and after that the report shows */

/* A path that is written only after hours is looked at before them: nothing is made yet. */
static bool can_be_written(const char *key, const char *path, fj_err *e) {
    if (fj_is_dir(path))
        return fj_fail(e, FJ_EINVAL, "%s: %s is a folder: expected the name of a file", key, path);
    char *dir = fj_strdup(path), *slash;
    bool ok = true;
    while ((slash = strrchr(dir, '/')) && slash != dir) { /* the nearest folder that is there */
        *slash = 0;
        if (!fj_exists(dir)) continue;
        if (!fj_is_dir(dir)) ok = fj_fail(e, FJ_EIO, "%s: %s is not a folder", key, dir);
        else if (access(dir, W_OK | X_OK) != 0)
            ok = fj_fail_errno(e, "%s: cannot write in folder %s", key, dir);
        break;
    }
    free(dir);
    return ok;
}

/* The folder of export_gguf, and a file in it that is removed again: some folders let nothing be made in
 * them whatever their bits say. */
static bool make_place(const char *key, const char *path, fj_err *e) {
    char *dir = fj_strdup(path), *slash = strrchr(dir, '/');
    if (slash) slash[slash == dir] = 0;
    fj_out *o = slash && !fj_mkdirs(dir, e) ? NULL : fj_out_open(path, e);
    free(dir);
    if (!o) return fj_wrap(e, "%s", key);
    fj_out_abort(o);
    return true;
}

static bool read_recipe(fj_job *j, fj_err *e) {
    if (!fj_recipe_load(&j->recipe, j->o->recipe, j->o->overrides, j->o->n_overrides, e))
        return false;
    if (j->o->no_eval && !fj_recipe_set(&j->recipe, "no_eval", "true", e)) return false;
    if (!fj_recipe_gate(&j->recipe, e)) return false;
    if (j->recipe.no_eval)
        fj_log_message(j->log, FJ_WARN,
                       "no_eval: nothing will be measured, and the run will say so");
    if (j->recipe.export_gguf && j->recipe.method == FJ_METHOD_LORA)
        return fj_fail(
            e, FJ_EUNSUP,
            "export_gguf writes a whole model and needs method: full; the adapter itself is "
            "always written, in PEFT layout and as adapter.gguf");
    return !j->recipe.export_gguf || can_be_written("export_gguf", j->recipe.export_gguf, e);
}

static bool open_model(fj_job *j, fj_err *e) {
    const fj_recipe *r = &j->recipe;
    bool full = r->method == FJ_METHOD_FULL;
    j->dev = fj_dev_open(&(fj_dev_opts){ .threads = fj_cpus_at_most(r->threads),
                                         .isa = j->o->isa,
                                         .f32 = r->f32,
                                         .device = r->device },
                         e);
    if (!j->dev) return false;
    snprintf(j->r->device, sizeof j->r->device, "%s", fj_dev_about(j->dev));
    j->model = fj_model_open(j->dev, r->base, &(fj_model_opts){ .trainable = full }, j->log, e);
    if (!j->model) return false;
    if (full) return true;
    if (r->init_adapter) {
        j->lora = fj_lora_open(j->model, r->init_adapter, e);
        if (j->lora) j->lora->dropout = r->lora_dropout;
    } else {
        fj_lora_opts o = { .r = (int)r->lora_r,
                           .alpha = r->lora_alpha,
                           .dropout = r->lora_dropout,
                           .rslora = r->use_rslora,
                           .targets = r->target_modules.s,
                           .n_targets = r->target_modules.n,
                           .exclude = r->exclude_modules.s,
                           .n_exclude = r->exclude_modules.n,
                           .layers = r->layers_to_transform.v,
                           .n_layers = r->layers_to_transform.n,
                           .rank_pattern = r->rank_pattern.p,
                           .n_rank_pattern = (size_t)r->rank_pattern.n,
                           .alpha_pattern = r->alpha_pattern.p,
                           .n_alpha_pattern = (size_t)r->alpha_pattern.n,
                           .gaussian = r->init_lora_weights == FJ_INIT_GAUSSIAN,
                           .seed = (uint64_t)r->seed };
        j->lora = fj_lora_new(j->model, &o, e);
    }
    return j->lora != NULL;
}

/* What a run saves is the same on every kind of device, and its numbers are within rounding: the manifest
 * of one that went on elsewhere lists where it was before. */
static void note_device(fj_job *j, const json_t *m) {
    const char *kind = json_string_value(json_object_get(m, "device_kind")),
               *about = json_string_value(json_object_get(m, "device"));
    json_t *before = json_object_get(m, "devices_before");
    j->devices_before = json_is_array(before) ? json_deep_copy(before) : json_array();
    if (!kind || !about || !strcmp(kind, j->dev->fn->name)) return;
    json_array_append_new(j->devices_before, json_string(about));
    fj_log_message(j->log, FJ_WARN,
                   "the run was on another kind of device (%s) and goes on on this one (%s): the "
                   "same within rounding, not bit for bit",
                   about, j->r->device);
}

/* A resumed run goes on with the bytes that it began with. */
static bool same_inputs(fj_job *j, const char *base, fj_err *e) {
    const char *path = fj_run_path(j->run, "manifest.json");
    if (!j->o->resume || !fj_exists(path)) return true;
    json_t *m = fj_json_file(path, 1 << 24, e);
    if (!m) return false;
    note_device(j, m);
    const struct {
        const char *key, *now, *what;
    } all[] = { { "base_sha256", base, "the base model" },
                { "data_sha256", j->data.hash, "the training data" } };
    bool ok = true;
    for (size_t i = 0; ok && i < FJ_LEN(all); i++) {
        const char *was = json_string_value(json_object_get(m, all[i].key));
        if (was && strcmp(was, all[i].now) != 0)
            ok = fj_fail(e, FJ_EINVAL,
                         "cannot resume %s: %s is not what the run began with (SHA-256 in its "
                         "manifest.json): put it back, or begin a new run",
                         fj_run_folder(j->run), all[i].what);
    }
    json_decref(m);
    return ok;
}

static bool open_run(fj_job *j, fj_err *e) {
    char base[65], stamp[65];
    if (!fj_model_hash(j->model, base, e) || !fj_model_stamp(j->model, stamp, e)) return false;
    bool was_there = j->recipe.output_dir && fj_exists(j->recipe.output_dir);
    j->run = fj_run_open(&j->recipe, j->o->resume, e);
    if (!j->run) return false;
    snprintf(j->r->folder, sizeof j->r->folder, "%s", fj_run_folder(j->run));
    if (!same_inputs(j, base, e)) return false;
    if (j->recipe.export_gguf && !make_place("export_gguf", j->recipe.export_gguf, e)) {
        if (!j->o->resume) /* there is nothing but its recipe */
            fj_remove_tree(was_there ? fj_run_path(j->run, "recipe.yaml") : fj_run_folder(j->run),
                           NULL);
        return false;
    }
    json_t *more = json_pack("{s:I, s:I, s:I, s:s, s:s, s:b}", "planned_bytes",
                             (json_int_t)j->r->planned_bytes, "steps", (json_int_t)j->r->steps,
                             "trainable", (json_int_t)j->r->trainable, "device", j->r->device,
                             "device_kind", j->dev->fn->name, "no_eval", (int)j->recipe.no_eval);
    if (json_array_size(j->devices_before))
        json_object_set(more, "devices_before", j->devices_before);
    json_object_set_new(more, "base_stamp", json_string(stamp));
    bool ok = fj_run_manifest(j->run, base, j->data.hash, more, e);
    json_decref(more);
    if (!ok) return false;
    j->registry = fj_registry_open(NULL, j->log);
    char *yaml = fj_recipe_print(&j->recipe);
    fj_run_info info = { .name = fj_run_name(j->run),
                         .folder = fj_run_folder(j->run),
                         .status = "running",
                         .base_hash = base,
                         .data_hash = j->data.hash,
                         .recipe = yaml,
                         .started = fj_now() };
    j->id = fj_registry_begin(j->registry, &info);
    fj_registry_data(j->registry, j->data.hash, j->recipe.data.s[0], (int64_t)j->data.n);
    free(yaml);
    return true;
}

static double at(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static void rate_back(const json_t *o, const char *key, fj_rate *r) {
    const json_t *x = json_object_get(o, key);
    if (!json_is_object(x)) return;
    *r = (fj_rate){ (int64_t)at(x, "n"), (int64_t)at(x, "hit"), at(x, "rate"), at(x, "low"),
                    at(x, "high") };
}

/* The base's answers go through a checkpoint with its numbers: the report shows them after a resume. */
static void keep_answers(fj_job *j) {
    json_t *list = json_array();
    for (int i = 0; i < j->answers.n_base; i++) {
        json_t *text = json_string(j->answers.base[i].s); /* NULL where it is not UTF-8 */
        json_array_append_new(list, json_pack("{s:s, s:o}", "prompt", j->answers.prompt[i].s,
                                              "answer", text ? text : json_string("")));
    }
    json_object_set_new(j->base_result, "answers", list);
}

static void answers_back(fj_job *j) {
    const json_t *list = json_object_get(j->base_result, "answers"), *x;
    size_t i;
    if (j->answers.n_base) return;
    json_array_foreach(list, i, x) {
        const char *prompt = json_string_value(json_object_get(x, "prompt")),
                   *answer = json_string_value(json_object_get(x, "answer"));
        if (j->answers.n_base == j->answers.n || !prompt || !answer) return;
        fj_str_add(&j->answers.prompt[j->answers.n_base], prompt);
        fj_str_add(&j->answers.base[j->answers.n_base++], answer);
    }
}

/* Once in a run: a resumed one has it in its checkpoint. */
static bool measure_base(fj_job *j, fj_err *e) {
    fj_eval_result *b = &j->r->base;
    if (!j->has_eval || j->recipe.no_eval) return true;
    if (j->base_result) {
        *b = (fj_eval_result){ .rows = (int64_t)at(j->base_result, "rows"),
                               .tokens = (int64_t)at(j->base_result, "tokens"),
                               .loss = at(j->base_result, "loss"),
                               .loss_se = at(j->base_result, "loss_se"),
                               .perplexity = at(j->base_result, "perplexity") };
        rate_back(j->base_result, "exact", &b->exact);
        rate_back(j->base_result, "contains", &b->contains);
        rate_back(j->base_result, "regex", &b->regex);
        answers_back(j);
        return true;
    }
    if (!fj_job_measure(j, true, b, e)) return false;
    if (!isfinite(b->loss))
        return fj_fail(
            e, FJ_EFORMAT,
            "%s: the evaluation loss of the base is not a number: are its weights damaged?",
            j->recipe.base);
    fj_log_message(j->log, FJ_INFO, "base: eval loss %.4f, perplexity %.2f", b->loss,
                   b->perplexity);
    char *text = fj_eval_json(b);
    j->base_result = json_loads(text, 0, NULL);
    keep_answers(j);
    bool ok = fj_run_eval(j->run, "base", j->base_result, e);
    fj_registry_eval(j->registry, j->id, "task", "base", text);
    free(text);
    return ok;
}

static void end_in_registry(fj_job *j, bool ok, const fj_err *e) {
    if (!j->run) return;
    json_t *o = json_object();
    const struct {
        const char *key;
        double v;
    } all[] = {
        { "train_loss", j->r->train_loss },
        { "base_loss", j->r->measured ? j->r->base.loss : NAN },
        { "eval_loss", j->r->measured ? j->r->tuned.loss : NAN },
        { "kl", j->r->measured_general ? j->r->forgetting.kl : NAN },
        { "seconds", j->r->seconds },
        { "tokens_per_s", j->r->tokens_per_s },
        { "steps", (double)j->r->steps_done },
    };
    for (size_t i = 0; i < FJ_LEN(all); i++)
        if (isfinite(all[i].v)) json_object_set_new(o, all[i].key, json_real(all[i].v));
    char *text = json_dumps(o, JSON_PRESERVE_ORDER);
    fj_registry_end(j->registry, j->id,
                    ok                    ? "done"
                    : e->code == FJ_ESTOP ? "stopped"
                                          : "failed",
                    text);
    free(text);
    json_decref(o);
}

/* Stopped where there is nothing more to save than is saved: while the base is measured, or at the end. */
static bool say_stopped(const fj_job *j, fj_err *e) {
    if (e->code != FJ_ESTOP || !j->run || strstr(e->msg, "--resume")) return false;
    return fj_fail(e, FJ_ESTOP, "stopped %s; go on with --resume in %s",
                   j->step ? "after the last step, before everything was measured"
                           : "before the first step",
                   fj_run_folder(j->run));
}

static bool work(fj_job *j, fj_err *e) {
    if (!read_recipe(j, e) || !open_model(j, e) || !fj_job_data(j, e) || !fj_job_plan(j, e))
        return false;
    if (j->o->dry_run) return true;
    if (!open_run(j, e)) return false;
    if (j->o->resume) {
        /* What the checkpoint says replaces what was just made. */
        j->trainer = fj_trainer_open(j->model, &j->topts, e);
        if (!j->trainer || !fj_job_restore(j, e)) return false;
    }
    if (j->step == 0 && j->micro == 0 && !measure_base(j, e)) return false;
    if (j->base_result && !measure_base(j, e)) return false;
    if (!j->trainer && !(j->trainer = fj_trainer_open(j->model, &j->topts, e))) return false;
    if (!fj_job_loop(j, e)) return false;
    fj_trainer_close(j->trainer); /* its memory is needed for nothing more */
    j->trainer = NULL;
    return fj_job_finish(j, e);
}

bool fj_train(const fj_train_opts *o, const fj_log *log, fj_train_result *r, fj_err *e) {
    fj_err own = { 0 };
    if (!e) e = &own;
    *r = (fj_train_result){ 0 };
    fj_job j = { .o = o, .log = log, .r = r, .best_loss = NAN, .last_loss = NAN };
    j.answers.n = EXAMPLES;
    j.answers.prompt = fj_zalloc(EXAMPLES * sizeof(fj_str));
    j.answers.base = fj_zalloc(EXAMPLES * sizeof(fj_str));
    j.answers.tuned = fj_zalloc(EXAMPLES * sizeof(fj_str));
    bool ok = work(&j, e) || say_stopped(&j, e);
    end_in_registry(&j, ok, e);
    fj_trainer_close(j.trainer);
    fj_plan_free(j.plan);
    fj_split_free(&j.split);
    fj_samples_free(&j.samples);
    fj_samples_free(&j.eval_samples);
    fj_samples_free(&j.general_samples);
    fj_dataset_free(&j.data);
    fj_dataset_free(&j.eval_data);
    fj_dataset_free(&j.general_data);
    fj_chat_close(j.chat);
    fj_lora_close(j.lora);
    fj_model_close(j.model);
    fj_dev_close(j.dev);
    fj_registry_close(j.registry);
    fj_run_close(j.run);
    json_decref(j.base_result);
    json_decref(j.devices_before);
    for (int i = 0; i < EXAMPLES; i++) {
        fj_str_free(&j.answers.prompt[i]);
        fj_str_free(&j.answers.base[i]);
        fj_str_free(&j.answers.tuned[i]);
    }
    free(j.answers.prompt);
    free(j.answers.base);
    free(j.answers.tuned);
    fj_recipe_free(&j.recipe);
    return ok;
}
