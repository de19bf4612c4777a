# bench.sh - the three measurements on a model that is done in a moment; nothing is left behind.
. "$(dirname "$0")/lib.bash"

try 2 bench --type q5
err_has '--type wants one of f32|f16|bf16|q8_0|q4_0, not "q5"'
try 2 bench --repeat 0
err_has '--repeat wants a whole number from 1 to 1000'
try 1 bench missing.gguf
err_has "there is no model at missing.gguf"

small="--shape tiny --repeat 1 --decode 4 --prefill 16 --length 16 --batch 2 --threads 1"
for type in f32 f16 bf16 q8_0 q4_0; do
    try 0 bench $small --type $type
    out_matches '^decode +4 tokens +[0-9.]+ +[0-9.]+ GB/s +[0-9]+% of read GB/s'
    out_matches '^prefill +16 tokens +[0-9.]+ +[0-9.]+ GFLOP/s'
    out_matches '^lora step +2 x 16 tokens, rank 8 +[0-9.]+ '
done
try 0 bench $small --json --only lora
out_has '"tokens_per_s"'
out_lacks '"decode"'
# What was planned is what was held.
LAST="forja bench --only lora --json"
planned=$(sed -n 's/.*"planned_bytes": \([0-9]*\).*/\1/p' "$OUT")
held=$(sed -n 's/.*"held_bytes": \([0-9]*\).*/\1/p' "$OUT")
[ -n "$held" ] && [ "$planned" = "$held" ] || fail "planned $planned bytes, held $held"
if [ -n "${TMPDIR:-}" ]; then
    [ -z "$(ls "$TMPDIR" | grep forja-bench)" ] || fail "a temporary folder was left"
    TMPDIR=$PWD/nowhere try 1 bench $small
    err_has nowhere
fi
finish
