#!/bin/sh
# HashiCorp Vault's server and its PostgreSQL plugin, built from the Go module at one pinned version into
# .cache/vault/, and kept there. Prints the folder of the two. Nothing but a Go module proxy is asked.
#
# Go checks each module against its checksum database; that this one, and the three of its own that it is built with in
# its repository, are the pinned ones is checked here: they are not in its go.sum, which its checksum covers and which
# pins everything else. Its build tag `minimal` leaves out the engines of other clouds; PostgreSQL's is a program then.
set -eu

version=v1.21.1
checksum='h1:4bYxh55jSitPOs5+iPshEdDhBLeXCm6BjGDIV1vYzys='
own='github.com/hashicorp/vault/api v1.22.0 h1:+HYFquE35/B74fHoIeXlZIP2YADVboaPjaSicHEZiH0=
github.com/hashicorp/vault/api v1.22.0/go.mod h1:IUZA2cDvr4Ok3+NtK2Oq/r+lJeXkeCrHRmqdyWfpmGM=
github.com/hashicorp/vault/api/auth/kubernetes v0.10.0 h1:5rqWmUFxnu3S7XYq9dafURwBgabYDFzo2Wv+AMopPHs=
github.com/hashicorp/vault/api/auth/kubernetes v0.10.0/go.mod h1:cZZmhF6xboMDmDbMY52oj2DKW6gS0cQ9g0pJ5XIXQ5U=
github.com/hashicorp/vault/sdk v0.20.0 h1:a4ulj2gICzw/qH0A4+6o36qAHxkUdcmgpMaSSjqE3dc=
github.com/hashicorp/vault/sdk v0.20.0/go.mod h1:xEjAt/n/2lHBAkYiRPRmvf1d5B6HlisPh2pELlRCosk='

folder="$(cd "$(dirname "$0")/../.." && pwd)/.cache/vault/$version"
if [ -x "$folder/vault" ] && [ -x "$folder/postgresql-database-plugin" ]; then
  echo "$folder"
  exit
fi

command -v go >/dev/null || { echo "Vault is built with go; install it and run this again." >&2; exit 69; }

export GOTOOLCHAIN=local CGO_ENABLED=0  # with the Go that is here, or a sentence that says which one is needed
answer="$(cd / && go mod download -json "github.com/hashicorp/vault@$version")"
field() { printf '%s\n' "$answer" | sed -n "s/^[[:space:]]*\"$1\": \"\(.*\)\",*\$/\1/p"; }
if [ "$(field Sum)" != "$checksum" ]; then
  echo "Vault $version is not the one that was pinned: its checksum is another." >&2
  exit 65
fi

echo "Building Vault $version into .cache/ ..." >&2
mkdir -p "$folder"
partial="$(mktemp -d "$folder/build.XXXXXX")"
trap 'rm -rf "$partial"' EXIT
trap 'exit 130' INT TERM
cd "$(field Dir)"
sed '/^replace github.com\/hashicorp\/vault\//d' go.mod > "$partial/own.mod"  # they lead into its repository
{ cat go.sum; printf '%s\n' "$own"; } > "$partial/own.sum"
nice go build -mod=readonly -modfile="$partial/own.mod" -tags minimal -trimpath -ldflags='-s -w' -o "$partial/" \
  . ./plugins/database/postgresql/postgresql-database-plugin
mv "$partial/vault" "$partial/postgresql-database-plugin" "$folder/"  # each whole or not at all
echo "$folder"
