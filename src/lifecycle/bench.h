/* bench.h - speed and memory of a model on a device, beside what the machine can do.
 *
 * Every speed is the median of its repeats after one that is not counted, and is held against the best of
 * the repeats of a peak.  FLOPs are those of the mathematics (a multiply and an add are two): products with weights, and
 * causal attention with two products forward and five backward; what recomputation adds is not counted.
 * Bytes are those that must cross the device's memory whatever the caches hold: weights once in each
 * direction, keys and values of decode and prefill, what AdamW reads and writes; rows between layers are
 * left out.  Ids are random with a fixed seed.  One thread at a time. */
#ifndef FJ_LIFECYCLE_BENCH_H
#define FJ_LIFECYCLE_BENCH_H

#include "models/model.h"

/* ---- peaks --------------------------------------------------------------------------------------- */
typedef enum fj_peak_kind {
    FJ_PEAK_F32, /* multiply-adds on registers */
    FJ_PEAK_BF16,
    FJ_PEAK_INT8,
    FJ_PEAK_READ,       /* memory in huge pages, where the system gives them */
    FJ_PEAK_READ_SMALL, /* in pages of 4 KiB */
    FJ_PEAK_COPY,       /* bytes read and bytes written, */
    FJ_PEAK_TRIAD, /* of two arrays read and one written; lines that a write reads first do not count */
    FJ_PEAKS
} fj_peak_kind;
extern const char *const fj_peak_names[FJ_PEAKS]; /* "f32 GFLOP/s", ..., "read GB/s", ... */

typedef struct fj_peak_rates { /* 1e9 a second; 0: not known */
    double least, median, best;
} fj_peak_rates;
typedef struct fj_peak_opts {
    int64_t repeat;
    int64_t bytes; /* of memory that is read; 0: 2 GiB, or an eighth of a small machine's, */
    int64_t
        set; /* but no more than this, where caches may hold a part of what is compared; 0: so much */
    bool one;  /* one thread, not all */
    bool more; /* what comes after FJ_PEAK_READ, too */
} fj_peak_opts;
/* A CPU's are measured.  A GPU's best are those of its maker's data sheet (dense, sums in f32), by its name. */
bool fj_bench_peaks(fj_dev *d, const fj_peak_opts *o, fj_peak_rates peak[FJ_PEAKS], fj_err *e);

/* All of a machine (a CPU), as they are kept in peaks.json of the cache (fj_cache_dir) by the processor's
 * name, the threads and the instruction set: for looks and plans.  What is measured is held against peaks of
 * the same minute all the same. */
typedef struct fj_machine_peaks {
    char machine[400], measured[32]; /* when */
    fj_peak_rates one[FJ_PEAKS], all[FJ_PEAKS];
} fj_machine_peaks;
bool fj_peaks_measure(fj_dev *d, const fj_peak_opts *o, fj_machine_peaks *p, fj_err *e);
bool fj_peaks_load(const fj_dev *d, fj_machine_peaks *p); /* false: they are not kept */
bool fj_peaks_save(const fj_machine_peaks *p, fj_err *e);
int fj_by_size(const void *a, const void *b); /* of doubles, for qsort */

/* ---- what is measured, where there is no file ------------------------------------------------------- */
typedef struct fj_bench_shape {
    const char *name; /* NULL ends the list */
    const fj_arch *arch;
    fj_hparams h;
} fj_bench_shape;
extern const fj_bench_shape fj_bench_shapes[];

typedef struct fj_bench_what {
    const char *config;                                 /* a config.json, its folder, or NULL: */
    int64_t shape;                                      /* of fj_bench_shapes, */
    int64_t layers, width, heads, kv_heads, ffn, vocab; /* but for these; 0: as there */
    const char *type; /* a mix of mix.h, as quantising would choose, or one format */
    bool pure;        /* one format for every matrix: type is no mix */
    bool full;        /* trainable, in F32 */
} fj_bench_what;
/* Random weights (fj_model_random). */
fj_model *fj_bench_model(fj_dev *d, const fj_bench_what *o, fj_err *e);
/* Such a model as a GGUF file that any reader opens, with a vocabulary of nothing but bytes and names. */
bool fj_bench_save(fj_model *m, const char *path, const fj_bench_what *o, const fj_log *log,
                   fj_err *e);

/* ---- measurements -------------------------------------------------------------------------------- */
typedef struct fj_speed {
    int64_t tokens;                   /* of one run */
    double seconds, fastest, slowest; /* of one run: median, least, most */
    double tokens_s;                  /* tokens / median */
    double flops, bytes;              /* of one run, as said above */
    double rate;                      /* GFLOP/s, or GB/s (decode) */
    fj_peak_kind of;                  /* the peak that rate is held against */
    int64_t held;                     /* bytes on the device, at the end of the measurement */
    int64_t planned, recomputed;      /* a training step: those planned; layers computed twice */
} fj_speed;

/* Where the time of a measurement goes (bench_profile.c): nodes of a CPU's graphs with the same op and the same
 * shape of weight. */
typedef struct fj_profile_row {
    const char *op;
    fj_dtype type; /* of the weight [rows, cols]; rows 0: there is none */
    bool mixed;    /* F32 that meets its rows as BF16 */
    int64_t rows, cols;
    double calls, seconds, flops, bytes; /* of a run */
    fj_peak_kind of;                     /* the peak that limits it, */
    double share;                        /* and how much of it was reached; 0: not known */
} fj_profile_row;
typedef struct fj_profile {
    fj_profile_row *v; /* the longest first */
    size_t n, cap;
    double seconds, outside; /* of a run: all of it, and what no node took */
    bool f32;
} fj_profile;
void fj_profile_free(fj_profile *p);
void fj_profile_begin(fj_profile *p, fj_dev *d);
void fj_profile_end(fj_profile *p, fj_dev *d, double seconds, int64_t runs);
/* Sorts, and finds limits: products by bytes or by the arithmetic of the weight's format, whatever is longer. */
void fj_profile_judge(fj_profile *p, const fj_peak_rates peak[FJ_PEAKS]);

typedef struct fj_bench_opts {
    int64_t repeat;
    int64_t streams, context; /* decode: sequences side by side, positions each has behind it, */
    int64_t tokens;           /* and new tokens for each in one run, one after another */
    int64_t adapters;         /* decode: so many, of `rank`, shared out over the streams; 0: none */
    int64_t prompt;           /* prefill: tokens */
    int64_t rows;             /* gemm */
    int64_t batch, length;    /* training step: samples of so many rows, all of them targets */
    int64_t rank;             /* of adapters, which are on all linear layers */
    int64_t
        recompute; /* layers computed again in backward; -1: as few as the device's memory allows */
    fj_profile *profile; /* NULL: none.  Its runs come after those that are timed */
    const fj_log *log;
} fj_bench_opts;

/* The peak of products with weights of this format, forward or for gradients (gemm.h). */
fj_peak_kind fj_bench_arithmetic(fj_dtype t, bool backward);
/* Runs once, then o->repeat times, which fill in the times and the rate of s from its flops and bytes, then as
 * often again for the profile.  A run may say when the part of it that counts was over. */
typedef bool fj_bench_run(void *ctx, double *end, fj_err *e);
bool fj_bench_repeat(fj_dev *d, const fj_bench_opts *o, fj_bench_run *run, void *ctx, fj_speed *s,
                     fj_err *e);
/* New tokens for every stream; a run is all of them. */
bool fj_bench_decode(fj_model *m, const fj_bench_opts *o, fj_speed *s, fj_err *e);
bool fj_bench_prefill(fj_model *m, const fj_bench_opts *o, fj_speed *s, fj_err *e);
/* Forward, backward, clipping and AdamW: of an adapter, or of every weight of a trainable model. */
bool fj_bench_step(fj_model *m, const fj_bench_opts *o, fj_speed *s, fj_err *e);

/* ---- one op (bench_ops.c) -------------------------------------------------------------------------- */
typedef enum fj_product { FJ_FORWARD, FJ_DX, FJ_DW } fj_product;
/* One product with weight w: of o->rows rows, or of the gradients of so many.  Tokens are rows; short ones are
 * done several times in a run. */
bool fj_bench_gemm(fj_model *m, const fj_weight *w, fj_product which, const fj_bench_opts *o,
                   fj_speed *s, fj_err *e);
/* Weights of a model that differ in shape or format: w[n], at most `most`. */
int fj_bench_shapes_of(const fj_model *m, const fj_weight **w, int most);
/* Attention of one layer over o->batch sequences of o->length tokens. */
bool fj_bench_attention(fj_model *m, bool backward, const fj_bench_opts *o, fj_speed *s, fj_err *e);
/* From the path of a file to its first token: opened, a prompt of one token, closed. */
bool fj_bench_load(fj_dev *d, const char *path, const fj_bench_opts *o, fj_speed *s, fj_err *e);

#endif
