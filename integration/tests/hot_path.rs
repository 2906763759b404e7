//! The hot path on a real NATS server, counted: a warm publish takes no lock of ours and asks for no memory.
//!
//! The publisher is alone on its thread. Everything it does between the call and the receipt is counted: our
//! stages, handing over to the connection's task, waiting and being woken. The client and our task that
//! feeds it were connected on another thread and run only there; what they take
//! together stands apart: one thread cannot tell our task's share of it from the client's. The controls put a lock or an allocation into the path and must be seen.

#[path = "../../verify/bus/hot_path/apart.rs"]
mod apart;
#[path = "../../verify/bus/hot_path/counting.rs"]
mod counting;

use anyhow::{Result, ensure};
use apart::{Elsewhere, Taken, block_on, locking_clock};
use bytes::Bytes;
use clearway::nats::Nats;
use clearway::{Bus, PublishError, Receipt, TopicConfig};
use clearway_integration::{Broker, Outside, RawTopic};
use std::io::Write;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static COUNTED: counting::Counting = counting::Counting;

const WARM_UP: usize = 320;
const PUBLISHES: usize = 960;
/// How many are enqueued before their receipts are awaited. Divides both.
const PIPELINED: usize = 32;
const PAYLOAD: Bytes = Bytes::from_static(b"one order");

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
    clients: Taken,
}

#[test]
fn a_warm_publish_takes_nothing() -> Result<()> {
    let scene = Scene::new(|| ())?;
    for way in CALM {
        let Count { ours, clients } = scene.counted(way)?;
        let name = way.name();
        say(&format!(
            "hot path on NATS: {name}: {ours} on the publisher's thread ({PUBLISHES} publishes); our connection's task and the client together: {} allocations per publish",
            per_publish(clients.allocations)
        ));
        say(&format!(
            "apart: {name}: on the client's thread, where our task runs that feeds it: {} locks of ours per publish",
            per_publish(clients.locks)
        ));
        ensure!(
            ours == Taken::default(),
            "{name}: {ours} on the hot path of {PUBLISHES} publishes"
        );
        // The client makes a map of headers for each: else it was not that thread where it ran.
        ensure!(
            clients.allocations >= PUBLISHES as u64,
            "{name}: the client was not seen: {clients}"
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
    let ours = scene.counted(Way::WithHeader)?.ours;
    say(&format!(
        "control on NATS: a header: {ours} seen ({PUBLISHES} publishes)"
    ));
    ensure!(
        ours.allocations >= PUBLISHES as u64 && ours.locks == 0,
        "{ours}"
    );
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
        let clients = self.elsewhere.taken() - before;
        Ok(Count { ours, clients })
    }

    /// Closes the bus, and leaves a server that is others' too as it was. Everything that was published is there.
    fn end(self) -> Result<()> {
        let acked = self.bus.metrics().acked;
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
    fn name(self) -> &'static str {
        match self {
            Self::ByName => "by name",
            Self::ByHandle => "by handle",
            Self::Enqueued => "enqueued",
            Self::WithHeader => "with a header",
        }
    }
}

fn per_publish(count: u64) -> String {
    format!("{:.2}", count as f64 / PUBLISHES as f64)
}

/// Past the test harness, which would keep the output of a test that passes.
fn say(text: &str) {
    // A line for nobody is no reason to fail.
    let _ = writeln!(std::io::stderr(), "integration: {text}");
}
