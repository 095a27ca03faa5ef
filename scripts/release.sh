#!/usr/bin/env bash
# Puts all that a release page needs into dist/release (RELEASE_DIR), of the static binaries in dist/: scripts/release.sh [ARCH...];
# x86_64, armv7, aarch64, arm and riscv64 without arguments. It builds none: what is left out for want of a binary is named at the end.
#
#   TAG            the tag of the release: another than the version of Cargo.toml is an error
#   MINISIGN_KEY   a secret key of minisign, by which SHA256SUMS is signed; minisign asks for its password
#   RELEASE_URL    where these files will be; the default is where a forge has those of the tag, below `repository` of Cargo.toml
#
# The same binaries of the same revision give the same files, but for the signature.
set -euo pipefail
cd "$(dirname "$0")/.."

name=edge-metrics-exporter
out=${RELEASE_DIR:-dist/release}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
repository=$(sed -n 's/^repository = "\(.*\)"$/\1/p' Cargo.toml)
url=${RELEASE_URL:-${repository:?Cargo.toml has no repository}/releases/download/v$version}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH LC_ALL=C
umask 022

if [ -n "${TAG:-}" ] && [ "$TAG" != "v$version" ]; then
    echo "the tag is $TAG, and Cargo.toml has version $version: tag v$version, or change the version" >&2
    exit 1
fi
. scripts/built.sh
need_licences

# Whole or not at all.
part=$out.part
rm -rf "$part"
mkdir -p "$part"
trap 'rm -rf "$part"' EXIT

# install.sh with the address of this release.
installer() { # installer FILE
    sed "s|^release=.*|release=$url|" install.sh >"$1"
    chmod 0755 "$1"
    grep -qF "release=$url" "$1"
}

# A small checkout: install.sh and `scripts/place.sh` work in it as they do in the repository.
tarball() { # tarball BINARY NAME
    local tree=$part/$2
    mkdir -p "$tree/scripts"
    install -m 0755 "$1" "$tree/$name"
    cp -R systemd openrc sysvinit man completions uninstall.sh \
        config.yaml.template collector.yaml.template LICENSE README.md CHANGELOG.md dist/THIRD-PARTY.txt "$tree"
    cp scripts/place.sh "$tree/scripts"
    installer "$tree/install.sh"
    tar --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mode=u=rwX,go=rX --mtime="@$SOURCE_DATE_EPOCH" \
        -C "$part" -cf - "$2" | gzip -9n >"$part/$2.tar.gz"
    rm -r "$tree"
}

[ $# -gt 0 ] || set -- x86_64 armv7 aarch64 arm riscv64
packaged=()
left_out=()
for arch in "$@"; do
    if [ -e "dist/$name-$arch" ]; then
        packaged+=("$arch")
    else
        left_out+=("$arch: dist/$name-$arch is not there (make dist TARGETS=$arch)")
        continue
    fi
    for suffix in "" -small; do
        if [ -e "dist/$name-$arch$suffix" ]; then
            # Its User-Agent.
            grep -aqF "$name/$version" "dist/$name-$arch$suffix" || {
                echo "dist/$name-$arch$suffix is not of version $version, which Cargo.toml has: make dist TARGETS=$arch" >&2
                exit 1
            }
            install -m 0755 "dist/$name-$arch$suffix" "$part/$name-$arch$suffix"
            tarball "dist/$name-$arch$suffix" "$name-$version-linux-$arch$suffix"
        else
            left_out+=("$arch without TLS: dist/$name-$arch$suffix is not there (make dist TARGETS=$arch)")
        fi
    done
done
[ ${#packaged[@]} -gt 0 ] || {
    echo "there is no binary of $* in dist/: make dist" >&2
    exit 1
}

scripts/deb.sh "${packaged[@]}" >/dev/null
for arch in "${packaged[@]}"; do
    case $arch in
    x86_64) package=${version}_amd64 ;;
    armv7) package=${version}_armhf ;;
    aarch64) package=${version}_arm64 ;;
    arm) package=$version+rpi1_armhf ;;
    i686) package=${version}_i386 ;;
    *) package=${version}_$arch ;;
    esac
    install -m 0644 "dist/${name}_$package.deb" "$part"
done

scripts/ipk.sh "${packaged[@]}" >/dev/null
for arch in "${packaged[@]}"; do
    install -m 0644 "dist/${name}_$version-1_$arch.ipk" "$part"
done

# A container image of the platforms that there are.
platforms=
for place in amd64:x86_64 arm/v7:armv7 arm64:aarch64; do
    if [[ " ${packaged[*]} " == *" ${place#*:} "* ]]; then
        platforms+=${platforms:+,}linux/${place%:*}
    else
        left_out+=("linux/${place%:*} in the container image: dist/$name-${place#*:} is not packaged")
    fi
done
if [ -z "$platforms" ]; then
    left_out+=("container image: there is no binary of its platforms")
elif ! [ -s /etc/ssl/certs/ca-certificates.crt ]; then
    left_out+=("container image: /etc/ssl/certs/ca-certificates.crt is not here, which it would have (the package ca-certificates)")
else
    context=$(PLATFORMS=$platforms deploy/docker/image.sh --context)
    scripts/oci.py "$context" "$part/$name-$version.oci.tar" "$version" "$repository"
fi

install -m 0644 dist/THIRD-PARTY.txt LICENSE "$part"
installer "$part/install.sh"
scripts/sbom.py "$part/$name-$version.cdx.json"

# The section of this version, or, before it has one, what is not released yet.
for title in "$version" Unreleased; do
    notes=$(awk -v title="## [$title]" '
        /^## / { wanted = index($0, title) == 1; next }
        /^\[.*\]: / { wanted = 0 }
        wanted { print }' CHANGELOG.md)
    [ -z "$notes" ] || break
done
[ -n "$notes" ] || {
    echo "CHANGELOG.md has neither a section [$version] nor [Unreleased]: there is nothing to say of this release" >&2
    exit 1
}
[ "$title" = "$version" ] || echo "CHANGELOG.md has no section [$version]: the notes are those of [Unreleased]"
{ echo "# $name $version" && echo && echo "$notes" | sed '/./,$!d'; } >"$part/RELEASE-NOTES.md"

scripts/checksums.sh "$part"
if [ -n "${MINISIGN_KEY:-}" ]; then
    minisign -S -s "$MINISIGN_KEY" -m "$part/SHA256SUMS" -t "$name $version"
fi

find "$part" -exec touch --date="@$SOURCE_DATE_EPOCH" {} +
rm -rf "$out"
mv "$part" "$out"
echo "$out: $(find "$out" -type f | wc -l) files, $(du -sh --apparent-size "$out" | cut -f 1), for ${packaged[*]}"
[ -n "${MINISIGN_KEY:-}" ] || left_out+=("signature: MINISIGN_KEY names no key")
[ ${#left_out[@]} -eq 0 ] || printf 'left out: %s\n' "${left_out[@]}"
