//! Histories of a tiny queue that keeps every promise are accepted; one line removed, copied or
//! swapped is refused, where anybody could tell.

mod queue;

use clearway_verify::check::{self, Cause, Property, Verdict};
use clearway_verify::history::{Entry, Event, History, read_str};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use queue::{Step, legal, step};
use std::collections::{BTreeMap, BTreeSet};

/// Through the file format and back, so that the lines are what a reader would see.
fn judge(history: &History) -> Verdict {
    check::history(&read_str(&history.to_text()).expect("what is written reads back"))
}

fn refused(history: &History, why: &str) -> Result<Verdict, TestCaseError> {
    let verdict = judge(history);
    prop_assert!(
        !verdict.is_ok(),
        "{why} was accepted:\n{}",
        history.to_text()
    );
    Ok(verdict)
}

fn has(verdict: &Verdict, property: Property) -> bool {
    verdict
        .violations
        .iter()
        .any(|violation| violation.property == property)
}

/// The places of the lines that `wanted` wants.
fn places(history: &History, wanted: impl Fn(&Event) -> bool) -> Vec<usize> {
    let entries = history.entries.iter().enumerate();
    entries
        .filter(|(_, entry)| wanted(&entry.event))
        .map(|(place, _)| place)
        .collect()
}

fn deliveries(history: &History) -> Vec<usize> {
    places(history, |event| matches!(event, Event::Deliver(_)))
}

/// Puts the event of one line where another is, and leaves the clock alone.
fn swap_events(history: &mut History, a: usize, b: usize) {
    let event = history.entries[a].event.clone();
    history.entries[a].event = std::mem::replace(&mut history.entries[b].event, event);
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 30..120)
}

/// Runs of the queue that delivered something.
fn delivered() -> impl Strategy<Value = History> {
    let history = steps().prop_map(|steps| legal(&steps));
    history.prop_filter("nothing was delivered", |history| {
        !deliveries(history).is_empty()
    })
}

/// What is never generated is never accepted either.
#[test]
fn the_queue_does_everything_that_excuses_a_second_delivery() {
    let mut runner = TestRunner::deterministic();
    let mut causes = BTreeMap::new();
    let (mut rejected, mut unknown) = (0, 0);
    for _ in 0..100 {
        let steps = steps()
            .new_tree(&mut runner)
            .expect("nothing is filtered")
            .current();
        let counts = judge(&legal(&steps)).counts;
        rejected += counts.rejected;
        unknown += counts.unknown_delivered;
        for (cause, count) in counts.duplicates {
            *causes.entry(cause).or_insert(0) += count;
        }
    }
    for cause in [
        Cause::AmbiguousAttempt,
        Cause::Nack,
        Cause::RedeliveredAfterAck,
        Cause::NewOwnerAfterAck,
    ] {
        assert!(
            causes.contains_key(&cause),
            "{cause:?} never happened: {causes:?}"
        );
    }
    assert!(
        rejected > 0 && unknown > 0,
        "{rejected} rejected, {unknown} unknown and delivered"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_that_keeps_its_promises_is_accepted(steps in steps()) {
        let history = legal(&steps);
        let verdict = judge(&history);
        prop_assert!(verdict.is_ok(), "{verdict}\n{}", history.to_text());
        prop_assert!(verdict.not_judged.is_empty(), "{:?}", verdict.not_judged);
    }

    #[test]
    fn a_delivered_line_removed_is_refused(history in delivered(), which in any::<Index>()) {
        let mut history = history;
        let place = *which.get(&deliveries(&history));
        history.entries.remove(place);
        refused(&history, "a history without a delivery")?;
    }

    /// With the handler's end gone too, nothing but the loss can show - if it is one.
    #[test]
    fn an_envelope_that_never_arrived_is_lost(history in delivered(), which in any::<Index>()) {
        let mut history = history;
        let acked = places(&history, |event| matches!(event, Event::Acked(_)));
        prop_assume!(!acked.is_empty());
        let Event::Acked(acked) = history.entries[*which.get(&acked)].event.clone() else {
            unreachable!("chosen among the acked")
        };
        let id = format!("e{}", acked.op);
        let mut gone = Vec::new();
        for entry in &history.entries {
            if let Event::Deliver(deliver) = &entry.event && deliver.id == id {
                gone.push((deliver.partition, deliver.position));
            }
        }
        history.entries.retain(|Entry { event, .. }| match event {
            Event::Deliver(deliver) => deliver.id != id,
            Event::Settle(settle) => !gone.contains(&(settle.partition, settle.position)),
            _ => true,
        });
        let verdict = refused(&history, "a lost envelope")?;
        prop_assert!(has(&verdict, Property::Lost), "{verdict}");
    }

    #[test]
    fn a_delivered_line_copied_is_a_duplicate(history in delivered(), which in any::<Index>()) {
        let mut history = history;
        let place = *which.get(&deliveries(&history));
        history.entries.insert(place, history.entries[place].clone());
        let verdict = refused(&history, "a delivery without a cause")?;
        prop_assert!(has(&verdict, Property::Duplicate), "{verdict}");
    }

    /// Two handler runs of a partition in the wrong order, times and all.
    #[test]
    fn two_delivered_envelopes_swapped_are_out_of_order(history in delivered(), which in any::<Index>()) {
        let mut history = history;
        let first: Vec<usize> = {
            let mut seen = BTreeSet::new();
            deliveries(&history).into_iter().filter(|&place| {
                let Event::Deliver(deliver) = &history.entries[place].event else { return false };
                seen.insert((deliver.partition, deliver.position))
            }).collect()
        };
        let of = |place: usize| match &history.entries[place].event {
            Event::Deliver(deliver) => deliver.partition,
            _ => unreachable!("chosen among the deliveries"),
        };
        let pairs: Vec<(usize, usize)> = first.iter().enumerate().filter_map(|(n, &a)| {
            first[n + 1..].iter().find(|&&b| of(b) == of(a)).map(|&b| (a, b))
        }).collect();
        prop_assume!(!pairs.is_empty());
        let (a, b) = *which.get(&pairs);
        swap_events(&mut history, a, b);
        let verdict = refused(&history, "a partition out of order")?;
        prop_assert!(has(&verdict, Property::Order), "{verdict}");
    }

    #[test]
    fn two_lines_swapped_are_refused(history in delivered(), a in any::<Index>(), b in any::<Index>()) {
        let mut history = history;
        let (a, b) = (a.index(history.entries.len()), b.index(history.entries.len()));
        prop_assume!(a != b);
        history.entries.swap(a, b);
        let verdict = refused(&history, "a history that was cut up")?;
        prop_assert!(has(&verdict, Property::Record), "{verdict}");
    }

    #[test]
    fn an_outcome_removed_is_missing_and_one_copied_is_double(history in delivered(), which in any::<Index>()) {
        let outcome = |event: &Event| {
            matches!(event, Event::Acked(_) | Event::Rejected(_) | Event::Unknown(_))
        };
        let outcomes = places(&history, outcome);
        prop_assume!(!outcomes.is_empty());
        let place = *which.get(&outcomes);
        let mut without = history.clone();
        without.entries.remove(place);
        let verdict = refused(&without, "a publish without an outcome")?;
        prop_assert!(has(&verdict, Property::OutcomeMissing), "{verdict}");
        let mut twice = history;
        twice.entries.insert(place, twice.entries[place].clone());
        let verdict = refused(&twice, "a publish with two outcomes")?;
        prop_assert!(has(&verdict, Property::OutcomeDouble), "{verdict}");
    }
}
