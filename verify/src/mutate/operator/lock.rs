//! A lock is given up between two statements under it: for good if what follows does not need the
//! guard, otherwise it is taken again.

use super::{Change, Operator};
use crate::mutate::source::{Edit, Function, Source, blocks, range};
use syn::visit::{self, Visit};
use syn::{Block, Expr, ExprMethodCall, ExprPath, Ident, Pat, Stmt};

pub(super) fn changes(source: &Source, function: &Function) -> Vec<Change> {
    let mut changes = Vec::new();
    for block in blocks(function) {
        for (number, statement) in block.stmts.iter().enumerate() {
            if let Some(guard) = Guard::of(source, statement) {
                guard.outer(source, &block.stmts[number + 1..], &mut changes);
            }
        }
    }
    changes
}

/// `let mut line = self.line.lock();`
struct Guard<'t> {
    name: &'t Ident,
    mutable: bool,
    lock: &'t str,
}

impl<'t> Guard<'t> {
    fn of(source: &'t Source, statement: &'t Stmt) -> Option<Self> {
        let Stmt::Local(local) = statement else {
            return None;
        };
        let (Pat::Ident(name), Some(init)) = (&local.pat, &local.init) else {
            return None;
        };
        let Expr::MethodCall(ExprMethodCall { method, .. }) = &*init.expr else {
            return None;
        };
        (method == "lock").then(|| Self {
            name: &name.ident,
            mutable: name.mutability.is_some(),
            lock: source.of(&*init.expr),
        })
    }

    /// Between the statements that follow, up to where the guard is dropped.
    fn outer(&self, source: &Source, rest: &[Stmt], changes: &mut Vec<Change>) {
        for (number, next) in rest.iter().enumerate() {
            if self.drops(next) {
                return;
            }
            if number > 0 {
                self.change(source, next, &rest[number..], true, changes);
            }
            if self.mutable {
                self.inner(source, next, changes);
            }
        }
    }

    /// Between statements of the blocks within `statement`.
    fn inner(&self, source: &Source, statement: &Stmt, changes: &mut Vec<Change>) {
        struct Blocks<'t>(Vec<&'t Block>);
        impl<'t> Visit<'t> for Blocks<'t> {
            fn visit_block(&mut self, block: &'t Block) {
                self.0.push(block);
                visit::visit_block(self, block);
            }
        }
        let mut blocks = Blocks(Vec::new());
        blocks.visit_stmt(statement);
        for block in blocks.0 {
            let dropped = block.stmts.iter().position(|s| self.drops(s));
            let under = &block.stmts[..dropped.unwrap_or(block.stmts.len())];
            for (number, next) in under.iter().enumerate().skip(1) {
                self.change(source, next, &under[number..], false, changes);
            }
        }
    }

    fn change(
        &self,
        source: &Source,
        next: &Stmt,
        rest: &[Stmt],
        to_the_end: bool,
        changes: &mut Vec<Change>,
    ) {
        let Self {
            name,
            mutable,
            lock,
        } = self;
        let needed = rest.iter().any(|statement| self.names(statement));
        // What touches nothing shared sees no difference.
        if !needed && !rest.iter().any(|statement| source.acts(statement)) {
            return;
        }
        let with = match (to_the_end, needed, mutable) {
            (true, false, _) => format!("drop({name}); "),
            (true, true, true) => format!("drop({name}); let mut {name} = {lock}; "),
            (true, true, false) => format!("drop({name}); let {name} = {lock}; "),
            (false, ..) => format!("drop({name}); {name} = {lock}; "),
        };
        let start = range(next).start;
        changes.push(Change {
            operator: Operator::LockShortened,
            place: format!("{name}, before {}", source.line(next)),
            edits: vec![Edit {
                at: start..start,
                with,
            }],
        });
    }

    fn drops(&self, statement: &Stmt) -> bool {
        let Stmt::Expr(Expr::Call(call), _) = statement else {
            return false;
        };
        let is = |expr: &Expr, name: &str| matches!(expr, Expr::Path(p) if p.path.is_ident(name));
        is(&call.func, "drop") && call.args.iter().any(|arg| is(arg, &self.name.to_string()))
    }

    fn names(&self, statement: &Stmt) -> bool {
        struct Names<'n>(&'n Ident, bool);
        impl Visit<'_> for Names<'_> {
            fn visit_expr_path(&mut self, path: &ExprPath) {
                self.1 |= path.path.is_ident(self.0);
            }
        }
        let mut names = Names(self.name, false);
        names.visit_stmt(statement);
        names.1
    }
}
