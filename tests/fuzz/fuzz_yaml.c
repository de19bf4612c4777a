/* YAML from anyone: the tree is walked with aliases followed, which its limits keep short. */
#include "base/mem.h"
#include "formats/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static uint64_t walk(const fj_yaml *y) {
    fj_err e = { 0 };
    int64_t l;
    double x;
    bool b;
    const char *s;
    uint64_t sum = 1;
    FJ_ASSERT(y->line >= 1 && y->col >= 1);
    if (!fj_yaml_int(y, "x", &l, &e)) FJ_ASSERT(e.msg[0]);
    if (!fj_yaml_float(y, "x", &x, &e)) FJ_ASSERT(e.msg[0]);
    if (!fj_yaml_bool(y, "x", &b, &e)) FJ_ASSERT(e.msg[0]);
    if (fj_yaml_string(y, "x", &s, &e)) FJ_ASSERT(strlen(s) <= 1 << 20);
    for (size_t i = 0; i < y->n; i++) {
        if (y->kind == FJ_YAML_MAP) {
            FJ_ASSERT(y->n > 1000 || fj_yaml_get(y, y->key[i]->text) == y->item[i]);
            sum++;
        }
        sum += walk(y->item[i]);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    fj_err e = { 0 };
    fj_yaml_doc d;
    if (!fj_yaml_parse(&d, (const char *)data, n, "fuzz", &e)) {
        FJ_ASSERT(e.code != FJ_OK && e.msg[0]); /* no failure without a sentence */
        return 0;
    }
    FJ_ASSERT(walk(d.root) == d.root->weight && d.root->weight <= 100000);
    fj_yaml_close(&d);
    return 0;
}
