/* replay.c - runs one fuzz target without libFuzzer: `fuzz_NAME CORPUS_FOLDER [MUTATIONS]`.
 *
 * Every file of the corpus as it is, then seeded mutations of it (FORJA_SEED repeats a run; 300 of
 * each file when nothing else is said).  What ran when the process died is printed by name and number,
 * and a mutation depends on seed, file name and number alone, so that the same seed dies again.  An
 * input that takes over 30 seconds is a failure too.  A missing or empty corpus is a failure: a target
 * without inputs tests nothing. */
#include "test_util.h"

#include <dirent.h>
#include <signal.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerInitialize(int *argc, char ***argv) __attribute__((weak));
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

enum { INPUT_LIMIT = 1 << 20, SECONDS = 30 };

/* What is running, for the message of a death: only write(2) may be used then. */
static char running[512];

static void say_last(void) {
    ssize_t r = write(2, running, strlen(running));
    (void)r;
}

static void on_signal(int s) {
    say_last();
    static const char slow[] = "(over 30 seconds)\n";
    if (s == SIGALRM) {
        ssize_t r = write(2, slow, sizeof slow - 1);
        (void)r;
        _exit(1);
    }
    signal(s, SIG_DFL);
    raise(s);
}

/* A copy of exactly n bytes on the heap, so that a sanitizer sees a read beyond the end. */
static void run(const uint8_t *bytes, size_t n) {
    uint8_t *copy = fj_alloc(n);
    if (n) memcpy(copy, bytes, n);
    alarm(SECONDS);
    LLVMFuzzerTestOneInput(copy, n);
    alarm(0);
    free(copy);
}

/* One to six changes: cut, bit, byte, "interesting" number, run of bytes moved or doubled. */
static size_t mutate(fj_rng *r, uint8_t *b, size_t n, size_t cap) {
    static const uint64_t numbers[] = { 0,          1,          0x7f,      0x80,
                                        0xff,       0x7fff,     0xffff,    0x7fffffff,
                                        0x80000000, 0xffffffff, INT64_MAX, UINT64_MAX };
    for (uint64_t k = 1 + fj_rng_below(r, 6); k > 0; k--) {
        if (n == 0) {
            b[n++] = (uint8_t)fj_rng_u64(r);
            continue;
        }
        size_t at = fj_rng_below(r, n), room = n - at;
        size_t len = 1 + fj_rng_below(r, FJ_MIN(room, (size_t)64));
        switch (fj_rng_below(r, 7)) {
        case 0: n = at; break;
        case 1: b[at] ^= (uint8_t)(1u << fj_rng_below(r, 8)); break;
        case 2: b[at] = (uint8_t)fj_rng_u64(r); break;
        case 3: {
            uint64_t x = numbers[fj_rng_below(r, FJ_LEN(numbers))];
            memcpy(b + at, &x, FJ_MIN(room, (size_t)1 << fj_rng_below(r, 4)));
            break;
        }
        case 4:
            memmove(b + at, b + at + len, room - len);
            n -= len;
            break;
        case 5:
            if (n + len > cap) break;
            memmove(b + at + len, b + at, room);
            n += len;
            break;
        default: memmove(b + fj_rng_below(r, n - len + 1), b + at, len); break;
        }
    }
    return n;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s CORPUS_FOLDER [MUTATIONS]\n", argv[0]);
        return 2;
    }
    unsigned long mutations = argc > 2 ? strtoul(argv[2], NULL, 10) : 300;
    if (LLVMFuzzerInitialize) LLVMFuzzerInitialize(&argc, &argv);
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(say_last);
    else {
        signal(SIGSEGV, on_signal);
        signal(SIGBUS, on_signal);
        signal(SIGFPE, on_signal);
    }
    signal(SIGABRT, on_signal);
    signal(SIGALRM, on_signal);
    uint64_t seed = fj_test_seed();
    DIR *d = opendir(argv[1]);
    if (!d) {
        perror(argv[1]);
        return 1;
    }
    char **names = NULL;
    size_t n = 0, cap = 0;
    for (struct dirent *f; (f = readdir(d));) {
        if (f->d_name[0] == '.') continue;
        FJ_GROW(names, n + 1, cap);
        names[n++] = fj_strdup(f->d_name);
    }
    closedir(d);
    if (n) qsort(names, n, sizeof *names, by_name);
    run((const uint8_t *)"", 0);
    uint8_t *work = fj_alloc(INPUT_LIMIT);
    for (size_t i = 0; i < n; i++) {
        fj_err e = { 0 };
        size_t len;
        char *path = fj_path_join(argv[1], names[i]),
             *bytes = fj_read_file(path, INPUT_LIMIT, &len, &e);
        if (!bytes) {
            fprintf(stderr, "%s\n", e.msg);
            return 1;
        }
        snprintf(running, sizeof running, "died in %s as it is\n", names[i]);
        run((const uint8_t *)bytes, len);
        for (unsigned long k = 0; k < mutations; k++) {
            fj_rng r;
            fj_rng_seed(&r, seed ^ fj_hash(names[i], strlen(names[i])) ^ (k << 32));
            memcpy(work, bytes, len);
            size_t m = mutate(&r, work, len, INPUT_LIMIT);
            snprintf(running, sizeof running, "died in mutation %lu of %s: FORJA_SEED=%llu\n", k,
                     names[i], (unsigned long long)seed);
            run(work, m);
        }
        free(bytes);
        free(path);
        free(names[i]);
    }
    free(work);
    free(names);
    printf("%zu files, %lu mutations of each\n", n, mutations);
    if (n == 0) fprintf(stderr, "%s is empty: a fuzz target needs inputs\n", argv[1]);
    return n == 0;
}
