/* hub_in.h - the parts of hub.h among themselves: names and addresses (hub_name.c), lists (hub_list.c), what to take
 * (hub_pick.c), places of files (hub_place.c), heads of answers (hub_head.c), contents on their way (hub_sink.c), transfers (hub_fetch.c,
 * hub_answer.c). */
#ifndef FJ_LIFECYCLE_HUB_IN_H
#define FJ_LIFECYCLE_HUB_IN_H

#include "base/sha1.h"
#include "lifecycle/hub.h"
#include <sodium.h>

/* ---- names and addresses ------------------------------------------------------------------------- */
typedef struct fj_hub_id {
    char repo[200]; /* "OWNER/NAME" */
    char *file;     /* behind the colon, or NULL; owned */
} fj_hub_id;
bool fj_hub_parse(const char *what, fj_hub_id *id, fj_err *e);
bool fj_hub_revision_ok(const char *rev, fj_err *e);
/* Is this a name that a file of a repository may have here?  NULL: yes; else what is wrong with it. */
const char *fj_hub_name_bad(const char *name, size_t n);

typedef struct fj_hub_end { /* the endpoint */
    char *base;             /* "https://host[:port][/path]", no slash at its end */
    char *scheme, *host, *port;
} fj_hub_end;
bool fj_hub_end_open(fj_hub_end *p, const char *endpoint, fj_err *e);
void fj_hub_end_close(fj_hub_end *p);
/* base + "/" + path with `tail` as one escaped part of it ('/' kept when `slashes`); caller frees. */
void fj_hub_url_add(fj_str *url, const char *part, bool slashes);
/* The address that `location` means from `url`; *ours: it is scheme, host and port of the endpoint, so the token may go there.
 * NULL: not one to go to, and e says why.  Caller frees. */
char *fj_hub_follow(const fj_hub_end *p, const char *url, const char *location, bool *ours,
                    fj_err *e);
/* Scheme and host of an address, for messages; caller frees. */
char *fj_hub_host(const char *url);

/* ---- heads of answers ------------------------------------------------------------------------------ */
typedef struct fj_hub_head {
    int status;
    int64_t length, from,
        total; /* Content-Length; first byte and whole size of Content-Range; -1: not said */
    int64_t linked_size;
    int64_t retry_s; /* Retry-After */
    int64_t limit_s; /* t of RateLimit ("api";r=0;t=55): seconds until more is allowed */
    char etag[130], linked_etag[130]; /* without W/ and quotes */
    char commit[65], error[65], message[200];
    char *location;  /* or NULL; owned */
    size_t bytes;    /* of all lines */
    const char *bad; /* what cannot be: NULL while all is well */
} fj_hub_head;
void fj_hub_head_line(fj_hub_head *h, const char *line, size_t n);
void fj_hub_head_clear(fj_hub_head *h);

/* ---- lists ----------------------------------------------------------------------------------------- */
typedef struct fj_hub_list {
    char commit[65];
    fj_hub_file *f; /* by name */
    size_t n;
} fj_hub_list;
bool fj_hub_list_parse(fj_hub_list *l, const char *text, size_t n, const char *name, fj_err *e);
bool fj_hub_list_save(const fj_hub_list *l, const char *path, fj_err *e);
void fj_hub_list_free(fj_hub_list *l);
const fj_hub_file *fj_hub_list_find(const fj_hub_list *l, const char *name);
bool fj_hub_is_hex(const char *s, size_t n); /* n lower-case hex digits and nothing else */

/* Which files: indices into l, ascending; *single: one GGUF (the first of pick is its file).  Caller frees *pick. */
bool fj_hub_pick(const fj_hub_list *l, const fj_hub_id *id, const fj_hub_opts *o, size_t **pick,
                 size_t *n, bool *single, fj_err *e);

/* ---- places ---------------------------------------------------------------------------------------- */
typedef struct fj_hub_place {
    char *root, *meta; /* of the files: COMMIT in the cache, or `to`; the .forja beside or in it */
    bool cache;
    int lock; /* -1: none */
} fj_hub_place;
char *fj_hub_cache_dir(const char *cache, fj_err *e);
/* The token, or NULL with e->code FJ_OK where there is none; *from says where it was, for messages. */
char *fj_hub_token(const char *given, char from[300], fj_err *e);
bool fj_hub_offline(void);
char *fj_hub_ref_path(const char *meta, const char *rev);
bool fj_hub_ref_read(const char *meta, const char *rev, char commit[65]);
bool fj_hub_lock(fj_hub_place *p, const fj_log *log, fj_err *e);
void fj_hub_unlock(fj_hub_place *p);
/* Where contents that are not whole are kept; "" of both hashes: under a name made of commit and file. */
char *fj_hub_part_path(const fj_hub_place *p, const fj_hub_file *f, const char *commit);
/* Marks f->have and f->part.  What was not put there by us is read and its hash compared: another content is an error. */
bool fj_hub_look(const fj_hub_place *p, const char *commit, fj_hub_file *f, fj_err *e);
/* From what other commits of the cache have; true when f is in its place after it. */
bool fj_hub_adopt(const fj_hub_place *p, const char *cache_repo, fj_hub_file *f, const fj_log *log,
                  fj_err *e);
/* Removes what broke off of contents that the list no longer has. */
void fj_hub_sweep(const fj_hub_place *p, const fj_hub_list *l);
/* part -> its name, synced. */
bool fj_hub_settle(const fj_hub_place *p, const char *part, const char *name, fj_err *e);

/* ---- transfers ------------------------------------------------------------------------------------- */
/* What is not whole yet: its file, and the hash of what is in it. */
typedef struct fj_hub_sink {
    int fd; /* -1: not open */
    char *part, *note;
    int64_t pos, hashed; /* bytes in the file; those of them that the hash has seen */
    fj_hub_file want;    /* name is not owned; size and hashes may come with the answer */
    bool sure;           /* want is from the list, not from the note of an earlier answer */
    crypto_hash_sha256_state sha256;
    fj_sha1 sha1;
} fj_hub_sink;
bool fj_hub_sink_open(fj_hub_sink *s, const fj_hub_place *p, const fj_hub_file *f,
                      const char *commit, fj_err *e);
void fj_hub_sink_close(fj_hub_sink *s); /* keeps the part */
/* Some of what was in the file already, into the hash; done when hashed == pos. */
bool fj_hub_sink_rehash(fj_hub_sink *s, fj_err *e);
bool fj_hub_sink_restart(fj_hub_sink *s, fj_err *e);
/* Hash and size of an answer, where the list has none: noted beside the part. */
bool fj_hub_sink_note(fj_hub_sink *s, const char *etag, int64_t size, fj_err *e);
/* A size that the list did not have; for git's hash it stands in front, so nothing may be there yet. */
void fj_hub_sink_size(fj_hub_sink *s, int64_t size);
bool fj_hub_sink_write(fj_hub_sink *s, const void *bytes, size_t n, fj_err *e);
/* Whole: *right says whether the hash is, and then the file is in its place; `found` is the hash. */
bool fj_hub_sink_end(fj_hub_sink *s, const fj_hub_place *p, bool *right, char found[65], fj_err *e);

typedef struct fj_hub_net {
    const fj_hub_end *end;
    const fj_hub_opts *o;
    const char *repo, *token, *token_from, *commit;
} fj_hub_net;
/* The body of one address, at most `most` bytes.  what: "the list of files", for messages. */
bool fj_hub_get(const fj_hub_net *net, const char *url, const char *what, size_t most, fj_str *body,
                fj_err *e);
/* Every file of f that is not `have`, to its place. */
bool fj_hub_fetch(const fj_hub_net *net, const fj_hub_place *p, fj_hub_file *f, size_t n,
                  fj_err *e);
/* The sentence for an answer that is no success; file NULL: the list. */
bool fj_hub_refused(const fj_hub_net *net, const fj_hub_head *h, const char *url, const char *file,
                    fj_err *e);

#endif
