//! Dead letter: where a delivery goes that no attempt could handle, and what it takes along.

use crate::backend::Position;
use crate::envelope::Envelope;
use crate::error::PublishError;
use bytes::Bytes;
use foldhash::fast::FixedState;
use std::fmt;
use std::future::Future;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::Arc;
use uuid::Uuid;

/// The headers of a dead letter. Those of the envelope are kept as they are.
pub mod header {
    /// The topic it came from.
    pub const TOPIC: &str = "dead-letter-topic";
    /// Of one that was read from no topic: what it was read by (`sensors.> in SENSORS`). The topic is then what it was published to.
    pub const FOREIGN: &str = "dead-letter-foreign";
    /// The group whose handler failed.
    pub const GROUP: &str = "dead-letter-group";
    /// The partition it was in.
    pub const PARTITION: &str = "dead-letter-partition";
    /// Its offset there.
    pub const OFFSET: &str = "dead-letter-offset";
    /// The last error, as text.
    pub const ERROR: &str = "dead-letter-error";
    /// How often it was given to a handler.
    pub const ATTEMPTS: &str = "dead-letter-attempts";
    /// How often it has been a dead letter, this time included.
    pub const HOPS: &str = "dead-letter-hops";
    /// The id that it had there. A letter has one of its own.
    pub const ID: &str = "dead-letter-id";
}

/// How often an envelope may become a dead letter before that is refused.
pub const HOPS_MAX: u32 = 8;
/// An error's text is cut to this length, in bytes.
const ERROR_MAX: usize = 1024;

/// What is done about a delivery when its [`Retry`](crate::Retry) has no attempt left, or its handler rejected it.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum OnFailure {
    /// It is tried on, at the longest pause: nothing is lost, and its key stands still until it succeeds.
    #[default]
    Block,
    /// It is published to a topic of dead letters and then settled. While that fails it is tried again; the
    /// handler is not called again.
    DeadLetter(DeadLetter),
    /// It is settled as if it had been handled. Counted, and logged with its position.
    Skip,
}

/// Where dead letters go, and how many are too many: over that something else is wrong than the letters, and the
/// subscription [pauses](crate::BusEvent::SubscriptionPaused) instead of moving all of a topic aside.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    pub(crate) topic: Arc<str>,
    pub(crate) run_max: u32,
    pub(crate) ratio_max: f64,
}

impl DeadLetter {
    /// To this topic; at most 100 in a row, whatever their ratio.
    pub fn to(topic: impl Into<Arc<str>>) -> Self {
        Self {
            topic: topic.into(),
            run_max: 100,
            ratio_max: 1.0,
        }
    }

    /// The subscription pauses after so many dead letters with no other delivery settled in between.
    pub fn run_max(mut self, letters: u32) -> Self {
        self.run_max = letters.max(1);
        self
    }

    /// The subscription pauses when of the last 100 settled deliveries a larger part than this (0.05 is 5 %) were dead letters.
    pub fn ratio_max(mut self, ratio: f64) -> Self {
        self.ratio_max = ratio.clamp(0.0, 1.0);
        self
    }
}

impl OnFailure {
    /// To the dead letters of this topic, with the budget of [`DeadLetter::to`].
    pub fn dead_letter(topic: impl Into<Arc<str>>) -> Self {
        Self::DeadLetter(DeadLetter::to(topic))
    }
}

impl From<DeadLetter> for OnFailure {
    fn from(letters: DeadLetter) -> Self {
        Self::DeadLetter(letters)
    }
}

/// How many deliveries the ratio is of.
const RATIO_OF: u32 = 100;

/// Counts dead letters among what was settled. One task's own.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    run: u32,
    /// The last settled deliveries, the newest in the lowest bit: set for a dead letter.
    last: u128,
    seen: u32,
}

impl Spent {
    /// Counts one that was settled. Says what is too much, if something is; then the counting begins anew.
    pub(crate) fn count(&mut self, letter: bool, budget: &DeadLetter) -> Option<String> {
        self.run = if letter { self.run + 1 } else { 0 };
        self.last = (self.last << 1 | u128::from(letter)) & ((1 << RATIO_OF) - 1);
        self.seen = (self.seen + 1).min(RATIO_OF);
        let letters = self.last.count_ones();
        let why = if self.run >= budget.run_max {
            format!("{} dead letters in a row", self.run)
        } else if self.seen == RATIO_OF
            && f64::from(letters) > budget.ratio_max * f64::from(RATIO_OF)
        {
            format!("{letters} dead letters among the last {RATIO_OF} deliveries")
        } else {
            return None;
        };
        *self = Self::default();
        Some(why)
    }
}

/// Publishes an envelope; done when the broker has it.
pub(crate) type Forward = Arc<
    dyn Fn(Envelope) -> Pin<Box<dyn Future<Output = Result<(), PublishError>> + Send>>
        + Send
        + Sync,
>;

/// The way to the dead letters.
#[derive(Clone)]
pub(crate) struct DeadLetters {
    pub(crate) topic: Arc<str>,
    pub(crate) forward: Forward,
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DeadLetters").field(&self.topic).finish()
    }
}

/// What a dead letter tells of where it came from.
pub(crate) struct Origin<'o> {
    pub(crate) topic: &'o str,
    /// What it was read by, if that is no topic.
    pub(crate) foreign: Option<&'o str>,
    pub(crate) group: &'o str,
    pub(crate) position: Position,
    pub(crate) error: &'o str,
    pub(crate) attempts: u32,
}

/// `envelope` as a dead letter, or `None` if it has been one too often.
///
/// Its id is of its own, so that a broker that recognises ids and keeps both topics in one place does not take it for what
/// it was; and it is made of the old one, so that it is taken once, however often it is sent.
pub(crate) fn dead_letter(envelope: &Envelope, origin: &Origin<'_>) -> Option<Envelope> {
    let hops = hops(envelope) + 1;
    if hops > HOPS_MAX {
        return None;
    }
    let mut letter = envelope.clone();
    letter.id = id_of_letter(envelope.id, hops);
    letter.headers = kept(envelope);
    let mut add = |name: &'static str, value: String| {
        letter
            .headers
            .add(Bytes::from_static(name.as_bytes()), value);
    };
    add(header::TOPIC, origin.topic.to_string());
    if let Some(foreign) = origin.foreign {
        add(header::FOREIGN, foreign.to_string());
    }
    add(header::GROUP, origin.group.to_string());
    add(header::PARTITION, origin.position.partition.to_string());
    add(header::OFFSET, origin.position.offset.to_string());
    add(header::ERROR, cut(origin.error));
    add(header::ATTEMPTS, origin.attempts.to_string());
    add(header::HOPS, hops.to_string());
    add(header::ID, envelope.id.to_string());
    Some(letter)
}

/// The time of the old id, and what else is in it stirred.
fn id_of_letter(id: Uuid, hops: u32) -> Uuid {
    let stirred = FixedState::with_seed(u64::from(hops)).hash_one(id.as_bytes());
    let mut bytes = id.into_bytes();
    // The first two bits of this half say which kind of id it is.
    let kind = bytes[8] & 0xc0;
    bytes[8..].copy_from_slice(&stirred.to_be_bytes());
    bytes[8] = (bytes[8] & 0x3f) | kind;
    Uuid::from_bytes(bytes)
}

/// The envelope's own headers, without those of an earlier hop.
pub(crate) fn kept(envelope: &Envelope) -> crate::Headers {
    let ours = [
        header::TOPIC,
        header::FOREIGN,
        header::GROUP,
        header::PARTITION,
        header::OFFSET,
        header::ERROR,
        header::ATTEMPTS,
        header::HOPS,
        header::ID,
    ];
    let mut kept = crate::Headers::default();
    for (name, value) in envelope.headers.iter() {
        if !ours.iter().any(|ours| ours.as_bytes() == name.as_ref()) {
            kept.add(name.clone(), value.clone());
        }
    }
    kept
}

/// How often the envelope has been a dead letter.
pub(crate) fn hops(envelope: &Envelope) -> u32 {
    let hops = envelope.headers.first(header::HOPS);
    hops.and_then(|hops| std::str::from_utf8(hops).ok()?.parse().ok())
        .unwrap_or(0)
}

/// The text on one line, at most so long, cut between characters.
fn cut(error: &str) -> String {
    let mut text: String = error
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.len() > ERROR_MAX {
        let end = (0..=ERROR_MAX)
            .rev()
            .find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_in_a_row_and_too_large_a_part_are_said_once() {
        let budget = DeadLetter::to("x").run_max(3);
        let mut spent = Spent::default();
        let letters = [true, true, false, true, true, true, true];
        let said: Vec<_> = letters
            .map(|letter| spent.count(letter, &budget).is_some())
            .into();
        assert_eq!(said, [false, false, false, false, false, true, false]);

        let budget = DeadLetter::to("x").ratio_max(0.05);
        let mut spent = Spent::default();
        // One in twenty is not too many, one in ten is: and not before there are a hundred.
        assert!((0..1000).all(|n| spent.count(n % 20 == 0, &budget).is_none()));
        let mut spent = Spent::default();
        let said = (0..1000).position(|n| spent.count(n % 10 == 0, &budget).is_some());
        assert_eq!(said, Some(99));
    }

    #[test]
    fn a_letter_has_an_id_of_its_own_and_always_the_same() {
        let id = Uuid::parse_str("0190163d-8694-739b-aea5-966c26f8ad91").unwrap();
        let letter = id_of_letter(id, 1);
        assert_eq!(letter, id_of_letter(id, 1));
        assert!(letter != id && letter != id_of_letter(id, 2));
        assert_eq!(letter.get_version_num(), 7);
        assert_eq!(letter.get_variant(), id.get_variant());
        assert_eq!(letter.get_timestamp(), id.get_timestamp());
    }

    #[test]
    fn an_error_is_cut_between_characters_and_stays_on_a_line() {
        let cut = cut(&format!("a\n{}", "ü".repeat(ERROR_MAX)));
        assert!(cut.starts_with("a ü") && cut.len() <= ERROR_MAX && cut.len() > ERROR_MAX - 2);
    }
}
