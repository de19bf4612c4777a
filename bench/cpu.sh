#!/usr/bin/env bash
# cpu.sh [--quick] [--held] [--keep] [--list] [--table | --markdown] [ROW...]: forja beside llama.cpp, PyTorch and oneDNN on this CPU.
#
# Every ROW (a name or a pattern; all without one) is measured forja, peer, forja, peer..., each time in a process of its own
# with random weights in the exact shape, and the medians of five passes are compared; shares are of peaks that forja measures
# in the same processes.  The table goes to the terminal, and as CSV to bench/results/ with a description of the machine.
#
#   --quick   one pass, one repeat          --list    names of rows and their targets
#   --held    both sides without AMX        --keep    go on with the samples of before: a sitting can be cut into pieces
#   --table   only the table of the samples that are there; --markdown: as docs/results.md has it
#
#   PEERS=build/peers    where bench/peers/setup.sh put them       FORJA=build/forja
#   MODELS=build/peers/models    GGUF files of random weights, made when missing (10 GB for all rows)
#   THREADS=2            of both sides                              SAMPLES=build/peers/samples
set -uo pipefail
cd "$(dirname "$0")/.."
PEERS=${PEERS:-build/peers} FORJA=${FORJA:-build/forja} THREADS=${THREADS:-2}
MODELS=${MODELS:-$PEERS/models} SAMPLES=${SAMPLES:-$PEERS/samples}
passes=5 repeat=3 held= keep= only= rows=()
for word; do
    case $word in
        --quick) passes=1 repeat=1 ;;
        --held) held=1 ;;
        --keep) keep=1 ;;
        --list | --table | --markdown) only=${word#--} ;;
        -*) echo "usage: bench/cpu.sh [--quick] [--held] [--keep] [--list] [--table | --markdown] [ROW...]" >&2; exit 2 ;;
        *) rows+=("$word") ;;
    esac
done
build=native
if [ -n "$held" ]; then
    build=held
    SAMPLES=$SAMPLES.held
    export ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 FORJA_ISA=${FORJA_ISA:-avx512}
fi
export OMP_NUM_THREADS=$THREADS

# ---- the table of the issue: ROW SIDE... | times the peer | share of a peak | what is held against it ----------------------
# name                       kind shape type arguments                                   ratio share
table() {
    local s t
    for s in smollm2-135m qwen3-0.6b llama-3.2-1b; do
        for t in q8_0 q4_0 q4_k_m f16; do
            echo "decode-$s-$t decode:1:64:32 $s $t $([ $t = f16 ] && echo 1.15 || echo 1.5) $([ $s = smollm2-135m ] && [ $t != f16 ] && echo - || echo 0.80)"
        done
    done
    for t in q8_0 q4_0 q4_k_m; do
        echo "decode16-llama-3.2-1b-$t decode:16:128:8 llama-3.2-1b $t $([ $t = q8_0 ] && echo 5 || echo 3.3) -"
    done
    echo "prefill-llama-3.2-1b-q8_0 prefill:512 llama-3.2-1b q8_0 5 0.65"
    echo "prefill-llama-3.2-1b-q4_k_m prefill:512 llama-3.2-1b q4_k_m 3.6 0.65"
    echo "prefill-llama-3.2-1b-q4_0 prefill:512 llama-3.2-1b q4_0 2.8 0.65"
    echo "prefill-llama-3.2-1b-f16 prefill:512 llama-3.2-1b f16 2.3 0.75"
    for t in q8_0 q4_0 q4_k_m; do echo "prefill-smollm2-135m-$t prefill:512 smollm2-135m $t - 0.50"; done
    echo "prefill8192-smollm2-135m-q8_0 prefill:8192 smollm2-135m q8_0 2.5 -"
    echo "lora-bf16 step:lora smollm2-135m bf16 2 0.60"
    echo "lora-bf16-defaults defaults:lora smollm2-135m bf16 8 -"
    for t in q8_0 q4_k_m; do echo "lora-$t step:qlora smollm2-135m $t 3 -"; done
    echo "full step:full smollm2-135m f32 1.6 0.60"
    for t in bf16 q8_0; do echo "gemm-llama-3.2-1b-$t gemm:512 llama-3.2-1b $t 0.95 -"; done
    for t in bf16 q8_0; do echo "gemm-smollm2-135m-$t gemm:512 smollm2-135m $t 0.95 -"; done
    echo "load-llama-3.2-1b-q4_k_m load llama-3.2-1b q4_k_m - 1.00" # share: 0.3 s beside its time
    echo "threads-prefill-llama-3.2-1b-q8_0 threads:prefill llama-3.2-1b q8_0 1.9 -"
    echo "threads-step-smollm2-135m-bf16 threads:step smollm2-135m bf16 1.9 -"
}

wanted() {
    local r
    [ ${#rows[@]} -eq 0 ] && return
    for r in "${rows[@]}"; do case $1 in $r) return 0 ;; esac; done
    return 1
}

# ---- the two sides: each prints its samples as "ROW SIDE VALUE SHARE", more is better ---------------------------------------
# The one number of a key in what forja printed.
key() { sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p" "$TMP" | head -1; }
# forja ARGUMENTS...: its JSON to $TMP
forja() { "$FORJA" bench --device cpu --threads "$THREADS" --repeat "$repeat" --memory 1G --json "$@" >"$TMP" 2>"$TMP.err" || { cat "$TMP.err" >&2; return 1; }; }
middle() { tr ' ' '\n' | grep -E '^[0-9.]+$' | sort -n | awk '{ v[NR] = $1 } END { if (NR) print v[int((NR + 1) / 2)] }'; }
file() { # SHAPE TYPE: the model that both sides read
    local f=$MODELS/$1-$2.gguf
    mkdir -p "$MODELS"
    [ -e "$f" ] || "$FORJA" bench --device cpu --shape "$1" --type "$2" --save "$f" >&2 || exit 1
    echo "$f"
}
put() { [ -n "$3" ] && echo "$1 $2 $3 ${4:--}" | tee -a "$SAMPLES"; }
llama() { # ROW WHAT TOKENS FILE
    local t
    t=$("$PEERS/$build/peer-llama" "$4" "$THREADS" "$repeat" "$2" 2>/dev/null | grep "^$2 " | cut -d' ' -f2- | middle)
    put "$1" llama.cpp "$(awk -v t="${t:-0}" -v n="$3" 'BEGIN { if (t > 0) printf "%.2f", n / t }')"
}
torch() { # ROW SIDE ARGUMENTS...: tokens a second of 4 x 512, its memory as the share
    local row=$1 side=$2 said; shift 2
    said=$("$PEERS/venv/bin/python" bench/peers/torch_step.py "$@" --threads "$THREADS" --steps "$repeat" 2>/dev/null)
    put "$row" "$side" "$(echo "${said%%#*}" | middle | awk '{ printf "%.2f", 2048 / $1 }')" "$(echo "${said#*# }" | awk '{ printf "%.0fMiB", $1 }')"
}
mib() { awk -v b="$(key peak_rss_bytes)" 'BEGIN { printf "%.0fMiB", b / 1048576 }'; }

measure() { # ROW KIND SHAPE TYPE
    local row=$1 kind=$2 shape=$3 type=$4 s c n f i
    case $kind in
        decode:*)
            IFS=: read -r _ s c n <<<"$kind"
            f=$(file "$shape" "$type")
            forja "$f" --only decode --streams "$s" --context "$c" --tokens "$n" && put "$row" forja "$(key tokens_per_s)" "$(key share_of_peak)"
            llama "$row" "$kind" $((s * n)) "$f" ;;
        prefill:*)
            n=${kind#*:}
            f=$(file "$shape" "$type")
            forja "$f" --only prefill --prefill "$n" && put "$row" forja "$(key tokens_per_s)" "$(key share_of_peak)"
            llama "$row" "$kind" "$n" "$f" ;;
        step:* | defaults:*)
            s=${kind#*:}
            if [ "$s" = full ]; then forja --shape "$shape" --full --only step
            else forja --shape "$shape" --type "$type" --only step; fi && put "$row" forja "$(key tokens_per_s)" "$(key share_of_peak)" && put "$row-memory" forja "$(mib)"
            if [ "$kind" = defaults:lora ]; then torch "$row" torch-f32 "$shape" lora f32
            elif [ "$s" = qlora ]; then torch "$row" bitsandbytes-nf4 "$shape" qlora bf16
            else
                torch "$row" torch-bf16 "$shape" "$s" bf16
                torch "$row" torch-bf16-compiled "$shape" "$s" bf16 --compile
            fi ;;
        gemm:*)
            n=${kind#*:}
            forja --shape "$shape" --layers 1 --type "$type" --pure --rows "$n" --only gemm || return
            # Forward products by shape, best to compare one by one.
            awk -F'[:,]' '/"what"/ { w = $2 } /"of"/ { o = $0; sub(/.*"of": "/, "", o); sub(/".*/, "", o) } /"share_of_peak"/ { s = $2 }
                /"rate"/ { r = $2 } /"held_bytes"/ { if (w ~ /"gemm"/) { split(o, p, /[ ,]+/); print p[1] "x" p[3] "x" p[5], r + 0, s + 0 } }' "$TMP" >"$TMP.gemm"
            while read -r i s c; do
                put "$row-$i" forja "$s" "$c" 
                set -- $("$PEERS/$build/peer-onednn" 5 "$([ "$type" = bf16 ] && echo bf16 || echo int8)" "$i" 2>/dev/null | sed 's/#.*//' | cut -d' ' -f3-)
                put "$row-$i" oneDNN "$(echo "$*" | middle | awk -v s="$i" '{ split(s, d, "x"); printf "%.1f", 2e-9 * d[1] * d[2] * d[3] / $1 }')"
            done <"$TMP.gemm" ;;
        load)
            f=$(file "$shape" "$type")
            forja "$f" --only load && put "$row" forja "$(awk -v t="$(key seconds)" 'BEGIN { printf "%.3f", 1 / t }')" "$(awk -v t="$(key seconds)" 'BEGIN { printf "%.3f", 0.3 / t }')"
            put "$row" llama.cpp "$("$PEERS/$build/peer-llama" "$f" "$THREADS" 1 2>/dev/null | awk '/^load/ { printf "%.3f", 1 / $2 }')" ;;
        threads:*)
            for i in 2 1; do
                if [ "$kind" = threads:step ]; then THREADS=$i forja --shape "$shape" --type "$type" --only step
                else THREADS=$i forja --shape "$shape" --type "$type" --only prefill; fi && put "$row" "$([ $i = 2 ] && echo forja || echo one-thread)" "$(key tokens_per_s)"
            done ;;
    esac
}

# ---- the table --------------------------------------------------------------------------------------------------------------
about() {
    local cpu; cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
    [ -n "$cpu" ] || cpu=$(uname -m)
    echo "machine,\"$cpu\",cores $(nproc),memory $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo),kernel $(uname -r)"
    echo "versions,forja $(git rev-parse --short HEAD 2>/dev/null),$(${CC:-cc} --version | head -1),$(basename "$PEERS"/llama_cpp_python-*/ | tail -1),$("$PEERS/venv/bin/python" -c 'import torch; print("torch", torch.__version__)' 2>/dev/null),oneDNN 2.6.3"
    echo "instructions,$("$FORJA" bench --device cpu --shape tiny --only decode --repeat 1 --memory 1M 2>/dev/null | sed -n 's/^machine \([^;]*\);.*/\1/p'),peers $build"
}
result() {
    table | awk -v samples="$SAMPLES" '
        function median(k, a, i, n, j, t) {
            n = split(v[k], a, " ")
            for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j] + 0 < a[j - 1] + 0; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
            low = a[1]; high = a[n]; count = n
            return a[int((n + 1) / 2)]
        }
        function target(row, r) { for (r in ratio) if (row == r || index(row, r "-") == 1) return r; return "" }
        BEGIN {
            print "row,passes,forja,least,most,share of peak,wanted share,peer,its median,its least,its most,ratio,wanted ratio,reached"
        }
        { ratio[$1] = $5; share[$1] = $6 }
        END {
            while ((getline line < samples) > 0) {
                split(line, f, " ")
                if (!((f[1], f[2]) in v) && f[2] != "forja") { peers[f[1]] = peers[f[1]] " " f[2] }
                if (!(f[1] in seen)) { seen[f[1]] = 1; order[++rows] = f[1] }
                v[f[1], f[2]] = v[f[1], f[2]] " " f[3]
                if (f[2] == "forja" && f[4] + 0 > 0) v[f[1], "share"] = v[f[1], "share"] " " f[4]
                if (f[4] ~ /MiB/) v[f[1], f[2] "MiB"] = v[f[1], f[2] "MiB"] " " f[4] + 0
            }
            for (i = 1; i <= rows; i++) {
                row = order[i]
                if (row ~ /-memory$/) continue
                us = median(row SUBSEP "forja"); l = low; h = high; n = count
                s = ((row, "share") in v) ? sprintf("%.3f", median(row SUBSEP "share")) : ""
                t = target(row)
                np = split(peers[row], p, " ")
                for (k = 1; k <= np; k++) {
                    them = median(row SUBSEP p[k])
                    r = them > 0 ? us / them : 0
                    ok = (ratio[t] == "-" || r >= ratio[t]) && (share[t] == "-" || s >= share[t])
                    printf "%s,%d,%.1f,%.1f,%.1f,%s,%s,%s,%.1f,%.1f,%.1f,%.2f,%s,%s\n", row, n, us, l, h, s, share[t], p[k], them, low, high, r, ratio[t], ok ? "yes" : "no"
                    if ((row, p[k] "MiB") in v) {
                        ours = median(row "-memory" SUBSEP "forja"); theirs = median(row SUBSEP p[k] "MiB")
                        printf "%s memory in MiB,%d,%.0f,,,,,%s,%.0f,,,%.2f,,\n", row, n, ours, p[k], theirs, (theirs > 0 ? ours / theirs : 0)
                    }
                }
                if (!np) printf "%s,%d,%.1f,%.1f,%.1f,%s,%s,,,,,,%s,\n", row, n, us, l, h, s, share[t], ratio[t]
            }
        }'
}

case $only in
    list) table | column -t; exit ;;
    table) result | column -s, -t; exit ;;
    markdown)
        echo "| row | forja | share of its peak (wanted) | peer | forja / peer (wanted) |"
        echo "|---|---:|---:|---:|---:|"
        result | awk -F, 'NR > 1 {
            printf "| %s | %s", $1, $3
            if ($4 != "") printf " (%s to %s)", $4, $5
            printf(" | %s%s | ", $6 != "" ? sprintf("%.0f %%", 100 * $6) : "", ($7 + 0 > 0) ? sprintf(" (%.0f %%)", 100 * $7) : "")
            if ($8 != "") printf "%s %s%s", $8, $9, $10 != "" ? " (" $10 " to " $11 ")" : ""
            printf(" | %s%s |\n", $12 != "" ? ($14 == "no" ? $12 : "**" $12 "**") : "", ($13 + 0 > 0) ? " (" $13 ")" : "")
        }'
        exit ;;
esac
[ -x "$FORJA" ] || { echo "cpu.sh: $FORJA is missing: build it first (make)" >&2; exit 1; }
[ -x "$PEERS/$build/peer-llama" ] || { echo "cpu.sh: there are no peers in $PEERS: bench/peers/setup.sh" >&2; exit 1; }
chosen=$(table | while read -r row more; do wanted "$row" && echo "$row $more"; done)
[ -n "$chosen" ] || { echo "cpu.sh: no such row; bench/cpu.sh --list has their names" >&2; exit 2; }
TMP=$(mktemp)
trap 'rm -f "$TMP" "$TMP".*' EXIT
[ -n "$keep" ] || : >"$SAMPLES"
for ((pass = 0; pass < passes; pass++)); do
    while read -r row kind shape type _; do measure "$row" "$kind" "$shape" "$type"; done <<<"$chosen"
done
mkdir -p bench/results
out=bench/results/$(date -u +%Y-%m-%d)-cpu$([ -n "$held" ] && echo -held).csv
{ about; result; } >"$out"
result | column -s, -t
echo "in $out"
