/* save.h - a model written to a file or folder, tensor by tensor, in memory that does not grow with it.
 *
 * The values come from where the weights are: memory, or for a model that was only listed its files.  An
 * adapter can be merged on the way: W + scale * B A in f32, over the values that W has in forja, so a
 * quantised base merges into the dequantised weights that the adapter was trained on. */
#ifndef FJ_MODELS_SAVE_H
#define FJ_MODELS_SAVE_H

#include "formats/gguf.h"
#include "models/merge.h"
#include "models/parts.h"

/* One tensor of the file that is written. */
typedef struct fj_saved {
    const char *name;
    const fj_weight *w;
    fj_dtype from, to; /* in the source (where parts differ F32), in the new file */
    int64_t rows, cols, mats;
    bool merged;
    /* With blocks in `to`: root mean square of its values, and of what quantising took from them. */
    double rms, rmse;
} fj_saved;

typedef struct fj_save_opts {
    const fj_lora *merge; /* NULL: none */
    fj_dtype type;        /* of matrices; those whose rows are not whole blocks become F16 */
    uint32_t file_type;   /* GGUF: general.file_type */
    /* GGUF: the format of a matrix, in place of type, in t->to.  Asked for all of them before anything is
     * written. */
    bool (*pick)(void *ctx, fj_saved *t, fj_err *e);
    /* Weight of each column's squared error when a tensor is quantised, [mats][cols]; NULL: all alike. */
    const float *(*importance)(void *ctx, const fj_saved *t);
    /* After each tensor, also those of an earlier try, whose rmse is NAN. */
    void (*wrote)(void *ctx, const fj_saved *t);
    /* GGUF: more metadata; keys that the model's own file has are replaced.  A model without a tokenizer
     * needs it, for a vocabulary. */
    void (*more)(void *ctx, fj_gguf_writer *w);
    void *ctx;
    /* Everything that the bytes depend on and the model's path does not say, in one line without blanks: an
     * interrupted save is gone on with.  NULL: each begins anew. */
    const char *key;
    int64_t max_bytes; /* of a shard; 0: 5 GB in Hugging Face folders, one GGUF file */
    const fj_log *log; /* FJ_ESTOP when it says so; what is written stays when there is a key */
} fj_save_opts;

bool fj_save_gguf(const fj_model *m, const char *path, const fj_save_opts *o, fj_err *e);
bool fj_save_hf(const fj_model *m, const char *dir, const fj_save_opts *o, fj_err *e);
/* The format that most values of the source's matrices have, of F32, F16 and BF16; quantised: BF16. */
fj_dtype fj_save_float(const fj_model *m, fj_err *e);

/* ---- for save.c (pieces.c) ----------------------------------------------------------------------- */
typedef struct fj_piece {
    fj_saved s;
    fj_part part;
    int w; /* index into m->w */
} fj_piece;

typedef struct fj_pieces {
    const fj_model *m;
    const fj_save_opts *o;
    fj_arena mem;
    fj_piece *v;
    int n;
    fj_merger merger; /* where there is an adapter */
    fj_kern own;      /* of a device that has none: rows are always quantised here */
    const fj_kern *kern;
    size_t out_cap;
    uint8_t *out;
} fj_pieces;

bool fj_pieces_open(fj_pieces *p, const fj_model *m, bool gguf, const fj_save_opts *o, fj_err *e);
void fj_pieces_close(fj_pieces *p);
/* The bytes of one, in pieces, to sink; fills in rms and rmse. */
bool fj_piece_write(fj_pieces *p, fj_piece *x, void (*sink)(void *ctx, const void *bytes, size_t n),
                    void *ctx, fj_err *e);

#endif
