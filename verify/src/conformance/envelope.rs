//! What goes in comes out: every field of an envelope, however it looks.

use super::{Seen, Stand, Verdict, content, publish};
use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use clearway::{
    Bus, Delivery, Envelope, HandlerError, Overflow, PublishError, TopicConfig, TraceContext,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::sync::mpsc;

const CLOSE: Duration = Duration::from_secs(5);

/// Publishes one envelope and gives what is published and what is delivered.
async fn there_and_back(
    stand: &Stand,
    payload: Bytes,
    shape: impl FnOnce(&mut Envelope),
) -> Result<(Envelope, Envelope)> {
    let bus: Bus = stand.bus().await?;
    let topic = bus.raw_topic(&stand.topic())?;
    let (outbox, mut inbox) = mpsc::unbounded_channel();
    let subscription = topic
        .subscribe("reads", move |delivery: Delivery<Bytes>| {
            let sent = outbox.send(delivery.envelope);
            async move { sent.map_err(|_| HandlerError::from("the case has ended")) }
        })
        .await?;
    let publish = topic.publish(&payload);
    let mut envelope = publish.envelope().context("it was encoded")?.clone();
    shape(&mut envelope);
    topic.publish_envelope(envelope.clone()).await?;
    let came = tokio::time::timeout(super::PATIENCE, inbox.recv()).await;
    let came = came
        .context("it never came")?
        .context("the handler is gone")?;
    subscription.close(CLOSE).await;
    bus.close(CLOSE).await;
    Ok((envelope, came))
}

pub(super) async fn every_field_of_an_envelope_comes_back(stand: &Stand) -> Result<Verdict> {
    let shaped = there_and_back(stand, Bytes::from_static(b"payload"), |envelope| {
        envelope.key = Some(Bytes::from_static(b"customer-7"));
        envelope.headers.add("kind", "order");
        envelope.trace = Some(TraceContext {
            parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            state: Some("vendor=1".into()),
        });
    });
    let (sent, came) = shaped.await?;
    ensure!(sent == came, "sent {sent:?}, came {came:?}");
    Ok(Verdict::Passed)
}

pub(super) async fn an_empty_payload_is_a_payload(stand: &Stand) -> Result<Verdict> {
    let (sent, came) = there_and_back(stand, Bytes::new(), |_| ()).await?;
    ensure!(came.payload.is_empty() && sent == came, "came {came:?}");
    Ok(Verdict::Passed)
}

pub(super) async fn a_key_may_be_empty_and_is_not_a_missing_one(stand: &Stand) -> Result<Verdict> {
    let empty = |envelope: &mut Envelope| envelope.key = Some(Bytes::new());
    let (_, came) = there_and_back(stand, Bytes::from_static(b"x"), empty).await?;
    ensure!(came.key == Some(Bytes::new()), "came {:?}", came.key);
    let (_, came) = there_and_back(stand, Bytes::from_static(b"x"), |_| ()).await?;
    ensure!(came.key.is_none(), "came {:?}", came.key);
    Ok(Verdict::Passed)
}

pub(super) async fn headers_that_are_no_text_are_kept_as_bytes(stand: &Stand) -> Result<Verdict> {
    let binary = |envelope: &mut Envelope| {
        envelope
            .headers
            .add("raw", Bytes::from_static(&[0, 255, 13, 10, 128]));
        envelope.headers.add("empty", Bytes::new());
        envelope.key = Some(Bytes::from_static(&[0, 255, 254]));
    };
    let (sent, came) = there_and_back(stand, Bytes::from_static(b"x"), binary).await?;
    ensure!(sent == came, "sent {sent:?}, came {came:?}");
    Ok(Verdict::Passed)
}

pub(super) async fn unicode_headers_and_keys_come_back(stand: &Stand) -> Result<Verdict> {
    let unicode = |envelope: &mut Envelope| {
        envelope.headers.add("stadt", "Zürich 东京 🚏");
        envelope.key = Some("schlüssel-键".into());
    };
    let (sent, came) = there_and_back(stand, Bytes::from_static(b"x"), unicode).await?;
    ensure!(sent == came, "sent {sent:?}, came {came:?}");
    Ok(Verdict::Passed)
}

pub(super) async fn a_name_may_come_twice_and_keeps_its_order(stand: &Stand) -> Result<Verdict> {
    let twice = |envelope: &mut Envelope| {
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            envelope.headers.add(name, value);
        }
    };
    let (sent, came) = there_and_back(stand, Bytes::from_static(b"x"), twice).await?;
    ensure!(sent.headers == came.headers, "came {:?}", came.headers);
    Ok(Verdict::Passed)
}

pub(super) async fn a_large_payload_comes_back_whole(stand: &Stand) -> Result<Verdict> {
    let payload: Bytes = (0..900_000_u32).map(|n| (n % 251) as u8).collect();
    let (_, came) = there_and_back(stand, payload.clone(), |_| ()).await?;
    ensure!(came.payload == payload, "{} bytes came", came.payload.len());
    Ok(Verdict::Passed)
}

pub(super) async fn the_size_limit_is_exact(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let name = stand.topic();
    let config = TopicConfig::new(name.as_str()).size_limit(10_000);
    bus.configure(config).await?;
    let topic = bus.raw_topic(&name)?;
    let of = |payload: usize| topic.publish(&Bytes::from(vec![7; payload])).key("one");
    let beside = of(0).envelope().map(Envelope::size).context("bytes")?;
    let (sender, mut came) = mpsc::unbounded_channel();
    let subscription = topic
        .subscribe("reads", move |delivery: Delivery<Bytes>| {
            let _ = sender.send(delivery.value.len());
            async { content() }
        })
        .await?;
    match of(10_001 - beside).await {
        Err(PublishError::TooLarge { size, limit, .. }) => {
            ensure!((size, limit) == (10_001, 10_000), "{size} of {limit}");
        }
        other => bail!("one byte too many: {other:?}"),
    }
    of(10_000 - beside).await?;
    let first = tokio::time::timeout(super::PATIENCE, came.recv()).await?;
    ensure!(first == Some(10_000 - beside), "{first:?}");
    subscription.close(CLOSE).await;
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn results_come_in_the_order_of_their_keys(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?.ordered();
    let results = bus.publish_results(Overflow::Block);
    let mut results = results.context("nobody else reads the results")?;
    let mut keys = BTreeMap::new();
    for n in 0..200_u64 {
        let publish = topic.publish(&n).key(format!("key-{}", n % 5));
        let id = publish.envelope().context("a number")?.id;
        keys.insert(id, n);
        publish.enqueue().map(drop)?;
    }
    let mut last = BTreeMap::new();
    for _ in 0..200 {
        let result = tokio::time::timeout(super::PATIENCE, results.next()).await?;
        let result = result.context("there are more")?;
        let receipt = result.outcome?;
        let n = keys.remove(&result.id).context("told twice")?;
        let place = (n, receipt.position);
        let before = last.insert(n % 5, place);
        ensure!(before < Some(place), "{before:?} and then {place:?}");
    }
    drop(results);
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn ten_thousand_keys_come_back_once_each(stand: &Stand) -> Result<Verdict> {
    const KEYS: u64 = 10_000;
    let bus = stand.bus().await?;
    let topic = bus.topic::<u64>(&stand.topic())?;
    let seen = Seen::new();
    let subscription = topic
        .subscription("reads")
        .lanes_max(64)
        .handler(seen.contented())
        .await?;
    publish(&topic, 0..KEYS, |n| Some(format!("key-{n}"))).await?;
    seen.until("all keys", |seen| seen.ended() as u64 >= KEYS)
        .await?;
    let status = subscription.status().await;
    ensure!(status.lanes <= 64, "{} lanes", status.lanes);
    subscription.close(CLOSE).await;
    let begun = seen.begun();
    let distinct: BTreeSet<_> = begun.iter().copied().collect();
    ensure!(
        begun.len() as u64 == KEYS && distinct.len() as u64 == KEYS,
        "{} deliveries",
        begun.len()
    );
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}
