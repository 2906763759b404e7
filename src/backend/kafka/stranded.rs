//! Stranded: a client that knows no broker any more, and has nobody to ask for one.
//!
//! A broker that comes up may answer, for a moment, that there are no brokers. librdkafka (2.12) then forgets those it knew. On its mock of a broker a
//! client that publishes or consumes is seen to go back to `bootstrap.servers` by itself; that one may also never connect to any again is its issue
//! 5301. It returns no error for that, and its consumers would neither fetch nor beat for their groups: only its statistics show it. Whoever has such a
//! client makes another.

use crate::error::{Failure, FailureKind};
use crate::protocol::sync::Mutex;
use rdkafka::Statistics;

/// So many statistics in a row: while the client reads its configuration again there is none for a moment.
const LOOKS: u32 = 3;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stranded(Mutex<u32>);

impl Stranded {
    /// What to say of the client, once it is sure. Said once.
    pub(super) fn look(&self, statistics: &Statistics) -> Option<Failure> {
        // Logical ones stand for another, such as the coordinator of a group.
        let is_broker = |source: &str| source == "learned" || source == "configured";
        let mut looks = self.0.lock();
        if (statistics.brokers.values()).any(|broker| is_broker(&broker.source)) {
            *looks = 0;
            return None;
        }
        *looks = looks.saturating_add(1);
        let text = "the Kafka client was told of no brokers, and has forgotten those it knew";
        (*looks == LOOKS).then(|| Failure::new(FailureKind::Disconnected, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::statistics::Broker;

    fn with(sources: &[&str]) -> Statistics {
        let mut statistics = Statistics::default();
        for source in sources {
            let broker = Broker {
                source: (*source).to_owned(),
                ..Broker::default()
            };
            statistics.brokers.insert((*source).to_owned(), broker);
        }
        statistics
    }

    #[test]
    fn a_client_without_brokers_is_stranded_once_it_is_sure() {
        let stranded = Stranded::default();
        for known in [&["configured"][..], &["learned", "logical"], &["learned"]] {
            assert!(stranded.look(&with(&["logical"])).is_none());
            assert!(stranded.look(&with(&[])).is_none());
            assert!(stranded.look(&with(known)).is_none(), "it was a moment");
        }
        assert!(stranded.look(&with(&["logical", "internal"])).is_none());
        assert!(stranded.look(&with(&["logical"])).is_none());
        let failure = stranded.look(&with(&["logical"])).expect("it is sure");
        assert!(failure.is_retryable(), "{failure}");
        assert!(stranded.look(&with(&["logical"])).is_none(), "said once");
    }
}
