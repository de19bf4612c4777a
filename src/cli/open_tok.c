#include "cli/open_tok.h"
#include "base/fs.h"
#include "models/source.h"
#include <stdio.h>

#define TOKENIZER_MAX ((size_t)512 << 20)

static fj_tokenizer *from_gguf(const char *path, fj_err *e) {
    fj_source s;
    if (!fj_source_open(&s, path, e)) return NULL;
    fj_tokenizer *t = fj_source_tokenizer(&s, e);
    fj_source_close(&s);
    return t;
}

static fj_tokenizer *from_json(const char *path, const char *config, fj_err *e) {
    size_t n, config_n = 0;
    char *text = fj_read_file(path, TOKENIZER_MAX, &n, e), *more = NULL;
    fj_tokenizer *t = NULL;
    if (text && fj_exists(config)) more = fj_read_file(config, TOKENIZER_MAX, &config_n, e);
    if (text && (more || !fj_exists(config)) &&
        !(t = fj_tokenizer_from_json(text, n, more, config_n, e)))
        fj_wrap(e, "%s", path);
    free(text);
    free(more);
    return t;
}

fj_tokenizer *fj_open_tokenizer(const char *path, fj_err *e) {
    bool dir = fj_is_dir(path);
    char *json = dir ? fj_path_join(path, "tokenizer.json") : fj_strdup(path);
    char head[4] = { 0 };
    fj_tokenizer *t = NULL;
    FILE *f = fopen(json, "rb");
    if (!f) {
        fj_fail_errno(e, "cannot open %s", json);
    } else {
        size_t n = fread(head, 1, sizeof head, f);
        fclose(f);
        if (n == sizeof head && !memcmp(head, "GGUF", 4)) {
            t = from_gguf(json, e);
        } else {
            char *folder = fj_strndup(json, (size_t)(fj_base_name(json) - json));
            char *config = fj_path_join(*folder ? folder : ".", "tokenizer_config.json");
            t = from_json(json, config, e);
            free(folder);
            free(config);
        }
    }
    free(json);
    return t;
}
