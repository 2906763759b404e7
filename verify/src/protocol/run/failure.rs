//! What a failing run looks like to people: the message, and who called what in which order.

use super::{CallOf, Protocol};
use crate::linear::{self, Answer, Call, Counterexample};
use clearway_models::registry::{Failure, Step};
use std::any::Any;
use std::time::Duration;

/// How long the search for an order may take. These histories have some dozen calls.
const SEARCH: Duration = Duration::from_secs(5);

/// What is wrong with a run, if anything.
pub(super) fn verdict<P: Protocol>(
    start: &P::Spec,
    calls: &[CallOf<P>],
    outcome: Result<(), String>,
) -> Option<Failure> {
    let message = match outcome {
        Err(broken) => broken,
        Ok(()) => match linear::check_by_key(start, calls, P::part, SEARCH) {
            Answer::Linear => return None,
            // No answer is no yes.
            Answer::Unknown => format!("no order was found in {} s", SEARCH.as_secs()),
            Answer::Broken(found) => broken::<P>(&found, calls),
        },
    };
    Some(Failure {
        message: format!("{}: {message}", P::NAME),
        timeline: timeline::<P>(calls),
    })
}

fn broken<P: Protocol>(found: &Counterexample, calls: &[CallOf<P>]) -> String {
    let said = |&place: &usize| {
        let Call {
            process, op, end, ..
        } = &calls[place];
        match end {
            Some((_, ret)) => format!("t{process} {op:?} = {ret:?}"),
            None => format!("t{process} {op:?}"),
        }
    };
    let explained: Vec<_> = found.explained.iter().map(said).collect();
    format!(
        "{}: the calls have no order: {} cannot come after [{}]",
        found.promise,
        said(&found.stuck),
        explained.join(", ")
    )
}

/// What a panic of a run says.
pub(super) fn panicked<P: Protocol>(payload: &(dyn Any + Send), calls: &[CallOf<P>]) -> Failure {
    let text = payload.downcast_ref::<String>().cloned();
    let text = text.or_else(|| {
        payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
    });
    let text = text.unwrap_or_else(|| "a panic without a message".to_owned());
    let first = text.lines().next().unwrap_or_default();
    let message = if text.starts_with("deadlock") {
        format!(
            "{}: {}: calls that never return ({first})",
            P::NAME,
            P::hang(calls)
        )
    } else {
        format!("{}: {}: {first}", P::NAME, P::PANIC)
    };
    Failure {
        message,
        timeline: timeline::<P>(calls),
    }
}

fn timeline<P: Protocol>(calls: &[CallOf<P>]) -> Vec<Step> {
    let mut events: Vec<(u64, usize, String)> = Vec::new();
    for Call {
        process,
        op,
        begin,
        end,
    } in calls
    {
        events.push((*begin, *process, format!("{op:?} begins")));
        if let Some((end, ret)) = end {
            events.push((*end, *process, format!("{op:?} = {ret:?}")));
        }
    }
    events.sort_unstable();
    let steps = (0..).zip(events);
    steps
        .map(|(at, (_, process, what))| Step {
            at,
            thread: format!("t{process}"),
            what,
            site: None,
        })
        .collect()
}
