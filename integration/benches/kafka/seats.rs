//! Many publishers over one producer of the client alone, each with one record under way and a seat of its own where it waits.

use crate::client;
use crate::turns;
use anyhow::{Result, bail};
use futures_util::task::AtomicWaker;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use std::future::poll_fn;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;

const WAITS: u8 = 0;
const ACKED: u8 = 1;
const FAILED: u8 = 2;

#[derive(Default)]
struct Seat {
    state: AtomicU8,
    publisher: AtomicWaker,
}

pub(crate) struct Seats(Box<[Seat]>);

impl ClientContext for Seats {}

impl ProducerContext for Seats {
    type DeliveryOpaque = usize;

    fn delivery(&self, report: &DeliveryResult<'_>, seat: usize) {
        let seat = &self.0[seat];
        let state = if report.is_ok() { ACKED } else { FAILED };
        seat.state.store(state, Ordering::Release);
        seat.publisher.wake();
    }
}

/// The producer with its seats.
pub(crate) struct Seated(ThreadedProducer<Seats>);

impl Seated {
    pub(crate) fn new(config: &ClientConfig, seats: usize) -> Result<Self> {
        let seats = Seats((0..seats).map(|_| Seat::default()).collect());
        Ok(Self(config.create_with_context(seats)?))
    }

    /// Waits until it sees the topic.
    pub(crate) fn see(&self, topic: &str, partitions: usize) -> Result<()> {
        client::see(self.0.client(), topic, partitions)
    }

    /// Sends the next record of a seat.
    pub(crate) fn send(
        &self,
        seat: usize,
        (topic, partition): (&str, i32),
        key: Option<&[u8]>,
        payload: &[u8],
    ) -> Result<()> {
        let state = &self.0.context().0[seat].state;
        state.store(WAITS, Ordering::Release);
        let now = turns::unix_ms();
        let record = BaseRecord::<[u8], [u8], usize> {
            topic,
            partition: Some(partition),
            payload: Some(payload),
            key,
            timestamp: Some(now as i64),
            headers: Some(client::with_id(now)),
            delivery_opaque: seat,
        };
        self.0.send(record).map_err(|(error, _)| error)?;
        Ok(())
    }

    /// Waits for what became of it.
    pub(crate) async fn acked(&self, seat: usize) -> Result<()> {
        let seat = &self.0.context().0[seat];
        let state = poll_fn(|cx| {
            seat.publisher.register(cx.waker());
            match seat.state.load(Ordering::Acquire) {
                WAITS => Poll::Pending,
                state => Poll::Ready(state),
            }
        });
        if state.await != ACKED {
            bail!("it was not acknowledged");
        }
        Ok(())
    }
}
