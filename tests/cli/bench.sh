# bench.sh - the three measurements on a model that is done in a moment; no number is a promise here.
. "$(dirname "$0")/lib.bash"

try 2 bench --type q5
err_has '--type wants one of f32|f16|bf16|q8_0|q4_0|mxfp4|q4_k|q6_k|nf4, not "q5"'
try 2 bench --repeat 0
err_has '--repeat wants a whole number from 1 to 1000'
try 2 bench --streams 0
err_has '--streams wants a whole number from 1 to 4096, not "0"'
try 1 bench missing.gguf
err_has "there is no model at missing.gguf"
try 1 bench --shape tiny --heads 4 --kv-heads 3
err_has "4 attention heads cannot share 3 key heads"
try 1 bench --shape tiny --width 80 --type q4_0
err_has "80"
try 1 bench --shape tiny --type q6_k
err_has "rows of 64 values are not whole blocks of 256 (Q6_K)"

# Peaks of a GPU are of its data sheet, and some are not known.
small="--device cpu --shape tiny --repeat 1 --context 4 --prefill 16 --length 16 --batch 2 --threads 1"
for type in f32 f16 bf16 q8_0 q4_0 mxfp4 q4_k q6_k nf4; do
    wide=; case $type in *k | nf4) wide="--width 256 --ffn 256 --vocab 64" ;; esac
    try 0 bench $small $wide --type $type
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
for shape in qwen2.5-1.5b llama-3.1-8b; do
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
finish
