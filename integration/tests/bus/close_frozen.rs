//! Close with a server that is frozen: its connections stay open, and it takes and answers nothing.

use crate::setup::{bus, topics};
use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use clearway::nats::Options;
use clearway::{Bus, CloseReport, Delivery, HandlerError, PublishError, Raw, ReceiptFuture, Topic};
use clearway_integration::{Broker, Nats, until, until_within};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;

const GROUP: &str = "audit";
/// As many are in flight when it is closed.
const IN_FLIGHT: u64 = 10_000;
const LIMIT: Duration = Duration::from_secs(1);
/// Consumers have half a second to say goodbye when the time is over, and the connection as long. The rest is the machine's.
const BEYOND: Duration = Duration::from_millis(2000);
/// A client whose socket is full hears of nothing but that its pings stay unanswered: three of them.
const PING: Duration = Duration::from_secs(2);
const CLIENT_ENDS: Duration = Duration::from_secs(3 * PING.as_secs() + 2);
/// All of it finds room between here and the server, or only a part.
const SIZES: [usize; 2] = [16, 16 << 10];

/// A runtime of its own, so that every task on it is the bus's.
fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Ok(builder.worker_threads(2).enable_all().build()?)
}

fn tasks() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// A bus with so many publishes in flight on a server that is frozen.
struct Frozen {
    bus: Bus,
    topic: Topic<Bytes, Raw>,
    receipts: Vec<ReceiptFuture>,
}

impl Frozen {
    async fn connect(broker: &Broker) -> Result<Self> {
        let options = Options::from_url(broker.url())?
            .ping_interval(PING)
            .publish_timeout(Duration::from_secs(100));
        let config = topics(&broker.fresh_name("frozen"), &[4]).remove(0);
        let bus = bus(options)
            .topic(config.clone())
            .in_flight(IN_FLIGHT, 1 << 30)
            .receipts_max(IN_FLIGHT as usize)
            .connect()
            .await?;
        let topic = bus.raw_topic(config.name())?;
        Ok(Self {
            bus,
            topic,
            receipts: Vec::new(),
        })
    }

    fn publish(&mut self, size: usize) -> Result<()> {
        for n in 0..IN_FLIGHT {
            let mut payload = vec![0; size];
            payload[..8].copy_from_slice(&n.to_le_bytes());
            let publish = self.topic.publish(&payload.into()).key(n.to_string());
            self.receipts.push(publish.enqueue()?);
        }
        Ok(())
    }

    /// Closes it, and says of what it took and reported whether it is as it must be.
    async fn close(self) -> Result<(CloseReport, Duration)> {
        let begun = Instant::now();
        let report = self.bus.close(LIMIT).await;
        let took = begun.elapsed();
        ensure!(took >= LIMIT && took < LIMIT + BEYOND, "{took:?}");
        ensure!(!report.drained, "{report:?}");
        let (mut unknown, mut unsent) = (0, 0);
        for receipt in self.receipts {
            match receipt.await {
                Err(PublishError::Unknown(_)) => unknown += 1,
                Err(PublishError::Rejected(_)) => unsent += 1,
                other => bail!("{other:?}"),
            }
        }
        ensure!(unknown + unsent == IN_FLIGHT, "{unknown} and {unsent}");
        let told = &report.topics[self.topic.name()];
        ensure!(
            (told.unknown, told.unsent) == (unknown, unsent),
            "{told:?}, not {unknown} and {unsent}"
        );
        Ok((report, took))
    }
}

async fn none_left(before: usize) -> Result<Duration> {
    let begun = Instant::now();
    until_within(CLIENT_ENDS, "no task is left", async || {
        ensure!(tasks() <= before, "{} tasks are left of {before}", tasks());
        Ok(true)
    })
    .await?;
    Ok(begun.elapsed())
}

/// Handlers that wait at a gate.
struct Waiting {
    gate: Arc<Semaphore>,
    ended: Arc<AtomicU64>,
}

impl Waiting {
    /// Has as many deliveries taken as are in flight, and none handled.
    async fn begin(topic: &Topic<Bytes, Raw>) -> Result<Self> {
        let (gate, ended) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicU64::new(0)));
        let (waits, ends) = (gate.clone(), ended.clone());
        let handler = move |_: Delivery<Bytes>| {
            let (waits, ends) = (waits.clone(), ends.clone());
            async move {
                waits.acquire().await.expect("nobody closes it").forget();
                ends.fetch_add(1, Ordering::Relaxed);
                Ok::<_, HandlerError>(())
            }
        };
        let subscription = topic
            .subscription(GROUP)
            .concurrency(64)
            .lanes_max(IN_FLIGHT as usize);
        let subscription = subscription.in_flight(IN_FLIGHT, 1 << 30).handler(handler);
        let subscription = subscription.await?;
        until("all of it is taken", async || {
            let taken = subscription.status().await.in_flight as u64;
            ensure!(taken == IN_FLIGHT, "{taken}");
            Ok(true)
        })
        .await?;
        Ok(Self { gate, ended })
    }

    /// Lets half of them end: more answers than the client has room for while it can send nothing.
    async fn open(&self) -> Result<()> {
        self.gate.add_permits(IN_FLIGHT as usize / 2);
        until("handlers have ended", async || {
            Ok(self.ended.load(Ordering::Relaxed) >= IN_FLIGHT / 8)
        })
        .await
    }
}

fn judge(report: &CloseReport) -> Result<()> {
    let left: Vec<_> = report.subscriptions.values().collect();
    ensure!(
        left.len() == 1 && !left[0].blocked && !left[0].drained,
        "{:?}",
        left.len()
    );
    let positions: BTreeSet<_> = left[0].left.iter().map(|left| left.position).collect();
    let count = positions.len() as u64;
    ensure!(
        count == report.deliveries_left,
        "{count} of {}",
        report.deliveries_left
    );
    // Those whose handlers had not ended, and may be some that could not be acknowledged.
    ensure!((IN_FLIGHT / 2..=IN_FLIGHT).contains(&count), "{count}");
    Ok(())
}

/// On `elsewhere`, where the engine's client lives.
async fn freeze(elsewhere: &Handle, broker: &Arc<Broker>) -> Result<()> {
    let (there, broker) = (elsewhere.clone(), broker.clone());
    let frozen = elsewhere.spawn_blocking(move || there.block_on(broker.pause()));
    frozen.await?
}

/// The server and all that is not the bus's live on a runtime of their own.
fn each_size<F: Future<Output = Result<()>>>(
    scene: impl Fn(Handle, Arc<Broker>, usize) -> F,
) -> Result<()> {
    let elsewhere = runtime()?;
    for size in SIZES {
        let Some(broker) = elsewhere.block_on(Broker::nats(Nats::default()))? else {
            return Ok(());
        };
        let broker = Arc::new(broker);
        runtime()?.block_on(scene(elsewhere.handle().clone(), broker.clone(), size))?;
        elsewhere.block_on(async { drop(broker) });
    }
    Ok(())
}

#[test]
fn with_ten_thousand_in_flight_and_the_server_frozen_it_ends_in_its_time() -> Result<()> {
    each_size(async |elsewhere, broker, size| {
        let before = tasks();
        let mut frozen = Frozen::connect(&broker).await?;
        let handler = |_: Delivery<Bytes>| async { Ok::<_, HandlerError>(()) };
        let subscription = frozen.topic.subscription(GROUP).handler(handler).await?;
        freeze(&elsewhere, &broker).await?;
        frozen.publish(size)?;
        let (report, took) = frozen.close().await?;
        ensure!(report.deliveries_left == 0, "{report:?}");
        drop(subscription);
        let later = none_left(before).await?;
        println!(
            "integration: nats: closed in {took:.1?} with {IN_FLIGHT} of {size} bytes in flight and the server frozen, \
             the last task ended {later:.1?} later"
        );
        Ok(())
    })
}

/// What handlers are at then is dropped, listed and not acknowledged; what was handled and cannot be acknowledged keeps nobody
/// waiting.
#[test]
fn with_handlers_under_way_and_the_server_frozen_it_lists_what_they_are_at() -> Result<()> {
    each_size(async |elsewhere, broker, size| {
        let before = tasks();
        let mut frozen = Frozen::connect(&broker).await?;
        frozen.publish(16)?;
        for receipt in frozen.receipts.drain(..) {
            receipt.await?;
        }
        let waiting = Waiting::begin(&frozen.topic).await?;
        freeze(&elsewhere, &broker).await?;
        frozen.publish(size)?;
        waiting.open().await?;
        let (report, took) = frozen.close().await?;
        judge(&report)?;
        let later = none_left(before).await?;
        println!(
            "integration: nats: closed in {took:.1?} with handlers under way, {IN_FLIGHT} of {size} bytes in flight and the \
             server frozen: {} deliveries left, the last task ended {later:.1?} later",
            report.deliveries_left
        );
        Ok(())
    })
}
