//! What stamping one delivery with the mode costs while a detector measures, beside a state under a lock.
//!
//! Read the ratio within a run, not the nanoseconds: machines are noisy.

use crate::common::{each, ratios, with_rivals};
use clearway::protocol::mode::{Kind, Mode, Thresholds};
use criterion::{BenchmarkId, Criterion};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};

const ENTER_ABOVE: u64 = 10_000;
const LEAVE_BELOW: u64 = 1_000;
const HOLD: u64 = 4;
/// How many deliveries are stamped for each measurement. Far fewer than in a bus.
const DELIVERIES: u64 = 1_024;

/// What it replaces.
#[derive(Clone, Copy)]
struct State {
    kind: Kind,
    change: u64,
    low_since: Option<u64>,
}

impl State {
    const NEW: Self = Self {
        kind: Kind::Normal,
        change: 0,
        low_since: None,
    };

    fn observe(&mut self, lag: u64, at: u64) {
        let to = match self.kind {
            Kind::Normal if lag >= ENTER_ABOVE => Kind::Recovery,
            Kind::Normal => return,
            Kind::Recovery if lag > LEAVE_BELOW => {
                self.low_since = None;
                return;
            }
            Kind::Recovery if *self.low_since.get_or_insert(at) + HOLD > at => return,
            Kind::Recovery => Kind::Normal,
        };
        *self = Self {
            kind: to,
            change: self.change + 1,
            low_since: None,
        };
    }
}

/// The group of this protocol.
pub(crate) fn bench(criterion: &mut Criterion) {
    let mode = Mode::new(Thresholds {
        enter_above: ENTER_ABOVE,
        leave_below: LEAVE_BELOW,
        hold: HOLD,
    });
    let ours = || _ = black_box(mode.now());
    let ours_measured = |lag, at| _ = black_box(mode.observe(lag, at));
    let rwlock = RwLock::new(State::NEW);
    let read = || _ = black_box(rwlock.read().map(|state| (state.kind, state.change)).ok());
    let read_measured = |lag, at| _ = rwlock.write().map(|mut state| state.observe(lag, at));
    let mutex = Mutex::new(State::NEW);
    let locked = || _ = black_box(mutex.lock().map(|state| (state.kind, state.change)).ok());
    let locked_measured = |lag, at| _ = mutex.lock().map(|mut state| state.observe(lag, at));

    let (a, b, c) = (
        Detector::new(ours_measured),
        Detector::new(read_measured),
        Detector::new(locked_measured),
    );
    let mut group = criterion.benchmark_group("mode/now");
    // The rival measures all the time.
    for rivals in [0, 1] {
        group.bench_function(BenchmarkId::new("mode", rivals), |bench| {
            with_rivals(rivals, || a.measure(), || bench.iter(ours));
        });
        group.bench_function(BenchmarkId::new("rwlock", rivals), |bench| {
            with_rivals(rivals, || b.measure(), || bench.iter(read));
        });
        group.bench_function(BenchmarkId::new("mutex", rivals), |bench| {
            with_rivals(rivals, || c.measure(), || bench.iter(locked));
        });
    }
    group.finish();
    ratios(
        "mode",
        &a.beside(each(ours)),
        &[
            ("rwlock", &b.beside(each(read))),
            ("mutex", &c.beside(each(locked))),
        ],
    );
}

/// Measures a lag that goes up and down, with a tick between two measurements.
struct Detector<F> {
    observe: F,
    ticks: AtomicU64,
}

impl<F: Fn(u64, u64) + Sync> Detector<F> {
    fn new(observe: F) -> Self {
        Self {
            observe,
            ticks: AtomicU64::new(0),
        }
    }

    fn measure(&self) {
        // Relaxed: a number.
        let at = self.ticks.fetch_add(1, Ordering::Relaxed);
        let lag = if at % 8 < 2 { ENTER_ABOVE } else { 0 };
        (self.observe)(lag, at);
    }

    /// The same work with a measurement now and then; every thread is a detector as well.
    fn beside(&self, work: impl Fn(usize, u64) + Sync) -> impl Fn(usize, u64) + Sync {
        move |thread, operations| {
            for done in (0..operations).step_by(DELIVERIES as usize) {
                self.measure();
                work(thread, DELIVERIES.min(operations - done));
            }
        }
    }
}
