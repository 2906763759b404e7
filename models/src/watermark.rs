//! Model of `src/protocol/watermark.rs`. Each test is named after the invariant it checks.

use super::engine::{Canary, Model, block_on, event, sometimes, thread};
use super::watermark::{Mark, Refused, Watermark};
use std::future::poll_fn;
use std::sync::Arc;

/// One model for each invariant.
pub const MODELS: &[Model] = &[
    Model::new(
        "watermark",
        "commit_is_a_settled_prefix",
        commit_is_a_settled_prefix,
    )
    .goals(&["nothing yet", "the first", "both"])
    .bound(4),
    Model::new("watermark", "never_goes_back", never_goes_back)
        .goals(&["at the start", "moved between two looks", "both moved"])
        .bound(3),
    Model::new("watermark", "gaps_do_not_stall", gaps_do_not_stall)
        .goals(&["stood before the gap", "behind the gap"])
        .bound(4),
    Model::new("watermark", "settled_once", settled_once)
        .goals(&["the first came first", "the second came first"]),
    Model::new(
        "watermark",
        "stale_epoch_is_ignored",
        stale_epoch_is_ignored,
    )
    .goals(&["settled before the end", "settled too late"]),
    Model::new("watermark", "window_holds", window_holds).goals(&["full", "a place was free"]),
    Model::new(
        "watermark",
        "everything_settled_everything_commits",
        everything_settled_everything_commits,
    )
    .goals(&["a part was due first", "all was due at once"])
    .bound(2),
];

/// Where the partition begins.
const START: u64 = 5;
const TAKEN: &str = "there is room for it";

/// Delivers `positions` to a watermark with room for them.
fn delivered<const N: usize>(positions: [u64; N]) -> (Arc<Watermark>, [Mark; N]) {
    let watermark = Arc::new(Watermark::new(1, START, N));
    let marks = positions.map(|position| watermark.deliver(position).expect(TAKEN));
    (watermark, marks)
}

/// The second is settled before the first. Then a window of one, so that the third delivery takes the place of the first
/// while a committer looks.
fn commit_is_a_settled_prefix() {
    let (watermark, [_, second]) = delivered([5, 6]);
    assert!(watermark.settle(second));
    assert_eq!(
        (watermark.watermark(), watermark.due()),
        (START, None),
        "commit_is_a_settled_prefix: 5 is not settled"
    );
    let work = Arc::new((Watermark::new(1, START, 1), Canary::new(), Canary::new()));
    let committer = thread::spawn_named("committer", {
        let work = work.clone();
        move || {
            let (watermark, first, second) = &*work;
            let due = watermark.watermark();
            event(format!("may commit {due}"));
            assert!(
                due <= 7,
                "commit_is_a_settled_prefix: {due} may be committed, and 7 is not settled"
            );
            if due > 5 {
                first.read();
            }
            if due > 6 {
                second.read();
            }
            sometimes(match due {
                START => "nothing yet",
                6 => "the first",
                _ => "both",
            });
        }
    });
    let (watermark, first, second) = &*work;
    for (position, done) in [(5, first), (6, second)] {
        let mark = watermark.deliver(position).expect(TAKEN);
        done.write();
        assert!(watermark.settle(mark));
    }
    watermark.deliver(7).expect(TAKEN);
    committer.join().unwrap();
    assert_eq!(
        watermark.watermark(),
        7,
        "commit_is_a_settled_prefix: in the end"
    );
}

/// Two settle what the other waits for, while a committer looks.
fn never_goes_back() {
    let (watermark, marks) = delivered([5, 6]);
    let settlers: Vec<_> = ["settles 5", "settles 6"]
        .into_iter()
        .zip(marks)
        .map(|(name, mark)| {
            let watermark = watermark.clone();
            thread::spawn_named(name, move || assert!(watermark.settle(mark)))
        })
        .collect();
    let looks = [(); 2].map(|()| watermark.watermark());
    event(format!("sees {looks:?}"));
    assert!(
        looks.is_sorted() && looks[0] >= START && looks[1] <= 7,
        "never_goes_back: saw {looks:?} from {START} on"
    );
    if looks[0] == START {
        sometimes("at the start");
    }
    if looks[0] < looks[1] {
        sometimes("moved between two looks");
    }
    if looks[1] == 7 {
        sometimes("both moved");
    }
    for settler in settlers {
        settler.join().unwrap();
    }
    // There is room for it, and it was there before.
    assert_eq!(
        (watermark.deliver(6), watermark.watermark()),
        (Err(Refused::NotNew), 7),
        "never_goes_back: what both settled together, and what was delivered before"
    );
}

/// 7 and 8 are never delivered.
fn gaps_do_not_stall() {
    let (watermark, [before, behind]) = delivered([6, 9]);
    let settler = thread::spawn_named("settles behind the gap", {
        let watermark = watermark.clone();
        move || assert!(watermark.settle(behind))
    });
    assert!(watermark.settle(before));
    let due = watermark.watermark();
    event(format!("may commit {due}"));
    match due {
        7 => sometimes("stood before the gap"),
        10 => sometimes("behind the gap"),
        _ => panic!("gaps_do_not_stall: {due} may be committed after 6 was settled"),
    }
    settler.join().unwrap();
    assert_eq!(
        watermark.watermark(),
        10,
        "gaps_do_not_stall: everything that was delivered is settled"
    );
}

/// A handler's answer and its timeout come for the same delivery.
fn settled_once() {
    let (watermark, [mark]) = delivered([5]);
    let other = thread::spawn_named("timeout", {
        let watermark = watermark.clone();
        move || watermark.settle(mark)
    });
    let mine = watermark.settle(mark);
    let others = other.join().unwrap();
    assert!(
        mine != others,
        "settled_once: the answer counted: {mine}, the timeout counted: {others}"
    );
    sometimes(if mine {
        "the first came first"
    } else {
        "the second came first"
    });
    assert!(
        !watermark.settle(mark),
        "settled_once: counted again, long after"
    );
    assert_eq!(watermark.watermark(), 6, "settled_once: the watermark");
}

/// The partition is revoked while a handler still runs, and comes back.
fn stale_epoch_is_ignored() {
    let (old, [mark, late]) = delivered([5, 6]);
    let done = Arc::new(Canary::new());
    let settler = thread::spawn_named("handler", {
        let (old, done) = (old.clone(), done.clone());
        move || {
            done.write();
            old.settle(mark)
        }
    });
    let last = old.retire();
    event(format!("retired at {last}"));
    if last > START {
        done.read();
    }
    let counted = settler.join().unwrap();
    assert!(
        counted || last == START,
        "stale_epoch_is_ignored: committed {last}, and the handler was told that it came too late"
    );
    sometimes(if last > START {
        "settled before the end"
    } else {
        "settled too late"
    });
    assert!(
        !old.settle(late)
            && old.watermark() == last
            && old.retire() == last
            && old.deliver(8) == Err(Refused::Retired),
        "stale_epoch_is_ignored: the old epoch went on after {last}"
    );
    let new = Watermark::new(2, last, 2);
    assert_eq!(
        new.deliver(last - 1),
        Err(Refused::NotNew),
        "stale_epoch_is_ignored: the new epoch took what lies before its start"
    );
    let again = new.deliver(last).expect(TAKEN);
    assert!(
        !new.settle(mark) && new.watermark() == last && new.settle(again),
        "stale_epoch_is_ignored: an answer to the old epoch settled the new one's"
    );
}

/// A place in a buffer for each delivery in the window, used again by the next.
fn window_holds() {
    let buffer = Arc::new(Canary::new());
    let watermark = Arc::new(Watermark::new(1, START, 1));
    let first = watermark.deliver(5).expect(TAKEN);
    let handler = thread::spawn_named("handler", {
        let (watermark, buffer) = (watermark.clone(), buffer.clone());
        move || {
            buffer.write();
            watermark.settle(first);
        }
    });
    match watermark.deliver(6) {
        Ok(_) => {
            buffer.write();
            sometimes("a place was free");
            assert_eq!(
                (watermark.deliver(7), watermark.in_flight()),
                (Err(Refused::Full), 1),
                "window_holds: a second one beside the one in the window"
            );
        }
        Err(refused) => {
            assert_eq!(refused, Refused::Full, "window_holds: refused");
            sometimes("full");
        }
    }
    handler.join().unwrap();
}

/// Two handlers end while the committer waits; its first commit fails. A lost wake is a deadlock.
fn everything_settled_everything_commits() {
    let (watermark, marks) = delivered([5, 6]);
    let done = Arc::new([Canary::new(), Canary::new()]);
    let handlers: Vec<_> = ["handles 5", "handles 6"]
        .into_iter()
        .zip(0..)
        .zip(marks)
        .map(|((name, number), mark)| {
            let (watermark, done) = (watermark.clone(), done.clone());
            thread::spawn_named(name, move || {
                done[number].write();
                watermark.settle(mark);
            })
        })
        .collect();
    let first = block_on(poll_fn(|cx| watermark.poll_due(cx)));
    event(format!("commits {first}, and fails"));
    sometimes(if first < 7 {
        "a part was due first"
    } else {
        "all was due at once"
    });
    let mut committed = START;
    while committed < 7 {
        committed = block_on(poll_fn(|cx| watermark.poll_due(cx)));
        event(format!("commits {committed}"));
        watermark.committed(committed);
    }
    assert_eq!(
        (committed, watermark.due()),
        (7, None),
        "everything_settled_everything_commits: the end"
    );
    done.iter().for_each(|done| _ = done.read());
    for handler in handlers {
        handler.join().unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::{check, find};
    use super::MODELS;

    #[test]
    fn commit_is_a_settled_prefix() {
        check(find(MODELS, "commit_is_a_settled_prefix"));
    }

    #[test]
    fn never_goes_back() {
        check(find(MODELS, "never_goes_back"));
    }

    #[test]
    fn gaps_do_not_stall() {
        check(find(MODELS, "gaps_do_not_stall"));
    }

    #[test]
    fn settled_once() {
        check(find(MODELS, "settled_once"));
    }

    #[test]
    fn stale_epoch_is_ignored() {
        check(find(MODELS, "stale_epoch_is_ignored"));
    }

    #[test]
    fn window_holds() {
        check(find(MODELS, "window_holds"));
    }

    #[test]
    fn everything_settled_everything_commits() {
        check(find(MODELS, "everything_settled_everything_commits"));
    }
}
