"""Architecture by architecture: transformers' and peft's numbers made anew with this run's seed, compared by the C
program of the golden ring; then the GGUF files that forja wrote, read by the package gguf and by transformers.
"""
import json
import os
import subprocess

import gguf
import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

import gguf_rules as rules
from archs import load
from peer import BUILD, ROOT, SEED, Folder, check, finish, generate, near

# transformers reads these from a GGUF; what it does not read of the config is given to it
READ = ("llama", "mistral", "qwen2", "qwen3", "qwen3_moe", "gemma2", "gemma3_text", "phi3", "gpt2")


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
        got = gguf.quants.dequantize(have[name].data, have[name].tensor_type).reshape(want[name].shape)
        limit = 1e-6 if name.startswith("rope_") else 0
        check(np.abs(got - want[name]).max() <= limit * np.abs(want[name]).max(), f"{what}: {name} has other values")
    return True


def read_by_transformers(path, config, ids, logits, what):
    if config.model_type == "mistral":  # a GGUF of it is one of Llama's architecture
        config = LlamaConfig(**{k: v for k, v in config.to_dict().items() if k != "model_type"})
    model = AutoModelForCausalLM.from_pretrained(
        os.path.dirname(path), gguf_file=os.path.basename(path), config=config, dtype=torch.float32,
        attn_implementation="eager", experts_implementation="eager").eval()
    with torch.no_grad():
        near(model(ids[None], use_cache=False).logits[0, -len(logits):], logits, f"{what} by transformers", 1e-5)


def written(folder, keep):
    """Every GGUF that the program left: CASE.gguf, and CASE-standard.gguf after gguf.json."""
    seen = 0
    for file in sorted(os.listdir(keep)):
        if not file.endswith(".gguf"):
            continue
        seen += 1
        name, standard = file[:-5].removesuffix("-standard"), file.endswith("-standard.gguf")
        case, path = os.path.join(folder, "archs", name), os.path.join(keep, file)
        config = None
        if standard:
            with open(os.path.join(case, "gguf.json"), encoding="utf-8") as f:
                config = AutoConfig.for_model(**json.load(f))
        model = load(case, config=config)
        same_file(path, model, file)
        golden = load_file(case + ".safetensors")
        ids = torch.tensor(golden["long.ids"]).long()
        if model.config.model_type in READ:
            read_by_transformers(path, model.config, ids, golden["gguf.logits" if standard else "long.logits"], file)
    check(seen > 0, "forja wrote no GGUF")
    print(f"  {seen} GGUF files: names, values and keys as the package gguf has them", flush=True)


def main():
    with Folder() as f:
        generate("archs.py", f())
        keep = f("keep")
        os.mkdir(keep)
        if check(os.path.exists(os.path.join(BUILD, "test_archs")), "test_archs is not built"):
            program(f(), keep)
            written(f(), keep)
    finish()


if __name__ == "__main__":
    main()
