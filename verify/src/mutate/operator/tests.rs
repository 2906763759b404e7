//! What each operator makes of a sample.

use super::{Mutant, Operator, mutants};
use crate::mutate::source::Source;

const SAMPLE: &str = r#"
impl Gate {
    fn leave(&self) {
        let before = self.word.fetch_sub(2, Ordering::AcqRel);
        if before == 3 {
            self.waker.wake();
        }
    }

    fn poll(&self, cx: &Context) -> Poll<()> {
        if self.is_done() {
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        if self.is_done() {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    fn is_done(&self) -> bool {
        self.word.fetch_add(0, Ordering::Acquire) == 1
    }

    fn close(&self) {
        let mut line = self.line.lock();
        line.closed = true;
        line.count += 1;
        drop(line);
        self.other();
    }

    fn claim(&self) -> bool {
        self.word.compare_exchange(1, 2, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    fn other(&self) {
        let one = 1;
        let two = 2;
        self.plain.set(one + two);
    }
}
"#;

fn all() -> (Source, Vec<Mutant>) {
    let source = Source::parse(SAMPLE).unwrap();
    let all = mutants(&source);
    (source, all)
}

/// The functions that `operator` changes, each as it becomes, on one line.
fn made(operator: Operator) -> Vec<String> {
    let (source, all) = all();
    let of = all.iter().filter(|mutant| mutant.operator == operator);
    let text = |mutant: &Mutant| {
        let text = mutant.applied(&source);
        let name = mutant.name.split(" | ").next().unwrap();
        let name = name.rsplit("::").next().unwrap();
        let body = text.split(&format!("fn {name}(")).nth(1).unwrap();
        let body = body.split("\n    }").next().unwrap();
        let words: Vec<&str> = body.split_whitespace().collect();
        format!("{name}({}", words.join(" "))
    };
    of.map(text).collect()
}

fn has(operator: Operator, part: &str) {
    let made = made(operator);
    assert!(
        made.iter().any(|text| text.contains(part)),
        "{operator}: no `{part}` in {made:#?}"
    );
}

#[test]
fn a_read_modify_write_is_split_with_the_halves_of_its_ordering() {
    has(
        Operator::Split,
        "let before = ({ let value_before = self.word.load(Ordering::Acquire); \
         self.word.store(value_before.wrapping_sub(2), Ordering::Release); value_before });",
    );
    has(
        Operator::Split,
        "let value_before = self.word.load(Ordering::Acquire); if value_before == 1 { \
         self.word.store(2, Ordering::Relaxed); Ok(value_before) } else { Err(value_before) }",
    );
    assert_eq!(made(Operator::Split).len(), 3);
}

#[test]
fn one_that_changes_nothing_is_a_load() {
    has(
        Operator::OnlyLoaded,
        "is_done(&self) -> bool { self.word.load(Ordering::Acquire) == 1",
    );
    assert_eq!(made(Operator::OnlyLoaded).len(), 1);
}

#[test]
fn a_notify_is_dropped_and_doubled_and_hoisted() {
    has(Operator::NotifyDropped, "if before == 3 { }");
    has(
        Operator::NotifyDoubled,
        "if before == 3 { self.waker.wake(); self.waker.wake(); }",
    );
    has(
        Operator::NotifyHoisted,
        "{ if before == 3 { self.waker.wake(); } let before =",
    );
}

#[test]
fn a_second_look_goes_by_the_first_or_is_left_out() {
    has(
        Operator::RecheckDropped,
        "let first_look = self.is_done(); if first_look { return Poll::Ready(()); } \
         self.waker.register(cx.waker()); if first_look { return Poll::Ready(()); } Poll::Pending",
    );
    has(
        Operator::RecheckDropped,
        "self.waker.register(cx.waker()); Poll::Pending",
    );
    assert_eq!(made(Operator::RecheckDropped).len(), 2);
}

#[test]
fn neighbours_change_places_if_one_touches_what_is_shared() {
    has(
        Operator::Swapped,
        "self.waker.register(cx.waker()); if self.is_done() { return",
    );
    has(
        Operator::Swapped,
        "line.closed = true; let mut line = self.line.lock();",
    );
    has(Operator::Swapped, "drop(line); line.count += 1;");
    let values = made(Operator::Swapped)
        .iter()
        .any(|text| text.starts_with("other("));
    assert!(!values, "two values have no order");
}

#[test]
fn a_lock_is_given_up_and_taken_again() {
    let given_up = "let mut line = self.line.lock(); line.closed = true; drop(line); \
                    let mut line = self.line.lock(); line.count += 1; drop(line);";
    has(Operator::LockShortened, given_up);
    assert_eq!(made(Operator::LockShortened).len(), 1);
}

#[test]
fn a_lock_is_given_up_for_good_where_the_guard_is_not_needed() {
    let text =
        "fn f(m: &M) { let g = m.lock.lock(); let n = g.n; m.word.store(n, Ordering::Relaxed); }";
    let source = Source::parse(text).unwrap();
    let all = mutants(&source);
    let of = all
        .iter()
        .filter(|mutant| mutant.operator == Operator::LockShortened);
    let texts: Vec<String> = of.map(|mutant| mutant.applied(&source)).collect();
    assert_eq!(texts.len(), 1);
    assert!(
        texts[0].contains("let n = g.n; drop(g); m.word.store("),
        "{texts:?}"
    );
}

#[test]
fn a_name_survives_edits_elsewhere() {
    let names = |text: &str| -> Vec<String> {
        let all = mutants(&Source::parse(text).unwrap());
        all.into_iter().map(|mutant| mutant.name).collect()
    };
    let edited = SAMPLE.replace(
        "impl Gate {",
        "// A comment.\nimpl Gate {\n    fn new() {}\n",
    );
    assert_eq!(names(SAMPLE), names(&edited));
    assert!(
        names(SAMPLE).contains(&"Gate::leave | notify dropped | self.waker.wake();".to_owned())
    );
}
