#!/usr/bin/env bash
# check-lib.sh [--self-test | LIBRARY]: the library keeps no writable globals, never prints, never
# exits, aborts in base/mem.c only; and no source uses a function that cannot be used safely.
set -euo pipefail
cd "$(dirname "$0")/.."
banned='strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atof|system|popen|strncpy|strncat|alloca|tmpnam|mktemp'
silent='_?exit|_Exit|quick_exit|__(v?f?printf)_chk|v?f?printf|puts|putchar|fputs|fputc|_IO_putc|putc|perror|psignal|stdout|stderr|stdin|rand|srand|setlocale|signal|sigaction'

# objdump and not nm: tables of constant pointers are "D" for nm, and lie in .data.rel.ro.
globals() {
    objdump -h "$1" | awk '
        /file format/ { file = $1; sub(/:$/, "", file) }
        $2 ~ /^\.(data|bss|tdata|tbss)(\.|$)/ && $2 !~ /^\.data\.rel\.ro/ && $3 !~ /^0+$/ {
            print file ": writable data in " $2 " (" $3 " bytes, hex)"; bad = 1 }
        END { exit bad }'
}
calls() {
    nm -u -A "$1" 2>/dev/null | awk -v silent="^($silent)$" -v banned="^(__)?($banned)(_chk)?$" '
        { name = $NF; sub(/@.*/, "", name); object = $1
          if (name ~ silent || name ~ banned || (name == "abort" && object !~ /[:(]mem\.c\.o/)) {
              print object " calls " name; bad = 1 } }
        END { exit bad }'
}
sources() { # folder: comments and strings are not code
    find "$1" \( -name '*.[ch]' -o -name '*.cu' \) | sort | while read -r f; do
        sed -E 's://.*$::; s:/\*[^*]*\*/::g; s:"([^"\\]|\\.)*":"":g; /^ *\*|^\/\*/d' "$f" |
            grep -nE "(^|[^A-Za-z0-9_.>])($banned) *\(" | sed "s:^:$f\::" || true
    done | { ! grep .; }
}
if [ "${1-}" = --self-test ]; then
    t=$(mktemp -d); trap 'rm -rf "$t"' EXIT
    lib() { # file C-source
        mkdir -p "$t/o" && rm -f "$t"/o/* && echo "$2" >"$t/o/$1.c"
        gcc -O1 -fPIE -c -o "$t/o/$1.c.o" "$t/o/$1.c" && ar rcs "$t/o/lib.a" "$t/o/$1.c.o"
    }
    planted() { # check what file source
        lib "$3" "$4"
        if "$1" "$t/o/lib.a" >/dev/null; then echo "check-lib: does not see $2"; exit 1; fi
    }
    lib fine 'static const char *const names[] = {"a", "b"}; const char *f(int i) { return names[i & 1]; }'
    globals "$t/o/lib.a" && calls "$t/o/lib.a" || { echo "check-lib: refuses what is right"; exit 1; }
    lib mem 'void abort(void); void f(void) { abort(); }'
    calls "$t/o/lib.a" || { echo "check-lib: refuses abort in mem.c"; exit 1; }
    planted globals 'initialised data' a 'int x = 5; int f(void) { return ++x; }'
    planted globals 'zeroed data' a 'int f(void) { static int x; return ++x; }'
    planted globals 'thread data' a 'int f(void) { static _Thread_local int x; return ++x; }'
    planted calls abort a 'void abort(void); void f(void) { abort(); }'
    planted calls exit a 'void exit(int); void f(void) { exit(1); }'
    planted calls printf a '#include <stdio.h>
void f(int n) { printf("%d", n); }'
    planted calls stderr a '#include <stdio.h>
void f(int n) { fprintf(stderr, "%d", n); }'
    mkdir "$t/src"
    echo 'int f(char *a) { return 1; /* strcpy(a, b) is not used */ }' >"$t/src/a.c"
    sources "$t/src" >/dev/null || { echo "check-lib: takes a comment for code"; exit 1; }
    echo 'void f(char *a, const char *b) { strcpy(a, b); }' >"$t/src/b.c"
    if sources "$t/src" >/dev/null; then echo "check-lib: does not see strcpy"; exit 1; fi
    exit 0
fi
lib=${1:-build/libforja.a}
[ -e "$lib" ] || { echo "no $lib: build first (make)"; exit 1; }
bad=0
globals "$lib" || bad=1
calls "$lib" || bad=1
sources src || bad=1
exit $bad
