/* lora_file.c - the matrices of an adapter, from safetensors (PEFT) and GGUF (llama.cpp:
 * convert_lora_to_gguf.py, src/llama-adapter.cpp), and into both. */
#include "formats/peft.h"

#include "base/fs.h"
#include "formats/gguf.h"
#include "formats/safetensors.h"

#include <inttypes.h>
#include <math.h>
#include <unistd.h>

struct fj_peft_own {
    fj_peft_file pub;
    fj_st *st;
    fj_gguf *g;
    fj_arena mem;
    fj_map modules; /* to index of pairs */
    fj_peft_pair *pairs;
    size_t cap;
};

static fj_peft_pair *pair_of(struct fj_peft_own *o, const char *module, size_t n) {
    bool fresh;
    int64_t *i = fj_map_put(&o->modules, module, n, &fresh);
    if (fresh) {
        *i = (int64_t)o->pub.n;
        FJ_GROW(o->pairs, o->pub.n + 1, o->cap);
        o->pairs[o->pub.n++] = (fj_peft_pair){ .module = fj_arena_strndup(&o->mem, module, n) };
    }
    return &o->pairs[*i];
}

static int by_module(const void *a, const void *b) {
    return strcmp(((const fj_peft_pair *)a)->module, ((const fj_peft_pair *)b)->module);
}

/* Both halves there, A [r, in] and B [out, r] with the same r. */
static bool check_pairs(struct fj_peft_own *o, fj_err *e) {
    fj_peft_file *f = &o->pub;
    if (!f->n) return fj_fail(e, FJ_EFORMAT, "%s: no LoRA tensors", f->name);
    for (size_t i = 0; i < f->n; i++) {
        fj_peft_pair *p = &o->pairs[i];
        if (!p->a.data || !p->b.data)
            return fj_fail(e, FJ_EFORMAT, "%s: module %s has no matrix %c", f->name, p->module,
                           p->a.data ? 'B' : 'A');
        int64_t mats = FJ_MAX(p->mats, 1);
        if (p->a.rows % mats || p->b.rows % mats || p->a.rows / mats != p->b.cols ||
            p->a.rows < 1 || p->a.cols < 1 || p->b.rows < 1)
            return fj_fail(e, FJ_EFORMAT,
                           "%s: module %s: A [%" PRId64 ", %" PRId64 "] and B [%" PRId64
                           ", %" PRId64 "] do not fit, expected [r, in] and [out, r]",
                           f->name, p->module, p->a.rows, p->a.cols, p->b.rows, p->b.cols);
        p->r = p->a.rows / mats;
    }
    qsort(o->pairs, f->n, sizeof *o->pairs, by_module);
    f->pairs = o->pairs;
    return true;
}

/* ---- PEFT ------------------------------------------------------------------------------------ */
#define INNER ".experts.base_layer"
#define OUTER ".experts"

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n > k && !strcmp(s + n - k, end);
}

/* Is the parameter among the targets? */
static bool targets(const fj_peft_config *c, const char *param) {
    for (size_t i = 0; i < c->n_params; i++)
        if (!strcmp(c->params[i], param) ||
            (ends_with(c->params[i], param) &&
             c->params[i][strlen(c->params[i]) - strlen(param) - 1] == '.'))
            return true;
    return false;
}

/* Modules of experts get the names of their parameters (peft.h). */
static void name_params(struct fj_peft_own *o) {
    const fj_peft_config *c = &o->pub.config;
    bool both = targets(c, "gate_up_proj") && targets(c, "down_proj");
    for (size_t i = 0; c->n_params && i < o->pub.n; i++) {
        fj_peft_pair *p = &o->pairs[i];
        bool inner = ends_with(p->module, INNER);
        if (!inner && !ends_with(p->module, OUTER)) continue;
        size_t n = strlen(p->module) - (inner ? strlen(INNER) : strlen(OUTER));
        bool down = !inner && (both || targets(c, "down_proj"));
        p->module = fj_arena_printf(&o->mem, "%.*s" OUTER ".%s", (int)n, p->module,
                                    down ? "down_proj" : "gate_up_proj");
    }
}

/* The way back; the caller frees. */
static char *file_module(const fj_peft_config *c, const char *module) {
    bool up = ends_with(module, OUTER ".gate_up_proj"),
         down = ends_with(module, OUTER ".down_proj");
    fj_str s = { 0 };
    if (!c->n_params || (!up && !down)) {
        fj_str_addf(&s, "%s", module);
        return fj_str_take(&s);
    }
    size_t n = (size_t)(strrchr(module, '.') - module);
    fj_str_addn(&s, module, n);
    if (up && targets(c, "down_proj")) fj_str_addf(&s, ".base_layer");
    return fj_str_take(&s);
}

static bool read_peft_tensors(struct fj_peft_own *o, const fj_st *s, fj_err *e) {
    for (size_t i = 0; i < s->n_tensors; i++) {
        const char *name = s->tensors[i].name, *module;
        size_t n;
        char ab;
        if (!fj_peft_key_parse(name, &module, &n, &ab))
            return fj_fail(e, FJ_EUNSUP,
                           "%s: tensor %s is no LoRA matrix of a linear layer (expected "
                           "base_model.model.MODULE.lora_A.weight or lora_B)",
                           s->name, name);
        const fj_st_tensor *t = fj_st_get(s, name, e);
        if (!t) return false;
        if (t->n_dims != 2)
            return fj_fail(e, FJ_EFORMAT, "%s: tensor %s has %d dimensions, expected 2", s->name,
                           name, t->n_dims);
        fj_peft_pair *p = pair_of(o, module, n);
        *(ab == 'A' ? &p->a : &p->b) = (fj_peft_mat){ t->dim[0], t->dim[1], t->dtype, t->data };
    }
    name_params(o);
    return check_pairs(o, e);
}

static bool open_peft(struct fj_peft_own *o, const char *dir, fj_err *e) {
    fj_peft_file *f = &o->pub;
    char *config = fj_path_join(dir, "adapter_config.json");
    char *weights = fj_path_join(dir, "adapter_model.safetensors");
    bool ok = fj_exists(config) && fj_exists(weights);
    if (!ok)
        fj_fail(e, FJ_EIO, "%s is not an adapter folder: %s is missing", dir,
                fj_base_name(fj_exists(config) ? weights : config));
    ok = ok && fj_peft_config_read(config, &f->config, &o->mem, e);
    if (ok) o->st = fj_st_open(weights, e);
    ok = ok && o->st && read_peft_tensors(o, o->st, e);
    for (size_t i = 0; ok && i < f->n; i++) {
        fj_peft_pair *p = &o->pairs[i];
        int64_t r = fj_peft_rank(&f->config, p->module);
        /* Those of experts have the rank of each one. */
        if (f->config.n_params && strstr(p->module, OUTER ".") && p->r % r == 0) p->r = r;
        if (p->r != r)
            ok = fj_fail(e, FJ_EFORMAT, "%s: module %s has rank %" PRId64 ", %s says %" PRId64,
                         weights, p->module, p->r, config, r);
        p->scale = fj_peft_scale(&f->config, p->module);
    }
    free(config);
    free(weights);
    return ok;
}

/* ---- GGUF ------------------------------------------------------------------------------------ */
static bool open_gguf(struct fj_peft_own *o, const char *path, fj_err *e) {
    fj_peft_file *f = &o->pub;
    const char *type, *kind;
    float alpha = 0;
    f->gguf = true;
    o->g = fj_gguf_open(path, e);
    const fj_gguf *g = o->g;
    if (!g || !fj_gguf_string(g, "general.type", &type, e)) return false;
    if (strcmp(type, "adapter"))
        return fj_fail(e, FJ_EFORMAT, "%s: general.type is \"%s\", expected \"adapter\"", path,
                       type);
    if (!fj_gguf_string(g, "adapter.type", &kind, e)) return false;
    if (strcmp(kind, "lora"))
        return fj_fail(e, FJ_EUNSUP, "%s: adapter.type is \"%s\", only \"lora\" is supported", path,
                       kind);
    if (!fj_gguf_string(g, "general.architecture", &f->arch, e) ||
        !fj_gguf_f32_opt(g, "adapter.lora.alpha", &alpha, e))
        return false;
    if (fj_gguf_find(g, "adapter.alora.invocation_tokens"))
        return fj_fail(e, FJ_EUNSUP,
                       "%s: adapter.alora.invocation_tokens is set, activated LoRA is not "
                       "supported",
                       path);
    if (!isfinite(alpha))
        return fj_fail(e, FJ_EFORMAT, "%s: adapter.lora.alpha is not a finite number", path);
    f->config.alpha = alpha;
    for (size_t i = 0; i < g->n_tensors; i++) {
        const char *name = g->tensors[i].name;
        bool a = ends_with(name, ".lora_a"), b = ends_with(name, ".lora_b");
        if ((!a && !b) || strstr(name, "token_embd."))
            return fj_fail(e, FJ_EUNSUP,
                           "%s: tensor %s is no LoRA matrix of a linear layer (expected "
                           "NAME.lora_a or NAME.lora_b)",
                           path, name);
        const fj_gguf_tensor *t = fj_gguf_tensor_get(g, name, e);
        if (!t) return false;
        if (t->n_dims > 3)
            return fj_fail(e, FJ_EFORMAT, "%s: tensor %s has %d dimensions, expected 2 or 3", path,
                           name, t->n_dims);
        fj_peft_pair *p = pair_of(o, name, strlen(name) - 7);
        if (p->mats && p->mats != t->dim[2])
            return fj_fail(e, FJ_EFORMAT,
                           "%s: tensor %s is for %" PRId64 " experts, its other half for %" PRId64,
                           path, name, t->dim[2], p->mats);
        int64_t rows;
        if (__builtin_mul_overflow(t->dim[1], t->dim[2], &rows))
            return fj_fail(e, FJ_EFORMAT, "%s: tensor %s has no size", path, name);
        p->mats = t->dim[2];
        *(a ? &p->a : &p->b) = (fj_peft_mat){ rows, t->dim[0], t->dtype, t->data };
    }
    if (!check_pairs(o, e)) return false;
    /* as llama.cpp: no alpha means a scale of 1 */
    for (size_t i = 0; i < f->n; i++)
        o->pairs[i].scale = alpha != 0 ? (double)alpha / (double)o->pairs[i].r : 1;
    return true;
}

fj_peft_file *fj_peft_open(const char *path, fj_err *e) {
    struct fj_peft_own *o = fj_zalloc(sizeof *o);
    o->pub.own = o;
    o->pub.name = fj_arena_strdup(&o->mem, path);
    if (fj_is_dir(path) ? open_peft(o, path, e) : open_gguf(o, path, e)) return &o->pub;
    fj_peft_close(&o->pub);
    return NULL;
}

void fj_peft_close(fj_peft_file *f) {
    if (!f) return;
    struct fj_peft_own *o = f->own;
    fj_st_close(o->st);
    fj_gguf_close(o->g);
    fj_map_free(&o->modules);
    fj_arena_free(&o->mem);
    free(o->pairs);
    free(o);
}

/* ---- writing --------------------------------------------------------------------------------- */
static bool check_shape(const char *path, const fj_peft_pair *p, fj_err *e) {
    if (p->mats > 1 && p->a.rows == p->r * p->mats && p->b.cols == p->r && p->b.rows % p->mats == 0)
        return true;
    if (p->mats < 2 && p->r > 0 && p->a.rows == p->b.cols && p->a.rows % p->r == 0) return true;
    return fj_fail(e, FJ_EINVAL,
                   "%s: module %s: A has %" PRId64 " rows, B %" PRId64 " columns, the rank "
                   "is %" PRId64,
                   path, p->module, p->a.rows, p->b.cols, p->r);
}

static const fj_peft_mat *half(const fj_peft_pair *pairs, size_t i) {
    return i % 2 ? &pairs[i / 2].b : &pairs[i / 2].a;
}

bool fj_peft_save(const char *dir, const fj_peft_config *c, const fj_peft_pair *pairs, size_t n,
                  fj_err *e) {
    char *weights = fj_path_join(dir, "adapter_model.safetensors");
    char *config = fj_path_join(dir, "adapter_config.json");
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++) {
        ok = check_shape(weights, &pairs[i], e);
        double scale = fj_peft_scale(c, pairs[i].module);
        if (ok && (pairs[i].r != fj_peft_rank(c, pairs[i].module) ||
                   fabs(pairs[i].scale - scale) > 1e-6 * fabs(scale)))
            ok = fj_fail(e, FJ_EINVAL,
                         "%s: module %s has rank %" PRId64 " and scale %g, its configuration "
                         "gives %" PRId64 " and %g",
                         weights, pairs[i].module, pairs[i].r, pairs[i].scale,
                         fj_peft_rank(c, pairs[i].module), scale);
    }
    fj_st_writer *w = ok ? fj_st_writer_open(weights, e) : NULL;
    if (w) {
        for (size_t i = 0; i < 2 * n; i++) {
            const fj_peft_mat *m = half(pairs, i);
            char *module = file_module(c, pairs[i / 2].module);
            char *key = fj_peft_key(module, i % 2 ? 'B' : 'A');
            fj_st_writer_add(w, key, fj_dtype_get(m->dtype)->st, 2,
                             (int64_t[]){ m->rows, m->cols });
            free(key);
            free(module);
        }
        for (int64_t i; (i = fj_st_writer_next(w)) >= 0;) {
            const fj_peft_mat *m = half(pairs, (size_t)i);
            fj_st_writer_data(w, m->data, (size_t)fj_dtype_size(m->dtype, m->rows, m->cols));
        }
        ok = fj_st_writer_close(w, e);
        if (ok && !fj_peft_config_write(config, c, e)) {
            unlink(weights); /* half an adapter is none */
            ok = false;
        }
    }
    free(weights);
    free(config);
    return ok && w;
}

static void write_scaled(fj_gguf_writer *w, const fj_peft_mat *m, double factor) {
    const float *x = m->data;
    float buf[1024];
    for (int64_t i = 0, n = m->rows * m->cols; i < n;) {
        int64_t k = FJ_MIN(n - i, (int64_t)FJ_LEN(buf));
        for (int64_t j = 0; j < k; j++) buf[j] = (float)(factor * (double)x[i + j]);
        fj_gguf_write_data(w, buf, (size_t)k * 4);
        i += k;
    }
}

bool fj_peft_save_gguf(const char *path, const char *arch, const char *base_model,
                       const fj_peft_pair *pairs, size_t n, fj_err *e) {
    double alpha = n ? pairs[0].scale * (double)pairs[0].r : 0;
    for (size_t i = 0; i < n; i++) {
        double own = pairs[i].scale * (double)pairs[i].r;
        if (!check_shape(path, &pairs[i], e)) return false;
        if (fabs(own - alpha) > 1e-9 * fabs(alpha) && (alpha == 0 || pairs[i].b.dtype != FJ_F32))
            return fj_fail(e, FJ_EINVAL,
                           "%s: module %s has another scale than the first, which needs its "
                           "B in F32",
                           path, pairs[i].module);
    }
    if (alpha == 0)
        return fj_fail(e, FJ_EINVAL,
                       "%s: an adapter of %zu modules with a scale of 0 cannot be written", path,
                       n);
    fj_gguf_writer *w = fj_gguf_writer_open(path, e);
    if (!w) return false;
    fj_gguf_put_string(w, "general.architecture", arch);
    fj_gguf_put_string(w, "general.type", "adapter");
    fj_gguf_put_string(w, "adapter.type", "lora");
    if (base_model) fj_gguf_put_string(w, "general.base_model.0.name", base_model);
    if (base_model) fj_gguf_put_u32(w, "general.base_model.count", 1);
    fj_gguf_put_f32(w, "adapter.lora.alpha", (float)alpha);
    for (size_t i = 0; i < 2 * n; i++) {
        const fj_peft_mat *m = half(pairs, i);
        fj_str name = { 0 };
        fj_str_addf(&name, "%s.lora_%c", pairs[i / 2].module, i % 2 ? 'b' : 'a');
        int64_t mats = FJ_MAX(pairs[i / 2].mats, 1);
        fj_gguf_add_tensor(w, name.s, m->dtype, mats > 1 ? 3 : 2,
                           (int64_t[]){ m->cols, m->rows / mats, mats });
        fj_str_free(&name);
    }
    for (size_t i = 0; i < 2 * n; i++) {
        const fj_peft_mat *m = half(pairs, i);
        double factor = pairs[i / 2].scale * (double)pairs[i / 2].r / alpha;
        if (i % 2 && fabs(factor - 1) > 1e-9) write_scaled(w, m, factor);
        else fj_gguf_write_data(w, m->data, (size_t)fj_dtype_size(m->dtype, m->rows, m->cols));
    }
    return fj_gguf_writer_close(w, e);
}
