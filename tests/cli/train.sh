# train.sh - a run from plan to registry; stopped by a signal and resumed; everything that is refused.
. "$(dirname "$0")/lib.bash"

try 2 train
err_is "forja train: wants a recipe: forja train RECIPE.yaml [key=value ...]"
try 2 train a.yaml b.yaml
err_is "forja train: after the recipe come key=value pairs; --keys lists the keys"
try 2 train a.yaml --resume --dry-run
err_has "do not go together"
try 1 train missing.yaml
err_has "missing.yaml"
err_lines 1
printf 'base: [x\n' >broken.yaml
try 1 train broken.yaml
err_has broken.yaml
printf 'learning_rat: 1e-3\n' >typo.yaml
try 1 train typo.yaml
err_has 'unknown key "learning_rat"'
err_has 'learning_rate'
try 0 train --keys
out_has learning_rate
out_has eval_split
try 0 train --keys --markdown
cmp -s "$OUT" "$SOURCE/docs/recipe.md" ||
    fail "docs/recipe.md is old: forja train --keys --markdown >docs/recipe.md"
try 2 train a.yaml --markdown
err_is "forja train: --markdown goes with --keys"

shared models/stories260K/hf
for i in $(seq 40); do
    echo "{\"prompt\": \"What is number $i?\", \"completion\": \"Number $i is a good number.\"}"
done >rows.jsonl
cat >recipe.yaml <<END
base: $SHARED_PATH
data: rows.jsonl
eval_split: 0.2
output_dir: run
learning_rate: 1.0e-2
max_steps: 6
logging_steps: 1
per_device_train_batch_size: 4
max_length: 64
threads: 1
END

# Nothing to measure with: the gate says no, and nothing is made.
try 3 train recipe.yaml eval_split=0
err_has "nothing to measure"
[ ! -e run ] || fail "the gate left a folder"
try 1 train recipe.yaml data=nowhere.jsonl
err_has nowhere.jsonl
[ ! -e run ] || fail "missing data left a folder"

try 0 train recipe.yaml --dry-run
out_matches '^run +6 steps'
out_matches '^memory +[0-9.]+ (KiB|MiB) \([0-9]+ bytes\)$'
[ ! -e run ] || fail "a dry run wrote something"
try 0 train recipe.yaml --dry-run --json
out_has '"status": "planned"'
planned=$(sed -n 's/.*"planned_bytes": \([0-9]*\).*/\1/p' "$OUT")

try 0 train recipe.yaml --json
out_has '"status": "done"'
out_has '"steps_done": 6'
peak=$(sed -n 's/.*"peak_bytes": \([0-9]*\).*/\1/p' "$OUT")
[ "$peak" = "$planned" ] || fail "planned $planned bytes, measured $peak"
try 1 train recipe.yaml
err_has "--resume"

try 0 inspect run/adapter
out_has "PEFT adapter"
try 0 inspect run/adapter.gguf
out_has "GGUF adapter"
try 0 inspect run/checkpoints/checkpoint-6
out_matches '^kind +checkpoint$'
out_matches '^  step +6$'
try 0 runs
out_matches '^ *1 .* done +[^ ]+ +.*/run$'
try 0 runs show 1
out_has "evaluation task, tuned"
try 0 eval "$SHARED_PATH" rows.jsonl --adapter run/adapter --base --general rows.jsonl
out_matches '^ +base +tuned$'
out_has "KL(base || tuned)"
# The two files of the adapter are the same adapter.
try 0 run "$SHARED_PATH" "What is number 3?" --greedy -n 12 --adapter run/adapter
cp "$OUT" peft
try 0 run "$SHARED_PATH" "What is number 3?" --greedy -n 12 --adapter run/adapter.gguf
out_file peft
printf '/adapter run/adapter\nWhat is number 3?\n/adapter off\n/adapter\n' >in
IN=in try 0 chat "$SHARED_PATH" --greedy -n 12
err_has "adapter: run/adapter; the conversation begins again"
err_has "adapter: off"

# Ctrl-C saves and says how to go on; the resumed run ends with the adapter of one that was not stopped.
LAST="forja train, stopped"
try 0 train recipe.yaml output_dir=straight max_steps=60
"$FORJA" train recipe.yaml output_dir=stopped max_steps=60 >"$OUT" 2>"$ERR" &
child=$!
for i in $(seq 300); do
    [ -s stopped/metrics.jsonl ] && grep -q '"step": *3\b' stopped/metrics.jsonl && break
    sleep 0.1
done
kill -INT $child
wait $child
code=$?
LAST="forja train, stopped"
if [ $code -eq 1 ]; then
    err_has "--resume"
    try 0 train recipe.yaml output_dir=stopped max_steps=60 --resume
else
    [ $code -eq 0 ] || fail "exit code $code" # it was faster than the signal
fi
cmp straight/adapter/adapter_model.safetensors stopped/adapter/adapter_model.safetensors ||
    fail "the resumed run made another adapter"

# A run that was elsewhere goes on here, says so once, and its manifest keeps it.
try 0 train recipe.yaml output_dir=moved max_steps=6
grep -q '"device_kind": "cpu"' moved/manifest.json || skip_move=1
if [ -z "${skip_move:-}" ]; then
    sed -i 's/"device_kind": "cpu"/"device_kind": "cuda"/; s/"device": "[^"]*"/"device": "GPU 7"/' moved/manifest.json
    rm -r moved/checkpoints/checkpoint-6
    try 0 train recipe.yaml output_dir=moved max_steps=6 --resume --device cpu
    err_has "the run was on another kind of device (GPU 7) and goes on on this one ("
    grep -q '"GPU 7"' moved/manifest.json || fail "the manifest forgot where the run was"
    cmp run/adapter/adapter_model.safetensors moved/adapter/adapter_model.safetensors ||
        fail "the run that moved made another adapter"
    try 0 train recipe.yaml output_dir=moved max_steps=6 --resume device=cpu
    err_lacks "another kind"
fi

# Devices by option, by recipe and by name; what is no name is refused with the recipe.
try 1 train recipe.yaml device=gpu --dry-run
err_has 'device "gpu" is not known: cpu, cuda, cuda:N for GPU N, or auto'
try 1 train recipe.yaml --device cuda:x --dry-run
err_has 'device "cuda:x" is not known'
try 0 train recipe.yaml device=cuda --device cpu --dry-run
out_matches '^device +[0-9]+ thread'
out_matches '^allowed +[0-9.]+ [KMGT]iB \([0-9]+ bytes\)$'
try 1 train recipe.yaml max_memory=1MiB --dry-run
err_has "1048576 are allowed"
try 0 eval "$SHARED_PATH" rows.jsonl --max-rows 1 -n 0 --device cpu
try 1 eval "$SHARED_PATH" rows.jsonl --device cuda:99
err_has "cuda:99" # not built with it, or no such GPU
try 0 run "$SHARED_PATH" "Once" -n 1 --device cpu

try 0 train recipe.yaml output_dir=unmeasured max_steps=1 eval_split=0 --no-eval
err_has "no_eval"
mkdir locked
chmod a-w locked
if ! touch locked/x 2>/dev/null; then
    try 1 train recipe.yaml output_dir=locked/run
    err_has locked
fi
finish
