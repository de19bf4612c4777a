"""Token ids of 200 lines of ../shared/datasets, as transformers makes them.

tests/golden/tokens/NAME.txt: a comment, then one line each: FILE:LINE (from 1) and the ids, BOS as the
model's own tokenizer adds it. The text is not copied: the test reads it from the shared data, the first 400
bytes of a line (less what would be part of a character).
"""
import argparse
import os
import random

import transformers
from transformers import PreTrainedTokenizerFast

from common import OUT, SHARED

FILES = [
    "raw/tinyshakespeare.txt", "raw/wikitext2_test_part.txt", "raw/c4_300.jsonl", "sft/alpaca_en_999.json",
    "sft/gpteacher_roleplay.json", "sft/code_alpaca_2k.json", "eval/TruthfulQA.csv", "eval/enem_pt/2024.jsonl",
    "preference/hh_harmless_2312.jsonl", "preference/kto_en_300.json",
]
LINES, LONGEST = 200, 400


def lines(seed):
    """FILE, line number, text: as many of each file, spread by the seed; long lines are cut."""
    pick = random.Random(seed)
    for name in FILES:
        with open(os.path.join(SHARED, "datasets", name), "rb") as f:
            rows = [(i, row) for i, row in enumerate(f.read().split(b"\n"), 1) if row]
        for i, row in sorted(pick.sample(rows, LINES // len(FILES))):
            yield name, i, row[:LONGEST].decode("utf-8", errors="ignore")  # cut before a whole character


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--seed", type=int, default=20260)
    args.add_argument("--out", default=OUT)
    args = args.parse_args()
    models = os.path.join(SHARED, "models")
    made = {
        "stories260k": os.path.join(models, "stories260K", "hf"),
        "smollm2": os.path.join(models, "tokenizers", "smollm2-tokenizer"),
    }
    folder = os.path.join(args.out, "tokens")
    os.makedirs(folder, exist_ok=True)
    for name, where in made.items():
        # Not AutoTokenizer: since transformers 5 its LlamaTokenizer puts a step of its own in place of the
        # file's normalizer, and a text that begins with a space gets other ids than from tokenizer.json,
        # SentencePiece, or transformers 4.
        tok = PreTrainedTokenizerFast(tokenizer_file=os.path.join(where, "tokenizer.json"))
        path = os.path.join(folder, name + ".txt")
        rows = list(lines(args.seed))
        with open(path + ".tmp", "w", encoding="utf-8") as f:
            f.write(f"# seed {args.seed}, transformers {transformers.__version__}\n")
            for file, number, text in rows:
                f.write(f"{file}:{number} {' '.join(map(str, tok(text)['input_ids']))}\n")
        os.replace(path + ".tmp", path)
        print(f"tokens/{name}.txt: {len(rows)} lines, {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
