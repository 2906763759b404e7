//! Committing: the broker is told as the member that we are, and what it refuses is told again by the consumer, if it is still ours.

use super::{Client, Commit, Denied, News, Refused};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Client {
    /// What is to be committed, as soon as may be. Each is answered.
    pub(in super::super) fn commit(&self, commits: Vec<Commit>) {
        if commits.is_empty() {
            return;
        }
        self.state().to_commit.push_back(commits);
        self.woken.notify_waiters();
    }

    pub(super) async fn commits(self: Arc<Self>) {
        loop {
            let mut woken = Box::pin(self.woken.notified());
            woken.as_mut().enable();
            if self.state().ended {
                return;
            }
            self.commit_ordered().await;
            woken.await;
        }
    }

    /// Commits what there is to commit, in order: one that came late would take the group back.
    pub(super) async fn commit_ordered(&self) {
        let _one_at_a_time = self.committing.lock().await;
        loop {
            let commits = self.state().to_commit.pop_front();
            let Some(commits) = commits else {
                return;
            };
            let places = self.current(&commits);
            self.commit_places(places).await;
        }
    }

    /// What of it is of an epoch that is not over.
    pub(super) fn current(&self, commits: &[Commit]) -> BTreeMap<u32, u64> {
        let state = self.state();
        let is_current = |commit: &&Commit| {
            let owned = state.owned.get(&commit.partition);
            let owned = owned.map(|owned| owned.epoch);
            (state.leaving).is_current(owned, commit.partition as i32, commit.epoch)
        };
        let (current, over): (Vec<&Commit>, Vec<&Commit>) = commits.iter().partition(is_current);
        let is_back = |commit: &&Commit| state.owned.contains_key(&commit.partition);
        if over.iter().any(is_back) {
            let weather = &self.net.shared.weather;
            weather.goal("a commit of a partition that went and came back");
        }
        drop(state);
        if !over.is_empty() {
            let partitions = over.into_iter().map(|commit| commit.partition).collect();
            self.tell([News::CommitFailed(partitions)]);
        }
        let places = current.into_iter();
        places
            .map(|commit| (commit.partition, commit.offset))
            .collect()
    }

    /// Commits, and tells the consumer what the broker has. Gives what it does not have.
    pub(super) async fn commit_places(&self, places: BTreeMap<u32, u64>) -> BTreeMap<u32, u64> {
        if places.is_empty() {
            return places;
        }
        let identity = self.state().identity;
        let taken = match identity.filter(|_| !self.state().gone) {
            Some(identity) => self.tell_broker(identity, places.clone()).await,
            None => false,
        };
        if taken {
            let committed = places.into_iter();
            self.tell(committed.map(|(partition, offset)| News::Committed(partition, offset)));
            return BTreeMap::new();
        }
        self.tell([News::CommitFailed(places.keys().copied().collect())]);
        places
    }

    async fn tell_broker(&self, identity: super::Identity, places: BTreeMap<u32, u64>) -> bool {
        let (shared, process) = (self.net.shared.clone(), self.net.process);
        let (topic, name) = (self.request.topic.name.clone(), self.request.group.clone());
        let asked = self.ask_group(move |group, now| {
            group.commit(now, Some(identity), &places)?;
            if let Some(recorder) = shared.weather.recorder() {
                for (partition, offset) in &places {
                    recorder.committed(&topic, &name, *partition, *offset);
                }
            }
            shared.weather.world().note(u64::from(process));
            Ok(())
        });
        match asked.await {
            Ok(Ok(())) => true,
            Ok(Err(Denied::NoTopic)) => {
                self.miss();
                false
            }
            Ok(Err(Denied::Group(Refused::UnknownMember | Refused::Fenced))) => {
                let weather = &self.net.shared.weather;
                weather.goal("a commit refused by fencing");
                false
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }
}
