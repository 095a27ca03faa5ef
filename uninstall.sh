#!/bin/sh
# Takes the exporter off this machine: uninstall.sh [--yes] [--purge]
#
# In a checkout, an unpacked tarball, or where install.sh put it: /usr/local/share/edge-metrics-exporter/uninstall.sh.
# It asks first. The configuration stays, but with --purge that goes as well, and the user it ran as.
set -eu

name=edge-metrics-exporter

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

# All of it is read before any of it runs: this file is one of those that are taken away.
main() {
    cd "$(dirname "$0")"
    if [ -n "${DESTDIR:-}" ]; then
        echo "This is for the machine it runs on. For a package: make uninstall DESTDIR=$DESTDIR" >&2
        exit 2
    fi
    yes=no
    purge=no
    for argument in "$@"; do
        case $argument in
        -y | --yes) yes=yes ;;
        --purge) purge=yes ;;
        *)
            echo "uninstall.sh [--yes] [--purge]" >&2
            exit 2
            ;;
        esac
    done

    if [ -f installed ]; then
        prefix=$(cd ../.. && pwd)
    else
        prefix=${PREFIX:-/usr/local}
    fi
    if [ -d /run/systemd/system ]; then
        init=systemd
    elif [ -x /sbin/openrc-run ]; then
        init=openrc
    else
        init=${INIT:-none}
    fi
    # What was installed; a newer checkout may know of other files.
    if [ -f "$prefix/share/$name/installed" ]; then
        files=$(cat "$prefix/share/$name/installed")
    elif [ -x scripts/place.sh ]; then
        files=$(PREFIX="$prefix" INIT="$init" scripts/place.sh list)
    else
        echo "uninstall.sh: there is no list of what was installed in $prefix/share/$name: PREFIX=… names another prefix" >&2
        exit 1
    fi

    if [ "$yes" = no ]; then
        printf 'Take %s in %s off this machine? [y/N] ' "$name" "$prefix"
        read -r answer || answer=n
        case $answer in
        [yY]*) ;;
        *)
            echo "Nothing was changed."
            exit 1
            ;;
        esac
    fi

    cd /
    if [ "$init" = systemd ]; then
        for unit in $(echo "$files" | sed -n 's|.*/systemd/system/\(.*\.service\)$|\1|p'); do
            as_root systemctl disable --now "$unit" 2>/dev/null || true
        done
    elif [ "$init" = openrc ]; then
        as_root rc-service --ifstarted $name stop || true
        as_root rc-update --all del $name 2>/dev/null || true
    fi

    echo "$files" | while read -r file; do
        as_root rm -f "$file" </dev/null
    done
    for directory in "$prefix/share/doc/$name/examples" "$prefix/share/doc/$name" "$prefix/share/$name"; do
        as_root rmdir "$directory" 2>/dev/null || true
    done
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
}

{ main "$@"; exit; }
