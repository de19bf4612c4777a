"""Conversations on which chat templates are tried: the matrix of the golden files and of tests/interop.

A row is what `forja template` reads: messages, and perhaps tools, documents, add_generation_prompt and
variables. Everything is drawn from a seeded generator, so that a fresh seed gives fresh conversations.
"""
import datetime
import hashlib
import json

import transformers.utils.chat_template_utils as peer
from transformers import PreTrainedTokenizerFast

DAY = "2025-03-09"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}

WORDS = ["tea", "boat", "the", "seven", "why", "ask", "rain", "Lisbon", "naïve", "東京", "Ωmega", "ß", "x=1", "\"quoted\"",
         "it's", "a\\b", "<b>", "&", "{{ no }}", "{% if %}", "🙂", "tab\there", "e\u0301", "İx", "42", "-", "…"]

TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "description": "Weather of a \"city\".", "parameters": {
        "type": "object", "properties": {
            "city": {"type": "string", "description": "City & country"},
            "unit": {"type": "string", "enum": ["c", "f"], "default": "c"},
            "days": {"type": "integer", "minimum": 1}}, "required": ["city"]},
        "return": {"type": "object", "properties": {"temp": {"type": "number"}}}}},
    {"type": "function", "function": {"name": "add", "description": "Adds.\nTwo lines.", "parameters": {
        "type": "object", "properties": {
            "a": {"type": "number"}, "b": {"type": ["number", "null"]},
            "more": {"type": "array", "items": {"type": "number"}},
            "opts": {"type": "object", "properties": {"exact": {"type": "boolean"}}}}, "required": ["a", "b"]}}},
]
DOCUMENTS = [{"title": "Tides", "text": "The moon pulls the sea.\nTwice a day."}, {"title": "Ünïcode — ☃", "text": ""}]


def text(r, low=1, high=12):
    s = " ".join(r.choice(WORDS) for _ in range(r.randint(low, high)))
    return r.choice(["", "", " ", "\n", "\n\n"]) + s + r.choice(["", "", "\n", "  ", "."])


def call(r, i, as_string):
    args = r.choice([{"city": text(r, 1, 2).strip(), "days": r.randint(1, 9)}, {"a": r.random(), "b": None}, {},
                     {"a": 1.5, "b": -3, "more": [1, 2.0, 1e20], "opts": {"exact": True}}])
    return {"id": f"call{i:05d}"[:9], "type": "function", "function": {
        "name": r.choice(["get_weather", "add"]), "arguments": json.dumps(args) if as_string else args}}


def conversation(r, kind):
    """One row of the kind: a dict of flags."""
    messages = []
    if kind.get("system"):
        messages.append({"role": "system", "content": text(r)})
    for turn in range(kind.get("turns", 1)):
        content = "" if kind.get("empty") else text(r)
        messages.append({"role": "user", "content": [{"type": "text", "text": content}] if kind.get("parts") else content})
        last = turn + 1 == kind.get("turns", 1)
        if kind.get("calls"):
            calls = [call(r, i, kind.get("strings")) for i in range(kind.get("calls"))]
            m = {"role": "assistant", "content": "" if kind.get("quiet") else text(r), "tool_calls": calls}
            if kind.get("null"):
                m["content"] = None
            if kind.get("thoughts"):
                m["reasoning_content"] = text(r)
            messages.append(m)
            for c in calls:
                messages.append({"role": "tool", "name": c["function"]["name"], "tool_call_id": c["id"],
                                 "content": r.choice(['{"temp": 21.5}', "plain words", text(r)])})
        if last and not kind.get("answered"):
            break
        m = {"role": "assistant", "content": text(r)}
        if kind.get("thoughts"):
            m[r.choice(["reasoning_content", "reasoning", "thinking"])] = text(r)
        if kind.get("inline"):
            m["content"] = "<think>\n" + text(r) + "\n</think>\n\n" + text(r)
        messages.append(m)
    row = {"messages": messages}
    if kind.get("tools"):
        row["tools"] = TOOLS[:kind["tools"]]
    if kind.get("documents"):
        row["documents"] = DOCUMENTS
    row["add_generation_prompt"] = bool(kind.get("prompt"))
    row.update(kind.get("more", {}))
    return row


KINDS = [
    {"prompt": 1}, {"answered": 1}, {"system": 1, "prompt": 1}, {"system": 1, "answered": 1, "turns": 3},
    {"turns": 2, "prompt": 1}, {"turns": 4, "answered": 1}, {"empty": 1, "prompt": 1}, {"empty": 1, "system": 1, "answered": 1},
    {"parts": 1, "prompt": 1}, {"parts": 1, "system": 1, "answered": 1, "turns": 2},
    {"tools": 2, "prompt": 1}, {"tools": 1, "system": 1, "prompt": 1}, {"tools": 2, "calls": 1, "quiet": 1, "prompt": 1},
    {"tools": 2, "calls": 1, "answered": 1, "strings": 1}, {"tools": 2, "calls": 2, "system": 1, "answered": 1, "turns": 2},
    {"tools": 1, "calls": 1, "null": 1, "prompt": 1}, {"tools": 2, "calls": 2, "strings": 1, "thoughts": 1, "prompt": 1},
    {"calls": 1, "answered": 1}, {"documents": 1, "prompt": 1}, {"documents": 1, "tools": 1, "system": 1, "answered": 1},
    {"thoughts": 1, "answered": 1, "turns": 2}, {"thoughts": 1, "turns": 3, "prompt": 1, "system": 1},
    {"inline": 1, "answered": 1, "turns": 2}, {"inline": 1, "turns": 2, "prompt": 1},
    {"prompt": 1, "more": {"enable_thinking": False}}, {"prompt": 1, "system": 1, "more": {"enable_thinking": True, "thinking": True}},
    {"tools": 2, "calls": 1, "answered": 1, "thoughts": 1, "turns": 3, "more": {"reasoning_effort": "high"}},
]


def odd(r):
    """Rows that templates refuse, or that lie at an edge."""
    u = {"role": "user", "content": text(r)}
    a = {"role": "assistant", "content": text(r)}
    return [
        {"messages": [u, u]}, {"messages": [a]}, {"messages": [a, u], "add_generation_prompt": True}, {"messages": [u, a, a]},
        {"messages": [{"role": "system", "content": "only"}]}, {"messages": [{"role": "critic", "content": "x"}]},
        {"messages": [u, {"role": "system", "content": "late"}, a]}, {"messages": [{"role": "user"}]},
        {"messages": [{"role": "user", "content": None}]}, {"messages": [{"content": "no role"}]},
        {"messages": [u, {"role": "tool", "content": "42"}]}, {"messages": [{"role": "user", "content": 7}]},
        {"messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "see"}]}]},
        {"messages": [{"role": "developer", "content": text(r)}, u], "add_generation_prompt": True},
        {"messages": [u, {"role": "assistant", "content": "", "tool_calls": []}]},
        {"messages": [u, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "not json"}}]}]},
        {"messages": [u], "tools": [], "documents": [], "add_generation_prompt": True},
        {"messages": [u], "tools": [{"name": "bare"}], "add_generation_prompt": True},
    ]


def matrix(r):
    return [conversation(r, k) for k in KINDS] + odd(r)


class Day(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(DAY + "T12:00:00")


def tokenizer(folder, **special):
    """The vocabulary of a folder, by its tokenizer.json alone."""
    peer.datetime = Day
    return PreTrainedTokenizerFast(tokenizer_file=folder + "/tokenizer.json", **special)


def render(tok, template, row):
    """(text, None) or (None, the exception), as apply_chat_template has it."""
    row = {**TOKENS, **row}
    try:
        return tok.apply_chat_template(
            row.pop("messages"), tools=row.pop("tools", None), documents=row.pop("documents", None), chat_template=template,
            add_generation_prompt=row.pop("add_generation_prompt", False), tokenize=False, **row), None
    except Exception as e:  # noqa: BLE001 - whatever a template does wrong
        return None, e


def digest(s):
    return hashlib.sha256(s.encode("utf-8", "surrogatepass")).hexdigest()[:16]


# Templates that say which of their text is an answer.
MARKED = {
    "chatml": "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>"
              "{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n{{ '\\n' }}{% endfor %}"
              "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "llama2": "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
              "{% elif m.role == 'assistant' %}{% generation %} {{ m.content | trim }} {{ eos_token }}{% endgeneration %}"
              "{% else %}<<SYS>>{{ m.content }}<</SYS>>{% endif %}{% endfor %}",
    "words": "{% for m in messages %}{{ m.role | upper }}: {% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}"
             "{% else %}{{ m.content }}{% endif %} {% endfor %}",
    "pieces": "{% for m in messages %}{% if m.role == 'assistant' %}{% for w in m.content.split() %}{% generation %}{{ w }}{% endgeneration %}-"
              "{% endfor %}{% else %}({{ m.content }}){% endif %}{% endfor %}",
}


def own_tokens(folder):
    """The special tokens of a folder's tokenizer_config.json."""
    import os
    path = os.path.join(folder, "tokenizer_config.json")
    if not os.path.exists(path):
        return {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"}  # SmolLM2's, which its folder does not name
    with open(path, encoding="utf-8") as f:
        c = json.load(f)
    named = {k: v["content"] if isinstance(v, dict) else v for k, v in c.items() if k.endswith("_token") and v}
    return {k: v for k, v in named.items() if isinstance(v, str)}


def talk(r, turns):
    """Plain messages with blanks in the middle only, so that templates with and without trim agree on them."""
    out = [{"role": "system", "content": text(r).strip()}] if r.random() < 0.5 else []
    for _ in range(turns):
        out += [{"role": "user", "content": text(r).strip()}, {"role": "assistant", "content": text(r, 1, 20)}]
    return out
