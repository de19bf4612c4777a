/* hub_answer.c - what a transfer asks, and what it takes of the answer. */
#include "lifecycle/hub_task.h"

#include <stdio.h>

enum { REFUSAL_MOST = 1 << 16 };

/* ---- what comes ------------------------------------------------------------------------------------ */
static size_t on_head(char *p, size_t one, size_t n, void *ctx) {
    fj_hub_task *t = ctx;
    fj_hub_head_line(&t->head, p, n * one);
    if (!t->head.bad) return n * one;
    char *host = fj_hub_host(t->url);
    fj_fail(&t->why, FJ_EFORMAT, "%s answers with %s: refused", host, t->head.bad);
    free(host);
    t->fatal = true;
    return 0;
}

bool fj_hub_success(const fj_hub_task *t) { return t->head.status == 200 || t->head.status == 206; }

void fj_hub_take_name(fj_hub_task *t) {
    const fj_hub_head *h = &t->head;
    int64_t whole = !fj_hub_success(t) ? -1 : h->status == 206 ? h->total : h->length;
    if (t->size < 0) t->size = t->ours && h->linked_size >= 0 ? h->linked_size : whole;
    if (!t->ours || *t->etag) return;
    const char *etag = *h->linked_etag ? h->linked_etag : fj_hub_success(t) ? h->etag : "";
    memcpy(t->etag, etag, strlen(etag) + 1);
}

static bool other_size(fj_hub_task *t, int64_t is) {
    if (is < 0 || t->sink.want.size < 0 || is == t->sink.want.size) return true;
    return fj_fail(&t->why, FJ_EFORMAT,
                   "%s of %s: %lld bytes are listed, and the server says %lld: refused", t->what,
                   t->net->repo, (long long)t->sink.want.size, (long long)is);
}

bool fj_hub_check_head(fj_hub_task *t) {
    t->checked = true;
    if (!t->f) return true;
    fj_hub_take_name(t);
    fj_hub_sink *s = &t->sink;
    const char *known = *s->want.sha256 ? s->want.sha256 : s->want.blob;
    bool hash = fj_hub_is_hex(t->etag, 64) || fj_hub_is_hex(t->etag, 40);
    t->fatal = true;
    if (s->sure && hash && strlen(known) == strlen(t->etag) && strcmp(known, t->etag))
        return fj_fail(&t->why, FJ_EFORMAT,
                       "%s of %s: the server has other contents (%.12s) than it listed (%.12s)",
                       t->what, t->net->repo, t->etag, known);
    if (!s->sure && (strcmp(known, t->etag) || s->want.size != t->size)) {
        bool had = s->pos > 0;
        if (!fj_hub_sink_restart(s, &t->why) || !fj_hub_sink_note(s, t->etag, t->size, &t->why))
            return false;
        if (had && t->head.status == 206) { /* the end of another file */
            t->fatal = false;
            t->again = true;
            return false;
        }
    }
    if (s->want.size < 0 && t->size >= 0) fj_hub_sink_size(s, t->size);
    if (!other_size(t, t->size) ||
        !other_size(t, t->head.status == 206 ? t->head.total : t->head.length))
        return false;
    if (*s->want.blob && s->want.size < 0)
        return fj_fail(&t->why, FJ_EFORMAT, "the server does not say how large %s is", t->what);
    bool no_ranges = t->head.status == 200 && s->pos;
    if (no_ranges && !fj_hub_sink_restart(s, &t->why)) return false;
    if (t->head.status == 206 && t->head.from != s->pos) {
        t->fatal = !fj_hub_sink_restart(s, &t->why);
        t->again = true;
        return false;
    }
    t->fatal = false;
    return true;
}

static size_t on_body(char *p, size_t one, size_t n, void *ctx) {
    fj_hub_task *t = ctx;
    n *= one;
    if (!fj_hub_success(t)) {
        t->extra += n;
        return t->extra > REFUSAL_MOST ? 0 : n;
    }
    if (!t->checked && !fj_hub_check_head(t)) return 0;
    if (!t->f) {
        if (n > t->most - t->body->n) {
            t->fatal = true;
            fj_fail(&t->why, FJ_EFORMAT, "%s of %s has over %zu bytes: refused", t->what,
                    t->net->repo, t->most);
            return 0;
        }
        fj_str_addn(t->body, p, n);
        return n;
    }
    if (t->sink.want.size >= 0 && (int64_t)n > t->sink.want.size - t->sink.pos) {
        t->fatal = true;
        fj_fail(&t->why, FJ_EFORMAT, "%s of %s: more bytes come than the %lld of its list: refused",
                t->what, t->net->repo, (long long)t->sink.want.size);
        return 0;
    }
    if (!fj_hub_sink_write(&t->sink, p, n, &t->why)) {
        t->fatal = true;
        return 0;
    }
    return n;
}

/* ---- what is sent ---------------------------------------------------------------------------------- */
static void add_line(fj_hub_task *t, const char *text) {
    t->lines = curl_slist_append(t->lines, text);
}

bool fj_hub_begin(fj_hub_task *t, CURLM *multi) {
    curl_easy_cleanup(t->c); /* one that failed cannot be given every option again */
    t->c = curl_easy_init();
    if (!t->c) return fj_fail(&t->why, FJ_ENOMEM, "no memory for a transfer");
    curl_slist_free_all(t->lines);
    t->lines = NULL;
    fj_hub_head_clear(&t->head);
    t->checked = t->again = false;
    t->extra = 0;
    t->said[0] = 0;
    if (!t->f) fj_str_clear(t->body);
    /* Sizes, ranges and hashes are of the bytes themselves. */
    add_line(t, "Accept-Encoding: identity");
    if (t->ours && t->net->token) {
        fj_str s = { 0 };
        fj_str_addf(&s, "Authorization: Bearer %s", t->net->token);
        add_line(t, s.s);
        sodium_memzero(s.s, s.n);
        fj_str_free(&s);
    }
    int stall = t->net->o->stall_s ? t->net->o->stall_s : 30;
    CURL *c = t->c;
    CURLcode rc = CURLE_OK;
#define SET(option, value) rc = rc ? rc : curl_easy_setopt(c, option, value)
    SET(CURLOPT_URL, t->url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1); /* a connection for each file */
    SET(CURLOPT_HTTPHEADER, t->lines);
    SET(CURLOPT_USERAGENT, "forja/" FORJA_VERSION);
    SET(CURLOPT_HEADERFUNCTION, on_head);
    SET(CURLOPT_HEADERDATA, t);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, t);
    SET(CURLOPT_ERRORBUFFER, t->said);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_NOPROGRESS, 1L);
    SET(CURLOPT_CONNECTTIMEOUT, (long)FJ_MIN(stall, 30));
    SET(CURLOPT_LOW_SPEED_LIMIT, 1024L);
    SET(CURLOPT_LOW_SPEED_TIME, (long)stall);
    SET(CURLOPT_BUFFERSIZE, 256L << 10);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_PRIVATE, t);
    const char *ca = getenv("CURL_CA_BUNDLE"); /* which libcurl leaves to programs */
    if (!ca || !*ca) ca = getenv("SSL_CERT_FILE");
    if (ca && *ca) SET(CURLOPT_CAINFO, ca);
    /* Not curl's own "resume": that gives up where a redirection has a body. */
    char range[32];
    snprintf(range, sizeof range, "%lld-", (long long)(t->f ? t->sink.pos : 0));
    if (t->f && t->sink.pos) SET(CURLOPT_RANGE, range);
#undef SET
    if (rc || curl_multi_add_handle(multi, c))
        return fj_fail(&t->why, FJ_EIO, "cannot begin a transfer: %s", curl_easy_strerror(rc));
    t->st = RUNNING;
    return true;
}
