#!/bin/sh
# Installs the exporter on this machine, with its service, and starts it: install.sh [--yes] [--no-start] [--binary FILE | --small] [FILE | URL]
#
# In a checkout or an unpacked tarball of a release it installs what is there, and builds it in a checkout if nothing is. FILE is such
# a tarball; URL is one, or the folder of a release. Without either, and away from both, as in `curl -fsSL …/install.sh | sh`, it fetches
# the tarball of this machine's architecture from the release that it belongs to (--small: the one without TLS). What is fetched
# is compared with the SHA256SUMS beside it; --key KEY has minisign check the signature of these by that public key.
#
# It asks before it changes anything; with --yes it takes what is suggested. A configuration that is there is kept;
# else ./config.yaml is taken, else the template with every default. Run it again to upgrade.
set -eu

# The folder of the release that this file belongs to; scripts/release.sh writes it.
release=
name=edge-metrics-exporter

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

say() { echo "== $*"; }

ask() { # ask QUESTION: yes, unless the answer begins with n
    [ "$yes" = no ] || return 0
    printf '%s [Y/n] ' "$1"
    read -r answer || answer=n
    case $answer in
    [nN]*) return 1 ;;
    esac
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

architecture() {
    case $(uname -m) in
    armv7l | armv8l) echo armv7 ;;
    armv6l) echo arm ;;
    i?86) echo i686 ;;
    *) uname -m ;;
    esac
}

download() { # download URL FILE
    if command -v curl >/dev/null; then
        curl -fsSL -o "$2" "$1"
    elif command -v wget >/dev/null; then
        wget -q -O "$2" "$1"
    else
        fail "neither curl nor wget is here: fetch $1 and SHA256SUMS beside it elsewhere, and run: install.sh FILE"
    fi || fail "cannot fetch $1: is the address right, and reachable from here? install.sh takes another one, or a file: install.sh URL"
}

# Checks SHA256SUMS in the directory by its signature, and the file there by SHA256SUMS.
check() { # check DIRECTORY FILE
    if [ -n "$key" ]; then
        command -v minisign >/dev/null || fail "--key needs minisign, which is not here"
        minisign -q -V -P "$key" -m "$1/SHA256SUMS" || fail "the signature of SHA256SUMS is not by the key $key: nothing was installed"
    fi
    wanted=$(awk -v file="$2" '$2 == file { print $1 }' "$1/SHA256SUMS")
    [ -n "$wanted" ] || fail "SHA256SUMS does not list $2: nothing was installed"
    found=$(sha256sum "$1/$2")
    [ "${found%% *}" = "$wanted" ] ||
        fail "$2 has another checksum (${found%% *}) than SHA256SUMS says ($wanted): it is damaged, or not the released file. Nothing was installed"
    say "$2: the checksum is right"
}

# Fetches a tarball, checks and unpacks it, and has its own install.sh do the rest.
from_tarball() { # from_tarball FILE|URL
    tarball=
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    case $1 in
    http://* | https://*)
        folder=${1%/}
        case $1 in
        *.tar.gz)
            tarball=${1##*/}
            folder=${1%/*}
            ;;
        esac
        download "$folder/SHA256SUMS" "$work/SHA256SUMS"
        [ -z "$key" ] || download "$folder/SHA256SUMS.minisig" "$work/SHA256SUMS.minisig"
        if [ -z "$tarball" ]; then
            tarball=$(awk -v end="-linux-$(architecture)$small.tar.gz" \
                'substr($2, length($2) - length(end) + 1) == end { print $2 }' "$work/SHA256SUMS")
            [ -n "$tarball" ] || fail "$folder has nothing for $(architecture) (SHA256SUMS lists no …-linux-$(architecture)$small.tar.gz)"
            [ "$(echo "$tarball" | wc -l)" -eq 1 ] || fail "$folder has several for $(architecture): name one, install.sh $folder/FILE"
        fi
        say "Fetching $folder/$tarball"
        download "$folder/$tarball" "$work/$tarball"
        check "$work" "$tarball"
        ;;
    *)
        tarball=${1##*/}
        [ -f "$1" ] || fail "there is no file $1; an address begins with https:// or http://"
        cp "$1" "$work/$tarball"
        sums=$(dirname "$1")/SHA256SUMS
        if [ -f "$sums" ]; then
            cp "$sums" "$work/SHA256SUMS"
            [ -z "$key" ] || cp "$sums.minisig" "$work/SHA256SUMS.minisig"
            check "$work" "$tarball"
        elif [ -n "$key" ]; then
            fail "there is no $sums, which the key would check"
        else
            say "$tarball is not checked: there is no $sums"
        fi
        ;;
    esac
    { gzip -t "$work/$tarball" && gzip -dc "$work/$tarball" | (cd "$work" && tar -xf -); } ||
        fail "cannot unpack $tarball: is it a tarball of a release, and whole?"
    inner=$(find "$work" -maxdepth 2 -name install.sh)
    [ -f "$inner" ] || fail "$tarball has no install.sh: is it a tarball of a release?"
    set --
    [ "$yes" = no ] || set -- "$@" --yes
    [ "$start" = yes ] || set -- "$@" --no-start
    [ -z "$binary" ] || set -- "$@" --binary "$binary"
    # This file may be standard input; then the answers come from the terminal.
    if [ "$yes" = yes ]; then
        sh "$inner" "$@" </dev/null
    elif [ "$piped" = no ]; then
        sh "$inner" "$@"
    elif (: </dev/tty) 2>/dev/null; then
        sh "$inner" "$@" </dev/tty
    else
        fail "there is no terminal to ask on. To take what is suggested: curl … | sh -s -- --yes"
    fi
}

find_binary() {
    if [ -n "$small" ]; then
        binary=dist/$name-$(architecture)$small
        [ -x "$binary" ] || fail "there is no $binary, the binary without TLS: make dist TARGETS=$(architecture)"
        return
    fi
    for binary in "./$name" "dist/$name-$(architecture)" "${CARGO_TARGET_DIR:-target}/release/$name"; do
        [ -f "$binary" ] && [ -x "$binary" ] && return
    done
    if ! command -v cargo >/dev/null; then
        fail "there is no binary in dist/ or target/release/, and no cargo to build one with: see docs/install.md"
    fi
    say "Building (cargo build --release)"
    cargo build --release --locked
    binary=${CARGO_TARGET_DIR:-target}/release/$name
}

# All of it is read before any of it runs: a download that was cut off does nothing.
main() {
    umask 022
    from=$PWD
    prefix=${PREFIX:-/usr/local}
    yes=no
    start=yes
    binary=
    small=
    key=
    source=
    while [ $# -gt 0 ]; do
        case $1 in
        -y | --yes) yes=yes ;;
        --no-start) start=no ;;
        --small) small=-small ;;
        --key)
            shift
            key=${1:?--key wants a public key of minisign}
            ;;
        --binary)
            shift
            case ${1:?--binary wants a file} in
            /*) binary=$1 ;;
            *) binary=$from/$1 ;;
            esac
            ;;
        -*)
            echo "install.sh [--yes] [--no-start] [--binary FILE | --small] [--key KEY] [FILE | URL]" >&2
            exit 2
            ;;
        *) source=$1 ;;
        esac
        shift
    done

    if [ -n "${DESTDIR:-}" ]; then
        echo "This installs on the machine it runs on, with a user and a service. For a package: make install DESTDIR=$DESTDIR" >&2
        exit 2
    fi
    # It is written into units and scripts, and found again by them.
    case $prefix in
    *[!A-Za-z0-9/._+-]* | [!/]*) fail "PREFIX=$prefix: an absolute path of letters, digits and / . _ + - is wanted" ;;
    esac
    if [ -x /sbin/procd ]; then
        fail "this is OpenWrt: opkg install the .ipk of the release"
    fi

    # Read from a pipe, its name is the shell's.
    piped=yes
    case $0 in
    install.sh | */install.sh)
        piped=no
        cd "$(dirname "$0")"
        ;;
    esac
    if [ -n "$source" ]; then
        cd "$from"
        from_tarball "$source"
    elif [ "$piped" = no ] && [ -e scripts/place.sh ]; then
        from_here
    elif [ -n "$release" ]; then
        from_tarball "$release"
    else
        fail "there is nothing to install beside it, and it belongs to no release: install.sh FILE, or install.sh URL"
    fi
}

from_here() {
    if [ -d /run/systemd/system ]; then
        init=systemd
    elif [ -x /sbin/openrc-run ]; then
        init=openrc
    else
        init=${INIT:-none}
    fi

    [ -n "$binary" ] || find_binary
    version=$("$binary" --version) || {
        echo "$binary does not run here ($(uname -m)): is it of another architecture? --binary names another file. (If $(pwd) is mounted noexec: TMPDIR=… names another folder.)" >&2
        exit 1
    }
    say "This is $version, for $init. What this board has:"
    "$binary" doctor || true

    with="with a service"
    [ "$init" != none ] || with="without a service, since neither systemd nor OpenRC is here"
    if ! ask "Install to $prefix/bin, $with?"; then
        echo "Nothing was changed."
        exit 1
    fi

    as_root env PREFIX="$prefix" INIT="$init" scripts/place.sh install "$binary"
    # To take it away again without this folder.
    as_root install -m 0755 uninstall.sh "$prefix/share/$name/uninstall.sh"
    PREFIX="$prefix" INIT="$init" scripts/place.sh list | as_root tee "$prefix/share/$name/installed" >/dev/null

    if ! getent passwd edge-metrics >/dev/null 2>&1 && ! grep -q '^edge-metrics:' /etc/passwd; then
        if [ "$init" = systemd ]; then
            as_root systemd-sysusers "$prefix/lib/sysusers.d/$name.conf"
        elif command -v useradd >/dev/null; then
            as_root useradd --system --user-group --no-create-home --shell /sbin/nologin edge-metrics
        else # busybox
            as_root addgroup -S edge-metrics
            as_root adduser -S -D -H -G edge-metrics -s /sbin/nologin edge-metrics
        fi
        if [ "$init" != systemd ]; then
            for group in i2c video; do
                grep -q "^$group:" /etc/group || continue
                as_root addgroup edge-metrics "$group" 2>/dev/null || as_root usermod -a -G "$group" edge-metrics
            done
        fi
    fi

    config=/etc/$name/config.yaml
    as_root install -d -m 0750 -o edge-metrics -g edge-metrics /etc/$name
    if as_root test -e "$config"; then
        say "$config is kept as it is"
    else
        source=config.yaml.template
        if [ -e config.yaml ] && "$binary" check-config --lenient config.yaml && ask "Take ./config.yaml?"; then
            source=config.yaml
        fi
        as_root install -m 0640 -o edge-metrics -g edge-metrics "$source" "$config"
        say "$config: a copy of $source"
    fi

    case $init in
    systemd) environment=/etc/default/$name ;;
    openrc) environment=/etc/conf.d/$name ;;
    *) environment= ;;
    esac
    if [ "$yes" = no ] && [ -n "$environment" ] && ! grep -q '^CONFIG_SERVER_URL=' "$environment"; then
        printf 'Address of the central config server, such as http://localhost:8080 (empty: none): '
        read -r server || server=
        if [ -n "$server" ]; then
            printf 'CONFIG_SERVER_URL="%s"\n' "$server" | as_root tee -a "$environment" >/dev/null
        fi
    fi

    case $init in
    systemd)
        as_root systemd-tmpfiles --create "$prefix/lib/tmpfiles.d/$name.conf" || true
        as_root udevadm control --reload || true
        as_root udevadm trigger --subsystem-match=powercap --subsystem-match=i2c-dev || true
        as_root systemctl daemon-reload
        as_root systemctl enable $name
        if [ "$start" = yes ] && ask "Start it now?"; then
            as_root systemctl restart $name
            say "Started: systemctl status $name; journalctl -u $name -f"
        fi
        ;;
    openrc)
        as_root rc-update add $name default
        if [ "$start" = yes ] && ask "Start it now?"; then
            as_root rc-service $name restart
            say "Started: rc-service $name status"
        fi
        ;;
    *) say "Nothing starts it here: $prefix/bin/$name" ;;
    esac
    say "To take it away again: $prefix/share/$name/uninstall.sh"
}

{ main "$@"; exit; }
