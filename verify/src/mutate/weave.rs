//! Weaving: all mutants of a protocol in one file, chosen when it runs.
//!
//! A function with mutants has a body for each of them, and for the original. So hundreds of
//! mutants, with the models and the spec that judge them, are one build.

use super::operator::Mutant;
use super::source::{Edit, Source, edited, range};
use std::fmt::Write as _;
use std::ops::RangeInclusive;

/// A file with all mutants in it.
pub(super) struct Woven {
    pub(super) text: String,
    /// The lines of each mutant, by its number.
    lines: Vec<(u32, RangeInclusive<usize>)>,
}

impl Woven {
    /// `mutants` of a source, each with the number by which it is chosen.
    pub(super) fn new(source: &Source, mutants: &[(u32, &Mutant)]) -> Self {
        let mut woven = Self {
            text: String::new(),
            lines: Vec::new(),
        };
        let mut from = 0;
        for (number, function) in source.functions().iter().enumerate() {
            let here: Vec<_> = mutants
                .iter()
                .filter(|(_, mutant)| mutant.function == number)
                .collect();
            if here.is_empty() {
                continue;
            }
            let body = range(&function.block);
            woven.text.push_str(&source.text()[from..body.start]);
            woven.text.push_str("{ match crate::mutant() {\n");
            for (chosen, mutant) in here {
                let text = &source.text()[body.clone()];
                let moved = |edit: &Edit| Edit {
                    at: edit.at.start - body.start..edit.at.end - body.start,
                    with: edit.with.clone(),
                };
                let edits: Vec<Edit> = mutant.edits.iter().map(moved).collect();
                let first = woven.text.matches('\n').count() + 1;
                _ = writeln!(woven.text, "{chosen} => {}", edited(text, &edits));
                let last = woven.text.matches('\n').count();
                woven.lines.push((*chosen, first..=last));
            }
            _ = write!(woven.text, "_ => {} }} }}", &source.text()[body.clone()]);
            from = body.end;
        }
        woven.text.push_str(&source.text()[from..]);
        woven
    }

    /// The mutant in a line of the file.
    pub(super) fn mutant_at(&self, line: usize) -> Option<u32> {
        let here = self.lines.iter().find(|(_, lines)| lines.contains(&line));
        here.map(|(number, _)| *number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mutate::mutants;

    #[test]
    fn a_function_has_a_body_for_each_mutant_and_for_the_original() {
        let text = "fn before() {}\nfn leave(w: &Word) -> u64 {\n    w.fetch_sub(1, Ordering::Release)\n}\n";
        let source = Source::parse(text).unwrap();
        let all = mutants(&source);
        assert_eq!(all.len(), 1);
        let woven = Woven::new(&source, &[(7, &all[0])]);
        let tree = syn::parse_file(&woven.text).expect("it is Rust");
        assert_eq!(tree.items.len(), 2);
        assert!(
            woven
                .text
                .contains("_ => {\n    w.fetch_sub(1, Ordering::Release)\n}")
        );
        let line = |part: &str| {
            woven.text[..woven.text.find(part).unwrap()]
                .matches('\n')
                .count()
                + 1
        };
        assert_eq!(woven.mutant_at(line("wrapping_sub")), Some(7));
        assert_eq!(woven.mutant_at(line("fetch_sub")), None);
        assert_eq!(woven.mutant_at(1), None);
    }
}
