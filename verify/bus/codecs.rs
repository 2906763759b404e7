//! Compression on Kafka: what is sent with each codec comes back as it was, and fewer bytes went over the wire. On librdkafka's mock of a
//! cluster, which keeps batches as they came: it stands for no broker.

use bytes::Bytes;
use clearway::kafka::{Batching, Compression, Kafka, Options};
use clearway::{Bus, ConnectError, Delivery, Ensure, HandlerError, TopicConfig};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

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
        .batching(Batching::Throughput)
        .statistics(Duration::from_millis(100));
    Bus::builder().backend(Kafka::new(options)).connect().await
}

/// Some that each look like themselves, and are worth compressing.
fn values() -> BTreeSet<Bytes> {
    let value = |n| Bytes::from(format!("order {n} ").repeat(SIZE).into_bytes()).slice(..SIZE);
    (0..COUNT).map(value).collect()
}

/// Gives what came, and how many bytes the client has sent.
async fn round(bus: &Bus) -> (BTreeSet<Bytes>, u64) {
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
    let begun = Instant::now();
    loop {
        let client = bus.metrics().client.unwrap_or_default();
        if client.sent >= COUNT as u64 {
            return (came, client.sent_bytes);
        }
        assert!(begun.elapsed() < PATIENCE, "{client:?}");
        sleep(Duration::from_millis(20)).await;
    }
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
        let (came, bytes) = round(&bus).await;
        assert_eq!(came, values(), "{codec:?}");
        let all = (COUNT * SIZE) as u64;
        let is_compressed = bytes < all / 4;
        assert_eq!(
            is_compressed,
            codec != Compression::None,
            "{bytes} of {all} with {codec:?}"
        );
        assert!(bus.close(PATIENCE).await.drained, "{codec:?}");
        println!("{codec:?}: {bytes} bytes sent of {all}");
    }
}
