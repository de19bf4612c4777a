"""What a GGUF of each architecture has to contain, by the names of the package gguf and the rules of
llama.cpp's converter: tensors from the parameters of a transformers model, metadata from its config; and such
a file, written by that package.
"""
import json
import math
import os

import gguf
import numpy as np

ARCH = {"llama": "llama", "mistral": "llama", "mixtral": "llama", "qwen2": "qwen2", "qwen3": "qwen3",
        "qwen3_moe": "qwen3moe", "gemma2": "gemma2", "gemma3_text": "gemma3", "phi3": "phi3", "olmo2": "olmo2",
        "granite": "granite", "smollm3": "smollm3", "gpt2": "gpt2", "gpt_oss": "gpt-oss"}
ENUM = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
PAIRS = ("llama", "mistral", "mixtral", "granite", "smollm3")  # rotary by neighbours: q and k are reordered


def head_dim(c):
    return getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads


def pairs(w, heads):
    """Rows of each head in the order 0, d/2, 1, d/2 + 1, ..."""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def experts(kind, layer, what, w):
    """The parts of a fused parameter of all experts, under their names."""
    end = ".bias" if what.endswith("_bias") else ".weight"
    if kind == "gpt_oss" and end == ".weight":
        w = w.swapaxes(1, 2)
    if what.startswith("down_proj"):
        return {f"blk.{layer}.ffn_down_exps{end}": w}
    if kind == "gpt_oss":
        gate, up = w[:, ::2], w[:, 1::2]
    else:
        gate, up = np.split(w, 2, 1)
    return {f"blk.{layer}.ffn_gate_exps{end}": gate, f"blk.{layer}.ffn_up_exps{end}": up}


def rotary(c):
    """Tensors that divide the rotary frequencies."""
    rope = getattr(c, "rope_parameters", None) or {}
    if rope.get("rope_type") == "longrope":
        return {f"rope_factors_{k}.weight": np.array(rope[k + "_factor"], np.float32) for k in ("long", "short")}
    if rope.get("rope_type") != "llama3":
        return {}
    d, original = head_dim(c), rope["original_max_position_embeddings"]
    wave = 2 * np.pi * rope["rope_theta"] ** (np.arange(0, d, 2) / d)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = (original / wave - low) / (high - low)
    factors = np.where(wave < original / high, 1, np.where(wave > original / low, rope["factor"],
                                                           1 / ((1 - smooth) / rope["factor"] + smooth)))
    return {"rope_freqs.weight": factors.astype(np.float32)}


def tensors(model):
    """name -> values of the GGUF of a transformers model (f32)."""
    c, out = model.config, {}
    kind = c.model_type
    names = gguf.get_tensor_name_map(ENUM[ARCH[kind]], c.num_hidden_layers)
    for name, w in model.named_parameters():
        w = w.detach().numpy()
        base, _, end = name.rpartition(".")
        if base.endswith(".experts"):
            out.update(experts(kind, name.split(".")[2], end, w))
            continue
        if end not in ("weight", "bias"):
            base, end = name, "weight"
        if kind in PAIRS and base.endswith(("q_proj", "k_proj")):
            w = pairs(w, c.num_attention_heads if base.endswith("q_proj") else c.num_key_value_heads)
        if kind.startswith("gemma") and base.endswith("norm"):
            w = w + 1
        if kind == "gpt2" and w.ndim == 2 and not base.endswith(("wte", "wpe")):
            w = w.T
        to = names.get_name(base)
        if to is None:
            raise ValueError(f"gguf has no name for {base} in {ARCH[kind]}")
        out[f"{to}.{end}"] = w
    return out | rotary(c)


def metadata(c):
    """key (without the architecture) -> value; each has to be in the file."""
    kind, heads = c.model_type, c.num_attention_heads
    out = {"context_length": c.max_position_embeddings, "embedding_length": c.hidden_size,
           "block_count": c.num_hidden_layers, "attention.head_count": heads}
    if kind == "gpt2":
        return out | {"feed_forward_length": c.n_inner or 4 * c.n_embd,
                      "attention.layer_norm_epsilon": c.layer_norm_epsilon}
    out.update({"feed_forward_length": c.intermediate_size, "attention.head_count_kv": c.num_key_value_heads,
                "attention.layer_norm_rms_epsilon": c.rms_norm_eps})
    d, rope = head_dim(c), c.rope_parameters
    if d * heads != c.hidden_size or kind == "gpt_oss":
        out.update({"attention.key_length": d, "attention.value_length": d})
    if kind == "gemma3_text":
        rope = rope["full_attention"]
    out["rope.freq_base"] = rope["rope_theta"]
    partial = rope.get("partial_rotary_factor", 1.0)
    if partial != 1.0:
        out["rope.dimension_count"] = int(d * partial)
    if rope["rope_type"] in ("linear", "yarn"):
        out.update({"rope.scaling.type": rope["rope_type"], "rope.scaling.factor": rope["factor"]})
    if rope["rope_type"] in ("yarn", "longrope"):
        original = rope["original_max_position_embeddings"]
        out["rope.scaling.original_context_length"] = original
    if rope["rope_type"] == "longrope":
        out["rope.scaling.attn_factor"] = math.sqrt(1 + math.log(c.max_position_embeddings / original) / math.log(original))
    if kind in ("mixtral", "qwen3_moe", "gpt_oss"):
        out.update({"expert_count": c.num_local_experts, "expert_used_count": c.num_experts_per_tok})
    if kind == "qwen3_moe":
        out["expert_feed_forward_length"] = c.moe_intermediate_size
    if kind == "gpt_oss":
        out["expert_feed_forward_length"] = c.intermediate_size
    if kind in ("gemma2", "gemma3_text", "gpt_oss"):
        out["attention.sliding_window"] = c.sliding_window
    if kind == "gemma3_text":
        out["rope.freq_base_swa"] = c.rope_parameters["sliding_attention"]["rope_theta"]
    if kind == "gemma2":
        out.update({"attn_logit_softcapping": c.attn_logit_softcapping,
                    "final_logit_softcapping": c.final_logit_softcapping})
    if kind == "granite":
        out.update({"attention.scale": c.attention_multiplier, "embedding_scale": c.embedding_multiplier,
                    "residual_scale": c.residual_multiplier, "logit_scale": c.logits_scaling})
    return out


def known_keys(arch):
    """Every metadata key that the package knows, with the name of this architecture in it."""
    out = set()

    def walk(group):
        for name, value in vars(group).items():
            if isinstance(value, str) and not name.startswith("_"):
                out.add(value.replace("{arch}", arch))
            elif isinstance(value, type):
                walk(value)

    walk(gguf.Keys)
    return out


def known_tensor(arch, name):
    base, _, end = name.rpartition(".")
    layer = base.split(".")[1] if base.startswith("blk.") else ""
    plain = base.replace(f"blk.{layer}.", "blk.{bid}.") if layer else base
    return end in ("weight", "bias") and plain in {gguf.TENSOR_NAMES[t] for t in gguf.MODEL_TENSORS[ENUM[arch]]}


def write(path, model, folder):
    """The file that a converter would make of the model; its vocabulary is that of folder/tokenizer.json."""
    c = model.config
    arch = ARCH[c.model_type]
    w = gguf.GGUFWriter(path, arch)
    w.add_name("peer")
    w.add_vocab_size(c.vocab_size)
    for key, value in metadata(c).items():
        put = w.add_string if isinstance(value, str) else w.add_float32 if isinstance(value, float) else w.add_uint32
        put(f"{arch}.{key}", value)
    with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as f:
        vocab = json.load(f)["model"]["vocab"]
    pieces = sorted(vocab, key=vocab.get)
    w.add_tokenizer_model("llama")
    w.add_token_list(pieces)
    w.add_token_scores([0.0] * len(pieces))
    w.add_token_types([gguf.TokenType.UNKNOWN, *[gguf.TokenType.CONTROL] * 2, *[gguf.TokenType.NORMAL] * (len(pieces) - 3)])
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    for name, values in tensors(model).items():
        w.add_tensor(name, np.ascontiguousarray(values, np.float32))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
