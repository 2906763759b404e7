//! The plan of one run, drawn from its seed: how many processes, what is published, how it is consumed, and which faults there are.
//!
//! A plan is data: whoever shrinks a failing run takes something out of it and runs it again.

use super::broker::DEAD_LETTERS;
use super::fault::{Faults, Ratio};
use clearway::{DeadLetter, OnFailure, Order, Retry};
use fastrand::Rng;
use std::fmt;
use std::time::Duration;

/// What is published to, and what handlers publish to.
pub const TOPICS: [&str; 2] = ["orders", "echo"];

/// Whom members share the topics with.
pub const GROUP: &str = "audit";

/// For whom handlers subscribe.
pub const GUESTS: &str = "guests";

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Of the run.
    pub seed: u64,
    /// Processes with a bus that consumes and publishes.
    pub members: usize,
    /// How many publish side by side in each.
    pub publishers: usize,
    /// How many envelopes are published, by all together.
    pub envelopes: u64,
    /// How many keys there are.
    pub keys: u64,
    /// Of each topic.
    pub partitions: u32,
    /// How many publishes a publisher has under way at most.
    pub window: usize,
    /// Whether one publish of a key is under way at a time.
    pub ordered: bool,
    /// How long a publisher waits between two publishes, at most.
    pub pause: Duration,
    /// What runs one after the other.
    pub order: Order,
    /// How many handlers run at the same time in each member.
    pub concurrency: usize,
    /// How many deliveries each subscription may have taken.
    pub in_flight: u64,
    /// How long a handler may take.
    pub timeout: Duration,
    /// How often a delivery is tried before it goes to the dead letters. None: until it succeeds.
    pub attempts: Option<u32>,
    /// Whether acknowledgements are to be confirmed.
    pub confirm: bool,
    /// How many ids are remembered as settled. None: no duplicate is looked for.
    pub dedup: Option<usize>,
    /// Whether somebody reads all results of each bus.
    pub results: bool,
    /// What goes wrong.
    pub faults: Faults,
}

impl Plan {
    /// The plan of a seed, for about so many envelopes.
    pub fn draw(seed: u64, envelopes: u64) -> Self {
        let mut random = Rng::with_seed(seed);
        let mut faults = Faults::draw(&mut random.fork());
        let attempts = (random.u32(..3) == 0).then(|| random.u32(2..5));
        if attempts.is_some() {
            // Which letters there were is read in the end: none may be lost.
            faults.lazy_fsync = Ratio::NEVER;
        }
        let envelopes = random.u64(envelopes / 2..envelopes * 3 / 2 + 1);
        Self {
            seed,
            members: random.usize(1..4),
            publishers: random.usize(1..4),
            envelopes,
            keys: [1, 5, 20, 100][random.usize(..4)],
            partitions: random.u32(1..6),
            window: [1, 4, 16, 64][random.usize(..4)],
            ordered: random.u32(..3) == 0,
            pause: Duration::from_millis([0, 5, 30, 60][random.usize(..4)]),
            order: match random.u32(..6) {
                0 => Order::ByPartition,
                1 => Order::Unordered,
                _ => Order::ByKey,
            },
            concurrency: [1, 2, 8, 16][random.usize(..4)],
            in_flight: [1, 8, 32, 128][random.usize(..4)],
            timeout: Duration::from_millis(random.u64(300..2000)),
            attempts,
            confirm: random.u32(..4) == 0,
            dedup: (random.u32(..4) == 0).then_some(4096),
            results: random.u32(..6) == 0,
            faults,
        }
    }

    /// What is done about a delivery that failed.
    pub fn retry(&self) -> Retry {
        let retry = self.retry_for_ever();
        match self.attempts {
            // A process that is killed is no reason to give anything up here: the handler would not be called, and nobody could tell.
            Some(attempts) => retry.attempts_max(attempts).deliveries_max(1_000_000),
            None => retry,
        }
    }

    /// The same where nothing is given up.
    pub fn retry_for_ever(&self) -> Retry {
        Retry::new().delays(Duration::from_millis(10), Duration::from_millis(500))
    }

    /// What is done when no attempt is left.
    pub fn on_failure(&self) -> OnFailure {
        match self.attempts {
            // However many: a subscription that pauses itself waits for people.
            Some(_) => DeadLetter::to(DEAD_LETTERS).run_max(u32::MAX).into(),
            None => OnFailure::Block,
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} envelopes of {} keys by {}x{} publishers ({} under way{}), {} partitions; {:?}, {} handlers, {} in flight{}{}{}{}; faults: {}",
            self.envelopes,
            self.keys,
            self.members,
            self.publishers,
            self.window,
            if self.ordered { ", ordered" } else { "" },
            self.partitions,
            self.order,
            self.concurrency,
            self.in_flight,
            if self.confirm { ", confirmed" } else { "" },
            if self.dedup.is_some() { ", dedup" } else { "" },
            if self.results { ", results read" } else { "" },
            self.attempts.map_or(String::new(), |attempts| format!(
                ", dead letters after {attempts}"
            )),
            match self.faults.names() {
                names if names.is_empty() => "none".into(),
                names => names.join(" "),
            }
        )
    }
}
