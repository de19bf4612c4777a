"""One training step of PyTorch in a shape of `forja bench`, as a user of transformers and peft would take it.

    torch_step.py SHAPE lora|full|qlora bf16|f32 [--batch 4] [--length 512] [--steps 3] [--threads 2] [--compile]

Random weights and tokens, sdpa attention; adapters of rank 16 on all linear layers; AdamW, clipping; qlora: the base in NF4 by
bitsandbytes on the CPU, the adapter in `bf16`.  Prints "SECONDS... # peak RSS in MiB, versions": of each step but the first, which
allocates; compiled: but the first two.
"""
import argparse
import resource
import sys
import time

SHAPES = {  # as in src/lifecycle/bench_model.c
    "smollm2-135m": dict(hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                         num_key_value_heads=3, vocab_size=49152),
    "llama-3.2-1b": dict(hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
                         num_key_value_heads=8, vocab_size=128256),
}


def quantise(model):
    """Every linear layer but the head in NF4, as transformers does while loading."""
    import bitsandbytes as bnb
    import torch
    for name, module in list(model.named_modules()):
        if not isinstance(module, torch.nn.Linear) or name == "lm_head":
            continue
        new = bnb.nn.Linear4bit(module.in_features, module.out_features, bias=False, compute_dtype=torch.bfloat16,
                                quant_type="nf4")
        new.weight = bnb.nn.Params4bit(module.weight.data, requires_grad=False, quant_type="nf4")
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, new.to("cpu"))
    return model


def main():
    p = argparse.ArgumentParser()
    p.add_argument("shape", choices=SHAPES)
    p.add_argument("method", choices=("lora", "full", "qlora"))
    p.add_argument("kind", choices=("bf16", "f32"))
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--length", type=int, default=512)
    p.add_argument("--steps", type=int, default=3)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--compile", action="store_true")
    a = p.parse_args()

    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    torch.set_num_threads(a.threads)
    torch.manual_seed(1)
    config = LlamaConfig(**SHAPES[a.shape], max_position_embeddings=8192, tie_word_embeddings=True, use_cache=False)
    model = LlamaForCausalLM(config).to(torch.bfloat16 if a.kind == "bf16" else torch.float32)
    if a.method == "qlora":
        model = quantise(model)
    if a.method != "full":
        from peft import LoraConfig, get_peft_model
        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    model.train()
    weights = [w for w in model.parameters() if w.requires_grad]
    opt = torch.optim.AdamW(weights, lr=1e-4)
    # Layer by layer, which all share one compilation of seconds; of the whole model it takes minutes.
    for layer in model.modules():
        if a.compile and type(layer).__name__ == "LlamaDecoderLayer":
            layer.compile()
    times = []
    warm = 2 if a.compile else 1
    for step in range(a.steps + warm):
        ids = torch.randint(0, config.vocab_size, (a.batch, a.length))
        begin = time.perf_counter()
        opt.zero_grad(set_to_none=True)
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        opt.step()
        if step >= warm:
            times.append(time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(*(f"{t:.6f}" for t in times), f"# {peak:.0f} torch {torch.__version__}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
