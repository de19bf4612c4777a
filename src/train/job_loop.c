/* job_loop.c - the steps of a run, and the checkpoints that make it go on bit for bit.
 *
 * Everything that a step needs follows from its number (data/pack.h, dropout by micro-step), so a
 * checkpoint is parameters, moments and a few numbers; in the middle of a step also the sums of
 * gradients. */
#include "formats/ckpt.h"
#include "formats/hf.h"
#include "train/job.h"

#include <math.h>
#include <stdio.h>

static const char *folder(fj_job *j) { return fj_run_path(j->run, "checkpoints"); }

bool fj_job_save(fj_job *j, fj_err *e) {
    if (!fj_mkdirs(folder(j), e)) return false;
    fj_ckpt_writer *w = fj_ckpt_begin(folder(j), j->step, e);
    if (!w) return false;
    bool grads = j->micro > 0;
    json_t *state =
        json_pack("{s:I, s:I, s:I, s:f, s:I, s:I, s:f}", "step", (json_int_t)j->step, "micro",
                  (json_int_t)j->micro, "micros_done", (json_int_t)j->micros_done, "partial_loss",
                  j->partial_loss, "best_step", (json_int_t)j->best_step, "tokens",
                  (json_int_t)j->tokens_done, "seconds", j->r->seconds);
    json_object_set_new(state, "window_loss", fj_job_number(j->window_loss));
    json_object_set_new(state, "window_steps", json_integer(j->window_steps));
    json_object_set_new(state, "eval_due", json_boolean(j->eval_due));
    json_object_set_new(state, "best_loss", fj_job_number(j->best_loss));
    json_object_set_new(state, "last_loss", fj_job_number(j->last_loss));
    if (j->base_result) json_object_set(state, "base", j->base_result);
    json_object_set_new(state, "watch", fj_watch_json(&j->watch));
    fj_st_writer *st = fj_ckpt_state(w, state, e);
    json_decref(state);
    bool ok = st != NULL;
    if (ok) {
        fj_trainer_add_state(j->trainer, st, grads);
        ok = fj_trainer_write_state(j->trainer, st, e);
        if (ok) ok = fj_st_writer_close(st, e);
        else fj_st_writer_abort(st);
    }
    if (ok && j->lora) ok = fj_lora_save_peft(j->lora, fj_ckpt_folder(w), e);
    if (!ok) {
        fj_ckpt_abort(w);
        return false;
    }
    return fj_ckpt_commit(w, e) && fj_job_prune(j, e);
}

bool fj_job_prune(fj_job *j, fj_err *e) {
    return fj_ckpt_prune(folder(j), (size_t)FJ_MAX(j->recipe.save_total_limit, 1),
                         j->best_step ? j->best_step : -1, e);
}

static double number(const json_t *o, const char *key) {
    const json_t *v = json_object_get(o, key);
    return json_is_number(v) ? json_number_value(v) : NAN;
}

bool fj_job_restore(fj_job *j, fj_err *e) {
    fj_err why = { 0 };
    fj_ckpt *c = fj_is_dir(folder(j)) ? fj_ckpt_open_newest(folder(j), j->log, &why) : NULL;
    if (!c) {
        if (why.code == FJ_EFORMAT) return fj_fail(e, why.code, "%s", why.msg);
        fj_log_message(j->log, FJ_INFO, "no checkpoint yet: the run starts at its beginning");
        return fj_run_rewind(j->run, 0, e);
    }
    int64_t micro = 0, step = 0, micros = 0, best = 0, tokens = 0, window = 0;
    bool ok = fj_js_int(c->state, c->dir, "step", &step, e) &&
              fj_js_int(c->state, c->dir, "micro", &micro, e) &&
              fj_js_int(c->state, c->dir, "micros_done", &micros, e) &&
              fj_js_int(c->state, c->dir, "best_step", &best, e) &&
              fj_js_int(c->state, c->dir, "tokens", &tokens, e) &&
              fj_js_int(c->state, c->dir, "window_steps", &window, e) &&
              fj_trainer_read_state(j->trainer, c->tensors, micro > 0, e);
    if (ok && (step < 0 || step > j->r->steps || micro < 0))
        ok = fj_fail(e, FJ_EFORMAT, "%s: step %lld of a run of %lld", c->dir, (long long)step,
                     (long long)j->r->steps);
    if (ok) {
        j->step = step;
        j->micro = micro;
        j->micros_done = micros;
        j->best_step = best;
        j->tokens_done = tokens;
        j->best_loss = number(c->state, "best_loss");
        j->last_loss = number(c->state, "last_loss");
        j->partial_loss = number(c->state, "partial_loss");
        j->window_loss = number(c->state, "window_loss");
        j->window_steps = window;
        j->eval_due = json_is_true(json_object_get(c->state, "eval_due"));
        j->seconds_before = number(c->state, "seconds");
        json_t *base = json_object_get(c->state, "base");
        if (json_is_object(base)) {
            json_decref(j->base_result);
            j->base_result = json_deep_copy(base);
        }
        fj_watch_read(&j->watch, json_object_get(c->state, "watch"));
        fj_log_message(j->log, FJ_INFO, "goes on after step %lld of %lld", (long long)step,
                       (long long)j->r->steps);
        ok = fj_run_rewind(j->run, step, e);
    }
    fj_ckpt_close(c);
    return ok;
}

static void fill_batch(const fj_job *j, const fj_micro *m, double weight, fj_batch *b) {
    fj_batch_clear(b);
    for (int i = 0; i < m->n; i++) {
        const fj_sample *s = &j->samples.s[m->sample[i]];
        fj_batch_add_sample(b, s->ids, s->learn, s->n, (float)weight);
    }
}

typedef struct window { /* since the last line of metrics.jsonl */
    double norm, t0;
    int64_t tokens;
} window; /* what must go through a checkpoint is in fj_job */

static bool write_metric(fj_job *j, const fj_plan_at *at, window *w, double lr, fj_err *e) {
    double dt = fj_clock() - w->t0;
    int64_t now, peak;
    fj_dev_memory(j->dev, &now, &peak);
    json_t *o =
        json_pack("{s:I, s:f, s:f, s:f, s:f, s:I, s:f, s:I}", "step", (json_int_t)j->step, "epoch",
                  at->epochs_done, "loss", j->window_loss / (double)j->window_steps, "grad_norm",
                  w->norm, "lr", lr, "tokens", (json_int_t)j->tokens_done, "tokens_per_s",
                  (double)w->tokens / fmax(dt, 1e-9), "memory", (json_int_t)peak);
    bool ok =
        o ? fj_run_metric(j->run, o, e)
          : fj_fail(e, FJ_EINVAL, "the loss of step %lld is not a number: lower learning_rate",
                    (long long)j->step);
    json_decref(o);
    *w = (window){ .t0 = fj_clock() };
    j->window_loss = 0;
    j->window_steps = 0;
    return ok;
}

static bool evaluate(fj_job *j, fj_err *e) {
    if (!j->has_eval || j->recipe.no_eval) return true;
    fj_eval_result r = { 0 };
    if (!fj_job_eval_loss(j, false, &r, e)) return false;
    if (!isfinite(r.loss))
        return fj_fail(e, FJ_EINVAL,
                       "the evaluation loss after step %lld is not a number: lower learning_rate",
                       (long long)j->step);
    json_t *o = json_object();
    json_object_set_new(o, "step", json_integer(j->step));
    json_object_set_new(o, "eval_loss", json_real(r.loss));
    json_object_set_new(o, "eval_perplexity", fj_job_number(r.perplexity)); /* exp may overflow */
    bool ok = fj_run_metric(j->run, o, e);
    json_decref(o);
    fj_log_message(j->log, FJ_INFO, "step %lld: eval loss %.4f, perplexity %.2f",
                   (long long)j->step, r.loss, r.perplexity);
    fj_watch_eval(j, r.loss);
    if (j->watch.done)
        fj_log_message(j->log, FJ_INFO, "step %lld of %lld is the last, by %s", (long long)j->step,
                       (long long)j->r->steps, j->watch.done);
    return ok;
}

static bool due(int64_t every, const fj_plan_at *at, int64_t step) {
    return every ? step % every == 0 : at->last_of_epoch;
}

static bool stop_here(fj_job *j, fj_err *e) {
    fj_err why = { 0 };
    if (!fj_job_save(j, &why))
        return fj_fail(e, why.code, "stopped, and the checkpoint could not be written: %s",
                       why.msg);
    return fj_fail(
        e, FJ_ESTOP,
        "stopped after step %lld of %lld; everything is saved in %s, go on with --resume",
        (long long)j->step, (long long)j->r->steps, fj_run_folder(j->run));
}

/* The evaluation and the checkpoint that belong to step j->step, which is done.  Asked to stop within
 * the evaluation, it saves that step, and the resumed run begins with the evaluation. */
static bool after_step(fj_job *j, const fj_plan_at *at, fj_err *e) {
    const fj_recipe *r = &j->recipe;
    bool last = j->step == j->r->steps, eval = due(r->eval_steps, at, j->step) || last;
    if (eval && !evaluate(j, e)) {
        if (!e || e->code != FJ_ESTOP) return false;
        j->eval_due = true;
        return stop_here(j, e);
    }
    j->eval_due = false;
    bool save = (r->save_steps ? j->step % r->save_steps == 0 : eval) || last ||
                j->best_step == j->step || j->watch.done;
    return !save || fj_job_save(j, e);
}

/* The step that was just computed is not made: what becomes of the run is the recipe's to say. */
static bool spike(fj_job *j, const fj_plan_at *at, double norm, const char *why, fj_err *e) {
    int64_t bad = j->step;
    double loss = j->partial_loss;
    if (!fj_watch_keep(j, at, loss, norm, why, e) || !fj_trainer_drop(j->trainer, e)) return false;
    j->partial_loss = 0;
    j->micro = 0;
    if (j->recipe.on_spike == FJ_SPIKE_STOP) {
        fj_err not = { 0 };
        j->micros_done -= at->n_micro;
        j->tokens_done -= at->rows;
        bool saved = fj_job_save(j, &not );
        return fj_fail(
            e, FJ_EINVAL,
            "step %lld is not made: %s (rows and tokens: %s/spikes/step-%lld.json). Lower "
            "learning_rate or mend the rows; or, %s, go on without it with --resume "
            "on_spike=skip",
            (long long)bad + 1, why, fj_run_folder(j->run), (long long)bad + 1,
            saved ? "what was reached being saved" : "from the last checkpoint");
    }
    int64_t *saved = NULL;
    size_t n_saved = 0;
    bool back = j->recipe.on_spike == FJ_SPIKE_REWIND && fj_is_dir(folder(j)) &&
                fj_ckpt_list(folder(j), &saved, &n_saved, NULL) && n_saved;
    free(saved);
    if (back) {
        double before = j->seconds_before; /* the clock of this process runs on */
        if (!fj_job_restore(j, e)) return false;
        j->seconds_before = before;
        fj_log_message(j->log, FJ_WARN, "back at step %lld; steps %lld to %lld are passed over",
                       (long long)j->step, (long long)j->step + 1, (long long)bad + 1);
    }
    j->watch.skip_to = bad + 1;
    json_t *o = json_pack("{s:I, s:s}", "step", (json_int_t)bad + 1, "spike", why);
    bool ok = fj_run_metric(j->run, o, e);
    json_decref(o);
    return ok;
}

/* Steps that a spike has taken out: their data count as gone through. */
static bool pass_over(fj_job *j, const fj_plan_at *at, fj_err *e) {
    /* A checkpoint within the step had gradients. */
    if (j->micro && !fj_trainer_drop(j->trainer, e)) return false;
    j->micros_done += at->n_micro - j->micro;
    j->micro = 0;
    j->partial_loss = 0;
    j->step++;
    return after_step(j, at, e);
}

static bool one_step(fj_job *j, const fj_plan_at *at, fj_batch *b, double t0, window *w,
                     fj_err *e) {
    const fj_recipe *r = &j->recipe;
    for (; j->micro < at->n_micro; j->micro++, j->micros_done++) {
        if (fj_log_stop(j->log)) return stop_here(j, e);
        double loss;
        fill_batch(j, &at->micro[j->micro], 1.0 / (double)at->learn, b);
        if (!fj_trainer_micro(j->trainer, b, j->micros_done, &loss, e)) return false;
        j->partial_loss += loss;
        j->tokens_done += at->micro[j->micro].rows;
        w->tokens += at->micro[j->micro].rows;
    }
    int64_t warmup = r->warmup_steps > 0 ? r->warmup_steps
                                         : (int64_t)ceil(r->warmup_ratio * (double)j->r->steps);
    static const fj_schedule kinds[] = { FJ_LR_LINEAR, FJ_LR_CONSTANT, FJ_LR_COSINE };
    double lr = r->learning_rate *
                fj_schedule_at(kinds[r->lr_scheduler_type], j->step + 1, warmup, j->r->steps),
           norm;
    char why[160];
    if (!fj_trainer_norm(j->trainer, &norm, e)) return false;
    if (fj_watch_spiked(j, j->partial_loss, norm, why, sizeof why))
        return spike(j, at, norm, why, e);
    if (!fj_trainer_step(j->trainer, j->step + 1, lr, norm, e)) return false;
    fj_watch_step(j, norm);
    j->step++;
    j->micro = 0;
    j->last_loss = j->partial_loss;
    j->window_loss += j->partial_loss;
    j->window_steps++;
    w->norm = norm;
    j->partial_loss = 0;
    bool last = j->step == j->r->steps;
    if ((j->step % r->logging_steps == 0 || last) && !write_metric(j, at, w, lr, e)) return false;
    j->r->seconds = j->seconds_before + fj_clock() - t0;
    int64_t now, peak;
    fj_dev_memory(j->dev, &now, &peak);
    double rate = (double)j->tokens_done / fmax(j->r->seconds, 1e-9);
    fj_log_progress(j->log, &(fj_progress){ .what = "train",
                                            .done = j->step,
                                            .total = j->r->steps,
                                            .unit = "step",
                                            .rate = rate,
                                            .loss = j->last_loss,
                                            .mem_bytes = now,
                                            .eta_s = (double)(j->r->tokens - j->tokens_done) /
                                                     fmax(rate, 1e-9) });
    return after_step(j, at, e);
}

/* Its checkpoint is kept as long as there is none that is better. */
static bool load_best(fj_job *j, fj_err *e) {
    char *path = fj_ckpt_path(folder(j), j->best_step);
    fj_ckpt *c = fj_ckpt_open(path, e);
    bool ok = c && fj_trainer_read_state(j->trainer, c->tensors, false, e);
    if (ok)
        fj_log_message(j->log, FJ_INFO, "the best of the run, that of step %lld, is taken",
                       (long long)j->best_step);
    fj_ckpt_close(c);
    free(path);
    return ok;
}

bool fj_job_loop(fj_job *j, fj_err *e) {
    fj_batch b = { 0 };
    double t0 = fj_clock();
    window w = { .t0 = t0 };
    bool ok = true;
    fj_plan_at at;
    if (j->eval_due && j->step > 0) {
        fj_plan_step(j->plan, j->step - 1, &at);
        ok = after_step(j, &at, e);
    }
    while (ok && j->step < j->r->steps && !j->watch.done) {
        fj_plan_step(j->plan, j->step, &at);
        ok = j->step < j->watch.skip_to ? pass_over(j, &at, e) : one_step(j, &at, &b, t0, &w, e);
    }
    if (ok && j->recipe.load_best_model_at_end && j->best_step && j->best_step != j->step)
        ok = load_best(j, e);
    fj_batch_free(&b);
    fj_train_result *r = j->r;
    r->steps_done = j->step;
    r->train_loss = j->last_loss;
    r->best_loss = j->best_loss;
    r->best_step = j->best_step;
    r->seconds = j->seconds_before + fj_clock() - t0;
    r->tokens_per_s = (double)j->tokens_done / fmax(r->seconds, 1e-9);
    int64_t
        now; /* the most that was ever held: measuring the base before the first step included */
    fj_dev_memory(j->dev, &now, &r->peak_bytes);
    return ok;
}
