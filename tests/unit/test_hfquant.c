/* quantization_config and the tensors that it speaks of: what is right is found, everything else has a
 * sentence. */
#include "test_util.h"

#include "formats/hfquant.h"

/* ---- config ---------------------------------------------------------------------------------------- */
static bool open_config(const char *quant, fj_hfq **q, fj_err *e) {
    fj_str s = { 0 };
    fj_str_addf(&s, "{\"torch_dtype\":\"float32\",\"quantization_config\":%s}", quant);
    json_t *j = fj_json_parse(s.s, s.n, "config.json", e);
    if (!j) fail_msg("%s: %s", e->msg, s.s);
    bool ok = fj_hfq_open(j, "config.json", q, e);
    json_decref(j);
    fj_str_free(&s);
    return ok;
}

static fj_hfq *config(const char *quant) {
    fj_err e = { 0 };
    fj_hfq *q;
    FJ_OK_OR_FAIL(open_config(quant, &q, &e), e);
    return q;
}

#define CT(weights, more)                                                                          \
    "{\"quant_method\":\"compressed-tensors\",\"format\":\"pack-quantized\",\"config_groups\":{"   \
    "\"group_0\":{\"targets\":[\"Linear\"],\"weights\":{" weights "}}" more "}}"
#define BNB "{\"quant_method\":\"bitsandbytes\",\"load_in_4bit\":true}"
#define INT8 "{\"load_in_8bit\":true,\"llm_int8_skip_modules\":[\"lm_head\"]}"
#define GPTQ "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":16,\"desc_act\":true}"
#define AWQ "{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":16,\"version\":\"gemm\"}"
#define FP8 "{\"quant_method\":\"fp8\",\"weight_block_size\":[2,16]}"
#define FP8_ALL                                                                                    \
    "{\"quant_method\":\"fp8\",\"activation_scheme\":\"static\",\"modules_to_not_convert\":[\"y\"]}"
#define PACKED                                                                                         \
    CT("\"num_bits\":4,\"type\":\"int\",\"strategy\":\"group\",\"group_size\":16,\"symmetric\":false", \
       "")

static void test_config(void **state) {
    (void)state;
    static const char *const good[] = { BNB, INT8, GPTQ, AWQ, FP8, FP8_ALL, PACKED };
    static const char *const name[] = { "bitsandbytes", "bitsandbytes",      "gptq", "awq", "fp8",
                                        "fp8",          "compressed-tensors" };
    fj_hfq *q;
    fj_err e = { 0 };
    for (size_t i = 0; i < FJ_LEN(good); i++) {
        q = config(good[i]);
        assert_string_equal(fj_hfq_name(q), name[i]);
        fj_hfq_close(q);
    }
    assert_null(config("null"));
    assert_null(config("{\"quant_method\":\"mxfp4\",\"modules_to_not_convert\":[]}"));
    static const struct {
        const char *quant, *says;
    } bad[] = {
        { "7", "is an integer, expected an object" },
        { "{}", "quant_method is missing" },
        { "{\"quant_method\":4}", "quant_method is an integer, expected a string" },
        { "{\"quant_method\":\"hqq\"}", "quant_method \"hqq\" is not supported" },
        { "{\"quant_method\":\"bitsandbytes\",\"bnb_16bit\":1}",
          "config.json: quantization_config: key \"bnb_16bit\" is not known" },
        { "{\"load_in_8bit\":true,\"llm_int8_has_fp16_weight\":true}",
          "\"llm_int8_has_fp16_weight\" is only supported as false|null" },
        { "{\"load_in_8bit\":true,\"llm_int8_skip_modules\":\"lm_head\"}",
          "llm_int8_skip_modules is a string, expected a list" },
        { "{\"load_in_8bit\":true,\"llm_int8_skip_modules\":[3]}", "not a name of 1 to" },
        { "{\"load_in_8bit\":true,\"llm_int8_skip_modules\":[\"\"]}", "not a name of 1 to" },
        { "{\"load_in_8bit\":true,\"llm_int8_skip_modules\":[\"a(\"]}", "\"a(\" is no expression" },
        { "{\"quant_method\":\"gptq\",\"group_size\":16}", "bits (an integer) is missing" },
        { "{\"quant_method\":\"gptq\",\"bits\":3}", "bits 3 is not supported: tools have packed" },
        { "{\"quant_method\":\"gptq\",\"bits\":5}", "bits 5 is not supported, 2, 4 and 8 are" },
        { "{\"quant_method\":\"gptq\",\"bits\":-9223372036854775808}", "bits 0 is not supported" },
        { "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":0}", "group_size is 0, expected" },
        { "{\"quant_method\":\"gptq\",\"bits\":4,\"checkpoint_format\":\"marlin\"}",
          "checkpoint_format marlin is not supported" },
        { "{\"quant_method\":\"gptq\",\"bits\":4,\"checkpoint_format\":\"gptq\",\"format\":\"gptq_v2\"}",
          "checkpoint_format gptq with format gptq_v2" },
        { "{\"quant_method\":\"gptq\",\"bits\":4,\"desc_act\":1}", "desc_act is an integer" },
        { "{\"quant_method\":\"gptq\",\"bits\":4,\"dynamic\":{\"-:.*\":{}}}",
          "\"dynamic\" is only supported as null|{}" },
        { "{\"quant_method\":\"gptq\",\"bits\":4,\"is_marlin_format\":true}", "is_marlin_format" },
        { "{\"quant_method\":\"awq\",\"bits\":3}", "bits 3 is not supported for AWQ, 4 is" },
        { "{\"quant_method\":\"awq\",\"bits\":4,\"version\":\"gemv\"}", "\"version\" is only" },
        { "{\"quant_method\":\"awq\",\"bits\":4,\"zero_point\":false}", "\"zero_point\" is only" },
        { "{\"quant_method\":\"awq\",\"bits\":4,\"backend\":\"llm-awq\"}", "\"backend\" is only" },
        { "{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}", "\"fmt\" is only supported as \"e4m3\"" },
        { "{\"quant_method\":\"fp8\",\"expert_dtype\":\"fp4\"}", "\"expert_dtype\" is only" },
        { "{\"quant_method\":\"fp8\",\"weight_block_size\":[128]}",
          "weight_block_size is not a list of two numbers" },
        { "{\"quant_method\":\"fp8\",\"weight_block_size\":[128,0]}",
          "weight_block_size is not a list of two numbers" },
        { "{\"quant_method\":\"fbgemm_fp8\",\"kv\":1}", "key \"kv\" is not known" },
        { "{\"quant_method\":\"compressed-tensors\"}", "config_groups is not an object" },
        { "{\"quant_method\":\"compressed-tensors\",\"config_groups\":{}}",
          "config_groups is not" },
        { "{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"a\":{}}}",
          "config_groups.a: expected an object with weights" },
        { CT("\"num_bits\":4,\"colour\":1", ""), "key \"colour\" is not known" },
        { CT("\"num_bits\":3", ""), "weights of type int, 3 bits, in format pack-quantized" },
        { CT("\"num_bits\":8,\"type\":\"float\"", ""), "weights of type float, 8 bits" },
        { CT("\"num_bits\":4,\"dynamic\":true", ""), "\"dynamic\" is only" },
        { CT("\"num_bits\":4,\"actorder\":\"group\"", ""), "\"actorder\" is only" },
        { CT("\"num_bits\":4,\"strategy\":\"group\"", ""), "which the strategy group needs" },
        { CT("\"num_bits\":4,\"strategy\":\"block\"", ""), "block_structure is missing" },
        { CT("\"num_bits\":4,\"strategy\":\"token\"", ""), "strategy token is not supported" },
        { CT("\"num_bits\":4", ",\"b\":{\"weights\":{\"num_bits\":8}}"),
          "groups with different weights" },
        { CT("\"num_bits\":4", "},\"kv_cache_scheme\":{\"num_bits\":8"),
          "\"kv_cache_scheme\" is only" },
        { CT("\"num_bits\":4", "},\"sparsity_config\":{\"format\":\"sparse-24-bitmask\""),
          "sparsity_config.format sparse-24-bitmask" },
        { CT("\"num_bits\":4", "},\"transform_config\":{\"a\":1"), "\"transform_config\" is only" },
    };
    for (size_t i = 0; i < FJ_LEN(bad); i++)
        FJ_FAILS_WITH(open_config(bad[i].quant, &q, &e), e, bad[i].says);
}

/* ---- tensors --------------------------------------------------------------------------------------- */
typedef struct tensor {
    const char *name, *type; /* type NULL: it is not there */
    int n_dims;
    int64_t dim[3];
    const void *data; /* NULL: zeros */
} tensor;

enum { MOST = 16 };

/* The tensors of all with those of change (ended by a name NULL) in their places. */
static fj_st *store(const tensor *all, const tensor *change) {
    tensor t[MOST];
    size_t n = 0;
    for (; all[n].name; n++) t[n] = all[n];
    for (; change && change->name; change++) {
        size_t i = 0;
        while (i < n && strcmp(t[i].name, change->name) != 0) i++;
        t[i] = *change;
        n = FJ_MAX(n, i + 1);
    }
    fj_err e = { 0 };
    const char *path = fj_test_path("w.safetensors");
    fj_st_writer *w = fj_st_writer_open(path, &e);
    FJ_OK_OR_FAIL(w, e);
    size_t bytes[MOST], at[MOST], m = 0;
    for (size_t i = 0; i < n; i++) {
        if (!t[i].type) continue;
        static const char *const wide[] = { "I64", "F32", "I32",     "F16",    "BF16",
                                            "U8",  "I8",  "F8_E4M3", "F8_E5M2" };
        static const size_t size[] = { 8, 4, 4, 2, 2, 1, 1, 1, 1 };
        fj_st_writer_add(w, t[i].name, t[i].type, t[i].n_dims, t[i].dim);
        bytes[m] = 0;
        for (size_t k = 0; k < FJ_LEN(wide); k++)
            if (!strcmp(wide[k], t[i].type)) bytes[m] = size[k];
        assert_true(bytes[m] > 0);
        for (int k = 0; k < t[i].n_dims; k++) bytes[m] *= (size_t)t[i].dim[k];
        at[m++] = i;
    }
    for (int64_t i; (i = fj_st_writer_next(w)) >= 0;) {
        void *zeros = fj_zalloc(bytes[i]);
        fj_st_writer_data(w, t[at[i]].data ? t[at[i]].data : zeros, bytes[i]);
        free(zeros);
    }
    FJ_OK_OR_FAIL(fj_st_writer_close(w, &e), e);
    fj_st *s = fj_st_open(path, &e);
    FJ_OK_OR_FAIL(s, e);
    return s;
}

static void refused(const char *quant, const tensor *all, const tensor *change, const char *says) {
    fj_hfq *q = config(quant);
    fj_st *st = store(all, change);
    fj_hfq_weight w;
    fj_err e = { 0 };
    FJ_FAILS_WITH(fj_hfq_find(q, st, "x.weight", &w, &e), e, says);
    assert_int_equal(w.kind, FJ_HFQ_PLAIN);
    fj_st_close(st);
    fj_hfq_close(q);
}

/* Found with these values in the first row; all of its tensors are its own. */
static void found(const char *quant, const tensor *all, const tensor *change, int64_t rows,
                  int64_t cols, const float *first) {
    fj_hfq *q = config(quant);
    fj_st *st = store(all, change);
    fj_hfq_weight w;
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_hfq_find(q, st, "x.weight", &w, &e), e);
    assert_true(w.kind != FJ_HFQ_PLAIN && w.rows == rows && w.cols == cols);
    float *row = malloc((size_t)cols * sizeof *row);
    fj_hfq_rows(&w, 0, 1, row);
    for (int i = 0; i < 4; i++)
        if (row[i] != first[i])
            fail_msg("%s: value %d is %g, not %g", quant, i, (double)row[i], (double)first[i]);
    free(row);
    fj_arena mem = { 0 };
    for (size_t i = 0; i < st->n_tensors; i++) {
        const char *of = fj_hfq_owner(q, st, st->tensors[i].name, &mem);
        if (!of) fail_msg("%s belongs to no weight", st->tensors[i].name);
        assert_string_equal(of, "x.weight");
    }
    assert_null(fj_hfq_owner(q, st, "y.weight", &mem));
    assert_null(fj_hfq_owner(q, st, "x.bias", &mem));
    fj_arena_free(&mem);
    fj_st_close(st);
    fj_hfq_close(q);
}

#define T(name, type, n, ...)                                                                      \
    { "x" name, type, n, { __VA_ARGS__ }, NULL }
#define D(name, type, data, n, ...)                                                                \
    { "x" name, type, n, { __VA_ARGS__ }, data }
#define END                                                                                        \
    { NULL, NULL, 0, { 0 }, NULL }
#define WITH(...) ((const tensor[]){ __VA_ARGS__, END })
#define GONE(name)                                                                                 \
    { "x" name, NULL, 0, { 0 }, NULL }
#define TEXT(name, text)                                                                           \
    { "x" name, "U8", 1, { sizeof text - 1 }, text }

#define STATE(type, more)                                                                          \
    "{\"quant_type\":\"" type "\",\"blocksize\":64,\"dtype\":\"bfloat16\",\"shape\":[2,64]" more "}"
#define NF4_STATE ".weight.quant_state.bitsandbytes__nf4"

static const float *fp4_map(void) {
    static float map[16];
    static const float twelve[8] = { 0, 0.0625f, 8, 12, 4, 6, 2, 3 };
    for (int i = 0; i < 16; i++) map[i] = (i < 8 ? 1.0f : -1.0f) * twelve[i % 8] / 12.0f;
    return map;
}

static void test_bnb4(void **state) {
    (void)state;
    static const uint8_t codes[64] = { 0xf0, 0x8e };
    static const float absmax[2] = { 2, 1 };
    static const uint8_t small[2] = { 3, 0 };
    static float map[256] = { [3] = 0.5f };
    static const float nested[1] = { 3 };
    const tensor plain[] = { D(".weight", "U8", codes, 2, 64, 1),
                             D(".weight.absmax", "F32", absmax, 1, 2),
                             D(".weight.quant_map", "F32", fj_nf4_code, 1, 16),
                             TEXT(NF4_STATE, STATE("nf4", "")), END };
    const tensor twice[] = {
        D(".weight.absmax", "U8", small, 1, 2), D(".weight.nested_absmax", "F32", nested, 1, 1),
        D(".weight.nested_quant_map", "F32", map, 1, 256),
        TEXT(NF4_STATE, STATE("nf4", ",\"nested_blocksize\":256,\"nested_dtype\":"
                                     "\"float32\",\"nested_offset\":0.5")),
        END
    };
    const float first[4] = { 2 * fj_nf4_code[15], 2 * fj_nf4_code[0], 2 * fj_nf4_code[8],
                             2 * fj_nf4_code[14] };
    found(BNB, plain, NULL, 2, 64, first);
    found(BNB, plain, twice, 2, 64, first); /* 0.5 * 3 + 0.5 */
    found(BNB, plain, WITH(D(".weight", "BF16", codes, 2, 32, 1)), 2, 64, first);
    const float *fp4 = fp4_map();
    found(BNB, plain,
          WITH(GONE(NF4_STATE), TEXT(".weight.quant_state.bitsandbytes__fp4", STATE("fp4", "")),
               D(".weight.quant_map", "F32", fp4, 1, 16)),
          2, 64, (float[]){ 2 * fp4[15], 0, 0, 2 * fp4[14] });

    refused(BNB, plain, WITH(GONE(NF4_STATE)), "x has none of");
    refused(BNB, plain, WITH(GONE(NF4_STATE), GONE(".weight.absmax")), "x has none of");
    refused(BNB, plain, WITH(TEXT(".weight.quant_state.bitsandbytes__fp4", STATE("fp4", ""))),
            "x has both");
    refused(BNB, plain, WITH(T(NF4_STATE, "F32", 1, 20)), "expected U8");
    refused(BNB, plain, WITH(T(NF4_STATE, "U8", 1, 70000)), "at most 65536 are read");
    refused(BNB, plain, WITH(T(NF4_STATE, "U8", 1, 8)), "not valid JSON");
    refused(BNB, plain, WITH(TEXT(NF4_STATE, "[]")), "is a list, expected an object");
    refused(BNB, plain, WITH(TEXT(NF4_STATE, STATE("nf4", ",\"a\":1"))), "key \"a\" is not known");
    refused(BNB, plain, WITH(TEXT(NF4_STATE, STATE("fp4", ""))), "says that it is fp4");
    refused(BNB, plain, WITH(TEXT(NF4_STATE, STATE("int4", ""))), "quant_type int4");
    refused(BNB, plain, WITH(TEXT(NF4_STATE, STATE("nf4", ",\"nested_dtype\":\"float16\""))),
            "nested_dtype float16");
    refused(BNB, plain, WITH(TEXT(NF4_STATE, STATE("nf4", ",\"nested_offset\":\"1\""))),
            "nested_offset is a string");
    refused(BNB, plain, WITH(TEXT(NF4_STATE, STATE("nf4", ",\"nested_blocksize\":0"))),
            "nested_blocksize is not a number from 1 on");
    refused(BNB, plain,
            WITH(TEXT(NF4_STATE, "{\"quant_type\":\"nf4\",\"dtype\":\"float32\",\"shape\":"
                                 "[2,64]}")),
            "blocksize or nested_blocksize is not");
#define SHAPE(shape)                                                                               \
    "{\"quant_type\":\"nf4\",\"blocksize\":64,\"dtype\":\"float32\",\"shape\":" shape "}"
    refused(BNB, plain, WITH(TEXT(NF4_STATE, SHAPE("[128]"))), "shape is not two numbers");
    refused(BNB, plain, WITH(TEXT(NF4_STATE, SHAPE("[-2,-64]"))), "shape is not two numbers");
    refused(BNB, plain, WITH(TEXT(NF4_STATE, SHAPE("[2.0,64]"))), "shape is not two numbers");
    refused(BNB, plain, WITH(TEXT(NF4_STATE, SHAPE("[4294967296,4294967296]"))),
            "says 4294967296 x 4294967296 values of four bits");
    refused(BNB, plain, WITH(TEXT(NF4_STATE, SHAPE("[2,66]"))), "says 2 x 66 values of four bits");
    refused(BNB, plain, WITH(T(".weight.absmax", "F32", 1, 3)), "is F32 [3], expected F32 [2]");
    refused(BNB, plain, WITH(T(".weight.absmax", "U8", 1, 2)), "is U8 [2], expected F32 [2]");
    refused(BNB, plain, WITH(GONE(".weight.absmax")), "x.weight.absmax is missing");
    refused(BNB, plain, WITH(T(".weight.quant_map", "F32", 1, 16)),
            "has 0 for code 0, expected -1");
    refused(BNB, plain, WITH(T(".weight.quant_map", "F32", 1, 15)), "expected F32 [16]");
    refused(BNB, plain, WITH(twice[0], twice[2], T(".weight.nested_absmax", "F32", 1, 2)),
            "is F32 [2], expected F32 [1]");
    refused(BNB, plain, WITH(twice[0], twice[1], T(".weight.nested_quant_map", "F32", 1, 16)),
            "expected F32 [256]");
    refused(BNB, plain, WITH(twice[0], twice[1]), "nested_quant_map is missing");
    refused("{\"load_in_4bit\":true,\"llm_int8_skip_modules\":[\"x\"]}", plain, NULL,
            "the weight of x is quantised, but \"x\" in llm_int8_skip_modules of config.json");
}

static void test_nf4_range(void **state) {
    (void)state;
    static const float absmax[2] = { 65504, 65536 };
    const tensor plain[] = { T(".weight", "U8", 2, 64, 1), D(".weight.absmax", "F32", absmax, 1, 2),
                             D(".weight.quant_map", "F32", fj_nf4_code, 1, 16),
                             TEXT(NF4_STATE, STATE("nf4", "")), END };
    fj_hfq *q = config(BNB);
    fj_st *st = store(plain, NULL);
    fj_hfq_weight w;
    fj_nf4 row;
    fj_err e = { 0 };
    FJ_OK_OR_FAIL(fj_hfq_find(q, st, "x.weight", &w, &e), e);
    assert_int_equal(w.dtype, FJ_NF4);
    FJ_OK_OR_FAIL(fj_hfq_rows_nf4(&w, 0, 1, &row, &e), e);
    assert_int_equal(row.absmax, 0x7bff);
    FJ_FAILS_WITH(fj_hfq_rows_nf4(&w, 1, 1, &row, &e), e,
                  "the absmax of block 1, 65536, is too large");
    fj_st_close(st);
    fj_hfq_close(q);
}

static void test_int8(void **state) {
    (void)state;
    static const int8_t q[6] = { 127, -127, 1, 0, 5, 6 };
    static const float scb[1] = { 2 };
    static const uint8_t turing[1] = { 2 };
    const tensor w[] = { D(".weight", "I8", q, 2, 1, 6), D(".SCB", "F32", scb, 1, 1),
                         T(".weight_format", "U8", 0, 0), END };
    const float part = 1.0f / 127;
    found(INT8, w, NULL, 1, 6, (float[]){ 254 * part, -254 * part, 2 * part, 0 });
    found(INT8, w, WITH(GONE(".weight_format")), 1, 6,
          (float[]){ 254 * part, -254 * part, 2 * part, 0 });
    refused(INT8, w, WITH(GONE(".SCB")), "tensor x.SCB is missing");
    refused(INT8, w, WITH(T(".SCB", "F32", 1, 2)), "is F32 [2], expected F32 [1]");
    refused(INT8, w, WITH(T(".SCB", "F16", 1, 1)), "is F16 [1], expected F32 [1]");
    refused(INT8, w, WITH(T(".weight", "I8", 1, 6)), "has 1 dimensions");
    refused(INT8, w, WITH(T(".weight", "I8", 2, 0, 6)), "0 bytes, expected a matrix");
    refused(INT8, w, WITH(D(".weight_format", "U8", turing, 0, 0)), "only weights in rows");
    refused(INT8, w, WITH(T(".weight_format", "F32", 0, 0)), "only weights in rows");
}

static const int32_t groups[32] = { [0] = 1, [5] = 1, [31] = 1 };
static const int32_t wild[32] = { [7] = 2 }, negative[32] = { [7] = -1 };
static const float scales[16] = { 1, [8] = 0.5f };
static const uint32_t zeros[2] = { 0x77777777, 0xffffffff }, qwords[32] = { 0x4321 };

static void test_gptq(void **state) {
    (void)state;
    const tensor w[] = { D(".qweight", "I32", qwords, 2, 4, 8), D(".qzeros", "I32", zeros, 2, 2, 1),
                         D(".scales", "F32", scales, 2, 2, 8), D(".g_idx", "I32", groups, 1, 32),
                         END };
    /* Group 1 of column 0: 0xf + 1 is 0, and the word carries on. */
    found(GPTQ, w, NULL, 8, 32, (float[]){ 0.5f, 2 - 8, 3 - 8, 4 - 8 });
    found(
        "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":16,\"checkpoint_format\":\"gptq_v2\"}",
        w, WITH(GONE(".g_idx")), 8, 32, (float[]){ 1 - 7, 2 - 7, 3 - 7, 4 - 7 });
    refused(GPTQ, w, WITH(T(".weight", "F32", 2, 8, 32)), "both x.weight and x.qweight");
    refused(GPTQ, w, WITH(T(".qweight", "F32", 2, 4, 8)), "is F32 [4, 8], expected I32");
    refused(GPTQ, w, WITH(T(".qweight", "I32", 1, 32)), "has 1 dimensions");
    refused(GPTQ, w, WITH(T(".qweight", "I32", 2, 4, 9)), "expected whole words of 8 zero points");
    refused(GPTQ, w, WITH(T(".scales", "F32", 2, 3, 8)),
            "is F32 [3, 8], expected F16/BF16/F32 [2, 8]");
    refused(GPTQ, w, WITH(T(".scales", "I32", 2, 2, 8)), "expected F16/BF16/F32");
    refused(GPTQ, w, WITH(GONE(".scales")), "x.scales is missing");
    refused(GPTQ, w, WITH(T(".qzeros", "I32", 2, 2, 2)), "is I32 [2, 2], expected I32 [2, 1]");
    refused(GPTQ, w, WITH(GONE(".qzeros")), "x.qzeros is missing");
    refused(GPTQ, w, WITH(GONE(".g_idx")), "x.g_idx is missing"); /* desc_act */
    refused(GPTQ, w, WITH(T(".g_idx", "I32", 1, 31)), "is I32 [31], expected I32 [32]");
    refused(GPTQ, w, WITH(T(".g_idx", "I64", 1, 32)), "expected I32 [32]");
    refused(GPTQ, w, WITH(D(".g_idx", "I32", wild, 1, 32)), "value 7 is 2, there are 2 groups");
    refused(GPTQ, w, WITH(D(".g_idx", "I32", negative, 1, 32)), "value 7 is -1");
}

static void test_awq(void **state) {
    (void)state;
    /* Row i of qweight is column i of the weight; output 0 is the lowest nibble, output 1 the fifth. */
    const tensor w[] = { D(".qweight", "I32", qwords, 2, 32, 1),
                         D(".qzeros", "I32", zeros, 2, 2, 1), D(".scales", "F32", scales, 2, 2, 8),
                         END };
    found(AWQ, w, NULL, 8, 32, (float[]){ 1 - 7, -7, -7, -7 });
    refused(AWQ, w, WITH(T(".qweight", "I32", 2, 32, 2)), "expected F16/BF16/F32 [2, 16]");
    refused(AWQ, w, WITH(T(".qzeros", "I32", 2, 1, 1)), "expected I32 [2, 1]");
    refused(AWQ, w, WITH(GONE(".qzeros")), "x.qzeros is missing");
    refused("{\"quant_method\":\"awq\",\"bits\":4,\"group_size\":16,\"modules_to_not_convert\":"
            "[\"lm_head\",\"x\"]}",
            w, NULL, "\"x\" in modules_to_not_convert");
}

static void test_idle_bias(void **state) {
    (void)state;
    static const uint16_t some[2] = { 0, 1 };
    const tensor t[] = { T(".qweight", "I32", 2, 4, 8), T(".bias", "F16", 1, 2), END };
    fj_hfq *q = config(GPTQ), *other = config(FP8);
    fj_st *st = store(t, NULL);
    assert_true(fj_hfq_idle(q, st, "x.bias"));
    assert_false(fj_hfq_idle(q, st, "y.bias"));
    assert_false(fj_hfq_idle(q, st, "x.qweight"));
    assert_false(fj_hfq_idle(other, st, "x.bias"));
    assert_false(fj_hfq_idle(NULL, st, "x.bias"));
    fj_st_close(st);
    st = store(t, WITH(D(".bias", "F16", some, 1, 2)));
    assert_false(fj_hfq_idle(q, st, "x.bias"));
    fj_st_close(st);
    st = store(t, WITH(GONE(".qweight")));
    assert_false(fj_hfq_idle(q, st, "x.bias"));
    fj_st_close(st);
    fj_hfq_close(q);
    fj_hfq_close(other);
}

static void test_fp8(void **state) {
    (void)state;
    /* 1, 448, -2^-9, 1.125 */
    static const uint8_t q[60] = { 0x38, 0x7e, 0x81, 0x39 };
    static const float s[4] = { 2, 1, 1, 1 }, one[1] = { 0.5f }, rows[3] = { 4, 1, 1 };
    static const uint8_t point[1] = { 1 };
    const tensor w[] = { D(".weight", "F8_E4M3", q, 2, 3, 20),
                         D(".weight_scale_inv", "F32", s, 2, 2, 2), END };
    const float twice[4] = { 2, 896, -0x1p-8f, 2.25f };
    found(FP8, w, NULL, 3, 20, twice);
    found(FP8, w, WITH(GONE(".weight_scale_inv"), D(".weight_scale", "F32", s, 2, 2, 2)), 3, 20,
          twice);
    found(FP8_ALL, w,
          WITH(D(".weight_scale_inv", "F32", one, 0, 0), T(".input_scale", "F32", 0, 0)), 3, 20,
          (float[]){ 0.5f, 224, -0x1p-10f, 0.5625f });
    found(FP8_ALL, w, WITH(D(".weight_scale_inv", "F32", rows, 2, 3, 1)), 3, 20,
          (float[]){ 4, 1792, -0x1p-7f, 4.5f });
    found(FP8_ALL, w, WITH(D(".weight_scale_inv", "F32", rows, 1, 3)), 3, 20,
          (float[]){ 4, 1792, -0x1p-7f, 4.5f });
    refused(FP8, w, WITH(T(".weight", "F8_E5M2", 2, 3, 20)),
            "is F8_E5M2, quantization_config says");
    refused(FP8, w, WITH(T(".weight", "I8", 2, 3, 20)), "is I8, quantization_config says F8_E4M3");
    refused(FP8, w, WITH(T(".weight", "F8_E4M3", 3, 3, 4, 5)), "has 3 dimensions");
    refused(FP8, w, WITH(GONE(".weight_scale_inv")), "x.weight_scale_inv is missing");
    refused(FP8, w, WITH(T(".weight_scale", "F32", 2, 2, 2)),
            "both weight_scale and weight_scale_inv");
    refused(FP8, w, WITH(T(".weight_scale_inv", "F32", 2, 2, 1)),
            "is [2, 1], expected [2, 2] for a");
    refused(FP8, w, WITH(T(".weight_scale_inv", "F32", 0, 0)), "is [], expected [2, 2]");
    refused(FP8, w, WITH(T(".weight_scale_inv", "U8", 2, 2, 2)), "expected F32/BF16/F16/F8_E8M0");
    refused(FP8_ALL, w, NULL, "is [2, 2], expected [3, 1] or one value");
    refused(FP8, w, WITH(D(".weight_zero_point", "F8_E4M3", point, 1, 1)), "is not all zero");
}

static void test_compressed(void **state) {
    (void)state;
    static const uint32_t q[12] = { 0x4321, [4] = 0 }, points[4] = { 0xa };
    static const int64_t shape[2] = { 3, 20 }, flat[2] = { 3, 28 }, none[2] = { 3, -4 };
    static const float s[6] = { 2, 1 };
    const tensor w[] = { D(".weight_packed", "I32", q, 2, 3, 3),
                         D(".weight_shape", "I64", shape, 1, 2),
                         D(".weight_scale", "F32", s, 2, 3, 2),
                         D(".weight_zero_point", "I32", points, 2, 1, 2), END };
    static const char symmetric[] =
        CT("\"num_bits\":4,\"type\":\"int\",\"strategy\":\"group\",\"group_size\":16", "");
    found(PACKED, w, NULL, 3, 20, (float[]){ -18, -16, -14, -12 });
    found(symmetric, w, WITH(GONE(".weight_zero_point")), 3, 20, (float[]){ -14, -12, -10, -8 });
    refused(symmetric, w, NULL, "is not all zero");
    refused(PACKED, w, WITH(GONE(".weight_zero_point")), "x.weight_zero_point is missing");
    refused(PACKED, w, WITH(T(".weight_zero_point", "I32", 2, 2, 2)), "expected I32 [1, 2]");
    refused(PACKED, w, WITH(GONE(".weight_scale")), "x.weight_scale is missing");
    refused(PACKED, w, WITH(T(".weight_scale", "F32", 2, 3, 1)), "is [3, 1], expected [3, 2]");
    refused(PACKED, w, WITH(GONE(".weight_shape")), "x.weight_shape is missing");
    refused(PACKED, w, WITH(D(".weight_shape", "I64", flat, 1, 2)), "says 3 x 28");
    refused(PACKED, w, WITH(D(".weight_shape", "I64", none, 1, 2)), "says 3 x -4");
    refused(PACKED, w, WITH(T(".weight_shape", "I64", 1, 3)), "expected I64/I32 [2]");
    refused(PACKED, w, WITH(T(".weight_packed", "I32", 2, 4, 3)), "has 4 rows of 3 words");
    refused(PACKED, w, WITH(T(".weight_packed", "U8", 2, 3, 3)), "expected I32");
    refused(PACKED, w, WITH(T(".weight", "F32", 2, 3, 20)), "both x.weight and x.weight_packed");
    refused(CT("\"num_bits\":4,\"strategy\":\"tensor\",\"symmetric\":false", ""), w,
            WITH(T(".weight_scale", "F32", 1, 1)), "has zero points and one scale");
    refused(PACKED, w, WITH(GONE(".weight_packed"), T(".weight", "I8", 2, 3, 20)),
            "is I8, quantization_config says words of codes");
}

/* Lists of modules, as transformers and compressed_tensors compare them. */
static void test_lists(void **state) {
    (void)state;
    static const int8_t one[1] = { 1 };
    static const struct {
        const char *list, *module;
        bool listed, ct;
    } cases[] = {
        { "a.b", "a.b", true, false },
        { "a.b", "a.b.c", true, false },
        { "a.b", "a.bc", false, false },
        { "b", "a.b", true, false },
        { "b", "a.b.c", false, false },
        { "a.*.c", "a.7.c", true, false },
        { "a.b|z", "z.y", true, false },
        { "(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b", false, false },
        { "a.b", "a.b", true, true },
        { "b", "a.b", false, true },
        { "a", "a.b", false, true },
        { "re:.*b$", "a.b", true, true },
        { "re:b", "a.b", false, true },
        { "re:a", "a.b", true, true },
    };
    for (size_t i = 0; i < FJ_LEN(cases); i++) {
        char quant[512], w[128], s[128];
        if (cases[i].ct)
            snprintf(
                quant, sizeof quant,
                "{\"quant_method\":\"compressed-tensors\",\"format\":\"int-quantized\",\"ignore\":"
                "[\"%s\"],\"config_groups\":{\"g\":{\"weights\":{\"num_bits\":8}}}}",
                cases[i].list);
        else
            snprintf(quant, sizeof quant,
                     "{\"load_in_8bit\":true,\"llm_int8_skip_modules\":[\"%s\"]}", cases[i].list);
        snprintf(w, sizeof w, "%s.weight", cases[i].module);
        snprintf(s, sizeof s, "%s.%s", cases[i].module, cases[i].ct ? "weight_scale" : "SCB");
        const tensor t[] = { { w, "I8", 2, { 1, 1 }, one }, { s, "F32", 1, { 1 }, NULL }, END };
        fj_hfq *q = config(quant);
        fj_st *st = store(t, NULL);
        fj_hfq_weight found;
        fj_err e = { 0 };
        bool ok = fj_hfq_find(q, st, w, &found, &e);
        if (ok == cases[i].listed)
            fail_msg("%s in a list of %s: %s", cases[i].module, cases[i].list,
                     ok ? "found" : e.msg);
        fj_st_close(st);
        fj_hfq_close(q);
    }
}

static void test_plain(void **state) {
    (void)state;
    static const char *const configs[] = { BNB, GPTQ, AWQ, FP8, PACKED };
    const tensor t[] = { T(".weight", "F16", 2, 3, 20), END };
    fj_st *st = store(t, NULL);
    fj_hfq_weight w;
    fj_err e = { 0 };
    static const char *const names[] = {
        "x.weight", "y.weight", "x.bias", ".weight", "weight", ""
    };
    for (size_t i = 0; i < FJ_LEN(configs); i++) {
        fj_hfq *q = config(configs[i]);
        for (size_t k = 0; k < FJ_LEN(names); k++) {
            FJ_OK_OR_FAIL(fj_hfq_find(q, st, names[k], &w, &e), e);
            assert_int_equal(w.kind, FJ_HFQ_PLAIN);
        }
        fj_hfq_close(q);
    }
    FJ_OK_OR_FAIL(fj_hfq_find(NULL, st, "x.weight", &w, &e), e);
    assert_int_equal(w.kind, FJ_HFQ_PLAIN);
    fj_arena mem = { 0 };
    assert_null(fj_hfq_owner(NULL, st, "x.weight", &mem));
    fj_arena_free(&mem);
    fj_st_close(st);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config),     cmocka_unit_test(test_bnb4),
        cmocka_unit_test(test_nf4_range),  cmocka_unit_test(test_int8),
        cmocka_unit_test(test_gptq),       cmocka_unit_test(test_awq),
        cmocka_unit_test(test_idle_bias),  cmocka_unit_test(test_fp8),
        cmocka_unit_test(test_compressed), cmocka_unit_test(test_lists),
        cmocka_unit_test(test_plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
