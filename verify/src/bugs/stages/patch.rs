//! The patch of a stage's bug.

use crate::bugs::patch::{self, Parts, PatchError};
use crate::tree::Tree;
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use std::{fmt, fs};

/// One tempting wrong version of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageBug {
    /// `kafka-<slug>` or `sim-<slug>`: the file's name without its ending.
    pub name: String,
    /// The file that it changes, from the top.
    pub file: String,
    /// The guarantee that it breaks: `G2`.
    pub breaks: String,
    /// Who must catch it, each of them.
    pub caught_by: Vec<Catcher>,
    /// Why somebody would write it, and what then happens.
    pub tempting: String,
    /// The change, as a unified diff.
    pub diff: String,
}

/// A test that a stage's bug must not pass.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Catcher {
    /// A unit test of the library, by its path.
    Test(String),
    /// A test of the integration package, by its target and its path there.
    Broker(String, String),
    /// Runs of the simulation over the broker of that name, at most so many.
    Sim(String, u64),
    /// A counterexample that is kept, by the name of its file: with the bug it violates again what it is kept for.
    Regression(String),
}

impl Catcher {
    /// Whether it needs a real server.
    pub const fn needs_broker(&self) -> bool {
        matches!(self, Self::Broker(..))
    }

    /// Whether what this one passes `other` passes as well.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Sim(broker, seeds), Self::Sim(of, fewer)) => broker == of && fewer <= seeds,
            _ => self == other,
        }
    }

    /// The test's path.
    pub fn test(&self) -> &str {
        match self {
            Self::Test(test)
            | Self::Broker(_, test)
            | Self::Sim(test, _)
            | Self::Regression(test) => test,
        }
    }
}

impl fmt::Display for Catcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Test(test) => write!(f, "test {test}"),
            Self::Broker(target, test) => write!(f, "broker {target} {test}"),
            Self::Sim(broker, seeds) => write!(f, "sim {broker} {seeds}"),
            Self::Regression(name) => write!(f, "regression {name}"),
        }
    }
}

impl FromStr for Catcher {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words[..] {
            ["test", test] => Ok(Self::Test(test.to_owned())),
            ["broker", target, test] => Ok(Self::Broker(target.to_owned(), test.to_owned())),
            ["sim", broker, seeds] if seeds.parse::<u64>().is_ok() => Ok(Self::Sim(
                broker.to_owned(),
                seeds.parse().unwrap_or_default(),
            )),
            ["regression", name] => Ok(Self::Regression(name.to_owned())),
            _ => Err(format!(
                "`{text}` is neither `test <path>` nor `broker <target> <path>` nor `sim <broker> <seeds>` \
                 nor `regression <name>`"
            )),
        }
    }
}

/// All seeded bugs of stages, by name. The first that cannot be read is the error.
pub fn load(tree: &Tree) -> Result<Vec<StageBug>, PatchError> {
    patch::read_all(tree, patch::is_of_stages, StageBug::parse)
}

/// Where the stages are that a bug may be against.
const STAGES: [&str; 2] = ["src/backend/kafka/", "src/consume/"];

impl StageBug {
    /// Reads a bug from the text of its patch.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let parts = Parts::of(text)?;
        let file = parts.file();
        if name.starts_with("sim-") {
            if !file.starts_with("src/") || file.starts_with("src/protocol/") {
                return Err(format!("its diff is against `{file}`, which is no stage"));
            }
        } else if !STAGES.iter().any(|stage| file.starts_with(stage)) {
            return Err(format!(
                "its diff is against `{file}`, which is not below {}",
                STAGES.join(" or ")
            ));
        }
        let breaks = parts.breaks()?;
        let number = breaks.strip_prefix('G').and_then(|g| g.parse::<u8>().ok());
        if number.is_none() {
            return Err(format!("`{breaks}` is not the number of a guarantee"));
        }
        let caught_by = parts.caught_by()?;
        let caught_by = caught_by.split(',').map(|one| one.trim().parse());
        Ok(Self {
            name: name.to_owned(),
            file: file.to_owned(),
            breaks,
            caught_by: caught_by.collect::<Result<_, _>>()?,
            tempting: parts.tempting()?,
            diff: parts.diff.to_owned(),
        })
    }

    /// Its name, and whether only brokers catch it.
    pub fn in_short(&self) -> (String, bool) {
        let brokers = self.caught_by.iter().all(Catcher::needs_broker);
        (self.name.clone(), brokers)
    }

    /// The file with the bug in it.
    pub fn apply(&self, tree: &Tree) -> Result<String, String> {
        let path = tree.root().join(&self.file);
        let source =
            fs::read_to_string(&path).map_err(|error| format!("{}: {error}", self.file))?;
        patch::apply(&self.diff, &self.file, &source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
Breaks: G2
Caught by: test backend::kafka::codes::tests::a, broker kafka_server
  faults::b
Tempting because: it is short.

--- src/backend/kafka/codes.rs
+++ src/backend/kafka/codes.rs
@@ -1 +1 @@
-a
+b
";

    #[test]
    fn it_names_its_file_and_who_catches_it() {
        let bug = StageBug::parse("kafka-shouts", TEXT).unwrap();
        assert_eq!(bug.file, "src/backend/kafka/codes.rs");
        assert_eq!(bug.breaks, "G2");
        let catchers: Vec<_> = bug.caught_by.iter().map(Catcher::to_string).collect();
        assert_eq!(
            catchers,
            [
                "test backend::kafka::codes::tests::a",
                "broker kafka_server faults::b"
            ]
        );
        assert!(!bug.caught_by[0].needs_broker() && bug.caught_by[1].needs_broker());
    }

    #[test]
    fn the_longest_hunt_over_a_broker_covers_the_others() {
        let read = |text: &str| text.parse::<Catcher>().unwrap();
        let long = read("sim kafka 300");
        assert!(long.covers(&long) && long.covers(&read("sim kafka 100")));
        assert!(!long.covers(&read("sim kafka 301")) && !long.covers(&read("sim jetstream 100")));
        assert!(!long.covers(&read("test a::b")) && read("test a::b").covers(&read("test a::b")));
    }

    #[test]
    fn what_it_does_not_say_rightly_is_refused() {
        for (from, to, expected) in [
            ("Breaks:", "Broken:", "does not say `Breaks:`"),
            ("G2", "order", "`order` is not the number"),
            ("test backend", "loom backend", "is neither `test"),
            ("broker kafka_server", "broker", "is neither `test"),
            ("--- src/backend/kafka/", "--- src/protocol/", "not below"),
            (
                "--- src/backend/kafka/",
                "--- src/backend/nats/",
                "not below",
            ),
        ] {
            let error = StageBug::parse("kafka-shouts", &TEXT.replace(from, to)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
