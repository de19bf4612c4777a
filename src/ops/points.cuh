/* points.cuh - the kernels around two kinds of ops: those whose results at a place depend on the inputs at
 * that place alone (points), and those that go over rows.
 *
 * A formula of points is a struct: IN and OUT, how many of the node's inputs and results, all of one
 * type, it reads and writes; a constructor from the node, which keeps its parameters; and operator(),
 * from the values x[IN] at place i + j to the results y[OUT], i the same for neighbours.  A result may
 * share memory with an input: a thread reads all of its places before it writes them. */
#ifndef FJ_OPS_POINTS_CUH
#define FJ_OPS_POINTS_CUH

#include "ops/op.cuh"

/* Eight values at p may be read at once. */
static inline bool aligned(const void *p) { return (uintptr_t)p % 16 == 0; }

/* a / b but for 2 ulp, b < 2^126; exp(x), nearer where the result does not become a bf16. */
__device__ __forceinline__ float quotient(float a, float b) {
#ifdef FJ_PLAY
    return a / b;
#else
    return __fdividef(a, b);
#endif
}
template <typename T> __device__ __forceinline__ float exp_of(float x) { return expf(x); }
template <> __device__ __forceinline__ float exp_of<bf16>(float x) { return __expf(x); }

template <typename T> __device__ __forceinline__ float sigmoid(float x) {
    return quotient(1, 1 + exp_of<T>(-x));
}

/* V neighbours: 8, 4 of F32, or 1. */
template <int V, typename T> __device__ __forceinline__ void load_v(const T *p, float *v) {
    if constexpr (V == 8) load8(p, v);
    else if constexpr (V == 4) {
        float4 a = *(const float4 *)p;
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    } else v[0] = to_f32(*p);
}
template <int V, typename T> __device__ __forceinline__ void store_v(T *p, const float *v) {
    if constexpr (V == 8) store8(p, v);
    else if constexpr (V == 4) *(float4 *)p = make_float4(v[0], v[1], v[2], v[3]);
    else *p = from_f32<T>(v[0]);
}

/* ---- points -------------------------------------------------------------------------------------- */
enum { POINT_THREADS = 128, POINT_BLOCKS = 1 << 20 };

template <typename T, int IN, int OUT> struct point_args {
    T *y[OUT];
    const T *x[IN];
};

/* Places that a block does at once: AT_ONCE vectors of 16 bytes of every input for each thread. */
enum { AT_ONCE = 2 };
#define POINT_SPAN(T) (AT_ONCE * POINT_THREADS * 16 / (int64_t)sizeof(T))

template <typename T, typename F>
static __global__ void __launch_bounds__(POINT_THREADS)
    points(point_args<T, F::IN, F::OUT> p, int64_t n, bool wide, F f) {
    early_begin();
    enum { IN = F::IN, OUT = F::OUT, V = 16 / sizeof(T) };
    for (int64_t from = blockIdx.x * POINT_SPAN(T); from < n; from += gridDim.x * POINT_SPAN(T)) {
        if (wide && from + POINT_SPAN(T) <= n) {
            float x[AT_ONCE][IN][V];
            int64_t at = from + V * (int)threadIdx.x;
            for (int u = 0; u < AT_ONCE; u++)
                for (int k = 0; k < IN; k++)
                    load_v<V>(p.x[k] + at + u * V * POINT_THREADS, x[u][k]);
            for (int u = 0; u < AT_ONCE; u++, at += V * POINT_THREADS) {
                float y[OUT][V];
                for (int j = 0; j < V; j++) {
                    float a[IN], b[OUT];
                    for (int k = 0; k < IN; k++) a[k] = x[u][k][j];
                    f(a, b, at, j);
                    for (int k = 0; k < OUT; k++) y[k][j] = b[k];
                }
                for (int k = 0; k < OUT; k++) store_v<V>(p.y[k] + at, y[k]);
            }
        } else {
            int64_t to = from + POINT_SPAN(T) < n ? from + POINT_SPAN(T) : n;
            for (int64_t i = from + (int)threadIdx.x; i < to; i += POINT_THREADS) {
                float a[IN], b[OUT];
                for (int k = 0; k < IN; k++) a[k] = to_f32(p.x[k][i]);
                f(a, b, i, 0);
                for (int k = 0; k < OUT; k++) p.y[k][i] = from_f32<T>(b[k]);
            }
        }
    }
}

/* The run function of an op with formula F. */
template <template <typename> class F>
static bool run_points(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *y = n->out[0];
    int64_t len = count_of(y);
    FJ_AS(y, T, {
        enum { IN = F<T>::IN, OUT = F<T>::OUT };
        point_args<T, IN, OUT> p;
        bool wide = true;
        for (int k = 0; k < OUT; k++) {
            if (!same_type(n, n->out[k], y, e)) return false;
            p.y[k] = data_of<T>(n->out[k]);
            wide = wide && aligned(p.y[k]);
        }
        for (int k = 0; k < IN; k++) {
            if (!same_type(n, n->in[k], y, e)) return false;
            p.x[k] = data_of<T>(n->in[k]);
            wide = wide && aligned(p.x[k]);
        }
        if (len) /* a grid of no blocks is an error */
            FJ_LAUNCH_EARLY((points<T, F<T>>), grid_of(len, POINT_SPAN(T), POINT_BLOCKS),
                            POINT_THREADS, 0, g->stream, p, len, wide, F<T>(n));
    });
    return launched(n->op->name, e);
}

/* ---- rows ---------------------------------------------------------------------------------------- */
/* A grid over rows of units: threads lie along a row, and where it is short a block has several rows. */
enum { ROW_THREADS = 256 };

typedef struct row_grid {
    dim3 grid, block;
} row_grid;

static inline row_grid grid_of_rows(int64_t rows, int64_t units) {
    unsigned x = 1;
    while (x < ROW_THREADS && x < units) x *= 2;
    unsigned y = ROW_THREADS / x;
    row_grid r;
    r.block = dim3(x, y);
    r.grid = dim3(grid_of(units, x, 1 << 20), grid_of(rows, y, 65535));
    return r;
}
#define EACH_ROW(r, rows)                                                                          \
    for (int64_t r = (int64_t)blockIdx.y * blockDim.y + threadIdx.y; r < (rows);                   \
         r += (int64_t)gridDim.y * blockDim.y)
#define EACH_UNIT(c, units)                                                                        \
    for (int64_t c = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; c < (units);                  \
         c += (int64_t)gridDim.x * blockDim.x)

static inline bool clear(const fj_gpu *g, const fj_tensor *y, fj_err *e) {
    int64_t bytes = fj_tensor_bytes(y);
    cudaError_t c = bytes ? cudaMemsetAsync(y->data, 0, (size_t)bytes, g->stream) : cudaSuccess;
    return c == cudaSuccess ||
           fj_fail(e, FJ_EIO, "clearing %s on the GPU: %s", y->name, cudaGetErrorString(c));
}

/* gather.cu: row to[r] of y becomes row from[r] of x, for `rows` r; NULL: row r.  The node is for messages. */
bool fj_gpu_move_rows(const fj_gpu *g, const fj_node *n, const fj_tensor *y, const fj_tensor *x,
                      const int32_t *to, const int32_t *from, int64_t rows, fj_err *e);

#endif
