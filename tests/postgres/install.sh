#!/bin/sh
# Debian's PostgreSQL server, where it is missing. The tests and the demo start clusters of their own; nothing that the
# package sets up is used.
set -eu
for found in "${FORESTALL_POSTGRES_BIN:-/nonexistent}"/initdb /usr/lib/postgresql/*/bin/initdb /usr/pgsql-*/bin/initdb; do
  [ -x "$found" ] && exit 0
done
command -v initdb >/dev/null 2>&1 && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "PostgreSQL 15 or newer is missing. Install it (on Debian: sudo apt-get install postgresql), or name the folder of its programs in FORESTALL_POSTGRES_BIN." >&2
  exit 69
fi
# Debian's package would start a cluster of its own, as a service.
mkdir -p /etc/postgresql-common
grep -qs '^create_main_cluster' /etc/postgresql-common/createcluster.conf ||
  echo "create_main_cluster = false" >>/etc/postgresql-common/createcluster.conf
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends postgresql >/dev/null
