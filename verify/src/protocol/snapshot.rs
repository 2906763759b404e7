//! Spec of `src/protocol/snapshot.rs`: a plain map, as if only one thread existed.

use super::subject::engine::thread;
use super::subject::snapshot::Snapshot;
use clearway_verify::linear::Spec;
use clearway_verify::protocol::{CallOf, CallsOf, Checked, Protocol, explore};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

/// The protocol's name.
pub const NAME: &str = "snapshot";

/// Runs `programs` generated programs against the snapshot.
pub fn histories(programs: u32, seed: u64) -> Checked {
    explore::<SnapshotCalls>(programs, seed)
}

type Map = Snapshot<u8, u64, BuildHasherDefault<DefaultHasher>>;

/// Every entry that is made has a number of its own, so that two under one key are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Insert {
        key: u8,
        entry: u64,
    },
    GetOrInsert {
        key: u8,
        entry: u64,
    },
    /// Takes away this entry, and no other that may be there since.
    Remove {
        key: u8,
        entry: u64,
    },
    /// A change that fails.
    Fail {
        key: u8,
    },
    /// One version: what is under both keys, and how many there are.
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ret {
    Inserted,
    Occupied(u64),
    Got(u64),
    Removed(bool),
    Failed,
    Saw([Option<u64>; 2], usize),
}

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct SnapshotSpec(BTreeMap<u8, u64>);

impl Spec for SnapshotSpec {
    type Op = Op;
    type Ret = Ret;

    fn step(&self, op: &Op, ret: Option<&Ret>) -> Option<Self> {
        let mut next = self.clone();
        let there = |key: &u8| self.0.get(key).copied();
        let said = match op {
            Op::Insert { key, entry } => match there(key) {
                Some(there) => Ret::Occupied(there),
                None => {
                    next.0.insert(*key, *entry);
                    Ret::Inserted
                }
            },
            Op::GetOrInsert { key, entry } => Ret::Got(*next.0.entry(*key).or_insert(*entry)),
            Op::Remove { key, entry } => {
                let is_there = there(key) == Some(*entry);
                if is_there {
                    next.0.remove(key);
                }
                Ret::Removed(is_there)
            }
            // Where there is an entry nothing is tried, and nothing fails.
            Op::Fail { key } => there(key).map_or(Ret::Failed, Ret::Got),
            Op::Look => Ret::Saw([there(&0), there(&1)], self.0.len()),
        };
        ret.is_none_or(|ret| *ret == said).then_some(next)
    }

    fn promise(&self, op: &Op, ret: Option<&Ret>) -> &'static str {
        match (op, ret) {
            (Op::Remove { .. }, _) => "removal_is_by_identity",
            (Op::Fail { .. }, _) => "failed_change_is_no_change",
            (Op::Look, Some(Ret::Saw(entries, count)))
                if entries.iter().flatten().count() != *count =>
            {
                "reader_sees_a_whole_version"
            }
            _ => "no_update_lost",
        }
    }
}

/// One thing a thread does.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Puts an entry in, and perhaps takes that entry away again.
    Insert {
        key: u8,
        and_remove: bool,
    },
    GetOrInsert(u8),
    Fail(u8),
    Look,
}

struct SnapshotCalls;

impl Protocol for SnapshotCalls {
    const NAME: &'static str = NAME;
    const GOALS: &'static [&'static str] = &[
        "inserted",
        "occupied",
        "removed",
        "a change failed",
        "saw both entries",
    ];
    const PANIC: &'static str = "reader_sees_a_whole_version";
    type Spec = SnapshotSpec;
    type Program = Vec<Vec<Act>>;

    fn programs() -> BoxedStrategy<Self::Program> {
        let key = 0..2_u8;
        let act = prop_oneof![
            4 => (key.clone(), any::<bool>())
                .prop_map(|(key, and_remove)| Act::Insert { key, and_remove }),
            2 => key.clone().prop_map(Act::GetOrInsert),
            1 => key.prop_map(Act::Fail),
            3 => Just(Act::Look),
        ];
        let thread = prop::collection::vec(act, 1..4);
        prop::collection::vec(thread, 2..4).boxed()
    }

    fn start(_: &Self::Program) -> SnapshotSpec {
        SnapshotSpec::default()
    }

    fn run(program: &Self::Program, calls: &CallsOf<Self>) -> Result<(), String> {
        let map = Arc::new(Map::new());
        let threads: Vec<_> = (1..)
            .zip(program.clone())
            .map(|(process, acts)| {
                let (map, calls) = (map.clone(), calls.clone());
                thread::spawn(move || {
                    let mut version = 0;
                    for (number, act) in (0..).zip(acts) {
                        let entry = process as u64 * 100 + number;
                        step(&map, act, entry, process, &calls);
                        let now = map.load().number();
                        if now < version {
                            return Err(format!(
                                "versions_do_not_go_back_for_a_reader: {now} after {version}"
                            ));
                        }
                        version = now;
                    }
                    Ok(())
                })
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .map_err(|_| "no_update_lost: a thread panicked".to_owned())??;
        }
        look(&map, 0, calls);
        Ok(())
    }

    fn goal(call: &CallOf<Self>) -> Option<&'static str> {
        Some(match call.end?.1 {
            Ret::Inserted => "inserted",
            Ret::Occupied(_) => "occupied",
            Ret::Removed(true) => "removed",
            Ret::Failed => "a change failed",
            Ret::Saw([Some(_), Some(_)], _) => "saw both entries",
            _ => return None,
        })
    }

    fn hang(_: &[CallOf<Self>]) -> &'static str {
        "failed_change_is_no_change"
    }
}

fn step(map: &Map, act: Act, entry: u64, process: usize, calls: &CallsOf<SnapshotCalls>) {
    match act {
        Act::Insert { key, and_remove } => {
            let value = Arc::new(entry);
            calls.call(process, Op::Insert { key, entry }, || {
                match map.insert(key, value.clone()) {
                    Ok(()) => ((), Ret::Inserted),
                    Err(occupied) => ((), Ret::Occupied(*occupied.0)),
                }
            });
            if and_remove {
                calls.call(process, Op::Remove { key, entry }, || {
                    ((), Ret::Removed(map.remove(&key, &value)))
                });
            }
        }
        Act::GetOrInsert(key) => calls.call(process, Op::GetOrInsert { key, entry }, || {
            let got = map.get_or_insert(&key, |_| Ok::<_, ()>(entry));
            ((), got.map_or(Ret::Failed, |entry| Ret::Got(*entry)))
        }),
        Act::Fail(key) => calls.call(process, Op::Fail { key }, || {
            let failed = map.get_or_insert(&key, |_| Err::<u64, _>(()));
            ((), failed.map_or(Ret::Failed, |entry| Ret::Got(*entry)))
        }),
        Act::Look => look(map, process, calls),
    }
}

fn look(map: &Map, process: usize, calls: &CallsOf<SnapshotCalls>) {
    calls.call(process, Op::Look, || {
        let version = map.load();
        let first = version.get(&0).map(|entry| **entry);
        // Others go on meanwhile; a version stays what it is.
        thread::yield_now();
        let second = version.get(&1).map(|entry| **entry);
        ((), Ret::Saw([first, second], version.len()))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_history_has_a_sequential_explanation() {
        let checked = histories(150, 1);
        assert_eq!(checked.complaint(), None, "{checked:#?}");
    }
}
