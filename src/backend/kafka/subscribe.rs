//! Subscribing: a thread with a client of the group, and where the group begins.

use super::connect::NAME;
use super::connection::KafkaConnection;
use super::consume::{Handle, KafkaConsumer};
use super::poller::{Reply, Start, Wire};
use super::{codes, threads};
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
    let (asking, limit) = (connection.admins.ask()?, connection.options.request_timeout);
    let admin = asking.client();
    let topic = request.topic.name.clone();
    let looked = threads::off("clearway-kafka-look", move || {
        let metadata = admin.inner().fetch_metadata(Some(&topic), limit);
        let metadata = metadata.map_err(|error| codes::failure(&error))?;
        let found = metadata.topics().iter().find(|at| *at.name() == *topic);
        Ok(found.map(|found| found.partitions().len()))
    });
    let found: Result<_, Failure> = looked.await?;
    asking.heard(found.as_ref().err());
    // Who subscribes asks the same once more, and hears what the matter is.
    Ok(found.ok().flatten().unwrap_or(1))
}
