"""forja-bench-tokenize beside the `tokenizers` package, one thread each, in one run: build/interop-venv/bin/python
tools/golden/tokenize_bench.py build/forja-bench-tokenize TEXT-FILE [FOLDER with tokenizer.json ...]. Prints MB/s and the ratio."""
import os
import subprocess
import sys
import time

os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")
from tokenizers import Tokenizer  # noqa: E402


def best(f, runs):
    least = 1e9
    for _ in range(runs):
        t = time.process_time()
        f()
        least = min(least, time.process_time() - t)
    return least


def main():
    program, text_file, *folders = sys.argv[1:]
    data = open(text_file, "rb").read()
    text, lines = data.decode(), data.decode().split("\n")
    letters = bytes(b for b in data if 97 <= b | 32 <= 122 and b < 128 or b >= 128)
    line = (letters * (10_000_000 // len(letters) + 1))[:1_000_000].decode(errors="ignore")
    for folder in folders:
        ours = {k.strip(): float(v.split()[0]) for k, v in
                ((x[:16], x[16:]) for x in subprocess.check_output([program, folder, text_file], text=True).splitlines())}
        path = folder if folder.endswith(".json") else os.path.join(folder, "tokenizer.json")
        t = Tokenizer.from_file(path)
        theirs = {"load": 1e3 * best(lambda: Tokenizer.from_file(path), 3),
                  "text": len(data) / best(lambda: t.encode(text), 3) / 1e6,
                  "lines": len(data) / best(lambda: [t.encode(x) for x in lines], 3) / 1e6,
                  "no space, 1 MB": len(line) / best(lambda: t.encode(line), 1) / 1e6}
        print(folder)
        for k, v in theirs.items():
            ratio = v / ours[k] if k == "load" else ours[k] / v
            print(f"  {k:16} forja {ours[k]:9.2f}  tokenizers {v:9.2f} {'ms' if k == 'load' else 'MB/s'}  {ratio:6.2f} times as fast")
        print(f"  {'no space, 10 MB':16} forja {ours['no space, 10 MB']:9.2f} MB/s")


if __name__ == "__main__":
    main()
