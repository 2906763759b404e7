//! The promises of a coordinator, each with a case. That no two members have a partition is in `play`, under random use.

mod play;

use super::classic::Told;
use super::*;
use std::sync::Arc;

const PATIENCE: Patience = Patience {
    session: Duration::from_secs(6),
    rebalance: Duration::from_secs(20),
};

const fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn nothing() -> (u64, Share) {
    (0, Share::new())
}

fn who(member: Member, generation: u64) -> Identity {
    Identity { member, generation }
}

fn place(offset: u64) -> BTreeMap<u32, u64> {
    BTreeMap::from([(0, offset)])
}

/// A group of four partitions.
fn classic() -> Group {
    Group::new(Rebalancing::Cooperative, PATIENCE, 4)
}

/// Takes what a member was told when it joined.
fn joined(group: &mut Group, member: Member) -> (u64, Option<BTreeMap<Member, Share>>) {
    match group.classic().expect("classic").take(member) {
        Ok(Some(Told::Joined { generation, leads })) => (generation, leads),
        other => panic!("not joined: {other:?}"),
    }
}

/// One member of generation 1, with everything.
fn one() -> (Group, Member) {
    let mut group = classic();
    let of = group.classic().expect("classic");
    let member = of.join(at(0), None, None, nothing()).expect("new");
    let (generation, leads) = joined(&mut group, member);
    assert_eq!(generation, 1);
    let dealt = assign::cooperative(&leads.expect("alone"), 4);
    let of = group.classic().expect("classic");
    of.sync(at(0), who(member, 1), Some(dealt)).expect("leads");
    let all: Share = (0..4).collect();
    assert_eq!(of.take(member), Ok(Some(Told::Synced(all))));
    assert!(group.is_settled());
    (group, member)
}

#[test]
fn a_second_member_makes_the_first_join_again() {
    let (mut group, first) = one();
    let of = group.classic().expect("classic");
    let second = of.join(at(1), None, None, nothing()).expect("new");
    assert_eq!(of.take(second), Ok(None), "the first is waited for");
    let again = of.heartbeat(at(1), who(first, 1));
    assert_eq!(again, Err(Refused::Rebalancing));
    assert_eq!(group.commit(at(1), Some(who(first, 1)), &place(5)), Ok(()));
    let of = group.classic().expect("classic");
    let has = (1, (0..4).collect());
    of.join(at(2), Some(first), None, has).expect("a member");
    assert!(!group.is_settled());
    let (_, leads) = joined(&mut group, first);
    let dealt = assign::cooperative(&leads.expect("it leads on"), 4);
    assert_eq!(joined(&mut group, second), (2, None));
    let late = group.commit(at(2), Some(who(first, 2)), &place(6));
    assert_eq!(late, Err(Refused::Rebalancing), "not while it is dealt out");
    let of = group.classic().expect("classic");
    of.sync(at(2), who(second, 2), None).expect("waits");
    of.sync(at(2), who(first, 2), Some(dealt)).expect("leads");
    let two: Share = [0, 1].into();
    assert_eq!(of.take(first), Ok(Some(Told::Synced(two))));
    assert_eq!(of.take(second), Ok(Some(Told::Synced(Share::new()))));
    assert_eq!(group.committed(), &place(5));
}

#[test]
fn a_generation_that_is_over_commits_nothing() {
    let (mut group, member) = one();
    assert_eq!(group.commit(at(1), Some(who(member, 1)), &place(5)), Ok(()));
    let stale = group.commit(at(1), Some(who(member, 0)), &place(9));
    assert_eq!(stale, Err(Refused::Stale));
    let outside = group.commit(at(1), None, &place(9));
    assert_eq!(outside, Err(Refused::UnknownMember), "it has members");
    group.leave(at(2), member);
    assert_eq!(
        group.commit(at(2), Some(who(member, 1)), &place(9)),
        Err(Refused::UnknownMember)
    );
    assert_eq!(group.committed(), &place(5));
    assert_eq!(group.commit(at(2), None, &place(7)), Ok(()));
    assert_eq!(group.committed(), &place(7));
}

/// It stood still for longer than its session, and does not know.
#[test]
fn a_zombie_is_no_member() {
    let (mut group, member) = one();
    let of = group.classic().expect("classic");
    of.heartbeat(at(3), who(member, 1)).expect("alive");
    assert_eq!(group.due(), Some(at(9)));
    group.advance(at(8));
    assert!(!group.is_empty());
    group.advance(at(9));
    assert!(group.is_empty());
    let unknown = Err(Refused::UnknownMember);
    let of = group.classic().expect("classic");
    assert_eq!(of.heartbeat(at(9), who(member, 1)), unknown);
    let back = of.join(at(9), Some(member), None, nothing());
    assert_eq!(back, Err(Refused::UnknownMember));
    assert_eq!(
        group.commit(at(9), Some(who(member, 1)), &place(9)),
        unknown
    );
    assert!(group.committed().is_empty());
}

#[test]
fn who_does_not_join_in_time_is_put_out() {
    let (mut group, first) = one();
    let of = group.classic().expect("classic");
    let second = of.join(at(1), None, None, nothing()).expect("new");
    for second in [5, 10, 15, 20] {
        // It lives, and does not join.
        let of = group.classic().expect("classic");
        let again = of.heartbeat(at(second), who(first, 1));
        assert_eq!(again, Err(Refused::Rebalancing));
        group.advance(at(second));
    }
    group.advance(at(21));
    let (generation, leads) = joined(&mut group, second);
    assert_eq!(
        (generation, leads.map(|leads| leads.len())),
        (2, Some(1)),
        "it leads now"
    );
    assert_eq!(
        group.classic().expect("classic").take(first),
        Err(Refused::UnknownMember)
    );
}

#[test]
fn what_a_member_had_before_another_was_dealt_a_share_it_does_not_have() {
    let (mut group, first) = one();
    let of = group.classic().expect("classic");
    let second = of.join(at(1), None, None, nothing()).expect("new");
    of.join(at(1), Some(second), None, (1, [3].into()))
        .expect("a member");
    of.join(at(1), Some(first), None, (0, (0..4).collect()))
        .expect("a member");
    let (_, leads) = joined(&mut group, first);
    let leads = leads.expect("leads");
    assert_eq!(leads[&first], Share::new());
    assert_eq!(leads[&second], [3].into());
}

/// A generation whose members never heard what they have: the answers were lost, and all join again.
#[test]
fn a_generation_without_shares_takes_nothing() {
    let (mut group, first) = one();
    let has: Share = (0..4).collect();
    let of = group.classic().expect("classic");
    let second = of.join(at(1), None, None, nothing()).expect("new");
    for again in [at(1), at(2)] {
        let of = group.classic().expect("classic");
        of.join(again, Some(second), None, nothing())
            .expect("a member");
        of.join(again, Some(first), None, (1, has.clone()))
            .expect("a member");
        let (_, leads) = joined(&mut group, first);
        assert_eq!(leads.expect("leads")[&first], has);
    }
}

/// A member that came up again under its instance has what it had, and the one before has nothing any more.
#[test]
fn an_instance_that_comes_again_takes_its_own_place() {
    let mut group = classic();
    let name: Arc<str> = "a".into();
    let of = group.classic().expect("classic");
    let first = of
        .join(at(0), None, Some(&name), nothing())
        .expect("it is new");
    let (_, leads) = joined(&mut group, first);
    let dealt = assign::sticky(&leads.expect("alone"), 4);
    let of = group.classic().expect("classic");
    of.sync(at(0), who(first, 1), Some(dealt)).expect("leads");
    let again = of
        .join(at(2), None, Some(&name), nothing())
        .expect("it comes again");
    assert_eq!(joined(&mut group, again), (1, None), "nothing changes");
    let of = group.classic().expect("classic");
    of.sync(at(2), who(again, 1), None).expect("stable");
    assert_eq!(
        of.take(again),
        Ok(Some(Told::Synced((0..4).collect::<Share>())))
    );
    let fenced = Err(Refused::Fenced);
    assert_eq!(of.heartbeat(at(2), who(first, 1)), fenced);
    assert_eq!(group.commit(at(2), Some(who(first, 1)), &place(3)), fenced);
}

#[test]
fn the_broker_gives_what_was_given_back_and_not_before() {
    let mut group = Group::new(Rebalancing::Broker, PATIENCE, 4);
    let of = group.broker().expect("the broker's");
    let told = of.heartbeat(at(0), None, None).expect("new");
    let (first, old) = (told.member, told.epoch);
    assert_eq!(told.share.len(), 4);
    let second = of.heartbeat(at(1), None, None).expect("new");
    assert!(second.share.is_empty(), "another has it all");
    let all: Share = (0..4).collect();
    let told = of.heartbeat(at(1), Some(who(first, old)), Some(&all));
    let told = told.expect("a member");
    assert_eq!((told.share.len(), told.epoch), (2, old), "it is to give");
    let of_second = Some(who(second.member, second.epoch));
    let still = of.heartbeat(at(2), of_second, Some(&Share::new()));
    assert!(still.expect("a member").share.is_empty());
    assert_eq!(
        group.commit(at(2), Some(who(first, old)), &place(5)),
        Ok(())
    );
    let of = group.broker().expect("the broker's");
    let kept = told.share;
    let told = of.heartbeat(at(3), Some(who(first, old)), Some(&kept));
    let epoch = told.expect("a member").epoch;
    assert!(epoch > old);
    let given = of.heartbeat(at(3), of_second, Some(&Share::new()));
    let given = given.expect("a member").share;
    assert!(given.is_disjoint(&kept) && given.len() == 2);
    assert!(group.is_settled());
    let stale = group.commit(at(3), Some(who(first, old)), &place(9));
    assert_eq!(stale, Err(Refused::Stale));
    assert_eq!(
        group.commit(at(3), Some(who(first, epoch)), &place(6)),
        Ok(())
    );
    group.advance(at(9));
    assert!(group.is_empty(), "both were silent");
}

#[test]
fn who_gives_nothing_back_in_time_is_put_out() {
    let mut group = Group::new(Rebalancing::Broker, PATIENCE, 1);
    let of = group.broker().expect("the broker's");
    let told = of.heartbeat(at(0), None, None).expect("new");
    let first = who(told.member, told.epoch);
    group.grow(at(0), 2);
    let all: Share = (0..2).collect();
    let of = group.broker().expect("the broker's");
    let told = of.heartbeat(at(0), Some(first), Some(&Share::from([0])));
    let first = who(first.member, told.expect("a member").epoch);
    of.heartbeat(at(1), None, None).expect("new");
    for second in [1, 6, 11, 16, 20] {
        let of = group.broker().expect("the broker's");
        of.heartbeat(at(second), Some(first), Some(&all))
            .expect("it lives");
        group.advance(at(second));
    }
    group.advance(at(21));
    let of = group.broker().expect("the broker's");
    let unknown = of.heartbeat(at(21), Some(first), Some(&all));
    assert_eq!(unknown, Err(Refused::UnknownMember));
}

#[test]
fn members_share_in_one_way() {
    let (mut group, member) = one();
    assert!(matches!(group.broker(), Err(Refused::Inconsistent)));
    group.leave(at(1), member);
    let of = group.broker().expect("it is empty");
    of.heartbeat(at(1), None, None).expect("new");
    assert!(matches!(group.classic(), Err(Refused::Inconsistent)));
}
