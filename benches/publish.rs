//! The publish path beside the locked bus it replaces: one table, every ratio from one run.
//!
//! The core of a publish is what locks were about: is it open, over which connection, to which topic, count it. The
//! whole journey (envelope, credit, ledger, queue, broker, wake-ups) is printed beside it, because
//! there the locks are a small part. Read the ratios; nanoseconds differ between machines.

#[path = "baseline/mod.rs"]
mod baseline;
#[path = "common/mod.rs"]
mod common;
#[path = "../verify/bus/hot_path/counting.rs"]
mod counting;
#[path = "publish/instructions.rs"]
mod instructions;
#[path = "publish/journey.rs"]
mod journey;
#[path = "publish/lockfree.rs"]
mod lockfree;
#[path = "publish/stall.rs"]
mod stall;
#[path = "publish/table.rs"]
mod table;

use baseline::{LockedBus, TopicOptions};
use clearway::protocol::sync::locks_taken;
use common::{Work, in_turns};
use counting::allocations;
use lockfree::{LockFreeBus, TopicHandle};
use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, LazyLock, Mutex, RwLock};
use std::time::Duration;
use table::{Bound, Table, short};

#[global_allocator]
static COUNTED: counting::Counting = counting::Counting;

const TOPICS: usize = 100;
const SIZE: usize = 320;
const ROUNDS: usize = 11;

/// Both buses with the same topics, and what is looked up by itself.
struct Cast {
    names: Vec<String>,
    handles: Vec<TopicHandle<u64>>,
    ours: LockFreeBus<u64>,
    locked: LockedBus<u64>,
    mutex_map: Mutex<HashMap<Arc<str>, u64>>,
    rwlock_map: RwLock<HashMap<Arc<str>, u64>>,
    rwlock_same_hasher: RwLock<HashMap<Arc<str>, u64, foldhash::fast::FixedState>>,
}

static CAST: LazyLock<Cast> = LazyLock::new(Cast::new);

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    if let [_, flag, way, count] = &arguments[..]
        && flag == instructions::FLAG
    {
        return only_publish(way, count.parse().expect("a count"));
    }
    let mut table = Table::new();
    lookups(&mut table);
    cores(&mut table);
    writers(&mut table);
    saturated(&mut table);
    counted(&mut table);
    let no_floor_missed = table.close();
    std::process::exit(i32::from(!no_floor_missed));
}

impl Cast {
    fn new() -> Self {
        let names: Vec<_> = (0..TOPICS)
            .map(|n| format!("orders-of-region-{n:03}"))
            .collect();
        let (ours, locked) = (LockFreeBus::new(Arc::new(7)), LockedBus::new(Arc::new(7)));
        let handles = names
            .iter()
            .map(|name| ours.topic(name, 1 << 20, 3))
            .collect();
        for name in &names {
            locked.configure(
                name,
                TopicOptions {
                    size_limit: 1 << 20,
                    route: 3,
                },
            );
        }
        let entries = || names.iter().map(|name| (Arc::from(name.as_str()), 3));
        Self {
            handles,
            ours,
            locked,
            mutex_map: Mutex::new(entries().collect()),
            rwlock_map: RwLock::new(entries().collect()),
            rwlock_same_hasher: RwLock::new(entries().collect()),
            names,
        }
    }

    fn name(&self, n: usize) -> &str {
        &self.names[n % TOPICS]
    }

    fn handle(&self, n: usize) -> &TopicHandle<u64> {
        &self.handles[n % TOPICS]
    }
}

/// Does `one` for topic after topic; the threads start far from each other.
fn over_topics(one: impl Fn(&Cast, usize) + Sync) -> impl Fn(usize, u64) + Sync {
    let cast: &Cast = &CAST;
    move |thread, operations| {
        let start = thread * TOPICS / 2;
        (start..start + operations as usize).for_each(|n| one(cast, n));
    }
}

fn by_name(thread: usize, operations: u64) {
    over_topics(|cast, n| {
        black_box(
            cast.ours
                .publish(cast.name(n), SIZE, |p, route| p + route)
                .is_ok(),
        );
    })(thread, operations);
}

fn by_handle(thread: usize, operations: u64) {
    over_topics(|cast, n| {
        black_box(
            cast.ours
                .publish_to(cast.handle(n), SIZE, |p, route| p + route)
                .is_ok(),
        );
    })(thread, operations);
}

fn by_lock(thread: usize, operations: u64) {
    over_topics(|cast, n| {
        black_box(
            cast.locked
                .publish(cast.name(n), SIZE, |p, topic| p + topic.route)
                .is_ok(),
        );
    })(thread, operations);
}

/// Rows 1 and 2.
fn lookups(table: &mut Table) {
    const NO_PANIC: &str = "no bench panics";
    let ours = over_topics(|cast, n| {
        black_box(cast.ours.look_up(cast.name(n)));
    });
    let handle = over_topics(|cast, n| {
        black_box(cast.handle(n).look_up());
    });
    let mutex = over_topics(|cast, n| {
        black_box(
            cast.mutex_map
                .lock()
                .expect(NO_PANIC)
                .get(cast.name(n))
                .copied(),
        );
    });
    let rwlock = over_topics(|cast, n| {
        black_box(
            cast.rwlock_map
                .read()
                .expect(NO_PANIC)
                .get(cast.name(n))
                .copied(),
        );
    });
    let same_hasher = over_topics(|cast, n| {
        black_box(
            cast.rwlock_same_hasher
                .read()
                .expect(NO_PANIC)
                .get(cast.name(n))
                .copied(),
        );
    });
    let variants: [Work<'_>; 5] = [&ours, &handle, &mutex, &rwlock, &same_hasher];
    let f = in_turns(ROUNDS, 2, &variants);
    table.disturbed(common::was_disturbed());
    table.ratio(
        "1",
        "lookup, 2 threads: Mutex<HashMap>, by name",
        f[2],
        f[0],
        Bound::AtLeast(3.0, 2.0),
    );
    table.ratio(
        "1",
        "lookup, 2 threads: RwLock<HashMap>, by name",
        f[3],
        f[0],
        Bound::AtLeast(2.0, 1.4),
    );
    table.ratio(
        "1",
        "the same, RwLock with our hasher",
        f[4],
        f[0],
        Bound::None,
    );
    table.ratio(
        "2",
        "lookup, 2 threads: RwLock<HashMap>, by handle",
        f[3],
        f[1],
        Bound::AtLeast(20.0, 8.0),
    );
}

/// Rows 3 to 6, and the instructions of row 13.
fn cores(table: &mut Table) {
    let variants: [Work<'_>; 3] = [&by_name, &by_handle, &by_lock];
    let one = in_turns(ROUNDS, 1, &variants);
    let two = in_turns(ROUNDS, 2, &variants);
    table.disturbed(common::was_disturbed());
    table.ratio(
        "3",
        "publish core, 2 threads, by name",
        two[2],
        two[0],
        Bound::AtLeast(4.0, 2.5),
    );
    table.ratio(
        "4",
        "publish core, 2 threads, by handle",
        two[2],
        two[1],
        Bound::AtLeast(10.0, 4.0),
    );
    // Missed, and said so: a lock that nobody else wants costs two additions, as the gate and the lease do each.
    table.ratio(
        "5",
        "publish core, 1 thread, by name",
        one[2],
        one[0],
        Bound::AtLeast(2.5, 1.4),
    );
    table.ratio(
        "5",
        "publish core, 1 thread, by handle",
        one[2],
        one[1],
        Bound::AtLeast(5.0, 2.5),
    );
    for (at, way, bound) in [
        (0, "by name", Bound::AtMost(1.10, 1.3)),
        (1, "by handle", Bound::AtMost(1.10, 1.3)),
        (2, "locked", Bound::None),
    ] {
        let metric = format!("contention factor, {way}");
        let figures = format!("{} ns at 1, {} ns at 2", short(one[at]), short(two[at]));
        table.value("6", &metric, figures, two[at] / one[at], bound);
    }
    table.disturbed(false);
    if !instructions::are_counted_here() {
        return table.absent(
            "13",
            "instructions per publish core",
            "valgrind is not installed",
        );
    }
    for (way, target) in [("name", 260.0), ("handle", 60.0), ("locked", f64::NAN)] {
        let metric = format!("instructions per publish core, {way}");
        match instructions::per_publish(way) {
            Some(count) if target.is_nan() => {
                table.value("13", &metric, "callgrind".into(), count, Bound::None);
            }
            Some(count) => {
                let committed = committed_instructions(way) * 1.10;
                table.value(
                    "13",
                    &metric,
                    "callgrind".into(),
                    count,
                    Bound::AtMost(target, committed),
                );
            }
            None => table.absent("13", &metric, "callgrind gave no count"),
        }
    }
}

/// Rows 7 and 8.
fn writers(table: &mut Table) {
    let cast: &Cast = &CAST;
    let ours = stall::reads_while_stalled(
        |n| _ = black_box(cast.ours.look_up(cast.name(n))),
        |hold| cast.ours.reconfigure("a new topic", hold),
    );
    let locked = stall::reads_while_stalled(
        |n| _ = black_box(cast.locked.look_up(cast.name(n))),
        |hold| cast.locked.reconfigure(hold),
    );
    let figures = format!("locked {locked}, ours {ours}");
    table.value(
        "7",
        "lookups done while a writer is stalled 50 ms",
        figures,
        ours as f64,
        Bound::AtLeast(1e6, 1e4),
    );

    let length = Duration::from_millis(600);
    let waited = common::waited_for_processor();
    let (mut ours, mut locked) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        ours.push(stall::p99_beside_writer(
            length,
            |n| by_handle(n, 1),
            |hold| stall::reconnect_lockfree(&cast.ours, hold),
        ));
        locked.push(stall::p99_beside_writer(
            length,
            |n| by_lock(n, 1),
            |hold| stall::reconnect_locked(&cast.locked, hold),
        ));
    }
    // A hundredth of the time is what the 99th percentile is about.
    table.disturbed(common::waited_for_processor() - waited > length * 6 / 100);
    table.ratio(
        "8",
        "p99 at 100 k/s, writer holds 10 ms ten times a second",
        common::median(locked),
        common::median(ours),
        Bound::AtLeast(1000.0, 10.0),
    );
}

/// Row 10, and the whole journey beside it.
fn saturated(table: &mut Table) {
    // Whether others are at work here is asked of a round of the same cores.
    in_turns(ROUNDS, 2, &[&by_lock]);
    table.disturbed(common::was_disturbed());
    let [name, handle, locked] = journey::cores_in_tasks(1000, 5, [&by_name, &by_handle, &by_lock]);
    let (metric, floors) = ("1000 tasks, publish core", [(3.0, 1.6), (4.0, 1.8)]);
    for (way, run, (target, floor)) in [
        ("by name", name, floors[0]),
        ("by handle", handle, floors[1]),
    ] {
        let metric = format!("{metric}, {way}");
        table.ratio(
            "10",
            &metric,
            locked.cpu_nanos,
            run.cpu_nanos,
            Bound::AtLeast(target, floor),
        );
    }
    let [name, handle, locked] = journey::measure(&CAST.names, 1000, 100, 5);
    for (way, run) in [("by name", name), ("by handle", handle)] {
        let metric = format!("1000 tasks, whole journey on memory, {way}");
        table.ratio("-", &metric, locked.cpu_nanos, run.cpu_nanos, Bound::None);
        let figures = format!(
            "locked {} k/s, ours {} k/s",
            short(locked.per_second / 1e3),
            short(run.per_second / 1e3)
        );
        table.value(
            "-",
            "  its throughput",
            figures,
            run.per_second / locked.per_second,
            Bound::None,
        );
    }
}

/// Row 14, for the core; `verify/bus/hot_path.rs` counts the journey.
fn counted(table: &mut Table) {
    table.disturbed(false);
    const PUBLISHES: u64 = 10_000;
    for (way, publish) in [
        ("by name", by_name as fn(usize, u64)),
        ("by handle", by_handle),
    ] {
        publish(0, 100);
        let (locks, asked) = (locks_taken(), allocations());
        publish(0, PUBLISHES);
        let (locks, asked) = (locks_taken() - locks, allocations() - asked);
        let metric = format!("locks and allocations, warm, {way}");
        let figures = format!("{locks} and {asked} in {PUBLISHES} publishes");
        table.value(
            "14",
            &metric,
            figures,
            (locks + asked) as f64,
            Bound::AtMost(0.0, 0.0),
        );
    }
}

/// What callgrind runs.
fn only_publish(way: &str, count: u64) {
    match way {
        "name" => by_name(0, count),
        "handle" => by_handle(0, count),
        _ => by_lock(0, count),
    }
}

/// What was counted when this was last committed; more than a tenth above it is a regression.
fn committed_instructions(way: &str) -> f64 {
    if way == "name" { 377.0 } else { 194.0 }
}
