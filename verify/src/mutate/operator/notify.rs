//! A notify is left out, comes before all that its block does, or comes twice.

use super::{Change, Operator};
use crate::mutate::source::{Edit, Function, Source, blocks, is_wake, range};
use syn::visit::{self, Visit};
use syn::{Expr, ExprMethodCall, ExprPath, Stmt};

pub(super) fn changes(source: &Source, function: &Function) -> Vec<Change> {
    let mut changes = Vec::new();
    for block in blocks(function) {
        for (number, statement) in block.stmts.iter().enumerate() {
            let Some(direct) = notify(statement) else {
                continue;
            };
            let (at, text) = (range(statement), source.of(statement));
            let mut change = |operator, edits| {
                let place = source.line(statement);
                changes.push(Change {
                    operator,
                    place,
                    edits,
                });
            };
            let (start, end) = (at.start, at.end);
            let edit = |at, with: String| Edit { at, with };
            if direct {
                change(
                    Operator::NotifyDropped,
                    vec![edit(start..end, String::new())],
                );
                change(
                    Operator::NotifyDoubled,
                    vec![edit(end..end, format!(" {text}"))],
                );
            }
            if number > 0 {
                let head = range(&block.stmts[0]).start;
                let edits = vec![
                    edit(head..head, format!("{text} ")),
                    edit(start..end, String::new()),
                ];
                change(Operator::NotifyHoisted, edits);
            }
        }
    }
    changes
}

/// Whether a statement does nothing but notify: by itself, or (`false`) under a condition.
fn notify(statement: &Stmt) -> Option<bool> {
    let Stmt::Expr(expression, _) = statement else {
        return None;
    };
    match expression {
        Expr::If(condition) if condition.else_branch.is_none() => {
            let inside = &condition.then_branch.stmts;
            let all = !inside.is_empty() && inside.iter().all(|s| notify(s).is_some());
            all.then_some(false)
        }
        Expr::MethodCall(call) => is_notify(call).then_some(true),
        _ => None,
    }
}

/// `x.wake()`, a function of the protocol's own whose name begins so, or `wakers.for_each(Waker::wake)`.
fn is_notify(call: &ExprMethodCall) -> bool {
    let name = call.method.to_string();
    if name.starts_with("wake") {
        return true;
    }
    let mut wakes = Wakes(false);
    if name == "for_each" {
        call.args.iter().for_each(|arg| wakes.visit_expr(arg));
    }
    wakes.0
}

struct Wakes(bool);

impl Visit<'_> for Wakes {
    fn visit_expr_method_call(&mut self, call: &ExprMethodCall) {
        self.0 |= call.method.to_string().starts_with("wake");
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_path(&mut self, path: &ExprPath) {
        self.0 |= is_wake(path);
    }
}
