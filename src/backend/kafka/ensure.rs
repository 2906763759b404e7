//! Ensure: a topic is there and as configured, because the brokers said so after the last change.
//!
//! Look, compare, change, and look again, until there is nothing left to change. Another process that makes the same topic at the
//! same moment is no error: whoever comes second finds it there.

use super::admin::Admin;
use super::codes;
use super::connect::NAME;
use super::options::Options;
use super::plan::{self, Change, Difference, Found};
use super::produce::Route;
use super::threads;
use crate::backend::{Host, invalid_topic};
use crate::config::{Durability, Ensure, Mismatch, TopicConfig};
use crate::error::{ConfigureError, Failure, FailureKind, Unsupported};
use crate::events::BusEvent;
use rdkafka::admin::{
    AdminOptions, AlterConfig, ConfigSource, NewPartitions, NewTopic, OwnedResourceSpecifier,
    ResourceSpecifier, TopicReplication,
};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked at and changed before we give up.
const ROUNDS: u32 = 200;
/// Between a change and the next look, while brokers tell each other.
const PAUSE: Duration = Duration::from_millis(50);

/// One topic to be ensured.
struct Ensuring<'a> {
    admin: &'a Arc<Admin>,
    options: &'a Options,
    host: &'a dyn Host,
    config: &'a TopicConfig,
    /// The settings that it has of its own: they stay when others are changed.
    own: BTreeMap<String, String>,
}

/// What has been done so far.
enum Done {
    Nothing,
    Created,
    Updated(String),
}

/// Makes sure of `config`'s topic.
pub(super) async fn ensure(
    admin: &Arc<Admin>,
    options: &Options,
    host: &dyn Host,
    config: &TopicConfig,
) -> Result<Route, ConfigureError> {
    if let (Ensure::Skip, Some(partitions)) = (config.ensure, config.partitions) {
        return Ok(route(config, partitions, Durability::Volatile));
    }
    let own = BTreeMap::new();
    let mut ensuring = Ensuring {
        admin,
        options,
        host,
        config,
        own,
    };
    ensuring.run().await
}

fn route(config: &TopicConfig, partitions: u32, durability: Durability) -> Route {
    Route {
        topic: config.name.clone(),
        partitions,
        durability,
    }
}

impl Ensuring<'_> {
    async fn run(&mut self) -> Result<Route, ConfigureError> {
        let mut done = Done::Nothing;
        for _ in 0..ROUNDS {
            let Some(found) = self.look().await? else {
                match (&done, self.config.ensure) {
                    (Done::Nothing, Ensure::ValidateOnly | Ensure::Skip) => {
                        return Err(self.missing());
                    }
                    // Made or changed, and the broker that was asked has not heard of it yet; or deleted since, and made again.
                    _ => {
                        if self.create().await? {
                            // At once: if it is asked for anew meanwhile it is found there.
                            self.tell_created();
                            done = Done::Created;
                        }
                    }
                }
                self.host.runtime().sleep(PAUSE).await;
                continue;
            };
            if self.config.ensure == Ensure::Skip {
                // Only which partition a key is in was to be known: that is the same for every client.
                return Ok(route(self.config, found.partitions, Durability::Volatile));
            }
            let differences = plan::compare(self.config, self.options, &found);
            let may_change = self.config.ensure == Ensure::CreateOrUpdate
                || matches!(done, Done::Created) && self.config.ensure == Ensure::CreateOnly;
            let (can, cannot): (Vec<_>, Vec<_>) =
                (differences.into_iter()).partition(|d| may_change && d.change.is_some());
            if !can.is_empty() {
                self.change(&can).await?;
                if !matches!(done, Done::Created) {
                    done = Done::Updated(plan::tell(&can));
                }
                self.host.runtime().sleep(PAUSE).await;
                continue;
            }
            if !cannot.is_empty() {
                self.accept_or_refuse(&cannot)?;
            }
            self.tell(done);
            return Ok(route(self.config, found.partitions, Durability::Stored));
        }
        let text = format!("the brokers do not agree on it after {ROUNDS} looks");
        Err(self.failed(Failure::new(FailureKind::TimedOut, text)))
    }

    /// The topic as the brokers have it now. `None`: it is not there, or not everywhere yet.
    async fn look(&mut self) -> Result<Option<Found>, ConfigureError> {
        let limit = self.options.request_timeout;
        let until = self.host.runtime().now() + limit;
        let found = loop {
            let (admin, name) = (self.admin.clone(), self.config.name.clone());
            let looked =
                threads::off("clearway-kafka-look", move || look(&admin, &name, limit)).await;
            match looked.map_err(|failure| self.failed(failure))? {
                Ok(Some(found)) => break found,
                Ok(None) => return Ok(None),
                // A leader is being elected, or a broker comes up: it may be there, and soon somebody says so.
                Err(code) if is_for_now(code) && self.host.runtime().now() < until => {
                    self.host.runtime().sleep(PAUSE).await;
                }
                Err(code) => return Err(self.refused(code)),
            }
        };
        if !plan::asks_for_settings(self.config, self.options) {
            return Ok(Some(found));
        }
        let resource = ResourceSpecifier::Topic(&self.config.name);
        let described = (self.admin)
            .describe_configs([&resource], &self.asking())
            .await;
        let described = described.map_err(|error| self.error(&error))?.pop();
        let resource = match described {
            Some(Ok(resource)) => resource,
            Some(Err(Code::UnknownTopicOrPartition)) | None => return Ok(None),
            Some(Err(code)) => return Err(self.refused(code)),
        };
        debug_assert!(matches!(
            resource.specifier,
            OwnedResourceSpecifier::Topic(_)
        ));
        let mut settings = BTreeMap::new();
        self.own.clear();
        for entry in resource.entries {
            let Some(value) = entry.value else {
                continue;
            };
            if entry.source == ConfigSource::DynamicTopic {
                self.own.insert(entry.name.clone(), value.clone());
            }
            settings.insert(entry.name, value);
        }
        Ok(Some(Found { settings, ..found }))
    }

    /// Makes it. `false`: somebody else just did.
    async fn create(&self) -> Result<bool, ConfigureError> {
        let config = self.config;
        let replicas = config.replicas.or(self.options.replicas);
        // -1 is the broker's default.
        let replication = TopicReplication::Fixed(replicas.map_or(-1, |n| n as i32));
        let partitions = config.partitions.map_or(-1, |n| n as i32);
        let mut settings = plan::settings(config, self.options, config.partitions.unwrap_or(1));
        settings.insert(plan::OURS.0, plan::OURS.1.into());
        let mut topic = NewTopic::new(&config.name, partitions, replication);
        for (name, value) in &settings {
            topic = topic.set(name, value);
        }
        let created = self.admin.create_topics([&topic], &self.asking()).await;
        match created.map_err(|error| self.error(&error))?.pop() {
            Some(Ok(_)) => Ok(true),
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(false),
            Some(Err((_, code))) => Err(self.refused(code)),
            None => Ok(false),
        }
    }

    async fn change(&self, differences: &[Difference]) -> Result<(), ConfigureError> {
        let name = &*self.config.name;
        let mut settings = self.own.clone();
        let mut changes_settings = false;
        for change in differences.iter().filter_map(|d| d.change.as_ref()) {
            match change {
                Change::Partitions(wanted) => {
                    let partitions = NewPartitions::new(name, *wanted as usize);
                    let grown = (self.admin).create_partitions([&partitions], &self.asking());
                    match grown.await.map_err(|error| self.error(&error))?.pop() {
                        // Somebody else was faster: the next look says how far.
                        Some(Err((_, Code::InvalidPartitions))) | Some(Ok(_)) | None => {}
                        Some(Err((_, code))) => return Err(self.refused(code)),
                    }
                }
                Change::Setting(setting, value) => {
                    settings.insert((*setting).into(), value.clone());
                    changes_settings = true;
                }
            }
        }
        if !changes_settings {
            return Ok(());
        }
        // The request says all of a topic's own settings: those that it does not name go back to the broker's.
        let mut alter = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (setting, value) in &settings {
            alter = alter.set(setting, value);
        }
        let altered = self.admin.alter_configs([&alter], &self.asking()).await;
        match altered.map_err(|error| self.error(&error))?.pop() {
            Some(Err((_, code))) => Err(self.refused(code)),
            Some(Ok(_)) | None => Ok(()),
        }
    }

    fn accept_or_refuse(&self, differences: &[Difference]) -> Result<(), ConfigureError> {
        let (topic, differences) = (self.config.name.clone(), plan::tell(differences));
        match self.config.mismatch {
            Mismatch::Error => Err(ConfigureError::Mismatch { topic, differences }),
            Mismatch::Warn => {
                tracing::warn!(%topic, %differences, "the topic is used as it is");
                self.host
                    .event(BusEvent::TopicMismatch { topic, differences });
                Ok(())
            }
        }
    }

    fn tell_created(&self) {
        let topic = self.config.name.clone();
        self.host.event(BusEvent::TopicCreated { topic });
    }

    fn tell(&self, done: Done) {
        if let Done::Updated(differences) = done {
            let topic = self.config.name.clone();
            self.host
                .event(BusEvent::TopicUpdated { topic, differences });
        }
    }

    fn asking(&self) -> AdminOptions {
        let limit = Some(self.options.request_timeout);
        AdminOptions::new()
            .request_timeout(limit)
            .operation_timeout(limit)
    }

    fn missing(&self) -> ConfigureError {
        ConfigureError::Missing {
            topic: self.config.name.clone(),
            policy: self.config.ensure.name(),
        }
    }

    fn failed(&self, failure: Failure) -> ConfigureError {
        ConfigureError::Failed {
            topic: self.config.name.clone(),
            failure,
        }
    }

    fn error(&self, error: &KafkaError) -> ConfigureError {
        match error.rdkafka_error_code() {
            Some(code) => self.refused(code),
            None => self.failed(codes::failure(error)),
        }
    }

    /// Why the brokers do not take it, in the words of the topic.
    fn refused(&self, code: Code) -> ConfigureError {
        let config = self.config;
        match code {
            Code::InvalidTopic => {
                let reason = "the broker does not take the name";
                invalid_topic(NAME, &config.name, reason).into()
            }
            Code::InvalidReplicationFactor => {
                let wanted = config.replicas.or(self.options.replicas);
                let wanted = wanted.map_or("the default".into(), |n| n.to_string());
                Unsupported {
                    backend: NAME,
                    what: format!(
                        "replicas of topic `{}`: wanted {wanted}, more than there are brokers",
                        config.name
                    )
                    .into(),
                }
                .into()
            }
            Code::InvalidConfig | Code::PolicyViolation => {
                let asked = plan::settings(config, self.options, config.partitions.unwrap_or(1));
                let names: Vec<_> = asked.keys().copied().collect();
                let text = format!("Kafka: {code}, one of {}", names.join(", "));
                self.failed(Failure::new(FailureKind::Mismatch, text))
            }
            code => self.failed(codes::failure_of(code)),
        }
    }
}

/// Whether nobody is there to answer it yet.
fn is_for_now(code: Code) -> bool {
    codes::kind_of(code) == FailureKind::Disconnected
}

/// Asks the brokers. Blocks. `Ok(None)`: there is no such topic.
fn look(admin: &Admin, name: &str, limit: Duration) -> Result<Option<Found>, Code> {
    let metadata = admin.inner().fetch_metadata(Some(name), limit);
    let metadata = metadata.map_err(|error| error.rdkafka_error_code().unwrap_or(Code::Unknown))?;
    let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
        return Ok(None);
    };
    match topic.error().map(Code::from) {
        None => {}
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic) => return Ok(None),
        Some(code) => return Err(code),
    }
    let partitions = topic.partitions();
    // Another error is of a copy that is behind, or whose broker is down: it can be used.
    let mut errors = partitions.iter().filter_map(|partition| partition.error());
    if errors.any(|error| Code::from(error) == Code::LeaderNotAvailable) {
        return Err(Code::LeaderNotAvailable);
    }
    let replicas = partitions
        .iter()
        .map(|partition| partition.replicas().len());
    Ok(Some(Found {
        partitions: partitions.len() as u32,
        replicas: replicas.min().unwrap_or(0) as u32,
        settings: BTreeMap::new(),
    }))
}
