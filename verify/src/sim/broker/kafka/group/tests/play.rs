//! A few members that do what a client does, in any order, with silences and deaths: whatever happens, no two members that the
//! coordinator knows have one partition; and left in peace they have all of them.

use super::super::classic::Told;
use super::super::*;
use super::{PATIENCE, at, who};
use proptest::prelude::*;

const PARTITIONS: u32 = 5;

/// What a member does next.
#[derive(Debug, Default)]
enum Next {
    #[default]
    Join,
    AwaitJoined,
    AwaitSynced,
    Beat,
}

#[derive(Debug, Default)]
struct Client {
    name: Option<Member>,
    generation: u64,
    /// The generation in which what it has was dealt out.
    dealt_in: u64,
    has: Share,
    next: Next,
}

#[derive(Clone, Debug)]
enum Step {
    /// A client does what is next.
    Go(usize),
    /// A client is killed, and another takes its place.
    Die(usize),
    /// It ends in order.
    Leave(usize),
    /// Time passes.
    Pass(u64),
}

struct Play {
    rebalancing: Rebalancing,
    group: Group,
    clients: Vec<Client>,
    now: u64,
}

impl Client {
    fn lost(&mut self) {
        *self = Self::default();
    }
}

impl Play {
    fn new(rebalancing: Rebalancing) -> Self {
        Self {
            rebalancing,
            group: Group::new(rebalancing, PATIENCE, PARTITIONS),
            clients: (0..3).map(|_| Client::default()).collect(),
            now: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Go(client) if self.rebalancing == Rebalancing::Broker => self.beat(client),
            Step::Go(client) => self.go(client),
            Step::Die(client) => self.clients[client].lost(),
            Step::Leave(client) => {
                if let Some(name) = self.clients[client].name {
                    self.group.leave(at(self.now), name);
                }
                self.clients[client].lost();
            }
            Step::Pass(seconds) => {
                self.now += seconds;
                self.group.advance(at(self.now));
            }
        }
    }

    fn beat(&mut self, client: usize) {
        let client = &mut self.clients[client];
        let identity = client.name.map(|name| who(name, client.generation));
        let of = self.group.broker().expect("the broker's");
        match of.heartbeat(at(self.now), identity, Some(&client.has)) {
            Ok(told) => {
                client.name = Some(told.member);
                client.generation = told.epoch;
                client.has = told.share;
            }
            Err(_) => client.lost(),
        }
    }

    fn go(&mut self, client: usize) {
        let eager = self.rebalancing == Rebalancing::Eager;
        let client = &mut self.clients[client];
        let of = self.group.classic().expect("classic");
        let identity = who(client.name.unwrap_or_default(), client.generation);
        match client.next {
            Next::Join => {
                if eager {
                    client.has.clear();
                }
                let has = (client.dealt_in, client.has.clone());
                match of.join(at(self.now), client.name, None, has) {
                    Ok(name) => {
                        client.name = Some(name);
                        client.next = Next::AwaitJoined;
                    }
                    Err(_) => client.lost(),
                }
            }
            Next::AwaitJoined => match of.take(identity.member) {
                Ok(Some(Told::Joined { generation, leads })) => {
                    client.generation = generation;
                    let dealt = leads.map(|leads| match eager {
                        true => assign::by_turns(&leads, PARTITIONS),
                        false => assign::cooperative(&leads, PARTITIONS),
                    });
                    let synced = of.sync(at(self.now), who(identity.member, generation), dealt);
                    client.next = match synced {
                        Ok(()) => Next::AwaitSynced,
                        Err(Refused::Rebalancing) => Next::Join,
                        Err(_) => return client.lost(),
                    };
                }
                Ok(_) => {}
                Err(_) => client.lost(),
            },
            Next::AwaitSynced => match of.take(identity.member) {
                Ok(Some(Told::Synced(share))) => {
                    let gave = !client.has.is_subset(&share);
                    client.has = share;
                    client.dealt_in = client.generation;
                    client.next = if gave { Next::Join } else { Next::Beat };
                }
                Ok(Some(_)) => client.next = Next::Join,
                Ok(None) => {}
                Err(_) => client.lost(),
            },
            Next::Beat => match of.heartbeat(at(self.now), identity) {
                Ok(()) => {}
                Err(Refused::Rebalancing) => client.next = Next::Join,
                Err(_) => client.lost(),
            },
        }
    }

    /// Whether the coordinator knows the member, by what it says to a commit.
    fn is_known(&mut self, client: usize) -> bool {
        let Some(name) = self.clients[client].name else {
            return false;
        };
        let who = who(name, self.clients[client].generation);
        let commit = self.group.commit(at(self.now), Some(who), &BTreeMap::new());
        !matches!(commit, Err(Refused::UnknownMember | Refused::Fenced))
    }

    /// How many members that are known have each partition.
    fn owners(&mut self) -> BTreeMap<u32, usize> {
        let mut owners = BTreeMap::new();
        for client in 0..self.clients.len() {
            if self.is_known(client) {
                for partition in &self.clients[client].has {
                    *owners.entry(*partition).or_default() += 1;
                }
            }
        }
        owners
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0..3_usize).prop_map(Step::Go),
        1 => (0..3_usize).prop_map(Step::Die),
        1 => (0..3_usize).prop_map(Step::Leave),
        3 => (0..9_u64).prop_map(Step::Pass),
    ];
    proptest::collection::vec(step, 1..150)
}

fn play(rebalancing: Rebalancing, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut play = Play::new(rebalancing);
    for step in steps {
        play.step(step);
        let owners = play.owners();
        prop_assert!(
            owners.values().all(|owners| *owners == 1),
            "{owners:?} after {step:?}"
        );
    }
    // In peace: whoever died is put out, and all do in turn what is next.
    for _ in 0..60 {
        for client in 0..3 {
            play.step(&Step::Go(client));
        }
        play.step(&Step::Pass(1));
    }
    prop_assert!(play.group.is_settled());
    let owners = play.owners();
    prop_assert_eq!(owners.len(), PARTITIONS as usize, "{:?}", owners);
    Ok(())
}

proptest! {
    #[test]
    fn eager_members_have_each_partition_once(steps in steps()) {
        play(Rebalancing::Eager, &steps)?;
    }

    #[test]
    fn cooperative_members_have_each_partition_once(steps in steps()) {
        play(Rebalancing::Cooperative, &steps)?;
    }

    #[test]
    fn the_brokers_members_have_each_partition_once(steps in steps()) {
        play(Rebalancing::Broker, &steps)?;
    }
}
