//! Options: everything about Kafka that is not in the URL.

use super::native;
use super::security::{Sasl, Security};
use super::url;
use crate::error::ConnectError;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How to connect to Kafka, and how topics, publishes and consumers are there.
///
/// ```
/// use clearway::kafka::{Batching, Kafka, Options};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), clearway::ConnectError> {
/// let options = Options::from_url("kafka://one:9092,two:9092")?
///     .batching(Batching::LowLatency)
///     .publish_timeout(Duration::from_secs(5))
///     .set("socket.nagle.disable", "true")?; // librdkafka's own name
/// let backend = Kafka::new(options);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Options {
    pub(super) servers: Vec<String>,
    /// Secrets may be in it.
    pub(super) native: BTreeMap<String, String>,
    pub(super) security: Security,
    pub(super) client_name: String,
    pub(super) batching: Batching,
    pub(super) compression: Compression,
    pub(super) rebalancing: Rebalancing,
    pub(super) offset_reset: OffsetReset,
    pub(super) instance: Option<String>,
    pub(super) replicas: Option<u32>,
    pub(super) in_sync_min: Option<u32>,
    pub(super) fetch_bytes: usize,
    pub(super) commit_every: Duration,
    pub(super) hand_over_limit: Duration,
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) publish_timeout: Duration,
    pub(super) statistics: Duration,
}

/// What a publish is to be good at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Batching {
    /// Sent at once: a publish that is awaited waits for nothing but the broker.
    LowLatency,
    /// Envelopes wait up to 5 ms for others to share a request.
    #[default]
    Balanced,
    /// They wait up to 50 ms: fewer and larger requests.
    Throughput,
}

/// How batches are compressed on their way and at the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// lz4: always there.
    Lz4,
    /// Snappy: always there.
    Snappy,
    /// gzip: with the cargo feature `kafka-gzip`.
    Gzip,
    /// zstd: with the cargo feature `kafka-zstd`.
    Zstd,
}

/// How the members of a group share partitions. All members of a group must say the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rebalancing {
    /// Everybody gives back everything, then it is dealt out anew.
    Eager,
    /// Only what changes hands is given back.
    #[default]
    Cooperative,
    /// The broker assigns (KIP-848, Kafka 4.0 or newer).
    Broker,
}

/// Where a group goes on when the broker does not keep any more what it would read next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// With the oldest that is kept: nothing that is there is left out.
    #[default]
    Earliest,
    /// With the next one to come: what is there is left out.
    Latest,
    /// Nowhere: the subscription fails, and says so, until somebody decides.
    Error,
}

impl Options {
    /// Options for `kafka://host[:port][,host[:port]...][/?option=value[&option=value...]]`. The options are librdkafka's own, as
    /// [`set`](Self::set) takes them. All else is as its method says.
    ///
    /// # Errors
    ///
    /// When the URL is wrong, or an option would break a promise.
    pub fn from_url(url: &str) -> Result<Self, ConnectError> {
        let url::Parsed { servers, options } = url::parse(url)?;
        let mut all = Self {
            servers,
            native: BTreeMap::new(),
            security: Security::default(),
            client_name: "clearway".into(),
            batching: Batching::default(),
            compression: Compression::default(),
            rebalancing: Rebalancing::default(),
            offset_reset: OffsetReset::default(),
            instance: None,
            replicas: None,
            in_sync_min: None,
            fetch_bytes: 16 << 20,
            commit_every: Duration::from_secs(1),
            hand_over_limit: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(10),
            statistics: Duration::from_secs(1),
        };
        for (name, value) in options {
            all = all.set(name, value)?;
        }
        Ok(all)
    }

    /// Sets an option of librdkafka, by its own name: see its `CONFIGURATION.md`. The last word on a setting is this one's.
    ///
    /// # Errors
    ///
    /// When it would break a promise of the bus: the error names the promise. A name or a value that librdkafka does not know is
    /// refused by `connect`.
    pub fn set(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, ConnectError> {
        let (name, value) = (name.into(), value.into());
        native::check(&name, &value)?;
        self.native.insert(name, value);
        Ok(self)
    }

    /// Asks for TLS, with the system's certificate authorities. With the cargo feature `kafka-ssl` or `kafka-ssl-vendored`.
    pub fn tls(mut self) -> Self {
        self.security.tls = true;
        self
    }

    /// Trusts the certificate authorities in this PEM file, instead of the system's, and asks for TLS.
    pub fn tls_ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.security.tls_ca = Some(path.into());
        self.tls()
    }

    /// Shows this certificate (PEM file) with this key (PEM file), and asks for TLS.
    pub fn tls_client(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.security.tls_client = Some((certificate.into(), key.into()));
        self.tls()
    }

    /// Logs in with a user and a password, by `mechanism`: `PLAIN`, or `SCRAM-SHA-256` and `SCRAM-SHA-512` with the cargo feature
    /// `kafka-ssl` or `kafka-ssl-vendored`.
    pub fn sasl(
        mut self,
        mechanism: impl Into<String>,
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Self {
        self.security.sasl = Some(Sasl {
            mechanism: mechanism.into(),
            user: user.into(),
            password: password.into(),
        });
        self
    }

    /// The name under which brokers know the client. `clearway` if not set.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = name.into();
        self
    }

    /// What a publish is to be good at. [`Batching::Balanced`] if not set.
    pub fn batching(mut self, batching: Batching) -> Self {
        self.batching = batching;
        self
    }

    /// How batches are compressed. Not at all if not set.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// How the members of a group share partitions. [`Rebalancing::Cooperative`] if not set.
    pub fn rebalancing(mut self, rebalancing: Rebalancing) -> Self {
        self.rebalancing = rebalancing;
        self
    }

    /// Where a group goes on when what it would read next is not kept any more. [`OffsetReset::Earliest`] if not set.
    pub fn offset_reset(mut self, reset: OffsetReset) -> Self {
        self.offset_reset = reset;
        self
    }

    /// Static membership: under this name the process is the same member of its groups after a restart, and keeps its partitions
    /// if it is back within the session timeout. Each process of a group needs another name, without `--` in it or `-` at its end.
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    /// How many brokers hold a copy of topics that we make, when a topic does not say. The broker's default if not set.
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// How many copies must be in sync for a publish to be acknowledged (`min.insync.replicas`): topics that we make have it, and
    /// others are compared with it. The broker's default if not set.
    pub fn in_sync_min(mut self, copies: u32) -> Self {
        self.in_sync_min = Some(copies);
        self
    }

    /// How many bytes a consumer may have fetched ahead. 16 MiB if not set.
    pub fn fetch_bytes(mut self, bytes: usize) -> Self {
        self.fetch_bytes = bytes;
        self
    }

    /// How often what was handled is committed. Every second if not set. What was handled since the last commit comes again after a
    /// crash.
    pub fn commit_every(mut self, pause: Duration) -> Self {
        self.commit_every = pause;
        self
    }

    /// How long a partition that goes to another member is held back for handlers that still run. 10 s if not set. What they
    /// have not answered then comes again at the other member. At most half of librdkafka's `max.poll.interval.ms`, which is 5 minutes
    /// if not set.
    pub fn hand_over_limit(mut self, limit: Duration) -> Self {
        self.hand_over_limit = limit;
        self
    }

    /// How long connecting may take, over all brokers. 5 s if not set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a broker may take to answer a request about topics and groups. 5 s if not set.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long a publish may wait for its acknowledgement, resends included. 10 s if not set. Longer than `linger.ms`, or it is refused.
    pub fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = timeout;
        self
    }

    /// How often the client says how it is. Every second if not set. Without (zero) the lag behind a transaction's marker at the
    /// very end of a partition is not seen to be nothing, and a client that has forgotten all brokers is not replaced.
    pub fn statistics(mut self, every: Duration) -> Self {
        self.statistics = every;
        self
    }

    /// Refuses what cannot work, before anything is tried.
    pub(super) fn check(&self) -> Result<(), ConnectError> {
        let refuse = |setting: &str, reason: &str| Err(ConnectError::config(setting, reason));
        if self.replicas == Some(0) {
            return refuse("replicas", "must be at least 1");
        }
        if self.in_sync_min == Some(0) {
            return refuse("in_sync_min", "must be at least 1");
        }
        if self.fetch_bytes < 1024 {
            return refuse("fetch_bytes", "must be at least 1024");
        }
        if self.instance.as_deref() == Some("") {
            return refuse("instance", "it is empty");
        }
        if let Some(instance) = &self.instance
            && (instance.contains(native::INSTANCE_END) || instance.ends_with('-'))
        {
            // What is made of it and a topic would be another's, too.
            return refuse("instance", "`--` cannot be in it, nor `-` be its end");
        }
        let longest = native::poll_interval(self) / 2;
        if self.hand_over_limit > longest {
            let reason = format!(
                "{:?} is more than half of `max.poll.interval.ms`: the broker puts out who takes so long; {longest:?} is the longest",
                self.hand_over_limit
            );
            return refuse("hand_over_limit", &reason);
        }
        for (setting, value, least) in [
            ("commit_every", self.commit_every, 1),
            ("connect_timeout", self.connect_timeout, 1),
            ("request_timeout", self.request_timeout, 1),
            ("publish_timeout", self.publish_timeout, 100),
        ] {
            let least = Duration::from_millis(least);
            if value < least {
                return refuse(setting, &format!("must be at least {least:?}"));
            }
        }
        if let Some(reason) = native::lingers_too_long(self) {
            return refuse("publish_timeout", &reason);
        }
        Ok(())
    }

    /// The brokers.
    pub(super) fn endpoint(&self) -> String {
        format!("kafka://{}", self.servers.join(","))
    }
}

/// Shows which native options are set, and none of their values: secrets may be among them.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("servers", &self.servers)
            .field("native", &self.native.keys().collect::<Vec<_>>())
            .field("batching", &self.batching)
            .field("compression", &self.compression)
            .field("rebalancing", &self.rebalancing)
            .field("offset_reset", &self.offset_reset)
            .field("instance", &self.instance)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> Options {
        Options::from_url("kafka://h").expect("fine")
    }

    #[test]
    fn debug_and_endpoint_keep_secrets() {
        let options = Options::from_url("kafka://h/?sasl.password=hunter2").expect("fine");
        let options = options.sasl("PLAIN", "u", "hunter2");
        let shown = [format!("{options:?}"), options.endpoint()];
        assert!(!shown.concat().contains("hunter2"), "{shown:?}");
        assert_eq!(options.endpoint(), "kafka://h:9092");
    }

    #[test]
    fn options_that_cannot_work_are_refused_by_name() {
        assert!(fine().check().is_ok());
        for (options, setting) in [
            (fine().replicas(0), "replicas"),
            (fine().in_sync_min(0), "in_sync_min"),
            (fine().fetch_bytes(1), "fetch_bytes"),
            (
                fine().hand_over_limit(Duration::from_secs(151)),
                "hand_over_limit",
            ),
            (fine().instance(""), "instance"),
            (fine().instance("a--b"), "instance"),
            (fine().instance("a-"), "instance"),
            (fine().publish_timeout(Duration::ZERO), "publish_timeout"),
            (fine().commit_every(Duration::ZERO), "commit_every"),
        ] {
            let error = options.check().expect_err(setting);
            assert!(error.to_string().starts_with(setting), "{error}");
        }
    }

    #[test]
    fn a_url_that_asks_for_less_than_is_promised_is_refused() {
        let error = Options::from_url("kafka://h/?acks=0").expect_err("less");
        assert!(error.to_string().contains("G1"), "{error}");
    }
}
