"""What `forja export` and `forja quantize` write, read by those for whom it is.

  - merged folders by transformers: the weights and logits of peft's merge_and_unload, for every architecture;
    adapters of peft's other kinds; adapters by peft again
  - an adapter trained by peft over NF4 weights of bitsandbytes, merged into what it was trained on
  - GGUF files of every type that forja writes: by the package gguf, and by llama.cpp, which computes forja's
    logits from their values and writes forja's greedy text from the files themselves
  - GGUF adapters by llama.cpp
"""
import json
import os
import shutil

import bitsandbytes.functional as bnb
import gguf
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from archs import load
from common import settle
from gguf_copy import as_f32, formats
from llama_peer import Llama
from peer import ROOT, SEED, Folder, check, finish, forja, near, rng
from test_llama import ASKED, BASE, GOLDEN, SAME, asked, ours, texts, wide

ABSMAX = 1e-2  # forja keeps the largest value of each 64 in f16, bitsandbytes in more bits
ARCHS = os.path.join(GOLDEN, "archs")


def some_ids(name, n=48):
    r = rng("export " + name)
    return [r.randrange(3, 64) for _ in range(n)]


def logits(model, ids):
    with torch.no_grad():
        return model.eval()(torch.tensor([ids]), use_cache=False).logits[0].float().numpy()


def export(base, to, out, adapter=None, *more):
    """The report of an export, which proved itself."""
    forja("export", "--base", base, *(["--adapter", adapter] if adapter else []), "--to", to, *more, out)
    return out


def random_adapter(model, folder, name, **config):
    """A LoRA adapter as peft saves it, B drawn, too."""
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config))
    g = torch.Generator().manual_seed(rng("adapter " + name).randrange(1 << 30))
    with torch.no_grad():
        for key, w in model.named_parameters():
            if "lora_" in key:
                w.copy_(torch.randn(w.shape, generator=g) * (w.shape[1] ** -0.5 if "lora_A" in key else 0.1))
    model.save_pretrained(folder)
    return model


# ---- merged folders ------------------------------------------------------------------------------------
def merged(f):
    """Every architecture with its adapter of tests/golden: in F32 the numbers of peft."""
    with open(os.path.join(ARCHS, "list.txt"), encoding="utf-8") as names:
        names = names.read().split()
    for name in names:
        case = os.path.join(ARCHS, name)
        lora = os.path.join(case, "lora")
        out = export(case, "hf:F32", f(name), lora, "--no-verify")
        want = PeftModel.from_pretrained(load(case), lora).merge_and_unload()
        ids = some_ids(name)
        near(logits(load(out), ids), logits(want, ids), f"{name}: merged folder by transformers", SAME)


def sixteen_bits(f):
    """A BF16 base stays BF16: each value is that of peft's merge, rounded; f32 may fall the other way half between."""
    case = os.path.join(ARCHS, "llama")
    out = export(case, "hf", f("bf16"), os.path.join(case, "lora"))
    want = PeftModel.from_pretrained(load(case), os.path.join(case, "lora")).merge_and_unload().state_dict()
    other = total = 0
    for name, w in load_file(os.path.join(out, "model.safetensors")).items():
        check(w.dtype == torch.bfloat16, f"merged BF16: {name} is {w.dtype}")
        a, b = w.view(torch.int16).int(), want[name].bfloat16().view(torch.int16).int()
        other, total = other + int((a != b).sum()), total + a.numel()
        check(int((a - b).abs().max()) <= 1, f"merged BF16: {name} is off by more than a step")
    check(other <= total / 1000, f"merged BF16: {other} of {total} values are rounded otherwise")


def kinds(f):
    """rsLoRA, ranks and scales by module, few modules."""
    case = os.path.join(ARCHS, "qwen2")
    for name, config in {
            "rslora": dict(r=4, lora_alpha=3, use_rslora=True, target_modules="all-linear"),
            "patterns": dict(r=2, lora_alpha=4, target_modules=["q_proj", "down_proj"], rank_pattern={"q_proj": 5},
                             alpha_pattern={"layers.1.mlp.down_proj": 9}),
            "one module": dict(r=3, lora_alpha=6, target_modules=["o_proj"], layers_to_transform=[1]),
    }.items():
        lora, ids = f("lora-" + name), some_ids(name)
        trained = random_adapter(load(case), lora, name, **config)
        want = logits(trained, ids)
        near(logits(load(export(case, "hf:F32", f("hf-" + name), lora)), ids), want, f"{name}: merged folder", SAME)
        again = PeftModel.from_pretrained(load(case), export(case, "adapter", f("peft-" + name), lora))
        near(logits(again, ids), want, f"{name}: adapter by peft", SAME)
        model, adapter = export(case, "gguf:F32", f(f"{name}.gguf")), export(case, "gguf-adapter", f(f"{name}-a.gguf"), lora)
        with Llama(model, adapter) as m:
            near(m.logits(ids), want, f"{name}: GGUF adapter by llama.cpp", SAME)


# ---- 4-bit weights of bitsandbytes -----------------------------------------------------------------------
def nf4_folder(f):
    """A random model in NF4 by bitsandbytes, of an F32 folder: then its values are F32, too."""
    wide(f, "llama", intermediate_size=512)
    plain = load(f("llama"))
    plain.save_pretrained(f("plain"))
    model = AutoModelForCausalLM.from_pretrained(
        f("plain"), dtype=torch.float32, device_map="cpu", attn_implementation="eager",
        quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4",
                                               bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32))
    model.save_pretrained(f("nf4"))
    shutil.copy(f("llama/tokenizer.json"), f("nf4"))
    exact, kept = plain.state_dict(), {}
    for name, w in model.named_parameters():
        if type(w).__name__ == "Params4bit":
            exact[name] = bnb.dequantize_4bit(w.data, w.quant_state)
            check(exact[name].dtype == torch.float32, f"NF4: {name} becomes {exact[name].dtype}")
            blocks = exact[name].reshape(-1, 64)  # the outermost codes are 1 and -1: absmax is the largest value
            absmax = blocks.abs().amax(1, keepdim=True)
            kept[name] = (blocks * (absmax.half().float() / absmax)).reshape(exact[name].shape)
    plain.load_state_dict(exact)
    return model, plain, kept


def trained_on_nf4(f):
    """QLoRA as people do it, and the merged model computes what was trained: peft's adapter over the values that
    bitsandbytes dequantises to (its own forward pass without gradients is in BF16 on some processors)."""
    model, plain, kept = nf4_folder(f)
    model = random_adapter(model, f("start"), "nf4", r=4, lora_alpha=8, target_modules="all-linear").train()
    ids = some_ids("nf4")
    step = torch.optim.AdamW([w for w in model.parameters() if w.requires_grad], lr=5e-3)
    losses, t = [], torch.tensor([ids])
    for _ in range(8):
        loss = model(t, labels=t, use_cache=False).loss
        loss.backward()
        step.step()
        step.zero_grad()
        losses.append(loss.item())
    check(losses[-1] < losses[0] - 0.1, f"NF4: peft does not learn: {losses}")
    model.save_pretrained(f("lora"))
    theirs = PeftModel.from_pretrained(plain, f("lora"))
    want = logits(theirs, ids)
    plain = theirs.unload()
    got = logits(load(export(f("nf4"), "hf:F32", f("merged"), f("lora"))), ids)
    near(got, want, "adapter trained on NF4: merged folder by transformers", ABSMAX)
    plain.load_state_dict(dict(plain.state_dict(), **kept))
    want = logits(PeftModel.from_pretrained(plain, f("lora")), ids)
    near(got, want, "the same over values with absmax in f16", SAME)
    with Llama(export(f("nf4"), "gguf:F32", f("merged.gguf"), f("lora"))) as m:
        near(m.logits(ids), got, "adapter trained on NF4: merged GGUF by llama.cpp", SAME)


# ---- GGUF --------------------------------------------------------------------------------------------------
WRITES = ["F32", "F16", "BF16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q5_1", "Q5_0", "Q4_K_M", "Q4_K_S", "Q4_1", "Q4_0",
          "IQ4_NL", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S", "Q2_K"]


def types(f):
    """`forja quantize` to every type: llama.cpp computes from the values what forja computes from the file."""
    src, moe = wide(f, "llama", intermediate_size=512), wide(f, "qwen3-moe", moe_intermediate_size=256)
    ids = some_ids("types")
    original = {t.name: np.array(t.data, np.float32) for t in gguf.GGUFReader(src).tensors}
    for one, kind in [(src, t) for t in WRITES] + [(moe, "MXFP4_MOE"), (moe, "Q4_K_M")]:
        out = f("quantised.gguf")
        forja("quantize", one, out, kind)
        flat, got = as_f32(out, f("flat.gguf")), ours(f, out, ids)
        if one == src:
            for t in gguf.GGUFReader(flat).tensors:
                v, w = np.array(t.data, np.float32), original[t.name]
                off = float(np.sqrt(((v - w) ** 2).mean() / (w ** 2).mean()))
                check(v.shape == w.shape and off < 0.5, f"{kind}: {t.name} is {off:.2g} off")
        with Llama(flat) as m:
            near(got, m.logits(ids), f"{kind} ({' '.join(formats(out))}): logits", SAME)
        with Llama(out) as m:  # its own arithmetic: rows rounded to 8 bits, which may choose another expert
            apart, spread = np.abs(m.logits(ids) - got).mean(), got.std()
            check(apart < (0.05 if one == src else 0.2) * spread, f"{kind}: llama.cpp's own logits are {apart:.3g} away of {spread:.3g}")
        os.remove(out)


def greedy(f):
    """The demo's adapter, merged: llama.cpp writes forja's text from each file."""
    forja("train", os.path.join(ROOT, "demo", "recipe.yaml"), "--no-eval", f"output_dir={f('run')}", "max_steps=40",
          home=f("home"))
    for kind in ("F16", "Q8_0", "Q4_K_M", "keep"):
        out = f(f"{kind}.gguf")
        forja("export", f("run"), "--to", f"gguf:{kind}", out, home=f("home"))
        texts(f, out, what=f"merged, {kind}", least=3)
    forja("export", f("run"), "--to", "ollama", f("ollama"), home=f("home"))
    with open(f("ollama/Modelfile"), encoding="utf-8") as m:
        line = next(x for x in m if x.startswith("FROM "))
    with Llama(f("ollama/" + os.path.basename(line.split()[1]))) as m:
        said = m.text(m.greedy(m.ids(asked(ASKED[0])), 30)[0])
        check(len(said) > 10, f"the model of the Ollama folder says {said!r}")


def main():
    settle(SEED)
    for part in (merged, sixteen_bits, kinds, trained_on_nf4, types, greedy):
        if os.environ.get("PART", part.__name__) == part.__name__:
            with Folder() as f:
                part(f)
    finish()


if __name__ == "__main__":
    main()
