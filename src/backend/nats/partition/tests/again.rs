//! What comes again although it was acknowledged.

use super::*;

/// Its acknowledgement and the server's next attempt crossed.
#[test]
fn what_was_acknowledged_and_comes_again_is_acknowledged_again_and_nothing_else() {
    let again = |partition: &mut Partition, sequence: u64, attempt: u32| {
        let mut again = fetched(sequence);
        again.attempt = attempt;
        again.reply = format!("{attempt}").into();
        partition.on_delivery(sequence, again, Some("pin"), at(1));
    };
    let mut partition = open();
    partition.answered(5, true);
    again(&mut partition, 5, 2);
    assert_eq!(taken(&mut partition), NONE, "a handler has done it");
    assert!(partition.wants_attention(&PACE));
    assert_eq!(partition.again().map(|reply| &**reply), Some("2"));
    partition.said_again();
    assert!(partition.again().is_none());

    // Given back: it is to be done.
    again(&mut partition, 6, 1);
    assert_eq!(taken(&mut partition), [6]);
    partition.answered(6, false);
    again(&mut partition, 6, 2);
    assert_eq!(taken(&mut partition), [6]);
    partition.answered(6, true);

    // The durable was set back: the server counts anew, and what was done once is to be done once more.
    again(&mut partition, 5, 1);
    assert_eq!(taken(&mut partition), [5]);
    partition.answered(5, false);
    again(&mut partition, 5, 2);
    assert_eq!(taken(&mut partition), [5]);
    assert!(partition.again().is_none());

    // Another epoch, another owner in between: nobody knows what that one did with it.
    again(&mut partition, 6, 2);
    assert!(partition.again().is_some());
    partition.start_over(2);
    assert!(partition.again().is_none());
    again(&mut partition, 6, 3);
    assert_eq!(partition.ready.len(), 1);
}
