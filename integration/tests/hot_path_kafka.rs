//! The hot path on a real Kafka, counted: a warm publish takes no lock of ours and asks for no memory beyond what the client does.
//!
//! The publisher is alone on its thread, and hands its envelopes to the client there. So the client alone is counted too, with the same
//! records and nothing of ours around it: it asks for the name of the topic each time, and for its own memory with its own allocator,
//! which is not counted. What the bus's thread takes beyond that is ours, and must be nothing. The controls put a
//! lock or an allocation into the path and must be seen.

#[allow(dead_code, reason = "what runs elsewhere is not counted here")]
#[path = "../../verify/bus/hot_path/apart.rs"]
mod apart;
#[path = "../../verify/bus/hot_path/counting.rs"]
mod counting;

use anyhow::{Result, ensure};
use apart::{Elsewhere, Taken, block_on, locking_clock};
use bytes::Bytes;
use clearway::kafka::{Batching, Kafka, Options};
use clearway::{Bus, TopicConfig};
use clearway_integration::{KafkaBroker, KafkaOutside, RawTopic};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use std::io::Write as _;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};

#[global_allocator]
static COUNTED: counting::Counting = counting::Counting;

const WARM_UP: usize = 320;
const PUBLISHES: usize = 960;
/// How many are enqueued before their receipts are awaited. Divides both.
const PIPELINED: usize = 32;
const PAYLOAD: Bytes = Bytes::from_static(b"one order");
const LIMIT: Duration = Duration::from_secs(10);

/// How the publisher publishes.
#[derive(Clone, Copy, Debug)]
enum Way {
    ByName,
    ByHandle,
    Enqueued,
    /// By handle, with a header: a list that has to be made.
    WithHeader,
}

/// The ways that take nothing.
const CALM: [Way; 3] = [Way::ByName, Way::ByHandle, Way::Enqueued];

#[test]
fn a_warm_publish_takes_nothing_beyond_the_client() -> Result<()> {
    let scene = Scene::new(|| ())?;
    let client = scene.client_alone()?;
    // The name of the topic, for each: else it was not there where it is counted.
    ensure!(
        client.allocations >= PUBLISHES as u64,
        "the client was not seen: {client}"
    );
    for way in CALM {
        let taken = scene.counted(way)?;
        say(&format!(
            "hot path on Kafka: {way:?}: {taken} ({PUBLISHES} publishes); the client alone {client}"
        ));
        ensure!(
            taken.locks == 0 && taken.allocations == client.allocations,
            "{way:?}: {taken} on the hot path of {PUBLISHES} publishes; the client alone {client}"
        );
    }
    scene.end();
    Ok(())
}

#[test]
fn control_a_mutex_in_the_path_is_seen() -> Result<()> {
    let scene = Scene::new(locking_clock())?;
    for way in CALM {
        let taken = scene.counted(way)?;
        ensure!(taken.locks >= PUBLISHES as u64, "{way:?}: {taken}");
    }
    scene.end();
    Ok(())
}

#[test]
fn control_an_allocation_in_the_path_is_seen() -> Result<()> {
    let scene = Scene::new(|| ())?;
    let client = scene.client_alone()?;
    let taken = scene.counted(Way::WithHeader)?;
    ensure!(
        taken.allocations >= client.allocations + PUBLISHES as u64,
        "{taken}; the client alone {client}"
    );
    scene.end();
    Ok(())
}

/// A broker, a bus on it, and the thread on which the bus's tasks run.
struct Scene {
    name: String,
    bus: Bus,
    // The bus's tasks end before their runtime, and that before the broker.
    elsewhere: Elsewhere,
    broker: KafkaBroker,
    runtime: Runtime,
}

impl Scene {
    /// `clock` is in the path of every publish.
    fn new(clock: impl Fn() + Send + Sync + 'static) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let broker = runtime.block_on(KafkaBroker::any())?;
        let elsewhere = Elsewhere::new();
        let options = Options::from_url(&broker.url())?.batching(Batching::LowLatency);
        let bus = elsewhere.connect(Kafka::new(options), clock);
        let name = broker.fresh_name("hot-path");
        block_on(bus.configure(TopicConfig::new(name.as_str()).partitions(1)))?;
        Ok(Self {
            name,
            bus,
            elsewhere,
            broker,
            runtime,
        })
    }

    /// Warm publishes, on a thread of their own.
    fn counted(&self, way: Way) -> Result<Taken> {
        let topic = self.bus.raw_topic(&self.name)?;
        std::thread::scope(|threads| {
            let publisher = threads.spawn(|| {
                // This thread is new: the first few make its thread-locals.
                block_on(publish(&self.bus, &topic, way, WARM_UP))?;
                block_on(publish(&self.bus, &topic, way, PUBLISHES))
            });
            publisher.join().expect("a publisher does not panic")
        })
    }

    /// The same records, by the client alone.
    fn client_alone(&self) -> Result<Taken> {
        let mut config = KafkaOutside::of(&self.broker)?.config();
        let producer: BaseProducer = config.set("acks", "all").create()?;
        send(&producer, &self.name, WARM_UP)?;
        send(&producer, &self.name, PUBLISHES)
    }

    fn end(self) {
        block_on(self.bus.close(LIMIT));
        drop(self.elsewhere);
        self.runtime.block_on(async { drop(self.broker) });
    }
}

fn send(producer: &BaseProducer, topic: &str, count: usize) -> Result<Taken> {
    let payload = PAYLOAD;
    let before = Taken::by_this_thread();
    for _ in 0..count {
        let header = Header {
            key: "clearway-id",
            value: Some("01920000-0000-7000-8000-000000000001"),
        };
        let record = BaseRecord::<[u8], [u8]>::to(topic)
            .payload(&payload[..])
            .partition(0)
            .headers(OwnedHeaders::new_with_capacity(1).insert(header));
        producer.send(record).map_err(|(error, _)| error)?;
    }
    let taken = Taken::by_this_thread() - before;
    producer.flush(LIMIT)?;
    Ok(taken)
}

/// Publishes so often, and what the calling thread has taken for that.
async fn publish(bus: &Bus, topic: &RawTopic, way: Way, publishes: usize) -> Result<Taken> {
    let mut receipts = Vec::with_capacity(PIPELINED);
    let before = Taken::by_this_thread();
    for _ in 0..publishes / PIPELINED {
        for _ in 0..PIPELINED {
            match way {
                Way::ByName => _ = bus.publish(topic.name(), PAYLOAD).await?,
                Way::ByHandle => _ = topic.publish(&PAYLOAD).await?,
                Way::WithHeader => _ = topic.publish(&PAYLOAD).header("region", "north").await?,
                Way::Enqueued => {
                    let enqueued = topic.publish(&PAYLOAD).enqueue();
                    receipts.push(enqueued.map_err(|refused| refused.error)?);
                }
            }
        }
        for receipt in receipts.drain(..) {
            receipt.await?;
        }
    }
    Ok(Taken::by_this_thread() - before)
}

/// Past the test harness, which would keep the output of a test that passes.
fn say(text: &str) {
    // A line for nobody is no reason to fail.
    let _ = writeln!(std::io::stderr(), "integration: {text}");
}
