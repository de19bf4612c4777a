/* pre_names.c - the pre-tokenizers that GGUF knows by name (tokenizer.ggml.pre).
 *
 * The expressions are those of the models' own tokenizer.json; which name stands for which is a fact
 * of llama.cpp (src/llama-vocab.cpp).  Each step cuts what the step before it left. */
#include "text/tok.h"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define ENGLISH "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
#define SIGNS " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
#define SPACES "\\s+(?!\\S)|\\s+"
#define LINES "\\s*[\\r\\n]+|" SPACES
#define LLAMA3 ENGLISH "|" WORD "\\p{N}{1,3}|" SIGNS LINES
#define QWEN2 ENGLISH "|" WORD "\\p{N}|" SIGNS LINES
#define QWEN35                                                                                     \
    ENGLISH                                                                                        \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" LINES
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"
#define CASED_A "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+"
#define CASED_B "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]+[" LOWER "]*"
#define CASED_END " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" LINES
#define O200K CASED_A ENGLISH "?|" CASED_B ENGLISH "?|\\p{N}{1,3}|" CASED_END
#define NO_HAN "&&[^\\p{Han}]]"
#define KIMI                                                                                       \
    "[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?[" UPPER NO_HAN "*[" LOWER NO_HAN "+" ENGLISH               \
    "?|[^\\r\\n\\p{L}\\p{N}]?[" UPPER NO_HAN "+[" LOWER NO_HAN "*" ENGLISH                         \
    "?|\\p{N}{1,3}|" SIGNS LINES
#define ASCII_SIGN "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
#define DEEPSEEK3                                                                                  \
    ASCII_SIGN                                                                                     \
    "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|" LINES
#define HAN "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
#define KANA "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+"
#define BLOOM " ?[^(\\s|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"
const char fj_pre_gpt2[] = GPT2;

static const char deepseek_letters[] =
    "\\s?["
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}"
    "\\x{1c4}-\\x{293}\\x{295}-\\x{2af}\\x{370}-\\x{373}\\x{376}\\x{377}"
    "\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}"
    "\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}"
    "\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}"
    "\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"
    "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}"
    "\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}"
    "\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}"
    "\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}"
    "\\x{2115}\\x{2119}-\\x{211d}\\x{2124}\\x{2126}\\x{2128}\\x{212a}-\\x{212d}"
    "\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}"
    "\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}"
    "\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}"
    "\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}"
    "\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}\\x{1e900}-\\x{1e943}"
    "]+";

enum { NFC = 1, WHOLE = 2, BOS = 4, META = 8 };
typedef struct pre_name {
    const char *name;
    unsigned traits; /* what the models of this name do besides cutting */
    const char *step[6];
} pre_name;

#define DIGIT_GPT2                                                                                 \
    { "\\p{N}", GPT2 }
#define PLAIN                                                                                      \
    { GPT2 }

/* When steps are looked up, the first name that fits is taken. */
static const pre_name names[] = {
    { "gpt-2", 0, PLAIN },
    { "smollm", 0, DIGIT_GPT2 },
    { "llama-bpe", WHOLE | BOS, { LLAMA3 } },
    { "smaug-bpe", 0, { LLAMA3 } },
    { "qwen2", NFC, { QWEN2 } },
    { "stablelm2", 0, { QWEN2 } },
    { "qwen35", NFC, { QWEN35 } },
    { "tekken", WHOLE | BOS, { CASED_A "|" CASED_B "|\\p{N}|" CASED_END } },
    { "gpt-4o", 0, { O200K } },
    { "deepseek-llm",
      0,
      { "[\\r\\n]", deepseek_letters,
        "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
        "\\s+$", HAN, "\\p{N}+" } },
    { "deepseek-coder", 0, { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN, "\\p{N}" } },
    { "deepseek-v3", 0, { "\\p{N}{1,3}", KANA, DEEPSEEK3 } },
    { "falcon", 0, { "[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]" } },
    { "default", 0, { "[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]" } },
    { "bloom", 0, { BLOOM } },
    { "viking", 0, { BLOOM, "\\p{N}" } },
    { "kimi-k2", 0, { KIMI } },
    { "superbpe", 0, { "\\p{N}+", "(?=(\\d{3})+(?!\\d))" } },
    { "bailingmoe",
      0,
      { "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|"
        "\\s*[\\r\\n]|" SPACES } },
    { "seed-coder", 0, { ENGLISH "|" WORD "\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" LINES } },
    { "ufakzeka", 0, { WORD "\\p{N}|" SIGNS LINES } },
    { "laguna", 0, { "[^\\n]+|[\\n]+", QWEN2 } },
    { "exaone-moe",
      0,
      { ENGLISH "|[^\\r\\n\\p{L}\\p{N}]?(?:\\p{L}\\p{M}*(?: \\p{L}\\p{M}*)*)+|\\p{N}|"
                " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|\\s*[\\r\\n]|" SPACES } },
    { "minicpm5", WHOLE, { "\\p{N}{1,3}", ENGLISH "|" WORD "\\p{N}+|" SIGNS LINES } },
    { "spark2_5",
      0,
      { "\\p{N}{1,3}", KANA,
        ASCII_SIGN
        "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+|[\\r\\n]|" SPACES,
        "\\p{N}" } },
    { "youtu",
      WHOLE,
      { "[\\x{ac00}-\\x{d7a3}\\x{3131}-\\x{318e}]+|[\\x{ff01}\\x{2026}\\x{201c}\\x{201d}\\x{2018}\\x{2019}\\x{2014}"
        "\\x{ff1a}\\x{ff1b}\\x{ff0c}\\x{3001}-\\x{303f}\\x{fe30}-\\x{fe4f}]+|[\\x{3105}-\\x{312f}]+|" KANA,
        CASED_A ENGLISH "?|" CASED_B ENGLISH "?|\\p{N}|" CASED_END } },
    { "jais-2",
      0,
      { ENGLISH
        "|" WORD "\\p{N}{1,3}|" SIGNS
        "\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|\\s{128}(?!\\S)|\\s{64}(?!\\S)|"
        "\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}" } },
    { "tiny_aya", 0, { "\\d{1,3}(?=(?:\\d{3})*\\b)", O200K } },
    { "afmoe",
      0,
      { "\\p{N}{1,3}(?=(?:\\p{N}{3})*(?!\\p{N}))",
        "[\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{f900}-\\x{faff}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}"
        "\\x{ff65}-\\x{ff9f}\\x{2f00}-\\x{2fdf}\\x{e40}-\\x{e7f}\\x{e80}-\\x{eff}\\x{1780}-\\x{17ff}"
        "\\x{1000}-\\x{109f}\\x{aa60}-\\x{aa7f}\\x{a9e0}-\\x{a9ff}\\x{ac00}-\\x{d7af}\\x{1100}-\\x{11ff}]+",
        DEEPSEEK3 } },
    { "chameleon",
      BOS,
      { "<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )", "\\p{N}",
        "[\\p{P}!-/:-@\\[-`{-~]", GPT2 } },
    { "gemma4", META, { "[^\\n]+|[\\n]+" } },
    /* The same under other names: only for reading. */
    { "llama3", WHOLE | BOS, { LLAMA3 } },
    { "llama-v3", WHOLE | BOS, { LLAMA3 } },
    { "falcon3", WHOLE | BOS, { LLAMA3 } },
    { "falcon-h1", WHOLE | BOS, { LLAMA3 } },
    { "pixtral", WHOLE | BOS, { LLAMA3 } },
    { "midm-2.0", WHOLE | BOS, { LLAMA3 } },
    { "lfm2", WHOLE | BOS, { LLAMA3 } },
    { "jina-v5-nano", WHOLE | BOS, { LLAMA3 } },
    { "dbrx", 0, { LLAMA3 } },
    { "chatglm-bpe", 0, { LLAMA3 } },
    { "glm4", 0, { LLAMA3 } },
    { "llama4", 0, { O200K } },
    { "kanana2", 0, { O200K } },
    { "talkie", 0, { O200K } },
    { "minimax-m2", 0, { O200K } },
    { "granite-embed-multi-97m", WHOLE, { O200K } },
    { "cohere2moe", 0, { "\\d{1,3}(?=(?:\\d{3})*\\b)", O200K } },
    { "phi-2", 0, PLAIN },
    { "mpt", 0, PLAIN },
    { "olmo", 0, PLAIN },
    { "jais", 0, PLAIN },
    { "trillion", 0, PLAIN },
    { "granite-docling", 0, PLAIN },
    { "exaone4", 0, PLAIN },
    { "gigachat", 0, PLAIN },
    { "a.x-4.0", 0, PLAIN },
    { "mellum", 0, PLAIN },
    { "modern-bert", 0, PLAIN },
    { "jina-es", 0, PLAIN },
    { "jina-de", 0, PLAIN },
    { "jina-v2-es", 0, PLAIN },
    { "jina-v2-de", 0, PLAIN },
    { "jina-v1-en", 0, PLAIN },
    { "jina-v2-code", 0, PLAIN },
    { "roberta-bpe", 0, PLAIN },
    { "starcoder", 0, DIGIT_GPT2 },
    { "refact", 0, DIGIT_GPT2 },
    { "command-r", 0, DIGIT_GPT2 },
    { "codeshell", 0, DIGIT_GPT2 },
    { "exaone", 0, DIGIT_GPT2 },
    { "minerva-7b", 0, DIGIT_GPT2 },
    { "mellum2", 0, DIGIT_GPT2 },
    { "deepseek-r1-qwen", 0, { QWEN2 } },
    { "kormo", 0, { QWEN2 } },
    { "f2llmv2", 0, { QWEN2 } },
    { "megrez", 0, { QWEN2 } },
    { "hunyuan", 0, { QWEN2 } },
    { "solar-open", 0, { QWEN2 } },
    { "grok-2", 0, { QWEN2 } },
    { "hunyuan-dense", 0, { "\\p{N}{1,3}", KANA, DEEPSEEK3 } },
    { "joyai-llm", 0, { "\\p{N}{1,3}", KANA, DEEPSEEK3 } },
    { "hy_v4", 0, { "\\p{N}{1,3}", KANA, DEEPSEEK3 } },
    { "poro-chat", 0, { BLOOM } },
    { "gpt3-finnish", 0, { BLOOM } },
    { "bailingmoe2",
      0,
      { "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|"
        "\\s*[\\r\\n]|" SPACES } },
    { "llada-moe",
      0,
      { "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|"
        "\\s*[\\r\\n]|" SPACES } },
    { "granite-embed-multi-311m", META, { "[^\\n]+|[\\n]+" } },
    { "sarvam-moe", META, { "[^\\n]+|[\\n]+" } },
};

int fj_pre_by_name(const char *name, fj_tok_pre out[FJ_PRE_MAX], fj_pre_traits *traits) {
    for (size_t i = 0; i < FJ_LEN(names); i++) {
        if (strcmp(names[i].name, name) != 0) continue;
        int n = 0;
        for (; n < (int)FJ_LEN(names[i].step) && names[i].step[n]; n++)
            out[n] = (fj_tok_pre){ .kind = FJ_PRE_SPLIT,
                                   .regex = { names[i].step[n], strlen(names[i].step[n]) } };
        unsigned t = names[i].traits;
        *traits = (fj_pre_traits){ t & NFC, t & WHOLE, t & BOS, t & META };
        return n;
    }
    return -1;
}

static bool is_step(const fj_tok_pre *d, const char *step) {
    /* Digits, as tokenizer.json names them, are the same as the expression. */
    if (d->kind == FJ_PRE_CLASS && d->cls == FJ_CLS_NUMERIC && d->keep == FJ_KEEP_ISOLATED)
        return strcmp(step, "\\p{N}") == 0;
    return d->kind == FJ_PRE_SPLIT && !d->literal && !d->invert && d->keep == FJ_KEEP_ISOLATED &&
           d->regex.n == strlen(step) && memcmp(d->regex.p, step, d->regex.n) == 0;
}

const char *fj_pre_name(const fj_pre_step *pres, size_t n, const fj_pre_traits *traits) {
    for (size_t i = 0; i < FJ_LEN(names); i++) {
        const pre_name *p = &names[i];
        if (((p->traits & NFC) != 0) != traits->nfc ||
            ((p->traits & WHOLE) != 0) != traits->ignore_merges || p->traits & META)
            continue;
        size_t k = 0;
        while (k < n && k < FJ_LEN(p->step) && p->step[k] && is_step(&pres[k].d, p->step[k])) k++;
        if (k == n && (k == FJ_LEN(p->step) || !p->step[k])) return p->name;
    }
    return NULL;
}
