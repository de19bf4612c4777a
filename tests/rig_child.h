/* rig_child.h - runs of train_rig.h in a child process, and whether what a dead or a failed one leaves
 * behind is whole. */
#ifndef FORJA_RIG_CHILD_H
#define FORJA_RIG_CHILD_H

#include "train_rig.h"

#include "formats/ckpt.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <sys/wait.h>

/* A child that trains in `folder`; it leaves by _exit, so that nothing of the parent is undone. */
static FJ_UNUSED pid_t rig_child(const char *folder, bool resume, const char *const *more, int n,
                                 void (*before)(void *), void *ctx) {
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) fail_msg("fork: %s", strerror(errno));
    if (pid) return pid;
    if (before) before(ctx);
    fj_err e = { 0 };
    fj_train_result r;
    bool ok = rig_run_list(&(rig){ .folder = folder, .resume = resume }, more, n, &r, &e);
    if (ok) _exit(0);
    /* The code is what the parent looks at; a message of none or of several lines is a failure. */
    dprintf(2, "%s: %s\n", folder, e.msg);
    _exit(!e.msg[0] || strchr(e.msg, '\n') ? 99 : 10 + (int)e.code);
}

static FJ_UNUSED int rig_wait(pid_t pid) {
    int status;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) fail_msg("waitpid: %s", strerror(errno));
    return status;
}

static FJ_UNUSED bool rig_ends(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

static FJ_UNUSED void rig_whole_file(const char *path) {
    fj_err e = { 0 };
    if (rig_ends(path, ".json")) {
        json_t *j = fj_json_file(path, 1 << 24, &e);
        if (!j) fail_msg("half-written: %s", e.msg);
        json_decref(j);
    } else if (rig_ends(path, ".safetensors")) {
        fj_st *s = fj_st_open(path, &e);
        if (!s) fail_msg("half-written: %s", e.msg);
        fj_st_close(s);
    } else if (rig_ends(path, ".gguf")) {
        fj_gguf *g = fj_gguf_open(path, &e);
        if (!g) fail_msg("half-written: %s", e.msg);
        fj_gguf_close(g);
    } else if (rig_ends(path, ".html") || rig_ends(path, ".yaml")) {
        if (fj_file_size(path) < 100) fail_msg("half-written: %s", path);
    }
}

/* Every file that has its final name is whole; checkpoints are what their manifests say.  Returns how
 * many temporary files were met. */
static FJ_UNUSED int rig_whole_tree(const char *dir) {
    int temporary = 0;
    fj_err e = { 0 };
    DIR *d = opendir(dir);
    if (!d) return 0;
    for (struct dirent *f; (f = readdir(d));) {
        if (f->d_name[0] == '.') continue;
        if (strstr(f->d_name, ".tmp") || strstr(f->d_name, ".old")) {
            temporary++;
            continue;
        }
        char *path = fj_path_join(dir, f->d_name);
        if (!fj_is_dir(path)) rig_whole_file(path);
        else if (!strncmp(f->d_name, "checkpoint-", 11)) {
            fj_ckpt *c = fj_ckpt_open(path, &e);
            if (!c) fail_msg("half-written: %s", e.msg);
            fj_ckpt_close(c);
        } else temporary += rig_whole_tree(path);
        free(path);
    }
    closedir(d);
    return temporary;
}

#endif
