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
    let partitions = partitions(connection, &request).await.map_err(failed)?;
    let (wire, ready) = (Arc::new(Wire::new()), Reply::new());
    let start = Start {
        options: connection.options.clone(),
        host: connection.host.clone(),
        wire: wire.clone(),
        topic: topic.clone(),
        partitions,
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

/// As many partitions as the topic has, or one if nobody says.
async fn partitions(
    connection: &KafkaConnection,
    request: &SubscribeRequest,
) -> Result<usize, Failure> {
    if let Some(partitions) = request.topic.partitions {
        return Ok(partitions as usize);
    }
    let (admin, limit) = (connection.admin()?, connection.options.request_timeout);
    let topic = request.topic.name.clone();
    let looked = threads::off("clearway-kafka-look", move || {
        let metadata = admin.inner().fetch_metadata(Some(&topic), limit).ok()?;
        let found = metadata.topics().iter().find(|at| *at.name() == *topic)?;
        Some(found.partitions().len())
    });
    // Who subscribes asks the same once more, and hears what the matter is.
    Ok(looked.await?.unwrap_or(1))
}
