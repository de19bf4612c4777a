#!/usr/bin/env bash
# run-cli-test.sh PROGRAM SCRIPT: runs one script of tests/cli in a folder of its own.
# The script finds: FORJA (the program), SRC (the source tree), FORJA_SHARED (shared data, may be
# absent), the current folder empty and private, HOME and XDG_DATA_HOME inside it, no terminal on stdin.
set -euo pipefail
FORJA=$(realpath "$1") script=$(realpath "$2")
SRC=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d "${TMPDIR:-/tmp}/forja-cli-XXXXXX")
trap 'chmod -R u+rwX "$dir"; rm -rf "$dir"' EXIT
mkdir "$dir/home" "$dir/tmp" "$dir/cwd"
export FORJA SRC FORJA_SHARED=${FORJA_SHARED:-$SRC/../shared} HOME=$dir/home TMPDIR=$dir/tmp
export XDG_DATA_HOME=$dir/home/.local/share LC_ALL=C.UTF-8
unset XDG_CONFIG_HOME XDG_CACHE_HOME XDG_STATE_HOME || true
cd "$dir/cwd"
bash "$script" </dev/null
