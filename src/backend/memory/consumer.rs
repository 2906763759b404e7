//! The consuming half over the broker in the process.

use super::connection::Link;
use super::group::Next;
use crate::backend::{Answer, Answered, Consumer, Incoming, Position};
use crate::error::{Failure, FailureKind};
use crate::runtime::Task;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// A member of a group.
pub struct MemoryConsumer {
    link: Arc<Link>,
    topic: u64,
    group: Arc<str>,
    member: u64,
    /// The partitions that were said to be ours, and their epochs.
    owned: BTreeMap<u32, u64>,
    /// The partitions that were said to be ours no longer, and are not released yet.
    leaving: BTreeMap<u32, u64>,
    /// Where the next look begins, so that no partition starves.
    turn: usize,
    sleep: Option<(Duration, Task)>,
}

/// A delivery, for its answer.
#[derive(Debug)]
pub struct MemoryToken(Position);

impl MemoryConsumer {
    pub(super) fn new(link: Arc<Link>, topic: u64, group: Arc<str>, member: u64) -> Self {
        Self {
            link,
            topic,
            group,
            member,
            owned: BTreeMap::new(),
            leaving: BTreeMap::new(),
            turn: 0,
            sleep: None,
        }
    }

    fn poll_next(
        &mut self,
        room: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Incoming<MemoryToken>, Failure>> {
        self.link.watch(cx.waker());
        self.link.alive()?;
        let now = self.link.host.runtime().now();
        let broker = self.link.broker.clone();
        let mut broker = broker.lock();
        let Some((group, logs)) = broker.group(self.topic, &self.group) else {
            return Poll::Ready(Err(no_topic()));
        };
        // Taken away before it was said to be ours: nobody here knows of it, so nobody has to release it.
        for (number, epoch) in group.taken_from(self.member) {
            let said = |known: &BTreeMap<u32, u64>| known.get(&number) == Some(&epoch);
            if !said(&self.owned) && !said(&self.leaving) {
                group.release(self.member, number as usize, epoch);
            }
        }
        let ours = |at: &super::group::GroupPartition| at.owner == Some(self.member);
        let owned: BTreeMap<u32, u64> = (0..)
            .zip(&group.partitions)
            .filter(|(_, at)| ours(at))
            .map(|(number, at)| (number, at.epoch))
            .collect();
        if owned != self.owned {
            return Poll::Ready(Ok(self.told(owned)));
        }
        let Some(in_flight_max) = group
            .members
            .get(&self.member)
            .map(|member| member.in_flight_max)
        else {
            return Poll::Ready(Err(Failure::new(
                FailureKind::Disconnected,
                "no member of the group any more",
            )));
        };
        let mut not_before: Option<Duration> = None;
        if room && group.out_of(self.member) < in_flight_max {
            let count = group.partitions.len();
            for step in 0..count {
                let number = (self.turn + step) % count;
                let at = &mut group.partitions[number];
                if at.owner != Some(self.member) {
                    continue;
                }
                match at.next(&logs[number], now) {
                    Next::Nothing => {}
                    Next::NotBefore(due) => {
                        not_before = Some(not_before.map_or(due, |known| known.min(due)))
                    }
                    Next::Offset(offset, attempt) => {
                        self.turn = number + 1;
                        let position = Position {
                            partition: number as u32,
                            offset,
                            epoch: at.epoch,
                        };
                        let envelope = logs[number].at(offset).expect("just found there").clone();
                        let token = MemoryToken(position);
                        return Poll::Ready(Ok(Incoming::Delivery {
                            envelope,
                            position,
                            attempt,
                            subject: None,
                            token,
                        }));
                    }
                }
            }
        }
        if let Some(member) = group.members.get_mut(&self.member) {
            member.waker = Some(cx.waker().clone());
        }
        drop(broker);
        self.wait(not_before, now, cx)
    }

    /// Arms the timer for what comes again.
    fn wait<T>(
        &mut self,
        not_before: Option<Duration>,
        now: Duration,
        cx: &mut Context<'_>,
    ) -> Poll<T> {
        let Some(due) = not_before else {
            self.sleep = None;
            return Poll::Pending;
        };
        if self.sleep.as_ref().is_none_or(|(armed, _)| *armed != due) {
            let timer = self.link.host.runtime().sleep(due.saturating_sub(now));
            self.sleep = Some((due, timer));
        }
        if let Some((_, timer)) = &mut self.sleep
            && timer.as_mut().poll(cx).is_ready()
        {
            self.sleep = None;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// Says what changed hands: first what is gone, then what is new.
    fn told(&mut self, owned: BTreeMap<u32, u64>) -> Incoming<MemoryToken> {
        let gone: Vec<_> = self
            .owned
            .iter()
            .filter(|(number, epoch)| owned.get(number) != Some(epoch))
            .map(|(number, epoch)| (*number, *epoch))
            .collect();
        if let Some((_, epoch)) = gone.first().copied() {
            // Those of one epoch at a time: each is released under its own.
            let partitions = gone.into_iter().filter(|(_, of)| *of == epoch);
            let partitions: Vec<u32> = partitions.map(|(number, _)| number).collect();
            for number in &partitions {
                self.owned.remove(number);
                self.leaving.insert(*number, epoch);
            }
            return Incoming::Revoked { partitions, epoch };
        }
        let new: Vec<_> = owned
            .keys()
            .filter(|number| !self.owned.contains_key(number))
            .copied()
            .collect();
        let epoch = owned.values().copied().max().unwrap_or_default();
        self.owned = owned;
        Incoming::Assigned {
            partitions: new,
            epoch,
        }
    }
}

impl Consumer for MemoryConsumer {
    type Token = MemoryToken;

    async fn next(&mut self, room: bool) -> Result<Incoming<MemoryToken>, Failure> {
        poll_fn(|cx| self.poll_next(room, cx)).await
    }

    async fn answer(&mut self, token: &MemoryToken, answer: Answer) -> Result<Answered, Failure> {
        self.link.alive()?;
        let now = self.link.host.runtime().now();
        let mut broker = self.link.broker.lock();
        let Some((group, _)) = broker.group(self.topic, &self.group) else {
            return Err(no_topic());
        };
        let Position {
            partition,
            offset,
            epoch,
        } = token.0;
        let at = &mut group.partitions[partition as usize];
        if at.epoch != epoch || !at.is_answered_by(self.member) {
            // Another has it now; it has been, or will be, given to them. That it was revoked is heard next.
            return Ok(Answered::Pending);
        }
        match answer {
            Answer::Ack => at.ack(offset),
            Answer::Nack { after } => at.nack(offset, now + after),
            Answer::InProgress => {}
        }
        // The broker is here: what it was told it knows.
        Ok(Answered::Final)
    }

    async fn release(&mut self, partition: u32, epoch: u64) -> Result<(), Failure> {
        self.link.alive()?;
        if self.leaving.get(&partition) == Some(&epoch) {
            self.leaving.remove(&partition);
        }
        let mut broker = self.link.broker.lock();
        let Some((group, _)) = broker.group(self.topic, &self.group) else {
            return Err(no_topic());
        };
        group.release(self.member, partition as usize, epoch);
        Ok(())
    }

    async fn lag(&mut self) -> Result<Vec<(u32, u64)>, Failure> {
        self.link.alive()?;
        let mut broker = self.link.broker.lock();
        let Some((group, logs)) = broker.group(self.topic, &self.group) else {
            return Err(no_topic());
        };
        Ok((0..)
            .zip(group.partitions.iter().zip(logs))
            .filter(|(_, (at, _))| at.owner == Some(self.member))
            .map(|(number, (at, log))| (number, at.lag(log)))
            .collect())
    }

    fn sure_until(&self) -> Option<Duration> {
        // A partition that is taken away is waited for.
        None
    }

    fn progress_every(&self) -> Option<Duration> {
        None
    }

    async fn close(self, _: Duration) {
        // Leaving the group is in `drop`, so that a consumer that is only dropped leaves as well.
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        if let Some((group, _)) = self.link.broker.lock().group(self.topic, &self.group) {
            group.leave(self.member);
        }
    }
}

fn no_topic() -> Failure {
    Failure::new(
        FailureKind::NoTopic,
        "the topic does not exist at the broker any more",
    )
}
