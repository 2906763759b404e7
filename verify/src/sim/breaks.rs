//! What a run violated, by name: a property of its history, or one of the run as a whole.
//!
//! A plan that is made smaller has to violate the same one: another failure is another bug.

use crate::check::Property;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Breaks {
    /// The checker of histories says so, and which lines show it.
    History(Property),
    /// In the calm all had to come to an end, and did not.
    Liveness,
    /// The world came to no end: nothing could run, or something ran for ever.
    NoEnd,
    /// Something panicked that was not told to.
    Panic,
    /// A close with nothing to do was not drained, or left a task behind.
    LastClose,
    /// A bus that closes let something in, or kept something out.
    Door,
    /// What was given up is not among the dead letters.
    DeadLetter,
    /// The same plan ran differently the second time.
    Again,
    /// Somebody wrote to the history of a run that was over.
    OpenRecord,
}

impl Breaks {
    /// Those that no line of a history shows.
    const OF_RUNS: [Self; 8] = [
        Self::Liveness,
        Self::NoEnd,
        Self::Panic,
        Self::LastClose,
        Self::Door,
        Self::DeadLetter,
        Self::Again,
        Self::OpenRecord,
    ];

    /// The name, as files have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::History(property) => property.name(),
            Self::Liveness => "liveness",
            Self::NoEnd => "no-end",
            Self::Panic => "panic",
            Self::LastClose => "last-close",
            Self::Door => "door",
            Self::DeadLetter => "dead-letter",
            Self::Again => "again",
            Self::OpenRecord => "open-record",
        }
    }

    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        let of_histories = Property::ALL.into_iter().map(Self::History);
        of_histories.chain(Self::OF_RUNS)
    }
}

impl fmt::Display for Breaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Breaks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Breaks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = Self::all().find(|breaks| breaks.name() == name);
        found.ok_or_else(|| {
            let names: Vec<_> = Self::all().map(Self::name).collect();
            D::Error::custom(format_args!(
                "there is no property `{name}`, expected one of: {}",
                names.join(", ")
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_its_own_and_is_read_back() {
        let mut names: Vec<_> = Breaks::all().map(Breaks::name).collect();
        for breaks in Breaks::all() {
            let text = serde_json::to_string(&breaks).unwrap();
            assert_eq!(serde_json::from_str::<Breaks>(&text).unwrap(), breaks);
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
