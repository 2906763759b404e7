//! Model of `src/protocol/interest.rs`. Each test is named after the invariant it checks.

use super::engine::{Canary, Model, Oracle, block_on, event, sometimes, thread};
use super::interest::{Interest, Waiter, Want};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

/// One model for each invariant.
pub const MODELS: &[Model] = &[
    Model::new(
        "interest",
        "consumed_becomes_desired",
        consumed_becomes_desired,
    )
    .goals(&["applied a part of it", "applied nothing yet"])
    .bound(5),
    Model::new("interest", "no_lost_wakeup", no_lost_wakeup)
        .goals(&["the consumer waited", "waited for it", "waited for its end"])
        .bound(3),
    Model::new("interest", "held_until_activated", held_until_activated)
        .goals(&["seen while it was held", "seen active"]),
    Model::new(
        "interest",
        "not_one_message_is_taken_while_held",
        not_one_message_is_taken_while_held,
    )
    .goals(&["both at once", "one by one", "waited", "looked"])
    .bound(3),
    Model::new(
        "interest",
        "restore_converges_on_desired",
        restore_converges_on_desired,
    )
    .goals(&["the lost one spoke before", "the lost one spoke late"]),
];

type Wants = BTreeMap<u64, Want>;

/// The consumer: what it goes by.
#[derive(Default)]
struct Consumer {
    version: u64,
    wants: Wants,
}

impl Consumer {
    /// One that goes by all that is wanted.
    fn of(interest: &Interest<u64>) -> Self {
        let mut consumer = Self::default();
        consumer.catch_up(interest, "consumed_becomes_desired");
        consumer
    }

    fn is_active(&self, key: u64) -> bool {
        self.wants.get(&key) == Some(&Want::Active)
    }

    fn given(&mut self, (version, wants): (u64, Wants)) {
        event(format!("goes by {version}: {wants:?}"));
        (self.version, self.wants) = (version, wants);
    }

    /// Applies what there is to apply, as the consumer's loop does. Whether there was something.
    fn look(&mut self, interest: &Interest<u64>, invariant: &str) -> bool {
        let changed = interest.changed();
        if changed {
            match interest.poll_change(&mut nobody()) {
                Poll::Ready(change) => self.given(change),
                Poll::Pending => panic!("{invariant}: behind, and there is nothing to apply"),
            }
            interest.applied(self.version);
        }
        changed
    }

    fn catch_up(&mut self, interest: &Interest<u64>, invariant: &str) {
        let caught_up = (0..9).any(|_| !self.look(interest, invariant));
        assert!(caught_up, "{invariant}: behind again and again");
    }
}

fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

/// Waits until `version` is applied, and says whether it is.
fn wait(interest: &Interest<u64>, version: u64, waited: &'static str) -> bool {
    let mut waiter = Waiter::default();
    let mut looks = 0;
    let applied = block_on(poll_fn(|cx| {
        looks += 1;
        interest.poll_applied(&mut waiter, version, cx)
    }));
    if looks > 1 {
        sometimes(waited);
    }
    applied
}

/// Whether `version` is applied by now.
fn is_applied(interest: &Interest<u64>, version: u64) -> bool {
    let mut waiter = Waiter::default();
    let applied = interest.poll_applied(&mut waiter, version, &mut nobody());
    interest.cancel(&mut waiter);
    applied == Poll::Ready(true)
}

/// Two want and withdraw while the consumer applies. It says late, and out of order, what it has applied first.
fn consumed_becomes_desired() {
    let interest = Arc::new(Interest::new());
    interest.want(1, Want::Active);
    let mut consumer = Consumer::of(&interest);
    let first = consumer.version;
    let others = [
        thread::spawn_named("wants 2, withdraws 1", {
            let interest = interest.clone();
            move || {
                interest.want(2, Want::Active);
                interest.withdraw(&1);
            }
        }),
        thread::spawn_named("wants 3, pauses it", {
            let interest = interest.clone();
            move || {
                interest.want(3, Want::Active);
                interest.want(3, Want::Paused);
            }
        }),
    ];
    let behind = consumer.look(&interest, "consumed_becomes_desired");
    sometimes(if behind {
        "applied a part of it"
    } else {
        "applied nothing yet"
    });
    for other in others {
        other.join().unwrap();
    }
    consumer.catch_up(&interest, "consumed_becomes_desired");
    assert_eq!(
        consumer.wants,
        Wants::from([(2, Want::Active), (3, Want::Paused)]),
        "consumed_becomes_desired: at the end"
    );
    interest.applied(first);
    assert!(
        !interest.changed() && interest.want(2, Want::Active) == consumer.version,
        "consumed_becomes_desired: behind, and nothing has changed"
    );
}

/// A pause and a loss while the consumer waits. Who has paused waits for it, and then for what it will never apply. A lost
/// wake is a deadlock.
fn no_lost_wakeup() {
    let interest = Arc::new(Interest::new());
    let before = interest.want(1, Want::Active);
    nobody_is_left_behind(&interest, before);
    Consumer::of(&interest);
    let pauses = thread::spawn_named("pauses", {
        let interest = interest.clone();
        move || {
            let paused = interest.want(1, Want::Paused);
            assert!(
                wait(&interest, paused, "waited for it"),
                "no_lost_wakeup: told of the end, and it was applied"
            );
            assert!(
                !wait(&interest, before + 3, "waited for its end"),
                "no_lost_wakeup: told of what was not applied"
            );
        }
    });
    let loses = thread::spawn_named("loses the consumer", {
        let interest = interest.clone();
        move || interest.lost()
    });
    let mut consumer = Consumer::default();
    while consumer.version < before + 2 {
        let mut looks = 0;
        consumer.given(block_on(poll_fn(|cx| {
            looks += 1;
            interest.poll_change(cx)
        })));
        interest.applied(consumer.version);
        if looks > 1 {
            sometimes("the consumer waited");
        }
    }
    interest.end();
    pauses.join().unwrap();
    loses.join().unwrap();
}

/// Who waits has one place, however often it looks and for whichever task, and none when it has gone. Alone.
fn nobody_is_left_behind(interest: &Interest<u64>, version: u64) {
    struct Task;
    impl Wake for Task {
        fn wake(self: Arc<Self>) {}
    }
    let task = Arc::new(Task);
    let waker = Waker::from(task.clone());
    let mut waiters = [Waiter::default(), Waiter::default()];
    for waiter in &mut waiters {
        for waker in [Waker::noop(), &waker, &waker] {
            let answer = interest.poll_applied(waiter, version, &mut Context::from_waker(waker));
            assert!(answer.is_pending());
        }
    }
    let places = || Arc::strong_count(&task) - 2;
    assert_eq!(places(), 2, "no_lost_wakeup: places of two who wait");
    for (left, waiter) in [1, 0].into_iter().zip(&mut waiters) {
        interest.cancel(waiter);
        assert_eq!(places(), left, "no_lost_wakeup: places of who still waits");
    }
}

/// Two keys are held while one thread activates both, and a user resumes the one and pauses the other.
fn held_until_activated() {
    let interest = Arc::new(Interest::new());
    let handlers = Arc::new((Canary::new(), Oracle::new()));
    for key in [1, 2] {
        interest.want(key, Want::Held);
    }
    let activates = thread::spawn_named("activates", {
        let (interest, handlers) = (interest.clone(), handlers.clone());
        move || {
            let (made, begun) = &*handlers;
            made.write();
            begun.set(1);
            assert!(
                interest.activate(&1) && interest.activate(&2),
                "held_until_activated: both were held"
            );
        }
    });
    let user = thread::spawn_named("user", {
        let interest = interest.clone();
        move || {
            interest.want(1, Want::Active);
            interest.want(2, Want::Paused);
        }
    });
    let (made, begun) = &*handlers;
    let mut consumer = Consumer::default();
    consumer.look(&interest, "held_until_activated");
    if consumer.is_active(1) {
        assert!(
            begun.count() == 1,
            "held_until_activated: 1 is active, and nobody has activated it"
        );
        made.read();
        sometimes("seen active");
    } else {
        sometimes("seen while it was held");
    }
    user.join().unwrap();
    activates.join().unwrap();
    interest.want(3, Want::Held);
    interest.withdraw(&3);
    assert!(
        !interest.activate(&1) && !interest.activate(&2) && !interest.activate(&3),
        "held_until_activated: activated what was not held"
    );
    consumer.catch_up(&interest, "held_until_activated");
    assert_eq!(
        consumer.wants,
        Wants::from([(1, Want::Active), (2, Want::Paused)]),
        "held_until_activated: at the end"
    );
}

/// One thread holds a key and waits, another pauses the other key and looks. What the consumer has begun to take it takes to
/// its end before it says that it has applied that.
fn not_one_message_is_taken_while_held() {
    let interest = Arc::new(Interest::new());
    interest.want(1, Want::Active);
    interest.want(2, Want::Active);
    let mut consumer = Consumer::of(&interest);
    let taken = Arc::new([Canary::new(), Canary::new()]);
    let holds = thread::spawn_named("holds 1", {
        let (interest, taken) = (interest.clone(), taken.clone());
        move || {
            let stopped = interest.want(1, Want::Held);
            let applied = wait(&interest, stopped, "waited");
            assert!(applied, "not_one_message_is_taken_while_held: no end");
            taken[0].write();
        }
    });
    let pauses = thread::spawn_named("pauses 2", {
        let (interest, taken) = (interest.clone(), taken.clone());
        move || {
            let stopped = interest.want(2, Want::Paused);
            if is_applied(&interest, stopped) {
                taken[1].write();
                sometimes("looked");
            }
        }
    });
    let mut changes = 0;
    while consumer.is_active(1) || consumer.is_active(2) {
        let change = block_on(poll_fn(|cx| interest.poll_change(cx)));
        changes += 1;
        for (key, taken) in (1..).zip(&*taken) {
            if consumer.is_active(key) {
                taken.write();
            }
        }
        consumer.given(change);
        interest.applied(consumer.version);
    }
    sometimes(if changes == 1 {
        "both at once"
    } else {
        "one by one"
    });
    holds.join().unwrap();
    pauses.join().unwrap();
}

/// The consumer is lost with a change in its hands, and says late that it has applied it. Meanwhile more is wanted.
fn restore_converges_on_desired() {
    let interest = Arc::new(Interest::new());
    interest.want(1, Want::Active);
    interest.want(2, Want::Held);
    Consumer::of(&interest);
    let last = interest.want(3, Want::Paused);
    let spoke = Arc::new(Oracle::new());
    let lost = thread::spawn_named("lost consumer", {
        let (interest, spoke) = (interest.clone(), spoke.clone());
        move || {
            interest.applied(last);
            spoke.set(1);
        }
    });
    let user = thread::spawn_named("user", {
        let interest = interest.clone();
        move || interest.want(4, Want::Active)
    });
    interest.lost();
    sometimes(if spoke.count() == 1 {
        "the lost one spoke before"
    } else {
        "the lost one spoke late"
    });
    assert!(
        !is_applied(&interest, last),
        "restore_converges_on_desired: the new consumer has applied nothing yet"
    );
    let mut consumer = Consumer::default();
    assert!(
        consumer.look(&interest, "restore_converges_on_desired") && is_applied(&interest, last),
        "restore_converges_on_desired: the new consumer had nothing to apply"
    );
    lost.join().unwrap();
    let wanted = user.join().unwrap();
    assert!(
        interest.changed() == (consumer.version < wanted),
        "restore_converges_on_desired: whether the new consumer is behind"
    );
    consumer.catch_up(&interest, "restore_converges_on_desired");
    assert_eq!(
        consumer.wants.into_values().collect::<Vec<_>>(),
        [Want::Active, Want::Held, Want::Paused, Want::Active],
        "restore_converges_on_desired: at the end"
    );
}

#[cfg(test)]
mod tests {
    use super::super::engine::{check, find};
    use super::MODELS;

    #[test]
    fn consumed_becomes_desired() {
        check(find(MODELS, "consumed_becomes_desired"));
    }

    #[test]
    fn no_lost_wakeup() {
        check(find(MODELS, "no_lost_wakeup"));
    }

    #[test]
    fn held_until_activated() {
        check(find(MODELS, "held_until_activated"));
    }

    #[test]
    fn not_one_message_is_taken_while_held() {
        check(find(MODELS, "not_one_message_is_taken_while_held"));
    }

    #[test]
    fn restore_converges_on_desired() {
        check(find(MODELS, "restore_converges_on_desired"));
    }
}
