//! A failing plan made small: without the faults and with as little of everything as still violates the same property.
//!
//! The seed is no more than a way to get there, and changes if another gets there with less.
//!
//! Another violation does not count: it is another bug, and the first would be lost on the way. A change is kept only if the smaller plan
//! was run and violated it, so whatever comes out does.

use super::breaks::Breaks;
use super::fault::{Fault, Faults, Ratio};
use super::plan::Plan;
use super::run::Ran;
use std::time::{Duration, Instant};

/// How much may be spent on it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Runs.
    pub tries: usize,
    /// Of our time.
    pub time: Duration,
}

/// What came of it.
pub struct Shrunk {
    /// The smallest that was found, and how it went. None: there is nothing to take away.
    pub ran: Option<Ran>,
    /// How many runs it took.
    pub tries: usize,
    /// And how long.
    pub took: Duration,
}

/// A smaller plan that violates the same property, as `run` has it.
pub fn shrink(plan: &Plan, breaks: Breaks, run: impl Fn(&Plan) -> Ran, limits: Limits) -> Shrunk {
    let mut shrinking = Shrinking {
        small: plan.clone(),
        ran: None,
        breaks,
        run,
        limits,
        tries: 0,
        begun: Instant::now(),
    };
    loop {
        let before = shrinking.small.clone();
        shrinking.pass();
        if shrinking.small == before {
            let Shrinking { ran, tries, .. } = shrinking;
            let took = shrinking.begun.elapsed();
            return Shrunk { ran, tries, took };
        }
    }
}

struct Shrinking<R> {
    small: Plan,
    ran: Option<Ran>,
    breaks: Breaks,
    run: R,
    limits: Limits,
    tries: usize,
    begun: Instant,
}

impl<R: Fn(&Plan) -> Ran> Shrinking<R> {
    /// Everything once. What one change made needless, the next pass takes out.
    fn pass(&mut self) {
        self.change(|plan| plan.faults = Faults::default());
        for fault in Fault::ALL {
            self.change(|plan| plan.faults.set(*fault, Ratio::NEVER));
        }
        for simpler in SIMPLER {
            self.change(simpler);
        }
        for fault in Fault::ALL {
            self.make_sure(*fault);
        }
        for number in NUMBERS {
            self.lower(number);
        }
        for number in &NUMBERS[..SEEDS_LOWER] {
            self.lower_elsewhere(number);
        }
    }

    /// What strikes always needs no long run until it does.
    fn make_sure(&mut self, fault: Fault) {
        if self.small.faults.get(fault) == Ratio::NEVER {
            return;
        }
        let most = self.small.envelopes / 2;
        let fewer = std::iter::successors(Some(1), |fewer| Some(fewer * 2));
        for envelopes in fewer.take_while(|fewer| *fewer <= most) {
            let is_kept = self.change(|plan| {
                plan.faults.set(fault, Ratio::ALWAYS);
                plan.envelopes = envelopes;
            });
            if is_kept {
                return;
            }
        }
    }

    /// Keeps the change if the plan still violates the property.
    fn change(&mut self, change: impl Fn(&mut Plan)) -> bool {
        let mut tried = self.small.clone();
        change(&mut tried);
        let is_spent = self.tries >= self.limits.tries || self.begun.elapsed() > self.limits.time;
        if tried == self.small || is_spent {
            return false;
        }
        self.tries += 1;
        let ran = (self.run)(&tried);
        let is_kept = ran.breaks.contains(&self.breaks);
        if is_kept {
            (self.small, self.ran) = (tried, Some(ran));
        }
        is_kept
    }

    /// The lowest, or half, with another seed.
    fn lower_elsewhere(&mut self, number: &Number) {
        let now = (number.get)(&self.small);
        for lower in [number.least, now / 2] {
            for seed in 0..SEEDS {
                let is_lower = (number.least..now).contains(&lower);
                let change = |plan: &mut Plan| {
                    plan.seed = seed;
                    (number.set)(plan, lower);
                };
                if is_lower && self.change(change) {
                    return;
                }
            }
        }
    }

    /// The lowest that does, by halves.
    fn lower(&mut self, number: &Number) {
        let mut fails = (number.get)(&self.small);
        if fails <= number.least || self.change(|plan| (number.set)(plan, number.least)) {
            return;
        }
        let mut holds = number.least;
        while fails - holds > 1 {
            let middle = holds + (fails - holds) / 2;
            match self.change(|plan| (number.set)(plan, middle)) {
                true => fails = middle,
                false => holds = middle,
            }
        }
    }
}

/// As many other seeds are tried where the one that was found needs much to come to the violation.
const SEEDS: u64 = 12;

/// For as many of the numbers: what stands in the way of whoever reads the run.
const SEEDS_LOWER: usize = 5;

/// What a plan can do without.
const SIMPLER: &[fn(&mut Plan)] = &[
    |plan| plan.attempts = None,
    |plan| plan.confirm = false,
    |plan| plan.dedup = None,
    |plan| plan.results = false,
    |plan| plan.ordered = false,
];

struct Number {
    least: u64,
    get: fn(&Plan) -> u64,
    set: fn(&mut Plan, u64),
}

/// What a plan may have less of. Envelopes first: each run after that is shorter.
const NUMBERS: &[Number] = &[
    Number {
        least: 1,
        get: |plan| plan.envelopes,
        set: |plan, envelopes| plan.envelopes = envelopes,
    },
    Number {
        least: 1,
        get: |plan| plan.members as u64,
        set: |plan, members| plan.members = members as usize,
    },
    Number {
        least: 1,
        get: |plan| plan.publishers as u64,
        set: |plan, publishers| plan.publishers = publishers as usize,
    },
    Number {
        least: 1,
        get: |plan| u64::from(plan.partitions),
        set: |plan, partitions| plan.partitions = partitions as u32,
    },
    Number {
        least: 1,
        get: |plan| plan.keys,
        set: |plan, keys| plan.keys = keys,
    },
    Number {
        least: 1,
        get: |plan| plan.window as u64,
        set: |plan, window| plan.window = window as usize,
    },
    Number {
        least: 1,
        get: |plan| plan.concurrency as u64,
        set: |plan, concurrency| plan.concurrency = concurrency as usize,
    },
    Number {
        least: 1,
        get: |plan| plan.in_flight,
        set: |plan, in_flight| plan.in_flight = in_flight,
    },
    Number {
        least: 0,
        get: |plan| plan.pause.as_millis() as u64,
        set: |plan, pause| plan.pause = Duration::from_millis(pause),
    },
    Number {
        least: 1,
        get: |plan| u64::from(plan.attempts.unwrap_or_default()),
        set: |plan, attempts| plan.attempts = Some(attempts as u32),
    },
    // Not shorter than the shortest that is drawn: where every handler is cut off, nothing holds that needs a handler to end.
    Number {
        least: 300,
        get: |plan| plan.timeout.as_millis() as u64,
        set: |plan, timeout| plan.timeout = Duration::from_millis(timeout),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Property;
    use crate::sim::broker::jetstream::JetStream;
    use crate::sim::run;

    const LIMITS: Limits = Limits {
        tries: 500,
        time: Duration::from_secs(60),
    };

    /// A run that is said to have violated what `breaks` makes of its plan. It is run over little, whatever the plan has.
    fn said(breaks: impl Fn(&Plan) -> Option<Breaks>) -> impl Fn(&Plan) -> Ran {
        let tiny = Plan {
            envelopes: 1,
            faults: Faults::default(),
            ..Plan::draw(1, 10)
        };
        move |plan| Ran {
            breaks: breaks(plan).into_iter().collect(),
            plan: plan.clone(),
            ..run::run::<JetStream>(&tiny)
        }
    }

    fn big() -> Plan {
        let mut plan = Plan {
            envelopes: 1000,
            members: 3,
            publishers: 3,
            keys: 100,
            window: 64,
            in_flight: 128,
            pause: Duration::from_millis(60),
            timeout: Duration::from_millis(1500),
            attempts: Some(4),
            ..Plan::draw(1, 1000)
        };
        plan.faults.set(Fault::Crash, Ratio(100));
        plan.faults.set(Fault::Freeze, Ratio(100));
        plan
    }

    #[test]
    fn what_the_property_needs_stays_and_nothing_else_does() {
        let needs = |plan: &Plan| {
            let is_there = plan.envelopes >= 37
                && plan.members >= 2
                && plan.in_flight >= 5
                && plan.pause.as_millis() >= 7
                && plan.timeout.as_millis() >= 700
                && plan.attempts.is_some_and(|attempts| attempts >= 2)
                && plan.faults.crash > Ratio::NEVER;
            is_there.then_some(Breaks::Liveness)
        };
        let shrunk = shrink(&big(), Breaks::Liveness, said(needs), LIMITS);
        let small = shrunk.ran.expect("it gets smaller").plan;
        assert_eq!(small.faults.names(), ["crash"]);
        assert_eq!(
            (small.envelopes, small.members, small.publishers, small.keys),
            (37, 2, 1, 1)
        );
        let times = (small.pause.as_millis(), small.timeout.as_millis());
        assert_eq!((small.window, small.in_flight, times), (1, 5, (7, 700)));
        assert_eq!((small.attempts, small.partitions), (Some(2), 1));
        assert!(shrunk.tries < LIMITS.tries, "{}", shrunk.tries);
    }

    #[test]
    fn a_fault_that_is_sure_and_another_seed_get_there_with_less() {
        let needs = |plan: &Plan| {
            let is_sure = plan.faults.crash == Ratio::ALWAYS && plan.envelopes >= 2;
            let is_there = plan.faults.crash > Ratio::NEVER
                && (plan.envelopes >= 37 || is_sure)
                && (plan.members >= 3 || plan.seed == 5);
            is_there.then_some(Breaks::Liveness)
        };
        let shrunk = shrink(&big(), Breaks::Liveness, said(needs), LIMITS);
        let small = shrunk.ran.expect("it gets smaller").plan;
        assert_eq!((small.envelopes, small.members, small.seed), (2, 1, 5));
        assert_eq!(small.faults.crash, Ratio::ALWAYS);
    }

    #[test]
    fn another_violation_is_not_kept() {
        let order = Breaks::History(Property::Order);
        let other = |plan: &Plan| match plan.faults.crash > Ratio::NEVER {
            true => Some(order),
            false => Some(Breaks::Liveness),
        };
        let shrunk = shrink(&big(), order, said(other), LIMITS);
        let ran = shrunk.ran.expect("it gets smaller");
        assert_eq!(ran.plan.faults.names(), ["crash"]);
        assert_eq!(ran.breaks, [order]);
    }

    #[test]
    fn it_ends_when_its_tries_are_spent() {
        let limits = Limits { tries: 3, ..LIMITS };
        let shrunk = shrink(&big(), Breaks::Liveness, said(|_| None), limits);
        assert!(shrunk.ran.is_none() && shrunk.tries == 3);
    }
}
