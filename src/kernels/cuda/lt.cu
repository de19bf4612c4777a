/* lt.cu - see lt.h.  What is declared here of cuBLASLt (versions 12 and 13) is what its C interface fixes:
 * handles are pointers, enums are ints.
 *
 * Its matrices are column-major, so C^T = op(B)^T op(A)^T is asked for: our B comes first. */
#include "kernels/cuda/lt.h"

#ifdef FJ_PLAY
struct fj_lt *fj_lt_open(void) {
    return NULL;
}
void fj_lt_close(struct fj_lt *lt) { (void)lt; }
bool fj_lt_gemm(const fj_gpu *, fj_gemm_kind, int64_t, int64_t, int64_t, const void *, int64_t,
                const void *, int64_t, fj_grows, float, const fj_grows *, bool *done, fj_err *) {
    *done = false;
    return true;
}
#else
#include <dlfcn.h>

enum { R_32F = 0, R_16BF = 14, COMPUTE_32F = 68, OP_N = 0, OP_T = 1, NOT_SUPPORTED = 15 };
enum { LAYOUT_ROWS = 2, LAYOUT_COLS = 3 };
enum { DESC_TRANSA = 3, DESC_TRANSB = 4 };
enum { PREF_WORKSPACE = 1, PREF_REDUCTION = 3, PREF_ALIGN_A = 5, PREF_ALIGN_D = 8 };
enum { CONFIG_SPLITK = 2, CONFIG_REDUCTION = 3 };
enum { REDUCTION_NONE = 0, REDUCTION_IN_WORKSPACE = 2 | 4 };
enum { ALIGN = 16, LARGE = 8192, ASK = 16 };

typedef void *handle;
typedef struct algorithm {
    uint64_t data[8];
} algorithm;
typedef struct found {
    algorithm algo;
    size_t workspace;
    int state; /* 0: can be had */
    float waves;
    int reserved[4];
} found;

/* name, parameters of cublasLt##name */
#define FUNCTIONS(F)                                                                               \
    F(Create, (handle *))                                                                          \
    F(Destroy, (handle))                                                                           \
    F(MatmulDescCreate, (handle *, int compute, int scale))                                        \
    F(MatmulDescDestroy, (handle))                                                                 \
    F(MatmulDescSetAttribute, (handle, int, const void *, size_t))                                 \
    F(MatrixLayoutCreate, (handle *, int type, uint64_t rows, uint64_t cols, int64_t ld))          \
    F(MatrixLayoutDestroy, (handle))                                                               \
    F(MatrixLayoutSetAttribute, (handle, int, const void *, size_t))                               \
    F(MatmulPreferenceCreate, (handle *))                                                          \
    F(MatmulPreferenceDestroy, (handle))                                                           \
    F(MatmulPreferenceSetAttribute, (handle, int, const void *, size_t))                           \
    F(MatmulAlgoGetHeuristic, (handle, handle desc, handle a, handle b, handle c, handle d,        \
                               handle pref, int most, found *, int *got))                          \
    F(MatmulAlgoCheck,                                                                             \
      (handle, handle desc, handle a, handle b, handle c, handle d, const algorithm *, found *))   \
    F(MatmulAlgoConfigGetAttribute, (const algorithm *, int, void *, size_t, size_t *))            \
    F(Matmul, (handle, handle desc, const void *alpha, const void *a, handle, const void *b,       \
               handle, const void *beta, const void *c, handle, void *d, handle,                   \
               const algorithm *, void *work, size_t bytes, cudaStream_t))

/* A shape and what was chosen for it.  m (of tn: k) is any; layouts have its last value. */
typedef struct shape {
    int64_t kind, n, k, lda, ldb, ldc, c, acc, size; /* size: of tn, its k's class; the key */
} shape;
typedef struct choice {
    handle desc, a, b, c;
    algorithm algo;
    bool there;
    int64_t rows; /* what layouts are set to */
    bool fits;    /* the algorithm takes so many */
} choice;

struct fj_lt {
    void *library;
    handle session;
#define F(name, params) int(*name) params;
    FUNCTIONS(F)
#undef F
    fj_map map; /* shape -> 1 + index */
    choice *choices;
    size_t n, cap;
};

static bool find_functions(fj_lt *lt) {
#define F(name, params)                                                                            \
    *(void **)&lt->name = dlsym(lt->library, "cublasLt" #name);                                    \
    if (!lt->name) return false;
    FUNCTIONS(F)
#undef F
    return true;
}

struct fj_lt *fj_lt_open(void) {
    static const char *const names[] = { "libcublasLt.so.13", "libcublasLt.so.12",
                                         "libcublasLt.so" };
    fj_lt *lt = (fj_lt *)fj_zalloc(sizeof *lt);
    for (size_t i = 0; i < FJ_LEN(names) && !lt->library; i++)
        lt->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (lt->library && find_functions(lt) && lt->Create(&lt->session) == 0) return lt;
    lt->session = NULL;
    fj_lt_close(lt);
    return NULL;
}

static void drop(const fj_lt *lt, choice *h) {
    if (h->desc) lt->MatmulDescDestroy(h->desc);
    if (h->a) lt->MatrixLayoutDestroy(h->a);
    if (h->b) lt->MatrixLayoutDestroy(h->b);
    if (h->c) lt->MatrixLayoutDestroy(h->c);
}

void fj_lt_close(struct fj_lt *lt) {
    if (!lt) return;
    for (size_t i = 0; i < lt->n; i++) drop(lt, &lt->choices[i]);
    if (lt->session) lt->Destroy(lt->session);
    /* The library stays: its code may have registered things with the runtime. */
    fj_map_free(&lt->map);
    free(lt->choices);
    free(lt);
}

/* The size that varies: rows; of tn, where they are summed over, the inner dimension. */
static bool set_rows(const fj_lt *lt, const shape *s, choice *h, int64_t rows) {
    uint64_t r = (uint64_t)rows;
    h->rows = rows;
    if (s->kind == FJ_TN) /* b: k columns of n; a: k columns of m */
        return lt->MatrixLayoutSetAttribute(h->b, LAYOUT_COLS, &r, sizeof r) == 0 &&
               lt->MatrixLayoutSetAttribute(h->a, LAYOUT_COLS, &r, sizeof r) == 0;
    return lt->MatrixLayoutSetAttribute(h->a, LAYOUT_COLS, &r, sizeof r) == 0 &&
           lt->MatrixLayoutSetAttribute(h->c, LAYOUT_COLS, &r, sizeof r) == 0;
}

static bool describe(const fj_lt *lt, const shape *s, choice *h, int64_t m, int64_t n, int64_t k) {
    int ta = s->kind == FJ_NT ? OP_T : OP_N, tb = s->kind == FJ_TN ? OP_T : OP_N;
    bool nt = s->kind == FJ_NT, tn = s->kind == FJ_TN;
    return lt->MatmulDescCreate(&h->desc, COMPUTE_32F, R_32F) == 0 &&
           lt->MatmulDescSetAttribute(h->desc, DESC_TRANSA, &ta, sizeof ta) == 0 &&
           lt->MatmulDescSetAttribute(h->desc, DESC_TRANSB, &tb, sizeof tb) == 0 &&
           lt->MatrixLayoutCreate(&h->b, R_16BF, (uint64_t)(nt ? k : n), (uint64_t)(nt ? n : k),
                                  s->ldb) == 0 &&
           lt->MatrixLayoutCreate(&h->a, R_16BF, (uint64_t)(tn ? m : k), (uint64_t)(tn ? k : m),
                                  s->lda) == 0 &&
           lt->MatrixLayoutCreate(&h->c, s->c == FJ_BF16 ? R_16BF : R_32F, (uint64_t)n, (uint64_t)m,
                                  s->ldc) == 0;
}

static int64_t config(const fj_lt *lt, const algorithm *a, int what) {
    int32_t v = -1;
    size_t got;
    return lt->MatmulAlgoConfigGetAttribute(a, what, &v, sizeof v, &got) == 0 ? v : -1;
}

/* The first algorithm of the heuristic that keeps the order of additions. */
static bool choose(const fj_lt *lt, const fj_gpu *g, const shape *s, choice *h) {
    handle pref = NULL;
    found f[ASK];
    int got = 0;
    bool whole = s->kind != FJ_TN;
    uint32_t align = ALIGN, reduction = whole ? REDUCTION_NONE : REDUCTION_IN_WORKSPACE;
    uint64_t bytes = g->work_bytes;
    bool ok =
        lt->MatmulPreferenceCreate(&pref) == 0 &&
        lt->MatmulPreferenceSetAttribute(pref, PREF_WORKSPACE, &bytes, sizeof bytes) == 0 &&
        lt->MatmulPreferenceSetAttribute(pref, PREF_REDUCTION, &reduction, sizeof reduction) == 0;
    for (int i = PREF_ALIGN_A; ok && i <= PREF_ALIGN_D; i++)
        ok = lt->MatmulPreferenceSetAttribute(pref, i, &align, sizeof align) == 0;
    ok = ok && lt->MatmulAlgoGetHeuristic(lt->session, h->desc, h->b, h->a, h->c, h->c, pref, ASK,
                                          f, &got) == 0;
    if (pref) lt->MatmulPreferenceDestroy(pref);
    for (int i = 0; ok && i < got; i++) {
        if (f[i].state != 0 || f[i].workspace > bytes) continue;
        int64_t parts = config(lt, &f[i].algo, CONFIG_SPLITK);
        if (whole ? parts != 1 || config(lt, &f[i].algo, CONFIG_REDUCTION) != REDUCTION_NONE
                  : config(lt, &f[i].algo, CONFIG_REDUCTION) & 1)
            continue;
        h->algo = f[i].algo;
        return true;
    }
    return false;
}

/* NULL: cuBLASLt has nothing for it. */
static choice *choice_of(fj_lt *lt, const fj_gpu *g, const shape *s, int64_t m, int64_t n,
                         int64_t k) {
    bool fresh;
    int64_t *at = fj_map_put(&lt->map, s, sizeof *s, &fresh);
    if (fresh) {
        lt->choices = (choice *)fj_grow(lt->choices, lt->n + 1, &lt->cap, sizeof *lt->choices);
        *at = (int64_t)++lt->n;
        choice *h = &lt->choices[lt->n - 1];
        memset(h, 0, sizeof *h);
        h->rows = s->kind == FJ_TN ? s->size : LARGE;
        h->there =
            describe(lt, s, h, s->kind == FJ_TN ? m : LARGE, n, s->kind == FJ_TN ? s->size : k) &&
            choose(lt, g, s, h);
        h->fits = h->there;
    }
    choice *h = &lt->choices[*at - 1];
    int64_t rows = s->kind == FJ_TN ? k : m;
    if (h->there && h->rows != rows) {
        found f;
        h->fits =
            set_rows(lt, s, h, rows) &&
            lt->MatmulAlgoCheck(lt->session, h->desc, h->b, h->a, h->c, h->c, &h->algo, &f) == 0 &&
            f.workspace <= g->work_bytes;
    }
    return h->there && h->fits ? h : NULL;
}

bool fj_lt_gemm(const fj_gpu *g, fj_gemm_kind kind, int64_t m, int64_t n, int64_t k, const void *a,
                int64_t lda, const void *b, int64_t ldb, fj_grows c, float scale,
                const fj_grows *old, bool *done, fj_err *e) {
    *done = false;
    if (!m || !n || !k) return true;
    uintptr_t bits = (uintptr_t)a | (uintptr_t)b | (uintptr_t)c.data;
    if (old) bits |= (uintptr_t)old->data;
    if (old && old->ld != c.ld) return true; /* one layout for both */
    if (bits % ALIGN || lda % 8 || ldb % 8 || c.ld % 8) return true;
    shape s = { kind, n, k, lda, ldb, c.ld, c.dtype, old != NULL, 0 };
    if (kind == FJ_TN) {
        s.k = m;
        for (s.size = 128; s.size < k;) s.size *= 2;
    }
    choice *h = choice_of(g->lt, g, &s, m, n, k);
    if (!h) return true;
    float beta = old ? 1 : 0;
    int status = g->lt->Matmul(g->lt->session, h->desc, &scale, b, h->b, a, h->a, &beta,
                               old ? old->data : c.data, h->c, c.data, h->c, &h->algo, g->work,
                               g->work_bytes, g->stream);
    if (status == NOT_SUPPORTED) return true;
    if (status) return fj_fail(e, FJ_EIO, "cuBLASLt: a product failed with status %d", status);
    *done = true;
    return true;
}
#endif
