/* Rows from anyone: the first byte says which kind of file the rest is (l lines, j values, t text, g
 * gzip, z zstd).  What is read must be whole: text that is UTF-8, an answer in each row, a hash. */
#include "base/fs.h"
#include "data/dataset.h"
#include "data/read.h"

#include <stdio.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void check_text(const char *s) { FJ_ASSERT(fj_data_text_bad(s, strlen(s)) == strlen(s)); }

static void check(const fj_dataset *d) {
    FJ_ASSERT(d->n > 0 && strlen(d->hash) == FJ_SHA256_HEX - 1);
    for (size_t i = 0; i < d->n; i++) {
        const fj_data_row *r = &d->rows[i];
        FJ_ASSERT((r->text != NULL) != (r->n_messages > 0) && r->line >= 1);
        FJ_ASSERT(strlen(r->hash) == FJ_SHA256_HEX - 1);
        if (r->text) {
            check_text(r->text);
            FJ_ASSERT(strlen(r->text) == r->text_n && r->text_n > 0);
        }
        if (!r->text) {
            json_t *c = fj_row_conversation(r, NULL, false, NULL);
            FJ_ASSERT(json_array_size(fj_row_conv(c).messages) == (size_t)r->n_messages);
            json_decref(c);
        }
        for (int k = 0; k < r->n_messages; k++) {
            check_text(r->messages[k].role);
            check_text(r->messages[k].content);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static const char *const ext[][2] = { { "l", ".jsonl" },
                                          { "j", ".json" },
                                          { "t", ".txt" },
                                          { "g", ".jsonl.gz" },
                                          { "z", ".jsonl.zst" } };
    if (n < 1) return 0;
    const char *end = NULL;
    for (size_t i = 0; i < FJ_LEN(ext); i++)
        if (data[0] == (uint8_t)ext[i][0][0]) end = ext[i][1];
    if (!end) return 0;
    const char *tmp = getenv("TMPDIR");
    char path[512];
    snprintf(path, sizeof path, "%s/forja-fuzz-%ld%s", tmp && *tmp ? tmp : "/tmp", (long)getpid(),
             end);
    FILE *f = fopen(path, "wb");
    if (!f) return 0;
    bool wrote = fwrite(data + 1, 1, n - 1, f) == n - 1;
    wrote = fclose(f) == 0 && wrote;
    const char *one = path;
    for (int skip = 0; skip < 2 && wrote; skip++) {
        fj_dataset d;
        fj_err e = { 0 };
        fj_dataset_opts o = { .skip_bad_rows = skip, .open_rows = skip, .max_bytes = 1 << 22 };
        if (fj_dataset_load(&d, &one, 1, &o, NULL, &e)) {
            check(&d);
            fj_dataset_free(&d);
        } else {
            FJ_ASSERT(e.code != FJ_OK && strstr(e.msg, path)); /* every sentence names the file */
        }
    }
    unlink(path);
    return 0;
}
