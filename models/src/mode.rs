//! Model of `src/protocol/mode.rs`. Each test is named after the invariant it checks.

use super::engine::{AtomicU64, Model, Ordering, event, sometimes, thread};
use super::mode::{Change, Kind, Mode, Now, TICKS_MAX, Thresholds};
use std::sync::Arc;

/// One model for each invariant.
pub const MODELS: &[Model] = &[
    Model::new("mode", "enter_above_leave_below", enter_above_leave_below).goals(&[
        "rose before the hold was over",
        "left before it rose",
        "the hold began before it rose",
        "rose before the hold began",
    ]),
    Model::new("mode", "each_change_seen_once", each_change_seen_once).goals(&[
        "the first entered",
        "the second entered",
        "the first left",
        "the second left",
        "left and entered again",
        "stayed",
    ]),
    Model::new(
        "mode",
        "order_holds_across_a_change",
        order_holds_across_a_change,
    )
    .goals(&[
        "changed between two deliveries",
        "changed after the lane was handed on",
        "normal again",
    ]),
    Model::new("mode", "read_is_one_load", read_is_one_load).goals(&[
        "normal",
        "recovery",
        "normal again",
        "both in a row",
    ]),
];

const HOLD: u64 = 10;
/// Lags: enough to enter, one less, enough to leave, one more.
const FAR: u64 = 8;
const NOT_FAR: u64 = FAR - 1;
const NEAR: u64 = 3;
const NOT_NEAR: u64 = NEAR + 1;

fn normal() -> Arc<Mode> {
    Arc::new(Mode::new(Thresholds {
        enter_above: FAR,
        leave_below: NEAR,
        hold: HOLD,
    }))
}

/// In recovery since 0.
fn recovering() -> Arc<Mode> {
    let mode = normal();
    assert_eq!(
        mode.observe(FAR, 0),
        change(1),
        "enter_above_leave_below: the first measurement is far behind"
    );
    mode
}

/// In recovery since 0, low since 10.
fn holding() -> Arc<Mode> {
    let mode = recovering();
    assert_eq!(
        mode.observe(NEAR, 10),
        None,
        "enter_above_leave_below: left without a hold"
    );
    mode
}

/// The change of that number.
fn change(number: u64) -> Option<Change> {
    let to = kind(number);
    Some(Change { to, change: number })
}

fn kind(changes: u64) -> Kind {
    match changes % 2 {
        0 => Kind::Normal,
        _ => Kind::Recovery,
    }
}

/// Measurements one after the other, and the number of the change that each makes.
const ALONE: &[(u64, u64, Option<u64>)] = &[
    (NOT_FAR, 0, None),
    (FAR, 1, Some(1)),
    (FAR, 2, None),
    // Neither high nor low: it stays.
    (NOT_FAR, 30, None),
    (NOT_NEAR, 60, None),
    // The hold begins here and not where it was entered.
    (NEAR, 61, None),
    (NEAR, 61 + HOLD - 1, None),
    (NOT_NEAR, 61 + HOLD, None),
    // The hold starts over.
    (0, 72, None),
    (NEAR, 72 + HOLD - 1, None),
    // Older measurements end nothing, and let nothing begin earlier.
    (NEAR, 50, None),
    (NEAR, 72 + HOLD - 1, None),
    // But one that is high starts the hold over, however old.
    (NOT_NEAR, 60, None),
    (NEAR, 72 + HOLD, None),
    (NEAR, 82 + HOLD - 1, None),
    (NEAR, 82 + HOLD, Some(2)),
    (NOT_FAR, 94, None),
    (NEAR, 95, None),
    (u64::MAX, 100, Some(3)),
    // It was high at 100, so it is not low since 93 or 94.
    (NEAR, 93, None),
    (NEAR, 93 + HOLD, None),
    (NEAR, 100 + HOLD - 1, None),
    // High at an older time: the hold starts over, and not at that time.
    (NOT_NEAR, 80, None),
    (NEAR, 85, None),
    (NEAR, 85 + HOLD, None),
    (NEAR, 100 + HOLD - 1, None),
    (NEAR, 100 + HOLD, Some(4)),
    (FAR, 120, Some(5)),
    // One measurement long after is no hold. The end of time: a hold that began before it ends.
    (NEAR, TICKS_MAX - HOLD, None),
    (NEAR, u64::MAX, Some(6)),
    (FAR, u64::MAX, Some(7)),
    // And there is no hold after it.
    (NEAR, TICKS_MAX + 5, None),
    (NEAR, TICKS_MAX + 5 + HOLD, None),
    (NEAR, u64::MAX, None),
];

/// One detector alone, at every boundary. Then the lag rises while another detector is about to leave, and while
/// another begins the hold.
fn enter_above_leave_below() {
    let alone = normal();
    for (lag, at, number) in ALONE {
        assert_eq!(
            alone.observe(*lag, *at),
            number.and_then(change),
            "enter_above_leave_below: lag {lag} at {at}"
        );
    }
    let modes = [holding(), recovering()];
    let detector = thread::spawn_named("rises", {
        let [leaving, beginning] = modes.clone();
        move || {
            assert_eq!(
                (
                    leaving.observe(NOT_NEAR, 15),
                    beginning.observe(NOT_NEAR, 12)
                ),
                (None, None),
                "enter_above_leave_below: changed by a lag that is between the two"
            );
        }
    });
    let [leaving, beginning] = &modes;
    let left = leaving.observe(NEAR, 10 + HOLD);
    let began = beginning.observe(NEAR, 10);
    event(format!("left: {left:?}"));
    detector.join().unwrap();
    assert_eq!(began, None, "enter_above_leave_below: left without a hold");

    // Low at 20, high at 15: left only by who did not know.
    sometimes(if left.is_some() {
        "left before it rose"
    } else {
        "rose before the hold was over"
    });
    if left.is_none() {
        assert_eq!(
            [20 + HOLD - 1, 20 + HOLD].map(|at| leaving.observe(NEAR, at)),
            [None, change(2)],
            "enter_above_leave_below: high at 15, low from 20 on"
        );
    }
    // Low at 10, high at 12: whoever came first.
    assert_eq!(
        beginning.observe(NEAR, 10 + HOLD),
        None,
        "enter_above_leave_below: high at 12, and left at 20"
    );
    let knew = beginning.observe(NEAR, 12 + HOLD).is_some();
    sometimes(if knew {
        "rose before the hold began"
    } else {
        "the hold began before it rose"
    });
    assert!(
        knew || beginning.observe(NEAR, 20 + HOLD).is_some(),
        "enter_above_leave_below: low from 20 to 30, and not left"
    );
}

/// Two detectors find it far behind at once; both find the hold over; one finds it over and the other far behind.
fn each_change_seen_once() {
    let modes = [normal(), holding(), holding()];
    let detector = thread::spawn_named("detector", {
        let modes = modes.clone();
        move || {
            let [entering, leaving, torn] = &modes;
            [
                entering.observe(FAR, 1),
                leaving.observe(NEAR, 10 + HOLD),
                torn.observe(FAR, 10 + HOLD),
            ]
        }
    });
    let [entering, leaving, torn] = &modes;
    let mine = [
        entering.observe(FAR, 1),
        leaving.observe(NEAR, 11 + HOLD),
        torn.observe(NEAR, 10 + HOLD),
    ];
    let others = detector.join().unwrap();
    event(format!("told {mine:?} and {others:?}"));
    let told = |at: usize| [&mine[at], &others[at]].map(|told| told.as_ref().map(|c| c.change));
    sometimes(match told(0) {
        [Some(1), None] => "the first entered",
        [None, Some(1)] => "the second entered",
        told => panic!("each_change_seen_once: both far behind, told {told:?}"),
    });
    sometimes(match told(1) {
        [Some(2), None] => "the first left",
        [None, Some(2)] => "the second left",
        told => panic!("each_change_seen_once: the hold was over for both, told {told:?}"),
    });
    sometimes(match told(2) {
        [Some(2), Some(3)] => "left and entered again",
        [None, None] => "stayed",
        told => panic!("each_change_seen_once: one low and one far behind, told {told:?}"),
    });
    for (at, mode) in modes.iter().enumerate() {
        let before = [0, 1, 1][at];
        let last = told(at).into_iter().flatten().max().unwrap_or(before);
        assert_eq!(
            mode.now(),
            Now {
                kind: kind(last),
                change: last
            },
            "each_change_seen_once: {last} was the last that anybody was told of"
        );
        for change in [&mine[at], &others[at]].into_iter().flatten() {
            assert_eq!(
                change.to,
                kind(change.change),
                "each_change_seen_once: to what"
            );
        }
    }
}

/// One detector enters, another leaves, while two deliveries of one key are stamped; then the lane goes to another thread.
fn order_holds_across_a_change() {
    let work = Arc::new((normal(), AtomicU64::new(0)));
    let enters = thread::spawn_named("enters", {
        let work = work.clone();
        move || work.0.observe(FAR, 0).is_some()
    });
    let leaves = thread::spawn_named("leaves, and takes the lane over", {
        let work = work.clone();
        move || {
            let (mode, lane) = &*work;
            let left = [10, 10 + HOLD].map(|at| mode.observe(NEAR, at));
            if let Some(before) = lane.load(Ordering::Acquire).checked_sub(1) {
                let next = mode.now().change;
                event(format!("stamps the next {next}"));
                assert!(
                    next >= before,
                    "order_holds_across_a_change: a delivery of change {next} after one of {before}, on the next thread"
                );
                if next > before {
                    sometimes("changed after the lane was handed on");
                }
            }
            left.iter().flatten().count()
        }
    });
    let (mode, lane) = &*work;
    let stamps = [(); 2].map(|()| mode.now().change);
    event(format!("stamps {stamps:?}"));
    assert!(
        stamps.is_sorted() && stamps[1] <= 2,
        "order_holds_across_a_change: deliveries of changes {stamps:?}"
    );
    if stamps[0] < stamps[1] {
        sometimes("changed between two deliveries");
    }
    lane.store(stamps[1] + 1, Ordering::Release);
    let made = usize::from(enters.join().unwrap()) + leaves.join().unwrap();
    assert_eq!(
        mode.now().change,
        made as u64,
        "order_holds_across_a_change: the next delivery, after {made} changes"
    );
    if made == 2 {
        sometimes("normal again");
    }
}

/// A reader beside a detector that enters and leaves.
fn read_is_one_load() {
    let mode = normal();
    let detector = thread::spawn_named("detector", {
        let mode = mode.clone();
        move || {
            let changes = [(FAR, 0), (NEAR, 10), (NEAR, 10 + HOLD)]
                .map(|(lag, at)| mode.observe(lag, at).is_some());
            assert_eq!(
                changes,
                [true, false, true],
                "read_is_one_load: what the detector saw"
            );
        }
    });
    let reads = [(); 2].map(|()| mode.now());
    event(format!("reads {reads:?}"));
    for now in reads {
        assert!(
            now.change <= 2 && now.kind == kind(now.change),
            "read_is_one_load: {:?} after {} changes",
            now.kind,
            now.change
        );
        sometimes(match now.change {
            0 => "normal",
            1 => "recovery",
            _ => "normal again",
        });
    }
    if reads[0].change == 1 && reads[1].change == 2 {
        sometimes("both in a row");
    }
    detector.join().unwrap();
}

#[cfg(test)]
mod tests {
    use super::super::engine::{check, find};
    use super::MODELS;

    #[test]
    fn enter_above_leave_below() {
        check(find(MODELS, "enter_above_leave_below"));
    }

    #[test]
    fn each_change_seen_once() {
        check(find(MODELS, "each_change_seen_once"));
    }

    #[test]
    fn order_holds_across_a_change() {
        check(find(MODELS, "order_holds_across_a_change"));
    }

    #[test]
    fn read_is_one_load() {
        check(find(MODELS, "read_is_one_load"));
    }
}
