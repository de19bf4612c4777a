#!/usr/bin/env bash
# check.sh: every check of form, each after its own self-test: a check that cannot fail is none.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=0 passed=0
for check in layers lib files format tidy; do
    if tools/check-$check.sh --self-test && tools/check-$check.sh; then
        echo "check $check: fine"; passed=$((passed + 1))
    else
        echo "check $check: FAILED"; failed=$((failed + 1))
    fi
done
echo "checks: $passed passed, $failed failed"
[ $failed = 0 ]
