//! The consume path beside what it replaces or is bounded by: one table, every ratio from one run.
//!
//! Rows 15 and 16 are the parts (keyed dispatch, commit tracking); the others are a whole subscription on the memory broker:
//! how it scales with handlers that wait, what it does with handlers that do nothing, and what it keeps in memory.
//! Read the ratios; figures by second differ between machines.

#[path = "../verify/bus/hot_path/alone.rs"]
mod alone;
#[path = "common/mod.rs"]
mod common;
#[path = "../verify/bus/hot_path/counting.rs"]
mod counting;
#[path = "consume/journey.rs"]
mod journey;
mod lane;
#[path = "consume/memory.rs"]
mod memory;
#[allow(dead_code, reason = "a bench uses a part of the table")]
#[path = "publish/table.rs"]
mod table;
mod watermark;

use common::{in_turns, median};
use counting::Counting;
use table::{Bound, Table, short};

#[global_allocator]
static COUNTED: Counting = Counting;

const ROUNDS: usize = 7;

fn main() {
    let mut table = Table::new();
    disturbed(&mut table);
    dispatched(&mut table);
    tracked(&mut table);
    scaled(&mut table);
    journeyed(&mut table);
    kept(&mut table);
    let no_floor_missed = table.close();
    std::process::exit(i32::from(!no_floor_missed));
}

/// Whether others are at work here.
fn disturbed(table: &mut Table) {
    let spin = |_: usize, operations: u64| {
        for n in 0..operations {
            std::hint::black_box(n);
        }
    };
    in_turns(ROUNDS, 2, &[&spin]);
    table.disturbed(common::was_disturbed());
}

/// Row 15.
fn dispatched(table: &mut Table) {
    let lane::Dispatched { ours, channel } = lane::dispatched(ROUNDS);
    let figures = format!(
        "mpsc {} M/s, ours {} M/s",
        short(channel / 1e6),
        short(ours / 1e6)
    );
    table.value(
        "15",
        "keyed dispatch, 1000 keys, over a tokio channel",
        figures,
        ours / channel,
        Bound::AtLeast(1.5, 1.0),
    );
}

/// Row 16.
fn tracked(table: &mut Table) {
    let (ring, tree) = watermark::contenders();
    for (threads, metric) in [
        (1, "commit tracker, 4096 in flight, over a locked tree"),
        (2, "the same, a partition for each of 2 threads"),
    ] {
        let figures = in_turns(ROUNDS, threads, &[&ring, &tree]);
        table.ratio(
            "16",
            metric,
            figures[1],
            figures[0],
            Bound::AtLeast(5.0, 2.0),
        );
    }
}

/// A handler that waits: so many at a time are so many times as fast.
fn scaled(table: &mut Table) {
    let one = median((0..3).map(|_| journey::waiting(1)).collect());
    for handlers in [8, 16, 32] {
        let many = median((0..3).map(|_| journey::waiting(handlers)).collect());
        let figures = format!("{} /s, one alone {} /s", short(many), short(one));
        table.value(
            "17",
            &format!("a handler of 2 ms, {handlers} at a time, over linear"),
            figures,
            many / (one * handlers as f64),
            Bound::AtLeast(0.9, 0.7),
        );
    }
}

/// A handler that does nothing, over the whole way.
fn journeyed(table: &mut Table) {
    let rounds: Vec<_> = (0..ROUNDS).map(|_| journey::handled()).collect();
    let of = |figure: fn(&journey::Handled) -> f64| median(rounds.iter().map(figure).collect());
    let (ours, alone) = (of(|round| round.bus), of(|round| round.broker));
    let figures = format!(
        "broker alone {} k/s, handled {} k/s",
        short(alone / 1e3),
        short(ours / 1e3)
    );
    table.value(
        "18",
        "1000 keys on memory, handled, over the broker alone",
        figures,
        ours / alone,
        Bound::None,
    );
}

/// What a subscription keeps.
fn kept(table: &mut Table) {
    const MIB: f64 = (1 << 20) as f64;
    let stuck = memory::stuck();
    let figures = format!(
        "{} MiB more, {} MiB may be in flight",
        short(stuck.more as f64 / MIB),
        short(stuck.in_flight as f64 / MIB)
    );
    table.value(
        "19",
        "MiB over those in flight, 1,000,000 waiting, stuck",
        figures,
        (stuck.more as f64 - stuck.in_flight as f64) / MIB,
        Bound::AtMost(32.0, 32.0),
    );
    let keys = memory::distinct_keys();
    table.value(
        "20",
        "lanes over their bound, 1,000,000 distinct keys",
        format!("{} at most, of {}", keys.lanes, keys.bound),
        keys.lanes as f64 / keys.bound as f64,
        Bound::AtMost(1.0, 1.0),
    );
    table.value(
        "20",
        "MiB more after them than before",
        format!("{} envelopes handled", keys.handled),
        keys.more as f64 / MIB,
        Bound::AtMost(32.0, 32.0),
    );
}
