/* hub_pick.c - which files of a model are fetched. */
#include "base/fs.h"
#include "lifecycle/hub_in.h"

#include <ctype.h>
#include <fnmatch.h>
#include <strings.h>

/* What forja reads of a model folder, beside weights: names without a folder in front. */
static const char *const folder_files[] = {
    "config*.json",
    "generation_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "tekken.json",
    "*.tiktoken",
    "chat_template*",
    "adapter_config.json",
    "*.safetensors.index.json",
    "quant*config.json",
};

static bool glob(const char *pattern, const char *name) { return fnmatch(pattern, name, 0) == 0; }

static bool any(const char *const *globs, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (glob(globs[i], name)) return true;
    return false;
}

static bool ends(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcasecmp(s + n - k, end);
}

static bool is_gguf(const char *name) { return ends(name, ".gguf"); }

/* Beside models in GGUF repositories: eyes and statistics, which are asked for by their names. */
static bool is_aside(const char *name) {
    const char *base = fj_base_name(name);
    return !strncasecmp(base, "mmproj", 6) || !strncasecmp(base, "imatrix", 7);
}

/* "x-00001-of-00003.gguf": the length of "x", else that of all but ".gguf". */
static size_t stem(const char *name) {
    size_t n = strlen(name) - 5;
    if (n < 15 || name[n - 15] != '-' || strncmp(name + n - 9, "-of-", 4) != 0) return n;
    for (int i = 0; i < 5; i++)
        if (!isdigit((unsigned char)name[n - 14 + (size_t)i]) ||
            !isdigit((unsigned char)name[n - 5 + (size_t)i]))
            return n;
    return n - 15;
}

static bool same_model(const char *a, const char *b) {
    size_t n = stem(a);
    return n == stem(b) && !memcmp(a, b, n) && (strlen(a) == n + 5) == (strlen(b) == n + 5);
}

/* Does the name hold the word, not inside of a longer one?  "Q4_K" is not in "x-Q4_K_M.gguf". */
static bool has_word(const char *name, const char *word) {
    size_t n = strlen(word);
    for (const char *s = name; *s; s++) {
        if (strncasecmp(s, word, n) != 0) continue;
        bool left = s == name || (!isalnum((unsigned char)s[-1]) && s[-1] != '_');
        bool right = !isalnum((unsigned char)s[n]) && s[n] != '_';
        if (left && right) return true;
    }
    return false;
}

/* The part of a GGUF's name that tells it from its neighbours, for messages: the last word with a digit in it. */
static void label(const char *name, fj_str *out) {
    const char *base = fj_base_name(name);
    size_t n = stem(base), from = n;
    while (from && (isalnum((unsigned char)base[from - 1]) || base[from - 1] == '_')) from--;
    bool good = from && strcspn(base + from, "0123456789") < n - from;
    if (good) fj_str_addn(out, base + from, n - from);
    else fj_str_addn(out, base, strlen(base));
}

static void size_text(fj_str *out, int64_t n) {
    if (n >= 0) fj_str_addf(out, n >= 99500000 ? " (%.1f GB)" : " (%.4f GB)", (double)n * 1e-9);
}

/* The choices among GGUF files, as far as a message goes. */
static void choices(const fj_hub_list *l, fj_str *out) {
    int more = 0;
    for (size_t i = 0; i < l->n; i++) {
        const char *name = l->f[i].name;
        if (!is_gguf(name) || is_aside(name)) continue;
        bool first = true;
        int64_t size = 0;
        for (size_t k = 0; k < l->n; k++) {
            if (!is_gguf(l->f[k].name) || !same_model(name, l->f[k].name)) continue;
            if (k < i) first = false;
            size = size < 0 || l->f[k].size < 0 ? -1 : size + l->f[k].size;
        }
        if (!first) continue;
        if (out->n > 260) {
            more++;
            continue;
        }
        if (out->n) fj_str_add(out, ", ");
        label(name, out);
        size_text(out, size);
    }
    if (more) fj_str_addf(out, " and %d more", more);
    if (!out->n) fj_str_add(out, "none");
}

/* The models in GGUF that `word` means (NULL: all); *first is the first file of the first. */
static size_t ggufs(const fj_hub_list *l, const char *word, size_t *first) {
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        const char *name = l->f[i].name;
        if (!is_gguf(name) || is_aside(name) || (word && !has_word(name, word))) continue;
        bool seen = false;
        for (size_t k = 0; k < i && !seen; k++)
            seen = is_gguf(l->f[k].name) && same_model(name, l->f[k].name);
        if (seen) continue;
        if (n++ == 0) *first = i;
    }
    return n;
}

static bool top_safetensors(const char *name) {
    return !strchr(name, '/') && ends(name, ".safetensors");
}

/* The weights of a folder: model.safetensors, else its shards, else whatever safetensors lie there. */
static int weights_kind(const fj_hub_list *l) {
    int kind = 0;
    for (size_t i = 0; i < l->n; i++) {
        const char *name = l->f[i].name;
        if (!strcmp(name, "model.safetensors")) return 3;
        if (glob("model-*-of-*.safetensors", name) && !strchr(name, '/')) kind = 2;
        else if (top_safetensors(name)) kind = FJ_MAX(kind, 1);
    }
    return kind;
}

static bool wanted(const char *name, int kind) {
    if (strchr(name, '/')) return glob("additional_chat_templates/*.jinja", name);
    if (ends(name, ".safetensors"))
        return kind == 3   ? !strcmp(name, "model.safetensors")
               : kind == 2 ? glob("model-*-of-*.safetensors", name)
                           : true;
    if (kind == 3 && !strcmp(name, "model.safetensors.index.json")) return false;
    return any(folder_files, FJ_LEN(folder_files), name);
}

/* One GGUF by the file's name or by a word of it. */
static bool pick_named(const fj_hub_list *l, const fj_hub_id *id, size_t *at, fj_err *e) {
    const fj_hub_file *f = fj_hub_list_find(l, id->file);
    if (f) {
        *at = (size_t)(f - l->f);
        return true;
    }
    size_t n = ggufs(l, id->file, at);
    if (n == 1) return true;
    fj_str s = { 0 };
    choices(l, &s);
    if (n)
        fj_fail(e, FJ_EINVAL,
                "%s: \"%s\" is in the names of %zu GGUF files: give the whole name of one",
                id->repo, id->file, n);
    else
        fj_fail(e, FJ_EINVAL, "%s has no file %s and no GGUF of that name; GGUF there: %s",
                id->repo, id->file, s.s);
    fj_str_free(&s);
    return false;
}

/* Without a name: a folder of safetensors, or the one GGUF that there is. */
static bool pick_kind(const fj_hub_list *l, const fj_hub_id *id, bool *gguf, size_t *at,
                      fj_err *e) {
    if (weights_kind(l)) return true;
    size_t n = ggufs(l, NULL, at);
    *gguf = n == 1;
    if (n == 1) return true;
    if (n == 0)
        return fj_fail(
            e, FJ_EUNSUP,
            "%s has neither safetensors nor GGUF files, and forja reads no others (%zu files; --include takes "
            "what you name)",
            id->repo, l->n);
    fj_str s = { 0 };
    choices(l, &s);
    fj_fail(e, FJ_EINVAL, "%s has %zu GGUF models: say which, as in %s:NAME; there are %s",
            id->repo, n, id->repo, s.s);
    fj_str_free(&s);
    return false;
}

bool fj_hub_pick(const fj_hub_list *l, const fj_hub_id *id, const fj_hub_opts *o, size_t **pick,
                 size_t *n, bool *single, fj_err *e) {
    size_t at = 0;
    bool gguf = false;
    *pick = NULL;
    *n = 0;
    *single = false;
    if (id->file && o->n_include)
        return fj_fail(e, FJ_EINVAL, "%s:%s names a file already: --include cannot go with it",
                       id->repo, id->file);
    if (id->file && !pick_named(l, id, &at, e)) return false;
    if (!id->file && !o->n_include && !pick_kind(l, id, &gguf, &at, e)) return false;
    *single = id->file || gguf;
    int kind = weights_kind(l);
    *pick = fj_alloc((l->n + 1) * sizeof **pick);
    for (size_t i = 0; i < l->n; i++) {
        const char *name = l->f[i].name;
        bool take;
        if (*single)
            take = i == at ||
                   (is_gguf(l->f[at].name) && is_gguf(name) && same_model(l->f[at].name, name));
        else if (o->n_include) take = any(o->include, o->n_include, name);
        else take = wanted(name, kind);
        if (take && !any(o->exclude, o->n_exclude, name)) (*pick)[(*n)++] = i;
    }
    if (*n) return true;
    free(*pick);
    *pick = NULL;
    return fj_fail(e, FJ_EINVAL, "%s: --include and --exclude leave none of its %zu files",
                   id->repo, l->n);
}
