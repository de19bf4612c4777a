/* hub_fetch.c - transfers: several at once through one curl multi, each with its redirections, failures and waits.
 *
 * A transfer begins at the endpoint every time, also after a failure: what an endpoint redirects to is signed for
 * minutes.  Redirections are followed here and not by curl, so that the token and the rules of hub_name.c hold for
 * each step.  Nothing is thrown away on a failure but bytes whose hash is wrong. */
#include "base/fs.h"
#include "lifecycle/hub_in.h"

#include <curl/curl.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { HOPS_MOST = 5, WRONG_MOST = 2, UNREACHED_MOST = 3, WAIT_MOST = 120, REFUSAL_MOST = 1 << 16 };
static const int64_t progress_bytes = 1 << 20;

typedef enum state { FRESH, HASHING, READY, RUNNING, DONE } state;

typedef struct task {
    const fj_hub_net *net;
    const fj_hub_place *place;
    fj_hub_file *f; /* NULL: into memory */
    fj_hub_sink sink;
    fj_str *body;
    size_t most;
    const char *what, *first; /* for messages; the address at the endpoint */
    char *first_owned, *url;
    bool ours, checked,
        again; /* token may go there; the head was looked at; its bytes are not to be gone on with */
    int hops, fails, wrong;
    int64_t mark; /* where the count of failures began */
    double at;    /* not before */
    state st;
    CURL *c;
    struct curl_slist *lines;
    fj_hub_head head;
    char etag[130]; /* of the endpoint's answer, which names the contents */
    int64_t size;
    size_t extra; /* bytes of an answer that is no success */
    char said[CURL_ERROR_SIZE];
    bool fatal;
    fj_err why;
} task;

static const fj_log *log_of(const task *t) { return t->net->o->log; }

/* ---- what comes ------------------------------------------------------------------------------------ */
static size_t on_head(char *p, size_t one, size_t n, void *ctx) {
    task *t = ctx;
    fj_hub_head_line(&t->head, p, n * one);
    if (!t->head.bad) return n * one;
    char *host = fj_hub_host(t->url);
    fj_fail(&t->why, FJ_EFORMAT, "%s answers with %s: refused", host, t->head.bad);
    free(host);
    t->fatal = true;
    return 0;
}

static bool success(const task *t) { return t->head.status == 200 || t->head.status == 206; }

/* The name of the contents, and their size, as the endpoint's own answer has them. */
static void take_name(task *t) {
    const fj_hub_head *h = &t->head;
    int64_t whole = !success(t) ? -1 : h->status == 206 ? h->total : h->length;
    if (t->size < 0) t->size = t->ours && h->linked_size >= 0 ? h->linked_size : whole;
    if (!t->ours || *t->etag) return;
    const char *etag = *h->linked_etag ? h->linked_etag : success(t) ? h->etag : "";
    memcpy(t->etag, etag, strlen(etag) + 1);
}

static bool other_size(task *t, int64_t is) {
    if (is < 0 || t->sink.want.size < 0 || is == t->sink.want.size) return true;
    return fj_fail(&t->why, FJ_EFORMAT,
                   "%s of %s: %lld bytes are listed, and the server says %lld: refused", t->what,
                   t->net->repo, (long long)t->sink.want.size, (long long)is);
}

/* The head of a success, before its first byte: is this what was asked for, and what to go on with?  false: t->fatal, or
 * t->again for another request from the beginning. */
static bool check_head(task *t) {
    t->checked = true;
    if (!t->f) return true;
    take_name(t);
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
    if (!other_size(t, t->size) ||
        !other_size(t, t->head.status == 206 ? t->head.total : t->head.length))
        return false;
    if (*s->want.blob && s->want.size < 0)
        return fj_fail(&t->why, FJ_EFORMAT, "the server does not say how large %s is", t->what);
    if (t->head.status == 200 && s->pos && !fj_hub_sink_restart(s, &t->why))
        return false; /* no ranges there */
    if (t->head.status == 206 && t->head.from != s->pos) {
        t->fatal = !fj_hub_sink_restart(s, &t->why);
        t->again = true;
        return false;
    }
    t->fatal = false;
    return true;
}

static size_t on_body(char *p, size_t one, size_t n, void *ctx) {
    task *t = ctx;
    n *= one;
    if (!success(t)) {
        t->extra += n;
        return t->extra > REFUSAL_MOST ? 0 : n;
    }
    if (!t->checked && !check_head(t)) return 0;
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
static void add_line(task *t, const char *text) { t->lines = curl_slist_append(t->lines, text); }

static bool begin(task *t, CURLM *multi) {
    if (!t->c) t->c = curl_easy_init();
    if (!t->c) return fj_fail(&t->why, FJ_ENOMEM, "no memory for a transfer");
    curl_easy_reset(t->c);
    curl_slist_free_all(t->lines);
    t->lines = NULL;
    fj_hub_head_clear(&t->head);
    t->checked = t->again = false;
    t->extra = 0;
    t->said[0] = 0;
    if (!t->f) fj_str_clear(t->body);
    add_line(
        t, "Accept-Encoding: identity"); /* sizes, ranges and hashes are of the bytes themselves */
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
    char range[32];
    snprintf(range, sizeof range, "%lld-", (long long)(t->f ? t->sink.pos : 0));
    if (t->f && t->sink.pos)
        SET(CURLOPT_RANGE, range); /* curl's own "resume" gives up where a redirection has a body */
#undef SET
    if (rc || curl_multi_add_handle(multi, c))
        return fj_fail(&t->why, FJ_EIO, "cannot begin a transfer: %s", curl_easy_strerror(rc));
    t->st = RUNNING;
    return true;
}

/* ---- what became of it ----------------------------------------------------------------------------- */
static void go_to(task *t, char *url, bool ours) {
    if (url != t->url) free(t->url);
    t->url = url;
    t->ours = ours;
    t->st = READY;
}

static bool fail_at(task *t, const char *reason) {
    char *host = fj_hub_host(t->url);
    fj_fail(&t->why, FJ_EIO, "cannot fetch %s of %s from %s: %s (%d tries)%s", t->what,
            t->net->repo, host, reason, t->fails,
            t->f ? "; what came is kept, and the same command goes on with it" : "");
    free(host);
    return false;
}

/* Once more, later, from the endpoint on.  false: that was the last try. */
static bool once_more(task *t, const char *reason, int most) {
    const fj_hub_opts *o = t->net->o;
    int64_t pos = t->f ? t->sink.pos : 0;
    if (pos - t->mark >= progress_bytes) {
        t->fails = 0;
        t->mark = pos;
    }
    if (++t->fails >= most) return fail_at(t, reason);
    double wait = FJ_MIN(ldexp(o->wait_s > 0 ? o->wait_s : 1, t->fails - 1), WAIT_MOST);
    if (t->head.retry_s > 10 * 60)
        return fj_hub_refused(t->net, &t->head, t->url, t->f ? t->what : NULL, &t->why);
    if ((t->head.status == 429 || t->head.status == 503) && t->head.retry_s >= 0)
        wait = (double)t->head.retry_s;
    fj_log_message(log_of(t), FJ_INFO, "%s: %s; trying again in %.3g s", t->what, reason, wait);
    t->at = fj_clock() + wait;
    t->hops = 0;
    t->etag[0] = 0;
    t->size = -1;
    go_to(t, fj_strdup(t->first), true);
    return true;
}

static int tries(const task *t) { return t->net->o->tries ? t->net->o->tries : 6; }

static bool finish_file(task *t) {
    if (t->sink.pos < t->sink.want.size)
        return once_more(t, "the connection ended early", tries(t));
    bool right;
    char found[65];
    if (!fj_hub_sink_end(&t->sink, t->place, &right, found, &t->why)) return false;
    if (right) {
        t->f->size = t->sink.want.size;
        t->st = DONE;
        return true;
    }
    const char *kind = *t->sink.want.sha256 ? "SHA-256" : "blob hash",
               *want = *t->sink.want.sha256 ? t->sink.want.sha256 : t->sink.want.blob;
    if (!fj_hub_sink_restart(&t->sink, &t->why)) return false;
    t->mark = 0;
    if (++t->wrong >= WRONG_MOST)
        return fj_fail(
            &t->why, FJ_EFORMAT,
            "%s of %s: what came has the %s %.16s..., the Hub says %.16s...: thrown away", t->what,
            t->net->repo, kind, found, want);
    return once_more(t, "what came has a wrong hash, and is thrown away", tries(t) + 1);
}

static bool redirect(task *t) {
    take_name(t);
    if (!t->head.location || ++t->hops > HOPS_MOST) {
        char *host = fj_hub_host(t->url);
        fj_fail(&t->why, FJ_EFORMAT, "%s redirects %s", host,
                t->head.location ? "over and over" : "to nowhere");
        free(host);
        return false;
    }
    bool ours;
    char *to = fj_hub_follow(t->net->end, t->url, t->head.location, &ours, &t->why);
    if (!to) return fj_wrap(&t->why, "%s of %s", t->what, t->net->repo);
    t->at = 0;
    go_to(t, to, ours);
    return true;
}

static bool lasting(CURLcode rc) { /* trying again changes nothing */
    return rc == CURLE_PEER_FAILED_VERIFICATION || rc == CURLE_SSL_CACERT_BADFILE ||
           rc == CURLE_URL_MALFORMAT || rc == CURLE_UNSUPPORTED_PROTOCOL ||
           rc == CURLE_SSL_ISSUER_ERROR || rc == CURLE_OUT_OF_MEMORY ||
           rc == CURLE_COULDNT_RESOLVE_PROXY;
}

/* A transfer has ended: the next state, or false with t->why. */
static bool ended(task *t, CURLcode rc) {
    int status = t->head.status;
    if (t->fatal) return false;
    if (t->again) return once_more(t, "the file changed, from the beginning", tries(t));
    bool cut = rc != CURLE_OK;
    if (cut && rc == CURLE_WRITE_ERROR && status >= 300)
        cut = false; /* a long refusal is one all the same */
    if (cut) {
        const char *reason = *t->said ? t->said : curl_easy_strerror(rc);
        bool unreached = rc == CURLE_COULDNT_RESOLVE_HOST || rc == CURLE_COULDNT_CONNECT;
        if (lasting(rc)) {
            t->fails++;
            return fail_at(t, reason);
        }
        return once_more(t, reason, unreached ? FJ_MIN(UNREACHED_MOST, tries(t)) : tries(t));
    }
    if (success(t)) {
        if (!t->checked && !check_head(t))
            return t->again && !t->fatal ? once_more(t, "the file changed", tries(t)) : false;
        if (t->f) return finish_file(t);
        t->st = DONE;
        return true;
    }
    if (cut ||
        status ==
            416) { /* a range that the server does not have: what is here is not what it has */
        if (!fj_hub_sink_restart(&t->sink, &t->why)) return false;
        return once_more(t, "the server cannot go on there, from the beginning", tries(t));
    }
    if (status == 301 || status == 302 || status == 303 || status == 307 || status == 308)
        return redirect(t);
    bool later = status == 408 || status == 429 || status >= 500;
    bool signed_over =
        !t->ours && (status == 401 || status == 403); /* an address that is no longer good */
    if ((later || signed_over) && t->fails + 1 < tries(t)) {
        fj_str s = { 0 };
        fj_str_addf(&s, "the server answers %d", status);
        bool ok = once_more(t, s.s, tries(t));
        fj_str_free(&s);
        return ok;
    }
    return fj_hub_refused(t->net, &t->head, t->url, t->f ? t->what : NULL, &t->why);
}

/* What is to be done before a request.  *busy: more of it, at once. */
static bool prepare(task *t, bool *busy) {
    if (t->st == FRESH) {
        if (t->f && !fj_hub_sink_open(&t->sink, t->place, t->f, t->net->commit, &t->why))
            return false;
        t->mark = t->f ? t->sink.pos : 0;
        t->st = HASHING;
    }
    if (t->f && t->sink.hashed < t->sink.pos && !fj_hub_sink_rehash(&t->sink, &t->why))
        return false;
    if (t->f && t->sink.hashed < t->sink.pos) {
        *busy = true;
        return true;
    }
    t->st = READY;
    /* All of it is here, or there is nothing in it: no request. */
    if (t->f && t->sink.sure && t->sink.want.size == t->sink.pos) return finish_file(t);
    return true;
}

static void put_down(task *t) {
    curl_easy_cleanup(t->c);
    curl_slist_free_all(t->lines);
    t->c = NULL;
    t->lines = NULL;
    fj_hub_head_clear(&t->head);
    if (t->f) fj_hub_sink_close(&t->sink);
}

typedef struct meter {
    int64_t total, begun;
    double start;
} meter;

static void show(const task *t, size_t n, meter *m) {
    int64_t done = 0;
    for (size_t i = 0; i < n; i++)
        if (t[i].f)
            done += t[i].st == DONE    ? FJ_MAX(t[i].f->size, 0)
                    : t[i].st == FRESH ? t[i].f->part
                                       : t[i].sink.pos;
    if (m->begun < 0) m->begun = done;
    double rate = (double)(done - m->begun) / FJ_MAX(fj_clock() - m->start, 1e-3);
    double left = rate > 0 && m->total > done ? (double)(m->total - done) / rate : -1;
    fj_log_progress(log_of(t),
                    &(fj_progress){ "pull", done, m->total, "byte", rate, NAN, 0, left });
}

static bool run(task *t, size_t n, int jobs, fj_err *e) {
    CURLM *multi = curl_multi_init();
    meter m = { 0, -1, fj_clock() };
    for (size_t i = 0; i < n; i++)
        if (t[i].f) m.total += FJ_MAX(t[i].f->size, 0);
    task *bad = multi ? NULL : t;
    if (bad) fj_fail(&t->why, FJ_ENOMEM, "no memory for transfers");
    size_t done = 0;
    bool stopped = false;
    while (done < n && !bad && !(stopped = fj_log_stop(log_of(t)))) {
        int active = 0, left;
        bool busy = false;
        double now = fj_clock(), next = now + 0.1;
        for (size_t i = 0; i < n; i++) active += t[i].st != FRESH && t[i].st != DONE;
        for (size_t i = 0; i < n && !bad; i++) {
            if (t[i].st == FRESH && active >= jobs) continue;
            if (t[i].st == FRESH) active++;
            if ((t[i].st == FRESH || t[i].st == HASHING) && !prepare(t + i, &busy)) bad = t + i;
            else if (t[i].st == READY && t[i].at <= now && !begin(t + i, multi)) bad = t + i;
            else if (t[i].st == READY && t[i].at > now) next = FJ_MIN(next, t[i].at);
        }
        if (bad) break;
        curl_multi_perform(multi, &left);
        CURLMsg *msg;
        while (!bad && (msg = curl_multi_info_read(multi, &left))) {
            if (msg->msg != CURLMSG_DONE) continue;
            task *x = NULL;
            CURLcode rc = msg->data.result;
            curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&x);
            curl_multi_remove_handle(multi, x->c);
            busy = true;
            if (!ended(x, rc)) bad = x;
        }
        done = 0;
        for (size_t i = 0; i < n; i++) {
            if (t[i].st == DONE) put_down(t + i); /* files and sockets are few */
            done += t[i].st == DONE;
        }
        if (n && t->f) show(t, n, &m);
        if (done < n && !bad)
            curl_multi_poll(multi, NULL, 0, busy ? 0 : (int)(1000 * FJ_MAX(next - now, 0.001)),
                            NULL);
    }
    if (bad) *e = bad->why;
    else if (stopped)
        fj_fail(e, FJ_ESTOP, "stopped; what came is kept, and the same command goes on with it");
    for (size_t i = 0; i < n; i++) {
        if (t[i].c) curl_multi_remove_handle(multi, t[i].c);
        put_down(t + i);
        free(t[i].first_owned);
        free(t[i].url);
    }
    curl_multi_cleanup(multi);
    return !bad && !stopped;
}

bool fj_hub_get(const fj_hub_net *net, const char *url, const char *what, size_t most, fj_str *body,
                fj_err *e) {
    task t = { .net = net,
               .body = body,
               .most = most,
               .what = what,
               .first = url,
               .url = fj_strdup(url),
               .ours = true };
    t.size = -1;
    fj_hub_head_clear(&t.head);
    return run(&t, 1, 1, e);
}

/* Is there room?  Where that cannot be known, writing will say. */
static bool room(const fj_hub_place *p, const fj_hub_file *f, size_t n, fj_err *e) {
    struct statvfs v;
    if (!fj_mkdirs(p->root, e)) return false;
    if (statvfs(p->root, &v) != 0) return true;
    double need = 0, is = (double)v.f_bavail * (double)v.f_frsize;
    for (size_t i = 0; i < n; i++)
        if (!f[i].have && f[i].size > 0) need += (double)(f[i].size - FJ_MIN(f[i].part, f[i].size));
    return need <= is ||
           fj_fail(e, FJ_EIO, "%s has room for %.2f GB, and %.2f GB are to be fetched", p->root,
                   is * 1e-9, need * 1e-9);
}

bool fj_hub_fetch(const fj_hub_net *net, const fj_hub_place *p, fj_hub_file *f, size_t n,
                  fj_err *e) {
    if (!room(p, f, n, e)) return false;
    task *t = fj_zalloc((n + 1) * sizeof *t);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (f[i].have) continue;
        fj_str s = { 0 };
        fj_str_addf(&s, "%s/%s/resolve/%s/", net->end->base, net->repo, net->commit);
        fj_hub_url_add(&s, f[i].name, true);
        task *x = t + k++;
        *x = (task){
            .net = net, .place = p, .f = f + i, .what = f[i].name, .ours = true, .size = -1
        };
        x->sink.fd = -1;
        fj_hub_head_clear(&x->head);
        x->first = x->first_owned = fj_str_take(&s);
        x->url = fj_strdup(x->first);
    }
    int jobs = net->o->jobs ? net->o->jobs : 4;
    bool ok = k == 0 || run(t, k, jobs, e);
    free(t);
    return ok;
}
