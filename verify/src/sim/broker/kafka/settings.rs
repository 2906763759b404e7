//! How a simulated Kafka and its clients are set: as one would set real ones, or drawn for a run.

use super::group::{Patience, Rebalancing};
use crate::sim::fault::Weather;
use std::time::Duration;

/// Where a group goes on when what it would read next is not kept any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// With the oldest that is kept.
    Earliest,
    /// With the next one to come.
    Latest,
    /// Nowhere: the consumer fails.
    Error,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How the members of a group share partitions.
    pub rebalancing: Rebalancing,
    /// How long a coordinator waits.
    pub patience: Patience,
    /// Between two signs of life of a member.
    pub heartbeat: Duration,
    /// What is settled is committed so often.
    pub commit_every: Duration,
    /// So long a partition that goes to another is held back for handlers.
    pub hand_over_limit: Duration,
    /// Where a group goes on.
    pub offset_reset: OffsetReset,
    /// Partitions of a topic that says no number.
    pub partitions: u32,
    /// How long a broker may take to answer.
    pub request_timeout: Duration,
    /// How long a publish may be without an outcome.
    pub publish_timeout: Duration,
    /// As many deliveries are held ready, at most.
    pub ahead: usize,
}

impl Settings {
    /// As a client has them that is told nothing, with signs of life as often as a test likes them.
    pub fn new(rebalancing: Rebalancing) -> Self {
        Self {
            rebalancing,
            patience: Patience {
                session: Duration::from_secs(10),
                rebalance: Duration::from_secs(30),
            },
            heartbeat: Duration::from_millis(100),
            commit_every: Duration::from_secs(1),
            hand_over_limit: Duration::from_secs(10),
            offset_reset: OffsetReset::Earliest,
            partitions: 4,
            request_timeout: Duration::from_secs(2),
            publish_timeout: Duration::from_secs(10),
            ahead: 1024,
        }
    }

    /// Those of a run.
    pub fn drawn(weather: &Weather) -> Self {
        let rebalancing = match weather.below(3) {
            0 => Rebalancing::Eager,
            1 => Rebalancing::Cooperative,
            _ => Rebalancing::Broker,
        };
        weather.goal(match rebalancing {
            Rebalancing::Eager => "members that give back everything",
            Rebalancing::Cooperative => "members that give back what changes hands",
            Rebalancing::Broker => "members that the broker deals out to",
        });
        let mut settings = Self::new(rebalancing);
        let seconds = Duration::from_secs;
        settings.patience.session = seconds(3 + weather.below(8));
        settings.patience.rebalance = seconds(8 + weather.below(20));
        settings.heartbeat = settings.patience.session / (3 + weather.below(8) as u32);
        settings.commit_every = Duration::from_millis(20 + weather.below(2000));
        // Longer than any handler takes: what is taken from one that is at work overlaps with it, and is meant to.
        settings.hand_over_limit = Duration::from_millis(2500 + weather.below(4000));
        settings.ahead = 1 << weather.below(8);
        settings
    }

    /// So long after it heard last a member is not sure of what it has.
    pub fn silence(&self) -> Duration {
        (self.patience.session / 3).min(Duration::from_secs(5))
    }
}
