//! The task's side of a consumer without a thread: what that would tell is put on the wire, and what it is told is read from there.

use super::*;
use crate::backend::StartAt;
use crate::backend::kafka::poller::{Assigned, News};
use crate::backend::kafka::witness::Witness;
use crate::config::TopicConfig;
use crate::envelope::Envelope;
use bytes::Bytes;
use std::pin::pin;
use std::task::Waker;
use std::thread;

const NONE: [u64; 0] = [];

struct Scene {
    consumer: KafkaConsumer,
    wire: Arc<Wire>,
    host: Arc<Witness>,
}

/// What was taken, and what answers it.
type Taken = Vec<(u64, Token)>;

impl Scene {
    /// Partition 1 is ours under epoch 7, from offset 4 on, which the group has committed.
    fn begin() -> Self {
        let (wire, host) = (Arc::new(Wire::new()), Witness::new());
        let consumer = KafkaConsumer {
            handle: Handle::new(wire.clone(), thread::current()),
            host: host.clone(),
            ends: Weak::new(),
            closed: Arc::new(Signal::new()),
            request: SubscribeRequest {
                topic: TopicConfig::new("orders"),
                foreign: None,
                group: "audit".into(),
                start: StartAt::Earliest,
                in_flight_max: 64,
                confirm: false,
            },
            commit_every: Duration::from_secs(3600),
            partitions: BTreeMap::new(),
            news: VecDeque::new(),
            held: None,
            failed: None,
            unanswered: 0,
            took: 0,
            took_bytes: 0,
            commit_at: None,
            committing: 0,
            answers: 0,
            timer: None,
        };
        let mut scene = Self {
            consumer,
            wire,
            host,
        };
        scene.assigned(7);
        scene
    }

    fn assigned(&mut self, epoch: u64) {
        let partitions = vec![Assigned {
            partition: 1,
            start: Some(4),
            is_committed: true,
        }];
        self.wire.tell(News::Assigned { epoch, partitions });
    }

    fn fetched(&self, epoch: u64, offsets: &[u64]) {
        for offset in offsets {
            self.wire.fetched.push(Fetched::Delivery {
                partition: 1,
                epoch,
                offset: *offset,
                envelope: Envelope::new(Bytes::new(), &**self.host.runtime()),
            });
        }
    }

    /// All that there is to hear now. Deliveries of it are given back.
    fn hear(&mut self) -> Taken {
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = Vec::new();
        while let Poll::Ready(incoming) = pin!(self.consumer.next(true)).poll(&mut cx) {
            if let Incoming::Delivery {
                position, token, ..
            } = incoming.expect("it has not failed")
            {
                taken.push((position.offset, token));
            }
        }
        taken
    }

    fn revoked(&self) {
        let (epoch, partitions) = (7, vec![1]);
        self.wire.tell(News::Revoked { epoch, partitions });
    }

    fn release(&mut self, epoch: u64) {
        let mut cx = Context::from_waker(Waker::noop());
        let released = pin!(self.consumer.release(1, epoch)).poll(&mut cx);
        assert!(matches!(released, Poll::Ready(Ok(()))));
    }

    /// What the thread was told to commit since the last look: to go on with, and for the hand-over.
    fn commits(&self) -> (Vec<u64>, Vec<Option<u64>>) {
        let (mut told, mut handed) = (Vec::new(), Vec::new());
        while let Some(order) = self.wire.orders.pop() {
            match order {
                Order::Commit(commits) => told.extend(commits.iter().map(|commit| commit.offset)),
                Order::HandOver { commit, .. } => handed.push(commit),
                Order::Took { .. } | Order::Close { .. } => {}
            }
        }
        (told, handed)
    }
}

/// Another may have it the next moment, and would handle it beside us.
#[test]
fn what_was_fetched_of_a_revoked_partition_is_not_handed_out() {
    let mut scene = Scene::begin();
    scene.fetched(7, &[4, 5]);
    assert_eq!(scene.hear().len(), 2);
    scene.fetched(7, &[6, 7]);
    scene.revoked();
    assert_eq!(scene.hear().len(), 0, "it is on its way to another");
}

/// Whose handlers still run when the time for the hand-over is up has told what they have settled until then.
#[test]
fn what_is_settled_while_it_leaves_is_committed_at_once() {
    let mut scene = Scene::begin();
    scene.fetched(7, &[4, 5, 8]);
    let taken = scene.hear();
    assert_eq!(scene.commits().0, NONE);
    scene.consumer.acknowledge(&taken[0].1);
    assert_eq!(scene.commits().0, NONE, "in its time");
    scene.revoked();
    scene.hear();
    assert_eq!(scene.commits().0, [5], "now");
    scene.consumer.acknowledge(&taken[2].1);
    assert_eq!(scene.commits().0, NONE, "5 is at work");
    scene.consumer.acknowledge(&taken[1].1);
    assert_eq!(scene.commits().0, [9], "now");
}

/// Behind the end of a transaction: nobody waits for it, and it must not keep waiting who does.
#[test]
fn a_confirmed_answer_does_not_wait_for_the_commit_of_a_gap() {
    let mut scene = Scene::begin();
    scene.consumer.request.confirm = true;
    scene.fetched(7, &[4]);
    scene.wire.fetched.push(Fetched::End {
        partition: 1,
        epoch: 7,
        seen: Some(5),
        offset: 6,
    });
    scene.fetched(7, &[6]);
    let taken = scene.hear();
    assert_eq!(taken.len(), 2);
    assert_eq!(scene.commits().0, NONE, "nothing is settled");
    for (_, token) in &taken {
        scene.consumer.acknowledge(token);
    }
    scene.hear();
    assert_eq!(scene.commits().0, [7], "now, and not when it is time");
}

/// What goes to another with a partition is the first that is not settled, whatever was delivered.
#[test]
fn a_released_partition_goes_with_what_is_settled_in_front() {
    let mut scene = Scene::begin();
    scene.fetched(7, &[4, 5, 8]);
    let taken = scene.hear();
    scene.consumer.acknowledge(&taken[0].1);
    scene.consumer.acknowledge(&taken[2].1);
    scene.release(6);
    assert_eq!(scene.commits().1, [], "an older epoch's");
    scene.release(7);
    assert_eq!(scene.commits().1, [Some(5)]);
}

/// An answer from before the partition went and came back says nothing of what is delivered now.
#[test]
fn an_answer_of_an_epoch_that_is_over_settles_nothing() {
    let mut scene = Scene::begin();
    scene.fetched(7, &[4, 5]);
    let before = scene.hear();
    scene.assigned(9);
    scene.fetched(9, &[4, 5]);
    assert_eq!(scene.hear().len(), 2, "they come again");
    for (_, token) in &before {
        assert_eq!(scene.consumer.acknowledge(token), Answered::Pending);
    }
    scene.release(9);
    assert_eq!(scene.commits().1, [None], "nothing is settled");
}

/// Deliveries that were on the wire when the partition went are of nobody.
#[test]
fn a_delivery_of_an_epoch_that_is_over_is_not_handed_out() {
    let mut scene = Scene::begin();
    scene.fetched(7, &[4]);
    scene.assigned(9);
    scene.fetched(9, &[4]);
    let taken = scene.hear();
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].1.epoch, 9);
}
