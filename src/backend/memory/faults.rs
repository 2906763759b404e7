//! Faults: ways to make the broker misbehave as real ones do, for tests.

use super::broker::{Broker, State};
use crate::backend::Outcome;
use crate::error::{Failure, FailureKind};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The levers of a [`Memory`](super::Memory) broker.
#[derive(Clone, Debug)]
pub struct Faults {
    broker: Arc<Broker>,
}

/// What happens to the answer of one publish.
pub(super) enum Fate {
    /// It comes after so long.
    Answered(Duration, Outcome),
    /// It never comes.
    Lost,
}

impl Faults {
    pub(super) fn new(broker: Arc<Broker>) -> Self {
        Self { broker }
    }

    /// From here on every answer comes this late. Zero: at once.
    pub fn answer_after(&self, delay: Duration) {
        self.broker.lock().answer_after = delay;
    }

    /// The next `count` publishes are stored and never answered.
    pub fn lose_answers(&self, count: u64) {
        self.broker.lock().answers_lost = count;
    }

    /// The next `count` publishes are refused and surely not stored.
    pub fn refuse(&self, count: u64) {
        self.broker.lock().refusals = count;
    }

    /// The broker stands still: it takes nothing, and answers no ping.
    pub fn hold(&self) {
        self.broker.lock().held = true;
    }

    /// It goes on.
    pub fn release(&self) {
        self.broker.lock().held = false;
        self.links().iter().for_each(|link| link.wake());
    }

    /// Cuts every connection.
    pub fn disconnect(&self) {
        self.links().iter().for_each(|link| link.lose());
    }

    /// Whether new connections are refused.
    pub fn refuse_connections(&self, refuse: bool) {
        self.broker.lock().refuses_connections = refuse;
    }

    /// Takes a topic away with all it has. Says whether there was one.
    pub fn delete_topic(&self, name: &str) -> bool {
        self.broker.lock().delete(name)
    }

    fn links(&self) -> Vec<Arc<super::connection::Link>> {
        self.broker
            .lock()
            .connections
            .iter()
            .filter_map(Weak::upgrade)
            .collect()
    }
}

impl Fate {
    pub(super) fn of(broker: &mut State, stored: Result<(u32, u64), Failure>) -> Self {
        if stored.is_ok() && broker.answers_lost > 0 {
            broker.answers_lost -= 1;
            return Self::Lost;
        }
        let outcome = match stored {
            Ok((partition, position)) => Outcome::Acked {
                partition,
                position,
                duplicate: false,
            },
            Err(failure) => Outcome::Rejected(failure),
        };
        Self::Answered(broker.answer_after, outcome)
    }

    /// When the bus hears, and what.
    pub(super) fn outcome(self, now: Duration, timeout: Duration) -> (Duration, Outcome) {
        match self {
            Self::Answered(after, outcome) => (now + after, outcome),
            Self::Lost => {
                let failure = Failure::new(FailureKind::TimedOut, "no answer came in time");
                (now + timeout, Outcome::Unknown(failure))
            }
        }
    }
}
