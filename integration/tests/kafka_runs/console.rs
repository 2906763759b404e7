//! Kafka's own console tools read what the bus writes and commits, and the bus reads what they write.

use crate::scene::{GROUP, bus};
use anyhow::{Result, ensure};
use bytes::Bytes;
use clearway::{Delivery, HandlerError, Outcome, TopicConfig};
use clearway_integration::{Kafka, KafkaBroker, KafkaOutside, until};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PARTITIONS: u32 = 6;
const KEYS: usize = 40;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_headers_partitions_offsets_and_lag_agree() -> Result<()> {
    let Some(broker) = KafkaBroker::own(Kafka::default()).await? else {
        return Ok(());
    };
    let outside = KafkaOutside::of(&broker)?;
    let config = TopicConfig::new("orders").partitions(PARTITIONS);
    let bus = bus(&broker)?.topic(config).connect().await?;
    let topic = bus.raw_topic("orders")?;
    for n in 0..KEYS {
        let payload = Bytes::from(format!("bus-{n}"));
        let publish = topic.publish(&payload).key(format!("key-{n}"));
        publish.header("colour", "green").await?;
    }

    // The console's consumer reads keys, headers and payloads.
    let shown = [
        "print.key=true",
        "print.headers=true",
        "print.partition=true",
    ];
    let shown: Vec<_> = shown
        .iter()
        .flat_map(|property| ["--formatter-property", property])
        .collect();
    let read = broker.console_consumer("orders", KEYS, &shown).await?;
    for n in 0..KEYS {
        let end = format!("\tkey-{n}\tbus-{n}");
        let line = read.lines().find(|line| line.ends_with(&end));
        let line = line.unwrap_or_else(|| panic!("{end:?} is not in {read}"));
        ensure!(line.contains("colour:green"), "{line}");
        ensure!(line.contains("clearway-id:"), "{line}");
    }

    // The console's producer, which is Java's, puts every key where the bus has put it.
    let lines: String = (0..KEYS)
        .map(|n| format!("key-{n}\tconsole-{n}\n"))
        .collect();
    let keyed = ["--reader-property", "parse.key=true"];
    broker.console_producer("orders", &lines, &keyed).await?;
    let mut places: BTreeMap<Vec<u8>, Vec<i32>> = BTreeMap::new();
    for one in outside.stored("orders").await? {
        let place = places.entry(one.key.unwrap_or_default()).or_default();
        place.push(one.partition);
    }
    ensure!(places.len() == KEYS, "{places:?}");
    for (key, place) in &places {
        ensure!(
            place.len() == 2 && place[0] == place[1],
            "{key:?}: {place:?}"
        );
    }
    let used: std::collections::BTreeSet<_> = places.values().map(|place| place[0]).collect();
    ensure!(
        used.len() == PARTITIONS as usize,
        "all partitions: {used:?}"
    );

    // The bus handles both, in the order of each key, and its commits are the group's.
    let given: Arc<Mutex<BTreeMap<Bytes, Vec<Bytes>>>> = Arc::default();
    let taken = given.clone();
    let handler = move |delivery: Delivery<Bytes>| {
        let key = delivery.envelope.key.clone().unwrap_or_default();
        let mut taken = taken.lock().expect("nobody panics under it");
        taken
            .entry(key)
            .or_default()
            .push(delivery.envelope.payload.clone());
        async { Ok::<_, HandlerError>(Outcome::Ack) }
    };
    let _runs_until_close = topic.subscribe(GROUP, handler).await?;
    until("nothing is left", async || {
        Ok(outside.left("orders", GROUP).await? == 0)
    })
    .await?;
    for (key, payloads) in &*given.lock().expect("nobody panics under it") {
        let n = String::from_utf8_lossy(key).replace("key-", "");
        ensure!(
            *payloads == [format!("bus-{n}"), format!("console-{n}")],
            "{key:?}: {payloads:?}"
        );
    }
    let described = broker
        .consumer_groups(&["--describe", "--group", GROUP])
        .await?;
    let columns =
        |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
    let rows: Vec<_> = described
        .lines()
        .map(columns)
        .filter(|row| row.get(1).is_some_and(|topic| topic == "orders"))
        .collect();
    ensure!(rows.len() == PARTITIONS as usize, "{described}");
    let ends = outside.ends("orders").await?;
    for row in rows {
        let (_, end) = ends[row[2].parse::<usize>()?];
        let end = end.to_string();
        ensure!(
            row[3] == end && row[4] == end && row[5] == "0",
            "{described}"
        );
    }
    drop(topic);
    let report = bus.close(Duration::from_secs(10)).await;
    ensure!(report.drained && report.deliveries_left == 0, "{report:?}");
    Ok(())
}
