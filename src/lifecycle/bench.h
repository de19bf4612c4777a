/* bench.h - speed and memory of a model on a device, beside what the machine can do.
 *
 * Every speed is the median of its repeats after one that is not counted, every measured peak the best of
 * them.  FLOPs are those of the mathematics (a multiply and an add are two): products with weights, and
 * causal attention with two products forward and five backward; what recomputation adds is not counted.
 * Bytes are those that must cross the device's memory whatever the caches hold: weights once in each
 * direction, keys and values of decode and prefill, what AdamW reads and writes; rows between layers are
 * left out.  Ids are random with a fixed seed.  One thread at a time. */
#ifndef FJ_LIFECYCLE_BENCH_H
#define FJ_LIFECYCLE_BENCH_H

#include "models/model.h"

/* ---- peaks --------------------------------------------------------------------------------------- */
typedef enum fj_peak_kind {
    FJ_PEAK_F32,
    FJ_PEAK_BF16,
    FJ_PEAK_INT8,
    FJ_PEAK_READ,
    FJ_PEAKS
} fj_peak_kind;
extern const char *const fj_peak_names[FJ_PEAKS]; /* "f32 GFLOP/s", ..., "read GB/s" */

/* 1e9 a second, 0: not known.  A CPU's are measured, of all threads: multiply-adds on registers, and reading
 * 256 MiB.  A GPU's are those of its maker's data sheet (dense, sums in f32), by its name. */
bool fj_bench_peaks(fj_dev *d, int64_t repeat, double peak[FJ_PEAKS], fj_err *e);

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

typedef struct fj_bench_opts {
    int64_t repeat;
    int64_t streams, context; /* decode: sequences side by side, positions each has behind it, */
    int64_t tokens;           /* and new tokens for each in one run, one after another */
    int64_t adapters;         /* decode: so many, of `rank`, shared out over the streams; 0: none */
    int64_t prompt;           /* prefill: tokens */
    int64_t batch, length;    /* training step: samples of so many rows, all of them targets */
    int64_t rank;             /* of adapters, which are on all linear layers */
    int64_t
        recompute; /* layers computed again in backward; -1: as few as the device's memory allows */
    const fj_log *log;
} fj_bench_opts;

/* New tokens for every stream; a run is all of them. */
bool fj_bench_decode(fj_model *m, const fj_bench_opts *o, fj_speed *s, fj_err *e);
bool fj_bench_prefill(fj_model *m, const fj_bench_opts *o, fj_speed *s, fj_err *e);
/* Forward, backward, clipping and AdamW: of an adapter, or of every weight of a trainable model. */
bool fj_bench_step(fj_model *m, const fj_bench_opts *o, fj_speed *s, fj_err *e);

#endif
