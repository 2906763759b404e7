//! What the tests of this layer need of a client.

use anyhow::{Context, Result, bail};
use async_nats::ConnectOptions;
use async_nats::jetstream::{self, stream};
use std::time::Duration;
use tokio::time::timeout;

/// How long an answer may take before it counts as missing.
pub(crate) const ANSWER: Duration = Duration::from_secs(1);
/// How long something that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A stream of its own, with its subject.
pub(crate) struct Log {
    pub(crate) jetstream: jetstream::Context,
    pub(crate) name: String,
}

impl Log {
    pub(crate) async fn create(client: async_nats::Client, name: String) -> Result<Self> {
        let jetstream = jetstream::new(client);
        let config = stream::Config {
            name: name.clone(),
            subjects: vec![name.clone()],
            storage: stream::StorageType::File,
            ..Default::default()
        };
        jetstream.create_stream(config).await?;
        Ok(Self { jetstream, name })
    }

    /// Publishes and waits for the acknowledgement. The result is the sequence.
    pub(crate) async fn publish(&self, payload: &'static str) -> Result<u64> {
        let publish = async {
            let acknowledgement = self
                .jetstream
                .publish(self.name.clone(), payload.into())
                .await?;
            anyhow::Ok(acknowledgement.await?.sequence)
        };
        timeout(ANSWER, publish)
            .await
            .context("no acknowledgement")?
    }

    /// How many are stored.
    pub(crate) async fn stored(&self) -> Result<u64> {
        let mut stream = timeout(ANSWER, self.jetstream.get_stream(&self.name)).await??;
        Ok(stream.info().await?.state.messages)
    }

    /// Waits until so many are stored.
    pub(crate) async fn wait_stored(&self, count: u64) -> Result<()> {
        eventually(&format!("{count} stored"), async || {
            Ok(self.stored().await? == count)
        })
        .await
    }
}

/// Options of a client that reconnects fast.
pub(crate) fn client() -> ConnectOptions {
    ConnectOptions::new()
        .connection_timeout(Duration::from_secs(2))
        .ping_interval(Duration::from_secs(1))
        .reconnect_delay_callback(|tries| Duration::from_millis(20 * tries.min(10) as u64))
}

/// Tries until it is so. An error counts as "not yet".
pub(crate) async fn eventually(what: &str, so: impl AsyncFn() -> Result<bool>) -> Result<()> {
    let start = tokio::time::Instant::now();
    loop {
        let last = match so().await {
            Ok(true) => return Ok(()),
            Ok(false) => "it is not".to_owned(),
            Err(error) => format!("{error:#}"),
        };
        if start.elapsed() > PATIENCE {
            bail!("not within {PATIENCE:?}: {what}: {last}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
