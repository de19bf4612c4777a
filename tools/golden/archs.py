"""Tiny random models of every architecture, and what transformers and peft compute with them.

For each case of arch_cases.py: a Hugging Face folder archs/NAME/ as transformers saves it (weights exact in
BF16), an adapter archs/NAME/lora/ as peft saves it, and archs/NAME.safetensors with logits, loss, gradients
and greedy text (README.md says under which names). A draw is refused, and another one tried, when something
of it would not be seen or could not be decided in f32: a parameter with nearly no gradient or a gradient that is
mostly rounding, a change of the config that leaves the logits alone, two experts or two tokens nearly tied.
"""
import argparse
import json
import os
import shutil
import time

import numpy as np
import peft
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from arch_cases import BATCH, CASES, LONG, NEW, ROWS, SHORT, START, config_of
from common import IGNORE, OUT, settle, write, write_json
from tiny import tokenizer

TIE, SEEN, SHARE, NOISE, TRIES = 1e-3, 0.02, 1e-4, 1e-5, 40
RANK, ALPHA, SIGNS = 2, 4, 1
FP4 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


class Refused(Exception):
    """This draw shows too little, or is decided by too little."""


def load(path, dtype=torch.float32, config=None):
    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype, config=config, attn_implementation="eager",
                                                experts_implementation="eager").eval()


# ---- weights -------------------------------------------------------------------------------------------
def draw_one(name, w, conv, generator):
    """One parameter: wide enough to matter, exact in BF16."""
    v = torch.randn(w.shape, generator=generator)
    if name.endswith("bias"):
        v *= 0.3
    elif "sinks" in name:
        v += 2
    elif w.dim() == 1:  # a norm; Gemma adds the 1 itself
        v = v * 0.25 + float(w[0])
    elif "wpe" in name:
        v *= 0.3
    else:
        inner = w.shape[-2] if conv else w.shape[-1]
        big = any(part in name for part in ("q_proj", "k_proj", "qkv_proj", "c_attn", "router", "mlp.gate.weight"))
        v *= inner ** -0.5 * (1.4 if big else 1)
        if "embed_tokens" in name:  # smaller: a tied head says a token again where its embedding outweighs the rest
            v *= 0.5
    return v.bfloat16()


def draw(case, config, seed):
    """A model of this config with random weights; its state as BF16 tensors, MXFP4 experts as two more."""
    g = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    packed = {}
    with torch.no_grad():
        for name, w in model.named_parameters():
            conv = case.type == "gpt2" or (case.type == "gpt_oss" and w.dim() == 3)
            if case.mxfp4 and w.dim() == 3:
                w.copy_(mxfp4(name, w, g, packed))
            else:
                w.copy_(draw_one(name, w, conv, g))
    return model, packed


def mxfp4(name, w, g, packed):
    """Random blocks for the [experts, in, out] parameter w; returns the values they stand for."""
    experts, inner, out = w.shape
    blocks = torch.randint(0, 256, (experts, out, inner // 32, 16), generator=g, dtype=torch.uint8)
    scales = torch.randint(121, 125, (experts, out, inner // 32), generator=g, dtype=torch.uint8)
    packed[name + "_blocks"], packed[name + "_scales"] = blocks, scales
    values = torch.stack([FP4[(blocks & 15).long()], FP4[(blocks >> 4).long()]], -1).flatten(-2)
    values = torch.ldexp(values, scales.int()[..., None] - 127)
    return values.flatten(-2).transpose(1, 2)


def save(case, model, packed, folder):
    """The folder as transformers writes it; MXFP4 experts as the released checkpoints have them."""
    shutil.rmtree(folder, ignore_errors=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    os.remove(os.path.join(folder, "generation_config.json"))
    with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as f:
        json.dump(tokenizer(), f, separators=(",", ":"))
    path, file = os.path.join(folder, "config.json"), os.path.join(folder, "model.safetensors")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    if case.bare:
        state = {k.removeprefix("transformer."): v for k, v in load_file(file).items()}
        for i in range(config["n_layer"]):
            mask = torch.ones(config["n_positions"], config["n_positions"], dtype=torch.bfloat16).tril()
            state[f"h.{i}.attn.bias"] = mask[None, None].contiguous()
        save_file(state, file, metadata={"format": "pt"})
    if packed:
        state = {k: v for k, v in load_file(file).items() if k + "_blocks" not in packed}
        save_file(state | packed, file, metadata={"format": "pt"})
        config["quantization_config"] = dict(quant_method="mxfp4", modules_to_not_convert=[
            "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"])
        write_json(path, config)
    write_json(os.path.join(folder, "hub.json"), hub_config(config, case.hub))


def gguf_config(case, folder):
    """NAME/gguf.json: config.json after the changes of `gguf`, with all that follows from them."""
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as f:
        saved = json.load(f)
    changed = AutoConfig.for_model(case.type, **dict(config_of(case), **case.gguf))
    for key, value in changed.to_dict().items():
        if key in saved and key not in ("architectures", "dtype"):
            saved[key] = value
    write_json(os.path.join(folder, "gguf.json"), saved)
    if "quantization_config" in saved:  # without it the blocks would be left unread
        changed.quantization_config = saved["quantization_config"]
    return changed


def hub_config(config, changes):
    """config.json as transformers 4 wrote it, with the keys of the released checkpoints."""
    config = dict(config, torch_dtype=config["dtype"], transformers_version="4.51.0", _name_or_path="somewhere/released")
    del config["dtype"]
    rope = config.pop("rope_parameters", None)
    if rope and "rope_theta" in rope:
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config.update(changes)
    return {k: v for k, v in config.items() if v is not None or k in ("head_dim", "rope_scaling", "n_inner")}


# ---- what is asked of a draw ------------------------------------------------------------------------------
def watch_routers(model, gaps):
    """Appends the smallest distance of the last chosen from the first refused expert of each call."""
    def hook(router, args, out):
        top = out[0].detach().flatten(0, -2).topk(router.top_k + 1, -1).values
        gaps.append(float((top[:, -2] - top[:, -1]).min()))

    for module in model.modules():
        if type(module).__name__.endswith("TopKRouter"):
            module.register_forward_hook(hook)


def last_logits(model, ids, rows):
    with torch.no_grad():
        return model(ids[None], use_cache=False).logits[0, -rows:]


def check_seen(case, model, ids, logits):
    """Each change of `without` must move the logits; returns the smallest move."""
    least = float("inf")
    for what, change in case.without.items():
        other = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(case.type, **dict(config_of(case), **change)), attn_implementation="eager")
        other.load_state_dict(model.state_dict())
        moved = float((last_logits(other.eval(), ids, ROWS) - logits).abs().max())
        if moved < SEEN:
            raise Refused(f"{what}: moves the logits by {moved:.2g} only")
        least = min(least, moved)
    return least


def check_hub(folder, ids, logits):
    """The other spelling of the config is the same model to transformers, too."""
    with open(os.path.join(folder, "hub.json"), encoding="utf-8") as f:
        config = AutoConfig.for_model(**json.load(f))
    off = float((last_logits(load(folder, config=config), ids, ROWS) - logits).abs().max())
    if off:
        raise SystemExit(f"{folder}: hub.json is another model (logits off by {off})")


# ---- gradients -------------------------------------------------------------------------------------------
def splitmix(seed, n):
    """fj_rng_at(seed, i) of src/base/rng.h for i < n."""
    with np.errstate(over="ignore"):
        z = np.uint64(seed) + (np.arange(n, dtype=np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ z >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ z >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
        return z ^ z >> np.uint64(31)


def summary(g):
    """[5]: the norm, and sums with the signs of bits 60..63 of splitmix(SIGNS, i), + for 0."""
    v = g.detach().double().numpy().ravel()
    bits = splitmix(SIGNS, v.size)
    signs = [1.0 - 2.0 * (bits >> np.uint64(60 + j) & np.uint64(1)).astype(float) for j in range(4)]
    return np.array([np.linalg.norm(v), *(v @ s for s in signs)])


def batch_of(ids, generator):
    """Two sequences of BATCH lengths: ids and labels [2, longest], about two thirds of the labels learned."""
    width = max(BATCH)
    out, labels = torch.zeros(2, width, dtype=torch.long), torch.full((2, width), IGNORE)
    for i, n in enumerate(BATCH):
        out[i, :n] = ids(n)
        keep = torch.rand(n, generator=generator) < 0.67
        labels[i, :n][keep] = out[i, :n][keep]
    return out, labels


def backward(model, ids, labels):
    """Mean over all learned tokens of both sequences, each by itself: no padding anywhere."""
    learned = int((labels[:, 1:] != IGNORE).sum())
    total = 0.0
    for i, n in enumerate(BATCH):
        part = model(ids[i:i + 1, :n], labels=labels[i:i + 1, :n], use_cache=False).loss
        part = part * (int((labels[i, 1:n] != IGNORE).sum()) / learned)
        part.backward()
        total += float(part)
    return total


def gradients(named, exact, prefix, oriented=lambda name, g: g):
    """Summaries, and how far the f32 gradients lie from those of the exact parameters, of the same order."""
    grads = {name: w.grad for name, w in named if w.requires_grad}
    whole = float(torch.sqrt(sum(g.double().square().sum() for g in grads.values())))
    worst = 0.0
    for (name, g), e in zip(grads.items(), (w.grad for w in exact if w.requires_grad), strict=True):
        off = float((g.double() - e).norm() / e.norm())
        if not float(g.norm()) > SHARE * whole or not off < NOISE:
            raise Refused(f"the gradient of {name} is {float(g.norm()):.2g} of {whole:.2g}, rounded by {off:.2g}")
        worst = max(worst, off)
    return {prefix + name: summary(oriented(name, g)) for name, g in grads.items()}, worst


def rows_out(case):
    """Gradients are kept as rows of outputs: transformers has [in, out] in GPT-2 and in gpt-oss' experts."""
    def turn(name, g):
        if case.type == "gpt2" and g.dim() == 2 and ".wte." not in name and ".wpe." not in name:
            return g.T
        return g.transpose(1, 2) if case.type == "gpt_oss" and g.dim() == 3 else g
    return turn


# ---- greedy text, adapter -----------------------------------------------------------------------------------
def greedy(model, ids):
    """NEW tokens with a cache; the same without; no step is nearly a tie."""
    out, past, step, gap = ids.tolist(), None, ids[None], float("inf")
    with torch.no_grad():
        for _ in range(NEW):
            r = model(step, past_key_values=past, use_cache=True)
            past = r.past_key_values
            top = r.logits[0, -1].topk(2)
            gap = min(gap, float(top.values[0] - top.values[1]))
            out.append(int(top.indices[0]))
            step = torch.tensor([out[-1:]])
        whole = model(torch.tensor([out]), use_cache=False).logits[0, len(ids) - 1:-1].argmax(-1)
    if gap < TIE or whole.tolist() != out[len(ids):]:
        raise Refused(f"greedy text is decided by {gap:.2g}")
    if len(set(out[len(ids):])) < 4:
        raise Refused("greedy text repeats itself")
    return out[len(ids):], gap


def with_adapter(case, model, folder, seed):
    """A random adapter (B too) over all linear layers, saved as peft does it; the model with it."""
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
                        fan_in_fan_out=case.type == "gpt2", **case.lora)
    model = get_peft_model(model, config)
    g = torch.Generator().manual_seed(seed)
    for name, w in model.named_parameters():
        if "lora_" in name:
            v = torch.randn(w.shape, generator=g) * (w.shape[1] ** -0.5 if "lora_A" in name else 0.15)
            w.data.copy_(v.bfloat16())
    shutil.rmtree(folder, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = os.path.basename(os.path.dirname(folder))
    model.save_pretrained(folder, save_embedding_layers=False)
    path = os.path.join(folder, "adapter_config.json")
    with open(path, encoding="utf-8") as f:
        saved = json.load(f)
    for key in ("target_modules", "target_parameters"):  # sets: in another order each time
        saved[key] = sorted(saved[key]) if saved[key] else saved[key]
    write_json(path, saved)
    readme = os.path.join(folder, "README.md")
    if os.path.exists(readme):
        os.remove(readme)
    file = os.path.join(folder, "adapter_model.safetensors")
    keys = load_file(file)
    save_file({k: v.bfloat16() for k, v in keys.items()}, file, metadata={"format": "pt"})  # exact, half the size
    named = [(n.replace(".default.", "."), w) for n, w in model.named_parameters() if "lora_" in n]
    if set(keys) != {n for n, _ in named}:
        raise SystemExit(f"{folder}: peft saves other names than its parameters have")
    return model, named


# ---- one case ---------------------------------------------------------------------------------------------
def make(name, case, out, seed):
    folder = os.path.join(out, name)
    config = AutoConfig.for_model(case.type, **config_of(case))
    model, packed = draw(case, config, seed)
    save(case, model, packed, folder)
    drawn, model = {k: w.float() for k, w in model.named_parameters()}, load(folder)
    if not all(torch.equal(w, drawn[k]) for k, w in model.named_parameters()):
        raise SystemExit(f"{folder}: transformers reads other values than were drawn")
    gaps = []
    watch_routers(model, gaps)
    g = torch.Generator().manual_seed(seed + 1)

    def ids(n):  # the special tokens are left out: torch gives a padding token no gradient
        return torch.randint(3, config.vocab_size, (n,), generator=g)

    long, short, start = ids(LONG), ids(SHORT), ids(START)
    t = {"long.ids": long, "long.logits": last_logits(model, long, ROWS), "short.ids": short,
         "short.logits": last_logits(model, short, 4)}
    spread = float(t["long.logits"].std())
    if not 0.25 < spread < 4:
        raise Refused(f"logits spread by {spread:.2g}")
    text, gap = greedy(model, start)
    t["greedy.prompt"], t["greedy.ids"] = start, text

    batch, labels = batch_of(ids, g)
    t.update({"batch.ids": batch, "batch.labels": labels, "batch.lens": list(BATCH),
              "loss": [backward(model, batch, labels)]})
    exact = load(folder, torch.float64)
    backward(exact, batch, labels)
    found, noise = gradients(model.named_parameters(), exact.parameters(), "grad/", rows_out(case))
    t.update(found)
    if gaps and min(gaps) < TIE:
        raise Refused(f"two experts are {min(gaps):.2g} apart")
    seen = check_seen(case, model, long, t["long.logits"])
    check_hub(folder, long, t["long.logits"])
    if case.gguf:
        t["gguf.logits"] = last_logits(load(folder, config=gguf_config(case, folder)), long, 4)
    off = float((t["long.logits"] - last_logits(exact, long, ROWS)).abs().max())

    model, named = with_adapter(case, model, os.path.join(folder, "lora"), seed + 2)
    t["lora.logits"] = last_logits(model, long, 4)
    t["lora.loss"] = [backward(model, batch, labels)]
    exact = PeftModel.from_pretrained(load(folder, torch.float64), os.path.join(folder, "lora"), is_trainable=True)
    exact = exact.double().eval()
    backward(exact, batch, labels)
    found, lora_noise = gradients(named, [w for n, w in exact.named_parameters() if "lora_" in n], "lora/")
    t.update(found)
    if gaps and min(gaps) < TIE:
        raise Refused(f"with the adapter, two experts are {min(gaps):.2g} apart")
    write(folder + ".safetensors", t, seed=seed, peft=peft.__version__, smallest_greedy_gap=gap,
          smallest_router_gap=min(gaps) if gaps else None, largest_difference_from_f64=off,
          largest_difference_of_a_gradient=max(noise, lora_noise),
          least_move_of_logits=None if seen == float("inf") else seen)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=5)
    p.add_argument("--out", default=OUT)
    p.add_argument("--only", help="one case; the list of cases is left alone")
    a = p.parse_args()
    out = os.path.join(a.out, "archs")
    os.makedirs(out, exist_ok=True)
    for i, (name, case) in enumerate(CASES.items()):
        if a.only not in (None, name):
            continue
        begin = time.perf_counter()
        for attempt in range(TRIES):
            settle(a.seed)
            try:
                make(name, case, out, a.seed * 1000000 + attempt * 1000 + i * 10)
                break
            except Refused as e:
                print(f"  {name}, draw {attempt}: {e}")
        else:
            raise SystemExit(f"{name}: {TRIES} draws, each refused")
        print(f"  {name}: {time.perf_counter() - begin:.1f} s")
    if not a.only:
        with open(os.path.join(out, "list.txt"), "w", encoding="utf-8") as f:
            f.write("".join(name + "\n" for name in CASES))


if __name__ == "__main__":
    main()
