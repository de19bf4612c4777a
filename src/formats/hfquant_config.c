/* hfquant_config.c - quantization_config: what is quantised how, and nothing passed over in silence. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "formats/hf.h"
#include "formats/hfquant_in.h"

#include <pcre2.h>

enum { MAX_PATTERN = 4096 };

/* A key that is read here or changes no value of a weight; only: the values (as JSON) that it may have. */
typedef struct rule {
    const char *key, *only;
} rule;

static const rule bnb_keys[] = {
    { "quant_method", NULL },
    { "load_in_4bit", NULL }, /* the tensors say which of the two it is, and which code */
    { "load_in_8bit", NULL },
    { "_load_in_4bit", NULL },
    { "_load_in_8bit", NULL },
    { "bnb_4bit_quant_type", NULL },
    { "bnb_4bit_use_double_quant", NULL },
    { "bnb_4bit_compute_dtype", NULL },
    { "bnb_4bit_quant_storage", NULL },
    { "llm_int8_threshold", NULL },
    { "llm_int8_enable_fp32_cpu_offload", NULL },
    { "llm_int8_has_fp16_weight", "false|null" },
    { "llm_int8_skip_modules", NULL },
    { NULL, NULL },
};

/* How the codes were found, in which pieces, with which kernel they are computed. */
static const rule gptq_keys[] = {
    { "quant_method", NULL },
    { "method", "\"gptq\"|null" },
    { "bits", NULL },
    { "group_size", NULL },
    { "desc_act", NULL },
    { "checkpoint_format", NULL },
    { "format", NULL },
    { "sym", NULL },
    { "lm_head", NULL },
    { "meta", NULL },
    { "damp_percent", NULL },
    { "damp_auto_increment", NULL },
    { "true_sequential", NULL },
    { "static_groups", NULL },
    { "act_group_aware", NULL },
    { "mse", NULL },
    { "dataset", NULL },
    { "tokenizer", NULL },
    { "batch_size", NULL },
    { "model_seqlen", NULL },
    { "pad_token_id", NULL },
    { "block_name_to_quantize", NULL },
    { "module_name_preceding_first_block", NULL },
    { "modules_in_block_to_quantize", NULL },
    { "cache_block_outputs", NULL },
    { "model_name_or_path", NULL },
    { "model_file_base_name", NULL },
    { "use_cuda_fp16", NULL },
    { "use_exllama", NULL },
    { "disable_exllama", NULL },
    { "exllama_config", NULL },
    { "max_input_length", NULL },
    { "backend", NULL },
    { "parallel_packing", NULL },
    { "is_marlin_format", "false|null" },
    { "pack_dtype", "\"int32\"|null" },
    { "dynamic", "null|{}" },
    { "adapter", "null|{}" },
    { "rotation", "null" },
    { NULL, NULL },
};

static const rule awq_keys[] = {
    { "quant_method", NULL },
    { "bits", NULL },
    { "group_size", NULL },
    { "zero_point", "true" },
    { "version", "\"gemm\"|\"GEMM\"" },
    { "format", "\"gemm\"|null" },
    { "backend", "\"autoawq\"|\"auto\"|null" },
    { "do_fuse", NULL },
    { "modules_to_fuse", NULL },
    { "fuse_max_seq_len", NULL },
    { "exllama_config", NULL },
    { "modules_to_not_convert", NULL },
    { "sym", NULL },
    { "desc_act", "false|null" },
    { "meta", NULL },
    { NULL, NULL },
};

static const rule fp8_keys[] = {
    { "quant_method", NULL },
    { "activation_scheme", NULL },
    { "weight_block_size", NULL },
    { "fmt", "\"e4m3\"" },
    { "scale_fmt", "\"float\"|\"ue8m0\"|null" },
    { "expert_dtype", "\"fp8\"|null" },
    { "dequantize", NULL },
    { "modules_to_convert", NULL },
    { "modules_to_not_convert", NULL },
    { "ignored_layers", NULL },
    { NULL, NULL },
};

static const rule fbgemm_keys[] = {
    { "quant_method", NULL },
    { "activation_scale_ub", NULL },
    { "modules_to_not_convert", NULL },
    { NULL, NULL },
};

static const rule compressed_keys[] = {
    { "quant_method", NULL },
    { "config_groups", NULL },
    { "format", NULL },
    { "ignore", NULL },
    { "version", NULL },
    { "global_compression_ratio", NULL },
    { "run_compressed", NULL },
    { "quantization_status", "\"compressed\"|\"frozen\"" },
    { "kv_cache_scheme", "null" },
    { "moe_sparsity_config", "null" },
    { "transform_config", "null|{}" },
    { "sparsity_config", NULL },
    { NULL, NULL },
};

static const rule scheme_keys[] = {
    { "targets", NULL },
    { "weights", NULL },
    { "input_activations", NULL },
    { "format", NULL },
    { "output_activations", "null" },
    { NULL, NULL },
};

static const rule weights_keys[] = {
    { "num_bits", NULL },
    { "type", NULL },
    { "strategy", NULL },
    { "group_size", NULL },
    { "symmetric", NULL },
    { "block_structure", NULL },
    { "observer", NULL },
    { "observer_kwargs", NULL },
    { "scale_dtype", NULL },
    { "zp_dtype", NULL },
    { "dynamic", "false|null" },
    { "actorder", "false|null|\"static\"|\"weight\"" },
    { NULL, NULL },
};

static bool is_one_of(const json_t *v, const char *list) {
    char *text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    size_t n = text ? strlen(text) : 0;
    bool found = false;
    for (const char *p = list; text && p && !found; p = strchr(p, '|')) {
        p += *p == '|';
        found = !strncmp(p, text, n) && (p[n] == '|' || !p[n]);
    }
    free(text);
    return found;
}

/* where: "config.json: quantization_config", the object's place. */
static bool check_keys(const char *where, const json_t *o, const rule *rules, fj_err *e) {
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)o, key, v) {
        const rule *r = rules;
        while (r->key && strcmp(r->key, key) != 0) r++;
        if (!r->key)
            return fj_fail(e, FJ_EUNSUP,
                           "%s: key \"%s\" is not known; it may change the mathematics, so the "
                           "model is refused",
                           where, key);
        if (r->only && !is_one_of(v, r->only))
            return fj_fail(e, FJ_EUNSUP, "%s: \"%s\" is only supported as %s", where, key, r->only);
    }
    return true;
}

/* ---- lists of modules ------------------------------------------------------------------------------ */
static bool compile(fj_hfq_skip *s, const char *where, const char *text, fj_err *e) {
    int code = 0;
    PCRE2_SIZE at = 0;
    s->re =
        pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED, &code, &at, NULL);
    if (s->re) return true;
    char why[128] = "";
    pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    return fj_fail(e, FJ_EFORMAT, "%s: %s: \"%s\" is no expression: %s", where, s->key, s->pattern,
                   why);
}

/* As transformers (quantizers_utils.py, should_convert_module) and compressed_tensors (utils/match.py). */
static bool read_list(fj_hfq *q, const char *where, const json_t *quant, const char *key,
                      fj_err *e) {
    const json_t *list = fj_js_find(quant, key), *v;
    if (!list) return true;
    size_t n = json_array_size(list), i;
    if (!json_is_array(list))
        return fj_fail(e, FJ_EFORMAT, "%s: %s is %s, expected a list of names", where, key,
                       fj_json_kind(list));
    fj_hfq_skip *all = fj_arena_alloc(&q->mem, (q->n_skip + n + 1) * sizeof *all);
    if (q->n_skip) memcpy(all, q->skip, q->n_skip * sizeof *all);
    q->skip = all;
    json_array_foreach(list, i, v) {
        const char *name = json_string_value(v);
        if (!name || !*name || strlen(name) > MAX_PATTERN)
            return fj_fail(e, FJ_EFORMAT, "%s: %s has an entry that is not a name of 1 to %d bytes",
                           where, key, MAX_PATTERN);
        bool ct = q->method == FJ_HFQ_M_COMPRESSED, re = !strncmp(name, "re:", 3);
        fj_hfq_skip *s = &q->skip[q->n_skip++];
        *s = (fj_hfq_skip){ .pattern = fj_arena_strdup(&q->mem, name), .key = key, .suffix = !ct };
        if (ct && !re) continue;
        const char *text =
            ct ? s->pattern + 3
               : fj_arena_printf(&q->mem, "(?:%s)(?:(?<=\\.)|(?=\\.|$))", s->pattern);
        if (!compile(s, where, text, e)) return false;
    }
    return true;
}

/* ---- methods --------------------------------------------------------------------------------------- */
static bool read_group(fj_hfq *q, const char *where, const json_t *quant, fj_err *e) {
    int64_t bits = 0;
    q->group = 128;
    if (!fj_js_int(quant, where, "bits", &bits, e) ||
        !fj_js_int_opt(quant, where, "group_size", &q->group, e))
        return false;
    q->bits = (int)FJ_MIN(FJ_MAX(bits, 0), 99);
    if (q->group > 0 || q->group == -1) return true;
    return fj_fail(e, FJ_EFORMAT, "%s: group_size is %lld, expected -1 or a number from 1 on",
                   where, (long long)q->group);
}

static bool read_gptq(fj_hfq *q, const char *where, const json_t *quant, fj_err *e) {
    const char *format = NULL, *again = NULL;
    if (!read_group(q, where, quant, e) ||
        !fj_js_string_opt(quant, where, "checkpoint_format", &format, e) ||
        !fj_js_string_opt(quant, where, "format", &again, e) ||
        !fj_js_bool_opt(quant, where, "desc_act", &q->ordered, e))
        return false;
    if (!format) format = again ? again : "gptq";
    q->first = !strcmp(format, "gptq");
    if ((again && strcmp(format, again) != 0) || (!q->first && strcmp(format, "gptq_v2") != 0))
        return fj_fail(e, FJ_EUNSUP,
                       "%s: checkpoint_format %s%s%s is not supported, gptq and gptq_v2 are", where,
                       format, again ? " with format " : "", again ? again : "");
    if (q->bits == 3)
        return fj_fail(e, FJ_EUNSUP,
                       "%s: bits 3 is not supported: tools have packed its zero points "
                       "in two ways and the file does not say which; 2, 4 and 8 are",
                       where);
    return q->bits == 2 || q->bits == 4 || q->bits == 8 ||
           fj_fail(e, FJ_EUNSUP, "%s: bits %d is not supported, 2, 4 and 8 are", where, q->bits);
}

static bool read_awq(fj_hfq *q, const char *where, const json_t *quant, fj_err *e) {
    if (!read_group(q, where, quant, e)) return false;
    return q->bits == 4 ||
           fj_fail(e, FJ_EUNSUP, "%s: bits %d is not supported for AWQ, 4 is", where, q->bits);
}

static bool read_block(fj_hfq *q, const char *where, const json_t *o, const char *key, fj_err *e) {
    const json_t *b = fj_js_find(o, key);
    if (!b) return true;
    for (size_t i = 0; i < 2; i++) {
        const json_t *v = json_array_get(b, i);
        q->block[i] = json_is_integer(v) ? json_integer_value(v) : 0;
    }
    if (json_array_size(b) == 2 && q->block[0] > 0 && q->block[1] > 0) return true;
    return fj_fail(e, FJ_EFORMAT, "%s: %s is not a list of two numbers from 1 on", where, key);
}

typedef struct scheme {
    int64_t bits, group, block[2];
    bool is_float, symmetric, packed;
} scheme;

static bool read_strategy(fj_hfq *q, const char *where, const json_t *w, scheme *s, fj_err *e) {
    const char *strategy = NULL;
    if (!fj_js_int_opt(w, where, "group_size", &s->group, e) ||
        !fj_js_string_opt(w, where, "strategy", &strategy, e))
        return false;
    if (!strategy) strategy = s->group > 0 ? "group" : "channel";
    if (!strcmp(strategy, "block")) {
        if (!read_block(q, where, w, "block_structure", e)) return false;
        s->block[0] = q->block[0];
        s->block[1] = q->block[1];
        return s->block[0] || fj_fail(e, FJ_EFORMAT, "%s: block_structure is missing", where);
    }
    if (!strcmp(strategy, "group"))
        return s->group > 0 ||
               fj_fail(e, FJ_EFORMAT,
                       "%s: group_size is not a number from 1 on, which the strategy "
                       "group needs",
                       where);
    s->group = -1;
    return !strcmp(strategy, "channel") || !strcmp(strategy, "tensor") ||
           fj_fail(e, FJ_EUNSUP,
                   "%s: strategy %s is not supported, tensor, channel, group and block are", where,
                   strategy);
}

static bool read_scheme(fj_hfq *q, const char *where, const json_t *g, const char *format,
                        scheme *s, fj_err *e) {
    const json_t *w = fj_js_find(g, "weights");
    const char *type = "int";
    *s = (scheme){ .bits = 8, .group = -1, .symmetric = true };
    if (!json_is_object(g) || !json_is_object(w))
        return fj_fail(e, FJ_EUNSUP, "%s: expected an object with weights", where);
    if (!check_keys(where, g, scheme_keys, e) || !check_keys(where, w, weights_keys, e) ||
        !fj_js_string_opt(g, where, "format", &format, e) ||
        !fj_js_int_opt(w, where, "num_bits", &s->bits, e) ||
        !fj_js_string_opt(w, where, "type", &type, e) ||
        !fj_js_bool_opt(w, where, "symmetric", &s->symmetric, e) ||
        !read_strategy(q, where, w, s, e))
        return false;
    s->is_float = !strcmp(type, "float");
    s->packed = format && !strcmp(format, "pack-quantized");
    bool bytes = format && (!strcmp(format, "naive-quantized") ||
                            !strcmp(format, s->is_float ? "float-quantized" : "int-quantized"));
    bool whole =
        !strcmp(type, "int") && s->packed && (s->bits == 2 || s->bits == 4 || s->bits == 8);
    if (whole || (bytes && s->bits == 8 && s->symmetric && (s->is_float || !strcmp(type, "int"))))
        return true;
    return fj_fail(e, FJ_EUNSUP,
                   "%s: weights of type %s, %lld bits%s, in format %s are not supported: symmetric "
                   "ones of 8 bits in float-quantized, int-quantized and naive-quantized are, and "
                   "whole numbers of 2, 4 and 8 bits in pack-quantized",
                   where, type, (long long)s->bits, s->symmetric ? "" : ", not symmetric",
                   format ? format : "null");
}

static bool read_compressed(fj_hfq *q, const char *where, const json_t *quant, fj_err *e) {
    const json_t *groups = fj_js_find(quant, "config_groups");
    const char *format = NULL, *name, *dense = "dense";
    json_t *g;
    scheme one = { 0 }, s;
    int n = 0;
    if (!fj_js_string_opt(quant, where, "format", &format, e) ||
        !fj_js_string_opt(quant, where, "sparsity_config.format", &dense, e))
        return false;
    if (strcmp(dense, "dense") != 0)
        return fj_fail(e, FJ_EUNSUP, "%s: sparsity_config.format %s is not supported", where,
                       dense);
    if (!json_is_object(groups) || !json_object_size(groups))
        return fj_fail(e, FJ_EFORMAT, "%s: config_groups is not an object with groups", where);
    json_object_foreach((json_t *)(uintptr_t)groups, name, g) {
        const char *at = fj_arena_printf(&q->mem, "%s.config_groups.%s", where, name);
        if (!read_scheme(q, at, g, format, &s, e)) return false;
        if (n++ == 0) one = s;
        else if (s.bits != one.bits || s.group != one.group || s.block[0] != one.block[0] ||
                 s.block[1] != one.block[1] || s.is_float != one.is_float ||
                 s.symmetric != one.symmetric || s.packed != one.packed)
            return fj_fail(e, FJ_EUNSUP, "%s: groups with different weights are not supported", at);
    }
    q->bits = (int)one.bits;
    q->group = one.group;
    q->packed = one.packed;
    q->asymmetric = !one.symmetric;
    q->byte = one.packed ? NULL : one.is_float ? "F8_E4M3" : "I8";
    q->block[0] = one.block[0];
    q->block[1] = one.block[1];
    return true;
}

static const struct method {
    const char *name;
    fj_hfq_method method;
    const rule *keys;
    const char *lists[2];
} methods[] = {
    { "bitsandbytes", FJ_HFQ_M_BNB, bnb_keys, { "llm_int8_skip_modules" } },
    { "gptq", FJ_HFQ_M_GPTQ, gptq_keys, { NULL } },
    { "awq", FJ_HFQ_M_AWQ, awq_keys, { "modules_to_not_convert" } },
    { "fp8", FJ_HFQ_M_FP8, fp8_keys, { "modules_to_not_convert", "ignored_layers" } },
    { "fbgemm_fp8", FJ_HFQ_M_FBGEMM, fbgemm_keys, { "modules_to_not_convert" } },
    { "compressed-tensors", FJ_HFQ_M_COMPRESSED, compressed_keys, { "ignore" } },
};

static bool read_dtype(fj_hfq *q, const json_t *config, fj_err *e) {
    const char *type = NULL;
    if (!fj_js_string_opt(config, q->file, "torch_dtype", &type, e) ||
        !fj_js_string_opt(config, q->file, "dtype", &type, e))
        return false;
    q->memory = type && !strcmp(type, "float16")   ? FJ_F16
                : type && !strcmp(type, "float32") ? FJ_F32
                                                   : FJ_BF16;
    return true;
}

bool fj_hfq_parse(fj_hfq *q, const json_t *config, const json_t *quant, fj_err *e) {
    const char *where = fj_arena_printf(&q->mem, "%s: quantization_config", q->file), *name = NULL;
    const struct method *m = NULL;
    if (!json_is_object(quant))
        return fj_fail(e, FJ_EFORMAT, "%s is %s, expected an object", where, fj_json_kind(quant));
    if (!fj_js_string_opt(quant, where, "quant_method", &name, e)) return false;
    /* The first files of bitsandbytes do not name it. */
    if (!name && (json_is_true(json_object_get(quant, "load_in_4bit")) ||
                  json_is_true(json_object_get(quant, "load_in_8bit"))))
        name = "bitsandbytes";
    if (!name) return fj_fail(e, FJ_EFORMAT, "%s: quant_method is missing", where);
    if (!strcmp(name, "mxfp4")) return true;
    for (size_t i = 0; i < FJ_LEN(methods) && !m; i++)
        if (!strcmp(methods[i].name, name)) m = &methods[i];
    if (!m)
        return fj_fail(e, FJ_EUNSUP,
                       "%s: quant_method \"%s\" is not supported (bitsandbytes, gptq, awq, fp8, "
                       "fbgemm_fp8, compressed-tensors and mxfp4 are)",
                       where, name);
    q->name = m->name;
    q->method = m->method;
    bool ok = check_keys(where, quant, m->keys, e) && read_dtype(q, config, e);
    for (size_t i = 0; i < 2 && ok && m->lists[i]; i++)
        ok = read_list(q, where, quant, m->lists[i], e);
    if (!ok) return false;
    switch (q->method) {
    case FJ_HFQ_M_BNB: return true;
    case FJ_HFQ_M_GPTQ: return read_gptq(q, where, quant, e);
    case FJ_HFQ_M_AWQ: return read_awq(q, where, quant, e);
    case FJ_HFQ_M_FP8:
        q->byte = "F8_E4M3";
        return read_block(q, where, quant, "weight_block_size", e);
    case FJ_HFQ_M_FBGEMM: q->byte = "F8_E4M3"; return true;
    case FJ_HFQ_M_COMPRESSED: return read_compressed(q, where, quant, e);
    }
    return false;
}
