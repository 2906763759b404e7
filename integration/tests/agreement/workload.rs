//! A workload: what is done to a broker through the bus, one step after the other. It knows no broker and does nothing.

use clearway::{Ensure, Mismatch, Order};
use std::fmt;

/// Processes, each with a bus.
pub(crate) const MEMBERS: usize = 2;
/// Groups that consume. The first sends what it gives up to the dead letters, the second skips it.
pub(crate) const GROUPS: usize = 2;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) seed: u64,
    pub(crate) partitions: u32,
    pub(crate) order: Order,
    pub(crate) steps: Vec<Step>,
}

/// Names an envelope: no two publishes of a workload have the same.
pub(crate) type Label = u32;

/// Where a new group begins.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Start {
    Earliest,
    Latest,
    Offset(u64),
}

/// One thing that is done.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// The first group's handler hangs on it when it `hangs`, until its subscription is ended.
    Publish {
        label: Label,
        key: Option<u8>,
        size: usize,
        hangs: bool,
    },
    /// Under the id that `of` has.
    Again {
        label: Label,
        of: Label,
        key: Option<u8>,
    },
    /// Beyond the topic's limit.
    TooLarge {
        label: Label,
    },
    /// To a topic of its own that nobody has made; `huge`: more than a server takes that is told no limit.
    Elsewhere {
        label: Label,
        policy: Ensure,
        huge: bool,
    },
    /// The topic that is there, with so many partitions.
    Configure {
        partitions: u32,
        policy: Ensure,
        mismatch: Mismatch,
    },
    Subscribe {
        member: usize,
        group: usize,
        start: Start,
    },
    /// At once: what is at work is cut off.
    Drain {
        member: usize,
        group: usize,
        at_once: bool,
    },
    /// All members of the group.
    Pause {
        group: usize,
    },
    Resume {
        group: usize,
    },
    Redrive,
    /// By somebody else.
    Delete,
    /// Its bus is closed, and connects anew.
    Reopen {
        member: usize,
    },
    /// Everything there is is read by groups that are new.
    Audit,
}

/// What a broker can have done to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Can {
    pub(crate) delete: bool,
    /// A drain without time waits for nothing that takes long.
    pub(crate) hurry: bool,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "seed {}: {} partitions, {:?}, {} steps",
            self.seed,
            self.partitions,
            self.order,
            self.steps.len()
        )
    }
}
