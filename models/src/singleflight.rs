//! Model of `src/protocol/singleflight.rs`. Each test is named after the invariant it checks.

use super::engine::{Canary, Model, Oracle, abandon, block_on, event, sometimes, thread};
use super::singleflight::{Mark, Singleflight, Turn};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// One model for each invariant.
pub const MODELS: &[Model] = &[
    Model::new("singleflight", "one_leader_per_key", one_leader_per_key)
        .goals(&["led", "followed"]),
    Model::new(
        "singleflight",
        "followers_get_the_leaders_answer",
        followers_get_the_leaders_answer,
    )
    .goals(&["followed", "led after another"])
    .bound(4),
    Model::new(
        "singleflight",
        "success_is_not_repeated",
        success_is_not_repeated,
    )
    .goals(&["saw the mark", "was done when it asked", "followed"])
    .bound(4),
    Model::new(
        "singleflight",
        "failure_is_not_remembered",
        failure_is_not_remembered,
    )
    .goals(&["followed a failure", "asked after a failure"]),
    Model::new(
        "singleflight",
        "cancelled_leader_hands_over",
        cancelled_leader_hands_over,
    )
    .goals(&["handed over", "came when all were gone"])
    .bound(4),
    Model::new(
        "singleflight",
        "panicking_leader_frees_its_followers",
        panicking_leader_frees_its_followers,
    )
    .goals(&["handed over"]),
    Model::new("singleflight", "key_names_the_work", key_names_the_work)
        .goals(&["followed on its key"]),
];

/// Answers say who worked.
type Flights = Singleflight<u8, u8>;

const TERM: u64 = 1;

/// Everything the callers of a model share.
#[derive(Default)]
struct Shared {
    flights: Flights,
    mark: Mark,
    /// What the work touches.
    topic: Canary,
    working: Oracle,
    worked: Oracle,
    ended: Oracle,
}

impl Shared {
    /// Asks for `key` and waits for the turn; how often it looked.
    fn turn(&self, key: u8) -> (Turn<'_, u8, u8>, u32) {
        let (mut caller, mut looks) = (self.flights.join(key), 0);
        let turn = block_on(poll_fn(|cx| {
            looks += 1;
            caller.poll_turn(&self.mark, TERM, cx)
        }));
        (turn, looks)
    }

    /// The work: nobody else may be at it.
    fn work(&self, invariant: &str) {
        event("works");
        assert_eq!(self.working.add(), 1, "{invariant}: two work on one key");
        self.topic.write();
        self.worked.add();
        self.working.take();
    }
}

/// Three ask at once; every attempt fails, so that each may have to lead in the end.
fn one_leader_per_key() {
    let shared = Arc::new(Shared::default());
    let ask = |shared: &Shared, who: u8| match shared.turn(1).0 {
        Turn::Lead(leader) => {
            sometimes("led");
            shared.work("one_leader_per_key");
            leader.fail(who);
        }
        Turn::Answer(_) => sometimes("followed"),
        Turn::Done => panic!("one_leader_per_key: done though nobody succeeded"),
    };
    let callers = [("caller a", 1), ("caller b", 2)].map(|(name, who)| {
        let shared = shared.clone();
        thread::spawn_named(name, move || ask(&shared, who))
    });
    ask(&shared, 3);
    for caller in callers {
        caller.join().unwrap();
    }
    assert!(
        shared.flights.is_empty(),
        "one_leader_per_key: a key is led by nobody"
    );
}

/// A follower hears how an attempt ended that it joined, from the one who made it: the answer was
/// there when it heard, and had not been given to everybody before it asked.
fn followers_get_the_leaders_answer() {
    let shared = Arc::new((Shared::default(), [(); 4].map(|()| Oracle::new())));
    let ask = |(shared, told): &(Shared, [Oracle; 4]), who: u8| {
        let told_before = told.each_ref().map(Oracle::count);
        match shared.turn(1).0 {
            Turn::Lead(leader) => {
                if told_before != [0; 4] {
                    sometimes("led after another");
                }
                shared.work("followers_get_the_leaders_answer");
                shared.ended.add_many(1 << who);
                leader.fail(who);
                told[usize::from(who)].set(1);
            }
            Turn::Answer(from) => {
                sometimes("followed");
                event(format!("hears from {from}"));
                let ended = shared.ended.count() >> from & 1 == 1;
                assert!(
                    from != who && ended && told_before[usize::from(from)] == 0,
                    "followers_get_the_leaders_answer: {who} asked when {told_before:?} had been told, and got the answer of {from}"
                );
            }
            Turn::Done => panic!("followers_get_the_leaders_answer: nobody succeeded"),
        }
    };
    let callers = [("caller a", 1), ("caller b", 2)].map(|(name, who)| {
        let shared = shared.clone();
        thread::spawn_named(name, move || ask(&shared, who))
    });
    ask(&shared, 3);
    for caller in callers {
        caller.join().unwrap();
    }
}

/// Three publishers need the topic. It is made once, and whoever reads the mark without a lock
/// sees what making it wrote.
fn success_is_not_repeated() {
    let shared = Arc::new(Shared::default());
    let ensure = |shared: &Shared| {
        if shared.mark.is_set(TERM) {
            sometimes("saw the mark");
        } else {
            match shared.turn(1).0 {
                Turn::Lead(leader) => {
                    shared.work("success_is_not_repeated");
                    leader.succeed(&shared.mark, TERM, 1);
                }
                Turn::Answer(_) => sometimes("followed"),
                Turn::Done => sometimes("was done when it asked"),
            }
        }
        assert_eq!(
            shared.topic.read(),
            1,
            "success_is_not_repeated: the topic was not made once"
        );
    };
    let publishers = ["publisher a", "publisher b"].map(|name| {
        let shared = shared.clone();
        thread::spawn_named(name, move || ensure(&shared))
    });
    ensure(&shared);
    for publisher in publishers {
        publisher.join().unwrap();
    }
    assert_eq!(
        shared.worked.count(),
        1,
        "success_is_not_repeated: worked so often"
    );
    let other = TERM + 1;
    assert!(
        !shared.mark.is_set(other) && !shared.mark.clear(other),
        "success_is_not_repeated: the mark stands for a term nobody worked for"
    );
    assert!(
        shared.mark.is_set(TERM) && shared.mark.clear(TERM) && !shared.mark.is_set(TERM),
        "success_is_not_repeated: the mark did not stand until it was cleared"
    );
}

/// One fails, and forgets what was made in an earlier term; the other asks until it has led itself, once
/// it has heard of the failure.
fn failure_is_not_remembered() {
    const EARLIER: u64 = TERM + 1;
    let shared = Arc::new(Shared::default());
    let mut cx = Context::from_waker(Waker::noop());
    let mut first = shared.flights.join(1);
    let Poll::Ready(Turn::Lead(leader)) = first.poll_turn(&shared.mark, EARLIER, &mut cx) else {
        panic!("failure_is_not_remembered: the first to ask does not lead")
    };
    leader.succeed(&shared.mark, EARLIER, 0);
    let failing = thread::spawn_named("failing", {
        let shared = shared.clone();
        move || {
            if let (Turn::Lead(leader), _) = shared.turn(1) {
                shared.work("failure_is_not_remembered");
                leader.fail(1);
                shared.ended.set(1);
            }
            shared.mark.clear(EARLIER);
        }
    });
    let failed_before = shared.ended.count() == 1;
    let mut turn = shared.turn(1).0;
    if let Turn::Answer(_) = turn {
        sometimes("followed a failure");
        assert!(
            !failed_before,
            "failure_is_not_remembered: an attempt that had failed before answers now"
        );
        turn = shared.turn(1).0;
    } else if failed_before {
        sometimes("asked after a failure");
    }
    match turn {
        Turn::Lead(leader) => {
            shared.work("failure_is_not_remembered");
            leader.succeed(&shared.mark, TERM, 3);
        }
        Turn::Answer(_) | Turn::Done => {
            panic!("failure_is_not_remembered: asked after the failure and may not lead")
        }
    }
    failing.join().unwrap();
    // Cleared, not looked at: what reads and writes in one step sees the last that was written.
    assert!(
        shared.mark.clear(TERM) && shared.flights.is_empty(),
        "failure_is_not_remembered: the success after it is forgotten"
    );
}

/// A leader is dropped at its work, and so is the first that follows it, when it has just got the
/// duty. One of two others must get it. A lost duty is a deadlock.
fn cancelled_leader_hands_over() {
    let shared = Arc::new(Shared::default());
    let (Turn::Lead(leader), _) = shared.turn(1) else {
        panic!("cancelled_leader_hands_over: the first to ask does not lead")
    };
    let mut impatient = shared.flights.join(1);
    let mut cx = Context::from_waker(Waker::noop());
    let turn = impatient.poll_turn(&shared.mark, TERM, &mut cx);
    assert!(
        turn.is_pending(),
        "cancelled_leader_hands_over: an answer though nobody finished"
    );
    let patient = [("patient a", 1), ("patient b", 2)].map(|(name, who)| {
        let shared = shared.clone();
        thread::spawn_named(name, move || match shared.turn(1) {
            (Turn::Lead(leader), looks) => {
                sometimes(if looks > 1 {
                    "handed over"
                } else {
                    "came when all were gone"
                });
                shared.work("cancelled_leader_hands_over");
                leader.succeed(&shared.mark, TERM, who);
            }
            (Turn::Answer(from), _) => assert_ne!(
                from, who,
                "cancelled_leader_hands_over: its own answer though it did not lead"
            ),
            (Turn::Done, _) => {}
        })
    });
    shared.work("cancelled_leader_hands_over");
    event("is cancelled");
    drop(leader);
    event("gives up following");
    drop(impatient);
    for patient in patient {
        patient.join().unwrap();
    }
    assert_eq!(
        (shared.worked.count(), shared.flights.is_empty()),
        (2, true),
        "cancelled_leader_hands_over: times worked, and whether the key is free"
    );
}

/// A leader panics while two follow. One of them leads then, and the other hears how it ended.
fn panicking_leader_frees_its_followers() {
    let shared = Arc::new(Shared::default());
    let panicking = thread::spawn_named("panicking", {
        let shared = shared.clone();
        move || {
            if let (Turn::Lead(leader), _) = shared.turn(1) {
                event("panics");
                abandon(leader);
            }
        }
    });
    let follow = |shared: &Shared, who: u8| match shared.turn(1) {
        (Turn::Lead(leader), looks) => {
            if looks > 1 {
                sometimes("handed over");
            }
            shared.work("panicking_leader_frees_its_followers");
            leader.succeed(&shared.mark, TERM, who);
        }
        (Turn::Answer(from), _) => assert!(
            from != who && from != 1,
            "panicking_leader_frees_its_followers: an answer from {from}"
        ),
        (Turn::Done, _) => {}
    };
    let follower = thread::spawn_named("follower", {
        let shared = shared.clone();
        move || follow(&shared, 2)
    });
    follow(&shared, 3);
    panicking.join().unwrap();
    follower.join().unwrap();
    assert_eq!(
        shared.worked.count(),
        1,
        "panicking_leader_frees_its_followers: worked so often"
    );
}

/// Two topics on one stream: each change is its own key, and nobody takes the other's answer.
fn key_names_the_work() {
    let shared = Arc::new((Flights::new(), [(); 3].map(|()| Mark::new())));
    let ensure = |(flights, marks): &(Flights, [Mark; 3]), key: u8| {
        let mark = &marks[usize::from(key)];
        let mut caller = flights.join(key);
        match block_on(poll_fn(|cx| caller.poll_turn(mark, TERM, cx))) {
            Turn::Lead(leader) => {
                event(format!("ensures {key}"));
                leader.succeed(mark, TERM, key);
            }
            Turn::Answer(ensured) => {
                sometimes("followed on its key");
                assert_eq!(
                    ensured, key,
                    "key_names_the_work: the answer to another key's work"
                );
            }
            Turn::Done => {}
        }
        assert!(
            mark.is_set(TERM),
            "key_names_the_work: {key} is reported ensured and is not"
        );
    };
    let callers = [("topic 1", 1), ("topic 2", 2)].map(|(name, key)| {
        let shared = shared.clone();
        thread::spawn_named(name, move || ensure(&shared, key))
    });
    ensure(&shared, 1);
    for caller in callers {
        caller.join().unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::super::engine::{check, find};
    use super::MODELS;

    #[test]
    fn one_leader_per_key() {
        check(find(MODELS, "one_leader_per_key"));
    }

    #[test]
    fn followers_get_the_leaders_answer() {
        check(find(MODELS, "followers_get_the_leaders_answer"));
    }

    #[test]
    fn success_is_not_repeated() {
        check(find(MODELS, "success_is_not_repeated"));
    }

    #[test]
    fn failure_is_not_remembered() {
        check(find(MODELS, "failure_is_not_remembered"));
    }

    #[test]
    fn cancelled_leader_hands_over() {
        check(find(MODELS, "cancelled_leader_hands_over"));
    }

    #[test]
    fn panicking_leader_frees_its_followers() {
        check(find(MODELS, "panicking_leader_frees_its_followers"));
    }

    #[test]
    fn key_names_the_work() {
        check(find(MODELS, "key_names_the_work"));
    }
}
