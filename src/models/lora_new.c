/* lora_new.c - a new adapter: which weights it is for, and its first values, as PEFT has them. */
#include "base/rng.h"
#include "models/lora_in.h"

#include <math.h>

/* What names of a request came to: used[i] of targets; the layers and modules that there are, for messages. */
typedef struct pick {
    const fj_lora_opts *o;
    bool *used;
    int n_hit; /* weights that a target named, before layers and exclude_modules */
} pick;

static bool named(const char *const *names, int n, const char *path, bool *used) {
    bool hit = false;
    for (int i = 0; i < n; i++)
        if (!strcmp(names[i], "all-linear") || fj_peft_names(names[i], path)) {
            hit = true;
            if (used) used[i] = true;
        }
    return hit;
}

static bool wanted(pick *p, const fj_weight *w, const char *path) {
    const fj_lora_opts *o = p->o;
    bool layer = !o->n_layers;
    if (!named(o->targets, o->n_targets, path, p->used)) return false;
    p->n_hit++;
    for (int i = 0; i < o->n_layers; i++) layer = layer || o->layers[i] == w->layer;
    return layer && !named(o->exclude, o->n_exclude, path, NULL);
}

static bool names_ok(const fj_model *m, const fj_lora_opts *o, fj_err *e) {
    for (int i = 0; i < o->n_targets; i++)
        if (!fj_peft_name_ok(o->targets[i], "target_modules", e)) return false;
    for (int i = 0; i < o->n_exclude; i++)
        if (!fj_peft_name_ok(o->exclude[i], "exclude_modules", e)) return false;
    for (size_t i = 0; i < o->n_rank_pattern; i++)
        if (!fj_peft_name_ok(o->rank_pattern[i].module, "rank_pattern", e)) return false;
    for (size_t i = 0; i < o->n_alpha_pattern; i++)
        if (!fj_peft_name_ok(o->alpha_pattern[i].module, "alpha_pattern", e)) return false;
    for (int i = 0; i < o->n_layers; i++)
        if (o->layers[i] < 0 || o->layers[i] >= m->hp.layers)
            return fj_fail(e, FJ_EINVAL,
                           "layers_to_transform: there is no layer %d, the model has 0 to %d",
                           o->layers[i], (int)m->hp.layers - 1);
    return o->r >= 1 || fj_fail(e, FJ_EINVAL, "lora_r is %d, wanted at least 1", o->r);
}

/* Patterns that no module of the adapter answers to are a mistake that nobody would see. */
static bool patterns_used(const fj_lora *l, const fj_peft_pattern *p, size_t n, const char *key,
                          fj_err *e) {
    for (size_t i = 0; i < n; i++) {
        fj_arena mem = { 0 };
        bool hit = false;
        for (int k = 0; k < l->n_pairs && !hit; k++)
            hit = fj_peft_ends(p[i].module, fj_lora_path(&l->m->w[l->pairs[k].w], &mem));
        fj_arena_free(&mem);
        if (!hit)
            return fj_fail(e, FJ_EINVAL, "%s: no module of the adapter is called \"%s\"", key,
                           p[i].module);
    }
    return true;
}

static bool pairs(fj_lora *l, const fj_lora_opts *o, fj_err *e) {
    fj_model *m = l->m;
    fj_peft_config c = { .r = o->r,
                         .alpha = o->alpha,
                         .rslora = o->rslora,
                         .rank_pattern = o->rank_pattern,
                         .n_rank_pattern = o->n_rank_pattern,
                         .alpha_pattern = o->alpha_pattern,
                         .n_alpha_pattern = o->n_alpha_pattern };
    pick p = { .o = o, .used = fj_zalloc((size_t)o->n_targets + 1) };
    fj_str modules = { 0 };
    fj_arena names = { 0 };
    for (int i = 0; i < m->n_w; i++) {
        const fj_weight *w = &m->w[i];
        /* All linear layers but the head, as PEFT's all-linear; experts and routers among them. */
        if (!(w->row->is & FJ_IS_LINEAR) || w->layer < 0) continue;
        if (w->layer == 0)
            fj_str_addf(&modules, "%s%s", modules.n ? ", " : "", fj_weight_module(w, &names));
        const char *path = fj_lora_path(w, &names);
        if (wanted(&p, w, path))
            fj_lora_add_pair(l, i, fj_peft_rank(&c, path), fj_peft_scale(&c, path));
    }
    const char *missing = o->n_targets ? NULL : "";
    for (int t = 0; t < o->n_targets && !missing; t++)
        if (!p.used[t]) missing = o->targets[t];
    bool ok = true;
    if (missing)
        ok = fj_fail(e, FJ_EINVAL,
                     "target_modules: the model has no linear layer \"%s\" (it has %s; or "
                     "all-linear)",
                     missing, modules.s ? modules.s : "none");
    else if (!l->n_pairs)
        ok = fj_fail(e, FJ_EINVAL,
                     "nothing is left to train: target_modules names %d linear layers, and %s "
                     "leaves out all of them",
                     p.n_hit, o->n_exclude ? "exclude_modules" : "layers_to_transform");
    fj_arena_free(&names);
    fj_str_free(&modules);
    free(p.used);
    return ok && patterns_used(l, o->rank_pattern, o->n_rank_pattern, "rank_pattern", e) &&
           patterns_used(l, o->alpha_pattern, o->n_alpha_pattern, "alpha_pattern", e);
}

/* peft/tuners/lora/layer.py, reset_lora_parameters: kaiming uniform with a = sqrt(5), whose bound is
 * sqrt(6 / (1 + 5) / fan_in); or normal with deviation 1 / r.  B is zero. */
static bool first_values(fj_lora *l, const fj_lora_opts *o, fj_err *e) {
    float *init = fj_try_alloc(l->bytes, 1, "the adapter's initial values", e);
    if (!init) return false;
    memset(init, 0, l->bytes);
    fj_rng rng;
    fj_rng_seed(&rng, o->seed);
    for (int i = 0; i < l->n_pairs; i++) {
        const fj_lora_pair *p = &l->pairs[i];
        float *a = init + p->a / sizeof(float);
        double bound = 1 / sqrt((double)p->in), dev = 1 / (double)p->r;
        for (int64_t k = 0; k < p->mats * p->r * p->in; k++)
            a[k] = (float)(o->gaussian ? fj_rng_normal(&rng) * dev
                                       : (2 * fj_rng_double(&rng) - 1) * bound);
    }
    bool ok = l->m->dev->fn->upload(l->buf, 0, init, l->bytes, e);
    free(init);
    return ok;
}

fj_lora *fj_lora_new(fj_model *m, const fj_lora_opts *o, fj_err *e) {
    if (!names_ok(m, o, e)) return NULL;
    fj_lora *l = fj_lora_empty(m, o->r, o->alpha, o->dropout, o->rslora);
    bool ok = pairs(l, o, e);
    fj_lora_name_targets(l);
    if (ok && l->n_params && o->dropout > 0)
        ok = fj_fail(e, FJ_EINVAL,
                     "lora_dropout is %g: PEFT has no dropout for adapters of experts and routers "
                     "(%s); set it to 0, or leave them out of target_modules",
                     o->dropout, l->params[0]);
    ok = ok && (l->buf = m->dev->fn->alloc(m->dev, l->bytes, "the adapter", e)) &&
         first_values(l, o, e);
    if (ok) return l;
    fj_lora_close(l);
    return NULL;
}
