//! A history, sorted by what the checks ask for. One pass; everything borrows from the history.

use super::verdict::{About, Counts, Findings, Property};
use crate::history::{
    Acked, ClosePhase, Deliver, Event, History, Invoke, Order, Phase, Resend, Settle, Settled,
};
use std::collections::{BTreeMap, HashMap};

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
    /// Bus to the returns of its close.
    pub(super) closed: HashMap<u32, Vec<CloseLine<'h>>>,
    orders: HashMap<u32, Order>,
    /// Topic to the lines between which what it held was destroyed.
    erased: HashMap<&'h str, Vec<(usize, usize)>>,
}

impl<'h> Index<'h> {
    pub(super) fn new(history: &'h History, findings: &mut Findings) -> Self {
        let mut index = Self {
            history,
            ops: Vec::new(),
            ops_by_id: HashMap::new(),
            deliveries: Vec::new(),
            deliveries_by_id: HashMap::new(),
            drained: BTreeMap::new(),
            closed: HashMap::new(),
            orders: HashMap::new(),
            erased: HashMap::new(),
        };
        Building {
            index: &mut index,
            findings,
            by_op: HashMap::new(),
            running: HashMap::new(),
        }
        .read();
        index.count(&mut findings.counts);
        index
    }

    /// What a subscription promises its handler.
    pub(super) fn order(&self, subscription: u32) -> Order {
        self.orders.get(&subscription).copied().unwrap_or_default()
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
        let erased = self.erased.get(op.invoke.topic.as_str());
        erased.is_some_and(|all| {
            all.iter()
                .any(|&(begin, end)| end > op.line && begin < line)
        })
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

/// Which handler run: subscription, topic, partition, position.
type Running<'h> = (u32, &'h str, u32, u64);

struct Building<'i, 'h> {
    index: &'i mut Index<'h>,
    findings: &'i mut Findings,
    by_op: HashMap<u64, usize>,
    running: HashMap<Running<'h>, Vec<usize>>,
}

impl<'h> Building<'_, 'h> {
    fn read(mut self) {
        let history = self.index.history;
        for entry in &history.entries {
            let line = entry.line;
            match &entry.event {
                Event::Invoke(invoke) => self.invoke(line, invoke),
                Event::Acked(acked) => self.outcome(line, acked.op, Outcome::Acked(acked)),
                Event::Rejected(rejected) => self.outcome(line, rejected.op, Outcome::Rejected),
                Event::Unknown(unknown) => self.outcome(line, unknown.op, Outcome::Unknown),
                Event::Resend(resend) => self.resend(line, resend),
                Event::Deliver(deliver) => self.deliver(line, deliver),
                Event::Settle(settle) => self.settle(line, settle),
                Event::Subscribe(subscribe) => {
                    self.index
                        .orders
                        .insert(subscribe.subscription, subscribe.order);
                }
                Event::Drained(drained) => {
                    let name = (drained.topic.as_str(), drained.group.as_str());
                    self.index.drained.entry(name).or_default().push(line);
                }
                Event::Close(close) => {
                    if close.phase == ClosePhase::Return {
                        let report = close.report.as_ref();
                        let returns = self.index.closed.entry(close.bus).or_default();
                        returns.push(CloseLine { line, report });
                    }
                }
                Event::Erased(erased) => self.erased(line, &erased.topic, erased.phase),
                Event::Commit(_) => self.findings.counts.commits += 1,
                Event::Rebalance(_) => self.findings.counts.rebalances += 1,
                Event::Reconnect(_) => self.findings.counts.reconnects += 1,
                Event::Fault(fault) => {
                    self.findings.counts.faults += u64::from(fault.phase == Phase::Begin);
                }
            }
        }
    }

    fn contradiction(&mut self, what: String, lines: &[usize], ops: &[u64]) {
        let about = About {
            lines,
            ops,
            ..About::default()
        };
        self.findings.add(Property::Record, what, about);
    }

    fn invoke(&mut self, line: usize, invoke: &'h Invoke) {
        let place = self.index.ops.len();
        if let Some(before) = self.by_op.insert(invoke.op, place) {
            let lines = [self.index.ops[before].line, line];
            let what = format!("op {} begins twice", invoke.op);
            self.contradiction(what, &lines, &[invoke.op]);
        }
        let name = (invoke.topic.as_str(), invoke.id.as_str());
        self.index.ops_by_id.entry(name).or_default().push(place);
        self.index.ops.push(Op {
            line,
            invoke,
            outcomes: Vec::new(),
            resends: Vec::new(),
        });
    }

    fn outcome(&mut self, line: usize, op: u64, outcome: Outcome<'h>) {
        match self.by_op.get(&op) {
            Some(&place) => self.index.ops[place].outcomes.push((line, outcome)),
            None => {
                let what = format!("op {op} has an outcome and no invocation");
                self.contradiction(what, &[line], &[op]);
            }
        }
    }

    fn resend(&mut self, line: usize, resend: &'h Resend) {
        let by_id = |id: &str| {
            let same = |op: &&usize| {
                let invoke = self.index.ops[**op].invoke;
                invoke.id == id
                    && resend
                        .topic
                        .as_ref()
                        .is_none_or(|topic| *topic == invoke.topic)
            };
            self.by_op.values().filter(same).max().copied()
        };
        let place = match (resend.op, &resend.id, &resend.topic) {
            (Some(op), ..) => self.by_op.get(&op).copied(),
            (None, Some(id), Some(topic)) => {
                let ops = self.index.ops_by_id.get(&(topic.as_str(), id.as_str()));
                ops.and_then(|ops| ops.last()).copied()
            }
            (None, Some(id), None) => by_id(id),
            (None, None, _) => None,
        };
        match place {
            Some(place) => self.index.ops[place].resends.push(line),
            None => {
                let what = "a resend of nothing that was published".to_owned();
                self.contradiction(what, &[line], &[]);
            }
        }
    }

    fn deliver(&mut self, line: usize, deliver: &'h Deliver) {
        let place = self.index.deliveries.len();
        let Deliver {
            subscription,
            topic,
            partition,
            position,
            id,
            ..
        } = deliver;
        let name = (topic.as_str(), id.as_str());
        self.index
            .deliveries_by_id
            .entry(name)
            .or_default()
            .push(place);
        let running = (*subscription, topic.as_str(), *partition, *position);
        self.running.entry(running).or_default().push(place);
        self.index.deliveries.push(Delivery {
            line,
            deliver,
            settled: None,
        });
    }

    fn settle(&mut self, line: usize, settle: &'h Settle) {
        self.findings.counts.settled += 1;
        let Settle {
            subscription,
            topic,
            partition,
            position,
            how,
        } = settle;
        let running = (*subscription, topic.as_str(), *partition, *position);
        match self.running.get_mut(&running).and_then(Vec::pop) {
            Some(place) => self.index.deliveries[place].settled = Some((line, *how)),
            None => {
                let what = format!(
                    "{topic}/{partition} at {position} is settled by subscription {subscription}, \
                     which has no delivery of it that is not settled"
                );
                self.contradiction(what, &[line], &[]);
            }
        }
    }

    fn erased(&mut self, line: usize, topic: &'h str, phase: Phase) {
        let all = self.index.erased.entry(topic).or_default();
        match (phase, all.last_mut()) {
            // An erasure that never ends may take anything that comes.
            (Phase::Begin, _) => all.push((line, usize::MAX)),
            (Phase::End, Some(last)) if last.1 == usize::MAX => last.1 = line,
            (Phase::End, _) => {
                let what = format!("the erasure of {topic} ends and has not begun");
                self.contradiction(what, &[line], &[]);
            }
        }
    }
}
