//! The engines themselves: what they must find in models that are wrong on purpose, what they say
//! about it, and what they must not call a pass.

use clearway_models::registry::{Depth, Model, Run, Verdict};
use clearway_models::{under_loom, under_shuttle};
use std::time::Duration;

/// The same bodies for each world.
macro_rules! bodies {
    ($name:ident, $world:ident) => {
        #[allow(dead_code)] // not every body has something to show in every world
        mod $name {
            use clearway_models::$world::engine::{
                Canary, Oracle, block_on, event, sometimes, thread,
            };
            use clearway_models::$world::sync::{
                Arc, ArcCell, AtomicU64, AtomicWaker, Mutex, Ordering,
            };
            use std::future::poll_fn;
            use std::task::Poll;

            pub(super) fn race() {
                let word = Arc::new(Canary::new());
                let other = thread::spawn_named("other", {
                    let word = word.clone();
                    move || {
                        event("writes too");
                        word.write();
                    }
                });
                event("writes");
                word.write();
                other.join().unwrap();
            }

            /// It looks before it registers its waker, and not again.
            pub(super) fn lost_wake() {
                let shared = Arc::new((AtomicU64::new(0), AtomicWaker::new()));
                let other = thread::spawn({
                    let shared = shared.clone();
                    move || {
                        shared.0.store(1, Ordering::Release);
                        shared.1.wake();
                    }
                });
                block_on(poll_fn(|cx| {
                    if shared.0.load(Ordering::Acquire) == 1 {
                        return Poll::Ready(());
                    }
                    shared.1.register(cx.waker());
                    Poll::Pending
                }));
                other.join().unwrap();
            }

            /// Two who each look first and then act.
            pub(super) fn check_then_act() {
                let shared = Arc::new((AtomicU64::new(0), Oracle::new()));
                let enter = |(taken, inside): &(AtomicU64, Oracle)| {
                    if taken.load(Ordering::Acquire) == 0 {
                        taken.store(1, Ordering::Release);
                        assert_eq!(inside.add(), 1, "one_at_a_time: two are inside");
                        inside.take();
                        taken.store(0, Ordering::Release);
                    }
                };
                let other = thread::spawn({
                    let shared = shared.clone();
                    move || enter(&shared)
                });
                enter(&shared);
                other.join().unwrap();
            }

            /// Unwinds through a lock it holds and past destructors that use the facade.
            pub(super) fn fails_while_it_holds_things() {
                struct Leaves(Arc<(AtomicU64, Mutex<u64>)>);
                impl Drop for Leaves {
                    fn drop(&mut self) {
                        self.0.0.fetch_add(1, Ordering::AcqRel);
                        *self.0.1.lock() += 1;
                    }
                }
                let shared = Arc::new((AtomicU64::new(0), Mutex::new(0)));
                let other = thread::spawn({
                    let leaves = Leaves(shared.clone());
                    move || drop(leaves)
                });
                let _leaves = Leaves(shared.clone());
                let held = shared.1.lock();
                assert_ne!(*held, 1, "other_comes_last: it did not");
                drop(held);
                other.join().unwrap();
            }

            /// A reader beside a writer that loads before it stores.
            pub(super) fn reader_beside_a_copying_writer() {
                let cell = Arc::new(ArcCell::new(Arc::new(0)));
                let writer = thread::spawn({
                    let cell = cell.clone();
                    move || {
                        let now = **cell.load();
                        cell.store(Arc::new(now + 1));
                    }
                });
                sometimes(match **cell.load() {
                    0 => "saw the old",
                    _ => "saw the new",
                });
                writer.join().unwrap();
            }

            pub(super) fn nothing() {}

            pub(super) fn many_steps() {
                let words = Arc::new([(); 4].map(|()| AtomicU64::new(0)));
                let step = |words: &[AtomicU64; 4]| {
                    for word in words {
                        word.fetch_add(1, Ordering::AcqRel);
                    }
                };
                let others = [(); 2].map(|()| {
                    let words = words.clone();
                    thread::spawn(move || step(&words))
                });
                step(&words);
                for other in others {
                    other.join().unwrap();
                }
            }
        }
    };
}

bodies!(on_loom, under_loom);
bodies!(on_shuttle, under_shuttle);

const fn model(invariant: &'static str, body: fn()) -> Model {
    Model::new("none", invariant, body)
}

/// The run under loom and the first failing one under shuttle.
fn explore(invariant: &'static str, loom: fn(), shuttle: fn()) -> [Run; 2] {
    [
        under_loom::engine::explore(&model(invariant, loom), Depth::Full),
        under_shuttle::engine::explore(&model(invariant, shuttle), Depth::Quick),
    ]
}

#[track_caller]
fn message(run: &Run) -> &str {
    let failure = run.failure.as_ref();
    let message = failure.map(|failure| failure.message.as_str());
    message.unwrap_or_else(|| panic!("{} found nothing in {run:?}", run.engine))
}

#[test]
fn a_race_is_reported_under_the_invariants_name() {
    for run in explore("is_alone", on_loom::race, on_shuttle::race) {
        assert!(message(&run).starts_with("is_alone: "), "{}", message(&run));
        assert_eq!(run.verdict, Verdict::Failed);
        let timeline = &run.failure.expect("it failed").timeline;
        let said = |thread: &str, what: &str| {
            let mut steps = timeline.iter();
            steps.any(|step| step.thread == thread && step.what == what)
        };
        assert!(said("main", "writes") && said("other", "writes too"));
    }
}

#[test]
fn a_lost_wake_is_a_deadlock_under_the_invariants_name() {
    for run in explore("is_woken", on_loom::lost_wake, on_shuttle::lost_wake) {
        assert!(
            message(&run).starts_with("is_woken: deadlock"),
            "{}",
            message(&run)
        );
    }
}

#[test]
fn an_assertion_keeps_its_own_name_and_says_where() {
    for run in explore(
        "another_name",
        on_loom::check_then_act,
        on_shuttle::check_then_act,
    ) {
        let message = message(&run);
        assert!(message.starts_with("one_at_a_time: "), "{message}");
        assert!(message.contains("tests/engines.rs:"), "{message}");
    }
}

#[test]
fn a_failing_execution_may_unwind_through_the_facade() {
    for run in explore(
        "comes_last",
        on_loom::fails_while_it_holds_things,
        on_shuttle::fails_while_it_holds_things,
    ) {
        assert!(message(&run).starts_with("other_comes_last: "));
    }
}

/// Loom alone forgets the reader: see `LoadsMeet` in its facade.
#[test]
fn a_reader_meets_a_writer_that_loads_before_it_stores() {
    let reader = model("is_met", on_loom::reader_beside_a_copying_writer)
        .goals(&["saw the old", "saw the new"]);
    let run = under_loom::engine::explore(&reader, Depth::Quick);
    assert_eq!(run.complaint(), None, "{run:?}");
}

#[test]
fn a_goal_never_reached_is_no_pass() {
    let idle = model("does_it", on_loom::nothing).goals(&["did it"]);
    let run = under_loom::engine::explore(&idle, Depth::Quick);
    assert_eq!((run.failure.as_ref(), run.executions), (None, 1));
    let complaint = run.complaint().expect("the goal was not reached");
    assert!(complaint.contains("\"did it\""), "{complaint}");
}

#[test]
fn a_goal_the_model_does_not_list_is_a_failure() {
    let typo = model("does_it", on_loom::reader_beside_a_copying_writer);
    let run = under_loom::engine::explore(&typo, Depth::Quick);
    assert!(message(&run).contains("does not list the goal"));
}

#[test]
fn what_ran_out_of_time_is_called_truncated() {
    let large = model("is_large", on_loom::many_steps);
    let explore = under_loom::engine::explore_within;
    let cut = explore(&large, None, Duration::from_millis(1));
    assert_eq!(cut.verdict, Verdict::Truncated);
    assert!(cut.complaint().is_some_and(|why| why.contains("stopped")));

    let minute = Duration::from_secs(60);
    let bounded = explore(&large, Some(1), minute);
    assert_eq!(bounded.verdict, Verdict::Bounded(1));
    let small = model("is_small", on_loom::reader_beside_a_copying_writer)
        .goals(&["saw the old", "saw the new"]);
    let all = explore(&small, None, minute);
    assert_eq!((all.verdict, all.complaint()), (Verdict::Exhaustive, None));
}

#[test]
fn classes_of_executions_are_fewer_than_executions() {
    let small = model("is_small", on_shuttle::reader_beside_a_copying_writer)
        .goals(&["saw the old", "saw the new"]);
    for run in under_shuttle::engine::explore_each(&small, Depth::Quick) {
        let classes = run.classes.expect("shuttle counts them");
        assert!((1..10).contains(&classes.seen), "{run:?}");
        assert!(classes.next_is_new < 0.05, "{run:?}");
    }
}
