/* pre_names.c - the pre-tokenizers that GGUF knows by name (tokenizer.ggml.pre).
 *
 * The expressions are those of the models' own tokenizer.json; which name stands for which is a fact
 * of llama.cpp (src/llama-vocab.cpp).  Each step cuts what the step before it left. */
#include "text/tok.h"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define ENGLISH "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LLAMA3                                                                                     \
    ENGLISH                                                                                        \
    "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN2                                                                                      \
    ENGLISH                                                                                        \
    "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN35                                                                                     \
    ENGLISH                                                                                        \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CASED_A                                                                                    \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+"
#define CASED_B                                                                                    \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*"
#define CASED_END " ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define DEEPSEEK3                                                                                        \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|" \
    " ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define HAN "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"

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

typedef struct pre_name {
    const char *name;
    bool nfc, ignore_merges; /* what the models of this name do besides cutting */
    const char *step[6];
} pre_name;

/* When steps are looked up, the first name that fits is taken. */
static const pre_name names[] = {
    { "gpt-2", false, false, { GPT2 } },
    { "smollm", false, false, { "\\p{N}", GPT2 } },
    { "llama-bpe", false, true, { LLAMA3 } },
    { "smaug-bpe", false, false, { LLAMA3 } },
    { "qwen2", true, false, { QWEN2 } },
    { "stablelm2", false, false, { QWEN2 } },
    { "qwen35", true, false, { QWEN35 } },
    { "tekken", false, true, { CASED_A "|" CASED_B "|\\p{N}|" CASED_END } },
    { "gpt-4o", false, false, { CASED_A ENGLISH "?|" CASED_B ENGLISH "?|\\p{N}{1,3}|" CASED_END } },
    { "deepseek-llm",
      false,
      false,
      { "[\\r\\n]", deepseek_letters,
        "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
        "\\s+$", HAN, "\\p{N}+" } },
    { "deepseek-coder", false, false, { "[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", HAN, "\\p{N}" } },
    { "deepseek-v3",
      false,
      false,
      { "\\p{N}{1,3}", "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+",
        DEEPSEEK3 } },
    { "falcon", false, false, { "[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]" } },
    { "default",
      false,
      false,
      { "[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]" } },
    /* The same under other names: only for reading. */
    { "llama3", false, true, { LLAMA3 } },
    { "llama-v3", false, true, { LLAMA3 } },
    { "falcon3", false, true, { LLAMA3 } },
    { "falcon-h1", false, true, { LLAMA3 } },
    { "pixtral", false, true, { LLAMA3 } },
    { "lfm2", false, true, { LLAMA3 } },
    { "dbrx", false, false, { LLAMA3 } },
    { "llama4", false, false, { CASED_A ENGLISH "?|" CASED_B ENGLISH "?|\\p{N}{1,3}|" CASED_END } },
    { "phi-2", false, false, { GPT2 } },
    { "mpt", false, false, { GPT2 } },
    { "olmo", false, false, { GPT2 } },
    { "jais", false, false, { GPT2 } },
    { "starcoder", false, false, { "\\p{N}", GPT2 } },
    { "refact", false, false, { "\\p{N}", GPT2 } },
    { "command-r", false, false, { "\\p{N}", GPT2 } },
    { "codeshell", false, false, { "\\p{N}", GPT2 } },
    { "exaone", false, false, { "\\p{N}", GPT2 } },
    { "minerva-7b", false, false, { "\\p{N}", GPT2 } },
    { "deepseek-r1-qwen", false, false, { QWEN2 } },
    { "megrez", false, false, { QWEN2 } },
    { "hunyuan", false, false, { QWEN2 } },
};

int fj_pre_by_name(const char *name, fj_tok_pre out[FJ_PRE_MAX], bool *nfc, bool *ignore_merges) {
    for (size_t i = 0; i < FJ_LEN(names); i++) {
        if (strcmp(names[i].name, name) != 0) continue;
        int n = 0;
        for (; n < (int)FJ_LEN(names[i].step) && names[i].step[n]; n++)
            out[n] = (fj_tok_pre){ .kind = FJ_PRE_SPLIT,
                                   .regex = { names[i].step[n], strlen(names[i].step[n]) } };
        *nfc = names[i].nfc;
        *ignore_merges = names[i].ignore_merges;
        return n;
    }
    return -1;
}

const char *fj_pre_name(const fj_pre_step *pres, size_t n, bool nfc, bool ignore_merges) {
    for (size_t i = 0; i < FJ_LEN(names); i++) {
        const pre_name *p = &names[i];
        if (p->nfc != nfc || p->ignore_merges != ignore_merges) continue;
        size_t k = 0;
        for (; k < n && k < FJ_LEN(p->step) && p->step[k]; k++) {
            const fj_tok_pre *d = &pres[k].d;
            if (d->kind != FJ_PRE_SPLIT || d->literal || d->invert || d->keep != FJ_KEEP_ISOLATED ||
                d->regex.n != strlen(p->step[k]) || memcmp(d->regex.p, p->step[k], d->regex.n) != 0)
                break;
        }
        if (k == n && (k == FJ_LEN(p->step) || !p->step[k])) return p->name;
    }
    return NULL;
}
