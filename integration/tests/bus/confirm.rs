//! Acknowledgements that cross what the server says: that it has them, when its word does not come or it never heard, and that it
//! delivers again.

use crate::setup::{bus, options};
use anyhow::{Result, ensure};
use bytes::Bytes;
use clearway::{Bus, Delivery, HandlerError, Raw, Subscription, Topic, TopicConfig};
use clearway_integration::{Broker, Fault, Outside, PATIENCE, Proxy, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::sleep;

const GROUP: &str = "audit";
const CLOSE: Duration = Duration::from_secs(5);

/// One delivery, and its handler at a gate.
struct Scene {
    /// Gone with it.
    _broker: Broker,
    proxy: Proxy,
    outside: Outside,
    name: String,
    bus: Bus,
    topic: Topic<Bytes, Raw>,
    subscription: Subscription,
    begun: Arc<AtomicUsize>,
    ended: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
}

impl Scene {
    async fn open(prefix: &str) -> Result<Self> {
        Self::open_with(prefix, true).await
    }

    async fn open_with(prefix: &str, confirms: bool) -> Result<Self> {
        let broker = Broker::any().await?;
        let (proxy, outside) = (broker.proxy().await?, Outside::of(&broker).await?);
        let name = broker.fresh_name(prefix);
        // A server that does not answer is not taken for lost while a test looks; what it does not confirm is soon sent again.
        let options = options(&broker.url_through(&proxy))?
            .ping_interval(Duration::from_secs(60))
            .request_timeout(Duration::from_secs(1));
        let bus = bus(options)
            .topic(TopicConfig::new(&*name).partitions(1))
            .connect()
            .await?;
        let topic = bus.raw_topic(&name)?;
        let (begun, ended) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let gate = Arc::new(Semaphore::new(0));
        let (begins, ends, waits) = (begun.clone(), ended.clone(), gate.clone());
        let mut subscription = topic.subscription(GROUP);
        if confirms {
            subscription = subscription.confirm_acks().dedup(100);
        }
        let subscription = subscription
            .handler(move |_: Delivery<Bytes>| {
                begins.fetch_add(1, Ordering::SeqCst);
                let (ends, waits) = (ends.clone(), waits.clone());
                async move {
                    let _pass = waits.acquire().await;
                    ends.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, HandlerError>(())
                }
            })
            .await?;
        topic.publish(&Bytes::from_static(b"once")).key("k").await?;
        let scene = Self {
            _broker: broker,
            proxy,
            outside,
            name,
            bus,
            topic,
            subscription,
            begun,
            ended,
            gate,
        };
        until("it is at its handler", async || Ok(scene.begun() == 1)).await?;
        Ok(scene)
    }

    fn begun(&self) -> usize {
        self.begun.load(Ordering::SeqCst)
    }

    /// The handler answers while this is so, and the delivery is not settled by it.
    async fn answer_under(&self, fault: Fault) -> Result<()> {
        self.proxy.set(fault).await;
        self.gate.add_permits(100);
        let ended = async || Ok(self.ended.load(Ordering::SeqCst) == 1);
        until("its handler has answered", ended).await?;
        until("its lane is done with it", async || {
            Ok(self.subscription.status().await.lanes == 0)
        })
        .await?;
        self.is_open().await
    }

    async fn is_open(&self) -> Result<()> {
        let status = self.subscription.status().await;
        let at = status.partitions.get(&0).copied().unwrap_or_default();
        ensure!(status.in_flight == 1 && at.in_flight == 1, "{status:?}");
        ensure!(at.watermark == Some(1), "{status:?}");
        Ok(())
    }

    /// How many the server waits for an answer of.
    async fn unanswered(&self) -> Result<usize> {
        let durable = (self.outside).durable(&self.name, &self.name, GROUP, 0);
        Ok(durable.await?.num_ack_pending)
    }

    async fn end(self) -> Result<()> {
        self.bus.close(CLOSE).await;
        self.outside.delete(&self.name).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_has_not_confirmed_is_left() -> Result<()> {
    let scene = Scene::open("unconfirmed").await?;
    scene.answer_under(Fault::HoldAnswers).await?;
    // It knows, and has said so: only nobody has heard it.
    until("the server knows", async || {
        Ok(scene.unanswered().await? == 0)
    })
    .await?;
    scene.is_open().await?;
    let report = scene.subscription.drain(Duration::from_millis(300)).await;
    ensure!(!report.drained && report.left.len() == 1, "{report:?}");
    ensure!(report.left[0].position.offset == 1, "{report:?}");
    scene.proxy.set(Fault::Pass).await;
    // It was acknowledged all the same: the next of the group gets the next one.
    let (begins, begun) = (scene.begun.clone(), scene.begun());
    let handler = move |delivery: Delivery<Bytes>| {
        begins.fetch_add(usize::from(delivery.value == "once"), Ordering::SeqCst);
        async { Ok::<_, HandlerError>(()) }
    };
    let next = scene.topic.subscription(GROUP).confirm_acks();
    let next = next.handler(handler).await?;
    let second = scene.topic.publish(&Bytes::from_static(b"second"));
    let position = second.key("k").await?.position;
    until("the second is settled", async || {
        let status = next.status().await;
        let mark = status.partitions.get(&0).and_then(|at| at.watermark);
        Ok(mark > Some(position) && status.in_flight == 0)
    })
    .await?;
    ensure!(scene.begun() == begun, "it was handled again");
    scene.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_waits_until_the_server_has_confirmed() -> Result<()> {
    let scene = Scene::open("confirmed").await?;
    scene.answer_under(Fault::HoldAnswers).await?;
    let passes = AtomicBool::new(false);
    let drained = async {
        let report = scene.subscription.drain(PATIENCE).await;
        (report, passes.load(Ordering::SeqCst))
    };
    let passing = async {
        // Longer than the request timeout: it has been acknowledged more than once by then.
        sleep(Duration::from_millis(2500)).await;
        passes.store(true, Ordering::SeqCst);
        scene.proxy.set(Fault::Pass).await;
    };
    let ((report, after), ()) = tokio::join!(drained, passing);
    ensure!(after, "it did not wait: {report:?}");
    ensure!(report.drained && report.left.is_empty(), "{report:?}");
    ensure!(scene.begun() == 1, "it was handled again");
    scene.end().await
}

/// The acknowledgement is lost with its connection: the server delivers again what was handled, and it is acknowledged
/// without a handler.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_that_is_lost_is_given_again_without_a_handler() -> Result<()> {
    let scene = Scene::open("lost").await?;
    scene.answer_under(Fault::Hold).await?;
    ensure!(scene.unanswered().await? == 1, "the server has heard it");
    scene.proxy.cut().await;
    scene.proxy.set(Fault::Pass).await;
    until("the server knows", async || {
        Ok(scene.unanswered().await? == 0)
    })
    .await?;
    until("it is settled", async || {
        let status = scene.subscription.status().await;
        let at = status.partitions.get(&0).copied().unwrap_or_default();
        Ok(status.in_flight == 0 && at.in_flight == 0 && at.watermark == Some(2))
    })
    .await?;
    let durable = (scene.outside).durable(&scene.name, &scene.name, GROUP, 0);
    let durable = durable.await?;
    ensure!(durable.delivered.consumer_sequence == 2, "{durable:?}");
    ensure!(scene.begun() == 1, "it was handled again");
    let skipped = scene.bus.metrics().duplicates_skipped;
    ensure!(skipped == 1, "{skipped} doubles");
    let report = scene.subscription.drain(CLOSE).await;
    ensure!(report.drained && report.left.is_empty(), "{report:?}");
    scene.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_loses_the_server_lists_what_is_not_confirmed() -> Result<()> {
    let scene = Scene::open("gone").await?;
    scene.answer_under(Fault::Hold).await?;
    let losing = async {
        sleep(Duration::from_millis(100)).await;
        scene.proxy.set(Fault::Refuse).await;
    };
    let (report, ()) = tokio::join!(scene.subscription.drain(PATIENCE), losing);
    ensure!(!report.drained && report.left.len() == 1, "{report:?}");
    ensure!(report.left[0].position.offset == 1, "{report:?}");
    scene.proxy.set(Fault::Pass).await;
    scene.end().await
}

/// Somebody gives the delivery back while its handler is at work, as a member does that has lost it and does not know, and the server
/// makes it again. That comes when the handler has answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_while_the_server_made_it_again_is_not_handled_again() -> Result<()> {
    let scene = Scene::open_with("crossed", false).await?;
    let durable = || {
        let (name, outside) = (&scene.name, &scene.outside);
        outside.durable(name, name, GROUP, 0)
    };
    scene.proxy.set(Fault::HoldAnswers).await;
    let nak = format!("$JS.ACK.{0}.{GROUP}~{0}~0.1.1.1.0.0", scene.name);
    let context = scene.outside.jetstream.clone();
    context.publish(nak, "-NAK".into()).await?;
    until("the server has made it again", async || {
        Ok(durable().await?.num_redelivered == 1)
    })
    .await?;
    scene.gate.add_permits(100);
    until("it is acknowledged", async || {
        Ok(durable().await?.num_ack_pending == 0)
    })
    .await?;
    scene.proxy.set(Fault::Pass).await;
    // Of the same partition, so behind it.
    let second = Bytes::from_static(b"twice");
    scene.topic.publish(&second).key("k").await?;
    until("the next one is done", async || {
        Ok(durable().await?.ack_floor.stream_sequence == 2)
    })
    .await?;
    ensure!(scene.begun() == 2, "{} handlers begun", scene.begun());
    scene.end().await
}
