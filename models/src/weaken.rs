//! Mutation of orderings: weaken one site of a protocol at a time and see whether a model notices.
//!
//! A weakening that no model notices means that the ordering is stronger than it has to be, or
//! that a model is missing.

use crate::recorder::file_of;
use crate::registry::{Model, Site};
use crate::under_loom::engine::{QUICK_BOUND, explore_to};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::atomic::Ordering;

/// One ordering argument in the source.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    file: &'static str,
    line: u32,
    column: u32,
    operation: &'static str,
}

thread_local! {
    /// What the models of this thread's exploration asked for, if they are watched.
    static SEEN: RefCell<Option<BTreeMap<Key, (Ordering, &'static Location<'static>)>>> =
        const { RefCell::new(None) };
    /// The site that is weaker for now.
    static WEAKER: Cell<Option<(Key, Ordering)>> = const { Cell::new(None) };
}

/// The ordering to use at `site`: the source's own, unless this is the weakened one.
pub(crate) fn ordering(
    operation: &'static str,
    order: Ordering,
    site: &'static Location<'static>,
) -> Ordering {
    if order == Ordering::Relaxed {
        return order;
    }
    let key = Key {
        file: site.file(),
        line: site.line(),
        column: site.column(),
        operation,
    };
    SEEN.with_borrow_mut(|seen| {
        if let Some(seen) = seen {
            seen.insert(key, (order, site));
        }
    });
    match WEAKER.get() {
        Some((weaker, to)) if weaker == key => to,
        _ => order,
    }
}

/// Every step down from an ordering that is still one for `operation`.
fn steps_down(operation: &str, order: Ordering) -> &'static [Ordering] {
    match (order, operation) {
        (Ordering::Acquire | Ordering::Release, _) => &[Ordering::Relaxed],
        (Ordering::AcqRel, _) => &[Ordering::Acquire, Ordering::Release],
        // Loom takes a sequentially consistent access for this already.
        (_, "load" | "compare_exchange (failure)") => &[Ordering::Acquire],
        (_, "store") => &[Ordering::Release],
        _ => &[Ordering::AcqRel],
    }
}

/// Every ordering above relaxed in the source of the protocol of `models`, each with every
/// weaker one beside it, and the first model that notices.
pub fn orderings(models: &[Model]) -> Vec<Site> {
    SEEN.set(Some(BTreeMap::new()));
    for model in models {
        explore_to(model, Some(QUICK_BOUND));
    }
    let seen = SEEN.take().unwrap_or_default();
    let ours = |site: &Location<'_>| {
        let file = file_of(site);
        let protocol = models.first().map_or("", |model| model.protocol);
        file.ends_with(&format!("protocol/{protocol}.rs"))
    };
    let mut sites = Vec::new();
    for (key, (order, site)) in seen.into_iter().filter(|(_, (_, site))| ours(site)) {
        for weaker in steps_down(key.operation, order) {
            WEAKER.set(Some((key, *weaker)));
            let caught_by = models
                .iter()
                .find(|model| explore_to(model, Some(QUICK_BOUND)).failure.is_some())
                .map(Model::name);
            WEAKER.set(None);
            sites.push(Site {
                file: file_of(site),
                line: key.line,
                operation: key.operation.to_owned(),
                ordering: format!("{order:?}"),
                weakened_to: format!("{weaker:?}"),
                needed: caught_by.is_some(),
                caught_by,
            });
        }
    }
    sites
}

/// Asserts that every ordering of a protocol is needed by one of its `models`, and that every
/// one in its `source` is reached by them.
///
/// # Panics
///
/// When an ordering is not needed, or not reached.
pub fn every_ordering_is_needed(models: &[Model], source: &str) {
    let sites = orderings(models);
    let idle: Vec<_> = sites
        .iter()
        .filter(|site| !site.needed)
        .map(|site| {
            let Site { file, line, .. } = site;
            let (operation, from, to) = (&site.operation, &site.ordering, &site.weakened_to);
            format!("{file}:{line} {operation}: {from} could be {to}")
        })
        .collect();
    assert!(
        idle.is_empty(),
        "orderings that no model needs:\n{}",
        idle.join("\n")
    );
    let missed: Vec<_> = ordered_lines(source)
        .filter(|(line, order)| {
            let here = |site: &Site| site.ordering == *order && reaches(site.line, *line);
            !sites.iter().any(here)
        })
        .map(|(line, order)| format!("line {line}: {order}"))
        .collect();
    assert!(
        missed.is_empty(),
        "orderings that no model reaches:\n{}",
        missed.join("\n")
    );
}

/// The lines of a source that name an ordering above relaxed, outside its comments.
fn ordered_lines(source: &str) -> impl Iterator<Item = (u32, &str)> {
    (1..).zip(source.lines()).flat_map(|(number, line)| {
        let code = line.split("//").next().unwrap_or("");
        code.split("Ordering::").skip(1).filter_map(move |rest| {
            let end = rest.find(|c: char| !c.is_alphanumeric());
            let order = &rest[..end.unwrap_or(rest.len())];
            ["Acquire", "Release", "AcqRel", "SeqCst"]
                .contains(&order)
                .then_some((number, order))
        })
    })
}

/// An operation stands on the line of its name, its orderings perhaps some lines below.
fn reaches(operation: u32, order: u32) -> bool {
    const LINES_MAX: u32 = 7;
    (operation..operation + LINES_MAX).contains(&order)
}

#[cfg(test)]
mod tests {
    /// A test `<protocol>::orderings` for each protocol.
    macro_rules! orderings {
        ($($protocol:ident, $model:ident;)*) => {$(
            mod $protocol {
                #[test]
                fn orderings() {
                    crate::weaken::every_ordering_is_needed(
                        crate::under_loom::$model::MODELS,
                        include_str!(concat!("../../src/protocol/", stringify!($protocol), ".rs")),
                    );
                }
            }
        )*};
    }

    orderings! {
        gate, gate_model;
        interest, interest_model;
        ledger, ledger_model;
        credit, credit_model;
        mode, mode_model;
        session, session_model;
        snapshot, snapshot_model;
        singleflight, singleflight_model;
        tally, tally_model;
        watermark, watermark_model;
        lane, lane_model;
    }
}
