#!/usr/bin/env bash
# The benches against real brokers, as one table.
#
#   bench.sh nats       rows 11 and 21 on NATS: the last part of `make bench`
#   bench.sh brokers    all of them, on NATS and Kafka, and the workloads: `make bench-brokers`
#
# Where there is no broker and none can be made, one line says that the rows are absent, and why; the rows
# that need no broker have been printed by then, and they stand. Fails when a floor was missed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case "${1:-}" in
nats) brokers=(nats) benches=(jetstream) ;;
brokers) brokers=(nats kafka) benches=(jetstream kafka workloads) ;;
*) echo "bench.sh: nats or brokers" >&2; exit 2 ;;
esac

if ! said=$(integration/engine.sh up "${brokers[@]}" 2>&1 >/dev/null); then
  printf '%3s | %-54s | absent: %s\n' 11 "bus over client, ${brokers[*]}" "${said##*$'\n'}"
  exit 0
fi
[ -z "$said" ] || echo "$said" >&2

# One head and one last line, however many benches there are.
one_table() {
  awk '
    $1 == "#" && head++ { next }
    $1 == "bench:" { met += $2; missed += $5; below += $10; disturbed += $14; next }
    { print; fflush() }
    END { printf "bench: %d targets met, %d missed above the floor, %d below the floor, %d disturbed\n", met, missed, below, disturbed }'
}

CLEARWAY_VERB=bench integration/run.sh --no-fail-fast "${benches[@]/#/--bench=}" | one_table
