//! Reading: what is ours and not leaving is asked for, in one request that the broker holds back until there is something.
//!
//! What comes back counts only for the epoch and from the place for which it was asked: what was taken away meanwhile, or has gone on, is
//! somebody else's to read.

use super::{AGAIN, Client, Cluster, Denied, Fetched, What};
use crate::sim::broker::kafka::log::{Fetched as Read, OutOfRange};
use crate::sim::broker::kafka::settings::OffsetReset;
use clearway::{Envelope, Failure, FailureKind};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// How long the broker holds back an answer without anything in it.
const HOLD: Duration = Duration::from_millis(500);

/// From where a partition is read, under which epoch.
#[derive(Clone, Copy)]
struct From {
    partition: u32,
    epoch: u64,
    next: Option<u64>,
}

/// What was read of a partition.
struct Got {
    from: From,
    begun: u64,
    read: Result<Read<Envelope>, OutOfRange>,
}

impl Client {
    pub(super) async fn fetch(self: Arc<Self>) {
        loop {
            let mut woken = Box::pin(self.reads.notified());
            woken.as_mut().enable();
            let (wanted, most) = {
                let state = self.state();
                if state.ended || state.failed {
                    return;
                }
                let most = self
                    .net
                    .settings()
                    .ahead
                    .saturating_sub(state.fetched.len());
                let wanted: Vec<From> = (state.owned.iter())
                    .map(|(partition, owned)| From {
                        partition: *partition,
                        epoch: owned.epoch,
                        next: owned.next,
                    })
                    .collect();
                (wanted, most)
            };
            if wanted.is_empty() || most == 0 {
                woken.await;
                continue;
            }
            let (topic, id) = (self.request.topic.name.clone(), self.topic);
            let asked = self.net.ask_until(HOLD, move |cluster, _| {
                read(cluster, &topic, id, &wanted, most).transpose()
            });
            // What is ours may be other partitions by now: then those are asked for.
            let asked = tokio::select! {
                biased;
                asked = asked => asked,
                () = woken => continue,
            };
            match asked {
                Ok(Some(Ok(all))) => all.into_iter().for_each(|got| self.take(got)),
                Ok(Some(Err(_))) => self.miss(),
                Ok(None) => {}
                Err(_) => self.net.sleep(AGAIN).await,
            }
        }
    }

    fn take(&self, got: Got) {
        let From {
            partition, epoch, ..
        } = got.from;
        let mut state = self.state();
        let Some(owned) = state.owned.get_mut(&partition) else {
            return;
        };
        if owned.epoch != epoch || owned.next != got.from.next {
            return;
        }
        let fetched = |what| Fetched {
            partition,
            epoch,
            what,
        };
        let mut all = Vec::new();
        match got.read {
            Ok(read) => {
                let before = got.begun;
                let seen = read.records.last().map_or(before, |(offset, _)| offset + 1);
                let first = read.records.first().map_or(before, |(offset, _)| *offset);
                if first > before || read.next > seen {
                    self.net.shared.weather.goal("a gap crossed");
                }
                let records = read.records.into_iter();
                all.extend(records.map(|(at, envelope)| fetched(What::Delivery(at, envelope))));
                owned.next = Some(read.next);
                if read.next > seen {
                    // Where it began nobody has said, unless the group had committed it.
                    let seen = (seen > before || got.from.next.is_some()).then_some(seen);
                    let offset = read.next;
                    all.push(fetched(What::End { seen, offset }));
                }
            }
            Err(range) => match self.net.settings().offset_reset {
                OffsetReset::Earliest => owned.next = Some(range.first),
                OffsetReset::Latest => owned.next = Some(range.end),
                OffsetReset::Error => {
                    drop(state);
                    let text = "where the group would go on is not kept any more";
                    return self.fail(Failure::new(FailureKind::Mismatch, text));
                }
            },
        }
        state.fetched.extend(all);
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }
}

/// Reads what is wanted, if there is any of it, or a place from which there is nothing to read.
fn read(
    cluster: &Cluster,
    topic: &str,
    id: u64,
    wanted: &[From],
    most: usize,
) -> Result<Option<Vec<Got>>, Denied> {
    let topic = cluster.topic(topic).filter(|topic| topic.id == id);
    let topic = topic.ok_or(Denied::NoTopic)?;
    let mut all = Vec::new();
    for from in wanted {
        let Some(log) = topic.logs.get(from.partition as usize) else {
            continue;
        };
        let begun = from.next.unwrap_or(log.first());
        let read = log.fetch(begun, most);
        let is_something = read.as_ref().map_or(true, |read| read.next > begun);
        if is_something {
            let from = *from;
            all.push(Got { from, begun, read });
        }
    }
    Ok((!all.is_empty()).then_some(all))
}
