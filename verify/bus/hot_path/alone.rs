//! The memory broker alone: its deliveries taken and acknowledged by its own consumer, with no bus around it.

use clearway::backend::{
    Answer, Backend, Connection, Consumer, Host, Incoming, Outcome, Slot, SubscribeRequest,
};
use clearway::memory::Memory;
use clearway::{BusEvent, Failure, Runtime, StartAt, Tokio, TopicConfig};
use std::sync::Arc;
use std::time::Duration;

/// Takes `count` deliveries of a topic that is there, `window` of them out at a time as with a bus. Says before each how many there were.
pub(crate) async fn take(
    broker: &Memory,
    topic: &str,
    (count, window): (u64, usize),
    mut before_each: impl FnMut(u64),
) {
    let runtime: Arc<dyn Runtime> = Arc::new(Tokio::current().expect("inside of tokio"));
    let connection = broker.connect(Arc::new(Nobody(runtime)), 1).await;
    let connection = connection.expect("memory connects");
    let request = SubscribeRequest {
        topic: TopicConfig::new(topic),
        foreign: None,
        group: "alone".into(),
        start: StartAt::Earliest,
        in_flight_max: window,
        confirm: false,
    };
    let mut consumer = connection.subscribe(request).await.expect("a consumer");
    let (mut taken, mut out) = (0, Vec::with_capacity(window));
    while taken < count {
        before_each(taken);
        if let Incoming::Delivery { token, .. } = consumer.next(true).await.expect("a broker") {
            out.push(token);
            taken += 1;
        }
        if out.len() == window || taken == count {
            for token in out.drain(..) {
                let answered = consumer.answer(&token, Answer::Ack).await;
                answered.expect("a broker");
            }
        }
    }
    consumer.close(Duration::from_secs(1)).await;
}

/// A bus for a backend that is used without one.
struct Nobody(Arc<dyn Runtime>);

impl Host for Nobody {
    fn settle(&self, _: Slot, _: Outcome) {}
    fn lost(&self, _: u64, _: Failure) {}
    fn topic_missing(&self, _: &str) {}
    fn event(&self, _: BusEvent) {}
    fn slots(&self) -> usize {
        1
    }
    fn runtime(&self) -> &Arc<dyn Runtime> {
        &self.0
    }
}
