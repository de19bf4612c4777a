"""Tiny random Llama models as Hugging Face folders, one per RoPE scaling and layout, with logits.

The prompt is longer than the context that the scalings call original, so that each one matters; a
model whose logits would be the same without its scaling is refused. Weights are drawn wide enough
for attention to look at positions, and rounded to the 16-bit format that they are stored in, so
that a reader gets exactly the values that the logits were computed with.
"""
import argparse
import json
import os
import shutil
import string

import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from common import OUT, load, settle, write, write_json

LENGTH, ORIGINAL = 48, 16
BASE = dict(
    architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=64, hidden_size=32,
    intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0, hidden_act="silu",
    attention_bias=False, mlp_bias=False, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2)

# name: (changes of config.json as real folders write them, storage, shards)
MODELS = {
    "tiny-default": ({}, "F16", 1),
    "tiny-untied-bias": (dict(tie_word_embeddings=False, attention_bias=True, mlp_bias=True,
                              rms_norm_eps=1e-6), "BF16", 1),
    "tiny-headdim": (dict(head_dim=16, num_key_value_heads=1, rope_theta=500000.0), "F16", 1),
    "tiny-sharded": (dict(tie_word_embeddings=False), "F16", 3),
    "tiny-linear": (dict(rope_scaling={"type": "linear", "factor": 4.0}), "F16", 1),
    "tiny-dynamic": (dict(max_position_embeddings=ORIGINAL,
                          rope_scaling={"type": "dynamic", "factor": 2.0}), "F16", 1),
    "tiny-llama3": (dict(max_position_embeddings=128, tie_word_embeddings=False, rope_scaling={
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": ORIGINAL}), "BF16", 1),
    "tiny-yarn": (dict(rope_scaling={
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": ORIGINAL}), "F16", 1),
    "tiny-yarn-full": (dict(max_position_embeddings=128, rope_scaling={
        "rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": ORIGINAL,
        "beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 1.25}), "F16", 1),
    # as transformers 5 saves it: theta and the scaling in one object, and many keys besides
    "tiny-parameters": (dict(rope_theta=None, rope_parameters={
        "rope_type": "linear", "factor": 2.0, "rope_theta": 1000.0}), "F16", 1),
}
KIND = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def config_of(change):
    config = {k: v for k, v in dict(BASE, **change).items() if v is not None}
    config.setdefault("head_dim", config["hidden_size"] // config["num_attention_heads"])
    return config


def draw(config, kind, seed):
    """Random weights of the model that config describes, each exact in the 16-bit kind."""
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**config))
    state = {}
    for name, w in model.state_dict().items():
        if config["tie_word_embeddings"] and name == "lm_head.weight":
            continue
        if "norm" in name:
            v = 1 + 0.25 * torch.randn(w.shape)
        elif name.endswith(".bias"):
            v = 0.2 * torch.randn(w.shape)
        else:
            v = torch.randn(w.shape) * (2.0 if "q_proj" in name or "k_proj" in name else 1.0)
            v *= w.shape[-1] ** -0.5
        state[name] = v.to(KIND[kind]).contiguous()
    return state


def tokenizer():
    """One token per character, in the layout of Llama's own files: a model folder has to have one."""
    pieces = ["<unk>", "<s>", "</s>", "\u2581", *string.ascii_letters, *".,!?'-:;"]
    assert len(pieces) == BASE["vocab_size"]
    added = [dict(id=i, content=pieces[i], single_word=False, lstrip=False, rstrip=False, normalized=False,
                  special=True) for i in range(3)]
    first = [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    return dict(
        version="1.0", truncation=None, padding=None, added_tokens=added, pre_tokenizer=None,
        normalizer=dict(type="Sequence", normalizers=[
            dict(type="Prepend", prepend="\u2581"),
            dict(type="Replace", pattern={"String": " "}, content="\u2581")]),
        post_processor=dict(type="TemplateProcessing", single=first, pair=first + [
            {"Sequence": {"id": "B", "type_id": 1}}],
            special_tokens={"<s>": dict(id="<s>", ids=[1], tokens=["<s>"])}),
        decoder=dict(type="Sequence", decoders=[
            dict(type="Replace", pattern={"String": "\u2581"}, content=" "), dict(type="Fuse"),
            dict(type="Strip", content=" ", start=1, stop=0)]),
        model=dict(type="BPE", dropout=None, unk_token="<unk>", continuing_subword_prefix=None,
                   end_of_word_suffix=None, fuse_unk=True, byte_fallback=False, ignore_merges=False,
                   vocab={piece: i for i, piece in enumerate(pieces)}, merges=[]))


def save(folder, config, state, kind, shards):
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(tokenizer(), f)
    torch_name = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}[kind]
    if "rope_parameters" in config:
        LlamaConfig(**config, dtype=torch_name).save_pretrained(folder)
    else:
        write_json(os.path.join(folder, "config.json"), dict(config, torch_dtype=torch_name))
    names = sorted(state)
    if shards == 1:
        save_file(state, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        return
    where, total = {}, sum(t.numel() * t.element_size() for t in state.values())
    for i in range(shards):
        part = {n: state[n] for n in names[i::shards]}
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        save_file(part, os.path.join(folder, file), metadata={"format": "pt"})
        where.update({n: file for n in part})
    write_json(os.path.join(folder, "model.safetensors.index.json"),
               {"metadata": {"total_size": total}, "weight_map": where})


def make(folder, config, kind, shards, seed):
    save(folder, config, draw(config, kind, seed), kind, shards)
    ids = torch.randint(3, config["vocab_size"], (LENGTH,), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        model = load(folder)
        logits = model(ids[None]).logits[0]
        exact = load(folder, torch.float64)(ids[None]).logits[0]
    return ids, logits, float((logits - exact).abs().max())


def unscaled(folder, ids, config):
    """Logits of the same weights with plain RoPE: what a reader that overlooks the key would give."""
    plain = dict(config, rope_parameters={"rope_type": "default", "rope_theta": 10000.0})
    plain.pop("rope_scaling", None)
    model = LlamaForCausalLM.from_pretrained(folder, config=LlamaConfig(**plain), dtype=torch.float32,
                                             attn_implementation="eager").eval()
    with torch.no_grad():
        return model(ids[None]).logits[0]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=3)
    p.add_argument("--out", default=OUT)
    p.add_argument("--kind", choices=sorted(KIND), help="store all in this format")
    a = p.parse_args()
    settle(a.seed)
    for i, (name, (change, kind, shards)) in enumerate(MODELS.items()):
        folder, config, kind = os.path.join(a.out, name), config_of(change), a.kind or kind
        ids, logits, off = make(folder, config, kind, shards, a.seed * 1000 + i)
        apart = 0.0
        if "rope_scaling" in config or "rope_parameters" in config:
            apart = float((logits - unscaled(folder, ids, config)).abs().max())
            if apart < 0.05:
                raise SystemExit(f"{name}: the scaling changes logits by {apart} only")
        write(folder + ".safetensors", {"ids": ids, "logits": logits}, seed=a.seed,
              largest_difference_from_f64=off, scaling_changes_logits_by=apart)


if __name__ == "__main__":
    main()
