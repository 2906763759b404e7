//! Drives a workload through the bus, on whatever side, and writes down what it sees. It judges nothing.

use super::handler::{self, ATTEMPTS_MAX, Seen, Witness};
use super::observed::{How, Instance, Lane, Observation};
use super::rest::{Group, PATIENCE, rest};
use super::said;
use super::side::{SIZE_LIMIT, Side};
use super::workload::{GROUPS, Label, MEMBERS, Start, Step, Workload};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use clearway::{
    Bus, DrainReport, Envelope, Headers, OnFailure, Order, Raw, Receipt, Retry, StartAt,
    Subscription, SubscriptionBuilder, Topic, TopicConfig,
};
use fastrand::Rng;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// How long a drain or a close may take that has nothing to wait for.
const LIMIT: Duration = Duration::from_secs(10);
/// More than a server takes by default: 1 MiB.
const HUGE: usize = 1_100_000;

/// See the module.
struct Driver<'a> {
    side: &'a Side,
    workload: &'a Workload,
    seen: Seen,
    buses: Vec<Bus>,
    groups: [Group; GROUPS],
    /// What the topic holds, as far as it is known: where it is not, it was redriven.
    stored: Vec<(Instance, Lane, Option<Receipt>)>,
    letters: Vec<(Instance, Lane)>,
    /// How many letters of the first group's were redriven.
    redriven: usize,
    ids: BTreeMap<Label, Uuid>,
}

/// Runs all of it.
pub(crate) async fn drive(side: &Side, workload: &Workload) -> Result<Vec<Observation>> {
    let mut buses = Vec::new();
    for member in 0..MEMBERS {
        let bus = side.connect(member, workload.partitions).await;
        buses.push(bus.context("connecting")?);
    }
    let mut driver = Driver {
        side,
        workload,
        seen: Seen::default(),
        buses,
        groups: Default::default(),
        stored: Vec::new(),
        letters: Vec::new(),
        redriven: 0,
        ids: BTreeMap::new(),
    };
    let mut observations = Vec::new();
    let mut from = 0;
    for step in &workload.steps {
        let said = driver
            .step(step)
            .await
            .with_context(|| format!("{step:?}"))?;
        let rest = rest(side, &driver.seen, &driver.groups, workload.partitions).await;
        let is_stuck = rest.is_err();
        let handled = driver.seen.since(from);
        from += handled.len();
        observations.push(Observation {
            said,
            rest,
            handled,
        });
        // What follows would follow from nothing that was determined.
        if is_stuck {
            break;
        }
    }
    for bus in driver.buses {
        bus.close(LIMIT).await;
    }
    Ok(observations)
}

impl Driver<'_> {
    async fn step(&mut self, step: &Step) -> Result<String> {
        Ok(match *step {
            Step::Publish {
                label,
                key,
                size,
                hangs,
            } => {
                let id = self.id(label);
                let payload = handler::payload(label, hangs, size);
                self.publish((label, id), key, payload).await?
            }
            Step::Again { label, of, key } => {
                let id = self.id(of);
                let payload = handler::payload(label, false, 10);
                self.publish((label, id), key, payload).await?
            }
            Step::TooLarge { label } => {
                let id = self.id(label);
                let payload = handler::payload(label, false, SIZE_LIMIT);
                self.publish((label, id), Some(0), payload).await?
            }
            Step::Elsewhere {
                label,
                policy,
                huge,
            } => {
                let name = format!("{}-else-{label}", self.side.prefix);
                let config = TopicConfig::new(name.clone()).ensure(policy);
                let configured = self.buses[0].configure(config).await;
                let size = if huge { HUGE } else { 10 };
                let payload = handler::payload(label, false, size);
                let envelope = self.envelope(self.id_of(label), Some(0), payload);
                let topic = self.buses[0].raw_topic(&name)?;
                let outcome = topic.publish_envelope(envelope).await;
                let configured = said::configure(&configured);
                format!("{configured}; {}", said::publish(&outcome))
            }
            Step::Configure {
                partitions,
                policy,
                mismatch,
            } => {
                let config = TopicConfig::new(self.side.home()).size_limit(SIZE_LIMIT);
                let config = config.partitions(partitions).ensure(policy);
                let configured = self.buses[0].configure(config.on_mismatch(mismatch)).await;
                said::configure(&configured)
            }
            Step::Subscribe {
                member,
                group,
                start,
            } => self.subscribe(member, group, start).await?,
            Step::Drain {
                member,
                group,
                at_once,
            } => self.drain(member, group, at_once).await,
            Step::Pause { group } => {
                self.groups[group].paused = self.groups[group].is_open();
                let mut paused = Vec::new();
                for member in self.groups[group].members.iter().flatten() {
                    paused.push(member.pause().await);
                }
                format!("paused: {paused:?}")
            }
            Step::Resume { group } => {
                self.groups[group].paused = false;
                let members = self.groups[group].members.iter().flatten();
                members.for_each(Subscription::resume);
                "resumed".into()
            }
            Step::Redrive => self.redrive().await,
            Step::Delete => self.delete().await?,
            Step::Reopen { member } => self.reopen(member).await?,
            Step::Audit => self.audit().await?,
        })
    }

    fn id_of(&self, label: Label) -> Uuid {
        let mut random = Rng::with_seed(self.workload.seed.rotate_left(32) ^ u64::from(label));
        uuid::Builder::from_random_bytes(random.u128(..).to_le_bytes()).into_uuid()
    }

    fn id(&mut self, label: Label) -> Uuid {
        let id = self.id_of(label);
        *self.ids.entry(label).or_insert(id)
    }

    fn envelope(&self, id: Uuid, key: Option<u8>, payload: Bytes) -> Envelope {
        Envelope {
            id,
            key: key.map(|key| Bytes::from(format!("k{key}"))),
            headers: Headers::default(),
            payload,
            time_ms: self.side.clock.unix_time().as_millis() as u64,
            trace: None,
        }
    }

    fn home(&self, member: usize) -> Result<Topic<Bytes, Raw>> {
        Ok(self.buses[member].raw_topic(&self.side.home())?)
    }

    async fn publish(
        &mut self,
        (label, id): (Label, Uuid),
        key: Option<u8>,
        payload: Bytes,
    ) -> Result<String> {
        let envelope = self.envelope(id, key, payload);
        let topic = self.home(label as usize % MEMBERS)?;
        let outcome = topic.publish_envelope(envelope).await;
        if let Ok(receipt) = &outcome
            && !receipt.duplicate
        {
            let instance = Instance {
                label,
                generation: 0,
            };
            let key = key.map(|key| format!("k{key}"));
            let order = self.workload.order;
            let lane = handler::lane(order, receipt.partition, key.as_deref(), instance);
            self.add(instance, lane, Some(*receipt));
        }
        Ok(said::publish(&outcome))
    }

    /// The topic has one more, for all groups.
    fn add(&mut self, instance: Instance, lane: Lane, receipt: Option<Receipt>) {
        for scope in self.groups.iter_mut().filter_map(|of| of.scope.as_mut()) {
            scope.insert(instance, lane.clone());
        }
        self.stored.push((instance, lane, receipt));
    }

    fn options<'t>(
        &self,
        builder: SubscriptionBuilder<'t, Bytes, Raw>,
        order: Order,
        on_failure: OnFailure,
    ) -> SubscriptionBuilder<'t, Bytes, Raw> {
        let retry = Retry::new()
            .delays(Duration::from_millis(2), Duration::from_millis(10))
            .attempts_max(ATTEMPTS_MAX)
            .deliveries_max(1000);
        builder.order(order).retry(retry).on_failure(on_failure)
    }

    async fn subscribe(&mut self, member: usize, group: usize, start: Start) -> Result<String> {
        let topic = self.home(member)?;
        let name = self.side.group(&format!("group-{group}"));
        let on_failure = match group {
            0 => OnFailure::dead_letter(self.side.dead()),
            _ => OnFailure::Skip,
        };
        let builder = topic.subscription(&name).start(match start {
            Start::Earliest => StartAt::Earliest,
            Start::Latest => StartAt::Latest,
            Start::Offset(offset) => StartAt::Offset(offset),
        });
        let witness = Witness {
            seen: self.seen.clone(),
            seed: self.workload.seed,
            group,
            order: self.workload.order,
            audits: false,
        };
        let builder = self.options(builder, self.workload.order, on_failure);
        let subscribed = builder.handler(witness).await;
        let said = said::subscribe(&subscribed);
        if let Ok(subscription) = subscribed {
            let is_in = |receipt: &Option<Receipt>| match (start, receipt) {
                (Start::Earliest, _) => true,
                (Start::Latest, _) => false,
                (Start::Offset(offset), Some(receipt)) => receipt.position >= offset,
                (Start::Offset(_), None) => true,
            };
            let of = &mut self.groups[group];
            of.members[member] = Some(subscription);
            if of.scope.is_none() {
                let begun = self.stored.iter().filter(|(_, _, receipt)| is_in(receipt));
                let begun = begun.map(|(instance, lane, _)| (*instance, lane.clone()));
                of.scope = Some(begun.collect());
            }
        }
        Ok(said)
    }

    async fn drain(&mut self, member: usize, group: usize, at_once: bool) -> String {
        let of = &mut self.groups[group];
        let Some(subscription) = of.members[member].take() else {
            return "it was not subscribed".into();
        };
        of.paused &= of.is_open();
        let limit = if at_once { Duration::ZERO } else { LIMIT };
        let report = subscription.drain(limit).await;
        self.heard(member).await;
        self.left(&report)
    }

    /// What was said over the member's connection has come to the broker: what others do now follows it.
    async fn heard(&self, member: usize) {
        self.buses[member].health(LIMIT).await;
    }

    fn left(&self, report: &DrainReport) -> String {
        let name = |id: Uuid| self.ids.iter().find(|(_, known)| **known == id);
        let left = report.left.iter().map(|left| match name(left.id) {
            Some((label, _)) => label.to_string(),
            None => "one that was redriven".into(),
        });
        let mut left: Vec<String> = left.collect();
        left.sort();
        let (drained, blocked) = (report.drained, report.blocked);
        format!("drained: {drained}, blocked: {blocked}, left: {left:?}")
    }

    /// What the first group has given up, in no order.
    fn bury(&mut self) {
        let calls = self.seen.since(0);
        let buried = calls
            .iter()
            .filter(|call| call.group == 0 && call.how.buries());
        self.letters = buried.map(|call| (call.of, call.lane.clone())).collect();
    }

    async fn redrive(&mut self) -> String {
        self.bury();
        let outcome = self.buses[0].redrive(&self.side.dead(), u64::MAX).await;
        if outcome.is_ok() {
            let back = self
                .letters
                .split_off(self.redriven.min(self.letters.len()));
            self.redriven += back.len();
            for (instance, lane) in back {
                self.add(instance.redriven(), lane, None);
            }
        }
        said::redrive(&outcome)
    }

    async fn delete(&mut self) -> Result<String> {
        let was_there = (self.side.delete)(self.side.home()).await?;
        self.stored.clear();
        self.groups = Default::default();
        Ok(format!("deleted: {was_there}"))
    }

    async fn reopen(&mut self, member: usize) -> Result<String> {
        let report = self.buses[member].close(LIMIT).await;
        for of in &mut self.groups {
            of.members[member] = None;
            of.paused &= of.is_open();
        }
        let connected = self.side.connect(member, self.workload.partitions).await;
        self.buses[member] = connected.context("connecting anew")?;
        self.heard(member).await;
        let (drained, left) = (report.drained, report.deliveries_left);
        Ok(format!("closed, drained: {drained}, {left} left"))
    }

    /// Groups that are new read everything.
    async fn audit(&mut self) -> Result<String> {
        self.bury();
        let (home, dead) = (self.side.home(), self.side.dead());
        let expected = [
            (home, self.workload.order, self.stored.len()),
            // There is one partition, and letters of several keys come to it in no order.
            (dead, Order::ByKey, self.letters.len()),
        ];
        let mut said = Vec::new();
        for (at, (name, order, count)) in expected.into_iter().enumerate() {
            let group = GROUPS + at;
            let topic = self.buses[0].raw_topic(&name)?;
            let audit = self.side.group(&format!("audit-{at}"));
            let builder = topic.subscription(&audit).start(StartAt::Earliest);
            let witness = Witness {
                seen: self.seen.clone(),
                seed: self.workload.seed,
                group,
                order,
                audits: true,
            };
            let builder = self.options(builder, order, OnFailure::Skip);
            let subscription = builder.handler(witness).await?;
            let until = self.side.clock.now() + PATIENCE;
            let read = || self.seen.count(group, How::settles);
            while read() < count && self.side.clock.now() < until {
                self.side.clock.sleep(Duration::from_millis(3)).await;
            }
            let report = subscription.drain(LIMIT).await;
            said.push(format!(
                "{} read of {count}, {}",
                read(),
                self.left(&report)
            ));
        }
        Ok(said.join("; "))
    }
}
