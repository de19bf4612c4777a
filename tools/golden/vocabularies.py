"""Small tokenizers of every family, and what tokenizers, sentencepiece and tiktoken make of some texts.

tests/golden/tokenizers/NAME/ holds the tokenizer as it is shipped (tokenizer.json, tokenizer.model, x.tiktoken with
tokenizer_config.json) and want.txt: for each text a line of three fields with ";" between: its bytes in hex, the
ids (the model's own around them), and in hex the text that the ids become ("-": not compared).
"""
import argparse
import base64
import json
import os
import sys
import tempfile

from common import OUT

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "..", "tests", "interop"))
import corpus  # noqa: E402
import tok_make as make  # noqa: E402

RULES = "FB01\t66 69\nFF21\t41\n41 300\tC0\n2003\t20\nAD\t\n"  # a small charsmap: fi, A, composed, space, nothing


def texts():
    return [t[:90] for t in corpus.SAMPLES if "\0" not in t][:52]


def write(folder, rows, **files):
    os.makedirs(folder, exist_ok=True)
    for name, data in files.items():
        with open(os.path.join(folder, name.replace("_json", ".json").replace("_model", ".model").replace("_tiktoken", ".tiktoken")), "wb") as f:
            f.write(data if isinstance(data, bytes) else data.encode())
    with open(os.path.join(folder, "want.txt"), "w", encoding="utf-8") as f:
        for text, ids, back in rows:
            f.write(f"{text.encode().hex()};{' '.join(map(str, ids))};{'-' if back is None else back.encode().hex()}\n")
    print(os.path.basename(folder), sum(os.path.getsize(os.path.join(folder, x)) for x in os.listdir(folder)), "bytes")


def peer(folder, t, decode=True):
    rows = []
    for text in texts():
        ids = t.encode(text).ids
        back = t.decode(ids) if decode else None
        rows.append((text, ids, None if back is None or "\ufffd" in back else back))
    write(folder, rows, tokenizer_json=t.to_str())


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--seed", type=int, default=20260)
    args.add_argument("--out", default=OUT)
    args = args.parse_args()
    make.SIZE = 0.36
    folder = os.path.join(args.out, "tokenizers")
    own = [t for t in corpus.SAMPLES if max(t, default=" ") < "\u0530" and "<" not in t] * 3 + [" ".join(corpus.WORDS)] * 5
    N, P = make.N, make.P
    for name in ("llama3", "o200k", "kimi", "deepseek-v3"):
        peer(os.path.join(folder, "bpe-" + name), make.byte_bpe(make.CUTS[name], own))
    t = make.uncased_specials(make.char_bpe(own, None, make.NORMS["llama"], byte_fallback=True, fuse_unk=True))
    t.decoder = make.decoders.Sequence([make.decoders.Replace("▁", " "), make.decoders.ByteFallback(), make.decoders.Fuse(),
                                        make.decoders.Strip(" ", 1, 0)])
    peer(os.path.join(folder, "bpe-llama"), t)
    t = make.uncased_specials(make.char_bpe(own, P.BertPreTokenizer(), N.BertNormalizer(), end_of_word_suffix="</w>"))
    t.decoder = make.decoders.BPEDecoder()
    peer(os.path.join(folder, "bpe-gpt1"), t)
    peer(os.path.join(folder, "bpe-clip"), make.clip(own), decode=False)
    peer(os.path.join(folder, "added"), make.added(own), decode=False)
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write(RULES)
        rules.flush()
        charsmap = dict(normalization_rule_tsv=rules.name, normalization_rule_name="user_defined")
        models = {"sp-unigram": make.sp_train(own, "unigram", 250, **charsmap),
                  "sp-bpe": make.sp_train(own, "bpe", 500, byte_fallback=True, user_defined_symbols="<sep>,▁the▁", **charsmap)}
    for name, data in models.items():
        sp = make.spm.SentencePieceProcessor(model_proto=data)
        write(os.path.join(folder, name), [(t, sp.encode(t), None) for t in texts()], tokenizer_model=data)
    norm = N.Precompiled(make.charsmap(models["sp-unigram"]))
    peer(os.path.join(folder, "unigram"), make.unigram(own, norm))
    peer(os.path.join(folder, "wordpiece"), make.wordpiece(own, N.BertNormalizer()))
    peer(os.path.join(folder, "wordlevel"), make.wordlevel(own))
    import tiktoken
    from test_tokenizers import ranks_of
    ranks = ranks_of(make.byte_bpe(make.CUTS["llama3"], own))
    enc = tiktoken.Encoding("qwen", pat_str=make.QWEN2, mergeable_ranks=ranks, special_tokens={"<|im_start|>": len(ranks)})
    config = {"tokenizer_class": "QWenTokenizer",
              "added_tokens_decoder": {str(len(ranks)): {"content": "<|im_start|>", "special": True}}}
    write(os.path.join(folder, "tiktoken"), [(t, enc.encode(t, allowed_special="all"), None if "<|im_start|>" in t else t) for t in texts()],
          x_tiktoken=b"".join(base64.b64encode(b) + b" %d\n" % r for b, r in ranks.items()), tokenizer_config_json=json.dumps(config))


if __name__ == "__main__":
    main()
