//! What a model is, and what came out of running one.
//!
//! A model is the same in every world; only the engine that drives its body differs. What comes
//! out is plain data, so that a report can be made from it, also in another process.

use serde::{Deserialize, Serialize};

/// A closed concurrent program that checks one invariant of one protocol.
#[derive(Debug, Clone, Copy)]
pub struct Model {
    /// The protocol's file name without its ending.
    pub protocol: &'static str,
    /// The invariant, as the protocol's `# Invariants` names it.
    pub invariant: &'static str,
    /// What must happen in at least one execution, or the model proves nothing.
    pub goals: &'static [&'static str],
    /// The program: it makes everything it uses, runs it and asserts.
    pub body: fn(),
    /// Loom's preemption bound at full depth; `None` explores every interleaving.
    pub bound: Option<usize>,
}

impl Model {
    /// A model that is explored without a bound and has no goals yet.
    pub const fn new(protocol: &'static str, invariant: &'static str, body: fn()) -> Self {
        Self {
            protocol,
            invariant,
            goals: &[],
            body,
            bound: None,
        }
    }

    /// The same model with `goals`.
    pub const fn goals(self, goals: &'static [&'static str]) -> Self {
        Self { goals, ..self }
    }

    /// The same model, explored at full depth only up to `preemptions`.
    pub const fn bound(self, preemptions: usize) -> Self {
        Self {
            bound: Some(preemptions),
            ..self
        }
    }

    /// `protocol/invariant`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.protocol, self.invariant)
    }
}

/// The model of `invariant`.
///
/// # Panics
///
/// When there is none: a test then names an invariant that nothing models.
pub fn find<'m>(models: &'m [Model], invariant: &str) -> &'m Model {
    models
        .iter()
        .find(|model| model.invariant == invariant)
        .unwrap_or_else(|| panic!("no model of `{invariant}`"))
}

/// How far to explore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// What a plain `cargo test` does: loom with two preemptions, few samples elsewhere.
    Quick,
    /// The model's own bound under loom, many samples elsewhere.
    Full,
}

impl Depth {
    /// What this build was made for: `--cfg loom` asks for full depth and changes nothing else.
    pub const fn of_this_build() -> Self {
        if cfg!(loom) { Self::Full } else { Self::Quick }
    }
}

/// How much was explored, or that it went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every execution there is.
    Exhaustive,
    /// Every execution with at most this many preemptions.
    Bounded(usize),
    /// Stopped by its time limit before the end.
    Truncated,
    /// As many executions as were asked for, chosen by a scheduler. Never a proof.
    Sampled,
    /// An execution broke the invariant.
    Failed,
}

/// One model under one engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// `loom`, `shuttle/random`, `shuttle/pct2`, `shuttle/pct3`, `shuttle/urw`, `threads`.
    pub engine: String,
    /// The model's protocol.
    pub protocol: String,
    /// The model's invariant.
    pub invariant: String,
    /// How many executions there were, the failing one included.
    pub executions: u64,
    /// How much of the model that is.
    pub verdict: Verdict,
    /// In how many places of how many executions each goal was reached.
    pub goals: Vec<(String, u64)>,
    /// Different executions up to the order of independent steps, where the engine counts them.
    pub classes: Option<Classes>,
    /// What went wrong, if the verdict is `Failed`.
    pub failure: Option<Failure>,
    /// How long it took.
    pub elapsed_ms: u64,
}

impl Run {
    /// What speaks against this run: a failure, a time limit, or a goal that was never reached.
    pub fn complaint(&self) -> Option<String> {
        if let Some(failure) = &self.failure {
            return Some(failure.message.clone());
        }
        if self.verdict == Verdict::Truncated {
            return Some(format!(
                "{}: stopped after {} executions; give the model a smaller bound",
                self.invariant, self.executions
            ));
        }
        let missed: Vec<_> = self.goals.iter().filter(|goal| goal.1 == 0).collect();
        if let Some((goal, _)) = missed.first() {
            return Some(format!(
                "{}: goal \"{goal}\" was never reached in {} executions, so the model proves little",
                self.invariant, self.executions
            ));
        }
        None
    }
}

/// How many classes of executions a sampling engine has seen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Classes {
    /// Classes seen.
    pub seen: u64,
    /// Estimated probability that one more execution is of a class not seen yet: the share of
    /// classes seen exactly once (Good and Turing).
    pub next_is_new: f64,
}

/// The execution that broke the invariant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was wrong; it begins with the invariant's name.
    pub message: String,
    /// What the threads did, in order.
    pub timeline: Vec<Step>,
}

/// One step of one thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Its place in the execution, from 0.
    pub at: u64,
    /// Who did it: `main`, or the thread's name.
    pub thread: String,
    /// What was done: the label of an event, or an operation with its result.
    pub what: String,
    /// `file:line` of an operation; `None` for the label of an event.
    pub site: Option<String>,
}

/// One ordering in a protocol's source, and whether a model needs it to be this strong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Site {
    /// The protocol's file, from the repository's root.
    pub file: String,
    /// The line of the operation.
    pub line: u32,
    /// The operation: `fetch_sub`, `compare_exchange (failure)`.
    pub operation: String,
    /// The ordering in the source.
    pub ordering: String,
    /// The weaker one that was tried instead.
    pub weakened_to: String,
    /// Whether some model fails with the weaker one.
    pub needed: bool,
    /// The first model that fails with the weaker one.
    pub caught_by: Option<String>,
}
