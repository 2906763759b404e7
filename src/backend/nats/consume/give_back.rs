//! Giving back: the server stops serving our pulls, then we stop listening, then what is here goes back.
//!
//! In this order, because nothing calls a pull back. Once nobody listens, a delivery that is on its way waits for the end of its ack wait,
//! and the pin that it made for the end of its time: a group would stand still for half a minute.
//! Giving back a pin ends the pulls that show it. A member that waits for its first delivery has no pin yet, and the server makes one
//! while the member leaves. So it asks something that the server refuses at once and in line behind the deliveries of that durable, the
//! *fence*: when that is here, so is what was delivered before, with its pin.
//!
//! The server hears answers in one line and takes back pins in another. So, before a pin goes back, it is asked in the line of the
//! answers for its *word* that it has heard them all: else the next owner would be given what was acknowledged just then.
//!
//! A pull that waits for the first delivery outlives the listening: nothing calls it back, and the server would pin it with the next message,
//! though nobody hears of that. So it is asked at the very end how each durable stands: before it answers it throws away what nobody
//! listens for, and the answer tells of a pin that was made since the last fence.
//!
//! What is left is a delivery that the server makes in the moment in which it hears that nobody listens any more: its pin looks like
//! another member's, and it is left to the ack wait.

use super::super::durable::Durable;
use super::super::partition::REPLY;
use super::{NatsConsumer, disconnected};
use crate::error::Failure;
use async_nats::{Message, Subject};
use bytes::Bytes;
use futures_core::Stream as _;
use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;

/// What the answers in the inbox are to.
pub(super) const FENCE: &str = "fence";
pub(super) const WORD: &str = "word";
pub(super) const NAK: &[u8] = b"-NAK";
/// No pull at all: the server says so, without looking at what waits.
const NO_PULL: &[u8] = b"{";
/// A pin may be made behind a fence: it is looked for this often.
const ROUNDS: usize = 3;

impl NatsConsumer {
    /// Gives back the pins and everything that is out, in the order of the stream.
    pub(super) async fn give_back(&mut self) -> Result<(), Failure> {
        self.say_farewell().await;
        self.await_word().await?;
        self.end_pulls().await?;
        self.inbox.drain().await.map_err(disconnected)?;
        while let Some(message) = self.heard().await {
            self.take_last(message);
        }
        self.withdraw().await;
        for at in 0..self.partitions.len() {
            self.say_again(at).await?;
        }
        let client = &self.api.client;
        for partition in &self.partitions {
            for reply in partition.unanswered() {
                let sent = client.publish(reply, Bytes::from_static(NAK)).await;
                sent.map_err(disconnected)?;
            }
            // Not ours any more, whatever a late delivery has said.
            let name = &partition.durable.name;
            self.pins.remember(&self.stream, name, None);
        }
        client.flush().await.map_err(disconnected)
    }

    /// Has the server serve our pulls no more, and takes all that it has served.
    async fn end_pulls(&mut self) -> Result<(), Failure> {
        let mut given = BTreeSet::new();
        for round in 0..ROUNDS {
            let news = self.unpin(&mut given).await;
            // One fence more than seems needed: the server answers it while another of its threads serves a pull.
            if !news && round > 1 {
                break;
            }
            self.await_fence().await?;
        }
        Ok(())
    }

    /// Has the server throw away the pulls that nobody listens for any more, and takes back what pins they got at the very end.
    async fn withdraw(&mut self) {
        let pulled = (self.partitions.iter()).filter(|p| p.durable.pins && p.next_pull() > 1);
        join_all(pulled.map(|p| p.durable.unpin(&self.api, p.pin.as_deref()))).await;
    }

    /// Gives back the pins that are not among the `given` ones. Says whether there were any.
    async fn unpin(&mut self, given: &mut BTreeSet<String>) -> bool {
        let mut ours = Vec::new();
        for partition in &mut self.partitions {
            if let Some(pin) = partition.pin.take()
                && given.insert(pin.clone())
            {
                ours.push((partition.durable.clone(), pin));
            }
        }
        let api = &self.api;
        join_all((ours.iter()).map(|(durable, pin)| durable.unpin(api, Some(pin)))).await;
        !ours.is_empty()
    }

    /// Has the server hear all that was said of deliveries.
    async fn await_word(&mut self) -> Result<(), Failure> {
        let mut awaited = BTreeSet::new();
        for at in 0..self.partitions.len() {
            self.say_again(at).await?;
            if self.ask_word(at).await? {
                awaited.insert(self.partitions[at].number);
            }
        }
        self.await_answers(awaited, WORD).await
    }

    /// Takes all that was delivered to us up to now.
    async fn await_fence(&mut self) -> Result<(), Failure> {
        let mut awaited = BTreeSet::new();
        for at in 0..self.partitions.len() {
            if self.partitions[at].next_pull() > 1 {
                self.ask_fence(at).await?;
                awaited.insert(self.partitions[at].number);
            }
        }
        self.await_answers(awaited, FENCE).await
    }

    /// Waits until each of these has answered, and takes what comes before.
    async fn await_answers(&mut self, mut awaited: BTreeSet<u32>, of: &str) -> Result<(), Failure> {
        while !awaited.is_empty() {
            let Some(message) = self.heard().await else {
                return Err(disconnected("the inbox is closed"));
            };
            match self.answers(&message, of) {
                Some(number) => drop(awaited.remove(&number)),
                None => self.take_last(message),
            }
        }
        Ok(())
    }

    pub(super) async fn ask_fence(&mut self, at: usize) -> Result<(), Failure> {
        let Durable { stream, name, .. } = &self.partitions[at].durable;
        let subject = self
            .api
            .subject(&format!("CONSUMER.MSG.NEXT.{stream}.{name}"));
        let no_pull = Bytes::from_static(NO_PULL);
        self.ask_for(at, FENCE, subject.into(), no_pull).await
    }

    /// Says whether there was anything to ask about.
    pub(super) async fn ask_word(&mut self, at: usize) -> Result<bool, Failure> {
        let Some(subject) = self.partitions[at].word() else {
            return Ok(false);
        };
        let progress = Bytes::from_static(b"+WPI");
        self.ask_for(at, WORD, subject, progress).await?;
        Ok(true)
    }

    async fn ask_for(
        &mut self,
        at: usize,
        of: &str,
        subject: Subject,
        body: Bytes,
    ) -> Result<(), Failure> {
        let inbox = format!("{}{at}.{of}", self.prefix);
        let sent = self.api.client.publish_with_reply(subject, inbox, body);
        sent.await.map_err(disconnected)
    }

    /// Which partition's `of` a message is the answer to.
    fn answers(&self, message: &Message, of: &str) -> Option<u32> {
        let (number, to) = message
            .subject
            .strip_prefix(&*self.prefix)?
            .split_once('.')?;
        (to == of && message.reply.is_none()).then(|| number.parse().ok())?
    }

    async fn heard(&mut self) -> Option<Message> {
        poll_fn(|cx| Pin::new(&mut self.inbox).poll_next(cx)).await
    }

    /// Takes a delivery. What else the server says now is the end of our pulls, and no news.
    fn take_last(&mut self, message: Message) {
        if message
            .reply
            .as_ref()
            .is_some_and(|reply| reply.starts_with(REPLY))
        {
            let now = self.now();
            self.take(message, now);
        }
    }
}
