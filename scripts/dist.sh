#!/usr/bin/env bash
# Builds static binaries into dist/: scripts/dist.sh [x86_64] [armv7] [aarch64] [arm] [i686] [riscv64]; the first three without
# arguments. Each as it is, and with "-small" behind its name without TLS (VARIANTS="full small"), with checksums and the
# licences of what is in them. Two builds of one revision by one toolchain are the same, byte for byte.
#
# For each, with the first of these that is there:
#   1. the target of the rustup toolchain (rustup target add TRIPLE);
#   2. cross, which brings what it needs in a container;
#   3. Debian's rustc-web, cargo-web and rust-web-src, which build the standard library along, and zig to link with.
# INSTALL=yes installs what the third needs, where it is missing (Debian, as root).
# DIST_WITH=rustup, cross or zig chooses; the binaries of the third are smaller by a quarter, since it builds the standard
# library for size.
set -euo pipefail
cd "$(dirname "$0")/.."

name=edge-metrics-exporter
built=target/dist # apart from the development builds: other compilers, other flags
venv=$built/venv

triple() {
    case $1 in
    x86_64) echo x86_64-unknown-linux-musl ;;
    armv7) echo armv7-unknown-linux-musleabihf ;;
    aarch64) echo aarch64-unknown-linux-musl ;;
    arm) echo arm-unknown-linux-musleabihf ;; # ARMv6 with hard floats: the first Raspberry Pis, and the Zero
    i686) echo i686-unknown-linux-musl ;;
    riscv64) echo riscv64gc-unknown-linux-musl ;;
    *)
        echo "unknown target $1: x86_64, armv7, aarch64, arm, i686 or riscv64" >&2
        return 1
        ;;
    esac
}

features() {
    case $1 in
    full) ;;
    small) echo --no-default-features --features gzip ;;
    *)
        echo "unknown variant $1: full or small" >&2
        return 1
        ;;
    esac
}

# ARMv7 has Thumb-2, whose instructions take a quarter less room than ARM's.
flags() {
    case $1 in
    armv7) echo -C target-feature=+thumb-mode ;;
    esac
}

# Where things are on the machine that builds is nobody's business, and would make every build another.
cargo_home=${CARGO_HOME:-$HOME/.cargo}
export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=/src --remap-path-prefix=$cargo_home=/cargo"
export CFLAGS="${CFLAGS:-} -ffile-prefix-map=$PWD=/src -ffile-prefix-map=$cargo_home=/cargo"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

has() { command -v "$1" >/dev/null; }

has_rustup_target() {
    has rustup && rustup target list --installed 2>/dev/null | grep -qx "$1"
}

# with_rustup TRIPLE OPTION...; rustc brings musl's start files, and a linker. TLS has some C in it, which needs no headers of
# the target's: this machine's compiler will do for its own kind of processor, and clang for any.
with_rustup() {
    local target=${1//-/_} linker compiler=clang
    linker="CARGO_TARGET_${target^^}_LINKER"
    case $1 in
    "$(uname -m)"-*) compiler=cc ;;
    *) [ -n "${!linker:-}" ] || export "$linker=rust-lld" ;;
    esac
    target="CC_$target"
    if [ -z "${!target:-}" ] && has "$compiler"; then
        export "$target=$compiler"
    fi
    cargo build --release --locked --target "$@"
}

with_cross() {
    if [ -e cross.toml ]; then
        export CROSS_CONFIG=$PWD/cross.toml
    fi
    cross build --release --locked --target "$@"
}

has_zig() {
    [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && [ -x "$venv/bin/cargo-zigbuild" ] &&
        [ -e "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]
}

install_zig() {
    if ! [ -x /usr/bin/cargo ] || ! [ -e "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock" ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            rustc-web cargo-web rust-web-src python3-venv >/dev/null
    fi
    python3 -m venv "$venv"
    "$venv/bin/pip" install -q -r scripts/dist-requirements.txt
}

# RUSTC_BOOTSTRAP lets this stable compiler take -Z. Without link-self-contained=no it asks for musl's start files,
# which the distribution does not ship, and zig does. The standard library is built without its backtraces: a panic ends the
# process and says where, and half of the symbols of a stripped binary would be missing anyway. Names are mangled as
# scripts/order.ld has them, which has side by side what runs. cargo does not look into that file: its name says what is in it.
# Its path is relative, lest every place make another build.
with_zig() {
    local sysroot order
    sysroot=$(/usr/bin/rustc --print sysroot)
    order=$CARGO_TARGET_DIR/order-$(sha256sum scripts/order.ld | cut -c1-16).ld
    cp scripts/order.ld "$order"
    PATH="$PWD/$venv/bin:$PATH" RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo RUSTC_BOOTSTRAP=1 \
        RUSTFLAGS="$RUSTFLAGS --remap-path-prefix=$sysroot=/rust -C link-self-contained=no -C force-unwind-tables=no \
            -C symbol-mangling-version=v0 -C link-arg=-Wl,-T,$order" \
        cargo-zigbuild zigbuild --release --locked --target "$@" -Zbuild-std=std,panic_abort \
        -Zbuild-std-features=optimize_for_size
}

build() { # build ARCH TRIPLE WITH: all variants, in a directory of the architecture's own, as builds in one would wait for each other
    local options variant
    export CARGO_TARGET_DIR=$built/$3/$1
    mkdir -p "$CARGO_TARGET_DIR"
    RUSTFLAGS="$RUSTFLAGS $(flags "$1")"
    for variant in ${VARIANTS:-full}; do
        echo "== $2, $variant, with $3"
        read -ra options <<<"$(features "$variant")"
        "with_$3" "$2" "${options[@]}"
        install -m 0755 "$CARGO_TARGET_DIR/$2/release/$name" "dist/$(file_name "$1" "$variant")"
    done
}

file_name() { # file_name ARCH VARIANT
    case $2 in
    full) echo "$name-$1" ;;
    *) echo "$name-$1-$2" ;;
    esac
}

choose() { # choose TRIPLE: rustup, cross or zig
    if [ -n "${DIST_WITH:-}" ]; then
        echo "$DIST_WITH"
    elif has_rustup_target "$1"; then
        echo rustup
    elif has cross; then
        echo cross
    else
        echo zig
    fi
}

[ $# -gt 0 ] || set -- x86_64 armv7 aarch64
mkdir -p dist
# As many at once as there are processors: a build ends with optimising the whole program, which is minutes on one of them.
running=0 failed=no
reap() {
    wait -n || failed=yes
    running=$((running - 1))
}
for arch in "$@"; do
    triple=$(triple "$arch")
    with=$(choose "$triple")
    if [ "$with" = zig ] && ! has_zig; then
        if [ "${INSTALL:-no}" != yes ]; then
            echo "nothing here builds $triple. One of these helps:" >&2
            echo "    rustup target add $triple" >&2
            echo "    cargo install cross        (needs docker or podman)" >&2
            echo "    make dist INSTALL=yes      (Debian, as root: its Rust, and zig from PyPI)" >&2
            exit 1
        fi
        install_zig
    fi
    [ "$running" -lt "$(nproc)" ] || reap
    build "$arch" "$triple" "$with" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    reap
done
[ "$failed" = no ]

# A binary that asks for an interpreter or a library is not static, whatever its build said.
for arch in "$@"; do
    for variant in ${VARIANTS:-full}; do
        binary=dist/$(file_name "$arch" "$variant")
        if has readelf && readelf -lW "$binary" | grep -Eq '^ *INTERP'; then
            echo "$binary is not static" >&2
            exit 1
        fi
        echo "$binary: $(stat -c %s "$binary") bytes"
    done
done

if has python3; then
    scripts/third-party.py
fi
scripts/checksums.sh dist
