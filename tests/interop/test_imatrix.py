"""Importance matrices that forja collects are read by gguf, fit llama.cpp's quantiser, and make it better.

The C program test_imatrix leaves models and their importance matrices; llama.cpp quantises with and without.
"""
import ctypes
import os
import re
import subprocess

import gguf
import numpy as np

from peer import BUILD, ROOT, Folder, check, finish

TYPES = {"Q4_0": 2, "IQ4_NL": 25, "Q4_K_M": 15, "Q2_K_S": 21}  # the last two fall back to Q5_0, Q4_0: rows of 32
CASES = ["llama", "qwen3-moe"]


def means(path):
    """name -> means [mats, cols] as llama-quantize makes them."""
    r = gguf.GGUFReader(path)
    check(r.fields["general.type"].contents() == "imatrix", f"{path}: general.type")
    check(r.fields["imatrix.chunk_count"].contents() == 2 and r.fields["imatrix.chunk_size"].contents() == 512,
          f"{path}: chunks")
    t = {x.name: np.array(x.data) for x in r.tensors}
    out = {}
    for name in [n[:-8] for n in t if n.endswith(".in_sum2")]:
        sums, counts = t[name + ".in_sum2"], t[name + ".counts"]
        check(sums.ndim == 2 and counts.shape == (sums.shape[0], 1), f"{name}: {sums.shape}, {counts.shape}")
        out[name] = np.where(counts > 0, sums / np.maximum(counts, 1), 1).astype(np.float32)
    check(2 * len(out) == len(t), f"{path}: {sorted(t)}")
    return out


def quantise(lib, source, target, number, im):
    """The tensors after llama.cpp quantised, and what it said."""
    said = []
    log = lib.llama_log_callback(lambda level, text, data: said.append(text.decode("utf-8", "replace")))
    lib.llama_log_set(log, None)
    p = lib.llama_model_quantize_default_params()
    p.ftype, p.nthread = number, 1
    own = [(n.encode(), np.ascontiguousarray(v.ravel())) for n, v in im.items()]
    list_of = lib.llama_model_imatrix_data * (len(own) + 1)
    entries = list_of(*[(n, v.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), v.size) for n, v in own], (None, None, 0))
    if own:
        p.imatrix = entries
    code = lib.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(p))
    text = "".join(said)
    if not check(code == 0, f"{source}: llama.cpp says {code}: {text[-1500:]}"):
        return {}, text
    return {t.name: t for t in gguf.GGUFReader(target).tensors}, text


def error(tensors, originals, im):
    """Squares of errors of all weights, each by the mean of its column."""
    total = 0.0
    for name, v in im.items():
        t, o = tensors[name], originals[name]
        if t.tensor_type == gguf.GGMLQuantizationType.F32:
            continue
        d = gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float64) - o.data
        total += float((d ** 2 * (v[:, None, :] if d.ndim == 3 else v)).sum())
    return total


def main():
    try:
        import llama_cpp as lib
    except ImportError as e:
        print(f"SKIP test_imatrix: no llama.cpp ({e})")
        return
    with Folder() as f:
        r = subprocess.run([os.path.join(BUILD, "test_imatrix")], cwd=ROOT, capture_output=True, text=True,
                           env=dict(os.environ, FORJA_KEEP=f()))
        check(r.returncode == 0, f"test_imatrix:\n{r.stdout[-1500:]}{r.stderr[-1500:]}")
        for case in CASES if r.returncode == 0 else []:
            source, im = f(case + ".gguf"), means(f(case + ".imatrix"))
            originals = {t.name: t for t in gguf.GGUFReader(source).tensors}
            for mix, number in TYPES.items():
                with_im, said = quantise(lib, source, f("a.gguf"), number, im)
                lost = [x for x in ("imatrix size", "Missing") if x in said]
                lost += [x for x in re.findall(r"did not find weights for (\S+)", said)
                         if x != "token_embd.weight" or x in im]  # an embedding that is no head multiplies nothing
                check(not lost, f"{case} {mix}: {lost}: {said[-1500:]}")
                if mix == "Q2_K_S" or not with_im:  # wants one in any case
                    continue
                plain, _ = quantise(lib, source, f("b.gguf"), number, {})
                if not plain:
                    continue
                same = {n for n in plain if plain[n].tensor_type == with_im[n].tensor_type}
                use = {n: v for n, v in im.items() if n in same}
                a, b = error(with_im, originals, use), error(plain, originals, use)
                print(f"{case} {mix}: weighted error {a:.4g} with, {b:.4g} without")
                check(a < b, f"{case} {mix}: the importance matrix makes it no better")
    finish()


if __name__ == "__main__":
    main()
