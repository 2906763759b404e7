//! Spec of `src/protocol/mode.rs`: the mode as if only one thread existed.
//!
//! Every call happens at one moment and has one answer, so the calls have an order that explains all of them.

use super::subject::engine::thread;
use super::subject::mode::{Change, Kind, Mode, Now, Thresholds};
use clearway_verify::linear::Spec;
use clearway_verify::protocol::{CallOf, CallsOf, Checked, Protocol, explore};
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// The protocol's name.
pub const NAME: &str = "mode";

/// Runs `programs` generated programs against the mode.
pub fn histories(programs: u32, seed: u64) -> Checked {
    explore::<ModeCalls>(programs, seed)
}

const ENTER_ABOVE: u64 = 5;
const LEAVE_BELOW: u64 = 2;

/// A lag and when it was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Measured {
    lag: u64,
    at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Observe(Measured),
    Look,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ret {
    Told(Option<(Kind, u64)>),
    Saw(Kind, u64),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct ModeSpec {
    hold: u64,
    changes: u64,
    /// No hold begins earlier: the latest time of a change, of a high lag in recovery and of a hold's beginning.
    least: u64,
    /// In recovery: since when the lag has been low.
    low_since: Option<u64>,
}

impl ModeSpec {
    /// What a measurement changes.
    fn observe(&mut self, Measured { lag, at }: Measured) -> Option<(Kind, u64)> {
        let low = lag <= LEAVE_BELOW;
        let changes = match kind_after(self.changes) {
            Kind::Normal if lag < ENTER_ABOVE => return None,
            Kind::Normal => true,
            Kind::Recovery if low => {
                self.least = self.low_since.unwrap_or(self.least.max(at));
                self.low_since = Some(self.least);
                at >= self.least + self.hold
            }
            Kind::Recovery => false,
        };
        if changes || !low {
            self.low_since = None;
            self.least = self.least.max(at);
        }
        changes.then(|| {
            self.changes += 1;
            (kind_after(self.changes), self.changes)
        })
    }
}

fn kind_after(changes: u64) -> Kind {
    match changes % 2 {
        0 => Kind::Normal,
        _ => Kind::Recovery,
    }
}

impl Spec for ModeSpec {
    type Op = Op;
    type Ret = Ret;

    fn step(&self, op: &Op, ret: Option<&Ret>) -> Option<Self> {
        let mut next = self.clone();
        let said = match *op {
            Op::Observe(measured) => Ret::Told(next.observe(measured)),
            Op::Look => Ret::Saw(kind_after(self.changes), self.changes),
        };
        ret.is_none_or(|ret| *ret == said).then_some(next)
    }

    fn promise(&self, op: &Op, ret: Option<&Ret>) -> &'static str {
        match (op, ret) {
            (Op::Look, Some(Ret::Saw(kind, number))) if *kind != kind_after(*number) => {
                "read_is_one_load"
            }
            (Op::Look, _) => "order_holds_across_a_change",
            // The next in number: whether it may be made now.
            (_, Some(Ret::Told(Some((_, number))))) if *number == self.changes + 1 => {
                "enter_above_leave_below"
            }
            _ => "each_change_seen_once",
        }
    }
}

/// What is measured first, by one; then what each detector measures, and how often each reader looks.
#[derive(Clone, Debug)]
struct Plan {
    hold: u64,
    before: Vec<Measured>,
    detectors: Vec<Vec<Measured>>,
    looks: Vec<usize>,
}

struct ModeCalls;

impl Protocol for ModeCalls {
    const NAME: &'static str = NAME;
    const GOALS: &'static [&'static str] = &[
        "entered",
        "left",
        "entered again",
        "changed nothing",
        "saw normal",
        "saw recovery",
        "saw normal again",
    ];
    const PANIC: &'static str = "each_change_seen_once";
    type Spec = ModeSpec;
    type Program = Plan;

    fn programs() -> BoxedStrategy<Plan> {
        let lag = prop_oneof![
            3 => 0..=LEAVE_BELOW,
            2 => LEAVE_BELOW + 1..ENTER_ABOVE,
            3 => ENTER_ABOVE..=ENTER_ABOVE + 1,
        ];
        let measured = (lag, 0..8u64).prop_map(|(lag, at)| Measured { lag, at });
        // Mostly in the order of their times.
        let measured = |count: Range<usize>| {
            let all = prop::collection::vec(measured.clone(), count);
            (all, prop::bool::weighted(0.75)).prop_map(|(mut all, in_order)| {
                if in_order {
                    all.sort_by_key(|measured| measured.at);
                }
                all
            })
        };
        let far = Measured {
            lag: ENTER_ABOVE,
            at: 0,
        };
        // Most begin in recovery, where there is more to go wrong.
        let before = (prop::bool::weighted(0.7), measured(0..3)).prop_map(move |(enter, more)| {
            let first = enter.then_some(far);
            first.into_iter().chain(more).collect()
        });
        let detectors = prop::collection::vec(measured(1..4), 2..4);
        let looks = prop::collection::vec(0..4usize, 1..3);
        (0..4u64, before, detectors, looks)
            .prop_map(|(hold, before, detectors, looks)| Plan {
                hold,
                before,
                detectors,
                looks,
            })
            .boxed()
    }

    fn start(plan: &Plan) -> ModeSpec {
        ModeSpec {
            hold: plan.hold,
            changes: 0,
            least: 0,
            low_since: None,
        }
    }

    fn run(plan: &Plan, calls: &CallsOf<Self>) -> Result<(), String> {
        let mode = Arc::new(Mode::new(Thresholds {
            enter_above: ENTER_ABOVE,
            leave_below: LEAVE_BELOW,
            hold: plan.hold,
        }));
        for measured in &plan.before {
            observe(&mode, *measured, 0, calls);
        }
        let detectors = plan.detectors.iter().cloned().map(Part::Detector);
        let readers = plan.looks.iter().copied().map(Part::Reader);
        let threads: Vec<_> = (1..)
            .zip(detectors.chain(readers))
            .map(|(process, part)| {
                let (mode, calls) = (mode.clone(), calls.clone());
                thread::spawn(move || part.play(&mode, process, &calls))
            })
            .collect();
        for thread in threads {
            thread
                .join()
                .map_err(|_| "each_change_seen_once: a thread panicked".to_owned())?;
        }
        look(&mode, 0, calls);
        Ok(())
    }

    fn goal(call: &CallOf<Self>) -> Option<&'static str> {
        Some(match (call.op, call.end?.1) {
            (Op::Observe(_), Ret::Told(Some((Kind::Recovery, 1)))) => "entered",
            (Op::Observe(_), Ret::Told(Some((Kind::Recovery, _)))) => "entered again",
            (Op::Observe(_), Ret::Told(Some((Kind::Normal, _)))) => "left",
            (Op::Observe(_), _) => "changed nothing",
            (Op::Look, Ret::Saw(Kind::Normal, 0)) => "saw normal",
            (Op::Look, Ret::Saw(Kind::Normal, _)) => "saw normal again",
            (Op::Look, _) => "saw recovery",
        })
    }

    fn hang(_: &[CallOf<Self>]) -> &'static str {
        "each_change_seen_once"
    }
}

/// One thread of a program.
enum Part {
    Detector(Vec<Measured>),
    Reader(usize),
}

impl Part {
    fn play(self, mode: &Mode, process: usize, calls: &CallsOf<ModeCalls>) {
        match self {
            Self::Detector(all) => all
                .into_iter()
                .for_each(|measured| observe(mode, measured, process, calls)),
            Self::Reader(looks) => (0..looks).for_each(|_| look(mode, process, calls)),
        }
    }
}

fn observe(mode: &Mode, measured: Measured, process: usize, calls: &CallsOf<ModeCalls>) {
    let Measured { lag, at } = measured;
    calls.call(process, Op::Observe(measured), || {
        let told = mode.observe(lag, at);
        let told = told.map(|Change { to, change }| (to, change));
        ((), Ret::Told(told))
    });
}

fn look(mode: &Mode, process: usize, calls: &CallsOf<ModeCalls>) {
    calls.call(process, Op::Look, || {
        let Now { kind, change } = mode.now();
        ((), Ret::Saw(kind, change))
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
