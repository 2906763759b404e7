//! What one delivery costs to be tracked with 4096 in flight that end in a random order, beside a tree under a lock.
//!
//! Read the ratio within a run, not the nanoseconds: machines are noisy.

#![allow(dead_code, reason = "every bench takes what it needs")]

use crate::common::ratios;
use clearway::protocol::watermark::{Mark, Watermark};
use criterion::{BenchmarkId, Criterion, Throughput};
use std::array;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::{Arc, Mutex};

const IN_FLIGHT: usize = 4096;
/// A partition for each thread.
const PARTITIONS: usize = 2;

/// What it replaces: the first that is left of what is not settled is the watermark.
#[derive(Default)]
struct Tree {
    unsettled: BTreeSet<u64>,
    next: u64,
    watermark: u64,
}

/// Ours, and what it replaces.
pub(crate) fn contenders() -> (impl Fn(usize, u64) + Sync, impl Fn(usize, u64) + Sync) {
    let order = Arc::new(shuffled());
    let by_tree_order = order.clone();
    let rings: [_; PARTITIONS] =
        array::from_fn(|_| (Watermark::new(1, 0, IN_FLIGHT), Mutex::default()));
    let ring = move |thread: usize, operations: u64| {
        // The positions go on where the round before has stopped.
        let (watermark, next) = &rings[thread % PARTITIONS];
        let Ok(mut next) = next.lock() else { return };
        for_each_window(operations, |size| {
            by_ring(watermark, &mut next, &order, size)
        });
    };
    let trees: [Mutex<Tree>; PARTITIONS] = array::from_fn(|_| Mutex::default());
    let tree = move |thread: usize, operations: u64| {
        for_each_window(operations, |size| {
            by_tree(&trees[thread % PARTITIONS], &by_tree_order, size);
        });
    };
    (ring, tree)
}

/// The group of this protocol.
pub(crate) fn bench(criterion: &mut Criterion) {
    let (ring, tree) = contenders();
    let mut group = criterion.benchmark_group("watermark/settle");
    group.throughput(Throughput::Elements(IN_FLIGHT as u64));
    let window = IN_FLIGHT as u64;
    group.bench_function(BenchmarkId::new("watermark", window), |b| {
        b.iter(|| ring(0, window));
    });
    group.bench_function(BenchmarkId::new("mutex<btreeset>", window), |b| {
        b.iter(|| tree(0, window));
    });
    group.finish();
    ratios("watermark", &ring, &[("mutex<btreeset>", &tree)]);
}

fn for_each_window(operations: u64, mut each: impl FnMut(usize)) {
    let windows = (0..operations).step_by(IN_FLIGHT);
    windows.for_each(|done| each(IN_FLIGHT.min((operations - done) as usize)));
}

fn by_ring(watermark: &Watermark, next: &mut u64, order: &[usize], size: usize) {
    let marks: Vec<Option<Mark>> = (*next..)
        .take(size)
        .map(|at| watermark.deliver(at).ok())
        .collect();
    *next += size as u64;
    for index in order.iter().filter(|index| **index < size) {
        black_box(marks[*index].is_some_and(|mark| watermark.settle(mark)));
    }
    black_box(watermark.watermark());
}

/// Each completion takes the lock, as handlers on several threads must.
fn by_tree(tree: &Mutex<Tree>, order: &[usize], size: usize) {
    let first = tree.lock().map_or(0, |tree| tree.next);
    for _ in 0..size {
        if let Ok(tree) = &mut tree.lock() {
            let at = tree.next;
            tree.unsettled.insert(at);
            tree.next += 1;
        }
    }
    for index in order.iter().filter(|index| **index < size) {
        if let Ok(tree) = &mut tree.lock() {
            let position = first + *index as u64;
            black_box(tree.unsettled.remove(&position));
            tree.watermark = tree.unsettled.first().copied().unwrap_or(tree.next);
        }
    }
    black_box(tree.lock().map_or(0, |tree| tree.watermark));
}

/// Every place of a window once, the same order in every run.
fn shuffled() -> Vec<usize> {
    let mut order: Vec<usize> = (0..IN_FLIGHT).collect();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    for last in (1..order.len()).rev() {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        order.swap(last, (seed >> 33) as usize % (last + 1));
    }
    order
}
