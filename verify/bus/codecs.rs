//! Compression on Kafka: what is sent with each codec comes back as it was, and fewer bytes are kept. On librdkafka's mock of a cluster,
//! which keeps batches as they came and gives them out so: it stands for no broker.

#![cfg(feature = "kafka")]

use bytes::Bytes;
use clearway::kafka::{Batching, Compression, Kafka, Options};
use clearway::{Bus, ConnectError, Delivery, Ensure, HandlerError, TopicConfig};
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, ClientContext, Offset, Statistics, TopicPartitionList};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

const TOPIC: &str = "orders";
const COUNT: usize = 64;
const SIZE: usize = 4096;
/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

type Cluster = MockCluster<'static, DefaultProducerContext>;

/// Those that are built in, and whether one is.
fn codecs() -> [(Compression, bool); 5] {
    [
        (Compression::None, true),
        (Compression::Lz4, true),
        (Compression::Snappy, true),
        (Compression::Gzip, cfg!(feature = "kafka-gzip")),
        (Compression::Zstd, cfg!(feature = "kafka-zstd")),
    ]
}

async fn connect(cluster: &Cluster, codec: Compression) -> Result<Bus, ConnectError> {
    let options = Options::from_url(&format!("kafka://{}", cluster.bootstrap_servers()))?
        .compression(codec)
        .batching(Batching::Throughput);
    Bus::builder().backend(Kafka::new(options)).connect().await
}

/// Some that each look like themselves, and are worth compressing.
fn values() -> BTreeSet<Bytes> {
    let value = |n| Bytes::from(format!("order {n} ").repeat(SIZE).into_bytes()).slice(..SIZE);
    (0..COUNT).map(value).collect()
}

/// How many records a plain client has received, and how many bytes it took.
#[derive(Default)]
struct Received(Mutex<(i64, u64)>);

impl ClientContext for Received {
    fn stats(&self, statistics: Statistics) {
        let bytes = statistics.brokers.values().map(|broker| broker.rxbytes);
        *self.0.lock().expect("not poisoned") = (statistics.rxmsgs, bytes.sum());
    }
}

impl ConsumerContext for Received {}

/// How many bytes a plain client receives that reads all of it. Blocks.
fn received(servers: &str) -> u64 {
    let client: BaseConsumer<Received> = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "plain")
        .set("statistics.interval.ms", "100")
        .create_with_context(Received::default())
        .expect("a client");
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(TOPIC, 0, Offset::Beginning)
        .expect("a place");
    client.assign(&all).expect("it is taken");
    let begun = Instant::now();
    loop {
        let _ = client.poll(Duration::from_millis(20));
        let (records, bytes) = *client.context().0.lock().expect("not poisoned");
        if records >= COUNT as i64 {
            return bytes;
        }
        assert!(begun.elapsed() < PATIENCE, "{records} of {COUNT}");
    }
}

/// Gives what came.
async fn round(bus: &Bus) -> BTreeSet<Bytes> {
    let topic = TopicConfig::new(TOPIC).ensure(Ensure::Skip);
    bus.configure(topic).await.expect("it is there");
    let topic = bus.raw_topic(TOPIC).expect("configured");
    let (tell, mut told) = mpsc::unbounded_channel();
    let handler = move |delivery: Delivery<Bytes>| {
        let told = tell.send(delivery.value.clone());
        async move { Ok::<_, HandlerError>(told?) }
    };
    let _runs_until_close = (topic.subscription("audit").handler(handler).await).expect("a group");
    let sent = values()
        .into_iter()
        .map(|value| topic.publish(&value).enqueue());
    let sent: Vec<_> = sent.collect::<Result<_, _>>().expect("there is room");
    for receipt in sent {
        receipt.await.expect("stored");
    }
    let mut came = BTreeSet::new();
    while came.len() < COUNT {
        let value = timeout(PATIENCE, told.recv()).await.expect("it comes");
        came.insert(value.expect("the handler is there"));
    }
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_with_each_codec_comes_back_as_it_was() {
    for (codec, is_built_in) in codecs() {
        let cluster = Cluster::new(1).expect("a cluster in this process");
        cluster.create_topic(TOPIC, 1, 1).expect("a topic");
        let connected = connect(&cluster, codec).await;
        if !is_built_in {
            let refused = matches!(connected, Err(ConnectError::Config { .. }));
            assert!(refused, "{codec:?}: {connected:?}");
            continue;
        }
        let bus = connected.expect("a mock answers");
        assert_eq!(round(&bus).await, values(), "{codec:?}");
        let servers = cluster.bootstrap_servers();
        let bytes = spawn_blocking(move || received(&servers)).await;
        let bytes = bytes.expect("no panic");
        let all = (COUNT * SIZE) as u64;
        let is_compressed = bytes < all / 4;
        assert_eq!(
            is_compressed,
            codec != Compression::None,
            "{bytes} of {all} with {codec:?}"
        );
        assert!(bus.close(PATIENCE).await.drained, "{codec:?}");
        println!("{codec:?}: {bytes} bytes of {all}");
    }
}
