//! Spec of `src/protocol/watermark.rs`: the watermark as if only one thread existed.
//!
//! A settlement moves the watermark step by step, and whoever looks meanwhile may find it on its way: so it is two calls that
//! last as long as it does. Once none is under way the watermark stands at the first that is not settled, exactly.

use super::subject::engine::{block_on, thread};
use super::subject::watermark::{Mark, Refused, Watermark};
use clearway_verify::linear::Spec;
use clearway_verify::protocol::{CallOf, CallsOf, Checked, Protocol, explore};
use proptest::prelude::*;
use std::future::poll_fn;
use std::sync::Arc;

/// The protocol's name.
pub const NAME: &str = "watermark";

/// Runs `programs` generated programs against the watermark.
pub fn histories(programs: u32, seed: u64) -> Checked {
    explore::<WatermarkCalls>(programs, seed)
}

/// Where the partition begins.
const START: u64 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Deliver(u64),
    /// By its position.
    Settle(u64),
    /// The end of one.
    Settled,
    Look,
    /// For something to commit.
    Wait,
    Retire,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ret {
    Taken,
    Refused(Refused),
    Counted(bool),
    At(u64),
    Done,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct WatermarkSpec {
    window: usize,
    /// Positions, and whether they are settled.
    delivered: Vec<(u64, bool)>,
    /// Settlements under way.
    moving: usize,
    /// The watermark is not below.
    least: u64,
    retired: Option<u64>,
}

impl WatermarkSpec {
    fn prefix(&self) -> usize {
        self.delivered.iter().take_while(|(_, done)| *done).count()
    }

    /// The watermark over the first `count`.
    fn over(&self, count: usize) -> u64 {
        count
            .checked_sub(1)
            .map_or(START, |last| self.delivered[last].0 + 1)
    }

    fn room(&self) -> bool {
        self.delivered.len() - self.prefix() < self.window
    }

    /// Whether that is where the watermark may be; then it does not go back.
    fn sees(&mut self, watermark: u64) -> bool {
        let legal = match self.retired {
            Some(last) => watermark == last,
            None => {
                watermark >= self.least && (0..=self.prefix()).any(|n| self.over(n) == watermark)
            }
        };
        self.least = self.least.max(watermark);
        legal
    }

    fn settles(&mut self, position: u64, counted: bool) -> bool {
        let retired = self.retired.is_some();
        self.moving += 1;
        let Some((_, done)) = self.delivered.iter_mut().find(|(at, _)| *at == position) else {
            return false;
        };
        if !counted {
            return *done || retired;
        }
        let first = !std::mem::replace(done, true);
        first && !retired
    }

    fn settled(&mut self) -> bool {
        let legal = self.moving > 0;
        self.moving = self.moving.saturating_sub(1);
        if self.moving == 0 {
            self.least = self.over(self.prefix());
        }
        legal
    }
}

impl Spec for WatermarkSpec {
    type Op = Op;
    type Ret = Ret;

    fn step(&self, op: &Op, ret: Option<&Ret>) -> Option<Self> {
        let mut next = self.clone();
        let legal = match (*op, ret.copied()) {
            (Op::Deliver(position), Some(Ret::Taken)) => {
                next.delivered.push((position, false));
                self.room() && self.retired.is_none()
            }
            (Op::Deliver(_), Some(Ret::Refused(Refused::Full))) => !self.room() || self.moving > 0,
            (Op::Deliver(_), Some(Ret::Refused(Refused::Retired))) => self.retired.is_some(),
            (Op::Settle(position), Some(Ret::Counted(counted))) => next.settles(position, counted),
            (Op::Look, Some(Ret::At(watermark))) => next.sees(watermark),
            (Op::Wait, Some(Ret::At(watermark))) => watermark > START && next.sees(watermark),
            (Op::Retire, Some(Ret::At(watermark))) => {
                next.retired = Some(watermark);
                let mut now = self.clone();
                now.sees(watermark)
            }
            (Op::Settled, _) => next.settled(),
            // Nobody heard what it said: a waiter that hangs changes nothing.
            (Op::Look | Op::Wait, None) => true,
            _ => false,
        };
        legal.then_some(next)
    }

    fn promise(&self, op: &Op, ret: Option<&Ret>) -> &'static str {
        match (op, ret) {
            (Op::Deliver(_), _) => "window_holds",
            (Op::Settle(_), _) if self.retired.is_none() => "settled_once",
            (Op::Settle(_) | Op::Retire, _) => "stale_epoch_is_ignored",
            _ if self.retired.is_some() => "stale_epoch_is_ignored",
            (_, Some(Ret::At(watermark))) if *watermark < self.least => {
                "everything_settled_everything_commits"
            }
            _ => "commit_is_a_settled_prefix",
        }
    }
}

/// Deliveries that are there already, who settles which of them, and who is about meanwhile.
#[derive(Clone, Debug)]
struct Plan {
    /// How far each position is from the one before.
    steps: Vec<u64>,
    /// For each of them the thread that settles it, and whether another does too.
    settlers: Vec<(usize, bool)>,
    /// Room for more than those.
    spare: usize,
    /// How many more are delivered and settled by the deliverer.
    more: usize,
    looks: usize,
    ends: Ends,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ends {
    Never,
    /// The partition is taken away meanwhile.
    Early,
}

struct WatermarkCalls;

impl Protocol for WatermarkCalls {
    const NAME: &'static str = NAME;
    const GOALS: &'static [&'static str] = &[
        "delivered",
        "refused, full",
        "refused, retired",
        "settled",
        "settled in vain",
        "moved",
        "waited",
        "retired",
    ];
    const PANIC: &'static str = "commit_is_a_settled_prefix";
    type Spec = WatermarkSpec;
    type Program = Plan;

    fn programs() -> BoxedStrategy<Plan> {
        let ends = prop_oneof![2 => Just(Ends::Never), 1 => Just(Ends::Early)];
        let first = prop::collection::vec((1..3u64, (0..2usize, any::<bool>())), 1..4);
        (first, 0..2usize, 0..3usize, 0..3usize, ends)
            .prop_map(|(first, spare, more, looks, ends)| {
                let (steps, settlers) = first.into_iter().unzip();
                Plan {
                    steps,
                    settlers,
                    spare,
                    more,
                    looks,
                    ends,
                }
            })
            .boxed()
    }

    fn start(plan: &Plan) -> WatermarkSpec {
        WatermarkSpec {
            window: plan.window(),
            delivered: plan.positions().map(|at| (at, false)).collect(),
            moving: 0,
            least: START,
            retired: None,
        }
    }

    fn run(plan: &Plan, calls: &CallsOf<Self>) -> Result<(), String> {
        let watermark = Arc::new(Watermark::new(1, START, plan.window()));
        let marks: Vec<_> = plan
            .positions()
            .map(|at| watermark.deliver(at).map(|mark| (at, mark)))
            .collect::<Result<_, _>>()
            .map_err(|refused| format!("window_holds: refused at once: {refused:?}"))?;
        let mut threads = Vec::new();
        for process in 1..=2 {
            let mine: Vec<_> = plan.settled_by(process - 1, &marks);
            let (watermark, calls) = (watermark.clone(), calls.clone());
            threads.push(thread::spawn(move || {
                for (at, mark) in mine {
                    settle(&watermark, at, mark, process, &calls);
                }
            }));
        }
        let last = marks.last().map_or(START, |(at, _)| *at);
        for part in [Part::Deliverer, Part::Committer, Part::Revoker] {
            let (watermark, calls, plan) = (watermark.clone(), calls.clone(), plan.clone());
            threads.push(thread::spawn(move || {
                part.play(&plan, last, &watermark, &calls)
            }));
        }
        for thread in threads {
            thread
                .join()
                .map_err(|_| "commit_is_a_settled_prefix: a thread panicked".to_owned())?;
        }
        look(&watermark, 6, calls);
        Ok(())
    }

    fn goal(call: &CallOf<Self>) -> Option<&'static str> {
        Some(match (call.op, call.end.as_ref()?.1) {
            (Op::Deliver(_), Ret::Taken) => "delivered",
            (Op::Deliver(_), Ret::Refused(Refused::Full)) => "refused, full",
            (Op::Deliver(_), Ret::Refused(Refused::Retired)) => "refused, retired",
            (Op::Settle(_), Ret::Counted(true)) => "settled",
            (Op::Settle(_), Ret::Counted(false)) => "settled in vain",
            (Op::Look, Ret::At(START)) => return None,
            (Op::Look, Ret::At(_)) => "moved",
            (Op::Wait, _) => "waited",
            (Op::Retire, _) => "retired",
            _ => return None,
        })
    }

    fn hang(_: &[CallOf<Self>]) -> &'static str {
        "everything_settled_everything_commits"
    }
}

impl Plan {
    fn window(&self) -> usize {
        self.steps.len() + self.spare
    }

    fn positions(&self) -> impl Iterator<Item = u64> {
        let steps = self.steps.iter();
        steps.scan(START - 1, |at, step| {
            *at += step;
            Some(*at)
        })
    }

    /// The last first, so that gaps are left behind. Twice settled only where no end can come between.
    fn settled_by(&self, settler: usize, marks: &[(u64, Mark)]) -> Vec<(u64, Mark)> {
        let twice = self.ends == Ends::Never;
        let mine = |(who, also): &(usize, bool)| *who == settler || (twice && *also);
        let all = self.settlers.iter().zip(marks).rev();
        all.filter(|(who, _)| mine(who))
            .map(|(_, mark)| *mark)
            .collect()
    }
}

/// Who is about while the first deliveries are settled.
#[derive(Clone, Copy)]
enum Part {
    Deliverer,
    Committer,
    Revoker,
}

impl Part {
    fn play(self, plan: &Plan, last: u64, watermark: &Watermark, calls: &CallsOf<WatermarkCalls>) {
        match self {
            Self::Deliverer => {
                for at in (last + 1..).step_by(2).take(plan.more) {
                    if let Some(mark) = deliver(watermark, at, calls) {
                        settle(watermark, at, mark, 3, calls);
                    }
                }
            }
            Self::Committer => {
                (0..plan.looks).for_each(|_| look(watermark, 4, calls));
                // Everything that is there will be settled, if no end comes before.
                while plan.ends == Ends::Never && wait(watermark, calls) <= last {}
            }
            Self::Revoker if plan.ends == Ends::Never => {}
            Self::Revoker => {
                calls.call(5, Op::Retire, || ((), Ret::At(watermark.retire())));
            }
        }
    }
}

fn deliver(watermark: &Watermark, at: u64, calls: &CallsOf<WatermarkCalls>) -> Option<Mark> {
    calls.call(3, Op::Deliver(at), || match watermark.deliver(at) {
        Ok(mark) => (Some(mark), Ret::Taken),
        Err(refused) => (None, Ret::Refused(refused)),
    })
}

fn settle(
    watermark: &Watermark,
    at: u64,
    mark: Mark,
    process: usize,
    calls: &CallsOf<WatermarkCalls>,
) {
    let begun = calls.begin(process, Op::Settle(at));
    let counted = Ret::Counted(watermark.settle(mark));
    calls.end_together(begun, counted, [(Op::Settled, Ret::Done)]);
}

fn look(watermark: &Watermark, process: usize, calls: &CallsOf<WatermarkCalls>) {
    calls.call(process, Op::Look, || ((), Ret::At(watermark.watermark())));
}

fn wait(watermark: &Watermark, calls: &CallsOf<WatermarkCalls>) -> u64 {
    calls.call(4, Op::Wait, || {
        let due = block_on(poll_fn(|cx| watermark.poll_due(cx)));
        watermark.committed(due);
        (due, Ret::At(due))
    })
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
