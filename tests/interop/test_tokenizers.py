"""Ids and texts of `forja tokenize` equal those of tokenizers, sentencepiece and tiktoken on generated texts: the
models of the shared data, and tokenizers of every family made on the spot."""
import base64
import json
import os
import struct
import unicodedata

import sentencepiece as spm
import tiktoken
import tiktoken_ext.openai_public as public
from tokenizers import Tokenizer

import corpus
import tok_make
from peer import Folder, check, finish, forja, rng, shared

PLACES = {"stories260K": "models/stories260K/hf", "smollm2": "models/tokenizers/smollm2-tokenizer",
          "tinyllama": "models/tokenizers/tinyllama-tokenizer"}
TEXTS = {"places": 12000, "families": 600, "sentencepiece": 1500, "tiktoken": 5000}
total = 0


def tokenize(path, texts, *flags):
    """Ids of every text in one process; each line in is a JSON string, each line out its ids."""
    lines = "".join(json.dumps(t) + "\n" for t in texts).encode()
    out = forja("tokenize", path, "--json-lines", "--ids", *flags, data=lines)
    return [[int(i) for i in line.split()] for line in out.decode().split("\n")[:-1]]


def decode(path, ids):
    lines = "".join(" ".join(map(str, i)) + "\n" for i in ids).encode()
    return [json.loads(x) for x in forja("tokenize", path, "--json-lines", "--decode", data=lines).split(b"\n")[:-1]]


def same(name, texts, ours, theirs):
    """theirs(text) for every text; says the first few that differ."""
    global total
    wrong = 0
    for text, x in zip(texts, ours, strict=True):
        want = theirs(text)
        if x != want:
            wrong += 1
            if wrong <= 2:
                check(False, f"{name}: {json.dumps(text)[:300]}\n    ours   {str(x)[:400]}\n    theirs {str(want)[:400]}")
    total += len(texts)
    return check(wrong == 0, f"{name}: {wrong} of {len(texts)} differ")


def odd_characters():
    """What the old tables of `tokenizers` (Unicode 8) for punctuation, marks and controls have otherwise than Unicode 14."""
    punct, bert, strip = tok_make.P.Punctuation("removed"), tok_make.N.BertNormalizer(False, False, True, False), tok_make.N.StripAccents()
    clean = tok_make.N.BertNormalizer(True, False, False, False)
    odd = set()
    for c in map(chr, range(0x80, 0x20000)):
        k = unicodedata.category(c)
        if k == "Cs":
            continue
        if ((not punct.pre_tokenize_str(c)) != k.startswith("P") or (bert.normalize_str("x" + c + "x") == "xx") != (k == "Mn")
                or (strip.normalize_str("x" + c + "x") == "xx") != k.startswith("M")
                or (clean.normalize_str("x" + c + "x") == "xx") != (k in ("Cc", "Cf", "Co") or c == "\ufffd")):
            odd.add(c)
    for c in map(chr, range(0x80, 0x20000)):
        if unicodedata.category(c) not in ("Cs", "Cn") and (
                tok_make.N.NFKD().normalize_str(c) != unicodedata.normalize("NFKD", c)
                or tok_make.N.Lowercase().normalize_str(c) != c.lower()):
            odd.add(c)
    return odd


def peer(name, path, theirs, texts):
    """A `tokenizers` Tokenizer beside the same file: ids without and with what goes around, then the text."""
    ours = tokenize(path, texts, "--special", "--no-bos")
    good = same(name, texts, ours, lambda t: theirs.encode(t, add_special_tokens=False).ids)
    few = texts[:200]
    good &= same(name + " around", few, tokenize(path, few, "--special", "--eos"), lambda t: theirs.encode(t).ids)
    if name == "added":  # the peer decodes to the normalized spelling of an added token
        return good
    ids = [i for i in ours if i]
    back = decode(path, ids)
    # What is not UTF-8 is kept by forja and replaced by the others.
    pairs = [(i, b) for i, b in zip(ids, back, strict=True) if "\ufffd" not in b]
    texts_of = {json.dumps(i): theirs.decode(i) for i, _ in pairs}
    keep = [p for p in pairs if "\ufffd" not in texts_of[json.dumps(p[0])]]
    return same(name + " text", [json.dumps(i) for i, _ in keep], [b for _, b in keep], lambda t: texts_of[t]) and good


def places():
    for name, rel in PLACES.items():
        folder = shared(rel)
        if folder:
            texts = corpus.texts(rng("corpus " + name), TEXTS["places"])
            theirs = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
            ours = tokenize(folder, texts, "--special", "--no-bos")
            same(name, texts, ours, lambda t: theirs.encode(t, add_special_tokens=False).ids)


def families():
    texts = corpus.texts(rng("families train"), 1500)
    good = n = 0
    odd = odd_characters()
    texts = [t for t in texts if not odd.intersection(t)]
    print(f"  {len(odd)} characters are of another Unicode in `tokenizers`: not in these texts")
    with Folder() as f:
        for name, t in tok_make.families(texts):
            os.makedirs(f(name), exist_ok=True)
            t.save(f(name) + "/tokenizer.json")
            good += peer(name, f(name) + "/tokenizer.json", t,
                         [x for x in corpus.texts(rng("corpus " + name), TEXTS["families"]) if not odd.intersection(x)])
            n += 1
    print(f"  {good} of {n} families of tokenizers are equal")


def sentencepiece():
    texts = corpus.texts(rng("sentencepiece train"), 2500)
    kinds = {
        "bpe": dict(kind="bpe"), "bpe bytes": dict(kind="bpe", byte_fallback=True, normalization_rule_name="identity"),
        "bpe llama": dict(kind="bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False),
        "unigram": dict(kind="unigram"), "unigram nfkc_cf": dict(kind="unigram", normalization_rule_name="nfkc_cf"),
        "unigram bytes": dict(kind="unigram", byte_fallback=True, vocab=1200),
        "unigram user": dict(kind="unigram", user_defined_symbols="<sep>,the,  ,▁of▁"),
        "bpe user": dict(kind="bpe", user_defined_symbols="<sep>,the,▁▁,ing", control_symbols="<ctl>"),
        "unigram no dummy": dict(kind="unigram", add_dummy_prefix=False),
        "unigram suffix": dict(kind="unigram", treat_whitespace_as_suffix=True),
    }
    good = 0
    with Folder() as f:
        for name, opts in kinds.items():
            os.makedirs(f(name), exist_ok=True)
            path = f(name) + "/tokenizer.model"
            with open(path, "wb") as file:
                file.write(tok_make.sp_train(texts, **opts))
            theirs = spm.SentencePieceProcessor(model_file=path)
            sample = [t for t in corpus.texts(rng("corpus sp " + name), TEXTS["sentencepiece"]) if "\0" not in t]
            sample.append(" ".join(sample))  # long enough that sums of float have to begin anew
            good += same("sentencepiece " + name, sample, tokenize(path, sample, "--no-bos"), theirs.encode)
        print(f"  {good} of {len(kinds)} SentencePiece models are equal")
    place = shared(PLACES["tinyllama"])
    if place:
        path = place + "/tokenizer.model"
        theirs = spm.SentencePieceProcessor(model_file=path)
        sample = [t for t in corpus.texts(rng("corpus sp llama"), 4 * TEXTS["sentencepiece"]) if "\0" not in t]
        same("sentencepiece tinyllama", sample, tokenize(path, sample, "--no-bos"), theirs.encode)


def gguf_files():
    """The same SentencePiece models and a WordPiece in GGUF, as its Python package writes them."""
    import gguf
    texts = corpus.texts(rng("gguf train"), 2500)

    def write(path, model, tokens, scores, types, **ids):
        w = gguf.GGUFWriter(path, "llama")
        w.add_tokenizer_model(model)
        w.add_token_list(tokens)
        if scores:
            w.add_token_scores(scores)
        w.add_token_types(types)
        for k, v in ids.items():
            getattr(w, "add_" + k)(v)
        w.write_header_to_file()
        w.write_kv_data_to_file()
        w.close()

    def sp_parts(data):
        fields = [dict(tok_make.fields(v)) for k, v in tok_make.fields(data) if k == 1]
        return ([f[1] for f in fields], [struct.unpack("<f", f.get(2, bytes(4)))[0] for f in fields], [f.get(3, 1) for f in fields])

    with Folder() as f:
        data = tok_make.sp_train(texts, "bpe", byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False)
        sp = spm.SentencePieceProcessor(model_proto=data)
        write(f("bpe.gguf"), "llama", *sp_parts(data), bos_token_id=1, eos_token_id=2, unk_token_id=0)
        sample = [t for t in corpus.texts(rng("corpus gguf bpe"), 1500) if t and "\0" not in t and "▁" not in t]
        same("gguf llama", sample, tokenize(f("bpe.gguf"), sample, "--no-bos"), sp.encode)

        data = tok_make.sp_train(texts, "unigram")
        sp = spm.SentencePieceProcessor(model_proto=data)
        write(f("t5.gguf"), "t5", *sp_parts(data), eos_token_id=2, unk_token_id=0, add_space_prefix=True,
              remove_extra_whitespaces=True, precompiled_charsmap=tok_make.charsmap(data))
        # Runs of one character have many cuts of equal worth: double and float choose among them differently.
        sample = [t for t in corpus.texts(rng("corpus gguf t5"), 1500)
                  if "\0" not in t and not any(t[i:i + 3] == t[i] * 3 for i in range(len(t)))]
        same("gguf t5", sample, tokenize(f("t5.gguf"), sample, "--no-bos"), sp.encode)

        # Not with U+2581, by which GGUF marks the beginnings of words.
        t = tok_make.wordpiece([x for x in texts if "▁" not in x], tok_make.N.BertNormalizer())
        vocab = sorted(t.get_vocab().items(), key=lambda x: x[1])
        special = {"[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"}
        tokens = [p if p in special else p[2:] if p.startswith("##") else "▁" + p for p, _ in vocab]
        write(f("bert.gguf"), "bert", [p.encode() for p in tokens], None, [3 if p in special else 1 for p, _ in vocab],
              unk_token_id=t.token_to_id("[UNK]"), sep_token_id=t.token_to_id("[SEP]"), bos_token_id=t.token_to_id("[CLS]"))
        d = json.loads(t.to_str())
        d["model"]["max_input_chars_per_word"] = 100
        t = Tokenizer.from_str(json.dumps(d))
        odd = odd_characters()
        sample = [x for x in corpus.texts(rng("corpus gguf bert"), 1500) if not odd.intersection(x) and "▁" not in x]
        same("gguf bert", sample, tokenize(f("bert.gguf"), sample, "--special", "--eos"), lambda x: t.encode(x).ids)


def ranks_of(tokenizer):
    """The vocabulary of a byte-level BPE in the order of its merges, as a tiktoken file has it."""
    chars = {}
    n = 0
    for b in range(256):
        if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255:
            chars[chr(b)] = b
        else:
            chars[chr(256 + n)] = b
            n += 1
    vocab = json.loads(tokenizer.to_str())["model"]["vocab"]
    pieces = sorted((p for p in vocab if not p.startswith("<|")), key=vocab.get)
    return {bytes(chars[c] for c in p): i for i, p in enumerate(pieces)}


def tiktoken_files():
    """The class or the number of ranks says which expression a file goes with."""
    texts = corpus.texts(rng("tiktoken train"), 2500)
    ranks = ranks_of(tok_make.byte_bpe(tok_make.CUTS["llama3"], texts))
    patterns = {"QWenTokenizer": tok_make.QWEN2, "TikTokenTokenizer": tok_make.KIMI}
    with Folder() as f:
        for cls, pattern in patterns.items():
            os.makedirs(f(cls), exist_ok=True)
            with open(f(cls) + "/x.tiktoken", "wb") as file:
                file.write(b"".join(base64.b64encode(b) + b" %d\n" % r for b, r in ranks.items()))
            with open(f(cls) + "/tokenizer_config.json", "w", encoding="utf-8") as file:
                json.dump({"tokenizer_class": cls, "added_tokens_decoder": {
                    str(len(ranks)): {"content": "<|im_start|>", "special": True}}}, file)
            theirs = tiktoken.Encoding(cls, pat_str=pattern, mergeable_ranks=ranks,
                                       special_tokens={"<|im_start|>": len(ranks)})
            sample = corpus.texts(rng("corpus tiktoken " + cls), TEXTS["tiktoken"])
            same("tiktoken " + cls, sample, tokenize(f(cls), sample, "--special", "--no-bos"),
                 lambda t: theirs.encode(t, allowed_special="all"))
        # Those that are known by how many ranks they have: filled up with tokens that no text holds.
        import inspect
        known = {"cl100k": 100256, "o200k": 199998, "llama3": 128000, "gpt2": 50256}
        pats = {"cl100k": r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
                "o200k": tok_make.O200K, "llama3": tok_make.LLAMA3, "gpt2": r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"}
        assert pats["cl100k"] in inspect.getsource(public), "tiktoken has another cl100k"
        for name, n in known.items():
            os.makedirs(f(name), exist_ok=True)
            full = dict(ranks)
            while len(full) < n:
                full[b"\xff\xfe\xfd" + b"%d" % len(full)] = len(full)
            with open(f(name) + "/tokenizer.model", "wb") as file:
                file.write(b"".join(base64.b64encode(b) + b" %d\n" % r for b, r in full.items()))
            theirs = tiktoken.Encoding(name, pat_str=pats[name], mergeable_ranks=full, special_tokens={})
            sample = [t for t in corpus.texts(rng("corpus tiktoken " + name), TEXTS["tiktoken"]) if "<|" not in t]
            same("tiktoken " + name, sample, tokenize(f(name), sample, "--no-bos"), theirs.encode_ordinary)


def invalid():
    """Bytes that are no UTF-8 come back as they went in, where a vocabulary has a token for every byte."""
    r = rng("invalid")
    for name, rel in {"stories260K": PLACES["stories260K"], "tinyllama": PLACES["tinyllama"],
                      "gpt-2": "models/vocab/ggml-vocab-gpt-2.gguf", "llama-bpe": "models/vocab/ggml-vocab-llama-bpe.gguf"}.items():
        folder = shared(rel)
        for _ in range(20 if folder else 0):
            data = bytes(r.choice([r.randrange(256), r.randrange(0x80, 0x100), 0x20, 0x61]) for _ in range(r.randrange(1, 3000)))
            ids = forja("tokenize", folder, "--ids", "--no-bos", data=data)
            back = forja("tokenize", folder, "--decode", data=ids)
            check(back == data, f"{name}: {data[:60]!r} came back as {back[:60]!r}")


def old_files():
    """vocab.json and merges.txt, as transformers reads them."""
    from transformers import AutoTokenizer
    folder = shared("models/tokenizers/qwen2.5")
    if folder:
        theirs = AutoTokenizer.from_pretrained(folder)
        texts = corpus.texts(rng("corpus qwen2.5"), TEXTS["places"])
        same("qwen2.5", texts, tokenize(folder, texts, "--special", "--no-bos"),
             lambda t: theirs(t, add_special_tokens=False)["input_ids"])


def main():
    places()
    old_files()
    families()
    sentencepiece()
    gguf_files()
    tiktoken_files()
    invalid()
    print(f"  {total} comparisons of texts")
    finish()


if __name__ == "__main__":
    main()
