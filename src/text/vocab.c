/* vocab.c - spellings to ids: open addressing, 8 bytes for each place, the spellings stay where they are. */
#include "text/tok.h"

void fj_spell_init(fj_spell *s, const fj_bytes *v, size_t n) {
    uint64_t cap = 64;
    while (cap < n + n / 2) cap *= 2;
    *s = (fj_spell){ .slot = fj_zalloc(cap * sizeof *s->slot), .mask = cap - 1, .v = v };
}

static bool same(fj_bytes a, const char *p, size_t n) {
    return a.n == n && (n == 0 || memcmp(a.p, p, n) == 0);
}

int32_t fj_spell_put(fj_spell *s, int32_t i) {
    fj_bytes x = s->v[i];
    uint64_t h = fj_word_hash(x.p, x.n), k = h & s->mask, tag = h & 0xffffffff00000000u;
    for (; s->slot[k]; k = (k + 1) & s->mask) {
        int32_t old = (int32_t)(uint32_t)s->slot[k] - 1;
        if ((s->slot[k] & 0xffffffff00000000u) == tag && same(s->v[old], x.p, x.n)) return old;
    }
    s->slot[k] = tag | ((uint32_t)i + 1);
    return -1;
}

int32_t fj_spell_get(const fj_spell *s, const char *p, size_t n) {
    if (!s->slot) return -1;
    uint64_t h = fj_word_hash(p, n), tag = h & 0xffffffff00000000u;
    for (uint64_t k = h & s->mask; s->slot[k]; k = (k + 1) & s->mask) {
        int32_t i = (int32_t)(uint32_t)s->slot[k] - 1;
        if ((s->slot[k] & 0xffffffff00000000u) == tag && same(s->v[i], p, n)) return i;
    }
    return -1;
}

void fj_spell_free(fj_spell *s) {
    free(s->slot);
    *s = (fj_spell){ 0 };
}
