//! What counting one thing costs, beside a shared atomic and beside a number under a lock.
//!
//! Read the ratio within a run, not the nanoseconds: machines are noisy.

use crate::common::{each, ratios, with_rivals};
use clearway::protocol::tally::Tally;
use criterion::{BenchmarkId, Criterion};
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// The group of this protocol.
pub(crate) fn bench(criterion: &mut Criterion) {
    let tally = Tally::<8>::new();
    let striped = || tally.add(black_box(3), 1);
    let number = AtomicU64::new(0);
    // Relaxed: a number.
    let shared = || _ = black_box(number.fetch_add(1, Ordering::Relaxed));
    let number = Mutex::new(0u64);
    let locked = || _ = black_box(number.lock().map(|mut number| *number += 1).is_ok());

    let mut group = criterion.benchmark_group("tally/count");
    for rivals in [0, 1] {
        group.bench_function(BenchmarkId::new("tally", rivals), |b| {
            with_rivals(rivals, striped, || b.iter(striped));
        });
        group.bench_function(BenchmarkId::new("shared atomic", rivals), |b| {
            with_rivals(rivals, shared, || b.iter(shared));
        });
        group.bench_function(BenchmarkId::new("mutex", rivals), |b| {
            with_rivals(rivals, locked, || b.iter(locked));
        });
    }
    group.finish();
    ratios(
        "tally",
        &each(striped),
        &[("shared atomic", &each(shared)), ("mutex", &each(locked))],
    );
}
