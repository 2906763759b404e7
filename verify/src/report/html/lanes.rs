//! A failing run of the simulation as a picture: a lane for the broker and for each bus, time from top to bottom, a bar from the
//! beginning of something to its end, and beside it what each line says.

use super::STYLE;
use crate::report::terminal::thousands;
use crate::sim::counterexample::Shrinking;
use crate::sim::timeline::{Kind, Row, Timeline, seconds};
use maud::{DOCTYPE, Markup, PreEscaped, html};

const ROW: usize = 19;
const TOP: usize = 30;
/// How wide the times are.
const LEFT: usize = 78;
const LANE_MIN: usize = 52;
const BAR: usize = 9;
/// How wide a character is, about.
const CHAR: usize = 8;
/// What fits beside the lanes.
const CHARS: usize = 76;

/// The page of one replay.
pub(in crate::report) fn page(
    name: &str,
    timeline: &Timeline,
    shrunk: Option<&Shrinking>,
) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (name) ": " (timeline.breaks) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { h1 { (name) span .sub { (timeline.breaks) " is violated" } } }
                main { section {
                    @if let Some(shrunk) = shrunk { (sizes(shrunk)) }
                    (figure(timeline))
                } }
            }
        }
    };
    page.into_string()
}

/// How a big plan became a small one.
pub(in crate::report) fn sizes(shrunk: &Shrinking) -> Markup {
    let rows = shrunk.before.rows().into_iter().zip(shrunk.after.rows());
    html! {
        p .sizes {
            @for ((name, before), (_, after)) in rows {
                span .goal { (name) " " b { (thousands(before)) " → " (thousands(after)) } } " "
            }
            span .goal { "by " b { (shrunk.tries) } " runs in " b { (format!("{:.1} s", shrunk.seconds)) } }
        }
    }
}

/// What is violated, and the picture.
pub(in crate::report) fn figure(timeline: &Timeline) -> Markup {
    html! {
        figure .timeline {
            figcaption .bad { (timeline.breaks) " is violated: " (timeline.said) }
            @if !timeline.rows.is_empty() { div .wide { (picture(timeline)) } }
            p .legend {
                span .key.publish { "publish" } " " span .key.handler { "handler" } " "
                span .key.fault { "fault" } " " span .key.rest { "anything else" } " "
                span .bad { "red: " (timeline.marked()) } ". "
                (timeline.rows.len()) " of " (timeline.lines) " lines of the history."
            }
        }
    }
}

/// From where to where something lasts, in rows, and in which lane and column of it.
struct Bar<'t> {
    row: &'t Row,
    from: usize,
    to: usize,
    lane: usize,
    column: usize,
}

fn picture(timeline: &Timeline) -> Markup {
    let rows = &timeline.rows;
    let mut lanes: Vec<&str> = rows.iter().map(|row| row.who.as_str()).collect();
    lanes.sort_unstable_by_key(|who| (who.len(), *who));
    lanes.dedup();
    // The broker is between nobody.
    if let Some(at) = lanes.iter().position(|who| *who == "broker") {
        let broker = lanes.remove(at);
        lanes.insert(0, broker);
    }
    let bars = bars(rows, &lanes);
    let widths: Vec<usize> = (0..lanes.len()).map(|lane| width(lane, &bars)).collect();
    let left = |lane: usize| LEFT + widths[..lane].iter().sum::<usize>();
    let text = left(lanes.len()) + 10;
    let (width, height) = (text + CHARS * CHAR, TOP + rows.len() * ROW + 8);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height)
            viewBox={ "0 0 " (width) " " (height) } role="img" aria-label="what happened around the violation, in order" {
            @for (at, name) in lanes.iter().enumerate() {
                rect .lane .odd[at % 2 == 0] x=(left(at)) y="0" width=(widths[at]) height=(height) {}
                text .thread x=(left(at) + 4) y="19" { (name) }
            }
            @for bar in &bars {
                rect class={ "bar " (class(bar.row.kind)) } x=(left(bar.lane) + 5 + bar.column * BAR)
                    y=(TOP + bar.from * ROW + 4) width=(BAR - 3)
                    height=(bar.to.saturating_sub(bar.from) * ROW + ROW - 8) rx="2" {}
            }
            @for (at, row) in rows.iter().enumerate() { (line(row, at, text)) }
            @for (at, row) in rows.iter().enumerate() {
                @if row.until.is_none() {
                    @let lane = lanes.iter().position(|who| *who == row.who).unwrap_or(0);
                    circle class={ "mark " (class(row.kind)) } cx=(left(lane) + widths[lane] - 10)
                        cy=(TOP + at * ROW + ROW / 2) r="4" {}
                }
            }
        }
    }
}

/// What a row says beside the lanes.
fn line(row: &Row, at: usize, x: usize) -> Markup {
    let full = format!("{} {} {}", row.who, row.what, row.values);
    let mut short: String = full.chars().take(CHARS).collect();
    if short.len() < full.len() {
        short.pop();
        short.push('…');
    }
    let y = TOP + at * ROW + 14;
    html! {
        text .at x=(LEFT - 8) y=(y) { (seconds(row.at)) }
        text .step .last[row.shows] x=(x) y=(y) {
            title { "line " (row.line) ": " (full) }
            (short)
        }
    }
}

fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Publish => "publish",
        Kind::Handler => "handler",
        Kind::Fault => "fault",
        Kind::Other => "rest",
    }
}

/// What lasts. Two at the same time in a lane stand beside each other.
fn bars<'t>(rows: &'t [Row], lanes: &[&str]) -> Vec<Bar<'t>> {
    let mut bars: Vec<Bar<'t>> = Vec::new();
    for (from, row) in rows.iter().enumerate() {
        let Some(until) = row.until else {
            continue;
        };
        // An end that is not shown is somewhere before the next row that is.
        let to = rows.iter().rposition(|other| other.line <= until);
        let to = to.unwrap_or(from).max(from);
        let lane = lanes.iter().position(|who| *who == row.who).unwrap_or(0);
        let is_taken = |column: usize| {
            let beside = bars
                .iter()
                .filter(|bar| bar.lane == lane && bar.column == column);
            beside.into_iter().any(|bar| bar.to >= from)
        };
        let column = (0..).find(|column| !is_taken(*column)).unwrap_or(0);
        bars.push(Bar {
            row,
            from,
            to,
            lane,
            column,
        });
    }
    bars
}

/// How wide a lane is: its bars, and its marks.
fn width(lane: usize, bars: &[Bar<'_>]) -> usize {
    let columns = bars.iter().filter(|bar| bar.lane == lane);
    let columns = columns.map(|bar| bar.column + 1).max().unwrap_or(0);
    (columns * BAR + 24).max(LANE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::breaks::Breaks;

    fn row(line: usize, who: &str, until: Option<usize>) -> Row {
        Row {
            line,
            at: line as u64 * 1_000_000,
            who: who.to_owned(),
            what: "does <b>".to_owned(),
            values: "a & b".to_owned(),
            kind: Kind::Handler,
            until,
            shows: line == 5,
        }
    }

    fn of(rows: Vec<Row>) -> Timeline {
        Timeline {
            breaks: Breaks::Liveness,
            said: "it <ends> not".to_owned(),
            lines: 9,
            rows,
        }
    }

    #[test]
    fn what_lasts_at_the_same_time_stands_beside_each_other() {
        let rows = [
            row(2, "bus 1", Some(7)),
            row(3, "bus 2", Some(10)),
            row(5, "bus 1", Some(6)),
            row(8, "bus 1", Some(9)),
        ];
        let bars = bars(&rows, &["bus 1", "bus 2"]);
        let places: Vec<_> = bars
            .iter()
            .map(|b| (b.lane, b.column, b.from, b.to))
            .collect();
        assert_eq!(
            places,
            [(0, 0, 0, 2), (1, 0, 1, 3), (0, 1, 2, 2), (0, 0, 3, 3)]
        );
        assert!(width(0, &bars) >= 2 * BAR && width(0, &[]) == LANE_MIN);
    }

    #[test]
    fn what_is_foreign_is_escaped_and_what_shows_it_is_marked() {
        let page = page(
            "<name>",
            &of(vec![row(2, "bus 1", None), row(5, "broker", None)]),
            None,
        );
        for expected in [
            "&lt;name&gt;",
            "it &lt;ends&gt; not",
            "does &lt;b&gt; a &amp; b",
        ] {
            assert!(page.contains(expected), "{expected}: {page}");
        }
        assert!(!page.contains("<name>") && !page.contains("<ends>"));
        assert_eq!(page.matches("step last").count(), 1, "{page}");
    }
}
