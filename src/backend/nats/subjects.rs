//! Subjects: what a stream of others holds, to be read and nothing else.

use super::names;
use crate::backend::Foreign;
use std::fmt;
use thiserror::Error;

/// Subjects of a stream that others fill, with wildcards: for [`Bus::raw_subscription`](crate::Bus::raw_subscription).
///
/// `*` stands for one token, `>` at the end for all that follow. Subjects that come to be later are read as well.
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use clearway::nats::Subjects;
/// use clearway::{Bus, Delivery, HandlerError};
///
/// let bus = Bus::connect("nats://localhost").await?;
/// let temperatures = Subjects::new("SENSORS", "sensors.*.temperature")?;
/// let alarms = bus
///     .raw_subscription(temperatures, "alarms")
///     .handler(|measured: Delivery<bytes::Bytes>| async move {
///         println!("{}: {:?}", measured.topic, measured.value);
///         Ok::<_, HandlerError>(())
///     })
///     .await?;
/// # let _ = alarms;
/// # Ok(()) }
/// ```
///
/// # What it reads
///
/// * The stream is neither made nor changed, only a durable for the group. One that is missing, or that takes no subject which fits, is refused
///   ([`FailureKind::NoTopic`](crate::FailureKind::NoTopic)); one that goes missing later is waited for.
/// * The stream's own rules hold: what is acknowledged on a work queue is gone, as it is whoever acknowledges it.
/// * [`Delivery::topic`](crate::Delivery) is the whole subject, and so is the key of a message that has no `Clearway-Key`:
///   with [`Order::ByKey`](crate::Order::ByKey) each subject is handled in order.
/// * There is one partition, 0: one member of a group at a time reads. Its offsets are the stream's sequences.
/// * A message without an id of ours has one made of the stream and its `Nats-Msg-Id`, or else its sequence: the same whenever it is
///   delivered. Headers that begin with `Nats-` are not among its headers.
/// * A group that reads the same subjects by two patterns handles their messages twice, once for each.
/// * Dead letters must not go to a topic that the pattern reads: they would come back, until they have been dead letters
///   [too often](crate::dead_letter::HOPS_MAX).
///
/// Errors, events and [`Subscription::topic`](crate::Subscription::topic) call it `sensors.*.temperature in SENSORS`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subjects(Foreign);

/// What is no stream, or no pattern of subjects.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidSubjects {
    /// No stream can be called so.
    #[error("`{stream}` is no stream: {reason}")]
    Stream {
        /// The name.
        stream: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No subject would fit.
    #[error("`{pattern}` is no pattern of subjects: at byte {at}: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// The byte where it is wrong.
        at: usize,
        /// What is wrong there.
        reason: String,
    },
}

impl Subjects {
    /// The subjects of `stream` that fit `pattern`. Asks nobody.
    ///
    /// ```
    /// use clearway::nats::{InvalidSubjects, Subjects};
    ///
    /// assert!(Subjects::new("SENSORS", "sensors.>").is_ok());
    /// let error = Subjects::new("SENSORS", "sensors.>.temperature").unwrap_err();
    /// assert!(matches!(error, InvalidSubjects::Pattern { at: 8, .. }), "{error}");
    /// ```
    ///
    /// # Errors
    ///
    /// When no stream can have that name, or the pattern has an empty token, a character that no subject has, or a wildcard where none
    /// can be.
    pub fn new(stream: &str, pattern: &str) -> Result<Self, InvalidSubjects> {
        if let Some(reason) = names::refuse_stream(stream) {
            let stream = stream.to_owned();
            return Err(InvalidSubjects::Stream { stream, reason });
        }
        if let Some((at, reason)) = names::refuse_pattern(pattern) {
            let pattern = pattern.to_owned();
            return Err(InvalidSubjects::Pattern {
                pattern,
                at,
                reason,
            });
        }
        Ok(Self(Foreign::new(stream, pattern)))
    }

    /// The stream.
    pub fn stream(&self) -> &str {
        self.0.log()
    }

    /// The pattern.
    pub fn pattern(&self) -> &str {
        self.0.pattern()
    }
}

impl fmt::Display for Subjects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Subjects> for Foreign {
    fn from(subjects: Subjects) -> Self {
        subjects.0
    }
}

impl From<&Subjects> for Foreign {
    fn from(subjects: &Subjects) -> Self {
        subjects.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_of_the_right_part() {
        let of =
            |stream, pattern| Subjects::new(stream, pattern).map(|subjects| subjects.to_string());
        assert_eq!(of("S", "a.*").as_deref(), Ok("a.* in S"));
        let error = of("S.T", "a.*").expect_err("a dot");
        assert!(
            matches!(&error, InvalidSubjects::Stream { .. }) && error.to_string().contains("'.'")
        );
        let error = of("S", "a.>.b").expect_err("not last");
        assert!(matches!(error, InvalidSubjects::Pattern { at: 2, .. }));
        assert!(error.to_string().contains("`a.>.b`") && error.to_string().contains("byte 2"));
    }
}
