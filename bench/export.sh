#!/usr/bin/env bash
# export.sh VOCABULARY.gguf [FOLDER]: quantising, exporting and verifying a model of a billion weights, on two threads.
#
#   quantize   Q4_K_M, beside llama.cpp's quantiser (llama-cpp-python, where `make interop` has been), each synced
#   copy       cp of the BF16 file, synced: what the disk gives
#   merge      an adapter of rank 16 on all linear layers merged into BF16, beside the copy
#   verify     the comparison of a Q4_K_M export with what was trained, 2000 positions each
#
# Three times each in turn, medians; seconds on the clock and seconds of processor.  7 GB in FOLDER (default:
# build/bench-export, removed at the end).  Builds forja and forja-bench-model first.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { echo "usage: bench/export.sh VOCABULARY.gguf [FOLDER]" >&2; exit 2; }
vocabulary=$(realpath "$1")
dir=${2:-build/bench-export}
python=${PYTHON:-build/interop-venv/bin/python}
times=${TIMES:-3}
[ -e "$dir" ] && { echo "$dir is there already" >&2; exit 1; }
mkdir -p "$dir"
trap 'rm -rf "$dir"' EXIT
cmake --build build --target forja forja-bench-model >/dev/null

TIMEFORMAT='%R %U %S'
# measure NAME COMMAND...: a line "NAME WALL CPU" in $dir/times.
measure() {
    local name=$1 t; shift
    t=$({ time "$@" >"$dir/said" 2>&1; } 2>&1) || { cat "$dir/said" >&2; exit 1; }
    echo "$name $t" | awk '{ print $1, $2, $3 + $4 }' | tee -a "$dir/times"
}
synced() { "${@:2}" && sync "$1"; }
# The model and the adapter that all but `copy` are about.
build/forja-bench-model "$vocabulary" "$dir/model.gguf" BF16
for i in 1 2 3 4; do echo "{\"text\": \"A short text, number $i, so that there is something to learn from.\"}"; done >"$dir/text.jsonl"
cat >"$dir/recipe.yaml" <<END
base: $(realpath "$dir")/model.gguf
method: lora
lora_r: 16
lora_alpha: 32
target_modules: all-linear
data: text.jsonl
output_dir: run
chat_template: raw
max_length: 64
per_device_train_batch_size: 1
max_steps: 2
learning_rate: 1.0e-3
END
XDG_DATA_HOME=$(realpath "$dir") build/forja train "$dir/recipe.yaml" --no-eval 2>&1 | tail -3

export XDG_DATA_HOME
XDG_DATA_HOME=$(realpath "$dir")
forja=build/forja
for ((i = 0; i < times; i++)); do
    rm -f "$dir"/q.gguf "$dir"/t.gguf "$dir"/c.gguf; rm -rf "$dir"/m.gguf "$dir"/v.gguf
    measure quantize-forja $forja quantize "$dir/model.gguf" "$dir/q.gguf" Q4_K_M --no-verify -j 2
    if [ -x "$python" ] && "$python" -c 'import llama_cpp' 2>/dev/null; then
        measure quantize-llama.cpp synced "$dir/t.gguf" "$python" tests/interop/llama_peer.py "$dir/model.gguf" "$dir/t.gguf" Q4_K_M 2
    fi
    rm -f "$dir"/q.gguf "$dir"/t.gguf
    measure copy synced "$dir/c.gguf" cp "$dir/model.gguf" "$dir/c.gguf"
    rm -f "$dir/c.gguf"
    measure merge $forja export "$dir/run" --to gguf:BF16 "$dir/m.gguf" --no-verify -j 2
    rm -rf "$dir/m.gguf" "$dir/m.export.json"
    # With another time of change the base has to be hashed.
    touch -r "$dir/model.gguf" "$dir/then"; touch "$dir/model.gguf"
    measure merge-hashed $forja export "$dir/run" --to gguf:BF16 "$dir/m.gguf" --no-verify -j 2
    touch -r "$dir/then" "$dir/model.gguf"
    rm -rf "$dir/m.gguf"
    # The limit is for models that have learned something; this one is noise.
    measure merge-q4 $forja export "$dir/run" --to gguf:Q4_K_M "$dir/v.gguf" --no-verify -j 2
    rm -rf "$dir/v.gguf"
    measure merge-q4-verify $forja export "$dir/run" --to gguf:Q4_K_M "$dir/v.gguf" --max-kl 100 -j 2
done
echo "medians: name, seconds, seconds of processor"
sort -k1,1 -s "$dir/times" | awk '{ print $1 }' | uniq | while read -r name; do
    column() { grep "^$name " "$dir/times" | cut -d' ' -f"$1" | sort -n | sed -n "$(((times + 1) / 2))p"; }
    echo "$name $(column 2) $(column 3)"
done | tee "$dir/medians"
awk '{ s[$1] = $2; c[$1] = $3 }
END {
    if (s["quantize-llama.cpp"]) printf "quantising: %.2f times as fast as llama.cpp (processor: %.2f)\n", s["quantize-llama.cpp"] / s["quantize-forja"], c["quantize-llama.cpp"] / c["quantize-forja"]
    printf "merging: %.0f %% of the speed of a copy\n", 100 * s["copy"] / s["merge"]
    printf "verification: %.1f s (processor: %.1f)\n", s["merge-q4-verify"] - s["merge-q4"], c["merge-q4-verify"] - c["merge-q4"]
}' "$dir/medians"
