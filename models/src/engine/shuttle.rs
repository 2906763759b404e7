//! Shuttle: many executions chosen by several schedulers, each good at another kind of bug.
//! It sees no stale values, so it says nothing about orderings.

use crate::recorder::{self, Abilities};
use shuttle::scheduler::{PctScheduler, RandomScheduler, UrwRandomScheduler};
use shuttle::{Config, FailurePersistence, Runner};
use std::cell::Cell;

pub use super::oracle::Oracle;
pub use super::sync::{AtomicU64, Ordering};
pub use crate::recorder::{event, sometimes};
pub use crate::registry::{Depth, Failure, Model, Run, Site, Step, Verdict, find};
pub use crate::report::print_run;
pub use shuttle::future::block_on;

/// The same schedules every time: a failure is found again by the same command.
const SEED: u64 = 0x00c1_ea12_4a70_11e7;

/// Room for a thread of a model: the bodies format their assertions.
const STACK_BYTES: usize = 0x40_000;

/// How the next thread is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheduler {
    /// Any that can run.
    Random,
    /// By priority, with this many changes of it at random places, less one. Reaches deep into a
    /// program, and is soon out of new ideas in a short one.
    Pct(usize),
    /// Any that can run, by how much it still has to do: closer to even over all executions.
    Urw,
}

/// The portfolio. No single scheduler finds every kind of bug.
pub const SCHEDULERS: [Scheduler; 4] = [
    Scheduler::Random,
    Scheduler::Pct(2),
    Scheduler::Pct(3),
    Scheduler::Urw,
];

impl Scheduler {
    /// The name of a run with it.
    pub fn engine(self) -> String {
        match self {
            Self::Random => "shuttle/random".to_owned(),
            Self::Pct(depth) => format!("shuttle/pct{depth}"),
            Self::Urw => "shuttle/urw".to_owned(),
        }
    }
}

/// How many executions each scheduler chooses.
pub const fn executions(depth: Depth) -> usize {
    match depth {
        Depth::Quick => 500,
        Depth::Full => 5_000,
    }
}

/// The calling thread's number: 0 is the one that runs the body.
pub fn who() -> usize {
    usize::from(shuttle::current::me())
}

/// Runs the model under every scheduler, and says how many executions that was.
///
/// # Panics
///
/// When an execution breaks the invariant, or when no scheduler ever reached a goal.
pub fn check(model: &Model) {
    print_run(&explore(model, Depth::of_this_build())).unwrap();
}

/// Runs the model under every scheduler, up to the first that fails; the goals are summed.
/// Never panics.
pub fn explore(model: &Model, depth: Depth) -> Run {
    let mut runs = SCHEDULERS
        .iter()
        .map(|scheduler| explore_with(model, *scheduler, executions(depth)));
    let mut all = runs.next().expect("there are schedulers");
    for run in runs {
        if all.failure.is_some() {
            break;
        }
        all.executions += run.executions;
        all.elapsed_ms += run.elapsed_ms;
        for (sum, (_, reached)) in all.goals.iter_mut().zip(&run.goals) {
            sum.1 += reached;
        }
        all.engine = "shuttle".to_owned();
        if run.failure.is_some() {
            all.engine = run.engine;
            all.verdict = run.verdict;
            all.failure = run.failure;
        }
    }
    all
}

/// The run of every scheduler, failed or not.
pub fn explore_each(model: &Model, depth: Depth) -> Vec<Run> {
    SCHEDULERS
        .iter()
        .map(|scheduler| explore_with(model, *scheduler, executions(depth)))
        .collect()
}

/// Runs the model under one scheduler. Never panics.
pub fn explore_with(model: &Model, scheduler: Scheduler, executions: usize) -> Run {
    let abilities = Abilities {
        who: Some(who),
        classes: true,
    };
    recorder::observe(model, &scheduler.engine(), abilities, |body| {
        drive(scheduler, executions, move || {
            recorder::begin_execution();
            body();
        });
        Verdict::Sampled
    })
}

fn drive(scheduler: Scheduler, executions: usize, body: impl Fn() + Send + Sync + 'static) {
    match scheduler {
        Scheduler::Random => {
            let scheduler = RandomScheduler::new_from_seed(SEED, executions);
            Runner::new(scheduler, config()).run(body);
        }
        Scheduler::Pct(depth) => {
            let scheduler = PctScheduler::new_from_seed(SEED, depth, executions);
            Runner::new(scheduler, config()).run(body);
        }
        Scheduler::Urw => {
            let scheduler = UrwRandomScheduler::new_from_seed(SEED, executions);
            Runner::new(scheduler, config()).run(body);
        }
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    // The timeline is what we keep: a schedule means nothing once the source has changed.
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    config
}

/// Runs nothing once, so that shuttle has installed its panic hook.
pub(crate) fn warm_up() {
    drive(Scheduler::Random, 1, || ());
}

/// Drops `value` as a panic of its owner would. Unwinding for real would lead the checker astray:
/// its threads share one of the machine, and all of them would seem to panic.
pub fn abandon<T>(value: T) {
    drop(value);
}

/// Threads of a model.
pub mod thread {
    use crate::recorder;

    pub use shuttle::thread::{JoinHandle, yield_now};

    /// Starts a thread.
    #[track_caller]
    pub fn spawn<F, T>(f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        shuttle::thread::spawn(f)
    }

    /// Starts a thread that the timeline calls `name`.
    #[track_caller]
    pub fn spawn_named<F, T>(name: &'static str, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        shuttle::thread::spawn(move || {
            recorder::name_thread(super::who(), name);
            f()
        })
    }
}

/// Memory that is touched on both sides of an order the protocol promises: an access stays for a
/// moment, and whoever comes in meanwhile has broken the promise.
#[derive(Default)]
pub struct Canary {
    writes: Cell<u64>,
    readers: Cell<u32>,
    writing: Cell<bool>,
    point: Point,
}

// SAFETY: all threads of a shuttle execution are coroutines of one thread of the machine.
unsafe impl Sync for Canary {}

impl Canary {
    /// One that nobody has touched.
    pub fn new() -> Self {
        Self::default()
    }

    /// Touches it together with other readers; how often it was written.
    pub fn read(&self) -> u64 {
        assert!(!self.writing.get(), "a race: read while another writes");
        self.readers.set(self.readers.get() + 1);
        self.point.pass();
        self.readers.set(self.readers.get() - 1);
        self.writes.get()
    }

    /// Touches it alone.
    pub fn write(&self) {
        let alone = !self.writing.get() && self.readers.get() == 0;
        assert!(alone, "a race: written while another is there");
        self.writing.set(true);
        self.point.pass();
        self.writing.set(false);
        self.writes.set(self.writes.get() + 1);
    }
}

/// A step at which shuttle may switch to another thread.
pub(crate) struct Point(shuttle::sync::atomic::AtomicUsize);

impl Point {
    pub(crate) fn pass(&self) {
        if !std::thread::panicking() {
            self.0.load(Ordering::SeqCst);
        }
    }
}

impl Default for Point {
    fn default() -> Self {
        Self(shuttle::sync::atomic::AtomicUsize::new(0))
    }
}
