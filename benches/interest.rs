//! What the consumer's look before each take costs, beside a map of wants under a lock and beside a flag under one.
//!
//! Read the ratio within a run, not the nanoseconds: machines are noisy.

use crate::common::{each, ratios};
use clearway::protocol::interest::{Interest, Want};
use criterion::Criterion;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::{Mutex, RwLock};

const KEYS: u64 = 16;

/// The group of this protocol.
pub(crate) fn bench(criterion: &mut Criterion) {
    let interest = Interest::new();
    for key in 0..KEYS {
        interest.want(key, Want::Active);
    }
    interest.applied(interest.want(0, Want::Active));
    let wants: RwLock<BTreeMap<u64, Want>> =
        RwLock::new((0..KEYS).map(|key| (key, Want::Active)).collect());
    let flag = Mutex::new(false);

    let word = each(|| _ = black_box(black_box(&interest).changed()));
    // It asks the map for the key of what it is about to take.
    let map = each(|| {
        let wants = black_box(&wants).read();
        black_box(wants.is_ok_and(|wants| wants.get(black_box(&7)) == Some(&Want::Active)));
    });
    let locked = each(|| _ = black_box(black_box(&flag).lock().is_ok_and(|flag| *flag)));

    let mut group = criterion.benchmark_group("interest/changed");
    group.bench_function("interest", |b| b.iter(|| word(0, 1)));
    group.bench_function("rwlock<btreemap>", |b| b.iter(|| map(0, 1)));
    group.bench_function("mutex<bool>", |b| b.iter(|| locked(0, 1)));
    group.finish();
    ratios(
        "interest, a look before a take",
        &word,
        &[("rwlock<btreemap>", &map), ("mutex<bool>", &locked)],
    );
}
