//! What happened in a run, in the order it happened: the format that every recorder writes and
//! every check reads, whether the run was simulated or against a real server.
//!
#![doc = include_str!("history/format.md")]

mod event;
mod merge;
mod read;
mod write;

pub use event::{
    Acked, Close, ClosePhase, Commit, Deliver, Disconnect, Drained, Durability, Ended, Erased,
    Event, Fault, Frozen, Invoke, Order, Phase, Rebalance, Reconnect, Rejected, Resend, Settle,
    Settled, Subscribe, Unknown,
};
pub use merge::{Owners, merge};
pub use read::{ReadError, read, read_cut, read_str};
pub use write::Log;

use serde::{Deserialize, Serialize};

/// The version this crate writes, and the only one it reads.
pub const VERSION: u32 = 1;

/// The first line: what was run, where and how.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// The version of the format.
    pub clearway_history: u32,
    /// `memory`, `nats` ...
    pub backend: String,
    /// The version of the server, as it names itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// How the server was started, or where it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<String>,
    /// The seed of the workload and its faults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What was done, in a few words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub workload: String,
    /// What an ack has to mean, unless the publish says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    /// When the run began; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<String>,
}

impl Header {
    /// A header that says no more than the backend.
    pub fn new(backend: impl Into<String>) -> Self {
        Self {
            clearway_history: VERSION,
            backend: backend.into(),
            server: None,
            how: None,
            seed: None,
            workload: String::new(),
            durability: None,
            started: None,
        }
    }
}

/// One event, where it stands in the file and when it happened.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The line of the file, from 1; the header is line 1.
    pub line: usize,
    /// Nanoseconds since the run began.
    pub at: u64,
    /// What happened.
    pub event: Event,
}

/// A whole run.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// What was run.
    pub header: Header,
    /// What happened, in order.
    pub entries: Vec<Entry>,
}

impl History {
    /// The history as its file would read.
    pub fn to_text(&self) -> String {
        let mut text = serde_json::to_string(&self.header).expect("a header is plain data");
        for entry in &self.entries {
            text.push('\n');
            text.push_str(&write::line(entry.at, &entry.event));
        }
        text.push('\n');
        text
    }
}
