//! Loom: every interleaving up to a number of preemptions, and every stale value that the
//! orderings of the source allow.

use crate::recorder::{self, Abilities};
use loom::thread::ThreadId;
use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

pub use super::oracle::Oracle;
use super::sync::{forget_locks, is_locked};

pub use super::sync::{AtomicU64, Ordering};
pub use crate::recorder::{event, sometimes};
pub use crate::registry::{Depth, Failure, Model, Run, Site, Step, Verdict, find};
pub use crate::report::print_run;

/// How many preemptions a plain `cargo test` explores. Most bugs need one or two.
pub const QUICK_BOUND: usize = 2;

/// How long a model may take before it is cut off and called truncated.
pub const TIME_MAX: Duration = Duration::from_secs(60);

/// How many steps one execution may have. A longer one spins.
const BRANCHES_MAX: usize = 10_000;

/// Loom looks at its time limit only once in so many executions.
const EXECUTIONS_BETWEEN_LOOKS: usize = 256;

thread_local! {
    /// The threads of the execution; the index is the number.
    static THREADS: RefCell<Vec<ThreadId>> = const { RefCell::new(Vec::new()) };
}

/// The calling thread's number: 0 is the one that runs the body.
pub fn who() -> usize {
    let id = loom::thread::current().id();
    THREADS.with_borrow_mut(|threads| number(threads, id))
}

fn number(threads: &mut Vec<ThreadId>, id: ThreadId) -> usize {
    let known = threads.iter().position(|other| *other == id);
    known.unwrap_or_else(|| {
        threads.push(id);
        threads.len() - 1
    })
}

/// Explores the model as deep as this build asks for, and says how many executions that was.
///
/// # Panics
///
/// When an execution breaks the invariant, when a goal was never reached, or when the model is
/// too large to be explored to its end.
pub fn check(model: &Model) {
    print_run(&explore(model, Depth::of_this_build())).unwrap();
}

/// Explores the model. Never panics and never prints.
pub fn explore(model: &Model, depth: Depth) -> Run {
    explore_to(
        model,
        match depth {
            Depth::Quick => Some(QUICK_BOUND),
            Depth::Full => model.bound,
        },
    )
}

/// The runs of all schedulers; loom has one.
pub fn explore_each(model: &Model, depth: Depth) -> Vec<Run> {
    vec![explore(model, depth)]
}

/// Explores the model up to `bound` preemptions, or all of it.
pub fn explore_to(model: &Model, bound: Option<usize>) -> Run {
    explore_within(model, bound, TIME_MAX)
}

/// Explores the model up to `bound` preemptions, or all of it, for at most about `time_max`.
pub fn explore_within(model: &Model, bound: Option<usize>, time_max: Duration) -> Run {
    let abilities = Abilities {
        who: Some(who),
        classes: false,
    };
    recorder::observe(model, "loom", abilities, |body| {
        let started = Instant::now();
        builder(bound, time_max).check(move || {
            THREADS.with_borrow_mut(Vec::clear);
            forget_locks();
            recorder::begin_execution();
            who(); // the body's thread is number 0
            body();
        });
        // Loom ends without a word when its time is up.
        match bound {
            _ if started.elapsed() >= time_max => Verdict::Truncated,
            Some(bound) => Verdict::Bounded(bound),
            None => Verdict::Exhaustive,
        }
    })
}

/// Every field is set: loom would take what is left out from the environment.
fn builder(bound: Option<usize>, time_max: Duration) -> loom::model::Builder {
    let mut builder = loom::model::Builder::new();
    builder.max_threads = 5;
    builder.max_branches = BRANCHES_MAX;
    builder.max_permutations = None;
    builder.max_duration = Some(time_max);
    builder.preemption_bound = bound;
    builder.checkpoint_file = None;
    builder.checkpoint_interval = EXECUTIONS_BETWEEN_LOOKS;
    builder.location = false;
    builder.log = false;
    builder
}

/// Drops `value` as a panic of its owner would. Unwinding for real would lead the checker astray:
/// its threads share one of the machine, and all of them would seem to panic.
pub fn abandon<T>(value: T) {
    drop(value);
}

/// Threads of a model.
pub mod thread {
    use super::{THREADS, number};
    use crate::recorder;

    pub use loom::thread::{JoinHandle, yield_now};

    /// Starts a thread.
    #[track_caller]
    pub fn spawn<F, T>(f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let handle = loom::thread::spawn(f);
        let id = handle.thread().id();
        THREADS.with_borrow_mut(|threads| number(threads, id));
        handle
    }

    /// Starts a thread that the timeline calls `name`.
    #[track_caller]
    pub fn spawn_named<F, T>(name: &'static str, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let handle = spawn(f);
        let id = handle.thread().id();
        recorder::name_thread(THREADS.with_borrow_mut(|threads| number(threads, id)), name);
        handle
    }
}

/// Drives `future` on this thread, asleep until it is woken. A lost wake is a deadlock.
///
/// Not loom's own: its waker counts itself with a loom `Arc`, and every clone and drop of that
/// would multiply the executions.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let sleeper = Arc::new(Sleeper(loom::sync::Notify::new()));
    let waker = Waker::from(sleeper.clone());
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        sleeper.0.wait();
    }
}

struct Sleeper(loom::sync::Notify);

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        if !std::thread::panicking() {
            // Foreign code: it may run the task at once, which then needs the lock.
            assert!(!is_locked(), "a task is woken under a lock");
            self.0.notify();
        }
    }
}

/// Memory that is touched on both sides of an order the protocol promises. If the promise is
/// broken in some execution, loom reports the race.
pub struct Canary(loom::cell::UnsafeCell<u64>);

// SAFETY: loom checks every access and fails the execution that has a race.
unsafe impl Sync for Canary {}

impl Canary {
    /// One that nobody has touched.
    pub fn new() -> Self {
        Self(loom::cell::UnsafeCell::new(0))
    }

    /// Touches it together with other readers; how often it was written.
    #[track_caller]
    pub fn read(&self) -> u64 {
        // SAFETY: loom has checked that nobody writes.
        self.0.with(|writes| unsafe { *writes })
    }

    /// Touches it alone.
    #[track_caller]
    pub fn write(&self) {
        // SAFETY: loom has checked that nobody else is here.
        self.0.with_mut(|writes| unsafe { *writes += 1 });
    }
}

impl Default for Canary {
    fn default() -> Self {
        Self::new()
    }
}

/// A step at which loom tries the other threads, and which orders no memory.
pub(crate) struct Point(loom::sync::Notify);

impl Point {
    pub(crate) fn pass(&self) {
        // A notification nobody waits for is never independent of another.
        if !std::thread::panicking() {
            self.0.notify();
        }
    }
}

impl Default for Point {
    fn default() -> Self {
        Self(loom::sync::Notify::new())
    }
}
