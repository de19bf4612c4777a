#include "models/parts.h"

/* %d the layer, %e the expert. */
static char *name_of(const char *pattern, int layer, int64_t expert, fj_arena *a) {
    fj_str s = { 0 };
    for (const char *p = pattern; *p; p++) {
        if (p[0] == '%' && (p[1] == 'd' || p[1] == 'e'))
            fj_str_addf(&s, "%lld", p++[1] == 'd' ? (long long)layer : (long long)expert);
        else fj_str_addc(&s, *p);
    }
    char *name = fj_arena_strdup(a, s.s);
    fj_str_free(&s);
    return name;
}

char *fj_weight_name(const fj_weight *w, fj_arena *a) {
    return name_of(w->row->module ? w->row->module : w->row->hf, w->layer, 0, a);
}

bool fj_weight_is_vector(const fj_weight *w) {
    return w->row->rows == FJ_ONE || w->row->cols == FJ_ONE;
}

/* GGUF row 2i + j of a head is HF row j * hd/2 + i (llama.cpp convert_hf_to_gguf.py, permute). */
int64_t fj_gguf_row(const fj_model *m, const fj_weight *w, int64_t hf_row) {
    if (!(w->row->is & FJ_IS_PAIRS)) return hf_row;
    int64_t hd = m->hp.head_dim, head = hf_row / hd, r = hf_row % hd;
    return head * hd + r % (hd / 2) * 2 + r / (hd / 2);
}

int fj_parts_of(const fj_model *m, const fj_weight *w, bool gguf, fj_arena *a, fj_part **parts) {
    (void)m;
    const fj_weight_row *r = w->row;
    const char *names[2] = { gguf ? r->gguf : r->hf, gguf ? r->gguf2 : r->hf2 };
    int halves = names[1] ? 2 : 1, n = 0;
    bool each = strstr(names[0], "%e") != NULL, vector = r->rows == FJ_ONE;
    /* The values of a vector are its rows: biases are permuted as the rows of their weight. */
    int64_t rows = vector ? w->cols : w->rows / w->mats, cols = vector ? 1 : w->cols;
    int64_t tensors = each ? w->mats : 1;
    *parts = fj_arena_alloc(a, (size_t)(tensors * halves) * sizeof **parts);
    for (int64_t e = 0; e < tensors; e++)
        for (int h = 0; h < halves; h++) {
            bool zipped = r->is & FJ_IS_ZIPPED && halves == 2;
            fj_part *p = &(*parts)[n++];
            *p = (fj_part){ .name = name_of(names[h], w->layer, e, a),
                            .mats = w->mats / tensors,
                            .rows = rows / halves,
                            .cols = cols,
                            .mat0 = e,
                            .row0 = zipped ? h : h * (rows / halves),
                            .step = zipped ? 2 : 1,
                            .turned = !gguf && r->is & FJ_IS_TURNED && cols > 1,
                            .pairs = gguf && r->is & FJ_IS_PAIRS,
                            .less_one = !gguf && r->is & FJ_IS_PLUS_ONE };
            if (r->is & FJ_IS_EXPERTS && !each) p->dim[p->n_dims++] = p->mats;
            p->dim[p->n_dims++] = p->turned ? p->cols : p->rows;
            if (!vector && r->cols != FJ_ONE) p->dim[p->n_dims++] = p->turned ? p->rows : p->cols;
        }
    return n;
}

int64_t fj_part_row(const fj_model *m, const fj_weight *w, const fj_part *p, int64_t i, int64_t r) {
    (void)m;
    int64_t all = w->row->rows == FJ_ONE ? w->cols : w->rows / w->mats;
    return (p->mat0 + i) * all + p->row0 + r * p->step;
}

bool fj_part_is_whole(const fj_weight *w, const fj_part *p) {
    return p->mats == w->mats && p->mats * p->rows * p->cols == w->rows * w->cols && p->step == 1 &&
           !p->turned && !p->pairs && !p->less_one;
}
