//! Faults as data: how likely each is, and the weather of one run that says when one strikes.
//!
//! A run draws which faults it has and how strong they are (swarm testing: a fault that is always there hides what others would show). In
//! the liveness phase the weather is [healed](Weather::heal), and nothing strikes any more.
//!
//! Brokers and workload ask the weather and draw nothing themselves: so a fault is taken out of a run by its name, and every strike is
//! counted.

use super::broker::DEAD_LETTERS;
use super::world::World;
use crate::history::{Fault as Line, Phase};
use crate::recorder::Recorder;
use clearway::Envelope;
use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A probability, in millionths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio(pub u32);

impl Ratio {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Each time.
    pub const ALWAYS: Self = Self(1_000_000);

    /// Whether it is so this time.
    pub fn draw(self, random: &mut Rng) -> bool {
        self.0 > 0 && random.u32(..Self::ALWAYS.0) < self.0
    }
}

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident $field:ident $name:literal at most $most:literal,)*) => {
        /// Something that can go wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $fault,)* }

        /// How likely each fault is, each time that it could strike.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Faults { $($(#[$doc])* pub $field: Ratio,)* }

        impl Fault {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$fault,)*];

            /// The name, as tables and command lines have it.
            pub fn name(self) -> &'static str {
                match self { $(Self::$fault => $name,)* }
            }

            /// How likely it may be made.
            fn most(self) -> u32 {
                match self { $(Self::$fault => $most,)* }
            }
        }

        impl Faults {
            /// How likely one is.
            pub fn get(&self, fault: Fault) -> Ratio {
                match fault { $(Fault::$fault => self.$field,)* }
            }

            /// Makes one so likely.
            pub fn set(&mut self, fault: Fault, ratio: Ratio) {
                match fault { $(Fault::$fault => self.$field = ratio,)* }
            }
        }
    };
}

faults! {
    /// A publish is lost before the broker has it.
    DropBefore drop_before "drop-before" at most 40_000,
    /// The broker has stored a publish, and its answer is lost.
    DropAfter drop_after "drop-after" at most 40_000,
    /// The answer to a publish comes late, behind those of later ones.
    LateAck late_ack "late-ack" at most 100_000,
    /// A message takes long over the network.
    LateNetwork late_network "late-network" at most 50_000,
    /// What a handler answered is lost on its way to the broker.
    LostAnswer lost_answer "lost-answer" at most 30_000,
    /// The broker takes a delivery back though its time is not up.
    AckWait ack_wait "ack-wait" at most 10_000,
    /// A connection is cut, and what was in flight is stored in part. Drawn twice a second.
    Disconnect disconnect "disconnect" at most 150_000,
    /// A process is killed, and another takes its place. Drawn twice a second.
    Crash crash "crash" at most 60_000,
    /// A process stands still for a while. Drawn twice a second.
    Freeze freeze "freeze" at most 60_000,
    /// A process closes its bus, and another takes its place. Drawn twice a second.
    Close close "close" at most 60_000,
    /// A member joins or leaves the group. Drawn twice a second.
    Rebalance rebalance "rebalance" at most 80_000,
    /// The broker is killed and comes up again. Drawn twice a second.
    BrokerKill broker_kill "broker-kill" at most 40_000,
    /// A broker that is killed loses what it had acknowledged and not flushed.
    LazyFsync lazy_fsync "lazy-fsync" at most 500_000,
    /// A topic is deleted with all it has. Drawn twice a second.
    Deleted deleted "deleted" at most 15_000,
    /// The wall clock of a process jumps. Drawn twice a second.
    ClockJump clock_jump "clock-jump" at most 60_000,
    /// The broker leaves a gap in the positions of a partition.
    OffsetGap offset_gap "offset-gap" at most 100_000,
    /// A handler returns an error.
    HandlerErr handler_err "handler-err" at most 150_000,
    /// A handler panics.
    HandlerPanic handler_panic "handler-panic" at most 60_000,
    /// A handler does not end by itself.
    HandlerHang handler_hang "handler-hang" at most 10_000,
    /// A handler takes long.
    HandlerSlow handler_slow "handler-slow" at most 50_000,
    /// A handler publishes to the bus it is called from.
    HandlerPublish handler_publish "handler-publish" at most 60_000,
    /// A dead letter cannot be stored.
    DeadLetter dead_letter "dead-letter" at most 200_000,
    // Those that have come since are last: what is drawn of the others is as it was.
    /// A handler subscribes at the bus it is called from.
    HandlerSubscribe handler_subscribe "handler-subscribe" at most 3_000,
    /// A handler drains a subscription of the bus it is called from: another, or its own.
    HandlerDrain handler_drain "handler-drain" at most 60_000,
    /// A handler closes the bus it is called from.
    HandlerClose handler_close "handler-close" at most 2_000,
    /// A bus stands still for a while and its client goes on, which has threads of its own: as when handlers block their threads. Drawn twice a second.
    Block block "block" at most 300_000,
}

impl Faults {
    /// Those of a run: some, each with a strength of its own, or none at all.
    pub fn draw(random: &mut Rng) -> Self {
        let mut faults = Self::default();
        if random.u32(..16) == 0 {
            return faults;
        }
        // As many as half of them, or a few.
        let among = random.u32(2..6);
        for fault in Fault::ALL {
            let strength = fault.most() >> random.u32(..4);
            if random.u32(..among) == 0 {
                faults.set(*fault, Ratio(strength));
            }
        }
        faults
    }

    /// The names of those there are.
    pub fn names(&self) -> Vec<&'static str> {
        let there = Fault::ALL
            .iter()
            .filter(|fault| self.get(**fault) > Ratio::NEVER);
        there.map(|fault| fault.name()).collect()
    }
}

/// What strikes in a run, when, and how often it did. Clones are the same.
#[derive(Clone)]
pub struct Weather(Arc<Sky>);

struct Sky {
    world: World,
    recorder: Option<Arc<Recorder>>,
    now: Mutex<Now>,
}

struct Now {
    faults: Faults,
    calm: bool,
    /// One for each fault: what is taken out of a run leaves the draws of the others as they are.
    chance: Vec<Rng>,
    delays: Rng,
    struck: Vec<u64>,
    goals: BTreeMap<&'static str, u64>,
}

impl Weather {
    /// The weather of a run. With a recorder, what [`tell`](Self::tell) is told is in the history.
    pub fn new(world: &World, seed: u64, faults: Faults, recorder: Option<Arc<Recorder>>) -> Self {
        let mut random = Rng::with_seed(seed ^ 0x5741_5448_4552);
        let now = Now {
            faults,
            calm: false,
            delays: random.fork(),
            chance: Fault::ALL.iter().map(|_| random.fork()).collect(),
            struck: vec![0; Fault::ALL.len()],
            goals: BTreeMap::new(),
        };
        Self(Arc::new(Sky {
            world: world.clone(),
            recorder,
            now: Mutex::new(now),
        }))
    }

    /// The world.
    pub fn world(&self) -> &World {
        &self.0.world
    }

    /// Whether it strikes this time. Counted.
    pub fn strikes(&self, fault: Fault) -> bool {
        let mut now = self.now();
        let ratio = now.faults.get(fault);
        if now.calm || !ratio.draw(&mut now.chance[fault as usize]) {
            return false;
        }
        now.struck[fault as usize] += 1;
        drop(now);
        self.0.world.note(1000 + fault as u64);
        true
    }

    /// Whether the run has it at all.
    pub fn has(&self, fault: Fault) -> bool {
        self.now().faults.get(fault) > Ratio::NEVER
    }

    /// How long a message is under way in one direction: a fraction of a millisecond, and long if [`Fault::LateNetwork`] strikes. Whoever
    /// keeps an order, as a TCP connection does, has to see to it.
    pub fn delay(&self) -> Duration {
        if self.strikes(Fault::LateNetwork) {
            return Duration::from_millis(self.now().delays.u64(5..500));
        }
        Duration::from_micros(self.now().delays.u64(50..800))
    }

    /// A number below `below`, for where and for how long.
    pub fn below(&self, below: u64) -> u64 {
        self.now().delays.u64(..below.max(1))
    }

    /// Something that the runs of many seeds have to come to has come.
    pub fn goal(&self, goal: &'static str) {
        *self.now().goals.entry(goal).or_default() += 1;
    }

    /// Writes into the history that something breaks, or has been mended.
    pub fn tell(&self, what: impl Into<String>, phase: Phase) {
        if let Some(recorder) = &self.0.recorder {
            let what = what.into();
            recorder.record(Line { what, phase });
        }
    }

    /// An attempt had no answer, and a client sends the envelope once more. Dead letters are published by nobody that the history knows.
    pub fn resend(&self, topic: &str, envelope: &Envelope) {
        if let Some(recorder) = &self.0.recorder
            && topic != DEAD_LETTERS
        {
            recorder.resend(topic, &envelope.id.to_string());
        }
    }

    /// The recorder, if the run has one.
    pub fn recorder(&self) -> Option<&Recorder> {
        self.0.recorder.as_deref()
    }

    /// From here on nothing strikes.
    pub fn heal(&self) {
        self.now().calm = true;
    }

    /// Whether it was healed.
    pub fn is_calm(&self) -> bool {
        self.now().calm
    }

    /// How often each fault struck.
    pub fn struck(&self) -> Vec<(Fault, u64)> {
        let now = self.now();
        let struck = Fault::ALL.iter().copied().zip(now.struck.iter().copied());
        struck.filter(|(_, times)| *times > 0).collect()
    }

    /// How often each goal was reached.
    pub fn goals(&self) -> BTreeMap<&'static str, u64> {
        self.now().goals.clone()
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Weather {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Weather")
    }
}
