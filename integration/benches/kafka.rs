//! Rows 9, 11 and 12 on Apache Kafka: the bus beside the client it is built on, in turns against one broker.
//!
//! Four sides publish the same payload, one task each, with the same number in flight: `ThreadedProducer` with bare records and with
//! the bus's header on each, `FutureProducer` with that header, and the bus. Only those with the header have the broker store
//! what the bus stores; the row of the bare one says so. All are idempotent, wait for all copies in sync and linger as long. Every side
//! has a fresh topic in every round, and nothing counts that the broker does not hold in the end.

#[path = "../../benches/baseline/mod.rs"]
mod baseline;
#[path = "../../benches/common/mod.rs"]
mod common;
#[allow(dead_code, reason = "a bench uses a part of the core")]
#[path = "../../benches/publish/lockfree.rs"]
mod lockfree;
#[allow(dead_code, reason = "a bench uses a part of the table")]
#[path = "../../benches/publish/table.rs"]
mod table;
mod turns;
#[path = "jetstream/weather.rs"]
mod weather;

#[path = "kafka/awaited.rs"]
mod awaited;
#[path = "kafka/client.rs"]
mod client;
#[path = "kafka/consuming.rs"]
mod consuming;
#[path = "kafka/idle.rs"]
mod idle;
#[path = "workloads/pace.rs"]
mod pace;
#[path = "kafka/publishing.rs"]
mod publishing;
#[path = "kafka/seats.rs"]
mod seats;
#[path = "kafka/writer.rs"]
mod writer;

use anyhow::Result;
use clearway_integration::KafkaBroker;
use common::median;
use pace::Paced;
use publishing::{Side, Sides};
use table::{Bound, Table, short};
use turns::{BUSY_MAX, Figures, Rounds};

/// How many a side publishes, or reads, in a round.
const ENVELOPES: usize = 200_000;
const PUBLISH_ROUNDS: usize = 5;
const ROUNDS: usize = 3;
/// Bytes of one payload.
const PAYLOAD: usize = 256;
/// How many a side has in flight.
const WINDOW: usize = 4096;
const PARTITIONS: u32 = 4;
/// The bus's, with the batching that it has unless something else is said.
const LINGER_MS: u32 = 5;

#[tokio::main]
async fn main() -> Result<()> {
    let sides = Sides::connect(KafkaBroker::any().await?).await?;
    let mut table = Table::new();
    // One at a time, so that those who look at a few rows need not wait for all.
    let wanted = std::env::var("CLEARWAY_BENCH_ROWS").unwrap_or_default();
    let is_wanted = |row: &str| wanted.is_empty() || wanted.split(',').any(|one| one == row);
    if is_wanted("11") {
        publish(&mut table, &sides).await?;
    }
    if is_wanted("awaited") {
        awaited(&mut table, &sides).await?;
    }
    if is_wanted("consume") {
        consume(&mut table, &sides).await?;
    }
    if is_wanted("idle") {
        idle(&mut table, &sides).await?;
    }
    if is_wanted("9") {
        beside_writer(&mut table, &sides).await?;
    }
    let broker = sides.close().await;
    let no_floor_missed = table.close();
    drop(broker);
    std::process::exit(i32::from(!no_floor_missed));
}

fn weather(table: &mut Table, others: Vec<f64>) {
    let others = median(others);
    table.disturbed(others > BUSY_MAX);
    println!(
        "{:>3} | for what follows: others used {:.0} % of the machine",
        "-",
        others * 100.0
    );
}

/// Rows 11 and 12.
async fn publish(table: &mut Table, sides: &Sides) -> Result<()> {
    let mut others = Vec::new();
    let round = async |side| sides.round(side).await;
    let rounds = Rounds::of(Side::ALL, PUBLISH_ROUNDS, &mut others, round).await?;
    weather(table, others);
    let [bare, threaded, future, bus] = rounds.each(|figures| figures.per_second);
    let [bare_cpu, threaded_cpu, _, bus_cpu] = rounds.each(|figures| figures.cpu_nanos);
    table.value(
        "11",
        "Kafka, bus over ThreadedProducer: throughput",
        rates(threaded, bus),
        bus / threaded,
        Bound::AtLeast(0.95, 0.85),
    );
    table.value(
        "11",
        "Kafka, bus over ThreadedProducer: CPU an envelope",
        nanos(threaded_cpu, bus_cpu),
        bus_cpu / threaded_cpu,
        Bound::AtMost(1.10, 1.20),
    );
    table.value(
        "11",
        "bus over one without headers (the broker does less)",
        rates(bare, bus),
        bus / bare,
        Bound::None,
    );
    table.value(
        "11",
        "the same: CPU an envelope",
        nanos(bare_cpu, bus_cpu),
        bus_cpu / bare_cpu,
        Bound::None,
    );
    table.value(
        "12",
        "Kafka, bus over FutureProducer, pipelined: throughput",
        rates(future, bus),
        bus / future,
        Bound::AtLeast(1.2, 1.0),
    );
    Ok(())
}

async fn awaited(table: &mut Table, sides: &Sides) -> Result<()> {
    let mut others = Vec::new();
    let round = async |side| awaited::round(sides, side).await;
    let rounds = Rounds::of(awaited::Side::ALL, ROUNDS, &mut others, round).await?;
    weather(table, others);
    let [client, low, balanced] = rounds.each(|p50| *p50);
    table.value(
        "-",
        "one awaited, LowLatency: p50, ms",
        format!(
            "client {} ms, Balanced {} ms",
            short(client),
            short(balanced)
        ),
        low,
        Bound::AtMost(awaited::STUCK_MS / 2.0, awaited::STUCK_MS),
    );
    table.value(
        "-",
        "  over FutureProducer with linger.ms=0",
        format!("client {} ms, bus {} ms", short(client), short(low)),
        low / client,
        Bound::None,
    );
    Ok(())
}

async fn consume(table: &mut Table, sides: &Sides) -> Result<()> {
    let topic = consuming::filled(sides).await?;
    let mut others = Vec::new();
    let round = async |reader| consuming::round(sides, &topic, reader).await;
    let rounds = Rounds::of(consuming::Reader::ALL, PUBLISH_ROUNDS, &mut others, round).await?;
    weather(table, others);
    sides.delete(&topic).await?;
    let [client, owning, bus]: [f64; 3] = rounds.each(|figures| figures.per_second);
    let [client_cpu, owning_cpu, bus_cpu] = rounds.each(|figures: &Figures| figures.cpu_nanos);
    table.value(
        "-",
        "Kafka consumed, bus over BaseConsumer: throughput",
        rates(client, bus),
        bus / client,
        Bound::AtLeast(0.95, 0.85),
    );
    table.value(
        "-",
        "  CPU an envelope",
        nanos(client_cpu, bus_cpu),
        bus_cpu / client_cpu,
        Bound::None,
    );
    table.value(
        "-",
        "bus over BaseConsumer that owns what it hands out",
        rates(owning, bus),
        bus / owning,
        Bound::None,
    );
    table.value(
        "-",
        "  CPU an envelope",
        nanos(owning_cpu, bus_cpu),
        bus_cpu / owning_cpu,
        Bound::None,
    );
    Ok(())
}

async fn idle(table: &mut Table, sides: &Sides) -> Result<()> {
    let topic = sides.fresh_topic(PARTITIONS).await?;
    let mut others = Vec::new();
    let round = async |side| idle::round(sides, &topic, side).await;
    let rounds = Rounds::of(idle::Side::ALL, ROUNDS, &mut others, round).await?;
    weather(table, others);
    sides.delete(&topic).await?;
    let [nobody, client, bus] = rounds.each(|used| *used);
    let (client, bus) = (client - nobody, bus - nobody);
    table.value(
        "-",
        "Kafka, nothing to do: CPU, bus over the two clients",
        format!("client {} ms/s, bus {} ms/s", short(client), short(bus)),
        bus / client,
        Bound::AtMost(1.0, 1.5),
    );
    Ok(())
}

/// Row 9.
async fn beside_writer(table: &mut Table, sides: &Sides) -> Result<()> {
    let scene = writer::Scene::new(sides).await?;
    let mut others = Vec::new();
    let round = async |side| scene.round(side).await;
    let rounds = Rounds::of(writer::Side::ALL, ROUNDS, &mut others, round).await?;
    scene.end(sides).await?;
    weather(table, others);
    let [client, locked, core, bus] = rounds.each(|paced: &Paced| paced.p99);
    let sustained = rounds.each(|paced: &Paced| paced.sustained);
    let both = |name: &str, theirs: f64, ours: f64| {
        format!("{name} {} ms, ours {} ms", short(theirs), short(ours))
    };
    table.value(
        "9",
        "Kafka, 100 k/s beside a writer: locked p99 over core's",
        both("locked", locked, core),
        locked / core,
        Bound::AtLeast(4.0, 2.0),
    );
    table.value(
        "9",
        "locked p99 over the bus's, which configures topics",
        both("locked", locked, bus),
        locked / bus,
        Bound::AtLeast(4.0, 2.0),
    );
    table.value(
        "9",
        "the bus's p99 over that of ThreadedProducer alone",
        both("client", client, bus),
        bus / client,
        Bound::AtMost(1.10, 1.5),
    );
    let [client, locked, core, _] = sustained.map(|share| short(share * 100.0));
    table.value(
        "-",
        "  sustained, of 100 k/s",
        format!("client {client} %, locked {locked} %, core {core} %"),
        sustained[3],
        Bound::None,
    );
    Ok(())
}

fn rates(client: f64, bus: f64) -> String {
    let (client, bus) = (short(client / 1e3), short(bus / 1e3));
    format!("client {client} k/s, bus {bus} k/s")
}

fn nanos(client: f64, bus: f64) -> String {
    format!("client {} ns, bus {} ns", short(client), short(bus))
}
