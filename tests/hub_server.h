/* hub_server.h - a server that plays the Hub on 127.0.0.1: a port that lists and redirects, and another that keeps the
 * large files, as its CDN does.  What goes wrong is said by plans: for a file, or for the list, words parted by commas,
 * one for each time it is asked for; after the last all is well.
 *
 *     ok                 as it should be
 *     404:RepoNotFound   a status, with X-Error-Code; 429:N and 503:N with Retry-After, 429:tN with
 *                        RateLimit; 500 alone
 *     cut:N              the connection ends after N bytes of the answer's body
 *     slow               a few bytes, then nothing for up to five seconds
 *     norange            the whole file, whatever was asked for
 *     shift              a range that begins one byte later than asked for
 *     wrong              a changed byte
 *     more, less         more bytes than there are, announced; half of them, announced as all
 *     gone               the CDN says 403, once its signed address is old
 *     badetag badsize noetag    the endpoint names other contents, another size, none
 *     loop nowhere longway file away user    redirections to itself, to nothing, to 10 KB, to file://, to another host by
 *                        http, to an address with a user
 *     bighead            200 KB of head
 *     endless junk       the list: JSON without an end; no JSON
 *
 * Threads: one for each port and each connection; everything is under one mutex but the writing. */
#ifndef FORJA_HUB_SERVER_H
#define FORJA_HUB_SERVER_H

#include "base/fs.h"
#include "base/sha1.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

typedef struct hub_file {
    const char *name;
    const void *data;
    size_t n;
    bool lfs;
    const char *plan;
    int asked; /* how many words of the plan are over */
} hub_file;

typedef struct hub {
    const char *repo; /* "owner/name" */
    char commit[41];  /* of main */
    hub_file *f;      /* the caller's; set before a pull, not during one */
    size_t n;
    bool bare;                         /* the list has names only */
    const char *list_plan, *list_text; /* list_text: instead of the true one */
    int list_asked;
    const char *token; /* files need it, at the endpoint */
    FILE *say;         /* requests go there, too */
    /* what was seen */
    char log[1 << 16]; /* "hub|cdn GET PATH [range=N] [token]\n" */
    size_t n_log;
    int requests;
    /* of its own */
    int fd[2], port[2], live;
    bool stop;
    pthread_t thread[2];
    pthread_mutex_t mutex;
} hub;

typedef struct hub_conn {
    hub *h;
    int fd, which;
} hub_conn;

static inline void hub_send(int fd, const void *p, size_t n) {
    for (const char *s = p; n;) {
        ssize_t r = send(fd, s, n, MSG_NOSIGNAL);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return;
        s += r;
        n -= (size_t)r;
    }
}

static inline void hub_text(int fd, const char *fmt, ...) {
    fj_str s = { 0 };
    char buf[12000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    fj_str_add(&s, buf);
    hub_send(fd, s.s, s.n);
    fj_str_free(&s);
}

static inline void hub_status(int fd, int status, const char *arg) {
    const char *key = "X-Error-Code: ";
    if (status == 429 || status == 503) key = "Retry-After: ";
    if (status == 429 && *arg == 't') {
        key = "RateLimit: \"api\";r=0;t=";
        arg++;
    }
    hub_text(fd, "HTTP/1.1 %d No\r\n%s%s%sContent-Length: 3\r\nConnection: close\r\n\r\nno\n",
             status, *arg ? key : "", arg, *arg ? "\r\n" : "");
}

/* The next word of a plan. */
static inline void hub_next(const char *plan, int *asked, char word[64]) {
    const char *s = plan ? plan : "";
    for (int i = 0; i < *asked && *s; i++) {
        s += strcspn(s, ",");
        if (*s) s++;
    }
    size_t n = FJ_MIN(strcspn(s, ","), (size_t)63);
    memcpy(word, s, n);
    word[n] = 0;
    if (!n) snprintf(word, 64, "ok");
    ++*asked;
}

static inline void hub_blob(const hub_file *f, char hex[FJ_SHA1_HEX]) {
    fj_sha1 s;
    char head[40];
    int n = snprintf(head, sizeof head, "blob %zu", f->n);
    fj_sha1_init(&s);
    fj_sha1_add(&s, head, (size_t)n + 1);
    fj_sha1_add(&s, f->data, f->n);
    fj_sha1_end(&s, hex);
}

static inline void hub_hash(const hub_file *f, char hex[65]) {
    if (f->lfs) fj_sha256(f->data, f->n, hex);
    else hub_blob(f, hex);
}

/* The bytes, as `word` has them come. */
static inline void hub_bytes(int fd, const hub_file *f, const char *word, long from,
                             const char *lines) {
    size_t n = f->n, at = 0;
    bool part = from >= 0 && strcmp(word, "norange") != 0;
    if (!strcmp(word, "gone")) {
        hub_status(fd, 403, "");
        return;
    }
    if (part && (size_t)from >= n) {
        hub_status(fd, 416, "");
        return;
    }
    if (part) at = (size_t)from;
    if (part && !strcmp(word, "shift") && at + 1 < n) at++;
    uint8_t *copy = fj_alloc(n + 1000);
    if (n) memcpy(copy, f->data, n);
    memset(copy + n, 'x', 1000);
    if (!strcmp(word, "wrong") && n) copy[n - 1] ^= 1;
    if (!strcmp(word, "more")) n += 1000;
    if (!strcmp(word, "less")) n = at + (n - at) / 2;
    size_t send_n = n - at;
    bool chunky = !strcmp(word, "more"); /* as nothing is announced, only counting can see it */
    fj_str head = { 0 };
    fj_str_addf(&head, "HTTP/1.1 %s\r\nConnection: close\r\nAccept-Ranges: bytes\r\n%s",
                part ? "206 Partial" : "200 OK", lines);
    if (!chunky) fj_str_addf(&head, "Content-Length: %zu\r\n", send_n);
    if (part) fj_str_addf(&head, "Content-Range: bytes %zu-%zu/%zu\r\n", at, n - 1, f->n);
    if (!strcmp(word, "bighead"))
        for (int i = 0; i < 2000; i++) fj_str_addf(&head, "X-Long-%d: %0100d\r\n", i, i);
    fj_str_add(&head, "\r\n");
    hub_send(fd, head.s, head.n);
    fj_str_free(&head);
    if (!strncmp(word, "cut:", 4)) send_n = FJ_MIN(send_n, (size_t)strtoul(word + 4, NULL, 10));
    if (!strcmp(word, "slow")) {
        hub_send(fd, copy + at, FJ_MIN(send_n, (size_t)5));
        struct pollfd p = { fd, POLLIN, 0 };
        poll(&p, 1, 5000); /* readable: the other side has left */
    } else {
        hub_send(fd, copy + at, send_n);
    }
    free(copy);
}

static inline void hub_list(hub *h, int fd, const char *rev) {
    char word[64], hex[65];
    pthread_mutex_lock(&h->mutex);
    hub_next(h->list_plan, &h->list_asked, word);
    pthread_mutex_unlock(&h->mutex);
    int status = atoi(word);
    if (status) {
        hub_status(fd, status, strchr(word, ':') ? strchr(word, ':') + 1 : "");
        return;
    }
    if (strcmp(rev, "main") != 0 && strcmp(rev, h->commit) != 0) {
        hub_status(fd, 404, "RevisionNotFound");
        return;
    }
    if (!strcmp(word, "endless")) {
        hub_text(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"siblings\":[");
        char junk[8192];
        memset(junk, '[', sizeof junk);
        for (int i = 0; i < 16000; i++) {
            if (send(fd, junk, sizeof junk, MSG_NOSIGNAL) < 0) return;
        }
        return;
    }
    fj_str s = { 0 };
    if (!strcmp(word, "junk")) fj_str_add(&s, "<html>no</html>");
    else if (h->list_text) fj_str_add(&s, h->list_text);
    else {
        fj_str_addf(&s, "{\"id\":\"%s\",\"private\":false,\"sha\":\"%s\",\"siblings\":[", h->repo,
                    h->commit);
        for (size_t i = 0; i < h->n; i++) {
            const hub_file *f = h->f + i;
            hub_hash(f, hex);
            fj_str_addf(&s, "%s{\"rfilename\":\"%s\"", i ? "," : "", f->name);
            if (!h->bare && f->lfs)
                fj_str_addf(
                    &s,
                    ",\"size\":%zu,\"blobId\":\"%040d\",\"lfs\":{\"sha256\":\"%s\",\"size\":%zu,\"pointerSize\":134}",
                    f->n, 7, hex, f->n);
            else if (!h->bare) fj_str_addf(&s, ",\"size\":%zu,\"blobId\":\"%s\"", f->n, hex);
            fj_str_addc(&s, '}');
        }
        fj_str_add(&s, "]}");
    }
    if (!strncmp(word, "cut:", 4)) {
        hub_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n", s.n);
        hub_send(fd, s.s, FJ_MIN(s.n, (size_t)strtoul(word + 4, NULL, 10)));
    } else {
        hub_text(
            fd,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
            s.n);
        hub_send(fd, s.s, s.n);
    }
    fj_str_free(&s);
}

static inline hub_file *hub_find(hub *h, const char *name) {
    for (size_t i = 0; i < h->n; i++)
        if (!strcmp(h->f[i].name, name)) return h->f + i;
    return NULL;
}

static inline void hub_resolve(hub *h, int fd, const char *path, const char *name, long from,
                               bool token) {
    char word[64], hex[65];
    pthread_mutex_lock(&h->mutex);
    hub_file *f = hub_find(h, name);
    if (f) hub_next(f->plan, &f->asked, word);
    if (f && !strcmp(word, "loop")) f->asked--; /* and once more */
    pthread_mutex_unlock(&h->mutex);
    if (!f) {
        hub_status(fd, 404, "EntryNotFound");
        return;
    }
    if (h->token && !token) {
        hub_status(fd, 401, "GatedRepo");
        return;
    }
    int status = atoi(word);
    if (status) {
        hub_status(fd, status, strchr(word, ':') ? strchr(word, ':') + 1 : "");
        return;
    }
    hub_hash(f, hex);
    if (!strcmp(word, "badetag")) hex[0] = hex[0] == 'a' ? 'b' : 'a';
    size_t size = f->n + (!strcmp(word, "badsize") ? 5 : 0);
    const char *way = !strcmp(word, "file")      ? "file:///etc/hostname"
                      : !strcmp(word, "away")    ? "http://localhost.invalid/x"
                      : !strcmp(word, "user")    ? "http://a:b@127.0.0.1/x"
                      : !strcmp(word, "loop")    ? path
                      : !strcmp(word, "nowhere") ? ""
                                                 : NULL;
    if (!strcmp(word, "longway")) {
        hub_text(
            fd,
            "HTTP/1.1 302 Found\r\nLocation: /%010000d\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            1);
    } else if (way) {
        hub_text(fd,
                 "HTTP/1.1 302 Found\r\n%s%s%sContent-Length: 4\r\nConnection: close\r\n\r\nway\n",
                 *way ? "Location: " : "", way, *way ? "\r\n" : "");
    } else if (f->lfs) {
        hub_text(
            fd,
            "HTTP/1.1 302 Found\r\nX-Repo-Commit: %s\r\n%s%s%sX-Linked-Size: %zu\r\nAccept-Ranges: bytes\r\n"
            "Location: http://127.0.0.1:%d/cdn/%s?%s\r\nContent-Length: 4\r\nConnection: close\r\n\r\nway\n",
            h->commit, !strcmp(word, "noetag") ? "" : "X-Linked-Etag: \"",
            !strcmp(word, "noetag") ? "" : hex, !strcmp(word, "noetag") ? "" : "\"\r\n", size,
            h->port[1], name, word);
    } else {
        fj_str lines = { 0 };
        if (strcmp(word, "noetag") != 0) fj_str_addf(&lines, "ETag: \"%s\"\r\n", hex);
        fj_str_addf(&lines, "X-Repo-Commit: %s\r\n", h->commit);
        if (size != f->n) fj_str_addf(&lines, "X-Linked-Size: %zu\r\n", size);
        hub_bytes(fd, f, word, from, lines.s);
        fj_str_free(&lines);
    }
}

static inline void hub_answer(hub *h, int fd, int which, char *head) {
    char method[16], path[4096], lead[400], rev[128];
    if (sscanf(head, "%15s %4095s", method, path) != 2) return;
    long from = -1;
    const char *range = strstr(head, "\nRange: bytes="),
               *auth = strstr(head, "\nAuthorization: Bearer ");
    if (range) from = strtol(range + 14, NULL, 10);
    bool token = false;
    if (auth && h->token)
        token =
            !strncmp(auth + 23, h->token, strlen(h->token)) && auth[23 + strlen(h->token)] == '\r';
    pthread_mutex_lock(&h->mutex);
    char line[4400];
    int n = snprintf(line, sizeof line, "%s %s %s", which ? "cdn" : "hub", method, path);
    if (range) n += snprintf(line + n, sizeof line - (size_t)n, " range=%ld", from);
    n += snprintf(line + n, sizeof line - (size_t)n, "%s\n", auth ? " token" : "");
    if (h->n_log + (size_t)n < sizeof h->log) {
        memcpy(h->log + h->n_log, line, (size_t)n + 1);
        h->n_log += (size_t)n;
    }
    h->requests++;
    if (h->say) {
        fputs(line, h->say);
        fflush(h->say);
    }
    pthread_mutex_unlock(&h->mutex);

    char *mark = strchr(path, '?'), word[64] = "ok";
    if (mark) {
        *mark = 0;
        snprintf(word, sizeof word, "%s", mark + 1);
    }
    if (which) {
        hub_file *f = strncmp(path, "/cdn/", 5) ? NULL : hub_find(h, path + 5);
        if (f) hub_bytes(fd, f, word, from, "");
        else hub_status(fd, 404, "");
        return;
    }
    snprintf(lead, sizeof lead, "/api/models/%s/revision/", h->repo);
    if (!strncmp(path, lead, strlen(lead))) {
        hub_list(h, fd, path + strlen(lead));
        return;
    }
    snprintf(lead, sizeof lead, "/%s/resolve/", h->repo);
    char *slash = strncmp(path, lead, strlen(lead)) ? NULL : strchr(path + strlen(lead), '/');
    if (!slash) {
        hub_status(fd, 401, "RepoNotFound");
        return;
    }
    snprintf(rev, sizeof rev, "%.*s", (int)FJ_MIN(slash - path - (long)strlen(lead), 120L),
             path + strlen(lead));
    if (strcmp(rev, h->commit) != 0) hub_status(fd, 404, "RevisionNotFound");
    else hub_resolve(h, fd, path, slash + 1, from, token);
}

static inline void *hub_serve_one(void *ctx) {
    hub_conn *c = ctx;
    char head[16384];
    size_t n = 0;
    head[0] = 0;
    struct pollfd p = { c->fd, POLLIN, 0 };
    while (n < sizeof head - 1 && !strstr(head, "\r\n\r\n")) {
        if (poll(&p, 1, 5000) <= 0) break;
        ssize_t r = recv(c->fd, head + n, sizeof head - 1 - n, 0);
        if (r <= 0) break;
        n += (size_t)r;
        head[n] = 0;
    }
    if (strstr(head, "\r\n\r\n")) hub_answer(c->h, c->fd, c->which, head);
    shutdown(c->fd, SHUT_RDWR);
    close(c->fd);
    pthread_mutex_lock(&c->h->mutex);
    c->h->live--;
    pthread_mutex_unlock(&c->h->mutex);
    free(c);
    return NULL;
}

static inline void *hub_accept(void *ctx) {
    hub_conn *l = ctx;
    for (;;) {
        int fd = accept(l->fd, NULL, NULL);
        pthread_mutex_lock(&l->h->mutex);
        bool stop = l->h->stop, full = l->h->live >= 64;
        if (fd >= 0 && !stop && !full) l->h->live++;
        pthread_mutex_unlock(&l->h->mutex);
        if (stop || full || fd < 0) {
            if (fd >= 0) close(fd);
            if (stop) break;
            continue;
        }
        hub_conn *c = fj_alloc(sizeof *c);
        *c = (hub_conn){ l->h, fd, l->which };
        pthread_t t;
        if (pthread_create(&t, NULL, hub_serve_one, c) == 0) pthread_detach(t);
    }
    free(l);
    return NULL;
}

/* false: no sockets here. */
static inline bool hub_start(hub *h) {
    pthread_mutex_init(&h->mutex, NULL);
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t k = sizeof a;
        h->fd[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (h->fd[i] < 0 || bind(h->fd[i], (struct sockaddr *)&a, sizeof a) ||
            listen(h->fd[i], 64) || getsockname(h->fd[i], (struct sockaddr *)&a, &k))
            return false;
        h->port[i] = ntohs(a.sin_port);
        hub_conn *c = fj_alloc(sizeof *c);
        *c = (hub_conn){ h, h->fd[i], i };
        if (pthread_create(&h->thread[i], NULL, hub_accept, c)) return false;
    }
    return true;
}

static inline void hub_stop(hub *h) {
    pthread_mutex_lock(&h->mutex);
    h->stop = true;
    pthread_mutex_unlock(&h->mutex);
    for (int i = 0; i < 2; i++) {
        shutdown(h->fd[i], SHUT_RDWR); /* accept returns */
        pthread_join(h->thread[i], NULL);
        close(h->fd[i]);
    }
    for (bool live = true; live;) { /* each of them ends by itself, within seconds */
        nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
        pthread_mutex_lock(&h->mutex);
        live = h->live > 0;
        pthread_mutex_unlock(&h->mutex);
    }
    pthread_mutex_destroy(&h->mutex);
}

#endif
