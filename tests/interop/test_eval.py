"""The loss of `forja eval` equals that of trl's SFTTrainer on the same rows.

Raw text: every token and the end-of-sequence token are learned.  Prompt and completion: the completion
and the end-of-sequence token.
"""
import json

from datasets import Dataset, disable_progress_bars
from transformers import PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from common import encode, load, settle, story, tokenizer
from peer import SEED, Folder, check, finish, forja, near, rng, shared


def trl_loss(base, rows, out):
    tok = PreTrainedTokenizerFast(tokenizer_file=base + "/tokenizer.json", bos_token="<s>", eos_token="</s>",
                                  unk_token="<unk>", pad_token="<unk>")
    config = SFTConfig(output_dir=out, per_device_eval_batch_size=len(rows), report_to=[], max_length=512,
                       use_cpu=True, bf16=False, disable_tqdm=True, seed=SEED % 1000, log_level="error")
    data = Dataset.from_list(rows)
    disable_progress_bars()
    trainer = SFTTrainer(model=load(base), args=config, train_dataset=data, eval_dataset=data, processing_class=tok)
    tokens = sum(sum(label != -100 for label in row["labels"][1:]) for row in trainer.eval_dataset)
    return trainer.evaluate()["eval_loss"], tokens


def encoded(row):
    """Without a chat template prompt and answer are lines, encoded apart: so the ids of a prompt are the
    same with and without its answer. (trl would encode them as one text.)"""
    tok = tokenizer()
    prompt, answer = encode(tok, row["prompt"] + "\n"), encode(tok, row["completion"])[1:] + [2]
    return {"input_ids": prompt + answer, "completion_mask": [0] * len(prompt) + [1] * len(answer),
            "labels": [-100] * len(prompt) + answer}


def compare(base, f, name, ours, theirs):
    with open(f(name), "w", encoding="utf-8") as out:
        out.writelines(json.dumps(row) + "\n" for row in ours)
    got = json.loads(forja("eval", base, f(name), "--f32", "--json", home=f("home")))["result"]
    want, tokens = trl_loss(base, theirs, f("trl"))
    check(got["rows"] == len(ours), f"{name}: {got['rows']} rows, not {len(ours)}")
    check(got["tokens"] == tokens, f"{name}: {got['tokens']} tokens are learned, not {tokens}")
    near(got["loss"], want, f"{name}: loss of {len(ours)} rows, {tokens} tokens")


def main():
    base = shared("models/stories260K/hf")
    if base:
        settle(SEED)
        r = rng("eval")
        texts = [{"text": story(r)} for _ in range(12)]
        pairs = []
        for _ in range(12):
            words = story(r).split(" ")
            cut = r.randrange(3, len(words) - 3)
            pairs.append({"prompt": " ".join(words[:cut]), "completion": " ".join(words[cut:])})
        with Folder() as f:
            compare(base, f, "text.jsonl", texts, texts)
            compare(base, f, "pairs.jsonl", pairs, [encoded(row) for row in pairs])
    finish()


if __name__ == "__main__":
    main()
