/* job_end.c - measuring, and writing what a run leaves behind. */
#include "train/job.h"

#include <math.h>

static bool trainer_nll(void *trainer, const fj_batch *b, float *nll, fj_err *e) {
    return fj_trainer_eval(trainer, b, nll, e);
}

bool fj_job_eval_loss(fj_job *j, bool base, fj_eval_result *r, fj_err *e) {
    const fj_samples *s = j->split.train ? &j->samples : &j->eval_samples;
    const int64_t *which = j->split.train ? j->split.eval : NULL;
    size_t n = j->split.train ? j->split.n_eval : j->eval_samples.n;
    fj_scorer sc = { .m = j->model, .lora = base ? NULL : j->lora };
    bool inside = j->trainer && !base; /* during the run, in the memory planned for it */
    bool ok = fj_eval_loss(s, which, n, (int)j->recipe.batch, (int)j->recipe.max_length,
                           inside ? trainer_nll : fj_scorer_nll, inside ? (void *)j->trainer : &sc,
                           base ? "eval base" : "eval", j->log, r, e);
    r->too_long = s == &j->eval_samples ? s->too_long : 0;
    fj_scorer_free(&sc);
    return ok;
}

static void keep_base(void *ctx, const fj_eval_answer *a) {
    fj_answers *x = ctx;
    if (x->n_base == x->n) return;
    fj_str_add(&x->prompt[x->n_base], a->prompt);
    fj_str_add(&x->base[x->n_base++], a->given);
}

static void keep_tuned(void *ctx, const fj_eval_answer *a) {
    fj_answers *x = ctx;
    if (x->n_tuned == x->n) return;
    if (!x->prompt[x->n_tuned].s) fj_str_add(&x->prompt[x->n_tuned], a->prompt);
    fj_str_add(&x->tuned[x->n_tuned++], a->given);
}

bool fj_job_measure(fj_job *j, bool base, fj_eval_result *r, fj_err *e) {
    *r = (fj_eval_result){ 0 };
    if (!fj_job_eval_loss(j, base, r, e)) return false;
    if (!j->eval_data.n || !j->recipe.eval_max_new_tokens) return true;
    fj_eval_opts o = { .max_new_tokens = j->recipe.eval_max_new_tokens,
                       .max_rows = j->recipe.eval_max_rows,
                       .system = j->recipe.system_prompt };
    return fj_eval_answers(j->model, base ? NULL : j->lora, &j->eval_data, j->chat, &o, j->log,
                           base ? keep_base : keep_tuned, &j->answers, r, e);
}

static bool write_eval(fj_job *j, const char *name, const char *which, const fj_eval_result *r,
                       fj_err *e) {
    char *text = fj_eval_json(r);
    json_t *o = json_loads(text, 0, NULL);
    bool ok = fj_run_eval(j->run, name, o, e);
    json_decref(o);
    fj_registry_eval(j->registry, j->id, "task", which, text);
    free(text);
    return ok;
}

/* A fully trained model is compared with its base as it is on disk. */
static bool forgetting(fj_job *j, fj_err *e) {
    fj_model *base = j->model;
    if (!j->lora && !(base = fj_model_open(j->dev, j->recipe.base, NULL, NULL, e))) return false;
    fj_forgetting *f = &j->r->forgetting;
    bool ok = fj_eval_forgetting_on(base, j->lora ? NULL : j->model, j->lora, &j->general_samples,
                                    j->log, f, e);
    if (base != j->model) fj_model_close(base);
    if (!ok) return false;
    j->r->measured_general = true;
    json_t *o =
        json_pack("{s:I, s:I}", "rows", (json_int_t)f->rows, "tokens", (json_int_t)f->tokens);
    const struct {
        const char *key;
        double v;
    } all[] = { { "base_perplexity", f->base_perplexity },
                { "tuned_perplexity", f->tuned_perplexity },
                { "kl", f->kl } };
    for (size_t i = 0; i < FJ_LEN(all);
         i++) /* a ruined model's are infinite: JSON has no such number */
        json_object_set_new(o, all[i].key, fj_job_number(all[i].v));
    ok = fj_run_eval(j->run, "general", o, e);
    json_decref(o);
    return ok;
}

static const char *const types[] = {
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "MXFP4", "Q4_K", "Q6_K"
};

static bool write_model(fj_job *j, fj_err *e) {
    if (j->lora) {
        char *gguf = fj_path_join(fj_run_folder(j->run), "adapter.gguf");
        bool ok = fj_lora_save_peft(j->lora, fj_run_path(j->run, "adapter"), e) &&
                  fj_lora_save_gguf(j->lora, gguf, e);
        free(gguf);
        return ok;
    }
    if (!fj_model_save_hf(j->model, fj_run_path(j->run, "model"), "F32", e)) return false;
    return !j->recipe.export_gguf ||
           fj_model_save_gguf(j->model, j->recipe.export_gguf, types[j->recipe.export_type], e);
}

static void add_rate(fj_report_row *rows, int *n, const char *what, const fj_rate *a,
                     const fj_rate *b) {
    if (b->n) rows[(*n)++] = (fj_report_row){ what, a->rate, b->rate, 1 };
}

static bool report(fj_job *j, fj_err *e) {
    const fj_train_result *r = j->r;
    fj_report_row task[8], general[3];
    int n = 0;
    if (r->measured) {
        task[n++] = (fj_report_row){ "loss", r->base.loss, r->tuned.loss, -1 };
        task[n++] = (fj_report_row){ "perplexity", r->base.perplexity, r->tuned.perplexity, -1 };
        add_rate(task, &n, "exact match", &r->base.exact, &r->tuned.exact);
        add_rate(task, &n, "contains", &r->base.contains, &r->tuned.contains);
        add_rate(task, &n, "regex", &r->base.regex, &r->tuned.regex);
    }
    general[0] = (fj_report_row){ "perplexity", r->forgetting.base_perplexity,
                                  r->forgetting.tuned_perplexity, -1 };
    general[1] = (fj_report_row){ "mean KL to the base", 0, r->forgetting.kl, -1 };
    fj_report_text *ex = fj_zalloc((size_t)(j->answers.n + 1) * sizeof *ex);
    int k = FJ_MIN(j->answers.n_tuned, j->answers.n);
    for (int i = 0; i < k; i++)
        ex[i] = (fj_report_text){ j->answers.prompt[i].s,
                                  i < j->answers.n_base ? j->answers.base[i].s : "",
                                  j->answers.tuned[i].s };
    fj_report rep = { .task = task,
                      .n_task = n,
                      .general = general,
                      .n_general = r->measured_general ? 2 : 0,
                      .examples = ex,
                      .n_examples = k,
                      .note =
                          j->recipe.no_eval ? "Evaluation was switched off by no_eval." : NULL };
    bool ok = fj_run_report(j->run, &rep, e);
    free(ex);
    return ok;
}

bool fj_job_finish(fj_job *j, fj_err *e) {
    /* A process killed in its last checkpoint left something, and no later one removed it. */
    if (!fj_job_prune(j, e) || !write_model(j, e)) return false;
    if (j->has_eval && !j->recipe.no_eval) {
        if (!fj_job_measure(j, false, &j->r->tuned, e) ||
            !write_eval(j, "tuned", "tuned", &j->r->tuned, e))
            return false;
        j->r->measured = true;
    }
    if (j->has_general && !j->recipe.no_eval && !forgetting(j, e)) return false;
    return report(j, e);
}
