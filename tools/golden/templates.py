"""What transformers makes of chat templates: tests/golden/templates/.

cases.json          small templates with their text, or what went wrong
conversations.json  the matrix of conversations.py
shared.json         for every template of ../shared/models/templates the first 16 digits of the SHA-256 of its text on
                    each conversation ("raised": the template refused, "error": anything else went wrong)
marks.json          templates with generation marks: text and spans of the answers, in bytes
"""
import argparse
import copy
import glob
import json
import os
import random

import jinja2
import transformers

import conversations as conv
import jinja_cases
from common import OUT, SHARED


def case(source, given):
    try:
        text = conv.peer._cached_compile_jinja_template(source).render(
            messages=[{"role": "user", "content": "x"}], tools=None, documents=None, add_generation_prompt=False, **copy.deepcopy(given))  # the filter indent changes a list that it is given
    except jinja_cases.Address:
        return None
    except Exception as e:  # noqa: BLE001
        raised = type(e) is jinja2.TemplateError
        return {"template": source, "raised" if raised else "error": str(e)[:100] if raised else type(e).__name__}
    return None if " at 0x" in text else {"template": source, "text": text}


def cases(r):
    out = [{"vars": jinja_cases.VARS, "cases": [c for c in (case(s, jinja_cases.VARS) for s in jinja_cases.CASES) if c]}]
    for _ in range(6):
        given = jinja_cases.random_vars(r)
        out.append({"vars": given, "cases": [c for c in (case(jinja_cases.random_template(r), given) for _ in range(60)) if c]})
    return out


def shared(tok, rows):
    out = {}
    for path in sorted(glob.glob(os.path.join(SHARED, "models", "templates", "*.jinja"))):
        with open(path, encoding="utf-8") as f:
            template = f.read()
        cells = []
        for row in rows:
            text, why = conv.render(tok, template, row)
            cells.append(conv.digest(text) if why is None else "raised" if type(why) is jinja2.TemplateError else "error")
        out[os.path.basename(path)] = " ".join(cells)
    return out


def marks(r):
    out = []
    for template in conv.MARKED.values():
        compiled = conv.peer._cached_compile_jinja_template(template)
        for _ in range(4):
            messages = conv.talk(r, r.randint(1, 3))
            text, spans = conv.peer._render_with_assistant_indices(compiled, messages, None, None, False, **conv.TOKENS)
            at = [[len(text[:i].encode()) for i in s] for s in spans if s[1] > s[0]]
            out.append({"template": template, "messages": messages, "text": text, "spans": at})
    return out


def main():
    args = argparse.ArgumentParser()
    args.add_argument("--seed", type=int, default=20261)
    args.add_argument("--out", default=OUT)
    args = args.parse_args()
    r = random.Random(args.seed)
    tok = conv.tokenizer(os.path.join(SHARED, "models", "tokenizers", "smollm2-tokenizer"))
    rows = conv.matrix(r)
    about = {"seed": args.seed, "transformers": transformers.__version__, "jinja2": jinja2.__version__, "day": conv.DAY}
    files = {"cases.json": {"made": about, "groups": cases(r)}, "conversations.json": {"made": about, "rows": [{**conv.TOKENS, **row} for row in rows]},
             "shared.json": {"made": about, "templates": shared(tok, rows)}, "marks.json": {"made": about, "tokens": conv.TOKENS, "rows": marks(r)}}
    folder = os.path.join(args.out, "templates")
    os.makedirs(folder, exist_ok=True)
    for name, what in files.items():
        path = os.path.join(folder, name)
        with open(path + ".tmp", "w", encoding="utf-8") as f:
            json.dump(what, f, ensure_ascii=True, indent=0)
            f.write("\n")
        os.replace(path + ".tmp", path)
        print(f"templates/{name}: {os.path.getsize(path)} bytes")


if __name__ == "__main__":
    main()
