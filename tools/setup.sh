#!/usr/bin/env bash
# setup.sh [build|check|interop|arm]: makes sure that what forja is built with is here (Debian 12 and
# later).  build: compiler, CMake, Ninja, libraries.  check: also clang's tools for `make check` and
# `make fuzz`.  interop: also Python's venv.  arm: also a cross compiler and qemu.  Installs what is
# missing by apt-get, as root or through
# sudo without a password; otherwise prints the line to run and ends with 1.  A stamp under build/
# makes the second time quick.
set -euo pipefail
cd "$(dirname "$0")/.."
what=${1:-build}

# One line per need: how it is looked for | its Debian package.
needs='
cmd gcc | gcc
cmd g++ | g++
cmd ar | binutils
cmd make | make
cmd cmake | cmake
cmd ninja | ninja-build
cmd pkg-config | pkg-config
file stdio.h | libc6-dev
pc jansson | libjansson-dev
pc yaml-0.1 | libyaml-dev
pc libpcre2-8 | libpcre2-dev
pc libutf8proc | libutf8proc-dev
pc sqlite3 | libsqlite3-dev
pc libsodium | libsodium-dev
pc zlib | zlib1g-dev
pc libzstd | libzstd-dev
pc libedit | libedit-dev
pc libcurl | libcurl4-openssl-dev
pc cmocka | libcmocka-dev
'
case $what in
build) ;;
check) needs+='
cmd git | git
cmd clang | clang
cmd clang-format | clang-format
cmd clang-tidy | clang-tidy
fuzzer clang | libclang-rt-14-dev
' ;;
interop) needs+='
venv python3 | python3-venv
' ;;
arm) needs+='
cmd aarch64-linux-gnu-gcc | gcc-aarch64-linux-gnu
cmd qemu-aarch64-static | qemu-user-static
' ;;
*) echo "usage: tools/setup.sh [build|check|interop|arm]" >&2; exit 2 ;;
esac

stamp=build/.setup-$what-$(printf '%s' "$needs" | cksum | cut -d' ' -f1)
[ -e "$stamp" ] && exit 0

have() { # kind name
    case $1 in
    cmd) command -v "$2" >/dev/null && "$2" --version >/dev/null 2>&1 ;;
    pc) command -v pkg-config >/dev/null && pkg-config --exists "$2" ;;
    file) echo "#include <$2>" | gcc -E - >/dev/null 2>&1 ;;
    fuzzer) echo 'int LLVMFuzzerTestOneInput(const char *p, long n) { return n && *p; }' |
        "$2" -fsanitize=fuzzer,address -x c - -o /dev/null 2>/dev/null ;;
    venv) "$2" -c 'import venv, ensurepip' >/dev/null 2>&1 ;;
    esac
}

list_missing() {
    while read -r kind name _ package; do
        [ -n "$kind" ] || continue
        have "$kind" "$name" || echo "$package"
    done <<<"$needs" | sort -u | tr '\n' ' '
}

missing=$(list_missing)
if [ -n "$missing" ]; then
    line="apt-get install -y --no-install-recommends $missing"
    if [ "$(id -u)" = 0 ]; then root=
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then root="sudo -n"
    else root=none; fi
    if [ "$root" = none ] || ! command -v apt-get >/dev/null; then
        echo "forja needs packages that are not here. As root, run:" >&2
        echo "    apt-get update && $line" >&2
        echo "(names of Debian 12; on another system, its packages for the same things)" >&2
        exit 1
    fi
    echo "installing: $missing" >&2
    $root apt-get update -qq >&2 || echo "apt-get update failed: trying with the lists that are here" >&2
    $root env DEBIAN_FRONTEND=noninteractive $line >&2
    missing=$(list_missing)
    [ -z "$missing" ] || { echo "still missing after the installation: $missing" >&2; exit 1; }
fi

version=$(cmake --version | sed -n '1s/[^0-9]*//p')
[ "$(printf '%s\n' 3.25 "$version" | sort -V | head -1)" = 3.25 ] ||
    { echo "cmake $version is too old: 3.25 or later is needed (apt-get install cmake)" >&2; exit 1; }
mkdir -p build
touch "$stamp"
