//! The simulated Kafka in a run: its levers, and what it has when all is over.

use super::backend::Kafka;
use super::settings::Settings;
use crate::sim::broker::SimBroker;
use crate::sim::fault::{Fault, Weather};
use crate::sim::world::Process;
use clearway::BackendChoice;
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
    ];

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
            let fetched = log.fetch(log.first(), usize::MAX);
            let records = fetched.map(|fetched| fetched.records).unwrap_or_default();
            let records = records.into_iter();
            stored.extend(records.map(|(offset, envelope)| ((partition, offset), envelope.id)));
        }
        stored
    }

    fn lag(&self, topic: &str, group: &str) -> u64 {
        let committed = self.committed(topic, group);
        let stored = self.stored(topic);
        let is_done = |(partition, offset): &(u32, u64)| {
            let committed = committed.get(partition);
            committed.is_some_and(|committed| offset < committed)
        };
        stored.keys().filter(|place| !is_done(place)).count() as u64
    }
}
