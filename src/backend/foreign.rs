//! Foreign: what a subscription can read in the place of a topic, where a broker has such things.

#[cfg(any(feature = "memory", feature = "kafka"))]
use super::SubscribeRequest;
#[cfg(any(feature = "memory", feature = "kafka"))]
use crate::error::Unsupported;
use std::fmt;
use std::sync::Arc;

/// What others publish and no topic is, in the broker's own words. It can be read and nothing else: nothing is published to
/// it, and it is neither made nor changed.
///
/// A backend that has such things makes it: on NATS it is `nats::Subjects`. Another refuses it ([`Unsupported`](crate::Unsupported)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    log: Arc<str>,
    pattern: Arc<str>,
}

impl Foreign {
    /// What fits `pattern` in `log`, both checked by the backend.
    #[cfg(feature = "nats")]
    pub(crate) fn new(log: impl Into<Arc<str>>, pattern: impl Into<Arc<str>>) -> Self {
        Self {
            log: log.into(),
            pattern: pattern.into(),
        }
    }

    /// Where it is: on NATS the stream.
    pub fn log(&self) -> &str {
        &self.log
    }

    /// What of it is read: on NATS the subjects.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}

/// As errors and events call it, where a topic has its name.
impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No topic of such a broker is called so: neither part has a space, and no topic has one.
        write!(f, "{} in {}", self.pattern, self.log)
    }
}

/// Refuses what is no topic, for a backend that has topics only.
#[cfg(any(feature = "memory", feature = "kafka"))]
pub(crate) fn only_topics(
    backend: &'static str,
    request: &SubscribeRequest,
) -> Result<(), Unsupported> {
    match &request.foreign {
        None => Ok(()),
        Some(foreign) => Err(Unsupported {
            backend,
            what: format!("to read `{foreign}`: it has topics only; NATS has subjects").into(),
        }),
    }
}
