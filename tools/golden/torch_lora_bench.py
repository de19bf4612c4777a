"""Speed and peak memory of a plain PyTorch LoRA step in the shape of SmolLM2-135M.

Random weights and tokens; transformers and peft as a user would call them (sdpa attention, r 16 on
every linear, AdamW, no gradient checkpointing unless asked for). Each setting runs in a process of
its own, because peak memory is a property of the process. Prints one line per setting:
    kind batch tok/s(min/median/max) peak-RSS-MiB
"""
import argparse
import resource
import statistics
import subprocess
import sys
import time


def one(kind, rows, width, steps, threads, checkpoint):
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(threads)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30,
        num_attention_heads=9, num_key_value_heads=3, max_position_embeddings=2048,
        tie_word_embeddings=True, use_cache=False)
    model = LlamaForCausalLM(config).to(torch.bfloat16 if kind == "bf16" else torch.float32)
    if checkpoint:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear",
                                             task_type="CAUSAL_LM")).train()
    weights = [w for w in model.parameters() if w.requires_grad]
    opt = torch.optim.AdamW(weights, lr=1e-4)
    rates = []
    for step in range(steps + 1):
        ids = torch.randint(0, config.vocab_size, (rows, width))
        begin = time.perf_counter()
        opt.zero_grad(set_to_none=True)
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        opt.step()
        if step:  # the first step allocates
            rates.append(rows * width / (time.perf_counter() - begin))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{kind}{' checkpointed' if checkpoint else ''} {rows}x{width} "
          f"{min(rates):.0f}/{statistics.median(rates):.0f}/{max(rates):.0f} tok/s {peak:.0f} MiB", flush=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--steps", type=int, default=3)
    p.add_argument("--checkpoint", action="store_true", help="gradient checkpointing")
    p.add_argument("--only", nargs=2, metavar=("KIND", "ROWSxWIDTH"), help="one setting, in this process")
    a = p.parse_args()
    if a.only:
        rows, width = map(int, a.only[1].split("x"))
        return one(a.only[0], rows, width, a.steps, a.threads, a.checkpoint)
    for kind in ("f32", "bf16"):
        for shape in ("1x512", "4x512"):
            extra = ["--checkpoint"] if a.checkpoint else []
            subprocess.run([sys.executable, __file__, "--threads", str(a.threads), "--steps", str(a.steps),
                            "--only", kind, shape, *extra], check=True)


if __name__ == "__main__":
    main()
