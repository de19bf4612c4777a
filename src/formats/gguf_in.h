/* gguf_in.h - the inside of an fj_gguf: gguf.c reads a file, gguf_split.c makes one of several. */
#ifndef FJ_FORMATS_GGUF_IN_H
#define FJ_FORMATS_GGUF_IN_H

#include "base/fs.h"
#include "formats/gguf.h"

struct fj_gguf_own {
    fj_gguf pub;
    fj_mapped map;
    fj_arena mem;
    fj_map keys, tensors; /* name to index */
    /* Of the keys split.*, which are taken out of kv; count 0: it has none. */
    uint32_t no, count;
    uint64_t of_tensors;        /* in all files of the model */
    struct fj_gguf_own **parts; /* [n_parts] the others, which own what is theirs */
    size_t n_parts;
};

/* One file, as it is.  NULL: e. */
struct fj_gguf_own *fj_gguf_part_open(const char *path, fj_err *e);
/* Takes the keys split.* out of kv and checks them against each other. */
bool fj_gguf_split_keys(struct fj_gguf_own *o, fj_err *e);
/* Opens the files that belong to o, which it takes over in every case; NULL: e. */
fj_gguf *fj_gguf_split_join(struct fj_gguf_own *o, fj_err *e);

#endif
