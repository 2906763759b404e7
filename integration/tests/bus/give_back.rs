//! What a member leaves behind when it closes: nothing that makes the next one wait for a time of the server's.

use crate::setup::{bus, options, topics};
use anyhow::{Result, ensure};
use bytes::Bytes;
use clearway::{Delivery, HandlerError};
use clearway_integration::{Broker, Fault, Outside, until, until_within};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

const GROUP: &str = "audit";
const CLOSE: Duration = Duration::from_secs(5);
/// Who had to wait for it would miss every deadline here.
const ACK_WAIT: Duration = Duration::from_secs(60);
/// One way to the server: long beside what this machine needs for a step, so that what is on its way is known.
const WAY: Duration = Duration::from_millis(100);
/// How long the next member may take to have everything.
const SOON: Duration = Duration::from_secs(5);

/// The first delivery, which pins a member, is on its way while the member closes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_delivery_that_is_on_its_way_pins_nobody() -> Result<()> {
    let broker = Broker::any().await?;
    let (outside, proxy) = (Outside::of(&broker).await?, broker.proxy().await?);
    let config = topics(&broker.fresh_name("pins"), &[1]).remove(0);
    let name = config.name().to_owned();
    let far = options(&broker.url_through(&proxy))?.ack_wait(ACK_WAIT);
    let member = bus(far).topic(config.clone()).connect().await?;
    let topic = member.raw_topic(&name)?;
    for _ in 0..8 {
        topic.publish(&Bytes::from_static(b"one")).await?;
    }
    proxy.set(Fault::Delay(WAY)).await;
    let none = |_: Delivery<Bytes>| async { Ok::<_, HandlerError>(()) };
    let held = topic.subscription(GROUP).hold().handler(none).await?;
    until("the server has delivered the first", async || {
        let durable = outside.durable(&name, &name, GROUP, 0).await?;
        Ok(durable.delivered.consumer_sequence == 1)
    })
    .await?;
    // It is here in a while.
    ensure!(held.close(CLOSE).await == 0, "something was taken");
    let pin = outside.pin(&name, &name, GROUP, 0).await?;
    ensure!(pin.is_none(), "still pinned: {pin:?}");
    proxy.set(Fault::Pass).await;
    member.close(CLOSE).await;
    all_come_soon(&broker, &name, 8).await?;
    outside.delete(&name).await
}

/// Pulls are refused as soon as the pin is given back, while deliveries are with handlers, here, and on their way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_here_and_on_its_way_comes_to_the_next_at_once() -> Result<()> {
    let broker = Broker::any().await?;
    let (outside, proxy) = (Outside::of(&broker).await?, broker.proxy().await?);
    let config = topics(&broker.fresh_name("busy"), &[1]).remove(0);
    let name = config.name().to_owned();
    let far = options(&broker.url_through(&proxy))?.ack_wait(ACK_WAIT);
    let member = bus(far).topic(config.clone()).connect().await?;
    let topic = member.raw_topic(&name)?;
    for n in 0..200_u64 {
        topic
            .publish(&Bytes::copy_from_slice(&n.to_le_bytes()))
            .key(n.to_string())
            .await?;
    }
    proxy.set(Fault::Delay(WAY / 4)).await;
    let gate = Arc::new(Semaphore::new(0));
    let (waits, begun) = (gate.clone(), Arc::new(Mutex::new(0)));
    let noted = begun.clone();
    let busy = topic
        .subscription(GROUP)
        .in_flight(16, 1 << 20)
        .concurrency(4)
        .handler(move |_: Delivery<Bytes>| {
            let waits = waits.clone();
            *noted.lock().unwrap() += 1;
            async move {
                let _ = waits.acquire().await;
                Ok::<_, HandlerError>(())
            }
        })
        .await?;
    until("handlers are at work", async || {
        Ok(*begun.lock().unwrap() == 4)
    })
    .await?;
    ensure!(busy.close(Duration::ZERO).await > 0, "nothing was at work");
    let pin = outside.pin(&name, &name, GROUP, 0).await?;
    ensure!(pin.is_none(), "still pinned: {pin:?}");
    proxy.set(Fault::Pass).await;
    member.close(CLOSE).await;
    all_come_soon(&broker, &name, 200).await?;
    outside.delete(&name).await
}

/// A next member has all `count` of them without any waiting.
async fn all_come_soon(broker: &Broker, name: &str, count: usize) -> Result<()> {
    let next = bus(options(broker.url())?.ack_wait(ACK_WAIT))
        .connect()
        .await?;
    let topic = next.raw_topic(name)?;
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let noted = seen.clone();
    let handler = move |delivery: Delivery<Bytes>| {
        noted.lock().unwrap().insert(delivery.position.offset);
        async { Ok::<_, HandlerError>(()) }
    };
    let subscription = topic.subscription(GROUP).handler(handler).await?;
    until_within(SOON, "the next has all of them", async || {
        let seen = seen.lock().unwrap().len();
        ensure!(seen == count, "{seen} of {count}");
        Ok(true)
    })
    .await?;
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    next.close(CLOSE).await;
    Ok(())
}
