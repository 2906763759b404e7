//! The promises of a partition's log, each with a case, and all of them under random use.

use super::*;
use proptest::prelude::*;

fn number(sequence: u64) -> Number {
    Number {
        producer: 7,
        sequence,
    }
}

/// What was sent as the n-th is its own number.
fn append(log: &mut Log<u64>, sequence: u64) -> Result<Appended, NotAppended> {
    let at = Duration::from_secs(sequence);
    log.append(number(sequence), at, sequence)
}

fn of(count: u64) -> Log<u64> {
    let mut log = Log::default();
    for sequence in 0..count {
        append(&mut log, sequence).expect("in order");
    }
    log
}

fn offsets(log: &Log<u64>, from: u64) -> Vec<u64> {
    let fetched = log.fetch(from, usize::MAX).expect("it is there");
    fetched.records.into_iter().map(|(at, _)| at).collect()
}

#[test]
fn what_is_sent_again_is_stored_once() {
    let mut log = of(3);
    let again = append(&mut log, 1).expect("known");
    assert_eq!((again.offset, again.duplicate), (1, true));
    assert_eq!(log.end(), 3);
    let expected = 3;
    assert_eq!(
        append(&mut log, 5),
        Err(NotAppended::OutOfOrder { expected })
    );
    assert_eq!(append(&mut log, 3).map(|it| it.offset), Ok(3));
    log.replicated(4);
    for sequence in 4..100 {
        append(&mut log, sequence).expect("in order");
        log.replicated(log.end());
    }
    assert_eq!(append(&mut log, 2), Err(NotAppended::LongAgo));
    let other = Number {
        producer: 8,
        sequence: 40,
    };
    let at = log.append(other, Duration::ZERO, 0).map(|it| it.offset);
    assert_eq!(at, Ok(100), "one that is new begins where it likes");
}

#[test]
fn a_new_leader_has_what_is_safe_and_numbers_go_on_from_there() {
    let mut log = of(4);
    log.replicated(2);
    assert_eq!(offsets(&log, 0), [0, 1], "nobody sees what is not safe");
    log.lead(0);
    assert_eq!((log.end(), log.term()), (2, 2));
    let expected = 2;
    assert_eq!(
        append(&mut log, 3),
        Err(NotAppended::OutOfOrder { expected })
    );
    assert_eq!(append(&mut log, 2).map(|it| it.offset), Ok(2));
    assert_eq!(append(&mut log, 3).map(|it| it.offset), Ok(3));
    log.lead(3);
    assert_eq!(log.end(), 3, "it had one more");
    log.replicated(9);
    assert!(log.is_safe(2) && !log.is_safe(3));
}

/// A resend must be known though many have come behind it, as long as none of them is safe.
#[test]
fn what_a_new_leader_may_not_have_is_not_forgotten() {
    let mut log = of(2 * REMEMBERED as u64);
    log.lead(3);
    assert_eq!(append(&mut log, 2).map(|it| it.duplicate), Ok(true));
    assert_eq!(append(&mut log, 3).map(|it| it.duplicate), Ok(false));
}

#[test]
fn readers_go_over_what_is_no_envelope() {
    let mut log = of(2);
    assert_eq!(log.mark(), 2);
    append(&mut log, 2).expect("in order");
    assert_eq!(log.mark(), 4);
    log.replicated(5);
    assert!(log.compact(0) && !log.compact(0));
    let fetched = log.fetch(0, 1).expect("it is there");
    assert_eq!((fetched.records, fetched.next), (vec![(1, 1)], 3));
    let fetched = log.fetch(2, 9).expect("it is there");
    assert_eq!((fetched.records, fetched.next), (vec![(3, 2)], 5));
    let fetched = log.fetch(4, 9).expect("it is there");
    assert_eq!((fetched.records, fetched.next), (vec![], 5));
}

#[test]
fn what_is_not_kept_is_out_of_range() {
    let mut log = of(6);
    log.replicated(4);
    log.retain(9);
    let nowhere = Err(OutOfRange { first: 4, end: 4 });
    assert_eq!(log.fetch(3, 1), nowhere);
    assert_eq!(log.fetch(5, 1), nowhere);
    assert_eq!(log.first(), 4, "what is not safe is kept");
    assert_eq!(offsets(&log, 4), [0; 0]);
}

#[test]
fn a_time_finds_the_first_that_was_stored_then_or_later() {
    let mut log = of(5);
    log.replicated(4);
    log.mark();
    let found = [0, 2, 3, 4].map(|at| log.since(Duration::from_secs(at)));
    assert_eq!(found, [Some(0), Some(2), Some(3), None]);
}

#[derive(Clone, Debug)]
enum Step {
    Send,
    Resend(u64),
    Mark,
    Replicate(u64),
    Lead(u64),
    Read,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Send),
        3 => (0..8_u64).prop_map(Step::Resend),
        1 => Just(Step::Mark),
        3 => (0..6_u64).prop_map(Step::Replicate),
        1 => (0..6_u64).prop_map(Step::Lead),
        2 => Just(Step::Read),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    /// A client that sends the oldest that is not safe again after each new leader: whatever happens, what was safe once stays where it is,
    /// and each is there once and in order.
    #[test]
    fn what_was_safe_stays_and_is_there_once(steps in steps()) {
        let mut log: Log<u64> = Log::default();
        let (mut sent, mut read) = (0, Vec::new());
        for step in steps {
            match step {
                Step::Send => {
                    let refused = append(&mut log, sent).is_err();
                    prop_assert!(!refused, "in order");
                    sent += 1;
                }
                Step::Resend(back) => {
                    if let Some(sequence) = sent.checked_sub(back + 1) {
                        let answer = append(&mut log, sequence);
                        prop_assert!(!matches!(answer, Ok(Appended { duplicate: false, .. })), "stored twice");
                    }
                }
                Step::Mark => { log.mark(); }
                Step::Replicate(more) => log.replicated(log.readable() + more),
                Step::Lead(more) => {
                    log.lead(log.readable() + more);
                    let all = log.entries.values();
                    let kept = all.filter(|entry| matches!(entry, Entry::Record { .. })).count() as u64;
                    for sequence in kept..sent {
                        prop_assert_eq!(append(&mut log, sequence).map(|it| it.duplicate), Ok(false));
                    }
                }
                Step::Read => {
                    let now = log.fetch(0, usize::MAX).expect("nothing is deleted").records;
                    prop_assert!(now.starts_with(&read), "{now:?} after {read:?}");
                    read = now;
                }
            }
            let values: Vec<u64> = log.fetch(0, usize::MAX).expect("kept").records.into_iter().map(|(_, value)| value).collect();
            let wanted: Vec<u64> = (0..values.len() as u64).collect();
            prop_assert_eq!(values, wanted);
        }
    }
}
