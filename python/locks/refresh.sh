#!/bin/sh
# Makes the locks anew from their .in files, or checks (--check) that every platform that is
# promised finds a wheel for every package. Needs uv and network. See README.md.
set -eu
cd "$(dirname "$0")"

compile() {
    lock=$1
    shift
    uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes \
        --no-header --no-annotate --no-emit-index-url "$@" "$lock.in" --output-file "$lock.txt"
}

check() {
    lock=$1
    shift
    for version in 3.10 3.11 3.12 3.13 3.14; do
        for platform in "$@"; do
            uv pip install --quiet --dry-run --target "$scratch" --python-version "$version" \
                --python-platform "$platform" --no-deps --require-hashes --only-binary :all: \
                --requirements "$lock.txt"
            echo "$lock: $version $platform ok"
        done
    done
}

if [ "${1:-}" = --check ]; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    glibc="x86_64-manylinux_2_28 aarch64-manylinux_2_28"
    other="aarch64-apple-darwin x86_64-apple-darwin x86_64-pc-windows-msvc"
    # shellcheck disable=SC2086 # the lists are split on purpose
    check worker $glibc $other x86_64-unknown-linux-musl
    # shellcheck disable=SC2086
    check uv $glibc $other x86_64-unknown-linux-musl
    # shellcheck disable=SC2086
    check local $glibc $other
    exit
fi

compile worker
compile local --no-deps
compile uv
