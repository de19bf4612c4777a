"""Ids of `forja tokenize` equal those of the tokenizers package on a generated corpus."""
import json
import os

from tokenizers import Tokenizer

import corpus
from peer import check, finish, forja, rng, shared

PLACES = {"stories260K": "models/stories260K/hf", "smollm2": "models/tokenizers/smollm2-tokenizer",
          "tinyllama": "models/tokenizers/tinyllama-tokenizer"}


def tokenize(folder, texts):
    """Ids of every text in one process; each line in is a JSON string, each line out its ids."""
    lines = "".join(json.dumps(t) + "\n" for t in texts).encode()
    out = forja("tokenize", folder, "--json-lines", "--ids", "--special", "--no-bos", data=lines)
    return [[int(i) for i in line.split()] for line in out.decode().split("\n")[:-1]]


def main():
    for name, rel in PLACES.items():
        folder = shared(rel)
        if not folder:
            continue
        theirs = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        texts = corpus.texts(rng("corpus " + name), 3000)
        wrong = 0
        for text, ours in zip(texts, tokenize(folder, texts), strict=True):
            want = theirs.encode(text, add_special_tokens=False).ids
            if ours != want:
                wrong += 1
                check(wrong > 5, f"{name}: {json.dumps(text[:200])}\n    ours   {ours[:60]}\n    theirs {want[:60]}")
        if check(wrong == 0, f"{name}: ids of {wrong} of {len(texts)} texts differ"):
            print(f"  {name}: ids of {len(texts)} texts are equal")
    finish()


if __name__ == "__main__":
    main()
