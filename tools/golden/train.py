"""Twenty steps on stories260K, LoRA (peft) and full: losses, norms and what was learned.

The loop is written out here instead of using a Trainer, so that every number has one plain source:
AdamW of torch, clip_grad_norm_ of torch, the constant schedule with warm-up of transformers (its
first step has rate 0), loss = mean over the supervised tokens of the batch.
"""
import argparse
import json
import os
import shutil

import peft
import torch
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from transformers import get_constant_schedule_with_warmup

from common import OUT, STORIES, batches, load, settle, write, write_json
from stories import loss_of

STEPS, ROWS, WIDTH, WARMUP, LR, CLIP = 20, 4, 64, 2, 1e-3, 1.0
KEPT = ["model.norm.weight", "model.layers.0.input_layernorm.weight",
        "model.layers.2.self_attn.k_proj.weight"]


# LoRA with everything that differs by module: other ranks and alphas, some layers, some modules, and LoRA+.
PLUS = dict(r=6, lora_alpha=9, use_rslora=True, target_modules=["q_proj", "v_proj", "gate_proj", "down_proj"],
            exclude_modules=["layers.1.self_attn.v_proj"], layers_to_transform=[0, 1, 3],
            rank_pattern={"down_proj": 4, r"layers\.[01]\.self_attn\.q_proj": 10},
            alpha_pattern={"layers.3.mlp.gate_proj": 20})
RATIO, DECAY = 16.0, 0.1


def plain_adam(model):
    weights = [w for w in model.parameters() if w.requires_grad]
    return torch.optim.AdamW(weights, lr=LR, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)


def plus_adam(model):
    return create_loraplus_optimizer(model, torch.optim.AdamW, lr=LR, loraplus_lr_ratio=RATIO,
                                     betas=(0.9, 0.999), eps=1e-8, loraplus_weight_decay=DECAY)


def train(model, ids, labels, adam=plain_adam):
    """Trains in place; (losses, gradient norms before clipping, learning rates), one per step."""
    weights = [w for w in model.parameters() if w.requires_grad]
    opt = adam(model)
    plan = get_constant_schedule_with_warmup(opt, WARMUP)
    losses, norms, rates = [], [], []
    for step in range(STEPS):
        opt.zero_grad()
        loss = loss_of(model, ids[step], labels[step])
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(weights, CLIP)))
        losses.append(float(loss.detach()))
        rates.append(plan.get_last_lr()[0])
        opt.step()
        plan.step()
    return losses, norms, rates


ALL = dict(r=8, lora_alpha=16, target_modules="all-linear")


def with_lora(model, seed, how=ALL):
    """r 8 on every linear but the head. B is drawn as well as A, so that both learn from step 1."""
    config = LoraConfig(lora_dropout=0.0, task_type="CAUSAL_LM", bias="none", **how)
    torch.manual_seed(seed)
    model = get_peft_model(model, config)
    for name, w in model.named_parameters():
        if "lora_" in name:  # drawn in f32, so that f32 and f64 begin with the same values
            w.data = (torch.randn(w.shape, dtype=torch.float32) * 0.02).to(w.dtype)
    return model


def save_adapter(model, folder):
    """A folder as peft writes it, without its README; the base is named, not given by path."""
    shutil.rmtree(folder, ignore_errors=True)
    model.peft_config["default"].base_model_name_or_path = "stories260K"
    model.save_pretrained(folder, save_embedding_layers=False)
    path = os.path.join(folder, "adapter_config.json")
    with open(path, encoding="utf-8") as f:
        config = json.load(f)
    for key in "target_modules", "exclude_modules":  # sets: in another order each time
        if config[key]:
            config[key].sort()
    write_json(path, config)
    readme = os.path.join(folder, "README.md")
    if os.path.exists(readme):
        os.remove(readme)


def run(model, exact, ids, labels, adam=plain_adam):
    """Trains both; (what the file says about the first, how far the losses of the second lie)."""
    losses, norms, rates = train(model, ids, labels, adam)
    apart = max(abs(x - y) / abs(y) for x, y in zip(losses, train(exact, ids, labels, adam)[0]))
    probe = ids[0, 1]  # a row without padding
    with torch.no_grad():
        logits, same = (m.eval()(torch.tensor(probe[None]).long()).logits[0] for m in (model, exact))
    noise = float((logits - same).abs().max())
    return {"losses": losses, "norms": norms, "rates": rates, "probe.ids": probe, "probe.logits": logits,
            "probe.noise": [noise]}, apart


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=2)
    p.add_argument("--out", default=OUT)
    a = p.parse_args()
    settle(a.seed)
    out = os.path.join(a.out, "stories260k")
    ids, labels = batches(a.seed, STEPS, ROWS, WIDTH)
    about = dict(seed=a.seed, peft=peft.__version__, lr=LR, warmup=WARMUP, clip=CLIP, betas=[0.9, 0.999],
                 eps=1e-8, weight_decay=0.0)
    write(os.path.join(out, "batches.safetensors"), {"ids": ids, "labels": labels}, seed=a.seed)

    model, exact = with_lora(load(STORIES), a.seed), with_lora(load(STORIES, torch.float64), a.seed)
    save_adapter(model, os.path.join(out, "lora-init"))
    tensors, apart = run(model, exact, ids, labels)
    save_adapter(model, os.path.join(out, "lora-final"))
    write(os.path.join(out, "lora.safetensors"), tensors, largest_loss_difference_from_f64=apart, r=8,
          alpha=16, **about)

    model, exact = (with_lora(load(STORIES, dtype), a.seed, PLUS) for dtype in (torch.float32, torch.float64))
    save_adapter(model, os.path.join(out, "lora-plus-init"))
    tensors, apart = run(model, exact, ids, labels, plus_adam)
    about_plus = dict(about, ratio=RATIO, weight_decay=DECAY)
    write(os.path.join(out, "lora-plus.safetensors"), tensors, largest_loss_difference_from_f64=apart, **about_plus)

    model = load(STORIES)
    tensors, apart = run(model, load(STORIES, torch.float64), ids, labels)
    for name, w in model.named_parameters():
        tensors["norm/" + name] = [float(w.detach().double().norm())]
        if name in KEPT:
            tensors["final/" + name] = w
    write(os.path.join(out, "full.safetensors"), tensors, largest_loss_difference_from_f64=apart, **about)


if __name__ == "__main__":
    main()
