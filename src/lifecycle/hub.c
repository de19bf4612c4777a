/* hub.c - one pull, from the words to the files. */
#include "lifecycle/hub.h"

#include "base/fs.h"
#include "lifecycle/hub_in.h"
#include <curl/curl.h>
#include <unistd.h>

enum { LIST_MOST = 32 << 20 };

typedef struct pull {
    fj_hub_id id;
    const fj_hub_opts *o;
    fj_hub_end end;
    char *repo_dir, *meta; /* of this model in the cache */
    char *token, token_from[300];
    fj_hub_list list;
    fj_hub_place place;
    bool listed; /* the list is in the cache already */
} pull;

static const char *revision(const pull *p) { return p->o->revision ? p->o->revision : "main"; }

static char *list_path(const pull *p, const char *commit) {
    fj_str s = { 0 };
    fj_str_addf(&s, "%s/%s.json", p->meta, commit);
    return fj_str_take(&s);
}

/* The list as the cache has it, for the commit that the revision is or was; false without an error: not there. */
static bool list_of_cache(pull *p, fj_err *e) {
    char commit[65];
    const char *rev = revision(p);
    if (fj_hub_is_hex(rev, 40)) memcpy(commit, rev, 41);
    else if (!fj_hub_ref_read(p->meta, rev, commit)) return false;
    char *path = list_path(p, commit);
    size_t n;
    char *text = fj_exists(path) ? fj_read_file(path, LIST_MOST, &n, e) : NULL;
    p->listed = text && fj_hub_list_parse(&p->list, text, n, path, e);
    free(text);
    free(path);
    return p->listed;
}

static bool list_of_hub(pull *p, const fj_hub_net *net, fj_err *e) {
    fj_str url = { 0 }, body = { 0 };
    fj_str_addf(&url, "%s/api/models/%s/revision/", p->end.base, p->id.repo);
    fj_hub_url_add(&url, revision(p), false);
    fj_str_add(&url, "?blobs=true");
    bool ok = fj_hub_get(net, url.s, "the list of files", LIST_MOST, &body, e);
    if (ok) {
        fj_str name = { 0 };
        fj_str_addf(&name, "the list of files of %s", p->id.repo);
        ok = fj_hub_list_parse(&p->list, body.s ? body.s : "", body.n, name.s, e);
        fj_str_free(&name);
    }
    fj_str_free(&url);
    fj_str_free(&body);
    return ok;
}

/* What the cache remembers of it: the list, then the revision that leads to it. */
static bool remember(pull *p, fj_err *e) {
    char *path = list_path(p, p->list.commit), *refs = fj_path_join(p->meta, "refs"),
         *ref = fj_hub_ref_path(p->meta, revision(p)), was[65];
    bool ok = p->listed || fj_hub_list_save(&p->list, path, e);
    if (ok && strcmp(revision(p), p->list.commit) != 0 &&
        !(fj_hub_ref_read(p->meta, revision(p), was) && !strcmp(was, p->list.commit)))
        ok = fj_mkdirs(refs, e) && fj_write_file(ref, p->list.commit, strlen(p->list.commit), e);
    free(path);
    free(refs);
    free(ref);
    return ok;
}

static bool offline_has_all(const pull *p, const fj_hub_result *r, fj_err *e) {
    fj_str s = { 0 };
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        if (r->files[i].have) continue;
        if (++n <= 3) fj_str_addf(&s, "%s%.80s", s.n ? ", " : "", r->files[i].name);
    }
    if (n > 3) fj_str_addf(&s, " and %zu more", n - 3);
    if (n)
        fj_fail(e, FJ_EIO, "offline, and the cache lacks %s of %s: pull once without --offline",
                s.s, p->id.repo);
    fj_str_free(&s);
    return n == 0;
}

/* Where the files go. */
static void find_place(pull *p) {
    p->place.cache = !p->o->to;
    if (p->o->to) {
        p->place.root = fj_strdup(p->o->to);
        p->place.meta = fj_path_join(p->o->to, ".forja");
    } else {
        p->place.root = fj_path_join(p->repo_dir, p->list.commit);
        p->place.meta = fj_strdup(p->meta);
    }
}

static bool look(pull *p, fj_hub_result *r, fj_err *e) {
    for (size_t i = 0; i < r->n; i++)
        if (!fj_hub_look(&p->place, p->list.commit, r->files + i, e)) return false;
    return true;
}

static void sum(fj_hub_result *r) {
    for (size_t i = 0; i < r->n; i++) {
        int64_t size = FJ_MAX(r->files[i].size, 0);
        r->bytes += size;
        if (!r->files[i].have) r->missing += size;
    }
}

/* Everything into its place.  r keeps what was there before. */
static bool bring(pull *p, const fj_hub_net *net, fj_hub_result *r, fj_err *e) {
    const fj_log *log = p->o->log;
    fj_hub_file *f = fj_alloc((r->n + 1) * sizeof *f);
    bool ok = fj_hub_lock(&p->place, log, e);
    if (ok && p->place.cache) ok = remember(p, e);
    ok = ok && look(p, r, e);
    sum(r);
    if (r->n) memcpy(f, r->files, r->n * sizeof *f);
    for (size_t i = 0; ok && i < r->n; i++)
        if (!f[i].have) ok = fj_hub_adopt(&p->place, p->repo_dir, f + i, log, e);
    if (ok && p->o->offline) ok = offline_has_all(p, &(fj_hub_result){ .files = f, .n = r->n }, e);
    else if (ok) ok = fj_hub_fetch(net, &p->place, f, r->n, e);
    for (size_t i = 0; ok && i < r->n; i++)
        r->files[i].size = f[i].size; /* where the list had none */
    if (ok && !p->place.cache) ok = fj_remove_tree(p->place.meta, e);
    else if (ok && !p->o->offline) fj_hub_sweep(&p->place, &p->list);
    fj_hub_unlock(&p->place);
    free(f);
    return ok;
}

static bool choose(pull *p, fj_hub_result *r, fj_err *e) {
    size_t *pick, n;
    bool single;
    if (!fj_hub_pick(&p->list, &p->id, p->o, &pick, &n, &single, e)) return false;
    find_place(p);
    r->files = fj_zalloc((n + 1) * sizeof *r->files);
    for (size_t i = 0; i < n; i++) {
        r->files[i] = p->list.f[pick[i]];
        r->files[i].name = fj_strdup(r->files[i].name);
    }
    r->n = n;
    free(pick);
    memcpy(r->commit, p->list.commit, sizeof r->commit);
    r->path = single ? fj_path_join(p->place.root, r->files[0].name) : fj_strdup(p->place.root);
    return true;
}

static bool all_here(const fj_hub_result *r) {
    for (size_t i = 0; i < r->n; i++)
        if (!r->files[i].have) return false;
    return true;
}

static bool work(pull *p, fj_hub_result *r, fj_err *e) {
    const fj_hub_opts *o = p->o;
    const char *endpoint = o->endpoint ? o->endpoint : getenv("HF_ENDPOINT");
    char *cache;
    if (!fj_hub_revision_ok(revision(p), e) || !(cache = fj_hub_cache_dir(o->cache, e)))
        return false;
    p->repo_dir = fj_path_join(cache, p->id.repo);
    p->meta = fj_path_join(p->repo_dir, ".forja");
    free(cache);
    if (o->offline ||
        fj_hub_is_hex(revision(p),
                      40)) { /* a commit never changes: its list, once known, is enough */
        *e = (fj_err){ 0 };
        if (!list_of_cache(p, e) && (o->offline || e->code))
            return e->code ? false
                           : fj_fail(e, FJ_EIO,
                                     "offline, and the cache (%s) has nothing of %s at revision %s",
                                     p->repo_dir, p->id.repo, revision(p));
    }
    if (p->listed) {
        if (!choose(p, r, e)) return false;
        if (!o->to && (!look(p, r, e) || all_here(r) || o->dry_run)) {
            sum(r);
            return e->code == FJ_OK;
        }
        if (o->offline && !o->to) return offline_has_all(p, r, e);
    }
    if (!fj_hub_end_open(&p->end, endpoint && *endpoint ? endpoint : "https://huggingface.co", e))
        return false;
    p->token = o->offline ? NULL : fj_hub_token(o->token, p->token_from, e);
    if (!p->token && e->code) return false;
    fj_hub_net net = { &p->end, o, p->id.repo, p->token, p->token_from, p->list.commit };
    if (p->token && !strcmp(p->end.scheme, "http") && strcmp(p->end.host, "127.0.0.1") != 0 &&
        strcmp(p->end.host, "localhost") != 0)
        fj_log_message(o->log, FJ_WARN,
                       "HF_ENDPOINT is http: the token goes to %s without encryption", p->end.host);
    if (!p->listed && (!list_of_hub(p, &net, e) || !choose(p, r, e))) return false;
    if (o->dry_run) {
        bool ok = look(p, r, e);
        sum(r);
        return ok;
    }
    return bring(p, &net, r, e);
}

bool fj_hub_pull(const char *what, const fj_hub_opts *o, fj_hub_result *r, fj_err *e) {
    fj_err none;
    fj_hub_opts with = *o;
    with.offline |= fj_hub_offline();
    pull p = { .o = &with, .place.lock = -1 };
    *r = (fj_hub_result){ 0 };
    if (!e) e = &none;
    *e = (fj_err){ 0 };
    if (!fj_hub_parse(what, &p.id, e)) return false;
    bool up = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
    bool ok = up ? work(&p, r, e) : fj_fail(e, FJ_EIO, "libcurl cannot be used");
    if (up) curl_global_cleanup();
    if (p.token) sodium_memzero(p.token, strlen(p.token));
    free(p.token);
    free(p.id.file);
    free(p.repo_dir);
    free(p.meta);
    free(p.place.root);
    free(p.place.meta);
    fj_hub_end_close(&p.end);
    fj_hub_list_free(&p.list);
    if (!ok) fj_hub_free(r);
    return ok;
}

void fj_hub_free(fj_hub_result *r) {
    for (size_t i = 0; i < r->n; i++) free(r->files[i].name);
    free(r->files);
    free(r->path);
    *r = (fj_hub_result){ 0 };
}

char *fj_hub_cached(const char *what) {
    fj_hub_result r;
    fj_err e;
    if (!fj_hub_pull(what, &(fj_hub_opts){ .offline = true }, &r, &e)) return NULL;
    char *path = fj_strdup(r.path);
    fj_hub_free(&r);
    return path;
}
