/* bench_show.h - what `forja bench` found, as a table or as JSON. */
#ifndef FJ_CLI_BENCH_SHOW_H
#define FJ_CLI_BENCH_SHOW_H

#include "lifecycle/bench.h"

typedef struct fj_bench_result {
    const char *what;
    char about[120];
    fj_speed s;
    fj_profile profile; /* n 0: none */
} fj_bench_result;

typedef struct fj_bench_results {
    const fj_dev *dev;
    fj_model_info info;
    double open_s;
    int64_t rss, held; /* most bytes of the process and on the device */
    fj_peak_rates peak[FJ_PEAKS];
    fj_bench_result *v;
    size_t n, cap;
} fj_bench_results;

void fj_bench_note_memory(fj_bench_results *b);
void fj_bench_show(const fj_bench_results *b, bool json);
void fj_bench_show_peaks(const fj_machine_peaks *p, bool kept, bool json);

#endif
