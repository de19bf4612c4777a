"""Sums of squares of what every matrix multiplies, by transformers with hooks: what an importance matrix is made
of. Over two prompts of the golden files of the architectures, each by itself.
"""
import argparse
import os
import re

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from common import OUT, settle, write

CASES = ["llama", "qwen3-moe"]
NAMES = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
         "mlp.down_proj": "ffn_down", "mlp.gate": "ffn_gate_inp"}


class Sums:
    def __init__(self):
        self.sums, self.counts = {}, {}

    def add(self, name, x, mat=0, mats=1):
        """Rows x [n, cols] met matrix `mat` of `mats`."""
        if name not in self.sums:
            self.sums[name] = torch.zeros(mats, x.shape[-1], dtype=torch.float64)
            self.counts[name] = torch.zeros(mats)
        self.sums[name][mat] += x.double().square().sum(0)
        self.counts[name][mat] += x.shape[0]

    def watch(self, model, tied):
        for module, m in model.named_modules():
            layer = re.match(r"model\.layers\.(\d+)\.(.*)", module)
            if layer and layer[2] == "mlp.experts":
                m.register_forward_pre_hook(self.experts(f"blk.{layer[1]}."))
            elif layer and layer[2] in NAMES:
                m.register_forward_pre_hook(self.rows(f"blk.{layer[1]}.{NAMES[layer[2]]}.weight"))
            elif module == "lm_head":
                m.register_forward_pre_hook(self.rows("token_embd.weight" if tied else "output.weight"))

    def rows(self, name):
        return lambda m, args: self.add(name, args[0].reshape(-1, args[0].shape[-1]))

    def experts(self, where):
        def hook(m, args):
            x, chosen = args[0].reshape(-1, args[0].shape[-1]), args[1]
            n = m.gate_up_proj.shape[0]
            for e in range(n):
                mine = x[(chosen == e).any(-1)]
                gate, up = (mine @ m.gate_up_proj[e].T).chunk(2, -1)
                for name, rows in (("ffn_gate_exps", mine), ("ffn_up_exps", mine),
                                   ("ffn_down_exps", torch.nn.functional.silu(gate) * up)):
                    self.add(f"{where}{name}.weight", rows, e, n)
        return hook


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--out", default=OUT)
    ap.add_argument("--seed", type=int, default=0)
    args = ap.parse_args()
    settle(args.seed)
    for case in CASES:
        at = os.path.join(OUT, "archs", case)
        model = AutoModelForCausalLM.from_pretrained(at, dtype=torch.float32, attn_implementation="eager",
                                                     experts_implementation="eager").eval()
        prompts = load_file(at + ".safetensors")
        sums = Sums()
        sums.watch(model, model.config.tie_word_embeddings)
        with torch.no_grad():
            for name in "long.ids", "short.ids":
                model(prompts[name].long()[None])
        tensors = {f"{n}.in_sum2": t.float() for n, t in sums.sums.items()}
        tensors |= {f"{n}.counts": t for n, t in sums.counts.items()}
        write(os.path.join(args.out, "imatrix", case + ".safetensors"), tensors, prompts=["long.ids", "short.ids"])


if __name__ == "__main__":
    main()
