//! Who looks a second time goes by what the first look said. And who has locked or registered
//! does not look at all.

use super::{Change, Operator};
use crate::mutate::source::{Edit, Function, Source, blocks, calls, ordering, range};
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, Expr, ExprIf, ExprMethodCall, Stmt};

/// The name that what the first look said has in a mutant.
const FIRST: &str = "first_look";

pub(super) fn changes(source: &Source, function: &Function) -> Vec<Change> {
    let mut changes = second_looks(source, function);
    changes.extend(ways_out(source, function));
    changes
}

/// The same look twice, whatever its orderings.
fn second_looks(source: &Source, function: &Function) -> Vec<Change> {
    let looks: Vec<&ExprMethodCall> = calls(function)
        .into_iter()
        .filter(|call| source.is_act(call) && only_looks(call))
        .collect();
    let mut changes = Vec::new();
    for (number, second) in looks.iter().enumerate() {
        let Some(first) = looks[..number].iter().find(|first| same(first, second)) else {
            continue;
        };
        let mut change = |edits| {
            changes.push(Change {
                operator: Operator::RecheckDropped,
                place: source.line(*second),
                edits,
            });
        };
        let edit = |at: Range<usize>, with: String| Edit { at, with };
        if let Some(statement) = common(function, first, second) {
            let start = range(statement).start;
            let named = format!("let {FIRST} = {}; ", source.of(*first));
            change(vec![
                edit(start..start, named),
                edit(range(*first), FIRST.to_owned()),
                edit(range(*second), FIRST.to_owned()),
            ]);
        }
        if is_let_some(function, first) {
            change(vec![edit(range(*second), "None".to_owned())]);
        }
        if let Some(assigned) = assigns(function, second) {
            change(vec![edit(assigned, String::new())]);
        }
    }
    changes
}

/// The ways out that come after a lock or a registration.
fn ways_out(source: &Source, function: &Function) -> Vec<Change> {
    let after = calls(function)
        .into_iter()
        .filter(|call| call.method == "lock" || call.method == "register")
        .map(|call| range(call).end)
        .min();
    let mut changes = Vec::new();
    let Some(after) = after else { return changes };
    let statements = blocks(function).into_iter().flat_map(|block| &block.stmts);
    for statement in statements.filter(|statement| range(*statement).start > after) {
        let Stmt::Expr(Expr::If(condition), _) = statement else {
            continue;
        };
        let out = condition.then_branch.stmts.last();
        let returns = matches!(out, Some(Stmt::Expr(Expr::Return(_), _)));
        if returns && condition.else_branch.is_none() {
            changes.push(Change {
                operator: Operator::RecheckDropped,
                place: source.line(statement),
                edits: vec![Edit {
                    at: range(statement),
                    with: String::new(),
                }],
            });
        }
    }
    changes
}

fn only_looks(call: &ExprMethodCall) -> bool {
    let name = call.method.to_string();
    let acts = ["lock", "register", "store", "set", "put", "hold", "swap"];
    let writes = name.starts_with("fetch_") || name.starts_with("compare_exchange");
    !writes && !name.starts_with("wake") && !acts.contains(&name.as_str())
}

fn same(a: &ExprMethodCall, b: &ExprMethodCall) -> bool {
    let arguments = || a.args.iter().zip(&b.args);
    a.method == b.method
        && a.receiver == b.receiver
        && a.args.len() == b.args.len()
        && arguments().all(|(a, b)| a == b || (ordering(a).is_some() && ordering(b).is_some()))
}

fn holds(outer: &impl Spanned, inner: &impl Spanned) -> bool {
    let (outer, inner) = (range(outer), range(inner));
    outer.start <= inner.start && inner.end <= outer.end
}

/// The statement of the first look in the innermost block that has both.
fn common<'f>(
    function: &'f Function,
    first: &ExprMethodCall,
    second: &ExprMethodCall,
) -> Option<&'f Stmt> {
    let both = |block: &&&Block| holds(**block, first) && holds(**block, second);
    let all = blocks(function);
    let block = all.iter().rfind(both)?;
    block
        .stmts
        .iter()
        .find(|statement| holds(*statement, first))
}

/// Whether the first look is what an `if let Some(..)` takes apart, to leave.
fn is_let_some(function: &Function, first: &ExprMethodCall) -> bool {
    struct Conditions<'c>(&'c ExprMethodCall, bool);
    impl Visit<'_> for Conditions<'_> {
        fn visit_expr_if(&mut self, condition: &ExprIf) {
            if let Expr::Let(taken) = &*condition.cond {
                self.1 |= *taken.expr == Expr::MethodCall(self.0.clone());
            }
            visit::visit_expr_if(self, condition);
        }
    }
    let mut conditions = Conditions(first, false);
    conditions.visit_block(&function.block);
    conditions.1
}

/// The statement that does nothing but assign what the second look says.
fn assigns(function: &Function, second: &ExprMethodCall) -> Option<Range<usize>> {
    let statements = blocks(function).into_iter().flat_map(|block| &block.stmts);
    let assigns = |statement: &&Stmt| {
        matches!(statement, Stmt::Expr(Expr::Assign(assign), Some(_))
            if range(&*assign.right) == range(second))
    };
    statements
        .filter(|statement| holds(*statement, second))
        .find(assigns)
        .map(range)
}
