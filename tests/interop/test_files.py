"""Files that forja writes are read by the packages gguf and safetensors, with the same values.

Fresh files by the packages -> the C program test_files reads, quantises and copies them -> the
packages read the copies.
"""
import json
import os
import subprocess

import gguf
import numpy as np
from safetensors import safe_open

from peer import BUILD, ROOT, SEED, Folder, check, finish, generate


def same_gguf(a, b):
    x, y = gguf.GGUFReader(a), gguf.GGUFReader(b)
    for name, field in x.fields.items():
        check(name in y.fields, f"GGUF key {name} is missing in the copy") and check(
            field.contents() == y.fields[name].contents() and field.types == y.fields[name].types,
            f"GGUF key {name}: {y.fields[name].contents()}, not {field.contents()}")
    theirs = {t.name: t for t in y.tensors}
    check(len(theirs) == len(x.tensors), f"GGUF: {len(theirs)} tensors, not {len(x.tensors)}")
    for t in x.tensors:
        u = theirs.get(t.name)
        check(u is not None and u.tensor_type == t.tensor_type and list(u.shape) == list(t.shape)
              and np.array_equal(np.asarray(u.data).view(np.uint8), np.asarray(t.data).view(np.uint8)),
              f"GGUF tensor {t.name} differs")


def read_st(path):
    with safe_open(path, "pt") as f:
        return {k: f.get_tensor(k) for k in f.keys()}, f.metadata()


def same_st(a, parts):
    (x, about), y = read_st(a), {}
    for part in parts:
        tensors, note = read_st(part)
        y.update(tensors)
        check((note or {}).get("note") == about["note"], f"{part}: metadata {note}, not {about}")
    check(set(x) == set(y), f"safetensors: names differ: {set(x) ^ set(y)}")
    for name in set(x) & set(y):
        check(x[name].dtype == y[name].dtype and x[name].shape == y[name].shape
              and x[name].numpy(force=True).tobytes() == y[name].numpy(force=True).tobytes()
              if str(x[name].dtype) != "torch.bfloat16" else bool((x[name] == y[name]).all()),
              f"safetensors tensor {name} differs")


def main():
    with Folder() as f:
        generate("files.py", f())
        keep = f("copies")
        os.mkdir(keep)
        r = subprocess.run([os.path.join(BUILD, "test_files")], cwd=ROOT, capture_output=True, text=True,
                           env=dict(os.environ, FORJA_GOLDEN=f(), FORJA_KEEP=keep))
        if check(r.returncode == 0, f"test_files on seed {SEED}:\n{r.stdout[-1500:]}{r.stderr[-1500:]}"):
            same_gguf(f("files/peer.gguf"), f("copies/copy.gguf"))
            same_st(f("files/peer.safetensors"), [f("copies/copy.safetensors")])
            with open(f("copies/shards/model.safetensors.index.json"), encoding="utf-8") as index:
                shards = set(json.load(index)["weight_map"].values())
            same_st(f("files/peer.safetensors"), [f("copies/shards/" + s) for s in sorted(shards)])
    finish()


if __name__ == "__main__":
    main()
