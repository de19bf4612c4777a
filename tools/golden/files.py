"""Files as the peers write them: a GGUF by gguf, a safetensors by safetensors, and their values.

Every metadata type and every tensor format that forja computes with; q8_0, q4_0 and mxfp4 as gguf quantises
them from values that are in the file too, so that quantising is compared as well as reading; q4_k and q6_k,
which gguf only reads, from any bytes.
"""
import argparse
import os

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from common import OUT, settle, write


def special(n):
    """Values at the edges of rounding: zeros, halves, tiny and large ones, runs of equal values."""
    a = np.array([0, -0.0, 0.5, -0.5, 1, -1, 127, -128, 1e-8, -1e-8, 65504, 1e-4, 2.5, 3.5, -2.5, 7], np.float32)
    return np.resize(a, n)


def values(rng):
    block = rng.standard_normal((6, 96)).astype(np.float32)
    block[1] = 0
    block[2] = special(96)
    block[3] *= 1e-6
    block[4] = np.round(block[4] * 4) / 8
    block[5] *= 300
    return {
        "plain.f32": rng.standard_normal((5, 7)).astype(np.float32), "one": np.array([3.25], np.float32),
        "cube": rng.standard_normal((2, 3, 4)).astype(np.float32), "block": block,
        "half": rng.standard_normal((3, 9)).astype(np.float16), "row": special(16).astype(np.float32),
    }


def super_blocks(rng):
    """Two rows of two super-blocks of any bytes, but with scales that are numbers: at 0 and 2, or at the end."""
    out = {}
    for kind, size, scales in ((gguf.GGMLQuantizationType.Q4_K, 144, (0, 2)), (gguf.GGMLQuantizationType.Q6_K, 210, (208,))):
        raw = rng.integers(0, 256, (4, size), np.uint8)
        for at in scales:
            raw[:, at:at + 2] = np.array([[0.01], [-3], [6e-8], [100]], np.float16).view(np.uint8)
        out[kind] = raw.reshape(2, 2 * size)
    return out


def make_gguf(path, v, large):
    w = gguf.GGUFWriter(path + ".tmp", "peer")
    for kind, value in dict(uint8=200, int8=-100, uint16=60000, int16=-30000, uint32=4000000000, int32=-2000000000,
                            float32=0.1, bool=True, uint64=2 ** 63 + 1, int64=-2 ** 62, float64=0.1).items():
        getattr(w, "add_" + kind)("peer." + kind, value)
    w.add_string("peer.string", "açaí \U0001f44d\nline two")
    w.add_array("peer.strings", ["", "a", "▁b", "<0x0A>"])
    w.add_array("peer.ints", [-1, 0, 2 ** 31 - 1])
    w.add_array("peer.floats", [0.5, -1e30, 0.1])
    for name in ("plain.f32", "one", "cube", "half", "row"):
        w.add_tensor(name, v[name])
    for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.BF16,
                 gguf.GGMLQuantizationType.MXFP4):
        w.add_tensor("block." + kind.name, gguf.quants.quantize(v["block"], kind), raw_dtype=kind)
    for kind, raw in large.items():
        w.add_tensor("super." + kind.name, raw, raw_dtype=kind)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    os.replace(path + ".tmp", path)


def make_safetensors(path, v):
    t = {k: torch.from_numpy(x.copy()) for k, x in v.items()}
    t["block.bf16"] = t["block"].bfloat16()
    t["scalar"] = torch.tensor(2.5)
    t["ids"] = torch.tensor([[1, -2, 3]], dtype=torch.int32)
    t["wide"] = torch.tensor([2 ** 40, -1])  # I64: not computed with, but copied
    t["flags"] = torch.tensor([True, False, True])
    t["name with \"quotes\", a \\ and é"] = torch.zeros(2, 2)
    save_file(t, path + ".tmp", metadata={"format": "pt", "note": "two\nlines \"quoted\""})
    os.replace(path + ".tmp", path)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=4)
    p.add_argument("--out", default=OUT)
    a = p.parse_args()
    settle(a.seed)
    folder = os.path.join(a.out, "files")
    os.makedirs(folder, exist_ok=True)
    v = values(np.random.default_rng(a.seed))
    make_gguf(os.path.join(folder, "peer.gguf"), v, super_blocks(np.random.default_rng([a.seed, 1])))
    make_safetensors(os.path.join(folder, "peer.safetensors"), v)
    out = dict(v)
    reader = gguf.GGUFReader(os.path.join(folder, "peer.gguf"))
    for t in reader.tensors:
        if t.name.startswith(("block.", "super.")):
            out[t.name] = gguf.quants.dequantize(t.data, t.tensor_type)
    write(os.path.join(folder, "values.safetensors"), out, seed=a.seed, gguf="0.19.0")


if __name__ == "__main__":
    main()
