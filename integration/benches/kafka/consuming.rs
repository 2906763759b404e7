//! What is in a topic, taken by a handler that does nothing: the bus beside `BaseConsumer`, from the first envelope to the last.
//!
//! Each has a group of its own and commits every second. How long a group takes to begin is not counted: it is the broker's.
//! The client hands out what is its own until it is dropped, the bus what its handler may keep; so there is a third
//! reader, the client with each message made the reader's own. It is printed and held against nothing.

use crate::client;
use crate::publishing::{Side, Sides};
use crate::turns::{Figures, Moment};
use crate::{ENVELOPES, PARTITIONS, WINDOW};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use clearway::{Delivery, HandlerError};
use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

/// Who consumes.
#[derive(Clone, Copy)]
pub(crate) enum Reader {
    /// `BaseConsumer`: a message is borrowed from it.
    Client,
    /// The same, and each is made the reader's own.
    Owning,
    Bus,
}

/// How far a reader is.
#[derive(Default)]
struct Seen {
    count: AtomicUsize,
    first: OnceLock<Moment>,
    last: OnceLock<Moment>,
}

impl Reader {
    pub(crate) const ALL: [Self; 3] = [Self::Client, Self::Owning, Self::Bus];
}

impl Seen {
    /// What the handler does.
    fn one(&self) {
        // Relaxed: a number.
        let before = self.count.fetch_add(1, Ordering::Relaxed);
        if before == 0 {
            let _ = self.first.set(Moment::now());
        } else if before == ENVELOPES - 1 {
            let _ = self.last.set(Moment::now());
        }
    }

    fn figures(&self) -> Option<Figures> {
        Some(self.first.get()?.until(*self.last.get()?, ENVELOPES))
    }
}

/// A topic with everything in it that is to be read.
pub(crate) async fn filled(sides: &Sides) -> Result<String> {
    let topic = sides.fresh_topic(PARTITIONS).await?;
    sides.publish(Side::Bus, &topic, ENVELOPES).await?;
    Ok(topic)
}

/// One reader reads it all.
pub(crate) async fn round(sides: &Sides, topic: &str, reader: Reader) -> Result<Figures> {
    let group = sides.broker().fresh_name("readers");
    let seen = Arc::new(Seen::default());
    match reader {
        Reader::Client | Reader::Owning => {
            let config = client::consuming(sides.broker().bootstrap(), &group);
            let (topic, seen) = (topic.to_owned(), seen.clone());
            let owning = matches!(reader, Reader::Owning);
            tokio::task::spawn_blocking(move || {
                by_client(&config.create()?, &topic, owning, &seen)
            })
            .await??;
        }
        Reader::Bus => by_bus(sides, topic, &group, &seen).await?,
    }
    let figures = seen.figures().context("not all was read")?;
    let count = seen.count.load(Ordering::Relaxed);
    ensure!(count == ENVELOPES, "{count} were read of {ENVELOPES}");
    Ok(figures)
}

fn by_client(consumer: &BaseConsumer, topic: &str, owning: bool, seen: &Seen) -> Result<()> {
    consumer.subscribe(&[topic])?;
    let begun = Instant::now();
    while seen.last.get().is_none() {
        ensure!(begun.elapsed() < LIMIT, "not within {LIMIT:?}");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message?;
        if owning {
            black_box(message.detach());
        } else {
            black_box(message.payload());
        }
        seen.one();
    }
    Ok(())
}

async fn by_bus(sides: &Sides, topic: &str, group: &str, seen: &Arc<Seen>) -> Result<()> {
    let topic = sides.bus().raw_topic(topic)?;
    let handled = seen.clone();
    let subscription = topic
        .subscription(group)
        .concurrency(2)
        .in_flight(WINDOW as u64, 64 << 20)
        .handler(move |envelope: Delivery<Bytes>| {
            black_box(&envelope.value);
            handled.one();
            async { Ok::<_, HandlerError>(()) }
        })
        .await?;
    let begun = Instant::now();
    while seen.last.get().is_none() {
        ensure!(begun.elapsed() < LIMIT, "not within {LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let report = subscription.drain(Duration::from_secs(5)).await;
    ensure!(report.drained, "{report:?}");
    Ok(())
}
