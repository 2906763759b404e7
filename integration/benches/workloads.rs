//! Workloads, on Kafka and NATS, by the bus and by the client alone in the same run; and row 17.
//!
//! A: five topics of three partitions, 50 to 1,000 aggregates with 500 to 10,000 envelopes, from the first send to the last receive.
//! B: five topics, envelopes of 108 bytes. C: a thousand publishers with 100,000 envelopes a second in total, and how late each answer is
//! after the time at which its envelope was meant to be sent. Loss, order and duplicates are checked in all of them,
//! at the consumer in A and B and in the log in C; and the check is checked first.

#[path = "../../benches/common/mod.rs"]
mod common;
#[allow(dead_code, reason = "a bench uses a part of the table")]
#[path = "../../benches/publish/table.rs"]
mod table;
mod turns;
#[path = "jetstream/weather.rs"]
mod weather;

#[allow(dead_code, reason = "a bench uses a part of it")]
#[path = "kafka/client.rs"]
mod client;
#[path = "workloads/count.rs"]
mod count;
#[path = "workloads/journey.rs"]
mod journey;
#[path = "workloads/on_kafka.rs"]
mod on_kafka;
#[path = "workloads/on_nats.rs"]
mod on_nats;
#[path = "workloads/pace.rs"]
mod pace;
#[path = "kafka/seats.rs"]
mod seats;

use anyhow::Result;
use bytes::Bytes;
use clearway_integration::{Broker, KafkaBroker};
use common::median;
use count::Wrongs;
use journey::Ran;
use on_kafka::OnKafka;
use on_nats::OnNats;
use pace::{Pace, Paced};
use std::time::Duration;
use table::{Bound, Table, short};
use turns::{BUSY_MAX, Rounds};

const ROUNDS: usize = 3;

/// What A and B are made of.
#[derive(Clone, Copy, Debug)]
struct Shape {
    name: &'static str,
    topics: usize,
    partitions: u32,
    keys: usize,
    envelopes: usize,
    /// Bytes of a payload.
    size: usize,
    /// How many are under way.
    window: usize,
}

const SMALL: Shape = Shape {
    name: "A, 50 aggregates, 500 envelopes",
    topics: 5,
    partitions: 3,
    keys: 50,
    envelopes: 500,
    size: 256,
    window: 1024,
};
const LARGE: Shape = Shape {
    name: "A, 1,000 aggregates, 10,000 envelopes",
    keys: 1000,
    envelopes: 10_000,
    ..SMALL
};
const SHORT: Shape = Shape {
    name: "B, 108 bytes, 50,000 envelopes",
    partitions: 1,
    envelopes: 50_000,
    size: 108,
    ..SMALL
};

/// Of C.
const PACE: Pace = Pace {
    publishers: 1000,
    every: Duration::from_millis(10),
    each: 200,
};
/// The same before anything counts.
const WARM_UP: Pace = Pace { each: 30, ..PACE };
const PACED_PARTITIONS: u32 = 4;
const PACED_SIZE: usize = 256;

/// Who does the work.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Bus,
}

const SIDES: [Side; 2] = [Side::Client, Side::Bus];

/// The aggregate of that number.
fn key_of(whose: usize) -> Bytes {
    format!("aggregate-{whose}").into()
}

impl Shape {
    /// For each topic: enough that every consumer of it is at work.
    fn warm_ups(&self) -> usize {
        32 * self.partitions as usize
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    count::control()?;
    let mut table = Table::new();
    let kafka = OnKafka::connect(KafkaBroker::any().await?).await?;
    for shape in [SMALL, LARGE, SHORT] {
        let mut others = Vec::new();
        let round = async |side| kafka.journey(side, &shape).await;
        let rounds = Rounds::of(SIDES, ROUNDS, &mut others, round).await?;
        tell_journey(&mut table, "Kafka", &shape, &rounds, median(others));
    }
    let mut others = Vec::new();
    let rounds = Rounds::of(SIDES, ROUNDS, &mut others, async |side| {
        kafka.paced(side).await
    });
    let rounds = rounds.await?;
    tell_paced(&mut table, "Kafka", &rounds, median(others));
    drop(kafka.close().await);

    let nats = OnNats::connect(Broker::any().await?).await?;
    for shape in [SMALL, LARGE, SHORT] {
        let mut others = Vec::new();
        let round = async |side| nats.journey(side, &shape).await;
        let rounds = Rounds::of(SIDES, ROUNDS, &mut others, round).await?;
        tell_journey(&mut table, "NATS", &shape, &rounds, median(others));
    }
    let mut others = Vec::new();
    let rounds = Rounds::of(SIDES, ROUNDS, &mut others, async |side| {
        nats.paced(side).await
    });
    let rounds = rounds.await?;
    tell_paced(&mut table, "NATS", &rounds, median(others));
    let broker = nats.close().await;
    let no_floor_missed = table.close();
    drop(broker);
    std::process::exit(i32::from(!no_floor_missed));
}

fn tell_journey(
    table: &mut Table,
    broker: &str,
    shape: &Shape,
    rounds: &Rounds<Ran, 2>,
    others: f64,
) {
    table.disturbed(others > BUSY_MAX);
    let [client, bus] = rounds.each(|ran| ran.took.as_secs_f64() * 1e3);
    let rate = |ms: f64| short(shape.envelopes as f64 / ms);
    let name = format!("{broker} {}", shape.name);
    let figures = format!(
        "client {} ms {} k/s, bus {} ms {} k/s",
        short(client),
        rate(client),
        short(bus),
        rate(bus)
    );
    table.value("A/B", &name, figures, client / bus, Bound::None);
    let wrongs = |side: usize| rounds.0[side].iter().map(|ran| ran.wrongs);
    tell_wrongs(table, wrongs(0).chain(wrongs(1)));
}

/// Row 17.
fn tell_paced(table: &mut Table, broker: &str, rounds: &Rounds<(Paced, Wrongs), 2>, others: f64) {
    table.disturbed(others > BUSY_MAX);
    let [client, bus] = rounds.each(|(paced, _)| paced.sustained);
    let share = |share: f64| short(share * 100.0);
    // On NATS it is aimed at, and the server's files say whether it can be.
    let floor = if broker == "Kafka" { 0.98 } else { 0.0 };
    table.value(
        "17",
        &format!("{broker} C, 1,000 publishers: sustained of 100 k/s"),
        format!("client {} %, bus {} %", share(client), share(bus)),
        bus,
        Bound::AtLeast(0.98, floor),
    );
    let [client, bus] = rounds.each(|(paced, _)| paced.p99);
    let [client_50, bus_50] = rounds.each(|(paced, _)| paced.p50);
    table.value(
        "C",
        "  p99 from the intended send time, bus over client",
        format!(
            "client {}, p50 {} ms; bus {}, p50 {} ms",
            short(client),
            short(client_50),
            short(bus),
            short(bus_50)
        ),
        bus / client,
        Bound::None,
    );
    let wrongs = |side: usize| rounds.0[side].iter().map(|(_, wrongs)| *wrongs);
    tell_wrongs(table, wrongs(0).chain(wrongs(1)));
}

/// Of all rounds of both sides. However busy the machine is, there must be none.
fn tell_wrongs(table: &mut Table, wrongs: impl Iterator<Item = Wrongs>) {
    let all = wrongs.fold(Wrongs::default(), |all, one| all + one);
    table.disturbed(false);
    table.value(
        "-",
        "  wrong in all rounds, client and bus",
        all.to_string(),
        all.sum() as f64,
        Bound::AtMost(0.0, 0.0),
    );
}
