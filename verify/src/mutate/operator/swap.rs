//! Two statements that stand one after the other change places. At least one touches something
//! that threads share, and neither only names a value.

use super::{Change, Operator};
use crate::mutate::source::{Edit, Function, Source, blocks, range};
use syn::{Expr, Stmt};

pub(super) fn changes(source: &Source, function: &Function) -> Vec<Change> {
    let mut changes = Vec::new();
    for block in blocks(function) {
        for pair in block.stmts.windows(2) {
            let [first, second] = pair else { continue };
            if !(moves(first) && moves(second)) {
                continue;
            }
            let acts = (source.acts(first), source.acts(second));
            let does = |statement: &Stmt, acts| acts || matches!(statement, Stmt::Expr(..));
            if !(acts.0 || acts.1) || !does(first, acts.0) || !does(second, acts.1) {
                continue;
            }
            let edit = |at: &Stmt, with: &Stmt| Edit {
                at: range(at),
                with: source.of(with).to_owned(),
            };
            changes.push(Change {
                operator: Operator::Swapped,
                place: format!("{} <-> {}", source.line(first), source.line(second)),
                edits: vec![edit(first, second), edit(second, first)],
            });
        }
    }
    changes
}

/// Whether a statement can stand elsewhere: it is no item, no way out and no value of its block.
fn moves(statement: &Stmt) -> bool {
    match statement {
        Stmt::Local(_) => true,
        Stmt::Item(_) | Stmt::Macro(_) => false,
        Stmt::Expr(expression, semicolon) => match expression {
            Expr::Return(_) | Expr::Break(_) | Expr::Continue(_) => false,
            Expr::If(condition) => semicolon.is_some() || condition.else_branch.is_none(),
            Expr::ForLoop(_) | Expr::While(_) => true,
            _ => semicolon.is_some(),
        },
    }
}
