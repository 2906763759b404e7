//! The brokers together: topics with their logs, groups with their coordinators, and whether anybody is there to answer.
//!
//! State only, changed by requests at the time at which they arrive. What was said to be stored is lost by no lever here but the
//! deletion of its topic.

use super::group::{Group, Member, Refused};
use super::log::{Log, NotAppended, Number};
use super::settings::Settings;
use clearway::{
    ConfigureError, Ensure, Envelope, Failure, FailureKind, Mismatch, Retention, TopicConfig,
    Unsupported,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How many brokers there are, so that as many can hold a copy.
const BROKERS: u32 = 3;

/// See the module.
pub(super) struct Cluster {
    pub(super) up: bool,
    topics: BTreeMap<Arc<str>, Topic>,
    groups: BTreeMap<(Arc<str>, Arc<str>), Group>,
    settings: Settings,
    topics_made: u64,
    producers_made: u64,
}

pub(super) struct Topic {
    /// One that is made again is another.
    pub(super) id: u64,
    retention: Retention,
    pub(super) logs: Vec<Log<Envelope>>,
}

/// A topic that is there, and what was done about it.
#[derive(Debug)]
pub(super) struct Ensured {
    pub(super) id: u64,
    pub(super) partitions: u32,
    pub(super) created: bool,
    pub(super) updated: Option<String>,
    pub(super) differs: Option<String>,
}

/// Where in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) topic: Arc<str>,
    pub(super) id: u64,
    pub(super) partition: u32,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// There is no such topic, or it is another by now.
    NoTopic,
    /// It is numbered wrong.
    Numbered(NotAppended),
    /// By the coordinator.
    Group(Refused),
}

impl Cluster {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            up: true,
            topics: BTreeMap::new(),
            groups: BTreeMap::new(),
            settings,
            topics_made: 0,
            producers_made: 0,
        }
    }

    /// The id of a producer that is new.
    pub(super) fn producer(&mut self) -> u64 {
        self.producers_made += 1;
        self.producers_made
    }

    pub(super) fn topic(&self, name: &str) -> Option<&Topic> {
        self.topics.get(name)
    }

    fn log(&mut self, place: &Place) -> Result<&mut Log<Envelope>, Denied> {
        let topic = self.topics.get_mut(&place.topic);
        let topic = topic.filter(|topic| topic.id == place.id);
        let log = topic.and_then(|topic| topic.logs.get_mut(place.partition as usize));
        log.ok_or(Denied::NoTopic)
    }

    /// Appends in order what is numbered from `number` on. Behind the last of it, and the term in which it is.
    pub(super) fn append(
        &mut self,
        place: &Place,
        mut number: Number,
        unix: Duration,
        envelopes: &[Envelope],
    ) -> Result<(Vec<(u64, bool)>, u64), Denied> {
        let log = self.log(place)?;
        let mut stored = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            let appended = log.append(number, unix, envelope.clone());
            let appended = appended.map_err(Denied::Numbered)?;
            stored.push((appended.offset, appended.duplicate));
            number.sequence += 1;
        }
        Ok((stored, log.term()))
    }

    /// Leaves a place that is no envelope.
    pub(super) fn mark(&mut self, place: &Place) -> Option<u64> {
        self.log(place).ok().map(Log::mark)
    }

    /// All replicas have what was appended below `offset` in that term. `false`: another leads since, and may not have it.
    pub(super) fn replicated(&mut self, place: &Place, offset: u64, term: u64) -> bool {
        match self.log(place) {
            Ok(log) if log.term() == term => {
                log.replicated(offset);
                true
            }
            _ => false,
        }
    }

    /// The coordinator of a group of a topic that is there.
    pub(super) fn group(
        &mut self,
        topic: &str,
        id: u64,
        group: &str,
    ) -> Result<&mut Group, Denied> {
        let found = (self.topics.get_key_value(topic)).filter(|(_, topic)| topic.id == id);
        let (name, found) = found.ok_or(Denied::NoTopic)?;
        let (partitions, settings) = (found.logs.len() as u32, &self.settings);
        let key = (name.clone(), Arc::from(group));
        Ok(self
            .groups
            .entry(key)
            .or_insert_with(|| Group::new(settings.rebalancing, settings.patience, partitions)))
    }

    /// A member goes, whether its topic is there or not.
    pub(super) fn leave(
        &mut self,
        now: Duration,
        topic: &Arc<str>,
        group: &Arc<str>,
        member: Member,
    ) {
        if let Some(group) = self.groups.get_mut(&(topic.clone(), group.clone())) {
            group.leave(now, member);
        }
    }

    /// Time has come so far.
    pub(super) fn advance(&mut self, now: Duration) {
        self.groups
            .values_mut()
            .for_each(|group| group.advance(now));
    }

    /// The leaders are gone: others come, which have what was safe and some of the rest.
    pub(super) fn lose_leaders(&mut self, mut of_rest: impl FnMut(u64) -> u64) {
        for log in self.topics.values_mut().flat_map(|topic| &mut topic.logs) {
            let rest = log.end() - log.readable();
            log.lead(log.readable() + of_rest(rest + 1));
        }
    }

    /// Coordinators come up, and count from now on.
    pub(super) fn revive(&mut self, now: Duration) {
        self.up = true;
        self.groups.values_mut().for_each(|group| group.revive(now));
    }

    /// Takes a topic away with all it has, and all that was committed for it.
    pub(super) fn delete(&mut self, name: &str) -> bool {
        for ((topic, _), group) in &mut self.groups {
            if **topic == *name {
                group.forget();
            }
        }
        self.topics.remove(name).is_some()
    }

    /// What every group has committed in a topic.
    pub(super) fn committed(&self, topic: &str, group: &str) -> BTreeMap<u32, u64> {
        let key = (Arc::from(topic), Arc::from(group));
        let group = self.groups.get(&key);
        group
            .map(|group| group.committed().clone())
            .unwrap_or_default()
    }

    /// Makes sure of a topic, by its policy.
    pub(super) fn ensure(
        &mut self,
        now: Duration,
        config: &TopicConfig,
    ) -> Result<Ensured, ConfigureError> {
        let name = &config.name;
        let Some(topic) = self.topics.get_mut(name) else {
            if matches!(config.ensure, Ensure::ValidateOnly | Ensure::Skip) {
                return Err(ConfigureError::Missing {
                    topic: name.clone(),
                    policy: config.ensure.name(),
                });
            }
            return self.create(now, config);
        };
        let found = topic.logs.len() as u32;
        let mut ensured = Ensured {
            id: topic.id,
            partitions: found,
            created: false,
            updated: None,
            differs: None,
        };
        let differences = topic.differences(config);
        if differences.is_empty() || config.ensure == Ensure::Skip {
            return Ok(ensured);
        }
        let shrinks = config.partitions.is_some_and(|wanted| wanted < found);
        if config.ensure == Ensure::CreateOrUpdate && !shrinks {
            ensured.partitions = config.partitions.unwrap_or(found);
            topic
                .logs
                .resize_with(ensured.partitions as usize, Log::default);
            if config.retention != Retention::default() {
                topic.retention = config.retention;
            }
            ensured.updated = Some(differences);
            self.grow(now, name, ensured.partitions);
        } else if config.mismatch == Mismatch::Error {
            return Err(ConfigureError::Mismatch {
                topic: name.clone(),
                differences,
            });
        } else {
            ensured.differs = Some(differences);
        }
        Ok(ensured)
    }

    fn create(&mut self, now: Duration, config: &TopicConfig) -> Result<Ensured, ConfigureError> {
        if let Some(wanted) = config.replicas.filter(|wanted| *wanted > BROKERS) {
            let what = format!(
                "replicas of topic `{}`: wanted {wanted}, more than there are brokers",
                config.name
            );
            return Err(Unsupported {
                backend: super::backend::NAME,
                what: what.into(),
            }
            .into());
        }
        self.topics_made += 1;
        let partitions = config.partitions.unwrap_or(self.settings.partitions);
        let topic = Topic {
            id: self.topics_made,
            retention: config.retention,
            logs: (0..partitions).map(|_| Log::default()).collect(),
        };
        self.topics.insert(config.name.clone(), topic);
        // Members of a topic that was deleted may wait for it still.
        self.grow(now, &config.name, partitions);
        Ok(Ensured {
            id: self.topics_made,
            partitions,
            created: true,
            updated: None,
            differs: None,
        })
    }

    fn grow(&mut self, now: Duration, name: &str, partitions: u32) {
        for ((topic, _), group) in &mut self.groups {
            if **topic == *name {
                group.grow(now, partitions);
            }
        }
    }
}

impl Topic {
    fn differences(&self, config: &TopicConfig) -> String {
        let mut differences = Vec::new();
        let found = self.logs.len() as u32;
        if let Some(wanted) = config.partitions.filter(|wanted| *wanted != found) {
            differences.push(format!("partitions: wanted {wanted}, found {found}"));
        }
        if config.retention != Retention::default() && config.retention != self.retention {
            let (wanted, found) = (config.retention, self.retention);
            differences.push(format!("retention: wanted {wanted:?}, found {found:?}"));
        }
        differences.join("; ")
    }
}

impl Denied {
    /// In the bus's words.
    pub(super) fn failure(self) -> Failure {
        match self {
            Self::NoTopic => Failure::new(
                FailureKind::NoTopic,
                "the topic does not exist at the broker",
            ),
            other => Failure::new(FailureKind::Broker, format!("Kafka, simulated: {other:?}")),
        }
    }
}
