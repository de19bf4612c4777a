/* tok_folder.c - the tokenizer of a Hugging Face folder, from whichever of its files is there. */
#include "base/fs.h"
#include "text/tok_json.h"

#include <dirent.h>

enum { FILE_MAX = 512 << 20 };

typedef struct file {
    char *s;
    size_t n;
} file;

/* True with s NULL: it is not there. */
static bool load(const char *dir, const char *name, file *f, fj_err *e) {
    char *path = fj_path_join(dir, name);
    *f = (file){ 0 };
    bool ok = !fj_exists(path) || (f->s = fj_read_file(path, FILE_MAX, &f->n, e)) != NULL;
    free(path);
    return ok;
}

/* The name of the one *.tiktoken of the folder, "" when there is none. */
static void ranks_name(const char *dir, char *out, size_t cap) {
    DIR *d = opendir(dir);
    *out = 0;
    for (struct dirent *x; d && (x = readdir(d));) {
        size_t n = strlen(x->d_name);
        if (n > 9 && n < cap && strcmp(x->d_name + n - 9, ".tiktoken") == 0 &&
            (!*out || strcmp(x->d_name, out) < 0))
            memcpy(out, x->d_name, n + 1);
    }
    if (d) closedir(d);
}

/* added_tokens.json, as older folders have it, goes into added_tokens_decoder of the configuration. */
static bool merge_added(file *config, file *added, fj_err *e) {
    if (!added->s) return true;
    json_t *more = fj_rd_parse("added_tokens.json", added->s, added->n, e), *c = NULL, *v;
    const char *key;
    fj_arena mem = { 0 };
    bool ok = more && (c = config->s ? fj_rd_parse("tokenizer_config.json", config->s, config->n, e)
                                     : json_object());
    json_t *list = ok ? json_object_get(c, "added_tokens_decoder") : NULL;
    if (ok && !list) {
        list = json_object();
        json_object_set_new(c, "added_tokens_decoder", list);
    }
    if (ok) json_object_foreach(more, key, v) {
            if (!json_is_integer(v)) {
                ok = fj_fail(e, FJ_EFORMAT, "added_tokens.json: \"%.60s\" has no id", key);
                break;
            }
            char *id = fj_arena_printf(&mem, "%lld", (long long)json_integer_value(v));
            if (!json_object_get(list, id))
                json_object_set_new(list, id,
                                    json_pack("{s:s, s:b}", "content", key, "normalized", false));
        }
    if (ok) {
        free(config->s);
        config->s = json_dumps(c, JSON_COMPACT);
        config->n = strlen(config->s);
    }
    fj_arena_free(&mem);
    json_decref(more);
    json_decref(c);
    return ok;
}

/* "base64 rank" lines are text; SentencePiece begins with the tag of a piece. */
static bool is_ranks(const file *f) {
    size_t i = 0;
    while (i < f->n && i < 400 && f->s[i] > ' ' && f->s[i] < 127) i++;
    return i && i < f->n && f->s[i] == ' ';
}

fj_tokenizer *fj_tokenizer_from_folder(const char *dir, fj_err *e) {
    file f = { 0 }, m = { 0 }, c = { 0 }, a = { 0 };
    fj_tokenizer *t = NULL;
    char name[256] = "tokenizer.json";
    if (!load(dir, "tokenizer_config.json", &c, e) || !load(dir, name, &f, e)) goto out;
    if (f.s) {
        t = fj_tokenizer_from_json(f.s, f.n, c.s, c.n, e);
        goto out;
    }
    if (!load(dir, "added_tokens.json", &a, e) || !merge_added(&c, &a, e)) goto out;
    memcpy(name, "tokenizer.model", 16);
    if (!load(dir, name, &f, e)) goto out;
    if (f.s) {
        t = is_ranks(&f) ? fj_tokenizer_from_tiktoken(f.s, f.n, NULL, c.s, c.n, e)
                         : fj_tokenizer_from_sentencepiece(f.s, f.n, c.s, c.n, e);
        goto out;
    }
    memcpy(name, "tekken.json", 12);
    if (!load(dir, name, &f, e)) goto out;
    if (f.s) {
        t = fj_tokenizer_from_tekken(f.s, f.n, e);
        goto out;
    }
    ranks_name(dir, name, sizeof name);
    if (*name) {
        if (load(dir, name, &f, e)) t = fj_tokenizer_from_tiktoken(f.s, f.n, NULL, c.s, c.n, e);
        goto out;
    }
    memcpy(name, "vocab.json", 11);
    if (!load(dir, name, &f, e) || !load(dir, "merges.txt", &m, e)) goto out;
    if (f.s && m.s) {
        t = fj_tokenizer_from_vocab(f.s, f.n, m.s, m.n, c.s, c.n, e);
        goto out;
    }
    free(f.s);
    memcpy(name, "vocab.txt", 10);
    if (!load(dir, name, &f, e)) goto out;
    if (f.s) {
        t = fj_tokenizer_from_vocab(f.s, f.n, NULL, 0, c.s, c.n, e);
        goto out;
    }
    *name = 0;
    fj_fail(e, FJ_EIO,
            "no tokenizer in it: looked for tokenizer.json, tokenizer.model, tekken.json, "
            "*.tiktoken, vocab.json with merges.txt, vocab.txt");
out:
    if (!t && *name) fj_wrap(e, "%s/%s", dir, name);
    else if (!t) fj_wrap(e, "%s", dir);
    free(f.s);
    free(m.s);
    free(c.s);
    free(a.s);
    return t;
}

/* The folder of a path, "." for none; the caller frees. */
static char *folder_of(const char *path) {
    size_t n = (size_t)(fj_base_name(path) - path);
    return n ? fj_strndup(path, n) : fj_strdup(".");
}

fj_tokenizer *fj_tokenizer_from_file(const char *path, fj_err *e) {
    const char *name = fj_base_name(path);
    size_t n = strlen(name);
    char *dir = folder_of(path);
    file f = { 0 }, c = { 0 }, m = { 0 };
    fj_tokenizer *t = NULL;
    if (!(f.s = fj_read_file(path, FILE_MAX, &f.n, e)) ||
        !load(dir, "tokenizer_config.json", &c, e))
        goto out;
    if (strcmp(name, "tekken.json") == 0) t = fj_tokenizer_from_tekken(f.s, f.n, e);
    else if (strcmp(name, "vocab.txt") == 0)
        t = fj_tokenizer_from_vocab(f.s, f.n, NULL, 0, c.s, c.n, e);
    else if (strcmp(name, "vocab.json") == 0 && load(dir, "merges.txt", &m, e) && m.s)
        t = fj_tokenizer_from_vocab(f.s, f.n, m.s, m.n, c.s, c.n, e);
    else if (n > 5 && strcmp(name + n - 5, ".json") == 0)
        t = fj_tokenizer_from_json(f.s, f.n, c.s, c.n, e);
    else if (is_ranks(&f)) t = fj_tokenizer_from_tiktoken(f.s, f.n, NULL, c.s, c.n, e);
    else if (f.n && f.s[0] == '\n') t = fj_tokenizer_from_sentencepiece(f.s, f.n, c.s, c.n, e);
    else t = fj_tokenizer_from_json(f.s, f.n, c.s, c.n, e);
    if (!t) fj_wrap(e, "%s", path);
out:
    free(dir);
    free(f.s);
    free(c.s);
    free(m.s);
    return t;
}
