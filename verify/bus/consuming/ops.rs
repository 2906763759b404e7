//! What may happen to a subscription, and how proptest makes it up.

use crate::GROUPS;
use clearway::Order;
use proptest::prelude::*;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Subscribe {
        group: usize,
        order: Order,
        held: bool,
    },
    Publish {
        key: Option<u8>,
    },
    Answer {
        which: usize,
        how: How,
    },
    Pause(usize),
    Resume(usize),
    Activate(usize),
    Drain {
        group: usize,
        millis: u64,
    },
    Close(u64),
    Advance(u64),
}

/// What a handler is told to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    Ack,
    Skip,
    Fail,
    Panic,
    Again(u64),
    /// Of this key; the value is the machine's to give.
    PublishAndAck(u8, u32),
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let group = 0..GROUPS.len();
    let order = prop_oneof![
        3 => Just(Order::ByKey),
        1 => Just(Order::ByPartition),
        1 => Just(Order::Unordered)
    ];
    let how = prop_oneof![
        6 => Just(How::Ack),
        1 => Just(How::Skip),
        2 => Just(How::Fail),
        1 => Just(How::Panic),
        1 => (0..3_000_u64).prop_map(How::Again),
        1 => (0..3_u8).prop_map(|key| How::PublishAndAck(key, 0)),
    ];
    prop_oneof![
        3 => (group.clone(), order, prop::bool::weighted(0.2))
            .prop_map(|(group, order, held)| Op::Subscribe { group, order, held }),
        8 => prop::option::weighted(0.8, 0..3_u8).prop_map(|key| Op::Publish { key }),
        10 => (0..4_usize, how).prop_map(|(which, how)| Op::Answer { which, how }),
        1 => group.clone().prop_map(Op::Pause),
        2 => group.clone().prop_map(Op::Resume),
        1 => group.clone().prop_map(Op::Activate),
        1 => (group, prop_oneof![Just(0), 1..3_000_u64])
            .prop_map(|(group, millis)| Op::Drain { group, millis }),
        1 => prop_oneof![Just(0), 1..3_000_u64].prop_map(Op::Close),
        3 => (1..2_500_u64).prop_map(Op::Advance),
    ]
}
