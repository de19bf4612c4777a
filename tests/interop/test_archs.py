"""Architecture by architecture: transformers' and peft's numbers made anew with this run's seed, and GGUF files by the
package gguf, compared by the C program of the golden ring; then the folders, adapters and GGUF files that forja
wrote, read by transformers, peft and the package gguf.
"""
import json
import os
import subprocess

import gguf
import numpy as np
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

import gguf_rules as rules
from archs import load
from common import settle
from peer import BUILD, ROOT, SEED, Folder, check, failures, finish, generate, near

# transformers reads these from a GGUF; what it does not read of the config is given to it
READ = ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "phi3", "gpt2")

# no GGUF can say what is special in these
WITHOUT_GGUF = ("smollm3-pattern", "qwen3-moe-mixed")


def gguf_config(case):
    """What a GGUF of the case can say: gguf.json, or None for the folder's own config."""
    path = os.path.join(case, "gguf.json")
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as f:
        return AutoConfig.for_model(**json.load(f))


def names_of(folder):
    with open(os.path.join(folder, "archs", "list.txt"), encoding="utf-8") as f:
        return f.read().split()


def peer_files(folder):
    """archs/CASE.gguf as a converter would write it, for the C program."""
    made = 0
    for name in names_of(folder):
        case = os.path.join(folder, "archs", name)
        if name not in WITHOUT_GGUF:
            rules.write(case + ".gguf", load(case, config=gguf_config(case)), case)
            made += 1
    check(made > 0, "no GGUF was made")


def program(folder, keep):
    """The C program on the fresh files; prints what was compared, or how each failure reads."""
    results = os.path.join(keep, "results")
    r = subprocess.run([os.path.join(BUILD, "test_archs")], cwd=ROOT, capture_output=True, text=True, timeout=900,
                       env=dict(os.environ, FORJA_GOLDEN=folder, FORJA_KEEP=keep, FORJA_RESULTS=results))
    failed = [line for line in r.stderr.splitlines() if line.startswith(("ERROR", "[  FAILED  ]"))]
    check(r.returncode == 0, f"test_archs on seed {SEED}:\n" + "\n".join(failed or [r.stdout[-1500:]]))
    worst = {}
    if os.path.exists(results):
        with open(results, encoding="utf-8") as f:
            for line in f:
                words = line.split()
                worst.setdefault(words[1], []).append(f"{' '.join(words[2:-1])} {words[-1]}")
    for name, values in worst.items():
        print(f"  {name}: " + ", ".join(values), flush=True)


def same_file(path, model, what):
    """Names, values and metadata of a GGUF file against the model that it was made of."""
    reader, arch = gguf.GGUFReader(path), rules.ARCH[model.config.model_type]
    fields = {name: f.contents() for name, f in reader.fields.items()}
    check(fields.get("general.architecture") == arch, f"{what}: architecture {fields.get('general.architecture')}, not {arch}")
    unknown = [k for k in fields if k.startswith(arch + ".") and k not in rules.known_keys(arch)]
    check(not unknown, f"{what}: keys that gguf does not know: {unknown}")
    for key, value in rules.metadata(model.config).items():
        got = fields.get(f"{arch}.{key}")
        same = got is not None and (got == value if isinstance(value, str) else np.float32(got) == np.float32(value))
        check(same, f"{what}: {arch}.{key} is {got}, not {value}")
    try:
        want = rules.tensors(model)
    except ValueError as e:
        return check(False, f"{what}: {e}, so that it should have been refused")
    have = {t.name: t for t in reader.tensors}
    check(set(have) == set(want), f"{what}: tensors {sorted(set(have) ^ set(want))} are only on one side")
    alien = [name for name in have if not rules.known_tensor(arch, name)]
    check(not alien, f"{what}: tensors that gguf does not know: {alien}")
    for name in set(have) & set(want):
        got, w = gguf.quants.dequantize(have[name].data, have[name].tensor_type), want[name]
        limit = 1e-6 * np.abs(w).max() if name.startswith("rope_") else 0
        check(got.shape == w.shape and np.abs(got - w).max() <= limit, f"{what}: {name} has other values")
    return True


def same_logits(opened, golden, rows, what):
    """Of the long prompt, against `rows` of the golden file.  opened(): the model, by the peer's own reading."""
    try:
        model = opened().eval()
    except Exception as e:  # whatever the peer says about a file of ours is what is to be reported
        return check(False, f"{what}: {type(e).__name__}: {str(e)[:500]}")
    ids = torch.tensor(golden["long.ids"]).long()
    with torch.no_grad():
        near(model(ids[None], use_cache=False).logits[0, -len(golden[rows]):], golden[rows], what, 1e-5)


def gguf_by_transformers(path, config):
    if config.model_type == "mistral":  # a GGUF of it is one of Llama's architecture
        config = LlamaConfig(**{k: v for k, v in config.to_dict().items() if k != "model_type"})
    return AutoModelForCausalLM.from_pretrained(
        os.path.dirname(path), gguf_file=os.path.basename(path), config=config, dtype=torch.float32,
        attn_implementation="eager", experts_implementation="eager")


def check_gguf(case, path, golden, rows, what, config=None):
    """A GGUF file of the case; config: gguf.json, where it was made after its changes."""
    model = load(case, config=config)
    c = model.config
    windowless = c.model_type != "mistral" or c.sliding_window is None  # Llama's architecture has no window there
    if same_file(path, model, what) and c.model_type in READ and windowless:
        same_logits(lambda: gguf_by_transformers(path, c), golden, rows, f"{what} by transformers")


def written(folder, keep):
    """Everything that the program left in keep."""
    seen = {"folder": 0, "adapter": 0, "gguf": 0, "standard": 0}
    names = names_of(folder)
    for name in names:
        case, kept = os.path.join(folder, "archs", name), os.path.join(keep, name)
        golden = load_file(case + ".safetensors")
        if os.path.exists(kept + "-folder/model.safetensors"):
            seen["folder"] += 1
            same_logits(lambda: load(kept + "-folder"), golden, "long.logits", f"{name}: folder by transformers")
        if os.path.exists(kept + "-adapter/adapter_config.json"):
            seen["adapter"] += 1
            same_logits(lambda: PeftModel.from_pretrained(load(case), kept + "-adapter"), golden, "lora.logits",
                        f"{name}: adapter by peft")
        if os.path.exists(kept + ".gguf"):
            seen["gguf"] += 1
            check_gguf(case, kept + ".gguf", golden, "long.logits", name + ".gguf")
        if os.path.exists(kept + "-standard.gguf"):
            seen["standard"] += 1
            check_gguf(case, kept + "-standard.gguf", golden, "gguf.logits", name + "-standard.gguf",
                       gguf_config(case))
    for kind, n in seen.items():
        check(n > 0, f"forja left no {kind}")
    print(f"  read: {seen}", flush=True)
    planted(names, folder, keep)


def planted(names, folder, keep):
    """The comparison of files must be able to fail: one value of the model is changed."""
    paths = [p for p in (os.path.join(keep, n + ".gguf") for n in names) if os.path.exists(p)]
    before = len(failures)
    if paths:
        model = load(os.path.join(folder, "archs", os.path.basename(paths[0])[:-5]))
        with torch.no_grad():
            model.get_input_embeddings().weight[7, 3] += 1e-3
        same_file(paths[0], model, "planted")
    found = len(failures) == before + 1
    del failures[before:]
    check(found, "one planted difference between a GGUF file and a model is not seen as one")


def main():
    settle(SEED)
    with Folder() as f:
        generate("archs.py", f())
        keep = f("keep")
        os.mkdir(keep)
        if check(os.path.exists(os.path.join(BUILD, "test_archs")), "test_archs is not built"):
            peer_files(f())
            program(f(), keep)
            written(f(), keep)
    finish()


if __name__ == "__main__":
    main()
