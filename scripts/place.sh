#!/bin/sh
# Puts the exporter and what belongs to it in their places, or takes it away again: scripts/place.sh install BINARY, or
# scripts/place.sh uninstall. What the user wrote or may have changed is neither written over nor taken away.
# scripts/place.sh list prints the files that `uninstall` takes away.
#
#   DESTDIR     a directory to stand for /, for packages
#   PREFIX      /usr/local
#   SYSCONFDIR  /etc
#   INIT        whose services: systemd, openrc, sysvinit or none; without it, the one that runs here
#   ZSHDIR      where zsh looks for completions: share/zsh/site-functions of PREFIX
set -eu
cd "$(dirname "$0")/.."

verb=${1:-}
binary=${2:-}
root=${DESTDIR:-}
prefix=${PREFIX:-/usr/local}
etc=${SYSCONFDIR:-/etc}
name=edge-metrics-exporter

# It is written into units and scripts.
case $prefix in
*[!A-Za-z0-9/._+-]* | [!/]*)
    echo "$0: PREFIX=$prefix: an absolute path of letters, digits and / . _ + - is wanted" >&2
    exit 2
    ;;
esac
if [ -z "${INIT:-}" ]; then
    if [ -d /run/systemd/system ]; then
        INIT=systemd
    elif [ -x /sbin/openrc-run ]; then
        INIT=openrc
    elif [ -x /etc/init.d/rcS ]; then
        INIT=sysvinit
    else
        INIT=none
        [ "$verb" != install ] ||
            echo "$0: no service is installed: neither systemd nor OpenRC nor System V init is here (INIT=systemd, for instance, installs one)" >&2
    fi
fi

place() { # place MODE FILE PLACE
    if [ "$verb" = install ]; then
        install -D -m "$1" "$2" "$root$3"
    elif [ "$verb" = list ]; then
        echo "$3"
    else
        rm -f "$root$3"
    fi
}

place_text() { # as place, for a file that says where the binary is
    place "$@"
    if [ "$verb" = install ] && [ "$prefix" != /usr ]; then
        sed -i "s|/usr/bin/$name|$prefix/bin/$name|g" "$root$3"
    fi
}

place_settings() { # as place, for a file that the user may have changed
    if [ "$verb" = install ] && ! [ -e "$root$3" ]; then
        install -D -m "$1" "$2" "$root$3"
    fi
}

case $INIT in
systemd | openrc | sysvinit | none) ;;
*)
    echo "$0: unknown INIT '$INIT': systemd, openrc, sysvinit or none" >&2
    exit 2
    ;;
esac
case $verb in
install) [ -f "$binary" ] || {
    echo "$0: there is no binary '$binary': make build, or make dist" >&2
    exit 1
} ;;
uninstall | list) ;;
*)
    sed -n '2,4s/^# //p' "$0" >&2
    exit 2
    ;;
esac

place 0755 "$binary" "$prefix/bin/$name"
place 0644 config.yaml.template "$prefix/share/$name/config.yaml.template"
place 0644 man/$name.1 "$prefix/share/man/man1/$name.1"
place 0644 completions/$name.bash "$prefix/share/bash-completion/completions/$name"
place 0644 completions/_$name "$prefix/${ZSHDIR:-share/zsh/site-functions}/_$name"
place 0644 completions/$name.fish "$prefix/share/fish/vendor_completions.d/$name.fish"
place 0644 LICENSE "$prefix/share/doc/$name/LICENSE"
# The licences of what is linked in (scripts/third-party.py), where they lie beside the binary.
notices=$(dirname "${binary:-.}")/THIRD-PARTY.txt
if [ "$verb" != install ] || [ -e "$notices" ]; then
    place 0644 "$notices" "$prefix/share/doc/$name/THIRD-PARTY.txt"
fi

case $INIT in
systemd)
    for service in systemd/*.service; do
        place_text 0644 "$service" "$prefix/lib/systemd/system/${service#systemd/}"
    done
    place 0644 systemd/$name.sysusers "$prefix/lib/sysusers.d/$name.conf"
    place 0644 systemd/$name.tmpfiles "$prefix/lib/tmpfiles.d/$name.conf"
    place 0644 systemd/60-$name.rules "$prefix/lib/udev/rules.d/60-$name.rules"
    for example in systemd/examples/*.conf; do
        place 0644 "$example" "$prefix/share/doc/$name/examples/${example##*/}"
    done
    place_settings 0644 systemd/$name.default "$etc/default/$name"
    ;;
openrc)
    place_text 0755 openrc/$name.initd "$etc/init.d/$name"
    place_settings 0644 openrc/$name.confd "$etc/conf.d/$name"
    ;;
sysvinit)
    place_text 0755 sysvinit/$name "$etc/init.d/$name"
    place_settings 0644 systemd/$name.default "$etc/default/$name"
    ;;
esac

# What install.sh puts there.
if [ "$verb" != install ]; then
    place 0755 uninstall.sh "$prefix/share/$name/uninstall.sh"
    place 0644 installed "$prefix/share/$name/installed"
fi

if [ "$verb" = uninstall ]; then
    for directory in "$prefix/share/doc/$name/examples" "$prefix/share/doc/$name" "$prefix/share/$name"; do
        rmdir "$root$directory" 2>/dev/null || true
    done
fi
