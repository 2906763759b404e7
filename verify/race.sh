#!/usr/bin/env bash
# ThreadSanitizer over what runs on real threads: `make race`.
#
# Three parts: the bus's own concurrent tests, the models' plain-threads world with real memory under the protocols,
# and a race on purpose that must be reported, since a sanitizer that sees nothing passes everything.
#
# The stable compiler has the sanitizer behind a switch (RUSTC_BOOTSTRAP). The standard library stays as it is
# delivered, without instrumentation: race.supp says what that makes it report wrongly.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$here/.."

host=$(rustc -vV | sed -n 's/^host: //p')
case "$host" in
  x86_64-unknown-linux-gnu | aarch64-unknown-linux-gnu) ;;
  *) echo "race: ThreadSanitizer needs x86_64 or aarch64 Linux with glibc; this is $host" >&2; exit 1 ;;
esac

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/tsan}
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer"
export TSAN_OPTIONS="suppressions=$here/race.supp history_size=4 halt_on_error=0 exitcode=66"
# A sanitized run is some ten times slower; the other runs try the full number of cases.
export PROPTEST_CASES=${PROPTEST_CASES:-16}
# Always a target: else build scripts and macros would be sanitized too.
# The race on purpose.
CONTROL=control_race
sanitized=(cargo test --target "$host" --no-fail-fast)

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
reports() { cat "$@" | grep -c 'WARNING: ThreadSanitizer' || true; }
tests() { cat "$@" | sed -n 's/^test result: .* \([0-9]*\) passed; .*/\1/p' | awk '{ n += $1 } END { print n + 0 }'; }

status=0
echo "race: the tests of the bus"
"${sanitized[@]}" -p clearway --test '*' 2>&1 | tee "$logs/bus" || status=1
# Lanes, intake and workers, from outside. What panics there on purpose is printed at once: the harness would keep it
# under a lock of the standard library.
"${sanitized[@]}" -p clearway-verify --test conformance -- --nocapture 2>&1 | tee -a "$logs/bus" || status=1
echo "race: the models' plain-threads world"
"${sanitized[@]}" -p clearway-models --lib --test race -- under_threads control_without the_cell 2>&1 | tee "$logs/models" || status=1

echo "race: the control"
control=missed
# A sanitizer sees what happens, not what might: a few tries.
for _ in 1 2 3 4 5; do
  "${sanitized[@]}" -p clearway-models --test race -- --ignored --exact "$CONTROL" >"$logs/control" 2>&1 || true
  if grep -q '^running 1 test' "$logs/control" && [ "$(reports "$logs/control")" -gt 0 ]; then
    control=reported
    break
  fi
done
if [ $control = missed ]; then
  tail -n 30 "$logs/control" >&2
  status=1
fi

seen=$(reports "$logs/bus" "$logs/models")
if [ "$seen" -gt 0 ]; then
  status=1
  # Once more at the end, where the end of a long log is all that is kept: each report without its deep frames.
  echo "race: the reports, their first frames:" >&2
  sed -n '/WARNING: ThreadSanitizer/,/^SUMMARY: ThreadSanitizer/p' "$logs/bus" "$logs/models" |
    grep -E 'ThreadSanitizer|^  [A-Z]|^    #([0-9]|1[0-9]) ' | cut -c1-200 | sed -n '1,400p' >&2
fi
[ "$(tests "$logs/bus")" -gt 0 ] && [ "$(tests "$logs/models")" -gt 0 ] || { echo "race: a part ran no test" >&2; status=1; }
echo "race: $(tests "$logs/bus") tests of the bus and $(tests "$logs/models") of the models on real threads: $seen reports;" \
  "the control race: $control; arc-swap's inside: stressed, not proved"
exit $status
