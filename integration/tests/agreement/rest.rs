//! Waiting until nothing happens any more: what each group has to have come to, and the deadline for it.
//!
//! What is expected here is only when to stop waiting. Whether two brokers agree is judged of what was seen.

use super::handler::Seen;
use super::observed::{How, Instance, Lane, Standing};
use super::side::Side;
use super::workload::{GROUPS, MEMBERS};
use clearway::{Subscription, SubscriptionState, SubscriptionStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// So long it may take, by the side's clock.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);
const BETWEEN_LOOKS: Duration = Duration::from_millis(3);

/// What one group is to get, and who of it is there.
#[derive(Default)]
pub(crate) struct Group {
    /// What it is to be delivered, since it is known.
    pub(crate) scope: Option<BTreeMap<Instance, Lane>>,
    pub(crate) members: [Option<Subscription>; MEMBERS],
    pub(crate) paused: bool,
}

impl Group {
    pub(crate) fn is_open(&self) -> bool {
        self.members.iter().any(Option::is_some)
    }
}

/// Until all groups are at rest. The error says which is not, and why.
pub(crate) async fn rest(
    side: &Side,
    seen: &Seen,
    groups: &[Group; GROUPS],
    partitions: u32,
) -> Result<BTreeMap<usize, Standing>, String> {
    let mut standings = BTreeMap::new();
    let until = side.clock.now() + PATIENCE;
    for (number, group) in groups.iter().enumerate().filter(|(_, of)| of.is_open()) {
        let standing = loop {
            let so = match unsettled(seen, number, group) {
                Ok(left) => look(side, group, partitions, left).await,
                Err(why) => Err(why),
            };
            match so {
                Ok(standing) => break standing,
                Err(why) if side.clock.now() > until => {
                    return Err(format!("group {number}: {why}"));
                }
                Err(_) => side.clock.sleep(BETWEEN_LOOKS).await,
            }
        };
        standings.insert(number, standing);
    }
    Ok(standings)
}

/// How many of a group's are not settled, once all that can be has been. What hangs holds up its lane.
fn unsettled(seen: &Seen, number: usize, group: &Group) -> Result<usize, String> {
    let scope = group.scope.as_ref().ok_or("it is not known")?;
    let calls = seen.since(0);
    let calls = calls.iter().filter(|call| call.group == number);
    let mut last = BTreeMap::new();
    let mut settled = BTreeSet::new();
    for call in calls {
        last.insert(call.of, call.hangs && call.how == How::AtWork);
        if call.how.settles() {
            settled.insert(call.of);
        }
    }
    let left: Vec<_> = (scope.iter())
        .filter(|(instance, _)| !settled.contains(instance))
        .collect();
    if group.paused {
        return Ok(left.len());
    }
    let hangs = |instance: &Instance| last.get(instance) == Some(&true);
    let held: BTreeSet<_> = (left.iter())
        .filter(|(instance, _)| hangs(instance))
        .map(|(_, lane)| *lane)
        .collect();
    match left.iter().find(|(_, lane)| !held.contains(lane)) {
        Some((instance, lane)) => Err(format!("{instance} of {lane} is not settled")),
        None => Ok(left.len()),
    }
}

/// Asks each member how it stands.
async fn look(
    side: &Side,
    group: &Group,
    partitions: u32,
    left: usize,
) -> Result<Standing, String> {
    let mut standing = Standing::default();
    let mut shares = Vec::new();
    for member in group.members.iter().flatten() {
        let status = member.status().await;
        let as_asked = match &status.state {
            SubscriptionState::Active => !group.paused,
            SubscriptionState::Paused { because: None } => group.paused,
            _ => false,
        };
        if !as_asked || status.retrying > 0 {
            return Err(format!("{:?}, {} wait", status.state, status.retrying));
        }
        shares.push(status.partitions.len());
        add(&mut standing, &status);
    }
    let (most, least) = (shares.iter().max(), shares.iter().min());
    let fair = most
        .zip(least)
        .is_some_and(|(most, least)| most - least <= 1);
    if side.shows_shares && (!fair || shares.iter().sum::<usize>() != partitions as usize) {
        return Err(format!(
            "of {partitions} partitions its members have {shares:?}"
        ));
    }
    let known: BTreeSet<u32> = standing.lag.keys().copied().collect();
    if known != (0..partitions).collect() {
        return Err(format!("it has {known:?} of {partitions} partitions"));
    }
    let lag: u64 = standing.lag.values().sum();
    let in_flight = if group.paused { 0 } else { left };
    if lag != left as u64 || standing.in_flight != in_flight {
        let has = standing.in_flight;
        return Err(format!(
            "{left} are not settled: the lag is {lag}, and {has} are in flight"
        ));
    }
    Ok(standing)
}

fn add(standing: &mut Standing, status: &SubscriptionStatus) {
    standing.in_flight += status.in_flight;
    for (partition, of) in &status.partitions {
        if let Some(lag) = of.lag {
            standing.lag.insert(*partition, lag);
        }
        if let Some(watermark) = of.watermark {
            let known = standing.watermarks.entry(*partition).or_default();
            *known = watermark.max(*known);
        }
    }
}
