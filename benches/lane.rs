//! What keyed dispatch costs: each message goes to the lane of its key, is run by a worker and comes back.
//!
//! Beside it a tokio channel, one `send` and one `recv` for each message, which keeps no keys apart; and on one thread a map of
//! queues under a lock. Read the ratio within a run: machines are noisy.

#![allow(dead_code, reason = "every bench takes what it needs")]

use crate::common::{median, ratios};
use clearway::protocol::lane::{Back, Dispatcher, Lanes, lanes};
use criterion::{BenchmarkId, Criterion, Throughput};
use foldhash::fast::FixedState;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Instant;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

const KEYS: u64 = 1_000;
/// As many as the channel has room for.
const IN_FLIGHT: usize = 1_024;
/// In a round: a tenth of a second of it. In less the two threads may still share a core, and a round shows where the kernel put them.
const MESSAGES: u64 = 2_000_000;

/// Messages per second.
pub(crate) struct Dispatched {
    /// Through lanes.
    pub(crate) ours: f64,
    /// Through the channel.
    pub(crate) channel: f64,
}

/// The group of this protocol.
pub(crate) fn bench(criterion: &mut Criterion) {
    let ours = [(); 2].map(|()| Mutex::new(dispatcher()));
    let ours = |thread: usize, operations: u64| {
        if let Ok(dispatcher) = &mut ours[thread % 2].lock() {
            here(dispatcher, operations);
        }
    };
    let locked = [(); 2].map(|()| Mutex::new(Queues::default()));
    let locked = |thread: usize, operations: u64| by_lock(&locked[thread % 2], operations);

    let mut group = criterion.benchmark_group("lane/here");
    group.throughput(Throughput::Elements(KEYS));
    group.bench_function(BenchmarkId::new("lanes", KEYS), |b| {
        b.iter(|| ours(0, KEYS));
    });
    group.bench_function(BenchmarkId::new("mutex<map<queue>>", KEYS), |b| {
        b.iter(|| locked(0, KEYS));
    });
    group.finish();
    ratios("lane, here", &ours, &[("mutex<map<queue>>", &locked)]);
    let Dispatched { ours, channel } = dispatched(7);
    println!(
        "ratio: lane, dispatcher and worker: ours {:.2} M/s / mpsc {:.2} M/s = {:.2}",
        ours / 1e6,
        channel / 1e6,
        ours / channel,
    );
}

/// The medians of `rounds`, in turns: a dispatcher's task and a worker's.
pub(crate) fn dispatched(rounds: usize) -> Dispatched {
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("threads for two workers");
    let (mut ours, mut channel) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(per_second(MESSAGES, || by_lanes(&runtime, MESSAGES)));
        channel.push(per_second(MESSAGES, || by_channel(&runtime, MESSAGES)));
    }
    Dispatched {
        ours: median(ours),
        channel: median(channel),
    }
}

fn per_second(messages: u64, run: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    run();
    messages as f64 / begun.elapsed().as_secs_f64()
}

type Dispatches = Dispatcher<u64, u64, FixedState>;

fn dispatcher() -> Dispatches {
    lanes(KEYS as usize, IN_FLIGHT, 1, FixedState::with_seed(1))
}

/// The keys do not come in turns.
fn key(message: u64) -> u64 {
    (message.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % KEYS
}

fn by_lanes(runtime: &Runtime, messages: u64) {
    let mut dispatcher = dispatcher();
    let worker = runtime.spawn(work(dispatcher.shared().clone()));
    let all = runtime.spawn(async move {
        let (mut next, mut back) = (0, 0);
        while back < messages {
            while next < messages && dispatcher.submit(Some(key(next)), next).is_ok() {
                next += 1;
            }
            dispatcher.announce();
            count(poll_fn(|cx| dispatcher.poll_back(cx)).await);
            back += 1;
            while let Some(more) = dispatcher.take_back() {
                count(more);
                back += 1;
            }
        }
        dispatcher.stop();
    });
    runtime.block_on(async {
        all.await.expect("no bench panics");
        worker.await.expect("no bench panics");
    });
}

async fn work(lanes: Arc<Lanes<u64>>) {
    while let Some(first) = poll_fn(|cx| lanes.poll_run(0, cx)).await {
        let mut run = Some(first);
        while let Some(now) = run {
            black_box(*now);
            run = now.done();
        }
    }
}

fn count(back: Back<u64>) {
    match back {
        Back::Done(message) => _ = black_box(message),
        Back::Parked(_) => unreachable!("nobody parks"),
    }
}

fn by_channel(runtime: &Runtime, messages: u64) {
    let (sender, mut receiver) = mpsc::channel(IN_FLIGHT);
    let worker = runtime.spawn(async move {
        while let Some(message) = receiver.recv().await {
            black_box::<u64>(message);
        }
    });
    let all = runtime.spawn(async move {
        for message in 0..messages {
            black_box(key(message));
            sender.send(message).await.expect("the worker is there");
        }
    });
    runtime.block_on(async {
        all.await.expect("no bench panics");
        worker.await.expect("no bench panics");
    });
}

/// The same thread submits, runs and takes back.
fn here(dispatcher: &mut Dispatches, operations: u64) {
    let mut next = 0;
    let lanes = dispatcher.shared().clone();
    let mut cx = Context::from_waker(Waker::noop());
    while next < operations {
        while next < operations && dispatcher.submit(Some(key(next)), next).is_ok() {
            next += 1;
        }
        while let Poll::Ready(Some(first)) = lanes.poll_run(0, &mut cx) {
            let mut run = Some(first);
            while let Some(now) = run {
                black_box(*now);
                run = now.done();
            }
        }
        while let Some(back) = dispatcher.take_back() {
            count(back);
        }
    }
}

/// What it replaces: a queue for each key, and the keys that are to be run.
#[derive(Default)]
struct Queues {
    of: HashMap<u64, VecDeque<u64>, FixedState>,
    ready: VecDeque<u64>,
}

fn by_lock(queues: &Mutex<Queues>, operations: u64) {
    let queues = || queues.lock().expect("no bench panics");
    for first in (0..operations).step_by(IN_FLIGHT) {
        for message in first..operations.min(first + IN_FLIGHT as u64) {
            let mut queues = queues();
            let queue = queues.of.entry(key(message)).or_default();
            queue.push_back(message);
            if queue.len() == 1 {
                queues.ready.push_back(key(message));
            }
        }
        while let Some(key) = { queues().ready.pop_front() } {
            while let Some(message) = { queues().of.get(&key).and_then(|of| of.front().copied()) } {
                black_box(message);
                let mut queues = queues();
                if let Some(queue) = queues.of.get_mut(&key) {
                    queue.pop_front();
                }
            }
        }
    }
}
