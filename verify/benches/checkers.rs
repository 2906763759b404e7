//! The checkers at full size: a history of a million events, read from its file and judged, and fifty thousand concurrent calls that must have
//! a sequential explanation. Each is measured on something that holds, and then has to find the one thing that does not.
//!
//! `cargo bench -p clearway-verify --bench checkers`. Each figure is of one pass, by the clock on the wall: what a person waits for.

#[path = "checkers/calls.rs"]
mod calls;
#[path = "checkers/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "every bench takes what it needs")]
#[path = "../../benches/publish/table.rs"]
mod table;

use clearway_verify::check::{self, Property};
use clearway_verify::history::{self, Event, History};
use clearway_verify::linear::{self, Answer};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use table::{Bound, Table};

const EVENTS: u64 = 1_000_000;
const OPERATIONS: usize = 50_000;
const KEYS: u32 = 64;
const SEED: u64 = 17;

fn main() {
    let mut table = Table::new();
    of_a_history(&mut table);
    of_calls(&mut table);
    let no_floor_missed = table.close();
    std::process::exit(i32::from(!no_floor_missed));
}

/// Nothing but the file is there before: what the process needs at its highest is what reading and judging need.
fn of_a_history(table: &mut Table) {
    let folder = tempfile::tempdir().expect("a folder for the history");
    let path = folder.path().join("run.jsonl");
    cluster::record(&path, EVENTS, SEED).expect("the history can be written");
    let bytes = fs::metadata(&path).expect("it is there").len();
    let before = highest_memory();

    let begun = Instant::now();
    let verdict = check::file(&path).expect("what was recorded is a history");
    let seconds = begun.elapsed().as_secs_f64();
    println!("{verdict}");
    assert!(verdict.is_ok());
    let counts = &verdict.counts;
    // What is easy to judge would say little.
    assert!(counts.events >= EVENTS && counts.duplicates.len() >= 4 && counts.commits > 10_000);
    let figures = format!(
        "{} events, {} MB of file, {:.0} events/s",
        counts.events,
        bytes / 1_000_000,
        counts.events as f64 / seconds
    );
    let name = "a history of 1,000,000 events judged, seconds";
    table.value("1", name, figures, seconds, Bound::AtMost(10.0, 10.0));
    match highest_memory() {
        Some(kib) => {
            let figures = format!("VmHWM, {} MiB before", before.unwrap_or(0) / 1024);
            let name = "memory for that at its highest, MiB";
            let mib = kib as f64 / 1024.0;
            table.value("2", name, figures, mib, Bound::AtMost(1024.0, 1024.0));
        }
        None => table.absent(
            "2",
            "memory for that at its highest",
            "no /proc/self/status",
        ),
    }
    let found = one_violation(&path);
    let name = "one violation in the million, of 3 kinds: found";
    let figures = format!("{found} of 3, and nothing else");
    table.value(
        "3",
        name,
        figures,
        f64::from(found),
        Bound::AtLeast(3.0, 3.0),
    );
}

/// Spoils one delivery in the middle of the history, in three ways, and counts the ways that are found for what they are.
fn one_violation(path: &Path) -> u32 {
    let mut history = history::read(path).expect("it was read before");
    let (deliver, settle) = in_the_middle(&history);
    let mut found = 0;
    let mut judged = |history: &mut History, property: Property| {
        let lines = history.entries.iter_mut().zip(2..);
        lines.for_each(|(entry, line)| entry.line = line);
        let verdict = check::history(history);
        let is_it = |v: &check::Violation| v.property == property;
        match verdict.violations.iter().all(is_it) && verdict.total() == 1 {
            true => found += 1,
            false => println!("{property} in the million: {verdict}"),
        }
    };
    // Nobody settles what was not delivered, so the end goes too.
    let pair = [settle, deliver].map(|at| history.entries.remove(at));
    judged(&mut history, Property::Lost);
    for (at, entry) in [(deliver, 1), (settle, 0)] {
        history.entries.insert(at, pair[entry].clone());
    }
    let again = pair.iter().rev().cloned().map(|mut entry| {
        entry.at = pair[0].at;
        entry
    });
    history.entries.splice(settle + 1..settle + 1, again);
    judged(&mut history, Property::Duplicate);
    history.entries.drain(settle + 1..settle + 3);
    let Event::Deliver(delivered) = &pair[1].event else {
        unreachable!("it was chosen for that")
    };
    let id = delivered.id.clone();
    let acked = history.entries.iter().rposition(
        |entry| matches!(&entry.event, Event::Acked(acked) if cluster::id_of(acked.op) == id),
    );
    history
        .entries
        .remove(acked.expect("it was chosen for that"));
    judged(&mut history, Property::OutcomeMissing);
    found
}

/// The first delivery after the middle that is its envelope's only one of that group, and that its handler acknowledged; and where it did.
fn in_the_middle(history: &History) -> (usize, usize) {
    let entries = &history.entries;
    let middle = entries.len() / 2;
    let deliveries = entries.iter().enumerate().skip(middle);
    let mut deliveries = deliveries.filter_map(|(at, entry)| match &entry.event {
        Event::Deliver(deliver) => Some((at, deliver)),
        _ => None,
    });
    let only = deliveries.find(|(_, deliver)| {
        let is_it = |entry: &&history::Entry| match &entry.event {
            Event::Deliver(other) => (&other.id, &other.group) == (&deliver.id, &deliver.group),
            Event::Resend(resend) => resend.id.as_ref() == Some(&deliver.id),
            Event::Unknown(unknown) => cluster::id_of(unknown.op) == deliver.id,
            _ => false,
        };
        entries.iter().filter(is_it).count() == 1
    });
    let (deliver, delivered) = only.expect("most are delivered once");
    let settle = entries
        .iter()
        .skip(deliver)
        .position(|entry| match &entry.event {
            Event::Settle(settle) => {
                (settle.subscription, settle.partition, settle.position)
                    == (
                        delivered.subscription,
                        delivered.partition,
                        delivered.position,
                    )
            }
            _ => false,
        });
    (deliver, deliver + settle.expect("it was settled"))
}

fn of_calls(table: &mut Table) {
    let within = Duration::from_secs(60);
    let mut calls = calls::of_registers(OPERATIONS, KEYS, SEED);
    let check = |calls: &[calls::RegisterCall]| {
        let begun = Instant::now();
        let answer = linear::check_by_key(&calls::Register(0), calls, calls::key, within);
        (answer, begun.elapsed().as_secs_f64())
    };
    let (answer, seconds) = check(&calls);
    assert_eq!(answer, Answer::Linear);
    let figures = format!(
        "{} keys, {:.0} operations/s",
        KEYS,
        OPERATIONS as f64 / seconds
    );
    let name = "50,000 concurrent calls linearized, seconds";
    table.value("4", name, figures, seconds, Bound::AtMost(1.0, 1.0));
    calls::spoil(&mut calls);
    let (answer, seconds) = check(&calls);
    assert!(matches!(answer, Answer::Broken(_)), "{answer:?}");
    let name = "a stale read among them found, seconds";
    table.value("5", name, String::new(), seconds, Bound::AtMost(1.0, 1.0));
}

/// What this process has had in memory at most, in KiB, where the system says.
fn highest_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
