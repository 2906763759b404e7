use super::*;
use proptest::prelude::*;

const LONG: Duration = Duration::from_secs(20);

/// A register.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Register(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Write(u8, u32),
    Read(u8),
}

impl Op {
    fn key(&self) -> u8 {
        match *self {
            Self::Write(key, _) | Self::Read(key) => key,
        }
    }
}

impl Spec for Register {
    type Op = Op;
    type Ret = u32;

    fn step(&self, op: &Op, ret: Option<&u32>) -> Option<Self> {
        match *op {
            Op::Write(_, value) => Some(Self(value)),
            Op::Read(_) => ret.is_none_or(|&ret| ret == self.0).then(|| self.clone()),
        }
    }

    fn promise(&self, _: &Op, _: Option<&u32>) -> &'static str {
        "reads_the_last_write"
    }
}

type RegisterCall = Call<Op, u32>;

fn call(begin: u64, end: u64, op: Op, ret: u32) -> RegisterCall {
    Call {
        process: 0,
        op,
        begin,
        end: Some((end, ret)),
    }
}

fn open(begin: u64, op: Op) -> RegisterCall {
    Call {
        process: 0,
        op,
        begin,
        end: None,
    }
}

fn judge(calls: &[RegisterCall]) -> Answer {
    check(&Register::default(), calls, LONG)
}

#[test]
fn calls_one_after_the_other_have_their_own_order() {
    let calls = [call(1, 2, Op::Write(0, 5), 0), call(3, 4, Op::Read(0), 5)];
    assert_eq!(judge(&calls), Answer::Linear);
    assert_eq!(judge(&[]), Answer::Linear);
}

#[test]
fn overlapping_calls_may_take_either_order() {
    for seen in [0, 5] {
        let calls = [
            call(1, 4, Op::Write(0, 5), 0),
            call(2, 3, Op::Read(0), seen),
        ];
        assert_eq!(judge(&calls), Answer::Linear, "{seen}");
    }
}

#[test]
fn a_stale_read_is_named_with_the_longest_order_before_it() {
    let calls = [
        call(1, 2, Op::Write(0, 5), 0),
        call(3, 4, Op::Read(0), 5),
        call(5, 6, Op::Read(0), 0),
    ];
    let expected = Counterexample {
        explained: vec![0, 1],
        stuck: 2,
        promise: "reads_the_last_write",
    };
    assert_eq!(judge(&calls), Answer::Broken(expected));
}

#[test]
fn two_readers_may_not_disagree_on_the_order_of_writes() {
    let calls = [
        call(1, 10, Op::Write(0, 1), 0),
        call(2, 11, Op::Write(0, 2), 0),
        call(3, 4, Op::Read(0), 1),
        call(5, 6, Op::Read(0), 2),
        call(7, 8, Op::Read(0), 1),
    ];
    assert!(matches!(judge(&calls), Answer::Broken(found) if found.stuck == 4));
    assert_eq!(judge(&calls[..4]), Answer::Linear);
}

#[test]
fn a_call_that_nobody_heard_of_may_take_effect_at_any_later_time_or_never() {
    let unheard = open(1, Op::Write(0, 7));
    for seen in [0, 7] {
        let calls = [unheard.clone(), call(2, 3, Op::Read(0), seen)];
        assert_eq!(judge(&calls), Answer::Linear, "{seen}");
    }
    let late = [
        unheard.clone(),
        call(2, 3, Op::Read(0), 0),
        call(4, 5, Op::Read(0), 7),
    ];
    assert_eq!(judge(&late), Answer::Linear);
    let twice = [
        unheard.clone(),
        call(2, 3, Op::Read(0), 7),
        call(4, 5, Op::Write(0, 8), 0),
        call(6, 7, Op::Read(0), 7),
    ];
    assert!(
        matches!(judge(&twice), Answer::Broken(_)),
        "it takes effect once"
    );
    let early = [call(1, 2, Op::Read(0), 7), open(3, Op::Write(0, 7))];
    assert!(
        matches!(judge(&early), Answer::Broken(_)),
        "not before it begins"
    );
}

#[test]
fn past_the_deadline_nothing_is_claimed() {
    let good = [call(1, 2, Op::Write(0, 5), 0), call(3, 4, Op::Read(0), 5)];
    assert_eq!(
        check(&Register::default(), &good, Duration::ZERO),
        Answer::Unknown
    );
    let by_key = check_by_key(&Register::default(), &good, Op::key, Duration::ZERO);
    assert_eq!(by_key, Answer::Unknown);
}

/// Thirty writes at once and a read of none of them: more orders than anybody can try.
#[test]
fn a_hopeless_search_gives_up_in_time() {
    let mut calls: Vec<_> = (0..30)
        .map(|n| call(n + 1, 1000, Op::Write(0, n as u32 + 1), 0))
        .collect();
    calls.push(call(500, 1001, Op::Read(0), 99));
    let begun = Instant::now();
    let answer = check(&Register::default(), &calls, Duration::from_millis(200));
    assert_eq!(answer, Answer::Unknown);
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn keys_are_objects_of_their_own() {
    let calls = [
        call(1, 2, Op::Write(0, 5), 0),
        call(3, 4, Op::Read(1), 0),
        call(5, 6, Op::Read(0), 5),
    ];
    assert!(
        matches!(judge(&calls), Answer::Broken(_)),
        "as one object they have no order"
    );
    let answer = check_by_key(&Register::default(), &calls, Op::key, LONG);
    assert_eq!(answer, Answer::Linear);
    let mut broken = calls.to_vec();
    broken.push(call(7, 8, Op::Read(1), 5));
    let answer = check_by_key(&Register::default(), &broken, Op::key, LONG);
    assert!(
        matches!(answer, Answer::Broken(found) if found.stuck == 3),
        "places in the whole"
    );
}

/// Each call takes effect at a moment of its own inside its interval, so there is an order.
fn lawful(plan: &[(u8, bool, u8, u8, u8)]) -> Vec<RegisterCall> {
    let mut points = Vec::new();
    let mut clock = [0_u64; 4];
    for (n, &(key, write, wait, before, after)) in plan.iter().enumerate() {
        let process = n % clock.len();
        let begin = clock[process] + 1 + u64::from(wait);
        let point = begin + u64::from(before);
        let end = point + u64::from(after) + 1;
        clock[process] = end;
        let op = if write {
            Op::Write(key % 2, n as u32 + 1)
        } else {
            Op::Read(key % 2)
        };
        points.push((
            point,
            n,
            Call {
                process,
                op,
                begin,
                end: Some((end, 0)),
            },
        ));
    }
    let mut order: Vec<_> = (0..points.len()).collect();
    order.sort_by_key(|&n| (points[n].0, n));
    let mut values = [0_u32; 2];
    for n in order {
        let call = &mut points[n].2;
        let value = &mut values[usize::from(call.op.key())];
        match call.op {
            Op::Write(_, written) => *value = written,
            Op::Read(_) => call.end.as_mut().unwrap().1 = *value,
        }
    }
    points.into_iter().map(|(_, _, call)| call).collect()
}

/// By trying every order: slow, and too simple to be wrong.
fn has_an_order(calls: &[RegisterCall], state: &Register, left: &[usize]) -> bool {
    left.is_empty()
        || left.iter().any(|&next| {
            let call = &calls[next];
            let others: Vec<_> = left
                .iter()
                .copied()
                .filter(|&other| other != next)
                .collect();
            let first = others.iter().all(|&other| {
                calls[other]
                    .end
                    .as_ref()
                    .is_none_or(|&(end, _)| end >= call.begin)
            });
            let after = state.step(&call.op, call.end.as_ref().map(|(_, ret)| ret));
            first && after.is_some_and(|after| has_an_order(calls, &after, &others))
        })
}

type Plan = Vec<(u8, bool, u8, u8, u8)>;

fn plan(calls: usize) -> impl Strategy<Value = Plan> {
    let call = (0..2_u8, any::<bool>(), 0..8_u8, 0..16_u8, 0..16_u8);
    prop::collection::vec(call, 1..calls)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_took_effect_in_an_order_has_one(plan in plan(60)) {
        let calls = lawful(&plan);
        let answer = check_by_key(&Register::default(), &calls, Op::key, LONG);
        prop_assert_eq!(answer, Answer::Linear);
    }

    #[test]
    fn the_search_agrees_with_trying_everything(plan in plan(7), wrong in any::<prop::sample::Index>(), value in 0..4_u32) {
        let mut calls = lawful(&plan);
        let wrong = wrong.index(calls.len());
        calls[wrong].end.as_mut().unwrap().1 = value;
        let all: Vec<_> = (0..calls.len()).collect();
        let expected = has_an_order(&calls, &Register::default(), &all);
        let answer = judge(&calls);
        prop_assert_eq!(answer == Answer::Linear, expected, "{:?}", answer);
    }
}
