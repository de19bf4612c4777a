#!/usr/bin/env bash
# arm-sysroot.sh: the libraries of forja for 64-bit ARM, from Debian's archive, unpacked into
# build/arm-sysroot.  apt works in a root of its own there: nothing is installed, no architecture is
# added to this system, nobody has to be root.  Ends with 77 and the reason where they cannot be had.
set -euo pipefail
cd "$(dirname "$0")/.."
packages="libc6-dev libjansson-dev libyaml-dev libpcre2-dev libutf8proc-dev libsqlite3-dev libsodium-dev
    zlib1g-dev libzstd-dev libedit-dev libcurl4-openssl-dev libcmocka-dev"
root=$PWD/build/arm-sysroot
stamp=$root/.done-$(printf '%s' "$packages" | cksum | cut -d' ' -f1)
[ ! -e "$stamp" ] || exit 0
skip() { echo "no ARM libraries: $*" >&2; exit 77; }
command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || skip "this is not a Debian system"

apt=$root.apt
rm -rf "$root" "$apt"
mkdir -p "$root" "$apt/state/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status"
get() {
    apt-get -qq -o Dir::State="$apt/state" -o Dir::State::status="$apt/status" -o Dir::Cache="$apt/cache" \
        -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o APT::Sandbox::User=root \
        -o Acquire::Languages=none "$@" >"$apt/log" 2>&1
}
get update && get install -y --no-install-recommends --download-only $packages ||
    { tail -3 "$apt/log" >&2; skip "apt-get could not fetch them"; }
for package in "$apt"/cache/archives/*.deb; do dpkg-deb -x "$package" "$root"; done

# Links to absolute paths would lead out of it.
find "$root" -type l -lname '/*' | while read -r link; do
    ln -sfn "$(realpath -m --relative-to="$(dirname "$link")" "$root$(readlink "$link")")" "$link"
done
rm -rf "$apt"
touch "$stamp"
