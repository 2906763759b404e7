//! The report as one page that needs nothing else.

pub(super) mod lanes;
mod matrix;
mod mutants;
mod timeline;

use super::terminal::thousands;
use super::{CanaryReport, HotPath, ModelReport, ProtocolReport, Report};
use super::{regressions, simulation};
use clearway_models::registry::{Run, Site, Verdict};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = include_str!("html/style.css");

/// The whole page.
pub(super) fn page(report: &Report) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (report.name) ": what is proved" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(report))
                main {
                    (summary(report))
                    (matrix::section(&report.matrix))
                    (mutants::section(&report.mutants))
                    @for protocol in &report.protocols { (of_protocol(protocol)) }
                    @if !report.canaries.is_empty() { (canaries(&report.canaries)) }
                    @if !report.simulations.is_empty() { (simulation::section(&report.simulations)) }
                    @if !report.regressions.is_empty() { (regressions::section(&report.regressions)) }
                    @if report.hot_path != HotPath::default() { (hot_path(&report.hot_path)) }
                    (open(report))
                }
            }
        }
    };
    page.into_string()
}

fn head(report: &Report) -> Markup {
    let (all, building) = (report.elapsed_ms / 1_000, report.build_ms() / 1_000);
    html! {
        header {
            h1 { (report.name) span .sub { "what is proved, and what is not" } }
            p {
                span .badge .ok[report.is_ok()] .bad[!report.is_ok()] {
                    @if report.is_ok() { "everything holds" }
                    @else { (report.complaints.len()) " complaints" }
                }
                " " (report.depth) " depth, " (all) " s on " (report.cores) " cores, "
                (building) " s of them building, "
                (date(report.at)) " UTC"
            }
            @if !report.is_ok() {
                ul .complaints { @for complaint in &report.complaints { li { (complaint) } } }
            }
        }
    }
}

fn summary(report: &Report) -> Markup {
    html! {
        section {
            h2 { "Protocols" }
            div .wide {
                table {
                    thead { tr {
                        th { "protocol" } th .n { "loom runs" } th { "depth" }
                        th .n { "shuttle runs" } th .n { "histories" } th .n { "bugs" }
                        th .n { "orderings" } th .n { "goals" } th {}
                    } }
                    tbody {
                        @for protocol in &report.protocols { (summary_row(report, protocol)) }
                    }
                }
            }
        }
    }
}

fn summary_row(report: &Report, protocol: &ProtocolReport) -> Markup {
    let (caught, bugs) = report.matrix.score(&protocol.protocol);
    let (reached, goals) = protocol.goals();
    let holds = protocol.complaints().is_empty() && caught == bugs;
    html! {
        tr {
            td { a href={ "#" (protocol.protocol) } { (protocol.protocol) } }
            td .n { (thousands(protocol.executions("loom"))) }
            td { @if let Some(verdict) = protocol.loom_verdict() { (word(verdict)) } @else { "not run" } }
            td .n { (thousands(protocol.executions("shuttle"))) }
            td .n {
                @if let Some(checked) = &protocol.histories { (thousands(checked.histories)) }
                @else { "not run" }
            }
            td .n { (caught) "/" (bugs) }
            td .n {
                @if let Some(sites) = &protocol.orderings {
                    (sites.iter().filter(|site| site.needed).count()) "/" (sites.len())
                } @else { "not run" }
            }
            td .n { (reached) "/" (goals) }
            td { (mark(holds)) }
        }
    }
}

fn of_protocol(protocol: &ProtocolReport) -> Markup {
    html! {
        section #(protocol.protocol) {
            h2 { (protocol.protocol) }
            div .wide {
                table {
                    thead { tr {
                        th { "invariant" } th { "engine" } th .n { "executions" } th { "depth" }
                        th .n { "classes" } th .n { "P(next is new)" } th .n { "ms" }
                    } }
                    tbody { @for model in &protocol.models { (of_model(model)) } }
                }
            }
            @if let Some(checked) = &protocol.histories {
                p {
                    (thousands(checked.histories)) " histories of " (thousands(checked.programs))
                    " generated programs, " (thousands(checked.calls)) " calls; each must have an order that the "
                    "sequential spec allows. Goals: "
                    @for (goal, reached) in &checked.goals {
                        span .goal .bad[*reached == 0] { (goal) " " b { (thousands(*reached)) } } " "
                    }
                }
                @if let Some(failure) = &checked.failure { (timeline::failure(failure)) }
            }
            @if let Some(sites) = &protocol.orderings { (orderings(sites)) }
        }
    }
}

fn of_model(model: &ModelReport) -> Markup {
    let rows = model.runs.len() + 1;
    html! {
        tr .first {
            th rowspan=(rows) scope="rowgroup" {
                (model.invariant)
                div .goals {
                    @for (goal, reached) in model.goals("loom") {
                        span .goal .bad[reached == 0] { (goal) " " b { (thousands(reached)) } } " "
                    }
                }
            }
        }
        @for run in &model.runs { (of_run(run)) }
    }
}

fn of_run(run: &Run) -> Markup {
    html! {
        tr {
            td { (run.engine) }
            td .n { (thousands(run.executions)) }
            td { (word(run.verdict)) }
            td .n { @if let Some(classes) = run.classes { (thousands(classes.seen)) } }
            td .n { @if let Some(classes) = run.classes { (format!("{:.3}", classes.next_is_new)) } }
            td .n { (thousands(run.elapsed_ms)) }
        }
        @if let Some(failure) = &run.failure {
            tr { td colspan="6" { (timeline::failure(failure)) } }
        }
    }
}

fn orderings(sites: &[Site]) -> Markup {
    html! {
        @if sites.is_empty() {
            p { "Every access is relaxed: there is no ordering to weaken." }
        } @else {
            details {
                summary {
                    (sites.iter().filter(|site| site.needed).count()) " of " (sites.len())
                    " weaker orderings are noticed by a model"
                }
                div .wide {
                    table {
                        thead { tr { th { "site" } th { "operation" } th { "ordering" } th { "instead" } th { "noticed by" } } }
                        tbody {
                            @for site in sites {
                                tr {
                                    td .code { (site.file) ":" (site.line) }
                                    td .code { (site.operation) }
                                    td { (site.ordering) }
                                    td { (site.weakened_to) }
                                    td .bad[!site.needed] { (site.caught_by.as_deref().unwrap_or("nobody")) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn canaries(canaries: &[CanaryReport]) -> Markup {
    let right = canaries.iter().filter(|canary| canary.is_right()).count();
    html! {
        section {
            h2 { "History canaries" }
            p {
                (right) " of " (canaries.len()) " recorded histories are judged as they must be: "
                "each shows one thing that is not allowed, and the checker has to name that and nothing else."
            }
            details {
                summary { "all of them" }
                div .wide {
                    table {
                        thead { tr { th { "history" } th { "must be" } th { "found" } th {} } }
                        tbody {
                            @for canary in canaries {
                                tr {
                                    td { (canary.name) }
                                    td { (canary.expected.as_deref().unwrap_or("accepted")) }
                                    td { (canary.error.clone().unwrap_or_else(|| canary.found.join(", "))) }
                                    td { (mark(canary.is_right())) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn hot_path(counts: &HotPath) -> Markup {
    html! {
        section {
            h2 { "Hot path" }
            @if let Some(why) = &counts.not_run {
                p .bad { "Not run: " (why) "." }
            } @else {
                p { "What a warm publish takes, counted by a test with its own allocator and lock." }
                div .wide {
                    table {
                        thead { tr { th { "way" } th .n { "publishes" } th .n { "locks" } th .n { "allocations" } } }
                        tbody {
                            @for row in &counts.rows {
                                tr {
                                    td { (row.way) }
                                    td .n { (thousands(row.publishes)) }
                                    td .n .bad[row.locks > 0] { (row.locks) }
                                    td .n .bad[row.allocations > 0] { (row.allocations) }
                                }
                            }
                        }
                    }
                }
                @if !counts.notes.is_empty() {
                    details {
                        summary { "listed apart" }
                        ul { @for note in &counts.notes { li { (note) } } }
                    }
                }
            }
        }
    }
}

fn open(report: &Report) -> Markup {
    html! {
        section #not-verified {
            h2 { "Not verified" }
            dl {
                @for open in &report.not_verified {
                    dt { (open.what) }
                    dd { (open.why) }
                }
            }
        }
    }
}

fn word(verdict: Verdict) -> Markup {
    let class = match verdict {
        Verdict::Exhaustive => "ok",
        Verdict::Bounded(_) | Verdict::Sampled => "mid",
        Verdict::Truncated | Verdict::Failed => "bad",
    };
    html! { span class=(class) { (verdict) } }
}

fn mark(right: bool) -> Markup {
    html! { @if right { span .ok { "✓" } } @else { span .bad { "✗" } } }
}

/// Seconds since 1970 as a date and a time of day.
fn date(seconds: u64) -> String {
    let (days, rest) = ((seconds / 86_400) as i64, seconds % 86_400);
    // Counted from the first of March of the year 0, so that the leap day comes last.
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!(
        "{year}-{month:02}-{day:02} {:02}:{:02}",
        rest / 3_600,
        rest % 3_600 / 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_a_date() {
        assert_eq!(date(0), "1970-01-01 00:00");
        assert_eq!(date(951_782_399), "2000-02-28 23:59");
        assert_eq!(date(951_782_400), "2000-02-29 00:00");
        assert_eq!(date(1_767_225_600), "2026-01-01 00:00");
    }

    #[test]
    fn what_is_foreign_is_escaped() {
        let report = Report {
            complaints: vec!["<script>alert(1)</script>".to_owned()],
            ..Report::default()
        };
        let page = page(&report);
        assert!(!page.contains("<script>") && page.contains("&lt;script&gt;"));
    }
}
