//! Model of `src/protocol/credit.rs`. Each test is named after the invariant it checks.

use super::credit::{Budget, Credit, Refused, Waiter};
use super::engine::{Model, Oracle, block_on, event, sometimes, thread};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// One model for each invariant.
pub const MODELS: &[Model] = &[
    Model::new("credit", "limit_holds", limit_holds)
        .goals(&["two at once", "refused"])
        .bound(3),
    Model::new("credit", "every_credit_comes_back", every_credit_comes_back)
        .goals(&[
            "cancelled in line",
            "cancelled when served",
            "taken at once",
        ])
        .bound(4),
    Model::new("credit", "waiters_in_order", waiters_in_order)
        .goals(&["the newcomer was refused", "the newcomer came after all"])
        .bound(3),
    Model::new(
        "credit",
        "no_waiter_sleeps_on_free_credit",
        no_waiter_sleeps_on_free_credit,
    )
    .goals(&["waited", "did not wait"])
    .bound(3),
    Model::new("credit", "close_wakes_all", close_wakes_all)
        .goals(&["sent home", "came too late"])
        .bound(3),
];

fn credit(envelopes: u64, bytes: u64) -> Arc<Credit> {
    Arc::new(Credit::new(Budget { envelopes, bytes }))
}

/// Waits for credit and says how often it looked.
fn take(credit: &Credit, bytes: u64) -> (Result<(), Refused>, u32) {
    let (mut waiter, mut looks) = (Waiter::default(), 0);
    let answer = block_on(poll_fn(|cx| {
        looks += 1;
        credit.poll_take(&mut waiter, bytes, cx)
    }));
    (answer, looks)
}

/// Under a limit of 2 envelopes and 11 bytes one takes 5, is refused 7 and takes 1 more, while
/// another takes 5: all three would be few enough bytes, but too many envelopes.
fn limit_holds() {
    let credit = credit(2, 11);
    let out = Arc::new((Oracle::new(), Oracle::new()));
    let take = |credit: &Credit, out: &(Oracle, Oracle), bytes: u64| match credit.try_take(bytes) {
        Ok(()) => {
            event(format!("has {bytes}"));
            let (envelopes, sum) = (out.0.add(), out.1.add_many(bytes));
            assert!(
                envelopes <= 2 && sum <= 11,
                "limit_holds: {envelopes} envelopes and {sum} bytes are out"
            );
            if envelopes == 2 {
                sometimes("two at once");
            }
            true
        }
        Err(Refused::Full) => {
            sometimes("refused");
            false
        }
        Err(other) => panic!("limit_holds: refused as {other:?}"),
    };
    let give = |credit: &Credit, out: &(Oracle, Oracle), bytes: u64| {
        out.0.take();
        out.1.take_many(bytes);
        credit.give(bytes);
    };
    let other = thread::spawn_named("other", {
        let (credit, out) = (credit.clone(), out.clone());
        move || {
            if take(&credit, &out, 5) {
                give(&credit, &out, 5);
            }
        }
    });
    let held = [5, 7, 1].map(|bytes| (take(&credit, &out, bytes), bytes));
    for (_, bytes) in held.into_iter().filter(|(taken, _)| *taken) {
        give(&credit, &out, bytes);
    }
    other.join().unwrap();
}

/// One gives back what it took, another gives up waiting, perhaps in the moment it is served. Who takes
/// a part of what comes back finds the rest of it there as well.
fn every_credit_comes_back() {
    let credit = credit(1, 10);
    let gave_up = Arc::new(Oracle::new());
    let giver = thread::spawn_named("giver", {
        let (credit, gave_up) = (credit.clone(), gave_up.clone());
        move || {
            if credit.try_take(6).is_ok() {
                credit.give(6);
            }
            let alone = gave_up.count() == 1;
            if credit.try_take(1).is_ok() {
                credit.give(1);
                if alone {
                    assert_eq!(
                        credit.try_take(10),
                        Ok(()),
                        "every_credit_comes_back: an envelope came back without its bytes"
                    );
                    credit.give(10);
                }
            }
        }
    });
    let impatient = thread::spawn_named("impatient", {
        let (credit, gave_up) = (credit.clone(), gave_up.clone());
        move || {
            let mut waiter = Waiter::default();
            let mut cx = Context::from_waker(Waker::noop());
            match credit.poll_take(&mut waiter, 7, &mut cx) {
                Poll::Ready(Ok(())) => {
                    sometimes("taken at once");
                    credit.give(7);
                }
                Poll::Ready(Err(other)) => panic!("every_credit_comes_back: {other:?}"),
                Poll::Pending => {
                    let free = credit.free();
                    event("gives up");
                    gave_up.set(1);
                    credit.cancel(&mut waiter);
                    sometimes(if free.envelopes == 0 {
                        "cancelled in line"
                    } else {
                        "cancelled when served"
                    });
                }
            }
        }
    });
    giver.join().unwrap();
    impatient.join().unwrap();
    assert_eq!(
        credit.free(),
        credit.limit(),
        "every_credit_comes_back: some is gone"
    );
    assert_eq!(
        credit.try_take(10),
        Ok(()),
        "every_credit_comes_back: it is there but cannot be taken"
    );
}

/// The first in line wants all of it, the second little, and the credit comes back in two parts:
/// the first is served first, and a newcomer only when nobody waits any more.
fn waiters_in_order() {
    let credit = credit(2, 10);
    for bytes in [4, 6] {
        let taken = credit.try_take(bytes);
        assert_eq!(taken, Ok(()), "waiters_in_order: none free");
    }
    let mut cx = Context::from_waker(Waker::noop());
    let (mut first, mut second) = (Waiter::default(), Waiter::default());
    for (waiter, bytes) in [(&mut first, 10), (&mut second, 1)] {
        let answer = credit.poll_take(waiter, bytes, &mut cx);
        assert!(answer.is_pending(), "waiters_in_order: served from nothing");
    }
    let served = Arc::new(Oracle::new());
    let newcomer = thread::spawn_named("newcomer", {
        let (credit, served) = (credit.clone(), served.clone());
        move || match credit.try_take(1) {
            Ok(()) => {
                sometimes("the newcomer came after all");
                // When it got it, the first had given its own back for the second.
                assert!(
                    served.count() >= 1,
                    "waiters_in_order: a newcomer passed the line"
                );
                credit.give(1);
            }
            Err(_) => sometimes("the newcomer was refused"),
        }
    });
    event("gives some back");
    credit.give(4);
    assert!(
        credit.poll_take(&mut second, 1, &mut cx).is_pending(),
        "waiters_in_order: the second was served before the first"
    );
    event("gives the rest back");
    credit.give(6);
    for (waiter, bytes) in [(&mut first, 10), (&mut second, 1)] {
        let answer = block_on(poll_fn(|cx| credit.poll_take(waiter, bytes, cx)));
        assert_eq!(answer, Ok(()), "waiters_in_order: refused in line");
        served.add();
        credit.give(bytes);
    }
    newcomer.join().unwrap();
}

/// One is first in line and gives up, perhaps when it has just been served; another waits behind
/// it. A lost wake is a deadlock.
fn no_waiter_sleeps_on_free_credit() {
    let credit = credit(1, 10);
    assert_eq!(
        credit.try_take(6),
        Ok(()),
        "no_waiter_sleeps_on_free_credit: none free"
    );
    let mut impatient = Waiter::default();
    let mut cx = Context::from_waker(Waker::noop());
    let answer = credit.poll_take(&mut impatient, 7, &mut cx);
    assert!(
        answer.is_pending(),
        "no_waiter_sleeps_on_free_credit: served from nothing"
    );
    let waiter = thread::spawn_named("waiter", {
        let credit = credit.clone();
        move || {
            let (answer, looks) = take(&credit, 7);
            assert_eq!(
                answer,
                Ok(()),
                "no_waiter_sleeps_on_free_credit: refused in line"
            );
            sometimes(if looks > 1 { "waited" } else { "did not wait" });
            credit.give(7);
        }
    });
    let giver = thread::spawn_named("giver", {
        let credit = credit.clone();
        move || credit.give(6)
    });
    event("gives up waiting");
    credit.cancel(&mut impatient);
    waiter.join().unwrap();
    giver.join().unwrap();
    assert_eq!(
        credit.free(),
        credit.limit(),
        "no_waiter_sleeps_on_free_credit: some is gone"
    );
}

/// Close comes while two wait, the first for more than will come back. Nobody waits on, and nobody
/// takes after it.
fn close_wakes_all() {
    let credit = credit(3, 10);
    for bytes in [1, 6] {
        assert_eq!(credit.try_take(bytes), Ok(()), "close_wakes_all: none free");
    }
    let mut first = Waiter::default();
    let mut cx = Context::from_waker(Waker::noop());
    let answer = credit.poll_take(&mut first, 10, &mut cx);
    assert!(answer.is_pending(), "close_wakes_all: served from nothing");
    let second = thread::spawn_named("second", {
        let credit = credit.clone();
        move || {
            assert!(
                credit.try_take(1).is_err(),
                "close_wakes_all: taken past one who waits until close"
            );
            let (answer, looks) = take(&credit, 7);
            sometimes(if looks > 1 {
                "sent home"
            } else {
                "came too late"
            });
            assert_eq!(
                answer,
                Err(Refused::Closed),
                "close_wakes_all: served behind one that was not"
            );
        }
    });
    credit.give(6);
    credit.close();
    event("close returned");
    let mut late = Waiter::default();
    for waiter in [&mut first, &mut late] {
        assert_eq!(
            credit.poll_take(waiter, 10, &mut cx),
            Poll::Ready(Err(Refused::Closed)),
            "close_wakes_all: one waits after close"
        );
    }
    assert_eq!(
        credit.try_take(1),
        Err(Refused::Closed),
        "close_wakes_all: taken after close"
    );
    second.join().unwrap();
    credit.give(1);
    assert_eq!(
        credit.free(),
        credit.limit(),
        "close_wakes_all: some is gone"
    );
}

#[cfg(test)]
mod tests {
    use super::super::engine::{check, find};
    use super::MODELS;

    #[test]
    fn limit_holds() {
        check(find(MODELS, "limit_holds"));
    }

    #[test]
    fn every_credit_comes_back() {
        check(find(MODELS, "every_credit_comes_back"));
    }

    #[test]
    fn waiters_in_order() {
        check(find(MODELS, "waiters_in_order"));
    }

    #[test]
    fn no_waiter_sleeps_on_free_credit() {
        check(find(MODELS, "no_waiter_sleeps_on_free_credit"));
    }

    #[test]
    fn close_wakes_all() {
        check(find(MODELS, "close_wakes_all"));
    }
}
