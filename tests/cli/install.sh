# What `cmake --install` puts down is enough for a program of somebody else, through pkg-config.
set -euo pipefail
build=$(dirname "$FORJA")
if grep -q '^FORJA_SANITIZE:STRING=.' "$build/CMakeCache.txt"; then
    echo "SKIP: a sanitized library links into sanitized programs only"; exit 77
fi
cmake --install "$build" --prefix "$PWD/usr" >install.log || { cat install.log; exit 1; }
export PKG_CONFIG_PATH=$(dirname "$(find usr -name forja.pc)")
[ -x usr/bin/forja ]
cat >theirs.c <<'END'
#include <forja/err.h>
#include <string.h>
int main(void) {
    fj_err e = { 0 };
    return fj_fail(&e, FJ_EINVAL, "row %d", 7) || strcmp(e.msg, "row 7") != 0;
}
END
cc -std=c11 -Wall -Werror theirs.c -o theirs \
    $(pkg-config --define-variable=prefix="$PWD/usr" --cflags --libs --static forja)
./theirs
