/* forja pull against a server that plays the Hub (hub_server.h): what comes is whole and right, or it is not there. */
#include "test_util.h"

#include "hub_server.h"
#include "lifecycle/hub.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { BIG = 300000 };

typedef struct rig {
    hub h;
    hub_file f[12];
    fj_hub_opts o;
    char cache[600], end[64];
    bool up;
} rig;

static uint8_t bytes[2][BIG]; /* two versions of the weights */

/* A model of three files and one that nobody wants; a cache of its own. */
static void open_rig(rig *r) {
    static int count;
    memset(r, 0, sizeof *r);
    r->h.repo = "owner/name";
    r->h.f = r->f;
    r->f[r->h.n++] = (hub_file){ .name = "config.json", .data = "{\"a\": 1}", .n = 8 };
    r->f[r->h.n++] =
        (hub_file){ .name = "model.safetensors", .data = bytes[0], .n = BIG, .lfs = true };
    r->f[r->h.n++] = (hub_file){ .name = "tokenizer_config.json", .data = "", .n = 0 };
    r->f[r->h.n++] =
        (hub_file){ .name = "pytorch_model.bin", .data = bytes[1], .n = BIG, .lfs = true };
    snprintf(r->h.commit, sizeof r->h.commit, "%s", "0123456789012345678901234567890123456789");
    if (!hub_start(&r->h)) fail_msg("no socket on 127.0.0.1: %s", strerror(errno));
    r->up = true;
    snprintf(r->cache, sizeof r->cache, "%s/cache%d", fj_test_dir(), count++);
    snprintf(r->end, sizeof r->end, "http://127.0.0.1:%d", r->h.port[0]);
    r->o = (fj_hub_opts){
        .endpoint = r->end, .cache = r->cache, .wait_s = 0.001, .tries = 4, .stall_s = 20
    };
}

static void close_rig(rig *r) {
    if (r->up) hub_stop(&r->h);
    r->up = false;
}

static const char *place(const rig *r, const char *name) {
    char *path = fj_test_buf();
    snprintf(path, 1024, "%s/owner/name/%s/%s", r->cache, r->h.commit, name);
    return path;
}

static void is_file(const char *path, const void *data, size_t n) {
    fj_err e = { 0 };
    size_t k;
    char *s = fj_read_file(path, 1 << 24, &k, &e);
    if (!s) fail_msg("%s", e.msg);
    if (k != n || (n && memcmp(s, data, n))) fail_msg("%s has other bytes", path);
    free(s);
}

static int count(const rig *r, const char *what) {
    int n = 0;
    for (const char *s = r->h.log; (s = strstr(s, what)); s++) n++;
    return n;
}

/* Files with bytes among what broke off. */
static int parts(const rig *r) {
    char dir[800];
    snprintf(dir, sizeof dir, "%s/owner/name/.forja/parts", r->cache);
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *x; d && (x = readdir(d));) {
        char *path = fj_path_join(dir, x->d_name);
        n += strstr(x->d_name, ".part") && !strstr(x->d_name, ".json") && fj_file_size(path) > 0;
        free(path);
    }
    if (d) closedir(d);
    return n;
}

static bool pull(rig *r, const char *what, fj_err *e) {
    fj_hub_result res;
    bool ok = fj_hub_pull(what, &r->o, &res, e);
    if (!ok && (!e->msg[0] || res.path || res.files))
        fail_msg("a failure without a sentence, or with a result");
    fj_hub_free(&res);
    return ok;
}

static void whole(const rig *r) {
    is_file(place(r, "config.json"), "{\"a\": 1}", 8);
    is_file(place(r, "model.safetensors"), r->f[1].data, r->f[1].n);
    is_file(place(r, "tokenizer_config.json"), "", 0);
    assert_false(fj_exists(place(r, "pytorch_model.bin")));
    assert_int_equal(parts(r), 0);
}

static void test_folder(void **state) {
    (void)state;
    rig r;
    fj_err e = { 0 };
    fj_hub_result res;
    open_rig(&r);
    r.h.token = r.o.token = "hf_secret";
    FJ_OK_OR_FAIL(fj_hub_pull("owner/name", &r.o, &res, &e), e);
    whole(&r);
    assert_int_equal(res.n, 3);
    assert_true(res.bytes == BIG + 8 && res.missing == BIG + 8);
    assert_string_equal(res.commit, r.h.commit);
    char *file = fj_path_join(res.path, "config.json");
    assert_string_equal(file, place(&r, "config.json"));
    free(file);
    fj_hub_free(&res);
    close_rig(&r);
}

static void test_again(void **state) {
    (void)state;
    rig r;
    fj_err e = { 0 };
    fj_hub_result res;
    open_rig(&r);
    r.h.token = r.o.token = "hf_secret";
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    /* the token went to the endpoint each time and to the other port never */
    assert_int_equal(count(&r, "cdn GET"), 1);
    assert_int_equal(count(&r, "hub GET"), 3); /* the list, two files: the empty one needs none */
    assert_int_equal(count(&r, " token\n"), 3);
    for (char *s = r.h.log; (s = strstr(s, "cdn ")); s++) {
        char *token = strstr(s, " token\n"), *end = strchr(s, '\n');
        assert_true(!token || token > end);
    }
    int before = r.h.requests;
    FJ_OK_OR_FAIL(fj_hub_pull("owner/name", &r.o, &res, &e), e);
    assert_int_equal(r.h.requests, before + 1); /* the list */
    assert_true(res.missing == 0 && res.files[0].have);
    fj_hub_free(&res);
    r.o.revision = r.h.commit; /* a commit that is here needs no network */
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    assert_int_equal(r.h.requests, before + 1);
    close_rig(&r);
}

/* The connection ends at any byte, any number of times. */
static void test_cuts(void **state) {
    (void)state;
    fj_rng rng = fj_test_rng();
    for (int k = 0; k < 12; k++) {
        rig r;
        fj_err e = { 0 };
        fj_str plan = { 0 };
        open_rig(&r);
        r.o.tries = 20;
        int n = 1 + (int)fj_rng_below(&rng, 6);
        for (int i = 0; i < n; i++)
            fj_str_addf(&plan, "%scut:%d", i ? "," : "",
                        k == 0 ? 0 : (int)fj_rng_below(&rng, BIG / 6));
        r.f[1].plan = plan.s;
        r.f[0].plan = "cut:0,cut:3,cut:7";
        r.h.list_plan = "cut:50,cut:0";
        FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
        whole(&r);
        assert_int_equal(count(&r, "cdn GET"), n + 1);
        if (k) assert_true(count(&r, "range=") > 0);
        fj_str_free(&plan);
        close_rig(&r);
    }
}

/* What broke off for good is gone on with by the next process. */
static void test_goes_on(void **state) {
    (void)state;
    rig r;
    fj_err e = { 0 };
    fj_hub_result res;
    open_rig(&r);
    r.o.tries = 1;
    r.f[1].plan = "cut:200000";
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "what came is kept");
    assert_false(fj_exists(place(&r, "model.safetensors")));
    assert_int_equal(parts(&r), 1);
    r.o.dry_run = true;
    FJ_OK_OR_FAIL(fj_hub_pull("owner/name", &r.o, &res, &e), e);
    assert_true(res.files[1].part == 200000 && !res.files[1].have);
    fj_hub_free(&res);
    r.o.dry_run = false;
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    whole(&r);
    assert_int_equal(count(&r, "range=200000"), 2); /* endpoint and the other */
    close_rig(&r);
    /* bytes of it that went bad on this disk are found out */
    open_rig(&r);
    r.o.tries = 1;
    r.f[1].plan = "cut:200000";
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "what came is kept");
    char hex[65], part[900];
    hub_hash(r.f + 1, hex);
    snprintf(part, sizeof part, "%s/owner/name/.forja/parts/%s.part", r.cache, hex);
    FILE *f = fopen(part, "r+b");
    assert_non_null(f);
    fputc(bytes[0][0] ^ 1, f);
    fclose(f);
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    whole(&r);
    close_rig(&r);
}

static void test_wrong_bytes(void **state) {
    (void)state;
    rig r;
    fj_err e = { 0 };
    open_rig(&r);
    r.f[1].plan = r.f[0].plan = "wrong";
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    whole(&r);
    close_rig(&r);
    for (int i = 0; i < 2; i++) {
        open_rig(&r);
        r.f[i].plan = "wrong,wrong,wrong,wrong";
        FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, i ? "has the SHA-256" : "has the blob hash");
        assert_non_null(strstr(e.msg, "thrown away"));
        assert_false(fj_exists(place(&r, r.f[i].name)));
        close_rig(&r);
    }
}

typedef struct misdeed {
    int file; /* -1: the list */
    const char *plan, *says;
} misdeed;

/* What the server does, how it is said; NULL: it is got over. */
static void misdeeds(const misdeed *m, size_t n) {
    for (size_t i = 0; i < n; i++) {
        rig r;
        fj_err e = { 0 };
        open_rig(&r);
        print_message("%d: %s\n", m[i].file, m[i].plan);
        if (m[i].file < 0) r.h.list_plan = m[i].plan;
        else r.f[m[i].file].plan = m[i].plan;
        if (m[i].says) {
            FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, m[i].says);
            if (m[i].file >= 0) assert_false(fj_exists(place(&r, r.f[m[i].file].name)));
        } else {
            FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
            whole(&r);
        }
        close_rig(&r);
    }
}

static void test_lies(void **state) {
    (void)state;
    static const misdeed m[] = {
        { 0, "more", "more bytes come" },
        { 1, "more", "more bytes come" },
        { 1, "less", "300000 bytes are listed, and the server says 150000" },
        { 0, "less", "8 bytes are listed" },
        { 1, "badsize", "the server says 300005" },
        { 0, "badsize", "the server says 13" },
        { 1, "badetag", "other contents" },
        { 0, "badetag", "other contents" },
        { 1, "noetag", NULL }, /* the list has the hash */
        { 0, "noetag", NULL },
        { 1, "cut:1000,shift", NULL },
        { 1, "cut:1000,norange", NULL },
        { 1, "cut:1000,416", NULL },
        { 1, "416", "answers 416" },
        { 1, "gone", NULL },
        { 1, "gone,gone,gone,gone", "403" },
        { 0, "304", "304" },
        { 0, "204", "204" },
    };
    misdeeds(m, FJ_LEN(m));
}

static void test_statuses(void **state) {
    (void)state;
    static const misdeed m[] = {
        { -1, "500,502,503:0", NULL },
        { -1, "429:0,429:0", NULL },
        { -1, "503,503,503,503", "answers 503 for the list of files of owner/name" },
        { -1, "429:t0", NULL },
        { -1, "429:86400", "HTTP 429" },
        { 1, "429:t86400", "HTTP 429" },
        { -1, "401:RepoNotFound",
          "has no model owner/name, or it is private and needs a token (HF_TOKEN)" },
        { -1, "404:RepoNotFound", "has no model owner/name" },
        { -1, "404", "has no model owner/name" },
        { -1, "404:RevisionNotFound", "owner/name has no revision \"main\"" },
        { -1, "401", "refuses the list of files of owner/name (HTTP 401)" },
        { 1, "500,429:0,408", NULL },
        { 0, "500,500,500,500", "answers 500 for config.json of owner/name" },
        { 0, "404:EntryNotFound", "has no file config.json" },
        { 1, "401:GatedRepo", "owner/name is gated: accept its conditions at http://127.0.0.1" },
        { 1, "403", "refuses model.safetensors of owner/name (HTTP 403)" },
        { 1, "400", "answers 400" },
    };
    misdeeds(m, FJ_LEN(m));
    rig r;
    fj_err e = { 0 };
    open_rig(&r);
    r.o.token = "hf_secret";
    r.f[1].plan = "403:GatedRepo";
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e,
                  "the account of the token from HF_TOKEN has no access");
    r.h.list_plan = "401";
    r.h.list_asked = 0;
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "is the token from HF_TOKEN still good?");
    assert_null(strstr(e.msg, "secret"));
    r.o.revision = "v2";
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "has no revision \"v2\"");
    FJ_FAILS_WITH(pull(&r, "owner/other", &e), e, "has no model owner/other");
    FJ_FAILS_WITH(pull(&r, "nobody", &e), e, "is no model of the Hub");
    close_rig(&r);
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e,
                  "cannot fetch the list of files of owner/name from 127.0.0.1");
    /* A host without an address: the second try failed in our own call of libcurl. */
    r.o.endpoint = "http://no-such-host.invalid";
    r.o.stall_s = 1;
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "from no-such-host.invalid");
    assert_non_null(strstr(e.msg, "(3 tries)"));
}

static void test_hostile(void **state) {
    (void)state;
    static const misdeed m[] = {
        { 0, "loop", "redirects over and over" },
        { 0, "nowhere", "redirects to nowhere" },
        { 0, "longway", "8 KiB" },
        { 0, "file", "redirects to file://" },
        { 0, "away", "redirects to http://localhost.invalid; only https is followed" },
        { 0, "user", "with a user in it" },
        { 0, "bighead", "a head of over 64 KiB" },
        { -1, "endless", "has over 33554432 bytes" },
        { -1, "junk", "not valid JSON" },
    };
    misdeeds(m, FJ_LEN(m));
    static const char *const lists[][2] = {
        { "../evil", "\"..\"" },
        { "/tmp/evil", "begins with '/'" },
        { "a\\\\b", "backslash" },
        { "a\\u0000b", "control" },
        { "model.safetensors/../../../x", "\"..\"" },
    };
    for (size_t i = 0; i < FJ_LEN(lists); i++) {
        rig r;
        fj_err e = { 0 };
        fj_str s = { 0 };
        open_rig(&r);
        fj_str_addf(&s, "{\"sha\":\"%s\",\"siblings\":[{\"rfilename\":\"%s\"}]}", r.h.commit,
                    lists[i][0]);
        r.h.list_text = s.s;
        FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, lists[i][1]);
        assert_false(fj_exists(r.cache));
        fj_str_free(&s);
        close_rig(&r);
    }
    rig r; /* one that says it is larger than any disk */
    fj_err e = { 0 };
    fj_str s = { 0 };
    open_rig(&r);
    fj_str_addf(
        &s,
        "{\"sha\":\"%s\",\"siblings\":[{\"rfilename\":\"model.safetensors\",\"size\":1000000000000000}]}",
        r.h.commit);
    r.h.list_text = s.s;
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "GB are to be fetched");
    fj_str_free(&s);
    close_rig(&r);
}

static void test_slow(void **state) {
    (void)state;
    rig r;
    fj_err e = { 0 };
    open_rig(&r);
    r.o.stall_s = 1;
    r.f[1].plan = "slow";
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    whole(&r);
    close_rig(&r);
    /* Files come side by side, as many as were asked for: the first of them hang until they are asked for again. */
    for (int jobs = 1; jobs <= 3; jobs += 2) {
        static const char *const names[] = { "model-00001-of-00005.safetensors",
                                             "model-00002-of-00005.safetensors",
                                             "model-00003-of-00005.safetensors",
                                             "model-00004-of-00005.safetensors",
                                             "model-00005-of-00005.safetensors" };
        open_rig(&r);
        r.o.stall_s = 1;
        r.o.jobs = jobs;
        r.h.n = 0;
        for (int i = 0; i < 5; i++)
            r.f[r.h.n++] = (hub_file){
                .name = names[i], .data = bytes[0] + i, .n = 1000, .plan = i < jobs ? "slow" : NULL
            };
        FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
        int asked[5] = { 0 }, again = 0;
        for (const char *s = r.h.log; (s = strstr(s, "/model-0000")); s++) {
            int i = s[11] - '1';
            assert_in_range(i, 0, 4);
            again += asked[i]++ > 0;
            if (i == jobs) assert_true(again > 0);
        }
        for (int i = 0; i < 5; i++) {
            assert_int_equal(asked[i], i < jobs ? 2 : 1);
            is_file(place(&r, names[i]), bytes[0] + i, 1000);
        }
        close_rig(&r);
    }
}

/* A newer commit: what it kept is linked, what it changed is fetched whole, what broke off of the old is dropped. */
static void test_changed(void **state) {
    (void)state;
    rig r;
    fj_err e = { 0 };
    open_rig(&r);
    r.o.tries = r.o.jobs = 1; /* config.json has come before the other fails */
    r.f[1].plan = "cut:100000";
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "what came is kept");
    const char *old = place(&r, "config.json");
    assert_true(fj_exists(old));
    r.f[1].data = bytes[1];
    r.h.commit[0] = 'a';
    r.h.n_log = 0;
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    whole(&r);
    assert_int_equal(count(&r, "range="), 0);
    assert_int_equal(count(&r, "config.json"), 0); /* not asked for */
    struct stat a, b;
    assert_true(stat(old, &a) == 0 && stat(place(&r, "config.json"), &b) == 0 &&
                a.st_ino == b.st_ino);
    close_rig(&r);
    /* A server that lists names only: hashes come with the files, and say whether to go on. */
    for (int changed = 0; changed < 2; changed++) {
        open_rig(&r);
        r.h.bare = true;
        r.o.tries = 3;
        FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
        whole(&r);
        close_rig(&r);
        open_rig(&r);
        r.h.bare = true;
        r.o.tries = 1;
        r.f[1].plan = "cut:100000";
        FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "what came is kept");
        if (changed) r.f[1].data = bytes[1]; /* under the same commit: against all rules */
        r.o.tries = 3;
        FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
        whole(&r);
        assert_true(count(&r, "range=100000") > 0);
        close_rig(&r);
    }
    open_rig(&r);
    r.h.bare = true;
    r.f[1].plan = "noetag";
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "names no hash of model.safetensors");
    close_rig(&r);
}

static bool stop_now(void *ctx) { return ++*(int *)ctx > 30; }

static void test_stop(void **state) {
    (void)state;
    rig r;
    fj_err e = { 0 };
    int asked = 0;
    fj_log log = { .ctx = &asked, .should_stop = stop_now };
    open_rig(&r);
    r.f[1].plan = "cut:100000,slow,slow";
    r.o.log = &log;
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "stopped");
    assert_int_equal(e.code, FJ_ESTOP);
    assert_int_equal(parts(&r), 1);
    r.o.log = NULL;
    r.f[1].plan = NULL;
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    whole(&r);
    assert_true(count(&r, "range=1000") > 0);
    close_rig(&r);
}

/* Two processes: one fetches, the other waits, and finds everything. */
static void test_two(void **state) {
    (void)state;
    rig r;
    open_rig(&r);
    r.f[1].plan = "cut:1000,cut:1000,cut:1000";
    pid_t pid[2];
    for (int i = 0; i < 2; i++) {
        fflush(NULL);
        pid[i] = fork();
        assert_true(pid[i] >= 0);
        if (pid[i] == 0) {
            fj_err e = { 0 };
            bool ok = pull(&r, "owner/name", &e);
            if (!ok) dprintf(2, "%s\n", e.msg);
            _exit(!ok);
        }
    }
    for (int i = 0; i < 2; i++) {
        int status;
        assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
        assert_int_equal(status, 0);
    }
    whole(&r);
    assert_int_equal(count(&r, "cdn GET"), 4);
    assert_int_equal(count(&r, "/config.json"), 1);
    close_rig(&r);
}

/* A process that is killed leaves no lock and no half of a file under its name, and what it had is gone on with. */
static void test_kill(void **state) {
    (void)state;
    rig r;
    fj_err e = { 0 };
    open_rig(&r);
    r.f[1].plan = "cut:50000,slow";
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) _exit(pull(&r, "owner/name", &e));
    for (int i = 0, seen = 0; i < 1000 && seen < 2; i++) { /* at most ten seconds */
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
        pthread_mutex_lock(&r.h.mutex);
        seen = count(&r, "cdn GET");
        pthread_mutex_unlock(&r.h.mutex);
    }
    kill(pid, SIGKILL);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_false(fj_exists(place(&r, "model.safetensors")));
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    whole(&r);
    assert_true(count(&r, "range=5000") > 0);
    close_rig(&r);
}

static void test_offline(void **state) {
    (void)state;
    rig r;
    fj_err e = { 0 };
    open_rig(&r);
    r.o.offline = true;
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "has nothing of owner/name at revision main");
    r.o.offline = false;
    r.o.exclude = (const char *const[]){ "model*" };
    r.o.n_exclude = 1;
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    r.o.n_exclude = 0;
    r.o.offline = true;
    int before = r.h.requests;
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "lacks model.safetensors of owner/name");
    r.o.n_exclude = 1;
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    r.o.n_exclude = 0;
    r.o.offline = false;
    setenv("FORJA_CACHE", r.cache, 1);
    setenv("HF_HUB_OFFLINE", "1", 1);
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "offline");
    unsetenv("HF_HUB_OFFLINE");
    assert_int_equal(r.h.requests, before);
    assert_null(fj_hub_cached("owner/name"));
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    before = r.h.requests;
    char *path = fj_hub_cached("owner/name");
    assert_true(path && fj_is_dir(path));
    free(path);
    path = fj_hub_cached("owner/name:config.json");
    assert_string_equal(path, place(&r, "config.json"));
    free(path);
    assert_null(fj_hub_cached("owner/name:pytorch_model.bin"));
    assert_null(fj_hub_cached("models/granite.gguf"));
    assert_null(fj_hub_cached("/etc/passwd"));
    assert_int_equal(r.h.requests, before);
    unsetenv("FORJA_CACHE");
    /* a file of the cache that was cut after all */
    assert_int_equal(truncate(place(&r, "model.safetensors"), 5), 0);
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "has 5 bytes instead of 300000");
    close_rig(&r);
}

static void test_to(void **state) {
    (void)state;
    rig r;
    fj_err e = { 0 };
    char to[700], path[800];
    open_rig(&r);
    snprintf(to, sizeof to, "%s-to/deep", r.cache);
    r.o.to = to;
    r.o.tries = 1;
    r.f[1].plan = "cut:1000";
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "what came is kept");
    snprintf(path, sizeof path, "%s/.forja", to);
    assert_true(fj_is_dir(path));
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    assert_true(count(&r, "range=1000") > 0);
    assert_false(fj_exists(path));
    assert_false(fj_exists(r.cache)); /* instead of the cache */
    snprintf(path, sizeof path, "%s/model.safetensors", to);
    is_file(path, bytes[0], BIG);
    int before = count(&r, "resolve");
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e); /* looked at, found right */
    assert_int_equal(count(&r, "resolve"), before);
    fj_write_file(path, "mine", 4, &e);
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "is there with other contents");
    is_file(path, "mine", 4);
    /* what the cache has is copied, without the network, too */
    r.o.to = NULL;
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    snprintf(to, sizeof to, "%s-copy", r.cache);
    r.o.to = to;
    r.o.offline = true;
    before = r.h.requests;
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e);
    snprintf(path, sizeof path, "%s/model.safetensors", to);
    is_file(path, bytes[0], BIG);
    struct stat st;
    assert_true(stat(path, &st) == 0 &&
                st.st_nlink == 1); /* to change it is not to change the cache */
    assert_int_equal(r.h.requests, before);
    snprintf(path, sizeof path, "%s/.forja", to);
    assert_false(fj_exists(path));
    close_rig(&r);
}

/* The disk says no. */
static void test_disk(void **state) {
    (void)state;
    rig r;
    fj_err e = { 0 };
    open_rig(&r);
    fj_write_file(r.cache, "x", 1, &e);
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, r.cache);
    remove(r.cache);
    struct rlimit was, small = { 100000, 100000 };
    getrlimit(RLIMIT_FSIZE, &was);
    small.rlim_max = was.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &small);
    bool ok = pull(&r, "owner/name", &e);
    setrlimit(RLIMIT_FSIZE, &was);
    assert_false(ok);
    if (!strstr(e.msg, "cannot write") || !strstr(e.msg, "File too large")) fail_msg("%s", e.msg);
    assert_false(fj_exists(place(&r, "model.safetensors")));
    FJ_OK_OR_FAIL(pull(&r, "owner/name", &e), e); /* room was made: it goes on */
    whole(&r);
    assert_true(count(&r, "range=") > 0);
    close_rig(&r);
}

static void test_one_gguf(void **state) {
    (void)state;
    rig r;
    fj_err e = { 0 };
    fj_hub_result res;
    open_rig(&r);
    r.h.n = 0;
    r.f[r.h.n++] = (hub_file){ .name = "m-Q4_K_M.gguf", .data = bytes[0], .n = 5000, .lfs = true };
    r.f[r.h.n++] = (hub_file){
        .name = "m-Q8_0-00001-of-00002.gguf", .data = bytes[0], .n = 6000, .lfs = true
    };
    r.f[r.h.n++] = (hub_file){
        .name = "m-Q8_0-00002-of-00002.gguf", .data = bytes[1], .n = 7000, .lfs = true
    };
    FJ_FAILS_WITH(pull(&r, "owner/name", &e), e, "owner/name has 2 GGUF models");
    FJ_OK_OR_FAIL(fj_hub_pull("owner/name:q8_0", &r.o, &res, &e), e);
    assert_string_equal(res.path, place(&r, "m-Q8_0-00001-of-00002.gguf"));
    assert_int_equal(res.n, 2);
    fj_hub_free(&res);
    is_file(place(&r, "m-Q8_0-00001-of-00002.gguf"), bytes[0], 6000);
    is_file(place(&r, "m-Q8_0-00002-of-00002.gguf"), bytes[1], 7000);
    assert_false(fj_exists(place(&r, "m-Q4_K_M.gguf")));
    close_rig(&r);
}

static int before_all(void **state) {
    (void)state;
    fj_rng rng = fj_test_rng();
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < BIG; k++) bytes[i][k] = (uint8_t)fj_rng_u64(&rng);
    static const char *const names[] = { "HF_TOKEN",       "HF_TOKEN_PATH", "HF_ENDPOINT",
                                         "HF_HUB_OFFLINE", "FORJA_CACHE",   "http_proxy",
                                         "all_proxy",      "ALL_PROXY" };
    for (size_t i = 0; i < FJ_LEN(names); i++) unsetenv(names[i]);
    setenv("HF_HOME", fj_test_path("no-home"), 1);
    setenv("no_proxy", "127.0.0.1", 1);
    signal(SIGPIPE, SIG_IGN);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folder),      cmocka_unit_test(test_again),
        cmocka_unit_test(test_cuts),        cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_wrong_bytes), cmocka_unit_test(test_lies),
        cmocka_unit_test(test_statuses),    cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_slow),        cmocka_unit_test(test_changed),
        cmocka_unit_test(test_stop),        cmocka_unit_test(test_two),
        cmocka_unit_test(test_kill),        cmocka_unit_test(test_offline),
        cmocka_unit_test(test_to),          cmocka_unit_test(test_disk),
        cmocka_unit_test(test_one_gguf),
    };
    return cmocka_run_group_tests(tests, before_all, NULL);
}
