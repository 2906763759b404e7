//! How an index comes to be: one walk over the lines.

use super::super::verdict::{About, Findings, Property};
use super::{CloseLine, Delivery, Index, Op, Outcome};
use crate::history::{
    ClosePhase, Deliver, Disconnect, Event, Invoke, Phase, Resend, Settle, Settled,
};
use foldhash::HashMap;

/// Fills `index` from its history, and notes what cannot be sorted at all.
pub(super) fn read<'h>(index: &mut Index<'h>, findings: &mut Findings) {
    let building = Building {
        index,
        findings,
        by_op: HashMap::default(),
        by_id: None,
        running: HashMap::default(),
    };
    building.read();
}

/// Which handler run: subscription, topic, partition, position.
type Running<'h> = (u32, &'h str, u32, u64);

struct Building<'i, 'h> {
    index: &'i mut Index<'h>,
    findings: &'i mut Findings,
    by_op: HashMap<u64, usize>,
    /// The last op of each id, from when somebody asks by the id alone.
    by_id: Option<HashMap<&'h str, usize>>,
    /// What has begun and not ended.
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
                    let number = subscribe.subscription;
                    self.index.subscriptions.insert(number, subscribe);
                }
                Event::Drained(drained) => {
                    let name = (drained.topic.as_str(), drained.group.as_str());
                    self.index.drained.entry(name).or_default().push(line);
                }
                Event::Close(close) => {
                    let report = close.report.as_ref();
                    match close.phase {
                        ClosePhase::Invoke => {
                            self.index.closing.entry(close.bus).or_insert(line);
                        }
                        ClosePhase::Return => {
                            let returns = self.index.closed.entry(close.bus).or_default();
                            returns.push(CloseLine { line, report });
                        }
                    }
                }
                Event::Erased(erased) => self.erased(line, &erased.topic, erased.phase),
                Event::Commit(_) => self.findings.counts.commits += 1,
                Event::Rebalance(rebalance) => {
                    self.findings.counts.rebalances += 1;
                    self.index.rebalances.push((line, rebalance));
                }
                Event::Reconnect(reconnect) => {
                    self.findings.counts.reconnects += 1;
                    // There is a new session because another was lost.
                    self.index.cuts.entry(reconnect.bus).or_default().push(line);
                }
                Event::Disconnect(disconnect) => self.disconnect(line, disconnect),
                Event::Frozen(frozen) => self.frozen(line, frozen.bus, frozen.phase),
                Event::Ended(ended) => {
                    self.index.ended.insert(ended.subscription, (line, ended));
                }
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
        if let Some(by_id) = &mut self.by_id {
            by_id.insert(&invoke.id, place);
        }
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
        let place = match (resend.op, &resend.id, &resend.topic) {
            (Some(op), ..) => self.by_op.get(&op).copied(),
            (None, Some(id), Some(topic)) => {
                let ops = self.index.ops_by_id.get(&(topic.as_str(), id.as_str()));
                ops.and_then(|ops| ops.last()).copied()
            }
            (None, Some(id), None) => self.last_of(id),
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

    /// The last op that publishes an envelope of this id, whatever its topic.
    fn last_of(&mut self, id: &str) -> Option<usize> {
        let ops = self.index.ops.iter().enumerate();
        let by_id = self
            .by_id
            .get_or_insert_with(|| ops.map(|(place, op)| (&*op.invoke.id, place)).collect());
        by_id.get(id).copied()
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
            ..
        } = settle;
        let running = (*subscription, topic.as_str(), *partition, *position);
        let all = self.running.get_mut(&running);
        let place = all.and_then(|all| all.pop().map(|place| (place, all.is_empty())));
        if let Some((_, true)) = place {
            self.running.remove(&running);
        }
        match place {
            Some((place, _)) => self.index.deliveries[place].settled = Some((line, *how)),
            None => {
                let what = format!(
                    "{topic}/{partition} at {position} is settled by subscription {subscription}, \
                     which has no delivery of it that is not settled"
                );
                self.contradiction(what, &[line], &[]);
            }
        }
    }

    fn disconnect(&mut self, line: usize, disconnect: &Disconnect) {
        let cuts = self.index.cuts.entry(disconnect.bus).or_default();
        cuts.push(line);
        if !disconnect.killed {
            return;
        }
        self.findings.counts.kills += 1;
        let deliveries = &mut self.index.deliveries;
        self.running.retain(|_, places| {
            places.retain(|&place| {
                let is_dead = deliveries[place].deliver.bus == disconnect.bus;
                if is_dead {
                    deliveries[place].settled = Some((line, Settled::Cancelled));
                }
                !is_dead
            });
            !places.is_empty()
        });
    }

    fn frozen(&mut self, line: usize, bus: u32, phase: Phase) {
        let all = self.index.freezes.entry(bus).or_default();
        let stands_still = all.last().is_some_and(|last| last.1 == usize::MAX);
        match phase {
            Phase::Begin if !stands_still => {
                self.findings.counts.freezes += 1;
                // Until it goes on nothing of it ends.
                all.push((line, usize::MAX));
            }
            Phase::End if stands_still => all.last_mut().expect("it is there").1 = line,
            _ => {
                let what =
                    format!("bus {bus} stands still twice, or goes on and did not stand still");
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
