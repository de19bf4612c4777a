# eval.sh - loss, perplexity and answers on small files; logits of ids; wrong words.
. "$(dirname "$0")/lib.bash"

try 2 eval
err_has "wants MODEL DATA..."
try 2 eval model
err_is "forja eval: wants files to measure on"
try 2 eval model data --base
err_has "--adapter names it"
try 2 eval model --tokens "1 2"
err_is "forja eval: --dump-logits and --tokens belong together"
try 2 eval model data --dump-logits x --tokens "1 2"
err_is "forja eval: --dump-logits measures no files"
try 2 eval model data --batch 0
err_has '--batch wants a whole number from 1 to 65536, not "0"'
try 1 eval missing data.jsonl
err_is "forja eval: there is no model at missing"

shared models/stories260K/hf
M=$SHARED_PATH
try 1 eval "$M" missing.jsonl
err_has "missing.jsonl"
err_lines 1
: >empty.jsonl
try 1 eval "$M" empty.jsonl
err_has "empty.jsonl"
echo '{"text": 7}' >bad.jsonl
try 1 eval "$M" bad.jsonl
err_has "bad.jsonl"

echo "Once upon a time, there was a little girl named Lily. She loved to play outside in the park." >story.txt
try 0 eval "$M" story.txt
out_matches '^loss +[0-9]\.[0-9]{4}$'
out_matches '^perplexity +[0-9]+\.[0-9]{4}$'
try 0 eval "$M" story.txt --json
cp "$OUT" whole
out_has '"perplexity"'
try 0 eval "$M" story.txt --json --batch 1 --threads 1
[ "$(grep '"loss"' whole)" = "$(grep '"loss"' "$OUT")" ] || fail "the loss depends on batch or threads"

cat >ask.jsonl <<'END'
{"messages": [{"role": "user", "content": "Once upon a time"}], "answer": "there is no such answer"}
{"messages": [{"role": "user", "content": "Once upon a time"}], "regex": "."}
{"messages": [{"role": "user", "content": "Once upon a time"}], "contains": "zzz"}
END
try 0 eval "$M" ask.jsonl --answers -n 8
out_matches '^exact +0\.0 % \(0 of 1; '
out_matches '^regex +100\.0 % \(1 of 1; '
out_matches '^contains +0\.0 % \(0 of 1; '
out_has "  wanted  there is no such answer"

try 0 eval "$M" --dump-logits logits.safetensors --tokens "1 403 407" --tokens 1,2
try 0 inspect --tensors logits.safetensors
out_matches '^logits.0 +F32 +3 x 512 '
out_matches '^logits.1 +F32 +2 x 512 '
try 1 eval "$M" --dump-logits other.safetensors --tokens "1 512"
err_is 'forja eval: --tokens wants ids from 0 to 511, not "512"'
[ ! -e other.safetensors ] || fail "other.safetensors was written"
try 1 eval "$M" --dump-logits nowhere/x.safetensors --tokens 1
err_has nowhere
finish
