/* hub_task.h - one transfer of hub_fetch.c: what it is after, where it stands, and its answers (hub_answer.c). */
#ifndef FJ_LIFECYCLE_HUB_TASK_H
#define FJ_LIFECYCLE_HUB_TASK_H

#include "lifecycle/hub_in.h"

#include <curl/curl.h>

typedef enum fj_hub_state { FRESH, HASHING, READY, RUNNING, DONE } fj_hub_state;

typedef struct fj_hub_task {
    const fj_hub_net *net;
    const fj_hub_place *place;
    fj_hub_file *f; /* NULL: into memory */
    fj_hub_sink sink;
    fj_str *body;
    size_t most;
    const char *what, *first; /* for messages; the address at the endpoint */
    char *first_owned, *url;
    bool ours;    /* url is at the endpoint: the token may go there */
    bool checked; /* the head was looked at */
    bool again;   /* what comes is not what was asked for: from the beginning */
    int hops, fails, wrong;
    int64_t mark; /* where the count of failures began */
    double at;    /* not before */
    fj_hub_state st;
    CURL *c;
    struct curl_slist *lines;
    fj_hub_head head;
    char etag[130]; /* of the endpoint's answer, which names the contents */
    int64_t size;
    size_t extra; /* bytes of an answer that is no success */
    char said[CURL_ERROR_SIZE];
    bool fatal;
    fj_err why;
} fj_hub_task;

/* 200 or 206. */
bool fj_hub_success(const fj_hub_task *t);
/* The name of the contents, and their size, as the endpoint's own answer has them. */
void fj_hub_take_name(fj_hub_task *t);
/* The head of a success, before its first byte: is this what was asked for, and what to go on with?  false: t->fatal with
 * t->why, or t->again for another request from the beginning. */
bool fj_hub_check_head(fj_hub_task *t);
/* Sends the request for t->url; false: t->why. */
bool fj_hub_begin(fj_hub_task *t, CURLM *multi);

#endif
