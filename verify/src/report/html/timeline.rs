//! A counterexample as a picture: a lane for each thread, time from top to bottom, a bar from the
//! beginning of a call to its end.

use clearway_models::registry::{Failure, Step};
use maud::{Markup, html};

const LANE: usize = 270;
const ROW: usize = 19;
const LEFT: usize = 44;
const TOP: usize = 30;
/// What fits into a lane.
const CHARS: usize = 38;
/// Of a longer execution the beginning and the end.
const ROWS_MAX: usize = 120;

/// The message and the picture.
pub(super) fn failure(failure: &Failure) -> Markup {
    html! {
        figure .timeline {
            figcaption .bad { (failure.message) }
            @if !failure.timeline.is_empty() { div .wide { (picture(&failure.timeline)) } }
        }
    }
}

fn picture(steps: &[Step]) -> Markup {
    let shown = shorten(steps);
    let mut threads: Vec<&str> = Vec::new();
    for step in &shown {
        if !threads.contains(&step.thread.as_str()) {
            threads.push(&step.thread);
        }
    }
    let lane = |thread: &str| threads.iter().position(|name| *name == thread).unwrap_or(0);
    let width = LEFT + threads.len() * LANE;
    let height = TOP + shown.len() * ROW + 8;
    let bars = bars(&shown);
    html! {
        svg xmlns="http://www.w3.org/2000/svg" width=(width) height=(height)
            viewBox={ "0 0 " (width) " " (height) } role="img" aria-label="what the threads did, in order" {
            @for (at, name) in threads.iter().enumerate() {
                @let x = LEFT + at * LANE;
                rect .lane .odd[at % 2 == 1] x=(x) y="0" width=(LANE) height=(height) {}
                text .thread x=(x + 8) y="19" { (name) }
            }
            @for (thread, from, to) in &bars {
                rect .bar x=(LEFT + lane(thread) * LANE + 3) y=(TOP + from * ROW + 3)
                    width="4" height=((to - from) * ROW + ROW - 6) rx="2" {}
            }
            @for (row, step) in shown.iter().enumerate() {
                @let y = TOP + row * ROW + 14;
                @let last = row + 1 == shown.len();
                @let (text, full) = label(step);
                text .at x=(LEFT - 8) y=(y) { (step.at) }
                text .step .event[step.site.is_none()] .last[last]
                    x=(LEFT + lane(&step.thread) * LANE + 12) y=(y) {
                    title { (full) }
                    (text)
                }
            }
        }
    }
}

/// The steps that are drawn.
fn shorten(steps: &[Step]) -> Vec<&Step> {
    if steps.len() <= ROWS_MAX {
        return steps.iter().collect();
    }
    let half = ROWS_MAX / 2;
    steps[..half]
        .iter()
        .chain(&steps[steps.len() - half..])
        .collect()
}

/// Calls that have a beginning and an end: their thread, and from which row to which.
fn bars<'s>(steps: &[&'s Step]) -> Vec<(&'s str, usize, usize)> {
    let mut bars = Vec::new();
    for (from, step) in steps.iter().enumerate() {
        let Some(call) = step.what.strip_suffix(" begins") else {
            continue;
        };
        let ends = |other: &&Step| {
            let of_it = other
                .what
                .strip_prefix(call)
                .is_some_and(|rest| rest.starts_with(" = "));
            other.thread == step.thread && of_it
        };
        let rest = steps[from..].iter().position(ends);
        // A call without an end lasts to the bottom.
        bars.push((
            step.thread.as_str(),
            from,
            rest.map_or(steps.len() - 1, |rows| from + rows),
        ));
    }
    bars
}

/// What a step says in its lane, and in full.
fn label(step: &Step) -> (String, String) {
    let full = match &step.site {
        Some(site) => format!("{} {}", site.rsplit('/').next().unwrap_or(site), step.what),
        None => step.what.clone(),
    };
    let mut short: String = full.chars().take(CHARS).collect();
    if short.len() < full.len() {
        short.push('…');
    }
    (short, full)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(at: u64, thread: &str, what: &str) -> Step {
        Step {
            at,
            thread: thread.to_owned(),
            what: what.to_owned(),
            site: None,
        }
    }

    #[test]
    fn a_call_is_a_bar_from_its_beginning_to_its_end() {
        let steps = [
            step(0, "t0", "Enter begins"),
            step(1, "t1", "Enter begins"),
            step(2, "t1", "Enter = Admitted"),
            step(3, "t0", "Close begins"),
        ];
        let steps: Vec<_> = steps.iter().collect();
        assert_eq!(bars(&steps), [("t0", 0, 3), ("t1", 1, 2), ("t0", 3, 3)]);
    }

    #[test]
    fn a_name_is_escaped() {
        let picture = picture(&[step(0, "<b>", "a & b")]).into_string();
        assert!(
            picture.contains("&lt;b&gt;") && picture.contains("a &amp; b"),
            "{picture}"
        );
    }
}
