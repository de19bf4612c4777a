/* bench_peak.c - what a machine can do at most: multiply-adds on registers, and memory read and written. */
#define _GNU_SOURCE
#include "base/fs.h"
#include "formats/json.h"
#include "kernels/peak.h"
#include "lifecycle/bench.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

const char *const fj_peak_names[FJ_PEAKS] = {
    "f32 GFLOP/s", "bf16 GFLOP/s", "int8 Gop/s", "read GB/s", "read of small pages GB/s",
    "copy GB/s",   "triad GB/s",
};

int fj_by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct job {
    fj_peak_fn *fn;
    const fj_kern *k;
    float *mem, *to;        /* [floats] each */
    int64_t floats, passes; /* over them */
    int kind, streams;
    int threads; /* of the team the first so many work */
    double *out; /* for each thread: operations a second, or a sum that nothing may optimise away */
} job;

static void arithmetic(void *ctx, int i, int n) {
    const job *j = ctx;
    (void)n;
    j->out[i] = i < j->threads ? fj_peak_rate(j->fn) : 0;
}

enum { STREAMS = 4, PAGE = 1024, LINE = 16 }; /* floats */

/* Streams side by side, a page of each in turn, with the lines of the next one asked for.  With four of them
 * more is in flight than the processor's own guesses keep there; what caches hold is read faster in one. */
static double reading(const fj_kern *k, const float *p, int64_t n, int streams) {
    int64_t each = n / streams / PAGE * PAGE;
    double sum = 0;
    for (int64_t i = 0; i < each; i += PAGE)
        for (int s = 0; s < streams; s++) {
            const float *q = p + s * each + i;
            for (int l = 0; l < PAGE && i + PAGE < each; l += LINE)
                __builtin_prefetch(q + PAGE + l);
            sum += (double)k->dot(q, q, PAGE);
        }
    return sum;
}

static void memory(void *ctx, int i, int n) {
    const job *j = ctx;
    (void)n;
    if (i >= j->threads) return;
    int64_t part = j->floats / j->threads / 64 * 64;
    float *p = j->mem + part * i, *q = j->to + part * i;
    for (int64_t k = 0; k < j->passes; k++)
        if (j->kind == FJ_PEAK_COPY) memcpy(q, p, (size_t)part * sizeof *p);
        else if (j->kind == FJ_PEAK_TRIAD) j->k->add(q, p, q, part);
        else j->out[i] = reading(j->k, p, part, j->streams);
}

static void touch(void *ctx, int i, int n) {
    const job *j = ctx;
    int64_t from = j->floats * i / n, to = j->floats * (i + 1) / n;
    for (int64_t k = from; k < to; k++) j->mem[k] = 0.75f; /* every page is there */
}

/* Zero where it cannot be had. */
static float *map(size_t bytes, int advice) {
    enum { HUGE = 2 << 20 };
    void *p = mmap(NULL, bytes + HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, bytes + HUGE, advice);
    return p; /* whole huge pages inside are found by the kernel */
}

static void unmap(float *p, size_t bytes) {
    if (p) munmap(p, bytes + (2 << 20));
}

static void keep_best(fj_peak_rates *r, double *v, int64_t n) {
    qsort(v, (size_t)n, sizeof *v, fj_by_size);
    *r = (fj_peak_rates){ .best = v[n - 1], .median = v[n / 2], .least = v[0] };
}

static double arithmetic_rate(fj_dev *d, job *j) {
    double sum = 0;
    fj_dev_team_run(d, arithmetic, j);
    for (int i = 0; i < j->threads; i++) sum += j->out[i] / 1e9;
    return sum;
}

static double memory_rate(fj_dev *d, job *j) {
    double t0 = fj_clock();
    fj_dev_team_run(d, memory, j);
    double arrays = j->kind == FJ_PEAK_COPY ? 2 : j->kind == FJ_PEAK_TRIAD ? 3 : 1;
    return arrays * (double)(j->passes * j->floats) * sizeof(float) / (fj_clock() - t0) / 1e9;
}

/* Data sheets; the first whose name is part of the device's.  A laptop's chip and a part of a card (MIG) are
 * not what their names say. */
static const struct {
    const char *name;
    double f32, bf16, read;
} gpus[] = {
    { " MIG ", 0, 0, 0 },
    { "Laptop", 0, 0, 0 },
    { "NVIDIA H200 NVL", 60e3, 835e3, 4800 },
    { "NVIDIA H200", 67e3, 989e3, 4800 },
    { "NVIDIA H100 NVL", 60e3, 835e3, 3938 },
    { "NVIDIA H100 PCIe", 51e3, 756e3, 2039 },
    { "NVIDIA H100", 67e3, 989e3, 3352 },
    { "A100-SXM4-80GB", 19.5e3, 312e3, 2039 },
    { "A100 80GB PCIe", 19.5e3, 312e3, 1935 },
    { "A100", 19.5e3, 312e3, 1555 },
    { "RTX 4090 D", 73.5e3, 147e3, 1008 },
    { "RTX 4090", 82.6e3, 165e3, 1008 },
};

static void gpu_peaks(const char *about, fj_peak_rates peak[FJ_PEAKS]) {
    for (size_t i = 0; i < FJ_LEN(gpus); i++)
        if (strstr(about, gpus[i].name)) {
            peak[FJ_PEAK_F32].best = gpus[i].f32;
            peak[FJ_PEAK_BF16].best = gpus[i].bf16;
            peak[FJ_PEAK_READ].best = gpus[i].read;
            return;
        }
}

static const double settle = 0.1, lasting = 0.3; /* seconds */
enum { MOST = 128 };                             /* repeats */

static bool in_memory(fj_dev *d, job *j, int kind, const fj_peak_opts *o, double *v,
                      fj_peak_rates *r, fj_err *e) {
    size_t bytes = (size_t)j->floats * sizeof(float);
    bool two = kind == FJ_PEAK_COPY || kind == FJ_PEAK_TRIAD;
    int advice = kind == FJ_PEAK_READ_SMALL ? MADV_NOHUGEPAGE : MADV_HUGEPAGE;
    float *to = two ? map(bytes, advice) : NULL;
    j->mem = map(bytes, advice);
    j->to = to;
    j->kind = kind;
    j->streams = STREAMS;
    bool ok = (j->mem && (to || !two)) ||
              fj_fail(e, FJ_ENOMEM, "no memory to read: %zu MiB asked for", bytes >> 20);
    if (ok) {
        fj_dev_team_run(d, touch, j);
        /* Not counted: the other array's pages appear, and caches take time to keep what comes again. */
        double t0 = fj_clock();
        do memory_rate(d, j);
        while (fj_clock() - t0 < settle);
        int64_t n = 0;
        t0 = fj_clock();
        for (; n < o->repeat || (o->set && n < MOST && fj_clock() - t0 < lasting); n++) {
            j->streams = n % 2 ? 1 : STREAMS;
            v[n] = memory_rate(d, j);
        }
        keep_best(r, v, n);
    }
    unmap(j->mem, bytes);
    unmap(to, bytes);
    return ok;
}

bool fj_bench_peaks(fj_dev *d, const fj_peak_opts *o, fj_peak_rates peak[FJ_PEAKS], fj_err *e) {
    for (int i = 0; i < FJ_PEAKS; i++) peak[i] = (fj_peak_rates){ 0 };
    if (!d->kern) {
        gpu_peaks(d->about, peak);
        return true;
    }
    fj_peak p = fj_peak_of(d->kern);
    fj_peak_fn *const fns[] = { p.f32, p.bf16, p.int8 };
    int all = d->plan.threads;
    /* Of memory itself: many times what caches hold, and no more than a machine can spare. */
    int64_t spare = (int64_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE) / 8,
            most = FJ_MIN((int64_t)2 << 30, spare),
            bytes = o->bytes ? o->bytes
                    : o->set ? FJ_MIN(o->set, most)
                             : most;
    /* Whole turns of all streams for each thread, and a run of some milliseconds. */
    int64_t turn = (int64_t)STREAMS * PAGE * all;
    job j = { .k = d->kern,
              .floats = FJ_MAX(bytes / (int64_t)sizeof(float) / turn, 1) * turn,
              .threads = o->one ? 1 : all };
    j.passes = FJ_MAX(((int64_t)256 << 20) / (j.floats * (int64_t)sizeof(float)), 1);
    double *v = fj_alloc((size_t)FJ_MAX(o->repeat, MOST) * sizeof *v);
    j.out = fj_zalloc((size_t)all * sizeof *j.out);
    bool ok = true;
    for (int k = 0; k < FJ_PEAK_READ; k++) {
        j.fn = fns[k];
        for (int64_t i = 0; i < o->repeat; i++) v[i] = arithmetic_rate(d, &j);
        keep_best(&peak[k], v, o->repeat);
    }
    /* Widened bf16 is multiplied at the rate of f32 where its own instruction is slower. */
    if (peak[FJ_PEAK_F32].best > peak[FJ_PEAK_BF16].best) peak[FJ_PEAK_BF16] = peak[FJ_PEAK_F32];
    for (int k = FJ_PEAK_READ; ok && k < (o->more ? FJ_PEAKS : FJ_PEAK_READ + 1); k++)
        ok = in_memory(d, &j, k, o, v, &peak[k], e);
    free(v);
    free(j.out);
    return ok;
}

/* ---- kept ---------------------------------------------------------------------------------------- */
/* "AMD EPYC 9V74, 2 threads, avx512 vnni bf16" */
static void machine(const fj_dev *d, char *to, size_t n) {
    struct utsname u;
    char line[256], name[256] = "";
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && !*name && fgets(line, sizeof line, f))
        if (!strncmp(line, "model name", 10)) sscanf(line, "%*[^:]: %255[^\n]", name);
    if (f) fclose(f);
    if (!*name && uname(&u) == 0) snprintf(name, sizeof name, "%s", u.machine);
    snprintf(to, n, "%s, %s", name, d->about);
}

static char *cache_file(fj_err *e) {
    char *dir = fj_cache_dir();
    if (!dir) {
        fj_fail(e, FJ_EIO, "neither XDG_CACHE_HOME nor HOME is set: peaks are not kept");
        return NULL;
    }
    char *path = fj_path_join(dir, "peaks.json");
    free(dir);
    return path;
}

static json_t *rates_json(const fj_peak_rates r[FJ_PEAKS]) {
    json_t *o = json_object();
    for (int i = 0; i < FJ_PEAKS; i++)
        if (r[i].best > 0)
            json_object_set_new(o, fj_peak_names[i],
                                json_pack("[f, f, f]", r[i].least, r[i].median, r[i].best));
    return o;
}

static bool rates_from(const json_t *o, fj_peak_rates r[FJ_PEAKS]) {
    for (int i = 0; i < FJ_PEAKS; i++) {
        const json_t *v = json_object_get(o, fj_peak_names[i]);
        if (json_array_size(v) != 3) return false;
        double x[3];
        for (size_t k = 0; k < 3; k++) x[k] = json_number_value(json_array_get(v, k));
        if (!(x[0] > 0 && x[1] >= x[0] && x[2] >= x[1])) return false;
        r[i] = (fj_peak_rates){ .least = x[0], .median = x[1], .best = x[2] };
    }
    return true;
}

bool fj_peaks_load(const fj_dev *d, fj_machine_peaks *p) {
    char key[sizeof p->machine];
    char *path = cache_file(NULL);
    json_t *all = path && fj_exists(path) ? fj_json_file(path, 1 << 20, NULL) : NULL;
    machine(d, key, sizeof key);
    const json_t *o = json_object_get(all, key);
    const char *when = json_string_value(json_object_get(o, "measured"));
    bool ok = when && rates_from(json_object_get(o, "one thread"), p->one) &&
              rates_from(json_object_get(o, "all threads"), p->all);
    if (ok) {
        snprintf(p->measured, sizeof p->measured, "%s", when);
        snprintf(p->machine, sizeof p->machine, "%s", key);
    }
    json_decref(all);
    free(path);
    return ok;
}

bool fj_peaks_save(const fj_machine_peaks *p, fj_err *e) {
    char *path = cache_file(e), *dir = path ? fj_cache_dir() : NULL;
    if (!path) return false;
    json_t *all = fj_exists(path) ? fj_json_file(path, 1 << 20, NULL) : NULL; /* broken: anew */
    if (!all) all = json_object();
    json_object_set_new(all, p->machine,
                        json_pack("{s:s, s:o, s:o}", "measured", p->measured, "one thread",
                                  rates_json(p->one), "all threads", rates_json(p->all)));
    bool ok = fj_mkdirs(dir, e) && fj_json_save(path, all, e);
    json_decref(all);
    free(dir);
    free(path);
    return ok;
}

bool fj_peaks_measure(fj_dev *d, const fj_peak_opts *o, fj_machine_peaks *p, fj_err *e) {
    fj_peak_opts x = *o;
    machine(d, p->machine, sizeof p->machine);
    time_t now = time(NULL);
    struct tm tm;
    strftime(p->measured, sizeof p->measured, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    x.more = true;
    x.one = true;
    if (!fj_bench_peaks(d, &x, p->one, e)) return false;
    x.one = false;
    return fj_bench_peaks(d, &x, p->all, e);
}
