//! What a topic should be like, beside what it is like. No I/O.

use super::options::Options;
use crate::config::TopicConfig;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a record takes beside what an envelope's size counts, in a batch of its own.
const RECORD_OVERHEAD: usize = 1024;
/// What a broker takes by default. It counts batches: a topic that takes less would refuse small envelopes that share one.
const BATCH_LIMIT: usize = 1_048_588;

/// A setting that is not as it was wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    pub(super) setting: &'static str,
    wanted: String,
    found: String,
    pub(super) change: Option<Change>,
}

/// What makes it so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// As many partitions, in all.
    Partitions(u32),
    /// A setting of the topic.
    Setting(&'static str, String),
}

/// A topic as the brokers have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) partitions: u32,
    /// Of the partition that has the fewest.
    pub(super) replicas: u32,
    /// Its settings, if they were asked for.
    pub(super) settings: BTreeMap<String, String>,
}

/// The settings of a topic, by their own names, that `config` and `options` ask for.
pub(super) fn settings(
    config: &TopicConfig,
    options: &Options,
    partitions: u32,
) -> BTreeMap<&'static str, String> {
    let mut settings = BTreeMap::new();
    let retention = &config.retention;
    if let Some(age) = retention.age {
        settings.insert("retention.ms", millis(age).to_string());
    }
    if let Some(bytes) = retention.bytes {
        // Kafka counts in each partition, and the topic is to keep no more in all.
        let each = (bytes / u64::from(partitions.max(1))).max(1);
        settings.insert("retention.bytes", each.min(i64::MAX as u64).to_string());
    }
    if let Some(copies) = options.in_sync_min {
        settings.insert("min.insync.replicas", copies.to_string());
    }
    let limit = config
        .size_limit
        .unwrap_or(0)
        .saturating_add(RECORD_OVERHEAD);
    if limit > BATCH_LIMIT {
        let limit = limit.min(i32::MAX as usize);
        settings.insert("max.message.bytes", limit.to_string());
    }
    settings
}

/// What a topic that we make is given beside: when its envelopes were stored is the broker's to say.
pub(super) const OURS: (&str, &str) = ("message.timestamp.type", "LogAppendTime");

/// The differences between `found` and what is wanted.
pub(super) fn compare(config: &TopicConfig, options: &Options, found: &Found) -> Vec<Difference> {
    let mut differences = Vec::new();
    if let Some(wanted) = config
        .partitions
        .filter(|wanted| *wanted != found.partitions)
    {
        differences.push(Difference {
            setting: "partitions",
            wanted: wanted.to_string(),
            found: found.partitions.to_string(),
            // Fewer cannot be had.
            change: (wanted > found.partitions).then_some(Change::Partitions(wanted)),
        });
    }
    let replicas = config.replicas.or(options.replicas);
    if let Some(wanted) = replicas.filter(|wanted| *wanted != found.replicas) {
        differences.push(Difference {
            setting: "replicas",
            wanted: wanted.to_string(),
            found: found.replicas.to_string(),
            // Which broker gets which copy is for who runs them to say.
            change: None,
        });
    }
    for (name, wanted) in settings(config, options, found.partitions) {
        let there = found.settings.get(name).map_or("", String::as_str);
        let number = |text: &str| text.parse::<i64>().ok();
        let fits = match name {
            "max.message.bytes" => number(there) >= number(&wanted),
            _ => there == wanted,
        };
        if !fits {
            differences.push(Difference {
                setting: told(name),
                wanted: show(name, &wanted),
                found: show(name, there),
                change: Some(Change::Setting(name, wanted)),
            });
        }
    }
    differences
}

/// Whether its settings have to be asked for.
pub(super) fn asks_for_settings(config: &TopicConfig, options: &Options) -> bool {
    !settings(config, options, 1).is_empty()
}

/// The differences for people: `setting: wanted X, found Y`.
pub(super) fn tell(differences: &[Difference]) -> String {
    let each = |d: &Difference| format!("{}: wanted {}, found {}", d.setting, d.wanted, d.found);
    differences.iter().map(each).collect::<Vec<_>>().join("; ")
}

/// Why Kafka has no topic of that name.
pub(super) fn refuse_topic(name: &str) -> Option<String> {
    if name == "." || name == ".." {
        return Some("it is taken".into());
    }
    let bad = name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')));
    bad.map(|bad| format!("{bad:?} cannot be in it; letters, digits, '.', '_' and '-' can"))
}

fn told(name: &'static str) -> &'static str {
    match name {
        "retention.ms" => "retention by age",
        "retention.bytes" => "retention by bytes, in each partition",
        other => other,
    }
}

fn show(name: &str, value: &str) -> String {
    match (name, value.parse::<i64>()) {
        ("retention.ms" | "retention.bytes", Ok(..0)) => "no limit".into(),
        ("retention.ms", Ok(ms)) => format!("{:?}", Duration::from_millis(ms.unsigned_abs())),
        _ => value.into(),
    }
}

fn millis(length: Duration) -> i64 {
    i64::try_from(length.as_millis()).unwrap_or(i64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Retention;

    fn options() -> Options {
        Options::from_url("kafka://h").expect("fine")
    }

    fn found() -> Found {
        let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Found {
            partitions: 3,
            replicas: 1,
            settings: BTreeMap::from([
                setting("retention.ms", "604800000"),
                setting("retention.bytes", "-1"),
                setting("min.insync.replicas", "1"),
                setting("max.message.bytes", "1048588"),
            ]),
        }
    }

    #[test]
    fn what_is_not_set_is_not_compared() {
        let config = TopicConfig::new("orders");
        assert_eq!(compare(&config, &options(), &found()), []);
        assert!(!asks_for_settings(&config, &options()));
    }

    #[test]
    fn each_setting_is_compared_and_told() {
        let config = TopicConfig::new("orders")
            .partitions(4)
            .replicas(3)
            .size_limit(2_000_000)
            .retention(Retention {
                age: Some(Duration::from_secs(60)),
                bytes: Some(9000),
                envelopes: None,
            });
        let differences = compare(&config, &options().in_sync_min(2), &found());
        assert_eq!(
            tell(&differences),
            "partitions: wanted 4, found 3; replicas: wanted 3, found 1; \
             max.message.bytes: wanted 2001024, found 1048588; min.insync.replicas: wanted 2, found 1; \
             retention by bytes, in each partition: wanted 3000, found no limit; \
             retention by age: wanted 60s, found 604800s"
        );
        let changeable: Vec<_> = differences.iter().map(|d| d.change.is_some()).collect();
        assert_eq!(changeable, [true, false, true, true, true, true]);
    }

    #[test]
    fn partitions_only_grow_and_a_larger_limit_is_fine() {
        let fewer = compare(&TopicConfig::new("o").partitions(1), &options(), &found());
        assert_eq!(fewer[0].change, None);
        let small = TopicConfig::new("o").size_limit(10);
        assert_eq!(compare(&small, &options(), &found()), []);
    }

    #[test]
    fn names_are_kafkas() {
        for name in ["a", "a.b_c-D9"] {
            assert_eq!(refuse_topic(name), None);
        }
        for name in [".", "..", "a b", "a/b", "ä", "a*"] {
            assert!(refuse_topic(name).is_some(), "{name}");
        }
    }
}
