//! Errors: one type for every verb, split along the question that the caller asks next.
//!
//! After a failed publish it is "may it be stored all the same?", which
//! [`PublishError::may_be_published`] answers, and "is it worth trying again?", which
//! [`PublishError::is_retryable`] answers.

use crate::envelope::Envelope;
use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// What a backend says went wrong.
///
/// Cheap to clone: every caller of a shared attempt gets the same one.
#[derive(Clone, Debug)]
pub struct Failure(Arc<FailureBody>);

#[derive(Debug)]
struct FailureBody {
    kind: FailureKind,
    text: Cow<'static, str>,
    source: Option<Box<dyn Error + Send + Sync>>,
}

/// The sort of a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FailureKind {
    /// The connection is down, or went down before an answer came; or who would answer has not come up yet.
    Disconnected,
    /// No answer came in time.
    TimedOut,
    /// The topic does not exist at the broker (any more).
    NoTopic,
    /// The broker takes no envelope of this size.
    TooLarge,
    /// The broker does not let us.
    Unauthorized,
    /// The broker is out of room.
    NoRoom,
    /// The bus was closed before an answer came.
    Closed,
    /// A setting does not fit what is there.
    Mismatch,
    /// The backend cannot do this.
    Unsupported,
    /// The broker answered with an error of its own.
    Broker,
}

impl Failure {
    /// A failure of `kind`, told in `text`.
    pub fn new(kind: FailureKind, text: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(FailureBody {
            kind,
            text: text.into(),
            source: None,
        }))
    }

    /// A failure of `kind` that `source` caused.
    pub fn caused(
        kind: FailureKind,
        text: impl Into<Cow<'static, str>>,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self(Arc::new(FailureBody {
            kind,
            text: text.into(),
            source: Some(source.into()),
        }))
    }

    /// The sort of failure.
    pub fn kind(&self) -> FailureKind {
        self.0.kind
    }

    /// Whether the same attempt may succeed later, with nothing changed by the caller.
    pub fn is_retryable(&self) -> bool {
        use FailureKind::*;
        matches!(
            self.0.kind,
            Disconnected | TimedOut | NoTopic | NoRoom | Broker
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn Error + 'static))
    }
}

impl PartialEq for Failure {
    fn eq(&self, other: &Self) -> bool {
        self.0.kind == other.0.kind && self.0.text == other.0.text
    }
}

impl Eq for Failure {}

/// Why a publish was not confirmed.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The bus is closed. Nothing was sent.
    #[error("the bus is closed")]
    Closed,
    /// There is no room for another envelope now. Nothing was sent.
    #[error("the bus is full: {0}")]
    Full(FullReason),
    /// The envelope is larger than the topic takes; no retry will change that.
    #[error(
        "an envelope of {size} bytes is too large for topic `{topic}`: its limit is {limit} bytes (TopicConfig::size_limit)"
    )]
    TooLarge {
        /// The topic.
        topic: Arc<str>,
        /// The envelope's size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The topic's name cannot be mapped to this backend.
    #[error(transparent)]
    InvalidTopic(#[from] InvalidTopic),
    /// The value could not be encoded. Nothing was sent.
    #[error("the value for topic `{topic}` could not be encoded: {reason}")]
    Encode {
        /// The topic.
        topic: Arc<str>,
        /// What the codec said.
        reason: Arc<str>,
    },
    /// The broker surely has not stored it.
    #[error("the envelope was rejected: {0}")]
    Rejected(Failure),
    /// Nobody can tell whether the broker stored it.
    #[error("the outcome is unknown, the envelope may be stored: {0}")]
    Unknown(Failure),
}

/// What there was no room in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FullReason {
    /// The limit of envelopes or bytes in flight is reached (`BusBuilder::in_flight`).
    InFlight,
    /// Too many receipts are held and not read (`BusBuilder::receipts_max`).
    Receipts,
    /// Results are not read fast enough (`Bus::publish_results` with `Overflow::Refuse`).
    Results,
    /// The bus knows as many topics as it may (`BusBuilder::topics_max`).
    Topics,
}

impl fmt::Display for FullReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InFlight => {
                "the limit of envelopes or bytes in flight is reached; wait, or raise `in_flight`"
            }
            Self::Receipts => {
                "too many receipts are held unread; read or drop them, or raise `receipts_max`"
            }
            Self::Results => "publish results are not read fast enough; read them faster",
            Self::Topics => "no more topics can be known; raise `topics_max`",
        })
    }
}

impl PublishError {
    /// Whether the envelope may be on the topic despite this error. If it may, publishing it
    /// again may duplicate it.
    pub fn may_be_published(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }

    /// Whether the same publish may succeed later, with nothing changed by the caller.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full(_) => true,
            Self::Rejected(failure) | Self::Unknown(failure) => failure.is_retryable(),
            Self::Closed | Self::TooLarge { .. } | Self::InvalidTopic(_) | Self::Encode { .. } => {
                false
            }
        }
    }
}

/// An envelope that was not taken, and why. Nothing was sent.
#[derive(Debug, Error)]
#[error("{error}")]
pub struct EnqueueError {
    /// Why.
    #[source]
    pub error: PublishError,
    /// The envelope, handed back whole.
    pub envelope: Box<Envelope>,
}

/// A topic name that the backend cannot map.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("topic `{topic}` cannot be used with {backend}: {reason}")]
pub struct InvalidTopic {
    /// The name.
    pub topic: Arc<str>,
    /// The backend.
    pub backend: &'static str,
    /// What is wrong, with the offending character.
    pub reason: String,
}

/// Why a bus did not connect.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The URL or an option is wrong. Nothing was tried.
    #[error("{setting}: {reason}")]
    Config {
        /// Which setting.
        setting: String,
        /// What is wrong and what is expected.
        reason: String,
    },
    /// No connection within the connect timeout.
    #[error("no connection to {endpoint} within {limit:?}: {failure}")]
    Unreachable {
        /// Whom we tried.
        endpoint: String,
        /// The connect timeout.
        limit: Duration,
        /// The last reason.
        failure: Failure,
    },
    /// The broker refuses us.
    #[error("{endpoint} refuses the credentials: {failure}")]
    Unauthorized {
        /// Whom we tried.
        endpoint: String,
        /// What it said.
        failure: Failure,
    },
    /// Something answers there that is not the broker.
    #[error("{endpoint} does not speak the protocol of {backend}: {failure}")]
    NotABroker {
        /// Whom we tried.
        endpoint: String,
        /// Which backend.
        backend: &'static str,
        /// What came.
        failure: Failure,
    },
    /// The backend or the broker cannot do what was required.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// There is no runtime to run on.
    #[error("no runtime: call connect inside a tokio runtime, or give one to BusBuilder::runtime")]
    NoRuntime,
}

impl ConnectError {
    /// Whether connecting again may succeed with nothing changed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreachable { .. })
    }

    /// A setting that is wrong.
    pub fn config(setting: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Config {
            setting: setting.into(),
            reason: reason.into(),
        }
    }
}

/// Something that the backend cannot do: said when it is asked for, never ignored.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{backend} cannot do this: {what}")]
pub struct Unsupported {
    /// Which backend.
    pub backend: &'static str,
    /// What was asked for, and what can be had instead.
    pub what: Cow<'static, str>,
}

/// Why a topic was not configured. The bus goes on with what it had.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ConfigureError {
    /// The bus is closed.
    #[error("the bus is closed")]
    Closed,
    /// The name cannot be mapped.
    #[error(transparent)]
    InvalidTopic(#[from] InvalidTopic),
    /// A setting is out of range.
    #[error("topic `{topic}`, {setting}: {reason}")]
    Invalid {
        /// The topic.
        topic: Arc<str>,
        /// Which setting.
        setting: &'static str,
        /// What is wrong and what is expected.
        reason: String,
    },
    /// The backend cannot do what was asked for.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// What is there differs and may not be changed.
    #[error("topic `{topic}` differs from its configuration: {differences}")]
    Mismatch {
        /// The topic.
        topic: Arc<str>,
        /// Each setting: wanted and found.
        differences: String,
    },
    /// The topic does not exist, and the policy forbids making it.
    #[error("topic `{topic}` does not exist, and its ensure policy is {policy}")]
    Missing {
        /// The topic.
        topic: Arc<str>,
        /// The policy's name.
        policy: &'static str,
    },
    /// The bus knows as many topics as it may (`BusBuilder::topics_max`).
    #[error("no more topics can be known; raise `topics_max`")]
    TooManyTopics,
    /// The broker could not be asked or said no.
    #[error("topic `{topic}` could not be ensured: {failure}")]
    Failed {
        /// The topic.
        topic: Arc<str>,
        /// The reason.
        failure: Failure,
    },
}

impl ConfigureError {
    /// Whether trying again may succeed with nothing changed.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Failed { failure, .. } if failure.is_retryable())
    }

    /// The same as a reason for a rejected publish.
    pub(crate) fn into_failure(self) -> Failure {
        let kind = match &self {
            Self::Failed { failure, .. } => failure.kind(),
            Self::Closed => FailureKind::Closed,
            Self::Missing { .. } => FailureKind::NoTopic,
            Self::Unsupported(_) => FailureKind::Unsupported,
            _ => FailureKind::Mismatch,
        };
        Failure::caused(kind, self.to_string(), self)
    }
}

/// Why a subscription did not start.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum SubscribeError {
    /// The bus is closed.
    #[error("the bus is closed")]
    Closed,
    /// The topic or group cannot be mapped.
    #[error(transparent)]
    InvalidTopic(#[from] InvalidTopic),
    /// This bus has a subscription for the topic and group already.
    #[error("subscription of topic `{topic}`, {setting}: {reason}")]
    Config {
        /// The topic.
        topic: Arc<str>,
        /// The setting.
        setting: &'static str,
        /// What is wrong with it.
        reason: Cow<'static, str>,
    },
    /// There is one already.
    #[error("topic `{topic}` has a subscription of group `{group}` on this bus already")]
    Taken {
        /// The topic.
        topic: Arc<str>,
        /// The group.
        group: Arc<str>,
    },
    /// The backend cannot do what was asked for.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// The topic could not be ensured.
    #[error(transparent)]
    Topic(#[from] ConfigureError),
    /// The broker could not be asked or said no.
    #[error("topic `{topic}` could not be subscribed to: {failure}")]
    Failed {
        /// The topic.
        topic: Arc<str>,
        /// The reason.
        failure: Failure,
    },
}
