//! A counterexample as a file: the plan of a run that did not hold, in JSON that people read and paste.
//!
//! What a file leaves out is drawn from its seed, and a fault that there is no more is said and left out: so a corpus outlives edits of
//! what a plan is. Anything else that is not as it should be is refused with its line, since a misspelt field would silence what it was
//! to show.

mod written;

use super::breaks::Breaks;
use super::broker::SimBroker;
use super::broker::jetstream::JetStream;
use super::broker::kafka::Kafka;
use super::plan::Plan;
use super::run::Ran;
use super::seeds;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::{fmt, fs};
use written::Written;

/// The version of the format. It changes when a field changes its meaning.
pub const VERSION: u32 = 1;

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counterexample {
    /// [`VERSION`] when it was written.
    clearway_plan: u32,
    /// Over which simulated broker.
    pub broker: Broker,
    /// What it violated.
    pub breaks: Breaks,
    /// Where it came from, in a sentence.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub from: String,
    /// The seeded bug that it is a counterexample to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<String>,
    /// What it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shrunk: Option<Shrinking>,
    plan: Written,
}

/// The simulated brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Broker {
    /// See [`JetStream`].
    Jetstream,
    /// See [`Kafka`].
    Kafka,
}

/// How much of everything there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Envelopes to publish.
    pub envelopes: u64,
    /// Processes.
    pub members: u64,
    /// Publishers in each.
    pub publishers: u64,
    /// Keys.
    pub keys: u64,
    /// Kinds of faults.
    pub faults: u64,
    /// Lines of history.
    pub lines: u64,
    /// Polls of tasks.
    pub polls: u64,
}

/// How a big plan became a small one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shrinking {
    /// The plan that was found.
    pub before: Size,
    /// The one that is kept.
    pub after: Size,
    /// How many runs it took.
    pub tries: u64,
    /// And how long.
    pub seconds: f64,
}

/// Why a text is no counterexample: where, and what was expected.
#[derive(Debug)]
pub struct PlanError(String);

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PlanError {}

impl PlanError {
    pub(super) fn new(what: String) -> Self {
        Self(what)
    }
}

impl Broker {
    /// The name, as command lines have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jetstream => JetStream::NAME,
            Self::Kafka => Kafka::NAME,
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Jetstream, Self::Kafka];
        all.into_iter().find(|broker| broker.name() == name)
    }

    /// Runs a plan over it, twice: the second time must be the same.
    pub fn run(self, plan: &Plan) -> Ran {
        match self {
            Self::Jetstream => seeds::twice::<JetStream>(plan),
            Self::Kafka => seeds::twice::<Kafka>(plan),
        }
    }
}

impl Size {
    /// Of a run.
    pub fn of(ran: &Ran) -> Self {
        let plan = &ran.plan;
        Self {
            envelopes: plan.envelopes,
            members: plan.members as u64,
            publishers: plan.publishers as u64,
            keys: plan.keys,
            faults: plan.faults.names().len() as u64,
            lines: ran.counts.events,
            polls: ran.polls,
        }
    }

    /// Each by its name.
    pub fn rows(&self) -> [(&'static str, u64); 7] {
        [
            ("envelopes", self.envelopes),
            ("members", self.members),
            ("publishers", self.publishers),
            ("keys", self.keys),
            ("faults", self.faults),
            ("lines of history", self.lines),
            ("polls of tasks", self.polls),
        ]
    }
}

impl fmt::Display for Shrinking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.before.rows().into_iter().zip(self.after.rows());
        for ((name, before), (_, after)) in rows {
            writeln!(f, "  {name:<17} {before:>9} -> {after}")?;
        }
        write!(f, "  by {} runs in {:.1} s", self.tries, self.seconds)
    }
}

impl Counterexample {
    /// A plan that violated something.
    pub fn new(broker: Broker, breaks: Breaks, plan: &Plan, from: impl Into<String>) -> Self {
        Self {
            clearway_plan: VERSION,
            broker,
            breaks,
            from: from.into(),
            patch: None,
            shrunk: None,
            plan: Written::of(plan),
        }
    }

    /// Reads one from a file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, PlanError> {
        let path = path.as_ref();
        let named = |what: &dyn fmt::Display| PlanError(format!("{}: {what}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| named(&error))?;
        Self::parse(&text).map_err(|error| named(&error))
    }

    /// Reads one from text. The version first: a later one may have other fields, and then its number is the answer.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        #[derive(Deserialize)]
        struct Version {
            clearway_plan: Option<u64>,
        }
        let example = format!("{{\"clearway_plan\":{VERSION}, ...}}");
        if text.trim().is_empty() {
            let what = format!("line 1: it is empty, expected a plan like {example}");
            return Err(PlanError(what));
        }
        let Version { clearway_plan } = parse(text)?;
        let line_of = |what: &str| text.lines().position(|line| line.contains(what));
        match clearway_plan {
            Some(found) if found == u64::from(VERSION) => parse(text),
            Some(found) => Err(PlanError(format!(
                "line {}: this plan is of version {found}, and this `verify` reads version {VERSION} only",
                line_of("clearway_plan").unwrap_or_default() + 1
            ))),
            None => Err(PlanError(format!(
                "line 1: no `clearway_plan`, expected a plan like {example}"
            ))),
        }
    }

    /// As a file has it.
    pub fn to_text(&self) -> String {
        serde_json::to_string_pretty(self).expect("a plan is plain data") + "\n"
    }

    /// Without what is for people only, in one line.
    pub fn in_short(&self) -> String {
        let bare = Self {
            from: String::new(),
            patch: None,
            shrunk: None,
            ..self.clone()
        };
        serde_json::to_string(&bare).expect("a plan is plain data")
    }

    /// What is run, and what of the file is left out, a sentence each.
    pub fn plan(&self) -> (Plan, Vec<String>) {
        self.plan.to_plan()
    }

    /// Whether that run violated what this one is kept for.
    pub fn is_broken_by(&self, ran: &Ran) -> bool {
        ran.breaks.contains(&self.breaks)
    }
}

/// Reads what is written in JSON, and says where it is not.
pub(super) fn parse<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, PlanError> {
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let said = error.to_string();
        let place = format!(" at line {line} column {column}");
        let what = said.strip_suffix(&place).unwrap_or(&said);
        PlanError(format!("line {line}, column {column}: {what}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::fault::{Fault, Ratio};

    const SHORT: &str = "{\"clearway_plan\":1,\n\"broker\":\"kafka\",\n\"breaks\":\"liveness\",\n\"plan\":{\"seed\":7,\n\"faults\":{\"crash\":5}}}";

    #[test]
    fn a_plan_is_read_back_as_it_was() {
        for seed in 0..300 {
            let plan = Plan::draw(seed, 1000);
            let written = Counterexample::new(Broker::Kafka, Breaks::Liveness, &plan, "a test");
            for text in [written.to_text(), written.in_short()] {
                let (read, left_out) = Counterexample::parse(&text).unwrap().plan();
                assert_eq!((read, left_out), (plan.clone(), Vec::new()), "{text}");
            }
        }
    }

    #[test]
    fn what_a_file_leaves_out_is_drawn_from_its_seed() {
        let (plan, left_out) = Counterexample::parse(SHORT).unwrap().plan();
        let mut drawn = Plan::draw(7, written::ENVELOPES);
        drawn.faults = Default::default();
        drawn.faults.set(Fault::Crash, Ratio(5));
        assert_eq!((plan, left_out), (drawn, Vec::new()));
        let (plan, _) = Counterexample::parse(
            &SHORT.replace("\"seed\":7", "\"seed\":7,\"dedup\":null,\"attempts\":3"),
        )
        .unwrap()
        .plan();
        assert_eq!((plan.dedup, plan.attempts), (None, Some(3)));
    }

    #[test]
    fn a_fault_that_there_is_no_more_is_said_and_left_out() {
        let text = SHORT.replace("\"crash\":5", "\"moonlight\":9,\"crash\":5");
        let (plan, left_out) = Counterexample::parse(&text).unwrap().plan();
        assert_eq!(plan.faults.names(), ["crash"]);
        assert_eq!(left_out, ["there is no fault `moonlight`: left out"]);
        let text = SHORT
            .replace("\"crash\":5", "\"lazy-fsync\":9")
            .replace("\"seed\":7", "\"seed\":7,\"attempts\":3");
        let (plan, left_out) = Counterexample::parse(&text).unwrap().plan();
        assert!(
            plan.faults.names().is_empty() && left_out[0].contains("lazy-fsync"),
            "{left_out:?}"
        );
    }

    #[test]
    fn what_is_not_as_it_should_be_is_refused_with_its_line() {
        for (from, to, expected) in [
            (SHORT, " \n", "line 1: it is empty"),
            (SHORT, "faults", "line 1, column 3: expected"),
            (
                "clearway_plan\":1",
                "clearway_plan\":2",
                "line 1: this plan is of version 2",
            ),
            ("clearway_plan", "plan_of", "line 1: no `clearway_plan`"),
            (
                "kafka",
                "rabbit",
                "line 2, column 17: unknown variant `rabbit`",
            ),
            (
                "liveness",
                "liven",
                "line 3, column 16: there is no property `liven`",
            ),
            (
                "\"seed\":7",
                "\"seeds\":7",
                "line 4, column 15: unknown field `seeds`",
            ),
            (
                "\"seed\":7",
                "\"seed\":7,\"keys\":0",
                "line 4, column 25: invalid value: integer `0`",
            ),
            (
                "\"crash\":5",
                "\"crash\":5000000",
                "line 5, column 26: the fault `crash` cannot be likelier than 1000000",
            ),
            (
                "\"crash\":5",
                "\"crash\":5,\"crash\":6",
                "line 5, column 30: the fault `crash` is named twice",
            ),
            ("}}}", "}}", "line 5, column"),
            ("}}}", "}}}x", "line 5, column"),
        ] {
            let text = SHORT.replace(from, to);
            let error = Counterexample::parse(&text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}\n{error}");
        }
    }
}
