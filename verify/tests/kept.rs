//! The kept history of a run against a real server that was paused, killed and cut off: nothing is wrong in it, and
//! whoever spoils a line of it is told what is wrong and where.

use clearway_verify::check::{self, Property, Verdict, Violation};
use clearway_verify::history::{self, Entry, Event, History};
use std::collections::HashMap;
use std::path::Path;

fn kept() -> History {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("histories/nats-fault.jsonl");
    history::read(path).unwrap()
}

/// What the checker says of these entries, as if they stood in a file.
fn judge(spoilt: History) -> Verdict {
    let again = history::read_str(&spoilt.to_text()).unwrap();
    check::history(&again)
}

fn of(verdict: &Verdict, property: Property) -> Vec<&Violation> {
    let all = verdict.violations.iter();
    all.filter(|violation| violation.property == property)
        .collect()
}

/// A delivery's place in the file; topic, partition and position; and the envelope's id.
type Delivered<'h> = (usize, (&'h str, u32, u64), &'h str);

fn deliveries(history: &History) -> Vec<Delivered<'_>> {
    let each = history.entries.iter().enumerate();
    each.filter_map(|(n, entry)| match &entry.event {
        Event::Deliver(deliver) => {
            let at = (&*deliver.topic, deliver.partition, deliver.position);
            Some((n, at, &*deliver.id))
        }
        _ => None,
    })
    .collect()
}

/// Deliveries of envelopes that were delivered once, in the order of the file.
fn once(history: &History) -> Vec<Delivered<'_>> {
    let all = deliveries(history);
    let mut times = HashMap::new();
    for (_, _, id) in &all {
        *times.entry(*id).or_insert(0) += 1;
    }
    all.into_iter()
        .filter(|(_, _, id)| times[id] == 1)
        .collect()
}

/// Whether the publish of this envelope was acknowledged, and once.
fn acked_once(history: &History, id: &str) -> Option<u64> {
    let mut ops = history
        .entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Invoke(invoke) if invoke.id == id => Some(invoke.op),
            _ => None,
        });
    let (op, None) = (ops.next()?, ops.next()) else {
        return None;
    };
    let acked = |entry: &Entry| matches!(&entry.event, Event::Acked(acked) if acked.op == op);
    history.entries.iter().any(acked).then_some(op)
}

/// The line of an entry: the header is the first.
fn line(place: usize) -> usize {
    place + 2
}

#[test]
fn nothing_is_wrong_and_much_happened() {
    let verdict = judge(kept());
    assert!(verdict.is_ok(), "{verdict}");
    let counts = &verdict.counts;
    assert!(counts.ops >= 200 && counts.deliveries >= 200, "{verdict}");
    assert!(counts.faults >= 3 && counts.reconnects >= 3, "{verdict}");
    assert!(counts.rejected > 0 && counts.acked_again > 0, "{verdict}");
    assert!(counts.drained >= 2 && counts.closes == 2, "{verdict}");
    assert!(verdict.not_judged.is_empty(), "{verdict}");
    let header = verdict.header;
    assert!(
        header
            .server
            .is_some_and(|server| server.starts_with("nats-server "))
    );
    assert!(header.how.is_some());
}

#[test]
fn a_delivery_that_is_removed_is_lost() {
    let history = kept();
    let all = once(&history);
    for &(place, _, id) in all.iter().step_by(all.len() / 7) {
        let Some(op) = acked_once(&history, id) else {
            continue;
        };
        let mut spoilt = history.clone();
        spoilt.entries.remove(place);
        let verdict = judge(spoilt);
        let lost = of(&verdict, Property::Lost);
        assert_eq!(lost.len(), 1, "{verdict}");
        assert_eq!(
            (&*lost[0].ids, &*lost[0].ops),
            (&[id.to_owned()][..], &[op][..])
        );
        // Its handler's end stands alone now.
        assert_eq!(of(&verdict, Property::Record).len(), 1, "{verdict}");
        assert_eq!(verdict.total(), 2, "{verdict}");
    }
}

#[test]
fn a_delivery_that_is_doubled_is_a_duplicate() {
    let history = kept();
    let all = once(&history);
    for &(place, (topic, partition, position), id) in all.iter().step_by(all.len() / 7) {
        let mut spoilt = history.clone();
        spoilt.entries.insert(place, history.entries[place].clone());
        let verdict = judge(spoilt);
        let doubled = of(&verdict, Property::Duplicate);
        assert_eq!(doubled.len(), 1, "{verdict}");
        assert_eq!(doubled[0].lines, [line(place), line(place + 1)]);
        assert_eq!(doubled[0].ids, [id]);
        let told = format!("{topic}/{partition} at {position}");
        assert!(doubled[0].what.contains(&told), "{}", doubled[0]);
        assert_eq!(verdict.total(), 1, "{verdict}");
    }
}

#[test]
fn two_deliveries_that_are_swapped_are_out_of_order() {
    let history = kept();
    let (all, once) = (deliveries(&history), once(&history));
    let mut swapped = 0;
    for (first, at, one) in &once {
        // The next one of its partition, if both were delivered once.
        let mut behind = all.iter().filter(|next| next.0 > *first);
        let next = behind.find(|(_, other, _)| (other.0, other.1) == (at.0, at.1));
        let Some((second, _, two)) = next.filter(|next| once.contains(next)) else {
            continue;
        };
        let mut spoilt = history.clone();
        spoilt.entries.swap(*first, *second);
        // What they say changes places, not the clock.
        let clock = spoilt.entries[*first].at;
        spoilt.entries[*first].at = spoilt.entries[*second].at;
        spoilt.entries[*second].at = clock;
        let verdict = judge(spoilt);
        let order = of(&verdict, Property::Order);
        assert_eq!(order.len(), 1, "{verdict}");
        assert_eq!(order[0].lines, [line(*first), line(*second)]);
        assert_eq!(order[0].ids, [*two, *one]);
        swapped += 1;
    }
    assert!(swapped > 20, "{swapped} pairs");
}
