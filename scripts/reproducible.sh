#!/usr/bin/env bash
# Builds the last commit twice, in two directories whose names differ in length, and compares: scripts/reproducible.sh [ARCH].
# What scripts/dist.sh installs in target/dist/venv is used by both.
set -euo pipefail
cd "$(dirname "$0")/.."

arch=${1:-x86_64}
name=edge-metrics-exporter-$arch
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
for place in here another/place; do
    mkdir -p "$directory/$place/target/dist"
    git archive HEAD | tar -x -C "$directory/$place"
    if [ -d target/dist/venv ]; then
        ln -s "$PWD/target/dist/venv" "$directory/$place/target/dist/venv"
    fi
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) "$directory/$place/scripts/dist.sh" "$arch"
    (cd "$directory/$place/dist" && sha256sum "$name")
done
cmp "$directory/here/dist/$name" "$directory/another/place/dist/$name"
echo "$name: the same"
