//! A read-modify-write becomes a load and a store, with the halves of its ordering; one that
//! changes nothing also becomes a load alone.

use super::{Change, Operator};
use crate::mutate::source::{Edit, Function, Source, calls, ordering, range};
use syn::{Expr, ExprMethodCall, Lit};

/// The name that the value before has in a mutant.
const BEFORE: &str = "value_before";

pub(super) fn changes(source: &Source, function: &Function) -> Vec<Change> {
    let mut changes = Vec::new();
    for call in calls(function) {
        let Some(split) = split(source, call) else {
            continue;
        };
        let change = |operator, with| Change {
            operator,
            place: source.line(call),
            edits: vec![Edit {
                at: range(call),
                with,
            }],
        };
        changes.push(change(Operator::Split, split));
        if let Some(load) = only_load(source, call) {
            changes.push(change(Operator::OnlyLoaded, load));
        }
    }
    changes
}

fn split(source: &Source, call: &ExprMethodCall) -> Option<String> {
    let at = source.of(&call.receiver);
    let arguments: Vec<&Expr> = call.args.iter().collect();
    let name = call.method.to_string();
    if let ("swap", [new]) = (name.as_str(), &arguments[..]) {
        let new = source.of(*new);
        return Some(format!(
            "({{ let {BEFORE} = std::sync::Arc::clone(&*{at}.load()); {at}.store({new}); {BEFORE} }})"
        ));
    }
    if let (true, [current, new, success, failure]) =
        (name.starts_with("compare_exchange"), &arguments[..])
    {
        let (current, new) = (source.of(*current), source.of(*new));
        let (success, _) = (ordering(success)?, ordering(failure)?);
        let (load, store) = halves(&success);
        return Some(format!(
            "({{ let {BEFORE} = {at}.load({load}); if {BEFORE} == {current} {{ {at}.store({new}, {store}); \
             Ok({BEFORE}) }} else {{ Err({BEFORE}) }} }})"
        ));
    }
    let [amount, order] = &arguments[..] else {
        return None;
    };
    let (load, store) = halves(&ordering(order)?);
    let amount = source.of(*amount);
    let after = match name.as_str() {
        "fetch_add" => format!("{BEFORE}.wrapping_add({amount})"),
        "fetch_sub" => format!("{BEFORE}.wrapping_sub({amount})"),
        "fetch_or" => format!("{BEFORE} | ({amount})"),
        "fetch_and" => format!("{BEFORE} & ({amount})"),
        "swap" => amount.to_owned(),
        _ => return None,
    };
    Some(format!(
        "({{ let {BEFORE} = {at}.load({load}); {at}.store({after}, {store}); {BEFORE} }})"
    ))
}

/// `fetch_add(0, ..)` and `fetch_or(0, ..)`.
fn only_load(source: &Source, call: &ExprMethodCall) -> Option<String> {
    let (Some(Expr::Lit(literal)), true) = (
        call.args.first(),
        call.method == "fetch_add" || call.method == "fetch_or",
    ) else {
        return None;
    };
    let Lit::Int(number) = &literal.lit else {
        return None;
    };
    let (load, _) = halves(&ordering(call.args.last()?)?);
    let zero = number.base10_digits() == "0";
    zero.then(|| format!("{}.load({load})", source.of(&call.receiver)))
}

/// What a load and a store keep of an ordering.
fn halves(order: &str) -> (&'static str, &'static str) {
    let load = match order {
        "Acquire" | "AcqRel" | "SeqCst" => "Ordering::Acquire",
        _ => "Ordering::Relaxed",
    };
    let store = match order {
        "Release" | "AcqRel" | "SeqCst" => "Ordering::Release",
        _ => "Ordering::Relaxed",
    };
    (load, store)
}
