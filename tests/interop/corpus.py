"""Texts to tokenize: many scripts, emoji, combining marks, controls, code, and plain noise."""
import unicodedata

SAMPLES = [
    "", " ", "  ", "\n", "\t", "\r\n", "a", " a", "a ", "  a  b   c    ", "\n\n\nx\n \n", "Hello, world!",
    "I'm you're HE'LL don't 'twas o'clock 's 'S", "1 12 123 1234 12345678901234567890 3.14 1,000,000",
    "<s>", "</s>", "<unk>", "<|im_start|>user\nHi<|im_end|>\n", "<|endoftext|>", "<s> x </s>y", "<|im_start",
    "São Paulo não é só açaí; às três, Zoë comeu crêpes.", "Größe ÄÖÜß ſtraße", "İstanbul ıi",
    "Привет, как дела? Ёлка.", "Γειά σου Κόσμε", "שלום עולם", "مرحبا بالعالم ١٢٣", "नमस्ते दुनिया क्षत्रिय १२३",
    "สวัสดีชาวโลก", "你好,世界。漢字仮名交じり文", "こんにちは カタカナ ひらがな", "안녕하세요 세계 한국어",
    "👍🏽 👨‍👩‍👧‍👦 🇧🇷 🏳️‍🌈 ☃️ 🤷🏽‍♀️", "e\u0301 é a\u0308\u0323 Z\u0351\u036b\u0343", "\u1e9b\u0323 ﬁ ﷺ ①②③ ½ Ⅷ ㎏",
    "x\u200by\u200dz\u2060w\ufeffv", "\u202eright to left\u202c", "a\u00a0b\u2003c\u3000d\u2028e\u2029f\x85g\x0bh\x0ci",
    "\x01\x02\x1b[31mred\x1b[0m\x7f", "▁under▁score ▁ ▁▁", "Ġ Ċ ĉ Ã©", "\U0001d54f \U00010348 \U000e0041 \U0010ffff",
    "def f(x):\n    return x**2  # ok\n\n\tif (a&&b||!c) { y[i++] = \"\\n\"; }", "https://a.b/c?d=e&f=%20#g me@x.org",
    "!!!???...,,,;;;---___===+++***///\\\\\\|||```~~~^^^$$$%%%", "$x^2 + \\frac{1}{2} \\leq ∑_{i=0}^{∞}$",
    "CamelCaseWord snake_case_word kebab-case-word SHOUTING mIxEd123abc 4you b2b",
    "\u0378 unassigned \U0010ffff", "ſ's ſ'S it'ſ K Å", "ΑΣ Σ ΣΑΣ ẞ ŉ ǅ ǆ Ⅷ ⅷ Ⓐ ⓐ", "กำ ก็ํ ที่นี่ ๑๒๓", "ꦏꦺꦴ ꧁ ᮞᮥᮔ᮪ᮓ",
    "a\u0300\u0301\u0302\u0303 \u0344 \u0958 \ufb1f", "\r\n\r\n \r \n \r\n", "x\ty\t\tz \u180e \u200b\u3000 \u2028\u2029",
    "🧑🏿‍🚀🧑‍🦰👩🏽‍❤️‍💋‍👨🏻 🇧🇷🇧 1️⃣#️⃣", "a<mask> b <a><b><a> Hello hello wOrld of  of you  you é the theme",
    "IT'S I'LL i'Ve YOU'RE 'tis ''s", "1234567 12,345.678 ١٢٣٤٥ ２３４ ⅷ½ 1\u0663", "\x00\x01 nul\x00", "﷽ ﷺ ㌀ ㈱ ￥ ﾊﾟ ｶﾞ",
    "a" * 300, "ha " * 80, " " * 100 + "x", "\n" * 40, "é" * 60, "1" * 70, "👍" * 30, "\t \t \n \t" * 10,
]
RANGES = [(0x20, 0x7e), (0xa0, 0x24f), (0x300, 0x36f), (0x370, 0x3ff), (0x400, 0x4ff), (0x590, 0x5ff),
          (0x600, 0x6ff), (0x900, 0x97f), (0xe00, 0xe7f), (0x1100, 0x11ff), (0x1e00, 0x1eff), (0x2000, 0x206f),
          (0x20a0, 0x20bf), (0x2100, 0x22ff), (0x2460, 0x24ff), (0x2580, 0x27bf), (0x3000, 0x30ff),
          (0x4e00, 0x9fff), (0xac00, 0xd7a3), (0xfb00, 0xfdff), (0xfe00, 0xfe0f), (0xff00, 0xffef),
          (0x1f300, 0x1faff), (0x0, 0x1f), (0x80, 0x9f)]
WORDS = ("the of and to in is that it was for on are with his they at be this from have or by one had not but what "
         "all were when we there can an your which their said if do will each about how up out them then she many "
         "de a que não uma para com por mais como mas dos ele ser tem seus quem nas esse está você minha").split()


def char(r):
    while True:
        lo, hi = r.choice(RANGES) if r.random() < 0.9 else (0, 0x10ffff)
        c = chr(r.randint(lo, hi))
        if not 0xd800 <= ord(c) <= 0xdfff:
            return c


def text(r):
    kind = r.randrange(5)
    if kind == 0:  # one script at a time
        lo, hi = r.choice(RANGES)
        return "".join(chr(r.randint(lo, hi)) for _ in range(r.randrange(1, 60)))
    if kind == 1:  # anything beside anything
        return "".join(char(r) for _ in range(r.randrange(1, 80)))
    if kind == 2:  # words, numbers, odd spaces
        parts = [r.choice([r.choice(WORDS), r.choice(WORDS).title(), str(r.randrange(10 ** r.randrange(1, 12))),
                           r.choice("'’.,;:!?-_()[]{}\"") * r.randrange(1, 4)]) for _ in range(r.randrange(1, 40))]
        return "".join(p + r.choice(["", " ", " ", " ", "  ", "\n", "\t", "\r\n", "\u00a0"]) for p in parts)
    if kind == 3:  # decomposed text and marks on the wrong letters
        s = "".join(r.choice("aeioucnyzAEIOU ") + "".join(chr(r.randint(0x300, 0x36f)) for _ in range(r.randrange(3)))
                    for _ in range(r.randrange(1, 40)))
        return s if r.random() < 0.5 else unicodedata.normalize("NFC", s)
    return "".join(r.choice(SAMPLES) + r.choice(["", " "]) for _ in range(r.randrange(2, 4)))


def known(s):
    """Without characters that this Python's Unicode does not have: peers are of different versions of it."""
    return "".join(c for c in s if unicodedata.category(c) != "Cn" or c in "\u0378\U0010ffff")


def texts(r, n):
    return SAMPLES + [known(text(r)) for _ in range(n)]
