//! Yielding: a partition that is given up for another member.

use super::{Partition, Phase, Reply};
use async_nats::Subject;
use std::collections::BTreeMap;

/// No delivery has this sequence: what is said of it changes nothing. The server does not answer what is said of 0.
const NOBODYS: u64 = i64::MAX as u64;

impl Partition {
    /// Whether it counts as this member's.
    pub(in super::super) fn is_owned(&self) -> bool {
        !matches!(
            self.phase,
            Phase::Probe | Phase::Leave { .. } | Phase::Broken { .. }
        )
    }

    /// How much there is to do before it can be given up; of two alike the last goes.
    pub(in super::super) fn burden(&self) -> (usize, usize, u32) {
        (self.out.len(), self.ready.len(), u32::MAX - self.number)
    }

    /// Nothing of it is handled here any more. What its pulls still bring is taken, and what their ends say is of no interest.
    pub(in super::super) fn leave(&mut self) {
        self.forget_pulls();
        self.phase = Phase::Leave {
            asked: None,
            known: self.template.is_none(),
            fenced: false,
        };
    }

    /// Where to ask whether the server has heard all that was said of deliveries; nowhere if there was none.
    pub(in super::super) fn word(&self) -> Option<Subject> {
        let template = self.template.as_deref().and_then(Reply::parse)?;
        Some(template.for_other(NOBODYS, 0).into())
    }

    /// Where the answers go to all that is here or was handed out, in the order of the stream.
    pub(in super::super) fn unanswered(&self) -> Vec<Subject> {
        let ready = self
            .ready
            .iter()
            .map(|(sequence, fetched)| (sequence, &fetched.reply));
        let all: BTreeMap<u64, &Subject> = self.out.iter().chain(ready).collect();
        all.into_values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::durable::{Durable, Standing};
    use super::super::{Fetched, Heard, Pace};
    use super::*;
    use crate::config::TopicConfig;
    use async_nats::Message;
    use std::time::Duration;

    const PACE: Pace = Pace {
        batch: 8,
        bytes: 1 << 20,
        expires: Duration::from_secs(6),
        heartbeat: Duration::from_secs(2),
        ack_wait: Duration::from_secs(30),
        watch: Duration::from_secs(30),
        lease: Duration::from_secs(15),
    };

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn standing(unanswered: u64, pin: Option<&str>) -> Standing {
        Standing {
            unanswered,
            pin: pin.map(str::to_owned),
            ..Standing::default()
        }
    }

    fn probing() -> Partition {
        let durable = Durable::new("t", &TopicConfig::new("t"), "g", 3, 64, true);
        Partition::new(3, durable, "then".into(), Standing::default(), None, 1)
    }

    fn deliver(partition: &mut Partition, sequence: u64, now: Duration) {
        let reply = Subject::from(format!("$JS.ACK.t.g~t~3.1.{sequence}.9.1000000.0"));
        let message = Message {
            subject: "t.3".into(),
            reply: None,
            payload: Default::default(),
            headers: None,
            status: None,
            description: None,
            length: 0,
        };
        let fetched = Fetched {
            attempt: 1,
            time_ms: 1,
            reply,
            message,
        };
        partition.on_delivery(sequence, fetched, Some("pin"), now);
    }

    /// One is handed out and one is ready.
    fn open() -> Partition {
        let mut partition = probing();
        partition.pulled(1, at(0));
        deliver(&mut partition, 1, at(0));
        deliver(&mut partition, 2, at(0));
        assert!(partition.on_standing(&standing(2, Some("pin")), at(0), &PACE));
        assert!(partition.take_next().is_some());
        partition
    }

    #[test]
    fn who_is_full_asks_for_no_other_unless_it_is_nobodys_and_needed() {
        let mut partition = probing();
        partition.asks_not = true;
        assert_eq!(partition.wants(at(0), &PACE), None);
        assert!(!partition.is_owned());
        partition.on_watched(&standing(1, Some("another's")));
        assert_eq!(partition.wants(at(0), &PACE), None);
        partition.on_watched(&standing(0, None));
        assert_eq!(partition.wants(at(0), &PACE), None);
        partition.on_watched(&standing(1, None));
        assert_eq!(partition.wants(at(0), &PACE), Some(1));
    }

    #[test]
    fn what_is_given_up_hands_out_nothing_keeps_its_pin_and_goes_back_in_order() {
        let mut partition = open();
        partition.phase = Phase::Yield;
        assert!(partition.is_owned() && partition.take_next().is_none());
        assert_eq!(
            partition.wants(at(7), &PACE),
            Some(1),
            "the pin wants a pull"
        );
        partition.pulled(1, at(7));
        deliver(&mut partition, 3, at(7));
        partition.pulled(1, at(14));
        partition.leave();
        assert!(!partition.is_owned());
        assert_eq!(partition.wants(at(30), &PACE), None);
        // The pin is given back: the end of that pull is no news.
        let heard = partition.on_status(423, "Nats-Wrong-Pin-Id", 1, 3, at(15));
        assert_eq!(heard, Heard::Nothing);
        // Before its pin goes back the server is asked whether it has heard every answer: of a delivery that there is none of.
        let asks = Phase::Leave {
            asked: None,
            known: false,
            fenced: false,
        };
        assert_eq!(partition.phase, asks);
        let word = partition.word().expect("there were deliveries");
        assert_eq!(&*word, "$JS.ACK.t.g~t~3.1.9223372036854775807.0.0.0");
        let mut unused = probing();
        assert!(unused.word().is_none());
        unused.leave();
        assert!(matches!(unused.phase, Phase::Leave { known: true, .. }));
        let back = partition.unanswered();
        let back: Vec<_> = back.iter().map(|reply| reply.split('.').nth(5)).collect();
        assert_eq!(back, [Some("1"), Some("2"), Some("3")]);
    }

    #[test]
    fn in_doubt_nothing_is_handed_out_before_the_server_has_said_that_it_is_ours() {
        let mut partition = open();
        partition.doubt();
        assert!(partition.in_doubt && partition.take_next().is_none());
        assert!(!partition.on_standing(&standing(2, Some("another's")), at(20), &PACE));
        assert!(!partition.on_standing(&standing(2, None), at(20), &PACE));
        assert!(partition.in_doubt && partition.take_next().is_none());
        assert!(partition.on_standing(&standing(2, Some("pin")), at(20), &PACE));
        assert!(!partition.in_doubt && partition.take_next().is_some());
    }

    #[test]
    fn silence_is_a_doubt_and_who_has_no_pin_has_none() {
        let mut partition = open();
        partition.pulled(1, at(0));
        assert!(partition.on_silence(at(10), &PACE).is_some());
        assert!(partition.in_doubt);
        let mut partition = probing();
        partition.doubt();
        assert!(!partition.in_doubt && partition.phase == Phase::Probe);
    }
}
