#!/usr/bin/env bash
# gpu.sh [PART...]: what is to be known of forja on the GPU of this machine, in under ten minutes.
#
#   build     the preset cuda for this GPU (cmake, nvcc); not with FORJA_BUILD
#   ops       every op against f64 on the CPU (test_cuda, test_cuda_*)
#   golden    tests/golden with models on the GPU    } test programs with FORJA_TEST_DEVICE
#   parity    the same bits, alone or together        }
#   cli       a training run by the program, planned, stopped and resumed
#   sanitize  compute-sanitizer (memcheck, racecheck) over some ops, and memcheck over training and decode
#   bench     forja bench: decode, prefill and training steps in the shape of Llama-3.1-8B
#   peers     tests/interop/gpu_peer.py: transformers and peft in the same shape
#   table     what bench and peers gave, in this run or in the last that measured
#
# Without PART: all of them in this order.  A part that fails stops no other; exit code 1 says that one did.
# Nothing is fetched.  Rows are added to RESULTS/gpu.csv, and everything printed is in RESULTS/gpu-logs.
#
#   FORJA_BUILD=DIR  a build with CUDA that is there already (forja and the test programs)
#   RESULTS=DIR      bench/results where it is not said
#   LIMIT=SECONDS    of the whole, 580; each part has a limit of its own besides
#   SHAPE=NAME FULL=NAME   shapes of forja bench: for adapters and decode, and for training every weight
#   TYPES="bf16 q8_0 q4_0" SANITIZE_OPS="linear ..." PYTHON=python3 JOBS=N DEVICE=cuda:1
set -uo pipefail
cd "$(dirname "$0")/.." || exit
all="build ops golden parity cli sanitize bench peers table"
parts=${*:-$all}
for part in $parts; do
    case " $all " in *" $part "*) ;; *) sed -n '2,25s/^# \{0,1\}//p' "$0"; exit 2 ;; esac
done
BUILD=${FORJA_BUILD:-build/cuda}
RESULTS=${RESULTS:-bench/results}
LIMIT=${LIMIT:-580}
SHAPE=${SHAPE:-llama-3.1-8b}
FULL=${FULL:-qwen2.5-1.5b}
TYPES=${TYPES:-bf16 q8_0 q4_0}
JOBS=${JOBS:-$(nproc)}
SANITIZE_OPS=${SANITIZE_OPS:-linear attn attn_bwd rmsnorm head_ce moe_linear adamw}
DEVICE=${DEVICE:-cuda}
python=${PYTHON:-}
if [ -z "$python" ]; then
    python=python3
    [ ! -x build/interop-venv/bin/python ] || python=build/interop-venv/bin/python
fi
csv=$RESULTS/gpu.csv logs=$RESULTS/gpu-logs
mkdir -p "$logs"
commit=$(git rev-parse --short HEAD 2>/dev/null || echo unknown)
now=$(date -u +%Y-%m-%dT%H:%M:%SZ)
failed=0 summary=()

left() { echo $((LIMIT - SECONDS)); }
# within SECONDS command...: at most so long, and not past the limit of the whole
within() {
    local most=$1 rest
    shift
    rest=$(left)
    [ "$rest" -ge 3 ] || { echo "no time is left"; return 124; }
    timeout -k 5 "$((most < rest ? most : rest))" "$@"
}
# result STATE NAME TEXT
result() {
    summary+=("$(printf '%-5s %-22s %s' "$1" "$2" "$3")")
    printf '%-5s %-22s %s\n' "$1" "$2" "$3"
    [ "$1" != FAIL ] || failed=1
}
# check NAME SECONDS command...: its output goes to a log; of a failure the end is shown, and why tests skip
check() {
    local name=$1 most=$2 code t0=$SECONDS log=$logs/${1// /-}.log
    shift 2
    within "$most" "$@" >"$log" 2>&1
    code=$?
    if [ $code -eq 0 ]; then result ok "$name" "$((SECONDS - t0)) s"
    elif [ $code -eq 124 ] || [ $code -eq 137 ]; then result FAIL "$name" "ran past its time ($((SECONDS - t0)) s), see $log"
    elif [ $code -eq 77 ]; then result SKIP "$name" "$(tail -1 "$log")"
    else
        result FAIL "$name" "exit code $code after $((SECONDS - t0)) s, see $log"
        grep -E 'FAILED|ERROR|error:|rror' "$log" | head -12 | sed 's/^/      /'
        tail -4 "$log" | sed 's/^/      /'
    fi
    grep -h '^SKIP' "$log" | sort | uniq -c | sed 's/^/     /'
    return $code
}
there() { # PROGRAM: in the build
    [ -x "$BUILD/$1" ] && return
    result FAIL "$1" "$BUILD/$1 is not there: build first"
    return 1
}

part_build() {
    [ -z "${FORJA_BUILD:-}" ] || { result SKIP build "FORJA_BUILD=$FORJA_BUILD is used"; return; }
    local cap arch=()
    cap=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d '. ')
    case $cap in
    90) arch=(-DCMAKE_CUDA_ARCHITECTURES=90a-real) ;;
    [0-9]*) arch=("-DCMAKE_CUDA_ARCHITECTURES=$cap-real") ;;
    esac
    check "build configure" 60 cmake --preset cuda "${arch[@]}" &&
        check "build" 400 cmake --build "$BUILD" -j "$JOBS"
}

programs() { # sources of tests
    local file name ring
    for file; do
        name=$(basename "${file%.*}") ring=$(basename "$(dirname "$file")")
        there "$name" || continue
        check "$ring $name" 120 env FORJA_TEST_DEVICE="$DEVICE" FORJA="$BUILD/forja" "$BUILD/$name"
    done
}
part_ops() { programs tests/opcheck/test_cuda*.c; }
part_golden() { programs tests/golden/test_*.c; }
part_parity() { programs tests/parity/test_*.c tests/unit/test_generate.c; }

part_cli() {
    there forja || return
    check "cli train" 90 tools/run-cli-test.sh "$BUILD/forja" tests/cli/train.sh
    check "cli bench" 60 "$BUILD/forja" bench --device "$DEVICE" --shape tiny --pure --type q8_0
}

part_sanitize() {
    local tool op
    command -v compute-sanitizer >/dev/null || { result SKIP sanitize "compute-sanitizer is not there"; return; }
    there test_cuda || return
    for tool in memcheck racecheck; do
        # Tests ask for what cannot be had, on purpose: calls that fail are no finding.
        local how=(--tool "$tool" --error-exitcode 9 --print-limit 20)
        [ $tool = racecheck ] || how+=(--report-api-errors no)
        for op in $SANITIZE_OPS; do
            check "$tool $op" 60 env FORJA_OP="$op" compute-sanitizer "${how[@]}" "$BUILD/test_cuda"
        done
    done
    check "memcheck steps" 90 compute-sanitizer --tool memcheck --error-exitcode 9 --print-limit 20 \
        "$BUILD/forja" bench --device "$DEVICE" --shape tiny --pure --type q8_0 --repeat 1 --context 40 --prefill 70 \
        --batch 2 --length 70 --streams 1 --streams 5 --adapters 2
}

# ---- numbers -----------------------------------------------------------------------------------------
columns=time,commit,program,device,model,formats,what,of,tokens_per_s,seconds,seconds_least,seconds_most,rate,unit,share_of_peak,flops,bytes_moved,held_bytes
# rows PROGRAM FILE: JSON as forja bench prints it, one key a line, into the table
rows() {
    [ -s "$csv" ] || echo "$columns" >"$csv"
    awk -v program="$1" -v time="$now" -v commit="$commit" -v columns="$columns" '
        function text(s) { gsub(/"/, "\"\"", s); return s ~ /[",]/ ? "\"" s "\"" : s }
        BEGIN { n = split(columns, name, ",") }
        match($0, /^ *"[^"]+": /) {
            key = substr($0, RSTART, RLENGTH); gsub(/^ *"|": $/, "", key)
            v = substr($0, RSTART + RLENGTH); sub(/,$/, "", v)
            if (v ~ /^"/) { v = substr(v, 2, length(v) - 2); gsub(/\\"/, "\"", v) }
            if (v == "null") v = ""
            if (key == "program") program = v
            if (inside) r[key] = v; else head[key] = v
        }
        /^ *"results": \[$/ { inside = 1 }
        inside && /^ *},?$/ {
            if (!("what" in r)) next
            line = time "," commit "," text(program)
            for (i = 4; i <= n; i++) line = line "," text(i <= 6 ? head[name[i]] : r[name[i]])
            print line
            delete r
        }
        inside && /^ *\],?$/ { inside = 0 }' "$2" >>"$csv"
}

# measure NAME SECONDS command...: JSON on stdout
measure() {
    local name=$1 most=$2 code t0=$SECONDS file=$logs/${1// /-}.json
    shift 2
    within "$most" "$@" >"$file" 2>"$file.err"
    code=$?
    grep -q '"results"' "$file" && rows forja "$file"
    if [ $code -eq 0 ]; then result ok "$name" "$((SECONDS - t0)) s"
    else result FAIL "$name" "exit code $code after $((SECONDS - t0)) s: $(tail -1 "$file.err" | cut -c1-300)"; fi
    return $code
}

part_bench() {
    local type
    there forja || return
    for type in $TYPES; do
        measure "bench $SHAPE $type" 100 "$BUILD/forja" bench --device "$DEVICE" --json --shape "$SHAPE" --pure --type "$type" \
            --repeat 3 --streams 1 --streams 16 --streams 64 --adapters 16 --context 512 --prefill 2048 \
            --batch 8 --length 2048
    done
    measure "bench $FULL full" 60 "$BUILD/forja" bench --device "$DEVICE" --json --shape "$FULL" --full \
        --only step --repeat 3 --batch 4 --length 2048
}

part_peers() {
    local look='import sys, torch, transformers, peft
assert sys.argv[1] == "cpu" or torch.cuda.is_available(), "torch sees no GPU"'
    if ! "$python" -W ignore -c "$look" "$DEVICE" 2>"$logs/peers.err"; then
        result SKIP peers "$python: $(tail -1 "$logs/peers.err" | cut -c1-200)"
        return
    fi
    measure "peer $SHAPE lora" 150 "$python" -W ignore tests/interop/gpu_peer.py --device "$DEVICE" --shape "$SHAPE" \
        --batch 8 --length 2048 --prefill 2048 --streams 1 --streams 64 --context 512 --new-tokens 16
    measure "peer $FULL full" 90 "$python" -W ignore tests/interop/gpu_peer.py --device "$DEVICE" --shape "$FULL" \
        --full --batch 4 --length 2048
}

part_table() {
    [ -s "$csv" ] || { result SKIP table "nothing was measured"; return; }
    echo
    # Fields with commas are in quotes: they are taken apart by hand.
    awk -v time="$(tail -1 "$csv" | cut -d, -f1)" '
        function cut(s, f,   n, c, q, i, w) {
            n = 1; q = 0; w = ""
            for (i = 1; i <= length(s); i++) {
                c = substr(s, i, 1)
                if (c == "\"") q = !q
                else if (c == "," && !q) { f[n++] = w; w = "" }
                else w = w c
            }
            f[n] = w
            return n
        }
        { cut($0, f) }
        f[1] == time {
            if (!shown++) printf "%-13s %-13s %-8s %-10s %-52s %11s %10s %6s %8s\n", "program", "model", "formats", \
                "what", "of", "tokens/s", "rate", "share", "GiB"
            split(f[3], p, /[ ,]/)
            if (f[6] ~ /autocast/) f[6] = "F32+amp"
            sub(/.*, /, "", f[6])
            sub(/ x [0-9]+$/, "", f[6])
            big = f[13] + 0 >= 10000
            printf "%-13.13s %-13.13s %-8.8s %-10.10s %-52.52s %11.1f %7.1f %s %5s %8.1f\n", p[1], f[5], f[6], f[7], f[8], \
                f[9], big ? f[13] / 1000 : f[13], (big ? "T" : "G") (f[14] == "GB/s" ? "B" : "F"), \
                f[15] == "" ? "" : sprintf("%d%%", 100 * f[15]), f[18] / 2 ^ 30
        }' "$csv"
}

nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader 2>/dev/null ||
    echo "nvidia-smi does not answer"
for part in $parts; do
    echo "== $part (second $SECONDS of $LIMIT)"
    "part_$part"
done
echo
ok=0 bad=0 skipped=0
for line in ${summary[@]+"${summary[@]}"}; do
    case $line in ok*) ok=$((ok + 1)) ;; FAIL*) bad=$((bad + 1)); echo "$line" ;; *) skipped=$((skipped + 1)); echo "$line" ;; esac
done
echo "$ok fine, $bad failed, $skipped skipped, $SECONDS s"
exit $failed
