#include "train/job.h"

#include <stdio.h>
#include <time.h>

static bool load(fj_job *j, const fj_strs *paths, bool open_rows, fj_dataset *d, fj_err *e) {
    fj_dataset_opts o = { .format = (fj_data_format)j->recipe.data_format,
                          .skip_bad_rows = j->recipe.skip_bad_rows,
                          .open_rows = open_rows };
    if (open_rows) o.format = FJ_DATA_AUTO; /* data_format is said of the training data */
    return fj_dataset_load(d, paths->s, paths->n, &o, j->log, e);
}

static bool build(fj_job *j, const fj_dataset *d, bool training, fj_samples *s, fj_err *e) {
    fj_samples_opts o = fj_recipe_samples(&j->recipe, j->chat);
    if (!training) {
        o.truncation = FJ_TRUNC_DROP;
        o.skip_bad_rows = true;
    }
    return fj_samples_build(s, d, j->model->tok, &o, j->log, e);
}

/* A template that prints the day gives other ids tomorrow: a run has one day, the one on which it began, and
 * its recipe keeps it. */
static bool keep_day(fj_job *j, fj_err *e) {
    fj_recipe *r = &j->recipe, was;
    char day[32],
        *path = j->o->resume && r->output_dir ? fj_path_join(r->output_dir, "recipe.yaml") : NULL;
    time_t now = (time_t)fj_now();
    struct tm tm;
    if (!localtime_r(&now, &tm)) memset(&tm, 0, sizeof tm);
    strftime(day, sizeof day, "%Y-%m-%d", &tm);
    if (path && fj_exists(path) && fj_recipe_load(&was, path, NULL, 0, NULL)) {
        if (was.chat_template_date) snprintf(day, sizeof day, "%s", was.chat_template_date);
        fj_recipe_free(&was);
    }
    free(path);
    return fj_recipe_set(r, "chat_template_date", day, e);
}

static bool open_chat(fj_job *j, fj_err *e) {
    fj_recipe *r = &j->recipe;
    j->chat = fj_recipe_chat(r, j->model, e);
    if (!j->chat || !fj_chat_uses_clock(j->chat) || r->chat_template_date) return j->chat != NULL;
    if (!keep_day(j, e)) return false;
    fj_chat_close(j->chat);
    return (j->chat = fj_recipe_chat(r, j->model, e)) != NULL;
}

bool fj_job_data(fj_job *j, fj_err *e) {
    fj_recipe *r = &j->recipe;
    if (!open_chat(j, e)) return false;
    fj_log_message(j->log, FJ_INFO, "conversations: %s", fj_chat_name(j->chat));
    if (r->max_length > j->model->hp.context) {
        if (fj_recipe_said(r, "max_length")) /* the default is not worth a warning */
            fj_log_message(j->log, FJ_WARN,
                           "max_length %lld is more than the model's context: %lld is used",
                           (long long)r->max_length, (long long)j->model->hp.context);
        r->max_length = j->model->hp.context;
    }
    if (!load(j, &r->data, false, &j->data, e) || !build(j, &j->data, true, &j->samples, e))
        return false;
    if (r->eval_data.n) {
        j->has_eval = load(j, &r->eval_data, true, &j->eval_data, e) &&
                      build(j, &j->eval_data, false, &j->eval_samples, e);
        if (!j->has_eval) return false;
        if (r->eval_max_rows && (size_t)r->eval_max_rows < j->eval_samples.n)
            j->eval_samples.n = (size_t)r->eval_max_rows;
    } else if (r->eval_split > 0) {
        if (!fj_samples_split(&j->samples, r->eval_split, (uint64_t)r->seed, &j->split, e))
            return false;
        j->has_eval = true;
        if (r->eval_max_rows && (size_t)r->eval_max_rows < j->split.n_eval)
            j->split.n_eval = (size_t)r->eval_max_rows;
    }
    if (r->general_data.n) {
        j->has_general = load(j, &r->general_data, true, &j->general_data, e) &&
                         build(j, &j->general_data, false, &j->general_samples, e);
        if (!j->has_general) return false;
    }
    j->r->rows = (int64_t)j->data.n;
    j->r->samples = (int64_t)(j->split.train ? j->split.n_train : j->samples.n);
    j->r->eval_samples = (int64_t)(j->split.train ? j->split.n_eval : j->eval_samples.n);
    j->r->too_long = j->samples.too_long;
    return true;
}

/* Which samples are trained on or evaluated, as fj_plan_* wants them; caller frees *ids. */
static size_t lists(const fj_samples *s, const int64_t *which, size_t n, int64_t **ids,
                    int32_t **len, int32_t **learn) {
    *ids = fj_alloc((n + 1) * (sizeof **ids + sizeof **len + sizeof **learn));
    *len = (int32_t *)(*ids + n + 1);
    *learn = *len + n + 1;
    for (size_t i = 0; i < n; i++) {
        (*ids)[i] = which ? which[i] : (int64_t)i;
        (*len)[i] = s->s[(*ids)[i]].n;
        (*learn)[i] = s->s[(*ids)[i]].n_learn;
    }
    return n;
}

static fj_shape shape_of(const fj_plan *p) {
    const fj_plan_totals *t = fj_plan_sum(p);
    return (fj_shape){ t->max_rows, t->max_seqs, t->max_learn };
}

static bool eval_shape(fj_job *j, fj_shape *s, fj_err *e) {
    if (!j->has_eval || j->recipe.no_eval) return true;
    int64_t *ids;
    int32_t *len, *learn;
    size_t n = j->split.train
                   ? lists(&j->samples, j->split.eval, j->split.n_eval, &ids, &len, &learn)
                   : lists(&j->eval_samples, NULL, j->eval_samples.n, &ids, &len, &learn);
    fj_plan *p =
        fj_plan_eval(ids, len, learn, n, (int)j->recipe.batch, (int)j->recipe.max_length, e);
    free(ids);
    if (!p) return false;
    *s = shape_of(p);
    fj_plan_free(p);
    return true;
}

bool fj_job_plan(fj_job *j, fj_err *e) {
    const fj_recipe *r = &j->recipe;
    int64_t *ids;
    int32_t *len, *learn;
    size_t n = lists(&j->samples, j->split.train, j->split.train ? j->split.n_train : j->samples.n,
                     &ids, &len, &learn);
    fj_plan_opts po = fj_recipe_plan(r);
    j->plan = fj_plan_epochs(ids, len, learn, n, &po, e);
    free(ids);
    if (!j->plan) return false;
    const fj_plan_totals *t = fj_plan_sum(j->plan);
    fj_shape eval = { 0 }; /* evaluations between steps go through the same memory */
    if (!eval_shape(j, &eval, e)) return false;
    j->topts = (fj_trainer_opts){ .lora = j->lora,
                                  .max = shape_of(j->plan),
                                  .eval_max = eval,
                                  .beta1 = r->adam_beta1,
                                  .beta2 = r->adam_beta2,
                                  .eps = r->adam_epsilon,
                                  .weight_decay = r->weight_decay,
                                  .lr_ratio_b = r->loraplus_lr_ratio,
                                  .max_grad_norm = r->max_grad_norm,
                                  .seed = (uint64_t)r->seed };
    fj_trainer_bytes b;
    int64_t limit = r->max_memory ? r->max_memory : fj_dev_room(j->dev);
    if (r->gradient_checkpointing == FJ_AUTO) {
        if (!fj_trainer_fit(j->model, &j->topts, limit, &j->topts.recompute, &b, e)) return false;
    } else {
        j->topts.recompute = r->gradient_checkpointing == FJ_ON ? (int)j->model->hp.layers : 0;
        if (!fj_trainer_plan(j->model, &j->topts, &b, e)) return false;
        if (b.total > limit)
            return fj_fail(
                e, FJ_ENOMEM,
                "training needs %lld bytes, %lld are allowed: lower "
                "per_device_train_batch_size or max_length, or set gradient_checkpointing: auto",
                (long long)b.total, (long long)limit);
    }
    fj_train_result *o = j->r;
    o->tokens = t->rows;
    o->learn_tokens = t->learn;
    o->steps = t->steps;
    o->micro_steps = t->micros;
    o->params = j->model->params;
    o->trainable = b.trained;
    o->planned_bytes = b.total;
    o->allowed_bytes = limit;
    o->weights_bytes = b.weights + b.adapter;
    o->optimizer_bytes = b.gradients + b.optimizer;
    o->activation_bytes = b.activations;
    o->recomputed_layers = j->topts.recompute;
    o->layers = (int)j->model->hp.layers;
    return true;
}
