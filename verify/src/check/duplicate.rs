//! `duplicate`: delivered again without a cause of its own (G2).
//!
//! Two ways lead to a second handler run. The envelope is stored twice: then each further copy
//! needs an attempt of its own that had no answer, or a publish of its own. Or one copy is handed
//! out twice: then the broker says so (a higher attempt), the partition has a new owner, or - where
//! the broker counts no attempts - the handler had asked for it. A cause excuses one delivery.
//!
//! What was done comes again only if the broker cannot know it: the bus lost its session in between, or the partition was
//! taken away before what was done could be committed, and the history says so; or the process stood still while its handler ran,
//! for so long that the partition had a new owner, who has the envelope too, before the handler ended; or in the second after, so that
//! the broker had not heard of it.
//!
//! Where commits are seen at the broker, what a new owner is given is held against them. What was done, with all before it, shortly
//! before the process stood still, and not committed, or when it was told that it had lost its partitions, comes again; and so does what was done behind an envelope that
//! was there and not done when the partition changed hands, since a commit is a prefix. What was committed does not, whatever happened.

use super::committed::Committed;
use super::index::{Delivery, Index, Op};
use super::verdict::{About, Cause, Findings, Property};
use crate::history::Settled;
use foldhash::HashMap;
use std::time::Duration;

/// So long before a process stood still what it had told its broker last may not have left it.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// So long before it what could be committed may not have been: commits go now and then, and a group that rebalances takes none until all
/// have handed over. What was to be committed before that was committed, or held back.
const COMMITTED: Duration = Duration::from_secs(20);

/// Topic, group, partition, position, id. The id, because an erased topic uses positions again.
type Copy<'h> = (&'h str, &'h str, u32, u64, &'h str);

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    let committed = Committed::of(index);
    let mut last: HashMap<Copy<'_>, &Delivery<'_>> = HashMap::default();
    let mut copies: HashMap<(&str, &str, &str), usize> = HashMap::default();
    for delivery in &index.deliveries {
        let deliver = delivery.deliver;
        let (topic, group, id) = (&*deliver.topic, &*deliver.group, &*deliver.id);
        let copy = (topic, group, deliver.partition, deliver.position, id);
        if let Some(before) = last.insert(copy, delivery) {
            match handed_out_again(index, &committed, before, delivery) {
                Some(cause) => findings.again(cause),
                None => report(findings, before, delivery, "nothing explains it"),
            }
            continue;
        }
        let stored = copies.entry((topic, group, id)).or_insert(0);
        *stored += 1;
        if *stored > 1 {
            match stored_again(index, topic, id, *stored) {
                Some(cause) => findings.again(cause),
                None => {
                    let first = first_of(index, topic, group, id);
                    let why =
                        format!("there are {stored} copies of it and no attempt for the last");
                    report(findings, first, delivery, &why);
                }
            }
        }
    }
}

fn handed_out_again(
    index: &Index<'_>,
    committed: &Committed<'_>,
    before: &Delivery<'_>,
    now: &Delivery<'_>,
) -> Option<Cause> {
    let settled = before.settled.filter(|&(line, _)| line < now.line);
    let done = before.done().filter(|&line| line < now.line);
    // What it told the broker may not have arrived.
    let cut = index.cut(before.deliver.bus, before.line, now.line);
    if now.deliver.epoch > before.deliver.epoch {
        let bus = before.deliver.bus;
        let froze = settled.is_some_and(|(end, _)| index.froze(bus, (before.line, end), now.line));
        let past = committed.past(index, before, now);
        let still = |end, within| index.stood_still(bus, (end, now.line), within);
        // Its last commit was still to come.
        let ready = done.and_then(|_| committed.ready(before));
        let uncommitted = past == Some(false) && ready.is_some_and(|at| still(at, COMMITTED));
        // Nor does a broker that is told of each have it at once.
        let unsent = done.is_some_and(|end| still(end, LAST_MOMENT));
        let excused = cut || froze || uncommitted || unsent || index.rebalanced(before, now);
        return match done {
            _ if past == Some(true) => None,
            None => Some(Cause::NewOwner),
            Some(_) if excused => Some(Cause::NewOwnerAfterAck),
            Some(_) => committed.behind_a_gap(now).then_some(Cause::BehindAGap),
        };
    }
    match (before.deliver.attempt, now.deliver.attempt) {
        (Some(a), Some(b)) if b <= a => None,
        (_, attempt) => match settled {
            Some((_, Settled::Nack)) => Some(Cause::Nack),
            _ if attempt.is_none_or(|attempt| attempt < 2) => None,
            _ if done.is_some() => cut.then_some(Cause::RedeliveredAfterAck),
            _ => Some(Cause::Redelivered),
        },
    }
}

fn stored_again(index: &Index<'_>, topic: &str, id: &str, copies: usize) -> Option<Cause> {
    let ops = index.ops_by_id.get(&(topic, id))?;
    let ops: Vec<&Op<'_>> = ops.iter().map(|&op| &index.ops[op]).collect();
    let allowed: usize = ops.iter().map(|op| op.copies()).sum();
    if copies > allowed {
        None
    } else if ops.iter().any(|op| !op.resends.is_empty()) {
        Some(Cause::AmbiguousAttempt)
    } else {
        Some(Cause::PublishedAgain)
    }
}

fn first_of<'i, 'h>(index: &'i Index<'h>, topic: &str, group: &str, id: &str) -> &'i Delivery<'h> {
    let all = &index.deliveries_by_id[&(topic, id)];
    let mut all = all.iter().map(|&place| &index.deliveries[place]);
    all.find(|delivery| delivery.deliver.group == group)
        .expect("a second copy has a first")
}

fn report(findings: &mut Findings, before: &Delivery<'_>, now: &Delivery<'_>, why: &str) {
    let deliver = now.deliver;
    let what = format!(
        "{}/{} at {}: delivered again to group {}, and {why}",
        deliver.topic, deliver.partition, deliver.position, deliver.group
    );
    let about = About {
        lines: &[before.line, now.line],
        ids: &[&deliver.id],
        ops: &[],
    };
    findings.add(Property::Duplicate, what, about);
}
