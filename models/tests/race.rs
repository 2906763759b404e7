//! What ThreadSanitizer runs besides the models: a race it must report, and the cell we trust.

use clearway_models::under_threads::engine::Canary;
use clearway_models::under_threads::sync::{Arc, ArcCell, AtomicU64, Ordering};
use std::sync::Barrier;
use std::thread;

/// A real race: two threads write one word with nothing between them. `make race` runs this alone
/// and fails unless it is reported; a run that reports nothing may only have looked away.
#[test]
#[ignore = "a race on purpose; only ThreadSanitizer can tell"]
fn control_race() {
    let raced = Arc::new(Canary::new());
    let start = Arc::new(Barrier::new(2));
    let writers = [(); 2].map(|()| {
        let (raced, start) = (raced.clone(), start.clone());
        thread::spawn(move || {
            start.wait();
            for _ in 0..10_000 {
                raced.write();
            }
        })
    });
    for writer in writers {
        writer.join().expect("a writer only counts");
    }
}

/// The same two threads, with an edge between them: must not be reported.
#[test]
fn control_without_a_race() {
    let shared = Arc::new((Canary::new(), AtomicU64::new(0)));
    let first = thread::spawn({
        let shared = shared.clone();
        move || {
            let (word, done) = &*shared;
            word.write();
            done.store(1, Ordering::Release);
        }
    });
    let (word, done) = &*shared;
    while done.load(Ordering::Acquire) == 0 {
        thread::yield_now();
    }
    word.write();
    first.join().expect("the first only writes");
    assert_eq!(word.read(), 2);
}

/// The cell that ships, over arc-swap, which loom cannot see into. Readers find every value whole
/// and never an older one; no value is freed while it is read, and all are in the end. Stressed,
/// not proved.
#[test]
fn the_cell_that_ships_under_stress() {
    const VALUES: u64 = 20_000;
    struct Value {
        number: u64,
        written: Canary,
        alive: Arc<AtomicU64>,
    }
    impl Drop for Value {
        fn drop(&mut self) {
            // Alone with it, or the race is reported here.
            self.written.write();
            self.alive.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let alive = Arc::new(AtomicU64::new(0));
    let value = |number: u64| {
        alive.fetch_add(1, Ordering::Relaxed);
        let written = Canary::new();
        written.write();
        let alive = alive.clone();
        Arc::new(Value {
            number,
            written,
            alive,
        })
    };
    let cell = Arc::new(ArcCell::new(value(0)));
    let readers = [(); 3].map(|()| {
        let cell = cell.clone();
        thread::spawn(move || {
            let mut newest = 0;
            while newest < VALUES {
                let now = cell.load();
                assert!(now.number >= newest, "{} after {newest}", now.number);
                assert_eq!(now.written.read(), 1, "half a value");
                newest = now.number;
                // Sometimes a clone outlives the guard.
                let kept = (newest % 3 == 0).then(|| (*now).clone());
                drop(now);
                assert!(kept.is_none_or(|kept| kept.written.read() == 1));
            }
        })
    });
    for number in 1..=VALUES {
        let before = cell.swap(value(number));
        assert_eq!(before.number, number - 1, "a value was lost");
    }
    for reader in readers {
        reader.join().expect("a reader found a value it must not");
    }
    drop(cell);
    assert_eq!(alive.load(Ordering::Acquire), 0, "values were leaked");
}
