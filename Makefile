# Everything that can be done here, one line each: `make help`.
#
# Builds with flags of their own have target directories of their own, so that none throws away
# what another has compiled.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

TARGET := $(or $(CARGO_TARGET_DIR),target)
CARGO := cargo
# The root package's features that need no broker to compile. `kafka` compiles librdkafka.
FEATURES := --features nats,kafka,throttle,tower

SEEDS ?= 2000

.PHONY: help verify test check models sim bugs bugs-brokers mutate race integration runs tls bench bench-brokers \
	tools fmt clippy doc rust-version deny

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{ printf "  make %-12s %s\n", $$1, $$2 }'

verify: tools ## Prove what can be proved without a broker: the report, on the terminal and in target/verify
	$(CARGO) run --quiet --release -p clearway-verify --bin verify -- run

test: tools ## Every test, those against real brokers included
	$(CARGO) test $(FEATURES)
	$(MAKE) --no-print-directory integration

check: tools fmt clippy doc rust-version deny ## Format, clippy, documentation, rust-version and, where cargo-deny is, licences and advisories

models: tools ## Every protocol under loom, at full depth, and under shuttle
	CARGO_TARGET_DIR=$(TARGET)/loom RUSTFLAGS="--cfg loom" $(CARGO) test -p clearway-models --release

sim: tools ## The whole bus over a simulated broker, in virtual time: SEEDS=2000, BROKER=jetstream, or SEED=17 for one run again
	$(if $(SEED),SEED=$(SEED)) SEEDS=$(SEEDS) $(CARGO) run --quiet --release -p clearway-verify --bin verify -- sim

bugs: tools ## The seeded bugs: which checker catches which
	$(CARGO) run --quiet --release -p clearway-verify --bin verify -- bugs

bugs-brokers: tools ## The seeded bugs of Kafka's stages, each in a build of its own; needs containers like `make integration`
	$(CARGO) run --quiet --release -p clearway-verify --bin verify -- bugs kafka --brokers

mutate: tools ## What operators make of the protocols, everywhere they can: a mutant that nobody notices fails
	$(CARGO) run --quiet --release -p clearway-verify --bin verify -- mutate

race: tools ## ThreadSanitizer over the concurrent tests: no report, and a race of its own that it must report
	CARGO_TARGET_DIR=$(TARGET)/tsan verify/race.sh

integration: tools ## The tests against real brokers, in containers
	@integration/run.sh

runs: tools ## The runs that take their time: groups on Kafka whose processes are killed and frozen, or come and go
	@integration/run.sh --test kafka_runs -- --ignored --skip process_of_a_group --test-threads 1

tls: tools ## Kafka over TLS with a login: librdkafka is built with OpenSSL, whose headers have to be here
	@pkg-config --exists openssl || { echo "missing: OpenSSL's headers or pkg-config (Debian: apt-get install libssl-dev pkg-config)" >&2; exit 1; }
	@integration/run.sh --features kafka-tls --test kafka_tls

bench: tools ## Beside what they replace, as ratios with their targets
	@status=0; $(CARGO) bench --no-fail-fast $(FEATURES) || status=$$?; integration/bench.sh nats || status=$$?; exit $$status

bench-brokers: tools ## The bus on real Kafka and NATS beside their clients alone, and the workloads, as one table
	@integration/bench.sh brokers

# ---- the parts of `check`

fmt:
	$(CARGO) fmt --all --check

clippy:
	$(CARGO) clippy --workspace --all-targets $(FEATURES) -- -D warnings
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy -p clearway --no-default-features --features nats -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps $(FEATURES)

# Every package says the same rust-version, and the toolchain here is not older.
rust-version:
	@$(CARGO) metadata --no-deps --format-version 1 | \
		grep -o '"rust_version":[^,}]*' | sort | uniq -c | awk '{ print "rust-version:", $$2, "in", $$1, "packages"; n++ } END { exit n != 1 }' || \
		{ echo "check: the packages do not agree on one rust-version; they inherit it from [workspace.package]" >&2; exit 1; }

deny:
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny check; \
	else echo "deny: skipped, cargo-deny is not installed (cargo install cargo-deny)"; fi

# ---- what has to be here

tools:
	@command -v $(CARGO) >/dev/null || { echo "missing: cargo; install Rust 1.89 or newer (https://rustup.rs)" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "missing: a C compiler named cc; install gcc or clang (Debian: apt-get install build-essential)" >&2; exit 1; }
	@command -v c++ >/dev/null || { echo "missing: a C++ compiler named c++, for librdkafka; install g++ or clang (Debian: apt-get install build-essential)" >&2; exit 1; }
