//! Model of `src/protocol/gate.rs`. Each test is named after the invariant it checks.

use super::engine::{Canary, Model, Oracle, block_on, event, sometimes, thread};
use super::gate::Gate;
use std::future::poll_fn;
use std::sync::Arc;

/// One model for each invariant.
pub const MODELS: &[Model] = &[
    Model::new("gate", "closed_admits_nobody", closed_admits_nobody)
        .goals(&["admitted while closing", "refused while closing"]),
    Model::new(
        "gate",
        "drained_means_nobody_inside",
        drained_means_nobody_inside,
    )
    .goals(&["published", "refused", "both published"])
    .bound(4),
    Model::new("gate", "last_one_out_wakes", last_one_out_wakes)
        .goals(&["the closer waited", "nobody was inside"])
        .bound(4),
    Model::new(
        "gate",
        "every_closer_sees_the_same_end",
        every_closer_sees_the_same_end,
    )
    .goals(&["two closers waited"])
    .bound(3),
];

/// A publisher comes while the gate closes, and again after it has closed, on another thread's
/// stripe too.
fn closed_admits_nobody() {
    let gate = Arc::new(Gate::new());
    let closed = Arc::new(Oracle::new());
    let publisher = thread::spawn_named("publisher", {
        let (gate, closed) = (gate.clone(), closed.clone());
        move || {
            for _ in 0..2 {
                let was_closed = closed.count() == 1;
                match gate.enter() {
                    Some(pass) => {
                        event("admitted");
                        sometimes("admitted while closing");
                        assert!(
                            !was_closed,
                            "closed_admits_nobody: admitted though close had returned before"
                        );
                        gate.leave(pass);
                    }
                    None => sometimes("refused while closing"),
                }
            }
        }
    });
    gate.close();
    closed.set(1);
    event("close returned");
    assert!(
        gate.enter().is_none(),
        "closed_admits_nobody: the closer itself was admitted"
    );
    publisher.join().unwrap();
    assert!(
        gate.is_drained(),
        "closed_admits_nobody: a refused caller stayed counted"
    );
}

/// Two publishers use the session they were admitted to, while a closer drains the gate and then
/// takes the session away.
fn drained_means_nobody_inside() {
    let bus = Arc::new((Gate::new(), Canary::new(), Canary::new(), Oracle::new()));
    let publishers: Vec<_> = ["publisher a", "publisher b"]
        .into_iter()
        .zip(0..)
        .map(|(name, number)| {
            let bus = bus.clone();
            thread::spawn_named(name, move || {
                let (gate, first, second, inside) = &*bus;
                let Some(pass) = gate.enter() else {
                    return sometimes("refused");
                };
                inside.add();
                event("uses the session");
                sometimes("published");
                if number == 0 {
                    first.write()
                } else {
                    second.write()
                }
                inside.take();
                gate.leave(pass);
            })
        })
        .collect();
    let (gate, first, second, inside) = &*bus;
    gate.close();
    block_on(poll_fn(|cx| gate.poll_drained(cx)));
    event("takes the session away");
    assert!(
        inside.count() == 0,
        "drained_means_nobody_inside: somebody still uses the session"
    );
    first.write();
    second.write();
    for publisher in publishers {
        publisher.join().unwrap();
    }
    if first.read() + second.read() == 4 {
        sometimes("both published");
    }
}

/// The last publisher leaves just as the closer looks, on another thread than it came. A lost wake
/// is a deadlock.
fn last_one_out_wakes() {
    let gate = Arc::new(Gate::new());
    let pass = gate.enter();
    let last = thread::spawn_named("last", {
        let gate = gate.clone();
        move || {
            if let Some(pass) = pass {
                gate.leave(pass);
            }
        }
    });
    let publisher = thread::spawn_named("publisher", {
        let gate = gate.clone();
        move || {
            if let Some(pass) = gate.enter() {
                gate.leave(pass);
            }
        }
    });
    gate.close();
    let mut looks = 0;
    block_on(poll_fn(|cx| {
        looks += 1;
        gate.poll_drained(cx)
    }));
    sometimes(if looks > 1 {
        "the closer waited"
    } else {
        "nobody was inside"
    });
    publisher.join().unwrap();
    last.join().unwrap();
}

/// Two closers; neither may be told that all have left before the other could have been, and both
/// must be told.
fn every_closer_sees_the_same_end() {
    let bus = Arc::new((Gate::new(), Canary::new(), Oracle::new()));
    let (gate, session, waited) = &*bus;
    let pass = gate.enter();
    let close = |bus: &(Gate, Canary, Oracle)| {
        let (gate, session, waited) = bus;
        gate.close();
        let mut looks = 0;
        block_on(poll_fn(|cx| {
            looks += 1;
            gate.poll_drained(cx)
        }));
        if looks > 1 && waited.add() == 2 {
            sometimes("two closers waited");
        }
        assert!(
            session.read() == 1,
            "every_closer_sees_the_same_end: a closer was let go before the publisher was done"
        );
    };
    let closers = ["closer a", "closer b"].map(|name| {
        let bus = bus.clone();
        thread::spawn_named(name, move || close(&bus))
    });
    session.write();
    event("publisher is done");
    if let Some(pass) = pass {
        gate.leave(pass);
    }
    for closer in closers {
        closer.join().unwrap();
    }
    assert!(waited.count() <= 2 && gate.enter().is_none());
}

#[cfg(test)]
mod tests {
    use super::super::engine::{check, find};
    use super::MODELS;

    #[test]
    fn closed_admits_nobody() {
        check(find(MODELS, "closed_admits_nobody"));
    }

    #[test]
    fn drained_means_nobody_inside() {
        check(find(MODELS, "drained_means_nobody_inside"));
    }

    #[test]
    fn last_one_out_wakes() {
        check(find(MODELS, "last_one_out_wakes"));
    }

    #[test]
    fn every_closer_sees_the_same_end() {
        check(find(MODELS, "every_closer_sees_the_same_end"));
    }
}
