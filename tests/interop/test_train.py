"""What `forja train` leaves is what peft, safetensors and gguf read.

A LoRA run on stories260K; then
  - peft loads the adapter: its logits equal those that forja computes with the same adapter;
  - the GGUF adapter holds the same values under GGUF's names.
A full run on the same data; then
  - transformers loads the folder: its logits equal those of forja, from the folder and from the GGUF;
  - the GGUF file holds the weights of the folder.
"""
import json
import os

import gguf
import numpy as np
import torch
import yaml
from peft import PeftModel
from safetensors.numpy import load_file

from common import encode, load, settle, story, tokenizer
from peer import SEED, Folder, check, finish, forja, near, rng, shared

ATTN = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
FFN = {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}
HEADS = {"attn_q": 8, "attn_k": 4}


def gguf_name(name):
    """model.layers.3.self_attn.q_proj -> blk.3.attn_q"""
    parts = name.split(".")
    layer = parts[parts.index("layers") + 1]
    return f"blk.{layer}." + dict(ATTN, **FFN)[parts[-1]]


def interleave(rows, name):
    """Rows of q and k in GGUF's order: pairs (2i, 2i+1) turn together, not (i, i + half)."""
    heads = HEADS.get(name.split(".")[-1])
    if not heads:
        return rows
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)


def dataset(path, r, n):
    with open(path, "w", encoding="utf-8") as f:
        for _ in range(n):
            words = story(r).split(" ")
            cut = r.randrange(3, len(words) - 3)
            f.write(json.dumps({"prompt": " ".join(words[:cut]), "completion": " " + " ".join(words[cut:])}) + "\n")


def recipe(path, **keys):
    with open(path, "w", encoding="utf-8") as f:
        yaml.safe_dump(keys, f, allow_unicode=True)


def dump_logits(f, base, adapter, ids):
    out = f("logits.safetensors")
    forja("eval", base, *(["--adapter", adapter] if adapter else []), "--f32", "--dump-logits", out,
          "--tokens", " ".join(map(str, ids)))
    return load_file(out)["logits.0"]


def compare_logits(model, f, base, adapter, r, what):
    tok = tokenizer()
    for i in range(2):
        ids = encode(tok, story(r))[:100]
        ours = dump_logits(f, base, adapter, ids)
        with torch.no_grad():
            near(ours, model(torch.tensor([ids])).logits[0].numpy(), f"{what}, text {i}")


def lora(f, base, r, common):
    recipe(f("lora.yaml"), method="lora", lora_r=8, lora_alpha=16, target_modules="all-linear",
           output_dir=f("lora"), **common)
    forja("train", f("lora.yaml"), home=f("home"))
    folder = f("lora/adapter")
    model = PeftModel.from_pretrained(load(base), folder).eval()
    compare_logits(model, f, base, folder, r, "adapter by peft")

    with open(os.path.join(folder, "adapter_config.json"), encoding="utf-8") as c:
        config = json.load(c)
    check(config["r"] == 8 and config["lora_alpha"] == 16 and config["peft_type"] == "LORA", f"config {config}")
    theirs = load_file(os.path.join(folder, "adapter_model.safetensors"))
    check(len(theirs) == 5 * 7 * 2, f"{len(theirs)} tensors in the adapter, not 70")
    check(any(np.abs(t).max() > 0 for k, t in theirs.items() if "lora_B" in k), "the adapter is still zero")

    reader = gguf.GGUFReader(f("lora/adapter.gguf"))
    keys = {k: v.contents() for k, v in reader.fields.items()}
    check(keys.get("general.type") == "adapter" and keys.get("adapter.type") == "lora"
          and keys.get("general.architecture") == "llama" and keys.get("adapter.lora.alpha") == 16.0,
          f"keys of the GGUF adapter: {keys}")
    found = {t.name: np.array(t.data) for t in reader.tensors}
    check(len(found) == len(theirs), f"GGUF adapter: {len(found)} tensors, not {len(theirs)}")
    for name, value in theirs.items():
        module, part = name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".", 1)
        to = gguf_name(module)
        value = interleave(value, to) if part == "lora_B" else value
        got = found.get(f"{to}.weight.{part.lower()}")
        check(got is not None and got.shape == value.shape and np.array_equal(got, value), f"GGUF adapter: {name}")
    print("  adapter.gguf: the same values")


def full(f, base, r, common):
    recipe(f("full.yaml"), method="full", output_dir=f("full"), export_gguf=f("full.gguf"), export_type="f32",
           **common)
    forja("train", f("full.yaml"), home=f("home"))
    folder = f("full/model")
    model = load(folder)
    compare_logits(model, f, folder, None, r, "full model by transformers")
    compare_logits(model, f, f("full.gguf"), None, r, "full.gguf")
    moved = max((a - b).abs().max().item() for a, b in zip(model.parameters(), load(base).parameters()))
    check(moved > 1e-3, f"full training moved the weights by {moved} only")

    found = {t.name: np.array(t.data) for t in gguf.GGUFReader(f("full.gguf")).tensors}
    for name, value in model.state_dict().items():
        if ".layers." in name and "norm" not in name:
            to = gguf_name(name.removesuffix(".weight"))
            got = found.get(to + ".weight")
            check(got is not None and np.array_equal(got, interleave(value.numpy(), to)), f"full.gguf: {to}")
    print("  full.gguf: the same weights")


def main():
    base = shared("models/stories260K/hf")
    if base:
        settle(SEED)
        r = rng("train")
        with Folder() as f:
            dataset(f("data.jsonl"), r, 60)
            common = dict(base=base, data=f("data.jsonl"), eval_split=0.2, max_steps=12, seed=SEED % 1000,
                          per_device_train_batch_size=4, learning_rate=5e-3, max_length=256, f32=True)
            lora(f, base, r, common)
            full(f, base, r, common)
    finish()


if __name__ == "__main__":
    main()
