//! What asking "is this topic ensured?" costs once it is, beside a set of names under a lock.
//!
//! Read the ratio within a run, not the nanoseconds: machines are noisy.

use crate::common::{each, ratios, with_rivals};
use clearway::protocol::singleflight::{Mark, Singleflight, Turn};
use criterion::{BenchmarkId, Criterion};
use foldhash::fast::FixedState;
use std::collections::HashSet;
use std::hint::black_box;
use std::sync::{Arc, Mutex, RwLock};
use std::task::{Context, Poll, Waker};

const TERM: u64 = 1;

/// The group of this protocol.
pub(crate) fn bench(criterion: &mut Criterion) {
    let name = "orders";
    let mark = Mark::new();
    lead_to_success(&mark);
    let marked = || _ = black_box(mark.is_set(black_box(TERM)));

    let created = RwLock::new(HashSet::<Arc<str>, FixedState>::from_iter([name.into()]));
    let read = || {
        _ = black_box(
            created
                .read()
                .map(|names| names.contains(black_box(name)))
                .ok(),
        )
    };
    let created = Mutex::new(HashSet::<Arc<str>, FixedState>::from_iter([name.into()]));
    let lock = || {
        _ = black_box(
            created
                .lock()
                .map(|names| names.contains(black_box(name)))
                .ok(),
        )
    };

    let mut group = criterion.benchmark_group("singleflight/is_ensured");
    for rivals in [0, 1] {
        group.bench_function(BenchmarkId::new("mark", rivals), |b| {
            with_rivals(rivals, marked, || b.iter(marked));
        });
        group.bench_function(BenchmarkId::new("rwlock", rivals), |b| {
            with_rivals(rivals, read, || b.iter(read));
        });
        group.bench_function(BenchmarkId::new("mutex", rivals), |b| {
            with_rivals(rivals, lock, || b.iter(lock));
        });
    }
    // The cold path: a whole attempt of a leader that nobody follows.
    group.bench_function("an attempt", |b| {
        b.iter(|| {
            let mark = Mark::new();
            lead_to_success(&mark);
            black_box(mark.is_set(TERM))
        });
    });
    group.finish();
    ratios(
        "singleflight",
        &each(marked),
        &[("rwlock", &each(read)), ("mutex", &each(lock))],
    );
}

fn lead_to_success(mark: &Mark) {
    let flights = Singleflight::<&str, ()>::new();
    let mut nobody = Context::from_waker(Waker::noop());
    match flights.join("orders").poll_turn(mark, TERM, &mut nobody) {
        Poll::Ready(Turn::Lead(leader)) => leader.succeed(mark, TERM, ()),
        _ => unreachable!("the first to ask leads"),
    }
}
