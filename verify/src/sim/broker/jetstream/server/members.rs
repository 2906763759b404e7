//! Members of groups: who joins and leaves, who is heard, and what is pinned to whom.

use super::*;

impl Server {
    pub(super) fn pull(
        &mut self,
        member: u64,
        (partition, epoch): (u32, u64),
        more: usize,
        since: Duration,
    ) {
        let now = self.now();
        let Some(of) = self.members.get_mut(&member) else {
            return;
        };
        of.heard = now;
        let was_away = std::mem::take(&mut of.is_away);
        let (topic, group) = (of.topic.clone(), of.group.clone());
        self.mail(member, Mail::Heard { since });
        if was_away {
            self.weather.goal("a member that was given up comes back");
            self.rebalance(&topic, &group);
        }
        if let Some(durable) = self.durable(&topic, &group, partition)
            && durable.pin == Some(member)
            && durable.epoch == epoch
        {
            durable.credit += more;
            self.serve(&topic, &group, partition);
        }
    }

    pub(super) fn release(&mut self, member: u64, partition: u32, epoch: u64) {
        let Some(of) = self.members.get(&member) else {
            return;
        };
        let (topic, group) = (of.topic.clone(), of.group.clone());
        if let Some(durable) = self.durable(&topic, &group, partition)
            && durable.pin == Some(member)
            && durable.epoch == epoch
        {
            durable.give(None, 0);
            self.rebalance(&topic, &group);
        }
    }

    /// A new member. One of the same process whose connection is gone had the same pins.
    pub(in super::super) fn join(
        &mut self,
        link: &Arc<Link>,
        topic: &Arc<str>,
        group: &Arc<str>,
        start: StartAt,
    ) -> Option<(u64, u64)> {
        let member = self.number();
        let stream = self.streams.get_mut(topic)?;
        let first = match start {
            StartAt::Earliest => 1,
            StartAt::Offset(offset) => offset.min(stream.end()),
            StartAt::Time(time) => {
                stream.since(time.duration_since(UNIX_EPOCH).unwrap_or_default())
            }
            _ => stream.end(),
        };
        for partition in 0..stream.partitions.len() as u32 {
            let durable = stream.durables.entry((group.clone(), partition));
            durable.or_insert_with(|| Durable::new(first));
        }
        let born = stream.born;
        let of_it =
            |of: &Member| of.process == link.process && of.topic == *topic && of.group == *group;
        let before: Vec<u64> = self
            .members
            .iter()
            .filter(|(_, of)| of_it(of))
            .map(|(number, _)| *number)
            .collect();
        let new = Member {
            process: link.process,
            link: link.clone(),
            topic: topic.clone(),
            group: group.clone(),
            heard: self.now(),
            is_away: false,
        };
        self.members.insert(member, new);
        for number in before {
            self.take_pins(number);
            self.members.remove(&number);
        }
        self.rebalance(topic, group);
        Some((member, born))
    }

    pub(in super::super) fn leave(&mut self, member: u64) {
        self.take_pins(member);
        if let Some(of) = self.members.remove(&member) {
            self.rebalance(&of.topic, &of.group);
        }
    }

    /// Nothing is pinned to `member` any more.
    pub(super) fn take_pins(&mut self, member: u64) {
        let Some(of) = self.members.get(&member) else {
            return;
        };
        let (topic, link) = (of.topic.clone(), of.link.clone());
        let Some(stream) = self.streams.get_mut(&topic) else {
            return;
        };
        for ((_, partition), durable) in &mut stream.durables {
            if durable.pin != Some(member) {
                continue;
            }
            let (partition, epoch) = (*partition, durable.epoch);
            let mail = Mail::Unpinned { partition, epoch };
            self.wire
                .down(&link, Down::Mail { member, mail }, Duration::ZERO);
            durable.give(None, 0);
        }
    }

    /// Round robin over the members: what is nobody's goes to its heir, what is another's is asked back.
    pub(in super::super) fn rebalance(&mut self, topic: &Arc<str>, group: &Arc<str>) {
        let there = |of: &Member| {
            of.topic == *topic && of.group == *group && !of.is_away && !of.link.is_cut()
        };
        let members: Vec<u64> = self
            .members
            .iter()
            .filter(|(_, of)| there(of))
            .map(|(number, _)| *number)
            .collect();
        let Some(stream) = self.streams.get(topic) else {
            return;
        };
        for partition in 0..stream.partitions.len() as u32 {
            let heir = (!members.is_empty()).then(|| members[partition as usize % members.len()]);
            let Some(heir) = heir else {
                continue;
            };
            let epoch = self.number();
            let Some(durable) = self.durable(topic, group, partition) else {
                continue;
            };
            match durable.pin {
                None => {
                    durable.give(Some(heir), epoch);
                    self.mail(heir, Mail::Pinned { partition, epoch });
                }
                Some(pin) if pin != heir && !durable.is_asked_back => {
                    durable.is_asked_back = true;
                    let epoch = durable.epoch;
                    self.mail(pin, Mail::AskedBack { partition, epoch });
                }
                Some(_) => {}
            }
        }
    }
}
