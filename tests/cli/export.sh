# export.sh - a run's adapter in every form, each compared before it has its name; quantising; what is refused.
. "$(dirname "$0")/lib.bash"

try 2 export
err_has "wants [RUN] OUT"
try 2 export run out
err_has "--to says what to write"
try 2 export run out --to pdf
err_is "forja export: --to pdf is not known: adapter, hf, gguf, gguf-adapter or ollama"
try 2 export run out --to adapter:Q8_0
err_has "adapter has no types"
try 2 export out --to hf
err_is "forja export: wants a RUN, or --base with or without --adapter"
try 1 export ./nowhere out --to hf
err_has "./nowhere is no run"
try 2 quantize model
err_has "wants MODEL OUT.gguf [TYPE]"

BASE=$SOURCE/models/forja-base.gguf
try 1 quantize nowhere.gguf out.gguf
err_is "forja quantize: there is no model at nowhere.gguf"
try 1 quantize "$BASE" out.gguf Q9
err_has 'unknown quantisation "Q9"'
try 1 quantize "$BASE" out.gguf Q8_0 --tensor-type 'x'
err_has '"x" gives no tensor a type, wanted PATTERN=TYPE'
try 1 quantize "$BASE" out.gguf Q8_0 --tensor-type 'x=Q9'
err_has "tensors cannot be written as Q9"
try 1 quantize "$BASE" out.gguf Q8_0 --imatrix nowhere.gguf
err_has "nowhere.gguf"
[ -z "$(ls)" ] || fail "a refusal left files: $(ls)"

# ---- a run ------------------------------------------------------------------------------------------
for i in $(seq 40); do
    echo "{\"prompt\": \"What is number $i?\", \"completion\": \"Number $i is a good number.\"}"
done >rows.jsonl
cat >recipe.yaml <<END
base: $BASE
data: rows.jsonl
eval_data: rows.jsonl
eval_max_new_tokens: 1
output_dir: run
lora_r: 4
learning_rate: 1.0e-2
max_steps: 8
per_device_train_batch_size: 4
max_length: 64
threads: 2
END
try 0 train recipe.yaml

for to in adapter hf hf:F32 gguf gguf:Q8_0 gguf:Q4_K_M gguf-adapter ollama:Q6_K; do
    dir=$(echo "$to" | tr ':' '-')
    try 0 export run "$dir" --to $to
    out_matches '^verdict +passed'
    out_matches "^$dir\$"
    [ -f "$dir/export.json" ] || fail "$to has no export.json"
    grep -q '"passed": true' "$dir/export.json" || fail "$to: export.json does not say passed"
    ! ls -d ./*unverified* >/dev/null 2>&1 || fail "$to left something unverified"
done
for f in adapter/adapter_model.safetensors hf/config.json hf/model.safetensors hf/tokenizer.json \
    gguf/gguf-keep.gguf gguf-Q4_K_M/gguf-Q4_K_M-Q4_K_M.gguf gguf-adapter/gguf-adapter-adapter.gguf \
    ollama-Q6_K/model.gguf ollama-Q6_K/Modelfile; do
    [ -f "$f" ] || fail "$f is not there"
done

# What was exported says what was trained.
ask() { "$FORJA" run "$1" "What is number 7?" --temperature 0 "${@:2}" 2>/dev/null; }
trained=$(ask "$BASE" --adapter run/adapter)
[ -n "$trained" ] || fail "the trained model says nothing"
[ "$(ask "$BASE" --adapter adapter)" = "$trained" ] || fail "the exported adapter says something else"
[ "$(ask gguf/gguf-keep.gguf)" = "$trained" ] || fail "the exported model says something else"
[ "$(ask hf)" = "$trained" ] || fail "the exported folder says something else"

# A name that is there stays; --force replaces it.
cp gguf/export.json before.json
try 1 export run gguf --to gguf
err_is "forja export: gguf is there already: --force replaces it"
cmp -s gguf/export.json before.json || fail "a refusal changed gguf/export.json"
try 0 export run gguf --to gguf:Q8_0 --force
[ -f gguf/gguf-Q8_0.gguf ] && [ ! -f gguf/gguf-keep.gguf ] || fail "--force did not replace the folder"

# A file; several files; JSON; no comparison.
try 0 export run one.gguf --to gguf:Q8_0 --json
out_has '"verified"'
out_has '"path": "one.gguf"'
[ -f one.gguf ] && [ -f one.export.json ] || fail "one.gguf or its report is missing"
try 1 export run two.gguf --to gguf --split-max-size 1MiB
err_has "a model in several files goes into a folder"
try 0 export run two --to gguf:Q8_0 --split-max-size 1MiB
ls two | grep -q -- '-00002-of-' || fail "the model is in one file"
try 0 export run three --to gguf:Q8_0 --no-verify
out_has "not compared"

# Options that would do nothing.
try 1 export run four --to hf --tensor-type 'x=Q8_0'
err_has "types of tensors (x=Q8_0) go with a GGUF model"
try 1 export run four --to ollama --split-max-size 1MiB
err_has "only gguf and hf can be split"
try 1 export run four --to adapter --imatrix rows.jsonl
err_has "an importance matrix goes with a quantised GGUF model"
! ls -d four* >/dev/null 2>&1 || fail "a refusal left $(ls -d four*)"

# A loss over the limit: exit code 3, the step is named, and nothing has the name.
try 3 export run small.gguf --to gguf:Q4_0 --max-kl 0.002
err_has "small.gguf.unverified stays under that name"
out_matches '^verdict +lost by: quantise'
[ ! -e small.gguf ] || fail "what did not pass has the name"

# What a failed export left does not come into the next one of that name.
try 3 export run again --to hf:F32 --max-kl 1e-12
[ -f again.unverified/model.safetensors ] || fail "what did not pass is gone"
touch again.unverified/stranger again.unverified/x.gguf.part
try 0 export run again --to ollama:Q8_0
[ "$(ls again | tr '\n' ' ')" = "Modelfile export.json model.gguf " ] || fail "again has $(ls again)"

# Adapters that would be exported as nothing, or over another base.
try 1 export x --to hf --base "$BASE" --adapter nowhere
err_has nowhere
try 1 export x --to adapter --base "$BASE"
err_has "there is no adapter to export"
"$FORJA" quantize "$BASE" other.gguf Q4_0 --no-verify >/dev/null 2>&1
try 1 export run x --to hf --base other.gguf
err_has "is not the base that the adapter was trained on"

# ---- quantising ---------------------------------------------------------------------------------------
cat rows.jsonl rows.jsonl >calibration.jsonl
try 0 quantize "$BASE" plain.gguf Q4_K_S
out_matches '^tensor +values +from +to +RMSE +relative$'
out_matches '^blk\.0\.attn_q\.weight +65\.54k +Q8_0 +Q4_K +[0-9.e-]+ +[0-9.]+%$'
out_matches '^perplexity +[0-9.e+]+ trained, [0-9.e+]+ exported'
try 0 quantize "$BASE" weighed.gguf Q4_K_S --imatrix calibration.jsonl
[ -f weighed.imatrix.gguf ] || fail "the importance matrix was not kept"
! cmp -s plain.gguf weighed.gguf || fail "the importance matrix changed nothing"
try 0 quantize "$BASE" again.gguf Q4_K_S --imatrix weighed.imatrix.gguf
cmp -s again.gguf weighed.gguf || fail "a kept importance matrix gives another file"
try 0 quantize "$BASE" rule.gguf Q8_0 --tensor-type 'blk.1.*=Q6_K' --threads 1
try 0 inspect rule.gguf
out_has Q6_K
# The same bytes whatever the number of threads.
try 0 quantize "$BASE" rule2.gguf Q8_0 --tensor-type 'blk.1.*=Q6_K' --threads 2
cmp -s rule.gguf rule2.gguf || fail "threads change the file"
# An adapter of GGUF is an importance matrix of nothing.
try 1 quantize "$BASE" x.gguf Q4_K_S --imatrix run/adapter.gguf
err_has "adapter.gguf"
finish
