/* Two files that claim to be a model: any bytes as each of them, opened by either's name.  The input is the
 * length of the first in two bytes, the first, the second. */
#include "base/fs.h"
#include "formats/gguf.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static char dir[64], first[128], second[128];

static void tidy(void) { fj_remove_tree(dir, NULL); }

static void put(const char *path, const uint8_t *p, size_t n) {
    FILE *f = fopen(path, "wb");
    FJ_ASSERT(f && fwrite(p, 1, n, f) == n);
    FJ_ASSERT(!fclose(f));
}

static void look(const char *path) {
    fj_err e = { 0 };
    fj_gguf *g = fj_gguf_open(path, &e);
    if (!g) {
        FJ_ASSERT(e.code != FJ_OK && e.msg[0]);
        return;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < g->n_kv; i++) FJ_ASSERT(fj_gguf_find(g, g->kv[i].key) == &g->kv[i]);
    for (size_t i = 0; i < g->n_tensors; i++) {
        const fj_gguf_tensor *t = &g->tensors[i];
        FJ_ASSERT(fj_gguf_tensor_find(g, t->name) == t);
        FJ_ASSERT(t->file >= 0 && (size_t)t->file < g->n_files && g->files[t->file]);
        if (t->bytes >= 0) sum += fj_hash(t->data, (size_t)t->bytes);
    }
    fj_gguf_close(g);
    FJ_ASSERT(sum != 0x9e3779b97f4a7c15u); /* keeps the reads */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!dir[0]) {
        snprintf(dir, sizeof dir, "/tmp/forja-fuzz-XXXXXX");
        FJ_ASSERT(mkdtemp(dir));
        atexit(tidy);
        snprintf(first, sizeof first, "%s/m-00001-of-00002.gguf", dir);
        snprintf(second, sizeof second, "%s/m-00002-of-00002.gguf", dir);
    }
    if (n < 2) return 0;
    size_t k = data[0] | (size_t)data[1] << 8;
    data += 2;
    n -= 2;
    k = FJ_MIN(k, n);
    put(first, data, k);
    put(second, data + k, n - k);
    look(first);
    look(second);
    return 0;
}
