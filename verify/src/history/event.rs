//! The events of a history. The table in [`super`] says what each stands for.

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;
use std::fmt;

/// What an acked envelope survives, from weak to strong; the names are the bus's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Gone with the broker's process.
    Volatile,
    /// In the broker's log.
    Stored,
    /// Flushed to disk before the answer.
    Synced,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Volatile => "volatile",
            Self::Stored => "stored",
            Self::Synced => "synced",
        })
    }
}

/// Whether something begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It begins.
    Begin,
    /// It has ended.
    End,
}

/// The two ends of a close.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClosePhase {
    /// `close` is called.
    Invoke,
    /// `close` has answered.
    Return,
}

/// The order a subscription promises its handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Everything of a partition in the order of its positions.
    #[default]
    Partition,
    /// Everything of a key in the order of its positions; keys run side by side.
    Key,
    /// None.
    None,
}

/// How a delivery ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// Done.
    Ack,
    /// Not done: deliver it again.
    Nack,
    /// Given up on and put aside.
    DeadLetter,
    /// Cut off, so not done either: by a time limit, a panic, a revoke or a close.
    Cancelled,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_zero_epoch(number: &u64) -> bool {
    *number == 0
}

/// Declares the events once: their structs, the enum, and the line `{"at":..,"<name>":{..}}`.
macro_rules! events {
    ($($(#[$doc:meta])* $name:literal $event:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty),* $(,)?
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
            #[serde(deny_unknown_fields)]
            pub struct $event {
                $($(#[$field_doc])* pub $field: $type,)*
            }

            impl From<$event> for Event {
                fn from(event: $event) -> Self {
                    Self::$event(event)
                }
            }
        )*

        /// Something that happened.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Event {
            $($(#[$doc])* $event($event),)*
        }

        const NAMES: &[&str] = &[$($name),*];

        impl Event {
            /// The name of the event, as the file has it.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$event(_) => $name,)*
                }
            }

            fn serialize_into<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                match self {
                    $(Self::$event(event) => map.serialize_entry($name, event),)*
                }
            }

            fn from_map<'de, M: MapAccess<'de>>(name: &str, map: &mut M) -> Result<Self, M::Error> {
                match name {
                    $($name => Ok(Self::$event(map.next_value()?)),)*
                    // The value is not read: the name alone is wrong.
                    other => Err(M::Error::custom(format_args!(
                        "unknown event `{other}`, expected one of: {}",
                        NAMES.join(", ")
                    ))),
                }
            }
        }
    };
}

events! {
    /// A publish begins.
    "invoke" Invoke {
        /// Names the publish in the rest of the history.
        op: u64,
        /// The thread of control it belongs to.
        process: u32,
        /// The bus it was given to.
        #[serde(default, skip_serializing_if = "is_zero")]
        bus: u32,
        /// Where it goes.
        topic: String,
        /// The envelope's id.
        id: String,
        /// The envelope's key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// The n-th publish of its process.
        seq: u64,
        /// Bytes of payload.
        size: u64,
        /// Whether publishes of one key keep their order though the answer of the one before is
        /// still out.
        #[serde(default, skip_serializing_if = "is_false")]
        ordered: bool,
        /// What an ack of this one has to mean.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        durability: Option<Durability>,
    }
    /// A publish ended: the envelope is stored.
    "acked" Acked {
        /// Which publish.
        op: u64,
        /// Where it is stored.
        partition: u32,
        /// Where in the partition.
        position: u64,
        /// Whether the broker had it already.
        #[serde(default, skip_serializing_if = "is_false")]
        duplicate: bool,
        /// How it is stored.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        durability: Option<Durability>,
    }
    /// A publish ended: the envelope is surely not stored.
    "rejected" Rejected {
        /// Which publish.
        op: u64,
        /// Why.
        reason: String,
    }
    /// A publish ended: nobody knows whether the envelope is stored.
    "unknown" Unknown {
        /// Which publish.
        op: u64,
        /// Why.
        reason: String,
    }
    /// An attempt had no answer, and the envelope is sent once more.
    "resend" Resend {
        /// Which publish, where the recorder knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        op: Option<u64>,
        /// Which envelope, where the recorder knows no more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
        /// Where it goes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        topic: Option<String>,
    }
    /// A subscription begins.
    "subscribe" Subscribe {
        /// Names the subscription in the rest of the history.
        subscription: u32,
        /// The bus it runs on.
        #[serde(default, skip_serializing_if = "is_zero")]
        bus: u32,
        /// What it reads.
        topic: String,
        /// Whom it shares the topic with.
        group: String,
        /// What it promises its handler.
        #[serde(default)]
        order: Order,
    }
    /// A handler begins with an envelope.
    "deliver" Deliver {
        /// The subscription whose handler it is.
        subscription: u32,
        /// The bus it runs on.
        #[serde(default, skip_serializing_if = "is_zero")]
        bus: u32,
        /// Where the envelope comes from.
        topic: String,
        /// The group the subscription reads for.
        group: String,
        /// Where in the topic.
        partition: u32,
        /// Where in the partition.
        position: u64,
        /// The envelope's id.
        id: String,
        /// The envelope's key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// How often the broker has handed it out, this time included.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        attempt: Option<u32>,
        /// The how-manieth owner of the partition the subscription is.
        #[serde(default, skip_serializing_if = "is_zero_epoch")]
        epoch: u64,
    }
    /// A handler has ended.
    "settle" Settle {
        /// The subscription whose handler it was.
        subscription: u32,
        /// Where the envelope came from.
        topic: String,
        /// Where in the topic.
        partition: u32,
        /// Where in the partition.
        position: u64,
        /// How it ended.
        how: Settled,
        /// What made it end so; for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    }
    /// A group says that everything below a position is done.
    "commit" Commit {
        /// Who says so. None: it was seen from outside, at the broker.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subscription: Option<u32>,
        /// About which topic.
        topic: String,
        /// For which group.
        group: String,
        /// In which partition.
        partition: u32,
        /// The first position that is not done.
        position: u64,
        /// The owner who says so, if a subscription does.
        #[serde(default, skip_serializing_if = "is_zero_epoch")]
        epoch: u64,
    }
    /// Partitions changed hands.
    "rebalance" Rebalance {
        /// Of which topic.
        topic: String,
        /// In which group.
        group: String,
        /// From now on.
        epoch: u64,
        /// Who got them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subscription: Option<u32>,
        /// The bus that lost them, if that is who says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<u32>,
        /// Which ones.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        partitions: Vec<u32>,
    }
    /// A bus uses a new session.
    "reconnect" Reconnect {
        /// The bus.
        #[serde(default, skip_serializing_if = "is_zero")]
        bus: u32,
        /// The generation of the new session.
        generation: u64,
    }
    /// A bus has lost its session, or its process was killed.
    "disconnect" Disconnect {
        /// The bus.
        #[serde(default, skip_serializing_if = "is_zero")]
        bus: u32,
        /// Its process is dead: no handler of it runs any more.
        #[serde(default, skip_serializing_if = "is_false")]
        killed: bool,
    }
    /// The process of a bus stands still, or goes on.
    "frozen" Frozen {
        /// The bus.
        #[serde(default, skip_serializing_if = "is_zero")]
        bus: u32,
        /// Since now, or until now.
        phase: Phase,
    }
    /// A subscription has ended.
    "ended" Ended {
        /// Which.
        subscription: u32,
        /// Partition and position of each delivery that was taken and not settled.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        left: Vec<(u32, u64)>,
        /// A handler could not be stopped and may still run.
        #[serde(default, skip_serializing_if = "is_false")]
        blocked: bool,
    }
    /// Somebody breaks or mends something.
    "fault" Fault {
        /// What.
        what: String,
        /// Breaks or mends.
        phase: Phase,
    }
    /// What a topic held is destroyed from outside, and its positions start again.
    "erased" Erased {
        /// Which topic.
        topic: String,
        /// Before or after.
        phase: Phase,
    }
    /// A caller closes a bus.
    "close" Close {
        /// Who.
        process: u32,
        /// Which bus.
        #[serde(default, skip_serializing_if = "is_zero")]
        bus: u32,
        /// Before or after.
        phase: ClosePhase,
        /// What close answered.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        report: Option<Value>,
    }
    /// A group has caught up with a topic.
    "drained" Drained {
        /// The topic.
        topic: String,
        /// The group.
        group: String,
    }
}

/// A line after the header.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) at: u64,
    pub(super) event: Event,
}

/// [`Line`], borrowed: what is written.
pub(super) struct LineRef<'a> {
    pub(super) at: u64,
    pub(super) event: &'a Event,
}

impl Serialize for LineRef<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("at", &self.at)?;
        self.event.serialize_into(&mut map)?;
        map.end()
    }
}

// By hand: serde's tagged enums read a line into a buffer first, and then an error has lost its
// column.
impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(LineVisitor)
    }
}

struct LineVisitor;

impl<'de> Visitor<'de> for LineVisitor {
    type Value = Line;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an object with `at` and one event, one of: {}",
            NAMES.join(", ")
        )
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Line, M::Error> {
        let (mut at, mut event) = (None, None);
        while let Some(name) = map.next_key::<String>()? {
            if name == "at" {
                if at.replace(map.next_value()?).is_some() {
                    return Err(M::Error::duplicate_field("at"));
                }
            } else if event.replace(Event::from_map(&name, &mut map)?).is_some() {
                return Err(M::Error::custom("a second event, expected one a line"));
            }
        }
        Ok(Line {
            at: at.ok_or_else(|| M::Error::missing_field("at"))?,
            event: event.ok_or_else(|| {
                M::Error::custom(format_args!(
                    "no event, expected one of: {}",
                    NAMES.join(", ")
                ))
            })?,
        })
    }
}
