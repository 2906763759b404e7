//! Hand-over: what is revoked, and how long its end waits for handlers. What waits for what is decided in the production code's `leaving`; here the
//! consumer is told, and what is settled is committed before it goes.

use super::{Client, Handover, News, Refused, Share};
use clearway::BusEvent;
use std::collections::{BTreeMap, BTreeSet};

impl Client {
    /// These are to be ours no longer: waits until nothing of them is handled here, or the time for that is up. Signs of life are given
    /// meanwhile by `beat`, which says that they are lost by an error.
    pub(super) async fn revoke<F, B>(&self, partitions: &Share, beat: B) -> Result<(), Refused>
    where
        F: Future<Output = Result<(), Refused>>,
        B: Fn() -> F,
    {
        let weather = &self.net.shared.weather;
        let until = self.net.now() + self.net.settings().hand_over_limit;
        let ours = self.take_away(partitions);
        if ours.is_empty() {
            return Ok(());
        }
        weather.goal("a partition handed over");
        {
            let mut state = self.state();
            let rebalance = state.rebalances;
            state.leaving.begin(rebalance, ours.clone(), until);
        }
        let mut lost = Ok(());
        loop {
            self.attend_releases().await;
            let due = self.state().leaving.due(self.net.now());
            for handover in due {
                self.give(&handover, "handlers were not done in time");
            }
            if self.is_closing() || !self.is_leaving(&ours) {
                return lost;
            }
            let wait = self.net.settings().heartbeat;
            let left = until.saturating_sub(self.net.now());
            let told = self.net.within(wait.min(left), self.ordered.notified());
            if told.await.is_some() || lost.is_err() {
                continue;
            }
            match beat().await {
                // It joins again when it has given back what it is to.
                Err(Refused::Rebalancing) => {}
                answer => lost = answer,
            }
        }
    }

    fn is_leaving(&self, ours: &BTreeMap<i32, u64>) -> bool {
        let state = self.state();
        ours.iter()
            .any(|(at, epoch)| state.leaving.has(*at, *epoch))
    }

    /// Commits what all have settled that go together, before they go.
    async fn attend_releases(&self) {
        loop {
            let places = {
                let mut state = self.state();
                let Some((partition, epoch, commit)) = state.released.pop_front() else {
                    return;
                };
                state.leaving.release(partition as i32, epoch, commit)
            };
            // First what was told before.
            self.commit_ordered().await;
            let _one_at_a_time = self.committing.lock().await;
            let places = places.into_iter();
            let places = places.map(|(at, offset)| (at as u32, offset as u64));
            self.commit_places(places.collect()).await;
        }
    }

    /// Tells that these are to be released, and reads nothing of them any more.
    fn take_away(&self, partitions: &Share) -> BTreeMap<i32, u64> {
        let mut state = self.state();
        state.rebalances += 1;
        let mut ours: BTreeMap<i32, u64> = BTreeMap::new();
        for partition in partitions {
            if let Some(owned) = state.owned.remove(partition) {
                ours.insert(*partition as i32, owned.epoch);
            }
        }
        drop(state);
        let epochs: BTreeSet<u64> = ours.values().copied().collect();
        self.tell(epochs.into_iter().map(|epoch| {
            let of_epoch = ours.iter().filter(|(_, of)| **of == epoch);
            News::Revoked(epoch, of_epoch.map(|(at, _)| *at as u32).collect())
        }));
        ours
    }

    /// The coordinator has given all that we had to others.
    pub(super) fn lose(&self, reason: &str) {
        self.state().identity = None;
        let all: Share = self.state().owned.keys().copied().collect();
        let ours = self.take_away(&all);
        self.tell_lost(ours.keys(), reason);
        self.void(&ours);
        self.abandon_handovers();
    }

    /// Nothing of it is handled here any more, and all before `commit` is settled.
    pub(in super::super) fn release(&self, partition: u32, epoch: u64, commit: Option<u64>) {
        let mut state = self.state();
        state.released.push_back((partition, epoch, commit));
        drop(state);
        self.ordered.notify_one();
    }

    pub(super) fn abandon_handovers(&self) {
        let all = self.state().leaving.all();
        for handover in all {
            self.give(
                &handover,
                "another assignment came before handlers were done",
            );
        }
    }

    /// Lets go of it. What has waited until now is lost.
    fn give(&self, handover: &Handover, reason: &str) {
        self.tell_lost(&handover.waiting, reason);
        self.void(&handover.partitions);
    }

    fn tell_lost<'p>(&self, partitions: impl IntoIterator<Item = &'p i32>, reason: &str) {
        let partitions: Vec<_> = partitions.into_iter().map(|at| *at as u32).collect();
        if partitions.is_empty() {
            return;
        }
        self.host.event(BusEvent::PartitionsLost {
            topic: self.request.topic.name.clone(),
            group: self.request.group.clone(),
            partitions,
            reason: reason.to_owned(),
        });
    }

    /// Answers of these are void from here on.
    fn void(&self, partitions: &BTreeMap<i32, u64>) {
        let gone = partitions.iter();
        self.tell(gone.map(|(partition, epoch)| News::Gone(*partition as u32, *epoch)));
    }
}
