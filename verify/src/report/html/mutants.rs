//! The mutants, if an earlier `verify mutate` still holds.

use crate::mutate::{MutantReport, Mutants, ProtocolMutants, Score};
use maud::{Markup, html};

pub(super) fn section(mutants: &Mutants) -> Markup {
    let all = mutants.score();
    html! {
        @if all.mutants > 0 {
            section #mutants {
                h2 { "Mutants" }
                p {
                    "Operators change the source wherever they can: a read-modify-write split, a notify left out, a "
                    "second look dropped, two statements swapped, a lock given up. Models and specs notice "
                    (all.killed) " of " (all.mutants) " that compile; " (all.equivalent) " cannot be told from the "
                    "original, each for a reason that is committed; " (all.survived) " survived."
                }
                div .wide {
                    table {
                        thead { tr {
                            th { "protocol" } th .n { "mutants" } th .n { "killed" } th .n { "equivalent" }
                            th .n { "survived" } th .n { "do not compile" }
                        } }
                        tbody { @for of in &mutants.protocols { (row(of)) } }
                    }
                }
                @for of in &mutants.protocols { (left(of)) }
            }
        }
    }
}

fn row(of: &ProtocolMutants) -> Markup {
    let Score {
        mutants,
        killed,
        equivalent,
        survived,
        skipped,
    } = of.score();
    html! {
        tr {
            td { (of.protocol) } td .n { (mutants) } td .n { (killed) } td .n { (equivalent) }
            td .n .bad[survived > 0] { (survived) } td .n { (skipped) }
        }
    }
}

/// Those that nobody noticed, with the reasons.
fn left(of: &ProtocolMutants) -> Markup {
    let left: Vec<&MutantReport> = of
        .mutants
        .iter()
        .filter(|mutant| mutant.is_equivalent() || mutant.is_survivor())
        .collect();
    html! {
        @if !left.is_empty() {
            details {
                summary { (of.protocol) ": " (left.len()) " that nobody notices" }
                dl {
                    @for mutant in left {
                        dt .code { (mutant.name) }
                        dd .bad[mutant.is_survivor()] { (mutant.reason.as_deref().unwrap_or("nobody knows why")) }
                    }
                }
            }
        }
    }
}
