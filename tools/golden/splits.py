"""Split GGUFs as the package gguf writes them: by size, and with a first file that has no tensors; and the
same model in one file."""
import argparse
import os

import gguf
import numpy as np

OUT = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "tests", "golden")


def fill(w, rng):
    w.add_uint32("peer.number", 7)
    w.add_array("peer.words", ["a", "", "né"])
    for i in range(7):
        w.add_tensor(f"t{i}", rng.standard_normal((i + 1, 16)).astype(np.float32))
    w.add_tensor("q", gguf.quants.quantize(rng.standard_normal((2, 64)).astype(np.float32),
                                           gguf.GGMLQuantizationType.Q8_0), raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=4)
    p.add_argument("--out", default=OUT)
    a = p.parse_args()
    folder = os.path.join(a.out, "splits")
    os.makedirs(folder, exist_ok=True)
    for name, how in dict(one={}, size=dict(split_max_size=700),
                          bare=dict(split_max_tensors=4, small_first_shard=True)).items():
        fill(gguf.GGUFWriter(os.path.join(folder, name + ".gguf"), "peer", **how), np.random.default_rng(a.seed))
    print(f"{folder}: {len(os.listdir(folder))} files")


if __name__ == "__main__":
    main()
