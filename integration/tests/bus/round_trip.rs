//! There and back: what is published arrives as it was, and what the bus says of itself is so.

use crate::setup::{bus, options};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clearway::{Bus, BusEvent, Delivery, Envelope, HandlerError, TopicConfig, TraceContext};
use clearway_integration::{Broker, Manner, Member, Outside, PATIENCE, Record, envelope};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    number: u32,
    customer: String,
}

async fn next<T>(arriving: &mut mpsc::UnboundedReceiver<T>) -> Result<T> {
    let arrived = timeout(PATIENCE, arriving.recv()).await;
    arrived
        .context("nothing arrives")?
        .context("the handler is gone")
}

#[tokio::test]
async fn a_typed_value_arrives_with_all_that_travels_beside_it() -> Result<()> {
    let broker = Broker::any().await?;
    let bus = Bus::connect(broker.url()).await?;
    let orders = bus.topic::<Order>(&broker.fresh_name("typed"))?;
    let (arrived, mut arriving) = mpsc::unbounded_channel();
    let _subscription = orders
        .subscribe("billing", move |delivery: Delivery<Order>| {
            let arrived = arrived.clone();
            async move {
                arrived.send(delivery)?;
                Ok::<_, HandlerError>(())
            }
        })
        .await?;

    let order = Order {
        number: 17,
        customer: "ü ☃".into(),
    };
    let trace = TraceContext {
        parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        state: Some("a=1,b=2".into()),
    };
    let publish = orders
        .publish(&order)
        .key("customer-7")
        .header("source", "web")
        .header("source", "a second one")
        .header("binary", &b"\x00\xff \r\n"[..])
        .trace(trace);
    let sent = publish.envelope().cloned().context("it has an envelope")?;
    let receipt = publish.await?;
    ensure!(
        (receipt.partition, receipt.position, receipt.duplicate) == (0, 1, false),
        "{receipt:?}"
    );

    let delivery = next(&mut arriving).await?;
    assert_eq!(delivery.envelope, sent);
    assert_eq!(delivery.value, order);
    assert_eq!(delivery.attempt, 1);
    let position = delivery.position;
    assert_eq!(
        (position.partition, position.offset),
        (receipt.partition, receipt.position)
    );

    let name = orders.name().to_owned();
    ensure!(
        bus.close(Duration::from_secs(5)).await.drained,
        "not drained"
    );
    Outside::of(&broker).await?.delete(&name).await
}

#[tokio::test]
async fn bytes_and_no_key_arrive_as_they_are() -> Result<()> {
    let broker = Broker::any().await?;
    let bus = Bus::connect(broker.url()).await?;
    let raw = bus.raw_topic(&broker.fresh_name("raw"))?;
    let (arrived, mut arriving) = mpsc::unbounded_channel();
    let _subscription = raw
        .subscribe("billing", move |delivery: Delivery<Bytes>| {
            let arrived = arrived.clone();
            async move { arrived.send(delivery.envelope).map_err(HandlerError::from) }
        })
        .await?;
    for payload in [&b""[..], b"\x00\x01\xff", &[b'x'; 500_000]] {
        let publish = raw.publish(&Bytes::copy_from_slice(payload));
        let sent = publish.envelope().cloned().context("it has an envelope")?;
        publish.await?;
        let came: Envelope = next(&mut arriving).await?;
        ensure!(
            came == sent && came.key.is_none() && came.payload == payload,
            "{} bytes",
            payload.len()
        );
    }
    let name = raw.name().to_owned();
    bus.close(Duration::from_secs(5)).await;
    Outside::of(&broker).await?.delete(&name).await
}

#[tokio::test]
async fn keys_are_spread_over_partitions_and_stay_there() -> Result<()> {
    let broker = Broker::any().await?;
    let record = Record::begin(
        "round-trip",
        &broker,
        "100 envelopes, 10 keys, 4 partitions",
        None,
    )?;
    let config = TopicConfig::new(broker.fresh_name("spread")).partitions(4);
    let builder = bus(options(broker.url())?).topic(config.clone());
    let member = Member::connect(&record, 0, builder).await?;
    let topic = member.bus.raw_topic(config.name())?;
    let _runs_until_close = member
        .subscribe(&topic, "billing", Manner::default())
        .await?;

    let mut partitions = std::collections::BTreeMap::new();
    for n in 0..100 {
        let key = format!("customer-{}", n % 10);
        let sent = envelope(&topic, &key, format!("{n}"));
        let receipt = member.publisher().publish(&topic, sent).await?;
        let before = *partitions.entry(key).or_insert(receipt.partition);
        assert_eq!(before, receipt.partition, "a key does not move");
    }
    let used: std::collections::BTreeSet<_> = partitions.into_values().collect();
    ensure!(
        used.len() > 1 && used.iter().all(|partition| *partition < 4),
        "{used:?}"
    );

    let outside = Outside::of(&broker).await?;
    let name = topic.name().to_owned();
    outside.drained(&record, &name, &name, "billing").await?;
    drop(topic);
    member.leave(Duration::from_secs(5)).await?;
    let verdict = record.finish()?;
    ensure!(
        verdict.counts.acked == 100 && verdict.counts.deliveries >= 100,
        "{verdict}"
    );
    outside.delete(&name).await
}

#[tokio::test]
async fn health_is_a_round_trip_and_creation_is_an_event() -> Result<()> {
    let broker = Broker::any().await?;
    let proxy = broker.proxy().await?;
    let bus = bus(options(&broker.url_through(&proxy))?).connect().await?;
    let mut events = bus.events();
    let well = bus.health(Duration::from_secs(2)).await;
    ensure!(well.live && well.ready, "{well:?}");
    let session = &well.components[0];
    let took = session.round_trip.context("it was asked")?;
    ensure!(
        session.ok && took > Duration::ZERO && took < Duration::from_secs(2),
        "{session:?}"
    );

    let name = broker.fresh_name("created");
    bus.publish(&name, "one").await?;
    let event = timeout(PATIENCE, events.next()).await?;
    assert_eq!(
        event,
        Some(BusEvent::TopicCreated {
            topic: name.as_str().into()
        })
    );
    // The second time it is there.
    bus.publish(&name, "two").await?;

    // Every answer now comes too late for the limit.
    proxy.set(clearway_integration::Fault::Hold).await;
    let ill = bus.health(Duration::from_millis(100)).await;
    ensure!(
        ill.live && !ill.ready && ill.components[0].round_trip.is_none(),
        "{ill:?}"
    );
    proxy.set(clearway_integration::Fault::Pass).await;

    bus.close(Duration::from_secs(5)).await;
    let closed = bus.health(Duration::from_secs(2)).await;
    ensure!(!closed.live && !closed.ready, "{closed:?}");
    let mut created = 0;
    while let Some(event) = events.next().await {
        created += usize::from(matches!(event, BusEvent::TopicCreated { .. }));
    }
    assert_eq!(created, 0, "created once");
    Outside::of(&broker).await?.delete(&name).await
}
