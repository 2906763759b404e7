//! What happened in a run, in the order it happened: the format that every recorder writes and
//! every check reads, whether the run was simulated or against a real server.
//!
//! # The format, version 1
//!
//! UTF-8 text, one JSON object a line. Blank lines are skipped. The order of the lines is the
//! order of the events: of two lines the upper one happened first, and `at` never falls. Whoever
//! records takes the time and the place in the file under one lock. An event that *starts*
//! something is written before it starts, one that *ends* something after it has ended, so an
//! operation lies inside the lines that stand for it.
//!
//! The first line is the header:
//!
//! ```json
//! {"clearway_history":1,"backend":"nats","server":"2.12.1","how":"container nats:2.12.1","seed":7,"workload":"16 publishers","durability":"stored","started":"2026-11-23T07:15:00Z"}
//! ```
//!
//! Only `clearway_history` and `backend` are required. A reader refuses a version it does not
//! know. `durability` is what the run wants unless an `invoke` says otherwise.
//!
//! Every other line is `{"at": nanoseconds since the start, "<event>": {...}}`:
//!
//! | event       | stands for | fields (in brackets: optional) |
//! |-------------|------------|--------------------------------|
//! | `invoke`    | a publish begins | `op` (a number of its own), `process` (one thread of control), `topic`, `id`, \[`key`\], `seq` (n-th of its process), `size`, \[`bus`\], \[`ordered`\], \[`durability`\] |
//! | `acked`     | it ended: stored | `op`, `partition`, `position`, \[`duplicate`\] (the broker had it already), \[`durability`\] (as stored) |
//! | `rejected`  | it ended: surely not stored | `op`, `reason` |
//! | `unknown`   | it ended: may be stored | `op`, `reason` |
//! | `resend`    | one attempt had no answer and the envelope is sent once more | `id` or `op`, \[`topic`\] |
//! | `subscribe` | a subscription begins | `subscription`, `topic`, `group`, \[`order`\]: `partition` (default), `key` or `none`, \[`bus`\] |
//! | `deliver`   | a handler begins with an envelope | `subscription`, `topic`, `group`, `partition`, `position`, `id`, \[`key`\], \[`attempt`\] (1 is the first), \[`epoch`\], \[`bus`\] |
//! | `settle`    | the handler has ended | `subscription`, `topic`, `partition`, `position`, `how`: `ack`, `nack`, `dead_letter` or `cancelled`, \[`why`\] (for people) |
//! | `commit`    | everything below `position` is done; without a `subscription`: the broker, asked from outside, has said so, and the line is written when its answer is there | `topic`, `group`, `partition`, `position`, \[`subscription`\], \[`epoch`\] (the subscription's) |
//! | `rebalance` | partitions changed hands | `topic`, `group`, `epoch`, \[`subscription`\], \[`partitions`\] |
//! | `reconnect` | a new session is in use | `generation`, \[`bus`\] |
//! | `disconnect` | a session is lost; the acks that were under way may not have arrived, and handlers may outlive their ownership | \[`killed`\] (with the whole process: its handlers end here), \[`bus`\] |
//! | `frozen`    | a process stands still: `begin` is written when it does already, `end` before it goes on, so that it did nothing in between | `phase`, \[`bus`\] |
//! | `ended`     | a subscription has drained or was cut off | `subscription`, \[`left`\] (`[partition, position]` of each delivery taken and not settled), \[`blocked`\] |
//! | `fault`     | somebody breaks (`begin`) or mends (`end`) something | `what`, `phase` |
//! | `erased`    | what a topic held is destroyed from outside, its positions start again | `topic`, `phase`: `begin` or `end` |
//! | `close`     | a caller closes the bus | `process`, `phase`: `invoke` or `return`, \[`report`\] (any JSON, at the return), \[`bus`\] |
//! | `drained`   | the group has caught up: what it has not seen by now is lost | `topic`, `group` |
//!
//! `epoch` counts the owners of a partition inside a group and starts at 0; a recorder whose broker has no such count
//! counts them as they appear. On NATS nothing is committed (a consumer acknowledges each delivery), so `commit` lines come
//! from brokers with positions only: on Kafka what the group has committed is read from outside, now and then. `bus` tells the buses
//! of one run apart and is 0 where there is one. Durabilities from weak to strong: `volatile`,
//! `stored`, `synced`. An unknown field is an error: a misspelt one would silence a
//! check.

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
