//! Model of `src/protocol/lane.rs`. Each test is named after the invariant it checks.

use super::engine::{Canary, Model, Oracle, abandon, block_on, event, sometimes, thread};
use super::lane::{Back, Dispatcher, Full, Lanes, Parked, Run, lanes};
use std::future::poll_fn;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// One model for each invariant.
pub const MODELS: &[Model] = &[
    Model::new("lane", "one_runner_per_key", one_runner_per_key)
        .goals(&["one ran both", "handed over"]),
    Model::new("lane", "first_in_first_out", first_in_first_out)
        .goals(&["went on with the last", "began anew"]),
    Model::new(
        "lane",
        "no_message_without_a_runner",
        no_message_without_a_runner,
    )
    .goals(&["the first came first", "the second came first"])
    .bound(2),
    Model::new(
        "lane",
        "every_submission_completes_once",
        every_submission_completes_once,
    )
    .goals(&["parked first", "parked last"])
    .bound(4),
    Model::new(
        "lane",
        "idle_lane_is_retired_once",
        idle_lane_is_retired_once,
    )
    .goals(&["done and not back", "not done"])
    .bound(4),
    Model::new("lane", "no_two_lanes_for_a_key", no_two_lanes_for_a_key)
        .goals(&["idle again", "not back yet"]),
    Model::new("lane", "bounded", bounded).goals(&["full", "a place was free"]),
    Model::new("lane", "kill_is_heard_at_work", kill_is_heard_at_work)
        .goals(&["at work", "before it took anything"])
        .bound(3),
];

const TAKEN: &str = "there is room for it";

type Dispatches<K> = Dispatcher<K, u64, BuildHasherDefault<DefaultHasher>>;

fn dispatcher<K: Clone + Eq + Hash>(
    rooms: usize,
    messages: usize,
    workers: usize,
) -> Dispatches<K> {
    lanes(rooms, messages, workers, BuildHasherDefault::default())
}

/// The next run for `worker`, which sleeps until there is one.
fn next(lanes: &Lanes<u64>, worker: usize) -> Option<Run<'_, u64>> {
    block_on(poll_fn(|cx| lanes.poll_run(worker, cx)))
}

/// A run that is there at once.
fn now(lanes: &Lanes<u64>, worker: usize) -> Option<Run<'_, u64>> {
    match lanes.poll_run(worker, &mut Context::from_waker(Waker::noop())) {
        Poll::Ready(run) => run,
        Poll::Pending => None,
    }
}

/// Runs a lane to its end. `each` sees every message before it is done; what they were.
fn to_the_end(run: Option<Run<'_, u64>>, mut each: impl FnMut(u64)) -> Vec<u64> {
    let mut ran = Vec::new();
    let mut next = run;
    while let Some(run) = next {
        event(format!("runs {}", *run));
        each(*run);
        ran.push(*run);
        next = run.done();
    }
    ran
}

/// The next that is back, and done.
fn done<K: Clone + Eq + Hash>(dispatcher: &mut Dispatches<K>) -> Option<u64> {
    match dispatcher.take_back() {
        Some(Back::Done(message)) => Some(message),
        Some(Back::Parked(parked)) => panic!("nobody parked {}", parked.message),
        None => None,
    }
}

/// A key's message that was parked by its first runner.
fn parked(dispatcher: &mut Dispatches<char>) -> Parked<u64> {
    dispatcher.submit(Some('a'), 1).expect(TAKEN);
    let lanes = dispatcher.shared().clone();
    let mut run = now(&lanes, 0).expect("it was submitted");
    *run = 10;
    run.park();
    match dispatcher.take_back() {
        Some(Back::Parked(parked)) => parked,
        back => panic!("parked, and {back:?} came back"),
    }
}

/// Two workers, one key. The second message comes while the first is run, or after it. The dispatcher's thread is the second
/// worker.
fn one_runner_per_key() {
    let mut dispatcher = dispatcher(2, 2, 2);
    let key = Arc::new((Oracle::new(), Canary::new()));
    let runs = |key: &(Oracle, Canary), message| {
        let (inside, work) = key;
        assert_eq!(
            inside.add(),
            1,
            "one_runner_per_key: {message} beside another one of its key"
        );
        work.write();
        inside.take();
    };
    dispatcher.submit(Some('a'), 1).expect(TAKEN);
    let worker = thread::spawn_named("worker", {
        let (lanes, key) = (dispatcher.shared().clone(), key.clone());
        move || to_the_end(now(&lanes, 0), |message| runs(&key, message))
    });
    dispatcher.submit(Some('a'), 2).expect(TAKEN);
    let lanes = dispatcher.shared().clone();
    // Whoever let go of the lane has done its work, and this one sees it.
    let ours = to_the_end(now(&lanes, 1), |message| runs(&key, message));
    let theirs = worker.join().unwrap();
    sometimes(match (&ours[..], &theirs[..]) {
        ([], [1, 2]) => "one ran both",
        ([2], [1]) => "handed over",
        ([1, 2], []) => return,
        _ => panic!("one_runner_per_key: {theirs:?} were run, and {ours:?} after them"),
    });
}

/// Two keys share the room for messages. Then the first is parked, and resumed when another waits behind it. One more comes
/// while they are run.
fn first_in_first_out() {
    let mut dispatcher = dispatcher(2, 3, 2);
    let lanes = dispatcher.shared().clone();
    let run_here = |worker| to_the_end(now(&lanes, worker), |_| {});
    dispatcher.submit(Some('a'), 4).expect(TAKEN);
    assert_eq!((run_here(0), done(&mut dispatcher)), (vec![4], Some(4)));
    for (key, message) in [('b', 5), ('b', 6), ('a', 7)] {
        dispatcher.submit(Some(key), message).expect(TAKEN);
    }
    assert_eq!(
        (run_here(0), run_here(0)),
        (vec![5, 6], vec![7]),
        "first_in_first_out: run of two keys"
    );
    while done(&mut dispatcher).is_some() {}

    let parked = parked(&mut dispatcher);
    dispatcher.submit(Some('a'), 2).expect(TAKEN);
    dispatcher.resume(parked);
    let worker = thread::spawn_named("worker", {
        let lanes = dispatcher.shared().clone();
        move || to_the_end(now(&lanes, 0), |_| {})
    });
    dispatcher.submit(Some('a'), 3).expect(TAKEN);
    let ours = run_here(1);
    let mut ran = worker.join().unwrap();
    match ours[..] {
        [] => sometimes("went on with the last"),
        [3] => sometimes("began anew"),
        _ => {}
    }
    ran.extend(ours);
    let came: Vec<_> = std::iter::from_fn(|| done(&mut dispatcher)).collect();
    assert!(
        ran == [10, 2, 3] && came.len() == 3,
        "first_in_first_out: run were {ran:?}, and {came:?} came back"
    );
}

/// Two lanes are announced at once to two workers that take one each, and never end it. The first is polled for other reasons
/// too, and the bit of the second is in another word. A worker that sleeps on is a deadlock.
fn no_message_without_a_runner() {
    const SECOND: usize = 63;
    let mut dispatcher = dispatcher(2, 2, SECOND + 1);
    let workers = [(0, "first"), (SECOND, "second")].map(|(number, name)| {
        let lanes = dispatcher.shared().clone();
        thread::spawn_named(name, move || {
            let mut again = number == 0;
            let run = block_on(poll_fn(|cx| match lanes.poll_run(number, cx) {
                Poll::Pending if std::mem::take(&mut again) => lanes.poll_run(number, cx),
                polled => polled,
            }));
            let run = run.expect("not stopped");
            event(format!("runs {}", *run));
            let message = *run;
            std::mem::forget(run);
            message
        })
    });
    dispatcher.submit(Some('a'), 1).expect(TAKEN);
    dispatcher.submit(Some('b'), 2).expect(TAKEN);
    dispatcher.announce();
    let ran = workers.map(|worker| worker.join().unwrap());
    sometimes(match ran {
        [1, 2] => "the first came first",
        [2, 1] => "the second came first",
        _ => panic!("no_message_without_a_runner: run were {ran:?}"),
    });
}

/// One of two messages is parked because its runner is gone, and is taken out while another waits behind it. The
/// dispatcher's thread runs what the worker has left, and waits for what comes back.
fn every_submission_completes_once() {
    let mut dispatcher = dispatcher(2, 3, 2);
    let lanes = dispatcher.shared().clone();
    let work = Arc::new([(); 4].map(|()| Canary::new()));
    dispatcher.submit(Some('a'), 1).expect(TAKEN);
    dispatcher.submit(Some('b'), 2).expect(TAKEN);
    dispatcher.submit(Some('a'), 3).expect(TAKEN);
    let run_one = |lanes: &Lanes<u64>, worker, work: &[Canary; 4]| {
        let run = now(lanes, worker).expect("one for each");
        event(format!("runs {}", *run));
        work[*run as usize].write();
        if *run == 1 {
            return abandon(run);
        }
        assert!(run.done().is_none(), "it was alone");
    };
    let worker = thread::spawn_named("worker", {
        let (lanes, work) = (lanes.clone(), work.clone());
        move || run_one(&lanes, 0, &work)
    });
    run_one(&lanes, 1, &work);
    let mut came = Vec::new();
    while came.len() < 2 {
        let message = match block_on(poll_fn(|cx| dispatcher.poll_back(cx))) {
            Back::Done(message) => message,
            Back::Parked(parked) => {
                sometimes(match came[..] {
                    [] => "parked first",
                    _ => "parked last",
                });
                dispatcher.remove(parked)
            }
        };
        event(format!("{message} came back"));
        assert_eq!(
            work[message as usize].read(),
            1,
            "every_submission_completes_once: how often {message} was run"
        );
        came.push(message);
    }
    worker.join().unwrap();
    let ran = to_the_end(now(&lanes, 0), |_| {});
    came.extend(std::iter::from_fn(|| done(&mut dispatcher)));
    came.sort_unstable();
    assert!(
        ran == [3] && came == [1, 2, 3] && dispatcher.out() == 0,
        "every_submission_completes_once: then {ran:?} was run; {came:?} came back, {} are out",
        dispatcher.out()
    );
}

/// Two lanes, four keys: `c` has to wait until all of `a` is back, and `d` gets the lane that was idle for longer. Then two
/// lanes are out, one with a worker, and `a` has to wait. In the end the worker is told so.
fn idle_lane_is_retired_once() {
    let mut dispatcher = dispatcher(2, 3, 2);
    let lanes = dispatcher.shared().clone();
    let keys = ['a', 'b', 'c', 'd'].map(Arc::new);
    let [a, b, c, d] = keys.each_ref().map(|key| || Some(key.clone()));
    // Ours is the last one of the key.
    let retired = || keys.each_ref().map(|key| Arc::strong_count(key) == 1);
    dispatcher.submit(a(), 1).expect(TAKEN);
    dispatcher.submit(b(), 2).expect(TAKEN);
    assert_eq!(to_the_end(now(&lanes, 0), |_| {}), [1]);
    assert!(
        dispatcher.submit(c(), 3).is_err() && done(&mut dispatcher) == Some(1),
        "idle_lane_is_retired_once: a lane was given away that was done and not back"
    );
    dispatcher.submit(c(), 3).expect(TAKEN);
    assert!(
        retired() == [true, false, false, true] && dispatcher.submit(a(), 4).is_err(),
        "idle_lane_is_retired_once: only `a` was idle; retired are {:?}",
        retired()
    );
    for message in [2, 3] {
        to_the_end(now(&lanes, 0), |_| {});
        assert_eq!(done(&mut dispatcher), Some(message));
    }
    dispatcher.submit(d(), 4).expect(TAKEN);
    assert_eq!(
        retired(),
        [true, true, false, false],
        "idle_lane_is_retired_once: `b` was idle for longer than `c`"
    );

    dispatcher.submit(c(), 5).expect(TAKEN);
    let ran = Arc::new(Oracle::new());
    let worker = thread::spawn_named("worker", {
        let (lanes, ran) = (lanes.clone(), ran.clone());
        move || {
            for _ in 0..2 {
                to_the_end(next(&lanes, 1), |_| {});
                ran.add();
            }
            assert!(next(&lanes, 1).is_none(), "there is no more");
        }
    });
    sometimes(match ran.count() {
        0 => "not done",
        _ => "done and not back",
    });
    let refused = dispatcher.submit(a(), 6).err();
    assert!(
        refused.is_some_and(|full| full.message == 6) && retired() == [true, true, false, false],
        "idle_lane_is_retired_once: a lane was given away, and nothing is back"
    );
    for _ in 0..2 {
        block_on(poll_fn(|cx| dispatcher.poll_back(cx)));
    }
    dispatcher.stop();
    worker.join().unwrap();
}

/// A message of a key, and more of them while it is run, is done or is back.
fn no_two_lanes_for_a_key() {
    let mut dispatcher = dispatcher(2, 2, 2);
    let key = Arc::new('a');
    // So that the first lies in the second slot.
    for message in [3, 4] {
        dispatcher.submit(Some(key.clone()), message).expect(TAKEN);
    }
    to_the_end(now(dispatcher.shared(), 0), |_| {});
    while done(&mut dispatcher).is_some() {}

    dispatcher.submit(Some(key.clone()), 1).expect(TAKEN);
    let worker = thread::spawn_named("worker", {
        let lanes = dispatcher.shared().clone();
        move || to_the_end(now(&lanes, 0), |_| {}).len()
    });
    let more = match done(&mut dispatcher) {
        // One lies where the first one lay, and another behind it.
        Some(_) => {
            sometimes("idle again");
            2
        }
        None => {
            sometimes("not back yet");
            1
        }
    };
    for message in 0..more {
        dispatcher
            .submit(Some(key.clone()), 5 + message)
            .expect(TAKEN);
    }
    assert_eq!(
        (dispatcher.busy(), dispatcher.out()),
        (1, 2),
        "no_two_lanes_for_a_key: lanes and messages that are not back"
    );
    let lanes = dispatcher.shared().clone();
    let ours = to_the_end(now(&lanes, 1), |_| {}).len();
    let theirs = worker.join().unwrap();
    assert_eq!(ours + theirs, 1 + more as usize);
    while done(&mut dispatcher).is_some() {}
    assert_eq!(
        (Arc::strong_count(&key), dispatcher.busy()),
        (3, 0),
        "no_two_lanes_for_a_key: one lane knows the key, and the table"
    );
}

/// One lane and two messages, one of them parked at first.
fn bounded() {
    let mut dispatcher = dispatcher(1, 2, 2);
    let full = |key, message| {
        Err(Full {
            key: Some(key),
            message,
        })
    };
    let parked = parked(&mut dispatcher);
    assert_eq!(
        dispatcher.submit(Some('b'), 2),
        full('b', 2),
        "bounded: a second lane"
    );
    dispatcher.submit(Some('a'), 2).expect(TAKEN);
    assert_eq!(
        (dispatcher.submit(Some('a'), 3), dispatcher.out()),
        (full('a', 3), 2),
        "bounded: a third message, beside one that is parked and one that waits"
    );
    dispatcher.resume(parked);
    let worker = thread::spawn_named("worker", {
        let lanes = dispatcher.shared().clone();
        move || to_the_end(now(&lanes, 0), |_| {})
    });
    let first = done(&mut dispatcher);
    let out = 2 - usize::from(first.is_some());
    assert_eq!(dispatcher.out(), out, "bounded: what is not back");
    match dispatcher.submit(Some('a'), 3) {
        Ok(()) => {
            assert_eq!(out, 1, "bounded: a third message, and none is back");
            sometimes("a place was free");
        }
        Err(_) => sometimes("full"),
    }
    let lanes = dispatcher.shared().clone();
    let ours = to_the_end(now(&lanes, 1), |_| {});
    let theirs = worker.join().unwrap();
    let ran = theirs.len() + ours.len();
    let came = first.into_iter().count() + std::iter::from_fn(|| done(&mut dispatcher)).count();
    assert!(
        came == ran && dispatcher.out() == 0,
        "bounded: {theirs:?} and {ours:?} were run, {came} came back"
    );
}

/// A worker whose work never ends waits for its end, and drops it. Another has nothing to do, and is
/// told to end as well.
fn kill_is_heard_at_work() {
    let mut dispatcher = dispatcher(1, 1, 2);
    dispatcher.submit(Some('a'), 1).expect(TAKEN);
    let workers = [("worker", 0), ("other worker", 1)].map(|(name, number)| {
        let lanes = dispatcher.shared().clone();
        thread::spawn_named(name, move || {
            let Some(run) = next(&lanes, number) else {
                return false;
            };
            block_on(poll_fn(|cx| lanes.poll_killed(number, cx)));
            abandon(run);
            next(&lanes, number).is_none()
        })
    });
    dispatcher.kill();
    let took = workers.map(|worker| worker.join().unwrap());
    let took = took.iter().filter(|took| **took).count();
    sometimes(if took == 1 {
        "at work"
    } else {
        "before it took anything"
    });
    let back = matches!(dispatcher.take_back(), Some(Back::Parked(parked)) if parked.message == 1);
    assert_eq!(
        usize::from(back),
        took,
        "kill_is_heard_at_work: what it took is not back, or what it did not take is"
    );
}

#[cfg(test)]
mod tests {
    use super::super::engine::{check, find};
    use super::MODELS;

    #[test]
    fn one_runner_per_key() {
        check(find(MODELS, "one_runner_per_key"));
    }

    #[test]
    fn first_in_first_out() {
        check(find(MODELS, "first_in_first_out"));
    }

    #[test]
    fn no_message_without_a_runner() {
        check(find(MODELS, "no_message_without_a_runner"));
    }

    #[test]
    fn every_submission_completes_once() {
        check(find(MODELS, "every_submission_completes_once"));
    }

    #[test]
    fn idle_lane_is_retired_once() {
        check(find(MODELS, "idle_lane_is_retired_once"));
    }

    #[test]
    fn no_two_lanes_for_a_key() {
        check(find(MODELS, "no_two_lanes_for_a_key"));
    }

    #[test]
    fn bounded() {
        check(find(MODELS, "bounded"));
    }

    #[test]
    fn kill_is_heard_at_work() {
        check(find(MODELS, "kill_is_heard_at_work"));
    }
}
