//! Model of `src/protocol/snapshot.rs`. Each test is named after the invariant it checks.

use super::engine::{AtomicU64, Canary, Model, Oracle, Ordering, event, sometimes, thread};
use super::snapshot::Snapshot;
use std::collections::hash_map::DefaultHasher;
use std::hash::BuildHasherDefault;
use std::sync::Arc;

/// One model for each invariant.
pub const MODELS: &[Model] = &[
    Model::new(
        "snapshot",
        "reader_sees_a_whole_version",
        reader_sees_a_whole_version,
    )
    .goals(&["saw none", "saw one", "saw both", "removed in between"]),
    Model::new(
        "snapshot",
        "versions_do_not_go_back_for_a_reader",
        versions_do_not_go_back_for_a_reader,
    )
    .goals(&["a later load was newer", "a version was handed on"])
    .bound(5),
    Model::new("snapshot", "no_update_lost", no_update_lost)
        .goals(&["made by one", "made by the other"]),
    Model::new(
        "snapshot",
        "failed_change_is_no_change",
        failed_change_is_no_change,
    )
    .goals(&["failed first", "found the other's"]),
    Model::new("snapshot", "removal_is_by_identity", removal_is_by_identity)
        .goals(&["rolled back in time", "rolled back too late"]),
];

/// A map with the same order of keys in every execution.
type Map<V> = Snapshot<u8, V, BuildHasherDefault<DefaultHasher>>;

/// Each entry is written before it is put there. A reader must find it written, and find the
/// version it holds unchanged whatever the writer does next.
fn reader_sees_a_whole_version() {
    let map = Arc::new(Map::<Canary>::new());
    let writer = thread::spawn_named("writer", {
        let map = map.clone();
        move || {
            let [first, second] = [1, 2].map(|key| {
                let value = Arc::new(Canary::new());
                value.write();
                assert!(
                    map.insert(key, value.clone()).is_ok(),
                    "reader_sees_a_whole_version: a free key is occupied"
                );
                event(format!("inserted {key}"));
                value
            });
            assert!(
                map.remove(&1, &first) && first.read() == second.read(),
                "reader_sees_a_whole_version: an entry is gone"
            );
        }
    });
    let version = map.load();
    let seen = (version.number(), version.len());
    sometimes(match seen {
        (0, 0) => "saw none",
        (1, 1) => "saw one",
        (2, 2) => "saw both",
        (3, 1) => "removed in between",
        torn => panic!("reader_sees_a_whole_version: number and size {torn:?}"),
    });
    for key in [1, 2] {
        if let Some(value) = version.get(&key) {
            assert_eq!(
                value.read(),
                1,
                "reader_sees_a_whole_version: entry {key} is not written yet"
            );
        }
    }
    if let Ok(found) = map.get_or_insert(&1, |_| Err("only looks")) {
        assert_eq!(
            found.read(),
            1,
            "reader_sees_a_whole_version: what was found is not written yet"
        );
    }
    let newer = map.load().len();
    assert!(
        (version.number(), version.len()) == seen && newer <= 2,
        "reader_sees_a_whole_version: a version changed after it was loaded"
    );
    drop(version);
    writer.join().unwrap();
}

/// A reader loads twice and hands what it saw to another.
fn versions_do_not_go_back_for_a_reader() {
    let map = Arc::new(Map::<u8>::new());
    let seen = Arc::new(AtomicU64::new(0));
    let writer = thread::spawn_named("writer", {
        let map = map.clone();
        move || {
            for key in [1, 2] {
                _ = map.insert(key, Arc::new(key));
            }
        }
    });
    let reader = thread::spawn_named("reader", {
        let (map, seen) = (map.clone(), seen.clone());
        move || {
            let [first, second] = [(); 2].map(|()| map.load().number());
            assert!(
                first <= second,
                "versions_do_not_go_back_for_a_reader: {second} after {first}"
            );
            if first < second {
                sometimes("a later load was newer");
            }
            seen.store(second, Ordering::Release);
        }
    });
    let handed = seen.load(Ordering::Acquire);
    let number = map.load().number();
    if handed > 0 {
        sometimes("a version was handed on");
    }
    assert!(
        handed <= number,
        "versions_do_not_go_back_for_a_reader: {number} after another had seen {handed}"
    );
    writer.join().unwrap();
    reader.join().unwrap();
}

/// Two writers change a key of their own each, one that only one of them may insert, and one that
/// both make if it is not there.
fn no_update_lost() {
    let map = Arc::new(Map::<u8>::new());
    let inserted = Arc::new(Oracle::new());
    let writers = [
        ("one", 1, "made by one"),
        ("the other", 2, "made by the other"),
    ]
    .map(|(name, own, goal)| {
        let (map, inserted) = (map.clone(), inserted.clone());
        thread::spawn_named(name, move || {
            assert!(
                map.insert(own, Arc::new(own)).is_ok(),
                "no_update_lost: a key of its own is occupied"
            );
            if map.insert(8, Arc::new(own)).is_ok() {
                inserted.add();
            }
            let made = map.get_or_insert(&9, |_| Ok::<_, ()>(own));
            let made = made.expect("no_update_lost: making it cannot fail");
            if *made == own {
                sometimes(goal);
            }
            made
        })
    });
    let made = writers.map(|writer| writer.join().unwrap());
    let version = map.load();
    let found = [1, 2, 8, 9].map(|key| version.get(&key).is_some());
    assert_eq!(found, [true; 4], "no_update_lost: entries there");
    assert_eq!(version.number(), 4, "no_update_lost: changes counted");
    assert_eq!(
        inserted.count(),
        1,
        "no_update_lost: times one key was inserted"
    );
    assert!(
        Arc::ptr_eq(&made[0], &made[1]),
        "no_update_lost: each holds an entry of its own under one key"
    );
}

/// One fails to make an entry while another makes it. Nothing is left of the failure, and it can
/// be tried again.
fn failed_change_is_no_change() {
    let map = Arc::new(Map::<u8>::new());
    let other = thread::spawn_named("other", {
        let map = map.clone();
        move || {
            let made = map.get_or_insert(&1, |_| Ok::<_, ()>(7));
            assert_eq!(
                made.map(|value| *value),
                Ok(7),
                "failed_change_is_no_change: the other's change failed too"
            );
        }
    });
    match map.get_or_insert(&1, |_| Err::<u8, _>("the broker said no")) {
        Err(reason) => {
            sometimes("failed first");
            assert_eq!(reason, "the broker said no");
        }
        Ok(found) => {
            sometimes("found the other's");
            assert_eq!(
                *found, 7,
                "failed_change_is_no_change: an entry nobody made"
            );
        }
    }
    let failed = map.get_or_insert(&2, |_| Err::<u8, _>("no again"));
    assert!(
        failed.is_err() && map.load().get(&2).is_none(),
        "failed_change_is_no_change: a failed entry is remembered"
    );
    other.join().unwrap();
    let again = map.get_or_insert(&2, |_| Ok::<_, ()>(8));
    assert_eq!(
        again.map(|value| *value),
        Ok(8),
        "failed_change_is_no_change: it cannot be tried again"
    );
    let version = map.load();
    assert_eq!(
        (version.number(), version.len()),
        (2, 2),
        "failed_change_is_no_change: a failure counts as a change"
    );
}

/// One rolls its subscription back late, while the user has taken it away and put another there.
fn removal_is_by_identity() {
    let map = Arc::new(Map::<u8>::new());
    let mine = Arc::new(1);
    assert!(map.insert(1, mine.clone()).is_ok());
    let rollback = thread::spawn_named("rollback", {
        let (map, mine) = (map.clone(), mine.clone());
        move || {
            sometimes(if map.remove(&1, &mine) {
                "rolled back in time"
            } else {
                "rolled back too late"
            });
        }
    });
    _ = map.remove(&1, &mine);
    let theirs = Arc::new(1);
    assert!(
        map.insert(1, theirs.clone()).is_ok(),
        "removal_is_by_identity: the key is still occupied"
    );
    rollback.join().unwrap();
    let there = map.load().get(&1).cloned();
    assert!(
        there.is_some_and(|there| Arc::ptr_eq(&there, &theirs)),
        "removal_is_by_identity: another's entry was taken away"
    );
}

#[cfg(test)]
mod tests {
    use super::super::engine::{check, find};
    use super::MODELS;

    #[test]
    fn reader_sees_a_whole_version() {
        check(find(MODELS, "reader_sees_a_whole_version"));
    }

    #[test]
    fn versions_do_not_go_back_for_a_reader() {
        check(find(MODELS, "versions_do_not_go_back_for_a_reader"));
    }

    #[test]
    fn no_update_lost() {
        check(find(MODELS, "no_update_lost"));
    }

    #[test]
    fn failed_change_is_no_change() {
        check(find(MODELS, "failed_change_is_no_change"));
    }

    #[test]
    fn removal_is_by_identity() {
        check(find(MODELS, "removal_is_by_identity"));
    }
}
