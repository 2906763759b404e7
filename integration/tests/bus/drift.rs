//! Durables that somebody changes or deletes under way.

use crate::setup::{bus, options};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clearway::nats::Options;
use clearway::{
    Bus, BusEvent, Delivery, Events, FailureKind, HandlerError, StartAt, SubscribeError,
    Subscription, Topic, TopicConfig,
};
use clearway_integration::{Broker, Fault, Outside, PATIENCE, until};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

const GROUP: &str = "audit";
const CLOSE: Duration = Duration::from_secs(5);

/// Options that look at durables every second.
fn watchful(url: &str) -> Result<Options> {
    Ok(options(url)?.ack_wait(Duration::from_secs(1)))
}

async fn connect(
    options: Options,
    name: &str,
    partitions: u32,
) -> Result<(Bus, Topic<Bytes, clearway::Raw>)> {
    let config = TopicConfig::new(name).partitions(partitions);
    let bus = bus(options).topic(config).connect().await?;
    let topic = bus.raw_topic(name)?;
    Ok((bus, topic))
}

/// What was handled, and a gate that each handler passes after it has noted its delivery.
#[derive(Clone)]
struct Handled {
    payloads: Arc<Mutex<Vec<Bytes>>>,
    gate: Arc<Semaphore>,
}

impl Handled {
    fn new(permits: usize) -> Self {
        Self {
            payloads: Arc::default(),
            gate: Arc::new(Semaphore::new(permits)),
        }
    }

    async fn subscribe(
        &self,
        topic: &Topic<Bytes, clearway::Raw>,
    ) -> Result<Subscription, SubscribeError> {
        let (payloads, gate) = (self.payloads.clone(), self.gate.clone());
        let handler = move |delivery: Delivery<Bytes>| {
            payloads.lock().unwrap().push(delivery.value);
            let gate = gate.clone();
            async move {
                let _pass = gate.acquire().await;
                Ok::<_, HandlerError>(())
            }
        };
        let subscription = topic.subscription(GROUP).start(StartAt::Latest);
        subscription.handler(handler).await
    }

    fn distinct(&self) -> BTreeSet<Bytes> {
        self.payloads.lock().unwrap().iter().cloned().collect()
    }

    async fn until(&self, distinct: usize) -> Result<()> {
        let what = format!("{distinct} are handled");
        until(&what, async || Ok(self.distinct().len() >= distinct)).await
    }
}

async fn publish(topic: &Topic<Bytes, clearway::Raw>, numbers: std::ops::Range<u32>) -> Result<()> {
    for n in numbers {
        let payload = Bytes::from(n.to_string());
        topic
            .publish(&payload)
            .key(format!("key-{}", n % 8))
            .await?;
    }
    Ok(())
}

/// Waits for the news that somebody changed the durable, and gives what was changed.
async fn drifted(events: &mut Events) -> Result<String> {
    let next = async {
        while let Some(event) = events.next().await {
            if let BusEvent::ConsumerDrifted { what, .. } = event {
                return Some(what);
            }
        }
        None
    };
    timeout(PATIENCE, next).await?.context("the bus is closed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_setting_is_told_and_put_right() -> Result<()> {
    let broker = Broker::any().await?;
    let outside = Outside::of(&broker).await?;
    let name = broker.fresh_name("changed");
    let (bus, topic) = connect(watchful(broker.url())?, &name, 1).await?;
    let mut events = bus.events();
    let handled = Handled::new(1000);
    let subscription = handled.subscribe(&topic).await?;
    publish(&topic, 0..20).await?;
    handled.until(20).await?;
    let before = outside.durable(&name, &name, GROUP, 0).await?;
    let changes: [&[(&str, Value)]; 3] = [
        &[
            ("max_ack_pending", json!(1)),
            ("ack_wait", json!(60_000_000)),
        ],
        &[("max_deliver", json!(3)), ("headers_only", json!(true))],
        &[
            ("priority_policy", Value::Null),
            ("priority_groups", Value::Null),
            ("priority_timeout", Value::Null),
        ],
    ];
    for (round, change) in changes.into_iter().enumerate() {
        outside.change(&before, change).await?;
        let what = drifted(&mut events).await?;
        ensure!(what.contains(change[0].0), "{change:?}: {what}");
        until("it is put right", async || {
            let now = outside.durable(&name, &name, GROUP, 0).await?;
            ensure!(now.config == before.config, "{:?}", now.config);
            Ok(true)
        })
        .await?;
        let from = 20 * (round as u32 + 1);
        publish(&topic, from..from + 20).await?;
        handled.until(from as usize + 20).await?;
    }
    // A payload that was not delivered would be an empty one.
    ensure!(!handled.distinct().contains(&Bytes::new()), "headers only");
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    bus.close(CLOSE).await;
    outside.delete(&name).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_changed_filter_skipped_comes_all_the_same() -> Result<()> {
    let broker = Broker::any().await?;
    let outside = Outside::of(&broker).await?;
    let name = broker.fresh_name("filter");
    let (bus, topic) = connect(watchful(broker.url())?, &name, 2).await?;
    let mut events = bus.events();
    let handled = Handled::new(1000);
    let subscription = handled.subscribe(&topic).await?;
    publish(&topic, 0..20).await?;
    handled.until(20).await?;
    let durable = outside.durable(&name, &name, GROUP, 0).await?;
    let other = json!(format!("{name}.1"));
    outside
        .change(&durable, &[("filter_subject", other)])
        .await?;
    publish(&topic, 20..60).await?;
    let what = drifted(&mut events).await?;
    ensure!(what.contains("filter_subject"), "{what}");
    handled.until(60).await?;
    ensure!(subscription.close(CLOSE).await == 0, "something is left");

    // Nobody remembers where the group was: refused, and not read around.
    let durable = outside.durable(&name, &name, GROUP, 1).await?;
    let other = json!(format!("{name}.0"));
    outside
        .change(&durable, &[("filter_subject", other)])
        .await?;
    match handled.subscribe(&topic).await.map(drop) {
        Err(SubscribeError::Failed { failure, .. }) if failure.kind() == FailureKind::Mismatch => {}
        other => anyhow::bail!("{other:?}"),
    }
    bus.close(CLOSE).await;
    outside.delete(&name).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_durable_is_made_again_where_the_group_was() -> Result<()> {
    let broker = Broker::any().await?;
    let outside = Outside::of(&broker).await?;
    let name = broker.fresh_name("gone");
    let (bus, topic) = connect(watchful(broker.url())?, &name, 1).await?;
    let mut events = bus.events();
    let handled = Handled::new(0);
    let subscription = handled.subscribe(&topic).await?;
    publish(&topic, 0..30).await?;
    // One of each key is at its handler, and the others wait behind them: nothing is acknowledged.
    handled.until(8).await?;
    let durable = outside.durable(&name, &name, GROUP, 0).await?;
    outside.delete_durable(&durable).await?;
    let again = async {
        while let Some(event) = events.next().await {
            if matches!(event, BusEvent::ConsumerRestarted { .. }) {
                return true;
            }
        }
        false
    };
    ensure!(timeout(PATIENCE, again).await?, "the bus is closed");
    handled.gate.add_permits(1000);
    publish(&topic, 30..40).await?;
    handled.until(40).await?;
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    let durable = outside.durable(&name, &name, GROUP, 0).await?;
    let left = durable.num_pending + durable.num_ack_pending as u64;
    ensure!(left == 0, "{durable:?}");
    bus.close(CLOSE).await;
    outside.delete(&name).await
}

/// A group that began with the latest would skip all of it, if it were taken for a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_that_is_deleted_while_we_are_away_begins_where_we_were() -> Result<()> {
    let broker = Broker::any().await?;
    let outside = Outside::of(&broker).await?;
    let name = broker.fresh_name("away");
    let proxy = broker.proxy().await?;
    let through = broker.url_through(&proxy);
    let (bus, topic) = connect(watchful(&through)?, &name, 2).await?;
    let (other_bus, direct) = connect(watchful(broker.url())?, &name, 2).await?;
    let handled = Handled::new(1000);
    let subscription = handled.subscribe(&topic).await?;
    publish(&direct, 0..20).await?;
    handled.until(20).await?;
    proxy.set(Fault::Refuse).await;
    for partition in 0..2 {
        let durable = outside.durable(&name, &name, GROUP, partition).await?;
        outside.delete_durable(&durable).await?;
    }
    publish(&direct, 20..40).await?;
    proxy.set(Fault::Pass).await;
    handled.until(40).await?;
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    bus.close(CLOSE).await;
    other_bus.close(CLOSE).await;
    outside.delete(&name).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_gives_up_comes_all_the_same() -> Result<()> {
    let broker = Broker::any().await?;
    let outside = Outside::of(&broker).await?;
    let name = broker.fresh_name("given-up");
    // So patient that nobody looks at the durable meanwhile.
    let patient = || anyhow::Ok(options(broker.url())?.ack_wait(Duration::from_secs(20)));
    let (one_bus, topic) = connect(patient()?, &name, 1).await?;
    let (other_bus, other_topic) = connect(patient()?, &name, 1).await?;
    let (one, other) = (Handled::new(0), Handled::new(1000));
    let stuck = one.subscribe(&topic).await?;
    publish(&topic, 0..8).await?;
    one.until(8).await?;
    let waits = other.subscribe(&other_topic).await?;
    let mut events = other_bus.events();
    let durable = outside.durable(&name, &name, GROUP, 0).await?;
    outside
        .change(&durable, &[("max_deliver", json!(1))])
        .await?;
    // All eight are given back, and each would be delivered for the second time.
    stuck.drain(Duration::ZERO).await;
    let what = drifted(&mut events).await?;
    ensure!(what.contains("gave up position"), "{what}");
    other.until(8).await?;
    ensure!(waits.close(CLOSE).await == 0, "something is left");
    one_bus.close(CLOSE).await;
    other_bus.close(CLOSE).await;
    outside.delete(&name).await
}
