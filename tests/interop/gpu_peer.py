"""Speed and memory of transformers and peft on a GPU: what `forja bench` is held against there.

Random weights in a shape given by its configuration, nothing is downloaded. A training step is what a
user of both would run: bf16 weights and autocast, SDPA attention, LoRA on all linear layers (peft keeps
it in f32) or, with --full, every weight in f32, AdamW (fused), clipping, rows of one length without
padding. Gradient checkpointing is tried off, then on, until it fits. Decode is generate() with a cache.
Prints one JSON object with the keys of `forja bench --json`; FLOPs and shares are counted as there.

    python tests/interop/gpu_peer.py --shape llama-3.1-8b --batch 8 --length 2048
    python tests/interop/gpu_peer.py --shape tiny --device cpu --batch 2 --length 32 --streams 1 --streams 4
"""
import argparse
import json
import os
import statistics
import sys
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")

import torch  # noqa: E402

SHAPES = {
    "llama-3.1-8b": dict(kind="llama", layers=32, width=4096, heads=32, kv=8, ffn=14336, vocab=128256, tied=False,
                         base=500000.0),
    "qwen2.5-1.5b": dict(kind="qwen2", layers=28, width=1536, heads=12, kv=2, ffn=8960, vocab=151936, tied=True,
                         base=1e6),
    "smollm2-135m": dict(kind="llama", layers=30, width=576, heads=9, kv=3, ffn=1536, vocab=49152, tied=True,
                         base=10000.0),
    "tiny": dict(kind="llama", layers=2, width=64, heads=4, kv=2, ffn=160, vocab=512, tied=True, base=10000.0),
}


def config_of(shape):
    import transformers
    s = SHAPES[shape]
    kind = {"llama": transformers.LlamaConfig, "qwen2": transformers.Qwen2Config}[s["kind"]]
    return kind(vocab_size=s["vocab"], hidden_size=s["width"], intermediate_size=s["ffn"],
                num_hidden_layers=s["layers"], num_attention_heads=s["heads"], num_key_value_heads=s["kv"],
                max_position_embeddings=131072, tie_word_embeddings=s["tied"], rope_theta=s["base"],
                bos_token_id=None, eos_token_id=None, pad_token_id=None)


def sync(device):
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def memory(device):
    """Most bytes that tensors had since the last reset; without a GPU it is not known."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0


def fresh(device):
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def result(what, of, tokens, seconds, flops, held):
    middle = statistics.median(seconds)
    return {"what": what, "of": of, "tokens": tokens, "seconds": middle, "seconds_least": min(seconds),
            "seconds_most": max(seconds), "tokens_per_s": tokens / middle, "flops": flops,
            "rate": flops / middle / 1e9, "unit": "GFLOP/s", "share_of_peak": None, "held_bytes": held}


class Peer:
    def __init__(self, args):
        from transformers import AutoModelForCausalLM
        self.args = args
        self.device = torch.device(args.device)
        self.config = config_of(args.shape)
        torch.manual_seed(1)
        dtype = torch.float32 if args.full else torch.bfloat16
        with self.device:  # weights are drawn where they are used
            self.model = AutoModelForCausalLM.from_config(self.config, dtype=dtype, attn_implementation="sdpa")
        self.params = sum(p.numel() for p in self.model.parameters())
        head = self.config.hidden_size * self.config.vocab_size
        self.linear = head + sum(m.weight.numel() for name, m in self.model.named_modules()
                                 if isinstance(m, torch.nn.Linear) and name != "lm_head")
        self.adapter = 0

    def attention(self, n):
        """FLOPs of one product of causal attention over n tokens, all layers."""
        return self.config.num_hidden_layers * self.config.hidden_size * n * (n + 1)

    # ---- training -----------------------------------------------------------------------------------
    def prepare(self):
        if not self.args.full:
            from peft import LoraConfig, get_peft_model
            self.model = get_peft_model(self.model, LoraConfig(
                r=self.args.rank, lora_alpha=2 * self.args.rank, lora_dropout=0.0, target_modules="all-linear",
                task_type="CAUSAL_LM"))
        self.model.train()
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        self.adapter = 0 if self.args.full else sum(p.numel() for p in self.weights)
        self.opt = torch.optim.AdamW(self.weights, lr=1e-4, fused=self.device.type == "cuda")

    def step(self, ids):
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            loss = self.model(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.opt.step()
        self.opt.zero_grad(set_to_none=True)
        return loss.detach()

    def train(self):
        a = self.args
        self.prepare()
        tokens = a.batch * a.length
        ids = torch.randint(0, self.config.vocab_size, (a.batch, a.length), device=self.device)
        flops = (tokens * ((6 if a.full else 4) * self.linear + 6 * self.adapter)
                 + 7 * a.batch * self.attention(a.length))
        for checkpointed in (False, True) if a.checkpoint == "auto" else (a.checkpoint == "on",):
            if checkpointed:
                self.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
            fresh(self.device)
            seconds, failed = [], False
            try:
                for i in range(a.warmups + a.steps):
                    sync(self.device)
                    begin = time.perf_counter()
                    self.step(ids)
                    sync(self.device)
                    if i >= a.warmups:
                        seconds.append(time.perf_counter() - begin)
            except torch.cuda.OutOfMemoryError:
                failed = True
            if failed:  # outside the handler, which keeps the frames of the step and what they hold
                print(f"no memory for {tokens} tokens with checkpointing {checkpointed}", file=sys.stderr, flush=True)
                self.opt.zero_grad(set_to_none=True)
                continue
            of = f"{a.batch} x {a.length} tokens" + ("" if a.full else f", rank {a.rank}")
            of += ", gradient checkpointing" if checkpointed else ""
            return result("full step" if a.full else "lora step", of, tokens, seconds, flops, memory(self.device))
        raise SystemExit("no training step fits into this GPU")

    # ---- serving ------------------------------------------------------------------------------------
    def generate(self, ids, n):
        sync(self.device)
        begin = time.perf_counter()
        with torch.inference_mode():
            self.model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=n, min_new_tokens=n,
                                do_sample=False, cache_implementation=self.args.cache)
        sync(self.device)
        return time.perf_counter() - begin

    def decode(self, streams):
        """Seconds of one more token for all: a long answer less a short one."""
        a = self.args
        self.model.eval()
        fresh(self.device)
        ids = torch.randint(0, self.config.vocab_size, (streams, a.context), device=self.device)
        long = a.new_tokens + 1
        self.generate(ids, long)
        seconds = [(self.generate(ids, long) - self.generate(ids, 1)) / a.new_tokens for _ in range(a.steps)]
        flops = streams * (2 * self.linear + 4 * self.config.num_hidden_layers * self.config.hidden_size * a.context)
        of = f"{streams} stream{'s' if streams > 1 else ''}, {a.context} tokens behind, {a.cache or 'dynamic'} cache"
        return result("decode", of, streams, [max(s, 1e-9) for s in seconds], flops, memory(self.device))

    def prefill(self, n):
        self.model.eval()
        fresh(self.device)
        ids = torch.randint(0, self.config.vocab_size, (1, n), device=self.device)
        seconds = []
        for i in range(self.args.warmups + self.args.steps):
            sync(self.device)
            begin = time.perf_counter()
            with torch.inference_mode():
                self.model(input_ids=ids, use_cache=True, logits_to_keep=1)
            sync(self.device)
            if i >= self.args.warmups:
                seconds.append(time.perf_counter() - begin)
        head = self.config.hidden_size * self.config.vocab_size
        flops = 2 * n * (self.linear - head) + 2 * head + 2 * self.attention(n)
        return result("prefill", f"{n} tokens", n, seconds, flops, memory(self.device))


def arguments():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--shape", choices=SHAPES, default="llama-3.1-8b")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--full", action="store_true", help="train every weight")
    p.add_argument("--batch", type=int, default=8)
    p.add_argument("--length", type=int, default=2048)
    p.add_argument("--rank", type=int, default=16)
    p.add_argument("--warmups", type=int, default=2)
    p.add_argument("--steps", type=int, default=3, help="timed ones")
    p.add_argument("--checkpoint", choices=("auto", "on", "off"), default="auto")
    p.add_argument("--streams", type=int, action="append", default=[], help="decode with so many; may be given again")
    p.add_argument("--context", type=int, default=64)
    p.add_argument("--new-tokens", type=int, default=32)
    p.add_argument("--cache", default=None, help="cache_implementation of generate: static compiles, which takes a minute")
    p.add_argument("--prefill", type=int, default=0, help="tokens; 0: not measured")
    p.add_argument("--no-train", action="store_true")
    return p.parse_args()


def main():
    import peft
    import transformers
    args = arguments()
    if args.full and (args.streams or args.prefill):
        raise SystemExit("--full measures a training step alone")
    begin = time.perf_counter()
    peer = Peer(args)
    sync(peer.device)
    opened = time.perf_counter() - begin
    name = torch.cuda.get_device_name(peer.device) if peer.device.type == "cuda" else "CPU"
    out = {"program": f"transformers {transformers.__version__}, peft {peft.__version__}, torch {torch.__version__}",
           "model": args.shape, "formats": "F32, autocast BF16" if args.full else "BF16", "parameters": peer.params,
           "device": name, "seconds_to_open": opened, "results": []}
    for n in args.streams:
        out["results"].append(peer.decode(n))
    if args.prefill:
        out["results"].append(peer.prefill(args.prefill))
    if not args.no_train:
        out["results"].append(peer.train())
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
