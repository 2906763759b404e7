//! Model of `src/protocol/ledger.rs`. Each test is named after the invariant it checks.

use super::engine::{AtomicU64, Model, Oracle, Ordering, block_on, event, sometimes, thread};
use super::ledger::{Audience, Entry, Ledger, Outcome, Slot};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// One model for each invariant.
pub const MODELS: &[Model] = &[
    Model::new("ledger", "one_outcome_each", one_outcome_each)
        .goals(&["acked", "unknown"])
        .bound(3),
    Model::new(
        "ledger",
        "late_answer_is_not_a_second_outcome",
        late_answer_is_not_a_second_outcome,
    )
    .goals(&["the answer came first", "the timeout came first"]),
    Model::new("ledger", "stale_slot_is_ignored", stale_slot_is_ignored)
        .goals(&["used again", "a late answer met the next publish"])
        .bound(5),
    Model::new(
        "ledger",
        "close_settles_the_rest_as_unknown",
        close_settles_the_rest_as_unknown,
    )
    .goals(&[
        "answered first",
        "closed first",
        "opened before close looked",
    ])
    .bound(4),
    Model::new(
        "ledger",
        "acceptance_before_sending",
        acceptance_before_sending,
    )
    .goals(&["answered at once"]),
    Model::new("ledger", "result_order_per_key", result_order_per_key)
        .goals(&["the other came between", "the other came last"])
        .bound(3),
    Model::new(
        "ledger",
        "no_receipt_sleeps_on_an_outcome",
        no_receipt_sleeps_on_an_outcome,
    )
    .goals(&["the receipt waited", "the reader waited"])
    .bound(3),
    Model::new(
        "ledger",
        "nothing_is_told_to_nobody",
        nothing_is_told_to_nobody,
    )
    .goals(&[
        "the settler discarded it",
        "the reader discarded it",
        "another reader was told",
    ])
    .bound(4),
    Model::new(
        "ledger",
        "no_slot_has_two_publishes",
        no_slot_has_two_publishes,
    )
    .goals(&["a freed slot came back", "another slot"]),
];

type Publishes = Ledger<&'static str>;

const NOBODY: Audience = Audience {
    receipt: false,
    results: false,
};
const RECEIPT: Audience = Audience {
    receipt: true,
    results: false,
};
const RESULTS: Audience = Audience {
    receipt: false,
    results: true,
};
const BOTH: Audience = Audience {
    receipt: true,
    results: true,
};

/// An entry all of whose words say `id`, so that one mixed from two is seen.
fn entry(id: u8) -> Entry {
    Entry {
        pass: id,
        marks: id,
        topic: id.into(),
        bytes: id.into(),
        id: u128::from(id) << 64 | u128::from(id),
        opened_at: id.into(),
    }
}

fn acked(position: u64) -> Outcome<&'static str> {
    Outcome::Acked {
        partition: 1,
        position,
        duplicate: false,
    }
}

fn open(ledger: &Publishes, id: u8, audience: Audience) -> Slot {
    ledger
        .open(entry(id), audience)
        .expect("one_outcome_each: a free slot was not found")
}

/// The broker answers while close settles the rest. The receipt says what the settler did.
fn one_outcome_each() {
    let ledger = Arc::new(Publishes::new(1));
    let slot = open(&ledger, 1, RECEIPT);
    let settled = Arc::new(Oracle::new());
    let by_broker = Arc::new(Oracle::new());
    let broker = thread::spawn_named("broker", {
        let (ledger, settled, by_broker) = (ledger.clone(), settled.clone(), by_broker.clone());
        move || {
            if let Some(held) = ledger.settle(slot, acked(7)) {
                event("the broker settled it");
                assert_eq!(held, entry(1), "one_outcome_each: mixed entries");
                settled.add();
                by_broker.add();
            }
        }
    });
    let closer = thread::spawn_named("closer", {
        let (ledger, settled) = (ledger.clone(), settled.clone());
        move || {
            ledger.settle_rest(&"closed", |held| {
                event("close settled it");
                assert_eq!(held, entry(1), "one_outcome_each: mixed entries");
                settled.add();
            });
        }
    });
    let outcome = block_on(poll_fn(|cx| ledger.poll_receipt(slot, cx)));
    broker.join().unwrap();
    closer.join().unwrap();
    assert_eq!(settled.count(), 1, "one_outcome_each: settled not once");
    let expected = if by_broker.count() == 1 {
        sometimes("acked");
        acked(7)
    } else {
        sometimes("unknown");
        Outcome::Unknown("closed")
    };
    assert_eq!(
        outcome, expected,
        "one_outcome_each: the receipt says something else than the settler"
    );
    let next = open(&ledger, 2, NOBODY);
    assert_ne!(next, slot, "one_outcome_each: a token was given twice");
}

/// The broker's answer and a timeout, while the caller gives its receipt up.
fn late_answer_is_not_a_second_outcome() {
    let ledger = Arc::new(Publishes::new(1));
    let slot = open(&ledger, 1, RECEIPT);
    let settled = Arc::new(Oracle::new());
    let settlers = [
        ("broker", "the answer came first", acked(7)),
        (
            "timer",
            "the timeout came first",
            Outcome::Unknown("timeout"),
        ),
    ]
    .map(|(name, goal, outcome)| {
        let (ledger, settled) = (ledger.clone(), settled.clone());
        thread::spawn_named(name, move || {
            if let Some(held) = ledger.settle(slot, outcome) {
                sometimes(goal);
                assert_eq!(held, entry(1), "late_answer_is_not_a_second_outcome: mixed");
                assert_eq!(
                    settled.add(),
                    1,
                    "late_answer_is_not_a_second_outcome: both settlers got the entry"
                );
            }
        })
    });
    ledger.drop_receipt(slot);
    for settler in settlers {
        settler.join().unwrap();
    }
    assert_eq!(
        settled.count(),
        1,
        "late_answer_is_not_a_second_outcome: nobody got the entry"
    );
    assert!(
        ledger.settle(slot, acked(8)).is_none(),
        "late_answer_is_not_a_second_outcome: settled again afterwards"
    );
    open(&ledger, 2, NOBODY);
}

/// A second publish takes the slot while late answers to the first are still under way.
fn stale_slot_is_ignored() {
    let ledger = Arc::new(Publishes::new(1));
    let first = open(&ledger, 1, NOBODY);
    let settled = Arc::new(Oracle::new());
    let used_again = Arc::new(Oracle::new());
    let settlers = ["broker", "timer"].map(|name| {
        let (ledger, settled) = (ledger.clone(), settled.clone());
        let used_again = used_again.clone();
        thread::spawn_named(name, move || {
            if used_again.count() == 1 {
                sometimes("a late answer met the next publish");
            }
            if let Some(held) = ledger.settle(first, acked(1)) {
                settled.add();
                assert_eq!(
                    held,
                    entry(1),
                    "stale_slot_is_ignored: an old token settled a new publish"
                );
            }
        })
    });
    let second = ledger.open(entry(2), NOBODY);
    if let Some(second) = second {
        event("the slot is used again");
        used_again.set(1);
        sometimes("used again");
        assert_eq!(
            ledger.settle(second, acked(2)),
            Some(entry(2)),
            "stale_slot_is_ignored: the new publish was settled by an old token"
        );
    }
    for settler in settlers {
        settler.join().unwrap();
    }
    assert_eq!(
        settled.count(),
        1,
        "stale_slot_is_ignored: the old publish was not settled once"
    );
}

/// Close settles what is open while the broker answers one publish and another is just opened. With
/// two stripes both slots go back to one stack, and none gets lost there.
fn close_settles_the_rest_as_unknown() {
    let ledger = Arc::new(Publishes::new(3));
    let first = open(&ledger, 1, NOBODY);
    let settled = Arc::new([Oracle::new(), Oracle::new(), Oracle::new()]);
    let count = |settled: &[Oracle; 3], held: Entry| {
        assert_eq!(
            held,
            entry(held.pass),
            "close_settles_the_rest_as_unknown: mixed entries"
        );
        settled[usize::from(held.pass)].add();
    };
    let broker = thread::spawn_named("broker", {
        let (ledger, settled) = (ledger.clone(), settled.clone());
        move || {
            if let Some(held) = ledger.settle(first, acked(1)) {
                sometimes("answered first");
                count(&settled, held);
            }
        }
    });
    let publisher = thread::spawn_named("publisher", {
        let ledger = ledger.clone();
        move || _ = open(&ledger, 2, NOBODY)
    });
    ledger.settle_rest(&"closed", |held| {
        sometimes(match held.pass {
            1 => "closed first",
            _ => "opened before close looked",
        });
        count(&settled, held);
    });
    event("close has settled the rest");
    assert!(
        ledger.settle(first, acked(9)).is_none(),
        "close_settles_the_rest_as_unknown: an earlier publish is still open"
    );
    broker.join().unwrap();
    publisher.join().unwrap();
    ledger.settle_rest(&"closed", |held| count(&settled, held));
    let counts = settled.each_ref().map(Oracle::count);
    assert_eq!(
        counts,
        [0, 1, 1],
        "close_settles_the_rest_as_unknown: not every publish was settled once"
    );
    for id in [3, 4, 5] {
        open(&ledger, id, NOBODY);
    }
}

/// The broker answers the moment it has the token: the slot must be open by then.
fn acceptance_before_sending() {
    let ledger = Arc::new(Publishes::new(1));
    let sent = Arc::new(AtomicU64::new(0));
    let broker = thread::spawn_named("broker", {
        let (ledger, sent) = (ledger.clone(), sent.clone());
        move || {
            let bits = sent.load(Ordering::Acquire);
            if bits != 0 {
                sometimes("answered at once");
                assert_eq!(
                    ledger.settle(Slot::from_bits(bits), acked(1)),
                    Some(entry(1)),
                    "acceptance_before_sending: the answer found no open slot"
                );
            }
        }
    });
    let slot = open(&ledger, 1, RECEIPT);
    event("sends it");
    sent.store(slot.to_bits(), Ordering::Release);
    broker.join().unwrap();
    _ = ledger.settle(slot, Outcome::Unknown("closed"));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        ledger.poll_receipt(slot, &mut cx).is_ready(),
        "acceptance_before_sending: the outcome was lost"
    );
}

/// One connection answers two publishes of a key in order, another answers a third.
fn result_order_per_key() {
    let ledger = Arc::new(Publishes::new(3));
    let [first, second, other] = [1, 2, 3].map(|id| open(&ledger, id, RESULTS));
    let settle = |ledger: &Publishes, slot: Slot, id: u8| {
        assert_eq!(
            ledger.settle(slot, acked(id.into())),
            Some(entry(id)),
            "result_order_per_key: not settled"
        );
    };
    let one = thread::spawn_named("one connection", {
        let ledger = ledger.clone();
        move || {
            settle(&ledger, first, 1);
            settle(&ledger, second, 2);
        }
    });
    let another = thread::spawn_named("another", {
        let ledger = ledger.clone();
        move || settle(&ledger, other, 3)
    });
    let mut reader = ledger.result_reader().expect("nobody else reads");
    assert!(
        ledger.result_reader().is_none(),
        "result_order_per_key: two readers share the results"
    );
    let order = [(); 3].map(|()| {
        let (held, outcome) = block_on(poll_fn(|cx| ledger.poll_result(&mut reader, cx)));
        let id = held.pass;
        event(format!("hears of {id}"));
        assert_eq!(
            (held, outcome),
            (entry(id), acked(id.into())),
            "result_order_per_key: mixed results"
        );
        id
    });
    assert!(
        matches!(order, [1, 2, 3] | [1, 3, 2] | [3, 1, 2]),
        "result_order_per_key: heard in the order {order:?}"
    );
    match order {
        [1, 3, 2] => sometimes("the other came between"),
        [1, 2, 3] => sometimes("the other came last"),
        _ => {}
    }
    one.join().unwrap();
    another.join().unwrap();
    ledger.return_reader(reader);
}

/// A receipt and the result reader both wait for one outcome; a lost wake is a deadlock. When all
/// three hands are done the slot is opened and settled again, so nobody may still be reading it.
fn no_receipt_sleeps_on_an_outcome() {
    let ledger = Arc::new(Publishes::new(1));
    let slot = open(&ledger, 1, BOTH);
    let receipt = thread::spawn_named("receipt", {
        let ledger = ledger.clone();
        move || {
            let mut looks = 0;
            let outcome = block_on(poll_fn(|cx| {
                looks += 1;
                ledger.poll_receipt(slot, cx)
            }));
            if looks > 1 {
                sometimes("the receipt waited");
            }
            assert_eq!(
                outcome,
                Outcome::Rejected("too large"),
                "no_receipt_sleeps_on_an_outcome: half an answer"
            );
        }
    });
    let broker = thread::spawn_named("broker", {
        let ledger = ledger.clone();
        move || {
            let held = ledger.settle(slot, Outcome::Rejected("too large"));
            assert_eq!(
                held,
                Some(entry(1)),
                "no_receipt_sleeps_on_an_outcome: mixed entries"
            );
        }
    });
    let mut reader = ledger.result_reader().expect("nobody else reads");
    let mut looks = 0;
    let (held, _) = block_on(poll_fn(|cx| {
        looks += 1;
        ledger.poll_result(&mut reader, cx)
    }));
    if looks > 1 {
        sometimes("the reader waited");
    }
    assert_eq!(
        held,
        entry(1),
        "no_receipt_sleeps_on_an_outcome: mixed entries"
    );
    if let Some(again) = ledger.open(entry(2), NOBODY) {
        event("the slot is used again");
        assert_eq!(
            ledger.settle(again, acked(2)),
            Some(entry(2)),
            "no_receipt_sleeps_on_an_outcome: mixed entries"
        );
    }
    receipt.join().unwrap();
    broker.join().unwrap();
}

/// The result reader goes while an outcome is on its way to it, and another may come at once. One of
/// the two sides discards it, or the other reader is told, or its slot would never come back. Who has
/// the reader is known to have it.
fn nothing_is_told_to_nobody() {
    let ledger = Arc::new(Publishes::new(1));
    let reader = ledger.result_reader().expect("nobody else reads");
    let slot = open(&ledger, 1, RESULTS);
    let discarded = Arc::new(Oracle::new());
    let discard = |ledger: &Publishes, discarded: &Oracle, goal: &'static str| {
        for held in ledger.discard() {
            sometimes(goal);
            assert_eq!(held, entry(1), "nothing_is_told_to_nobody: mixed entries");
            discarded.add();
        }
    };
    let broker = thread::spawn_named("broker", {
        let (ledger, discarded) = (ledger.clone(), discarded.clone());
        move || {
            assert!(
                ledger.settle(slot, acked(1)).is_some(),
                "nothing_is_told_to_nobody: not settled"
            );
            if !ledger.is_heard() {
                discard(&ledger, &discarded, "the settler discarded it");
            }
        }
    });
    let next = thread::spawn_named("next reader", {
        let ledger = ledger.clone();
        move || ledger.result_reader()
    });
    ledger.return_reader(reader);
    event("the reader is gone");
    discard(&ledger, &discarded, "the reader discarded it");
    broker.join().unwrap();
    if let Some(mut reader) = next.join().unwrap() {
        assert!(
            ledger.is_heard(),
            "nothing_is_told_to_nobody: a reader that nobody tells anything"
        );
        let mut cx = Context::from_waker(Waker::noop());
        if let Poll::Ready((held, _)) = ledger.poll_result(&mut reader, &mut cx) {
            sometimes("another reader was told");
            assert_eq!(held, entry(1), "nothing_is_told_to_nobody: mixed entries");
            discarded.add();
        }
    }
    assert_eq!(
        discarded.count(),
        1,
        "nothing_is_told_to_nobody: times discarded"
    );
    open(&ledger, 2, NOBODY);
}

/// One opens while another opens two and settles the first: the head of the free slots goes away
/// and comes back, with another slot behind it.
fn no_slot_has_two_publishes() {
    let ledger = Arc::new(Publishes::new(3));
    let mut all = [1, 2, 3].map(|id| open(&ledger, id, NOBODY));
    all.sort_by_key(|slot| slot.index());
    // With two stripes, the first and the third lie on one stack.
    let kept = all[1].index();
    for slot in [all[2], all[0]] {
        _ = ledger.settle(slot, acked(0));
    }
    let other = thread::spawn_named("other", {
        let ledger = ledger.clone();
        move || {
            let first = ledger.open(entry(4), NOBODY);
            let second = ledger.open(entry(5), NOBODY);
            if let Some(first) = first {
                event("frees the first again");
                _ = ledger.settle(first, acked(4));
            }
            (first, second)
        }
    });
    let mine = ledger.open(entry(6), NOBODY);
    let (first, second) = other.join().unwrap();
    let last = ledger.open(entry(7), NOBODY);
    let mut open: Vec<_> = [mine, second, last]
        .into_iter()
        .flatten()
        .map(Slot::index)
        .chain([kept])
        .collect();
    open.sort_unstable();
    assert!(
        open.iter().eq([0, 1, 2].iter()),
        "no_slot_has_two_publishes: the slots of the open publishes are {open:?}"
    );
    let index = |slot: Option<Slot>| slot.map(Slot::index);
    sometimes(if mine.is_some() && index(mine) == index(first) {
        "a freed slot came back"
    } else {
        "another slot"
    });
}

#[cfg(test)]
mod tests {
    use super::super::engine::{check, find};
    use super::MODELS;

    #[test]
    fn one_outcome_each() {
        check(find(MODELS, "one_outcome_each"));
    }

    #[test]
    fn late_answer_is_not_a_second_outcome() {
        check(find(MODELS, "late_answer_is_not_a_second_outcome"));
    }

    #[test]
    fn stale_slot_is_ignored() {
        check(find(MODELS, "stale_slot_is_ignored"));
    }

    #[test]
    fn close_settles_the_rest_as_unknown() {
        check(find(MODELS, "close_settles_the_rest_as_unknown"));
    }

    #[test]
    fn acceptance_before_sending() {
        check(find(MODELS, "acceptance_before_sending"));
    }

    #[test]
    fn result_order_per_key() {
        check(find(MODELS, "result_order_per_key"));
    }

    #[test]
    fn no_receipt_sleeps_on_an_outcome() {
        check(find(MODELS, "no_receipt_sleeps_on_an_outcome"));
    }

    #[test]
    fn nothing_is_told_to_nobody() {
        check(find(MODELS, "nothing_is_told_to_nobody"));
    }

    #[test]
    fn no_slot_has_two_publishes() {
        check(find(MODELS, "no_slot_has_two_publishes"));
    }
}
