//! Subjects of a stream that somebody else made and fills, read with wildcards.

mod deleted;
mod scene;

use crate::setup::{bus, options};
use anyhow::{Context as _, Result, bail, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::stream::Config;
use bytes::Bytes;
use clearway::dead_letter::header;
use clearway::nats::Subjects;
use clearway::{
    Bus, BusEvent, Delivery, FailureKind, HandlerError, OnFailure, Outcome, Retry, SubscribeError,
};
use clearway_integration::{Fault, PATIENCE, until};
use scene::{Scene, next, set, told};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use uuid::Uuid;

const GROUP: &str = "audit";
const CLOSE: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fits_is_read_also_what_comes_to_be_later() -> Result<()> {
    let scene = Scene::open().await?;
    let before = scene.outside.stream(&scene.stream).await?;
    scene.publish("1.warmth", "a").await?;
    scene.publish("1.pressure", "b").await?;
    scene.publish("2.warmth", "c").await?;
    scene.publish("2.warmth.inside", "d").await?;
    let bus = scene.connect().await?;
    let one_token = bus.raw_subscription(scene.subjects("*.warmth")?, GROUP);
    let mut one_token = one_token.stream().await?;
    let rest = bus.raw_subscription(scene.subjects("2.>")?, GROUP);
    let mut rest = rest.stream().await?;
    let one = set(&[("1.warmth", "a"), ("2.warmth", "c")]);
    assert_eq!(next(&mut one_token, 2, &scene).await?, one);
    let two = set(&[("2.warmth", "c"), ("2.warmth.inside", "d")]);
    assert_eq!(next(&mut rest, 2, &scene).await?, two);

    // Nobody had heard of these subjects when the subscriptions began.
    scene.publish("3.pressure", "not read by either").await?;
    scene.publish("2.new", "e").await?;
    scene.publish("3.warmth", "f").await?;
    let later = next(&mut one_token, 1, &scene).await?;
    assert_eq!(later, set(&[("3.warmth", "f")]));
    assert_eq!(next(&mut rest, 1, &scene).await?, set(&[("2.new", "e")]));
    ensure!(
        scene.outside.stream(&scene.stream).await? == before,
        "the stream was changed"
    );
    let name = format!("{} in {}", scene.below("2.>"), scene.stream);
    assert_eq!(rest.subscription().topic(), name);
    scene.end(&[bus], &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_is_the_one_it_came_with_or_else_its_subject() -> Result<()> {
    let scene = Scene::open().await?;
    scene.publish("a", "no key").await?;
    let mut headers = HeaderMap::new();
    headers.insert("Clearway-Key", "customer-7");
    headers.insert("unit", "K");
    let jetstream = &scene.outside.jetstream;
    let stored = jetstream.publish_with_headers(scene.below("a"), headers, "a key".into());
    stored.await?.await?;
    let bus = scene.connect().await?;
    let subscription = bus.raw_subscription(scene.subjects("*")?, GROUP);
    let mut deliveries = subscription.stream().await?;
    // Two keys, so either may be first.
    let mut keys = BTreeSet::new();
    for _ in 0..2 {
        let delivery = timeout(PATIENCE, deliveries.next()).await?;
        let delivery = delivery.context("the stream has ended")?;
        let key = delivery.envelope.key.clone().context("no key")?;
        let unit = delivery.envelope.headers.first("unit").cloned();
        keys.insert((
            delivery.position.offset,
            delivery.position.partition,
            key,
            unit,
        ));
        delivery.ack();
    }
    let wanted = [
        (1, 0, Bytes::from(scene.below("a")), None),
        (2, 0, Bytes::from("customer-7"), Some(Bytes::from("K"))),
    ];
    assert_eq!(keys, BTreeSet::from(wanted));
    scene.end(&[bus], &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_that_fails_keeps_its_order_and_holds_up_no_other() -> Result<()> {
    const EACH: usize = 5;
    let scene = Scene::open().await?;
    for n in 0..EACH {
        scene.publish("bad", &n.to_string()).await?;
        scene.publish("good", &n.to_string()).await?;
    }
    let bus = scene.connect().await?;
    let handled: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let handler = {
        let (handled, bad) = (handled.clone(), scene.below("bad"));
        move |delivery: Delivery<Bytes>| {
            let mut handled = handled.lock().unwrap();
            let good = handled.iter().filter(|(topic, _)| *topic != bad).count();
            // The first of the bad ones fails until all the good ones are through.
            let answer = if *delivery.topic == *bad && good < EACH {
                Err(HandlerError::from("not yet"))
            } else {
                let payload = String::from_utf8_lossy(&delivery.value).into_owned();
                handled.push((delivery.topic.to_string(), payload));
                Ok(())
            };
            async move { answer }
        }
    };
    let subscription = bus.raw_subscription(scene.subjects(">")?, GROUP);
    let retry = Retry::new().delays(Duration::from_millis(10), Duration::from_millis(20));
    let subscription = subscription.retry(retry).handler(handler).await?;
    until("all are handled", async || {
        Ok(handled.lock().unwrap().len() == 2 * EACH)
    })
    .await?;
    for subject in ["good", "bad"] {
        let subject = scene.below(subject);
        let handled = handled.lock().unwrap();
        let of_it = handled.iter().filter(|(topic, _)| *topic == subject);
        let of_it: Vec<_> = of_it.map(|(_, payload)| payload.clone()).collect();
        assert_eq!(of_it, ["0", "1", "2", "3", "4"], "{subject}");
    }
    ensure!(bus.metrics().handler_errors > 0, "none has failed");
    ensure!(subscription.drain(CLOSE).await.drained, "all are settled");
    scene.end(&[bus], &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_goes_on_where_it_was() -> Result<()> {
    let scene = Scene::open().await?;
    // The last one is everything: the server has a short form of that.
    let all = Subjects::new(&scene.stream, ">")?;
    for subjects in [scene.subjects("*.x")?, scene.subjects(">")?, all] {
        let first = scene.connect().await?;
        scene.publish("a.x", "before").await?;
        let stored = scene.outside.stored(&scene.stream).await?;
        let subscription = first.raw_subscription(&subjects, GROUP);
        let mut deliveries = subscription.stream().await?;
        next(&mut deliveries, usize::try_from(stored)?, &scene).await?;
        until("nothing is left", async || {
            let status = deliveries.subscription().status().await;
            Ok(status.in_flight == 0)
        })
        .await?;
        first.close(CLOSE).await;

        scene.publish("b.x", "meanwhile").await?;
        let second = scene.connect().await?;
        let mut events = second.events();
        let mut deliveries = second.raw_subscription(&subjects, GROUP).stream().await?;
        let seen = next(&mut deliveries, 1, &scene).await?;
        assert_eq!(seen, set(&[("b.x", "meanwhile")]), "{subjects}");
        second.close(CLOSE).await;
        while let Some(event) = events.next().await {
            let drifted = matches!(event, BusEvent::ConsumerDrifted { .. });
            ensure!(!drifted, "{subjects}: {event:?}");
        }
    }
    scene.end(&[], &[]).await
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_by_name() -> Result<()> {
    let scene = Scene::open().await?;
    let bus = scene.connect().await?;
    let refused = async |bus: &Bus, stream: &str, pattern: &str| {
        let subjects = Subjects::new(stream, pattern)?;
        let subscribed = bus.raw_subscription(subjects, GROUP).stream().await;
        subscribed.err().context("it was taken")
    };
    let missing = scene.broker.fresh_name("missing");
    let elsewhere = format!("{}.>", scene.broker.fresh_name("elsewhere"));
    for (stream, pattern) in [(&missing, ">"), (&scene.stream, &elsewhere)] {
        let error = refused(&bus, stream, pattern).await?;
        let SubscribeError::Failed { failure, .. } = &error else {
            bail!("{error:?}");
        };
        assert_eq!(failure.kind(), FailureKind::NoTopic);
        let text = error.to_string();
        ensure!(text.contains(stream) && text.contains(pattern), "{text}");
    }
    let made = scene.outside.stream(&missing).await;
    ensure!(made.is_err(), "it was made");

    let memory = Bus::connect("memory://").await?;
    ensure!(!memory.capabilities().foreign && bus.capabilities().foreign);
    let error = refused(&memory, &scene.stream, ">").await?;
    let SubscribeError::Unsupported(unsupported) = &error else {
        bail!("{error:?}");
    };
    ensure!(unsupported.backend == "memory", "{error}");
    ensure!(error.to_string().contains(&scene.stream), "{error}");
    scene.end(&[bus, memory], &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_our_headers_has_one_id_however_often_it_comes() -> Result<()> {
    let scene = Scene::open().await?;
    let proxy = scene.broker.proxy().await?;
    let bus = bus(options(&scene.broker.url_through(&proxy))?);
    let bus = bus.connect().await?;
    let mut events = bus.events();
    let gate = Arc::new(Semaphore::new(0));
    let ids: Arc<Mutex<Vec<(&str, Uuid)>>> = Arc::default();
    let handler = |group: &'static str| {
        let (gate, ids) = (gate.clone(), ids.clone());
        move |delivery: Delivery<Bytes>| {
            ids.lock().unwrap().push((group, delivery.envelope.id));
            let gate = gate.clone();
            async move {
                let _pass = gate.acquire().await;
                Ok::<_, HandlerError>(())
            }
        }
    };
    let (subjects, seen) = (scene.subjects(">")?, |group: &str| {
        let ids = ids.lock().unwrap();
        let of_it = ids.iter().filter(|(of, _)| *of == group);
        of_it.map(|(_, id)| *id).collect::<Vec<_>>()
    });
    let plain = bus.raw_subscription(&subjects, "plain");
    let _plain = plain.handler(handler("plain")).await?;
    let dedup = bus.raw_subscription(&subjects, "dedup").dedup(100);
    let _dedup = dedup.handler(handler("dedup")).await?;
    scene.publish("a", "x").await?;
    until("both have it", async || {
        Ok(seen("plain").len() == 1 && seen("dedup").len() == 1)
    })
    .await?;

    // It is handled, and the broker does not hear of it.
    proxy.set(Fault::Refuse).await;
    let lost = |event: &BusEvent| matches!(event, BusEvent::Lost { .. }).then_some(());
    told(&mut events, lost).await?;
    gate.add_permits(100);
    until("both have handled it", async || {
        Ok(bus.metrics().handler_acks == 2)
    })
    .await?;
    proxy.set(Fault::Pass).await;
    until("it came again", async || {
        Ok(seen("plain").len() == 2 && bus.metrics().duplicates_skipped == 1)
    })
    .await?;
    let plain = seen("plain");
    assert_eq!(plain[0], plain[1]);
    assert_eq!(seen("dedup"), plain[..1]);
    scene.publish("a", "x").await?;
    until("another one", async || Ok(seen("dedup").len() == 2)).await?;
    assert_ne!(
        seen("dedup")[1],
        plain[0],
        "the same payload is another envelope"
    );
    scene.end(&[bus], &[]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_says_its_subject_and_has_no_topic_to_go_back_to() -> Result<()> {
    let scene = Scene::open().await?;
    let dead = scene.broker.fresh_name("dead");
    let bus = scene.connect().await?;
    let subjects = scene.subjects("*.warmth")?;
    let reject = async |_: Delivery<Bytes>| Ok::<_, HandlerError>(Outcome::Reject("cold".into()));
    let subscription = bus.raw_subscription(&subjects, GROUP);
    let subscription = subscription.on_failure(OnFailure::dead_letter(dead.as_str()));
    let subscription = subscription.handler(reject).await?;
    scene.publish("7.warmth", "x").await?;
    until("it is a dead letter", async || {
        Ok(subscription.status().await.dead_letters == 1)
    })
    .await?;

    let letters = bus.raw_topic(&dead)?;
    let mut letters = letters.subscription(GROUP).stream().await?;
    let letter = timeout(PATIENCE, letters.next()).await?;
    let letter = letter.context("the stream has ended")?;
    let text = |name| {
        let value = letter.envelope.headers.first(name);
        value.map(|value| String::from_utf8_lossy(value).into_owned())
    };
    let subject = scene.below("7.warmth");
    assert_eq!(text(header::TOPIC).as_deref(), Some(&*subject));
    assert_eq!(text(header::FOREIGN), Some(subjects.to_string()));
    assert_eq!(letter.envelope.key.as_deref(), Some(subject.as_bytes()));

    let report = bus.redrive(&dead, 10).await?;
    ensure!(
        report.homeless == 1 && report.moved.is_empty() && report.complete,
        "{report:?}"
    );
    let own = subject.replace('.', "%2E");
    ensure!(
        scene.outside.stream(&own).await.is_err(),
        "a topic was made"
    );
    assert_eq!(scene.outside.stored(&scene.stream).await?, 1);
    drop(letter);
    scene.end(&[bus], &[&dead]).await
}

/// A stream of the server's own news has subjects that a consumer hears of itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subjects_that_look_like_ours_are_deliveries_all_the_same() -> Result<()> {
    let scene = Scene::open().await?;
    let news = scene.broker.fresh_name("news");
    let pattern = format!("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.{news}.*");
    let config = Config {
        name: news.clone(),
        subjects: vec![pattern.clone()],
        ..Config::default()
    };
    let jetstream = &scene.outside.jetstream;
    jetstream.create_stream(config).await?;
    let bus = scene.connect().await?;
    let subscription = bus.raw_subscription(Subjects::new(&news, &pattern)?, GROUP);
    let mut deliveries = subscription.stream().await?;
    let subject = pattern.replace('*', "somebody");
    jetstream
        .publish(subject.clone(), "x".into())
        .await?
        .await?;
    let delivery = timeout(PATIENCE, deliveries.next()).await?;
    let delivery = delivery.context("the stream has ended")?;
    assert_eq!(*delivery.topic, *subject);
    delivery.ack();
    scene.end(&[bus], &[&news]).await
}
