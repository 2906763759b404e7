#![forbid(unsafe_code)]
//! What Clearway means, and the checks that it does.
//!
//! * [`history`]: the format in which runs are recorded, simulated or real.
//! * [`linear`]: whether concurrent calls have a sequential explanation.
//! * [`protocol`]: the specs and the programs that are run against them.
//! * [`recorder`]: records the calls of a workload.
//! * [`check`]: the properties of a history.
//! * [`sim`]: the whole bus in virtual time, over simulated brokers.
//! * [`bugs`]: the seeded bugs and who catches them.

// Spec files say `clearway_verify::...`, so that they also compile inside the crate that is
// generated for the seeded bugs.
extern crate self as clearway_verify;

pub mod bugs;
pub mod check;
pub mod child;
pub mod cli;
pub mod conformance;
pub mod history;
pub mod linear;
pub mod protocol;
pub mod recorder;
pub mod report;
pub mod sim;
pub mod tree;
pub mod work;
