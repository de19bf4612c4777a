#include "cli/results.h"
#include "cli/term.h"
#include <math.h>

enum { BASE, TUNED, KINDS };

static void number_row(fj_table *t, const char *name, int n, const double *v, const char *fmt) {
    char cell[KINDS][64];
    for (int i = 0; i < n; i++) snprintf(cell[i], sizeof cell[i], isfinite(v[i]) ? fmt : "-", v[i]);
    if (n == 1) fj_table_row(t, name, cell[0]);
    else fj_table_row(t, name, cell[0], cell[1]);
}

static void rate_row(fj_table *t, const char *name, int n, const fj_rate *const *r) {
    char cell[KINDS][64];
    if (!r[0]->n) return;
    for (int i = 0; i < n; i++)
        snprintf(cell[i], sizeof cell[i], "%.1f %% (%lld of %lld; %.1f to %.1f)", 100 * r[i]->rate,
                 (long long)r[i]->hit, (long long)r[i]->n, 100 * r[i]->low, 100 * r[i]->high);
    if (n == 1) fj_table_row(t, name, cell[0]);
    else fj_table_row(t, name, cell[0], cell[1]);
}

void fj_print_results(const fj_eval_result *r, int n) {
    fj_table t;
    double loss[KINDS], se[KINDS], ppl[KINDS];
    const fj_rate *exact[KINDS], *contains[KINDS], *regex[KINDS];
    n = FJ_MIN(FJ_MAX(n, 1), KINDS);
    for (int i = 0; i < KINDS; i++) {
        const fj_eval_result *x = &r[i < n ? i : 0];
        loss[i] = x->loss;
        se[i] = x->loss_se;
        ppl[i] = x->perplexity;
        exact[i] = &x->exact;
        contains[i] = &x->contains;
        regex[i] = &x->regex;
    }
    printf("%lld rows, %lld tokens", (long long)r[0].rows, (long long)r[0].tokens);
    if (r[0].too_long) printf("; %lld rows too long, left out", (long long)r[0].too_long);
    if (r[0].unlearned) printf("; %lld rows with nothing to measure", (long long)r[0].unlearned);
    printf("\n\n");
    if (n == 1) fj_table_open(&t, 2, "", "");
    else fj_table_open(&t, 3, "", ">base", ">tuned");
    if (r[0].tokens) {
        number_row(&t, "loss", n, loss, "%.4f");
        number_row(&t, "standard error", n, se, "%.4f");
        number_row(&t, "perplexity", n, ppl, "%.4f");
    }
    rate_row(&t, "exact", n, exact);
    rate_row(&t, "contains", n, contains);
    rate_row(&t, "regex", n, regex);
    fj_table_print(&t, stdout, 0);
}

void fj_print_forgetting(const fj_forgetting *f) {
    printf("\ngeneral text: %lld rows, %lld tokens\n\n", (long long)f->rows, (long long)f->tokens);
    fj_table t;
    double ppl[KINDS] = { f->base_perplexity, f->tuned_perplexity };
    fj_table_open(&t, 3, "", ">base", ">tuned");
    number_row(&t, "perplexity", KINDS, ppl, "%.4f");
    fj_table_print(&t, stdout, 0);
    printf("KL(base || tuned)  %.6f nats\n", f->kl);
}

json_t *fj_result_json(const fj_eval_result *r) {
    char *text = fj_eval_json(r);
    json_t *j = text ? json_loads(text, 0, NULL) : NULL;
    free(text);
    return j ? j : json_null();
}

static json_t *real(double v) { return isfinite(v) ? json_real(v) : json_null(); }

json_t *fj_forgetting_json(const fj_forgetting *f) {
    json_t *o = json_object();
    json_object_set_new(o, "rows", json_integer(f->rows));
    json_object_set_new(o, "tokens", json_integer(f->tokens));
    json_object_set_new(o, "base_perplexity", real(f->base_perplexity));
    json_object_set_new(o, "tuned_perplexity", real(f->tuned_perplexity));
    json_object_set_new(o, "kl", real(f->kl));
    return o;
}
