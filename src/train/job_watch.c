/* job_watch.c - what says that a run goes wrong, or that it has what it was for. */
#include "formats/json.h"
#include "train/job.h"

#include <math.h>
#include <stdio.h>

enum { KNOWN = 10 }; /* norms that a median is worth something of */

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(const fj_watch *w) {
    double s[FJ_NORMS];
    memcpy(s, w->norms, sizeof s);
    qsort(s, (size_t)w->n_norms, sizeof *s, by_size);
    return s[w->n_norms / 2];
}

bool fj_watch_spiked(const fj_job *j, double loss, double norm, char *why, size_t n) {
    const fj_watch *w = &j->watch;
    double by = j->recipe.spike_threshold;
    if (!isfinite(loss)) snprintf(why, n, "its loss is %g", loss);
    else if (!isfinite(norm)) snprintf(why, n, "its gradient is not finite");
    else if (by > 0 && w->n_norms >= KNOWN && norm > by * median(w))
        snprintf(why, n, "the norm of its gradient is %.4g, and the median of the last %d is %.4g",
                 norm, w->n_norms, median(w));
    else return false;
    return true;
}

void fj_watch_step(fj_job *j, double norm) {
    fj_watch *w = &j->watch;
    w->norms[w->at] = norm;
    w->at = (w->at + 1) % FJ_NORMS;
    w->n_norms = FJ_MIN(w->n_norms + 1, FJ_NORMS);
}

json_t *fj_job_number(double x) { return isfinite(x) ? json_real(x) : json_null(); }

bool fj_watch_keep(fj_job *j, const fj_plan_at *at, double loss, double norm, const char *why,
                   fj_err *e) {
    json_t *rows = json_array();
    fj_str some = { 0 };
    int n = 0;
    for (int m = 0; m < at->n_micro; m++)
        for (int i = 0; i < at->micro[m].n; i++) {
            const fj_sample *s = &j->samples.s[at->micro[m].sample[i]];
            const fj_data_row *r = &j->data.rows[s->row];
            json_t *ids = json_array();
            for (int32_t k = 0; k < s->n; k++) json_array_append_new(ids, json_integer(s->ids[k]));
            json_array_append_new(rows, json_pack("{s:s, s:I, s:i, s:i, s:o}", "file",
                                                  j->data.files[r->file].path, "line",
                                                  (json_int_t)r->line, "part", (int)s->part,
                                                  "micro_batch", m, "tokens", ids));
            char name[300];
            if (n++ < 4)
                fj_str_addf(&some, "%s%s", n > 1 ? ", " : "",
                            fj_row_name(&j->data, r, name, sizeof name));
        }
    if (n > 4) fj_str_addf(&some, " and %d more", n - 4);
    json_t *o =
        json_pack("{s:I, s:s, s:o, s:o, s:o}", "step", (json_int_t)j->step + 1, "why", why, "loss",
                  fj_job_number(loss), "grad_norm", fj_job_number(norm), "rows", rows);
    char file[40];
    snprintf(file, sizeof file, "step-%lld.json", (long long)j->step + 1);
    const char *folder = fj_run_path(j->run, "spikes");
    char *path = fj_path_join(folder, file);
    bool ok = fj_mkdirs(folder, e) && fj_json_save(path, o, e);
    if (ok)
        fj_log_message(j->log, FJ_WARN, "step %lld: %s; its rows are %s; their tokens are in %s",
                       (long long)j->step + 1, why, some.s ? some.s : "none", path);
    json_decref(o);
    fj_str_free(&some);
    free(path);
    return ok;
}

void fj_watch_eval(fj_job *j, double loss) {
    const fj_recipe *r = &j->recipe;
    fj_watch *w = &j->watch;
    bool best = !isfinite(j->best_loss) || loss < j->best_loss;
    bool better = !isfinite(j->best_loss) || loss < j->best_loss - r->early_stopping_threshold;
    if (best) {
        j->best_loss = loss;
        j->best_step = j->step;
    }
    w->worse = better ? 0 : w->worse + 1;
    if (r->target_eval_loss > 0 && loss <= r->target_eval_loss) w->done = "target_eval_loss";
    else if (r->early_stopping_patience && w->worse >= r->early_stopping_patience)
        w->done = "early_stopping_patience";
}

json_t *fj_watch_json(const fj_watch *w) {
    json_t *norms = json_array();
    for (int i = 0; i < w->n_norms; i++) /* oldest first */
        json_array_append_new(norms,
                              json_real(w->norms[(w->at - w->n_norms + i + FJ_NORMS) % FJ_NORMS]));
    json_t *o = json_pack("{s:o, s:I, s:i}", "norms", norms, "skip_to", (json_int_t)w->skip_to,
                          "worse", w->worse);
    json_object_set_new(o, "done", w->done ? json_string(w->done) : json_null());
    return o;
}

void fj_watch_read(fj_watch *w, const json_t *o) {
    static const char *const reasons[] = { "target_eval_loss", "early_stopping_patience" };
    const json_t *norms = json_object_get(o, "norms"), *x;
    const char *done = json_string_value(json_object_get(o, "done"));
    size_t i;
    *w = (fj_watch){ .skip_to = json_integer_value(json_object_get(o, "skip_to")),
                     .worse = (int)json_integer_value(json_object_get(o, "worse")) };
    json_array_foreach(norms, i, x) {
        w->norms[w->at] = json_number_value(x);
        w->at = (w->at + 1) % FJ_NORMS;
        w->n_norms = FJ_MIN(w->n_norms + 1, FJ_NORMS);
    }
    for (i = 0; done && i < FJ_LEN(reasons); i++)
        if (!strcmp(done, reasons[i])) w->done = reasons[i];
}
