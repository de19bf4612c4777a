/* hub_head.c - heads of HTTP answers, line by line, and what they mean when they say no. */
#include "lifecycle/hub_in.h"

#include <ctype.h>
#include <strings.h>

enum { HEAD_MOST = 64 << 10, LOCATION_MOST = 8192 };

static bool is(const char *line, size_t n, const char *name, const char **v, size_t *k) {
    size_t m = strlen(name);
    if (n <= m || line[m] != ':' || strncasecmp(line, name, m) != 0) return false;
    line += m + 1;
    n -= m + 1;
    while (n && (*line == ' ' || *line == '\t')) line++, n--;
    while (n && isspace((unsigned char)line[n - 1])) n--;
    *v = line;
    *k = n;
    return true;
}

/* Digits and nothing else, up to 2^62; -1: not a number. */
static int64_t number(const char *v, size_t k) {
    int64_t x = 0;
    if (k == 0 || k > 18) return -1;
    for (size_t i = 0; i < k; i++) {
        if (v[i] < '0' || v[i] > '9') return -1;
        x = x * 10 + (v[i] - '0');
    }
    return x;
}

static void put(char *out, size_t room, const char *v, size_t k) {
    k = FJ_MIN(k, room - 1);
    for (size_t i = 0; i < k; i++) out[i] = (char)(v[i] < ' ' || v[i] == 0x7f ? '?' : v[i]);
    out[k] = 0;
}

static void put_etag(char *out, size_t room, const char *v, size_t k) {
    if (k > 2 && v[0] == 'W' && v[1] == '/') v += 2, k -= 2;
    if (k >= 2 && v[0] == '"' && v[k - 1] == '"') v++, k -= 2;
    out[0] = 0;
    if (k < room)
        put(out, room, v, k); /* one that does not fit is none: half of it would mean another */
}

/* "bytes FROM-TO/SIZE" */
static void put_range(fj_hub_head *h, const char *v, size_t k) {
    if (k < 6 || strncasecmp(v, "bytes ", 6) != 0) return;
    v += 6;
    k -= 6;
    const char *dash = memchr(v, '-', k), *slash = memchr(v, '/', k);
    if (slash) h->total = number(slash + 1, (size_t)(v + k - slash - 1));
    if (dash && slash && dash < slash) h->from = number(v, (size_t)(dash - v));
}

/* Where ;t=N stands in it. */
static int64_t limit(const char *v, size_t k) {
    for (size_t i = 0; i + 2 < k; i++) {
        if (v[i] != ';' || v[i + 1] != 't' || v[i + 2] != '=') continue;
        size_t n = 0;
        while (i + 3 + n < k && isdigit((unsigned char)v[i + 3 + n])) n++;
        return number(v + i + 3, n);
    }
    return -1;
}

void fj_hub_head_clear(fj_hub_head *h) {
    free(h->location);
    *h = (fj_hub_head){
        .length = -1, .from = -1, .total = -1, .linked_size = -1, .retry_s = -1, .limit_s = -1
    };
}

void fj_hub_head_line(fj_hub_head *h, const char *line, size_t n) {
    const char *v;
    size_t k;
    h->bytes += n;
    if (h->bytes > HEAD_MOST) h->bad = "a head of over 64 KiB";
    if (n >= 5 && !memcmp(line, "HTTP/", 5)) { /* also behind "100 Continue": the last one counts */
        size_t bytes = h->bytes;
        const char *bad = h->bad, *space = memchr(line, ' ', n);
        size_t left = space ? (size_t)(line + n - space - 1) : 0;
        fj_hub_head_clear(h);
        h->bytes = bytes;
        h->bad = bad;
        if (left >= 3) h->status = (int)FJ_MAX(number(space + 1, 3), 0);
        return;
    }
    if (is(line, n, "content-length", &v, &k)) h->length = number(v, k);
    else if (is(line, n, "content-range", &v, &k)) put_range(h, v, k);
    else if (is(line, n, "x-linked-size", &v, &k)) h->linked_size = number(v, k);
    else if (is(line, n, "retry-after", &v, &k)) h->retry_s = number(v, k);
    else if (is(line, n, "ratelimit", &v, &k)) h->limit_s = limit(v, k);
    else if (is(line, n, "etag", &v, &k)) put_etag(h->etag, sizeof h->etag, v, k);
    else if (is(line, n, "x-linked-etag", &v, &k))
        put_etag(h->linked_etag, sizeof h->linked_etag, v, k);
    else if (is(line, n, "x-repo-commit", &v, &k)) put(h->commit, sizeof h->commit, v, k);
    else if (is(line, n, "x-error-code", &v, &k)) put(h->error, sizeof h->error, v, k);
    else if (is(line, n, "x-error-message", &v, &k)) put(h->message, sizeof h->message, v, k);
    else if (is(line, n, "location", &v, &k)) {
        if (k > LOCATION_MOST) h->bad = "an address of over 8 KiB to go to";
        free(h->location);
        h->location = k > LOCATION_MOST || memchr(v, 0, k) ? NULL : fj_strndup(v, k);
    }
}

bool fj_hub_refused(const fj_hub_net *net, const fj_hub_head *h, const char *url, const char *file,
                    fj_err *e) {
    const char *repo = net->repo, *base = net->end->base;
    char *host = fj_hub_host(url);
    if (!strcmp(h->error, "GatedRepo")) {
        if (!net->token)
            fj_fail(
                e, FJ_EIO,
                "%s is gated: accept its conditions at %s/%s, and put a token of that account into HF_TOKEN",
                repo, base, repo);
        else
            fj_fail(
                e, FJ_EIO,
                "%s is gated, and the account of the token from %s has no access: ask for it at %s/%s",
                repo, net->token_from, base, repo);
    } else if (!strcmp(h->error, "RevisionNotFound")) {
        fj_fail(e, FJ_EIO, "%s has no revision \"%s\"", repo,
                net->o->revision ? net->o->revision : "main");
    } else if (!strcmp(h->error, "EntryNotFound")) {
        fj_fail(e, FJ_EIO, "%s has no file %s at commit %.12s", repo, file ? file : "?",
                net->commit);
    } else if (!strcmp(h->error, "RepoNotFound") || (h->status == 404 && !file)) {
        fj_fail(e, FJ_EIO, "%s has no model %s, or it is private and %s%s", host, repo,
                net->token ? "not open to the token from " : "needs a token (HF_TOKEN)",
                net->token ? net->token_from : "");
    } else if (h->status == 401 || h->status == 403) {
        fj_fail(e, FJ_EIO, "%s refuses %s of %s (HTTP %d)%s%s%s%s", host,
                file ? file : "the list of files", repo, h->status,
                net->token ? ": is the token from " : ": it may need a token (HF_TOKEN)",
                net->token ? net->token_from : "", net->token ? " still good?" : "", "");
    } else if (h->status == 429) {
        fj_fail(e, FJ_EIO, "%s asks for patience (HTTP 429): try again %s%s", host,
                h->retry_s > 0 || h->limit_s > 0 ? "later" : "in a few minutes",
                net->token ? "" : "; with a token (HF_TOKEN) more is allowed");
    } else {
        fj_fail(e, FJ_EIO, "%s answers %d for %s of %s%s%s", host, h->status,
                file ? file : "the list of files", repo, *h->message ? ": " : "", h->message);
    }
    free(host);
    return false;
}
