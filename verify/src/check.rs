//! What must be true of every history, whoever recorded it and wherever it ran.
//!
//! One file a property; each reads the `Index` and says what it found. The catalogue follows
//! Jepsen's queue and log workloads and the guarantees G1 to G4.
//!
//! A duplicate is excused only by a cause of its own: an attempt of its publish that had no
//! answer, a redelivery the broker owns up to, a nack, another owner of the partition. That a
//! fault was going on excuses nothing.

mod close;
mod duplicate;
mod durability;
mod index;
mod lost;
mod order;
mod outcome;
mod phantom;
mod record;
mod verdict;

pub use verdict::{Cause, Counts, Property, Verdict, Violation};

use crate::history::{self, History, ReadError};
use index::Index;
use std::path::Path;
use verdict::Findings;

/// Reads a history from a file and judges it.
pub fn file(path: impl AsRef<Path>) -> Result<Verdict, ReadError> {
    Ok(history(&history::read(path)?))
}

/// Judges a history.
pub fn history(history: &History) -> Verdict {
    let mut findings = Findings::default();
    let index = Index::new(history, &mut findings);
    record::check(&index, &mut findings);
    outcome::check(&index, &mut findings);
    lost::check(&index, &mut findings);
    phantom::check(&index, &mut findings);
    duplicate::check(&index, &mut findings);
    order::check(&index, &mut findings);
    close::check(&index, &mut findings);
    durability::check(&index, &mut findings);
    findings.into_verdict(history)
}
