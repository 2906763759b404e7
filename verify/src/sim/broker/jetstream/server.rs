//! The server: streams, durables and who is pinned to what. What it decides it sends over the wire; it never touches a client.

mod members;

use super::connection::Link;
use super::durable::Durable;
use super::stream::Stream;
use super::wire::{At, Down, Mail, Up, Wire};
use crate::sim::broker::DEAD_LETTERS;
use crate::sim::fault::{Fault, Weather};
use clearway::backend::{Answer, Outcome};
use clearway::{Envelope, Failure, FailureKind, Runtime, StartAt};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Who has not been heard for so long is not pinned any more.
pub(super) const PIN_WAIT: Duration = Duration::from_secs(4);

/// A message may be as large, headers included, as a server has it that is told nothing.
const PAYLOAD_MAX: usize = 1 << 20;

/// How often the server looks for what only time brings.
pub(super) const TICK: Duration = Duration::from_millis(250);

/// See the module.
pub(super) struct Server {
    pub(super) weather: Weather,
    pub(super) wire: Arc<Wire>,
    pub(super) streams: BTreeMap<Arc<str>, Stream>,
    pub(super) members: BTreeMap<u64, Member>,
    /// Those of clients, as far as the server knows.
    pub(super) links: Vec<Arc<Link>>,
    pub(super) is_up: bool,
    numbers: u64,
}

/// A member of a group: one consumer.
pub(super) struct Member {
    process: u32,
    link: Arc<Link>,
    topic: Arc<str>,
    group: Arc<str>,
    heard: Duration,
    /// It has not been heard for too long: nothing is pinned to it until it is.
    is_away: bool,
}

impl Server {
    pub(super) fn new(weather: &Weather, wire: Arc<Wire>) -> Self {
        Self {
            weather: weather.clone(),
            wire,
            streams: BTreeMap::new(),
            members: BTreeMap::new(),
            links: Vec::new(),
            is_up: true,
            numbers: 0,
        }
    }

    pub(super) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    fn now(&self) -> Duration {
        self.weather.world().now()
    }

    /// Something has arrived.
    pub(super) fn hear(&mut self, link: &Arc<Link>, up: Up) {
        if !self.is_up {
            return;
        }
        match up {
            Up::Publish {
                ticket,
                topic,
                partition,
                envelope,
            } => self.publish(link, ticket, &topic, partition, envelope),
            Up::Answer {
                at,
                answer,
                confirm,
            } => self.answer(&at, answer, confirm),
            Up::Pull {
                member,
                partition,
                epoch,
                more,
                since,
            } => self.pull(member, (partition, epoch), more, since),
            Up::Release {
                member,
                partition,
                epoch,
            } => self.release(member, partition, epoch),
            Up::Leave { member } => self.leave(member),
        }
    }

    fn publish(
        &mut self,
        link: &Arc<Link>,
        ticket: u64,
        topic: &Arc<str>,
        partition: u32,
        envelope: Envelope,
    ) {
        if self.weather.strikes(Fault::DropBefore) {
            return;
        }
        if &**topic == DEAD_LETTERS && self.weather.strikes(Fault::DeadLetter) {
            let failure = Failure::new(FailureKind::NoRoom, "the stream has no room");
            return self.refuse(link, ticket, failure);
        }
        if envelope.size() > PAYLOAD_MAX {
            let failure = Failure::new(FailureKind::TooLarge, "maximum payload exceeded");
            return self.refuse(link, ticket, failure);
        }
        let (now, unix) = (self.now(), self.weather.world().unix_time());
        let stream = self
            .streams
            .get_mut(topic)
            .filter(|stream| (partition as usize) < stream.partitions.len());
        let Some(stream) = stream else {
            let failure = Failure::new(FailureKind::NoTopic, "no stream listens: no responders");
            let missing = Some(topic.clone());
            let outcome = Outcome::Rejected(failure);
            self.wire.down(
                link,
                Down::Outcome {
                    ticket,
                    outcome,
                    missing,
                },
                Duration::ZERO,
            );
            return;
        };
        if self.weather.strikes(Fault::OffsetGap) {
            stream.leave_gap();
        }
        let stored = stream.store(partition, envelope, now, unix);
        if stored.duplicate {
            self.weather.goal("a publish that the broker had already");
        }
        // Of what is recognised it says where it was stored first, and not in which partition: who published it again under another key
        // takes it for that key's.
        let groups: Vec<_> = stream
            .durables
            .keys()
            .filter(|(_, of)| *of == partition)
            .map(|(group, _)| group.clone())
            .collect();
        for group in groups {
            self.serve(topic, &group, partition);
        }
        if self.weather.strikes(Fault::DropAfter) {
            return;
        }
        let late = match self.weather.strikes(Fault::LateAck) {
            true => Duration::from_millis(self.weather.below(1500)),
            false => Duration::ZERO,
        };
        let outcome = Outcome::Acked {
            partition,
            position: stored.sequence,
            duplicate: stored.duplicate,
        };
        self.wire.down(
            link,
            Down::Outcome {
                ticket,
                outcome,
                missing: None,
            },
            late,
        );
    }

    /// What is not stored, and why.
    fn refuse(&mut self, link: &Arc<Link>, ticket: u64, failure: Failure) {
        let (outcome, missing) = (Outcome::Rejected(failure), None);
        let down = Down::Outcome {
            ticket,
            outcome,
            missing,
        };
        self.wire.down(link, down, Duration::ZERO);
    }

    fn durable(
        &mut self,
        topic: &Arc<str>,
        group: &Arc<str>,
        partition: u32,
    ) -> Option<&mut Durable> {
        let stream = self.streams.get_mut(topic)?;
        stream.durables.get_mut(&(group.clone(), partition))
    }

    /// Hands out what may be handed out.
    fn serve(&mut self, topic: &Arc<str>, group: &Arc<str>, partition: u32) {
        let now = self.now();
        let Some(stream) = self.streams.get_mut(topic) else {
            return;
        };
        let Some(durable) = stream.durables.get_mut(&(group.clone(), partition)) else {
            return;
        };
        let (epoch, pin) = (durable.epoch, durable.pin);
        let Some((member, of)) = pin.and_then(|pin| Some((pin, self.members.get(&pin)?))) else {
            return;
        };
        if of.link.is_cut() {
            return;
        }
        let mut taken = Vec::new();
        while let Some(next) = durable.take(&stream.partitions[partition as usize], now) {
            taken.push(next);
        }
        for (sequence, times) in taken {
            let Some(envelope) = stream.envelope(sequence).cloned() else {
                continue;
            };
            if times > 1 {
                self.weather.goal("a delivery that comes again");
            }
            let mail = Mail::Message {
                partition,
                epoch,
                sequence,
                times,
                envelope,
                repeated: false,
            };
            self.wire
                .down(&of.link, Down::Mail { member, mail }, Duration::ZERO);
        }
    }

    fn answer(&mut self, at: &At, answer: Answer, confirm: Option<u64>) {
        let now = self.now();
        let stream = self.streams.get(&at.topic);
        if stream.is_none_or(|stream| stream.born != at.born) {
            return;
        }
        let Some(durable) = self.durable(&at.topic, &at.group, at.partition) else {
            return;
        };
        match answer {
            Answer::Ack => drop(durable.ack(at.sequence)),
            Answer::Nack { after } => durable.nack(at.sequence, now + after),
            Answer::InProgress => durable.in_progress(at.sequence, now),
        }
        if let Some(member) = confirm {
            let (partition, sequence) = (at.partition, at.sequence);
            self.mail(
                member,
                Mail::Confirmed {
                    partition,
                    sequence,
                },
            );
        }
        self.serve(&at.topic, &at.group, at.partition);
    }

    fn mail(&self, member: u64, mail: Mail) {
        if let Some(of) = self.members.get(&member) {
            self.wire
                .down(&of.link, Down::Mail { member, mail }, Duration::ZERO);
        }
    }

    /// What only time brings.
    pub(super) fn tick(&mut self) {
        if !self.is_up {
            return;
        }
        let now = self.now();
        let late: Vec<u64> = (self.members.iter())
            .filter(|(_, of)| !of.is_away && of.heard + PIN_WAIT < now)
            .map(|(number, _)| *number)
            .collect();
        for member in late {
            self.weather
                .goal("a pin that was taken from who fell silent");
            self.take_pins(member);
            let of = self.members.get_mut(&member).expect("listed above");
            of.is_away = true;
            let (topic, group, is_gone) = (of.topic.clone(), of.group.clone(), of.link.is_cut());
            if is_gone {
                self.members.remove(&member);
            }
            self.rebalance(&topic, &group);
        }
        let mut to_serve = Vec::new();
        for (topic, stream) in &mut self.streams {
            for ((group, partition), durable) in &mut stream.durables {
                if durable.take_back(now) > 0 {
                    self.weather
                        .goal("a delivery that was not answered in time");
                }
                to_serve.push((topic.clone(), group.clone(), *partition));
            }
        }
        for (topic, group, partition) in to_serve {
            self.serve(&topic, &group, partition);
            if self.weather.strikes(Fault::AckWait) {
                self.repeat(&topic, &group, partition);
            }
        }
    }

    /// Hands out once more what its owner still works at.
    fn repeat(&mut self, topic: &Arc<str>, group: &Arc<str>, partition: u32) {
        let (now, turn) = (self.now(), self.weather.below(1 << 16));
        let Some(durable) = self.durable(topic, group, partition) else {
            return;
        };
        let (epoch, pin) = (durable.epoch, durable.pin);
        let Some((sequence, member)) = durable.some_pending(turn).zip(pin) else {
            return;
        };
        let times = durable.repeat(sequence, now).expect("it is out");
        let envelope = self
            .streams
            .get(topic)
            .and_then(|stream| stream.envelope(sequence));
        if let Some(envelope) = envelope.cloned() {
            let mail = Mail::Message {
                partition,
                epoch,
                sequence,
                times,
                envelope,
                repeated: true,
            };
            self.mail(member, mail);
        }
    }

    /// Takes a topic away with all it has.
    pub(super) fn delete(&mut self, topic: &str) -> bool {
        if self.streams.remove(topic).is_none() {
            return false;
        }
        let of_it = self.members.iter().filter(|(_, of)| &*of.topic == topic);
        let members: Vec<u64> = of_it.map(|(number, _)| *number).collect();
        for member in members {
            self.mail(member, Mail::Gone);
            self.members.remove(&member);
        }
        true
    }
}
