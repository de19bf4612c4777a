/* hub_fetch.c - transfers: several at once through one curl multi, each with its redirections, failures and waits.
 *
 * A transfer begins at the endpoint every time, also after a failure: what an endpoint redirects to is signed for
 * minutes.  Redirections are followed here and not by curl, so that the token and the rules of hub_name.c hold for
 * each step.  Nothing is thrown away on a failure but bytes whose hash is wrong. */
#include "base/fs.h"
#include "lifecycle/hub_task.h"

#include <math.h>
#include <sys/statvfs.h>

enum { HOPS_MOST = 5, WRONG_MOST = 2, UNREACHED_MOST = 3, WAIT_MOST = 120, RETRY_MOST = 600 };
static const int64_t progress_bytes = 1 << 20;

static const fj_log *log_of(const fj_hub_task *t) { return t->net->o->log; }

/* ---- what became of it ----------------------------------------------------------------------------- */
static void go_to(fj_hub_task *t, char *url, bool ours) {
    if (url != t->url) free(t->url);
    t->url = url;
    t->ours = ours;
    t->st = READY;
}

static bool fail_at(fj_hub_task *t, const char *reason) {
    char *host = fj_hub_host(t->url);
    fj_fail(&t->why, FJ_EIO, "cannot fetch %s of %s from %s: %s (%d %s)%s", t->what, t->net->repo,
            host, reason, t->fails, t->fails == 1 ? "try" : "tries",
            t->f ? "; what came is kept, and the same command goes on with it" : "");
    free(host);
    return false;
}

/* Once more, later, from the endpoint on.  false: that was the last try. */
static bool once_more(fj_hub_task *t, const char *reason, int most) {
    const fj_hub_opts *o = t->net->o;
    int64_t pos = t->f ? t->sink.pos : 0;
    if (pos - t->mark >= progress_bytes) {
        t->fails = 0;
        t->mark = pos;
    }
    if (++t->fails >= most) return fail_at(t, reason);
    double wait = FJ_MIN(ldexp(o->wait_s > 0 ? o->wait_s : 1, t->fails - 1), WAIT_MOST);
    bool busy = t->head.status == 429;
    int64_t asked = t->head.retry_s >= 0 ? t->head.retry_s : busy ? t->head.limit_s : -1;
    if (asked > RETRY_MOST)
        return fj_hub_refused(t->net, &t->head, t->url, t->f ? t->what : NULL, &t->why);
    if ((busy || t->head.status == 503) && asked >= 0) wait = (double)asked;
    fj_log_message(log_of(t), FJ_INFO, "%s: %s; trying again in %.3g s", t->what, reason, wait);
    t->at = fj_clock() + wait;
    t->hops = 0;
    t->etag[0] = 0;
    t->size = -1;
    go_to(t, fj_strdup(t->first), true);
    return true;
}

static int tries(const fj_hub_task *t) { return t->net->o->tries ? t->net->o->tries : 6; }

static bool finish_file(fj_hub_task *t) {
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

static bool redirect(fj_hub_task *t) {
    fj_hub_take_name(t);
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
static bool ended(fj_hub_task *t, CURLcode rc) {
    int status = t->head.status;
    if (t->fatal) return false;
    if (t->again) return once_more(t, "the file changed, from the beginning", tries(t));
    bool refusal = rc == CURLE_WRITE_ERROR && status >= 300; /* a long one, which was not read on */
    if (rc != CURLE_OK && !refusal) {
        const char *reason = *t->said ? t->said : curl_easy_strerror(rc);
        bool unreached = rc == CURLE_COULDNT_RESOLVE_HOST || rc == CURLE_COULDNT_CONNECT;
        if (lasting(rc)) {
            t->fails++;
            return fail_at(t, reason);
        }
        return once_more(t, reason, unreached ? FJ_MIN(UNREACHED_MOST, tries(t)) : tries(t));
    }
    if (fj_hub_success(t)) {
        if (!t->checked && !fj_hub_check_head(t))
            return t->again && !t->fatal ? once_more(t, "the file changed", tries(t)) : false;
        if (t->f) return finish_file(t);
        t->st = DONE;
        return true;
    }
    if (status == 416 && t->f && t->sink.pos) { /* then what is here is not what the server has */
        if (!fj_hub_sink_restart(&t->sink, &t->why)) return false;
        return once_more(t, "the server cannot go on there, from the beginning", tries(t));
    }
    if (status == 301 || status == 302 || status == 303 || status == 307 || status == 308)
        return redirect(t);
    bool later = status == 408 || status == 429 || status >= 500;
    bool expired = !t->ours && (status == 401 || status == 403); /* what a signature was good for */
    if ((later || expired) && t->fails + 1 < tries(t)) {
        fj_str s = { 0 };
        fj_str_addf(&s, "the server answers %d", status);
        bool ok = once_more(t, s.s, tries(t));
        fj_str_free(&s);
        return ok;
    }
    return fj_hub_refused(t->net, &t->head, t->url, t->f ? t->what : NULL, &t->why);
}

/* What is to be done before a request.  *busy: more of it, at once. */
static bool prepare(fj_hub_task *t, bool *busy) {
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

static void put_down(fj_hub_task *t) {
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

static void show(const fj_hub_task *t, size_t n, meter *m) {
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

static bool run(fj_hub_task *t, size_t n, int jobs, fj_err *e) {
    CURLM *multi = curl_multi_init();
    meter m = { 0, -1, fj_clock() };
    for (size_t i = 0; i < n; i++)
        if (t[i].f) m.total += FJ_MAX(t[i].f->size, 0);
    fj_hub_task *bad = multi ? NULL : t;
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
            else if (t[i].st == READY && t[i].at <= now && !fj_hub_begin(t + i, multi)) bad = t + i;
            else if (t[i].st == READY && t[i].at > now) next = FJ_MIN(next, t[i].at);
        }
        if (bad) break;
        curl_multi_perform(multi, &left);
        CURLMsg *msg;
        while (!bad && (msg = curl_multi_info_read(multi, &left))) {
            if (msg->msg != CURLMSG_DONE) continue;
            fj_hub_task *x = NULL;
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
    fj_hub_task t = { .net = net,
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
    fj_hub_task *t = fj_zalloc((n + 1) * sizeof *t);
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        if (f[i].have) continue;
        fj_str s = { 0 };
        fj_str_addf(&s, "%s/%s/resolve/%s/", net->end->base, net->repo, net->commit);
        fj_hub_url_add(&s, f[i].name, true);
        fj_hub_task *x = t + k++;
        *x = (fj_hub_task){
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
