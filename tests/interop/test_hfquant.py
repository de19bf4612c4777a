"""Quantised folders made with this run's seed by bitsandbytes, compressed-tensors and transformers' own layouts:
their values bit for bit (the C program of the golden ring), and the logits of `forja eval`."""
import importlib.util
import json
import os
import shutil
import subprocess

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import load_file as load_torch, save_file

from peer import BUILD, ROOT, SEED, Folder, check, finish, forja, generate, near


def logits(f, folder, ids):
    forja("eval", folder, "--f32", "--dump-logits", f("logits"), "--tokens", ids, home=f())
    return load_file(f("logits"))["logits.0"]


def other_layouts(f):
    """Experts in tensors of their own, fused halves, matrices that the model has turned: FP8 with a scale for each
    row, beside the same values as plain F32. The same bits must come out."""
    for case in ("qwen3-moe", "mixtral", "phi3", "gpt2"):
        folder = os.path.join(ROOT, "tests", "golden", "archs", case)
        quantised, plain = {}, {}
        for name, w in load_torch(os.path.join(folder, "model.safetensors")).items():
            quantised[name], plain[name] = w, w.float()
            if w.dim() != 2 or any(part in name for part in ("embed", "wte", "wpe", "lm_head")):
                continue
            rows = w.float().t().contiguous() if case == "gpt2" else w.float()
            scale = rows.abs().amax(1, keepdim=True) / 448
            quantised[name] = (rows / scale).to(torch.float8_e4m3fn)
            quantised[name[:-len("weight")] + "weight_scale_inv"] = scale
            values = quantised[name].float() * scale
            plain[name] = (values.t() if case == "gpt2" else values).contiguous()
        found = []
        for kind, tensors in (("quantised", quantised), ("plain", plain)):
            to = f(f"{case}-{kind}")
            shutil.copytree(folder, to, ignore=shutil.ignore_patterns("lora", "*.safetensors"))
            save_file(tensors, os.path.join(to, "model.safetensors"))
            with open(os.path.join(to, "config.json"), encoding="utf-8") as file:
                config = json.load(file)
            config["dtype"] = "float32"
            if kind == "quantised":
                config["quantization_config"] = {"quant_method": "fp8", "activation_scheme": "dynamic"}
            with open(os.path.join(to, "config.json"), "w", encoding="utf-8") as file:
                json.dump(config, file)
            found.append(logits(f, to, "1 5 7 9 11 3"))
        if check(len(quantised) > len(plain) and np.array_equal(*found), f"{case}: FP8 has other logits than its values"):
            print(f"  {case}: FP8 as its values, bit for bit", flush=True)


def main():
    for package in ("bitsandbytes", "compressed_tensors"):
        if importlib.util.find_spec(package) is None:
            print(f"SKIP interop: no package {package}", flush=True)
            return
    with Folder() as f:
        generate("hfquant.py", f())
        program = os.path.join(BUILD, "test_hfquant_values")
        if check(os.path.exists(program), f"{program} is not built"):
            r = subprocess.run([program], cwd=ROOT, env=dict(os.environ, FORJA_GOLDEN=f()), capture_output=True,
                               text=True, timeout=600)
            if check(r.returncode == 0, f"test_hfquant_values on seed {SEED}:\n{r.stdout[-2000:]}{r.stderr[-2000:]}"):
                print(f"  test_hfquant_values: agrees on seed {SEED}")
        cases = sorted(name[:-len(".safetensors")] for name in os.listdir(f("hfquant")) if name.endswith(".safetensors"))
        check(len(cases) >= 18, f"only {cases}")
        for name in cases:
            golden = load_file(f(f"hfquant/{name}.safetensors"))
            near(logits(f, f(f"hfquant/{name}"), " ".join(map(str, golden["ids"]))), golden["logits"], name)
        other_layouts(f)
    finish()


if __name__ == "__main__":
    main()
