#!/usr/bin/env bash
# Makes Debian packages in dist/, of the static binaries there: scripts/deb.sh [x86_64] [armv7] [aarch64] [arm] [i686] [riscv64].
# By dpkg-deb alone: the binary needs no library, and so the package no dependencies to be computed.
#
# Debian's armhf is ARMv7. Raspbian (Raspberry Pi OS, 32 bits) calls ARMv6 with hard floats armhf as well, and marks its own builds
# by "+rpi1" in the version: so is the package of arm, which runs on every Raspberry Pi.
set -euo pipefail
cd "$(dirname "$0")/.."

name=edge-metrics-exporter
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
repository=$(sed -n 's/^repository = "\(.*\)"$/\1/p' Cargo.toml)
# At the host of the sources.
host=${repository#*://}
maintainer="$name maintainers <$name@${host%%/*}>"
# The same files at the same times give the same package.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH

debian_architecture() {
    case $1 in
    x86_64) echo amd64 ;;
    armv7 | arm) echo armhf ;;
    aarch64) echo arm64 ;;
    i686) echo i386 ;;
    riscv64) echo riscv64 ;;
    *)
        echo "Debian has no architecture for $1" >&2
        return 1
        ;;
    esac
}

[ $# -gt 0 ] || set -- x86_64 armv7 aarch64
. scripts/built.sh
need_binaries "$@"
need_licences
root=$(mktemp -d)
chmod 0755 "$root" # what its own entry in the package says of /
umask 022
trap 'rm -rf "$root"' EXIT
for arch in "$@"; do
    architecture=$(debian_architecture "$arch")
    full_version=$version
    [ "$arch" != arm ] || full_version=$version+rpi1
    rm -rf "${root:?}"/*
    DESTDIR=$root PREFIX=/usr INIT=systemd ZSHDIR=share/zsh/vendor-completions \
        scripts/place.sh install "dist/$name-$arch"
    # For those who chose another init on Debian.
    install -D -m 0755 sysvinit/$name "$root/etc/init.d/$name"

    doc=$root/usr/share/doc/$name
    # The licence is LICENSE's, which begins with its name and whose copyright has a line of its own.
    awk -v repository="$repository" -v holders="$(sed -n 's/^Copyright (c) //p' LICENSE)" '
        $0 == "@LICENSE@" {
            while ((getline line <"LICENSE") > 0) if (line !~ /^(MIT License|Copyright .*)$/ && (line != "" || begun)) {
                begun = 1
                print line == "" ? " ." : " " line
            }
            next
        }
        { sub(/@REPOSITORY@/, repository); sub(/@COPYRIGHT@/, holders); print }' debian/copyright >"$doc/copyright"
    rm "$doc/LICENSE"
    # Debian's form for its own changelog; what changed is in the project's.
    printf '%s (%s) unstable; urgency=medium\n\n  * See /usr/share/doc/%s/NEWS.gz.\n\n -- %s  %s\n' \
        $name "$full_version" $name "$maintainer" "$(LC_ALL=C date -u -R --date="@$SOURCE_DATE_EPOCH")" >"$doc/changelog"
    cp CHANGELOG.md "$doc/NEWS"
    gzip -9n "$doc/changelog" "$doc/NEWS" "$doc/THIRD-PARTY.txt" "$root/usr/share/man/man1/$name.1"
    install -D -m 0644 debian/lintian-overrides "$root/usr/share/lintian/overrides/$name"

    mkdir -p "$root/DEBIAN"
    # Raspbian's armhf is ARMv6, where dpkg takes this package as well, and the binary would end by an illegal instruction.
    if [ "$arch" = armv7 ]; then
        install -m 0755 debian/preinst.armv7 "$root/DEBIAN/preinst"
    fi
    for script in postinst prerm postrm; do
        install -m 0755 "debian/$script" "$root/DEBIAN/$script"
    done
    printf '%s\n' "/etc/default/$name" "/etc/init.d/$name" >"$root/DEBIAN/conffiles"
    size=$(find "$root" -path "$root/DEBIAN" -prune -o -type f -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')
    sed -e "s/@VERSION@/$full_version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@SIZE@/$size/" \
        -e "s|@REPOSITORY@|$repository|" -e "s/@MAINTAINER@/$maintainer/" debian/control >"$root/DEBIAN/control"
    (cd "$root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' md5sum >DEBIAN/md5sums)
    find "$root" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +

    package=dist/${name}_${full_version}_$architecture.deb
    dpkg-deb --build --root-owner-group -Zxz "$root" "$package" >/dev/null
    echo "$package: $(stat -c %s "$package") bytes"
done
scripts/checksums.sh dist
