/* cmd_inspect.c - prints the description that inspect.c makes. */
#include "cli/inspect.h"
#include "cli/opt.h"
#include "cli/term.h"

typedef struct opts {
    bool tensors, metadata, json;
} opts;
static const opts defaults = { 0 };
static const fj_opt table[] = {
    { .name = "tensors",
      .letter = 't',
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, tensors),
      .help = "list every tensor: name, format, shape (rows first), bytes" },
    { .name = "metadata",
      .letter = 'm',
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, metadata),
      .help = "list every key of a GGUF file" },
    { .name = "json",
      .kind = FJ_OPT_FLAG,
      .at = offsetof(opts, json),
      .help = "one JSON object; tensors and metadata only where asked for" },
    { 0 },
};

static void value_text(const json_t *v, fj_str *out) {
    fj_str_addn(out, "", 0);
    if (json_is_string(v)) {
        fj_put_text(out, json_string_value(v), json_string_length(v), false);
        return;
    }
    if (json_is_object(v) && json_object_get(v, "list_of")) {
        fj_str_addf(out,
                    "%lld of %s: ", (long long)json_integer_value(json_object_get(v, "length")),
                    json_string_value(json_object_get(v, "list_of")));
        v = json_object_get(v, "first");
    }
    char *s = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(7));
    if (s) fj_put_text(out, s, strlen(s), false);
    free(s);
}

static void section(const json_t *doc, const char *key, const char *title) {
    const json_t *o = json_object_get(doc, key);
    if (!json_object_size(o)) return;
    fj_table t;
    const char *name;
    json_t *v;
    fj_table_open(&t, 2, "", "");
    json_object_foreach((json_t *)o, name, v) {
        fj_str k = { 0 }, s = { 0 };
        fj_put_text(&k, name, strlen(name), false);
        value_text(v, &s);
        fj_table_row(&t, k.s, s.s);
        fj_str_free(&k);
        fj_str_free(&s);
    }
    printf("\n%s\n", title);
    fj_table_print(&t, stdout, 2);
}

static void total_row(fj_table *t, const char *name, const json_t *o, double all) {
    fj_str n = { 0 }, p = { 0 }, b = { 0 }, share = { 0 };
    double bytes = (double)json_integer_value(json_object_get(o, "bytes"));
    fj_str_addf(&n, "%lld", (long long)json_integer_value(json_object_get(o, "tensors")));
    fj_str_addf(&p, "%lld", (long long)json_integer_value(json_object_get(o, "parameters")));
    fj_put_bytes(&b, bytes);
    fj_str_addf(&share, "%.1f%%", all > 0 ? 100 * bytes / all : 0.0);
    fj_table_row(t, name, n.s, p.s, b.s, share.s);
    fj_str_free(&n);
    fj_str_free(&p);
    fj_str_free(&b);
    fj_str_free(&share);
}

static void totals(const json_t *doc) {
    const json_t *o = json_object_get(doc, "totals"), *list = json_object_get(o, "formats");
    if (!json_array_size(list)) return;
    fj_table t;
    fj_table_open(&t, 5, "format", ">tensors", ">parameters", ">size", ">share");
    double all = (double)json_integer_value(json_object_get(o, "bytes"));
    size_t i;
    json_t *f;
    json_array_foreach(list, i, f) {
        fj_str name = { 0 };
        value_text(json_object_get(f, "format"), &name);
        total_row(&t, name.s, f, all);
        fj_str_free(&name);
    }
    total_row(&t, "all", o, all);
    printf("\nweights: %.4g bits each\n", json_real_value(json_object_get(o, "bits_per_weight")));
    fj_table_print(&t, stdout, 2);
}

static void tensors(const json_t *doc) {
    fj_table t;
    fj_table_open(&t, 4, "tensor", "format", "shape", ">bytes");
    size_t i, d;
    json_t *x, *n;
    json_array_foreach(json_object_get(doc, "tensors"), i, x) {
        fj_str name = { 0 }, format = { 0 }, shape = { 0 }, bytes = { 0 };
        value_text(json_object_get(x, "name"), &name);
        value_text(json_object_get(x, "format"), &format);
        value_text(json_object_get(x, "bytes"), &bytes);
        fj_str_addn(&shape, "", 0);
        json_array_foreach(json_object_get(x, "shape"), d, n)
            fj_str_addf(&shape, "%s%lld", d ? " x " : "", (long long)json_integer_value(n));
        fj_table_row(&t, name.s, format.s, shape.s, bytes.s);
        fj_str_free(&name);
        fj_str_free(&format);
        fj_str_free(&shape);
        fj_str_free(&bytes);
    }
    putchar('\n');
    fj_table_print(&t, stdout, 0);
}

static void head(const json_t *doc) {
    static const char *const keys[] = { "path",         "kind", "gguf_version",
                                        "architecture", "name", "base" };
    fj_table t;
    fj_table_open(&t, 2, "", "");
    for (size_t i = 0; i < FJ_LEN(keys); i++) {
        const json_t *v = json_object_get(doc, keys[i]);
        if (!v) continue;
        fj_str s = { 0 };
        value_text(v, &s);
        fj_table_row(&t, !strcmp(keys[i], "gguf_version") ? "version" : keys[i], s.s);
        fj_str_free(&s);
    }
    fj_str s = { 0 };
    size_t files = json_array_size(json_object_get(doc, "files"));
    fj_put_bytes(&s, (double)json_integer_value(json_object_get(doc, "size_bytes")));
    if (files > 1) fj_str_addf(&s, " in %zu files", files);
    if (json_object_get(doc, "size_bytes")) fj_table_row(&t, "size", s.s);
    fj_str_free(&s);
    fj_table_print(&t, stdout, 0);
}

static int run(fj_call *c) {
    const opts *o = c->opts;
    fj_err e = { 0 };
    json_t *doc = fj_inspect(c->args[0], &e);
    if (!doc) return fj_term_fail(c->term, &e);
    if (o->json) {
        if (!o->tensors) json_object_del(doc, "tensors");
        if (!o->metadata) json_object_del(doc, "metadata");
        fj_print_json(doc);
        return FJ_EXIT_OK;
    }
    head(doc);
    section(doc, "hyper_parameters", "hyper-parameters");
    section(doc, "adapter", "adapter");
    section(doc, "checkpoint", "checkpoint");
    section(doc, "tokenizer", "tokenizer");
    section(doc, "generation", "generation");
    totals(doc);
    if (o->metadata) section(doc, "metadata", "metadata");
    if (o->tensors) tensors(doc);
    json_decref(doc);
    return FJ_EXIT_OK;
}

const fj_cmd fj_cmd_inspect = {
    .name = "inspect",
    .args = "FILE|DIR",
    .summary = "Say what a model, an adapter or a file of weights is.",
    .manual =
        "Reads GGUF models, vocabularies and adapters, safetensors files and their indexes, Hugging\n"
        "Face model folders and PEFT adapter folders. Weights are not touched.\n\n"
        "  forja inspect model.gguf --tensors\n"
        "  forja inspect run/adapter --json",
    .opts = table,
    .size = sizeof(opts),
    .defaults = &defaults,
    .min_args = 1,
    .max_args = 1,
    .run = run,
};
