//! What lies beyond the sizes that a checker can explore: the ends of packed words.

use clearway_models::under_threads::mode::{CHANGES_MAX, Change, Kind, Mode, Now, Thresholds};

const FAR: u64 = 8;
const NEAR: u64 = 3;

/// A mode that changes with every measurement.
fn without_a_hold() -> Mode {
    Mode::new(Thresholds {
        enter_above: FAR,
        leave_below: NEAR,
        hold: 0,
    })
}

/// All changes that there are: each is told, and after the last one it stays in recovery.
#[test]
fn a_mode_that_has_no_more_changes_stays_in_recovery() {
    let mode = without_a_hold();
    for number in 1..=CHANGES_MAX {
        let (lag, to) = match number % 2 {
            0 => (NEAR, Kind::Normal),
            _ => (FAR, Kind::Recovery),
        };
        let told = mode.observe(lag, number);
        assert_eq!(told, Some(Change { to, change: number }));
    }
    for at in [CHANGES_MAX, CHANGES_MAX + 1, u64::MAX] {
        for lag in [NEAR, FAR, NEAR] {
            assert_eq!(mode.observe(lag, at), None, "lag {lag} at {at}");
            let last = Now {
                kind: Kind::Recovery,
                change: CHANGES_MAX,
            };
            assert_eq!(mode.now(), last, "after lag {lag} at {at}");
        }
    }
}

/// Without a hold the first measurement that is low leaves, but not an older one.
#[test]
fn no_hold_is_no_wait() {
    let mode = without_a_hold();
    let number = |told: Option<Change>| told.map(|change| change.change);
    let told = [
        (FAR, 5),
        (NEAR, 4),
        (NEAR, 5),
        (NEAR, 6),
        (FAR, 6),
        (NEAR, 6),
    ]
    .map(|(lag, at)| number(mode.observe(lag, at)));
    assert_eq!(told, [Some(1), None, Some(2), None, Some(3), Some(4)]);
}

/// The smallest distance between the two thresholds, and none.
#[test]
fn the_thresholds_are_apart() {
    let mode = |leave_below, enter_above| {
        std::panic::catch_unwind(|| {
            Mode::new(Thresholds {
                enter_above,
                leave_below,
                hold: u64::MAX,
            })
        })
    };
    assert!(mode(0, 1).is_ok() && mode(u64::MAX - 1, u64::MAX).is_ok());
    assert!(mode(0, 0).is_err() && mode(1, 1).is_err() && mode(2, 1).is_err());
}
