//! Draws a workload from its seed.
//!
//! Only steps whose outcome the broker's rules determine, never one that depends on how fast anything is: where that takes some care, it is
//! said there.

use super::workload::{Can, GROUPS, Label, MEMBERS, Start, Step, Workload};
use clearway::{Ensure, Mismatch, Order};
use fastrand::Rng;

const KEYS: u8 = 6;

/// What a drawer has to know of the steps so far, so that the next one is determined.
struct Drawing {
    random: Rng,
    can: Can,
    partitions: u32,
    steps: Vec<Step>,
    labels: Label,
    /// Those that can be published again, with their keys.
    published: Vec<(Label, Option<u8>)>,
    open: [[bool; GROUPS]; MEMBERS],
    known: [bool; GROUPS],
    paused: [bool; GROUPS],
    hangs: bool,
    redriven: bool,
}

impl Workload {
    /// The workload of a seed, of about so many steps.
    pub(crate) fn draw(seed: u64, steps: usize, can: Can) -> Self {
        let mut random = Rng::with_seed(seed ^ 0x6167_7265_6521);
        let partitions = random.u32(1..5);
        let order = match random.u32(..3) {
            0 => Order::ByPartition,
            _ => Order::ByKey,
        };
        let mut drawing = Drawing {
            random,
            can,
            partitions,
            steps: Vec::new(),
            labels: 0,
            published: Vec::new(),
            open: [[false; GROUPS]; MEMBERS],
            known: [false; GROUPS],
            paused: [false; GROUPS],
            hangs: false,
            redriven: false,
        };
        while drawing.steps.len() < steps {
            drawing.step();
        }
        drawing.finish();
        Self {
            seed,
            partitions,
            order,
            steps: drawing.steps,
        }
    }
}

impl Drawing {
    /// One more, if what is drawn can be.
    fn step(&mut self) {
        match self.random.u32(..100) {
            0..42 => self.publish(),
            42..49 => self.again(),
            49..52 => {
                let label = self.label();
                self.steps.push(Step::TooLarge { label });
            }
            52..55 => self.elsewhere(),
            55..58 => self.configure(),
            58..73 => self.subscribe(),
            73..82 => self.drain(),
            82..86 => self.pause(),
            86..90 => self.resume(),
            90..94 => self.redrive(),
            94..97 => self.reopen(),
            _ => self.delete(),
        }
    }

    fn label(&mut self) -> Label {
        self.labels += 1;
        self.labels
    }

    fn key(&mut self) -> Option<u8> {
        (self.random.u32(..8) > 0).then(|| self.random.u8(..KEYS))
    }

    fn is_open(&self, group: usize) -> bool {
        self.open.iter().any(|of| of[group])
    }

    fn publish(&mut self) {
        let (label, key) = (self.label(), self.key());
        // Of two members nobody can tell which has it.
        let alone = self.open.iter().filter(|of| of[0]).count() == 1;
        let can_hang = alone && !self.paused[0] && !self.hangs;
        let hangs = can_hang && self.random.u32(..10) == 0;
        self.hangs |= hangs;
        self.published.push((label, key));
        let size = self.random.usize(..1500);
        self.steps.push(Step::Publish {
            label,
            key,
            size,
            hangs,
        });
    }

    fn again(&mut self) {
        if self.published.is_empty() {
            return;
        }
        let (of, key) = self.published[self.random.usize(..self.published.len())];
        let key = match self.random.u32(..3) {
            0 => self.key(),
            _ => key,
        };
        let label = self.label();
        self.steps.push(Step::Again { label, of, key });
    }

    fn elsewhere(&mut self) {
        let label = self.label();
        let policies = [
            Ensure::CreateOnly,
            Ensure::CreateOrUpdate,
            Ensure::ValidateOnly,
            Ensure::Skip,
        ];
        let policy = policies[self.random.usize(..policies.len())];
        let huge = self.random.u32(..3) == 0;
        self.steps.push(Step::Elsewhere {
            label,
            policy,
            huge,
        });
    }

    /// Never more partitions than there are: then keys would change theirs. And what a bus goes on with is what it had: a topic that is
    /// made anew is to be as it was.
    fn configure(&mut self) {
        let partitions = self.random.u32(1..=self.partitions);
        let policies = [
            Ensure::CreateOnly,
            Ensure::CreateOrUpdate,
            Ensure::ValidateOnly,
        ];
        let policy = policies[self.random.usize(..policies.len())];
        let mismatch = match self.random.bool() {
            true => Mismatch::Error,
            false => Mismatch::Warn,
        };
        self.steps.push(Step::Configure {
            partitions,
            policy,
            mismatch,
        });
        if partitions != self.partitions && mismatch == Mismatch::Warn {
            self.steps.push(Step::Configure {
                partitions: self.partitions,
                policy: Ensure::CreateOnly,
                mismatch: Mismatch::Error,
            });
        }
    }

    fn subscribe(&mut self) {
        let (member, group) = (self.random.usize(..MEMBERS), self.random.usize(..GROUPS));
        // Of a group that stands still, or whose handler hangs, nobody can tell which member has what.
        let stands = self.paused[group] || (group == 0 && self.hangs);
        if stands && !self.open[member][group] {
            return;
        }
        let start = match self.random.u32(..4) {
            _ if self.known[group] => Start::Earliest,
            0 => Start::Latest,
            // What was redriven is somewhere, and not at the same place on every broker.
            1 if !self.redriven => Start::Offset(self.random.u64(1..30)),
            _ => Start::Earliest,
        };
        self.open[member][group] = true;
        self.known[group] = true;
        self.steps.push(Step::Subscribe {
            member,
            group,
            start,
        });
    }

    fn drain(&mut self) {
        let (member, group) = (self.random.usize(..MEMBERS), self.random.usize(..GROUPS));
        if !self.open[member][group] {
            return;
        }
        if group == 0 && self.hangs {
            return self.end_hanging();
        }
        let at_once = self.random.bool() && self.can.hurry;
        self.ends(member, group, at_once);
    }

    /// The subscription of a member ends. Not while it stands still: how much it has fetched by then that it hands out to nobody is its
    /// client's choice, and what was fetched counts as delivered.
    fn ends(&mut self, member: usize, group: usize, at_once: bool) {
        self.go_on(group);
        self.open[member][group] = false;
        self.steps.push(Step::Drain {
            member,
            group,
            at_once,
        });
    }

    /// Whoever of the first group has what hangs is cut off.
    fn end_hanging(&mut self) {
        for member in 0..MEMBERS {
            if self.open[member][0] {
                self.ends(member, 0, true);
            }
        }
        self.hangs = false;
    }

    /// While nobody gives anything up: a letter that is written meanwhile goes back with the others, or does not.
    fn redrive(&mut self) {
        if !self.is_open(0) || self.paused[0] {
            self.redriven = true;
            self.steps.push(Step::Redrive);
        }
    }

    fn pause(&mut self) {
        let group = self.random.usize(..GROUPS);
        if self.is_open(group) && !self.paused[group] && !(group == 0 && self.hangs) {
            self.paused[group] = true;
            self.steps.push(Step::Pause { group });
        }
    }

    fn resume(&mut self) {
        let group = self.random.usize(..GROUPS);
        self.go_on(group);
    }

    fn go_on(&mut self, group: usize) {
        if std::mem::take(&mut self.paused[group]) {
            self.steps.push(Step::Resume { group });
        }
    }

    fn reopen(&mut self) {
        let member = self.random.usize(..MEMBERS);
        if self.hangs && self.open[member][0] {
            return;
        }
        for group in 0..GROUPS {
            if self.open[member][group] {
                self.go_on(group);
            }
        }
        self.open[member] = [false; GROUPS];
        self.steps.push(Step::Reopen { member });
    }

    /// While nobody consumes: which of those that miss it makes it anew first is nobody's rule. Then somebody misses it, and it is made as
    /// it was.
    fn delete(&mut self) {
        if !self.can.delete || self.open != [[false; GROUPS]; MEMBERS] {
            return;
        }
        self.known = [false; GROUPS];
        self.published.clear();
        self.steps.push(Step::Delete);
        match self.random.u32(..3) {
            0 => {
                let label = self.label();
                let size = 10;
                self.steps.push(Step::Publish {
                    label,
                    key: Some(1),
                    size,
                    hangs: false,
                });
            }
            1 => {
                let (member, group) = (self.random.usize(..MEMBERS), 0);
                self.steps.push(Step::Subscribe {
                    member,
                    group,
                    start: Start::Earliest,
                });
                self.steps.push(Step::Drain {
                    member,
                    group,
                    at_once: false,
                });
                // It may have been made for it.
                self.known[group] = true;
            }
            _ => {}
        }
        self.steps.push(Step::Configure {
            partitions: self.partitions,
            policy: Ensure::CreateOnly,
            mismatch: Mismatch::Error,
        });
    }

    /// Everybody gets what is there.
    fn finish(&mut self) {
        if self.hangs {
            self.end_hanging();
        }
        for group in 0..GROUPS {
            self.go_on(group);
            if !self.is_open(group) {
                self.steps.push(Step::Subscribe {
                    member: 0,
                    group,
                    start: Start::Earliest,
                });
            }
        }
        self.steps.push(Step::Audit);
        for member in 0..MEMBERS {
            self.steps.push(Step::Reopen { member });
        }
    }
}
