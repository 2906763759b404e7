//! Codes: what an error of librdkafka or a broker means here.

use crate::backend::Outcome;
use crate::error::{Failure, FailureKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// What became of a publish whose delivery report is an error.
///
/// `Rejected` is said for the codes of this list, and for no other. The rest is `Unknown`: a broker may have stored what it did
/// not answer, and the client may have sent it more than once.
///
/// | code | why it is surely not stored |
/// |---|---|
/// | `MSG_SIZE_TOO_LARGE`, `RECORD_LIST_TOO_LARGE` | refused for its size, each time |
/// | `TOPIC_AUTHORIZATION_FAILED`, `CLUSTER_AUTHORIZATION_FAILED` | we may not |
/// | `INVALID_TOPIC_EXCEPTION`, local `UNKNOWN_TOPIC`, local `UNKNOWN_PARTITION` | there is no such place |
/// | `INVALID_TIMESTAMP`, `INVALID_RECORD`, `UNSUPPORTED_FOR_MESSAGE_FORMAT`, `POLICY_VIOLATION` | refused for what it is, each time |
///
/// The client tells the last answer only. An envelope that was sent before and had no answer then may be stored, though a later attempt
/// was refused with a code of the list: the refusal must have begun to hold in between. What was taken out of the queue
/// (`PURGE_QUEUE`) is `Unknown`: it may have been sent before, and be back in the queue for another attempt.
pub(super) fn outcome_of(code: Code) -> Outcome {
    let failure = failure_of(code);
    match code {
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::InvalidTopic
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::InvalidTimestamp
        | Code::InvalidRecord
        | Code::UnsupportedForMessageFormat
        | Code::PolicyViolation => Outcome::Rejected(failure),
        _ => Outcome::Unknown(failure),
    }
}

/// What became of a publish that the broker has acknowledged. It says no offset of an envelope that came a second time, when
/// it has forgotten where it put the first: there is no receipt without a position.
pub(super) fn acked(partition: i32, offset: i64) -> Outcome {
    match (u32::try_from(partition), u64::try_from(offset)) {
        (Ok(partition), Ok(position)) => Outcome::Acked {
            partition,
            position,
            duplicate: false,
        },
        _ => Outcome::Unknown(Failure::new(
            FailureKind::Broker,
            "Kafka: it is stored, and the broker did not say where",
        )),
    }
}

/// A failure in our words.
pub(super) fn failure_of(code: Code) -> Failure {
    let kind = kind_of(code);
    let hint = match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
            "; the topic's `max.message.bytes` and the option `message.max.bytes` are the limits"
        }
        Code::MessageTimedOut => "; Options::publish_timeout is the limit",
        Code::PolicyViolation => "; a policy of the broker forbids it",
        Code::NotEnoughReplicas | Code::NotEnoughReplicasAfterAppend => {
            "; fewer copies are in sync than `min.insync.replicas`"
        }
        _ => "",
    };
    Failure::new(kind, format!("Kafka: {code}{hint}"))
}

/// The same of any error of the client.
pub(super) fn failure(error: &KafkaError) -> Failure {
    match error.rdkafka_error_code() {
        Some(code) => failure_of(code),
        None => Failure::new(FailureKind::Broker, format!("Kafka: {error}")),
    }
}

pub(super) fn kind_of(code: Code) -> FailureKind {
    match code {
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => FailureKind::TooLarge,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed => FailureKind::Unauthorized,
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            FailureKind::NoTopic
        }
        Code::MessageTimedOut
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::TimedOutQueue => FailureKind::TimedOut,
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::BrokerNotAvailable
        | Code::NetworkException
        | Code::SSL
        | Code::WaitingForCoordinator
        | Code::CoordinatorNotAvailable
        | Code::CoordinatorLoadInProgress
        | Code::NotCoordinator
        // Who leads, or who decides, is not there yet, or is another by now.
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::ReplicaNotAvailable
        | Code::UnknownLeaderEpoch
        | Code::FencedLeaderEpoch
        | Code::OffsetNotAvailable
        | Code::PreferredLeaderNotAvailable
        | Code::NotController
        | Code::BrokerDestroy
        | Code::PurgeQueue
        | Code::PurgeInflight => FailureKind::Disconnected,
        Code::QueueFull | Code::KafkaStorageError => FailureKind::NoRoom,
        Code::InvalidConfig
        | Code::InvalidReplicationFactor
        | Code::InvalidPartitions
        | Code::InvalidReplicaAssignment
        | Code::PolicyViolation
        | Code::InconsistentGroupProtocol
        | Code::InvalidSessionTimeout
        | Code::AutoOffsetReset
        | Code::InvalidTopic => FailureKind::Mismatch,
        Code::UnsupportedVersion | Code::UnsupportedFeature | Code::NotImplemented => {
            FailureKind::Unsupported
        }
        _ => FailureKind::Broker,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The list is closed: whatever is not on it may be stored.
    #[test]
    fn only_the_list_is_rejected() {
        for code in [
            Code::MessageTimedOut,
            Code::RequestTimedOut,
            Code::BrokerTransportFailure,
            Code::NotEnoughReplicasAfterAppend,
            Code::NotEnoughReplicas,
            Code::NotLeaderForPartition,
            Code::UnknownTopicOrPartition,
            Code::PurgeInflight,
            Code::PurgeQueue,
            Code::Fatal,
            Code::KafkaStorageError,
            Code::Unknown,
        ] {
            assert!(matches!(outcome_of(code), Outcome::Unknown(_)), "{code:?}");
        }
        for code in [
            Code::MessageSizeTooLarge,
            Code::TopicAuthorizationFailed,
            Code::InvalidTopic,
            Code::UnknownTopic,
        ] {
            assert!(matches!(outcome_of(code), Outcome::Rejected(_)), "{code:?}");
        }
    }

    #[test]
    fn without_an_offset_there_is_no_receipt() {
        for offset in [-1, -1001] {
            assert!(matches!(acked(0, offset), Outcome::Unknown(_)), "{offset}");
        }
        let acked = acked(2, 7);
        let place = matches!(
            acked,
            Outcome::Acked {
                partition: 2,
                position: 7,
                ..
            }
        );
        assert!(place, "{acked:?}");
    }

    #[test]
    fn a_failure_names_the_setting() {
        let failure = failure_of(Code::MessageSizeTooLarge);
        assert_eq!(failure.kind(), FailureKind::TooLarge);
        assert!(
            failure.to_string().contains("max.message.bytes"),
            "{failure}"
        );
        assert!(
            failure_of(Code::MessageTimedOut)
                .to_string()
                .contains("publish_timeout")
        );
    }
}
