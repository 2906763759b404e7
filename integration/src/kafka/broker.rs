//! The whole of it: one node or three, or the one that is already there.

use super::hello;
use super::node::Node;
use super::outside::Outside;
use super::setup::Kafka;
use crate::container::{Network, unique};
use crate::engine::Engine;
use crate::origin::Origin;
use crate::patience::until;
use crate::run;
use anyhow::{Context, Result, anyhow, ensure};
use futures_util::future::try_join_all;
use std::time::Duration;

/// Names a broker that is already there: no container is started, and tests that need their own are skipped.
const GIVEN: &str = "CLEARWAY_TEST_KAFKA";
const GIVEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A running Apache Kafka. Dropping it removes everything that was started for it.
pub struct KafkaBroker {
    bootstrap: String,
    origin: Origin,
    nodes: Vec<Node>,
    // After the nodes in it: a network in use is not removed.
    _network: Option<Network>,
}

impl KafkaBroker {
    /// A broker for a test that only talks to it: the one that is already there, or a container of its own.
    ///
    /// Others may be using the same broker, so names should come from [`KafkaBroker::fresh_name`].
    pub async fn any() -> Result<Self> {
        match given() {
            Some(bootstrap) => Self::given(bootstrap).await,
            None => Self::start(&Kafka::default()).await,
        }
    }

    /// A broker of the test's own, set up like this, that it may pause, kill and stop.
    ///
    /// `None` when the run was told to use a broker that is already there: the test is then noted as skipped and
    /// has nothing more to do.
    pub async fn own(options: Kafka) -> Result<Option<Self>> {
        if given().is_some() {
            run::skip("it needs a Kafka of its own");
            return Ok(None);
        }
        Self::start(&options).await.map(Some)
    }

    /// `host:port` of each node, with commas between: what a client is given. Logins and certificates are not in it.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// What a bus is given.
    pub fn url(&self) -> String {
        format!("kafka://{}", self.bootstrap)
    }

    /// The same past login, TLS and proxy, for those who look from outside.
    pub fn aside(&self) -> String {
        if self.nodes.is_empty() {
            return self.bootstrap.clone();
        }
        let nodes: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.aside().to_string())
            .collect();
        nodes.join(",")
    }

    /// What this broker is, for reports and the headers of histories.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Its nodes. None on a broker that was given.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node of a broker that has one.
    pub fn node(&self) -> Result<&Node> {
        ensure!(self.nodes.len() < 2, "it has {} nodes", self.nodes.len());
        self.nodes
            .first()
            .ok_or_else(|| anyhow!("the broker at {} is not ours to break", self.bootstrap))
    }

    /// The node with this number in the cluster.
    pub fn numbered(&self, id: u32) -> Result<&Node> {
        let node = self.nodes.iter().find(|node| node.id() == id);
        node.with_context(|| format!("no node {id} of ours"))
    }

    /// The node that leads a partition now, as the cluster says.
    pub async fn leader(&self, topic: &str, partition: usize) -> Result<&Node> {
        let leaders = Outside::of(self)?.leaders(topic).await?;
        let leader = leaders.get(partition).copied().flatten();
        self.numbered(leader.with_context(|| format!("nobody leads {topic}/{partition}"))?)
    }

    /// A name that no other test, process or run uses.
    pub fn fresh_name(&self, prefix: &str) -> String {
        unique(prefix)
    }

    async fn given(bootstrap: String) -> Result<Self> {
        let version = hello::ready(&bootstrap, GIVEN_TIMEOUT)
            .await
            .with_context(|| format!("{GIVEN}={bootstrap}"))?;
        let origin = Origin {
            backend: "kafka",
            server: format!("Apache Kafka, metadata.version {version}"),
            image: None,
            way: format!("already there ({GIVEN})"),
        };
        run::announce(&origin);
        Ok(Self {
            bootstrap,
            origin,
            nodes: Vec::new(),
            _network: None,
        })
    }

    async fn start(options: &Kafka) -> Result<Self> {
        let engine = Engine::kafka().await?;
        let name = unique("clearway-test");
        let network = match options.cluster {
            true => Some(Network::create(engine, name.clone()).await?),
            false => None,
        };
        let names: Vec<_> = match options.cluster {
            true => (1..=options.nodes())
                .map(|id| format!("{name}-{id}"))
                .collect(),
            false => vec!["localhost".to_owned()],
        };
        // All at once: each waits for the others to agree who leads.
        let nodes = try_join_all((1..=options.nodes()).map(|id| {
            let own = match options.cluster {
                true => names[id as usize - 1].clone(),
                false => name.clone(),
            };
            Node::run(engine, options, (id, own, &names), network.as_ref())
        }))
        .await?;
        let versions = try_join_all(nodes.iter().map(Node::started)).await?;
        let addresses: Vec<_> = nodes
            .iter()
            .map(|node| node.address().to_string())
            .collect();
        let started = Self {
            bootstrap: addresses.join(","),
            origin: Origin {
                backend: "kafka",
                server: format!("Apache Kafka {}", versions[0]),
                image: Some(engine.found("kafka.image")?.to_owned()),
                way: format!(
                    "{}; {}",
                    engine.found("kafka.way")?,
                    engine.found("engine")?
                ),
            },
            nodes,
            _network: network,
        };
        started.complete(options).await?;
        run::announce(&started.origin);
        Ok(started)
    }

    /// What can be done only when it runs.
    async fn complete(&self, options: &Kafka) -> Result<()> {
        if options.cluster {
            let outside = Outside::of(self)?;
            until("every node knows of every node", async || {
                Ok(outside.brokers().await?.len() == self.nodes.len())
            })
            .await?;
        }
        if let Some(login) = &options.login {
            let password = format!("SCRAM-SHA-256=[password={}]", login.password);
            let user = ["--entity-type", "users", "--entity-name", &login.user];
            let change = ["--alter", "--add-config", &password];
            self.configs(&[&change[..], &user].concat()).await?;
        }
        Ok(())
    }
}

impl AsRef<Origin> for KafkaBroker {
    fn as_ref(&self) -> &Origin {
        &self.origin
    }
}

fn given() -> Option<String> {
    std::env::var(GIVEN).ok().filter(|at| !at.is_empty())
}
