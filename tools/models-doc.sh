#!/usr/bin/env bash
# models-doc.sh: makes docs/models.md anew from models.def and a run of test_archs.
set -euo pipefail
cd "$(dirname "$0")/.."
cmake --build build --target test_archs forja-modelsdoc >/dev/null
results=$(mktemp)
trap 'rm -f "$results" docs/models.md.tmp' EXIT
FORJA_RESULTS=$results build/test_archs >/dev/null
build/forja-modelsdoc "$results" >docs/models.md.tmp
mv docs/models.md.tmp docs/models.md
