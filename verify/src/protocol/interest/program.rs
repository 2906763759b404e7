//! The programs: users who want and wait, a consumer that applies, and one that is lost and speaks late.

use super::super::subject::engine::{block_on, thread};
use super::super::subject::interest::{Interest, Waiter, Want};
use super::{InterestSpec, NAME, Op, Ret};
use clearway_verify::protocol::{CallOf, CallsOf, Protocol};
use proptest::prelude::*;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// A key that nobody else wants.
const FIRST: u8 = 9;

/// One thing a user does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Want(u8, Want),
    Withdraw(u8),
    Activate(u8),
    /// Stops what is taken, and waits until it is; or looks once and goes away.
    Stop {
        key: u8,
        want: Want,
        waits: bool,
    },
}

/// Users, and a consumer that applies what they want as long as it lives.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    users: Vec<Vec<Act>>,
    /// How often the consumer looks after its first change.
    looks: usize,
    /// It is lost with its first change in its hands; another takes its place, and it says late that it has applied that.
    lost: bool,
}

pub(super) struct InterestCalls;

impl Protocol for InterestCalls {
    const NAME: &'static str = NAME;
    const GOALS: &'static [&'static str] = &[
        "wanted",
        "withdrawn",
        "activated",
        "activated in vain",
        "behind",
        "not behind",
        "given",
        "nothing to apply",
        "waited for a change",
        "lost",
        "told that it is applied",
        "told of the end",
        "not applied yet",
    ];
    const PANIC: &'static str = "consumed_becomes_desired";
    type Spec = InterestSpec;
    type Program = Plan;

    fn programs() -> BoxedStrategy<Plan> {
        let key = || 0..2u8;
        let stop = prop_oneof![Just(Want::Held), Just(Want::Paused)];
        let want = prop_oneof![Just(Want::Active), Just(Want::Held), Just(Want::Paused)];
        let act = prop_oneof![
            4 => (key(), want).prop_map(|(key, want)| Act::Want(key, want)),
            1 => key().prop_map(Act::Withdraw),
            2 => key().prop_map(Act::Activate),
            2 => (key(), stop, any::<bool>())
                .prop_map(|(key, want, waits)| Act::Stop { key, want, waits }),
        ];
        let users = prop::collection::vec(prop::collection::vec(act, 0..4), 1..3);
        (users, 0..4usize, any::<bool>())
            .prop_map(|(users, looks, lost)| Plan { users, looks, lost })
            .boxed()
    }

    fn start(_: &Plan) -> InterestSpec {
        InterestSpec::default()
    }

    fn run(plan: &Plan, calls: &CallsOf<Self>) -> Result<(), String> {
        let first = Part {
            interest: Arc::new(Interest::new()),
            process: 0,
            calls: calls.clone(),
        };
        let mut threads: Vec<_> = (1..)
            .zip(plan.users.clone())
            .map(|(process, acts)| {
                let user = first.also(process);
                thread::spawn(move || acts.iter().for_each(|act| user.does(*act)))
            })
            .collect();
        threads.push({
            let (consumer, plan) = (first.also(CONSUMER), plan.clone());
            thread::spawn(move || consumer.consumes(&plan))
        });
        // So that there is something to wait for.
        first.want(FIRST, Want::Active);
        for thread in threads {
            thread
                .join()
                .map_err(|_| "consumed_becomes_desired: a thread panicked".to_owned())?;
        }
        first.changed();
        first.look();
        Ok(())
    }

    fn goal(call: &CallOf<Self>) -> Option<&'static str> {
        Some(match (call.op, &call.end.as_ref()?.1) {
            (Op::Want(FIRST, _), _) => return None,
            (Op::Want(..), _) => "wanted",
            (Op::Withdraw(_), _) => "withdrawn",
            (Op::Activate(_), Ret::WasHeld(true)) => "activated",
            (Op::Activate(_), _) => "activated in vain",
            (Op::Changed, Ret::Behind(true)) => "behind",
            (Op::Changed, _) => "not behind",
            (Op::Look, Ret::Given(..)) => "given",
            (Op::Look, _) => "nothing to apply",
            (Op::WaitForChange, _) => "waited for a change",
            (Op::Lose, _) => "lost",
            (Op::WaitForApplied(_), Ret::Applied(true)) => "told that it is applied",
            (Op::WaitForApplied(_), _) => "told of the end",
            (Op::LookForApplied(_), Ret::Nothing) => "not applied yet",
            _ => return None,
        })
    }

    fn hang(_: &[CallOf<Self>]) -> &'static str {
        "no_lost_wakeup"
    }
}

const CONSUMER: usize = 5;
const LOST: usize = 6;

/// Somebody who calls.
struct Part {
    interest: Arc<Interest<u8>>,
    process: usize,
    calls: CallsOf<InterestCalls>,
}

impl Part {
    fn also(&self, process: usize) -> Self {
        Self {
            interest: self.interest.clone(),
            process,
            calls: self.calls.clone(),
        }
    }

    fn call<T>(&self, op: Op, call: impl FnOnce(&Interest<u8>) -> (T, Ret)) -> T {
        self.calls.call(self.process, op, || call(&self.interest))
    }

    fn does(&self, act: Act) {
        match act {
            Act::Want(key, want) => _ = self.want(key, want),
            Act::Withdraw(key) => self.call(Op::Withdraw(key), |interest| {
                ((), Ret::Version(interest.withdraw(&key)))
            }),
            Act::Activate(key) => self.call(Op::Activate(key), |interest| {
                ((), Ret::WasHeld(interest.activate(&key)))
            }),
            Act::Stop { key, want, waits } => {
                let version = self.want(key, want);
                if waits {
                    self.wait_for_applied(version);
                } else {
                    self.look_for_applied(version);
                }
            }
        }
    }

    fn consumes(&self, plan: &Plan) {
        let version = self.call(Op::WaitForChange, |interest| {
            let (version, wants) = block_on(poll_fn(|cx| interest.poll_change(cx)));
            (version, Ret::Given(version, wants))
        });
        let mut late = None;
        if plan.lost {
            let lost = self.also(LOST);
            late = Some(thread::spawn(move || lost.apply(version)));
            self.call(Op::Lose, |interest| (interest.lost(), Ret::Done));
        } else {
            self.apply(version);
        }
        for _ in 0..plan.looks {
            if self.changed()
                && let Some(version) = self.look()
            {
                self.apply(version);
            }
        }
        if let Some(late) = late {
            // A thread that dies here fails the run by its own message.
            _ = late.join();
        }
        self.call(Op::End, |interest| (interest.end(), Ret::Done));
    }

    fn want(&self, key: u8, want: Want) -> u64 {
        self.call(Op::Want(key, want), |interest| {
            let version = interest.want(key, want);
            (version, Ret::Version(version))
        })
    }

    fn changed(&self) -> bool {
        self.call(Op::Changed, |interest| {
            let behind = interest.changed();
            (behind, Ret::Behind(behind))
        })
    }

    fn look(&self) -> Option<u64> {
        self.call(Op::Look, |interest| {
            match interest.poll_change(&mut nobody()) {
                Poll::Ready((version, wants)) => (Some(version), Ret::Given(version, wants)),
                Poll::Pending => (None, Ret::Nothing),
            }
        })
    }

    fn apply(&self, version: u64) {
        self.call(Op::Apply(version), |interest| {
            (interest.applied(version), Ret::Done)
        });
    }

    fn wait_for_applied(&self, version: u64) {
        self.call(Op::WaitForApplied(version), |interest| {
            let mut waiter = Waiter::default();
            let poll = poll_fn(|cx| interest.poll_applied(&mut waiter, version, cx));
            ((), Ret::Applied(block_on(poll)))
        });
    }

    fn look_for_applied(&self, version: u64) {
        self.call(Op::LookForApplied(version), |interest| {
            let mut waiter = Waiter::default();
            let answer = interest.poll_applied(&mut waiter, version, &mut nobody());
            interest.cancel(&mut waiter);
            match answer {
                Poll::Ready(applied) => ((), Ret::Applied(applied)),
                Poll::Pending => ((), Ret::Nothing),
            }
        });
    }
}

fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}
