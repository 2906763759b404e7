//! A stream of somebody else's that is deleted is waited for, and missed whenever it goes.

use super::scene::{Scene, next, set, told};
use super::{GROUP, bus, options};
use anyhow::{Result, ensure};
use clearway::BusEvent;
use clearway_integration::Fault;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_deleted_is_waited_for_and_not_made() -> Result<()> {
    let scene = Scene::open().await?;
    let bus = scene.connect().await?;
    let mut events = bus.events();
    let subjects = scene.subjects(">")?;
    let mut deliveries = bus.raw_subscription(&subjects, GROUP).stream().await?;
    scene.publish("a", "before").await?;
    next(&mut deliveries, 1, &scene).await?;
    scene.outside.delete(&scene.stream).await?;
    let missing = |event: &BusEvent| match event {
        BusEvent::TopicMissing { topic } => Some(topic.to_string()),
        _ => None,
    };
    assert_eq!(told(&mut events, missing).await?, subjects.to_string());
    let made = scene.outside.stream(&scene.stream).await;
    ensure!(made.is_err(), "it was made");
    scene.make().await?;
    scene.publish("a", "after").await?;
    let seen = next(&mut deliveries, 1, &scene).await?;
    assert_eq!(seen, set(&[("a", "after")]));
    // What was waited for is said: no attempt to make a topic of it came between.
    let restarted = |event: &BusEvent| match event {
        BusEvent::ConsumerRestarted { topic, reason, .. } => {
            (**topic == *subjects.to_string()).then(|| reason.clone())
        }
        _ => None,
    };
    assert_eq!(told(&mut events, restarted).await?, "the stream is gone");
    scene.end(&[bus], &[]).await
}

/// The end of a pull that nobody waits for any more says nothing: the stream is missed when its durable is looked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_deleted_during_a_silence_is_missed() -> Result<()> {
    let scene = Scene::open().await?;
    let proxy = scene.broker.proxy().await?;
    let options = options(&scene.broker.url_through(&proxy))?;
    let bus = bus(options.ping_interval(Duration::from_secs(60)));
    let bus = bus.connect().await?;
    let mut events = bus.events();
    let subjects = scene.subjects(">")?;
    let mut deliveries = bus.raw_subscription(&subjects, GROUP).stream().await?;
    scene.publish("a", "before").await?;
    next(&mut deliveries, 1, &scene).await?;
    proxy.set(Fault::Hold).await;
    let silent = |event: &BusEvent| match event {
        BusEvent::ConsumerRestarted { reason, .. } => Some(reason.clone()),
        _ => None,
    };
    let reason = told(&mut events, silent).await?;
    ensure!(reason.starts_with("no heartbeat"), "{reason}");
    scene.outside.delete(&scene.stream).await?;
    proxy.set(Fault::Pass).await;
    let missing = |event: &BusEvent| match event {
        BusEvent::TopicMissing { topic } => Some(topic.to_string()),
        _ => None,
    };
    assert_eq!(told(&mut events, missing).await?, subjects.to_string());
    scene.make().await?;
    scene.publish("a", "after").await?;
    let seen = next(&mut deliveries, 1, &scene).await?;
    assert_eq!(seen, set(&[("a", "after")]));
    scene.end(&[bus], &[]).await
}
