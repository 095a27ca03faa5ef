# shellcheck shell=bash disable=SC2154
# Sourced by the scripts that package the static binaries in dist/, in the root of the repository, with their `name`.

need_licences() {
    [ -s dist/THIRD-PARTY.txt ] || {
        echo "dist/THIRD-PARTY.txt is not there, the licences of what is linked in: cargo fetch && make licences (python3, and cargo with the crates)" >&2
        exit 1
    }
}

need_binaries() { # need_binaries ARCH...
    local arch
    for arch in "$@"; do
        [ -e "dist/$name-$arch" ] || {
            echo "dist/$name-$arch is not there: make dist TARGETS=$arch" >&2
            exit 1
        }
    done
}
