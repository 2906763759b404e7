//! Many runs: what they came to together, and what they never came to.

use super::breaks::Breaks;
use super::broker::SimBroker;
use super::fault::Fault;
use super::plan::Plan;
use super::run::{Ran, run};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// What the runs of many seeds have to come to, whichever broker they run over.
pub const GOALS: &[&str] = &[
    "a publish whose outcome is unknown",
    "a handler cut off by its time limit",
    "a handler that published",
    "a reconnect",
    "a process killed",
    "a process that stood still",
    "a close in the middle of work",
    "a close that left deliveries",
    "a member that joined",
    "a member that left",
    "a topic deleted under its users",
    "a broker killed",
    "a dead letter",
    "a handler that subscribed",
    "a handler that drained another subscription",
    "a handler that waited for its own drain",
    "a handler that closed its bus and went on",
    "a handler that waited for the close of its bus",
    "a result read while its bus closed",
];

/// Every so many'th seed runs twice and must be the same.
const TWICE_EVERY: u64 = 100;

/// What the runs of many seeds came to.
#[derive(Default)]
pub struct Sum {
    /// How many seeds.
    pub seeds: u64,
    /// How many ran twice.
    pub twice: u64,
    /// Lines of all histories.
    pub events: u64,
    /// Publishes.
    pub ops: u64,
    /// Deliveries.
    pub deliveries: u64,
    /// How often a task was polled.
    pub polls: u64,
    /// By fault: in how many runs it struck, and how often.
    pub struck: BTreeMap<Fault, (u64, u64)>,
    /// By goal: in how many runs it was reached.
    pub goals: BTreeMap<&'static str, u64>,
    /// By the order of tasks: how many runs.
    pub orders: BTreeMap<String, u64>,
    /// Of the worlds.
    pub virtual_time: Duration,
    /// Of ours.
    pub real_time: Duration,
    /// The longest that a run took to settle everything, and its seed.
    pub slowest: (Duration, u64),
    /// What failed: the seeds.
    pub failed: Vec<u64>,
}

/// Runs the seed; every so many'th twice. A difference is a violation.
pub fn seed<B: SimBroker>(seed: u64, envelopes: u64, sum: &mut Sum) -> Ran {
    plan::<B>(&Plan::draw(seed, envelopes), sum)
}

/// The same for a plan.
pub fn plan<B: SimBroker>(plan: &Plan, sum: &mut Sum) -> Ran {
    let begun = Instant::now();
    let is_again = plan.seed.is_multiple_of(TWICE_EVERY);
    sum.twice += u64::from(is_again);
    let ran = match is_again {
        true => twice::<B>(plan),
        false => run::<B>(plan),
    };
    sum.real_time += begun.elapsed();
    sum.add(&ran);
    ran
}

/// Runs a plan twice. A difference is a violation.
pub fn twice<B: SimBroker>(plan: &Plan) -> Ran {
    let (mut ran, again) = (run::<B>(plan), run::<B>(plan));
    if again.hash != ran.hash {
        let what = format!(
            "the same seed ran differently: {:016x} and {:016x}",
            ran.hash, again.hash
        );
        ran.violations.push(what);
        ran.breaks.push(Breaks::Again);
    }
    ran
}

impl Sum {
    fn add(&mut self, ran: &Ran) {
        self.seeds += 1;
        self.events += ran.counts.events;
        self.ops += ran.counts.ops;
        self.deliveries += ran.counts.deliveries;
        self.polls += ran.polls;
        for (fault, times) in &ran.struck {
            let struck = self.struck.entry(*fault).or_default();
            struck.0 += 1;
            struck.1 += times;
        }
        for goal in ran.goals.keys() {
            *self.goals.entry(goal).or_default() += 1;
        }
        *self
            .orders
            .entry(format!("{:?}", ran.order).to_lowercase())
            .or_default() += 1;
        self.virtual_time += ran.took;
        self.slowest = self.slowest.max((ran.liveness, ran.plan.seed));
        if !ran.violations.is_empty() {
            self.failed.push(ran.plan.seed);
        }
    }

    /// The goals, and how many runs have come to each.
    pub fn reached<B: SimBroker>(&self) -> Vec<(String, u64)> {
        let wanted = GOALS.iter().chain(B::GOALS);
        let runs = |goal: &str| self.goals.get(goal).copied().unwrap_or_default();
        wanted
            .map(|goal| ((*goal).to_owned(), runs(goal)))
            .collect()
    }

    /// The goals that no run has come to.
    pub fn missed<B: SimBroker>(&self) -> Vec<&'static str> {
        let wanted = GOALS.iter().chain(B::GOALS);
        wanted
            .filter(|goal| !self.goals.contains_key(*goal))
            .copied()
            .collect()
    }

    /// The table.
    pub fn table<B: SimBroker>(&self) -> Table<'_> {
        Table {
            broker: B::NAME,
            sum: self,
            wanted: GOALS.iter().chain(B::GOALS).copied().collect(),
            knows: |fault| B::FAULTS.contains(&fault) || OURS.contains(&fault),
        }
    }
}

/// Faults that every broker's runs have.
const OURS: &[Fault] = &[
    Fault::Crash,
    Fault::Freeze,
    Fault::Close,
    Fault::Rebalance,
    Fault::ClockJump,
    Fault::HandlerErr,
    Fault::HandlerPanic,
    Fault::HandlerHang,
    Fault::HandlerSlow,
    Fault::HandlerPublish,
    Fault::HandlerSubscribe,
    Fault::HandlerDrain,
    Fault::HandlerClose,
];

/// See [`Sum::table`].
pub struct Table<'s> {
    broker: &'static str,
    sum: &'s Sum,
    wanted: Vec<&'static str>,
    knows: fn(Fault) -> bool,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = self.sum;
        let seconds = sum.real_time.as_secs_f64().max(0.001);
        writeln!(
            f,
            "simulation over {}: {} seeds, {} publishes, {} deliveries, {} lines of history, {} polls of tasks",
            self.broker, sum.seeds, sum.ops, sum.deliveries, sum.events, sum.polls
        )?;
        let orders: Vec<_> = sum
            .orders
            .iter()
            .map(|(order, runs)| format!("{order} {runs}"))
            .collect();
        writeln!(f, "  order of tasks        {}", orders.join(", "))?;
        for fault in Fault::ALL.iter().filter(|fault| (self.knows)(**fault)) {
            let (runs, times) = sum.struck.get(fault).copied().unwrap_or_default();
            writeln!(
                f,
                "  fault {:15} struck {times:7} times in {runs} runs",
                fault.name()
            )?;
        }
        let mut reached = 0;
        for goal in &self.wanted {
            let runs = sum.goals.get(goal).copied().unwrap_or_default();
            reached += usize::from(runs > 0);
            writeln!(f, "  goal  {goal:50} in {runs} runs")?;
        }
        let (liveness, seed) = sum.slowest;
        writeln!(
            f,
            "  goals reached {reached}/{}; {} seeds ran twice and were the same; slowest to settle {liveness:.1?} (seed {seed})",
            self.wanted.len(),
            sum.twice
        )?;
        writeln!(
            f,
            "  {:.0} runs a minute, {:.0} times real time",
            sum.seeds as f64 * 60.0 / seconds,
            sum.virtual_time.as_secs_f64() / seconds
        )?;
        write!(f, "  {} runs with violations", sum.failed.len())
    }
}
