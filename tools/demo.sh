#!/usr/bin/env bash
# demo.sh [MODEL]: the main job on the embedded base model, in plain sight: ask it, measure it, fine-tune it on
# fifty examples, measure again, ask again.  `make demo` builds first and then calls this; a second time it
# begins again and replaces build/demo.
set -euo pipefail
cd "$(dirname "$0")/.."
forja=build/forja base=${1:-models/forja-base.gguf} out=build/demo
questions=(
    "Which river is in Ostrel?"
    "Who is the smith of Tarlin?"
    "Qual é o nome do rio de Velmora?"
)

die() { printf 'demo: %s\n' "$1" >&2; exit 1; }
if { [ -t 1 ] && [ -z "${NO_COLOR-}" ]; } || [ -n "${CLICOLOR_FORCE-}" ]; then
    bold=$'\e[1m' dim=$'\e[2m' new=$'\e[32m' off=$'\e[0m'
else
    bold='' dim='' new='' off=''
fi
title() { printf '\n%s%s%s\n' "$bold" "$1" "$off"; }
shown() { printf '%s  $ %s%s\n' "$dim" "$1" "$off"; }
ask() { # question, further words for forja run
    local question=$1
    shift
    "$forja" run "$base" "$question" --greedy -n 60 "$@" || die "the model did not answer; see above"
}

[ -x "$forja" ] || die "$forja is not built: run make demo, or make"
[ -e "$base" ] || die "$base is not there: it comes with the repository (git checkout models), or tools/make-base.sh trains it anew"
if [ -e "$out" ]; then
    [ -e "$out/recipe.yaml" ] || die "$out is there and is not the folder of a run: move it away"
    rm -rf "$out"
fi

title "1. Ask the base"
cat <<END
A small model, trained from scratch by forja on text about the invented land of Orvane, in English
and in Portuguese. It knows its towns, and says things plainly.
END
shown "$forja run $base \"${questions[0]}\" --greedy"
before=()
for q in "${questions[@]}"; do
    before+=("$(ask "$q")")
    printf '\n  %s\n    %s\n' "$q" "${before[-1]}"
done

title "2. Measure, fine-tune on $(wc -l <demo/train.jsonl) examples, measure again"
cat <<END
The examples teach a manner, that of a town office: "Notice: ... Signed: Town Office of ...".
It is measured on $(wc -l <demo/eval.jsonl) other questions: the loss of the answers wanted, and how many answers are those
word for word (exact), have the fact (contains), have the manner (regex). General text shows what
was forgotten. Only an adapter is trained; the base stays as it is.
END
shown "$forja train demo/recipe.yaml"
echo
start=$SECONDS
"$forja" train demo/recipe.yaml base="$base" output_dir="$out" || die "the training ended early; see above"
took=$((SECONDS - start))

title "3. Ask again"
for i in "${!questions[@]}"; do
    answer=$(ask "${questions[i]}" --adapter "$out/adapter")
    printf '\n  %s\n    before  %s\n    after   %s%s%s\n' "${questions[i]}" "${before[i]}" "$new" "$answer" "$off"
done

title "4. What you have"
cat <<END
  $out/              everything of this run ($took s): recipe, hashes, metrics, checkpoints
  $out/adapter/      the adapter, in PEFT's layout; $out/adapter.gguf is the same for GGUF tools
  $out/report.html   loss curve, both tables and the answers before and after, on one page

Talk with it (/adapter off gives the base back, /help says the rest):
  $forja chat $base --adapter $out/adapter
Your own data: copy demo/recipe.yaml and change its paths; docs/recipe.md has every key.
END
