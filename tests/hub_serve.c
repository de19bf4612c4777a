/* hub_serve.c - forja-testhub OWNER/NAME DIR [FILE=PLAN | list=PLAN | token=TOKEN]...: the files of a folder by the server of
 * hub_server.h, for the scripts of tests/cli.  Prints its address, then every request; ends by itself after two minutes. */
#include "hub_server.h"

#include <dirent.h>

static bool ends(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

int main(int argc, char **argv) {
    static hub h;
    static hub_file f[256];
    if (argc < 3) return 2;
    alarm(120);
    h.repo = argv[1];
    h.f = f;
    h.say = stdout;
    DIR *d = opendir(argv[2]);
    if (!d) return 1;
    fj_err e = { 0 };
    fj_sha1 all;
    fj_sha1_init(&all);
    for (struct dirent *x; (x = readdir(d)) && h.n < 256;) {
        if (x->d_name[0] == '.') continue;
        hub_file *g = f + h.n++;
        char *path = fj_path_join(argv[2], x->d_name);
        g->name = fj_strdup(x->d_name);
        g->data = fj_read_file(path, (size_t)1 << 30, &g->n, &e);
        g->lfs = ends(g->name, ".safetensors") || ends(g->name, ".gguf") || ends(g->name, ".bin");
        free(path);
        if (!g->data) {
            fprintf(stderr, "%s\n", e.msg);
            return 1;
        }
        fj_sha1_add(&all, g->data, g->n);
    }
    closedir(d);
    fj_sha1_end(&all, h.commit);
    for (int i = 3; i < argc; i++) {
        char *eq = strchr(argv[i], '=');
        if (!eq) return 2;
        *eq = 0;
        hub_file *g = hub_find(&h, argv[i]);
        if (g) g->plan = eq + 1;
        else if (!strcmp(argv[i], "list")) h.list_plan = eq + 1;
        else if (!strcmp(argv[i], "token")) h.token = eq + 1;
        else return 2;
    }
    if (!hub_start(&h)) return 1;
    printf("http://127.0.0.1:%d\n", h.port[0]);
    fflush(stdout);
    for (;;) pause();
}
