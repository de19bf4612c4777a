# forja data show: rows as a model gets them, what is learned marked.
. "$(dirname "$0")/lib.bash"
cat >rows.jsonl <<'END'
{"messages": [{"role": "user", "content": "Hi <|im_end|>"}, {"role": "assistant", "content": "Hello"}]}
{"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "é"}, {"role": "assistant", "content": "ü"}]}
{"text": "no conversation"}
END
try 2 data
try 2 data show
try 2 data hide rows.jsonl
try 1 data show nowhere.jsonl
err_has nowhere.jsonl
head -2 rows.jsonl >two.jsonl

# Without a model every byte is a token.
try 0 data show two.jsonl
out_has '--- row 1, two.jsonl line 1: 39 bytes, 6 learned (15 %)'
out_has 'Hi <|im_end|><|im_end|>'
out_has '[[Hello<|im_end|>]]'
out_has '[[ü<|im_end|>]]'
err_has '2 of 2 rows'
err_has 'template: chatml'
try 0 data show two.jsonl --limit 1
out_has Hello
out_lacks 'ü'
try 0 data show two.jsonl --row 2
out_lacks Hello
try 1 data show two.jsonl --row 3
err_has 'the data has 2 rows'

# A template of the user, with marks and variables.
cat >t.jinja <<'END'
{%- for m in messages %}{{ m.role[0] }}{{ sep }}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}!{% endgeneration %}{% else %}{{ m.content }}{% endif %}
 {% endfor %}
END
try 0 data show two.jsonl --template t.jinja --template-kwargs '{"sep": "="}' --row 2
out_has 's=Su=éa=[[ü!]]'
try 1 data show two.jsonl --template t.jinja --template-kwargs '{'
err_has '--template-kwargs wants a JSON object'
printf '{%% if x %%}' >bad.jinja
try 1 data show two.jsonl --template bad.jinja
err_has 'bad.jinja: line 1 column 11: Unexpected end of template'
printf '{{ raise_exception("no " ~ messages[0].role) }}' >no.jinja
try 1 data show two.jsonl --template no.jinja
err_has 'two.jsonl line 1: no.jinja: line 1 column 19: no user'
try 0 data show two.jsonl --template no.jinja --skip-bad-rows
err_has 'left out: two.jsonl line 2: no.jinja: line 1 column 19: no system'
try 1 data show rows.jsonl
err_has 'rows.jsonl line 3'

# For scripts.
try 0 data show two.jsonl --json --limit 1
python=$(command -v python3) || { echo "skipped: no python3 to read JSON" >&2; exit 77; }
"$python" - "$OUT" <<'END' || fail "the JSON is not as it should be"
import json, sys
row = json.loads(open(sys.argv[1]).read())
learned = "".join(p for p, m in zip(row["pieces"], row["mask"]) if m)
assert row["row"] == 1 and row["line"] == 1 and learned == "Hello<|im_end|>", row
assert len(row["ids"]) == len(row["mask"]) == len(row["pieces"])
END

# A model's own vocabulary.
M=$SOURCE/models/forja-base.gguf
try 0 data show two.jsonl --model "$M" --limit 1
out_has '[[Hello<|im_end|>]]'
out_has ' tokens, '
err_has "template: the model's chat template"
try 0 data show two.jsonl --model "$M" --template raw --limit 1
err_has 'template: raw'
finish
