//! A look at the server past the bus, with a client of its own: what is really there.

use crate::broker::Broker;
use crate::patience::until;
use crate::record::Record;
use anyhow::{Context, Result, ensure};
use async_nats::ConnectOptions;
use async_nats::jetstream::consumer::Info;
use async_nats::jetstream::{self, stream};
use futures_util::TryStreamExt;
use serde_json::{Value, json};
use std::time::Duration;

/// One who looks at the server from outside.
pub struct Outside {
    /// For what only one test needs.
    pub jetstream: jetstream::Context,
}

impl Outside {
    /// Connects to `broker`, which asks for nothing or has a login in its URL.
    pub async fn of(broker: &Broker) -> Result<Self> {
        let server: async_nats::ServerAddr = broker.url().parse()?;
        let options = match (server.username(), server.password()) {
            (Some(user), Some(password)) => {
                ConnectOptions::with_user_and_password(user.into(), password.into())
            }
            _ => ConnectOptions::new(),
        };
        let delay = |tries: usize| Duration::from_millis(20 * tries.min(10) as u64);
        let client = options
            .reconnect_delay_callback(delay)
            .connect(server)
            .await?;
        let mut jetstream = jetstream::new(client);
        // Somebody may be breaking the server: no answer is "not yet", and soon.
        jetstream.set_timeout(Duration::from_secs(2));
        Ok(Self { jetstream })
    }

    /// How a stream is set up; fails if it is not there.
    pub async fn stream(&self, name: &str) -> Result<stream::Config> {
        let mut stream = self.jetstream.get_stream(name).await?;
        Ok(stream.info().await?.config.clone())
    }

    /// How many envelopes a stream holds.
    pub async fn stored(&self, name: &str) -> Result<u64> {
        let mut stream = self.jetstream.get_stream(name).await?;
        Ok(stream.info().await?.state.messages)
    }

    /// Deletes a stream, with all that is in it.
    pub async fn delete(&self, name: &str) -> Result<()> {
        let status = self.jetstream.delete_stream(name).await?;
        ensure!(status.success, "{name} was not deleted");
        Ok(())
    }

    /// Waits until the server itself says that `group` has nothing left of `topic` in `stream`, and writes it down.
    pub async fn drained(
        &self,
        record: &Record,
        stream: &str,
        topic: &str,
        group: &str,
    ) -> Result<()> {
        let what = format!("group {group} has nothing left of {topic}");
        until(&what, async || {
            let left = self.left(stream, topic, group).await?;
            ensure!(left == 0, "{left} left");
            Ok(true)
        })
        .await?;
        record.recorder().drained(topic, group);
        Ok(())
    }

    /// What is stored for `group` and not acknowledged, over all partitions.
    pub async fn left(&self, stream: &str, topic: &str, group: &str) -> Result<u64> {
        let stream = self.jetstream.get_stream(stream).await?;
        let (own, of_group) = (format!("{topic}."), format!("{group}~"));
        let durables: Vec<_> = stream.consumers().try_collect().await?;
        let durables: Vec<_> = durables
            .iter()
            .filter(|durable| {
                durable.name.starts_with(&of_group)
                    && durable.config.filter_subject.starts_with(&own)
            })
            .collect();
        ensure!(!durables.is_empty(), "no durable of {group} on {topic}");
        let left = |durable: &&jetstream::consumer::Info| {
            durable.num_pending + durable.num_ack_pending as u64
        };
        Ok(durables.iter().map(left).sum())
    }

    /// How the durable of `group` on a partition of `topic` stands, of names that need no escape; fails if it is not there.
    pub async fn durable(
        &self,
        stream: &str,
        topic: &str,
        group: &str,
        partition: u32,
    ) -> Result<Info> {
        let name = format!("{group}~{topic}~{partition}");
        let stream = self.jetstream.get_stream(stream).await?;
        let found = stream.consumer_info(&name).await;
        found.with_context(|| format!("no durable `{name}`"))
    }

    /// The pin of the member that the durable is delivered to, if there is one.
    pub async fn pin(
        &self,
        stream: &str,
        topic: &str,
        group: &str,
        partition: u32,
    ) -> Result<Option<String>> {
        let verb = format!("CONSUMER.INFO.{stream}.{group}~{topic}~{partition}");
        let info: Value = self.jetstream.request(verb, &json!({})).await?;
        ensure!(info.get("error").is_none(), "{info}");
        let pin = info["priority_groups"][0]["pinned_client_id"].as_str();
        Ok(pin.filter(|pin| !pin.is_empty()).map(str::to_owned))
    }

    /// Changes settings of a durable, as an operator would.
    pub async fn change(&self, durable: &Info, settings: &[(&str, Value)]) -> Result<()> {
        let (stream, name) = (&durable.stream_name, &durable.name);
        let ask = async |verb: &str, body: &Value| {
            let answer: Value = (self.jetstream)
                .request(format!("CONSUMER.{verb}.{stream}.{name}"), body)
                .await?;
            ensure!(answer.get("error").is_none(), "{verb}: {answer}");
            anyhow::Ok(answer)
        };
        let mut config = ask("INFO", &json!({})).await?["config"].take();
        for (setting, value) in settings {
            config[*setting] = value.clone();
        }
        // Nothing is said by leaving it out.
        if let Some(all) = config.as_object_mut() {
            all.retain(|_, value| !value.is_null());
        }
        let body = json!({ "stream_name": stream, "config": config });
        ask("DURABLE.CREATE", &body).await.map(drop)
    }

    /// Deletes a durable.
    pub async fn delete_durable(&self, durable: &Info) -> Result<()> {
        let stream = self.jetstream.get_stream(&durable.stream_name).await?;
        let status = stream.delete_consumer(&durable.name).await?;
        ensure!(status.success, "{} was not deleted", durable.name);
        Ok(())
    }

    /// Deletes what a test made, on a server that may be others' too.
    pub async fn forget(&self, streams: &[&str]) -> Result<()> {
        for stream in streams {
            self.delete(stream)
                .await
                .with_context(|| stream.to_string())?;
        }
        Ok(())
    }
}
