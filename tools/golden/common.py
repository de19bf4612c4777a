"""What the generators share: the model, text to train on, and how a golden file is written.

A golden file is a safetensors file with f32 and i32 tensors only, so that the C tests read it with
forja's own reader. Its metadata has one key, "forja", with one JSON object: what made the file.
"""
import json
import os
import random

import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
OUT = os.path.join(ROOT, "tests", "golden")
SHARED = os.environ.get("FORJA_SHARED", os.path.join(os.path.dirname(ROOT), "shared"))
STORIES = os.path.join(SHARED, "models", "stories260K", "hf")
IGNORE = -100


def settle(seed):
    """One thread and one seed: the same numbers each time on one kind of machine."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()


def load(path, dtype=torch.float32):
    """Eager attention: the plain formula, without a fused kernel's own rounding."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, attn_implementation="eager")
    return model.eval()


def write(path, tensors, **about):
    """Tensors to f32 or i32, contiguous, under a temporary name and then renamed."""
    out = {}
    for name, t in tensors.items():
        a = t.detach().cpu().numpy() if isinstance(t, torch.Tensor) else np.asarray(t)
        kind = np.int32 if a.dtype.kind in "iu" else np.float32
        out[name] = np.ascontiguousarray(a.astype(kind))
    about = dict(about, torch=torch.__version__, transformers=transformers.__version__)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save_file(out, path + ".tmp", metadata={"forja": json.dumps(about, sort_keys=True)})
    os.replace(path + ".tmp", path)
    print(f"{os.path.relpath(path, ROOT)}: {len(out)} tensors, {os.path.getsize(path)} bytes")


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as f:
        json.dump(value, f, indent=1, sort_keys=True)
        f.write("\n")


def tokenizer():
    return Tokenizer.from_file(os.path.join(STORIES, "tokenizer.json"))


def encode(tok, text):
    """Ids with the beginning-of-sequence token (1) in front, whatever the file's template says."""
    return [1] + tok.encode(text, add_special_tokens=False).ids


WHO = ["a cat", "the old man", "Lily", "a green frog", "Tom and his dog", "the queen", "a small ship"]
DID = ["found", "painted", "lost", "wanted to eat", "carried", "was afraid of", "sang to"]
WHAT = ["a red ball", "seven apples", "the moon", "a broken clock", "his sister", "the wide sea"]
END = ["It was fun.", "Then it rained.", "Nobody knew why!", '"Why not?" she said.', "They ran home."]


def story(rng):
    """A few sentences from small lists: near enough to the model's world, never the same twice."""
    parts = ["Once upon a time,"]
    for _ in range(rng.randrange(3, 6)):
        parts.append(f"{rng.choice(WHO)} {rng.choice(DID)} {rng.choice(WHAT)}. {rng.choice(END)}")
    return " ".join(parts)


def batches(seed, steps, rows, width):
    """ids and labels [steps, rows, width]; a label is IGNORE where nothing is learned.

    The first part of each row is a prompt (not learned); every third row also ends in padding, that
    is id 0 with label IGNORE: right padding does not reach the real tokens under causal attention.
    """
    rng, tok = random.Random(seed), tokenizer()
    ids = np.zeros((steps, rows, width), np.int32)
    labels = np.full((steps, rows, width), IGNORE, np.int32)
    for s in range(steps):
        for r in range(rows):
            n = width if (s * rows + r) % 3 else rng.randrange(width // 2, width)
            text = story(rng)
            while len(row := encode(tok, text)) < n:
                text += " " + story(rng)
            start = rng.randrange(4, n // 2)
            ids[s, r, :n] = row[:n]
            labels[s, r, start:n] = row[start:n]
    return ids, labels
