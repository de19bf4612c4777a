/* What the Hub answers, and what is made of it: a first line with the words of the user, the head of an answer, an empty line, and a
 * list of files.  Whatever comes, a name stays below its folder, and an address on the allowed ways. */
#include "lifecycle/hub_in.h"

#include <strings.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* The next line of s, with what ends it. */
static size_t line_of(const char *s, size_t n) {
    const char *end = n ? memchr(s, '\n', n) : NULL;
    return end ? (size_t)(end - s) + 1 : n;
}

static void below(const char *name) {
    FJ_ASSERT(*name && *name != '/' && strlen(name) <= 512 && !strchr(name, '\\'));
    for (const char *s = name; s; s = strchr(s, '/') ? strchr(s, '/') + 1 : NULL) {
        size_t k = strcspn(s, "/");
        FJ_ASSERT(k > 0 && k <= 255 && !(k == 1 && *s == '.') &&
                  !(k == 2 && s[0] == '.' && s[1] == '.'));
    }
}

static void ways(const fj_hub_head *h) {
    static const char *const ends[] = { "https://hub.example", "http://127.0.0.1:8080/mirror" };
    for (int i = 0; i < 2 && h->location; i++) {
        fj_hub_end p;
        fj_err e = { 0 };
        bool ours, up = fj_hub_end_open(&p, ends[i], &e);
        FJ_ASSERT(up);
        char *to = fj_hub_follow(&p, p.base, h->location, &ours, &e);
        if (to) {
            bool tls = !strncmp(to, "https://", 8),
                 own = !strncmp(to, "http://127.0.0.1", 16) && strchr(":/", to[16]);
            FJ_ASSERT(tls || (i && own));
            FJ_ASSERT(!ours || (i ? own : tls && !strncasecmp(to + 8, "hub.example", 11)));
            char *host = fj_hub_host(to);
            FJ_ASSERT(*host);
            free(host);
        } else FJ_ASSERT(e.msg[0] && !ours);
        free(to);
        fj_hub_end_close(&p);
    }
}

static void choose(const fj_hub_list *l, const fj_hub_id *id) {
    static const char *const globs[] = { "*.json", "?*" };
    for (int way = 0; way < 3; way++) {
        fj_hub_opts o = { .include = globs + (way == 2),
                          .n_include = way == 2,
                          .exclude = globs,
                          .n_exclude = way == 1 };
        size_t *pick, n;
        bool single;
        fj_err e = { 0 };
        if (!fj_hub_pick(l, id, &o, &pick, &n, &single, &e)) {
            FJ_ASSERT(e.msg[0] && !pick);
            continue;
        }
        FJ_ASSERT(n > 0 && n <= l->n);
        for (size_t i = 0; i < n; i++)
            FJ_ASSERT(pick[i] < l->n && (i == 0 || pick[i] > pick[i - 1]));
        free(pick);
    }
}

static void list(const char *text, size_t n, const fj_hub_id *id) {
    fj_hub_list l;
    fj_err e = { 0 };
    if (!fj_hub_list_parse(&l, text, n, "fuzz", &e)) {
        FJ_ASSERT(e.code != FJ_OK && e.msg[0] && !l.f);
        return;
    }
    fj_hub_place p = { .meta = (char *)(uintptr_t) "m" };
    for (size_t i = 0; i < l.n; i++) {
        below(l.f[i].name);
        FJ_ASSERT(l.f[i].size >= -1 && fj_hub_list_find(&l, l.f[i].name) == l.f + i);
        char *part = fj_hub_part_path(&p, l.f + i, l.commit);
        FJ_ASSERT(!strncmp(part, "m/parts/", 8) && !strchr(part + 8, '/'));
        free(part);
    }
    choose(&l, id);
    choose(&l, &(fj_hub_id){ .repo = "o/n" });
    fj_hub_list_free(&l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    const char *s = (const char *)data;
    fj_err e = { 0 };
    fj_hub_id id;
    size_t k = line_of(s, n), bare = k && s[k - 1] == '\n' ? k - 1 : k;
    char *words = fj_strndup(s ? s : "", bare);
    if (fj_hub_parse(words, &id, &e)) {
        FJ_ASSERT(strchr(id.repo, '/') && !strstr(id.repo, "..") &&
                  strlen(id.repo) < sizeof id.repo);
        if (id.file) below(id.file);
    } else {
        FJ_ASSERT(e.msg[0]);
        id = (fj_hub_id){ .repo = "o/n" };
    }
    if (!fj_hub_revision_ok(words, &e)) FJ_ASSERT(e.msg[0]);
    fj_hub_head h = { 0 };
    fj_hub_head_clear(&h);
    for (s += k, n -= k; n; s += k, n -= k) {
        k = line_of(s, n);
        if (k <= 2 && (s[0] == '\n' || s[0] == '\r')) break;
        fj_hub_head_line(&h, s, k);
    }
    FJ_ASSERT(h.status >= 0 && h.status < 1000 && h.length >= -1 && h.from >= -1 && h.total >= -1);
    FJ_ASSERT(!h.location || strlen(h.location) <= 8192);
    ways(&h);
    fj_hub_net net = { .end = &(fj_hub_end){ .base = (char *)(uintptr_t) "https://hub.example" },
                       .o = &(fj_hub_opts){ 0 },
                       .repo = id.repo,
                       .commit = "" };
    e = (fj_err){ 0 };
    fj_hub_refused(&net, &h, "https://hub.example/x", n % 2 ? "x" : NULL, &e);
    FJ_ASSERT(e.msg[0] && !strchr(e.msg, '\n'));
    if (n) list(s + k, n - k, &id);
    fj_hub_head_clear(&h);
    free(id.file);
    free(words);
    return 0;
}
