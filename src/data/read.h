/* read.h - bytes of a data file, decompressed by its name, and a UTF-8 check that says where. */
#ifndef FJ_DATA_READ_H
#define FJ_DATA_READ_H

#include "base/mem.h"

/* Whole file; .gz through zlib, .zst through zstd.  Refuses more than max bytes after decompression
 * (so a small file cannot fill the memory).  Terminated by a 0 beyond *n.  Caller frees. */
char *fj_data_read(const char *path, size_t max, size_t *n, fj_err *e);

/* ".jsonl" of "a.JSONL.gz", lower case, into ext; "" when there is none. */
void fj_data_ext(const char *path, char ext[16]);

/* Offset of the first byte that is not UTF-8 (Unicode 15, table 3-7) or is 0; n when all is well. */
size_t fj_data_text_bad(const char *s, size_t n);

#endif
