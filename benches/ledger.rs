//! What a publish pays for its one outcome, from slot to receipt, beside a table under a lock.
//!
//! Read the ratio within a run, not the nanoseconds: machines are noisy.

use crate::common::{each, ratios, with_rivals};
use clearway::protocol::ledger::{Audience, Entry, Ledger, Outcome};
use criterion::{BenchmarkId, Criterion};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Waker};

const AUDIENCE: Audience = Audience {
    receipt: true,
    results: false,
};
const ACKED: Outcome<()> = Outcome::Acked {
    partition: 1,
    position: 2,
    duplicate: false,
};

/// The group of this protocol.
pub(crate) fn bench(criterion: &mut Criterion) {
    let ledger = Ledger::<()>::new(8192);
    let slots = || {
        if let Some(slot) = ledger.open(Entry::default(), AUDIENCE) {
            black_box(ledger.settle(slot, ACKED));
            let mut nobody = Context::from_waker(Waker::noop());
            black_box(ledger.poll_receipt(slot, &mut nobody).is_ready());
        }
    };
    // A table of what is pending by a number: put in, marked with its outcome, taken out.
    let pending = Mutex::new(HashMap::<u64, (Entry, Option<Outcome<()>>), FixedState>::default());
    let next = AtomicU64::new(0);
    let table = || {
        // Relaxed: only hands out numbers.
        let number = next.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut pending) = pending.lock() {
            pending.insert(number, (Entry::default(), None));
        }
        if let Ok(mut pending) = pending.lock()
            && let Some((_, outcome)) = pending.get_mut(&number)
        {
            *outcome = Some(ACKED);
        }
        black_box(
            pending
                .lock()
                .map(|mut pending| pending.remove(&number))
                .ok(),
        );
    };

    let mut group = criterion.benchmark_group("ledger/slot_to_receipt");
    for rivals in [0, 1] {
        group.bench_function(BenchmarkId::new("ledger", rivals), |b| {
            with_rivals(rivals, slots, || b.iter(slots));
        });
        group.bench_function(BenchmarkId::new("mutex table", rivals), |b| {
            with_rivals(rivals, table, || b.iter(table));
        });
    }
    group.finish();
    ratios("ledger", &each(slots), &[("mutex table", &each(table))]);
}
