//! A protocol's source: its text, its functions, and which of them touch what threads share.
//!
//! The tree says where things are; what is changed is the text, so that a mutant is the author's
//! file but for one place.

use proc_macro2::Span;
use std::collections::BTreeSet;
use std::ops::Range;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, Expr, ExprCall, ExprMethodCall, ExprPath, ImplItemFn, ItemFn, ItemImpl, Stmt};

/// One protocol's source.
pub struct Source {
    text: String,
    functions: Vec<Function>,
    /// The functions of this file, by their last name, in which something shared is touched.
    acting: BTreeSet<String>,
}

/// A function of the source.
pub(super) struct Function {
    /// `Gate::enter`.
    pub(super) name: String,
    pub(super) block: Block,
}

/// A piece of the text, and what stands there instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edit {
    pub(super) at: Range<usize>,
    pub(super) with: String,
}

impl Source {
    /// Reads a source.
    pub fn parse(text: &str) -> syn::Result<Self> {
        let file = syn::parse_file(text)?;
        let mut functions = Functions::default();
        functions.visit_file(&file);
        let mut source = Self {
            text: text.to_owned(),
            functions: functions.found,
            acting: BTreeSet::new(),
        };
        source.find_acting();
        Ok(source)
    }

    /// A function acts if it touches something shared, or calls one that does.
    fn find_acting(&mut self) {
        loop {
            let acts = |function: &&Function| {
                let mut looking = Looking::for_acts(&self.acting);
                looking.visit_block(&function.block);
                looking.found
            };
            let acting = self.functions.iter().filter(acts);
            let last = |name: &str| name.rsplit("::").next().unwrap_or(name).to_owned();
            let mut acting: BTreeSet<String> = acting.map(|f| last(&f.name)).collect();
            // Every type has them.
            acting.remove("new");
            acting.remove("default");
            if acting == self.acting {
                return;
            }
            self.acting = acting;
        }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn functions(&self) -> &[Function] {
        &self.functions
    }

    /// The text of a piece of the tree.
    pub(super) fn of(&self, piece: &impl Spanned) -> &str {
        &self.text[range(piece)]
    }

    /// The text of a piece of the tree on one line, to be told by.
    pub(super) fn line(&self, piece: &impl Spanned) -> String {
        const CHARS_MAX: usize = 72;
        let code = self.of(piece).lines().map(|line| match line.find("// ") {
            Some(comment) => &line[..comment],
            None => line,
        });
        let words: Vec<&str> = code.flat_map(str::split_whitespace).collect();
        let line = words.join(" ").replace(" .", ".").replace("( ", "(");
        match line.char_indices().nth(CHARS_MAX) {
            Some((end, _)) => format!("{}...", line[..end].trim_end()),
            None => line,
        }
    }

    /// Whether a statement touches something that threads share.
    pub(super) fn acts(&self, statement: &Stmt) -> bool {
        let mut looking = Looking::for_acts(&self.acting);
        looking.visit_stmt(statement);
        looking.found
    }

    /// Whether a call by itself touches something that threads share.
    pub(super) fn is_act(&self, call: &ExprMethodCall) -> bool {
        is_shared(call) || self.acting.contains(&call.method.to_string())
    }
}

/// Where a piece of the tree stands in the text.
pub(super) fn range(piece: &impl Spanned) -> Range<usize> {
    let span: Span = piece.span();
    span.byte_range()
}

/// `text` with `edits`, none of which lie within another.
pub(super) fn edited(text: &str, edits: &[Edit]) -> String {
    let mut edits: Vec<&Edit> = edits.iter().collect();
    edits.sort_by_key(|edit| (edit.at.start, edit.at.end));
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    for Edit { at, with } in edits {
        out.push_str(&text[from..at.start]);
        out.push_str(with);
        from = at.end;
    }
    out.push_str(&text[from..]);
    out
}

/// Every block of a function, the outer before the inner.
pub(super) fn blocks(function: &Function) -> Vec<&Block> {
    struct Blocks<'t>(Vec<&'t Block>);
    impl<'t> Visit<'t> for Blocks<'t> {
        fn visit_block(&mut self, block: &'t Block) {
            self.0.push(block);
            visit::visit_block(self, block);
        }
    }
    let mut blocks = Blocks(Vec::new());
    blocks.visit_block(&function.block);
    blocks.0
}

/// Every method call of a function, in the order of the text.
pub(super) fn calls(function: &Function) -> Vec<&ExprMethodCall> {
    struct Calls<'t>(Vec<&'t ExprMethodCall>);
    impl<'t> Visit<'t> for Calls<'t> {
        fn visit_expr_method_call(&mut self, call: &'t ExprMethodCall) {
            self.0.push(call);
            visit::visit_expr_method_call(self, call);
        }
    }
    let mut calls = Calls(Vec::new());
    calls.visit_block(&function.block);
    let mut calls = calls.0;
    calls.sort_by_key(|call| range(&call.method).start);
    calls
}

/// The ordering that an argument names: the last part of `Ordering::Acquire`.
pub(super) fn ordering(argument: &Expr) -> Option<String> {
    let Expr::Path(ExprPath { path, .. }) = argument else {
        return None;
    };
    let mut parts = path
        .segments
        .iter()
        .rev()
        .map(|part| part.ident.to_string());
    let name = parts.next()?;
    (parts.next()? == "Ordering").then_some(name)
}

/// Whether a path ends in a wake: `Waker::wake`.
pub(super) fn is_wake(path: &ExprPath) -> bool {
    let last = path.path.segments.last();
    last.is_some_and(|part| part.ident == "wake")
}

/// A call of the facade's: of an atomic, a lock, a waker, a plain word, a hand.
fn is_shared(call: &ExprMethodCall) -> bool {
    let name = call.method.to_string();
    match name.as_str() {
        "get" | "take" => call.args.is_empty(),
        "set" | "put" | "hold" => call.args.len() <= 1,
        "load" | "store" | "swap" | "lock" | "register" | "wake" => true,
        _ => name.starts_with("fetch_") || name.starts_with("compare_exchange"),
    }
}

/// Looks for something shared.
struct Looking<'a> {
    acting: &'a BTreeSet<String>,
    found: bool,
}

impl<'a> Looking<'a> {
    const fn for_acts(acting: &'a BTreeSet<String>) -> Self {
        Self {
            acting,
            found: false,
        }
    }
}

impl Visit<'_> for Looking<'_> {
    fn visit_expr_method_call(&mut self, call: &ExprMethodCall) {
        self.found |= is_shared(call) || self.acting.contains(&call.method.to_string());
        visit::visit_expr_method_call(self, call);
    }

    fn visit_expr_call(&mut self, call: &ExprCall) {
        if let Expr::Path(path) = &*call.func
            && let Some(last) = path.path.segments.last()
        {
            // Dropping a guard gives its lock up.
            self.found |= last.ident == "drop" || self.acting.contains(&last.ident.to_string());
        }
        visit::visit_expr_call(self, call);
    }

    fn visit_expr_path(&mut self, path: &ExprPath) {
        self.found |= is_wake(path);
    }
}

/// Collects functions with the names of their types.
#[derive(Default)]
struct Functions {
    of: Option<String>,
    found: Vec<Function>,
}

impl Visit<'_> for Functions {
    fn visit_item_impl(&mut self, item: &ItemImpl) {
        let name = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last(),
            _ => None,
        };
        self.of = name.map(|part| part.ident.to_string());
        visit::visit_item_impl(self, item);
        self.of = None;
    }

    fn visit_impl_item_fn(&mut self, function: &ImplItemFn) {
        let name = &function.sig.ident;
        self.found.push(Function {
            name: match &self.of {
                Some(of) => format!("{of}::{name}"),
                None => name.to_string(),
            },
            block: function.block.clone(),
        });
    }

    fn visit_item_fn(&mut self, function: &ItemFn) {
        self.found.push(Function {
            name: function.sig.ident.to_string(),
            block: (*function.block).clone(),
        });
    }
}
