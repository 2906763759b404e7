//! Model of `src/protocol/latch.rs`: a closed program for each invariant.

use super::engine::{Canary, Model, block_on, sometimes, thread};
use super::latch::Latch;
use std::future::poll_fn;
use std::sync::Arc;

/// One model for each invariant.
pub const MODELS: &[Model] = &[
    Model::new("latch", "opens_after_all_arrived", opens_after_all_arrived)
        .goals(&["waited", "open at once"]),
    Model::new("latch", "last_arrival_wakes", last_arrival_wakes)
        .goals(&["waited", "open at once"]),
];

/// Two others write what is theirs, and arrive; then it is the waiter's. A canary is memory without an atomic: who touches it too
/// early is seen.
fn opens_after_all_arrived() {
    let both = Arc::new((Latch::new(2), [Canary::new(), Canary::new()]));
    let others = ["first", "second"].into_iter().enumerate();
    let others = others.map(|(at, name)| {
        let both = both.clone();
        thread::spawn_named(name, move || {
            both.1[at].write();
            both.0.arrive();
        })
    });
    let others: Vec<_> = others.collect();
    wait(&both.0);
    assert!(
        both.1.iter().all(|canary| canary.read() == 1),
        "opens_after_all_arrived: it opened before somebody had arrived"
    );
    for other in others {
        other.join().unwrap();
    }
}

/// A lost wake is a deadlock, which the engines report.
fn last_arrival_wakes() {
    let latch = Arc::new(Latch::new(1));
    let other = thread::spawn_named("other", {
        let latch = latch.clone();
        move || latch.arrive()
    });
    wait(&latch);
    other.join().unwrap();
}

fn wait(latch: &Latch) {
    let mut looks = 0;
    block_on(poll_fn(|cx| {
        looks += 1;
        latch.poll_open(cx)
    }));
    sometimes(if looks > 1 { "waited" } else { "open at once" });
}

#[cfg(test)]
mod tests {
    use super::super::engine::{check, find};
    use super::MODELS;

    #[test]
    fn opens_after_all_arrived() {
        check(find(MODELS, "opens_after_all_arrived"));
    }

    #[test]
    fn last_arrival_wakes() {
        check(find(MODELS, "last_arrival_wakes"));
    }
}
