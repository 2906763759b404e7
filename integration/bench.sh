#!/usr/bin/env bash
# The benches against real brokers: the last part of `make bench`. Arguments go to cargo bench.
#
# Where there is no broker and none can be made, one line says that the rows are absent, and why; the rows
# that need no broker have been printed by then, and they stand.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! said=$(integration/engine.sh up nats 2>&1 >/dev/null); then
  printf '%3s | %-54s | absent: %s\n' 11 "JetStream, bus over client" "${said##*$'\n'}"
  exit 0
fi
[ -z "$said" ] || echo "$said" >&2
CLEARWAY_VERB=bench exec integration/run.sh "$@"
