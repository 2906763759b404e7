//! The kill matrix.

use super::timeline;
use crate::bugs::{BugReport, Cell, Matrix};
use crate::child::Checker;
use crate::report::terminal;
use clearway_models::registry::Failure;
use maud::{Markup, html};

pub(super) fn section(matrix: &Matrix) -> Markup {
    let caught = matrix
        .bugs
        .iter()
        .filter(|report| report.complaint.is_none())
        .count();
    let passed = matrix
        .controls
        .iter()
        .filter(|control| control.complaint.is_none())
        .count();
    html! {
        section #bugs {
            h2 { "Seeded bugs" }
            p {
                (caught) " of " (matrix.bugs.len()) " tempting wrong versions are caught by everyone their "
                "patches name (" span .star { "★" } "). The unpatched copy passed "
                (passed) " of " (matrix.controls.len()) " of the very runs that judge them. "
                "A kill counts only when the named invariant fails with its own message."
            }
            div .wide {
                table .matrix {
                    thead { tr {
                        th { "bug" }
                        @for checker in Checker::ALL { th { (checker.name()) } }
                        th { "breaks" }
                    } }
                    tbody { @for report in &matrix.bugs { (row(report)) } }
                }
            }
        }
    }
}

fn row(report: &BugReport) -> Markup {
    html! {
        tr #(report.bug.name) {
            td {
                details {
                    summary .bad[report.complaint.is_some()] { (report.bug.name) }
                    (story(report))
                }
            }
            @for checker in Checker::ALL { (of_checker(report, checker)) }
            td .code { (report.bug.breaks) }
        }
    }
}

fn of_checker(report: &BugReport, checker: Checker) -> Markup {
    let cell = report.cell(checker);
    let cached = report
        .cells
        .iter()
        .any(|(of, _, cached)| *of == checker && *cached);
    let (class, word) = match cell {
        Cell::Killed(_) => ("killed", "killed"),
        Cell::Survived { .. } => ("survived", "survived"),
        Cell::Other { .. } => ("other", "other"),
        Cell::Broken { .. } => ("broken", "no verdict"),
        Cell::NotRun => ("none", "–"),
    };
    html! {
        td class={ "cell " (class) } title=(terminal::cell(cell)) {
            (word)
            @if report.bug.is_promised(checker) { span .star { "★" } }
            @if cached { span .cached title="from an earlier run of the same inputs" { " ~" } }
        }
    }
}

/// What the bug is and how it is caught.
fn story(report: &BugReport) -> Markup {
    let bug = &report.bug;
    html! {
        div .story {
            p { b { "Tempting because " } (bug.tempting) }
            @if let Some(complaint) = &report.complaint { p .bad { (complaint) } }
            pre .diff {
                @for line in bug.diff.lines() {
                    @let class = match line.as_bytes().first() {
                        Some(b'+') => "plus",
                        Some(b'-') => "minus",
                        Some(b'@') => "at",
                        _ => "same",
                    };
                    span class=(class) { (line) "\n" }
                }
            }
            @for (checker, cell, _) in &report.cells {
                p { b { (checker.name()) } " " (terminal::cell(cell)) }
            }
            @if let Some(failure) = shortest(report) { (timeline::failure(&failure)) }
        }
    }
}

/// The counterexample with the fewest steps.
fn shortest(report: &BugReport) -> Option<Failure> {
    let kills = report.cells.iter().filter_map(|(_, cell, _)| match cell {
        Cell::Killed(kill) if !kill.timeline.is_empty() => Some(kill),
        _ => None,
    });
    let kill = kills.min_by_key(|kill| kill.timeline.len())?;
    Some(Failure {
        message: kill.message.clone(),
        timeline: kill.timeline.clone(),
    })
}
