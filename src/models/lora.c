/* lora.c - adapters (Hu et al. 2021) over any architecture: made, read, written.
 *
 * The list of weights of the architecture says what may be targeted and under which names; A and B of
 * all targets lie in one device buffer as F32 rows, A0 B0 A1 B1 ..., which is also the order of the
 * optimizer's state. */
#include "base/fs.h"
#include "base/rng.h"
#include "formats/peft.h"
#include "models/parts.h"

#include <math.h>

/* Its name without ".weight": "model.layers.3.self_attn.q_proj". */
static char *module_path(const fj_weight *w, fj_arena *a) {
    char *name = fj_weight_name(w, a);
    size_t n = strlen(name), k = strlen(".weight");
    if (n > k && !strcmp(name + n - k, ".weight")) name[n - k] = 0;
    return name;
}

const char *fj_weight_module(const fj_weight *w, fj_arena *a) {
    char *name = module_path(w, a), *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* transformers has experts and routers as parameters of modules of its own since version 5. */
bool fj_weight_is_param(const fj_weight *w) { return w->row->is & (FJ_IS_PARAM | FJ_IS_EXPERTS); }

const fj_lora_pair *fj_lora_find(const fj_lora *l, int w) {
    for (int i = 0; i < l->n_pairs; i++)
        if (l->pairs[i].w == w) return &l->pairs[i];
    return NULL;
}

static fj_lora *empty(fj_model *m, int r, double alpha, double dropout, bool rslora) {
    fj_lora *l = fj_zalloc(sizeof *l);
    *l = (fj_lora){ .m = m, .r = r, .alpha = alpha, .dropout = dropout, .rslora = rslora };
    l->pairs = fj_zalloc((size_t)m->n_w * sizeof *l->pairs);
    l->base = fj_strdup(m->path);
    return l;
}

static void add_name(char ***list, int *n, const char *name) {
    for (int i = 0; i < *n; i++)
        if (!strcmp((*list)[i], name)) return;
    *list = fj_realloc(*list, (size_t)(*n + 1) * sizeof **list);
    (*list)[(*n)++] = fj_strdup(name);
}

static void add_pair(fj_lora *l, int w, int64_t r, double scale) {
    const fj_weight *x = &l->m->w[w];
    fj_lora_pair *p = &l->pairs[l->n_pairs++];
    *p = (fj_lora_pair){ .w = w,
                         .mats = x->mats,
                         .in = x->cols,
                         .out = x->rows,
                         .r = r,
                         .scale = scale,
                         .a = l->bytes };
    l->bytes += (size_t)(x->mats * r * x->cols) * sizeof(float);
    p->b = l->bytes;
    l->bytes += (size_t)(x->rows * r) * sizeof(float);
    fj_arena names = { 0 };
    if (fj_weight_is_param(x)) { /* from the module's own name on: "mlp.experts.gate_up_proj" */
        const char *name = fj_weight_name(x, &names), *mlp = strstr(name, ".mlp.");
        add_name(&l->params, &l->n_params, mlp ? mlp + 1 : name);
    } else {
        add_name(&l->targets, &l->n_targets, fj_weight_module(x, &names));
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
        /* All linear layers but the head, as PEFT's all-linear; experts and routers among them. */
        if (!(w->row->is & FJ_IS_LINEAR) || w->layer < 0) continue;
        const char *name = fj_weight_module(w, &names);
        if (w->layer == 0) fj_str_addf(&modules, "%s%s", modules.n ? ", " : "", name);
        bool hit = false;
        for (int t = 0; t < o->n_targets; t++)
            if (!strcmp(o->targets[t], "all-linear") || !strcmp(o->targets[t], name))
                hit = used[t] = true;
        if (hit) add_pair(l, i, o->r, o->rslora ? o->alpha / sqrt((double)o->r) : o->alpha / o->r);
    }
    const char *missing = o->n_targets ? NULL : "";
    for (int t = 0; t < o->n_targets && !missing; t++)
        if (!used[t]) missing = o->targets[t];
    float *init = NULL;
    if (l->n_params && o->dropout > 0)
        fj_fail(e, FJ_EINVAL,
                "lora_dropout is %g: PEFT has no dropout for adapters of experts and routers (%s); "
                "set it to 0, or leave them out of target_modules",
                o->dropout, l->params[0]);
    else if (missing)
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
            for (int64_t k = 0; k < p->mats * p->r * p->in; k++)
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
    for (int i = 0; i < l->n_params; i++) free(l->params[i]);
    free(l->targets);
    free(l->params);
    free(l->pairs);
    free(l->base);
    free(l);
}

/* The name of w in an adapter file. */
static const char *file_name(const fj_model *m, const fj_weight *w, bool gguf, fj_arena *a) {
    if (!gguf) return module_path(w, a);
    fj_part *parts;
    fj_parts_of(m, w, true, a, &parts);
    return parts[0].name;
}

/* The weight that a module of an adapter file names, -1: none. */
static int weight_named(const fj_model *m, const char *module, bool gguf) {
    fj_arena names = { 0 };
    int found = -1;
    for (int i = 0; i < m->n_w && found < 0; i++) {
        if (!(m->w[i].row->is & FJ_IS_LINEAR)) continue;
        if (!strcmp(file_name(m, &m->w[i], gguf, &names), module)) found = i;
    }
    fj_arena_free(&names);
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

static bool read_pair(fj_lora *l, const fj_peft_file *f, const fj_peft_pair *p, float *all,
                      fj_err *e) {
    int w = weight_named(l->m, p->module, f->gguf);
    const fj_lora_pair *q = fj_lora_find(l, w);
    int64_t ranks = q->mats * q->r, rows = q->out / q->mats;
    if (p->a.rows != ranks || p->a.cols != q->in || p->b.rows != rows || p->b.cols != ranks)
        return fj_fail(
            e, FJ_EFORMAT,
            "%s: %s is A %lld x %lld, B %lld x %lld; the model and rank %lld want A %lld "
            "x %lld, B %lld x %lld",
            f->name, p->module, (long long)p->a.rows, (long long)p->a.cols, (long long)p->b.rows,
            (long long)p->b.cols, (long long)q->r, (long long)ranks, (long long)q->in,
            (long long)rows, (long long)ranks);
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
        l = empty(m, (int)(f->gguf ? p->r : f->config.r),
                  f->gguf ? p->scale * (double)p->r : f->config.alpha,
                  f->gguf ? 0 : f->config.dropout, rs);
        if (!f->gguf && f->config.base_model) {
            free(l->base);
            l->base = fj_strdup(f->config.base_model);
        }
    }
    int64_t *at = fj_alloc((f->n + 1) * sizeof *at);
    for (size_t i = 0; ok && i < f->n; i++) {
        at[i] = weight_named(m, f->pairs[i].module, f->gguf);
        if (at[i] < 0)
            ok = fj_fail(e, FJ_EFORMAT, "%s: the model %s has no linear layer %s", path, m->path,
                         f->pairs[i].module);
        else if (f->gguf && m->w[at[i]].mats > 1)
            ok = fj_fail(e, FJ_EUNSUP,
                         "%s: %s is an adapter of experts, which is read from PEFT folders only",
                         path, f->pairs[i].module);
    }
    /* In the order of the model's weights, whatever the order of the file. */
    for (int w = 0; ok && w < m->n_w; w++)
        for (size_t i = 0; i < f->n; i++)
            if (at[i] == w) {
                add_pair(l, w, f->pairs[i].r, f->pairs[i].scale);
                break;
            }
    free(at);
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
    *all = fj_try_alloc(l->bytes, 2, "a copy of the adapter", e);
    if (!*all || !l->m->dev->fn->download(l->buf, 0, *all, l->bytes, e)) return NULL;
    fj_peft_pair *out = fj_arena_alloc(names, (size_t)l->n_pairs * sizeof *out);
    for (int i = 0; i < l->n_pairs; i++) {
        const fj_lora_pair *p = &l->pairs[i];
        const fj_weight *w = &l->m->w[p->w];
        const char *name = file_name(l->m, w, gguf, names);
        const float *b = *all + p->b / sizeof(float);
        float *moved = *all + (l->bytes + p->b) / sizeof(float);
        if (gguf && p->mats > 1) {
            fj_fail(e, FJ_EUNSUP,
                    "%s: an adapter of experts is written as a PEFT folder only, not as GGUF",
                    name);
            return NULL;
        }
        if (p->mats > 1) turn_experts(p, b, moved, false);
        else if (gguf && w->row->is & FJ_IS_PAIRS)
            for (int64_t r = 0; r < p->out; r++)
                memcpy(moved + fj_gguf_row(l->m, w, r) * p->r, b + r * p->r,
                       (size_t)p->r * sizeof *b);
        else moved = NULL;
        int64_t ranks = p->mats * p->r;
        out[i] = (fj_peft_pair){ .module = name,
                                 .r = p->r,
                                 .scale = p->scale,
                                 .a = { ranks, p->in, FJ_F32, *all + p->a / sizeof(float) },
                                 .b = { p->out / p->mats, ranks, FJ_F32, moved ? moved : b } };
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
    fj_peft_pair *p = pairs_of(l, false, &all, &names, e);
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
