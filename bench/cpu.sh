#!/usr/bin/env bash
# cpu.sh [--quick] [--held] [--keep] [--list] [--table | --markdown] [ROW...]: forja beside llama.cpp, PyTorch and oneDNN on this CPU.
#
# Every ROW (a name or a pattern; all without one) is measured forja, peer, forja, peer..., each time in a process of its own
# with random weights in the exact shape, and the medians of five passes are compared; shares are of peaks that forja measures
# in the same processes.  The table goes to the terminal, and as CSV to bench/results/ with a description of the machine.
# The machine should have nothing else to do: what others took of it meanwhile stands in the column "others", and samples lie
# apart in "spread" (most less least, of the median).  All rows take half an hour.
#
#   --quick   one pass, and no result in bench/results/              --list    names of rows and their targets
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
passes=5 quick= held= keep= only= rows=()
for word; do
    case $word in
        --quick) passes=1 quick=1 ;;
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
# name kind shape type ratio share, and memory beside the peer's
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
    echo "lora-bf16 step:lora smollm2-135m bf16 2 0.60 0.30"
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

# ---- what others do meanwhile -------------------------------------------------------------------------------------------------
# Hundredths of a second that all processors were busy, or were taken by others on the host; and those of this script's processes.
# Not in a subshell, which has no processes yet.
spent() {
    times >"$TMP.times"
    at=${EPOCHREALTIME/[.,]/}
    own=$(tail -1 "$TMP.times" | tr 'ms' '  ' | awk '{ printf "%.0f", 100 * (60 * ($1 + $3) + $2 + $4) }')
    all=$(awk '/^cpu / { print $2 + $3 + $4 + $7 + $8 + $9 }' /proc/stat)
}
begin() { spent; at0=$at own0=$own all0=$all; }
# The share of the processors that others had since then.
others() { awk -v all=$((all - all0)) -v own=$((own - own0)) -v us=$((at - at0)) -v n="$(nproc)" \
    'BEGIN { x = us > 0 ? (all - own) / (us / 1e4 * n) : 0; printf "%.3f", (x > 0 ? x : 0) }'; }
load() { cut -d' ' -f1 /proc/loadavg; }

# ---- the two sides: each prints its samples as "ROW SIDE VALUE SHARE OTHERS", more is better ------------------------------------
# The one number of a key in what forja printed.
key() { sed -n "s/.*\"$1\": \([0-9.e+-]*\).*/\1/p" "$TMP" | head -1; }
# "0.79:bf16"
share() { echo "$(key share_of_peak):$(sed -n 's/.*"peak": "\([^ "]*\).*/\1/p' "$TMP" | head -1)"; }
# forja REPEAT ARGUMENTS...: its JSON to $TMP
forja() {
    local repeat=$1; shift
    begin
    "$FORJA" bench --device cpu --threads "$THREADS" --repeat "$repeat" --json "$@" >"$TMP" 2>"$TMP.err" ||
        { echo "cpu.sh: forja bench $*: $(tail -1 "$TMP.err")" >&2; return 1; }
}
middle() { tr ' ' '\n' | grep -E '^[0-9.]+$' | sort -n | awk '{ v[NR] = $1 } END { if (NR) print (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2 }'; }
file() { # SHAPE TYPE: the model that both sides read
    local f=$MODELS/$1-$2.gguf
    mkdir -p "$MODELS"
    [ -e "$f" ] || "$FORJA" bench --device cpu --shape "$1" --type "$2" --save "$f" >&2 || exit 1
    echo "$f"
}
put() { # ROW SIDE VALUE [SHARE]
    spent
    if [ -n "$3" ]; then echo "$1 $2 $3 ${4:--} $(others)" | tee -a "$SAMPLES"
    else echo "cpu.sh: $2 has no number for $1: $(tail -1 "$TMP.err")" >&2; fi
}
llama() { # ROW WHAT TOKENS FILE REPEAT
    local t
    begin
    t=$("$PEERS/$build/peer-llama" "$4" "$THREADS" "$5" "$2" 2>"$TMP.err" | grep "^$2 " | cut -d' ' -f2- | middle)
    put "$1" llama.cpp "$(awk -v t="${t:-0}" -v n="$3" 'BEGIN { if (t > 0) printf "%.2f", n / t }')"
}
torch() { # ROW SIDE ARGUMENTS...: tokens a second of 4 x 512, its memory as the share
    local row=$1 side=$2 said; shift 2
    begin
    said=$(TORCHINDUCTOR_CACHE_DIR=$PEERS/inductor "$PEERS/venv/bin/python" bench/peers/torch_step.py "$@" --threads "$THREADS" --steps 1 2>"$TMP.err")
    put "$row" "$side" "$(echo "${said%%#*}" | middle | awk '{ printf "%.2f", 2048 / $1 }')" "$(echo "${said#*# }" | awk '{ printf "%.0fMiB", $1 }')"
}
# PyTorch "at its best": compiled or not, whatever was faster in the first pass.
torch_best() { # ROW SHAPE METHOD
    local plain compiled
    plain=$(sample "$1" torch-bf16) compiled=$(sample "$1" torch-bf16-compiled)
    slower "$plain" "$compiled" || torch "$1" torch-bf16 "$2" "$3" bf16
    slower "$compiled" "$plain" || torch "$1" torch-bf16-compiled "$2" "$3" bf16 --compile
}
sample() { awk -v r="$1" -v s="$2" '$1 == r && $2 == s { print $3; exit }' "$SAMPLES"; }
slower() { awk -v a="${1:-0}" -v b="${2:-0}" 'BEGIN { exit !(a > 0 && b > 0 && a < 0.9 * b) }'; }
mib() { awk -v b="$(key peak_rss_bytes)" 'BEGIN { printf "%.0fMiB", b / 1048576 }'; }
# SIZE...: what oneDNN does of each, in the order of the lines in $TMP.gemm
onednn() { "$PEERS/$build/peer-onednn" 5 "$@" 2>"$TMP.err" | sed 's/#.*//'; }

measure() { # ROW KIND SHAPE TYPE
    local row=$1 kind=$2 shape=$3 type=$4 s c n f i
    case $kind in
        decode:*)
            IFS=: read -r _ s c n <<<"$kind"
            f=$(file "$shape" "$type")
            forja 3 "$f" --only decode --streams "$s" --context "$c" --tokens "$n" && put "$row" forja "$(key tokens_per_s)" "$(share)"
            llama "$row" "$kind" $((s * n)) "$f" $([ "$s" -gt 1 ] && echo 2 || echo 3) ;;
        prefill:*)
            n=${kind#*:} i=$([ "$n" -gt 4096 ] && echo 1 || echo 2)
            f=$(file "$shape" "$type")
            forja "$i" "$f" --only prefill --prefill "$n" && put "$row" forja "$(key tokens_per_s)" "$(share)"
            llama "$row" "$kind" "$n" "$f" "$i" ;;
        step:* | defaults:*)
            s=${kind#*:}
            if [ "$s" = full ]; then forja 1 --shape "$shape" --full --only step
            else forja 1 --shape "$shape" --type "$type" --only step; fi && put "$row" forja "$(key tokens_per_s)" "$(share)" && put "$row-memory" forja "$(mib)"
            if [ "$kind" = defaults:lora ]; then torch "$row" torch-f32 "$shape" lora f32
            elif [ "$s" = qlora ]; then torch "$row" bitsandbytes-nf4 "$shape" qlora bf16
            else torch_best "$row" "$shape" "$s"; fi ;;
        gemm:*)
            n=${kind#*:}
            forja 5 --shape "$shape" --layers 1 --type "$type" --pure --rows "$n" --only gemm || return
            # Forward products by shape, best to compare one by one.
            awk -F'[:,]' '/"what"/ { w = $2 } /"of"/ { o = $0; sub(/.*"of": "/, "", o); sub(/".*/, "", o) } /"share_of_peak"/ { s = $2 }
                /"rate"/ { r = $2 } /"peak"/ { k = $2; gsub(/[" ]|G.*/, "", k) }
                /"held_bytes"/ { if (w ~ /"gemm"/) { split(o, p, /[ ,]+/); print p[1] "x" p[3] "x" p[5], r + 0, s + 0 ":" k } }' "$TMP" >"$TMP.gemm"
            while read -r i s c; do put "$row-$i" forja "$s" "$c"; done <"$TMP.gemm"
            begin
            onednn "$([ "$type" = bf16 ] && echo bf16 || echo int8)" $(cut -d' ' -f1 "$TMP.gemm") >"$TMP.onednn"
            while read -r i s c; do
                put "$row-$i" oneDNN "$(grep " $i " "$TMP.onednn" | cut -d' ' -f3- | middle | awk -v s="$i" '{ split(s, d, "x"); printf "%.1f", 2e-9 * d[1] * d[2] * d[3] / $1 }')"
            done <"$TMP.gemm" ;;
        load)
            f=$(file "$shape" "$type")
            forja 3 "$f" --only load && put "$row" forja "$(awk -v t="$(key seconds)" 'BEGIN { printf "%.3f", 1 / t }')" "$(awk -v t="$(key seconds)" 'BEGIN { printf "%.3f:0.3s", 0.3 / t }')"
            begin
            put "$row" llama.cpp "$("$PEERS/$build/peer-llama" "$f" "$THREADS" 1 prefill:1 2>"$TMP.err" | awk '/^load/ { printf "%.3f", 1 / $2 }')" ;;
        threads:*)
            for i in 2 1; do
                s=prefill; [ "$kind" = threads:step ] && s=step
                THREADS=$i forja $([ $s = step ] && echo 1 || echo 2) --shape "$shape" --type "$type" --only $s &&
                    put "$row" "$([ $i = 2 ] && echo forja || echo one-thread)" "$(key tokens_per_s)"
            done ;;
    esac
}

# ---- the table --------------------------------------------------------------------------------------------------------------
about() {
    local cpu; cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
    [ -n "$cpu" ] || cpu=$(uname -m)
    echo "machine,\"$cpu\",cores $(nproc),memory $(awk '/MemTotal/ { printf "%.0f GiB", $2 / 1048576 }' /proc/meminfo),kernel $(uname -r | cut -d- -f1)"
    echo "versions,forja $(git rev-parse --short HEAD 2>/dev/null),$(${CC:-cc} --version | head -1),$(basename "$PEERS"/llama_cpp_python-*/ | tail -1),$("$PEERS/venv/bin/python" -c 'import torch; print("torch", torch.__version__)' 2>/dev/null),oneDNN 2.6.3"
    echo "instructions,\"$("$FORJA" bench --device cpu --shape tiny --only decode --repeat 1 --memory 1M 2>/dev/null | sed -n 's/^machine \([^;]*\);.*/\1/p')\",peers $build"
}
result() {
    table | awk -v samples="$SAMPLES" '
        function median(k, a, i, n, j, t) {
            n = split(v[k], a, " ")
            for (i = 2; i <= n; i++) for (j = i; j > 1 && a[j] + 0 < a[j - 1] + 0; j--) { t = a[j]; a[j] = a[j - 1]; a[j - 1] = t }
            low = a[1]; high = a[n]; count = n
            return (a[int((n + 1) / 2)] + a[int((n + 2) / 2)]) / 2
        }
        # "median,least,most,spread"
        function four(k, m) { m = median(k); return number(m) "," number(low) "," number(high) "," sprintf("%.2f", (m > 0 ? (high - low) / m : 0)) }
        function number(x) { return sprintf((x + 0 < 10 ? "%.2f" : "%.1f"), x) }
        function target(row, r, best) { # a row of the table, or one of the shapes of a row
            for (r in ratio) if ((row == r || index(row, r "-") == 1) && length(r) > length(best)) best = r
            return best
        }
        BEGIN { print "row,passes,forja,least,most,spread,share of peak,peak,wanted share,peer,its median,its least,its most,its spread,ratio,wanted ratio,reached,others" }
        { ratio[$1] = $5; share[$1] = $6; memory[$1] = $7 }
        END {
            while ((getline line < samples) > 0) {
                split(line, f, " ")
                if (!((f[1], f[2]) in v) && f[2] != "forja") { peers[f[1]] = peers[f[1]] " " f[2] }
                if (!(f[1] in seen)) { seen[f[1]] = 1; order[++rows] = f[1] }
                v[f[1], f[2]] = v[f[1], f[2]] " " f[3]
                if (f[5] > most[f[1]]) most[f[1]] = f[5]
                if (split(f[4], part, ":") == 2 && part[1] > 0) { v[f[1], "share"] = v[f[1], "share"] " " part[1]; of[f[1]] = part[2] }
                if (f[4] ~ /MiB/) v[f[1], f[2] "MiB"] = v[f[1], f[2] "MiB"] " " f[4] + 0
            }
            for (i = 1; i <= rows; i++) {
                row = order[i]
                if (row ~ /-memory$/ || !((row, "forja") in v)) continue
                us = median(row SUBSEP "forja"); n = count; mine = four(row SUBSEP "forja")
                s = ((row, "share") in v) ? sprintf("%.3f", median(row SUBSEP "share")) : ""
                t = target(row)
                np = split(peers[row], p, " ")
                for (k = 1; k <= np; k++) {
                    them = median(row SUBSEP p[k])
                    r = them > 0 ? us / them : 0
                    ok = (ratio[t] == "-" || r >= ratio[t] + 0) && (share[t] == "-" || s + 0 >= share[t] + 0)
                    printf "%s,%d,%s,%s,%s,%s,%s,%s,%.2f,%s,%s,%s\n", row, n, mine, s, of[row], share[t], p[k], four(row SUBSEP p[k]), r, ratio[t], ok ? "yes" : "no", most[row]
                    if ((row, p[k] "MiB") in v) {
                        ours = median(row "-memory" SUBSEP "forja"); theirs = median(row SUBSEP p[k] "MiB"); r = theirs > 0 ? ours / theirs : 0
                        printf "%s memory in MiB,%d,%.0f,,,,,,,%s,%.0f,,,,%.2f,%s,%s,\n", row, n, ours, p[k], theirs, r, memory[t], memory[t] == "" ? "" : r <= memory[t] + 0 ? "yes" : "no"
                    }
                }
                if (!np) printf "%s,%d,%s,%s,%s,%s,,,,,,,%s,,%s\n", row, n, mine, s, of[row], share[t], ratio[t], most[row]
            }
        }'
}
# Rows of that table that are no measure: others had more than a twentieth of the machine, or samples lie far apart.
disturbed() { awk -F, 'NR > 1 && ($18 > 0.05 || $6 > 0.1 || $14 > 0.1) { print $1 }' | sort -u; }

case $only in
    list) table | column -t; exit ;;
    table) result | sed 's/,,/, ,/g; s/,,/, ,/g' | column -s, -t; exit ;;
    markdown)
        echo "| row | forja | share of its peak (wanted) | peer | forja / peer (wanted) |"
        echo "|---|---:|---:|---:|---:|"
        result | awk -F, 'NR > 1 {
            printf("| %s%s | %s", $1, ($18 > 0.05 || $6 > 0.1 || $14 > 0.1) ? " *" : "", $3)
            if ($2 > 1 && $4 != "") printf " (%s to %s)", $4, $5
            printf(" | %s%s | ", $7 != "" ? sprintf("%.0f %% of %s", 100 * $7, $8) : "", ($9 + 0 > 0) ? sprintf(" (%.0f %%)", 100 * $9) : "")
            if ($10 != "") printf("%s %s%s", $10, $11, ($2 > 1 && $12 != "") ? " (" $12 " to " $13 ")" : "")
            printf(" | %s%s |\n", $15 != "" ? ($17 == "yes" ? "**" $15 "**" : $15) : "", ($16 + 0 > 0) ? " (" $16 ")" : "")
        }'
        [ -z "$(result | disturbed)" ] || printf '\n\\* disturbed: others had more than 5 %% of the processors during a sample, or samples lie more than 10 %% apart.\n'
        exit ;;
esac
[ -x "$FORJA" ] || { echo "cpu.sh: $FORJA is missing: build it first (make)" >&2; exit 1; }
[ -x "$PEERS/$build/peer-llama" ] || { echo "cpu.sh: there are no peers in $PEERS: bench/peers/setup.sh" >&2; exit 1; }
chosen=$(table | while read -r row more; do wanted "$row" && echo "$row $more"; done)
[ -n "$chosen" ] || { echo "cpu.sh: no such row; bench/cpu.sh --list has their names" >&2; exit 2; }
TMP=$(mktemp)
trap 'rm -f "$TMP" "$TMP".*' EXIT
mkdir -p "$(dirname "$SAMPLES")"
[ -n "$keep" ] && [ -e "$SAMPLES" ] || : >"$SAMPLES"
awk -v l="$(load)" 'BEGIN { exit !(l > 0.3) }' &&
    echo "cpu.sh: others are at work on this machine (load average $(load)): rows with a number under \"others\" are no measure" >&2
for ((pass = 0; pass < passes; pass++)); do
    while read -r row kind shape type _; do measure "$row" "$kind" "$shape" "$type"; done <<<"$chosen"
done
if [ -n "$quick" ]; then out=$SAMPLES.csv
else
    mkdir -p bench/results
    out=bench/results/$(date -u +%Y-%m-%d)-cpu$([ -n "$held" ] && echo -held).csv
fi
{ about; result; } >"$out"
result | sed 's/,,/, ,/g; s/,,/, ,/g' | column -s, -t
bad=$(result | disturbed)
[ -z "$bad" ] || echo "disturbed (others had over 5 % of the machine, or samples lie over 10 % apart): "$bad
echo "in $out, in $((SECONDS / 60)) min $((SECONDS % 60)) s"
