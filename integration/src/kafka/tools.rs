//! Kafka's own console tools, run where they lie: in a container of the broker.
//!
//! They are programs that nobody here wrote: what they read and write is what Kafka's other users see.

use super::broker::KafkaBroker;
use super::node::Node;
use super::setup::CLIENT_PROPERTIES;
use crate::patience::PATIENCE;
use anyhow::{Context, Result, ensure};
use std::process::Stdio;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

const FOLDER: &str = "/opt/kafka/bin";
/// Where a node answers the others, and tools.
const INSIDE: &str = "localhost:9092";

impl KafkaBroker {
    /// `kafka-topics.sh`, for example with `["--describe", "--topic", "orders"]`.
    pub async fn topics(&self, arguments: &[&str]) -> Result<String> {
        self.tool("kafka-topics.sh", arguments).await
    }

    /// `kafka-configs.sh`.
    pub async fn configs(&self, arguments: &[&str]) -> Result<String> {
        self.tool("kafka-configs.sh", arguments).await
    }

    /// `kafka-consumer-groups.sh`, for example with `["--describe", "--group", "billing"]`.
    pub async fn consumer_groups(&self, arguments: &[&str]) -> Result<String> {
        self.tool("kafka-consumer-groups.sh", arguments).await
    }

    /// `kafka-get-offsets.sh`: a line `topic:partition:offset` for each partition.
    pub async fn offsets(&self, arguments: &[&str]) -> Result<String> {
        self.tool("kafka-get-offsets.sh", arguments).await
    }

    /// `kafka-console-producer.sh`: publishes each line of `lines`.
    pub async fn console_producer(
        &self,
        topic: &str,
        lines: &str,
        more: &[&str],
    ) -> Result<String> {
        let arguments = [&["--topic", topic], more].concat();
        let node = self.up().await?;
        run(node, "kafka-console-producer.sh", INSIDE, &arguments, lines).await
    }

    /// `kafka-console-consumer.sh`: the first `count` of a topic, a line each as its formatter writes them.
    pub async fn console_consumer(
        &self,
        topic: &str,
        count: usize,
        more: &[&str],
    ) -> Result<String> {
        let count = count.to_string();
        let all = [
            "--topic",
            topic,
            "--from-beginning",
            "--max-messages",
            &count,
        ];
        self.tool("kafka-console-consumer.sh", &[&all[..], more].concat())
            .await
    }

    /// Any tool that takes `--bootstrap-server`, on a node that runs, past login and proxy.
    pub async fn tool(&self, name: &str, arguments: &[&str]) -> Result<String> {
        run(self.up().await?, name, INSIDE, arguments, "").await
    }

    /// The same where clients come in: with their login, over TLS. `option` is the tool's own name for the file
    /// with the login: `--command-config`, `--producer.config` or `--consumer.config`.
    pub async fn tool_with_login(
        &self,
        name: &str,
        option: &str,
        arguments: &[&str],
    ) -> Result<String> {
        let node = self.up().await?;
        let at = node.address().to_string();
        let arguments = [&[option, CLIENT_PROPERTIES], arguments].concat();
        run(node, name, &at, &arguments, "").await
    }

    async fn up(&self) -> Result<&Node> {
        for node in self.nodes() {
            if node.is_running().await? {
                return Ok(node);
            }
        }
        anyhow::bail!("the tools need a node of ours that runs")
    }
}

async fn run(node: &Node, tool: &str, at: &str, arguments: &[&str], input: &str) -> Result<String> {
    let mut command = Command::new("docker");
    command
        .args(["exec", "--interactive", node.name()])
        .arg(format!("{FOLDER}/{tool}"))
        .args(["--bootstrap-server", at])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut running = command.spawn().context("the docker command")?;
    let mut stdin = running.stdin.take().context("it has an input")?;
    let ended = async {
        // It may end before it has read everything, and then says why itself.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        running.wait_with_output().await
    };
    let output = timeout(PATIENCE, ended)
        .await
        .with_context(|| format!("{tool} {arguments:?} does not end"))??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{tool} {arguments:?}: {}: {said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}
