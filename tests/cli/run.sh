# run.sh - one prompt: the known text, the ways to draw and to stop, and wrong words.
. "$(dirname "$0")/lib.bash"

try 2 run
err_has "wants MODEL PROMPT"
try 1 run missing.gguf hello
err_is "forja run: there is no model at missing.gguf"
printf 'GGUF\003\000\000\000' >short.gguf
try 1 run short.gguf hello
err_has short.gguf
err_lines 1
try 2 run x y --top-p 1.5
err_is 'forja run: --top-p wants a number from 0 to 1, not "1.5"'
try 2 run x y --max-new-tokens 0
err_is 'forja run: --max-new-tokens wants a whole number from 1 to 1048576, not "0"'
try 2 run x y --temperature nan
err_has '--temperature wants a number from 0 to 100, not "nan"'
try 2 run x y --seed 1.5
err_has '--seed wants a whole number'
try 2 run x y --stop
err_is 'forja run: --stop needs a value: --stop TEXT'
try 2 run x y -n
err_has '-n needs a value'
try 2 run x y --no-seed
err_has '--seed takes a value'

shared models/stories260K/stories260K.gguf
M=$SHARED_PATH
P="Once upon a time"
T=", there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big,"
try 0 run "$M" "$P" --greedy -n 35
out_is "$T"
err_is ""
try 0 run "${M%/*}/hf" "$P" --greedy -n 35 --threads 1 --f32
out_is "$T"
try 0 run "$M" "$P" --temperature 0 -n35 --echo --stats
out_is "$P$T"
err_has "prompt 5 tokens"
printf '%s\n' "$P" >in
IN=in try 0 run "$M" - --greedy -n 35
out_is "$T"
try 0 run "$M" "$P" --greedy --stop Lily --stop nothing
out_is ", there was a little girl named "
try 0 run "$M" "$P" --greedy -n 5 --json
out_has '"finish_reason": "length"'
out_has '"tokens": 5'
# A seed gives the same text again; another seed another.
try 0 run "$M" "$P" --temperature 1.5 --seed 7 -n 40
cp "$OUT" seven
try 0 run "$M" "$P" --temperature 1.5 --seed 7 -n 40
out_file seven
try 0 run "$M" "$P" --temperature 1.5 --seed 8 -n 40
! cmp -s seven "$OUT" || fail "seeds 7 and 8 drew the same text"
# top-k 1 leaves one choice, whatever the temperature.
try 0 run "$M" "$P" --temperature 5 --top-k 1 -n 35
out_is "$T"

try 1 run "$M" hello --template chatml
err_has "<|im_start|>"
try 1 run "$M" hello --template alpaca
err_has 'chat template "alpaca": expected auto, chatml, raw'
try 1 run "$M" hello --template nowhere.jinja
err_has nowhere.jinja
printf '{{ messages[0].content }} {{ greeting }}' >t.jinja
try 0 run "$M" "Once" --template t.jinja --template-kwargs '{"greeting": "upon"}' --greedy -n 5
try 1 run "$M" hello --template t.jinja --template-kwargs '[1]'
err_has "expected a JSON object"
try 1 run "$M" hello --context 999999
err_has "--context 999999 is more than"
try 1 run "$M" hello --adapter nowhere
err_has nowhere
FORJA_ISA=sse9 try 1 run "$M" hello
err_has 'instruction set "sse9" is not known'
FORJA_ISA=scalar try 0 run "$M" "$P" --greedy -n 35
out_is "$T"
# More threads than cores, and a process that may use one core alone: the same text, and it comes to an end.
try 0 run "$M" "$P" --greedy -n 35 -j 64
out_is "$T"
if command -v taskset >/dev/null; then
    LAST="forja run on one core"
    timeout 120 taskset -c "$(taskset -cp $$ | sed 's/.*: *\([0-9]*\).*/\1/')" "$FORJA" run "$M" "$P" --greedy -n 35 -j 64 >"$OUT" 2>"$ERR"
    out_is "$T"
fi

# With a terminal there is a bar, and it is wiped away before the answer.
if command -v script >/dev/null; then
    LAST="forja run in a terminal"
    TERM=xterm script -qec "'$FORJA' run '$M' '$P' --greedy -n 35" /dev/null </dev/null >"$OUT" 2>"$ERR"
    out_has "load"
    out_has "$T"
    TERM=dumb script -qec "'$FORJA' run '$M' '$P' --greedy -n 35" /dev/null </dev/null >"$OUT" 2>"$ERR"
    out_lacks "load"
fi
finish
