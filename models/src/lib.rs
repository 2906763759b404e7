//! The production protocols, compiled again over loom, over shuttle and over plain threads.
//!
//! `src/protocol/*.rs` say `use super::sync`; here `super` is one of the three worlds below.
//! Nothing is copied and nothing is configured: it is the same file, and beside it its model,
//! `models/src/<protocol>.rs`, with one test for every invariant. `--cfg loom` chooses the depth
//! and nothing else.

#![allow(clippy::duplicate_mod)] // the point of this crate

mod atomics;
mod catalog;
mod recorder;
pub mod registry;
pub mod report;
pub mod weaken;

pub use catalog::{ENGINES, models, orderings, run};

/// Every interleaving, and every value the orderings allow.
#[path = "."]
pub mod under_loom {
    #[path = "engine/loom.rs"]
    pub mod engine;
    #[path = "oracle.rs"]
    pub mod oracle;
    #[path = "sync/loom.rs"]
    pub mod sync;

    #[path = "../../src/protocol/credit.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod credit;
    #[path = "../../src/protocol/gate.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod gate;
    #[path = "../../src/protocol/interest.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod interest;
    #[path = "../../src/protocol/lane.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod lane;
    #[path = "../../src/protocol/ledger.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod ledger;
    #[path = "../../src/protocol/mode.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod mode;
    #[path = "../../src/protocol/session.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod session;
    #[path = "../../src/protocol/singleflight.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod singleflight;
    #[path = "../../src/protocol/snapshot.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod snapshot;
    #[path = "../../src/protocol/tally.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod tally;
    #[path = "../../src/protocol/watermark.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod watermark;

    #[path = "credit.rs"]
    pub mod credit_model;
    #[path = "gate.rs"]
    pub mod gate_model;
    #[path = "interest.rs"]
    pub mod interest_model;
    #[path = "lane.rs"]
    pub mod lane_model;
    #[path = "ledger.rs"]
    pub mod ledger_model;
    #[path = "mode.rs"]
    pub mod mode_model;
    #[path = "session.rs"]
    pub mod session_model;
    #[path = "singleflight.rs"]
    pub mod singleflight_model;
    #[path = "snapshot.rs"]
    pub mod snapshot_model;
    #[path = "tally.rs"]
    pub mod tally_model;
    #[path = "watermark.rs"]
    pub mod watermark_model;

    /// All models, by protocol.
    pub const MODELS: &[&[super::registry::Model]] = &[
        credit_model::MODELS,
        gate_model::MODELS,
        interest_model::MODELS,
        lane_model::MODELS,
        ledger_model::MODELS,
        mode_model::MODELS,
        session_model::MODELS,
        singleflight_model::MODELS,
        snapshot_model::MODELS,
        tally_model::MODELS,
        watermark_model::MODELS,
    ];
}

/// Many interleavings, chosen by several schedulers.
#[path = "."]
pub mod under_shuttle {
    #[path = "engine/shuttle.rs"]
    pub mod engine;
    #[path = "oracle.rs"]
    pub mod oracle;
    #[path = "sync/shuttle.rs"]
    pub mod sync;

    #[path = "../../src/protocol/credit.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod credit;
    #[path = "../../src/protocol/gate.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod gate;
    #[path = "../../src/protocol/interest.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod interest;
    #[path = "../../src/protocol/lane.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod lane;
    #[path = "../../src/protocol/ledger.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod ledger;
    #[path = "../../src/protocol/mode.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod mode;
    #[path = "../../src/protocol/session.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod session;
    #[path = "../../src/protocol/singleflight.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod singleflight;
    #[path = "../../src/protocol/snapshot.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod snapshot;
    #[path = "../../src/protocol/tally.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod tally;
    #[path = "../../src/protocol/watermark.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod watermark;

    #[path = "credit.rs"]
    pub mod credit_model;
    #[path = "gate.rs"]
    pub mod gate_model;
    #[path = "interest.rs"]
    pub mod interest_model;
    #[path = "lane.rs"]
    pub mod lane_model;
    #[path = "ledger.rs"]
    pub mod ledger_model;
    #[path = "mode.rs"]
    pub mod mode_model;
    #[path = "session.rs"]
    pub mod session_model;
    #[path = "singleflight.rs"]
    pub mod singleflight_model;
    #[path = "snapshot.rs"]
    pub mod snapshot_model;
    #[path = "tally.rs"]
    pub mod tally_model;
    #[path = "watermark.rs"]
    pub mod watermark_model;

    /// All models, by protocol.
    pub const MODELS: &[&[super::registry::Model]] = &[
        credit_model::MODELS,
        gate_model::MODELS,
        interest_model::MODELS,
        lane_model::MODELS,
        ledger_model::MODELS,
        mode_model::MODELS,
        session_model::MODELS,
        singleflight_model::MODELS,
        snapshot_model::MODELS,
        tally_model::MODELS,
        watermark_model::MODELS,
    ];
}

/// Real threads and real memory, for ThreadSanitizer.
#[path = "."]
pub mod under_threads {
    #[path = "engine/threads.rs"]
    pub mod engine;
    #[path = "oracle.rs"]
    pub mod oracle;
    #[path = "sync/threads.rs"]
    pub mod sync;

    #[path = "../../src/protocol/credit.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod credit;
    #[path = "../../src/protocol/gate.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod gate;
    #[path = "../../src/protocol/interest.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod interest;
    #[path = "../../src/protocol/lane.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod lane;
    #[path = "../../src/protocol/ledger.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod ledger;
    #[path = "../../src/protocol/mode.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod mode;
    #[path = "../../src/protocol/session.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod session;
    #[path = "../../src/protocol/singleflight.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod singleflight;
    #[path = "../../src/protocol/snapshot.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod snapshot;
    #[path = "../../src/protocol/tally.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod tally;
    #[path = "../../src/protocol/watermark.rs"]
    #[allow(dead_code, missing_docs, unreachable_pub)]
    pub mod watermark;

    #[path = "credit.rs"]
    pub mod credit_model;
    #[path = "gate.rs"]
    pub mod gate_model;
    #[path = "interest.rs"]
    pub mod interest_model;
    #[path = "lane.rs"]
    pub mod lane_model;
    #[path = "ledger.rs"]
    pub mod ledger_model;
    #[path = "mode.rs"]
    pub mod mode_model;
    #[path = "session.rs"]
    pub mod session_model;
    #[path = "singleflight.rs"]
    pub mod singleflight_model;
    #[path = "snapshot.rs"]
    pub mod snapshot_model;
    #[path = "tally.rs"]
    pub mod tally_model;
    #[path = "watermark.rs"]
    pub mod watermark_model;

    /// All models, by protocol.
    pub const MODELS: &[&[super::registry::Model]] = &[
        credit_model::MODELS,
        gate_model::MODELS,
        interest_model::MODELS,
        lane_model::MODELS,
        ledger_model::MODELS,
        mode_model::MODELS,
        session_model::MODELS,
        singleflight_model::MODELS,
        snapshot_model::MODELS,
        tally_model::MODELS,
        watermark_model::MODELS,
    ];
}
