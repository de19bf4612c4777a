/* modelsdoc.c - docs/models.md: the architectures of models.def with what their tests measured.
 *
 *     FORJA_RESULTS=FILE test_archs; forja-modelsdoc FILE >docs/models.md      (tools/models-doc.sh)
 * A line of FILE: "model_type case kind value", kind of any number of words. */
#include "models/arch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct worst {
    double logits, loss, full, lora;
    int cached; /* cases whose cached decode had the bits of the whole pass */
} worst;

static void take(worst *w, const char *kind, double v) {
    double *to = strstr(kind, "loss")                      ? &w->loss
                 : !strncmp(kind, "gradients", 9)          ? &w->full
                 : !strncmp(kind, "adapter gradients", 17) ? &w->lora
                                                           : &w->logits;
    if (!strcmp(kind, "cached decode")) w->cached++;
    else if (v > *to) *to = v;
}

static bool read_results(const char *path, const fj_arch *a, worst *w) {
    FILE *f = fopen(path, "r");
    char line[512];
    if (!f) return false;
    while (fgets(line, sizeof line, f)) {
        char *type = strtok(line, " "), *name = strtok(NULL, " "), *rest = strtok(NULL, "\n");
        char *last = rest ? strrchr(rest, ' ') : NULL;
        if (!name || !last || strcmp(type, a->hf_type)) continue;
        *last = 0;
        take(w, rest, strtod(last + 1, NULL));
    }
    fclose(f);
    return true;
}

static const char head[] =
    "# Models\n\n"
    "Made by `tools/models-doc.sh` from `src/models/models.def` and the results of `test_archs` (tests/golden): tiny random\n"
    "models of every architecture, made by transformers, read from safetensors and from GGUF. Numbers are the largest differences\n"
    "over all cases of the architecture: logits absolute, losses and gradients relative (gradients to the norm of each tensor).\n"
    "Trained: full, and LoRA as PEFT has it. Served: decoding through the cache has the bits of one pass over the whole text.\n\n"
    "| model_type | GGUF | models | features | logits | loss | full gradients | LoRA gradients | served |\n"
    "|---|---|---|---|---|---|---|---|---|\n";

static const char foot[] =
    "\nAll of them: rotary positions plain, linear, dynamic, llama3, YaRN, LongRoPE, of a part of each head; tied and untied heads;\n"
    "weights in every format of GGUF and of the quantised folders in use. A key of `config.json`, an architecture, a tensor or a rope scaling that is not known is\n"
    "refused by its name.\n\n"
    "## What GGUF cannot say\n"
    "- Dynamic rope scaling; YaRN with unrounded bounds (but for gpt-oss, whose definition they are); SmolLM3 with other layers\n"
    "  without rotary positions than every fourth; Qwen3-MoE with layers without experts or `norm_topk_prob: false`; another `swiglu_limit`\n"
    "  or `swiglu_alpha` than gpt-oss has. Saving such a model as GGUF is refused; a Hugging Face folder says it all.\n"
    "- Sliding windows are written (`attention.sliding_window`, and `attention.sliding_window_pattern` where the layers are not the\n"
    "  usual ones), and read back. Other readers may look for them in Gemma and gpt-oss files only: for Mistral, Qwen2, Qwen3 and Phi-3 check that yours\n"
    "  does, or keep the context within the window.\n"
    "\n"
    "## Adapters\n"
    "`target_modules` of a recipe are last parts of module paths (`q_proj`, `qkv_proj`, `c_attn`); `all-linear` is every linear layer but the\n"
    "head. Experts are `gate_up_proj` and `down_proj`, routers `gate` or `router`; PEFT calls them `target_parameters`, and forja\n"
    "writes them so. They take no `lora_dropout`.\n";

int main(int argc, char **argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: forja-modelsdoc RESULTS\n");
        return 2;
    }
    fputs(head, stdout);
    for (int i = 0; fj_archs[i]; i++) {
        const fj_arch *a = fj_archs[i];
        worst w = { 0 };
        if (!read_results(argv[1], a, &w)) {
            fprintf(stderr, "%s cannot be read\n", argv[1]);
            return 1;
        }
        if (!w.cached) {
            fprintf(stderr, "%s has no results of %s\n", argv[1], a->hf_type);
            return 1;
        }
        fj_str s = { 0 };
        fj_arch_features(a, &s);
        printf("| `%s` | `%s` | %s | %s | %.0e | %.0e | %.0e | %.0e | same bits |\n", a->hf_type,
               a->name, a->families, s.s, w.logits, w.loss, w.full, w.lora);
        fj_str_free(&s);
    }
    fputs(foot, stdout);
    return 0;
}
