//! The report on a terminal.

use super::{HotPath, ProtocolReport, Report, regressions};
use crate::bugs::stages::{NO_BROKER, StageBug, Stages};
use crate::bugs::{BugReport, Cell, Matrix};
use crate::child::Checker;
use crate::mutate::{Mutants, Score};
use std::fmt::Write as _;

/// The whole report on one screen.
pub fn report(report: &Report) -> String {
    let mut text = format!(
        "{:13} {:>26} {:>18} {:>16} {:>8} {:>10} {:>9}\n",
        "protocol", "loom", "shuttle", "histories", "bugs", "orderings", "goals"
    );
    for protocol in &report.protocols {
        text.push_str(&row(report, protocol));
    }
    text.push('\n');
    if !report.canaries.is_empty() {
        let right = (report.canaries.iter()).filter(|canary| canary.is_right());
        _ = writeln!(
            text,
            "history canaries   {} of {} judged as they must be",
            right.count(),
            report.canaries.len()
        );
    }
    let caught = report
        .matrix
        .bugs
        .iter()
        .filter(|bug| bug.complaint.is_none())
        .count();
    let controls = &report.matrix.controls;
    let passed = controls
        .iter()
        .filter(|control| control.complaint.is_none())
        .count();
    let cells = report.matrix.bugs.iter().flat_map(|bug| &bug.cells);
    let cached = cells.clone().filter(|cell| cell.2).count();
    _ = writeln!(
        text,
        "seeded bugs        {caught} of {} caught as promised; {passed} of {} controls pass; \
         {cached} of {} verdicts from an earlier run of the same inputs",
        report.matrix.bugs.len(),
        controls.len(),
        cells.count()
    );
    let Score {
        mutants,
        killed,
        equivalent,
        survived,
        ..
    } = report.mutants.score();
    if mutants > 0 {
        let protocols = report.mutants.protocols.len();
        _ = writeln!(
            text,
            "mutants            {killed} of {mutants} killed, {equivalent} equivalent with a reason, {survived} survived, \
             of {protocols} protocols, by an earlier `verify mutate`"
        );
    }
    text.extend(report.simulations.iter().map(|of| of.line()));
    if !report.regressions.is_empty() {
        text.push_str(&regressions::line(&report.regressions));
    }
    text.push_str(&hot_path(&report.hot_path));
    text.push_str("\nNot verified\n");
    for open in &report.not_verified {
        _ = writeln!(text, "  {}: {}", open.what, open.why);
    }
    text.push('\n');
    for complaint in &report.complaints {
        _ = writeln!(text, "FAILED  {complaint}");
    }
    let verdict = if report.is_ok() {
        "everything holds"
    } else {
        "NOT everything holds"
    };
    let (all, building) = (report.elapsed_ms / 1_000, report.build_ms() / 1_000);
    _ = writeln!(
        text,
        "{verdict}: {} depth, {all} s on {} cores, {building} s of them building",
        report.depth, report.cores
    );
    text
}

fn row(report: &Report, protocol: &ProtocolReport) -> String {
    let ProtocolReport {
        protocol: name,
        models,
        histories,
        orderings,
    } = protocol;
    let verdict = protocol
        .loom_verdict()
        .map_or_else(|| "not run".into(), |v| v.to_string());
    let loom = format!("{} {verdict}", thousands(protocol.executions("loom")));
    let schedulers = schedulers(protocol);
    let shuttle = format!(
        "{} by {schedulers}",
        thousands(protocol.executions("shuttle"))
    );
    let histories = match histories {
        Some(checked) => {
            let word = if checked.complaint().is_none() {
                "linear"
            } else {
                "FAILED"
            };
            format!("{} {word}", thousands(checked.histories))
        }
        None => "not run".to_owned(),
    };
    let (caught, bugs) = report.matrix.score(name);
    let orderings = match orderings {
        Some(sites) => {
            format!(
                "{}/{}",
                sites.iter().filter(|site| site.needed).count(),
                sites.len()
            )
        }
        None => "not run".to_owned(),
    };
    let (reached, goals) = protocol.goals();
    let failed = !protocol.complaints().is_empty() || models.is_empty();
    format!(
        "{name:13} {loom:>26} {shuttle:>18} {histories:>16} {:>8} {orderings:>10} {:>9}{}\n",
        format!("{caught}/{bugs}"),
        format!("{reached}/{goals}"),
        if failed { "  FAILED" } else { "" }
    )
}

/// How many of shuttle's schedulers have run.
fn schedulers(protocol: &ProtocolReport) -> usize {
    let runs = protocol.models.iter().flat_map(|model| model.of("shuttle"));
    runs.map(|run| &run.engine)
        .collect::<std::collections::BTreeSet<_>>()
        .len()
}

fn hot_path(counts: &HotPath) -> String {
    let mut text = String::new();
    if *counts == HotPath::default() {
        return text;
    }
    if let Some(why) = &counts.not_run {
        _ = writeln!(text, "hot path           not run: {why}");
        return text;
    }
    let sum = |of: fn(&super::HotRow) -> u64| counts.rows.iter().map(of).sum::<u64>();
    _ = writeln!(
        text,
        "hot path           {} locks, {} allocations in {} publishes, {} ways",
        sum(|row| row.locks),
        sum(|row| row.allocations),
        thousands(sum(|row| row.publishes)),
        counts.rows.len()
    );
    text
}

/// `1234567` as `1 234 567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// The kill matrix as a table.
pub fn matrix(matrix: &Matrix) -> String {
    let width = matrix
        .bugs
        .iter()
        .map(|report| report.bug.name.len())
        .max()
        .unwrap_or(0);
    let mut table = format!("{:width$}", "seeded bug");
    for checker in Checker::ALL {
        _ = write!(table, "  {checker:10}");
    }
    table.push_str("  breaks\n");
    let mut protocol = "";
    for report in &matrix.bugs {
        if protocol != report.bug.protocol && !protocol.is_empty() {
            table.push('\n');
        }
        protocol = &report.bug.protocol;
        _ = write!(table, "{:width$}", report.bug.name);
        for checker in Checker::ALL {
            _ = write!(table, "  {:10}", mark(report, checker));
        }
        _ = writeln!(table, "  {}", report.bug.breaks);
    }
    let cached = matrix
        .bugs
        .iter()
        .flat_map(|report| &report.cells)
        .filter(|cell| cell.2)
        .count();
    let all = matrix
        .bugs
        .iter()
        .map(|report| report.cells.len())
        .sum::<usize>();
    let caught = matrix
        .bugs
        .iter()
        .filter(|report| report.complaint.is_none())
        .count();
    _ = writeln!(
        table,
        "\n{caught} of {} seeded bugs are caught as their patches promise (*); \
         {cached} of {all} verdicts are from an earlier run of the same inputs (~)",
        matrix.bugs.len()
    );
    table
}

/// One cell in a word: `killed*` was promised, `~` is from an earlier run.
fn mark(report: &BugReport, checker: Checker) -> String {
    let word = match report.cell(checker) {
        Cell::Killed(_) => "killed",
        Cell::Survived { .. } => "survived",
        Cell::Other { .. } => "other",
        Cell::Broken { .. } => "broken",
        Cell::NotRun => "-",
    };
    let promised = if report.bug.is_promised(checker) {
        "*"
    } else {
        ""
    };
    let cached = report
        .cells
        .iter()
        .any(|(of, _, cached)| *of == checker && *cached);
    let cached = if cached { "~" } else { "" };
    format!("{word}{promised}{cached}")
}

/// One cell in a sentence.
pub fn cell(cell: &Cell) -> String {
    match cell {
        Cell::Killed(kill) => {
            format!(
                "killed by {} in execution {}: {}",
                kill.engine, kill.executions, kill.message
            )
        }
        Cell::Survived { executions } => format!("survived {executions} executions"),
        Cell::Other { message } => format!("no kill, something else failed: {message}"),
        Cell::Broken { why } => format!("no verdict: {why}"),
        Cell::NotRun => "not run".to_owned(),
    }
}

/// The bugs of stages, each with what its catchers said.
pub fn stages(stages: &Stages) -> String {
    let mut text = String::new();
    for report in &stages.bugs {
        let StageBug { name, breaks, .. } = &report.bug;
        _ = writeln!(text, "{name}  breaks {breaks}");
        for (catcher, said) in &report.cells {
            let said = match said {
                Cell::Killed(kill) => format!("killed: {}", kill.message),
                Cell::Survived { .. } => "survived".to_owned(),
                Cell::NotRun => NO_BROKER.to_owned(),
                other => cell(other),
            };
            _ = writeln!(text, "  {catcher}\n    {said}");
        }
    }
    let caught = stages.bugs.iter().filter(|bug| bug.is_caught()).count();
    let not_run = stages.bugs.iter().filter(|bug| bug.is_not_run()).count();
    let not_run = match not_run {
        0 => String::new(),
        _ => format!("; {not_run} {NO_BROKER}"),
    };
    let (all, seconds) = (stages.bugs.len(), stages.elapsed_ms / 1_000);
    _ = writeln!(
        text,
        "\n{caught} of {all} seeded bugs of stages are caught as their patches promise{not_run}. {seconds} s, builds included"
    );
    text
}

/// The mutants of each protocol in numbers.
pub fn mutants(mutants: &Mutants) -> String {
    let row = |name: &str, score: Score| {
        let Score {
            mutants,
            killed,
            equivalent,
            survived,
            skipped,
        } = score;
        format!("{name:13} {mutants:>8} {killed:>8} {equivalent:>11} {survived:>9} {skipped:>16}\n")
    };
    let mut text = format!(
        "{:13} {:>8} {:>8} {:>11} {:>9} {:>16}\n",
        "protocol", "mutants", "killed", "equivalent", "survived", "do not compile"
    );
    for of in &mutants.protocols {
        text.push_str(&row(&of.protocol, of.score()));
    }
    let all = mutants.score();
    text.push_str(&row("all", all));
    _ = writeln!(
        text,
        "{} % of those that are not equivalent are killed",
        all.percent()
    );
    text
}

/// The bugs of stages where they are not run.
pub fn elsewhere(bugs: &[StageBug]) -> String {
    let mut text = String::from("\nSeeded bugs of stages\n");
    for bug in bugs {
        let (name, brokers) = bug.in_short();
        let why = match brokers {
            true => NO_BROKER,
            false => "not run here: needs a build of its own",
        };
        _ = writeln!(text, "  {name:44} {why}");
    }
    _ = writeln!(
        text,
        "  `make bugs-brokers` runs them; `verify bugs kafka` and `verify bugs sim` those of them that need no broker"
    );
    text
}
