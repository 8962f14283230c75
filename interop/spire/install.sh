#!/bin/sh
# SPIRE's server and agent, built from the Go module at one pinned version into .cache/spire/, and kept there.
# Go checks the module against its checksum database; that it is this one is checked here. Its own go.sum, which the
# checksum covers, pins everything below it. Nothing but a Go module proxy is asked. Prints the folder of the two.
set -eu

version=v1.13.3
checksum='h1:wDTK8tj8ShO5izjue/OFanVaehmjUxSxHtSWxBY+FJQ='

folder="$(cd "$(dirname "$0")/../.." && pwd)/.cache/spire/$version"
if [ -x "$folder/spire-server" ] && [ -x "$folder/spire-agent" ]; then
  echo "$folder"
  exit
fi

for tool in go cc; do  # the server keeps its entries in SQLite, which is C
  command -v "$tool" >/dev/null || { echo "SPIRE is built with $tool; install it and run this again." >&2; exit 69; }
done

export GOTOOLCHAIN=local CGO_ENABLED=1  # with the Go that is here, or a sentence that says which one is needed
answer="$(cd / && go mod download -json "github.com/spiffe/spire@$version")"
field() { printf '%s\n' "$answer" | sed -n "s/^[[:space:]]*\"$1\": \"\(.*\)\",*\$/\1/p"; }
if [ "$(field Sum)" != "$checksum" ]; then
  echo "SPIRE $version is not the one that was pinned: its checksum is another." >&2
  exit 65
fi

echo "Building SPIRE $version into .cache/ ..." >&2
mkdir -p "$folder"
partial="$(mktemp -d "$folder/build.XXXXXX")"
trap 'rm -rf "$partial"' EXIT
trap 'exit 130' INT TERM
cd "$(field Dir)"
go build -mod=readonly -trimpath -ldflags='-s -w' -o "$partial/" ./cmd/spire-server ./cmd/spire-agent
mv "$partial/spire-server" "$partial/spire-agent" "$folder/"  # each whole or not at all
echo "$folder"
