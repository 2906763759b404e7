//! The handler of a workload: it writes down each call, and answers what is drawn for the envelope, the group and the call.

use super::observed::{Handled, How, Instance, Lane};
use super::workload::Label;
use bytes::Bytes;
use clearway::dead_letter::header;
use clearway::{Delivery, Envelope, Handler, HandlerError, Order, Outcome};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// An envelope is given up when it fails at this attempt.
pub(crate) const ATTEMPTS_MAX: u32 = 3;
/// So often a call of a handler may answer other than that it is done.
const MISHAPS_MAX: u32 = 4;

/// What all handlers of a workload have seen. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen(Arc<Mutex<Calls>>);

#[derive(Debug, Default)]
struct Calls {
    handled: Vec<Handled>,
    times: BTreeMap<(usize, Instance), u32>,
}

/// See the module.
pub(crate) struct Witness {
    pub(crate) seen: Seen,
    pub(crate) seed: u64,
    pub(crate) group: usize,
    pub(crate) order: Order,
    /// It only looks.
    pub(crate) audits: bool,
}

/// What is drawn for a call.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Ack,
    Skip,
    Fail,
    Panic,
    Again(Duration),
    Reject,
    Hang,
}

impl Seen {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From the `from`th call on.
    pub(crate) fn since(&self, from: usize) -> Vec<Handled> {
        self.calls().handled[from..].to_vec()
    }

    /// How many of the calls of a group so far have ended like this.
    pub(crate) fn count(&self, group: usize, how: impl Fn(How) -> bool) -> usize {
        let calls = self.calls();
        let of_it = calls.handled.iter().filter(|call| call.group == group);
        of_it.filter(|call| how(call.how)).count()
    }
}

/// What a payload begins with, so that what comes is known by it.
pub(crate) fn payload(label: Label, hangs: bool, size: usize) -> Bytes {
    let mut payload = format!("{label} {hangs} ").into_bytes();
    payload.resize(payload.len() + size, b'.');
    payload.into()
}

fn read(envelope: &Envelope) -> (Instance, bool) {
    let text = String::from_utf8_lossy(&envelope.payload);
    let mut words = text.split(' ');
    let label = words.next().and_then(|label| label.parse().ok());
    let hangs = words.next() == Some("true");
    let instance = Instance {
        label: label.unwrap_or_default(),
        generation: number(envelope, header::HOPS).unwrap_or_default(),
    };
    (instance, hangs)
}

fn number(envelope: &Envelope, name: &str) -> Option<u32> {
    let header = envelope.headers.first(name)?;
    std::str::from_utf8(header).ok()?.parse().ok()
}

/// The lane that it has in a subscription of that order.
pub(crate) fn lane(order: Order, partition: u32, key: Option<&str>, of: Instance) -> Lane {
    match (order, key) {
        (Order::ByPartition, _) => Lane::Partition(partition),
        (_, Some(key)) => Lane::Key(key.to_owned()),
        (_, None) => Lane::Alone(of),
    }
}

impl Witness {
    fn begin(&self, delivery: &Delivery<Bytes>) -> (AtWork<'_>, Answer) {
        let envelope = &delivery.envelope;
        let (of, hangs) = read(envelope);
        let key = envelope.key.as_deref();
        let key = key.map(|key| String::from_utf8_lossy(key).into_owned());
        let mut calls = self.seen.calls();
        let times = calls.times.entry((self.group, of)).or_default();
        *times += 1;
        let time = *times;
        let letter = [header::PARTITION, header::ATTEMPTS, header::ERROR]
            .map(|name| envelope.headers.first(name))
            .map(|value| value.map_or("-".into(), |value| String::from_utf8_lossy(value)))
            .join(" ");
        let answer = match (self.audits, hangs && self.group == 0 && of.generation == 0) {
            (true, _) => Answer::Ack,
            (_, true) if time == 1 => Answer::Hang,
            // A letter would have no key that decides where it goes.
            _ if key.is_none() => Answer::Ack,
            _ => self.draw(of, time),
        };
        let call = Handled {
            group: self.group,
            of,
            lane: lane(self.order, delivery.position.partition, key.as_deref(), of),
            partition: delivery.position.partition,
            position: delivery.position.offset,
            attempt: delivery.attempt,
            note: format!(
                "key {key:?}, {} bytes, letter {letter}",
                envelope.payload.len()
            ),
            how: How::AtWork,
            hangs: matches!(answer, Answer::Hang),
        };
        calls.handled.push(call);
        let number = calls.handled.len() - 1;
        drop(calls);
        let at_work = AtWork {
            seen: &self.seen,
            number,
            how: How::Cut,
        };
        (at_work, answer)
    }

    fn draw(&self, of: Instance, time: u32) -> Answer {
        if time > MISHAPS_MAX || of.generation > 2 {
            return Answer::Ack;
        }
        let mut seed = self.seed ^ 0x616e_7377_6572;
        for part in [self.group as u32, of.label, of.generation, time] {
            seed = (seed.rotate_left(17) ^ u64::from(part)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        let mut random = Rng::with_seed(seed);
        match random.u32(..24) {
            0..2 => Answer::Fail,
            2 => Answer::Panic,
            3..5 => Answer::Again(Duration::from_millis(random.u64(1..30))),
            5 => Answer::Reject,
            6 => Answer::Skip,
            // Now and then one that fails at every attempt.
            7 if of.label.is_multiple_of(3) => Answer::Fail,
            _ if time > 1 && of.label.is_multiple_of(4) => Answer::Fail,
            _ => Answer::Ack,
        }
    }
}

impl Handler<Bytes> for Witness {
    async fn handle(&self, delivery: Delivery<Bytes>) -> Result<Outcome, HandlerError> {
        let (mut at_work, answer) = self.begin(&delivery);
        let is_last = delivery.attempt >= ATTEMPTS_MAX;
        let or_given_up = |how| if is_last { How::GivenUp } else { how };
        let (how, outcome) = match answer {
            Answer::Ack => (How::Acked, Ok(Outcome::Ack)),
            Answer::Skip => (How::Skipped, Ok(Outcome::Skip)),
            Answer::Again(after) => (How::AskedAgain, Ok(Outcome::Retry { after })),
            Answer::Reject => {
                let outcome = Outcome::Reject("it will never be handled".into());
                (How::Rejected, Ok(outcome))
            }
            Answer::Fail => (or_given_up(How::Failed), Err("it fails".into())),
            Answer::Panic => {
                at_work.how = or_given_up(How::Panicked);
                // Without a word from the hook: there are many.
                std::panic::resume_unwind(Box::new(clearway_integration::PANIC));
            }
            Answer::Hang => std::future::pending().await,
        };
        at_work.how = how;
        outcome
    }
}

/// A call that has not ended.
struct AtWork<'w> {
    seen: &'w Seen,
    number: usize,
    how: How,
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.seen.calls().handled[self.number].how = self.how;
    }
}
