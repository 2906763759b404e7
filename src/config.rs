//! What may be set about a topic, and what is asked of the broker with it.

use crate::error::ConfigureError;
use std::sync::Arc;
use std::time::Duration;

/// How a topic should be, and what to do when it is not.
///
/// What is not set is left to the backend's default, or as it is if the topic exists.
///
/// ```
/// use clearway::{Durability, Ensure, Mismatch, TopicConfig};
///
/// let orders = TopicConfig::new("orders")
///     .partitions(8)
///     .durability(Durability::Volatile)
///     .size_limit(256 * 1024)
///     .ensure(Ensure::CreateOnly)
///     .on_mismatch(Mismatch::Error);
/// assert_eq!(orders.name(), "orders");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicConfig {
    /// The topic's name.
    pub name: Arc<str>,
    /// What an acknowledged envelope must survive, at least.
    pub durability: Option<Durability>,
    /// Over how many partitions keys are spread.
    pub partitions: Option<u32>,
    /// How many brokers hold a copy.
    pub replicas: Option<u32>,
    /// How long it keeps what it has.
    pub retention: Retention,
    /// The largest envelope.
    pub size_limit: Option<usize>,
    /// What may be done about the topic before the first use.
    pub ensure: Ensure,
    /// What to do when it differs and may not be changed.
    pub mismatch: Mismatch,
}

/// What an acknowledged envelope survives. Ordered: a later one is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Durability {
    /// Gone with the broker's process.
    Volatile,
    /// In the broker's log; survives its process, and its machine only once the log was synced.
    Stored,
    /// Synced to disk before the acknowledgement.
    Synced,
}

/// What may be done about a topic before the first use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Ensure {
    /// Create it if it does not exist; never change one that does.
    #[default]
    CreateOnly,
    /// Create it, or change what differs and can be changed.
    CreateOrUpdate,
    /// Neither create nor change: look, and compare.
    ValidateOnly,
    /// Do not even look.
    Skip,
}

/// What to do when a topic differs from its configuration and may not or cannot be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mismatch {
    /// Refuse the topic.
    #[default]
    Error,
    /// Use it as it is and say so (an event and a log line).
    Warn,
}

/// How long a topic keeps what it has. What is not set is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// At most this old.
    pub age: Option<Duration>,
    /// At most this many bytes.
    pub bytes: Option<u64>,
    /// At most this many envelopes (in each partition, where the backend counts there).
    pub envelopes: Option<u64>,
}

impl TopicConfig {
    /// A topic with everything left to the backend.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            durability: None,
            partitions: None,
            replicas: None,
            retention: Retention::default(),
            size_limit: None,
            ensure: Ensure::default(),
            mismatch: Mismatch::default(),
        }
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What an acknowledged envelope must survive, at least. Less is refused, never given silently.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = Some(durability);
        self
    }

    /// Over how many partitions keys are spread.
    pub fn partitions(mut self, partitions: u32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// How many brokers hold a copy.
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// How long it keeps what it has.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// The largest envelope, in bytes of [`Envelope::size`](crate::Envelope::size).
    pub fn size_limit(mut self, bytes: usize) -> Self {
        self.size_limit = Some(bytes);
        self
    }

    /// What may be done about the topic before the first use.
    pub fn ensure(mut self, ensure: Ensure) -> Self {
        self.ensure = ensure;
        self
    }

    /// What to do when it differs and may not be changed.
    pub fn on_mismatch(mut self, mismatch: Mismatch) -> Self {
        self.mismatch = mismatch;
        self
    }

    /// The ranges that hold for every backend.
    pub(crate) fn validate(&self) -> Result<(), ConfigureError> {
        let invalid = |setting, reason: &str| {
            Err(ConfigureError::Invalid {
                topic: self.name.clone(),
                setting,
                reason: reason.into(),
            })
        };
        if self.name.is_empty() {
            return invalid("name", "it is empty");
        }
        if self.name.len() > 200 {
            return invalid("name", "it is longer than 200 bytes");
        }
        if self.partitions.is_some_and(|n| !(1..=4096).contains(&n)) {
            return invalid("partitions", "must be 1 to 4096");
        }
        if self.replicas.is_some_and(|n| !(1..=15).contains(&n)) {
            return invalid("replicas", "must be 1 to 15");
        }
        if self.size_limit == Some(0) {
            return invalid("size_limit", "must be at least 1");
        }
        let Retention {
            age,
            bytes,
            envelopes,
        } = self.retention;
        if age == Some(Duration::ZERO) || bytes == Some(0) || envelopes == Some(0) {
            return invalid(
                "retention",
                "a limit of zero keeps nothing; leave it out for no limit",
            );
        }
        Ok(())
    }
}

impl Ensure {
    /// The policy's name, as errors say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CreateOnly => "create only",
            Self::CreateOrUpdate => "create or update",
            Self::ValidateOnly => "validate only",
            Self::Skip => "skip",
        }
    }
}
