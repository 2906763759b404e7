//! One run: a world, a broker, a cast and its weather; first the faults, then calm, in which all must come to an end; then the checker reads
//! what was recorded.

use super::breaks::Breaks;
use super::broker::{DEAD_LETTERS, SimBroker};
use super::fault::{Fault, Weather};
use super::handler;
use super::letters::Undertaker;
use super::life::{Common, Life};
use super::nemesis::Cast;
use super::plan::{GROUP, GUESTS, Plan, TOPICS};
use super::record::Record;
use super::world::{Order, World};
use crate::check::{self, Counts, Verdict, Violation};
use crate::history::History;
use clearway::Runtime;
use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};
use std::time::Duration;

/// The faults last at most so long.
const SAFETY_MAX: Duration = Duration::from_secs(40);

/// From the calm on all has to be settled within so long.
const LIVENESS_MAX: Duration = Duration::from_secs(120);

/// A world that is not over by then will never be.
const WORLD_MAX: Duration = Duration::from_secs(3600);

/// How long a subscription may be without a consumer once it is calm.
const CONSUMERS_MAX: Duration = Duration::from_secs(15);

/// How long the last close may take.
const CLOSE_MAX: Duration = Duration::from_secs(60);

/// How a run went.
pub struct Ran {
    /// What was done.
    pub plan: Plan,
    /// In which order tasks ran.
    pub order: Order,
    /// What does not hold. Empty: all does.
    pub violations: Vec<String>,
    /// Which properties those are, those of the history first.
    pub breaks: Vec<Breaks>,
    /// Those of the history, with the lines that show them.
    pub shown: Vec<Violation>,
    /// Of all that happened.
    pub hash: u64,
    /// How often a task was polled.
    pub polls: u64,
    /// How long it took in the world's time.
    pub took: Duration,
    /// How long it took to settle everything once it was calm.
    pub liveness: Duration,
    /// How much of everything there was.
    pub counts: Counts,
    /// How often each fault struck.
    pub struck: Vec<(Fault, u64)>,
    /// How often each goal was reached.
    pub goals: BTreeMap<&'static str, u64>,
    /// What was recorded.
    pub history: Option<History>,
}

/// Runs a plan over a broker.
pub fn run<B: SimBroker>(plan: &Plan) -> Ran {
    quiet_panics();
    let world = World::drawn(plan.seed);
    let record = Arc::new(Record::begin(B::NAME, &world, plan));
    let recorder = Some(record.recorder.clone());
    let weather = Weather::new(&world, plan.seed, plan.faults.clone(), recorder);
    let common = Arc::new(Common {
        record: record.clone(),
        weather: weather.clone(),
        plan: Arc::new(plan.clone()),
        begun: AtomicU64::new(0),
        publishing: AtomicU64::new(0),
        guested: Mutex::default(),
    });
    let mut run = Run::<B> {
        broker: B::new(&weather),
        common,
        violations: Vec::new(),
        liveness: Duration::ZERO,
        letters: BTreeSet::new(),
    };
    let ended = catch_unwind(AssertUnwindSafe(|| world.run_until(WORLD_MAX, run.play())));
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(stuck)) => run.broken(Breaks::NoEnd, stuck.to_string()),
        Err(panic) => run.broken(Breaks::Panic, format!("panic: {}", text_of(&*panic))),
    }
    let Run {
        broker,
        common,
        mut violations,
        liveness,
        letters,
    } = run;
    drop((broker, common));
    let complaints = record.complaints().into_iter();
    violations.extend(complaints.map(|what| (Breaks::Door, what)));
    let took = world.now();
    let (hash, polls, order) = (world.hash(), world.polls(), world.order());
    // The tasks of the world hold it, and each other.
    world.end();
    let (struck, goals) = (weather.struck(), weather.goals());
    drop(weather);
    let history = Arc::into_inner(record).and_then(|record| record.into_history(&letters));
    let verdict = history.as_ref().map(check::history);
    if verdict.is_none() {
        let what = "somebody still writes to the history of a run that is over";
        violations.push((Breaks::OpenRecord, what.into()));
    }
    let (breaks, violations) = told(violations, verdict.as_ref());
    let judged = verdict.map(|verdict| (verdict.counts, verdict.violations));
    let (counts, shown) = judged.unwrap_or_default();
    Ran {
        plan: plan.clone(),
        order,
        violations,
        breaks,
        shown,
        hash,
        polls,
        took,
        liveness,
        counts,
        struck,
        goals,
        history,
    }
}

/// What does not hold by name, that of the history first, and in words.
fn told(of_run: Vec<(Breaks, String)>, verdict: Option<&Verdict>) -> (Vec<Breaks>, Vec<String>) {
    let shown = verdict.into_iter().flat_map(|verdict| &verdict.violations);
    let mut breaks: Vec<_> = shown.map(|v| Breaks::History(v.property)).collect();
    let (names, mut violations): (Vec<_>, Vec<_>) = of_run.into_iter().unzip();
    breaks.extend(names);
    breaks.dedup();
    let verdict = verdict.filter(|verdict| !verdict.is_ok());
    violations.extend(verdict.map(Verdict::to_string));
    (breaks, violations)
}

struct Run<B> {
    broker: B,
    common: Arc<Common>,
    violations: Vec<(Breaks, String)>,
    liveness: Duration,
    /// The dead letters that were read.
    letters: BTreeSet<(String, u32)>,
}

impl<B: SimBroker> Run<B> {
    fn broken(&mut self, breaks: Breaks, what: String) {
        self.violations.push((breaks, what));
    }

    async fn play(&mut self) {
        let common = self.common.clone();
        let world = common.weather.world().clone();
        let cast = Cast::begin(&common, &self.broker);
        let over = Arc::new(AtomicU64::new(0));
        let (disturbing, said) = (cast.clone(), over.clone());
        world.spawn(
            "sim-nemesis",
            Box::pin(async move {
                disturbing.disturb().await;
                said.store(1, Ordering::Relaxed);
            }),
        );
        let until = world.now() + SAFETY_MAX;
        while world.now() < until && common.begun.load(Ordering::Relaxed) < common.plan.envelopes {
            world.sleep(Duration::from_millis(50)).await;
        }
        world
            .sleep(Duration::from_millis(common.weather.below(4000)))
            .await;
        common.weather.heal();
        while over.load(Ordering::Relaxed) == 0 {
            world.sleep(Duration::from_millis(50)).await;
        }
        let calm = world.now();
        let undertaker = common
            .plan
            .attempts
            .map(|_| Undertaker::begin(&common, &self.broker));
        let settled = self
            .settled(&cast, undertaker.as_ref(), calm + LIVENESS_MAX)
            .await;
        self.liveness = world.now() - calm;
        if let Err(what) = settled {
            let what = format!("liveness: after {LIVENESS_MAX:?} of calm {what}");
            self.broken(Breaks::Liveness, what);
            return;
        }
        // Whoever lost its consumer late has another by then.
        world.sleep(CONSUMERS_MAX).await;
        cast.look();
        for topic in TOPICS {
            common.record.recorder.drained(topic, GROUP);
        }
        for topic in &*common.guested() {
            common.record.recorder.drained(topic, GUESTS);
        }
        if let Some(undertaker) = &undertaker {
            self.letters = undertaker.found();
            if let Some(missing) = undertaker.missing() {
                self.broken(Breaks::DeadLetter, missing);
            }
        }
        self.end(&cast.lives()).await;
    }

    /// Waits until everything is published, delivered and settled.
    async fn settled(
        &self,
        cast: &Cast<B>,
        undertaker: Option<&Undertaker>,
        until: Duration,
    ) -> Result<(), String> {
        let common = &self.common;
        let world = common.weather.world();
        loop {
            cast.fill();
            let mut open = Vec::new();
            let lives = cast.lives();
            let begun = common.begun.load(Ordering::Relaxed);
            if begun < common.plan.envelopes {
                open.push(format!(
                    "{begun} of {} envelopes are published",
                    common.plan.envelopes
                ));
            }
            match common.publishing.load(Ordering::Relaxed) {
                0 => {}
                publishers => open.push(format!("{publishers} publishers wait")),
            }
            if lives.iter().any(|life| !life.is_open()) {
                open.push("a process has no bus".into());
            }
            for topic in TOPICS {
                match self.broker.lag(topic, GROUP) {
                    0 => {}
                    lag => open.push(format!("{lag} of {topic} are not acknowledged")),
                }
            }
            for topic in common.guested().clone() {
                match self.broker.lag(topic, GUESTS) {
                    0 => {}
                    lag => open.push(format!("{lag} of {topic} are not acknowledged by guests")),
                }
                if !lives.iter().any(|life| life.has_guests(topic)) {
                    let _ = lives.iter().any(|life| life.invite_guests(topic));
                    open.push(format!("{topic} has no guests"));
                }
            }
            if let Some(undertaker) = undertaker
                && !undertaker.is_done(self.broker.lag(DEAD_LETTERS, super::letters::GROUP))
            {
                open.push("not all dead letters are read".into());
            }
            match common.record.open_handlers() {
                0 => {}
                handlers => open.push(format!("{handlers} handlers are at work")),
            }
            if open.is_empty() {
                for life in &lives {
                    match life.in_flight().await {
                        0 => {}
                        left => open.push(format!(
                            "{left} deliveries are in flight at {:?}",
                            life.process
                        )),
                    }
                }
            }
            if open.is_empty() {
                return Ok(());
            }
            if world.now() > until {
                return Err(open.join(", "));
            }
            world.sleep(Duration::from_millis(100)).await;
        }
    }

    /// Closes every bus: with nothing to do it says that it is drained, and leaves no task behind.
    async fn end(&mut self, lives: &[Arc<Life>]) {
        let world = self.common.weather.world().clone();
        for life in lives {
            match life.clone().close(CLOSE_MAX).await {
                Some(report) if report.drained && report.deliveries_left == 0 => {}
                Some(report) => {
                    let what = format!("a close with nothing inside: {report:?}");
                    self.broken(Breaks::LastClose, what);
                }
                None => {
                    let what = "a bus was closed that nobody closes".into();
                    self.broken(Breaks::LastClose, what);
                }
            }
        }
        // Handles go with the tasks that have them; what a bus runs has ended before its close has.
        world.sleep(Duration::from_secs(1)).await;
        for life in lives {
            let names = world.names_of(life.process.number());
            if !names.is_empty() {
                let (of, names) = (&life.process, names.join(", "));
                let what = format!("after the close of {of:?} these run on: {names}");
                self.broken(Breaks::LastClose, what);
            }
        }
    }
}

/// A handler that was told to panic need not say so.
fn quiet_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if panic.payload().downcast_ref() != Some(&handler::PANIC) {
                loud(panic);
            }
        }));
    });
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "of no text".into())
}
