//! Plain threads: the same bodies with real threads, real memory and the facade that ships, many
//! times. It proves nothing; it is what ThreadSanitizer runs.

use crate::recorder::{self, Abilities};
use std::cell::{Cell, UnsafeCell};
use std::future::Future;
use std::panic::{self, AssertUnwindSafe};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

pub use super::oracle::Oracle;
pub use super::sync::{AtomicU64, Ordering};
pub use crate::recorder::{event, sometimes};
pub use crate::registry::{Depth, Failure, Model, Run, Site, Step, Verdict, find};
pub use crate::report::print_run;

/// Nobody in a model sleeps this long unless its wake was lost.
const SLEEP_MAX: Duration = Duration::from_secs(10);

thread_local! {
    static WHO: Cell<usize> = const { Cell::new(0) };
    static STARTED: Cell<usize> = const { Cell::new(0) };
    static JITTER: Cell<u64> = const { Cell::new(0x9e37_79b9_7f4a_7c15) };
}

/// The calling thread's number: 0 is the one that runs the body.
pub fn who() -> usize {
    WHO.get()
}

/// How often the body runs.
pub const fn executions(depth: Depth) -> usize {
    match depth {
        Depth::Quick => 300,
        Depth::Full => 3_000,
    }
}

/// Runs the model many times, and says how many.
///
/// # Panics
///
/// When an execution breaks the invariant. A goal may stay unreached: real threads meet rarely.
pub fn check(model: &Model) {
    let mut run = explore(model, Depth::of_this_build());
    run.goals.clear();
    print_run(&run).unwrap();
}

/// Runs the model many times. Never panics; a deadlock ends it after a while.
pub fn explore(model: &Model, depth: Depth) -> Run {
    explore_times(model, executions(depth))
}

/// The runs of all schedulers; the machine has one.
pub fn explore_each(model: &Model, depth: Depth) -> Vec<Run> {
    vec![explore(model, depth)]
}

/// Runs the model so many times.
pub fn explore_times(model: &Model, executions: usize) -> Run {
    let abilities = Abilities {
        who: None,
        classes: false,
    };
    recorder::observe(model, "threads", abilities, |body| {
        for _ in 0..executions {
            recorder::begin_execution();
            WHO.set(0);
            STARTED.set(0);
            body();
        }
        Verdict::Sampled
    })
}

/// Drops `value` in a panic of its owner.
pub fn abandon<T>(value: T) {
    let unwound = panic::catch_unwind(AssertUnwindSafe(|| {
        let _owned = value;
        panic::resume_unwind(Box::new("as agreed"));
    }));
    drop(unwound);
}

/// Threads of a model.
pub mod thread {
    use super::{JITTER, STARTED, WHO, stagger};
    use crate::recorder;

    pub use std::thread::{JoinHandle, yield_now};

    /// Starts a thread.
    pub fn spawn<F, T>(f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let recorder = recorder::current();
        let number = STARTED.get() + 1;
        STARTED.set(number);
        let seed = JITTER.get().rotate_left(number as u32);
        let handle = std::thread::spawn(move || {
            WHO.set(number);
            JITTER.set(seed);
            let _attached = recorder.map(recorder::attach);
            stagger();
            f()
        });
        stagger();
        handle
    }

    /// Starts a thread that the timeline of the other worlds calls by name.
    pub fn spawn_named<F, T>(_: &'static str, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        spawn(f)
    }
}

/// Waits for a moment of random length: without it the first thread is done before the second
/// has started, every time.
fn stagger() {
    let mut word = JITTER.get();
    word ^= word << 13;
    word ^= word >> 7;
    word ^= word << 17;
    JITTER.set(word);
    for _ in 0..word % 4_096 {
        std::hint::spin_loop();
    }
}

/// Drives `future` on this thread, asleep until it is woken.
///
/// # Panics
///
/// When nobody wakes it for a long time.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Sleeper(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        let asleep = Instant::now();
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        std::thread::park_timeout(SLEEP_MAX);
        assert!(asleep.elapsed() < SLEEP_MAX, "a deadlock: nobody wakes it");
    }
}

struct Sleeper(std::thread::Thread);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Memory that is touched on both sides of an order the protocol promises. If the promise is
/// broken, ThreadSanitizer reports the race.
#[derive(Default)]
pub struct Canary(UnsafeCell<u64>);

// SAFETY: that nobody else is there is what the protocol promises and ThreadSanitizer checks.
unsafe impl Sync for Canary {}

impl Canary {
    /// One that nobody has touched.
    pub fn new() -> Self {
        Self::default()
    }

    /// Touches it together with other readers; how often it was written.
    pub fn read(&self) -> u64 {
        // SAFETY: as for `Sync`. Volatile: the access must not be optimized away.
        unsafe { self.0.get().read_volatile() }
    }

    /// Touches it alone.
    pub fn write(&self) {
        // SAFETY: as in `read`.
        unsafe { self.0.get().write_volatile(self.read() + 1) }
    }
}

/// Threads of the machine need no step to be interrupted at.
#[derive(Default)]
pub(crate) struct Point;

impl Point {
    pub(crate) fn pass(&self) {}
}
