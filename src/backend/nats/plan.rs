//! What a topic's stream should be like, beside what it is like. No I/O.

use super::names;
use super::options::Options;
use super::produce::Target;
use crate::config::{Durability, TopicConfig};
use async_nats::Subject;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// A setting that is not as it was wanted.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) setting: &'static str,
    wanted: String,
    found: String,
    /// The field of the stream's configuration that makes it so, if the server lets it be changed.
    change: Option<(&'static str, Value)>,
}

/// What a stream has of a topic.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    /// How many partitions of the topic it listens to. 0: the topic is not there.
    pub(super) partitions: u32,
    pub(super) differences: Vec<Difference>,
    pub(super) target: Target,
}

/// The stream that `config`'s topic is in.
pub(super) fn stream_name(config: &TopicConfig, options: &Options) -> String {
    match &options.stream {
        Some(shared) => shared.clone(),
        None => names::stream_of(&config.name),
    }
}

/// A stream for `config`'s topic, as the server takes it.
pub(super) fn new_stream(config: &TopicConfig, options: &Options) -> Value {
    let storage = match config.durability.unwrap_or(options.storage) {
        Durability::Volatile => "memory",
        _ => "file",
    };
    let age = config.retention.age.map_or(0, nanos);
    // The server refuses a window longer than what is kept.
    let window = match nanos(options.duplicate_window) {
        window if age > 0 => window.min(age),
        window => window,
    };
    json!({
        "name": stream_name(config, options),
        "description": "Made by clearway",
        "subjects": subjects(config, config.partitions.unwrap_or(1)),
        "retention": "limits",
        "storage": storage,
        "num_replicas": config.replicas.unwrap_or(options.replicas),
        "max_age": age,
        "max_bytes": config.retention.bytes.map_or(-1, limit),
        "max_msgs_per_subject": config.retention.envelopes.map_or(-1, limit),
        "max_msgs": -1,
        "max_msg_size": -1,
        "max_consumers": -1,
        "discard": "old",
        "duplicate_window": window,
    })
}

/// What the stream of configuration `stream` has of `config`'s topic.
pub(super) fn compare(config: &TopicConfig, stream: &Value) -> Found {
    let listens: Vec<&str> = stream["subjects"]
        .as_array()
        .map(|subjects| subjects.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let partitions = partitions(config, &listens);
    let durability = durability_of(stream);
    let mut differences = Vec::new();
    compare_partitions(config, partitions, &listens, &mut differences);
    compare_limits(config, stream, durability, &mut differences);
    compare_nature(stream, &mut differences);
    let target = Target {
        topic: config.name.clone(),
        stream: stream["name"].as_str().map(str::to_owned),
        subjects: subjects(config, partitions)
            .into_iter()
            .map(Subject::from)
            .collect(),
        duplicate_window: Duration::from_nanos(stream["duplicate_window"].as_u64().unwrap_or(0)),
        durability,
    };
    Found {
        partitions,
        differences,
        target,
    }
}

/// The target of a topic that nobody looks at. Nothing is known of a duplicate window, so nothing is sent twice.
pub(super) fn assumed(config: &TopicConfig) -> Target {
    Target {
        topic: config.name.clone(),
        stream: None,
        subjects: subjects(config, config.partitions.unwrap_or(1))
            .into_iter()
            .map(Subject::from)
            .collect(),
        duplicate_window: Duration::ZERO,
        durability: Durability::Volatile,
    }
}

/// `stream` with what can be changed changed. All else stays, also what we do not know.
pub(super) fn changed(stream: &Value, differences: &[Difference]) -> Value {
    let mut stream = stream.clone();
    for (field, value) in differences.iter().filter_map(|d| d.change.as_ref()) {
        stream[*field] = value.clone();
    }
    stream
}

/// The differences for people: `setting: wanted X, found Y`.
pub(super) fn tell(differences: &[Difference]) -> String {
    let each = |d: &Difference| format!("{}: wanted {}, found {}", d.setting, d.wanted, d.found);
    differences.iter().map(each).collect::<Vec<_>>().join("; ")
}

impl Difference {
    pub(super) fn can_be_changed(&self) -> bool {
        self.change.is_some()
    }
}

fn subjects(config: &TopicConfig, partitions: u32) -> Vec<String> {
    (0..partitions)
        .map(|partition| names::subject(&config.name, partition))
        .collect()
}

/// How many partitions of the topic `listens` has: subjects `<topic>.0` and on, without a gap. A stream of
/// others that hears them all by a wildcard has as many as are wanted.
fn partitions(config: &TopicConfig, listens: &[&str]) -> u32 {
    let own: BTreeSet<u32> = listens
        .iter()
        .filter_map(|subject| names::partition_in(&config.name, subject))
        .collect();
    let count = (0..).zip(&own).take_while(|(n, own)| n == *own).count() as u32;
    let wanted = config.partitions.unwrap_or(1);
    let hears_all = || {
        subjects(config, wanted).iter().all(|subject| {
            listens
                .iter()
                .any(|pattern| names::covers(pattern, subject))
        })
    };
    if count == 0 && hears_all() {
        wanted
    } else {
        count
    }
}

fn compare_partitions(
    config: &TopicConfig,
    found: u32,
    listens: &[&str],
    differences: &mut Vec<Difference>,
) {
    let wanted = config.partitions.unwrap_or(found.max(1));
    if wanted == found {
        return;
    }
    let mut all: Vec<String> = listens
        .iter()
        .map(|subject| (*subject).to_owned())
        .collect();
    all.extend(
        subjects(config, wanted)
            .into_iter()
            .filter(|subject| !listens.contains(&subject.as_str())),
    );
    differences.push(Difference {
        setting: "partitions",
        wanted: wanted.to_string(),
        found: found.to_string(),
        // Fewer would take away what is stored.
        change: (wanted > found).then(|| ("subjects", json!(all))),
    });
}

fn compare_limits(
    config: &TopicConfig,
    stream: &Value,
    durability: Durability,
    differences: &mut Vec<Difference>,
) {
    if let Some(wanted) = config.durability.filter(|wanted| *wanted > durability) {
        differences.push(Difference {
            setting: "durability",
            wanted: format!("{wanted:?}"),
            found: format!("{durability:?}"),
            change: None,
        });
    }
    let mut number = |setting, field, wanted: Option<i64>, show: fn(i64) -> String| {
        let found = stream[field].as_i64().unwrap_or(0);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            differences.push(Difference {
                setting,
                wanted: show(wanted),
                found: show(found),
                change: Some((field, json!(wanted))),
            });
        }
    };
    let retention = &config.retention;
    number(
        "replicas",
        "num_replicas",
        config.replicas.map(i64::from),
        |n| n.to_string(),
    );
    number(
        "retention by age",
        "max_age",
        retention.age.map(nanos),
        |ns| match ns {
            ..=0 => "no limit".into(),
            ns => format!("{:?}", Duration::from_nanos(ns.unsigned_abs())),
        },
    );
    number(
        "retention by bytes",
        "max_bytes",
        retention.bytes.map(limit),
        count,
    );
    let envelopes = retention.envelopes.map(limit);
    number(
        "retention by envelopes",
        "max_msgs_per_subject",
        envelopes,
        count,
    );
}

/// What would make a stream of others useless to us, and is not ours to change.
fn compare_nature(stream: &Value, differences: &mut Vec<Difference>) {
    let mut unfit = |setting, wanted: &str, found: String| {
        differences.push(Difference {
            setting,
            wanted: wanted.into(),
            found,
            change: None,
        });
    };
    if let Some(policy) = stream["retention"]
        .as_str()
        .filter(|policy| *policy != "limits")
    {
        unfit("retention policy", "limits", policy.into());
    }
    if stream["no_ack"] == true {
        unfit("acknowledgements", "on", "off (no_ack)".into());
    }
    if stream["sealed"] == true {
        unfit("sealed", "no", "yes".into());
    }
    if stream["mirror"].is_object() {
        unfit("mirror", "no", "yes: it takes no publishes".into());
    }
}

/// What an acknowledgement of the stream means. Async persistence (server 2.12) acknowledges before it writes.
fn durability_of(stream: &Value) -> Durability {
    if stream["storage"] == "memory" || stream["persist_mode"] == "async" {
        Durability::Volatile
    } else {
        Durability::Stored
    }
}

fn nanos(length: Duration) -> i64 {
    i64::try_from(length.as_nanos()).unwrap_or(i64::MAX)
}

fn limit(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn count(n: i64) -> String {
    match n {
        ..=0 => "no limit".into(),
        n => n.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Retention;

    fn options() -> Options {
        Options::from_url("nats://h").expect("fine")
    }

    fn orders() -> TopicConfig {
        TopicConfig::new("orders")
    }

    #[test]
    fn a_new_stream_fits_its_own_topic() {
        let config = orders()
            .partitions(3)
            .replicas(3)
            .durability(Durability::Stored)
            .retention(Retention {
                age: Some(Duration::from_secs(60)),
                bytes: Some(1 << 20),
                envelopes: Some(1000),
            });
        let stream = new_stream(&config, &options());
        let found = compare(&config, &stream);
        assert_eq!(found.differences, []);
        assert_eq!(found.partitions, 3);
        assert_eq!(found.target.stream.as_deref(), Some("orders"));
        assert_eq!(found.target.subjects[2].as_str(), "orders.2");
        assert_eq!(found.target.duplicate_window, Duration::from_secs(60));
        assert_eq!(found.target.durability, Durability::Stored);
    }

    #[test]
    fn what_is_not_set_is_not_compared() {
        let mut stream = new_stream(&orders().partitions(5), &options());
        stream["max_age"] = json!(1);
        stream["num_replicas"] = json!(3);
        stream["storage"] = json!("memory");
        let found = compare(&orders(), &stream);
        assert_eq!((found.partitions, found.differences), (5, vec![]));
    }

    #[test]
    fn partitions_only_grow_and_the_rest_of_a_shared_stream_stays() {
        let mut stream = new_stream(&orders().partitions(2), &options());
        stream["subjects"] = json!(["other.0", "orders.0", "orders.1"]);
        stream["from_the_future"] = json!({"a": 1});
        let found = compare(&orders().partitions(4), &stream);
        assert_eq!(tell(&found.differences), "partitions: wanted 4, found 2");
        let changed = changed(&stream, &found.differences);
        assert_eq!(
            changed["subjects"],
            json!(["other.0", "orders.0", "orders.1", "orders.2", "orders.3"])
        );
        assert_eq!(changed["from_the_future"], stream["from_the_future"]);

        let fewer = compare(&orders().partitions(1), &stream);
        assert!(!fewer.differences[0].can_be_changed());
    }

    #[test]
    fn each_setting_is_compared_and_told() {
        let stream = new_stream(&orders(), &options().storage(Durability::Volatile));
        let config = orders()
            .replicas(3)
            .durability(Durability::Stored)
            .retention(Retention {
                age: Some(Duration::from_secs(1)),
                bytes: Some(2),
                envelopes: Some(3),
            });
        let found = compare(&config, &stream);
        assert_eq!(
            tell(&found.differences),
            "durability: wanted Stored, found Volatile; replicas: wanted 3, found 1; \
             retention by age: wanted 1s, found no limit; retention by bytes: wanted 2, found no limit; \
             retention by envelopes: wanted 3, found no limit"
        );
        let changeable: Vec<_> = found
            .differences
            .iter()
            .map(Difference::can_be_changed)
            .collect();
        assert_eq!(changeable, [false, true, true, true, true]);
        let again = compare(&config, &changed(&stream, &found.differences));
        assert_eq!(
            tell(&again.differences),
            "durability: wanted Stored, found Volatile"
        );
    }

    #[test]
    fn async_persistence_is_no_stronger_than_memory() {
        let mut stream = new_stream(&orders(), &options());
        stream["persist_mode"] = json!("async");
        let found = compare(&orders().durability(Durability::Stored), &stream);
        assert_eq!(found.target.durability, Durability::Volatile);
        assert_eq!(found.differences.len(), 1);
    }

    #[test]
    fn a_wildcard_hears_every_partition_and_gaps_are_no_partitions() {
        let mut stream = new_stream(&orders(), &options());
        for (subjects, partitions) in [
            (json!(["orders.>"]), 4),
            (json!([">"]), 4),
            (json!(["orders.0", "orders.2"]), 1),
            (json!(["orders.1"]), 0),
            (json!(["other.>"]), 0),
            (json!([]), 0),
        ] {
            stream["subjects"] = subjects.clone();
            let found = compare(&orders().partitions(4), &stream);
            assert_eq!(found.partitions, partitions, "{subjects}");
        }
    }

    #[test]
    fn a_stream_that_cannot_serve_is_told_apart() {
        for (field, value, setting) in [
            ("retention", json!("workqueue"), "retention policy"),
            ("no_ack", json!(true), "acknowledgements"),
            ("sealed", json!(true), "sealed"),
            ("mirror", json!({"name": "x"}), "mirror"),
        ] {
            let mut stream = new_stream(&orders(), &options());
            stream[field] = value;
            let found = compare(&orders(), &stream);
            assert_eq!(found.differences.len(), 1, "{field}");
            assert_eq!(found.differences[0].setting, setting);
            assert!(!found.differences[0].can_be_changed());
        }
    }
}
