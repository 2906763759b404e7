//! Producing to nobody: what becomes of a publish that no broker answers.

use super::*;
use crate::backend::kafka::witness::Witness;
use bytes::Bytes;

/// No broker listens there. Time is over while it waits in the client's queue; it may be sent and stored all the same, for a minute.
#[test]
fn what_has_no_answer_in_time_is_unknown() {
    let options = Options::from_url("kafka://127.0.0.1:1").expect("fine");
    let options = options.publish_timeout(Duration::from_millis(200));
    let host = Witness::new();
    let pipe = Pipe::start(&options, host.clone(), 1).expect("a client");
    let route = Route {
        topic: "orders".into(),
        partitions: 1,
        durability: Durability::Stored,
    };
    let envelope = Envelope::new(Bytes::from_static(b"17"), &**host.runtime());
    let slot = Slot::from_bits(1 << 32);
    pipe.produce(&route, &envelope, slot).expect("it is taken");
    let until = host.runtime().now() + Duration::from_secs(30);
    while host.settled.lock().is_empty() {
        assert!(host.runtime().now() < until, "it has no outcome");
        thread::park_timeout(Duration::from_millis(5));
    }
    let settled = host.settled.lock();
    let (of, outcome) = &settled[0];
    assert_eq!(*of, slot);
    let Outcome::Unknown(failure) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(failure.kind(), FailureKind::TimedOut);
}
