//! Producing to nobody: what becomes of a publish that no broker answers.

use super::*;
use crate::backend::Outcome;
use crate::backend::kafka::witness::Witness;
use bytes::Bytes;
use rdkafka::mocking::MockCluster;

const LIMIT: Duration = Duration::from_secs(30);

fn publish(pipe: &Pipe, host: &Witness, slot: Slot) {
    let route = Route {
        topic: "orders".into(),
        partitions: 1,
        durability: Durability::Stored,
    };
    let envelope = Envelope::new(Bytes::from_static(b"17"), &**host.runtime());
    pipe.produce(&route, &envelope, slot).expect("it is taken");
}

/// Waits for as many outcomes.
fn settled(host: &Witness, count: usize) -> Vec<(Slot, Outcome)> {
    let until = host.runtime().now() + LIMIT;
    while host.settled.lock().len() < count {
        assert!(host.runtime().now() < until, "it has no outcome");
        thread::park_timeout(Duration::from_millis(5));
    }
    std::mem::take(&mut *host.settled.lock())
}

/// No broker listens there. Time is over while it waits in the client's queue; it may be sent and stored all the same, for a minute.
#[test]
fn what_has_no_answer_in_time_is_unknown() {
    let options = Options::from_url("kafka://127.0.0.1:1").expect("fine");
    let options = options.publish_timeout(Duration::from_millis(200));
    let host = Witness::new();
    let pipe = Pipe::start(&options, host.clone(), 1).expect("a client");
    let slot = Slot::from_bits(1 << 32);
    publish(&pipe, &host, slot);
    let settled = settled(&host, 1);
    let (of, outcome) = &settled[0];
    assert_eq!(*of, slot);
    let Outcome::Unknown(failure) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(failure.kind(), FailureKind::TimedOut);
}

/// The client would keep them for minutes. What comes behind the word does not linger either.
#[test]
fn what_lingers_is_sent_once_it_is_to_flush() {
    let cluster = MockCluster::new(1).expect("a cluster in this process");
    cluster.create_topic("orders", 1, 1).expect("a topic");
    let url = format!("kafka://{}/?linger.ms=600000", cluster.bootstrap_servers());
    let options = Options::from_url(&url).expect("fine");
    let options = options.publish_timeout(LIMIT * 2);
    let host = Witness::new();
    let pipe = Pipe::start(&options, host.clone(), 1).expect("a client");
    for generation in 1..4 {
        publish(&pipe, &host, Slot::from_bits(generation << 32));
    }
    // In the time that a request takes, without a linger.
    thread::park_timeout(Duration::from_millis(200));
    assert!(host.settled.lock().is_empty(), "it does not linger");
    pipe.flush();
    let first = settled(&host, 3);
    publish(&pipe, &host, Slot::from_bits(4 << 32));
    for (slot, outcome) in first.into_iter().chain(settled(&host, 1)) {
        assert!(
            matches!(outcome, Outcome::Acked { .. }),
            "{slot:?}: {outcome:?}"
        );
    }
}
