//! `overlap`: two handlers of one lane at work at the same time (G3). A lane is a partition or a key, as the
//! subscription's order has it, whichever members of the group handle it.
//!
//! One story excuses it: the bus of the first lost its session while its handler ran. Then the broker gives the partition to
//! another member without asking, and no library can stop the handler; what it answers does not count. A partition
//! that changes hands while both are in touch with the broker excuses nothing: whoever gives it up waits for its handlers.
//!
//! Another is like it: the process of the first stood still while its handler ran, for so long that the broker gave the partition away.
//! What it begins when it goes on is not excused: it has to ask the broker first.

use super::index::{Delivery, Index};
use super::order::{Lane, lane};
use super::verdict::{About, Findings, Property};
use foldhash::HashMap;

pub(super) fn check(index: &Index<'_>, findings: &mut Findings) {
    let mut running: HashMap<Lane<'_>, Vec<(usize, &Delivery<'_>)>> = HashMap::default();
    for delivery in &index.deliveries {
        // Without an end nobody can say how long it was at work.
        let (Some(lane), Some((end, _))) = (lane(index, delivery), delivery.settled) else {
            continue;
        };
        let others = running.entry(lane).or_default();
        others.retain(|&(end, _)| end > delivery.line);
        for &(end, first) in others.iter() {
            if !outlived(index, first, end, delivery) {
                report(findings, first, end, delivery);
            }
        }
        others.push((end, delivery));
    }
}

/// Whether the first is a handler that outlived its ownership: its bus was cut off while it ran, or its process stood still.
pub(super) fn outlived(
    index: &Index<'_>,
    first: &Delivery<'_>,
    end: usize,
    second: &Delivery<'_>,
) -> bool {
    let bus = first.deliver.bus;
    // Within one bus a lane is a lane, whatever the broker does.
    bus != second.deliver.bus
        && (index.cut(bus, first.line, end + 1) || index.froze(bus, (first.line, end), second.line))
}

fn report(findings: &mut Findings, first: &Delivery<'_>, end: usize, second: &Delivery<'_>) {
    let (one, two) = (first.deliver, second.deliver);
    let what = format!(
        "{}/{}: group {} handles {} while it is at work on {} of the same {}",
        two.topic,
        two.partition,
        two.group,
        two.position,
        one.position,
        if one.key == two.key {
            "key"
        } else {
            "partition"
        },
    );
    let about = About {
        lines: &[first.line, second.line, end],
        ids: &[&one.id, &two.id],
        ops: &[],
    };
    findings.add(Property::Overlap, what, about);
}
