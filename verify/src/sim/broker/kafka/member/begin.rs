//! Begin: where a group that is new starts, settled before its first member joins, and where each assignment does.
//!
//! The place is committed, so that every member finds the same one. A group that has members takes no commit of an outsider: then the
//! place is kept here, and committed by the member that has the partition.

use super::{AGAIN, Client, Cluster, Denied, Share};
use clearway::Failure;
use clearway::StartAt;
use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

impl Client {
    /// Settles where the group begins, if it is new.
    pub(super) async fn begin(&self) -> Result<(), Failure> {
        let (topic, id) = (self.request.topic.name.clone(), self.topic);
        let (group, start) = (self.request.group.clone(), self.request.start);
        let asked = self.net.ask(move |cluster: &mut Cluster, now| {
            if !cluster.group(&topic, id, &group)?.committed().is_empty() {
                return Ok(BTreeMap::new());
            }
            let places = places(cluster, &topic, start)?;
            match cluster
                .group(&topic, id, &group)?
                .commit(now, None, &places)
            {
                Ok(()) => Ok(BTreeMap::new()),
                Err(_) => Ok(places),
            }
        });
        let kept = asked.await?;
        self.state().starts = kept.map_err(Denied::failure)?;
        Ok(())
    }

    /// Where each begins, if that is known, and whether the broker has that as the group's commit. `None`: it is told to end, or is no good.
    pub(super) async fn places(&self, partitions: &Share) -> Option<Vec<(u32, Option<u64>, bool)>> {
        loop {
            let asked = self.ask_group(|group, _| Ok(group.committed().clone()));
            match asked.await {
                Ok(Ok(committed)) => {
                    let state = self.state();
                    let place = |at: &u32| match (committed.get(at), state.starts.get(at)) {
                        (Some(offset), _) => (*at, Some(*offset), true),
                        (None, Some(offset)) => (*at, Some(*offset), false),
                        // The topic has grown since the group began: all of it is new.
                        (None, None) => (*at, None, false),
                    };
                    return Some(partitions.iter().map(place).collect());
                }
                Ok(Err(_)) => {
                    self.miss();
                    return None;
                }
                // A broker that is away is waited for.
                Err(_) => self.net.sleep(AGAIN).await,
            }
            if self.is_closing() {
                return None;
            }
        }
    }
}

fn places(cluster: &Cluster, topic: &str, start: StartAt) -> Result<BTreeMap<u32, u64>, Denied> {
    let topic = cluster.topic(topic).ok_or(Denied::NoTopic)?;
    let place = |log: &super::super::log::Log<_>| match start {
        StartAt::Latest => log.readable(),
        StartAt::Offset(offset) => offset.clamp(log.first(), log.readable()),
        StartAt::Time(time) => {
            let unix = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            log.since(unix).unwrap_or(log.readable())
        }
        _ => log.first(),
    };
    Ok((0..).zip(topic.logs.iter().map(place)).collect())
}
