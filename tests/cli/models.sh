# models.sh - every line of models.def is shown, and docs/models.md has a row for each, made of the same words.
. "$(dirname "$0")/lib.bash"

try 0 models
out_matches '^qwen3_moe +qwen3moe '
want=$(grep -cE '^FJ_MODEL\(' "$SOURCE/src/models/models.def")
got=$(($(wc -l <"$OUT") - 1))
[ "$got" -eq "$want" ] || fail "$got models, models.def has $want"
try 0 models --json
[ "$(grep -c '"class": ' "$OUT")" -eq "$want" ] || fail "not every architecture has a class"
doc=$SOURCE/docs/models.md
sed -nE 's/.*"(features|models)": "(.*)",?/\2/p' "$OUT" >words
[ "$(wc -l <words)" -eq $((2 * want)) ] || fail "no words of features"
while read -r line; do
    grep -qF "| $line |" "$doc" || fail "docs/models.md is old (no \"$line\"): tools/models-doc.sh"
done <words
try 2 models llama
err_has 'does not know what to do with "llama"'
finish
