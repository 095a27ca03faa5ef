#!/bin/sh
# Takes the exporter off this machine: ./uninstall.sh [--yes] [--purge]
#
# It asks first. The configuration stays, but with --purge that goes as well, and the user it ran as.
set -eu
cd "$(dirname "$0")"

if [ -n "${DESTDIR:-}" ]; then
    echo "This is for the machine it runs on. For a package: make uninstall DESTDIR=$DESTDIR" >&2
    exit 2
fi

name=edge-metrics-exporter
prefix=${PREFIX:-/usr/local}
yes=no
purge=no

for argument in "$@"; do
    case $argument in
    -y | --yes) yes=yes ;;
    --purge) purge=yes ;;
    *)
        sed -n '2s/^# //p' "$0" >&2
        exit 2
        ;;
    esac
done

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

if [ "$yes" = no ]; then
    printf 'Take %s off this machine? [y/N] ' "$name"
    read -r answer || answer=n
    case $answer in
    [yY]*) ;;
    *)
        echo "Nothing was changed."
        exit 1
        ;;
    esac
fi

if [ -d /run/systemd/system ]; then
    init=systemd
    for service in systemd/*.service; do
        as_root systemctl disable --now "${service#systemd/}" 2>/dev/null || true
    done
elif [ -x /sbin/openrc-run ]; then
    init=openrc
    as_root rc-service --ifstarted $name stop || true
    as_root rc-update --all del $name 2>/dev/null || true
else
    init=${INIT:-none}
fi

as_root env PREFIX="$prefix" INIT="$init" scripts/place.sh uninstall
if [ "$init" = systemd ]; then
    as_root systemctl daemon-reload
    as_root systemctl reset-failed $name 2>/dev/null || true
fi

# What somebody put there stays.
as_root rmdir /var/lib/$name 2>/dev/null || true
if [ "$purge" = yes ]; then
    as_root rm -rf /etc/$name /etc/default/$name /etc/conf.d/$name /var/lib/$name
    if command -v userdel >/dev/null; then
        as_root userdel edge-metrics || true
    else
        as_root deluser edge-metrics || true
    fi
    echo "$name is gone, and its configuration."
else
    echo "$name is gone. Its configuration is still in /etc/$name."
fi
