/* Split GGUFs: parts of the sizes that were asked for, and one sentence for every way in which the files of
 * a model can fail to be one. */
#include "test_util.h"

#include "formats/gguf.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>

static const float values[64] = { 1, 2, 3 };

typedef struct one { /* a part by hand; a NULL key leaves it out */
    const char *file;
    int no, count, all; /* -1: no such key */
    const char *tensors[4];
    const char *key; /* another, with value */
    uint32_t value;
} one;

static void put_one(const char *dir, const one *p) {
    fj_err e = { 0 };
    char *path = fj_test_buf();
    snprintf(path, 1024, "%s/%s", dir, p->file);
    fj_gguf_writer *w = fj_gguf_writer_open(path, &e);
    FJ_OK_OR_FAIL(w, e);
    if (p->key) fj_gguf_put_u32(w, p->key, p->value);
    if (p->no >= 0) fj_gguf_put_u32(w, "split.no", (uint32_t)p->no);
    if (p->count >= 0) fj_gguf_put_u32(w, "split.count", (uint32_t)p->count);
    if (p->all >= 0) fj_gguf_put_i32(w, "split.tensors.count", p->all);
    int n = 0;
    while (n < 4 && p->tensors[n])
        fj_gguf_add_tensor(w, p->tensors[n++], FJ_F32, 1, (int64_t[]){ 8 });
    for (int i = 0; i < n; i++) fj_gguf_write_data(w, values + i, 32);
    FJ_OK_OR_FAIL(fj_gguf_writer_close(w, &e), e);
}

static const char *fresh_dir(void) {
    fj_err e = { 0 };
    const char *dir = fj_test_path("parts");
    FJ_OK_OR_FAIL(fj_remove_tree(dir, &e), e);
    FJ_OK_OR_FAIL(fj_mkdirs(dir, &e), e);
    return dir;
}

#define A "m-00001-of-00002.gguf"
#define B "m-00002-of-00002.gguf"

static void good(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *dir = fresh_dir();
    put_one(dir, &(one){ A, 0, 2, 3, { "a", "b" }, "k", 5 });
    put_one(dir, &(one){ B, 1, 2, 3, { "c" }, "k", 5 }); /* the same metadata again */
    static const char *const names[] = { A, B };
    for (int i = 0; i < 2; i++) {
        char *path = fj_path_join(dir, names[i]);
        fj_gguf *g = fj_gguf_open(path, &e);
        FJ_OK_OR_FAIL(g, e);
        assert_true(g->n_files == 2 && g->n_tensors == 3 && g->n_kv == 1);
        assert_true(strstr(g->name, A) && strstr(g->files[0], A) && strstr(g->files[1], B));
        assert_true(g->tensors[1].file == 0 && g->tensors[2].file == 1);
        assert_null(fj_gguf_find(g, "split.count"));
        assert_memory_equal(fj_gguf_tensor_get(g, "b", &e)->data, values + 1, 32);
        assert_memory_equal(fj_gguf_tensor_get(g, "c", &e)->data, values, 32);
        fj_gguf_close(g);
        free(path);
    }
    /* one of one is a file like others, whatever it is called */
    put_one(dir, &(one){ "x.gguf", 0, 1, 1, { "a" }, NULL, 0 });
    char *path = fj_path_join(dir, "x.gguf");
    fj_gguf *g = fj_gguf_open(path, &e);
    FJ_OK_OR_FAIL(g, e);
    assert_true(g->n_files == 1 && g->n_kv == 0 && !strcmp(g->files[0], path));
    fj_gguf_close(g);
    free(path);
}

static void bad(void **state) {
    (void)state;
    static const struct {
        one p[2];
        const char *open, *says;
    } c[] = {
        { { { A, 0, 2, 2, { "a" }, 0, 0 } },
          A,
          B " is missing: it is part 2 of the 2 of a split model" },
        { { { B, 1, 2, 2, { "a" }, 0, 0 } }, B, A " is missing: it is the first of the 2 files" },
        { { { A, 0, 2, 2, { "a" }, 0, 0 }, { B, 0, 2, 2, { "b" }, 0, 0 } },
          A,
          B ": it says that it is part 1 of 2 with 2 tensors in all, expected part 2 of 2" },
        { { { A, 0, 2, 2, { "a" }, 0, 0 }, { B, 1, 3, 2, { "b" }, 0, 0 } }, A, B ": it says" },
        { { { A, 0, 2, 2, { "a" }, 0, 0 }, { B, 1, 2, 3, { "b" }, 0, 0 } }, A, B ": it says" },
        { { { A, 0, 3, 2, { "a" }, 0, 0 }, { B, 1, 2, 2, { "b" }, 0, 0 } },
          B,
          A ": it says that it is part 1 of 3" },
        { { { A, 0, 2, 2, { "a" }, 0, 0 }, { B, -1, -1, -1, { "b" }, 0, 0 } },
          A,
          B ": it says that it is part 1 of 0 with 0 tensors" },
        { { { A, 0, 2, 2, { "a" }, 0, 0 }, { B, 1, 2, 2, { "a" }, 0, 0 } },
          A,
          B ": tensor a is in " },
        { { { A, 0, 2, 3, { "a" }, 0, 0 }, { B, 1, 2, 3, { "b" }, 0, 0 } },
          A,
          A ": split.tensors.count is 3, its 2 files have 2 tensors" },
        { { { A, 0, 2, 2, { "a" }, 0, 0 }, { B, 1, 2, 2, { "b" }, "k", 1 } },
          A,
          B ": key k is not in" },
        { { { A, 0, 2, 2, { "a" }, "k", 2 }, { B, 1, 2, 2, { "b" }, "k", 1 } },
          A,
          B ": key k has another value in" },
        { { { A, 0, 2, -1, { "a" }, 0, 0 } }, A, "without the key split.tensors.count" },
        { { { A, -1, 2, 1, { "a" }, 0, 0 } }, A, "without the key split.no" },
        { { { A, 1, -1, 1, { "a" }, 0, 0 } }, A, "split.no is 1 and split.count 0" },
        { { { A, 2, 2, 1, { "a" }, 0, 0 } }, A, "split.no is 2 and split.count 2" },
        { { { A, 0, 70000, 1, { "a" }, 0, 0 } }, A, "split.count is 70000, at most 65535" },
        { { { A, 0, 1, 2, { "a" }, 0, 0 } }, A, "split.tensors.count is 2, the file has 1" },
        /* names from which the others cannot be told */
        { { { "m.gguf", 0, 2, 2, { "a" }, 0, 0 } }, "m.gguf", "call it NAME-00001-of-00002.gguf" },
        { { { A, 1, 2, 2, { "a" }, 0, 0 } }, A, "call it NAME-00002-of-00002.gguf" },
        { { { A, 0, 3, 2, { "a" }, 0, 0 } }, A, "call it NAME-00001-of-00003.gguf" },
        { { { "-00001-of-00002.gguf", 0, 2, 2, { "a" }, 0, 0 } },
          "-00001-of-00002.gguf",
          "call it NAME-" },
    };
    for (size_t i = 0; i < FJ_LEN(c); i++) {
        const char *dir = fresh_dir();
        for (int k = 0; k < 2; k++)
            if (c[i].p[k].file) put_one(dir, &c[i].p[k]);
        char *path = fj_path_join(dir, c[i].open);
        fj_err e = { 0 };
        fj_gguf *g = fj_gguf_open(path, &e);
        if (g || !strstr(e.msg, c[i].says))
            fail_msg("case %zu: \"%s\" lacks \"%s\"", i, g ? "it opened" : e.msg, c[i].says);
        free(path);
    }
    /* a negative count, and a second file that is none */
    const char *dir = fresh_dir();
    put_one(dir, &(one){ A, 0, 2, 2, { "a" }, NULL, 0 });
    char *a = fj_path_join(dir, A), *b = fj_path_join(dir, B);
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_write_file(b, "GGUF", 4, &e), e);
    FJ_FAILS_WITH(fj_gguf_open(a, &e), e, B ": the file ends inside the header");
    /* from memory nothing else can be found */
    size_t n;
    char *bytes = fj_read_file(a, 1 << 20, &n, &e);
    FJ_OK_OR_FAIL(bytes, e);
    FJ_FAILS_WITH(fj_gguf_open_mem(bytes, n, "memory", &e), e,
                  "memory: it is part 1 of 2 of a split model");
    free(bytes);
    free(a);
    free(b);
}

/* ---- the writer ------------------------------------------------------------------------------ */
static bool write_split(const char *path, uint64_t max, const int *rows, int n, fj_err *e) {
    fj_gguf_writer *w = fj_gguf_writer_open(path, e);
    FJ_OK_OR_FAIL(w, *e);
    fj_gguf_writer_split(w, max);
    fj_gguf_put_string(w, "general.architecture", "llama");
    for (int i = 0; i < n; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i);
        fj_gguf_add_tensor(w, name, FJ_F32, 2, (int64_t[]){ 8, rows[i] });
    }
    for (int i = 0; i < n; i++)
        for (int r = 0; r < rows[i]; r++) fj_gguf_write_data(w, values + (i + r) % 32, 32);
    return fj_gguf_writer_close(w, e);
}

static int count_files(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *f; (f = readdir(d));) n += f->d_name[0] != '.';
    closedir(d);
    return n;
}

/* Random sizes and limits: every part within its limit or of one tensor, none that had room for the next. */
static void sizes(void **state) {
    (void)state;
    fj_rng r = fj_test_rng();
    for (int t = 0; t < 60; t++) {
        fj_err e = { 0 };
        const char *dir = fresh_dir();
        char *path = fj_path_join(dir, t % 2 ? "m.gguf" : "m.x");
        int rows[12], n = 1 + (int)fj_rng_below(&r, 12);
        for (int i = 0; i < n; i++) rows[i] = 1 + (int)fj_rng_below(&r, 9);
        uint64_t max = 1 + fj_rng_below(&r, 400);
        FJ_OK_OR_FAIL(write_split(path, max, rows, n, &e), e);
        int files = count_files(dir);
        char *first = files > 1 ? fj_gguf_part_path(path, 0, (uint32_t)files) : fj_strdup(path);
        assert_true(files == 1 || strstr(first, t % 2 ? "/m-0" : "/m.x-0"));
        fj_gguf *g = fj_gguf_open(first, &e);
        FJ_OK_OR_FAIL(g, e);
        assert_true(g->n_files == (size_t)files && g->n_tensors == (size_t)n && g->n_kv == 1);
        int64_t used = 0;
        for (int i = 0; i < n; i++) {
            const fj_gguf_tensor *x = &g->tensors[i];
            bool starts = i == 0 || x->file != x[-1].file;
            assert_int_equal(x->bytes, 32 * rows[i]);
            for (int k = 0; k < rows[i]; k++)
                assert_memory_equal(x->data + 32 * k, values + (i + k) % 32, 32);
            if (starts && i) assert_true((uint64_t)(used + x->bytes) > max);
            used = starts ? x->bytes : used + x->bytes;
            if (!starts) assert_true((uint64_t)used <= max);
        }
        fj_gguf_close(g);
        free(first);
        free(path);
    }
}

static void writer_fails_clean(void **state) {
    (void)state;
    fj_err e = { 0 };
    const char *dir = fresh_dir();
    char *path = fj_path_join(dir, "m.gguf");
    fj_gguf_writer *w = fj_gguf_writer_open(path, &e);
    fj_gguf_add_tensor(w, "t", FJ_F32, 1, (int64_t[]){ 8 });
    fj_gguf_writer_split(w, 100);
    FJ_FAILS_WITH(fj_gguf_writer_close(w, &e), e, "m.gguf: the model cannot be split once it has");
    FJ_FAILS_WITH(write_split(path, 0, (int[]){ 1 }, 1, &e), e, "into files of 0 bytes");
    w = fj_gguf_writer_open(path, &e);
    fj_gguf_writer_split(w, 1);
    fj_gguf_put_u32(w, "split.no", 0); /* the writer's own */
    fj_gguf_add_tensor(w, "t", FJ_F32, 1, (int64_t[]){ 8 });
    fj_gguf_add_tensor(w, "u", FJ_F32, 1, (int64_t[]){ 8 });
    fj_gguf_write_data(w, values, 32);
    FJ_FAILS_WITH(fj_gguf_writer_close(w, &e), e, "key split.no is written twice");
    assert_int_equal(count_files(dir), 0);

    /* A disk that is full at the last part leaves none of the others (a limit of the size of a file stands
     * for it). */
    struct rlimit was;
    getrlimit(RLIMIT_FSIZE, &was);
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){ 1000, was.rlim_max });
    bool ok = write_split(path, 320, (int[]){ 90, 1, 1 }, 3,
                          &e); /* the first is the last to be renamed */
    setrlimit(RLIMIT_FSIZE, &was);
    signal(SIGXFSZ, old);
    assert_false(ok);
    assert_non_null(strstr(e.msg, "m-00001-of-00002.gguf"));
    assert_int_equal(count_files(dir), 0);

    w = fj_gguf_writer_open(path, &e);
    fj_gguf_writer_split(w, 1);
    fj_gguf_add_tensor(w, "t", FJ_F32, 1, (int64_t[]){ 8 });
    fj_gguf_add_tensor(w, "u", FJ_F32, 1, (int64_t[]){ 8 });
    fj_gguf_write_data(w, values, 32);
    assert_int_equal(count_files(dir), 2);
    fj_gguf_writer_abort(w);
    assert_int_equal(count_files(dir), 0);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good),
        cmocka_unit_test(bad),
        cmocka_unit_test(sizes),
        cmocka_unit_test(writer_fails_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
