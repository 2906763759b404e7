//! The thread's stages on a mock: librdkafka's own mock of a cluster, in this process. It stands for no broker. It has groups, offsets and
//! their commits. It has no topics by request (so no `ensure`), no transactions (so no markers, and nothing aborted), no retention or
//! compaction, no quotas and no logins; and no member is put out but for its silence. What needs these is with the tests against a real
//! broker.

mod let_go;

use super::*;
use crate::backend::kafka::options::Rebalancing;
use crate::backend::kafka::witness::Witness;
use crate::events::BusEvent;
use rdkafka::ClientConfig;
use rdkafka::consumer::DefaultConsumerContext;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};

const LIMIT: Duration = Duration::from_secs(30);
const TOPIC: &str = "orders";
const GROUP: &str = "audit";

/// A member of a group that owns all there is: partitions 0 to 2, with four records in each. Its thread is the test's.
struct Scene {
    poller: Poller,
    wire: Arc<Wire>,
    witness: Arc<Witness>,
    epoch: u64,
    /// Dropped last: it is whom the others talk to.
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Scene {
    fn begin(rebalancing: Rebalancing) -> Self {
        let cluster = MockCluster::new(1).expect("a cluster in this process");
        cluster.create_topic(TOPIC, 3, 1).expect("a topic");
        let servers = cluster.bootstrap_servers();
        publish(&servers, 12);
        let url = format!("kafka://{servers}/?session.timeout.ms=6000");
        let options = Options::from_url(&url).expect("fine");
        let options = options
            .rebalancing(rebalancing)
            .hand_over_limit(Duration::from_secs(20));
        let (wire, witness) = (Arc::new(Wire::new()), Witness::new());
        let start = Start {
            options: Arc::new(options),
            host: witness.clone(),
            wire: wire.clone(),
            topic: TOPIC.into(),
            partitions: 3,
            group: GROUP.into(),
            start: StartAt::Earliest,
            epochs: Arc::default(),
            ready: Reply::new(),
        };
        let poller = start.begin().expect("a client");
        let mut scene = Self {
            poller,
            wire,
            witness,
            epoch: 0,
            cluster,
        };
        scene.epoch = scene.assigned();
        scene
    }

    /// Turns until it `is` so.
    fn until<T>(&mut self, what: &str, mut is: impl FnMut(&mut Self) -> Option<T>) -> T {
        let runtime = self.witness.runtime().clone();
        let until = runtime.now() + LIMIT;
        loop {
            if let Some(found) = is(self) {
                return found;
            }
            assert!(runtime.now() < until, "not {what}");
            match self.poller.turn() {
                Turn::Busy => {}
                Turn::Idle => thread::park_timeout(Duration::from_millis(5)),
                Turn::Close { .. } => unreachable!("nobody closes it"),
            }
        }
    }

    /// The next news, turning until there are some.
    fn news(&mut self, what: &str) -> News {
        self.until(what, |scene| scene.wire.news.pop())
    }

    /// The epoch of the assignment that comes next.
    fn assigned(&mut self) -> u64 {
        match self.news("assigned") {
            News::Assigned { epoch, partitions } => {
                assert_eq!(partitions.len(), 3);
                epoch
            }
            other => panic!("{other:?}"),
        }
    }

    /// Turns until all twelve records are fetched.
    fn fetched(&mut self) {
        let mut count = 0;
        self.until("fetched", |scene| {
            while let Some(fetched) = scene.wire.fetched.pop() {
                count += usize::from(matches!(fetched, Fetched::Delivery { .. }));
            }
            (count == 12).then_some(())
        });
    }

    /// Turns until each partition has told its end, and there is nothing more.
    fn at_their_ends(&mut self) {
        self.until("at their ends", |scene| {
            let mut owned = scene.poller.owned.values();
            let ended = owned.all(|owned| owned.seen_end && owned.is_empty);
            ended.then_some(())
        });
    }

    /// Turns until nothing happens for a while: the client has fetched what it would.
    fn settled_down(&mut self) {
        let runtime = self.witness.runtime().clone();
        let mut quiet_since = runtime.now();
        while runtime.now() < quiet_since + Duration::from_millis(15) {
            if let Turn::Busy = self.poller.turn() {
                quiet_since = runtime.now();
            }
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    /// The group wants nothing of it any more, and it is told so.
    fn revoked(&mut self) {
        self.poller.consumer.unsubscribe();
        match self.news("revoked") {
            News::Revoked { epoch, partitions } => {
                assert_eq!((epoch, partitions), (self.epoch, vec![0, 1, 2]));
            }
            other => panic!("{other:?}"),
        }
    }

    /// All is handled up to `commit`.
    fn release(&mut self, partition: u32, commit: Option<u64>) {
        let epoch = self.epoch;
        self.wire.orders.push(Order::HandOver {
            partition,
            epoch,
            commit,
        });
    }

    fn assignment(&self) -> usize {
        let assigned = self.poller.consumer.assignment();
        assigned.expect("it is known").count()
    }

    /// What the group has committed, asked from outside.
    fn group_has(&self) -> BTreeMap<i32, i64> {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", GROUP);
        let outside: BaseConsumer<DefaultConsumerContext> = config.create().expect("a client");
        let has = outside.committed_offsets(self.poller.list(&[0, 1, 2]), LIMIT);
        let has = has.expect("it is answered");
        let each = has.elements().into_iter();
        each.filter_map(|at| Some((at.partition(), at.offset().to_raw()?)))
            .collect()
    }
}

fn publish(servers: &str, count: i32) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    let producer: BaseProducer = config.create().expect("a client");
    for at in 0..count {
        let record = BaseRecord::<(), [u8]>::to(TOPIC)
            .partition(at % 3)
            .payload(b"17");
        producer.send(record).expect("room");
    }
    producer.flush(LIMIT).expect("it takes them");
}

const fn places(each: i64) -> [(i32, i64); 3] {
    [(0, each), (1, each), (2, each)]
}

const BOTH: [Rebalancing; 2] = [Rebalancing::Eager, Rebalancing::Cooperative];

/// What a client fetches is no reason to commit it: not by itself, not when it is polled, not when it is taken away.
#[test]
fn what_no_handler_settled_is_not_committed_when_it_goes() {
    for rebalancing in BOTH {
        let mut scene = Scene::begin(rebalancing);
        scene.fetched();
        scene.revoked();
        (0..3).for_each(|partition| scene.release(partition, None));
        scene.until("un-assigned", |scene| {
            (scene.assignment() == 0).then_some(())
        });
        let has = scene.group_has();
        drop(scene.poller);
        assert_eq!(has, BTreeMap::from(places(0)), "{rebalancing:?}");
    }
}

/// Another member must not begin while handlers here are at work, and begins behind what they settled.
#[test]
fn a_revoked_partition_is_held_until_it_is_released_and_committed() {
    for rebalancing in BOTH {
        let mut scene = Scene::begin(rebalancing);
        scene.fetched();
        scene.revoked();
        scene.release(0, Some(4));
        scene.release(1, Some(4));
        for _ in 0..50 {
            scene.poller.turn();
            thread::park_timeout(Duration::from_millis(5));
            assert_eq!(scene.assignment(), 3, "{rebalancing:?}: 2 is at work");
        }
        scene.release(2, Some(3));
        let mut gone = 0;
        let mut committed = Vec::new();
        while gone < 3 {
            match scene.news("gone") {
                News::Committed { partition, offset } => committed.push((partition, offset)),
                News::Gone { .. } => gone += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(committed, [(0, 4), (1, 4), (2, 3)], "{rebalancing:?}");
        assert_eq!(scene.assignment(), 0);
        assert_eq!(
            scene.group_has(),
            BTreeMap::from([(0, 4), (1, 4), (2, 3)]),
            "{rebalancing:?}"
        );
        assert!(scene.witness.events.lock().is_empty(), "nothing was lost");
    }
}

/// The group has given them to others: what these committed must not be overwritten.
#[test]
fn what_was_lost_is_not_committed_any_more() {
    let mut scene = Scene::begin(Rebalancing::Eager);
    scene.fetched();
    scene.poller.take(Happened::Revoke {
        partitions: vec![0, 1, 2],
        lost: true,
    });
    let epoch = scene.epoch;
    let commit = |partition| Commit {
        partition,
        epoch,
        offset: 4,
    };
    scene
        .wire
        .orders
        .push(Order::Commit((0..3).map(commit).collect()));
    (0..3).for_each(|partition| scene.release(partition, Some(4)));
    let failed = scene.until("refused", |scene| match scene.wire.news.pop()? {
        News::CommitFailed { partitions } => Some(partitions),
        News::Committed { .. } => panic!("it was committed"),
        _ => None,
    });
    assert_eq!(failed, [0, 1, 2]);
    assert_eq!(scene.assignment(), 0);
    assert_eq!(scene.group_has(), BTreeMap::from(places(0)));
    let events = scene.witness.events.lock();
    assert!(
        matches!(&events[..], [BusEvent::PartitionsLost { partitions, .. }] if partitions[..] == [0, 1, 2]),
        "{events:?}"
    );
}

/// What was handled under the epoch before must not count for this one.
#[test]
fn each_assignment_has_an_epoch_of_its_own() {
    let mut scene = Scene::begin(Rebalancing::Eager);
    let before = scene.epoch;
    scene.poller.take(Happened::Revoke {
        partitions: vec![0, 1, 2],
        lost: true,
    });
    scene.poller.take(Happened::Assign(vec![0, 1, 2]));
    let after = scene.until("assigned again", |scene| match scene.wire.news.pop()? {
        News::Assigned { epoch, .. } => Some(epoch),
        _ => None,
    });
    assert!(after > before, "{before}, then {after}");
    let old = Commit {
        partition: 0,
        epoch: before,
        offset: 4,
    };
    assert!(!scene.poller.is_current(&old));
    scene.wire.orders.push(Order::Commit(vec![old]));
    let said = scene.news("refused");
    assert!(
        matches!(&said, News::CommitFailed { partitions } if partitions[..] == [0]),
        "{said:?}"
    );
    assert_eq!(scene.group_has(), BTreeMap::from(places(0)));
}

/// A hand-over that still waits is un-assigned before what is new is assigned: afterwards it would take that away.
#[test]
fn an_assignment_supersedes_a_hand_over_that_waits() {
    let mut scene = Scene::begin(Rebalancing::Eager);
    scene.fetched();
    scene.poller.take(Happened::Revoke {
        partitions: vec![0, 1, 2],
        lost: false,
    });
    scene.poller.take(Happened::Assign(vec![0, 1, 2]));
    (0..3).for_each(|partition| scene.release(partition, Some(4)));
    for _ in 0..20 {
        scene.poller.turn();
        assert_eq!(scene.assignment(), 3, "it was taken away again");
    }
    // Nothing is left out: it goes on where the group was.
    scene.fetched();
}

/// The client counts what waits and looks at the end in two moments. What came in between is not gone over, though there is no room for it.
#[test]
fn an_end_is_not_believed_while_there_is_no_room() {
    let mut scene = Scene::begin(Rebalancing::Cooperative);
    scene.fetched();
    scene.at_their_ends();
    let ahead = std::mem::replace(&mut scene.poller.ahead, 1 << 20);
    publish(&scene.cluster.bootstrap_servers(), 12);
    scene.settled_down();
    scene.poller.at_end(vec![(0, 8)]);
    let end = scene.wire.fetched.pop();
    assert!(end.is_none(), "there are records before it: {end:?}");
    scene.poller.ahead = ahead;
    scene.fetched();
    scene.at_their_ends();
    scene.poller.at_end(vec![(0, 9)]);
    let end = scene.wire.fetched.pop();
    assert!(
        matches!(
            end,
            Some(Fetched::End {
                partition: 0,
                seen: Some(8),
                offset: 9,
                ..
            })
        ),
        "a marker is gone over: {end:?}"
    );
}

/// A task that is slower than the client fetches has it fetch everything once.
#[test]
fn what_was_fetched_for_a_slow_task_is_not_fetched_again() {
    const MORE: i32 = 30_000;
    let mut scene = Scene::begin(Rebalancing::Cooperative);
    scene.fetched();
    publish(&scene.cluster.bootstrap_servers(), MORE);
    let mut places = BTreeMap::new();
    let mut left = MORE;
    while left > 0 {
        // It takes what it takes, and then the thread has all the time there is to fetch more.
        let (mut count, mut bytes) = (0, 0);
        scene.until("something is there", |scene| {
            while count < 500
                && let Some(fetched) = scene.wire.fetched.pop()
            {
                if let Fetched::Delivery {
                    partition,
                    offset,
                    envelope,
                    ..
                } = fetched
                {
                    let next = places.entry(partition).or_insert(4);
                    assert_eq!(offset, *next, "in {partition}: none left out, none twice");
                    *next += 1;
                    count += 1;
                    bytes += envelope.size();
                }
            }
            (count > 0).then_some(())
        });
        left -= i32::try_from(count).expect("it is small");
        scene.wire.orders.push(Order::Took { count, bytes });
        scene.settled_down();
    }
    let all = i64::from(MORE) + 12;
    let received = scene.until("counted", |scene| {
        let received = *scene.poller.noted.received.lock();
        (received >= all).then_some(received)
    });
    assert!(received < all + all / 10, "{received} were sent for {all}");
}
