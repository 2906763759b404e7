//! Who gets which partitions. Whoever deals out, deals by this; it gives each partition to exactly one member, or, in the cooperative
//! way, to none while another has it.

use super::{Member, Share};
use std::collections::BTreeMap;

/// By turns, whatever anybody has.
pub fn by_turns(members: &BTreeMap<Member, Share>, partitions: u32) -> BTreeMap<Member, Share> {
    let names: Vec<Member> = members.keys().copied().collect();
    let mut shares: BTreeMap<Member, Share> =
        names.iter().map(|name| (*name, Share::new())).collect();
    for (partition, name) in (0..partitions).zip(names.iter().cycle()) {
        shares.entry(*name).or_default().insert(partition);
    }
    shares
}

/// Evenly, and everybody keeps what he has as far as that goes.
pub fn sticky(members: &BTreeMap<Member, Share>, partitions: u32) -> BTreeMap<Member, Share> {
    let count = members.len() as u32;
    if count == 0 {
        return BTreeMap::new();
    }
    let (each, mut extra) = (partitions / count, partitions % count);
    let mut left: Share = (0..partitions).collect();
    let mut shares: BTreeMap<Member, Share> = BTreeMap::new();
    for (name, has) in members {
        let is_left: Vec<u32> = has.intersection(&left).copied().collect();
        let mut most = each;
        if is_left.len() as u32 > each && extra > 0 {
            extra -= 1;
            most += 1;
        }
        let kept: Share = is_left.into_iter().take(most as usize).collect();
        left.retain(|partition| !kept.contains(partition));
        shares.insert(*name, kept);
    }
    for share in shares.values_mut() {
        while (share.len() as u32) < each
            && let Some(partition) = left.pop_first()
        {
            share.insert(partition);
        }
    }
    for share in shares.values_mut() {
        if share.len() as u32 == each
            && extra > 0
            && let Some(partition) = left.pop_first()
        {
            extra -= 1;
            share.insert(partition);
        }
    }
    shares
}

/// As [`sticky`], and what another has is given to nobody until it was given back.
pub fn cooperative(members: &BTreeMap<Member, Share>, partitions: u32) -> BTreeMap<Member, Share> {
    let mut shares = sticky(members, partitions);
    for (name, share) in &mut shares {
        let others = members.iter().filter(|(other, _)| *other != name);
        for (_, has) in others {
            share.retain(|partition| !has.contains(partition));
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn has(shares: &[(Member, &[u32])]) -> BTreeMap<Member, Share> {
        let shares = shares.iter();
        shares
            .map(|(name, share)| (*name, share.iter().copied().collect()))
            .collect()
    }

    #[test]
    fn everybody_keeps_what_he_can() {
        let shares = sticky(&has(&[(1, &[0, 1, 2, 3]), (2, &[])]), 4);
        assert_eq!(shares, has(&[(1, &[0, 1]), (2, &[2, 3])]));
        let shares = sticky(&has(&[(1, &[3]), (2, &[0, 1, 2]), (3, &[4])]), 5);
        assert_eq!(shares, has(&[(1, &[2, 3]), (2, &[0, 1]), (3, &[4])]));
        assert_eq!(sticky(&has(&[]), 4), has(&[]));
    }

    #[test]
    fn what_changes_hands_is_nobodys_for_a_moment() {
        let members = has(&[(1, &[0, 1, 2, 3]), (2, &[])]);
        let shares = cooperative(&members, 4);
        assert_eq!(shares, has(&[(1, &[0, 1]), (2, &[])]));
        assert_eq!(
            cooperative(&shares, 4),
            has(&[(1, &[0, 1]), (2, &[2, 3])]),
            "and then it is dealt out"
        );
    }

    #[test]
    fn by_turns_looks_at_nothing() {
        let shares = by_turns(&has(&[(4, &[2]), (9, &[0])]), 3);
        assert_eq!(shares, has(&[(4, &[0, 2]), (9, &[1])]));
    }

    proptest! {
        #[test]
        fn each_partition_is_given_once_and_evenly(
            owners in proptest::collection::vec(0..6_u64, 0..12),
            members in proptest::collection::btree_set(0..6_u64, 1..6),
        ) {
            let mut all: BTreeMap<Member, Share> = members.iter().map(|name| (*name, Share::new())).collect();
            for (partition, owner) in (0..).zip(&owners) {
                all.entry(*owner).and_modify(|share| { share.insert(partition); });
            }
            let partitions = owners.len() as u32;
            for shares in [sticky(&all, partitions), by_turns(&all, partitions)] {
                let mut given: Vec<u32> = shares.values().flatten().copied().collect();
                given.sort_unstable();
                prop_assert_eq!(given, (0..partitions).collect::<Vec<_>>());
                let sizes = || shares.values().map(Share::len);
                prop_assert!(sizes().max() <= sizes().min().map(|min| min + 1));
            }
            let mut round = cooperative(&all, partitions);
            for (name, share) in &round {
                for (_, has) in all.iter().filter(|(other, _)| *other != name) {
                    prop_assert!(share.is_disjoint(has));
                }
            }
            round = cooperative(&round, partitions);
            prop_assert_eq!(round.values().flatten().count(), partitions as usize);
        }
    }
}
