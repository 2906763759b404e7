//! The kept counterexamples in the report: that each holds, and for some what was seen when it did not.

use super::html::lanes;
use crate::sim::counterexample::Shrinking;
use crate::sim::regressions::Regression;
use crate::sim::timeline::Timeline;
use crate::tree::Tree;
use maud::{Markup, html};
use serde::{Deserialize, Serialize};

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegressionReport {
    /// Its file's name without its ending.
    pub name: String,
    /// Over which simulated broker.
    pub broker: String,
    /// What it violated.
    pub breaks: String,
    /// Where it is from, in a sentence.
    pub from: String,
    /// The seeded bug that it is from.
    pub patch: Option<String>,
    /// From what it was made.
    pub shrunk: Option<Shrinking>,
    /// What was seen of the run with the bug.
    pub seen: Option<Timeline>,
    /// What does not hold now. Empty: all does.
    pub violations: Vec<String>,
    /// What is wrong with its file.
    pub complaints: Vec<String>,
    /// How long it took, twice.
    pub elapsed_ms: u64,
}

impl RegressionReport {
    /// Runs all that are kept.
    pub fn run(tree: &Tree, complaints: &mut Vec<String>) -> Vec<Self> {
        match Regression::load(tree) {
            Ok(kept) => kept.iter().map(|of| Self::of(of, tree)).collect(),
            Err(error) => {
                complaints.push(format!("regressions: {error}"));
                Vec::new()
            }
        }
    }

    fn of(regression: &Regression, tree: &Tree) -> Self {
        let (kept, replayed) = (&regression.kept, regression.replay());
        Self {
            name: regression.name.clone(),
            broker: kept.broker.name().to_owned(),
            breaks: kept.breaks.name().to_owned(),
            from: kept.from.clone(),
            patch: kept.patch.clone(),
            shrunk: kept.shrunk,
            seen: regression.seen.clone(),
            violations: replayed.ran.violations,
            complaints: regression.complaints(tree),
            elapsed_ms: replayed.took.as_millis() as u64,
        }
    }

    fn holds(&self) -> bool {
        self.violations.is_empty()
    }

    /// What is wrong: that it does not hold, and how it is run again.
    pub fn complaints(&self) -> Vec<String> {
        let again = format!(
            "regression {}: verify replay verify/regressions/{0}.json",
            self.name
        );
        let fails = (!self.holds()).then_some(again);
        self.complaints.iter().cloned().chain(fails).collect()
    }
}

/// One line of a terminal.
pub(super) fn line(regressions: &[RegressionReport]) -> String {
    let holds = regressions.iter().filter(|of| of.holds()).count();
    let word = if holds == regressions.len() {
        "hold"
    } else {
        "FAIL"
    };
    format!(
        "regressions        {word}: {holds} of {} kept counterexamples\n",
        regressions.len()
    )
}

/// The section of the page.
pub(super) fn section(regressions: &[RegressionReport]) -> Markup {
    let holds = regressions.iter().filter(|of| of.holds()).count();
    html! {
        section #regressions {
            h2 { "Regressions" }
            p {
                (holds) " of " (regressions.len()) " kept counterexamples hold: each is a run of the simulation that violated "
                "something while a seeded bug was in the source, made small. " code { "verify replay" } " runs one again."
            }
            div .wide {
                table {
                    thead { tr { th { "file" } th { "now" } th { "violated" } th { "with" } th { "broker" } th .n { "ms" } } }
                    tbody { @for of in regressions { (row(of)) } }
                }
            }
            @for of in regressions { (story(of)) }
        }
    }
}

fn row(of: &RegressionReport) -> Markup {
    html! {
        tr {
            td .code { (of.name) ".json" }
            td { @if of.holds() { span .ok { "✓ holds" } } @else { span .bad { "✗ violated" } } }
            td { (of.breaks) }
            td .code { (of.patch.as_deref().unwrap_or("no patch")) }
            td { (of.broker) }
            td .n { (of.elapsed_ms) }
        }
    }
}

/// What it was, and what was seen.
fn story(of: &RegressionReport) -> Markup {
    html! {
        details {
            summary .bad[!of.holds()] { (of.name) }
            div .story .run {
                p { (of.from) }
                @for violation in &of.violations { p .bad { (violation) } }
                @if let Some(shrunk) = &of.shrunk { (lanes::sizes(shrunk)) }
                @if let Some(seen) = &of.seen {
                    p { b { "What was seen with the bug" } }
                    (lanes::figure(seen))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Report, html, terminal};

    fn report() -> RegressionReport {
        RegressionReport {
            name: "a-run".into(),
            broker: "kafka".into(),
            breaks: "overlap".into(),
            from: "it is <said>".into(),
            patch: None,
            shrunk: None,
            seen: None,
            violations: Vec::new(),
            complaints: Vec::new(),
            elapsed_ms: 5,
        }
    }

    #[test]
    fn one_that_holds_complains_of_nothing() {
        let report = report();
        assert!(report.complaints().is_empty());
        assert!(line(std::slice::from_ref(&report)).contains("hold: 1 of 1"));
        let page = section(&[report]).into_string();
        assert!(
            page.contains("it is &lt;said&gt;") && page.contains("✓ holds"),
            "{page}"
        );
    }

    #[test]
    fn one_that_does_not_hold_says_how_it_is_run_again() {
        let report = RegressionReport {
            violations: vec!["overlap line 3".into()],
            ..report()
        };
        let complaints = report.complaints();
        assert_eq!(
            complaints,
            ["regression a-run: verify replay verify/regressions/a-run.json"]
        );
        assert!(line(std::slice::from_ref(&report)).contains("FAIL: 0 of 1"));
        let page = section(&[report]).into_string();
        assert!(
            page.contains("✗ violated") && page.contains("overlap line 3"),
            "{page}"
        );
    }

    #[test]
    fn those_that_are_kept_are_on_the_page_with_what_was_seen() {
        let mut complaints = Vec::new();
        let regressions = RegressionReport::run(&Tree::of_this_build(), &mut complaints);
        assert!(complaints.is_empty(), "{complaints:?}");
        let kept = regressions.clone();
        let report = Report {
            regressions,
            ..Report::default()
        };
        let page = html::page(&report);
        assert!(page.contains("<h2>Regressions</h2>"));
        assert!(terminal::report(&report).contains("regressions        hold: "));
        for of in &kept {
            assert!(page.contains(&format!("{}.json", of.name)), "{}", of.name);
            let seen = of.seen.as_ref().map(|seen| &seen.said);
            assert!(seen.is_none_or(|said| page.contains(said)), "{}", of.name);
        }
        let pictures = kept.iter().filter(|of| of.seen.is_some()).count();
        assert!(pictures > 0 && page.matches("<svg").count() == pictures);
    }
}
