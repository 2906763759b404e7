//! How the benches measure: CPU time of the threads that do the work, in turns within one run.
//!
//! Machines are noisy and differ. What is read here are ratios between variants that took turns, and
//! a thread's own CPU time. A round in which a thread had to wait for a processor is made again: two
//! threads that do not run at the same time do not get into each other's way. When the machine is so
//! busy that too few rounds are left, the figures say that they were disturbed.

#![allow(dead_code, reason = "every bench takes what it needs")]

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// One variant: does `operations` on the thread of that number.
pub(crate) type Work<'w> = &'w (dyn Fn(usize, u64) + Sync);

/// About how long a round takes: short, so that a busy machine leaves some rounds in peace.
const ROUND_NANOS: f64 = 3e6;
/// How long undisturbed rounds are waited for.
const PATIENCE: Duration = Duration::from_secs(3);

static DISTURBED: AtomicBool = AtomicBool::new(false);

/// Whether figures were taken since this was asked last that the rest of the machine has spoilt.
pub(crate) fn was_disturbed() -> bool {
    // Relaxed: asked by the thread that measures.
    DISTURBED.swap(false, Ordering::Relaxed)
}

/// Turns a single operation into a variant.
pub(crate) fn each(operation: impl Fn() + Sync) -> impl Fn(usize, u64) + Sync {
    move |_, operations| (0..operations).for_each(|_| operation())
}

/// CPU time that the calling thread has used.
pub(crate) fn cpu_now() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// CPU time that all threads of this process have used.
pub(crate) fn process_cpu_now() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// How long the calling thread has been ready to run and was not let, if the system says.
pub(crate) fn waited_for_processor() -> Duration {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = told
        .split_whitespace()
        .nth(1)
        .and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// Ties the calling thread to a processor of its own, so that threads that are meant to meet do.
fn pin(thread: usize) {
    let Ok(allowed) = sched_getaffinity(None) else {
        return;
    };
    let there: Vec<_> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| allowed.is_set(*cpu))
        .collect();
    let mut mine = CpuSet::new();
    mine.set(there[thread % there.len()]);
    // Where it may not be done the figures are less sharp, not wrong.
    let _ = sched_setaffinity(None, &mine);
}

/// One round.
struct Round {
    nanos: f64,
    undisturbed: bool,
}

fn round(threads: usize, operations: u64, work: Work<'_>) -> Round {
    let ready = AtomicUsize::new(0);
    let told: Vec<Told> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let ready = &ready;
                scope.spawn(move || {
                    pin(thread);
                    // Thread-locals and caches are made before anything counts.
                    work(thread, operations / 20 + 1);
                    // Spinning, so that all are on their processors when it begins.
                    ready.fetch_add(1, Ordering::AcqRel);
                    while ready.load(Ordering::Acquire) < threads {
                        std::hint::spin_loop();
                    }
                    let waited = waited_for_processor();
                    let (begun, cpu) = (Instant::now(), cpu_now());
                    work(thread, operations);
                    let (used, ended) = (cpu_now() - cpu, Instant::now());
                    Told {
                        begun,
                        ended,
                        used,
                        waited: waited_for_processor() - waited,
                    }
                })
            })
            .collect();
        running
            .into_iter()
            .map(|thread| thread.join().expect("no bench panics"))
            .collect()
    });
    let used: Duration = told.iter().map(|told| told.used).sum();
    Round {
        nanos: used.as_nanos() as f64 / (threads as u64 * operations) as f64,
        undisturbed: told.iter().all(|told| told.waited < told.used / 10) && side_by_side(&told),
    }
}

/// What one thread of a round has to tell.
struct Told {
    begun: Instant,
    ended: Instant,
    used: Duration,
    waited: Duration,
}

/// Whether all ran at the same time for most of the time.
fn side_by_side(told: &[Told]) -> bool {
    let times = |time: fn(&Told) -> Instant| told.iter().map(time);
    let all = times(|t| t.ended).max().zip(times(|t| t.begun).min());
    let together = times(|t| t.ended).min().zip(times(|t| t.begun).max());
    all.zip(together)
        .is_some_and(|((last, first), (until, from))| {
            until.saturating_duration_since(from) * 10 > (last - first) * 7
        })
}

/// CPU nanoseconds for each operation: the median of `rounds` for each variant. They take turns, so
/// that all see the same weather.
pub(crate) fn in_turns(rounds: usize, threads: usize, variants: &[Work<'_>]) -> Vec<f64> {
    let operations: Vec<u64> = variants
        .iter()
        .map(|work| {
            let guess = round(threads, 2_000, *work).nanos.max(0.1);
            (ROUND_NANOS / guess) as u64
        })
        .collect();
    let mut good = vec![Vec::new(); variants.len()];
    let mut all = vec![Vec::new(); variants.len()];
    let begun = Instant::now();
    while good.iter().any(|good| good.len() < rounds)
        && (begun.elapsed() < PATIENCE || all[0].len() < rounds)
    {
        for (at, work) in variants.iter().enumerate() {
            if good[at].len() == rounds {
                continue;
            }
            let Round { nanos, undisturbed } = round(threads, operations[at], *work);
            all[at].push(nanos);
            if undisturbed {
                good[at].push(nanos);
            }
        }
    }
    if good.iter().any(|good| good.len() * 3 < rounds) {
        // Relaxed: read by the thread that measures.
        DISTURBED.store(true, Ordering::Relaxed);
        good = all;
    }
    good.into_iter().map(median).collect()
}

/// The middle one.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Prints what `ours` costs beside what it replaces, on one thread and on two.
pub(crate) fn ratios(what: &str, ours: Work<'_>, replaced: &[(&str, Work<'_>)]) {
    let mut variants = vec![ours];
    variants.extend(replaced.iter().map(|(_, work)| *work));
    for threads in [1, 2] {
        let figures = in_turns(7, threads, &variants);
        let disturbed = was_disturbed();
        for ((name, _), theirs) in replaced.iter().zip(&figures[1..]) {
            let ratio = theirs / figures[0];
            println!(
                "ratio: {what}, {threads} thread(s): {name} {theirs:.1} ns / ours {:.1} ns = {ratio:.2}{}",
                figures[0],
                if disturbed { " (disturbed)" } else { "" },
            );
        }
    }
}

/// Runs `measure` while `rivals` threads do `rival` all the time.
pub(crate) fn with_rivals<R>(
    rivals: usize,
    rival: impl Fn() + Sync,
    measure: impl FnOnce() -> R,
) -> R {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..rivals {
            scope.spawn(|| {
                // Relaxed: only ends the loop.
                while !over.load(Ordering::Relaxed) {
                    black_box(&rival)();
                }
            });
        }
        let measured = measure();
        // Relaxed: as above.
        over.store(true, Ordering::Relaxed);
        measured
    })
}

/// Criterion with settings that keep a whole run short.
pub(crate) fn quick() -> criterion::Criterion {
    criterion::Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(50))
        .measurement_time(Duration::from_millis(200))
        .without_plots()
        .configure_from_args()
}
