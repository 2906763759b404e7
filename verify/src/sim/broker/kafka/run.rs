//! The simulated Kafka in a run: its levers, and what it has when all is over.

use super::backend::Kafka;
use super::log::Log;
use super::settings::Settings;
use crate::sim::broker::SimBroker;
use crate::sim::fault::{Fault, Weather};
use crate::sim::world::Process;
use clearway::{BackendChoice, Envelope};
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

impl SimBroker for Kafka {
    const NAME: &'static str = "kafka";

    const FAULTS: &'static [Fault] = &[
        Fault::DropBefore,
        Fault::DropAfter,
        Fault::LateAck,
        Fault::LateNetwork,
        Fault::Disconnect,
        Fault::BrokerKill,
        Fault::Deleted,
        Fault::OffsetGap,
        Fault::DeadLetter,
        Fault::Block,
    ];

    const OWN_THREADS: Option<&'static str> = Some("kafka-");

    const GOALS: &'static [&'static str] = &[
        "members that give back everything",
        "members that give back what changes hands",
        "members that the broker deals out to",
        "a partition handed over",
        "a revoke while handlers are at work",
        "a commit refused by fencing",
        "a zombie woke",
        "a gap crossed",
        "a resend known by its number",
        "a bus that stood still beside its client",
        "a commit of a partition that went and came back",
    ];

    fn new(weather: &Weather) -> Self {
        let ground = Arc::new(weather.world().clone());
        Self::over(weather, ground, Settings::drawn(weather))
    }

    fn backend(&self, process: &Process) -> BackendChoice {
        self.of_process(process.number())
    }

    fn killed(&self, process: u32) {
        self.shared.forget(process);
    }

    /// A client connects again by itself; now and then its producer has failed for good with it.
    fn disconnect(&self, process: u32) {
        self.shared.cut(process);
        if self.shared.weather.below(4) > 0 {
            return;
        }
        let pipes = self.shared.pipes.lock();
        let of_it: Vec<_> = (pipes.iter())
            .filter(|(of, _)| *of == process)
            .filter_map(|(_, pipe)| pipe.upgrade())
            .collect();
        drop(pipes);
        of_it.into_iter().for_each(|pipe| pipe.fail());
    }

    fn kill(&self) {
        let weather = &self.shared.weather;
        let mut cluster = self.shared.cluster();
        cluster.up = false;
        // Nothing that was answered is lost: all replicas that were in sync have it.
        cluster.lose_leaders(|rest| weather.below(rest));
        drop(cluster);
        self.shared.cut_all();
    }

    fn restart(&self) {
        let now = self.shared.now();
        self.shared.cluster().revive(now);
        self.shared.changed();
    }

    fn delete_topic(&self, topic: &str) -> bool {
        let deleted = self.shared.cluster().delete(topic);
        self.shared.changed();
        deleted
    }

    fn committed(&self, topic: &str, group: &str) -> BTreeMap<u32, u64> {
        self.shared.cluster().committed(topic, group)
    }

    fn stored(&self, topic: &str) -> BTreeMap<(u32, u64), Uuid> {
        let cluster = self.shared.cluster();
        let logs = cluster.topic(topic).map(|topic| topic.logs.as_slice());
        let mut stored = BTreeMap::new();
        for (partition, log) in (0..).zip(logs.unwrap_or_default()) {
            let records = log.records_from(0);
            stored.extend(records.map(|(offset, envelope)| ((partition, offset), envelope.id)));
        }
        stored
    }

    fn lag(&self, topic: &str, group: &str) -> u64 {
        let cluster = self.shared.cluster();
        let committed = cluster.committed(topic, group);
        let logs = cluster.topic(topic).map(|topic| topic.logs.as_slice());
        let left = |(partition, log): (u32, &Log<Envelope>)| {
            let from = committed.get(&partition).copied().unwrap_or_default();
            log.records_from(from).count() as u64
        };
        (0..).zip(logs.unwrap_or_default()).map(left).sum()
    }
}
