"""Split GGUFs: forja reads those of the gguf package and copies them in parts of its own, which the package
reads, with the keys and tensors of the model in one file."""
import glob
import os
import subprocess

import gguf
import numpy as np

from peer import BUILD, ROOT, SEED, Folder, check, finish, generate

KEYS = ("split.no", "split.count", "split.tensors.count")


def main():
    with Folder() as f:
        generate("splits.py", f())
        keep = f("copies")
        os.mkdir(keep)
        r = subprocess.run([os.path.join(BUILD, "test_splits")], cwd=ROOT, capture_output=True, text=True,
                           env=dict(os.environ, FORJA_GOLDEN=f(), FORJA_KEEP=keep))
        if check(r.returncode == 0, f"test_splits on seed {SEED}:\n{r.stdout[-1500:]}{r.stderr[-1500:]}"):
            one = gguf.GGUFReader(f("splits/one.gguf"))
            theirs = [gguf.GGUFReader(p) for p in sorted(glob.glob(f("splits/size-*.gguf")))]
            ours = [gguf.GGUFReader(p) for p in sorted(glob.glob(f("copies/copy-*.gguf")))]
            check(len(ours) == len(theirs), f"{len(ours)} parts, not {len(theirs)}")
            for i, part in enumerate(ours):
                got = [int(part.fields[k].contents()) for k in KEYS]
                check(got == [i, len(ours), len(one.tensors)], f"part {i}: {KEYS} are {got}")
                for k in KEYS:  # as wide as the package writes them
                    check(part.fields[k].types == theirs[0].fields[k].types, f"part {i}: {k} is {part.fields[k].types}")
            check(set(ours[0].fields) - set(KEYS) == set(one.fields), "the keys of the first part differ")
            tensors = [t for part in ours for t in part.tensors]
            check([t.name for t in tensors] == [t.name for t in one.tensors], "the names of tensors differ")
            for t, u in zip(one.tensors, tensors):
                check(t.tensor_type == u.tensor_type and np.array_equal(t.data, u.data), f"tensor {t.name} differs")
    finish()


if __name__ == "__main__":
    main()
