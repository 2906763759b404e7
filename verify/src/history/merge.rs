//! One history of several: what the processes of a run have recorded, by a clock they shared.

use super::{Entry, Event, History};
use std::collections::HashMap;

/// Brings the histories of one run's processes together: by time, and each one's own lines in their order. The header is
/// the first one's. Owners of partitions are counted anew, since no process knew of those of the others.
pub fn merge(histories: Vec<History>) -> History {
    let mut histories = histories.into_iter();
    let mut merged = histories.next().expect("a run has a process");
    merged
        .entries
        .extend(histories.flat_map(|history| history.entries));
    // Stable: of one process the upper line stays above.
    merged.entries.sort_by_key(|entry| entry.at);
    let begun = merged.entries.first().map_or(0, |entry| entry.at);
    let mut owners = Owners::default();
    for (n, Entry { line, at, event }) in merged.entries.iter_mut().enumerate() {
        (*line, *at) = (n + 2, *at - begun);
        if let Event::Deliver(deliver) = event {
            let log = (
                deliver.topic.as_str(),
                deliver.group.as_str(),
                deliver.partition,
            );
            deliver.epoch = owners.epoch(log, (deliver.subscription, deliver.epoch));
        }
    }
    merged
}

/// Counts the owners of partitions as they appear, where the broker has no count of its own that holds for a whole group.
#[derive(Debug, Default)]
pub struct Owners {
    epochs: HashMap<Log, HashMap<Owner, u64>>,
}

/// Topic, group and partition.
type Log = (String, String, u32);

/// A subscription, and its own count of how often it has been the owner.
type Owner = (u32, u64);

impl Owners {
    /// The how-manieth owner of (topic, group, partition) this is: a subscription, and its own count of how often it has
    /// been the owner.
    pub fn epoch(&mut self, log: (&str, &str, u32), owner: (u32, u64)) -> u64 {
        let (topic, group, partition) = log;
        let log = (topic.to_owned(), group.to_owned(), partition);
        let epochs = self.epochs.entry(log).or_default();
        let next = epochs.len() as u64;
        *epochs.entry(owner).or_insert(next)
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, History, merge};
    use crate::history::{Deliver, Header, Log, Order, Subscribe, read_cut, read_str};
    use std::io::Write;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn deliver(subscription: u32, epoch: u64, position: u64) -> Deliver {
        Deliver {
            subscription,
            bus: subscription,
            topic: "t".into(),
            group: "g".into(),
            partition: 0,
            position,
            id: format!("e{position}"),
            key: None,
            attempt: None,
            epoch,
        }
    }

    #[test]
    fn lines_are_in_the_order_of_the_shared_clock_and_owners_are_counted_anew() {
        let of = |lines: &[(u64, Deliver)]| -> History {
            let log = Log::in_memory(Header::new("nats"));
            for (at, deliver) in lines {
                log.record_at(*at, deliver.clone());
            }
            log.into_history().unwrap()
        };
        // Both call their first epoch 7.
        let one = of(&[(100, deliver(0, 7, 1)), (400, deliver(0, 8, 4))]);
        let two = of(&[(200, deliver(1, 7, 2)), (200, deliver(1, 7, 3))]);
        let merged = merge(vec![one, two]);
        let told: Vec<_> = (merged.entries.iter())
            .map(|entry| match &entry.event {
                Event::Deliver(deliver) => (entry.line, entry.at, deliver.position, deliver.epoch),
                other => panic!("{other:?}"),
            })
            .collect();
        let wanted = [(2, 0, 1, 0), (3, 100, 2, 1), (4, 100, 3, 1), (5, 300, 4, 2)];
        assert_eq!(told, wanted);
        assert_eq!(read_str(&merged.to_text()).unwrap(), merged);
    }

    #[test]
    fn a_killed_process_loses_the_line_it_was_at_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.jsonl");
        let clock = Arc::new(AtomicU64::new(70));
        let ticks = clock.clone();
        let ticking = move || ticks.fetch_add(5, Ordering::Relaxed);
        let log = Log::of_process(&path, Header::new("nats"), ticking).unwrap();
        let subscription = 3;
        log.record(Subscribe {
            subscription,
            bus: 0,
            topic: "t".into(),
            group: "g".into(),
            order: Order::Key,
        });
        log.record(deliver(3, 0, 9));
        // Nothing of it is closed: what is in the file is there already.
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap();
        file.write_all(br#"{"at":90,"settle":{"subscr"#).unwrap();
        let history = read_cut(&path).unwrap();
        let at: Vec<_> = history.entries.iter().map(|entry| entry.at).collect();
        assert_eq!(at, [70, 75]);
        drop(log);
    }
}
