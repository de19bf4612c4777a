/* wordpiece.c - the longest piece at every place of a word, or "unknown" for the whole word. */
#include "text/tok.h"

void fj_wordpiece_word(const fj_tokenizer *t, const char *s, size_t n, fj_ids *ids) {
    size_t chars = 0, before = ids->n;
    for (size_t i = 0; i < n && chars <= t->max_chars; chars++) {
        size_t k = fj_utf8_len(s + i, n - i);
        i += k ? k : 1;
    }
    int32_t inside = 0; /* where pieces begin that continue a word; -1: there is none */
    for (size_t i = 0; i < t->cont.n && inside >= 0; i++)
        inside = fj_trie_step(&t->trie, inside, (unsigned char)t->cont.p[i]);
    bool ok = chars <= t->max_chars;
    for (size_t at = 0; ok && at < n;) {
        int32_t node = at ? inside : 0, id = -1;
        size_t end = at;
        for (size_t i = at; i < n && node >= 0;) {
            node = fj_trie_step(&t->trie, node, (unsigned char)s[i++]);
            if (node >= 0 && t->trie.value[node] >= 0) {
                id = t->trie.value[node];
                end = i;
            }
        }
        if (id < 0) ok = false;
        else fj_ids_push(ids, id);
        at = end;
    }
    if (ok) return;
    ids->n = before;
    fj_put_unknown(t, s, n, false, 0, ids);
}
