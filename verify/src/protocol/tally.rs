//! Spec of `src/protocol/tally.rs`: counters as if only one thread existed.
//!
//! Everything is counted by one, so whatever a reader saw lies between two counts that were. What
//! a window reader has been told so far is recorded as the total that it claims.

use super::subject::engine::thread;
use super::subject::tally::{Tally, Window};
use clearway_verify::linear::Spec;
use clearway_verify::protocol::{CallOf, CallsOf, Checked, Protocol, explore};
use proptest::prelude::*;
use std::sync::Arc;

/// The protocol's name.
pub const NAME: &str = "tally";

/// Runs `programs` generated programs against the tally.
pub fn histories(programs: u32, seed: u64) -> Checked {
    explore::<TallyCalls>(programs, seed)
}

/// Counted first, of the pair.
const BEGUN: usize = 0;
/// Counted after it.
const ENDED: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Add(usize),
    Total(usize),
    /// What this thread's windows came to, with the one that was read now.
    Windows(usize),
}

/// What a reader was told; 0 for an addition.
type Ret = u64;

#[derive(Clone, Default, PartialEq, Eq, Hash)]
struct TallySpec(u64);

impl Spec for TallySpec {
    type Op = Op;
    type Ret = Ret;

    fn step(&self, op: &Op, ret: Option<&Ret>) -> Option<Self> {
        match op {
            Op::Add(_) => Some(Self(self.0 + 1)),
            Op::Total(_) | Op::Windows(_) => {
                ret.is_none_or(|told| *told == self.0).then(|| self.clone())
            }
        }
    }

    fn promise(&self, op: &Op, _: Option<&Ret>) -> &'static str {
        match op {
            Op::Windows(_) => "sum_of_windows_is_the_total",
            _ => "monotone",
        }
    }
}

/// One thing a thread does.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Counts a beginning and its end; the end perhaps on another thread.
    Count {
        handed_on: bool,
    },
    Total(usize),
    Pair,
    Window(usize),
}

struct TallyCalls;

impl Protocol for TallyCalls {
    const NAME: &'static str = NAME;
    const GOALS: &'static [&'static str] = &["counted", "a total above zero", "windows above zero"];
    const PANIC: &'static str = "monotone";
    type Spec = TallySpec;
    type Program = Vec<Vec<Act>>;

    fn programs() -> BoxedStrategy<Self::Program> {
        let counter = prop_oneof![Just(BEGUN), Just(ENDED)];
        let act = prop_oneof![
            4 => any::<bool>().prop_map(|handed_on| Act::Count { handed_on }),
            1 => counter.clone().prop_map(Act::Total),
            2 => Just(Act::Pair),
            2 => counter.prop_map(Act::Window),
        ];
        let thread = prop::collection::vec(act, 1..4);
        prop::collection::vec(thread, 2..4).boxed()
    }

    fn start(_: &Self::Program) -> TallySpec {
        TallySpec::default()
    }

    fn run(program: &Self::Program, calls: &CallsOf<Self>) -> Result<(), String> {
        let tally = Arc::new(Tally::new());
        let threads: Vec<_> = (1..)
            .zip(program.clone())
            .map(|(process, acts)| {
                let (tally, calls) = (tally.clone(), calls.clone());
                thread::spawn(move || {
                    let mut reader = Reader::default();
                    let done: Result<Vec<()>, String> = acts
                        .iter()
                        .map(|act| step(&tally, *act, &mut reader, process, &calls))
                        .collect();
                    (process, reader, done)
                })
            })
            .collect();
        for thread in threads {
            let (process, mut reader, done) = thread
                .join()
                .map_err(|_| "monotone: a thread panicked".to_owned())?;
            done?;
            // Nobody counts any more: what a reader has been told must be all there is.
            for counter in [BEGUN, ENDED] {
                window(&tally, counter, &mut reader, process, calls);
                total(&tally, counter, process, calls);
            }
        }
        Ok(())
    }

    fn part(op: &Op) -> u64 {
        let (Op::Add(counter) | Op::Total(counter) | Op::Windows(counter)) = op;
        *counter as u64
    }

    fn goal(call: &CallOf<Self>) -> Option<&'static str> {
        Some(match (call.op, call.end?.1) {
            (Op::Add(_), _) => "counted",
            (Op::Total(_), 1..) => "a total above zero",
            (Op::Windows(_), 1..) => "windows above zero",
            _ => return None,
        })
    }

    fn hang(_: &[CallOf<Self>]) -> &'static str {
        "monotone"
    }
}

/// A thread's windows, and what they came to so far.
#[derive(Default)]
struct Reader {
    windows: [Window; 2],
    told: [u64; 2],
}

fn step(
    tally: &Arc<Tally<2>>,
    act: Act,
    reader: &mut Reader,
    process: usize,
    calls: &CallsOf<TallyCalls>,
) -> Result<(), String> {
    match act {
        Act::Count { handed_on } => {
            add(tally, BEGUN, process, calls);
            let end = {
                let (tally, calls) = (tally.clone(), calls.clone());
                move || add(&tally, ENDED, process, &calls)
            };
            if handed_on {
                // A thread that dies here fails the run by its own message.
                _ = thread::spawn(end).join();
            } else {
                end();
            }
        }
        Act::Total(counter) => total(tally, counter, process, calls),
        Act::Window(counter) => window(tally, counter, reader, process, calls),
        Act::Pair => {
            let opened = calls.begin(process, Op::Total(ENDED));
            let (begun, ended) = tally.read_pair(BEGUN, ENDED);
            calls.end_together(opened, ended, [(Op::Total(BEGUN), begun)]);
            if ended > begun {
                return Err(format!(
                    "pairs_are_read_together: {ended} ended of {begun} begun"
                ));
            }
        }
    }
    Ok(())
}

fn add(tally: &Tally<2>, counter: usize, process: usize, calls: &CallsOf<TallyCalls>) {
    calls.call(process, Op::Add(counter), || (tally.add(counter, 1), 0));
}

fn total(tally: &Tally<2>, counter: usize, process: usize, calls: &CallsOf<TallyCalls>) {
    calls.call(process, Op::Total(counter), || ((), tally.total(counter)));
}

fn window(
    tally: &Tally<2>,
    counter: usize,
    reader: &mut Reader,
    process: usize,
    calls: &CallsOf<TallyCalls>,
) {
    calls.call(process, Op::Windows(counter), || {
        let gained = tally.window(counter, &mut reader.windows[counter]);
        reader.told[counter] = reader.told[counter].wrapping_add(gained);
        ((), reader.told[counter])
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_history_has_a_sequential_explanation() {
        let checked = histories(150, 1);
        assert_eq!(checked.complaint(), None, "{checked:#?}");
    }
}
