#!/bin/sh
# The npm servers and the inspector's command line, at the versions of package-lock.json, into node_modules beside it.
set -eu
cd "$(dirname "$0")"
exec npm ci --loglevel=error
