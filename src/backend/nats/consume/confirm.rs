//! Confirming: acknowledgements that the server is to answer, for whoever asked for that; and those that are to be said once more.
//!
//! Each is published with a reply subject in the inbox and nobody waits for it: the answer comes like a delivery. One that does not come
//! is asked for again, after the request timeout or when the server delivers again what it should know to be
//! acknowledged. The server answers an acknowledgement that it has already like a first one.

use super::{NatsConsumer, disconnected};
use crate::backend::{Incoming, Position};
use crate::error::Failure;
use async_nats::{Message, Subject};
use bytes::Bytes;

/// What the answers in the inbox are to: `<prefix><partition>.ack.<epoch>.<sequence>`. With the epoch: an answer that comes late
/// must not count for what came again.
pub(super) const ACK: &str = "ack.";

impl NatsConsumer {
    /// Acknowledges, and asks to have that confirmed.
    pub(super) async fn acknowledge(
        &mut self,
        at: usize,
        sequence: u64,
        reply: Subject,
    ) -> Result<(), Failure> {
        let epoch = self.partitions[at].epoch;
        let inbox = format!("{}{at}.{ACK}{epoch}.{sequence}", self.prefix);
        let ack = Bytes::from_static(b"+ACK");
        let sent = (self.api.client).publish_with_reply(reply.clone(), inbox, ack);
        sent.await.map_err(disconnected)?;
        let now = self.now();
        self.partitions[at].acknowledged(sequence, reply, now);
        Ok(())
    }

    /// Says once more what the server should know: what it has delivered again, and, where that is asked for, what it has not
    /// confirmed in time.
    pub(super) async fn acknowledge_again(&mut self, at: usize) -> Result<(), Failure> {
        self.say_again(at).await?;
        let late = self.partitions[at].late(self.now(), self.options.request_timeout);
        for (sequence, reply) in late {
            self.acknowledge(at, sequence, reply).await?;
        }
        self.partitions[at].looked_for_late();
        Ok(())
    }

    /// Acknowledges what came again and was done. Dropped in the middle it goes on where it was.
    pub(super) async fn say_again(&mut self, at: usize) -> Result<(), Failure> {
        let partition = &mut self.partitions[at];
        while let Some(reply) = partition.again() {
            let ack = Bytes::from_static(b"+ACK");
            let sent = self.api.client.publish(reply.clone(), ack).await;
            sent.map_err(disconnected)?;
            partition.said_again();
        }
        Ok(())
    }

    /// The server has answered an acknowledgement.
    pub(super) fn take_confirmation(&mut self, at: usize, of: &str, message: &Message) {
        // A status says that no durable was there to hear it.
        if message.status.is_some() {
            return;
        }
        let Some((Ok(epoch), Ok(sequence))) = of
            .split_once('.')
            .map(|(epoch, sequence)| (epoch.parse::<u64>(), sequence.parse()))
        else {
            return;
        };
        let Some(partition) = self.partitions.get_mut(at) else {
            return;
        };
        if partition.epoch != epoch || !partition.confirmed(sequence) {
            return;
        }
        self.unanswered -= 1;
        let position = Position {
            partition: partition.number,
            offset: sequence,
            epoch,
        };
        self.news.push_back(Incoming::Confirmed { position });
    }
}
