#!/usr/bin/env bash
# Makes packages of OpenWrt (ipk, up to 24.10) in dist/, of the static binaries there: scripts/ipk.sh [x86_64] [armv7] [aarch64] [arm]
# [i686] [riscv64].
#
# OpenWrt has an architecture for each processor (aarch64_cortex-a53, arm_cortex-a7_neon-vfpv4 and thirty more). The binary
# is static, and runs on all of a kind: the package is for `all`, and its preinst refuses another kind of processor.
set -euo pipefail
cd "$(dirname "$0")/.."

name=edge-metrics-exporter
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
repository=$(sed -n 's/^repository = "\(.*\)"$/\1/p' Cargo.toml)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
umask 022

# machines ARCH: what `uname -m` says where the binary runs, as a pattern of sh.
machines() {
    case $1 in
    x86_64 | aarch64 | riscv64) echo "$1" ;;
    armv7) echo 'armv7* | armv8l' ;;
    arm) echo 'armv6* | armv7* | armv8l' ;;
    i686) echo 'i686 | x86_64' ;;
    *)
        echo "unknown target $1: x86_64, armv7, aarch64, arm, i686 or riscv64" >&2
        return 1
        ;;
    esac
}

packed() { # packed DIRECTORY FILE: the same files give the same tar
    tar --sort=name --format=gnu --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$1" -cf - . | gzip -9n >"$2"
}

[ $# -gt 0 ] || set -- x86_64 armv7 aarch64
. scripts/built.sh
need_binaries "$@"
need_licences
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for arch in "$@"; do
    pattern=$(machines "$arch")
    rm -rf "${work:?}"/*
    data=$work/data control=$work/control outer=$work/outer
    mkdir -p "$data" "$control" "$outer"
    install -D -m 0755 "dist/$name-$arch" "$data/usr/bin/$name"
    install -D -m 0755 openwrt/$name.init "$data/etc/init.d/$name"
    install -D -m 0644 systemd/$name.default "$data/etc/default/$name"
    install -D -m 0640 config.yaml.template "$data/etc/$name/config.yaml"
    install -D -m 0644 LICENSE "$data/usr/share/doc/$name/LICENSE"
    gzip -9nc dist/THIRD-PARTY.txt >"$data/usr/share/doc/$name/THIRD-PARTY.txt.gz"

    cat >"$control/control" <<END
Package: $name
Version: $version-1
Source: $repository
License: MIT
LicenseFiles: LICENSE
Section: net
URL: $repository
Require-User: edge-metrics:edge-metrics
SourceDateEpoch: $SOURCE_DATE_EPOCH
Maintainer: $name maintainers
Architecture: all
Installed-Size: $(find "$data" -type f -printf '%s\n' | awk '{ bytes += $1 } END { print bytes }')
Description: power meters of a board for Prometheus ($arch)
 Reads every power meter that a Linux board has and delivers power and energy
 to Prometheus, by scrape and by remote write. One static binary.
END
    printf '%s\n' "/etc/$name/config.yaml" "/etc/default/$name" >"$control/conffiles"
    cat >"$control/preinst" <<END
#!/bin/sh
# For an image that is built elsewhere, somebody else has chosen.
[ -z "\$IPKG_INSTROOT" ] || exit 0
case \$(uname -m) in
$pattern) ;;
*)
    echo "this $name is for $arch, and this machine is \$(uname -m): take the .ipk of another architecture" >&2
    exit 1
    ;;
esac
END
    case $arch in
    arm*)
        cat >>"$control/preinst" <<END
grep -q '^Features.* vfp' /proc/cpuinfo || {
    echo "this $name needs a floating-point unit (VFP), which this processor has not" >&2
    exit 1
}
END
        ;;
    esac
    # As OpenWrt's own packages have them: the user of Require-User, enable and start; stop and disable.
    for script in postinst prerm; do
        cat >"$control/$script" <<END
#!/bin/sh
[ "\${IPKG_NO_SCRIPT}" = "1" ] && exit 0
[ -s "\${IPKG_INSTROOT}/lib/functions.sh" ] || exit 0
. "\${IPKG_INSTROOT}/lib/functions.sh"
default_$script "\$0" "\$@"
END
    done
    chmod 0755 "$control/preinst" "$control/postinst" "$control/prerm"

    echo 2.0 >"$outer/debian-binary"
    packed "$data" "$outer/data.tar.gz"
    packed "$control" "$outer/control.tar.gz"
    package=dist/${name}_$version-1_$arch.ipk
    packed "$outer" "$package"
    echo "$package: $(stat -c %s "$package") bytes"
done
scripts/checksums.sh dist
