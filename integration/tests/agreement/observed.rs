//! What was seen of a workload: plain data, the same of a simulated broker and of a real one.

use super::workload::Label;
use std::collections::BTreeMap;
use std::fmt;

/// An envelope in a topic: what it was published as, and how often it has been a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instance {
    pub(crate) label: Label,
    pub(crate) generation: u32,
}

/// What is handled one after the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Partition(u32),
    Key(String),
    /// Without a key, nothing waits for it.
    Alone(Instance),
}

/// How a call of a handler ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Acked,
    Skipped,
    Failed,
    Panicked,
    AskedAgain,
    Rejected,
    /// Failed or panicked, and there is no other attempt.
    GivenUp,
    /// Not yet.
    AtWork,
    /// Dropped under way.
    Cut,
}

/// A call of a handler.
#[derive(Clone, Debug)]
pub(crate) struct Handled {
    pub(crate) group: usize,
    pub(crate) of: Instance,
    pub(crate) lane: Lane,
    pub(crate) partition: u32,
    pub(crate) position: u64,
    pub(crate) attempt: u32,
    /// What else there is to compare of the envelope.
    pub(crate) note: String,
    pub(crate) how: How,
    /// It does not end by itself.
    pub(crate) hangs: bool,
}

/// How a group stands when nothing happens any more.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    pub(crate) lag: BTreeMap<u32, u64>,
    pub(crate) watermarks: BTreeMap<u32, u64>,
    pub(crate) in_flight: usize,
}

/// One step, and what followed from it.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    /// What the call said.
    pub(crate) said: String,
    /// Of the groups that somebody consumes; or what did not come to rest.
    pub(crate) rest: Result<BTreeMap<usize, Standing>, String>,
    /// In the order in which handlers began.
    pub(crate) handled: Vec<Handled>,
}

impl How {
    /// Whether the group is done with it.
    pub(crate) fn settles(self) -> bool {
        matches!(
            self,
            Self::Acked | Self::Skipped | Self::Rejected | Self::GivenUp
        )
    }

    /// Whether it has become a dead letter, where a group has these.
    pub(crate) fn buries(self) -> bool {
        matches!(self, Self::Rejected | Self::GivenUp)
    }
}

impl Instance {
    /// What it is when it comes back from the dead letters.
    pub(crate) fn redriven(self) -> Self {
        Self {
            generation: self.generation + 1,
            ..self
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.label, self.generation)
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Partition(partition) => write!(f, "partition {partition}"),
            Self::Key(key) => write!(f, "key {key}"),
            Self::Alone(instance) => write!(f, "{instance} alone"),
        }
    }
}
