//! What must be true of every history, whoever recorded it and wherever it ran.
//!
//! One file a property; each reads the `Index` and says what it found. The catalogue follows
//! Jepsen's queue and log workloads and the guarantees G1 to G4, and G6.
//!
//! | property | does not hold when |
//! |---|---|
//! | `record` | the history contradicts itself |
//! | `outcome-missing`, `outcome-double`, `outcome-unsure` | a publish has no outcome, or two, or "surely not stored" after an attempt without an answer |
//! | `lost` | it was acked, and never delivered to a group that has caught up |
//! | `inconsistent-offsets` | a position holds two envelopes, or an envelope is delivered where it was not stored |
//! | `nonmonotonic-send` | what was acked before another publish began lies behind it in their partition |
//! | `phantom` | it was delivered, and not published |
//! | `duplicate` | it was delivered again without a cause of its own; what was done, without a session that was lost or a rebalance in between |
//! | `poll-skip` | an owner goes past an envelope that is known to be there and not done |
//! | `order` | a key, or a partition, is out of order: stored, delivered, in one owner's hands, or while an attempt of what is in front of it is due |
//! | `overlap` | two handlers of a key, or of a partition, are at work at the same time |
//! | `after-close` | anything happens after a close returned, or to a subscription after it ended; or a bus that closes takes what is published meanwhile |
//! | `close-report` | a close says that all was drained and gave publishes up, or gave them up before its time, or left deliveries that nobody lists |
//! | `left-out` | a subscription ended with something begun that it neither settled nor listed |
//! | `stuck` | a group has caught up, and never did what it was given |
//! | `commit` | a commit is past what is not done, or goes back |
//! | `retired-epoch` | a partition is used in an epoch that is over |
//! | `durability` | an ack means less than was asked for |
//!
//! `commit` lines come from Kafka only, where the broker is asked from outside what a group has committed: memory and NATS acknowledge
//! each delivery and have no such notion. What subscriptions say of their commits nobody records yet; there the check is tried on its
//! canaries.
//!
//! Jepsen's anomalies of Kafka, and where they are found:
//!
//! | anomaly | property |
//! |---|---|
//! | lost write | `lost` |
//! | duplicate | `duplicate` |
//! | inconsistent offsets | `inconsistent-offsets` |
//! | non-monotonic send | `nonmonotonic-send`; of one key: `order` |
//! | non-monotonic poll | `order`, by lane: keys of a partition overtake each other, and are meant to |
//! | poll skip | `poll-skip`; what is done later: `order`, what never comes though the group has caught up: `lost` |
//! | aborted read | `phantom` |
//!
//! A duplicate is excused only by a cause of its own: an attempt of its publish that had no
//! answer, a redelivery the broker owns up to, a nack, another owner of the partition. That a
//! fault was going on excuses nothing.

mod answer;
mod close;
mod commit;
mod committed;
mod duplicate;
mod durability;
mod epoch;
mod index;
mod left;
mod lost;
mod offsets;
mod order;
mod outcome;
mod overlap;
mod phantom;
mod record;
mod send;
mod skip;
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
    offsets::check(&index, &mut findings);
    send::check(&index, &mut findings);
    lost::check(&index, &mut findings);
    phantom::check(&index, &mut findings);
    duplicate::check(&index, &mut findings);
    skip::check(&index, &mut findings);
    order::check(&index, &mut findings);
    overlap::check(&index, &mut findings);
    close::check(&index, &mut findings);
    answer::check(&index, &mut findings);
    left::check(&index, &mut findings);
    commit::check(&index, &mut findings);
    epoch::check(&index, &mut findings);
    durability::check(&index, &mut findings);
    findings.into_verdict(history)
}
