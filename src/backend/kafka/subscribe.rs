//! Subscribing: a thread with a client of the group, and where the group begins.

use super::connect::NAME;
use super::connection::KafkaConnection;
use super::consume::{Handle, KafkaConsumer};
use super::poller::{Reply, Start, Wire};
use super::threads;
use crate::backend::{SubscribeRequest, invalid_topic, only_topics};
use crate::error::{Failure, SubscribeError};
use std::sync::Arc;

pub(super) async fn subscribe(
    connection: &KafkaConnection,
    request: SubscribeRequest,
) -> Result<KafkaConsumer, SubscribeError> {
    only_topics(NAME, &request)?;
    let topic = request.topic.name.clone();
    if request.group.is_empty() {
        return Err(invalid_topic(NAME, &topic, "a group of Kafka has a name").into());
    }
    let failed = |failure: Failure| SubscribeError::Failed {
        topic: topic.clone(),
        failure,
    };
    let (wire, ready) = (Arc::new(Wire::new()), Reply::new());
    let start = Start {
        options: connection.options.clone(),
        host: connection.host.clone(),
        wire: wire.clone(),
        topic: topic.clone(),
        group: request.group.clone(),
        start: request.start,
        epochs: connection.epochs.clone(),
        ready: ready.clone(),
    };
    let thread = threads::spawn("clearway-kafka-poll", move || start.run()).map_err(failed)?;
    // Dropped, whatever becomes of this, the thread is told to end.
    let handle = Handle::new(wire, thread);
    handle.ready(&ready).await.map_err(failed)?;
    Ok(KafkaConsumer::new(connection, request, handle))
}
