#!/bin/sh
# The Python to measure with: the fastest that is here and new enough. The same version differs by half from build to
# build, and what distributions ship is the fastest as a rule; measuring the slowest says nothing about the rest.
set -eu

# The time of a loop and of some JSON, in microseconds; fails where this one cannot be used.
speed() {
  "$1" -c '
import json, sys, time
import ensurepip, venv
if sys.version_info < (3, 11):
    sys.exit(1)
def once():
    start = time.perf_counter()
    value = {str(number): [number * number] for number in range(2000)}
    json.loads(json.dumps(value, sort_keys=True))
    return time.perf_counter() - start
print(round(min(once() for _ in range(400)) * 1e6))' 2>/dev/null
}

best="" least=""
for name in "${PYTHON:-python3}" python3.14 python3.13 python3.12 python3.11 /usr/local/bin/python3 /usr/bin/python3; do
  took="$(speed "$name")" || continue
  if [ -z "$least" ] || [ "$took" -lt "$least" ]; then
    least="$took" best="$(command -v "$name")"
  fi
done
[ -n "$best" ] || { echo "There is no Python 3.11 or newer with venv; name one with BENCH_PYTHON=..." >&2; exit 69; }
echo "$best"
