//! A bus that takes part in a recorded run: what is done with it is written down.

use crate::log;
use crate::patience::PATIENCE;
use crate::record::Record;
use crate::witness::{Manner, Witness};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clearway::{
    Bus, BusBuilder, BusEvent, CloseReport, Envelope, LeftDelivery, PublishError, Raw, Receipt,
    ReceiptFuture, Subscription, Topic,
};
use clearway_verify::history::{Durability, Ended, Order, Subscribe};
use clearway_verify::recorder::{OpId, Process, Publish};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// A topic whose values are payloads as they are.
pub type RawTopic = Topic<Bytes, Raw>;

/// Topic and group.
type Place = (Arc<str>, Arc<str>);

/// A bus on record.
pub struct Member {
    /// The bus, for what is not worth a line in the history.
    pub bus: Bus,
    number: u32,
    record: Record,
    /// Those that have begun, with their numbers in the history.
    subscriptions: Mutex<BTreeMap<Place, u32>>,
    /// Ends when the bus's events have ended and all is written down.
    seen: watch::Receiver<Vec<BusEvent>>,
}

impl Member {
    /// Connects a bus and writes down its sessions from then on. `number` tells the buses of a run apart.
    pub async fn connect(record: &Record, number: u32, builder: BusBuilder) -> Result<Self> {
        log::begin();
        let bus = builder.connect().await?;
        let mut events = bus.events();
        let (sender, seen) = watch::channel(Vec::new());
        let writing = record.clone();
        tokio::spawn(async move {
            while let Some(event) = events.next().await {
                match &event {
                    BusEvent::Lost { .. } => writing.recorder().disconnect(number, false),
                    BusEvent::Reconnected { generation, .. } => {
                        writing.recorder().reconnect(number, *generation);
                    }
                    // What was done of them could not all be committed.
                    BusEvent::PartitionsLost {
                        topic,
                        group,
                        partitions,
                        ..
                    } => {
                        writing
                            .recorder()
                            .taken_away(number, topic, group, partitions);
                    }
                    _ => {}
                }
                sender.send_modify(|seen| seen.push(event));
            }
            // In this order: whoever sees the end may finish the record.
            drop(writing);
            drop(sender);
        });
        Ok(Self {
            bus,
            number,
            record: record.clone(),
            subscriptions: Mutex::default(),
            seen,
        })
    }

    /// How many events there have been: from here on `until` looks, if it is told so.
    pub fn seen(&self) -> usize {
        self.seen.borrow().len()
    }

    /// The events there have been.
    pub fn events(&self) -> Vec<BusEvent> {
        self.seen.borrow().clone()
    }

    /// Waits for an event, of those after the first `from`.
    pub async fn until(
        &self,
        what: &str,
        from: usize,
        is_it: impl Fn(&BusEvent) -> bool,
    ) -> Result<BusEvent> {
        let mut seen = self.seen.clone();
        let fits = |seen: &Vec<BusEvent>| seen.iter().skip(from).any(&is_it);
        match timeout(PATIENCE, seen.wait_for(fits)).await {
            Ok(Ok(seen)) => {
                let event = seen.iter().skip(from).find(|event| is_it(event));
                Ok(event.expect("it was waited for").clone())
            }
            _ => bail!(
                "not within {PATIENCE:?}: {what}; seen: {:?}",
                &self.seen.borrow()[from..]
            ),
        }
    }

    /// A thread of control that publishes on this bus.
    pub fn publisher(&self) -> Publisher<'_> {
        Publisher {
            record: &self.record,
            process: self.record.recorder().process(self.number),
            wants: None,
        }
    }

    /// Subscribes a handler that writes down what it gets.
    pub async fn subscribe(
        &self,
        topic: &RawTopic,
        group: &str,
        manner: Manner,
    ) -> Result<Subscription> {
        let subscription = self.record.next_subscription();
        self.record.recorder().record(Subscribe {
            subscription,
            bus: self.number,
            topic: topic.name().to_owned(),
            group: group.to_owned(),
            order: match manner.order {
                clearway::Order::ByKey => Order::Key,
                clearway::Order::ByPartition => Order::Partition,
                clearway::Order::Unordered => Order::None,
            },
        });
        let place: Place = (topic.name().into(), group.into());
        self.subscriptions().insert(place, subscription);
        let mut builder = topic
            .subscription(group)
            .order(manner.order)
            // What was taken is handled before a close ends: few enough for the deadlines here.
            .in_flight(manner.in_flight, 64 << 20)
            .retry(manner.retry.clone());
        if let Some(limit) = manner.limit {
            builder = builder.timeout(limit);
        }
        let witness = Witness::new(&self.record, (self.number, subscription), group, manner);
        Ok(builder.handler(witness).await?)
    }

    fn subscriptions(&self) -> MutexGuard<'_, BTreeMap<Place, u32>> {
        // A test that panicked elsewhere has inserted a whole place or none.
        (self.subscriptions.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the bus. When it has returned nobody writes about this bus any more.
    pub async fn close(&self, limit: Duration) -> Result<CloseReport> {
        let process = self.record.recorder().process(self.number).number();
        self.record.recorder().close(self.number, process);
        let report = self.bus.close(limit).await;
        let mut seen = self.seen.clone();
        let ended = async { while seen.changed().await.is_ok() {} };
        timeout(PATIENCE, ended)
            .await
            .context("the events of a closed bus do not end")?;
        // A subscription that left nothing is not in the report.
        for (place, subscription) in std::mem::take(&mut *self.subscriptions()) {
            let left = report
                .subscriptions
                .get(&place)
                .cloned()
                .unwrap_or_default();
            let position = |left: &LeftDelivery| (left.position.partition, left.position.offset);
            self.record.recorder().record(Ended {
                subscription,
                left: left.left.iter().map(position).collect(),
                blocked: left.blocked,
            });
        }
        let told = told(&report);
        self.record
            .recorder()
            .closed(self.number, process, Some(told));
        Ok(report)
    }

    /// Closes the bus and drops it, and with it the last handle of the history.
    pub async fn leave(self, limit: Duration) -> Result<CloseReport> {
        self.close(limit).await
    }
}

/// What every closer is told, as the history has it.
fn told(report: &CloseReport) -> Value {
    let topics = report.topics.iter().map(|(name, topic)| {
        let told = json!({
            "drained": topic.drained,
            "ambiguous": topic.ambiguous,
            "unknown": topic.unknown,
            "unsent": topic.unsent,
        });
        (name.to_string(), told)
    });
    json!({
        "drained": report.drained,
        "deliveries_left": report.deliveries_left,
        "topics": Value::Object(topics.collect()),
    })
}

/// A thread of control that publishes, and writes down what it publishes and how each ends.
pub struct Publisher<'r> {
    record: &'r Record,
    process: Process<'r>,
    wants: Option<Durability>,
}

/// A publish that has begun.
#[must_use = "a publish without an outcome is a violation"]
pub struct Begun<'t> {
    topic: &'t RawTopic,
    op: OpId,
    receipt: Result<ReceiptFuture, PublishError>,
}

impl Publisher<'_> {
    /// The same publisher, which is content with this where the history wants more.
    pub fn content_with(mut self, durability: Durability) -> Self {
        self.wants = Some(durability);
        self
    }

    /// Publishes, and waits for room and for the answer.
    pub async fn publish(
        &self,
        topic: &RawTopic,
        envelope: Envelope,
    ) -> Result<Receipt, PublishError> {
        let op = self.invoke(topic, &envelope, false);
        let outcome = topic.publish_envelope(envelope).await;
        self.ended(topic, op, &outcome);
        outcome
    }

    /// Begins to publish without waiting. `ordered`: the topic's handle is.
    pub fn begin<'t>(&self, topic: &'t RawTopic, envelope: Envelope, ordered: bool) -> Begun<'t> {
        let op = self.invoke(topic, &envelope, ordered);
        let receipt = topic.publish_envelope(envelope).enqueue();
        Begun {
            topic,
            op,
            receipt: receipt.map_err(|refused| refused.error),
        }
    }

    /// Waits for the outcome of what has begun.
    pub async fn end(&self, begun: Begun<'_>) -> Result<Receipt, PublishError> {
        let outcome = match begun.receipt {
            Ok(receipt) => receipt.await,
            Err(error) => Err(error),
        };
        self.ended(begun.topic, begun.op, &outcome);
        outcome
    }

    fn invoke(&self, topic: &RawTopic, envelope: &Envelope, ordered: bool) -> OpId {
        self.process.invoke(Publish {
            topic: topic.name(),
            id: &envelope.id.to_string(),
            key: key_of(envelope).as_deref(),
            size: envelope.payload.len() as u64,
            ordered,
            durability: self.wants,
        })
    }

    fn ended(&self, topic: &RawTopic, op: OpId, outcome: &Result<Receipt, PublishError>) {
        let recorder = self.record.recorder();
        match outcome {
            Ok(receipt) => recorder.acked(
                op,
                receipt.partition,
                receipt.position,
                receipt.duplicate,
                topic.durability().map(durability),
            ),
            Err(error) if error.may_be_published() => recorder.unknown(op, error),
            Err(error) => recorder.rejected(op, error),
        }
    }
}

/// An envelope that a topic would make of this.
pub fn envelope(topic: &RawTopic, key: &str, payload: impl Into<Bytes>) -> Envelope {
    let publish = topic.publish(&payload.into()).key(key.to_owned());
    let envelope = publish.envelope().cloned();
    envelope.expect("bytes need no encoding")
}

pub(crate) fn key_of(envelope: &Envelope) -> Option<String> {
    let key = envelope.key.as_deref()?;
    Some(String::from_utf8_lossy(key).into_owned())
}

fn durability(of: clearway::Durability) -> Durability {
    match of {
        clearway::Durability::Volatile => Durability::Volatile,
        clearway::Durability::Stored => Durability::Stored,
        clearway::Durability::Synced => Durability::Synced,
    }
}
