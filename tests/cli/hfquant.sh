# hfquant.sh - quantised Hugging Face folders: run, measured, trained on, described; what is wrong is one sentence.
. "$(dirname "$0")/lib.bash"
Q=$SOURCE/tests/golden/hfquant

for folder in "$Q"/*/; do
    try 0 run "$folder" "ab" --template raw --greedy -n 4
    try 0 inspect "$folder"
    out_has quantization_config
done

for i in $(seq 12); do
    echo '{"prompt": "ab cd", "completion": "ef gh '"$(printf '%*s' $((i % 4)) '' | tr ' ' x)"'"}'
done >rows.jsonl
for name in bnb-nf4-double gptq-act-v2 fp8-block; do
    cat >recipe.yaml <<END
base: $Q/$name
data: rows.jsonl
eval_split: 0.25
chat_template: raw
output_dir: $name
learning_rate: 2.0e-2
max_steps: 12
logging_steps: 1
per_device_train_batch_size: 4
threads: 1
END
    try 0 train recipe.yaml
    first=$(sed -n 's/.*"loss": *\([0-9.]*\).*/\1/p' "$name/metrics.jsonl" | head -1)
    last=$(sed -n 's/.*"loss": *\([0-9.]*\).*/\1/p' "$name/metrics.jsonl" | tail -1)
    awk -v a="$first" -v b="$last" 'BEGIN { exit !(b < 0.7 * a) }' || fail "loss from $first to $last"
    try 0 eval "$Q/$name" rows.jsonl --template raw -n 0 --adapter "$name/adapter"
done

# A key, a method, a tensor that is not known.
cp -r "$Q/gptq" own
sed -i 's/"desc_act"/"desc_acts"/' own/config.json
try 1 run own ab --template raw
err_is 'forja run: own/config.json: quantization_config: key "desc_acts" is not known; it may change the mathematics, so the model is refused'
sed -i 's/"desc_acts"/"desc_act"/; s/"quant_method": "gptq"/"quant_method": "vptq"/' own/config.json
try 1 run own ab --template raw
err_has 'quant_method "vptq" is not supported'
sed -i 's/"quant_method": "vptq"/"quant_method": "awq", "version": "gemm"/; s/"bits"/"zero_point": true, "bits"/' own/config.json
try 1 run own ab --template raw
err_has '"damp_percent" is not known'
cp "$Q/awq/config.json" own/
try 1 run own ab --template raw
err_has 'own'
err_lines 1
rm -r own
cp -r "$Q/bnb-nf4-double" own
sed -i 's/"quantization_config"/"_old"/' own/config.json
try 1 run own ab --template raw
err_has 'has the format'
err_lines 1
finish
