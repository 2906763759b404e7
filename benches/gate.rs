//! What one publish pays to be admitted and to leave, beside a closed flag under a lock.
//!
//! Read the ratio within a run, not the nanoseconds: machines are noisy.

use crate::common::{each, ratios, with_rivals};
use clearway::protocol::gate::Gate;
use criterion::{BenchmarkId, Criterion};
use std::hint::black_box;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The group of this protocol.
pub(crate) fn bench(criterion: &mut Criterion) {
    let gate = Gate::new();
    let pass = || {
        if let Some(pass) = gate.enter() {
            gate.leave(black_box(pass));
        }
    };
    // Held for as long as the publish is inside, as the pass is.
    let closed = RwLock::new(false);
    let read = || {
        let inside = closed.read();
        black_box(inside.is_ok_and(|closed| !*closed));
    };
    // Cheaper, and no answer to "have all left?".
    let flag = AtomicBool::new(false);
    let look = || _ = black_box(flag.load(Ordering::Acquire));

    let mut group = criterion.benchmark_group("gate/enter");
    for rivals in [0, 1] {
        group.bench_function(BenchmarkId::new("gate", rivals), |b| {
            with_rivals(rivals, pass, || b.iter(pass));
        });
        group.bench_function(BenchmarkId::new("rwlock", rivals), |b| {
            with_rivals(rivals, read, || b.iter(read));
        });
        group.bench_function(BenchmarkId::new("flag", rivals), |b| {
            with_rivals(rivals, look, || b.iter(look));
        });
    }
    group.finish();
    ratios(
        "gate",
        &each(pass),
        &[("rwlock", &each(read)), ("flag", &each(look))],
    );
}
