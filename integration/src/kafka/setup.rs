//! How a Kafka of our own is set up, and the server's settings that say so.

use crate::authority::{Authority, Identity};
use std::collections::BTreeMap;

/// Of the brokers among themselves, and of the tools inside a container.
const INSIDE: u16 = 9092;
const CONTROLLER: u16 = 9093;
pub(crate) const DATA: &str = "/var/lib/kafka/data";
/// The user the broker runs as.
pub(crate) const USER: u32 = 1000;

/// A Kafka in KRaft mode. By default one node, open to everybody, without TLS, its data on a volume.
#[derive(Clone, Debug, Default)]
pub struct Kafka {
    pub(crate) cluster: bool,
    pub(crate) proxied: bool,
    pub(crate) disk: Option<u64>,
    pub(crate) login: Option<Login>,
    settings: BTreeMap<String, String>,
}

/// Who is let in, over TLS.
#[derive(Clone, Debug)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
    server: Identity,
    authority: String,
}

/// What is particular to one node.
pub(crate) struct Place<'p> {
    /// Its number, from 1.
    pub(crate) id: u32,
    /// Under which the others of the cluster find it. A single node is `localhost` to itself.
    pub(crate) names: &'p [String],
    /// Of clients, inside the container and on this machine.
    pub(crate) port: u16,
    /// What clients are told instead: a proxy's, or the same.
    pub(crate) advertised: u16,
    /// Of those who look from outside: always open, never through a proxy.
    pub(crate) aside: u16,
}

impl Kafka {
    /// Three nodes, each broker and controller, and topics on all of them.
    pub fn cluster() -> Self {
        Self {
            cluster: true,
            ..Self::default()
        }
    }

    /// Clients are told to come through a proxy in front of each node, to spoil their connections with.
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// Lets in only this user, with SASL/SCRAM-SHA-256 over TLS with a certificate of this authority.
    pub fn scram(
        mut self,
        authority: &Authority,
        user: &str,
        password: &str,
    ) -> anyhow::Result<Self> {
        self.login = Some(Login {
            user: user.into(),
            password: password.into(),
            server: authority.server()?,
            authority: authority.certificate().to_owned(),
        });
        Ok(self)
    }

    /// Keeps topics on a memory disk of so many bytes, which fills up. Emptied by a stop.
    pub fn small_disk(mut self, bytes: u64) -> Self {
        self.disk = Some(bytes);
        self
    }

    /// Sets what `server.properties` would, for example `message.max.bytes` to `4096`.
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.into(), value.into());
        self
    }

    pub(crate) fn nodes(&self) -> u32 {
        if self.cluster { 3 } else { 1 }
    }

    /// The environment of a node: any one variable makes the image forget all defaults of its own, so this is all.
    pub(crate) fn environment(&self, place: &Place<'_>) -> Vec<(String, String)> {
        let mut settings = self.common();
        settings.extend(doors(place, self.login.is_some()));
        settings.extend(self.login.iter().flat_map(Login::settings));
        settings.extend(self.settings.clone());
        let mut variables: Vec<_> = settings
            .into_iter()
            .map(|(name, value)| (variable(&name), value))
            .collect();
        let options = [
            // One cluster a network: they need not differ.
            ("CLUSTER_ID", "Y2xlYXJ3YXktdGVzdC0wMQ"),
            ("KAFKA_HEAP_OPTS", "-Xms64m -Xmx256m"),
            (
                "KAFKA_JVM_PERFORMANCE_OPTS",
                "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:+ExitOnOutOfMemoryError",
            ),
            // Nodes that are started again in another order swap addresses, and Java would go on asking the old ones.
            (
                "KAFKA_OPTS",
                "-Dsun.net.inetaddr.ttl=0 -Dsun.net.inetaddr.negative.ttl=0",
            ),
        ];
        variables.extend(options.map(|(name, value)| (name.to_owned(), value.to_owned())));
        variables
    }

    /// Files the server reads, with their paths in the container.
    pub(crate) fn files(&self) -> Vec<(&'static str, String)> {
        let Some(login) = &self.login else {
            return Vec::new();
        };
        let both = format!("{}{}", login.server.key, login.server.certificate);
        vec![
            (SERVER_PEM, both),
            (AUTHORITY_PEM, login.authority.clone()),
            (CLIENT_PROPERTIES, login.client()),
        ]
    }

    fn common(&self) -> BTreeMap<String, String> {
        let (copies, in_sync) = if self.cluster { ("3", "2") } else { ("1", "1") };
        let settings = [
            ("process.roles", "broker,controller"),
            ("log.dirs", DATA),
            ("auto.create.topics.enable", "false"),
            ("default.replication.factor", copies),
            ("min.insync.replicas", in_sync),
            ("offsets.topic.replication.factor", copies),
            ("offsets.topic.num.partitions", "4"),
            ("transaction.state.log.replication.factor", copies),
            ("transaction.state.log.min.isr", in_sync),
            ("transaction.state.log.num.partitions", "4"),
            ("share.coordinator.state.topic.replication.factor", copies),
            ("share.coordinator.state.topic.min.isr", in_sync),
            ("share.coordinator.state.topic.num.partitions", "1"),
            // A dead node is noticed, and a killed one let back in, within seconds.
            ("broker.heartbeat.interval.ms", "300"),
            ("broker.session.timeout.ms", "1500"),
            ("controller.quorum.election.timeout.ms", "500"),
            ("controller.quorum.fetch.timeout.ms", "1000"),
            ("controller.quorum.request.timeout.ms", "1000"),
            ("replica.lag.time.max.ms", "3000"),
            // A leader moves when a test moves it.
            ("auto.leader.rebalance.enable", "false"),
            ("group.initial.rebalance.delay.ms", "0"),
            ("group.min.session.timeout.ms", "1000"),
            ("group.consumer.heartbeat.interval.ms", "500"),
            ("group.consumer.min.heartbeat.interval.ms", "500"),
            ("group.consumer.session.timeout.ms", "6000"),
            ("group.consumer.min.session.timeout.ms", "1000"),
            // Retention and compaction do their work while a test looks.
            ("log.retention.check.interval.ms", "500"),
            ("log.initial.task.delay.ms", "500"),
            ("log.cleaner.backoff.ms", "500"),
            // The small heap has no room for the default of 128 MiB.
            ("log.cleaner.dedupe.buffer.size", "2097152"),
        ];
        settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }
}

const SERVER_PEM: &str = "/server.pem";
const AUTHORITY_PEM: &str = "/ca.pem";
/// For tools that come in where clients do.
pub(crate) const CLIENT_PROPERTIES: &str = "/client.properties";

const MODULE: &str = "org.apache.kafka.common.security.scram.ScramLoginModule required";

impl Login {
    fn settings(&self) -> [(String, String); 6] {
        [
            (
                "listener.name.host.sasl.enabled.mechanisms",
                "SCRAM-SHA-256",
            ),
            (
                "listener.name.host.scram-sha-256.sasl.jaas.config",
                &format!("{MODULE};"),
            ),
            ("ssl.keystore.type", "PEM"),
            ("ssl.keystore.location", SERVER_PEM),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", AUTHORITY_PEM),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
    }

    fn client(&self) -> String {
        let Self { user, password, .. } = self;
        format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-256\n\
             sasl.jaas.config={MODULE} username=\"{user}\" password=\"{password}\";\n\
             ssl.truststore.type=PEM\nssl.truststore.location={AUTHORITY_PEM}\n"
        )
    }
}

fn doors(place: &Place<'_>, login: bool) -> [(String, String); 8] {
    let Place {
        id,
        names,
        port,
        advertised,
        aside,
    } = place;
    let own = &names[*id as usize - 1];
    let voters: Vec<_> = (1..)
        .zip(*names)
        .map(|(id, name)| format!("{id}@{name}:{CONTROLLER}"))
        .collect();
    let protocol = if login { "SASL_SSL" } else { "PLAINTEXT" };
    [
        ("node.id", id.to_string()),
        ("controller.quorum.voters", voters.join(",")),
        (
            "listeners",
            format!(
                "HOST://0.0.0.0:{port},ASIDE://0.0.0.0:{aside},INSIDE://0.0.0.0:{INSIDE},CONTROLLER://0.0.0.0:{CONTROLLER}"
            ),
        ),
        (
            "advertised.listeners",
            format!("HOST://127.0.0.1:{advertised},ASIDE://127.0.0.1:{aside},INSIDE://{own}:{INSIDE}"),
        ),
        (
            "listener.security.protocol.map",
            format!("HOST:{protocol},ASIDE:PLAINTEXT,INSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ),
        ("inter.broker.listener.name", "INSIDE".to_owned()),
        ("controller.listener.names", "CONTROLLER".to_owned()),
        ("super.users", "User:ANONYMOUS".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

/// The variable of the image that stands for a setting of `server.properties`.
fn variable(setting: &str) -> String {
    let name = setting
        .replace('_', "__")
        .replace('-', "___")
        .replace('.', "_");
    format!("KAFKA_{}", name.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::variable;

    #[test]
    fn a_setting_has_the_name_that_the_image_gives_it() {
        assert_eq!(variable("log.dirs"), "KAFKA_LOG_DIRS");
        assert_eq!(
            variable("listener.name.host.scram-sha-256.sasl.jaas.config"),
            "KAFKA_LISTENER_NAME_HOST_SCRAM___SHA___256_SASL_JAAS_CONFIG"
        );
        assert_eq!(variable("a_b"), "KAFKA_A__B");
    }
}
