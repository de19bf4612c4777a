/* lora.c - adapters (Hu et al. 2021) over any architecture: made, read, written.
 *
 * The list of weights of the architecture says what may be targeted and under which names; A and B of
 * all targets lie in one device buffer as F32 rows, A0 B0 A1 B1 ..., which is also the order of the
 * optimizer's state. */
#include "base/fs.h"
#include "base/rng.h"
#include "formats/peft.h"
#include "models/model.h"

#include <math.h>

const char *fj_weight_module(const fj_weight *w, fj_arena *a) {
    char *name = fj_weight_name(w, false, a), *dot = strrchr(name, '.');
    if (dot) *dot = 0; /* ".weight" */
    dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

const fj_lora_pair *fj_lora_find(const fj_lora *l, int w) {
    for (int i = 0; i < l->n_pairs; i++)
        if (l->pairs[i].w == w) return &l->pairs[i];
    return NULL;
}

static fj_lora *empty(fj_model *m, int r, double alpha, double dropout, bool rslora) {
    fj_lora *l = fj_zalloc(sizeof *l);
    *l = (fj_lora){ .m = m,
                    .r = r,
                    .alpha = alpha,
                    .dropout = dropout,
                    .rslora = rslora,
                    .scale = rslora ? alpha / sqrt((double)r) : alpha / r };
    l->pairs = fj_zalloc((size_t)m->n_w * sizeof *l->pairs);
    l->base = fj_strdup(m->path);
    return l;
}

static void add_pair(fj_lora *l, int w) {
    const fj_weight *x = &l->m->w[w];
    fj_lora_pair *p = &l->pairs[l->n_pairs++];
    *p = (fj_lora_pair){ .w = w, .in = x->cols, .out = x->rows, .a = l->bytes };
    l->bytes += (size_t)(l->r * x->cols) * sizeof(float);
    p->b = l->bytes;
    l->bytes += (size_t)(x->rows * l->r) * sizeof(float);
    fj_arena names = { 0 };
    const char *module = fj_weight_module(x, &names);
    bool known = false;
    for (int i = 0; i < l->n_targets; i++) known |= !strcmp(l->targets[i], module);
    if (!known) {
        l->targets = fj_realloc(l->targets, (size_t)(l->n_targets + 1) * sizeof *l->targets);
        l->targets[l->n_targets++] = fj_strdup(module);
    }
    fj_arena_free(&names);
}

fj_lora *fj_lora_new(fj_model *m, const fj_lora_opts *o, fj_err *e) {
    if (o->r < 1) {
        fj_fail(e, FJ_EINVAL, "lora_r is %d, wanted at least 1", o->r);
        return NULL;
    }
    fj_lora *l = empty(m, o->r, o->alpha, o->dropout, o->rslora);
    bool *used = fj_zalloc((size_t)o->n_targets + 1);
    fj_str modules = { 0 };
    fj_arena names = { 0 };
    for (int i = 0; i < m->n_w; i++) {
        const fj_weight *w = &m->w[i];
        /* All linear layers but the head, as PEFT's all-linear. */
        if (!w->row->linear || w->layer < 0) continue;
        const char *name = fj_weight_module(w, &names);
        if (w->layer == 0) fj_str_addf(&modules, "%s%s", modules.n ? ", " : "", name);
        bool hit = false;
        for (int t = 0; t < o->n_targets; t++)
            if (!strcmp(o->targets[t], "all-linear") || !strcmp(o->targets[t], name))
                hit = used[t] = true;
        if (hit) add_pair(l, i);
    }
    const char *missing = o->n_targets ? NULL : "";
    for (int t = 0; t < o->n_targets && !missing; t++)
        if (!used[t]) missing = o->targets[t];
    float *init = NULL;
    if (missing)
        fj_fail(e, FJ_EINVAL,
                "target_modules: the model has no linear layer \"%s\" (it has %s; or all-linear)",
                missing, modules.s);
    else if ((l->buf = m->dev->fn->alloc(m->dev, l->bytes, "the adapter", e)))
        init = fj_try_alloc(l->bytes, 1, "the adapter's initial values", e);
    fj_arena_free(&names);
    fj_str_free(&modules);
    free(used);
    bool ok = init != NULL;
    if (ok) {
        fj_rng rng;
        fj_rng_seed(&rng, o->seed);
        for (int i = 0; i < l->n_pairs; i++) {
            const fj_lora_pair *p = &l->pairs[i];
            /* Kaiming uniform with a = sqrt(5): bound sqrt(6 / (1 + 5) / fan_in). */
            float *a = init + p->a / sizeof(float);
            double bound = 1 / sqrt((double)p->in);
            for (int64_t k = 0; k < l->r * p->in; k++)
                a[k] = (float)((2 * fj_rng_double(&rng) - 1) * bound);
        }
        ok = m->dev->fn->upload(l->buf, 0, init, l->bytes, e);
    }
    free(init);
    if (ok) return l;
    fj_lora_close(l);
    return NULL;
}

void fj_lora_close(fj_lora *l) {
    if (!l) return;
    l->m->dev->fn->free(l->buf);
    for (int i = 0; i < l->n_targets; i++) free(l->targets[i]);
    free(l->targets);
    free(l->pairs);
    free(l->base);
    free(l);
}

/* The weight that a module of an adapter file names, -1: none. */
static int weight_named(const fj_model *m, const char *module, bool gguf) {
    for (int i = 0; i < m->n_w; i++) {
        if (!m->w[i].row->linear) continue;
        fj_arena names = { 0 };
        char *name = fj_weight_name(&m->w[i], gguf, &names);
        size_t n = strlen(name);
        bool same = !strcmp(name, module) ||
                    (n > 7 && strlen(module) == n - 7 && !memcmp(name, module, n - 7));
        fj_arena_free(&names);
        if (same) return i;
    }
    return -1;
}

static void put_rows(float *dst, const fj_peft_mat *m) {
    size_t row = (size_t)fj_dtype_size(m->dtype, 1, m->cols);
    for (int64_t r = 0; r < m->rows; r++)
        fj_dequant_row(m->dtype, (const char *)m->data + (size_t)r * row, dst + r * m->cols,
                       m->cols);
}

static bool read_pair(fj_lora *l, const fj_peft_file *f, const fj_peft_pair *p, float *all,
                      fj_err *e) {
    int w = weight_named(l->m, p->module, f->gguf);
    const fj_lora_pair *q = fj_lora_find(l, w);
    if (p->a.rows != l->r || p->a.cols != q->in || p->b.rows != q->out || p->b.cols != l->r)
        return fj_fail(e, FJ_EFORMAT,
                       "%s: %s is A %lld x %lld, B %lld x %lld; the model and rank %d want A %d x "
                       "%lld, B %lld x %d",
                       f->name, p->module, (long long)p->a.rows, (long long)p->a.cols,
                       (long long)p->b.rows, (long long)p->b.cols, l->r, l->r, (long long)q->in,
                       (long long)q->out, l->r);
    put_rows(all + q->a / sizeof(float), &p->a);
    float *b = all + q->b / sizeof(float);
    put_rows(b, &p->b);
    if (f->gguf && l->m->w[w].row->gguf_pairs) {
        float *tmp = fj_alloc((size_t)(q->out * l->r) * sizeof *tmp);
        memcpy(tmp, b, (size_t)(q->out * l->r) * sizeof *tmp);
        for (int64_t r = 0; r < q->out; r++)
            memcpy(b + r * l->r, tmp + fj_gguf_row(l->m, &l->m->w[w], r) * l->r,
                   (size_t)l->r * sizeof *b);
        free(tmp);
    }
    if (p->scale != l->scale) /* one scale for all in memory: the rest goes into B */
        for (int64_t i = 0; i < q->out * l->r; i++) b[i] *= (float)(p->scale / l->scale);
    return true;
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
        int64_t r = f->pairs[0].r;
        double scale = f->pairs[0].scale;
        bool rs = !f->gguf && f->config.rslora;
        l = empty(m, (int)r, rs ? scale * sqrt((double)r) : scale * (double)r,
                  f->gguf ? 0 : f->config.dropout, rs);
        l->scale = scale;
        if (!f->gguf && f->config.base_model) {
            free(l->base);
            l->base = fj_strdup(f->config.base_model);
        }
    }
    for (size_t i = 0; ok && i < f->n; i++) {
        int w = weight_named(m, f->pairs[i].module, f->gguf);
        if (w < 0)
            ok = fj_fail(e, FJ_EFORMAT, "%s: the model %s has no linear layer %s", path, m->path,
                         f->pairs[i].module);
        else if (f->pairs[i].r != l->r)
            ok = fj_fail(e, FJ_EUNSUP,
                         "%s: %s has rank %lld, %s rank %d: one rank for all layers is supported",
                         path, f->pairs[i].module, (long long)f->pairs[i].r, f->pairs[0].module,
                         l->r);
    }
    /* In the order of the model's weights, whatever the order of the file. */
    for (int w = 0; ok && w < m->n_w; w++)
        for (size_t i = 0; i < f->n; i++)
            if (weight_named(m, f->pairs[i].module, f->gguf) == w) {
                add_pair(l, w);
                break;
            }
    ok = ok && (l->buf = m->dev->fn->alloc(m->dev, l->bytes, "the adapter", e)) &&
         (all = fj_try_alloc(l->bytes, 1, "the adapter's values", e));
    for (size_t i = 0; ok && i < f->n; i++) ok = read_pair(l, f, &f->pairs[i], all, e);
    ok = ok && m->dev->fn->upload(l->buf, 0, all, l->bytes, e);
    free(all);
    fj_peft_close(f);
    if (ok) return l;
    fj_lora_close(l);
    return NULL;
}

/* Host copies of all pairs under the names of one world; data live in *all. */
static fj_peft_pair *pairs_of(const fj_lora *l, bool gguf, float **all, fj_arena *names,
                              fj_err *e) {
    *all = fj_try_alloc(l->bytes, gguf ? 2 : 1, "a copy of the adapter", e);
    if (!*all || !l->m->dev->fn->download(l->buf, 0, *all, l->bytes, e)) return NULL;
    fj_peft_pair *out = fj_arena_alloc(names, (size_t)l->n_pairs * sizeof *out);
    for (int i = 0; i < l->n_pairs; i++) {
        const fj_lora_pair *p = &l->pairs[i];
        const fj_weight *w = &l->m->w[p->w];
        char *name = fj_weight_name(w, gguf, names);
        if (!gguf) name[strlen(name) - strlen(".weight")] = 0;
        const float *b = *all + p->b / sizeof(float);
        if (gguf && w->row->gguf_pairs) {
            float *moved = *all + (l->bytes + p->b) / sizeof(float);
            for (int64_t r = 0; r < p->out; r++)
                memcpy(moved + fj_gguf_row(l->m, w, r) * l->r, b + r * l->r,
                       (size_t)l->r * sizeof *b);
            b = moved;
        }
        out[i] = (fj_peft_pair){ .module = name,
                                 .r = l->r,
                                 .scale = l->scale,
                                 .a = { l->r, p->in, FJ_F32, *all + p->a / sizeof(float) },
                                 .b = { p->out, l->r, FJ_F32, b } };
    }
    return out;
}

bool fj_lora_save_peft(const fj_lora *l, const char *dir, fj_err *e) {
    if (!fj_mkdirs(dir, e)) return false;
    float *all = NULL;
    fj_arena names = { 0 };
    fj_peft_pair *p = pairs_of(l, false, &all, &names, e);
    fj_peft_config c = { .base_model = l->base,
                         .task_type = "CAUSAL_LM",
                         .r = l->r,
                         .alpha = l->alpha,
                         .dropout = l->dropout,
                         .rslora = l->rslora,
                         .targets = (const char *const *)l->targets,
                         .n_targets = (size_t)l->n_targets };
    bool ok = p && fj_peft_save(dir, &c, p, (size_t)l->n_pairs, e);
    free(all);
    fj_arena_free(&names);
    return ok;
}

bool fj_lora_save_gguf(const fj_lora *l, const char *path, fj_err *e) {
    float *all = NULL;
    fj_arena names = { 0 };
    fj_peft_pair *p = pairs_of(l, true, &all, &names, e);
    bool ok = p && fj_peft_save_gguf(path, l->m->arch->name, l->base, p, (size_t)l->n_pairs, e);
    free(all);
    fj_arena_free(&names);
    return ok;
}
