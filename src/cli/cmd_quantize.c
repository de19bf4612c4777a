/* cmd_quantize.c - a model as a smaller GGUF file, with the error of every tensor and of the whole. */
#include "cli/export_opts.h"

static const fj_export_cli defaults = FJ_EXPORT_CLI_DEFAULTS;
static const fj_opt table[] = { FJ_EXPORT_ROWS(0), { 0 } };

static int run(fj_call *c) {
    fj_export_opts o = { .base = c->args[0],
                         .to = FJ_EXPORT_GGUF,
                         .out = c->args[1],
                         .type = c->n_args > 2 ? c->args[2] : "Q4_K_M" };
    return fj_export_run(c, c->opts, &o);
}

const fj_cmd fj_cmd_quantize = {
    .name = "quantize",
    .args = "MODEL OUT.gguf [TYPE]",
    .summary = "Write a model as a quantised GGUF file, and measure what that costs.",
    .manual =
        "MODEL is a GGUF file or a Hugging Face folder. TYPE is a name of llama-quantize: Q2_K, Q3_K_S, Q3_K_M,\n"
        "Q3_K_L, Q4_0, Q4_1, Q4_K_S, Q4_K_M (when it is not said), Q5_0, Q5_1, Q5_K_S, Q5_K_M, Q6_K, Q8_0, IQ4_NL,\n"
        "IQ4_XS, MXFP4_MOE, F32, F16, BF16, or keep. Tensors get the formats that llama-quantize gives them.\n"
        "Calibration text makes low bits better: the squares of what meets each column weigh its errors.\n"
        "The file is compared with MODEL before it gets its name: KL, perplexity of both, token ids. A stopped\n"
        "run goes on where it was.\n\n"
        "  forja quantize hf model-q4.gguf Q4_K_M --imatrix calibration.txt\n"
        "  forja quantize model.gguf small.gguf IQ4_XS --tensor-type 'blk.*.attn_v.weight=Q6_K' --data eval.jsonl",
    .opts = table,
    .size = sizeof(fj_export_cli),
    .defaults = &defaults,
    .min_args = 2,
    .max_args = 3,
    .run = run,
};
