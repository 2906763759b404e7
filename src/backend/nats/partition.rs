//! One partition of a subscription, as its one task sees it. No I/O: what happened goes in, what to do comes out.
//!
//! ```text
//!          a delivery came, we are pinned          nothing is out but ours
//! Probe ──────────────────────────────────▶ Look ───────────────────────────▶ Open
//!   ▲                                        │ ▲                               │
//!   │                     some were left by  │ │ they came, or a while passed  │ silence
//!   │                     another owner      ▼ │                               ▼
//!   │                                       Gather                            Look
//!   ├── the pin went to another (423), or the durable is gone: Broken, then made again
//!   └── we have too many: Open ──▶ Yield (its handlers end) ──▶ Leave (the answers are known, the pin goes back)
//! ```
//!
//! **Order across owners.** A durable hands out what is new before what an owner before us left
//! unanswered, which comes back only after the ack wait. So a new owner takes one delivery, looks how
//! many are out, asks back what is not its own, and hands out nothing before all of it is here; then in the
//! order of the stream.

mod acked;
mod confirm;
mod in_order;
mod place;
mod reply;
mod sizes;
mod speak;
mod yields;

pub(super) use reply::{REPLY, Reply};

use super::durable::{Begin, Durable, Standing};
use acked::Acked;
use async_nats::{Message, Subject};
use confirm::Unconfirmed;
use in_order::InOrder;
use serde_json::Value;
use sizes::Sizes;
use std::collections::BTreeMap;
use std::time::Duration;

/// As many sequences may lie between the first and the last that is asked back; of a wider range we
/// wait for the server to bring it back by itself.
const ASK_BACK_MAX: u64 = 1 << 16;

/// After a refusal the next pull waits this long.
const CALM: Duration = Duration::from_millis(250);

/// One partition of a subscription.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) number: u32,
    pub(super) durable: Durable,
    /// When the stream was made: sequences of an earlier one of its name mean nothing.
    pub(super) born: String,
    pub(super) epoch: u64,
    pub(super) phase: Phase,
    /// The server's word that deliveries are ours alone.
    pub(super) pin: Option<String>,
    /// Fetched and not handed out, in the order of the stream.
    pub(super) ready: InOrder<Fetched>,
    /// Handed out and not answered: where the answer goes.
    pub(super) out: InOrder<Subject>,
    /// Acknowledged, and not confirmed though that was asked for.
    confirming: BTreeMap<u64, Unconfirmed>,
    /// Whether some of these may have to be acknowledged again.
    may_be_late: bool,
    /// Acknowledged lately: what of it comes again is no handler's.
    acked: Acked,
    /// Where these are to be acknowledged again.
    again: Vec<Subject>,
    /// Where to begin if the durable has to be made again and nothing is out.
    next: u64,
    /// The first sequence that another owner may have left, until that is here. Else the largest number.
    left: u64,
    /// Asked for and not come yet.
    owed: u32,
    sizes: Sizes,
    /// The last pull, and the first one whose end still matters.
    pull: u64,
    pull_first: u64,
    heard: Duration,
    pulled: Duration,
    not_before: Duration,
    /// When the server heard last that what is ready is waited with.
    spoken_for: Duration,
    /// When the durable was looked at last, to see whether somebody has changed it.
    watched: Duration,
    /// The configuration that puts the durable right.
    pub(super) mend: Option<Value>,
    /// Putting the durable right is not enough: it is to be made anew.
    pub(super) is_to_be_replaced: bool,
    /// Whether it has to be said anew that it is ours.
    pub(super) in_doubt: bool,
    /// We have as many as we may: another member is to get it.
    pub(super) asks_not: bool,
    /// It is nobody's, and has something to deliver, all the same.
    is_needed: bool,
    /// A reply subject of this durable, to ask back others and to ask whether it has heard all.
    template: Option<Subject>,
    /// Where to ask back others, the next one last. Kept until it is done: whoever does it may be dropped in the middle.
    asks: Vec<String>,
}

/// See the module's picture.
#[derive(Debug, PartialEq)]
pub(super) enum Phase {
    Probe,
    Look {
        gathering: Option<Duration>,
    },
    /// `need` are out, ours and others'.
    Gather {
        since: Duration,
        need: u64,
    },
    Open,
    /// It is given up: revoked, and not released yet.
    Yield,
    /// It is released: when the server knows every answer the pin goes back, then what is here.
    Leave {
        asked: Option<Duration>,
        known: bool,
        fenced: bool,
    },
    Broken {
        reason: String,
        again_at: Duration,
    },
}

/// A delivery that has not been handed out.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) attempt: u32,
    pub(super) time_ms: u64,
    pub(super) reply: Subject,
    pub(super) message: Message,
}

/// What a status of the server means for the partition.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    Nothing,
    /// Worth an event.
    Restart(String),
    /// The partition is another member's now.
    Taken,
    /// It cannot go on.
    Refused(String),
}

/// How much and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Deliveries to hold ready, at most.
    pub(super) batch: u32,
    /// As many bytes of them, about: the server is asked for a number, and how large they are is learned as they come.
    pub(super) bytes: usize,
    /// How long a pull waits at the server.
    pub(super) expires: Duration,
    /// How often the server says that a pull still waits.
    pub(super) heartbeat: Duration,
    /// How often to see whether somebody has changed the durable.
    pub(super) watch: Duration,
    /// How long a delivery may be unanswered.
    pub(super) ack_wait: Duration,
    /// How long a pin holds for sure after it was seen that we pull. Half of what the server waits: the last pull may be
    /// [`expires`](Self::expires) old, and who stood still must not be later than the server.
    pub(super) lease: Duration,
}

impl Partition {
    pub(super) fn new(
        number: u32,
        durable: Durable,
        born: String,
        standing: Standing,
        pin: Option<String>,
        epoch: u64,
    ) -> Self {
        Self {
            number,
            durable,
            born,
            epoch,
            phase: Phase::Probe,
            pin,
            ready: InOrder::new(),
            out: InOrder::new(),
            confirming: BTreeMap::new(),
            may_be_late: false,
            acked: Acked::default(),
            again: Vec::new(),
            next: standing.floor + 1,
            left: u64::MAX,
            owed: 0,
            sizes: Sizes::default(),
            pull: 0,
            pull_first: 0,
            heard: Duration::ZERO,
            pulled: Duration::ZERO,
            not_before: Duration::ZERO,
            spoken_for: Duration::ZERO,
            watched: Duration::ZERO,
            mend: None,
            is_to_be_replaced: false,
            in_doubt: false,
            asks_not: false,
            is_needed: false,
            template: None,
            asks: Vec::new(),
        }
    }

    /// Whether a delivery that came or went leaves something to do now. What only time brings is looked for now and then.
    pub(super) fn wants_attention(&self, pace: &Pace) -> bool {
        let is_behind = self.may_be_late || !self.asks.is_empty() || !self.again.is_empty();
        self.phase != Phase::Open || self.owed <= self.batch(pace) / 2 || is_behind
    }

    /// How many to ask for now, if any.
    pub(super) fn wants(&self, now: Duration, pace: &Pace) -> Option<u32> {
        match &self.phase {
            _ if now < self.not_before => None,
            // A pull that overtook what is asked back would have some delivered twice.
            _ if !self.asks.is_empty() => None,
            Phase::Look { .. } | Phase::Broken { .. } | Phase::Leave { .. } => None,
            Phase::Probe if self.asks_not && !self.is_needed => None,
            Phase::Probe => (self.owed == 0).then_some(1),
            Phase::Gather { .. } => (self.owed == 0).then_some(self.batch(pace)),
            Phase::Open => {
                let batch = self.batch(pace);
                let room = batch.saturating_sub(self.ready.len() as u32);
                if room > self.owed && self.owed <= batch / 2 {
                    return Some(room - self.owed);
                }
                self.keeps_pin(now, pace)
            }
            // Its handlers are not done: until then it is ours.
            Phase::Yield => self.keeps_pin(now, pace),
        }
    }

    /// How many to hold ready: fewer of large ones.
    fn batch(&self, pace: &Pace) -> u32 {
        pace.batch.min(self.sizes.fit(pace.bytes))
    }

    /// Without room too: a member that does not pull loses its pin.
    fn keeps_pin(&self, now: Duration, pace: &Pace) -> Option<u32> {
        let idle = self.owed == 0 && now.saturating_sub(self.pulled) >= pace.expires;
        (idle && self.pin.is_some()).then_some(1)
    }

    /// The number of the next pull, which asks for `count`.
    pub(super) fn next_pull(&self) -> u64 {
        self.pull + 1
    }

    /// The next pull is on its way.
    pub(super) fn pulled(&mut self, count: u32, now: Duration) {
        self.pull += 1;
        self.owed += count;
        self.pulled = now;
        self.heard = now;
    }

    /// A delivery came. `pin` is the server's word with it.
    pub(super) fn on_delivery(
        &mut self,
        sequence: u64,
        fetched: Fetched,
        pin: Option<&str>,
        now: Duration,
    ) {
        self.heard = now;
        self.owed = self.owed.saturating_sub(1);
        self.sizes.note(fetched.message.length);
        if matches!(self.phase, Phase::Probe) {
            // What is below may be with another until the server has said that it is not.
            self.left = self.left.min(self.next);
            self.template = Some(fetched.reply.clone());
        }
        self.next = self.next.max(sequence + 1);
        if let Some(pin) = pin
            && self.pin.as_deref() != Some(pin)
        {
            self.pin = Some(pin.to_owned());
        }
        if matches!(self.phase, Phase::Probe) {
            self.phase = Phase::Look { gathering: None };
        }
        // Its handler is at it: the second one would run beside the first.
        let is_at_work = self.out.contains(sequence) || self.came_again(sequence, &fetched.reply);
        if !is_at_work && !self.was_acked(sequence, fetched.attempt, &fetched.reply) {
            self.hold_ready(sequence, fetched, now);
        }
        if let Phase::Gather { since, need } = self.phase
            && (self.owed == 0 || self.ours() >= need)
        {
            self.phase = Phase::Look {
                gathering: Some(since),
            };
        }
    }

    /// A status came for `pull`, of which `left` were not delivered.
    pub(super) fn on_status(
        &mut self,
        code: u16,
        text: &str,
        left: u32,
        pull: u64,
        now: Duration,
    ) -> Heard {
        if pull < self.pull_first {
            return Heard::Nothing;
        }
        self.heard = now;
        if code == 100 {
            return Heard::Nothing;
        }
        // Whatever else it is, it is the pull's end.
        self.owed = if left == 0 && code != 408 && code != 409 {
            0
        } else {
            self.owed.saturating_sub(left)
        };
        let lower = text.to_lowercase();
        match code {
            404 | 408 => Heard::Nothing,
            409 if lower.contains("batch completed") => Heard::Nothing,
            409 if lower.contains("deleted") => self.break_down("the durable was deleted", now),
            503 => self.break_down("the durable is gone", now),
            423 => {
                self.forget_pulls();
                Heard::Taken
            }
            400 => Heard::Refused(format!("the server refuses to deliver: {text}")),
            // A new leader, a server that ends, too many requests: ask again, but not in a storm.
            _ => {
                self.forget_pulls();
                self.not_before = now + CALM;
                if self.phase == Phase::Open {
                    self.phase = Phase::Look { gathering: None };
                }
                Heard::Restart(text.to_owned())
            }
        }
    }

    /// It cannot go on before its durable was made again.
    pub(super) fn break_down(&mut self, reason: &str, now: Duration) -> Heard {
        self.forget_pulls();
        self.asks.clear();
        self.in_doubt = false;
        self.phase = Phase::Broken {
            reason: reason.into(),
            again_at: now,
        };
        Heard::Nothing
    }

    /// The server owes an answer and has not said a word for two heartbeats: look what is the matter.
    pub(super) fn on_silence(&mut self, now: Duration, pace: &Pace) -> Option<String> {
        let limit = pace.heartbeat * 2 + Duration::from_millis(500);
        if self.owed == 0 || now.saturating_sub(self.heard) < limit {
            return None;
        }
        self.forget_pulls();
        self.doubt();
        if self.phase == Phase::Open {
            self.phase = Phase::Look { gathering: None };
        }
        Some(format!("no heartbeat for {limit:?}"))
    }

    /// Time has passed: is it worth another look?
    pub(super) fn on_tick(&mut self) {
        self.may_be_late = !self.confirming.is_empty();
        if let Phase::Gather { since, .. } = self.phase {
            self.phase = Phase::Look {
                gathering: Some(since),
            };
        }
    }

    /// The server has said how the durable stands. Says whether it is still ours.
    pub(super) fn on_standing(&mut self, standing: &Standing, now: Duration, pace: &Pace) -> bool {
        let Phase::Look { gathering } = self.phase else {
            return true;
        };
        if self.pin.is_some() && self.pin != standing.pin {
            return false;
        }
        self.in_doubt = false;
        self.note_left(standing);
        let ours = self.ours();
        let long = gathering.is_some_and(|since| {
            now.saturating_sub(since) > pace.ack_wait * 2 + Duration::from_secs(5)
        });
        if standing.unanswered <= ours || long {
            self.phase = Phase::Open;
            return true;
        }
        self.phase = Phase::Gather {
            since: gathering.unwrap_or(now),
            need: standing.unanswered,
        };
        if gathering.is_none() {
            self.asks = self.others(standing);
            self.asks.reverse();
        }
        true
    }

    /// It may be another's by now: nothing is handed out before the server has said whose it is.
    pub(super) fn doubt(&mut self) {
        if self.pin.is_none() {
            return;
        }
        match self.phase {
            Phase::Open => self.phase = Phase::Look { gathering: None },
            Phase::Gather { since, .. } => {
                let gathering = Some(since);
                self.phase = Phase::Look { gathering };
            }
            Phase::Look { .. } => {}
            // Nothing of these is handed out.
            Phase::Probe | Phase::Yield | Phase::Leave { .. } | Phase::Broken { .. } => return,
        }
        self.forget_pulls();
        self.in_doubt = true;
    }

    /// Where to ask next for what is out and not ours, and whether that is the last.
    pub(super) fn ask(&self) -> Option<(&str, bool)> {
        Some((self.asks.last()?, self.asks.len() == 1))
    }

    /// That was done.
    pub(super) fn asked(&mut self) {
        self.asks.pop();
    }

    /// Where to ask back all that may be out and is not ours. The server ignores what is not.
    fn others(&self, standing: &Standing) -> Vec<String> {
        let Some(template) = self.template.as_deref().and_then(Reply::parse) else {
            return Vec::new();
        };
        if standing.delivered.saturating_sub(standing.floor) > ASK_BACK_MAX {
            return Vec::new();
        }
        (standing.floor + 1..=standing.delivered)
            .filter(|seq| !self.ready.contains(*seq) && !self.out.contains(*seq))
            .filter(|seq| !self.confirming.contains_key(seq))
            .map(|sequence| template.for_other(sequence, standing.delivered_count))
            .collect()
    }

    /// The next delivery in the order of the stream.
    pub(super) fn take_next(&mut self) -> Option<(u64, Fetched)> {
        if self.phase != Phase::Open {
            return None;
        }
        let (sequence, fetched) = self.ready.pop_first()?;
        self.out.insert(sequence, fetched.reply.clone());
        Some((sequence, fetched))
    }

    /// It is not ours any more, or it is ours anew: what was fetched is void. Gives how many were out.
    pub(super) fn start_over(&mut self, epoch: u64) -> usize {
        self.forget_pulls();
        self.asks.clear();
        // What was here is not answered: a durable made anew begins with it.
        if let Begin::At(sequence) = self.resume_at(&self.born) {
            self.next = sequence;
        }
        self.left = u64::MAX;
        self.mend = None;
        self.is_needed = false;
        self.in_doubt = false;
        self.phase = Phase::Probe;
        self.pin = None;
        self.epoch = epoch;
        self.ready.clear();
        self.acked.clear();
        self.again.clear();
        let confirming = std::mem::take(&mut self.confirming);
        let out = self.out.len();
        self.out.clear();
        out + confirming.len()
    }

    /// What is out and here.
    fn ours(&self) -> u64 {
        (self.ready.len() + self.out.len()) as u64
    }

    fn forget_pulls(&mut self) {
        self.owed = 0;
        self.pull_first = self.pull + 1;
    }
}

#[cfg(test)]
mod tests;
