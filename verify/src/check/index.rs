//! A history, sorted by what the checks ask for. One pass; everything borrows from the history.

mod building;

use super::verdict::{Counts, Findings};
use crate::history::{
    Acked, Deliver, Ended, History, Invoke, Order, Rebalance, Settled, Subscribe,
};
use foldhash::HashMap;
use std::collections::BTreeMap;
use std::time::Duration;

/// The first of these lines, which are in order, that is after another.
fn first_after(lines: &[usize], after: usize) -> Option<usize> {
    let at = lines.partition_point(|&line| line <= after);
    lines.get(at).copied()
}

/// How a publish ended.
#[derive(Clone, Copy)]
pub(super) enum Outcome<'h> {
    Acked(&'h Acked),
    Rejected,
    Unknown,
}

/// A publish, from its invocation on.
pub(super) struct Op<'h> {
    pub(super) line: usize,
    pub(super) invoke: &'h Invoke,
    pub(super) outcomes: Vec<(usize, Outcome<'h>)>,
    pub(super) resends: Vec<usize>,
}

impl<'h> Op<'h> {
    /// The ack and its line.
    pub(super) fn acked(&self) -> Option<(usize, &'h Acked)> {
        self.outcomes
            .iter()
            .find_map(|&(line, outcome)| match outcome {
                Outcome::Acked(acked) => Some((line, acked)),
                _ => None,
            })
    }

    /// Where it was said to be surely not stored.
    pub(super) fn rejected(&self) -> Option<usize> {
        let rejected = |&&(_, outcome): &&_| matches!(outcome, Outcome::Rejected);
        self.outcomes.iter().find(rejected).map(|&(line, _)| line)
    }

    /// How many copies of its envelope it may have stored.
    pub(super) fn copies(&self) -> usize {
        if self.rejected().is_some() {
            0
        } else {
            1 + self.resends.len()
        }
    }
}

/// A handler run.
pub(super) struct Delivery<'h> {
    pub(super) line: usize,
    pub(super) deliver: &'h Deliver,
    pub(super) settled: Option<(usize, Settled)>,
}

impl Delivery<'_> {
    /// Where it ended with the envelope being done.
    pub(super) fn done(&self) -> Option<usize> {
        match self.settled {
            Some((line, Settled::Ack | Settled::DeadLetter)) => Some(line),
            _ => None,
        }
    }
}

/// A call of close, or its end.
pub(super) struct CloseLine<'h> {
    pub(super) line: usize,
    pub(super) report: Option<&'h serde_json::Value>,
}

/// A topic or an envelope inside a topic.
pub(super) type ById<'h> = HashMap<(&'h str, &'h str), Vec<usize>>;

/// See the module.
pub(super) struct Index<'h> {
    pub(super) history: &'h History,
    /// In the order of their invocation.
    pub(super) ops: Vec<Op<'h>>,
    /// Topic and id to the ops that publish it.
    pub(super) ops_by_id: ById<'h>,
    /// In the order they began.
    pub(super) deliveries: Vec<Delivery<'h>>,
    /// Topic and id to its deliveries.
    pub(super) deliveries_by_id: ById<'h>,
    /// Topic and group to the lines at which the group had caught up.
    pub(super) drained: BTreeMap<(&'h str, &'h str), Vec<usize>>,
    /// Bus to where its close was called first.
    pub(super) closing: HashMap<u32, usize>,
    /// Bus to the returns of its close.
    pub(super) closed: HashMap<u32, Vec<CloseLine<'h>>>,
    /// Subscription to its end.
    pub(super) ended: HashMap<u32, (usize, &'h Ended)>,
    rebalances: Vec<(usize, &'h Rebalance)>,
    subscriptions: HashMap<u32, &'h Subscribe>,
    /// Bus to the lines that say that it lost a session.
    cuts: HashMap<u32, Vec<usize>>,
    /// Bus to where its process stood still, from and to.
    freezes: HashMap<u32, Vec<(usize, usize)>>,
    /// Topic to the lines between which what it held was destroyed.
    erased: HashMap<&'h str, Vec<(usize, usize)>>,
}

impl<'h> Index<'h> {
    pub(super) fn new(history: &'h History, findings: &mut Findings) -> Self {
        let mut index = Self {
            history,
            ops: Vec::new(),
            ops_by_id: HashMap::default(),
            deliveries: Vec::new(),
            deliveries_by_id: HashMap::default(),
            drained: BTreeMap::new(),
            closing: HashMap::default(),
            closed: HashMap::default(),
            ended: HashMap::default(),
            rebalances: Vec::new(),
            subscriptions: HashMap::default(),
            cuts: HashMap::default(),
            freezes: HashMap::default(),
            erased: HashMap::default(),
        };
        building::read(&mut index, findings);
        index.count(&mut findings.counts);
        index
    }

    /// What a subscription promises its handler.
    pub(super) fn order(&self, subscription: u32) -> Order {
        let subscribe = self.subscriptions.get(&subscription);
        subscribe
            .map(|subscribe| subscribe.order)
            .unwrap_or_default()
    }

    /// The bus that a subscription runs on.
    pub(super) fn bus_of(&self, subscription: u32) -> u32 {
        let subscribe = self.subscriptions.get(&subscription);
        subscribe.map_or(0, |subscribe| subscribe.bus)
    }

    /// Whether a bus lost a session between two lines: what it told the broker last may not have arrived.
    pub(super) fn cut(&self, bus: u32, after: usize, before: usize) -> bool {
        let cuts = self.cuts.get(&bus).map_or(&[][..], Vec::as_slice);
        first_after(cuts, after).is_some_and(|line| line < before)
    }

    /// Whether the process of a bus stood still for a while that lies between `after` and `before`, and had begun to at `at`.
    pub(super) fn froze(&self, bus: u32, (after, before): (usize, usize), at: usize) -> bool {
        let freezes = self.freezes.get(&bus).map_or(&[][..], Vec::as_slice);
        let within = |&(begin, end): &(usize, usize)| after < begin && begin < at && end < before;
        freezes.iter().any(within)
    }

    /// Whether the process of a bus began to stand still no later than `within` after `after`, and before `before`: what it had to tell its
    /// broker may not have left it.
    pub(super) fn stood_still(
        &self,
        bus: u32,
        (after, before): (usize, usize),
        within: Duration,
    ) -> bool {
        let freezes = self.freezes.get(&bus).map_or(&[][..], Vec::as_slice);
        freezes.iter().any(|&(begin, _)| {
            after < begin
                && begin < before
                && self.at(begin).saturating_sub(self.at(after)) <= within
        })
    }

    /// The time of a line.
    pub(super) fn at(&self, line: usize) -> Duration {
        let entries = &self.history.entries;
        Duration::from_nanos(entries[entries.partition_point(|entry| entry.line < line)].at)
    }

    /// The subscriptions of a bus.
    pub(super) fn subscriptions_of(&self, bus: u32) -> impl Iterator<Item = u32> {
        let of_it = self.subscriptions.values().filter(move |of| of.bus == bus);
        of_it.map(|of| of.subscription)
    }

    /// Whether the partition is said to have changed hands between two deliveries of it: by anybody, or by the bus that had it. That
    /// another has lost it, earlier or late, explains nothing.
    pub(super) fn rebalanced(&self, first: &Delivery<'_>, second: &Delivery<'_>) -> bool {
        let deliver = second.deliver;
        let from = self
            .rebalances
            .partition_point(|(line, _)| *line <= first.line);
        let behind = self.rebalances[from..].iter();
        let mut between = behind.take_while(|(line, _)| *line < second.line);
        between.any(|(_, rebalance)| {
            rebalance.topic == deliver.topic
                && rebalance.group == deliver.group
                && (rebalance.from).is_none_or(|bus| bus == first.deliver.bus)
                && (rebalance.partitions.is_empty()
                    || rebalance.partitions.contains(&deliver.partition))
        })
    }

    /// The first line after this one at which a group had caught up with a topic.
    pub(super) fn drained_after(&self, topic: &str, group: &str, line: usize) -> Option<usize> {
        let drained = self.drained.get(&(topic, group))?;
        first_after(drained, line)
    }

    /// Whether something was destroyed in a topic between two lines.
    pub(super) fn erased(&self, topic: &str, after: usize, before: usize) -> bool {
        let erased = self.erased.get(topic).map_or(&[][..], Vec::as_slice);
        (erased.iter()).any(|&(begin, end)| begin < before && end > after)
    }

    /// The one op that publishes an envelope; `None` if it was published twice or never.
    pub(super) fn only_op(&self, topic: &str, id: &str) -> Option<&Op<'h>> {
        match self.ops_by_id.get(&(topic, id))?[..] {
            [op] => Some(&self.ops[op]),
            _ => None,
        }
    }

    /// Which of a topic's lives a publish surely belongs to: the n-th after its n-th erasure.
    /// `None` if an erasure ran beside it, so that its positions can be compared with no other's.
    pub(super) fn life(&self, op: &Op<'_>) -> Option<usize> {
        let Some(erased) = self.erased.get(op.invoke.topic.as_str()) else {
            return Some(0);
        };
        // Without a definite answer it may be stored at any later time.
        let done = op.acked().map_or(usize::MAX, |(line, _)| line);
        let life = erased.iter().filter(|&&(_, end)| end < op.line).count();
        let beside = erased
            .iter()
            .any(|&(begin, end)| begin < done && end > op.line);
        (!beside).then_some(life)
    }

    /// [`life`](Self::life) of a delivered envelope.
    pub(super) fn life_of(&self, topic: &str, id: &str) -> Option<usize> {
        if !self.erased.contains_key(topic) {
            return Some(0);
        }
        self.life(self.only_op(topic, id)?)
    }

    /// Whether what a publish stored may have been destroyed before `line`.
    pub(super) fn may_be_erased(&self, op: &Op<'_>, line: usize) -> bool {
        self.erased(&op.invoke.topic, op.line, line)
    }

    fn count(&self, counts: &mut Counts) {
        counts.events = self.history.entries.len() as u64;
        counts.ops = self.ops.len() as u64;
        counts.deliveries = self.deliveries.len() as u64;
        counts.drained = self.drained.len() as u64;
        counts.closes = self.closed.values().map(|all| all.len() as u64).sum();
        for op in &self.ops {
            counts.resends += op.resends.len() as u64;
            match op.outcomes.first() {
                Some((_, Outcome::Acked(acked))) => {
                    counts.acked += 1;
                    counts.acked_again += u64::from(acked.duplicate);
                }
                Some((_, Outcome::Rejected)) => counts.rejected += 1,
                Some((_, Outcome::Unknown)) => {
                    counts.unknown += 1;
                    let name = (op.invoke.topic.as_str(), op.invoke.id.as_str());
                    counts.unknown_delivered +=
                        u64::from(self.deliveries_by_id.contains_key(&name));
                }
                None => {}
            }
        }
    }
}
