/* cpus.c - see cpus.h. */
#define _GNU_SOURCE
#include "base/cpus.h"

#include "base/fs.h"

#include <sched.h>
#include <stdio.h>

enum { MOST = 1 << 16 }; /* bytes of a file of the kernel's that are looked at */

/* Processors that "max 100000" or "150000 100000" allow, a started one counts; 0: no limit. */
static int of_line(const char *s) {
    long long quota, period;
    if (sscanf(s, "%lld %lld", &quota, &period) != 2 || quota <= 0 || period <= 0) return 0;
    long long n = (quota + period - 1) / period;
    return n < 1 << 20 ? (int)n : 0;
}

static char *text(const char *root, const char *dir, const char *file) {
    fj_str path = { 0 };
    size_t n;
    fj_str_addf(&path, "%s%s%s", root, dir, file);
    char *s = fj_read_file(path.s, MOST, &n, NULL);
    fj_str_free(&path);
    return s;
}

static int limit_at(const char *root, const char *dir) {
    char *s = text(root, dir, "/cpu.max");
    int n = s ? of_line(s) : 0;
    free(s);
    if (n) return n;
    char *quota = text(root, dir, "/cpu.cfs_quota_us"),
         *period = text(root, dir, "/cpu.cfs_period_us");
    if (quota && period) {
        fj_str both = { 0 };
        fj_str_addf(&both, "%s %s", quota, period);
        n = of_line(both.s);
        fj_str_free(&both);
    }
    free(quota);
    free(period);
    return n;
}

/* The least limit of a group and of those that it is in. */
static int least(const char *root, const char *mount, const char *group) {
    fj_str dir = { 0 };
    fj_str_addf(&dir, "%s%s", mount, group);
    int most = 0;
    for (;;) {
        int n = limit_at(root, dir.s);
        if (n && (!most || n < most)) most = n;
        if (dir.n <= strlen(mount)) break;
        while (dir.n > strlen(mount) && dir.s[dir.n - 1] != '/') dir.n--;
        if (dir.n > strlen(mount)) dir.n--; /* the slash */
        dir.s[dir.n] = 0;
    }
    fj_str_free(&dir);
    return most;
}

int fj_cpus_quota(const char *root) {
    char *s = text(root, "/proc/self/cgroup", "");
    int most = 0;
    for (char *line = s, *next; line && *line; line = next) {
        char *end = strchr(line, '\n');
        next = end ? end + 1 : line + strlen(line);
        if (end) *end = 0;
        char *names = strchr(line, ':'), *group = names ? strchr(names + 1, ':') : NULL;
        if (!group || group[1] != '/' || strstr(group, "/..")) continue;
        *group++ = 0;
        bool unified = names[1] == 0; /* version 2; in version 1 the line names what it is for */
        if (!unified && !strstr(names, "cpu,") && strcmp(names, ":cpu") != 0) continue;
        int n = least(root, unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu", group);
        if (n && (!most || n < most)) most = n;
    }
    free(s);
    return most;
}

int fj_cpus(void) {
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    int quota = fj_cpus_quota("");
    return quota && quota < n ? quota : n;
}

int fj_cpus_at_most(long long asked) {
    int most = fj_cpus();
    return asked > most ? most : (int)asked;
}
