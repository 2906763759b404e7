//! The hot path on a real NATS server, counted: a warm publish takes no lock of ours and asks for no memory.
//!
//! The publisher is alone on its thread. Everything it does between the call and the receipt is counted: our
//! stages, handing over to the connection's task, waiting and being woken.
//!
//! The client and our task that feeds it run on another thread, where one count cannot tell them apart. So the
//! client alone is counted there too, sending the same messages with nothing of ours around it: what the bus's
//! thread takes beyond that is ours, and must be nothing. The controls put a lock or an allocation into the path
//! and must be seen.

#[path = "../../verify/bus/hot_path/apart.rs"]
mod apart;
#[path = "../../verify/bus/hot_path/counting.rs"]
mod counting;

use anyhow::{Context, Result, ensure};
use apart::{Elsewhere, Taken, block_on, locking_clock};
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{Client, HeaderMap, Subject, Subscriber};
use bytes::Bytes;
use clearway::nats::Nats;
use clearway::{Bus, PublishError, Receipt, TopicConfig};
use clearway_integration::{Broker, Outside, RawTopic};
use futures_util::StreamExt;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

#[global_allocator]
static COUNTED: counting::Counting = counting::Counting;

const WARM_UP: usize = 320;
const PUBLISHES: usize = 960;
/// How many are enqueued before their receipts are awaited. Divides both.
const PIPELINED: usize = 32;
const PAYLOAD: Bytes = Bytes::from_static(b"one order");

/// What our task may take beyond the client, for each publish: the reply subjects of hundreds are cut from one piece.
const OURS_MAX: f64 = 0.05;

/// How the publisher publishes.
#[derive(Clone, Copy)]
enum Way {
    ByName,
    ByHandle,
    Enqueued,
    /// By handle, with a header: a list that has to be made.
    WithHeader,
}

/// The ways that take nothing.
const CALM: [Way; 3] = [Way::ByName, Way::ByHandle, Way::Enqueued];

/// What a run of publishes came to.
struct Count {
    /// On the publisher's thread.
    ours: Taken,
    /// On the thread of the client and of our task that feeds it.
    connections: Taken,
}

#[test]
fn a_warm_publish_takes_nothing() -> Result<()> {
    let scene = Scene::new(|| ())?;
    for way in CALM {
        let Count { ours, connections } = scene.counted(way)?;
        let alone = scene.client_alone(way.window())?;
        let name = way.name();
        let (together, client) = (per_publish(connections), per_publish(alone));
        say(&format!(
            "hot path on NATS: {name}: {ours} on the publisher's thread ({PUBLISHES} publishes); of our connection's task {:.2} allocations per publish: {together:.2} with the client, {client:.2} the client alone",
            together - client
        ));
        say(&format!(
            "apart: {name}: on the connection's thread {:.2} locks of ours per publish",
            connections.locks as f64 / PUBLISHES as f64
        ));
        ensure!(
            ours == Taken::default(),
            "{name}: {ours} on the hot path of {PUBLISHES} publishes"
        );
        // The client makes a map of headers for each: else it was not that thread where it ran.
        ensure!(client >= 1.0, "{name}: the client was not seen: {alone}");
        ensure!(
            together - client <= OURS_MAX,
            "{name}: {together:.2} allocations per publish with our task, {client:.2} without"
        );
    }
    scene.end()
}

/// The counters see a lock that somebody puts into the path.
#[test]
fn control_a_mutex_in_the_path_is_seen() -> Result<()> {
    let scene = Scene::new(locking_clock())?;
    for way in CALM {
        let ours = scene.counted(way)?.ours;
        let name = way.name();
        say(&format!(
            "control on NATS: a mutex in the clock, {name}: {ours} seen ({PUBLISHES} publishes)"
        ));
        ensure!(
            ours.locks >= PUBLISHES as u64 && ours.allocations == 0,
            "{name}: {ours}"
        );
    }
    scene.end()
}

/// The counters see a publish that allocates.
#[test]
fn control_an_allocation_in_the_path_is_seen() -> Result<()> {
    let scene = Scene::new(|| ())?;
    let Count { ours, connections } = scene.counted(Way::WithHeader)?;
    let beyond = per_publish(connections) - per_publish(scene.client_alone(1)?);
    say(&format!(
        "control on NATS: a header: {ours} seen ({PUBLISHES} publishes), and {beyond:.2} per publish beyond the client on the connection's thread"
    ));
    ensure!(
        ours.allocations >= PUBLISHES as u64 && ours.locks == 0,
        "{ours}"
    );
    ensure!(beyond >= 1.0, "{beyond:.2} beyond the client");
    scene.end()
}

/// A server, a bus on it, and the thread on which the tasks of the bus and of its client run.
struct Scene {
    name: String,
    bus: Bus,
    elsewhere: Elsewhere,
    broker: Broker,
    /// Of the broker and of who looks at it from outside: on no thread that is counted.
    runtime: Runtime,
    /// How many came from the client alone.
    not_ours: AtomicU64,
}

impl Scene {
    /// `clock` is in the path of every publish.
    fn new(clock: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let broker = runtime.block_on(Broker::any())?;
        let elsewhere = Elsewhere::new();
        let bus = elsewhere.connect(Nats::from_url(broker.url())?, clock);
        let name = broker.fresh_name("hot-path");
        block_on(bus.configure(TopicConfig::new(name.as_str())))?;
        Ok(Self {
            name,
            bus,
            elsewhere,
            broker,
            runtime,
            not_ours: AtomicU64::new(0),
        })
    }

    /// Warm publishes, on a publisher's thread of its own.
    fn counted(&self, way: Way) -> Result<Count> {
        let topic = self.bus.raw_topic(&self.name)?;
        let publish = |publishes| published(&self.bus, &topic, way, publishes);
        let (ours, before) = std::thread::scope(|threads| {
            let publisher = threads.spawn(|| {
                // This thread is new: the first few make its thread-locals.
                block_on(publish(WARM_UP))?;
                let before = self.elsewhere.taken();
                Ok::<_, PublishError>((block_on(publish(PUBLISHES))?, before))
            });
            publisher.join().expect("a publisher does not panic")
        })?;
        let connections = self.elsewhere.taken() - before;
        Ok(Count { ours, connections })
    }

    /// What the client takes by itself for the same messages, on the same thread as the bus's.
    fn client_alone(&self, window: usize) -> Result<Taken> {
        let both = (WARM_UP + PUBLISHES) as u64;
        self.not_ours.fetch_add(both, Ordering::Relaxed);
        let (url, subject) = (self.broker.url().to_owned(), format!("{}.0", self.name));
        self.elsewhere.run(async move {
            let mut alone = Alone::connect(&url, subject).await?;
            alone.publish(WARM_UP, window).await?;
            let before = Taken::by_this_thread();
            alone.publish(PUBLISHES, window).await?;
            Ok(Taken::by_this_thread() - before)
        })
    }

    /// Closes the bus, and leaves a server that is others' too as it was. Everything that was published is there.
    fn end(self) -> Result<()> {
        let acked = self.bus.metrics().acked + self.not_ours.load(Ordering::Relaxed);
        let report = block_on(self.bus.close(Duration::from_secs(5)));
        ensure!(report.drained, "{report:?}");
        self.runtime.block_on(async {
            let outside = Outside::of(&self.broker).await?;
            let stored = outside.stored(&self.name).await?;
            ensure!(stored == acked, "{acked} were acked, {stored} are stored");
            outside.delete(&self.name).await
        })
    }
}

/// The client with nothing of ours around it, and one inbox for its acknowledgements as our connection has.
struct Alone {
    client: Client,
    subject: Subject,
    reply: Subject,
    acks: Subscriber,
}

impl Alone {
    async fn connect(url: &str, subject: String) -> Result<Self> {
        let client = async_nats::connect(url).await?;
        let reply = Subject::from(client.new_inbox());
        Ok(Self {
            acks: client.subscribe(reply.clone()).await?,
            subject: subject.into(),
            reply,
            client,
        })
    }

    /// Sends so many with a message id each, and takes their acknowledgements before the next window.
    async fn publish(&mut self, count: usize, window: usize) -> Result<()> {
        for _ in 0..count / window {
            for _ in 0..window {
                let mut id = String::with_capacity(Hyphenated::LENGTH);
                write!(
                    id,
                    "{}",
                    Uuid::from_u128(fastrand::u128(..)).as_hyphenated()
                )?;
                let mut headers = HeaderMap::new();
                headers.insert(NATS_MESSAGE_ID, id);
                let (subject, reply) = (self.subject.clone(), self.reply.clone());
                self.client
                    .publish_with_reply_and_headers(subject, reply, headers, PAYLOAD)
                    .await?;
            }
            for _ in 0..window {
                self.acks.next().await.context("the client has ended")?;
            }
        }
        Ok(())
    }
}

/// Publishes so often, and what the calling thread has taken for that.
async fn published(
    bus: &Bus,
    topic: &RawTopic,
    way: Way,
    publishes: usize,
) -> Result<Taken, PublishError> {
    match way {
        Way::ByName => one_by_one(publishes, || bus.publish(topic.name(), PAYLOAD)).await,
        Way::ByHandle => one_by_one(publishes, || async { topic.publish(&PAYLOAD).await }).await,
        Way::Enqueued => enqueued(topic, publishes).await,
        Way::WithHeader => {
            let publish = || async { topic.publish(&PAYLOAD).header("region", "north").await };
            one_by_one(publishes, publish).await
        }
    }
}

/// Awaits each before the next: from the call to the receipt.
async fn one_by_one<F>(publishes: usize, mut one: impl FnMut() -> F) -> Result<Taken, PublishError>
where
    F: Future<Output = Result<Receipt, PublishError>>,
{
    let before = Taken::by_this_thread();
    for _ in 0..publishes {
        one().await?;
    }
    Ok(Taken::by_this_thread() - before)
}

/// Enqueues a number of them, then awaits their receipts.
async fn enqueued(topic: &RawTopic, publishes: usize) -> Result<Taken, PublishError> {
    let mut receipts = Vec::with_capacity(PIPELINED);
    let before = Taken::by_this_thread();
    for _ in 0..publishes / PIPELINED {
        for _ in 0..PIPELINED {
            let enqueued = topic.publish(&PAYLOAD).enqueue();
            receipts.push(enqueued.map_err(|refused| refused.error)?);
        }
        for receipt in receipts.drain(..) {
            receipt.await?;
        }
    }
    Ok(Taken::by_this_thread() - before)
}

impl Way {
    /// How many are under way at once.
    fn window(self) -> usize {
        match self {
            Self::Enqueued => PIPELINED,
            Self::ByName | Self::ByHandle | Self::WithHeader => 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::ByName => "by name",
            Self::ByHandle => "by handle",
            Self::Enqueued => "enqueued",
            Self::WithHeader => "with a header",
        }
    }
}

/// Allocations for each publish.
fn per_publish(taken: Taken) -> f64 {
    taken.allocations as f64 / PUBLISHES as f64
}

/// Past the test harness, which would keep the output of a test that passes.
fn say(text: &str) {
    // A line for nobody is no reason to fail.
    let _ = writeln!(std::io::stderr(), "integration: {text}");
}
