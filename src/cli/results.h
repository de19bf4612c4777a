/* results.h - measurements as a table for people and as JSON for scripts; eval and train share it. */
#ifndef FJ_CLI_RESULTS_H
#define FJ_CLI_RESULTS_H

#include <forja/eval.h>
#include <jansson.h>

/* n results side by side on stdout: one, or base and tuned. */
void fj_print_results(const fj_eval_result *r, int n);
void fj_print_forgetting(const fj_forgetting *f);
/* The caller owns the objects. */
json_t *fj_result_json(const fj_eval_result *r);
json_t *fj_forgetting_json(const fj_forgetting *f);

#endif
