//! What publishers notice of a slow writer: a reconnect or a change of topics that takes its time.

use crate::baseline::LockedBus;
use crate::lockfree::LockFreeBus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const STALL: Duration = Duration::from_millis(50);
const HOLD: Duration = Duration::from_millis(10);
const EVERY: Duration = Duration::from_millis(100);
const PACE: Duration = Duration::from_micros(10);

/// How many lookups come back while `write` holds up everything it can for a while. `write` gets what
/// to do while it holds.
pub(crate) fn reads_while_stalled(
    read: impl Fn(usize) + Sync,
    write: impl FnOnce(&dyn Fn()) + Send,
) -> u64 {
    let (inside, over) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|threads| {
        let reader = threads.spawn(|| {
            while !inside.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            let mut done = 0;
            while !over.load(Ordering::Acquire) {
                read(done as usize);
                // One that came back after the stall was not done during it.
                done += u64::from(!over.load(Ordering::Acquire));
            }
            done
        });
        threads.spawn(|| {
            write(&|| {
                inside.store(true, Ordering::Release);
                std::thread::sleep(STALL);
                over.store(true, Ordering::Release);
            });
        });
        reader.join().expect("no bench panics")
    })
}

/// The 99th percentile, in nanoseconds, of a publish's delay behind its schedule: `publishers` in
/// turn, one every ten microseconds, while `write` holds for ten milliseconds ten times a second.
pub(crate) fn p99_beside_writer(
    length: Duration,
    publish: impl Fn(usize) + Sync,
    write: impl Fn(&dyn Fn()) + Sync,
) -> f64 {
    let over = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            // Relaxed: only ends the loop.
            while !over.load(Ordering::Relaxed) {
                write(&|| std::thread::sleep(HOLD));
                std::thread::sleep(EVERY - HOLD);
            }
        });
        let mut delays = Vec::with_capacity((length.as_nanos() / PACE.as_nanos()) as usize);
        let begun = Instant::now();
        let mut due = Duration::ZERO;
        while due < length {
            while begun.elapsed() < due {
                std::hint::spin_loop();
            }
            publish(delays.len());
            delays.push((begun.elapsed() - due).as_nanos() as f64);
            due += PACE;
        }
        // Relaxed: as above.
        over.store(true, Ordering::Relaxed);
        delays.sort_by(f64::total_cmp);
        delays[delays.len() * 99 / 100]
    })
}

/// A reconnect of either bus that takes as long as `hold`.
pub(crate) fn reconnect_locked(bus: &LockedBus<u64>, hold: &dyn Fn()) {
    bus.reconnect(|| {
        hold();
        Arc::new(7)
    });
}

pub(crate) fn reconnect_lockfree(bus: &LockFreeBus<u64>, hold: &dyn Fn()) {
    bus.reconnect(|| {
        hold();
        Arc::new(7)
    });
}
