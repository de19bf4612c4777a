/* rope.cu - rotary position: the table once per batch, the turn of every head, and its gradient, which is
 * the turn backwards. */
#include "ops/points.cuh"

typedef struct params { /* as in rope.c */
    int heads;
    int sign;
} params;

/* The angle is rounded to F32; its cosine and sine are those of double precision, as on the CPU. */
static __global__ void __launch_bounds__(ROW_THREADS)
    rope_table(float *y, const int32_t *pos, const float *inv_freq, const int32_t *which, float m,
               int64_t rows, int64_t half) {
    early_begin();
    EACH_ROW(r, rows)
    EACH_UNIT(i, half) {
        float a = (float)pos[r] * inv_freq[which[r] * half + i];
        y[2 * r * half + i] = (float)cos((double)a) * m;
        y[2 * r * half + half + i] = (float)sin((double)a) * m;
    }
}

/* in: positions, frequencies, the row of them that each row uses */
static bool run_table(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const fj_tensor *inv = n->in[1], *y = n->out[0];
    if (y->dtype != FJ_F32 || !same_type(n, inv, y, e))
        return fj_fail(e, FJ_EUNSUP, "a rope table on the GPU is F32");
    if (!count_of(y)) return true;
    row_grid d = grid_of_rows(y->rows, inv->cols);
    FJ_LAUNCH_EARLY(rope_table, d.grid, d.block, 0, g->stream, data_of<float>(y),
                    data_of<int32_t>(n->in[0]), data_of<float>(inv), data_of<int32_t>(n->in[2]),
                    (float)*(const double *)n->params, y->rows, inv->cols);
    return launched("rope_table", e);
}
FJ_CUDA_OP(rope_table, run_table, NULL);

/* A thread turns V pairs of a head, or where the head is wider than the table copies V of the others.
 * per: such parts of a head; without those to be copied where y is x. */
template <typename T, int V>
static __global__ void __launch_bounds__(ROW_THREADS)
    rope(T *y, const T *x, const float *table, float sign, int64_t rows, int heads, int hd,
         int half, int per) {
    early_begin();
    EACH_ROW(r, rows)
    EACH_UNIT(u, heads * per) {
        int h = (int)u / per, i = ((int)u - h * per) * V;
        int64_t at = (r * heads + h) * hd + i;
        if (i >= half) { /* the other half is turned with the first */
            float v[V];
            load_v<V>(x + at + half, v);
            store_v<V>(y + at + half, v);
            continue;
        }
        float a[V], b[V], c[V], s[V];
        load_v<V>(x + at, a);
        load_v<V>(x + at + half, b);
        load_v<V>(table + 2 * r * half + i, c);
        load_v<V>(table + 2 * r * half + half + i, s);
        for (int j = 0; j < V; j++) {
            float t = s[j] * sign, was = a[j];
            a[j] = was * c[j] - b[j] * t;
            b[j] = b[j] * c[j] + was * t;
        }
        store_v<V>(y + at, a);
        store_v<V>(y + at + half, b);
    }
}

static bool run(const fj_gpu *g, const fj_node *n, void *scratch, fj_err *e) {
    (void)scratch;
    const params *p = (const params *)n->params;
    const fj_tensor *x = n->in[0], *table = n->in[1], *y = n->out[0];
    if (!same_type(n, x, y, e)) return false;
    int hd = (int)(x->cols / p->heads), half = (int)table->cols / 2;
    bool wide = hd % 8 == 0 && half % 8 == 0 && aligned(x->data) && aligned(y->data) &&
                aligned(table->data);
    int per = (x->data == y->data ? half : hd - half) / (wide ? 8 : 1);
    if (!x->rows || !per) return true;
    row_grid d = grid_of_rows(x->rows, p->heads * per);
    FJ_AS(y, T, {
        auto kernel = wide ? rope<T, 8> : rope<T, 1>;
        FJ_LAUNCH_EARLY(kernel, d.grid, d.block, 0, g->stream, data_of<T>(y), data_of<T>(x),
                        data_of<float>(table), (float)p->sign, x->rows, p->heads, hd, half, per);
    });
    return launched("rope", e);
}
FJ_CUDA_OP(rope, run, NULL);
