#!/bin/sh
# The OpenID provider, at the version of package-lock.json, into node_modules beside it.
set -eu
cd "$(dirname "$0")"
exec npm ci --loglevel=error
