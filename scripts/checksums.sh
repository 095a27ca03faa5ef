#!/bin/sh
# Writes SHA256SUMS in a directory, of its files: scripts/checksums.sh DIRECTORY
set -eu
cd "$1"
sums=$(find . -maxdepth 1 -type f ! -name 'SHA256SUMS*' -printf '%P\n' | LC_ALL=C sort | xargs -r -d '\n' sha256sum)
echo "$sums" >SHA256SUMS
