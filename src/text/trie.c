/* trie.c - a trie of bytes whose edges are in one hash table: built as fast as it is read. */
#include "text/tok.h"

void fj_trie_init(fj_trie *t, size_t bytes) {
    uint64_t cap = 64;
    while (cap < bytes + bytes / 2) cap *= 2; /* an edge for each byte, at most */
    *t = (fj_trie){ .slot = fj_zalloc(cap * sizeof *t->slot), .mask = cap - 1, .n = 1 };
    t->value = fj_alloc((bytes + 1) * sizeof *t->value);
    t->value[0] = -1;
    memset(t->root, 0xff, sizeof t->root);
}

static int32_t grow(fj_trie *t, int32_t node, unsigned char b) {
    int32_t child = (int32_t)t->n++;
    t->value[child] = -1;
    if (!node) {
        t->root[b] = child;
        return child;
    }
    uint32_t key = ((uint32_t)node << 8 | b) + 1;
    uint64_t i = (key * 0x9e3779b97f4a7c15u >> 20) & t->mask;
    while (t->slot[i]) i = (i + 1) & t->mask;
    t->slot[i] = (uint64_t)key << 32 | (uint32_t)child;
    return child;
}

void fj_trie_put(fj_trie *t, const char *s, size_t n, int32_t value) {
    int32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        int32_t next = fj_trie_step(t, node, (unsigned char)s[i]);
        node = next >= 0 ? next : grow(t, node, (unsigned char)s[i]);
    }
    if (t->value[node] < 0) t->value[node] = value;
}

void fj_trie_free(fj_trie *t) {
    free(t->slot);
    free(t->value);
    *t = (fj_trie){ 0 };
}
