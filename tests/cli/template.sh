# forja template: what a chat template makes of conversations.
. "$(dirname "$0")/lib.bash"
cat >t.jinja <<'END'
{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if tools %}{{ tools | tojson }}{% endif %}
{% if add_generation_prompt %}<assistant>{% endif %}{{ extra }}
END
echo '{"messages": [{"role": "user", "content": "a"}]}' >one.json
try 0 template t.jinja one.json
out_is '<user>a'
try 0 template t.jinja one.json --generation-prompt
out_is '<user>a<assistant>'
try 0 template t.jinja one.json --template-kwargs '{"extra": "x", "bos_token": "B"}'
out_is 'B<user>ax'
printf '%s\n' '{"messages": [{"role": "user", "content": "é\n"}], "tools": [{"name": "f", "n": 1.0}], "add_generation_prompt": true, "extra": [1, null]}' |
    "$FORJA" template t.jinja >got || fail "from standard input"
printf '<user>é\n[{"name": "f", "n": 1.0}]<assistant>[1, None]\n' | cmp - got || fail "from standard input: another text"

# What a template refuses.
printf '{%% if messages | length > 1 %%}{{ raise_exception("only one") }}{%% endif %%}{{ messages[0].content.x.y }}' >no.jinja
printf '%s\n' '{"messages": [{"content": "a"}, {}]}' '{"messages": [{"content": "a"}]}' '{"messages": []}' '{"messages": 5}' >four.json
try 1 template no.jinja four.json
err_has 'conversation in line 1: no.jinja: line 1 column 49: only one'
try 0 template no.jinja four.json --json
out_has '"raised":true'
[ "$(wc -l <"$OUT")" -eq 4 ] || fail "not 4 lines"
out_has "line 1 column 100: 'str object' has no attribute 'x'"
out_has 'the conversation is empty'
out_has 'expected an object with a list of messages'
printf '{"messages": [' >cut.json
try 1 template t.jinja cut.json
err_has 'line 1: not valid JSON'
printf '{%% for x in range(100000) %%}{%% for y in range(100000) %%}{%% endfor %%}{%% endfor %%}' >endless.jinja
try 1 template endless.jinja one.json
err_has 'endless.jinja: line 1 column'
err_has 'runs too long'
printf '{{ strftime_now("%%d %%b %%Y") }}' >day.jinja
try 0 template day.jinja one.json --date 2026-01-31
out_is '31 Jan 2026'
try 1 template day.jinja one.json --date tomorrow
err_has '--date wants a day'
try 1 template nowhere.jinja one.json
err_has nowhere.jinja

# A model with a template of its own, and one without.
M=$SOURCE/models/forja-base.gguf
try 0 template "$M" one.json
out_has '<|im_start|>user'
try 0 template "$M" one.json --json
out_has '"ids":['
out_has '"mask":['
try 0 template t.jinja one.json --model "$M" --json
out_has '"text":"<|'
mkdir folder && cp t.jinja folder/chat_template.jinja && cp "$SOURCE/tests/golden/tiny-default/tokenizer.json" folder
echo '{"bos_token": {"content": "BOS"}, "chat_template": "not this"}' >folder/tokenizer_config.json
try 0 template folder one.json
out_is 'BOS<user>a'
rm folder/chat_template.jinja
echo '{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D"}]}' >folder/tokenizer_config.json
try 0 template folder one.json
out_is D
echo '{"messages": [{"role": "user", "content": "a"}], "tools": [{}]}' >tools.json
try 0 template folder tools.json
out_is T
rm folder/tokenizer_config.json
try 1 template folder one.json
err_has 'folder has no chat template'
finish
