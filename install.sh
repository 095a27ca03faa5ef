#!/bin/sh
# Installs the exporter on this machine, with its service, and starts it: ./install.sh [--yes] [--binary FILE] [--no-start]
#
# It asks before it changes anything; with --yes it takes what is suggested. A configuration that is there is kept;
# else ./config.yaml is taken, else the template with every default. Run it again to upgrade.
set -eu
from=$PWD
cd "$(dirname "$0")"

name=edge-metrics-exporter
prefix=${PREFIX:-/usr/local}
yes=no
start=yes
binary=

while [ $# -gt 0 ]; do
    case $1 in
    -y | --yes) yes=yes ;;
    --no-start) start=no ;;
    --binary)
        shift
        case ${1:?--binary wants a file} in
        /*) binary=$1 ;;
        *) binary=$from/$1 ;;
        esac
        ;;
    *)
        sed -n '2s/^# //p' "$0" >&2
        exit 2
        ;;
    esac
    shift
done

if [ -n "${DESTDIR:-}" ]; then
    echo "This installs on the machine it runs on, with a user and a service. For a package: make install DESTDIR=$DESTDIR" >&2
    exit 2
fi

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

find_binary() {
    case $(uname -m) in
    armv7l | armv8l) arch=armv7 ;;
    armv6l) arch=arm ;;
    *) arch=$(uname -m) ;;
    esac
    for binary in "dist/$name-$arch" "${CARGO_TARGET_DIR:-target}/release/$name"; do
        [ -x "$binary" ] && return
    done
    if ! command -v cargo >/dev/null; then
        echo "There is no binary in dist/ or target/release/, and no cargo to build one with: see docs/install.md." >&2
        exit 1
    fi
    say "Building (cargo build --release)"
    cargo build --release --locked
    binary=${CARGO_TARGET_DIR:-target}/release/$name
}

if [ -d /run/systemd/system ]; then
    init=systemd
elif [ -x /sbin/openrc-run ]; then
    init=openrc
else
    init=${INIT:-none}
fi

[ -n "$binary" ] || find_binary
version=$("$binary" --version) || {
    echo "$binary does not run here ($(uname -m)): is it of another architecture? --binary names another file." >&2
    exit 1
}
say "This is $version, for $init. What this board has:"
"$binary" doctor || true

if ! ask "Install to $prefix/bin, with a service?"; then
    echo "Nothing was changed."
    exit 1
fi

as_root env PREFIX="$prefix" INIT="$init" scripts/place.sh install "$binary"

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
