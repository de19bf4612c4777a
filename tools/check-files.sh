#!/usr/bin/env bash
# check-files.sh [--self-test | ROOT]: no source over 1000 lines; no file names a place of one machine
# (home folders and the like) or the host of a package registry: what is here must work anywhere.
set -euo pipefail
cd "$(dirname "$0")/.."
limit=1000
places='(^|[^A-Za-z0-9_.$}~/*-])/(work|home|root|Users|mnt)/[A-Za-z0-9_.]'
hosts='(pypi|files\.pythonhosted|npmjs|yarnpkg|crates|rubygems|proxy\.golang|deb\.debian|archive\.ubuntu|conda\.anaconda|hub\.docker)\.(org|com|io)|(artifactory|nexus|devpi)[.:/]'

list() { if [ -d "$1/.git" ] || [ -f "$1/.git" ]; then git -C "$1" ls-files; else (cd "$1" && find . -type f | sed 's:^\./::'); fi; }
check() ( # folder
    cd "$1"
    bad=0
    while read -r f; do
        [ -f "$f" ] || continue
        case $f in tests/fuzz/corpus/* | tests/golden/*.json | LICENSE) continue ;; esac
        case $f in *.c | *.h | *.cu | *.def | *.sh | *.py | *.txt.in | CMakeLists.txt | Makefile)
            n=$(wc -l <"$f")
            [ "$n" -le $limit ] || { echo "$f: $n lines; at most $limit"; bad=1; }
        esac
        [ "$f" = tools/check-files.sh ] && continue
        if grep -InE "$places" "$f" | cut -c1-160 | sed "s|^|$f:|" | grep .; then echo "$f: names a place of one machine"; bad=1; fi
        if grep -InE "$hosts" "$f" | cut -c1-160 | sed "s|^|$f:|" | grep .; then echo "$f: names a registry's host"; bad=1; fi
    done < <(list .)
    exit $bad
)
if [ "${1-}" = --self-test ]; then
    t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
    mkdir "$t/src"
    printf 'see ~/.local/share, $HOME/x/y, https://example.org/home/x and a/home/b\n' >"$t/README.md"
    seq $limit | sed 's:.*:/* & */:' >"$t/src/long.c"
    check "$t" || { echo "check-files: refuses what is right"; exit 1; }
    echo '/* one more */' >>"$t/src/long.c"
    if check "$t" >/dev/null; then echo "check-files: does not see a file of 1001 lines"; exit 1; fi
    rm "$t/src/long.c"
    dot=. # so that no host stands here
    for text in 'data in /home/someone/x' 'path="/mnt/x"' "index-url https://pypi${dot}org/simple"; do
        echo "$text" >"$t/notes.txt"
        if check "$t" >/dev/null; then echo "check-files: does not see: $text"; exit 1; fi
    done
    exit 0
fi
check "${1:-.}"
