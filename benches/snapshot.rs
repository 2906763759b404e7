//! What looking up a topic costs, beside a map under a lock.
//!
//! Read the ratio within a run, not the nanoseconds: machines are noisy.

use crate::common::{each, ratios, with_rivals};
use clearway::protocol::snapshot::Snapshot;
use criterion::{BenchmarkId, Criterion};
use foldhash::fast::FixedState;
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex, RwLock};

const TOPICS: u64 = 100;

/// The group of this protocol.
pub(crate) fn bench(criterion: &mut Criterion) {
    let entries = || (0..TOPICS).map(|n| (Arc::from(format!("orders-of-region-{n:03}")), n));
    let name = "orders-of-region-042";

    let topics = Snapshot::<Arc<str>, u64, FixedState>::new();
    for (name, topic) in entries() {
        topics
            .insert(name, Arc::new(topic))
            .expect("each name is there once");
    }
    let snapshot = || _ = black_box(topics.load().get(black_box(name)).map(|topic| **topic));
    // Their maps have the same hasher: only the locks differ.
    let map: RwLock<HashMap<Arc<str>, u64, FixedState>> = RwLock::new(entries().collect());
    let read = || _ = black_box(map.read().map(|map| map.get(black_box(name)).copied()).ok());
    let map: Mutex<HashMap<Arc<str>, u64, FixedState>> = Mutex::new(entries().collect());
    let lock = || _ = black_box(map.lock().map(|map| map.get(black_box(name)).copied()).ok());

    let mut group = criterion.benchmark_group("snapshot/look_up");
    for rivals in [0, 1] {
        group.bench_function(BenchmarkId::new("snapshot", rivals), |b| {
            with_rivals(rivals, snapshot, || b.iter(snapshot));
        });
        group.bench_function(BenchmarkId::new("rwlock", rivals), |b| {
            with_rivals(rivals, read, || b.iter(read));
        });
        group.bench_function(BenchmarkId::new("mutex", rivals), |b| {
            with_rivals(rivals, lock, || b.iter(lock));
        });
    }
    group.finish();
    ratios(
        "snapshot",
        &each(snapshot),
        &[("rwlock", &each(read)), ("mutex", &each(lock))],
    );
}
