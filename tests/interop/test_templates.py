"""Chat templates: `forja template` beside apply_chat_template of transformers, byte for byte.

Every template of ../shared/models/templates on a fresh matrix of conversations, and expressions drawn at random;
where the peer refuses, forja must refuse, and with the template's own words when the template did it.
"""
import copy
import glob
import json
import os
import subprocess

import jinja2

import conversations as conv
import jinja_cases
from peer import FORJA, Folder, check, finish, forja, rng, shared


def ours(template, rows, path, model=None):
    data = "".join(json.dumps({**conv.TOKENS, **row}) + "\n" for row in rows).encode()
    extra = ["--model", model] if model else []
    out = forja("template", template, "-", "--json", "--date", conv.DAY, *extra, data=data)
    return [json.loads(line) for line in out.decode().split("\n")[:-1]]


def compile_error(template, tok):
    """The peer cannot even read some templates: then no row of them has a text."""
    text, why = conv.render(tok, template, {"messages": [{"role": "user", "content": "x"}]})
    return isinstance(why, jinja2.TemplateSyntaxError)


def same(name, row, got, want, why):
    if want is not None:
        return check(got.get("text") == want, f"{name}: {json.dumps(row)[:600]}\n    ours   {json.dumps(got)[:700]}\n    theirs {json.dumps(want)[:700]}")
    if not check("error" in got, f"{name}: {json.dumps(row)[:600]}\n    ours   {json.dumps(got)[:500]}\n    theirs {why!r:.300}"):
        return False
    if type(why) is jinja2.TemplateError:  # raise_exception
        said = "".join(c if c >= " " and c != "\x7f" else "?" for c in str(why))[:100]
        return check(got.get("raised") and said in got["error"], f"{name}: ours says {got['error']!r}, theirs {said!r}")
    return True


def all_templates(tok, seed_name):
    folder = shared("models/templates")
    if not folder:
        return
    rows = conv.matrix(rng(seed_name))
    good = texts = 0
    for path in sorted(glob.glob(os.path.join(folder, "*.jinja"))):
        with open(path, encoding="utf-8") as f:
            template = f.read()
        name = os.path.basename(path)
        if compile_error(template, tok):
            r = subprocess.run([FORJA, "template", path, "-"], input=b"", capture_output=True)
            check(r.returncode == 1, f"{name}: the peer cannot read it, forja can")
            print(f"  {name}: refused by both")
            continue
        for row, got in zip(rows, ours(path, rows, path), strict=True):
            want, why = conv.render(tok, template, row)
            good += same(name, row, got, want, why)
            texts += want is not None
    print(f"  {good} texts and errors of templates are equal, {texts} of them texts")


def one_template(source, rows, folder, tok, what):
    path = folder("t.jinja")
    with open(path, "w", encoding="utf-8") as f:
        f.write(source)
    compiled, why = None, None
    try:
        compiled = conv.peer._cached_compile_jinja_template(source)
    except Exception as e:  # noqa: BLE001
        why = e
    data = "".join(json.dumps({"messages": [{"role": "user", "content": "x"}], **row}) + "\n" for row in rows).encode()
    r = subprocess.run([FORJA, "template", path, "-", "--json", "--date", conv.DAY], input=data, capture_output=True)
    if why is not None:
        return check(r.returncode == 1, f"{what}: {source!r}: theirs {why!r}, ours {r.stdout[:200]!r}")
    if not check(r.returncode == 0, f"{what}: {source!r}: ours {r.stderr[:300]!r}"):
        return False
    ok = True
    for row, line in zip(rows, r.stdout.decode().split("\n")[:-1], strict=True):
        got = json.loads(line)
        try:
            want = compiled.render(messages=[{"role": "user", "content": "x"}], tools=None, documents=None,
                                   add_generation_prompt=False, **copy.deepcopy(row))
        except jinja_cases.Address:
            continue
        except Exception as e:  # noqa: BLE001
            ok &= check("error" in got, f"{what}: {source!r}: theirs {e!r}, ours {got}")
            continue
        if " at 0x" in want:  # an object by its address
            continue
        ok &= check(got.get("text") == want, f"{what}: {source!r} {json.dumps(row)[:200]}\n    ours   {json.dumps(got)[:400]}\n    theirs {json.dumps(want)[:400]}")
    return ok


def expressions(tok):
    r = rng("expressions")
    good = 0
    with Folder() as folder:
        for source in jinja_cases.CASES:
            good += one_template(source, [jinja_cases.VARS], folder, tok, "case")
        print(f"  {good} of {len(jinja_cases.CASES)} cases are equal")
        good = 0
        batches = [jinja_cases.random_template(r) for _ in range(150)]
        for source in batches:
            good += one_template(source, [jinja_cases.random_vars(r) for _ in range(4)], folder, tok, "random")
        print(f"  {good} of {len(batches)} random templates are equal")


TOKENIZERS = {"smollm2": "models/tokenizers/smollm2-tokenizer", "tinyllama": "models/tokenizers/tinyllama-tokenizer"}


def whole_characters(tok, text, mask):
    """A character of several tokens at the end of a span: the peer marks the first of them, forja all."""
    place = tok(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    for i in range(1, len(mask)):
        mask[i] |= mask[i - 1] and place[i][1] == place[i - 1][1] > place[i][0]
    return mask


def marks():
    """Ids and masks of templates with generation marks, by two vocabularies."""
    r = rng("marks")
    for vocabulary, rel in TOKENIZERS.items():
        folder = shared(rel)
        if not folder:
            continue
        tok = conv.tokenizer(folder, **conv.own_tokens(folder))
        for name, template in conv.MARKED.items():
            rows = [{"messages": conv.talk(r, r.randint(1, 4))} for _ in range(40)]
            with Folder() as f:
                path = f("t.jinja")
                with open(path, "w", encoding="utf-8") as out:
                    out.write(template)
                data = "".join(json.dumps(row) + "\n" for row in rows).encode()
                lines = forja("template", path, "-", "--json", "--model", folder, data=data).decode().split("\n")[:-1]
            good = 0
            for row, line in zip(rows, lines, strict=True):
                got = json.loads(line)
                want = tok.apply_chat_template(row["messages"], chat_template=template, return_dict=True, return_assistant_tokens_mask=True)
                where = f"{vocabulary} {name}: {json.dumps(row)[:500]}\n    {got.get('ids_error', '')}"
                good += check(got.get("ids") == want["input_ids"], f"{where}\n    ours   {got.get('ids')}\n    theirs {want['input_ids']}") and \
                    check(got["mask"] == whole_characters(tok, got["text"], want["assistant_masks"]), f"{where} mask\n    ours   {got['mask']}\n    theirs {want['assistant_masks']}")
            print(f"  {vocabulary} {name}: ids and masks of {good} of {len(rows)} conversations are equal")


def whole_ids():
    """Ids of the shared templates on plain conversations: those of the whole text."""
    r = rng("ids")
    folder, templates = shared(TOKENIZERS["smollm2"]), shared("models/templates")
    if not folder or not templates:
        return
    tok = conv.tokenizer(folder, **conv.own_tokens(folder))
    good = total = spans = 0
    for path in sorted(glob.glob(os.path.join(templates, "*.jinja"))):
        with open(path, encoding="utf-8") as f:
            template = f.read()
        if compile_error(template, tok):
            continue
        rows = [{"messages": conv.talk(r, 2)[-4:]} for _ in range(3)] + [{"messages": conv.talk(r, 1)[-2:-1], "add_generation_prompt": True}]
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        for row, line in zip(rows, forja("template", path, "-", "--json", "--model", folder, "--date", conv.DAY, data=data).decode().split("\n")[:-1], strict=True):
            got = json.loads(line)
            if "error" in got:
                continue
            total += 1
            if "ids_error" in got:
                print(f"  {os.path.basename(path)}: {got['ids_error'][:200]}")
                continue
            want = tok(got["text"], add_special_tokens=False)["input_ids"]
            good += check(got["ids"] == want, f"{os.path.basename(path)}: ids of {json.dumps(row)[:300]}")
            if "mask" in got:
                spans += answers(os.path.basename(path), tok, row, got)
    print(f"  {good} of {total} texts of the shared templates have the ids of the peer; {spans} hold their answers")


def answers(name, tok, row, got):
    """What is learned holds every answer (trimmed), and no question."""
    learned = tok.decode([i for i, m in zip(got["ids"], got["mask"]) if m])
    said = [m["content"].strip() for m in row["messages"] if m["role"] == "assistant"]
    return check(all(s in learned for s in said), f"{name}: learned {learned[:500]!r}, answers {said}")


def main():
    folder = shared("models/tokenizers/smollm2-tokenizer")
    if not folder:
        finish()
    tok = conv.tokenizer(folder)
    all_templates(tok, "conversations")
    expressions(tok)
    marks()
    whole_ids()
    finish()


if __name__ == "__main__":
    main()
