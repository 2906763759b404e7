//! Row 21: what is in a stream, taken and acknowledged one by one, by the bus and by the client it is built on.
//!
//! All have the same stream, a durable of their own, and as many deliveries out and unanswered. A round is over when the server says
//! that nothing is left of it: not when the last acknowledgement was sent.
//!
//! A durable whose deliveries are pinned to one member costs the server something: it says so in a header of each delivery, which it
//! copies for that. The bus asks for it, because order by key over several members stands on it. So only the row `with pins`
//! compares two that ask the same of the server, as only `with ids` does among those of row 11.

use crate::sides::Sides;
use crate::turns::{Figures, Moment};
use crate::{ENVELOPES, WINDOW};
use anyhow::{Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, PriorityPolicy, pull};
use bytes::Bytes;
use clearway::{Delivery, HandlerError, TopicConfig};
use futures_util::TryStreamExt;
use std::time::Duration;

const PIN_GROUP: &str = "bench";
/// How long a silent client keeps its pin.
const PIN_FOR: Duration = Duration::from_secs(30);

/// Who consumes.
#[derive(Clone, Copy)]
pub(crate) enum Reader {
    Client,
    /// The client, its deliveries pinned.
    Pinned,
    Bus,
}

impl Reader {
    pub(crate) const ALL: [Self; 3] = [Self::Client, Self::Pinned, Self::Bus];

    fn group(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Pinned => "pinned",
            Self::Bus => "bus",
        }
    }
}

/// One round: all read the same stream, one after the other; `first` begins.
pub(crate) async fn round(sides: &Sides<'_>, first: usize) -> Result<[Figures; 3]> {
    let topic = sides.fresh_topic().await?;
    sides.fill(&topic, ENVELOPES).await?;
    let mut figures = [None, None, None];
    for at in (0..3).map(|n| (n + first) % 3) {
        figures[at] = Some(read(sides, Reader::ALL[at], &topic).await?);
    }
    sides.outside().delete(&topic).await?;
    Ok(figures.map(|figures| figures.expect("all have read")))
}

async fn read(sides: &Sides<'_>, reader: Reader, topic: &str) -> Result<Figures> {
    let begun = Moment::now();
    match reader {
        Reader::Client | Reader::Pinned => by_client(sides, reader, topic).await?,
        Reader::Bus => by_bus(sides, topic).await?,
    }
    Ok(begun.until(Moment::now(), ENVELOPES))
}

/// Until the server has all acknowledgements.
async fn until_settled(sides: &Sides<'_>, topic: &str, reader: Reader) -> Result<()> {
    while sides.outside().left(topic, topic, reader.group()).await? > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

async fn by_client(sides: &Sides<'_>, reader: Reader, topic: &str) -> Result<()> {
    let stream = sides.client().get_stream(topic).await?;
    let pinned = matches!(reader, Reader::Pinned);
    let (policy, groups) = match pinned {
        true => (PriorityPolicy::PinnedClient, vec![PIN_GROUP.to_owned()]),
        false => (PriorityPolicy::None, Vec::new()),
    };
    let durable = pull::Config {
        durable_name: Some(format!("{}~bench", reader.group())),
        filter_subject: format!("{topic}.0"),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: WINDOW as i64,
        priority_policy: policy,
        priority_groups: groups,
        priority_timeout: if pinned { PIN_FOR } else { Duration::ZERO },
        ..pull::Config::default()
    };
    let durable = stream.create_consumer(durable).await?;
    let reading = tokio::spawn(async move {
        let mut messages = durable.stream().max_messages_per_batch(WINDOW);
        if pinned {
            messages = messages.group(PIN_GROUP);
        }
        let mut messages = messages.messages().await?;
        for _ in 0..ENVELOPES {
            let Some(message) = messages.try_next().await? else {
                anyhow::bail!("the stream has ended");
            };
            message.ack().await.map_err(anyhow::Error::from_boxed)?;
        }
        Ok(())
    });
    reading.await??;
    until_settled(sides, topic, reader).await
}

async fn by_bus(sides: &Sides<'_>, topic: &str) -> Result<()> {
    let before = sides.bus().metrics().handler_acks;
    let reads = sides.bus().raw_topic(topic)?;
    let subscription = reads
        .subscription(Reader::Bus.group())
        .concurrency(2)
        .in_flight(WINDOW as u64, 64 << 20)
        .handler(|_: Delivery<Bytes>| async { Ok::<_, HandlerError>(()) })
        .await?;
    while sides.bus().metrics().handler_acks - before < ENVELOPES as u64 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    until_settled(sides, topic, Reader::Bus).await?;
    let report = subscription.drain(Duration::from_secs(5)).await;
    ensure!(report.drained, "{report:?}");
    Ok(())
}

impl Sides<'_> {
    /// A topic of one partition that nobody else has; its stream has its name.
    async fn fresh_topic(&self) -> Result<String> {
        let name = self.broker().fresh_name("bench");
        let config = TopicConfig::new(name.as_str()).partitions(1);
        self.bus().configure(config).await?;
        Ok(name)
    }
}
