//! Ensure: a topic's stream is there and as configured, because the server said so after the last change.
//!
//! Read, plan, write, and read again, until there is nothing left to write. The server takes a
//! stream's whole configuration with each change and keeps no version of it, so of two writers at once
//! the last one wins and the other's subjects are gone. A change of an existing stream is
//! therefore looked at once more after a pause that is far longer than a writer takes from its reading to
//! its writing; whoever was overwritten sees it then and writes again.

use super::api::{Api, ApiError, code};
use super::connect::NAME;
use super::options::Options;
use super::plan::{self, Difference, Found};
use super::produce::Target;
use crate::backend::Host;
use crate::config::{Ensure, Mismatch, TopicConfig};
use crate::error::{ConfigureError, Failure, FailureKind, Unsupported};
use crate::events::BusEvent;
use serde_json::{Value, json};
use std::time::Duration;

/// How often it is written before we give up against other writers.
const ROUNDS: u32 = 16;
/// The pause before a change is looked at again, and at most as much by chance on top.
const PAUSE: Duration = Duration::from_millis(100);

/// What has been written so far.
enum Written {
    Nothing,
    Created,
    Updated { differences: String, added: bool },
}

/// Makes sure of `config`'s topic, and says where its envelopes go.
pub(super) async fn ensure(
    api: &Api,
    options: &Options,
    host: &dyn Host,
    config: &TopicConfig,
) -> Result<Target, ConfigureError> {
    if config.ensure == Ensure::Skip {
        return Ok(plan::assumed(config));
    }
    let name = plan::stream_name(config, options);
    let mut written = Written::Nothing;
    for _ in 0..ROUNDS {
        let there = api.stream(&name).await;
        let there = there.map_err(|error| failed(config, error))?;
        let Some(stream) = there.as_ref().map(|info| &info["config"]) else {
            if config.ensure == Ensure::ValidateOnly {
                return Err(missing(config));
            }
            if create(api, options, config, &name).await? {
                written = Written::Created;
            }
            continue;
        };
        let found = plan::compare(config, stream);
        let (changeable, stuck) = split(config, options, &found)?;
        if !changeable.is_empty() {
            let differences = plan::tell(&changeable);
            let update = plan::changed(stream, &changeable);
            let verb = format!("STREAM.UPDATE.{name}");
            match api.call(&verb, &update).await {
                Ok(_) => {}
                // Deleted since we looked.
                Err(error) if error.is(code::STREAM_NOT_FOUND) => continue,
                Err(error) => return Err(refused(api, config, error).await),
            }
            written = Written::Updated {
                differences,
                added: found.partitions == 0,
            };
            pause(host).await;
            continue;
        }
        if !stuck.is_empty() {
            accept_or_refuse(host, config, &stuck)?;
        }
        tell(host, config, written);
        return Ok(found.target);
    }
    let text = format!("other writers changed stream `{name}` {ROUNDS} times while we did");
    Err(ConfigureError::Failed {
        topic: config.name.clone(),
        failure: Failure::new(FailureKind::Broker, text),
    })
}

/// Creates the stream. `false`: somebody else just did.
async fn create(
    api: &Api,
    options: &Options,
    config: &TopicConfig,
    name: &str,
) -> Result<bool, ConfigureError> {
    let verb = format!("STREAM.CREATE.{name}");
    match api.call(&verb, &plan::new_stream(config, options)).await {
        Ok(_) => Ok(true),
        Err(error) if error.is(code::STREAM_EXISTS) => Ok(false),
        Err(error) => Err(refused(api, config, error).await),
    }
}

/// What is to be changed, and what stays different.
fn split(
    config: &TopicConfig,
    options: &Options,
    found: &Found,
) -> Result<(Vec<Difference>, Vec<Difference>), ConfigureError> {
    let is_missing = found.partitions == 0;
    let all = found.differences.clone();
    let (can, cannot): (Vec<_>, Vec<_>) = all.into_iter().partition(Difference::can_be_changed);
    match config.ensure {
        Ensure::CreateOrUpdate => Ok((can, cannot)),
        // In a stream of many topics, adding the subjects of one is how it is created.
        Ensure::CreateOnly if is_missing && options.stream.is_some() => {
            let (subjects, rest): (Vec<_>, Vec<_>) =
                can.into_iter().partition(|d| d.setting == "partitions");
            Ok((subjects, rest.into_iter().chain(cannot).collect()))
        }
        Ensure::ValidateOnly if is_missing && options.stream.is_some() => Err(missing(config)),
        // There is a stream of its name that does not hear it: it cannot be used as it is.
        _ if is_missing => Err(mismatch(config, &found.differences)),
        _ => Ok((Vec::new(), found.differences.clone())),
    }
}

fn accept_or_refuse(
    host: &dyn Host,
    config: &TopicConfig,
    differences: &[Difference],
) -> Result<(), ConfigureError> {
    match config.mismatch {
        Mismatch::Error => Err(mismatch(config, differences)),
        Mismatch::Warn => {
            let differences = plan::tell(differences);
            tracing::warn!(topic = %config.name, %differences, "the stream is used as it is");
            host.event(BusEvent::TopicMismatch {
                topic: config.name.clone(),
                differences,
            });
            Ok(())
        }
    }
}

fn tell(host: &dyn Host, config: &TopicConfig, written: Written) {
    let topic = config.name.clone();
    match written {
        Written::Nothing => {}
        Written::Created | Written::Updated { added: true, .. } => {
            host.event(BusEvent::TopicCreated { topic });
        }
        Written::Updated { differences, .. } => {
            host.event(BusEvent::TopicUpdated { topic, differences });
        }
    }
}

async fn pause(host: &dyn Host) {
    let runtime = host.runtime();
    let chance = Duration::from_millis(runtime.random() % PAUSE.as_millis() as u64);
    runtime.sleep(PAUSE + chance).await;
}

/// Why JetStream does not take a configuration, in the words of the topic.
async fn refused(api: &Api, config: &TopicConfig, error: ApiError) -> ConfigureError {
    let ApiError::Refused { code, text } = &error else {
        return failed(config, error);
    };
    match *code {
        code::SUBJECTS_OVERLAP => {
            let subject = format!("{}.*", config.name);
            let body = json!({ "subject": subject });
            let others = match api.call("STREAM.NAMES", &body).await {
                Ok(names) => names["streams"].as_array().cloned().unwrap_or_default(),
                Err(_) => Vec::new(),
            };
            let others: Vec<_> = others.iter().filter_map(Value::as_str).collect();
            ConfigureError::Mismatch {
                topic: config.name.clone(),
                differences: format!(
                    "subjects: wanted `{subject}` for itself, found it in stream `{}`; name that one with Options::stream",
                    others.join("`, `")
                ),
            }
        }
        code::REPLICAS_NOT_SUPPORTED => Unsupported {
            backend: NAME,
            what: format!("topic `{}`: {text}", config.name).into(),
        }
        .into(),
        code::INVALID_CONFIG => ConfigureError::Failed {
            topic: config.name.clone(),
            failure: Failure::new(FailureKind::Mismatch, format!("JetStream: {text} ({code})")),
        },
        _ => failed(config, error),
    }
}

fn failed(config: &TopicConfig, error: ApiError) -> ConfigureError {
    ConfigureError::Failed {
        topic: config.name.clone(),
        failure: error.into_failure(),
    }
}

fn missing(config: &TopicConfig) -> ConfigureError {
    ConfigureError::Missing {
        topic: config.name.clone(),
        policy: config.ensure.name(),
    }
}

fn mismatch(config: &TopicConfig, differences: &[Difference]) -> ConfigureError {
    ConfigureError::Mismatch {
        topic: config.name.clone(),
        differences: plan::tell(differences),
    }
}
