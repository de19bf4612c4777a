# bench.sh - the three measurements on a model that is done in a moment; no number is a promise here.
. "$(dirname "$0")/lib.bash"

try 1 bench --type q5
err_has 'unknown quantisation "q5"; there are Q2_K_S Q2_K'
try 1 bench --type q4_k_m --pure
err_has '--pure wants a type that is one format (F32, F16, BF16, Q4_0,'
err_has 'not "q4_k_m"'
try 2 bench --only gemv
err_has '--only wants one of all|decode|prefill|step|gemm|attention|load, not "gemv"'
try 2 bench --rows 0
err_has '--rows wants a whole number from 1 to 1048576'
try 2 bench --tokens 0
err_has '--tokens wants a whole number from 1 to 1048576'
try 2 bench --memory 1k
err_has '--memory'
try 1 bench --config nowhere
err_has 'nowhere is not a folder'
mkdir empty
try 1 bench --config empty/config.json
err_has 'empty'
err_has 'looked for config.json'
try 2 bench --repeat 0
err_has '--repeat wants a whole number from 1 to 1000'
try 2 bench --streams 0
err_has '--streams wants a whole number from 1 to 4096, not "0"'
try 1 bench missing.gguf
err_has "there is no model at missing.gguf"
try 1 bench --shape tiny --heads 4 --kv-heads 3
err_has "4 attention heads cannot share 3 key heads"
try 1 bench --shape tiny --width 80 --type q4_0 --pure
err_has "80"
try 1 bench --shape tiny --type q6_k --pure
err_has "rows of 64 values are not whole blocks of 256 (Q6_K)"

# Peaks of a GPU are of its data sheet, and some are not known.
small="--device cpu --shape tiny --repeat 1 --context 4 --tokens 2 --prefill 16 --length 16 --batch 2 --threads 1 --memory 4M"
for type in f32 f16 bf16 q8_0 q4_0 mxfp4 q4_k q6_k nf4; do
    wide=; case $type in *k | nf4) wide="--width 256 --ffn 256 --vocab 64" ;; esac
    try 0 bench $small $wide --type $type --pure
    out_matches '^decode +1 stream, 4 tokens behind +[0-9.]+ +[0-9.]+ GB/s +[0-9]+% of read GB/s'
    out_matches '^prefill +16 tokens +[0-9.]+ +[0-9.]+ GFLOP/s'
    out_matches '^lora step +2 x 16 tokens, rank 16 +[0-9.]+ '
done
try 0 bench $small --streams 3 --only decode --layers 1 --width 128
out_matches '^model +random weights, '
out_matches '^decode +3 streams, '
out_lacks 'prefill'
# Adapters are measured where there are streams for them; the other shapes are there, here of one layer.
try 0 bench $small --only decode --streams 1 --streams 4 --adapters 3
[ "$(grep -c ^decode "$OUT")" = 3 ] || fail "wanted three rows of decode"
out_matches '^decode +4 streams, 4 tokens behind, 3 adapters of rank 16 '
for shape in qwen3-0.6b llama-3.2-1b qwen2.5-1.5b llama-3.1-8b; do
    try 0 bench $small --shape $shape --layers 1 --heads 4 --kv-heads 2 --width 64 --ffn 64 --vocab 96 --only step
    out_matches '^lora step +2 x 16 tokens, rank 16 '
done
try 0 bench $small --only step --recompute 2
out_matches '^lora step +2 x 16 tokens, rank 16, 2 layers recomputed '

# number KEY: that of the JSON, which must be positive
number() {
    local v
    v=$(sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p" "$OUT" | head -1)
    awk -v v="${v:-0}" 'BEGIN { exit !(v > 0) }' || fail "$1 is \"$v\""
    echo "$v"
}
for step in lora full; do
    full=; [ $step = full ] && full=--full
    try 0 bench $small --json --only step $full
    out_has "\"what\": \"$step step\""
    out_lacks '"decode"'
    for key in "f32 GFLOP\/s" "bf16 GFLOP\/s" "int8 Gop\/s" "read GB\/s" tokens_per_s rate share_of_peak \
        seconds flops bytes_moved peak_rss_bytes device_peak_bytes; do number "$key" >/dev/null; done
    # What was planned is what was held.
    [ "$(number planned_bytes)" = "$(number held_bytes)" ] || fail "planned and held bytes differ"
done
FORJA_ISA=scalar try 0 bench $small --only decode

# Formats as the quantiser chooses them: rows of 64 values fall back, and the head is better.
try 0 bench $small --type q4_k_m --only prefill
out_matches '^model .* F32 x 5, Q8_0 x [0-9]+, Q5_0 x [0-9]+$'
# The sizes of a config.json are those of the model whose it is; its folder, or its path.
config=$SRC/tests/golden/tiny-default
for path in $config $config/config.json; do
    try 0 bench --device cpu --config $path --only prefill --prefill 16 --repeat 1 --threads 1 --memory 4M --type f32
    out_matches "^model .*tiny-default.*, [0-9]+ parameters, F32 x "
done
params=$(sed -n 's/^model .*, \([0-9]*\) parameters.*/\1/p' "$OUT")
try 0 inspect $config
out_has "$params"
# One op: every shape of weight three ways; attention both ways; where the time goes.
try 0 bench $small --only gemm --type q8_0 --rows 8
out_matches '^gemm +8 x 64 x 64, Q8_0 +[0-9.]+ +[0-9.]+ GFLOP/s +[0-9]+% of int8 Gop/s'
out_matches '^gemm dx +8 x 64 x 160, Q8_0 .* of bf16 GFLOP/s'
out_matches '^gemm dw +8 x 512 x 64, Q8_0 .* of bf16 GFLOP/s'
try 0 bench $small --only gemm --f32
out_matches '^gemm dw .* of f32 GFLOP/s'
out_lacks 'of bf16'
try 0 bench $small --only attention
out_matches '^attention +2 x 16 tokens, one layer +[0-9.]+ '
out_matches '^attention bwd +2 x 16 tokens, one layer +[0-9.]+ '
try 0 bench $small --profile
out_matches '^decode, 1 stream, 4 tokens behind: [0-9.]+ ms'
out_matches '^  linear_many +64 x 160 BF16 +4 +[0-9.]+ +[0-9.]+% '
out_matches '^  head_ce +512 x 64 BF16 +1 '
out_matches '^  outside, and short ops +[0-9.]+ +[0-9.]+%'
try 0 bench $small --profile --json --only prefill
out_has '"profile"'
out_has '"seconds_outside"'
out_has '"op": "attn"'
number calls >/dev/null
# A file to its first token; with random weights the file is gone afterwards.
mkdir tmp
TMPDIR=$PWD/tmp try 0 bench $small --only load --type q8_0
out_matches '^load +a file to its first token +[0-9.]+ '
[ -z "$(ls tmp)" ] || fail "left $(ls tmp)"
TMPDIR=$PWD/nowhere try 1 bench $small --only load
err_has "nowhere/forja-bench-"
# The random model as a file, which is a model like any other.
try 0 bench --device cpu --shape tiny --type q8_0 --save tiny.gguf
[ ! -s "$OUT" ] || fail "--save measured something"
try 0 inspect tiny.gguf
out_has "119104"
try 0 bench --device cpu --repeat 1 --threads 1 --memory 4M tiny.gguf --only load
try 2 bench tiny.gguf --type q4_k_m
err_has 'tiny.gguf has a shape and formats of its own'
try 2 bench tiny.gguf --layers 2
err_has 'give either a MODEL or the shape'
try 2 bench --fresh
err_has '--fresh is for `forja bench peak`'
try 2 bench $small --streams 2 --adapters 3
err_has '--adapters 3 wants as many --streams, not 2'
try 1 bench tiny.gguf --save again.gguf
err_has "a model that is a file needs not be written"
try 1 bench --shape tiny --type nf4 --width 256 --ffn 256 --vocab 64 --save no.gguf
err_has "GGUF has no format NF4"

# Peaks are kept for the machine and its threads until --fresh; a broken file is measured anew.
export XDG_CACHE_HOME=$PWD/cache
peak="bench peak --device cpu --threads 1 --repeat 1 --memory 4M"
try 0 $peak
out_matches '^read GB/s +[0-9.]+ '
out_matches '^triad GB/s +[0-9.]+ '
out_lacks 'kept since'
try 0 $peak
out_has 'kept since'
try 0 $peak --fresh --json
out_has '"kept": false'
out_has '"one_thread"'
out_has '"read of small pages GB/s"'
try 0 bench peak --device cpu --threads 2 --repeat 1 --memory 4M
out_lacks 'kept since'
echo '{' >cache/forja/peaks.json
try 0 $peak
out_lacks 'kept since'
try 0 $peak
out_has 'kept since'
HOME= XDG_CACHE_HOME= try 0 $peak
err_has 'peaks are not kept'
out_matches '^copy GB/s '
finish
