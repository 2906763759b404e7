#!/usr/bin/env bash
# The tests against real brokers: `make integration`. Arguments go to cargo test.
#
# Everything a run starts is gone when it ends, also after Ctrl-C or a killed test. An engine that had to be
# started stays up, since the next run wants it too: CLEARWAY_STOP_ENGINE=1 stops it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

finish() {
  local status=$?
  if [ -s "$CLEARWAY_RUN_DIR/skipped" ]; then
    echo "skipped, because CLEARWAY_TEST_NATS or CLEARWAY_TEST_KAFKA names a server that is not ours to configure or break:"
    sort -u "$CLEARWAY_RUN_DIR/skipped" | sed 's/^/  /'
  fi
  rm -rf "$CLEARWAY_RUN_DIR"
  [ -n "${CLEARWAY_TEST_NATS:-}" ] && [ -n "${CLEARWAY_TEST_KAFKA:-}" ] || integration/engine.sh sweep
  [ -z "${CLEARWAY_STOP_ENGINE:-}" ] || integration/engine.sh down
  exit "$status"
}

# First, and before anything is compiled: whether there is a broker at all.
integration/engine.sh up >/dev/null
CLEARWAY_RUN_DIR=$(mktemp -d)
export CLEARWAY_RUN_DIR
trap finish EXIT
# bench.sh asks for `bench`.
cargo "${CLEARWAY_VERB:-test}" -p clearway-integration --features kafka "$@"
