/* lora.c - adapters (Hu et al. 2021) over any architecture: made, read, written.
 *
 * The list of weights of the architecture says what may be targeted and under which names; A and B of
 * all targets lie in one device buffer as F32 rows, A0 B0 A1 B1 ..., which is also the order of the
 * optimizer's state. */
#include "base/fs.h"
#include "formats/peft.h"
#include "models/lora_in.h"
#include "models/parts.h"

#include <math.h>

char *fj_lora_path(const fj_weight *w, fj_arena *a) {
    char *name = fj_weight_name(w, a);
    size_t n = strlen(name), k = strlen(".weight");
    if (n > k && !strcmp(name + n - k, ".weight")) name[n - k] = 0;
    return name;
}

const char *fj_weight_module(const fj_weight *w, fj_arena *a) {
    char *name = fj_lora_path(w, a), *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* transformers has experts and routers as parameters of modules of its own since version 5. */
bool fj_weight_is_param(const fj_weight *w) { return w->row->is & (FJ_IS_PARAM | FJ_IS_EXPERTS); }

const fj_lora_pair *fj_lora_find(const fj_lora *l, int w) {
    for (int i = 0; i < l->n_pairs; i++)
        if (l->pairs[i].w == w) return &l->pairs[i];
    return NULL;
}

fj_lora *fj_lora_empty(fj_model *m, int r, double alpha, double dropout, bool rslora) {
    fj_lora *l = fj_zalloc(sizeof *l);
    *l = (fj_lora){ .m = m, .r = r, .alpha = alpha, .dropout = dropout, .rslora = rslora };
    l->pairs = fj_zalloc((size_t)m->n_w * sizeof *l->pairs);
    l->base = fj_strdup(m->path);
    return l;
}

void fj_lora_add_pair(fj_lora *l, int w, int64_t r, double scale) {
    const fj_weight *x = &l->m->w[w];
    fj_lora_pair *p = &l->pairs[l->n_pairs++];
    *p = (fj_lora_pair){ .w = w,
                         .mats = x->mats,
                         .in = x->cols,
                         .out = x->rows,
                         .r = r,
                         .scale = scale,
                         .a = l->bytes };
    l->bytes += fj_param_bytes(x->mats * r, x->cols);
    p->b = l->bytes;
    l->bytes += fj_param_bytes(x->rows, r);
}

static void add_name(char ***list, int *n, const char *name) {
    for (int i = 0; i < *n; i++)
        if (!strcmp((*list)[i], name)) return;
    *list = fj_realloc(*list, (size_t)(*n + 1) * sizeof **list);
    (*list)[(*n)++] = fj_strdup(name);
}

/* Does every layer that has such a weight have a pair for it? */
static bool everywhere(const fj_lora *l, const fj_weight *w) {
    int without = 0;
    for (int i = 0; i < l->m->n_w; i++) without += l->m->w[i].row == w->row;
    for (int i = 0; i < l->n_pairs; i++) without -= l->m->w[l->pairs[i].w].row == w->row;
    return without == 0;
}

void fj_lora_name_targets(fj_lora *l) {
    fj_arena mem = { 0 };
    for (int i = 0; i < l->n_pairs; i++) {
        const fj_weight *w = &l->m->w[l->pairs[i].w];
        bool param = fj_weight_is_param(w), all = everywhere(l, w);
        const char *path = param ? fj_weight_name(w, &mem) : fj_lora_path(w, &mem), *name = path;
        if (all && param) { /* from the module's own name on: "mlp.experts.gate_up_proj" */
            const char *mlp = strstr(path, ".mlp.");
            if (mlp) name = mlp + 1;
        } else if (all) {
            name = fj_weight_module(w, &mem);
        }
        if (param) add_name(&l->params, &l->n_params, name);
        else add_name(&l->targets, &l->n_targets, name);
    }
    fj_arena_free(&mem);
}

bool fj_lora_ready(fj_lora *l, fj_err *e) {
    if (l->m->dev->act != FJ_BF16 || l->ready) return true;
    const fj_dev_fns *fn = l->m->dev->fn;
    size_t n = l->bytes / sizeof(float);
    float *all = fj_try_alloc(l->bytes, 1, "a copy of the adapter", e);
    bool ok = all && fn->download(l->buf, 0, all, l->bytes, e) &&
              (l->ready = fn->alloc(l->m->dev, l->bytes / 2, "the adapter in BF16", e));
    for (size_t i = 0; ok && i < n; i++) { /* over what has been read */
        uint16_t b = fj_f32_to_bf16(all[i]);
        memcpy((char *)all + i * sizeof b, &b, sizeof b);
    }
    ok = ok && fn->upload(l->ready, 0, all, l->bytes / 2, e);
    free(all);
    if (!ok) fj_lora_changes(l);
    return ok;
}

void fj_lora_changes(fj_lora *l) {
    l->m->dev->fn->free(l->ready);
    l->ready = NULL;
}

void fj_lora_close(fj_lora *l) {
    if (!l) return;
    fj_lora_changes(l);
    l->m->dev->fn->free(l->buf);
    for (int i = 0; i < l->n_targets; i++) free(l->targets[i]);
    for (int i = 0; i < l->n_params; i++) free(l->params[i]);
    free(l->targets);
    free(l->params);
    free(l->pairs);
    free(l->base);
    free(l);
}

/* Names of w in an adapter file: one, or in GGUF one for each of its parts. */
static int file_names(const fj_model *m, const fj_weight *w, bool gguf, fj_arena *a,
                      const char *names[2]) {
    if (!gguf) {
        names[0] = fj_lora_path(w, a);
        return 1;
    }
    fj_part *parts;
    int n = fj_parts_of(m, w, true, a, &parts);
    for (int i = 0; i < n; i++) names[i] = parts[i].name;
    return n;
}

/* The weight that a module of an adapter file names, -1: none; *part: which of its parts. */
static int weight_named(const fj_model *m, const char *module, bool gguf, int *part) {
    fj_arena mem = { 0 };
    int found = -1;
    *part = 0;
    for (int i = 0; i < m->n_w && found < 0; i++) {
        const char *names[2];
        if (!(m->w[i].row->is & FJ_IS_LINEAR)) continue;
        int n = file_names(m, &m->w[i], gguf, &mem, names);
        for (int k = 0; k < n; k++)
            if (!strcmp(names[k], module)) {
                found = i;
                *part = k;
            }
    }
    fj_arena_free(&mem);
    return found;
}

static void put_rows(float *dst, const fj_peft_mat *m) {
    size_t row = (size_t)fj_dtype_size(m->dtype, 1, m->cols);
    for (int64_t r = 0; r < m->rows; r++)
        fj_dequant_row(m->dtype, (const char *)m->data + (size_t)r * row, dst + r * m->cols,
                       m->cols);
}

/* B of experts: [E * out, r] here, [out, r * E] in PEFT (formats/peft.h). */
static void turn_experts(const fj_lora_pair *p, const float *ours, float *out, bool back) {
    int64_t rows = p->out / p->mats;
    for (int64_t e = 0; e < p->mats; e++)
        for (int64_t o = 0; o < rows; o++)
            for (int64_t k = 0; k < p->r; k++) {
                int64_t here = (e * rows + o) * p->r + k,
                        there = o * p->r * p->mats + k * p->mats + e;
                out[back ? here : there] = ours[back ? there : here];
            }
}

static bool wrong_shape(const fj_peft_file *f, const fj_peft_pair *p, int64_t a_rows, int64_t in,
                        int64_t b_rows, int64_t b_cols, fj_err *e) {
    return fj_fail(e, FJ_EFORMAT,
                   "%s: %s is A %lld x %lld, B %lld x %lld; the model and rank %lld want A %lld x "
                   "%lld, B %lld x %lld",
                   f->name, p->module, (long long)p->a.rows, (long long)p->a.cols,
                   (long long)p->b.rows, (long long)p->b.cols, (long long)p->r, (long long)a_rows,
                   (long long)in, (long long)b_rows, (long long)b_cols);
}

/* Experts of GGUF: gate and up are pairs of their own.  Where their A differ, the pair in memory has the
 * ranks of both, one behind the other, and B is zero where a rank is the other one's. */
static bool read_experts(fj_lora *l, const fj_peft_file *f, const fj_peft_pair *p, int w, int h,
                         float *all, fj_err *e) {
    const fj_lora_pair *q = fj_lora_find(l, w);
    const fj_weight *x = &l->m->w[w];
    fj_arena mem = { 0 };
    fj_part *parts;
    fj_parts_of(l->m, x, true, &mem, &parts);
    const fj_part *t = &parts[h];
    int64_t k0 = h ? q->r - p->r : 0;
    bool ok = p->mats == q->mats && p->a.rows == q->mats * p->r && p->a.cols == q->in &&
              p->b.rows == q->mats * t->rows && p->b.cols == p->r;
    if (ok) {
        float *a = all + q->a / sizeof(float), *b = all + q->b / sizeof(float);
        float *in = fj_alloc((size_t)(p->a.rows * q->in + p->b.rows * p->r) * sizeof *in);
        float *pb = in + p->a.rows * q->in, by = (float)(p->scale / q->scale);
        put_rows(in, &p->a);
        put_rows(pb, &p->b);
        for (int64_t i = 0; i < q->mats; i++) {
            memcpy(a + (i * q->r + k0) * q->in, in + i * p->r * q->in,
                   (size_t)(p->r * q->in) * sizeof *a);
            for (int64_t r = 0; r < t->rows; r++)
                for (int64_t k = 0; k < p->r; k++)
                    b[fj_part_row(l->m, x, t, i, r) * q->r + k0 + k] =
                        by * pb[(i * t->rows + r) * p->r + k];
        }
        free(in);
    } else {
        wrong_shape(f, p, q->mats * p->r, q->in, q->mats * t->rows, p->r, e);
    }
    fj_arena_free(&mem);
    return ok;
}

static bool read_pair(fj_lora *l, const fj_peft_file *f, const fj_peft_pair *p, float *all,
                      fj_err *e) {
    int part, w = weight_named(l->m, p->module, f->gguf, &part);
    const fj_lora_pair *q = fj_lora_find(l, w);
    if (f->gguf && q->mats > 1) return read_experts(l, f, p, w, part, all, e);
    int64_t ranks = q->mats * q->r, rows = q->out / q->mats;
    if (p->mats > 1 || p->a.rows != ranks || p->a.cols != q->in || p->b.rows != rows ||
        p->b.cols != ranks)
        return wrong_shape(f, p, ranks, q->in, rows, ranks, e);
    put_rows(all + q->a / sizeof(float), &p->a);
    float *b = all + q->b / sizeof(float);
    size_t bytes = (size_t)(q->out * q->r) * sizeof *b;
    bool pairs = f->gguf && l->m->w[w].row->is & FJ_IS_PAIRS;
    put_rows(b, &p->b);
    if (!pairs && q->mats == 1) return true;
    float *tmp = fj_alloc(bytes);
    memcpy(tmp, b, bytes);
    if (q->mats > 1) turn_experts(q, tmp, b, true);
    for (int64_t r = 0; pairs && r < q->out; r++)
        memcpy(b + r * q->r, tmp + fj_gguf_row(l->m, &l->m->w[w], r) * q->r,
               (size_t)q->r * sizeof *b);
    free(tmp);
    return true;
}

/* Ranks that the second half of a weight needs beside the first's: none where they share A. */
static int64_t more_ranks(const fj_peft_pair *a, const fj_peft_pair *b) {
    const fj_peft_mat *x = &a->a, *y = &b->a;
    bool same = x->rows == y->rows && x->cols == y->cols && x->dtype == y->dtype &&
                !memcmp(x->data, y->data, (size_t)fj_dtype_size(x->dtype, x->rows, x->cols));
    return same ? 0 : b->r;
}

fj_lora *fj_lora_open(fj_model *m, const char *path, fj_err *e) {
    fj_peft_file *f = fj_peft_open(path, e);
    if (!f) return NULL;
    fj_lora *l = NULL;
    float *all = NULL;
    bool ok = f->n > 0 || fj_fail(e, FJ_EFORMAT, "%s: an adapter without matrices", path);
    if (ok && f->arch && strcmp(f->arch, m->arch->name))
        ok = fj_fail(e, FJ_EINVAL, "%s is an adapter for %s, the model %s is %s", path, f->arch,
                     m->path, m->arch->name);
    if (ok) {
        const fj_peft_pair *p = &f->pairs[0];
        bool rs = !f->gguf && f->config.rslora;
        l = fj_lora_empty(m, (int)(f->gguf ? p->r : f->config.r),
                          f->gguf ? p->scale * (double)p->r : f->config.alpha,
                          f->gguf ? 0 : f->config.dropout, rs);
        if (!f->gguf && f->config.base_model) {
            free(l->base);
            l->base = fj_strdup(f->config.base_model);
        }
    }
    int *at = fj_alloc((f->n + 1) * sizeof *at), part;
    for (size_t i = 0; ok && i < f->n; i++) {
        at[i] = weight_named(m, f->pairs[i].module, f->gguf, &part);
        if (at[i] < 0)
            ok = fj_fail(e, FJ_EFORMAT, "%s: the model %s has no linear layer %s", path, m->path,
                         f->pairs[i].module);
    }
    /* In the order of the model's weights, whatever the order of the file. */
    for (int w = 0; ok && w < m->n_w; w++) {
        const fj_peft_pair *first = NULL, *second = NULL;
        for (size_t i = 0; i < f->n; i++)
            if (at[i] == w) *(first ? &second : &first) = &f->pairs[i];
        if (first)
            fj_lora_add_pair(l, w, first->r + (second ? more_ranks(first, second) : 0),
                             first->scale);
    }
    free(at);
    if (ok) fj_lora_name_targets(l);
    ok = ok && (l->buf = m->dev->fn->alloc(m->dev, l->bytes, "the adapter", e)) &&
         (all = fj_try_alloc(l->bytes, 1, "the adapter's values", e));
    if (ok) memset(all, 0, l->bytes);
    for (size_t i = 0; ok && i < f->n; i++) ok = read_pair(l, f, &f->pairs[i], all, e);
    ok = ok && m->dev->fn->upload(l->buf, 0, all, l->bytes, e) && fj_lora_ready(l, e);
    free(all);
    fj_peft_close(f);
    if (ok) return l;
    fj_lora_close(l);
    return NULL;
}

/* Host copies of all pairs under the names of one world, *n of them; data live in *all. */
static fj_peft_pair *pairs_of(const fj_lora *l, bool gguf, float **all, fj_arena *mem, size_t *n,
                              fj_err *e) {
    *n = 0;
    *all = fj_try_alloc(l->bytes, 2, "a copy of the adapter", e);
    if (!*all || !l->m->dev->fn->download(l->buf, 0, *all, l->bytes, e)) return NULL;
    fj_peft_pair *out = fj_arena_alloc(mem, 2 * (size_t)l->n_pairs * sizeof *out);
    for (int i = 0; i < l->n_pairs; i++) {
        const fj_lora_pair *p = &l->pairs[i];
        const fj_weight *w = &l->m->w[p->w];
        const char *names[2];
        int halves = file_names(l->m, w, gguf, mem, names);
        const float *b = *all + p->b / sizeof(float);
        float *moved = *all + (l->bytes + p->b) / sizeof(float);
        int64_t ranks = p->mats * p->r;
        fj_peft_pair pair = { .module = names[0],
                              .r = p->r,
                              .scale = p->scale,
                              .a = { ranks, p->in, FJ_F32, *all + p->a / sizeof(float) },
                              .b = { p->out / p->mats, ranks, FJ_F32, moved } };
        if (gguf && p->mats > 1) { /* each half with all of A and its own rows of B */
            fj_part *parts;
            fj_parts_of(l->m, w, true, mem, &parts);
            pair.mats = p->mats;
            for (int h = 0; h < halves; h++) {
                pair.module = names[h];
                pair.b = (fj_peft_mat){ p->mats * parts[h].rows, p->r, FJ_F32, moved };
                for (int64_t k = 0; k < p->mats; k++)
                    for (int64_t r = 0; r < parts[h].rows; r++, moved += p->r)
                        memcpy(moved, b + fj_part_row(l->m, w, &parts[h], k, r) * p->r,
                               (size_t)p->r * sizeof *b);
                out[(*n)++] = pair;
            }
            continue;
        }
        if (p->mats > 1) turn_experts(p, b, moved, false);
        else if (gguf && w->row->is & FJ_IS_PAIRS)
            for (int64_t r = 0; r < p->out; r++)
                memcpy(moved + fj_gguf_row(l->m, w, r) * p->r, b + r * p->r,
                       (size_t)p->r * sizeof *b);
        else pair.b.data = b;
        out[(*n)++] = pair;
    }
    return out;
}

/* Pairs of another rank or scale than the adapter's own are named. */
static void patterns_of(const fj_lora *l, const fj_peft_pair *p, fj_peft_config *c, fj_arena *a) {
    fj_peft_pattern *rank = fj_arena_alloc(a, (size_t)l->n_pairs * sizeof *rank),
                    *alpha = fj_arena_alloc(a, (size_t)l->n_pairs * sizeof *alpha);
    for (int i = 0; i < l->n_pairs; i++) {
        double r = (double)p[i].r, own = p[i].scale * (l->rslora ? sqrt(r) : r);
        if (p[i].r != l->r) rank[c->n_rank_pattern++] = (fj_peft_pattern){ p[i].module, r };
        if (fabs(own - l->alpha) > 1e-9 * fabs(l->alpha))
            alpha[c->n_alpha_pattern++] = (fj_peft_pattern){ p[i].module, own };
    }
    c->rank_pattern = rank;
    c->alpha_pattern = alpha;
}

bool fj_lora_save_peft(const fj_lora *l, const char *dir, fj_err *e) {
    if (!fj_mkdirs(dir, e)) return false;
    float *all = NULL;
    fj_arena names = { 0 };
    size_t n;
    fj_peft_pair *p = pairs_of(l, false, &all, &names, &n, e);
    fj_peft_config c = { .base_model = l->base,
                         .task_type = "CAUSAL_LM",
                         .r = l->r,
                         .alpha = l->alpha,
                         .dropout = l->dropout,
                         .rslora = l->rslora,
                         .targets = (const char *const *)l->targets,
                         .n_targets = (size_t)l->n_targets,
                         .params = (const char *const *)l->params,
                         .n_params = (size_t)l->n_params };
    if (p) patterns_of(l, p, &c, &names);
    bool ok = p && fj_peft_save(dir, &c, p, n, e);
    free(all);
    fj_arena_free(&names);
    return ok;
}

bool fj_lora_save_gguf(const fj_lora *l, const char *path, fj_err *e) {
    float *all = NULL;
    fj_arena names = { 0 };
    size_t n;
    fj_peft_pair *p = pairs_of(l, true, &all, &names, &n, e);
    bool ok = p && fj_peft_save_gguf(path, l->m->arch->name, l->base, p, n, e);
    free(all);
    fj_arena_free(&names);
    return ok;
}
