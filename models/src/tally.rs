//! Model of `src/protocol/tally.rs`. Each test is named after the invariant it checks.

use super::engine::{Model, event, sometimes, thread};
use super::tally::{Tally, Window};
use std::sync::Arc;

/// One model for each invariant.
pub const MODELS: &[Model] = &[
    Model::new(
        "tally",
        "sum_of_windows_is_the_total",
        sum_of_windows_is_the_total,
    )
    .goals(&["some in the first window", "some in the last"]),
    Model::new("tally", "pairs_are_read_together", pairs_are_read_together)
        .goals(&["saw one settled", "saw one in flight"]),
    Model::new("tally", "monotone", monotone).goals(&["grew between two reads"]),
];

const BEGUN: usize = 0;
const SETTLED: usize = 1;

/// Three count, two of them in one row, while two readers look, each with windows of its own.
fn sum_of_windows_is_the_total() {
    let tally = Arc::new(Tally::<1>::new());
    let counters = [("one", 1), ("ten", 10)].map(|(name, amount)| {
        let tally = tally.clone();
        thread::spawn_named(name, move || tally.add(0, amount))
    });
    let (mut mine, mut other) = (Window::default(), Window::default());
    let first = tally.window(0, &mut mine);
    tally.add(0, 100);
    let second = tally.window(0, &mut mine);
    let theirs = tally.window(0, &mut other);
    for counter in counters {
        counter.join().unwrap();
    }
    let last = tally.window(0, &mut mine);
    if first > 0 {
        sometimes("some in the first window");
    }
    if last > 0 {
        sometimes("some in the last");
    }
    assert_eq!(
        (first + second + last, theirs + tally.window(0, &mut other)),
        (111, 111),
        "sum_of_windows_is_the_total: sums of the two readers, whose windows began with {first} and {theirs}"
    );
    assert_eq!(tally.total(0), 111, "sum_of_windows_is_the_total: lost");
}

/// Publishes begin and settle; whoever reads the pair never sees more settled than begun.
fn pairs_are_read_together() {
    let tally = Arc::new(Tally::<2>::new());
    let publishers = ["publisher a", "publisher b"].map(|name| {
        let tally = tally.clone();
        thread::spawn_named(name, move || {
            tally.add(BEGUN, 1);
            tally.add(SETTLED, 1);
        })
    });
    let (begun, settled) = tally.read_pair(BEGUN, SETTLED);
    event(format!("reads {begun} begun and {settled} settled"));
    assert!(
        settled <= begun,
        "pairs_are_read_together: {settled} settled of {begun} begun"
    );
    if settled > 0 {
        sometimes("saw one settled");
    }
    if settled < begun {
        sometimes("saw one in flight");
    }
    for publisher in publishers {
        publisher.join().unwrap();
    }
}

fn monotone() {
    let tally = Arc::new(Tally::<1>::new());
    let counters = ["one", "two"].map(|name| {
        let tally = tally.clone();
        thread::spawn_named(name, move || tally.add(0, 1))
    });
    let reads = [(); 3].map(|()| tally.total(0));
    assert!(
        reads.is_sorted() && reads[2] <= 2,
        "monotone: read {reads:?}"
    );
    if reads[0] < reads[2] {
        sometimes("grew between two reads");
    }
    for counter in counters {
        counter.join().unwrap();
    }
    assert_eq!(tally.total(0), 2, "monotone: the total in the end");
}

#[cfg(test)]
mod tests {
    use super::super::engine::{check, find};
    use super::MODELS;

    #[test]
    fn sum_of_windows_is_the_total() {
        check(find(MODELS, "sum_of_windows_is_the_total"));
    }

    #[test]
    fn pairs_are_read_together() {
        check(find(MODELS, "pairs_are_read_together"));
    }

    #[test]
    fn monotone() {
        check(find(MODELS, "monotone"));
    }
}
