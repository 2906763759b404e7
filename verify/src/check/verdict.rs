//! What a check found, for people and for machines.

use crate::history::{Header, History};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// How many violations of one property are kept. All are counted.
const KEPT: usize = 200;

/// How many violations of one property a terminal gets.
const SHOWN: usize = 10;

/// A property of every history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Property {
    /// The history contradicts itself, so the rest may mean little.
    Record,
    /// A publish without an outcome.
    OutcomeMissing,
    /// A publish with two.
    OutcomeDouble,
    /// A publish called surely not stored after an attempt that had no answer.
    OutcomeUnsure,
    /// Acked, and never delivered though the group has caught up.
    Lost,
    /// One position holds two envelopes, or an envelope is not where it was acked.
    InconsistentOffsets,
    /// Acked before another publish began, and behind it in the partition.
    NonmonotonicSend,
    /// Delivered, and never published or surely rejected.
    Phantom,
    /// Delivered again without a cause of its own.
    Duplicate,
    /// An owner went past something that is there and not done.
    PollSkip,
    /// A key, or a partition, out of order.
    Order,
    /// Two handlers of one key, or of one partition, at work at the same time.
    Overlap,
    /// Something happened after close had returned, or a subscription had ended.
    AfterClose,
    /// What a close answered is not what it did.
    CloseReport,
    /// Begun by a subscription, and neither settled nor listed when it ended.
    LeftOut,
    /// Delivered, and never done though the group has caught up.
    Stuck,
    /// Committed past what was not done, or back.
    Commit,
    /// Used a partition in an epoch that was over.
    RetiredEpoch,
    /// Stored more weakly than was asked for.
    Durability,
}

impl Property {
    /// Every property, in the order of the report.
    pub const ALL: [Self; 19] = [
        Self::Record,
        Self::OutcomeMissing,
        Self::OutcomeDouble,
        Self::OutcomeUnsure,
        Self::Lost,
        Self::InconsistentOffsets,
        Self::NonmonotonicSend,
        Self::Phantom,
        Self::Duplicate,
        Self::PollSkip,
        Self::Order,
        Self::Overlap,
        Self::AfterClose,
        Self::CloseReport,
        Self::LeftOut,
        Self::Stuck,
        Self::Commit,
        Self::RetiredEpoch,
        Self::Durability,
    ];

    /// The name, as canaries and reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Record => "record",
            Self::OutcomeMissing => "outcome-missing",
            Self::OutcomeDouble => "outcome-double",
            Self::OutcomeUnsure => "outcome-unsure",
            Self::Lost => "lost",
            Self::InconsistentOffsets => "inconsistent-offsets",
            Self::NonmonotonicSend => "nonmonotonic-send",
            Self::Phantom => "phantom",
            Self::Duplicate => "duplicate",
            Self::PollSkip => "poll-skip",
            Self::Order => "order",
            Self::Overlap => "overlap",
            Self::AfterClose => "after-close",
            Self::CloseReport => "close-report",
            Self::LeftOut => "left-out",
            Self::Stuck => "stuck",
            Self::Commit => "commit",
            Self::RetiredEpoch => "retired-epoch",
            Self::Durability => "durability",
        }
    }
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why an envelope may be delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Its publish had an attempt without an answer, so it may be stored twice.
    AmbiguousAttempt,
    /// It was published once more under its id.
    PublishedAgain,
    /// Its handler asked for it.
    Nack,
    /// Its attempt is a higher one, and its handler had not finished the last: cut off, or its broker lost patience.
    Redelivered,
    /// The same, though its handler had acked it: the session was lost, and the ack with it.
    RedeliveredAfterAck,
    /// The partition has another owner, and it was not done.
    NewOwner,
    /// The same, though its handler had acked it: the ack was lost with the session, or the partition was taken away
    /// before it could be committed, or its process stood still before the ack had left it.
    NewOwnerAfterAck,
    /// The same, though its handler had acked it: something before it in its partition was not done when the owner changed, and
    /// what is done behind that cannot be committed.
    BehindAGap,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::AmbiguousAttempt => "ambiguous attempt",
            Self::PublishedAgain => "published again",
            Self::Nack => "nack",
            Self::Redelivered => "redelivered",
            Self::RedeliveredAfterAck => "redelivered after its ack",
            Self::NewOwner => "new owner",
            Self::NewOwnerAfterAck => "new owner after its ack",
            Self::BehindAGap => "new owner, behind a gap",
        }
    }
}

/// A property that does not hold, and where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// Which property.
    pub property: Property,
    /// What happened, in a sentence.
    pub what: String,
    /// The lines of the history that show it.
    pub lines: Vec<usize>,
    /// The envelopes concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ids: Vec<String>,
    /// The publishes concerned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ops: Vec<u64>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.lines.iter().map(usize::to_string).collect();
        let word = if lines.len() == 1 { "line" } else { "lines" };
        write!(
            f,
            "{:<15} {word} {}: {}",
            self.property,
            lines.join(", "),
            self.what
        )
    }
}

/// How much of everything there was: a verdict over nothing is no verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Publishes.
    pub ops: u64,
    /// Publishes that ended acked.
    pub acked: u64,
    /// Acks for an envelope the broker had already.
    pub acked_again: u64,
    /// Publishes that ended surely not stored.
    pub rejected: u64,
    /// Publishes that may be stored.
    pub unknown: u64,
    /// Those of them that were delivered.
    pub unknown_delivered: u64,
    /// Attempts without an answer.
    pub resends: u64,
    /// Handler runs.
    pub deliveries: u64,
    /// Deliveries of what the group had seen, by cause.
    pub duplicates: BTreeMap<Cause, u64>,
    /// Handlers that ended.
    pub settled: u64,
    /// Commits.
    pub commits: u64,
    /// Times partitions changed hands.
    pub rebalances: u64,
    /// New sessions.
    pub reconnects: u64,
    /// Processes that were killed.
    pub kills: u64,
    /// Processes that stood still for a while.
    pub freezes: u64,
    /// Faults that began.
    pub faults: u64,
    /// (topic, group) pairs that had caught up.
    pub drained: u64,
    /// Closes that returned.
    pub closes: u64,
    /// Violations by property, those that are not kept included.
    pub violations: BTreeMap<Property, u64>,
}

/// What the checks say of a history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was run.
    pub header: Header,
    /// How much of everything there was.
    pub counts: Counts,
    /// What does not hold. Of one property the first few hundred.
    pub violations: Vec<Violation>,
    /// What the history does not say enough about.
    pub not_judged: Vec<String>,
}

impl Verdict {
    /// Whether every property holds.
    pub fn is_ok(&self) -> bool {
        self.violations.is_empty()
    }

    /// How many violations there are, those that are not kept included.
    pub fn total(&self) -> u64 {
        self.counts.violations.values().sum()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { header, counts, .. } = self;
        write!(f, "run           {}", header.backend)?;
        if let Some(server) = &header.server {
            write!(f, " {server}")?;
        }
        if let Some(how) = &header.how {
            write!(f, " ({how})")?;
        }
        if let Some(seed) = header.seed {
            write!(f, ", seed {seed}")?;
        }
        if !header.workload.is_empty() {
            write!(f, ", {}", header.workload)?;
        }
        write_counts(counts, f)?;
        for what in &self.not_judged {
            write!(f, "\nnot judged    {what}")?;
        }
        let mut shown = BTreeMap::new();
        for violation in &self.violations {
            let shown = shown.entry(violation.property).or_insert(0);
            *shown += 1;
            if *shown <= SHOWN {
                write!(f, "\n{violation}")?;
            }
        }
        for (property, &all) in &counts.violations {
            let more = all.saturating_sub(SHOWN as u64);
            if more > 0 {
                write!(f, "\n{property:<15} and {more} more")?;
            }
        }
        match self.total() {
            1 => write!(f, "\n1 violation"),
            total => write!(f, "\n{total} violations"),
        }
    }
}

fn write_counts(counts: &Counts, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(
        f,
        "\noperations    {}: {} acked, {} rejected, {} unknown ({} of them delivered), {} resends",
        counts.ops,
        counts.acked,
        counts.rejected,
        counts.unknown,
        counts.unknown_delivered,
        counts.resends,
    )?;
    let again: u64 = counts.duplicates.values().sum();
    write!(
        f,
        "\ndeliveries    {}, {again} of them again",
        counts.deliveries
    )?;
    for (n, (cause, count)) in counts.duplicates.iter().enumerate() {
        write!(
            f,
            "{}{count} {}",
            if n == 0 { ": " } else { ", " },
            cause.name()
        )?;
    }
    write!(
        f,
        "\nevents        {}: {} faults, {} kills, {} freezes, {} reconnects, {} rebalances, {} drained, {} closes",
        counts.events,
        counts.faults,
        counts.kills,
        counts.freezes,
        counts.reconnects,
        counts.rebalances,
        counts.drained,
        counts.closes,
    )
}

/// Where the checks put what they find.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) counts: Counts,
    violations: BTreeMap<Property, Vec<Violation>>,
    pub(super) not_judged: Vec<String>,
}

impl Findings {
    /// Notes a violation. `lines` are brought in order, and said once each.
    pub(super) fn add(&mut self, property: Property, what: String, about: About<'_>) {
        *self.counts.violations.entry(property).or_insert(0) += 1;
        let kept = self.violations.entry(property).or_default();
        if kept.len() < KEPT {
            let mut lines = about.lines.to_vec();
            lines.sort_unstable();
            lines.dedup();
            kept.push(Violation {
                property,
                what,
                lines,
                ids: about.ids.iter().map(|id| (*id).to_owned()).collect(),
                ops: about.ops.to_vec(),
            });
        }
    }

    pub(super) fn again(&mut self, cause: Cause) {
        *self.counts.duplicates.entry(cause).or_insert(0) += 1;
    }

    pub(super) fn into_verdict(self, history: &History) -> Verdict {
        let mut violations: Vec<_> = self.violations.into_values().flatten().collect();
        violations.sort_by_key(|violation| (violation.property, violation.lines.first().copied()));
        Verdict {
            header: history.header.clone(),
            counts: self.counts,
            violations,
            not_judged: self.not_judged,
        }
    }
}

/// What a violation is about.
#[derive(Clone, Copy, Default)]
pub(super) struct About<'a> {
    pub(super) lines: &'a [usize],
    pub(super) ids: &'a [&'a str],
    pub(super) ops: &'a [u64],
}
