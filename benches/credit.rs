//! What one publish pays for its place in flight, beside a budget under a lock.
//!
//! Read the ratio within a run, not the nanoseconds: machines are noisy.

use crate::common::{each, ratios, with_rivals};
use clearway::protocol::credit::{Budget, Credit};
use criterion::{BenchmarkId, Criterion};
use std::hint::black_box;
use std::sync::Mutex;

const BYTES: u64 = 320;
const LIMIT: Budget = Budget {
    envelopes: 4096,
    bytes: 64 << 20,
};

/// The group of this protocol.
pub(crate) fn bench(criterion: &mut Criterion) {
    let credit = Credit::new(LIMIT);
    let striped = || {
        if black_box(credit.try_take(BYTES)).is_ok() {
            credit.give(BYTES);
        }
    };
    let budget = Mutex::new(LIMIT);
    let locked = || {
        let taken = budget.lock().is_ok_and(|mut free| {
            let enough = free.envelopes >= 1 && free.bytes >= BYTES;
            if enough {
                free.envelopes -= 1;
                free.bytes -= BYTES;
            }
            enough
        });
        if black_box(taken)
            && let Ok(mut free) = budget.lock()
        {
            free.envelopes += 1;
            free.bytes += BYTES;
        }
    };

    let mut group = criterion.benchmark_group("credit/take_and_give");
    for rivals in [0, 1] {
        group.bench_function(BenchmarkId::new("credit", rivals), |b| {
            with_rivals(rivals, striped, || b.iter(striped));
        });
        group.bench_function(BenchmarkId::new("mutex", rivals), |b| {
            with_rivals(rivals, locked, || b.iter(locked));
        });
    }
    group.finish();
    ratios("credit", &each(striped), &[("mutex", &each(locked))]);
}
