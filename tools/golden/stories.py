"""Logits, greedy text, loss and gradients of stories260K, as transformers computes them in f32."""
import argparse
import os

import torch

from common import IGNORE, OUT, STORIES, batches, encode, load, settle, tokenizer, write

PROMPTS = [
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball.",
    "The dragon said: \"I can fly!\" But the 3 birds did not believe him, so he went up, up, up "
    "until the houses were small.",
    "Zoë ate 12 crêpes & drank tea at 5 o'clock; then—without a word—she left for São Paulo.",
]
GREEDY = 200
FULL = ["model.norm.weight", "model.layers.0.input_layernorm.weight",
        "model.layers.4.post_attention_layernorm.weight", "model.layers.2.self_attn.k_proj.weight",
        "model.layers.3.self_attn.v_proj.weight"]


def greedy_cached(model, ids, n):
    """(ids, smallest gap between the best two logits): a large gap means that no tie decides."""
    out, past, gap = list(ids), None, float("inf")
    step = torch.tensor([out])
    for _ in range(n):
        r = model(step, past_key_values=past, use_cache=True)
        past = r.past_key_values
        top = r.logits[0, -1].topk(2).values
        gap = min(gap, float(top[0] - top[1]))
        out.append(int(r.logits[0, -1].argmax()))
        step = torch.tensor([[out[-1]]])
    return out, gap


def greedy_plain(model, ids, n):
    out = list(ids)
    for _ in range(n):
        out.append(int(model(torch.tensor([out]), use_cache=False).logits[0, -1].argmax()))
    return out


def loss_of(model, ids, labels):
    """Mean over the supervised tokens of the whole batch; transformers shifts the labels."""
    return model(input_ids=torch.tensor(ids).long(), labels=torch.tensor(labels).long(),
                 use_cache=False).loss


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--out", default=OUT)
    a = p.parse_args()
    settle(a.seed)
    model, tok = load(STORIES), tokenizer()
    exact = load(STORIES, torch.float64)

    tensors, off = {}, 0.0
    with torch.no_grad():
        for i, text in enumerate(PROMPTS):
            ids = encode(tok, text)
            logits = model(torch.tensor([ids])).logits[0]
            off = max(off, float((logits - exact(torch.tensor([ids])).logits[0]).abs().max()))
            tensors[f"prompt{i}.ids"], tensors[f"prompt{i}.logits"] = ids, logits
        start = encode(tok, "Once upon a time")
        text, gap = greedy_cached(model, start, GREEDY)
        if text != greedy_plain(model, start, GREEDY):
            raise SystemExit("greedy text differs with and without a cache: choose another start")
    tensors["greedy.prompt"], tensors["greedy.ids"] = start, text[len(start):]
    write(os.path.join(a.out, "stories260k", "logits.safetensors"), tensors, seed=a.seed,
          smallest_greedy_gap=gap, largest_difference_from_f64=off, prompts=PROMPTS)

    ids, labels = batches(a.seed, 1, 4, 64)
    loss = loss_of(model, ids[0], labels[0])
    loss.backward()
    tensors = {"ids": ids[0], "labels": labels[0], "loss": [loss.item()],
               "supervised": [int((labels[0][:, 1:] != IGNORE).sum())]}
    for name, w in model.named_parameters():
        tensors["norm/" + name] = [float(w.grad.double().norm())]
        if name in FULL:
            tensors["grad/" + name] = w.grad
    write(os.path.join(a.out, "stories260k", "grad.safetensors"), tensors, seed=a.seed,
          loss_in_f64=loss_of(exact, ids[0], labels[0]).item())


if __name__ == "__main__":
    main()
