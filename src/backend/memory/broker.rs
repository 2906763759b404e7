//! The broker's state: topics and their groups, under one lock that no publisher takes.

use super::group::{Group, Member};
use super::log::{Now, PartitionLog, Room};
use crate::backend::{StartAt, partition_of};
use crate::config::{Ensure, Mismatch, Retention, TopicConfig};
use crate::envelope::Envelope;
use crate::error::{ConfigureError, Failure, FailureKind};
use crate::protocol::sync::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, UNIX_EPOCH};

const PARTITIONS: u32 = 4;
const ENVELOPES_MAX: u64 = 1 << 16;
const BYTES_MAX: u64 = 256 << 20;

/// A broker, shared by its connections.
pub(super) struct Broker(Mutex<State>);

/// All that a broker knows.
pub(super) struct State {
    topics: BTreeMap<u64, TopicLog>,
    names: BTreeMap<Arc<str>, u64>,
    /// Every name there ever was, so that a publish to a deleted topic can say which.
    names_ever: BTreeMap<u64, Arc<str>>,
    next_id: u64,
    pub(super) refuses_connections: bool,
    pub(super) held: bool,
    pub(super) answer_after: Duration,
    pub(super) answers_lost: u64,
    pub(super) refusals: u64,
    /// Wakers of the connections, to be told of faults.
    pub(super) connections: Vec<std::sync::Weak<super::connection::Link>>,
}

struct TopicLog {
    config: TopicConfig,
    room: Room,
    partitions: Vec<PartitionLog>,
    groups: BTreeMap<Arc<str>, Group>,
}

/// What `ensure` found or did.
pub(super) struct Ensured {
    pub(super) topic: u64,
    pub(super) partitions: u32,
    pub(super) created: bool,
    /// What was changed to fit, or differs and was let be.
    pub(super) updated: Option<String>,
    pub(super) differs: Option<String>,
}

impl Broker {
    pub(super) fn new() -> Self {
        Self(Mutex::new(State {
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            names_ever: BTreeMap::new(),
            next_id: 1,
            refuses_connections: false,
            held: false,
            answer_after: Duration::ZERO,
            answers_lost: 0,
            refusals: 0,
            connections: Vec::new(),
        }))
    }

    pub(super) fn lock(&self) -> impl std::ops::DerefMut<Target = State> + '_ {
        self.0.lock()
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Broker")
    }
}

impl State {
    /// Stores an envelope: its partition and offset, and the consumers to wake.
    pub(super) fn store(
        &mut self,
        topic: u64,
        envelope: Envelope,
        now: Now,
        wakers: &mut Vec<Waker>,
    ) -> Result<(u32, u64), Failure> {
        if self.refusals > 0 {
            self.refusals -= 1;
            return Err(Failure::new(
                FailureKind::Broker,
                "the broker refused it, as it was told to",
            ));
        }
        let topic = self.topics.get_mut(&topic).ok_or_else(no_topic)?;
        let key = envelope.key.as_deref().unwrap_or(envelope.id.as_bytes());
        let partition = partition_of(key, topic.partitions.len() as u32);
        let at = partition as usize;
        // With no group nobody needs anything, and the oldest may go.
        let needed = topic
            .groups
            .values()
            .map(|group| group.needed(at))
            .min()
            .unwrap_or(u64::MAX);
        let offset = topic.partitions[at]
            .append(envelope, now, topic.room, needed)
            .ok_or_else(no_room)?;
        wakers.extend(
            topic
                .groups
                .values_mut()
                .filter_map(|group| group.take_waker(at)),
        );
        Ok((partition, offset))
    }

    /// Makes sure of a topic, by its policy.
    pub(super) fn ensure(&mut self, config: &TopicConfig) -> Result<Ensured, ConfigureError> {
        let Some(id) = self.names.get(&config.name).copied() else {
            if matches!(config.ensure, Ensure::ValidateOnly | Ensure::Skip) {
                return Err(ConfigureError::Missing {
                    topic: config.name.clone(),
                    policy: config.ensure.name(),
                });
            }
            return Ok(self.create(config));
        };
        let topic = self.topics.get_mut(&id).expect("every name has a topic");
        let mut ensured = Ensured {
            topic: id,
            partitions: topic.partitions.len() as u32,
            created: false,
            updated: None,
            differs: None,
        };
        let differences = topic.differences(config);
        if differences.is_empty() || config.ensure == Ensure::Skip {
            return Ok(ensured);
        }
        let shrinks = config
            .partitions
            .is_some_and(|wanted| wanted < ensured.partitions);
        if config.ensure == Ensure::CreateOrUpdate && !shrinks {
            topic.update(config);
            ensured.partitions = topic.partitions.len() as u32;
            ensured.updated = Some(differences);
        } else if config.mismatch == Mismatch::Error {
            return Err(ConfigureError::Mismatch {
                topic: config.name.clone(),
                differences,
            });
        } else {
            ensured.differs = Some(differences);
        }
        Ok(ensured)
    }

    fn create(&mut self, config: &TopicConfig) -> Ensured {
        let topic = self.next_id;
        self.next_id += 1;
        let partitions = config.partitions.unwrap_or(PARTITIONS);
        let log = TopicLog {
            config: config.clone(),
            room: room(config.retention),
            partitions: (0..partitions).map(|_| PartitionLog::default()).collect(),
            groups: BTreeMap::new(),
        };
        self.topics.insert(topic, log);
        self.names.insert(config.name.clone(), topic);
        self.names_ever.insert(topic, config.name.clone());
        Ensured {
            topic,
            partitions,
            created: true,
            updated: None,
            differs: None,
        }
    }

    /// Takes a topic away with all it has. Says whether there was one.
    pub(super) fn delete(&mut self, name: &str) -> bool {
        let Some(id) = self.names.remove(name) else {
            return false;
        };
        if let Some(mut topic) = self.topics.remove(&id) {
            for member in topic
                .groups
                .values_mut()
                .flat_map(|group| group.members.values_mut())
            {
                member.waker.take().into_iter().for_each(Waker::wake);
            }
        }
        true
    }

    /// The name that a topic has or had.
    pub(super) fn name(&self, topic: u64) -> Option<Arc<str>> {
        self.names_ever.get(&topic).cloned()
    }

    /// The topic's number, if there is one of that name.
    pub(super) fn topic(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    /// Adds a member to a group, which is made if it is new.
    pub(super) fn join(
        &mut self,
        topic: u64,
        group: &Arc<str>,
        start: StartAt,
        in_flight_max: usize,
    ) -> Result<u64, Failure> {
        let id = self.next_id;
        self.next_id += 1;
        let topic = self.topics.get_mut(&topic).ok_or_else(no_topic)?;
        let starts = topic.partitions.iter().map(|log| match start {
            StartAt::Earliest => log.first(),
            StartAt::Latest => log.end(),
            StartAt::Offset(offset) => offset.clamp(log.first(), log.end()),
            StartAt::Time(time) => log.since(time.duration_since(UNIX_EPOCH).unwrap_or_default()),
        });
        let group = topic
            .groups
            .entry(group.clone())
            .or_insert_with(|| Group::new(starts));
        group.join(
            id,
            Member {
                in_flight_max,
                waker: None,
            },
        );
        Ok(id)
    }

    /// A group and the logs it reads.
    pub(super) fn group(
        &mut self,
        topic: u64,
        group: &str,
    ) -> Option<(&mut Group, &[PartitionLog])> {
        let topic = self.topics.get_mut(&topic)?;
        Some((topic.groups.get_mut(group)?, &topic.partitions))
    }
}

impl TopicLog {
    /// What is asked for and is otherwise, for people.
    fn differences(&self, config: &TopicConfig) -> String {
        let mut differences = Vec::new();
        let found = self.partitions.len() as u32;
        if let Some(wanted) = config.partitions.filter(|wanted| *wanted != found) {
            differences.push(format!("partitions: wanted {wanted}, found {found}"));
        }
        if config.retention != Retention::default() && config.retention != self.config.retention {
            let (wanted, found) = (config.retention, self.config.retention);
            differences.push(format!("retention: wanted {wanted:?}, found {found:?}"));
        }
        differences.join("; ")
    }

    fn update(&mut self, config: &TopicConfig) {
        if config.retention != Retention::default() {
            self.config.retention = config.retention;
            self.room = room(config.retention);
        }
        let partitions = config
            .partitions
            .map_or(self.partitions.len(), |wanted| wanted as usize);
        if partitions > self.partitions.len() {
            self.partitions
                .resize_with(partitions, PartitionLog::default);
            self.groups
                .values_mut()
                .for_each(|group| group.grow(partitions));
        }
    }
}

fn room(retention: Retention) -> Room {
    Room {
        envelopes: retention.envelopes.unwrap_or(ENVELOPES_MAX),
        bytes: retention.bytes.unwrap_or(BYTES_MAX),
        age: retention.age,
    }
}

fn no_topic() -> Failure {
    Failure::new(
        FailureKind::NoTopic,
        "the topic does not exist at the broker",
    )
}

fn no_room() -> Failure {
    Failure::new(
        FailureKind::NoRoom,
        "the partition is full of envelopes that a group has not acknowledged",
    )
}
