"""Blocks of every format of GGUF and their values by gguf.dequantize: tests/golden/blocks/blocks.txt.

A line for each block: type, bytes in hex, FNV-1a (64 bits) of the values as little-endian f32 (every NaN as
7fc00000), and the first and the last value in hex. Any bytes, with scales that are numbers; then all zeros, all
ones, any bytes whatever.
"""
import argparse
import os

import gguf
import numpy as np

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests", "golden")
# where the f16 scales of a block are; IQ1_M spreads one over four words
SCALES = dict(Q4_0=(0,), Q4_1=(0, 2), Q5_0=(0,), Q5_1=(0, 2), Q8_0=(0,), Q2_K=(80, 82), Q3_K=(108,), Q4_K=(0, 2), Q5_K=(0, 2),
              Q6_K=(208,), IQ4_NL=(0,), IQ4_XS=(0,), IQ2_XXS=(0,), IQ2_XS=(0,), IQ2_S=(0,), IQ3_XXS=(0,), IQ3_S=(0,),
              IQ1_S=(0,), IQ1_M=(), TQ1_0=(52,), TQ2_0=(64,), MXFP4=())


def fnv(data):
    h = 0xcbf29ce484222325
    for b in data:
        h = (h ^ b) * 0x100000001b3 & 0xffffffffffffffff
    return h


def blocks(rng, kind, size):
    raw = rng.integers(0, 256, (6, size), np.uint8)
    for i, d in enumerate((0.01, -3, 6e-8)):
        bits = np.array([d, d / 3], np.float16).view(np.uint16)
        for at, one in zip(SCALES[kind.name], bits):
            raw[i, at:at + 2] = (one & 255, one >> 8)
        if kind.name == "IQ1_M":
            raw[i, 49::2] = raw[i, 49::2] & 15 | [(int(bits[0]) >> 4 * k & 15) << 4 for k in range(4)]
    raw[3] = 0
    raw[4] = 255
    return raw


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=5)
    p.add_argument("--out", default=OUT)
    a = p.parse_args()
    folder = os.path.join(a.out, "blocks")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "blocks.txt")
    with open(path + ".tmp", "w", encoding="utf-8") as f:
        for name in SCALES:
            kind = gguf.GGMLQuantizationType[name]
            size = gguf.GGML_QUANT_SIZES[kind][1]
            raw = blocks(np.random.default_rng([a.seed, kind.value]), kind, size)
            with np.errstate(all="ignore"):
                v = gguf.quants.dequantize(raw, kind)
            bits = np.where(np.isnan(v), np.uint32(0x7fc00000), v.view(np.uint32)).astype("<u4")
            for one, data in zip(bits, raw):
                f.write("%s %s %016x %08x %08x\n" % (name, data.tobytes().hex(), fnv(one.tobytes()), one[0], one[-1]))
    os.replace(path + ".tmp", path)


if __name__ == "__main__":
    main()
