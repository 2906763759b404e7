//! Native options: what is handed to librdkafka, by its own names, and what is not.
//!
//! Most of its settings are the user's to choose. A few would take back what the bus promises: those are refused, and the refusal
//! names the promise.

use super::options::{Batching, Compression, OffsetReset, Options, Rebalancing};
use crate::error::ConnectError;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use std::time::Duration;

/// A setting that is not free to choose: its names, the values that are fine, and what another would break.
struct Fixed {
    names: &'static [&'static str],
    fine: &'static [&'static str],
    breaks: &'static str,
}

/// When a member counts as gone of which its broker has heard nothing, if nobody says otherwise: the client's default.
const SESSION: Duration = Duration::from_secs(45);
/// Between an instance, that does not have it, and the topic.
pub(super) const INSTANCE_END: &str = "--";
/// The client's default of `max.poll.interval.ms`.
const POLL_INTERVAL: Duration = Duration::from_secs(300);
/// So long a topic that a client has just come to know may be unknown to a broker without being missed: brokers tell each other. The client's default
/// is 30 s, and so long publishes to a young topic that was deleted would wait.
pub(super) const TOPIC_SPREADS: Duration = Duration::from_secs(5);
/// Longer than that nobody is silent and sure.
const SILENCE: Duration = Duration::from_secs(5);

const FIXED: &[Fixed] = &[
    Fixed {
        names: &["enable.auto.commit", "auto.commit.enable"],
        fine: &["false"],
        breaks: "G2: what no handler has settled would be committed",
    },
    Fixed {
        names: &["enable.auto.offset.store"],
        fine: &["false"],
        breaks: "G2: what was only fetched would count as handled",
    },
    Fixed {
        names: &["acks", "request.required.acks"],
        fine: &["all", "-1"],
        breaks: "G1: an acknowledged envelope might be stored nowhere, or on one broker that is gone the next moment",
    },
    Fixed {
        names: &["enable.idempotence"],
        fine: &["true"],
        breaks: "G3: a resend could store an envelope twice, or behind later ones of its key",
    },
    Fixed {
        names: &["max.in.flight.requests.per.connection", "max.in.flight"],
        fine: &["1", "2", "3", "4", "5"],
        breaks: "G3: with more than 5 requests in flight a resend could change the order of a key",
    },
    Fixed {
        names: &["message.timeout.ms", "delivery.timeout.ms"],
        fine: &[],
        breaks: "G1: every publish has an outcome in bounded time; Options::publish_timeout sets it",
    },
    Fixed {
        names: &["delivery.report.only.error"],
        fine: &["false"],
        breaks: "G1: an envelope that is stored would have no outcome",
    },
    Fixed {
        names: &["isolation.level"],
        fine: &["read_committed"],
        breaks: "what an aborted transaction left would be delivered",
    },
    Fixed {
        names: &["allow.auto.create.topics"],
        fine: &["false"],
        breaks: "G8: a topic comes to be by its ensure policy only",
    },
    Fixed {
        names: &["partitioner"],
        fine: &["murmur2", "murmur2_random"],
        breaks: "G3: a key's partition is the same for every client and backend",
    },
    Fixed {
        names: &["transactional.id"],
        fine: &[],
        breaks: "G1: an envelope in a transaction has no outcome of its own",
    },
    Fixed {
        names: &["enable.partition.eof"],
        fine: &["true"],
        breaks: "a lag behind the marker of a transaction would never end",
    },
    Fixed {
        names: &["auto.offset.reset"],
        fine: &[],
        breaks: "where it goes on is Options::offset_reset, and where a group begins is SubscriptionBuilder::start",
    },
    Fixed {
        names: &["group.id"],
        fine: &[],
        breaks: "it is the group of the subscription",
    },
    Fixed {
        names: &["group.instance.id"],
        fine: &[],
        breaks: "Options::instance sets it, for each group another",
    },
    Fixed {
        names: &["bootstrap.servers", "metadata.broker.list"],
        fine: &[],
        breaks: "they come with the URL",
    },
];

/// Refuses a native option that would break a promise.
pub(super) fn check(name: &str, value: &str) -> Result<(), ConnectError> {
    let fixed = FIXED.iter().find(|fixed| fixed.names.contains(&name));
    match fixed {
        Some(fixed) if !fixed.fine.contains(&value) => {
            let reason = format!("`{value}` is refused ({})", fixed.breaks);
            Err(ConnectError::config(name, reason))
        }
        _ => Ok(()),
    }
}

/// What every client is made with.
fn common(options: &Options) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", options.servers.join(","))
        .set("client.id", &options.client_name)
        .set("allow.auto.create.topics", "false")
        .set("socket.keepalive.enable", "true")
        .set(
            "socket.connection.setup.timeout.ms",
            millis(options.connect_timeout.max(Duration::from_secs(1))),
        )
        .set("topic.metadata.propagation.max.ms", millis(TOPIC_SPREADS))
        .set("reconnect.backoff.ms", "50")
        .set("reconnect.backoff.max.ms", "1000")
        .set_log_level(match options.native.contains_key("debug") {
            // Whoever asks for its debug lines wants to read them.
            true => RDKafkaLogLevel::Debug,
            false => RDKafkaLogLevel::Info,
        });
    options.security.apply(&mut config);
    config
}

/// For the producer of a bus with so many slots.
pub(super) fn producer(options: &Options, slots: usize) -> ClientConfig {
    let mut config = common(options);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("max.in.flight.requests.per.connection", "5")
        // Partitions are chosen here, the same as on every backend; this is for none.
        .set("partitioner", "murmur2_random")
        // None: when a message times out in the client it numbers those behind it anew, and a broker that has stored one of them without an
        // answer does not know it again. The thread that takes reports tells the time.
        .set("message.timeout.ms", "0")
        .set(
            "request.timeout.ms",
            millis((options.publish_timeout / 4).max(Duration::from_secs(1))),
        )
        // There is a place for every slot, twice, since a report that was taken frees its place later than its slot; and the bytes are the bus's to count: the queue is never what is full first.
        .set("queue.buffering.max.messages", (2 * slots + 1).to_string())
        .set("queue.buffering.max.kbytes", i32::MAX.to_string())
        // What is too large is for the topic to say.
        .set("message.max.bytes", "104857600")
        .set("statistics.interval.ms", millis(options.statistics));
    let linger = preset_linger_ms(options.batching).to_string();
    config.set("linger.ms", linger).set("batch.size", "1000000");
    config.set(
        "compression.type",
        match options.compression {
            Compression::None => "none",
            Compression::Lz4 => "lz4",
            Compression::Snappy => "snappy",
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
        },
    );
    native(options, config)
}

/// For whoever asks about topics and makes them, or asks where their logs end.
pub(super) fn admin(options: &Options) -> ClientConfig {
    let mut config = native(options, common(options));
    // It sends none. But with the client's default it would make no topic to ask about where the user's `linger.ms` is longer than that.
    config.set("message.timeout.ms", "0");
    // Nobody reads the queue of this client's log; what it would say is in its answers.
    config.set_log_level(RDKafkaLogLevel::Emerg);
    config
}

/// For the consumer of a topic of so many partitions in a group.
pub(super) fn consumer(
    options: &Options,
    group: &str,
    topic: &str,
    partitions: usize,
) -> ClientConfig {
    let mut config = common(options);
    // It counts by partition, and one member may have them all.
    let fetch_bytes = options.fetch_bytes / partitions.max(1);
    config
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // It was found before, so it is there: who waits hears of its end when others have made another in its place.
        .set("topic.metadata.propagation.max.ms", "0")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "100")
        .set(
            "queued.max.messages.kbytes",
            (fetch_bytes / 1024).max(1).to_string(),
        )
        // Of what has enough there may be room again in a moment.
        .set("fetch.queue.backoff.ms", "10")
        .set("statistics.interval.ms", millis(options.statistics))
        .set(
            "auto.offset.reset",
            match options.offset_reset {
                OffsetReset::Earliest => "earliest",
                OffsetReset::Latest => "latest",
                OffsetReset::Error => "error",
            },
        );
    match options.rebalancing {
        Rebalancing::Eager => config
            .set("partition.assignment.strategy", "range,roundrobin")
            .set("heartbeat.interval.ms", "1000"),
        Rebalancing::Cooperative => config
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("heartbeat.interval.ms", "1000"),
        // The broker assigns, and its settings say how often it wants to hear from us.
        Rebalancing::Broker => config.set("group.protocol", "consumer"),
    };
    if let Some(instance) = &options.instance {
        // A process may read several topics in one group, each as a member of its own.
        config.set(
            "group.instance.id",
            format!("{instance}{INSTANCE_END}{topic}"),
        );
    }
    native(options, config)
}

/// So long after the thread heard last the broker may have given its partitions away: well below the session timeout.
pub(super) fn silence(options: &Options) -> Duration {
    let named = options.native.get("session.timeout.ms");
    let session = match (named.and_then(|ms| ms.parse().ok()), options.rebalancing) {
        (Some(ms), _) => Duration::from_millis(ms),
        // The broker's to say. By default that is 45 s; a third of this is well below what any asks for.
        (None, Rebalancing::Broker) => Duration::from_secs(6),
        (None, _) => SESSION,
    };
    (session / 3).min(SILENCE)
}

/// So long the broker waits for a member in a rebalance.
pub(super) fn poll_interval(options: &Options) -> Duration {
    let named = options.native.get("max.poll.interval.ms");
    let named = named.and_then(|ms| ms.parse().ok());
    named.map_or(POLL_INTERVAL, Duration::from_millis)
}

/// Why no publish would be in time, if a publish may wait longer for company than for its acknowledgement.
pub(super) fn lingers_too_long(options: &Options) -> Option<String> {
    let named = ["linger.ms", "queue.buffering.max.ms"].map(|name| options.native.get(name));
    let named = named.into_iter().flatten().next();
    // A number with a fraction, for the client.
    let ms = named.and_then(|ms| ms.parse::<f64>().ok());
    let ms = ms.unwrap_or_else(|| f64::from(preset_linger_ms(options.batching)));
    let linger = Duration::try_from_secs_f64(ms / 1e3).ok()?;
    let limit = options.publish_timeout;
    (limit <= linger).then(|| {
        format!("{limit:?} is over before what lingers ({linger:?}, `linger.ms`) is sent: every publish would be `Unknown`")
    })
}

fn preset_linger_ms(batching: Batching) -> u32 {
    match batching {
        Batching::LowLatency => 0,
        Batching::Balanced => 5,
        Batching::Throughput => 50,
    }
}

/// The user's own come last.
fn native(options: &Options, mut config: ClientConfig) -> ClientConfig {
    for (name, value) in &options.native {
        config.set(name, value);
    }
    config
}

fn millis(length: Duration) -> String {
    length.as_millis().min(i32::MAX as u128).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_promise_is_refused_and_names_it() {
        for (name, value, promise) in [
            ("enable.auto.commit", "true", "G2"),
            ("enable.auto.offset.store", "true", "G2"),
            ("acks", "0", "G1"),
            ("acks", "1", "G1"),
            ("request.required.acks", "1", "G1"),
            ("enable.idempotence", "false", "G3"),
            ("max.in.flight", "6", "G3"),
            ("partitioner", "consistent", "G3"),
            ("message.timeout.ms", "0", "G1"),
            ("transactional.id", "t", "G1"),
            ("delivery.report.only.error", "true", "G1"),
            ("isolation.level", "read_uncommitted", "aborted"),
            ("allow.auto.create.topics", "true", "G8"),
            ("auto.offset.reset", "latest", "offset_reset"),
            ("group.id", "g", "subscription"),
        ] {
            let error = check(name, value).expect_err(name).to_string();
            assert!(error.starts_with(name), "{error}");
            assert!(error.contains(promise), "{name}={value}: {error}");
        }
        for (name, value) in [
            ("acks", "all"),
            ("enable.auto.commit", "false"),
            ("linger.ms", "7"),
            ("socket.nagle.disable", "true"),
        ] {
            check(name, value).expect(name);
        }
    }

    /// librdkafka knows every name we set, and takes the values.
    #[test]
    fn the_client_takes_what_we_set() {
        let options = Options::from_url("kafka://h").expect("fine");
        let all = [
            Rebalancing::Eager,
            Rebalancing::Cooperative,
            Rebalancing::Broker,
        ];
        for rebalancing in all {
            let options = options.clone().rebalancing(rebalancing).instance("one");
            let config = consumer(&options, "g", "t", 3);
            config.create_native_config().expect("known");
        }
        producer(&options, 10)
            .create_native_config()
            .expect("known");
        admin(&options).create_native_config().expect("known");
    }

    #[test]
    fn the_users_own_come_last() {
        let options = Options::from_url("kafka://h/?linger.ms=7").expect("fine");
        assert_eq!(producer(&options, 10).get("linger.ms"), Some("7"));
    }

    #[test]
    fn a_publish_has_longer_than_it_may_linger() {
        let fine = || Options::from_url("kafka://h").expect("fine");
        for name in ["linger.ms", "queue.buffering.max.ms"] {
            let options = fine().set(name, "10000.5").expect("the client's to say");
            let error = options.check().expect_err(name);
            let told = "publish_timeout: 10s is over before what lingers (10.0005s";
            assert!(error.to_string().starts_with(told), "{error}");
            let longer = options.publish_timeout(Duration::from_millis(10_001));
            longer.check().expect("long enough");
        }
        let short = fine().publish_timeout(Duration::from_millis(100));
        let short = short.batching(Batching::Throughput);
        short.check().expect("50 ms are less");
    }
}
