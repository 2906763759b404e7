//! Specs: every protocol as if there were one thread, and the programs that are run against it.
//!
//! A spec file generates small concurrent programs, runs each under many of shuttle's schedules
//! and records who called what, when, and what was answered. The recorded calls must have an
//! order that the sequential spec allows. A program that fails is shrunk.

pub mod credit;
pub mod gate;
pub mod interest;
pub mod lane;
pub mod ledger;
pub mod mode;
mod run;
pub mod session;
pub mod singleflight;
pub mod snapshot;
pub mod tally;
pub mod watermark;

pub use run::{CallOf, CallsOf, Checked, Protocol, explore};

/// What the specs judge: the protocols under shuttle. In the crate that is generated for the
/// seeded bugs a module of this name has the patched ones.
pub mod subject {
    pub use clearway_models::under_shuttle::{
        credit, engine, gate, interest, lane, ledger, mode, session, singleflight, snapshot, tally,
        watermark,
    };
}

/// Runs a number of a spec's programs, chosen by a seed.
pub type Histories = fn(programs: u32, seed: u64) -> Checked;

/// Every spec, by its protocol's name.
pub const SPECS: [(&str, Histories); 11] = [
    (gate::NAME, gate::histories),
    (credit::NAME, credit::histories),
    (interest::NAME, interest::histories),
    (lane::NAME, lane::histories),
    (ledger::NAME, ledger::histories),
    (session::NAME, session::histories),
    (singleflight::NAME, singleflight::histories),
    (snapshot::NAME, snapshot::histories),
    (tally::NAME, tally::histories),
    (mode::NAME, mode::histories),
    (watermark::NAME, watermark::histories),
];
