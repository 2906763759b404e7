//! Log: what librdkafka says of itself, and the one thing that it says nowhere else: why it cannot reach or enter a broker.

use super::codes;
use crate::error::Failure;
use crate::protocol::sync::Mutex;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// Tells a line of the client's log.
pub(super) fn tell(level: RDKafkaLogLevel, facility: &str, line: &str) {
    // It warns of settings of the other kind of client: options are for all of them.
    let level = match facility {
        "CONFWARN" => RDKafkaLogLevel::Debug,
        _ => level,
    };
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error => tracing::error!(target: "clearway::kafka", facility, "{line}"),
        RDKafkaLogLevel::Warning => tracing::warn!(target: "clearway::kafka", facility, "{line}"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::info!(target: "clearway::kafka", facility, "{line}")
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "clearway::kafka", facility, "{line}"),
    }
}

/// The last trouble that a client told, until it is asked for. It goes on trying by itself meanwhile.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<(Code, Failure)>>);

impl Trouble {
    pub(super) fn note(&self, error: &KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else {
            return;
        };
        tracing::warn!(target: "clearway::kafka", %error, "{reason}");
        let mut last = self.0.lock();
        // That a login was refused says more than that the connection is down since, and that all brokers are down does not say why.
        let stays =
            |(known, _): &(Code, Failure)| is_refusal(*known) || code == Code::AllBrokersDown;
        if !last.as_ref().is_some_and(stays) {
            let failure = Failure::new(codes::kind_of(code), reason.to_owned());
            *last = Some((code, failure));
        }
    }

    /// It has got in: what was before counts no more.
    pub(super) fn clear(&self) {
        *self.0.lock() = None;
    }

    /// Why it does not get in, if a broker said no.
    pub(super) fn refusal(&self) -> Option<Failure> {
        let last = self.0.lock();
        let refused = last.as_ref().filter(|(code, _)| is_refusal(*code));
        refused.map(|(_, failure)| failure.clone())
    }

    /// The last one.
    pub(super) fn last(&self) -> Option<Failure> {
        self.0.lock().as_ref().map(|(_, failure)| failure.clone())
    }
}

fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_login_is_not_forgotten_for_a_connection_that_is_down() {
        let trouble = Trouble::default();
        trouble.note(&KafkaError::Global(Code::BrokerTransportFailure), "down");
        assert!(trouble.refusal().is_none());
        trouble.note(&KafkaError::Global(Code::Authentication), "wrong password");
        trouble.note(&KafkaError::Global(Code::AllBrokersDown), "1/1 down");
        let refusal = trouble.refusal().expect("it was refused");
        assert_eq!(refusal.to_string(), "wrong password");
        trouble.clear();
        trouble.note(&KafkaError::Global(Code::AllBrokersDown), "1/1 down");
        assert!(trouble.refusal().is_none(), "it has got in since");
    }

    #[test]
    fn why_a_broker_is_not_reached_stays_when_all_are_down() {
        let trouble = Trouble::default();
        trouble.note(&KafkaError::Global(Code::AllBrokersDown), "1/1 down");
        trouble.note(&KafkaError::Global(Code::SSL), "not trusted");
        trouble.note(&KafkaError::Global(Code::AllBrokersDown), "1/1 down");
        assert_eq!(trouble.last().expect("noted").to_string(), "not trusted");
    }
}
