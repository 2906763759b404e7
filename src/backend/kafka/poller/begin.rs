//! Begin: where a group that is new starts, settled before its first member joins.
//!
//! The place is committed, so that every member finds the same one, whenever it joins and whatever was published meanwhile. A group that
//! has members for other topics takes no commit of an outsider: then the place is kept here, given along with the assignment, and
//! committed by the member that has the partition, before anything of it is settled.
//!
//! The broker has no commit that counts only if there is none yet. So it is asked once more directly before; what is left is a member
//! that is new, too, and handles and commits between that look and our commit: what it handled comes again.

use super::Start;
use super::context::Context;
use crate::backend::kafka::{codes, native};
use crate::backend::{Host, StartAt};
use crate::error::{Failure, FailureKind};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(50);
/// How often it is looked whether the broker does not let us, while the group's coordinator is waited for.
const LOOK_EVERY: Duration = Duration::from_secs(2);

type Client = BaseConsumer<Context>;

/// Where the group begins in each partition, if it is new and the broker did not take that place; empty otherwise. Blocks.
pub(super) fn begin(consumer: &Client, start: &Start) -> Result<BTreeMap<i32, i64>, Failure> {
    let (topic, limit, host) = (&*start.topic, start.options.request_timeout, &*start.host);
    let spreads = limit.min(native::TOPIC_SPREADS);
    let partitions = again(host, limit, spreads, || {
        partitions_of(consumer, topic, limit)
    })?;
    let of_group = group_limit(limit);
    let ask = || {
        let committed = committed(consumer, topic, &partitions, limit.min(LOOK_EVERY));
        committed.map_err(|failure| refusal(consumer).unwrap_or(failure))
    };
    if !again(host, of_group, spreads, ask)?.is_empty() {
        return Ok(BTreeMap::new());
    }
    let find = || places(consumer, topic, &partitions, start.start, limit);
    let mut places = again(host, limit, limit, find)?;
    let has = again(host, limit, spreads, || commit(consumer, start, &places))?;
    places.retain(|partition, _| !has.contains_key(partition));
    if !places.is_empty() {
        tracing::debug!(topic = %start.topic, group = %start.group, "where it begins is kept here");
    }
    Ok(places)
}

/// Does `work` until it is done, within `limit`: a broker that has just come up, and a group whose coordinator is being made, refuse for
/// a moment what they do the next. Of a topic that was just made not every broker has heard: that is waited for as long as it `spreads`.
pub(super) fn again<T>(
    host: &dyn Host,
    limit: Duration,
    spreads: Duration,
    mut work: impl FnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let runtime = host.runtime();
    let begun = runtime.now();
    loop {
        let failure = match work() {
            Err(failure) if failure.is_retryable() => failure,
            done => return done,
        };
        let limit = match failure.kind() {
            FailureKind::NoTopic => spreads,
            _ => limit,
        };
        if runtime.now() >= begun + limit {
            return Err(failure);
        }
        tracing::debug!(target: "clearway::kafka", %failure, "again in a moment");
        thread::park_timeout(AGAIN);
    }
}

/// The first group of a broker waits until the broker has made a topic for it.
fn group_limit(limit: Duration) -> Duration {
    limit.max(Duration::from_secs(20))
}

fn partitions_of(consumer: &Client, topic: &str, limit: Duration) -> Result<Vec<i32>, Failure> {
    let metadata = consumer.fetch_metadata(Some(topic), limit);
    let metadata = metadata.map_err(|error| trouble(consumer, &codes::failure(&error)))?;
    let no_topic = || {
        Failure::new(
            FailureKind::NoTopic,
            "the topic does not exist at the broker",
        )
    };
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or_else(no_topic)?;
    match found.error().map(Code::from) {
        None => {}
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Err(no_topic()),
        Some(code) => return Err(codes::failure_of(code)),
    }
    // It has let us in, whatever it said before.
    consumer.context().noted.trouble.clear();
    Ok(found.partitions().iter().map(|at| at.id()).collect())
}

/// The reason that the client told, if it did, says more than that there was no answer.
fn trouble(consumer: &Client, failure: &Failure) -> Failure {
    let told = consumer.context().noted.trouble.refusal();
    told.unwrap_or_else(|| failure.clone())
}

/// What the broker does not let us do. A client that is asked for its group's place goes on asking whoever refuses, and tells that where it
/// tells of records; before it has subscribed there are none to lose.
fn refusal(consumer: &Client) -> Option<Failure> {
    loop {
        if let Err(error) = consumer.poll(AGAIN)? {
            let failure = codes::failure(&error);
            if failure.kind() == FailureKind::Unauthorized {
                return Some(failure);
            }
        }
    }
}

/// What the group has committed, in partitions where it has.
pub(super) fn committed(
    consumer: &Client,
    topic: &str,
    partitions: &[i32],
    limit: Duration,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition(topic, *partition);
    }
    let list = consumer.committed_offsets(list, limit);
    let list = list.map_err(|error| trouble(consumer, &codes::failure(&error)))?;
    read(&list)
}

/// The offset of each partition in a list that the client has filled in. A list that is kept would keep the client from ending.
fn read(list: &TopicPartitionList) -> Result<BTreeMap<i32, i64>, Failure> {
    let mut offsets = BTreeMap::new();
    for at in list.elements() {
        at.error().map_err(|error| codes::failure(&error))?;
        if let Offset::Offset(offset) = at.offset() {
            offsets.insert(at.partition(), offset);
        }
    }
    Ok(offsets)
}

fn places(
    consumer: &Client,
    topic: &str,
    partitions: &[i32],
    start: StartAt,
    limit: Duration,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let at = |place| offsets_at(consumer, topic, partitions, place, limit);
    match start {
        StartAt::Earliest => at(Offset::Beginning),
        StartAt::Latest => at(Offset::End),
        StartAt::Offset(wanted) => {
            let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
            let (low, mut high) = (at(Offset::Beginning)?, at(Offset::End)?);
            for (partition, end) in &mut high {
                let begin = low.get(partition).copied().unwrap_or(0);
                *end = wanted.clamp(begin.min(*end), *end);
            }
            Ok(high)
        }
        StartAt::Time(time) => {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            let ms = i64::try_from(since.as_millis()).unwrap_or(i64::MAX);
            let found = at(Offset::Offset(ms))?;
            // Nothing is that new: the next one to come.
            let mut all = at(Offset::End)?;
            all.extend(found);
            Ok(all)
        }
    }
}

/// The offsets of `place`: the beginning, the end, or the first at a time in milliseconds.
fn offsets_at(
    consumer: &Client,
    topic: &str,
    partitions: &[i32],
    place: Offset,
    limit: Duration,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        let added = list.add_partition_offset(topic, *partition, place);
        added.map_err(|error| codes::failure(&error))?;
    }
    let list = consumer.offsets_for_times(list, limit);
    read(&list.map_err(|error| codes::failure(&error))?)
}

/// Commits where the group begins. The broker takes that from an outsider as long as the group has no members; if it has some, they
/// have a say, and the place is kept by us. Says what the broker has then.
fn commit(
    consumer: &Client,
    start: &Start,
    places: &BTreeMap<i32, i64>,
) -> Result<BTreeMap<i32, i64>, Failure> {
    let partitions: Vec<_> = places.keys().copied().collect();
    let limit = start.options.request_timeout;
    // Another that is new may have begun meanwhile.
    let has = committed(consumer, &start.topic, &partitions, limit)?;
    let missing = places.iter().filter(|(at, _)| !has.contains_key(at));
    let mut list = TopicPartitionList::new();
    for (partition, offset) in missing {
        let added = list.add_partition_offset(&start.topic, *partition, Offset::Offset(*offset));
        added.map_err(|error| codes::failure(&error))?;
    }
    if list.count() == 0 {
        return Ok(has);
    }
    let sent = consumer.commit(&list, CommitMode::Async);
    drop(list);
    sent.map_err(|error| codes::failure(&error))?;
    committed(consumer, &start.topic, &partitions, limit)
}
