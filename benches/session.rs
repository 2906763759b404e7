//! What leasing the current connection costs, beside a producer under a lock.
//!
//! Read the ratio within a run, not the nanoseconds: machines are noisy.

use crate::common::{each, ratios, with_rivals};
use clearway::protocol::session::Sessions;
use criterion::{BenchmarkId, Criterion};
use std::hint::black_box;
use std::sync::{Arc, Mutex, RwLock};

/// The group of this protocol.
pub(crate) fn bench(criterion: &mut Criterion) {
    let sessions = Sessions::new(Arc::new(7u64));
    let leased = || _ = black_box(sessions.lease().map(|connection| **connection));
    let kept = sessions.keep();
    let kept = || _ = black_box(kept.lease().map(|connection| **connection));
    // Held while the connection is used, so that a reconnect waits for it as it waits for a lease.
    let producer = RwLock::new(Arc::new(7u64));
    let read = || _ = black_box(producer.read().map(|connection| **connection).ok());
    // Cloned out of the lock: nobody can wait for its last use.
    let producer = Mutex::new(Arc::new(7u64));
    let clone = || _ = black_box(producer.lock().map(|connection| connection.clone()).ok());

    let mut group = criterion.benchmark_group("session/lease");
    for rivals in [0, 1] {
        group.bench_function(BenchmarkId::new("session", rivals), |b| {
            with_rivals(rivals, leased, || b.iter(leased));
        });
        group.bench_function(BenchmarkId::new("kept session", rivals), |b| {
            with_rivals(rivals, kept, || b.iter(kept));
        });
        group.bench_function(BenchmarkId::new("rwlock", rivals), |b| {
            with_rivals(rivals, read, || b.iter(read));
        });
        group.bench_function(BenchmarkId::new("mutex clone", rivals), |b| {
            with_rivals(rivals, clone, || b.iter(clone));
        });
    }
    group.finish();
    ratios(
        "session",
        &each(leased),
        &[("rwlock", &each(read)), ("mutex clone", &each(clone))],
    );
}
