"""llama.cpp (of llama-cpp-python) beside forja.

  - It loads the GGUF file of every architecture and the GGUF adapter for it, as forja wrote them, and
    computes forja's logits and forja's greedy ids.
  - It writes forja's greedy text from the base model and from an adapter that `forja train` made.
  - What its quantiser writes in every format that it has, forja reads: logits of the same bits as from the
    file dequantised by the package gguf, and llama.cpp computes the same from that.

How near: both compute an F32 file in f32, in other orders, so that 2e-5 holds for logits of size 1.  llama.cpp looks
GELU up in a table with arguments and values in f16 (GGML_GELU_FP16), which moves logits by 1e-3: forja is within 4e-3, and
with that table put into transformers' model 2e-5 holds again.  It rounds the ends of YaRN's ramp where gpt-oss does not
(`truncate`): that case is compared at a base frequency at which both are the same.
"""
import json
import math
import os
import shutil
import subprocess

import gguf
import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoConfig

import gguf_rules as rules
from arch_cases import CASES, config_of
from archs import draw, load, save
from common import settle
from gguf_copy import as_f32, formats
from llama_peer import FTYPE, Llama, Refused, quantize
from peer import BUILD, ROOT, Folder, check, failures, finish, forja, near, rng

SAME = 2e-5   # f32 in another order
TABLE = 4e-3  # GELU from llama.cpp's table
TIE = 0.04    # how far two programs move a logit that round the rows of quantised products each in its own way
GELU = ("gemma2", "gemma3", "gpt2", "gpt2-bare")
NOT_GGUF = ("qwen3-moe-mixed", "smollm3-pattern")
GOLDEN = os.path.join(ROOT, "tests", "golden")
BASE = os.path.join(ROOT, "models", "forja-base.gguf")


def ours(f, model, ids, adapter=None):
    out = f("logits.safetensors")
    forja("eval", model, *(["--adapter", adapter] if adapter else []), "--f32", "-j", 1, "--dump-logits", out,
          "--tokens", " ".join(map(str, ids)))
    return load_file(out)["logits.0"]


# ---- every architecture ------------------------------------------------------------------------------
def table_gelu(x):
    """GELU as ggml looks it up: the argument and the value in f16, exact beyond 10."""
    with torch.no_grad():
        y = torch.nn.functional.gelu(x.half().float(), approximate="tanh").half().float()
        return torch.where(x <= -10, torch.zeros_like(x), torch.where(x >= 10, x, y))


class TableGelu(torch.nn.Module):
    def forward(self, x):
        return table_gelu(x)


def with_table(name):
    """The case as transformers has it, GELU from the table."""
    case = os.path.join(GOLDEN, "archs", name)
    changed = os.path.join(case, "gguf.json")
    config = None
    if os.path.exists(changed):
        with open(changed, encoding="utf-8") as c:
            config = AutoConfig.for_model(**json.load(c))
    model = load(case, config=config)
    for module in model.modules():
        for attr in ("act", "act_fn"):
            if hasattr(module, attr):
                setattr(module, attr, TableGelu())
    return model


def as_looked_up(name, path, r):
    """Now and then an argument lies between two entries of the table and falls to the other one: half of the prompts
    have to be free of that."""
    model, apart = with_table(name), []
    with Llama(path) as m, torch.no_grad():
        for _ in range(15):
            ids = [r.randrange(3, 64) for _ in range(4)]
            apart.append(np.abs(model(torch.tensor([ids]), use_cache=False).logits[0].numpy() - m.logits(ids)).max())
    near(np.median(apart), 0, f"{name}: logits with llama.cpp's table of GELU, the median of 15 prompts", SAME)


def same_yarn(path):
    """gpt-oss at the base frequency where YaRN's ramp ends at 2, so that rounding up leaves it there."""
    reader = gguf.GGUFReader(path, "r+")

    def field(key):
        f = reader.fields["gpt-oss." + key]
        return f.parts[f.data[0]]

    original, dim = int(field("rope.scaling.original_context_length")[0]), int(field("attention.key_length")[0])
    field("rope.freq_base")[0] = (original / 2 / math.pi) ** (dim / 4) * (1 + 1e-6)
    reader.data.flush()


def architecture(f, name, path, adapter, r):
    ids = [r.randrange(3, 64) for _ in range(75)]
    limit = TABLE if name in GELU else SAME
    with Llama(path) as m:
        theirs = m.logits(ids)
        text, gap = m.greedy(ids[:40], 24)
    near(ours(f, path, ids), theirs, f"{name}: logits", limit)
    if name in GELU:
        as_looked_up(name, path, r)
    said = ours(f, path, ids[:40] + text)[39:-1].argmax(-1).tolist()
    decided = gap > 2 * limit
    if decided:
        check(said == text, f"{name}: greedy ids {said}, not {text}")
    with Llama(path, adapter) as m:
        near(ours(f, path, ids, adapter), m.logits(ids), f"{name}: logits with the adapter", limit)
    return decided


def architectures(f):
    """What the C program of the golden ring saves: every case as GGUF, and its adapter."""
    r = subprocess.run([os.path.join(BUILD, "test_archs")], cwd=ROOT, capture_output=True, text=True, timeout=900,
                       env=dict(os.environ, FORJA_GOLDEN=GOLDEN, FORJA_KEEP=f()))
    if not check(r.returncode == 0, f"test_archs: {r.stderr[-1500:]}"):
        return
    with open(os.path.join(GOLDEN, "archs", "list.txt"), encoding="utf-8") as names:
        names = [n for n in names.read().split() if n not in NOT_GGUF]
    decided = 0
    for name in names:
        path = f(name + "-standard.gguf")
        path = path if os.path.exists(path) else f(name + ".gguf")
        if name.startswith("gpt-oss"):
            same_yarn(path)
        try:
            decided += architecture(f, name, path, f(name + "-adapter.gguf"), rng("llama " + name))
        except Refused as e:
            check(False, f"{name}: llama.cpp refuses it: {e}")
    check(decided > len(names) / 2, f"greedy ids of {decided} of {len(names)} architectures could be compared")
    planted(f, f(names[0] + ".gguf"))


def planted(f, path):
    """One value changed by 1e-2 must be seen."""
    def change(name, v):
        if name == "blk.0.attn_q.weight":
            v[3, 5] += 1e-2
        return v

    before, ids = len(failures), rng("planted").sample(range(3, 64), 40)
    with Llama(as_f32(path, f("planted.gguf"), change)) as m:
        near(ours(f, path, ids), m.logits(ids), "planted", SAME)
    found = len(failures) == before + 1
    del failures[before:]
    check(found, "a planted difference of one weight is not seen in the logits")


# ---- text ------------------------------------------------------------------------------------------------
TEXTS = ["The town of Ilvara", "The great road goes from", "Where do people celebrate", "In Fenwyn the baker",
         "Market day in Durrow is", "A cidade de Lumora", "Notice:", "Once upon a time"]
ASKED = ["Which day is market day in Ilvara?", "What is the name of the festival of Lumora?",
         "Which town comes after Kelvany on the road?", "Que cidade é conhecida pela cerâmica?"]


def asked(question):
    return f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def texts(f, model, adapter=None, gguf_adapter=None, what="base", least=8):
    """Greedy text from raw prompts and from questions; nearly tied tokens are counted, not compared."""
    compared = 0
    with Llama(model, gguf_adapter) as m:
        for prompt, raw in [(p, True) for p in TEXTS] + [(p, False) for p in ASKED]:
            got = json.loads(forja("run", model, prompt, *(["--template", "raw"] if raw else []), "--greedy", "-n", 40,
                                   *(["--adapter", adapter] if adapter else []), "--json"))
            ids, gap = m.greedy(m.ids(prompt if raw else asked(prompt)), 40)
            if gap > TIE:
                compared += 1
                check(got["text"] == m.text(ids), f"{what}: {prompt!r} goes on {got['text']!r}, not {m.text(ids)!r}")
    check(compared >= least, f"{what}: only {compared} texts were decided by more than {TIE}")
    print(f"  {what}: {compared} of {len(TEXTS) + len(ASKED)} greedy texts compared", flush=True)


def trained(f):
    """An adapter of `forja train` on the base model, as llama.cpp reads it."""
    forja("train", os.path.join(ROOT, "demo", "recipe.yaml"), "--no-eval", f"output_dir={f('run')}", "max_steps=40",
          home=f("home"))
    adapter = f("run/adapter.gguf")
    base = as_f32(BASE, f("base-f32.gguf"))
    r = rng("trained")
    with Llama(base) as m:
        ids = m.ids(asked(r.choice(ASKED)) + "The people of")
        without = m.logits(ids)
        near(ours(f, BASE, ids), without, "base model in Q8_0: logits", 5 * SAME)
    with Llama(base, adapter) as m:
        theirs = m.logits(ids)
        near(ours(f, BASE, ids, adapter), theirs, "with a trained adapter: logits", 5 * SAME)
        check(np.abs(theirs - without).max() > 1, "the trained adapter moves nothing")
    texts(f, BASE)
    texts(f, BASE, f("run/adapter"), adapter, "trained adapter", least=4)


# ---- files of llama.cpp's quantiser ------------------------------------------------------------------------
NEEDS_WEIGHTS = ("IQ2_XXS", "IQ2_XS", "IQ1_S", "IQ1_M", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S")
NOT_READ = ("IQ1_S", "IQ1_M")


def wide(f, name, **change):
    """A random model wide enough for blocks of 256, as transformers has it, and its GGUF by the package."""
    case = CASES[name]
    config = AutoConfig.for_model(case.type, **dict(config_of(case), hidden_size=256, head_dim=64, **change))
    model, packed = draw(case, config, rng("wide " + name).randrange(1 << 30))
    save(case, model, packed, f(name))
    rules.write(f(name + "-f32.gguf"), load(f(name)), f(name))
    return f(name + "-f32.gguf")


def importance(path):
    """Positive numbers for every matrix: what an importance matrix looks like to the quantiser."""
    r = np.random.default_rng(rng("importance").randrange(1 << 30))
    out = {}
    for t in gguf.GGUFReader(path).tensors:
        if len(t.shape) > 1:
            experts = int(t.shape[2]) if len(t.shape) > 2 else 1
            out[t.name] = r.gamma(1.0, size=int(t.shape[0]) * experts).astype(np.float32)
    return out


def reads(f, path, what, ids):
    """The logits from path are those from its values in F32; llama.cpp's, too."""
    flat = as_f32(path, f("flat.gguf"))
    got, want = ours(f, path, ids), ours(f, flat, ids)
    check(np.array_equal(got, want), f"{what}: logits differ by {np.abs(got - want).max():.3g} from the dequantised file's")
    with Llama(flat) as m:
        near(got, m.logits(ids), f"{what} ({' '.join(formats(path))}): logits", SAME)


def theirs(f):
    r = rng("theirs")
    ids = [r.randrange(3, 64) for _ in range(40)]
    src, moe = wide(f, "llama", intermediate_size=512), wide(f, "qwen3-moe", moe_intermediate_size=256)
    for ftype in FTYPE:
        if ftype in NOT_READ:
            continue
        one = moe if ftype == "MXFP4_MOE" else src
        quantize(one, f("theirs.gguf"), ftype, imatrix=importance(one) if ftype in NEEDS_WEIGHTS else None)
        reads(f, f("theirs.gguf"), f"llama.cpp's {ftype}", ids)
    for ftype in ("Q4_K_M", "Q8_0"):
        quantize(moe, f("theirs.gguf"), ftype)
        reads(f, f("theirs.gguf"), f"llama.cpp's {ftype} of experts", ids)


def main():
    settle(1)
    for part in (architectures, trained, theirs):
        if os.environ.get("PART", part.__name__) == part.__name__:
            with Folder() as f:
                part(f)
    finish()


if __name__ == "__main__":
    main()
