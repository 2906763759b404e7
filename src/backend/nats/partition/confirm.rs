//! Confirming: what was acknowledged, and the server has not said that it knows.

use super::Partition;
use async_nats::Subject;
use std::time::Duration;

/// An acknowledgement that was sent.
#[derive(Debug)]
pub(super) struct Unconfirmed {
    reply: Subject,
    /// `None`: the delivery came again, so what was sent is lost, or late.
    sent: Option<Duration>,
}

impl Partition {
    /// An acknowledgement is on its way.
    pub(in super::super) fn acknowledged(&mut self, sequence: u64, reply: Subject, now: Duration) {
        self.answered(sequence, true);
        let sent = Some(now);
        self.confirming
            .insert(sequence, Unconfirmed { reply, sent });
    }

    /// The server knows it. Says whether that is news.
    pub(in super::super) fn confirmed(&mut self, sequence: u64) -> bool {
        self.confirming.remove(&sequence).is_some()
    }

    /// What is to be acknowledged again. Looked for when something may be, and not with every delivery.
    pub(in super::super) fn late(&self, now: Duration, limit: Duration) -> Vec<(u64, Subject)> {
        if !self.may_be_late {
            return Vec::new();
        }
        let all = self.confirming.iter();
        all.filter(|(_, known)| known.sent.is_none_or(|sent| now >= sent + limit))
            .map(|(sequence, known)| (*sequence, known.reply.clone()))
            .collect()
    }

    /// All of it was sent.
    pub(in super::super) fn looked_for_late(&mut self) {
        self.may_be_late = false;
    }

    /// The delivery came again although it was acknowledged: a handler has had it. Says whether it is one of these.
    pub(super) fn came_again(&mut self, sequence: u64, reply: &Subject) -> bool {
        let Some(known) = self.confirming.get_mut(&sequence) else {
            return false;
        };
        known.reply = reply.clone();
        known.sent = None;
        self.may_be_late = true;
        true
    }
}
