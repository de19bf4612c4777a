"""Tokenizers of every family, made on the spot: trained on this run's own texts by `tokenizers` and
`sentencepiece`, with every normalizer, pre-tokenizer, decoder and post-processor that forja reads."""
import io

import sentencepiece as spm
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ENGLISH = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
UP, LO = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
LINES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = ENGLISH + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + LINES
QWEN2 = LLAMA3.replace("{1,3}", "")
QWEN35 = (ENGLISH + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + LINES)
CASED = r"[^\r\n\p{L}\p{N}]?[" + UP + r"]*[" + LO + r"]+%s|[^\r\n\p{L}\p{N}]?[" + UP + r"]+[" + LO + r"]*%s|"
O200K = CASED % (ENGLISH + "?", ENGLISH + "?") + r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + LINES
TEKKEN = CASED % ("", "") + r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|" + LINES
DEEP3 = ("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
         " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")
HAN = "&&[^\\p{Han}]]"
KIMI = (r"[\p{Han}]+|[^\r\n\p{L}\p{N}]?[" + UP + HAN + "*[" + LO + HAN + "+" + ENGLISH + r"?|[^\r\n\p{L}\p{N}]?[" + UP
        + HAN + "+[" + LO + HAN + "*" + ENGLISH + r"?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + LINES)
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*|"
          r"\s*[\r\n]|\s+(?!\S)|\s+")


def split(regex, behavior="isolated", invert=False):
    return pre_tokenizers.Split(Regex(regex), behavior, invert)


def bytes_after(*steps):
    return pre_tokenizers.Sequence([*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


# Byte-level BPE by the way words are cut.
P = pre_tokenizers
CUTS = {
    "gpt2": P.ByteLevel(add_prefix_space=False), "gpt2-space": P.ByteLevel(add_prefix_space=True),
    "llama3": bytes_after(split(LLAMA3)), "qwen2": bytes_after(split(QWEN2)), "qwen35": bytes_after(split(QWEN35)),
    "o200k": bytes_after(split(O200K)), "tekken": bytes_after(split(TEKKEN)), "kimi": bytes_after(split(KIMI)),
    "cl100k": bytes_after(split(CL100K)),
    "deepseek-v3": bytes_after(split(r"\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(DEEP3)),
    "deepseek-coder": bytes_after(split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"),
                                  split("[一-龥ࠀ-一가-퟿]+"), P.Digits(individual_digits=True)),
    "falcon": P.Sequence([P.Punctuation("contiguous"), P.ByteLevel(add_prefix_space=False), P.Digits(),
                          split("[0-9][0-9][0-9]")]),
    "starcoder": P.Sequence([P.Digits(individual_digits=True), P.ByteLevel(add_prefix_space=False)]),
    "bloom": bytes_after(split(r" ?[^(\s|[.,!?…。，、।۔،])]+")),
    "superbpe": bytes_after(split(r"\p{N}+"), split(r"(?=(\d{3})+(?!\d))")),
    "aya": bytes_after(split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(O200K)),
    "bytes": P.ByteLevel(add_prefix_space=False, use_regex=False),
}

# BPE over characters with every other pre-tokenizer: the cuts show in the tokens.
BEHAVIORS = ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
CHAR_CUTS = {
    "whitespace": P.Whitespace(), "whitespace-split": P.WhitespaceSplit(), "bert": P.BertPreTokenizer(),
    "metaspace": P.Metaspace(), "metaspace-first": P.Metaspace(prepend_scheme="first"),
    "metaspace-never": P.Metaspace(prepend_scheme="never", split=False), "digits": P.Digits(False),
    "digits-each": P.Digits(True), "delimiter": P.CharDelimiterSplit("e"), "fixed": P.FixedLength(4),
    **{f"punctuation-{b}": P.Punctuation(b) for b in BEHAVIORS},
    **{f"split-{b}": P.Split("a", b) for b in BEHAVIORS},
    **{f"split-regex-{b}": split(r"\p{L}+|\s", b) for b in BEHAVIORS},
    **{f"split-invert-{b}": split(r"\w\w?", b, True) for b in BEHAVIORS},
}
N = normalizers
NORMS = {
    "nfc": N.NFC(), "nfd": N.NFD(), "nfkc": N.NFKC(), "nfkd": N.NFKD(), "lower": N.Lowercase(),
    "strip": N.Strip(), "strip-left": N.Strip(right=False), "accents": N.Sequence([N.NFD(), N.StripAccents()]),
    "prepend": N.Prepend("▁"), "replace": N.Replace(" ", "▁"), "replace-regex": N.Replace(Regex(r"\s+|[aeiou]{2}"), "-"),
    "nmt": N.Nmt(), "bert": N.BertNormalizer(), "bert-cased": N.BertNormalizer(lowercase=False),
    "bert-accents": N.BertNormalizer(clean_text=False, strip_accents=False, handle_chinese_chars=False),
    "byte-level": N.ByteLevel(), "llama": N.Sequence([N.Prepend("▁"), N.Replace(" ", "▁")]),
}
SIZE = 1.0  # of the vocabularies: golden files are smaller
BYTES = [f"<0x{b:02X}>" for b in range(256)]


def train(t, trainer, texts):
    t.train_from_iterator(texts, trainer)
    return t


def byte_bpe(cut, texts, **model):
    t = Tokenizer(models.BPE(**model))
    t.pre_tokenizer, t.decoder = cut, decoders.ByteLevel()
    return train(t, trainers.BpeTrainer(vocab_size=int(1500 * SIZE), initial_alphabet=P.ByteLevel.alphabet(),
                                        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
                                        show_progress=False), texts)


def char_bpe(texts, cut=None, norm=None, **model):
    """Characters that are rare in the texts are unknown."""
    t = Tokenizer(models.BPE(unk_token="<unk>", **model))
    if cut:
        t.pre_tokenizer = cut
    if norm:
        t.normalizer = norm
    affixes = {k: v for k, v in model.items() if k.endswith("fix")}
    return train(t, trainers.BpeTrainer(vocab_size=int(1200 * SIZE), special_tokens=["<unk>", *BYTES], limit_alphabet=int(400 * SIZE),
                                        show_progress=False, **affixes), texts)


def uncased_specials(t):
    """BYTES were special so that they have the first ids; in a real vocabulary they are plain pieces."""
    import json
    d = json.loads(t.to_str())
    d["added_tokens"] = [a for a in d["added_tokens"] if not a["content"].startswith("<0x")]
    return Tokenizer.from_str(json.dumps(d))


def sp_train(texts, kind, vocab=900, **opts):
    out = io.BytesIO()
    # Few scripts: every character that is kept needs a piece.
    lines = [x for text in texts for x in text.split("\n") if x and "\0" not in x and max(x) < "\u0530"][:4000]
    spm.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=out, vocab_size=vocab, model_type=kind,
                                   character_coverage=0.98, minloglevel=2, num_threads=1,
                                   hard_vocab_limit=False, **opts)
    return out.getvalue()


def fields(data):
    """(number, value) of a protobuf message."""
    at = 0

    def varint():
        nonlocal at
        v = shift = 0
        while True:
            v |= (data[at] & 0x7f) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 0x80:
                return v

    while at < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
            continue
        n = varint() if key & 7 == 2 else 4 if key & 7 == 5 else 8
        yield key >> 3, data[at:at + n]
        at += n


def charsmap(model):
    """precompiled_charsmap of normalizer_spec."""
    return dict(fields(dict(fields(model))[3]))[2]


def unigram(texts, norm=None, fallback=False, cut=None):
    t = Tokenizer(models.Unigram())
    if norm:
        t.normalizer = norm
    t.pre_tokenizer = cut or P.Metaspace()
    t.decoder = decoders.Metaspace()
    texts = [x for x in texts if x and max(x) < "\u0530" and "<" not in x]
    train(t, trainers.UnigramTrainer(vocab_size=int(1200 * SIZE), special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>",
                                     show_progress=False), texts)
    if fallback:
        import json
        d = json.loads(t.to_str())
        d["model"]["byte_fallback"] = True
        d["model"]["vocab"] += [[b, 0.0] for b in BYTES]
        d["decoder"] = {"type": "Sequence", "decoders": [
            {"type": "ByteFallback"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}]}
        t = Tokenizer.from_str(json.dumps(d))
    return t


def wordpiece(texts, norm, cut=None, post=None):
    t = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=40))
    t.normalizer, t.pre_tokenizer = norm, cut or P.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    train(t, trainers.WordPieceTrainer(vocab_size=int(1500 * SIZE), special_tokens=["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"],
                                       show_progress=False), texts)
    t.post_processor = post or processors.BertProcessing(("[SEP]", t.token_to_id("[SEP]")), ("[CLS]", t.token_to_id("[CLS]")))
    return t


def wordlevel(texts):
    t = Tokenizer(models.WordLevel(unk_token="<unk>"))
    t.pre_tokenizer = P.Whitespace()
    return train(t, trainers.WordLevelTrainer(vocab_size=int(2000 * SIZE), special_tokens=["<unk>"], show_progress=False), texts)


def added(texts):
    """Added tokens with every flag, in a model with a normalizer that changes their spelling."""
    t = byte_bpe(P.ByteLevel(add_prefix_space=False), texts)
    t.normalizer = N.Lowercase()
    t.add_tokens([AddedToken("Hello", normalized=True), AddedToken("the", single_word=True), AddedToken(" wOrld", normalized=False),
                  AddedToken("of", lstrip=True), AddedToken("you", rstrip=True), AddedToken("é", lstrip=True, rstrip=True)])
    t.add_special_tokens([AddedToken("<mask>", lstrip=True), "<a>", "<a><b>"])
    return t


def template(texts):
    t = byte_bpe(P.ByteLevel(add_prefix_space=False), texts)
    a, b = t.token_to_id("<|im_start|>"), t.token_to_id("<|im_end|>")
    t.post_processor = processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|> <|im_end|>", pair="$A $B", special_tokens=[("<|im_start|>", a), ("<|im_end|>", b)])])
    return t


def clip(texts):
    """As CLIP: byte-level with an end of word."""
    t = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    t.normalizer = N.Sequence([N.NFC(), N.Replace(Regex(r"\s+"), " "), N.Lowercase()])
    t.pre_tokenizer = P.Sequence([split(r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", "removed", True),
                                  P.ByteLevel(add_prefix_space=False)])
    t.decoder = decoders.ByteLevel()
    train(t, trainers.BpeTrainer(vocab_size=int(1500 * SIZE), end_of_word_suffix="</w>", special_tokens=["<|endoftext|>"],
                                 initial_alphabet=P.ByteLevel.alphabet(), show_progress=False), texts)
    t.post_processor = processors.RobertaProcessing(("<|endoftext|>", 0), ("<|endoftext|>", 0))
    return t


def families(texts):
    """Name and Tokenizer of each."""
    for name, cut in CUTS.items():
        yield "bpe " + name, byte_bpe(cut, texts)
    yield "bpe ignore_merges", byte_bpe(CUTS["llama3"], texts, ignore_merges=True)
    for name, cut in CHAR_CUTS.items():
        yield "cut " + name, char_bpe(texts, cut)
    for name, norm in NORMS.items():
        yield "normalizer " + name, uncased_specials(char_bpe(texts, P.WhitespaceSplit(), norm, byte_fallback=True))
    yield "bpe fuse_unk", char_bpe(texts, P.Metaspace(), fuse_unk=True)
    t = uncased_specials(char_bpe(texts, None, NORMS["llama"], byte_fallback=True, fuse_unk=True))
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    yield "bpe llama", t
    t = char_bpe(texts, P.BertPreTokenizer(), N.BertNormalizer(), end_of_word_suffix="</w>")
    t.decoder = decoders.BPEDecoder()
    yield "bpe gpt-1", t
    t = char_bpe(texts, P.BertPreTokenizer(), continuing_subword_prefix="##")
    t.decoder = decoders.WordPiece(cleanup=False)
    yield "bpe ##", t
    yield "bpe clip", clip(texts)
    spm_map = N.Precompiled(charsmap(sp_train(texts, "unigram", 600)))  # nmt_nfkc
    yield "unigram", unigram(texts)
    yield "unigram charsmap", unigram(texts, N.Sequence([spm_map, N.Replace(Regex(" {2,}"), " ")]))
    yield "unigram bytes", unigram(texts, fallback=True)
    yield "unigram whole lines", unigram(texts, cut=P.Metaspace(split=False))
    yield "normalizer charsmap", char_bpe(texts, P.WhitespaceSplit(), spm_map)
    yield "wordpiece", wordpiece(texts, N.BertNormalizer())
    yield "wordpiece cased", wordpiece(texts, N.BertNormalizer(lowercase=False), P.WhitespaceSplit())
    yield "wordlevel", wordlevel(texts)
    yield "added", added(texts)
    yield "template", template(texts)
