//! What an answer to a publish means.
//!
//! `Rejected` is a promise: the envelope is surely not stored. It is given for the codes below alone,
//! because the server answers with them before it writes; whatever is not on the list is `Unknown`.
//!
//! | answer | becomes |
//! |---|---|
//! | an acknowledgement of our stream | `Acked`, `duplicate` as the server says |
//! | an acknowledgement of another stream | `Unknown`: stored, but not where it belongs |
//! | "no responders" (503): no stream listens to the subject | `Rejected`, retryable |
//! | 10054, 10097: larger than the server or the stream takes | `Rejected`, too large |
//! | 10002, 10023, 10028, 10047, 10122, 10167: out of memory, disk, quota or buffers | `Rejected`, no room |
//! | 10077 with "maximum messages" or "maximum bytes": the stream is full and keeps the old | `Rejected`, no room |
//! | 10060, 10109: another stream, or sealed | `Rejected` |
//! | 10039, 10076: no JetStream | `Rejected` |
//! | anything else | `Unknown` |
//!
//! All of these are `Unknown` once an earlier attempt of the same envelope may have been stored.

use crate::backend::Outcome;
use crate::error::{Failure, FailureKind};
use async_nats::{Message, StatusCode};
use serde::Deserialize;
use std::borrow::Cow;

/// What the server says.
#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    #[serde(default)]
    err_code: u64,
    #[serde(default)]
    description: String,
}

/// What we know of the publish that is answered.
pub(super) struct Asked<'a> {
    pub(super) topic: &'a str,
    /// The stream that must answer, if we have looked.
    pub(super) stream: Option<&'a str>,
    pub(super) partition: u32,
    /// Whether an earlier attempt may have been stored.
    pub(super) ambiguous: bool,
}

/// The outcome, and whether the topic has to be ensured again.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    pub(super) topic_missing: bool,
}

/// What `message` says of the publish that it answers.
pub(super) fn read(message: &Message, asked: &Asked<'_>) -> Verdict {
    if message.status == Some(StatusCode::NO_RESPONDERS) {
        let text = format!(
            "no stream listens to partition {} of topic `{}`",
            asked.partition, asked.topic
        );
        return Verdict {
            outcome: failed(asked, true, Failure::new(FailureKind::NoTopic, text)),
            topic_missing: true,
        };
    }
    let (outcome, topic_missing) = match serde_json::from_slice::<Reply<'_>>(&message.payload) {
        Ok(Reply {
            error:
                Some(Refusal {
                    err_code,
                    description,
                }),
            ..
        }) => (
            refused(asked, err_code, &description),
            err_code == NOT_OUR_STREAM,
        ),
        Ok(reply) if reply.seq > 0 => acked(asked, &reply),
        Ok(_) => (unreadable(asked, None), false),
        Err(error) => (unreadable(asked, Some(error)), false),
    };
    Verdict {
        outcome,
        topic_missing,
    }
}

const NOT_OUR_STREAM: u64 = 10060;

fn acked(asked: &Asked<'_>, reply: &Reply<'_>) -> (Outcome, bool) {
    if asked.stream.is_some_and(|stream| stream != reply.stream) {
        let text = format!(
            "topic `{}` was stored by stream `{}`, not by `{}`",
            asked.topic,
            reply.stream,
            asked.stream.unwrap_or_default()
        );
        return (
            Outcome::Unknown(Failure::new(FailureKind::Mismatch, text)),
            true,
        );
    }
    let outcome = Outcome::Acked {
        partition: asked.partition,
        position: reply.seq,
        duplicate: reply.duplicate,
    };
    (outcome, false)
}

fn refused(asked: &Asked<'_>, code: u64, description: &str) -> Outcome {
    use FailureKind::{Broker, Mismatch, NoRoom, TooLarge, Unsupported};
    let full = description.contains("maximum messages") || description.contains("maximum bytes");
    let known = match code {
        10054 | 10097 => Some(TooLarge),
        10002 | 10023 | 10028 | 10047 | 10122 | 10167 => Some(NoRoom),
        10077 if full => Some(NoRoom),
        NOT_OUR_STREAM | 10109 => Some(Mismatch),
        10039 | 10076 => Some(Unsupported),
        _ => None,
    };
    let text = format!("JetStream, topic `{}`: {description} ({code})", asked.topic);
    failed(
        asked,
        known.is_some(),
        Failure::new(known.unwrap_or(Broker), text),
    )
}

fn unreadable(asked: &Asked<'_>, error: Option<serde_json::Error>) -> Outcome {
    let text = format!(
        "what answered for topic `{}` is not JetStream's acknowledgement",
        asked.topic
    );
    Outcome::Unknown(match error {
        Some(error) => Failure::caused(FailureKind::Broker, text, error),
        None => Failure::new(FailureKind::Broker, text),
    })
}

fn failed(asked: &Asked<'_>, surely_not_stored: bool, failure: Failure) -> Outcome {
    if surely_not_stored && !asked.ambiguous {
        Outcome::Rejected(failure)
    } else {
        Outcome::Unknown(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(payload: &str, status: Option<StatusCode>) -> Message {
        Message {
            subject: "_INBOX.x.1".into(),
            reply: None,
            payload: payload.to_owned().into(),
            headers: None,
            status,
            description: None,
            length: payload.len(),
        }
    }

    fn verdict(payload: &str, ambiguous: bool) -> Verdict {
        let asked = Asked {
            topic: "orders",
            stream: Some("orders"),
            partition: 3,
            ambiguous,
        };
        read(&answer(payload, None), &asked)
    }

    fn error(code: u64, description: &str) -> String {
        format!(
            r#"{{"error":{{"code":503,"err_code":{code},"description":"{description}"}},"stream":"orders","seq":0}}"#
        )
    }

    #[test]
    fn an_acknowledgement_is_a_receipt() {
        for (payload, duplicate) in [
            (r#"{"stream":"orders","seq":12}"#, false),
            (
                r#"{"stream":"orders","domain":"d","seq":12,"duplicate":true}"#,
                true,
            ),
        ] {
            let Verdict {
                outcome,
                topic_missing,
            } = verdict(payload, true);
            let acked = Outcome::Acked {
                partition: 3,
                position: 12,
                duplicate,
            };
            assert_eq!(outcome, acked);
            assert!(!topic_missing);
        }
    }

    #[test]
    fn only_what_is_on_the_list_is_rejected() {
        use FailureKind::*;
        for (code, text, kind) in [
            (10054, "message size exceeds maximum allowed", TooLarge),
            (10023, "insufficient resources", NoRoom),
            (10077, "maximum bytes exceeded", NoRoom),
            (10077, "maximum messages per subject exceeded", NoRoom),
            (10167, "too many requests", NoRoom),
            (10076, "jetstream not enabled", Unsupported),
        ] {
            let fresh = verdict(&error(code, text), false).outcome;
            assert!(
                matches!(&fresh, Outcome::Rejected(failure) if failure.kind() == kind),
                "{code}: {fresh:?}"
            );
            let again = verdict(&error(code, text), true).outcome;
            assert!(
                matches!(again, Outcome::Unknown(_)),
                "{code} after an ambiguous attempt"
            );
        }
        for (code, text) in [
            (10077, "input/output error"),
            (10158, "duplicate"),
            (0, "what?"),
        ] {
            let outcome = verdict(&error(code, text), false).outcome;
            assert!(
                matches!(outcome, Outcome::Unknown(_)),
                "{code}: {outcome:?}"
            );
        }
    }

    #[test]
    fn nobody_listening_is_rejected_until_an_attempt_was_ambiguous() {
        for (ambiguous, stream) in [(false, Some("orders")), (true, None)] {
            let asked = Asked {
                topic: "orders",
                stream,
                partition: 0,
                ambiguous,
            };
            let nobody = answer("", Some(StatusCode::NO_RESPONDERS));
            let Verdict {
                outcome,
                topic_missing,
            } = read(&nobody, &asked);
            assert!(topic_missing);
            match outcome {
                Outcome::Rejected(failure) if !ambiguous => {
                    assert_eq!(failure.kind(), FailureKind::NoTopic);
                    assert!(failure.is_retryable());
                }
                Outcome::Unknown(_) if ambiguous => {}
                other => panic!("ambiguous {ambiguous}: {other:?}"),
            }
        }
    }

    #[test]
    fn another_streams_receipt_and_nonsense_are_unknown() {
        let Verdict {
            outcome,
            topic_missing,
        } = verdict(r#"{"stream":"everything","seq":1}"#, false);
        assert!(matches!(outcome, Outcome::Unknown(f) if f.kind() == FailureKind::Mismatch));
        assert!(topic_missing);
        for nonsense in ["", "+OK", "{}", r#"{"stream":"orders"}"#] {
            let outcome = verdict(nonsense, false).outcome;
            assert!(
                matches!(outcome, Outcome::Unknown(_)),
                "{nonsense}: {outcome:?}"
            );
        }
    }
}
