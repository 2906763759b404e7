//! A plan as a file has it: each field may be missing, and is drawn from the seed then.

use crate::sim::fault::{Fault, Faults, Ratio};
use crate::sim::plan::Plan;
use clearway::Order;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

/// For about so many a plan is drawn that does not say how many.
pub(super) const ENVELOPES: u64 = 300;

/// As likely as a fault can be.
const ALWAYS: u32 = Ratio::ALWAYS.0;

/// See the module, and [`Plan`] for what each field is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    seed: u64,
    envelopes: Option<NonZeroU64>,
    members: Option<NonZeroUsize>,
    publishers: Option<NonZeroUsize>,
    keys: Option<NonZeroU64>,
    partitions: Option<NonZeroU32>,
    window: Option<NonZeroUsize>,
    ordered: Option<bool>,
    pause_ms: Option<u64>,
    order: Option<OrderName>,
    concurrency: Option<NonZeroUsize>,
    in_flight: Option<NonZeroU64>,
    timeout_ms: Option<NonZeroU64>,
    /// `null` is a choice of its own: none.
    #[serde(default, deserialize_with = "there")]
    attempts: Option<Option<NonZeroU32>>,
    confirm: Option<bool>,
    /// As above.
    #[serde(default, deserialize_with = "there")]
    dedup: Option<Option<NonZeroUsize>>,
    results: Option<bool>,
    faults: Option<Strengths>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OrderName {
    ByKey,
    ByPartition,
    Unordered,
}

/// Faults by name, whether there are such or not. Those that are not named never strike.
#[derive(Clone, Debug, PartialEq)]
struct Strengths(Vec<(String, u32)>);

fn there<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

impl Written {
    /// Every field of a plan.
    pub(super) fn of(plan: &Plan) -> Self {
        let there = Fault::ALL
            .iter()
            .map(|fault| (fault, plan.faults.get(*fault)));
        let there = there.filter(|(_, ratio)| *ratio > Ratio::NEVER);
        let named = there.map(|(fault, Ratio(millionths))| (fault.name().to_owned(), millionths));
        Self {
            seed: plan.seed,
            envelopes: NonZeroU64::new(plan.envelopes),
            members: NonZeroUsize::new(plan.members),
            publishers: NonZeroUsize::new(plan.publishers),
            keys: NonZeroU64::new(plan.keys),
            partitions: NonZeroU32::new(plan.partitions),
            window: NonZeroUsize::new(plan.window),
            ordered: Some(plan.ordered),
            pause_ms: Some(plan.pause.as_millis() as u64),
            order: Some(match plan.order {
                Order::ByKey => OrderName::ByKey,
                Order::ByPartition => OrderName::ByPartition,
                Order::Unordered => OrderName::Unordered,
            }),
            concurrency: NonZeroUsize::new(plan.concurrency),
            in_flight: NonZeroU64::new(plan.in_flight),
            timeout_ms: NonZeroU64::new(plan.timeout.as_millis() as u64),
            attempts: Some(plan.attempts.and_then(NonZeroU32::new)),
            confirm: Some(plan.confirm),
            dedup: Some(plan.dedup.and_then(NonZeroUsize::new)),
            results: Some(plan.results),
            faults: Some(Strengths(named.collect())),
        }
    }

    /// The plan, and what of the file is left out.
    pub(super) fn to_plan(&self) -> (Plan, Vec<String>) {
        let drawn = Plan::draw(self.seed, ENVELOPES);
        let (mut faults, mut left_out) = match &self.faults {
            Some(strengths) => strengths.to_faults(),
            None => (drawn.faults, Vec::new()),
        };
        let attempts = self
            .attempts
            .map_or(drawn.attempts, |it| it.map(NonZeroU32::get));
        if attempts.is_some() && faults.lazy_fsync > Ratio::NEVER {
            faults.lazy_fsync = Ratio::NEVER;
            left_out.push("no letter may be lost where dead letters are read in the end: lazy-fsync is left out".into());
        }
        let plan = Plan {
            seed: self.seed,
            envelopes: self.envelopes.map_or(drawn.envelopes, NonZeroU64::get),
            members: self.members.map_or(drawn.members, NonZeroUsize::get),
            publishers: self.publishers.map_or(drawn.publishers, NonZeroUsize::get),
            keys: self.keys.map_or(drawn.keys, NonZeroU64::get),
            partitions: self.partitions.map_or(drawn.partitions, NonZeroU32::get),
            window: self.window.map_or(drawn.window, NonZeroUsize::get),
            ordered: self.ordered.unwrap_or(drawn.ordered),
            pause: self.pause_ms.map_or(drawn.pause, Duration::from_millis),
            order: self.order.map_or(drawn.order, |order| match order {
                OrderName::ByKey => Order::ByKey,
                OrderName::ByPartition => Order::ByPartition,
                OrderName::Unordered => Order::Unordered,
            }),
            concurrency: self
                .concurrency
                .map_or(drawn.concurrency, NonZeroUsize::get),
            in_flight: self.in_flight.map_or(drawn.in_flight, NonZeroU64::get),
            timeout: (self.timeout_ms).map_or(drawn.timeout, |ms| Duration::from_millis(ms.get())),
            attempts,
            confirm: self.confirm.unwrap_or(drawn.confirm),
            dedup: self
                .dedup
                .map_or(drawn.dedup, |it| it.map(NonZeroUsize::get)),
            results: self.results.unwrap_or(drawn.results),
            faults,
        };
        (plan, left_out)
    }
}

impl Strengths {
    fn to_faults(&self) -> (Faults, Vec<String>) {
        let (mut faults, mut left_out) = (Faults::default(), Vec::new());
        for (name, millionths) in &self.0 {
            match Fault::ALL.iter().find(|fault| fault.name() == name) {
                Some(fault) => faults.set(*fault, Ratio(*millionths)),
                None => left_out.push(format!("there is no fault `{name}`: left out")),
            }
        }
        (faults, left_out)
    }
}

impl Serialize for Strengths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, millionths)| (name, millionths)))
    }
}

// By hand: a map of serde's takes the last of two of one name and says nothing.
impl<'de> Deserialize<'de> for Strengths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(StrengthsVisitor)
    }
}

struct StrengthsVisitor;

impl<'de> Visitor<'de> for StrengthsVisitor {
    type Value = Strengths;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "faults by name, each with how many of {ALWAYS} times it strikes"
        )
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Strengths, M::Error> {
        let mut all: Vec<(String, u32)> = Vec::new();
        while let Some((name, millionths)) = map.next_entry::<String, u32>()? {
            let wrong = if millionths > ALWAYS {
                Some(format!("cannot be likelier than {ALWAYS}"))
            } else if all.iter().any(|(other, _)| *other == name) {
                Some("is named twice".to_owned())
            } else {
                None
            };
            if let Some(wrong) = wrong {
                return Err(M::Error::custom(format_args!("the fault `{name}` {wrong}")));
            }
            all.push((name, millionths));
        }
        Ok(Strengths(all))
    }
}
