//! Runs generated programs under generated schedules, and shrinks what fails.

mod failure;

use crate::linear::{Call, Calls, Spec};
use clearway_models::registry::{Failure, Run, Verdict};
use failure::{panicked, verdict};
use proptest::strategy::{BoxedStrategy, Strategy};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde::{Deserialize, Serialize};
use shuttle::scheduler::RandomScheduler;
use shuttle::{FailurePersistence, MaxSteps, Runner};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt::{self, Debug, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Instant;

/// How many schedules each program is run under.
const SCHEDULES: usize = 20;

/// How many of them while a failing program is shrunk: a smaller program may fail less often.
const SCHEDULES_SHRINKING: usize = 400;

/// How many smaller programs are tried.
const SHRINKS: u32 = 300;

/// A program that takes more steps goes round in circles: the longest takes a few hundred.
const STEPS_MAX: usize = 20_000;

/// Room for a thread of a program.
const STACK_BYTES: usize = 0x40_000;

/// A protocol, its spec and its programs.
pub trait Protocol: 'static {
    /// The protocol's file name without its ending.
    const NAME: &'static str;
    /// What must happen in some history, or the programs prove nothing.
    const GOALS: &'static [&'static str];
    /// The invariant that is broken when the protocol panics, or two threads touch what only one
    /// may.
    const PANIC: &'static str;
    /// The protocol as if there were one thread.
    type Spec: Spec;
    /// A closed concurrent program.
    type Program: Clone + Debug + Send + Sync + 'static;

    /// All programs.
    fn programs() -> BoxedStrategy<Self::Program>;

    /// The state before the program's first call.
    fn start(program: &Self::Program) -> Self::Spec;

    /// Runs `program` to its end and records its calls. What cannot be said as an answer of a
    /// call comes back as an error that begins with an invariant's name.
    fn run(program: &Self::Program, calls: &CallsOf<Self>) -> Result<(), String>;

    /// What the search may take apart: calls with different keys are of different objects.
    fn part(_op: &<Self::Spec as Spec>::Op) -> u64 {
        0
    }

    /// The goal that a call reaches.
    fn goal(call: &CallOf<Self>) -> Option<&'static str>;

    /// The invariant that is broken when nothing can go on.
    fn hang(calls: &[CallOf<Self>]) -> &'static str;
}

/// A call of a protocol.
pub type CallOf<P> =
    Call<<<P as Protocol>::Spec as Spec>::Op, <<P as Protocol>::Spec as Spec>::Ret>;

/// The recorder of a protocol's calls.
pub type CallsOf<P> =
    Calls<<<P as Protocol>::Spec as Spec>::Op, <<P as Protocol>::Spec as Spec>::Ret>;

/// What running a spec's programs showed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// The protocol.
    pub protocol: String,
    /// Programs that were run.
    pub programs: u64,
    /// Histories that were judged: programs times schedules.
    pub histories: u64,
    /// Calls in them.
    pub calls: u64,
    /// How often each goal was reached.
    pub goals: Vec<(String, u64)>,
    /// The first program that failed, made small. The message begins with the protocol's name and
    /// the broken invariant.
    pub failure: Option<Failure>,
    /// How long it took.
    pub elapsed_ms: u64,
}

impl Checked {
    /// The same, in the words of the report.
    pub fn to_run(&self) -> Run {
        Run {
            engine: "histories".to_owned(),
            protocol: self.protocol.clone(),
            invariant: "has a sequential explanation".to_owned(),
            executions: self.histories,
            verdict: if self.failure.is_some() {
                Verdict::Failed
            } else {
                Verdict::Sampled
            },
            goals: self.goals.clone(),
            classes: None,
            failure: self.failure.clone(),
            elapsed_ms: self.elapsed_ms,
        }
    }

    /// What speaks against it: a failure, or a goal that was never reached.
    pub fn complaint(&self) -> Option<String> {
        if let Some(failure) = &self.failure {
            return Some(failure.message.clone());
        }
        let missed = self.goals.iter().find(|(_, reached)| *reached == 0);
        missed.map(|(goal, _)| format!("{}: \"{goal}\" was never reached", self.protocol))
    }
}

/// Runs `programs` programs, chosen by `seed`, and shrinks the first that fails.
pub fn explore<P: Protocol>(programs: u32, seed: u64) -> Checked {
    let all = P::programs().prop_map(|program| {
        let subject: Arc<dyn Subject> = Arc::new(Of::<P>(program));
        Program(subject)
    });
    explore_programs(P::NAME, P::GOALS, &all.boxed(), programs, seed)
}

/// A program of some protocol. Without its type, the generator and the shrinking are compiled
/// once, and not again for every patched protocol.
struct Program(Arc<dyn Subject>);

trait Subject: Send + Sync {
    fn judge(&self, seed: u64, schedules: usize) -> (Seen, Option<Failure>);
    fn text(&self) -> String;
}

struct Of<P: Protocol>(P::Program);

impl<P: Protocol> Subject for Of<P> {
    fn judge(&self, seed: u64, schedules: usize) -> (Seen, Option<Failure>) {
        judge::<P>(&self.0, seed, schedules)
    }

    fn text(&self) -> String {
        format!("{:?}", self.0)
    }
}

impl Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text())
    }
}

fn explore_programs(
    name: &str,
    goals: &[&'static str],
    all: &BoxedStrategy<Program>,
    programs: u32,
    seed: u64,
) -> Checked {
    let started = Instant::now();
    let seen = RefCell::new(Seen::new(goals));
    let first: RefCell<Option<Failure>> = RefCell::new(None);
    let outcome = runner(programs, seed).run(all, |Program(program)| {
        let shrinking = first.borrow().is_some();
        let schedules = if shrinking {
            SCHEDULES_SHRINKING
        } else {
            SCHEDULES
        };
        let (judged, failure) = program.judge(seed, schedules);
        if !shrinking {
            seen.borrow_mut().add(&judged);
        }
        let Some(failure) = failure else {
            return Ok(());
        };
        let mut first = first.borrow_mut();
        let first = first.get_or_insert_with(|| failure.clone());
        // A smaller program that breaks something else is not a smaller example of this.
        if same_promise(first, &failure) {
            Err(TestCaseError::fail(failure.message))
        } else {
            Ok(())
        }
    });
    let failure = match outcome {
        Ok(()) => None,
        Err(TestError::Fail(_, Program(program))) => {
            // The same seed and the same program: it fails in the same schedule.
            let (_, again) = program.judge(seed, SCHEDULES_SHRINKING);
            let mut failure = again
                .or(first.into_inner())
                .expect("what failed has a failure");
            _ = write!(failure.message, "\nthe program: {}", program.text());
            Some(failure)
        }
        Err(TestError::Abort(reason)) => Some(Failure {
            message: format!("{name}: {reason}"),
            timeline: Vec::new(),
        }),
    };
    let Seen {
        programs,
        histories,
        calls,
        goals,
    } = seen.into_inner();
    Checked {
        protocol: name.to_owned(),
        programs,
        histories,
        calls,
        goals: goals
            .into_iter()
            .map(|(goal, count)| (goal.to_owned(), count))
            .collect(),
        failure,
        elapsed_ms: started.elapsed().as_millis() as u64,
    }
}

fn runner(programs: u32, seed: u64) -> TestRunner {
    let config = Config {
        cases: programs,
        max_shrink_iters: SHRINKS,
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Whether two messages begin with the same protocol and invariant.
fn same_promise(one: &Failure, other: &Failure) -> bool {
    let promise = |failure: &Failure| -> Vec<String> {
        failure
            .message
            .splitn(3, ": ")
            .take(2)
            .map(str::to_owned)
            .collect()
    };
    promise(one) == promise(other)
}

/// What was seen in some histories.
struct Seen {
    programs: u64,
    histories: u64,
    calls: u64,
    goals: Vec<(&'static str, u64)>,
}

impl Seen {
    fn new(goals: &[&'static str]) -> Self {
        let goals = goals.iter().map(|&goal| (goal, 0)).collect();
        Self {
            programs: 0,
            histories: 0,
            calls: 0,
            goals,
        }
    }

    fn note<P: Protocol>(&mut self, calls: &[CallOf<P>]) {
        self.histories += 1;
        self.calls += calls.len() as u64;
        for goal in calls.iter().filter_map(P::goal) {
            let known = self.goals.iter_mut().find(|(name, _)| *name == goal);
            known.expect("a goal that the spec lists").1 += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        self.programs += 1;
        self.histories += other.histories;
        self.calls += other.calls;
        for ((_, sum), (_, more)) in self.goals.iter_mut().zip(&other.goals) {
            *sum += more;
        }
    }
}

/// One program under `schedules` schedules, up to the first that fails.
fn judge<P: Protocol>(
    program: &P::Program,
    seed: u64,
    schedules: usize,
) -> (Seen, Option<Failure>) {
    let calls = CallsOf::<P>::new();
    let result = Arc::new(Mutex::new((Seen::new(P::GOALS), None)));
    let body: Body = {
        let (program, calls, result) = (program.clone(), calls.clone(), result.clone());
        Box::new(move || {
            if locked(&result).1.is_none() {
                let outcome = P::run(&program, &calls);
                let calls = calls.take();
                let mut result = locked(&result);
                result.0.note::<P>(&calls);
                result.1 = verdict::<P>(&P::start(&program), &calls, outcome);
            }
        })
    };
    let ran = drive(seed, schedules, body);
    let (seen, failure) = &mut *locked(&result);
    let seen = std::mem::replace(seen, Seen::new(P::GOALS));
    let failure = failure
        .take()
        .or_else(|| Some(panicked::<P>(&*ran.err()?, &calls.take())));
    (seen, failure)
}

type Body = Box<dyn Fn() + Send + Sync>;

/// Runs `body` under schedules chosen by `seed`. An error is what it panicked with.
fn drive(seed: u64, schedules: usize, body: Body) -> Result<(), Box<dyn Any + Send>> {
    silence_panics();
    let scheduler = RandomScheduler::new_from_seed(seed, schedules);
    QUIET.set(true);
    let ran = panic::catch_unwind(AssertUnwindSafe(|| {
        Runner::new(scheduler, config()).run(body)
    }));
    QUIET.set(false);
    ran.map(|_| ())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn config() -> shuttle::Config {
    let mut config = shuttle::Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    // The shrunk program is what we keep: it means something after an edit, a schedule does not.
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    config
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// A panic of a program is a finding, and is not printed. Shuttle installs a hook that prints the
/// first time it runs: it is made to do that now, so that ours is asked first.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        Runner::new(RandomScheduler::new_from_seed(0, 1), config()).run(|| ());
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !QUIET.try_with(Cell::get).unwrap_or(false) {
                before(info);
            }
        }));
    });
}
