#![forbid(unsafe_code)]
//! What Clearway means, and the checks that it does.
//!
//! * [`history`]: the format in which runs are recorded, simulated or real.
//! * [`linear`]: whether concurrent calls have a sequential explanation.
//! * [`protocol`](mod@protocol): the specs and the programs that are run against them.
//! * [`recorder`]: records the calls of a workload.
//! * [`check`]: the properties of a history.
//! * [`sim`]: the whole bus in virtual time, over simulated brokers.
//! * [`bugs`]: the seeded bugs and who catches them.
//! * [`mutate`]: the bugs that operators make, and which of them nobody catches.
//! * [`own`]: the same for protocols that are not Clearway's.

// Spec files say `clearway_verify::...`, so that they also compile inside the crate that is
// generated for the seeded bugs.
extern crate self as clearway_verify;

#[doc(hidden)]
pub use clearway_models;

pub mod bugs;
pub mod check;
pub mod child;
pub mod cli;
pub mod conformance;
pub mod history;
pub mod linear;
pub mod mutate;
pub mod own;
pub mod protocol;
pub mod recorder;
pub mod report;
pub mod sim;
pub mod survey;
pub mod tree;
pub mod work;
