#!/usr/bin/env bash
# Makes the container image of the binaries in dist/, for three platforms: make dockerimage. Needs docker with buildx.
# (`make release` makes the same image without docker: scripts/oci.py.)
#   IMAGE      edge-metrics-exporter; with a registry in front of it to push it there
#   PLATFORMS  linux/amd64,linux/arm/v7,linux/arm64; with LOAD=yes, this machine's
#   PUSH=yes   pushes it; LOAD=yes gives it to this machine's docker; without either: dist/image.oci.tar
set -euo pipefail
cd "$(dirname "$0")/../.."

image=${IMAGE:-edge-metrics-exporter}
every=linux/amd64,linux/arm/v7,linux/arm64
# Most dockers take no image of several platforms.
if [ "${LOAD:-no}" = yes ]; then
    case $(uname -m) in
    x86_64) every=linux/amd64 ;;
    aarch64) every=linux/arm64 ;;
    arm*) every=linux/arm/v7 ;;
    esac
fi
platforms=${PLATFORMS:-$every}
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
context=target/image
authorities=/usr/share/ca-certificates/mozilla
[ -d "$authorities" ] || {
    echo "$authorities is not there, the CAs of the image: install Debian's ca-certificates" >&2
    exit 1
}
export LC_ALL=C # the order of names

rm -rf "$context"
for place in amd64:x86_64 arm:armv7 arm64:aarch64; do
    [[ ,$platforms, == *,linux/"${place%:*}"[,/]* ]] || continue
    binary=dist/edge-metrics-exporter-${place#*:}
    if [ -e "$binary" ]; then
        install -D -m 0755 "$binary" "$context/${place%:*}/edge-metrics-exporter"
        install -D -m 0644 LICENSE "$context/${place%:*}/LICENSE"
        # The CAs that Mozilla trusts, and none that this machine trusts besides.
        mkdir -p "$context/${place%:*}/etc/ssl/certs"
        cat "$authorities"/*.crt >"$context/${place%:*}/etc/ssl/certs/ca-certificates.crt"
        install -m 0644 dist/THIRD-PARTY.txt "$context/${place%:*}/THIRD-PARTY.txt"
    else
        echo "$binary is not there: make dist TARGETS=${place#*:}" >&2
        exit 1
    fi
done
if [ "${1:-}" = --context ]; then # for tests, and for those who build by other means
    echo "$context"
    exit
fi

if [ "${PUSH:-no}" = yes ]; then
    output=(--push)
elif [ "${LOAD:-no}" = yes ]; then
    output=(--load)
else
    output=(--output "type=oci,dest=dist/image.oci.tar")
fi
docker buildx build --file deploy/docker/Dockerfile --platform "$platforms" \
    --tag "$image:$version" --tag "$image:latest" "${output[@]}" "$context"
