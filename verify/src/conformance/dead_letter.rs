//! Dead letters: what goes there, what it says, and how it comes back.

use super::{Seen, Stand, Verdict, eventually, one_key, publish};
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use clearway::{
    BusEvent, DeadLetter, Delivery, Envelope, HandlerError, OnFailure, Outcome, Retry,
    SubscriptionState, dead_letter::header,
};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

const CLOSE: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);

fn fast() -> Retry {
    Retry::new().delays(MS, 5 * MS)
}

pub(super) fn attempts(n: u32) -> Retry {
    fast().attempts_max(n)
}

/// Hands on every envelope of a topic.
pub(super) async fn tap(
    bus: &clearway::Bus,
    topic: &str,
) -> Result<(clearway::Subscription, mpsc::UnboundedReceiver<Envelope>)> {
    let (outbox, inbox) = mpsc::unbounded_channel();
    let subscription = bus
        .raw_topic(topic)?
        .subscribe("tap", move |delivery: Delivery<Bytes>| {
            let sent = outbox.send(delivery.envelope);
            async move { sent.map_err(|_| HandlerError::from("the case has ended")) }
        })
        .await?;
    Ok((subscription, inbox))
}

pub(super) async fn next(inbox: &mut mpsc::UnboundedReceiver<Envelope>) -> Result<Envelope> {
    let came = timeout(super::PATIENCE, inbox.recv()).await;
    came.context("no dead letter came")?
        .context("the tap is gone")
}

pub(super) fn header<'e>(envelope: &'e Envelope, name: &str) -> &'e str {
    let value = envelope.headers.first(name);
    value
        .and_then(|value| std::str::from_utf8(value).ok())
        .unwrap_or("(none)")
}

pub(super) async fn a_poison_message_at_the_head_ends_in_the_dead_letters(
    stand: &Stand,
) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let (name, dead) = (stand.topic(), stand.topic());
    let topic = bus.topic::<u64>(&name)?;
    let (_tap, mut letters) = tap(&bus, &dead).await?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .retry(attempts(3))
        .on_failure(OnFailure::dead_letter(dead.as_str()))
        .handler(move |delivery: Delivery<u64>| {
            drop(noted.begin(&delivery));
            async move {
                match delivery.value {
                    0 => Err(HandlerError::from("poison")),
                    _ => Ok(()),
                }
            }
        })
        .await?;
    publish(&topic, 0..3, one_key).await?;
    seen.until("those behind it", |seen| seen.ended() >= 5)
        .await?;
    ensure!(seen.begun() == [0, 0, 0, 1, 2], "{:?}", seen.begun());
    ensure!(next(&mut letters).await?.payload == "0", "not the poison");
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_rejected_delivery_goes_to_the_dead_letters_at_once(
    stand: &Stand,
) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let (name, dead) = (stand.topic(), stand.topic());
    let topic = bus.topic::<u64>(&name)?;
    let (_tap, mut letters) = tap(&bus, &dead).await?;
    let seen = Seen::new();
    let noted = seen.clone();
    let subscription = topic
        .subscription("reads")
        .on_failure(OnFailure::dead_letter(dead.as_str()))
        .handler(move |delivery: Delivery<u64>| {
            drop(noted.begin(&delivery));
            async move { Ok::<_, HandlerError>(Outcome::Reject("of no use".into())) }
        })
        .await?;
    publish(&topic, [4], one_key).await?;
    let letter = next(&mut letters).await?;
    ensure!(header(&letter, header::ERROR) == "of no use", "{letter:?}");
    ensure!(header(&letter, header::ATTEMPTS) == "1", "{letter:?}");
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    ensure!(seen.begun() == [4], "{:?}", seen.begun());
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn what_does_not_decode_goes_to_the_dead_letters(
    stand: &Stand,
) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let (name, dead) = (stand.topic(), stand.topic());
    let topic = bus.topic::<u64>(&name)?;
    let (_tap, mut letters) = tap(&bus, &dead).await?;
    let seen = Seen::new();
    let subscription = topic
        .subscription("reads")
        .on_failure(OnFailure::dead_letter(dead.as_str()))
        .handler(seen.contented())
        .await?;
    let garbage = Bytes::from_static(b"{ not json");
    bus.raw_topic(&name)?.publish(&garbage).key("one").await?;
    publish(&topic, [1], one_key).await?;
    let letter = next(&mut letters).await?;
    ensure!(letter.payload == garbage, "{letter:?}");
    let error = header(&letter, header::ERROR);
    ensure!(error.contains("line 1 column"), "the decoder said: {error}");
    seen.until("the next of the key", |seen| seen.begun() == [1])
        .await?;
    ensure!(subscription.close(CLOSE).await == 0, "something is left");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_dead_letter_says_where_it_came_from(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let (name, dead) = (stand.topic(), stand.topic());
    let topic = bus.topic::<u64>(&name)?;
    let (_tap, mut letters) = tap(&bus, &dead).await?;
    let _subscription = topic
        .subscription("reads")
        .retry(attempts(2))
        .on_failure(OnFailure::dead_letter(dead.as_str()))
        .handler(|_: Delivery<u64>| async { Err::<(), _>(HandlerError::from("out\nof order")) })
        .await?;
    let receipt = topic.publish(&1).key("one").await?;
    let letter = next(&mut letters).await?;
    let told = [
        (header::TOPIC, name),
        (header::GROUP, "reads".into()),
        (header::PARTITION, receipt.partition.to_string()),
        (header::OFFSET, receipt.position.to_string()),
        (header::ERROR, "out of order".into()),
        (header::ATTEMPTS, "2".into()),
        (header::HOPS, "1".into()),
    ];
    for (name, value) in told {
        ensure!(
            header(&letter, name) == value,
            "{name}: {}",
            header(&letter, name)
        );
    }
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn dead_letters_keep_key_headers_and_payload(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let (name, dead) = (stand.topic(), stand.topic());
    let topic = bus.topic::<u64>(&name)?;
    let (_tap, mut letters) = tap(&bus, &dead).await?;
    let _subscription = topic
        .subscription("reads")
        .on_failure(OnFailure::dead_letter(dead.as_str()))
        .handler(|_: Delivery<u64>| async { Ok::<_, HandlerError>(Outcome::Reject("no".into())) })
        .await?;
    let publish = topic
        .publish(&9)
        .key("schlüssel")
        .header("raw", vec![0_u8, 255]);
    let sent = publish.envelope().context("it was encoded")?.clone();
    publish.await?;
    let letter = next(&mut letters).await?;
    ensure!(
        letter.key == sent.key && letter.payload == sent.payload,
        "{letter:?}"
    );
    ensure!(
        letter.headers.first("raw") == sent.headers.first("raw"),
        "{letter:?}"
    );
    ensure!(
        header(&letter, header::ID) == sent.id.to_string(),
        "{letter:?}"
    );
    ensure!(letter.id != sent.id, "a broker may take it for what it was");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn too_many_dead_letters_pause_the_subscription(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let (name, dead) = (stand.topic(), stand.topic());
    let topic = bus.topic::<u64>(&name)?;
    let mut events = bus.events();
    let subscription = topic
        .subscription("reads")
        .concurrency(1)
        .on_failure(DeadLetter::to(dead.as_str()).run_max(3))
        .handler(|_: Delivery<u64>| async { Ok::<_, HandlerError>(Outcome::Reject("no".into())) })
        .await?;
    publish(&topic, 0..50, one_key).await?;
    let paused = async {
        loop {
            match events.next().await {
                Some(BusEvent::SubscriptionPaused { group, .. }) if &*group == "reads" => {
                    return true;
                }
                Some(_) => {}
                None => return false,
            }
        }
    };
    ensure!(timeout(super::PATIENCE, paused).await?, "the bus is closed");
    let status = subscription.status().await;
    ensure!(
        matches!(
            &status.state,
            SubscriptionState::Paused { because: Some(_) }
        ),
        "{status:?}"
    );
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn redrive_puts_dead_letters_back(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let (name, dead) = (stand.topic(), stand.topic());
    let topic = bus.topic::<u64>(&name)?;
    let seen = Seen::new();
    let noted = seen.clone();
    let fails = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let failing = fails.clone();
    let subscription = topic
        .subscription("reads")
        .on_failure(OnFailure::dead_letter(dead.as_str()))
        .handler(move |delivery: Delivery<u64>| {
            drop(noted.begin(&delivery));
            let fails = failing.load(std::sync::atomic::Ordering::Relaxed);
            async move {
                Ok::<_, HandlerError>(match fails {
                    true => Outcome::Reject("not today".into()),
                    false => Outcome::Ack,
                })
            }
        })
        .await?;
    publish(&topic, 0..20, |n| Some(format!("key-{n}"))).await?;
    eventually("all are dead letters", || async {
        subscription.status().await.dead_letters == 20
    })
    .await?;
    fails.store(false, std::sync::atomic::Ordering::Relaxed);
    let some = bus.redrive(&dead, 5).await?;
    ensure!(
        some.moved.values().sum::<u64>() == 5 && !some.complete,
        "{some:?}"
    );
    let rest = bus.redrive(&dead, 1000).await?;
    ensure!(rest.complete, "{rest:?}");
    seen.until("all again", |seen| seen.ended() >= 40).await?;
    let mut again = seen.begun().split_off(20);
    again.sort_unstable();
    ensure!(again.iter().copied().eq(0..20), "{again:?}");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}

pub(super) async fn a_letter_without_a_home_holds_up_no_redrive(stand: &Stand) -> Result<Verdict> {
    let bus = stand.bus().await?;
    let (name, dead) = (stand.topic(), stand.topic());
    let topic = bus.topic::<u64>(&name)?;
    let letter = Bytes::from_static(b"from nowhere");
    bus.raw_topic(&dead)?.publish(&letter).key("one").await?;
    let subscription = topic
        .subscription("reads")
        .on_failure(OnFailure::dead_letter(dead.as_str()))
        .handler(|_: Delivery<u64>| async { Ok::<_, HandlerError>(Outcome::Reject("no".into())) })
        .await?;
    // Of the same key, and behind it.
    publish(&topic, 0..3, one_key).await?;
    eventually("three are dead letters", || async {
        subscription.status().await.dead_letters == 3
    })
    .await?;
    subscription.close(CLOSE).await;
    let report = timeout(super::PATIENCE / 4, bus.redrive(&dead, 100)).await??;
    ensure!(report.homeless == 1 && report.complete, "{report:?}");
    ensure!(report.moved.values().sum::<u64>() == 3, "{report:?}");
    bus.close(CLOSE).await;
    Ok(Verdict::Passed)
}
