//! What a line of a history says in a few words, and who it is about.

use super::Kind;
use crate::history::{ClosePhase, Event, History, Phase, Settled};
use std::collections::BTreeMap;

/// What is needed to tell a line that another line explains: envelopes are named by their first publish, which is shorter than an id.
pub(super) struct Names<'h> {
    ops: BTreeMap<&'h str, u64>,
    buses_of_ops: BTreeMap<u64, u32>,
    buses_of_subscriptions: BTreeMap<u32, u32>,
    ids: BTreeMap<(u32, u32, u64), &'h str>,
}

/// As what a line is drawn.
pub(super) fn kind(event: &Event) -> Kind {
    match event {
        Event::Invoke(_) | Event::Acked(_) | Event::Rejected(_) => Kind::Publish,
        Event::Unknown(_) | Event::Resend(_) => Kind::Publish,
        Event::Deliver(_) | Event::Settle(_) => Kind::Handler,
        Event::Disconnect(_) | Event::Frozen(_) | Event::Fault(_) | Event::Erased(_) => Kind::Fault,
        _ => Kind::Other,
    }
}

impl<'h> Names<'h> {
    pub(super) fn of(history: &'h History) -> Self {
        let mut names = Self {
            ops: BTreeMap::new(),
            buses_of_ops: BTreeMap::new(),
            buses_of_subscriptions: BTreeMap::new(),
            ids: BTreeMap::new(),
        };
        for entry in &history.entries {
            match &entry.event {
                Event::Invoke(of) => {
                    names.ops.entry(&of.id).or_insert(of.op);
                    names.buses_of_ops.insert(of.op, of.bus);
                }
                Event::Subscribe(of) => {
                    names.buses_of_subscriptions.insert(of.subscription, of.bus);
                }
                Event::Deliver(of) => {
                    let place = (of.subscription, of.partition, of.position);
                    names.ids.insert(place, &of.id);
                }
                _ => {}
            }
        }
        names
    }

    /// The broker, or the bus whose line it is.
    pub(super) fn who(&self, event: &Event) -> String {
        let of_op = |op: &u64| self.buses_of_ops.get(op).copied();
        let of_subscription = |of: &u32| self.buses_of_subscriptions.get(of).copied();
        let bus = match event {
            Event::Invoke(of) => Some(of.bus),
            Event::Acked(of) => of_op(&of.op),
            Event::Rejected(of) => of_op(&of.op),
            Event::Unknown(of) => of_op(&of.op),
            Event::Resend(of) => {
                let id = of.id.as_deref();
                let op = of.op.or_else(|| self.ops.get(id?).copied());
                op.and_then(|op| of_op(&op))
            }
            Event::Subscribe(of) => Some(of.bus),
            Event::Deliver(of) => Some(of.bus),
            Event::Settle(of) => of_subscription(&of.subscription),
            Event::Ended(of) => of_subscription(&of.subscription),
            Event::Commit(of) => of.subscription.as_ref().and_then(of_subscription),
            Event::Rebalance(of) => of.from,
            Event::Reconnect(of) => Some(of.bus),
            Event::Disconnect(of) => Some(of.bus),
            Event::Frozen(of) => Some(of.bus),
            Event::Close(of) => Some(of.bus),
            Event::Fault(_) | Event::Erased(_) | Event::Drained(_) => None,
        };
        bus.map_or("broker".into(), |bus| format!("bus {bus}"))
    }

    /// What happened, and with which values.
    pub(super) fn say(&self, event: &Event) -> (String, String) {
        let (what, values) = match event {
            Event::Deliver(_) | Event::Settle(_) | Event::Commit(_) => self.say_of_consumers(event),
            Event::Invoke(_) | Event::Acked(_) | Event::Rejected(_) => {
                self.say_of_publishers(event)
            }
            Event::Unknown(_) | Event::Resend(_) => self.say_of_publishers(event),
            other => say_of_others(other),
        };
        (what.to_owned(), values)
    }

    fn say_of_publishers(&self, event: &Event) -> (&'static str, String) {
        match event {
            Event::Invoke(of) => {
                let key = of.key.as_deref().unwrap_or("-");
                let again = match self.ops.get(&*of.id) {
                    Some(first) if *first != of.op => format!(", once more e{first}"),
                    _ => String::new(),
                };
                (
                    "publishes",
                    format!("e{} to {}, key {key}{again}", of.op, of.topic),
                )
            }
            Event::Acked(of) => {
                let again = if of.duplicate { ", it was there" } else { "" };
                (
                    "publish acked",
                    format!("e{} at {}@{}{again}", of.op, of.partition, of.position),
                )
            }
            Event::Rejected(of) => ("publish rejected", format!("e{}: {}", of.op, of.reason)),
            Event::Unknown(of) => ("publish unknown", format!("e{}: {}", of.op, of.reason)),
            Event::Resend(of) => (
                "sends once more",
                self.envelope(of.id.as_deref().unwrap_or("-")),
            ),
            _ => ("", String::new()),
        }
    }

    fn say_of_consumers(&self, event: &Event) -> (&'static str, String) {
        match event {
            Event::Deliver(of) => {
                let (place, attempt) = (
                    at(&of.topic, of.partition, of.position),
                    of.attempt.unwrap_or(1),
                );
                let (envelope, key) = (self.envelope(&of.id), of.key.as_deref().unwrap_or("-"));
                let values = format!(
                    "{envelope} from {place}, key {key}, attempt {attempt}, epoch {}",
                    of.epoch
                );
                ("handler begins", values)
            }
            Event::Settle(of) => {
                let what = match of.how {
                    Settled::Ack => "handler acks",
                    Settled::Nack => "handler nacks",
                    Settled::DeadLetter => "gives it up",
                    Settled::Cancelled => "handler cut off",
                };
                let id = self.ids.get(&(of.subscription, of.partition, of.position));
                let envelope = id.map_or("-".into(), |id| self.envelope(id));
                let why = of
                    .why
                    .as_ref()
                    .map_or(String::new(), |why| format!(": {why}"));
                (
                    what,
                    format!(
                        "{envelope} from {}{why}",
                        at(&of.topic, of.partition, of.position)
                    ),
                )
            }
            Event::Commit(of) => ("has committed", at(&of.topic, of.partition, of.position)),
            _ => ("", String::new()),
        }
    }

    fn envelope(&self, id: &str) -> String {
        match self.ops.get(id) {
            Some(op) => format!("e{op}"),
            None => format!("the unpublished {id}"),
        }
    }
}

fn at(topic: &str, partition: u32, position: u64) -> String {
    format!("{topic}/{partition}@{position}")
}

fn say_of_others(event: &Event) -> (&'static str, String) {
    match event {
        Event::Subscribe(of) => ("subscribes", of.topic.clone()),
        Event::Ended(of) => {
            let left: Vec<_> = (of.left.iter().map(|(p, at)| format!("{p}@{at}"))).collect();
            let blocked = if of.blocked { ", blocked" } else { "" };
            match left.is_empty() {
                true => ("subscription ends", format!("nothing left{blocked}")),
                false => (
                    "subscription ends",
                    format!("left {}{blocked}", left.join(" ")),
                ),
            }
        }
        Event::Rebalance(of) => {
            let partitions: Vec<_> = of.partitions.iter().map(u32::to_string).collect();
            let what = if of.from.is_some() {
                "partitions taken"
            } else {
                "rebalance"
            };
            (
                what,
                format!("{}/{}, epoch {}", of.topic, partitions.join(" "), of.epoch),
            )
        }
        Event::Reconnect(of) => ("connected again", format!("generation {}", of.generation)),
        Event::Disconnect(of) if of.killed => ("process killed", String::new()),
        Event::Disconnect(_) => ("connection lost", String::new()),
        Event::Frozen(of) => match of.phase {
            Phase::Begin => ("stands still", String::new()),
            Phase::End => ("goes on", String::new()),
        },
        Event::Fault(of) => match of.phase {
            Phase::Begin => ("fault begins", of.what.clone()),
            Phase::End => ("fault ends", of.what.clone()),
        },
        Event::Erased(of) => match of.phase {
            Phase::Begin => ("is being erased", of.topic.clone()),
            Phase::End => ("is erased", of.topic.clone()),
        },
        Event::Close(of) => match of.phase {
            ClosePhase::Invoke => ("close begins", String::new()),
            ClosePhase::Return => {
                let drained = of.report.as_ref().and_then(|report| report.get("drained"));
                (
                    "close answers",
                    drained.map_or(String::new(), |it| format!("drained {it}")),
                )
            }
        },
        Event::Drained(of) => ("has caught up", format!("{} of {}", of.group, of.topic)),
        _ => ("", String::new()),
    }
}
