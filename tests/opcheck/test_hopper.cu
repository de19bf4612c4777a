/* test_hopper.cu - products of kernels/cuda/hopper.cu, played on the CPU: every plan that it may choose, against
 * sums in double; ends within a tile, second pairs, old values, pieces; nothing else is written. */
#include "kernels/cuda/hopper.cu"

#include <stdio.h>
#include <vector>

static uint64_t state = 88172645463325252u;
static int draw(int n) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (int)((state >> 33) % (uint64_t)n);
}
static float uniform() { return (float)draw(1 << 16) * 0x1p-15f - 1; }

/* Rows of values in BF16 or F32 with NaN between them, aligned to 64 bytes. */
struct matrix {
    int64_t rows, cols, ld;
    bool f32;
    void *p;
    matrix(int64_t r, int64_t c, bool wide) : rows(r), cols(c), f32(wide) {
        ld = (c + 7) / 8 * 8 + draw(3) * 8;
        p = aligned_alloc(64, (size_t)((r * ld * 4 + 127) / 64 * 64));
        for (int64_t i = 0; i < r * ld; i++) set(i, i % ld < c ? uniform() : NAN);
    }
    ~matrix() { free(p); }
    void set(int64_t i, float v) {
        if (f32) ((float *)p)[i] = v;
        else ((uint16_t *)p)[i] = fj_f32_to_bf16(v);
    }
    float at(int64_t i) const {
        return f32 ? ((const float *)p)[i] : fj_bf16_to_f32(((const uint16_t *)p)[i]);
    }
    fj_grows as_rows() const { return fj_grows{ f32 ? FJ_F32 : FJ_BF16, p, ld }; }
};

typedef struct job {
    fj_gemm_kind kind;
    int rows, bn, cluster; /* of the plan; rows 0: as chosen */
    int m, n, k, k2;
    bool f32;
    int old; /* 0: nothing, 1: C as it is, 2: another matrix */
    int piece;
} job;

static int failures;

static double sum_of(const job *j, const matrix &a, const matrix &b, int r, int c, int from,
                     int to) {
    double s = 0;
    for (int l = from; l < to; l++)
        s += (double)a.at(j->kind == FJ_TN ? l * a.ld + r : r * a.ld + l) *
             (double)b.at(j->kind == FJ_NT ? c * b.ld + l : l * b.ld + c);
    return s;
}

static void one(const job *j) {
    bool tn = j->kind == FJ_TN, nt = j->kind == FJ_NT;
    int pieces = j->piece ? up(j->k, j->piece) : 1;
    int apart = j->piece ? (int)fj_gpu_hopper_apart(j->m) : 0;
    matrix a(tn ? j->k : j->m, tn ? j->m : j->k, false),
        b(nt ? j->n : j->k, nt ? j->k : j->n, false);
    matrix a2(j->m, FJ_MAX(j->k2, 1), false),
        b2(nt ? j->n : FJ_MAX(j->k2, 1), nt ? FJ_MAX(j->k2, 1) : j->n, false);
    matrix c(pieces > 1 ? (pieces - 1) * apart + j->m : j->m, j->n, j->f32),
        old(j->m, j->n, j->f32);
    std::vector<float> before((size_t)(c.rows * c.ld));
    for (int64_t i = 0; i < c.rows * c.ld; i++) before[(size_t)i] = c.at(i);
    const matrix &was = j->old == 2 ? old : c;
    fj_grows was_rows = was.as_rows();
    fj_gpair x = { a.p, a.ld, b.p, b.ld, j->k, 1 },
             more = { a2.p, a2.ld, b2.p, b2.ld, j->k2, nt ? 0.7f : 1 };
    float scale = j->old ? 0.5f : 1;
    plan p = plan_of(j->m, j->n, j->piece ? j->piece : j->k, j->k2, scale, j->old);
    p.by = more.by;
    if (j->piece) {
        p.pieces = pieces, p.apart = apart;
        p.last = up(j->k - (pieces - 1) * j->piece, DEEP);
    }
    fj_gpu g = {};
    g.sms = 1 + draw(9), g.compute = 90;
    if (g.sms < j->cluster) g.sms = j->cluster;
    if (j->rows) {
        p.rows = j->rows, p.bn = j->bn, p.cluster = j->cluster;
        plan_rest(&p, j->kind, j->f32, g.sms);
    } else {
        plan_choose(&p, j->kind, j->f32, g.sms);
    }
    bool done = false;
    fj_err e = {};
    if (!run_plan(&g, j->kind, &p, &x, j->k2 ? &more : NULL, c.as_rows(), j->old ? &was_rows : NULL,
                  &done, &e) ||
        !done) {
        printf("FAILED: %s\n", e.msg);
        failures++;
        return;
    }
    int wrong = 0, outside = 0;
    for (int i = 0; i < pieces; i++) {
        int from = i * j->piece, to = j->piece ? FJ_MIN(j->k, from + j->piece) : j->k;
        for (int r = 0; r < j->m; r++)
            for (int col = 0; col < j->n; col++) {
                double s = sum_of(j, a, b, r, col, from, to);
                double first = j->k2 && nt ? fabs(s) : 0; /* is rounded, too */
                if (j->k2) s += (double)more.by * sum_of(j, a2, b2, r, col, 0, j->k2);
                int64_t at = (int64_t)(i * apart + r) * c.ld + col;
                if (j->old)
                    s = 0.5 * s +
                        (double)(j->old == 2 ? old.at(r * old.ld + col) : before[(size_t)at]);
                double allowed = 1e-4 + (j->f32 ? 0 : (fabs(s) + first) / 250);
                wrong += !(fabs((double)c.at(at) - s) <= allowed);
            }
    }
    for (int64_t i = 0; i < c.rows * c.ld; i++)
        if (i % c.ld >= j->n && !isnan(c.at(i))) outside++;
    if (!wrong && !outside) return;
    printf("FAILED: kind %d, %d x %d x %d + %d, old %d, pieces of %d, tile %d x %d cluster %d, %s, "
           "%d multiprocessors: %d wrong, %d outside\n",
           j->kind, j->m, j->n, j->k, j->k2, j->old, j->piece, p.rows, p.bn, p.cluster,
           j->f32 ? "F32" : "BF16", g.sms, wrong, outside);
    failures++;
}

/* Products of a plan: whole tiles, and ends within them. */
static void plan_cases(fj_gemm_kind kind, int rows, int bn, int cluster) {
    for (int f32 = 0; f32 < 2; f32++)
        for (int old = 0; old < 3; old++) {
            job j = { kind,
                      rows,
                      bn,
                      cluster,
                      1 + draw(2 * rows * cluster),
                      8 + draw(bn) / 8 * 8,
                      1 + draw(200),
                      0,
                      f32 > 0,
                      old,
                      0 };
            if (kind == FJ_TN && rows < 64) j.m = 1 + draw(rows);
            if (kind == FJ_NT ? !old && !f32 : kind == FJ_NN && old != 1) j.k2 = 1 + draw(80);
            one(&j);
        }
}

int main() {
    static const int widths[] = { 16, 32, 64, 96, 128, 160, 192, 224, 256 };
    static const int heights[] = { 16, 32, 64, 128 };
    for (int kind = FJ_NT; kind <= FJ_TN; kind++)
        for (int bn : widths)
            for (int rows : heights)
                for (int cluster = 1; cluster <= 2; cluster++) {
                    if (kind != FJ_NT && bn % 64) continue;
                    if (rows < (kind == FJ_TN ? 16 : 32)) continue;
                    if (cluster > 1 && (rows < 64 || bn < 64)) continue;
                    plan_cases((fj_gemm_kind)kind, rows, bn, cluster);
                }
    for (int m : { 5, 16, 24, 40, 64, 100 }) {
        job j = { FJ_TN, 0, 0, 0, m, 8 + draw(20) * 8, 300 + draw(300), 0, true, 0, 128 };
        one(&j);
    }
    for (int i = 0; i < 40; i++) {
        int kind = draw(3), k2 = kind == FJ_TN || draw(2) ? 0 : 8 * (1 + draw(12));
        job j = {
            (fj_gemm_kind)kind, 0,       0, 0, 1 + draw(300), 8 + draw(40) * 8, 1 + draw(300), k2,
            draw(2) > 0,        draw(3), 0
        };
        if (kind == FJ_NT && k2) j.f32 = false, j.old = 0; /* others are not for hopper.cu */
        one(&j);
    }
    printf(failures ? "%d failures\n" : "all as they should be\n", failures);
    return failures != 0;
}
