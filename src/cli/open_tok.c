#include "cli/open_tok.h"
#include "base/fs.h"
#include "models/source.h"
#include <stdio.h>

static fj_tokenizer *from_gguf(const char *path, fj_err *e) {
    fj_source s;
    if (!fj_source_open(&s, path, e)) return NULL;
    fj_tokenizer *t = fj_source_tokenizer(&s, e);
    fj_source_close(&s);
    return t;
}

fj_tokenizer *fj_open_tokenizer(const char *path, fj_err *e) {
    if (fj_is_dir(path)) return fj_tokenizer_from_folder(path, e);
    char head[4] = { 0 };
    FILE *f = fopen(path, "rb");
    if (!f) {
        fj_fail_errno(e, "cannot open %s", path);
        return NULL;
    }
    size_t n = fread(head, 1, sizeof head, f);
    fclose(f);
    bool gguf = n == sizeof head && !memcmp(head, "GGUF", 4);
    return gguf ? from_gguf(path, e) : fj_tokenizer_from_file(path, e);
}
