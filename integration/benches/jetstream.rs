//! Rows 11 and 21: the bus on NATS JetStream beside the client it is built on, in turns against one server.
//!
//! Three sides publish the same payload, one task each, with the same number in flight: the client
//! without message ids, the client with an id on every message, and the bus.
//!
//! An id costs the server something: it looks it up among those of the stream's duplicate window, and
//! remembers it. The bus always sends one, because that is how an envelope that is sent again after a
//! reconnect is recognised. So only the rows `with ids` compare two clients that ask the same of the
//! server; in the row `without ids` the bus asks for more. Both are printed, so that neither is taken for the
//! other. Every side has a fresh stream of the same settings in every round (the bus makes them
//! all), in files, of one partition; nothing counts that the server does not hold in the end.

#[path = "../../benches/common/mod.rs"]
mod common;
#[path = "jetstream/consuming.rs"]
mod consuming;
#[path = "jetstream/sides.rs"]
mod sides;
#[allow(dead_code, reason = "a bench uses a part of the table")]
#[path = "../../benches/publish/table.rs"]
mod table;
mod turns;
#[path = "jetstream/weather.rs"]
mod weather;

use anyhow::Result;
use clearway_integration::Broker;
use common::median;
use sides::{Side, Sides};
use table::{Bound, Table, short};
use turns::{BUSY_MAX, Figures, Rounds};

/// How many a side publishes in a round.
const ENVELOPES: usize = 100_000;
const ROUNDS: usize = 5;
/// Bytes of one payload.
const PAYLOAD: usize = 256;
/// How many a side has in flight.
const WINDOW: usize = 1024;

#[tokio::main]
async fn main() -> Result<()> {
    let broker = Broker::any().await?;
    let sides = Sides::connect(&broker).await?;
    let mut others = Vec::new();
    let publish = async |side| sides.round(side).await;
    let rounds = Rounds::of(Side::ALL, ROUNDS, &mut others, publish).await?;
    let mut reads = [const { Vec::new() }; 3];
    for round in 0..ROUNDS {
        others.push(weather::busy().await);
        let all = consuming::round(&sides, round).await?;
        for (reads, figures) in reads.iter_mut().zip(all) {
            reads.push(figures);
        }
    }
    sides.close().await;
    let no_floor_missed = tell(&rounds, &Rounds(reads), median(others));
    drop(broker);
    std::process::exit(i32::from(!no_floor_missed));
}

/// The rows. Says whether no floor was missed.
fn tell(rounds: &Rounds<Figures, 3>, reads: &Rounds<Figures, 3>, others: f64) -> bool {
    let [raw, with_id, bus] = rounds.each(|figures| figures.per_second);
    let [raw_cpu, with_id_cpu, bus_cpu] = rounds.each(|figures| figures.cpu_nanos);
    let mut table = Table::new();
    table.disturbed(others > BUSY_MAX);
    let throughput = |client: f64| {
        format!(
            "client {} k/s, bus {} k/s",
            short(client / 1e3),
            short(bus / 1e3)
        )
    };
    let cpu = |client: f64| format!("client {} ns, bus {} ns", short(client), short(bus_cpu));
    table.value(
        "11",
        "JetStream, bus over client with ids: throughput",
        throughput(with_id),
        bus / with_id,
        Bound::AtLeast(0.9, 0.85),
    );
    table.value(
        "11",
        "JetStream, client with ids over bus: CPU an envelope",
        cpu(with_id_cpu),
        with_id_cpu / bus_cpu,
        Bound::AtLeast(1.0, 0.83),
    );
    table.value(
        "11",
        "bus over client without ids (the server does less)",
        throughput(raw),
        bus / raw,
        Bound::AtLeast(0.9, 0.85),
    );
    table.value(
        "11",
        "JetStream, client without ids over bus: CPU an envelope",
        cpu(raw_cpu),
        raw_cpu / bus_cpu,
        Bound::AtLeast(1.0, 0.83),
    );
    tell_reads(&mut table, reads);
    println!(
        "{:>3} | others used {:.0} % of the machine meanwhile",
        "-",
        others * 100.0
    );
    table.close()
}

/// Row 21.
fn tell_reads(table: &mut Table, reads: &Rounds<Figures, 3>) {
    let [client, pinned, bus] = reads.each(|figures| figures.per_second);
    let [client_cpu, pinned_cpu, bus_cpu] = reads.each(|figures| figures.cpu_nanos);
    let rates = |client: f64| {
        let (client, bus) = (short(client / 1e3), short(bus / 1e3));
        format!("client {client} k/s, bus {bus} k/s")
    };
    let cpu = |client: f64| format!("client {} ns, bus {} ns", short(client), short(bus_cpu));
    table.value(
        "21",
        "JetStream consumed, ack each, bus over client with pins",
        rates(pinned),
        bus / pinned,
        Bound::AtLeast(0.9, 0.7),
    );
    table.value(
        "21",
        "the same, client with pins over bus: CPU an envelope",
        cpu(pinned_cpu),
        pinned_cpu / bus_cpu,
        Bound::None,
    );
    table.value(
        "21",
        "bus over client without pins (the server does less)",
        rates(client),
        bus / client,
        Bound::AtLeast(0.9, 0.7),
    );
    table.value(
        "21",
        "the same, client without pins over bus: CPU an envelope",
        cpu(client_cpu),
        client_cpu / bus_cpu,
        Bound::None,
    );
}
