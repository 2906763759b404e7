//! The hot path, counted: a warm publish takes no lock of ours and asks for no memory.
//!
//! Everything the publisher's thread does between the call and the receipt is counted: our stages, the
//! codec, the queue to the broker, tokio's waiting and waking. What the broker and the tasks of the
//! bus do on their own thread is counted too and printed beside it. The controls put a lock or
//! an allocation into the path and must be seen.

#![cfg(feature = "memory")]

#[path = "hot_path/alone.rs"]
mod alone;
#[path = "hot_path/apart.rs"]
mod apart;
#[path = "hot_path/count.rs"]
mod count;
#[path = "hot_path/counting.rs"]
mod counting;
#[path = "hot_path/deliveries.rs"]
mod deliveries;
#[path = "hot_path/scene.rs"]
mod scene;

use apart::{Taken, block_on, locking_clock};
use bytes::Bytes;
use clearway::{Codec, CodecError, PublishError, Raw, ReceiptFuture, Topic, TopicConfig};
use count::{Count, tell};
use scene::Scene;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[global_allocator]
static COUNTED: counting::Counting = counting::Counting;

const TOPIC: &str = "orders";
const WARM_UP: usize = 300;
const PAYLOAD: Bytes = Bytes::from_static(b"one order");
const PIPELINED: usize = 32;
const DELAY: Duration = Duration::from_millis(1);

/// How the publisher publishes.
#[derive(Clone, Copy)]
enum Way {
    ByName,
    ByHandle,
    Enqueued,
}

/// When the broker's answers come.
#[derive(Clone, Copy)]
enum Answers {
    Prompt,
    /// So late that every publisher really waits.
    Delayed,
}

/// What goes on meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    Nothing,
    Configure,
    Reconnect,
    Close,
}

#[test]
fn a_calm_publish_takes_nothing() {
    every_way(Meanwhile::Nothing);
}

#[test]
fn a_publish_takes_nothing_while_topics_are_configured() {
    every_way(Meanwhile::Configure);
}

#[test]
fn a_publish_takes_nothing_while_sessions_are_lost_and_replaced() {
    every_way(Meanwhile::Reconnect);
}

#[test]
fn a_publish_takes_nothing_up_to_the_close() {
    every_way(Meanwhile::Close);
}

/// The counters see a lock that is in the path by design.
#[test]
fn control_an_ordered_handle_is_seen() {
    let scene = warm(|| ());
    let topic = scene.bus.raw_topic(TOPIC).unwrap().ordered();
    let count = block_on(counted(100, || async {
        topic.publish(&PAYLOAD).key("k").await.map(drop)
    }));
    println!(
        "control: ordered handle: {} locks seen ({} publishes)",
        count.taken.locks, count.publishes
    );
    assert!(count.taken.locks >= count.publishes as u64);
}

/// The counters see a lock that somebody puts into the path.
#[test]
fn control_a_mutex_in_the_path_is_seen() {
    let scene = warm(locking_clock());
    let topic = scene.bus.raw_topic(TOPIC).unwrap();
    let count = block_on(counted(100, || async {
        topic.publish(&PAYLOAD).await.map(drop)
    }));
    println!(
        "control: a mutex in the clock: {} locks seen ({} publishes)",
        count.taken.locks, count.publishes
    );
    assert!(count.taken.locks >= count.publishes as u64);
}

/// The counters see a codec that allocates.
#[test]
fn control_an_allocating_codec_is_seen() {
    struct Copying;
    impl Codec<Bytes> for Copying {
        fn encode(&self, value: &Bytes) -> Result<Bytes, CodecError> {
            Ok(Bytes::copy_from_slice(value))
        }
        fn decode(&self, payload: &Bytes) -> Result<Bytes, CodecError> {
            Ok(payload.clone())
        }
    }
    let scene = warm(|| ());
    let topic = scene.bus.topic_with(TOPIC, Copying).unwrap();
    let count = block_on(counted(100, || async {
        topic.publish(&PAYLOAD).await.map(drop)
    }));
    println!(
        "control: a codec that copies: {} allocations seen ({} publishes)",
        count.taken.allocations, count.publishes
    );
    assert!(count.taken.allocations >= count.publishes as u64);
    assert_eq!(count.taken.locks, 0);
}

/// A scene whose topic was published to from this thread. `clock` is in the path.
fn warm(clock: impl Fn() + Send + Sync + 'static) -> Scene {
    let scene = Scene::new(clock);
    block_on(published(&scene, Way::ByName, WARM_UP));
    scene
}

fn every_way(meanwhile: Meanwhile) {
    for answers in [Answers::Prompt, Answers::Delayed] {
        for way in [Way::ByName, Way::ByHandle, Way::Enqueued] {
            run(way, answers, meanwhile);
        }
    }
}

/// One run on a publisher's thread of its own, with its line of the report.
fn run(way: Way, answers: Answers, meanwhile: Meanwhile) {
    let scene = warm(|| ());
    let publishes = match answers {
        Answers::Prompt => 1000,
        Answers::Delayed => 300,
    };
    if let Answers::Delayed = answers {
        scene.broker.faults().answer_after(DELAY);
    }
    let before = scene.taken_elsewhere();
    let begun = AtomicBool::new(false);
    let count = std::thread::scope(|threads| {
        let publisher = threads.spawn(|| {
            block_on(async {
                // This thread is new: the first few publishes make its thread-locals.
                let warm = published(&scene, way, PIPELINED).await;
                assert!(warm.publishes > 0);
                begun.store(true, Ordering::Release);
                match meanwhile {
                    Meanwhile::Nothing => {
                        let began = Instant::now();
                        let count = published(&scene, way, publishes).await;
                        really_waited(way, answers, &count, began.elapsed());
                        count
                    }
                    Meanwhile::Close => until_closed(&scene, way).await,
                    Meanwhile::Configure | Meanwhile::Reconnect => {
                        enough(&scene, way, publishes).await
                    }
                }
            })
        });
        while !begun.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        disturb(&scene, meanwhile, || publisher.is_finished());
        publisher.join().unwrap()
    });
    let elsewhere = if meanwhile == Meanwhile::Close {
        None
    } else {
        Some(scene.taken_elsewhere() - before)
    };
    tell(way, answers, meanwhile, &count, elsewhere);
    assert_eq!(
        count.taken,
        Taken::default(),
        "a lock or an allocation on the hot path"
    );
    assert!(
        count.publishes >= 50,
        "only {} publishes were counted",
        count.publishes
    );
    if meanwhile == Meanwhile::Reconnect {
        assert!(
            scene.bus.metrics().reconnects >= 3,
            "the session was hardly ever replaced"
        );
    }
}

/// With delayed answers no publish came back before its answer was due.
fn really_waited(way: Way, answers: Answers, count: &Count, took: Duration) {
    let one_after_the_other = match way {
        Way::ByName | Way::ByHandle => count.publishes,
        Way::Enqueued => count.publishes / PIPELINED,
    };
    if let Answers::Delayed = answers {
        assert!(
            took >= DELAY * one_after_the_other as u32,
            "{took:?}: nobody waited"
        );
    }
}

/// Does what goes on meanwhile, until the publisher has finished.
fn disturb(scene: &Scene, meanwhile: Meanwhile, finished: impl Fn() -> bool) {
    let mut limit = 1 << 20;
    while !finished() {
        match meanwhile {
            Meanwhile::Nothing => {}
            Meanwhile::Configure => {
                limit += 1;
                let config = TopicConfig::new(TOPIC).size_limit(limit);
                block_on(scene.bus.configure(config)).unwrap();
            }
            Meanwhile::Reconnect => {
                scene.broker.faults().disconnect();
                std::thread::sleep(Duration::from_millis(5));
            }
            Meanwhile::Close => {
                std::thread::sleep(Duration::from_millis(500));
                let report = block_on(scene.bus.close(Duration::from_secs(10)));
                assert!(report.drained, "{report:?}");
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Publishes `publishes` times and counts.
async fn published(scene: &Scene, way: Way, publishes: usize) -> Count {
    let bus = &scene.bus;
    let topic = bus.raw_topic(TOPIC).unwrap();
    match way {
        Way::ByName => {
            counted(publishes, || async {
                bus.publish(TOPIC, PAYLOAD).await.map(drop)
            })
            .await
        }
        Way::ByHandle => {
            counted(publishes, || async {
                topic.publish(&PAYLOAD).await.map(drop)
            })
            .await
        }
        Way::Enqueued => {
            let mut count = Count::default();
            let mut receipts = Vec::with_capacity(PIPELINED);
            while count.publishes + count.failed < publishes {
                enqueue_all(&topic, &mut receipts, &mut count).await;
            }
            count
        }
    }
}

/// Until there are `publishes` good ones and the session was replaced a few times.
async fn enough(scene: &Scene, way: Way, publishes: usize) -> Count {
    let mut all = Count::default();
    let begun = Instant::now();
    while all.publishes < publishes || begun.elapsed() < Duration::from_millis(400) {
        all.add(published(scene, way, PIPELINED).await);
    }
    all
}

/// Until the bus refuses because it is closed.
async fn until_closed(scene: &Scene, way: Way) -> Count {
    let mut all = Count::default();
    while all.failed == 0 {
        all.add(published(scene, way, PIPELINED).await);
    }
    all
}

/// Awaits `one` again and again; what each takes is booked by how it ended.
async fn counted<F>(publishes: usize, mut one: impl FnMut() -> F) -> Count
where
    F: Future<Output = Result<(), PublishError>>,
{
    let mut count = Count::default();
    for _ in 0..publishes {
        let before = Taken::by_this_thread();
        let result = one().await;
        count.book(&result, Taken::by_this_thread() - before);
    }
    count
}

/// Enqueues a number of publishes, then awaits their receipts.
async fn enqueue_all(
    topic: &Topic<Bytes, Raw>,
    receipts: &mut Vec<ReceiptFuture>,
    count: &mut Count,
) {
    for _ in 0..PIPELINED {
        let before = Taken::by_this_thread();
        match topic.publish(&PAYLOAD).enqueue() {
            Ok(receipt) => {
                count.taken = count.taken + (Taken::by_this_thread() - before);
                receipts.push(receipt);
            }
            Err(refused) => count.book(&Err(refused.error), Taken::by_this_thread() - before),
        }
    }
    for receipt in receipts.drain(..) {
        let before = Taken::by_this_thread();
        let result = receipt.await.map(drop);
        count.book(&result, Taken::by_this_thread() - before);
    }
}
