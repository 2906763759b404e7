//! What every engine records while a model runs: executions, goals, the timeline, classes.
//!
//! Loom and shuttle run all threads of an execution on one thread of the machine, so they record
//! what happens in the order in which it happens. Plain threads only count: anything more would
//! order what the race detector must see unordered.

use crate::registry::{Classes, Failure, Model, Run, Step, Verdict};
use std::any::Any;
use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{self, AssertUnwindSafe, Location};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Instant;

/// A longer execution spins; its beginning says why.
const STEPS_MAX: usize = 1_000;

/// What one exploration has seen so far.
pub(crate) struct Recorder {
    goals: Vec<(&'static str, AtomicU64)>,
    executions: AtomicU64,
    /// The calling thread's number within the execution. `None`: no timeline.
    who: Option<fn() -> usize>,
    execution: Mutex<Execution>,
    /// How often each class was seen, if they are counted.
    classes: Option<Mutex<HashMap<u64, u32>>>,
}

/// The execution that is running.
#[derive(Default)]
struct Execution {
    steps: Vec<(usize, What)>,
    names: HashMap<usize, &'static str>,
    objects: Vec<Object>,
}

enum What {
    Label(Cow<'static, str>),
    Operation(&'static str, u64, &'static Location<'static>),
}

/// The order of accesses to one object, folded: reads between two writes commute.
#[derive(Default, Clone, Copy)]
struct Object {
    history: u64,
    reads: u64,
}

/// What an operation does to its object.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Recorder>>> = const { RefCell::new(None) };
    /// Panics on this thread go to the list below instead of the terminal.
    static EXPLORING: Cell<bool> = const { Cell::new(false) };
    static PANICS: RefCell<Vec<(String, String)>> = const { RefCell::new(Vec::new()) };
}

/// What an engine can do for its timeline.
pub(crate) struct Abilities {
    /// The calling thread's number within the execution.
    pub(crate) who: Option<fn() -> usize>,
    /// Whether classes are worth counting: only where executions are sampled.
    pub(crate) classes: bool,
}

/// Runs `drive`, which runs the model's body as often as its engine wants and says how far it
/// came. A panic out of it is the failing execution.
pub(crate) fn observe(
    model: &Model,
    engine: &str,
    abilities: Abilities,
    drive: impl FnOnce(fn()) -> Verdict,
) -> Run {
    catch_panics();
    let recorder = Arc::new(Recorder {
        goals: model
            .goals
            .iter()
            .map(|goal| (*goal, AtomicU64::new(0)))
            .collect(),
        executions: AtomicU64::new(0),
        who: abilities.who,
        execution: Mutex::default(),
        classes: abilities.classes.then(Mutex::default),
    });
    let started = Instant::now();
    let outcome = {
        let _attached = attach(recorder.clone());
        PANICS.take();
        panic::catch_unwind(AssertUnwindSafe(|| drive(model.body)))
    };
    let (verdict, failure) = match outcome {
        Ok(verdict) => (verdict, None),
        Err(payload) => (Verdict::Failed, Some(recorder.failure(model, &*payload))),
    };
    Run {
        engine: engine.to_owned(),
        protocol: model.protocol.to_owned(),
        invariant: model.invariant.to_owned(),
        executions: recorder.executions.load(Ordering::Relaxed),
        verdict,
        goals: recorder
            .goals
            .iter()
            .map(|(goal, reached)| ((*goal).to_owned(), reached.load(Ordering::Relaxed)))
            .collect(),
        classes: recorder.classes(),
        failure,
        elapsed_ms: started.elapsed().as_millis() as u64,
    }
}

/// The recorder of the calling thread, to be handed to a thread it starts.
pub(crate) fn current() -> Option<Arc<Recorder>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Makes `recorder` the calling thread's until the guard is dropped.
pub(crate) fn attach(recorder: Arc<Recorder>) -> Attached {
    EXPLORING.set(true);
    Attached(CURRENT.replace(Some(recorder)))
}

pub(crate) struct Attached(Option<Arc<Recorder>>);

impl Drop for Attached {
    fn drop(&mut self) {
        EXPLORING.set(self.0.is_some());
        CURRENT.replace(self.0.take());
    }
}

/// An execution begins: forget the one before.
pub(crate) fn begin_execution() {
    if let Some(recorder) = current() {
        recorder.executions.fetch_add(1, Ordering::Relaxed);
        recorder.count_class();
        *recorder.execution() = Execution::default();
    }
}

/// Says that the model has come to a place it must come to in some execution.
///
/// # Panics
///
/// When the model that is running does not list `goal`.
pub fn sometimes(goal: &'static str) {
    let Some(recorder) = current() else { return };
    let known = recorder.goals.iter().find(|(name, _)| *name == goal);
    // Relaxed: a count; in plain threads it must not order anything.
    match known {
        Some((_, reached)) => _ = reached.fetch_add(1, Ordering::Relaxed),
        None => panic!("the model does not list the goal \"{goal}\""),
    }
}

/// Puts `label` into the timeline of the calling thread.
pub fn event(label: impl Into<Cow<'static, str>>) {
    step(|| What::Label(label.into()));
}

/// Names the thread with number `who` in the timeline.
pub(crate) fn name_thread(who: usize, name: &'static str) {
    if let Some(recorder) = current() {
        recorder.execution().names.insert(who, name);
    }
}

/// A new object of the facade: its number within the execution.
pub(crate) fn object() -> usize {
    let Some(recorder) = current() else { return 0 };
    let mut execution = recorder.execution();
    execution.objects.push(Object::default());
    execution.objects.len() - 1
}

/// Puts an operation of the facade and its result into the timeline.
pub(crate) fn operation(
    name: &'static str,
    value: u64,
    object: usize,
    access: Access,
    site: &'static Location<'static>,
) {
    let Some(recorder) = current() else { return };
    let Some(who) = recorder.who else { return };
    let who = who();
    let mut execution = recorder.execution();
    if execution.steps.len() < STEPS_MAX {
        execution
            .steps
            .push((who, What::Operation(name, value, site)));
    }
    if recorder.classes.is_none() {
        return;
    }
    if let Some(object) = execution.objects.get_mut(object) {
        object.access(who as u64 + 1, access);
    }
}

fn step(what: impl FnOnce() -> What) {
    let Some(recorder) = current() else { return };
    let Some(who) = recorder.who else { return };
    let who = who();
    let mut execution = recorder.execution();
    if execution.steps.len() < STEPS_MAX {
        execution.steps.push((who, what()));
    }
}

impl Object {
    fn access(&mut self, who: u64, access: Access) {
        match access {
            Access::Read => {
                self.reads = self.reads.wrapping_add(mix(self.history ^ mix(who)));
            }
            Access::Write => {
                self.history = mix(self.history.wrapping_add(self.reads) ^ who);
                self.reads = 0;
            }
        }
    }
}

/// A finalizer that spreads every bit of `word` over all of them.
fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word ^ (word >> 31)).wrapping_add(0x9e37_79b9_7f4a_7c15)
}

impl Recorder {
    fn execution(&self) -> std::sync::MutexGuard<'_, Execution> {
        self.execution
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the class of the execution that has just ended.
    fn count_class(&self) {
        let Some(classes) = &self.classes else { return };
        let execution = self.execution();
        if execution.objects.is_empty() {
            return;
        }
        let class = (1..)
            .zip(&execution.objects)
            .fold(0, |class: u64, (number, object)| {
                class.wrapping_add(mix(mix(number) ^ object.history.wrapping_add(object.reads)))
            });
        let mut classes = classes.lock().unwrap_or_else(PoisonError::into_inner);
        *classes.entry(class).or_default() += 1;
    }

    fn classes(&self) -> Option<Classes> {
        self.count_class();
        let classes = self.classes.as_ref()?;
        let classes = classes.lock().unwrap_or_else(PoisonError::into_inner);
        let once = classes.values().filter(|times| **times == 1).count();
        let executions = self.executions.load(Ordering::Relaxed).max(1);
        Some(Classes {
            seen: classes.len() as u64,
            next_is_new: once as f64 / executions as f64,
        })
    }

    fn failure(&self, model: &Model, payload: &(dyn Any + Send)) -> Failure {
        let text = text_of(payload);
        let place = PANICS.with_borrow(|panics| {
            let same = panics.iter().find(|(message, _)| *message == text);
            same.map(|(_, place)| place.clone())
        });
        let said = said(&text);
        let mut message = if names_an_invariant(&said) {
            said
        } else {
            format!("{}: {said}", model.invariant)
        };
        // A place inside the checker says nothing.
        if let Some(place) = place.filter(|place| !place.contains("/registry/")) {
            message = format!("{message} ({place})");
        }
        Failure {
            message,
            timeline: self.timeline(),
        }
    }

    fn timeline(&self) -> Vec<Step> {
        let execution = self.execution();
        let name = |who: &usize| match (execution.names.get(who), who) {
            (Some(name), _) => (*name).to_owned(),
            (None, 0) => "main".to_owned(),
            (None, who) => format!("t{who}"),
        };
        let steps = execution.steps.iter();
        steps
            .zip(0..)
            .map(|((who, what), at)| {
                let (what, site) = match what {
                    What::Label(label) => (label.to_string(), None),
                    What::Operation(name, value, site) => {
                        (format!("{name} {value}"), Some(place(site)))
                    }
                };
                Step {
                    at,
                    thread: name(who),
                    what,
                    site,
                }
            })
            .collect()
    }
}

/// What a panic says, on one line and without what `assert_eq` puts before it.
fn said(text: &str) -> String {
    let own = text
        .strip_prefix("assertion `")
        .and_then(|rest| rest.split_once("` failed: "));
    let own = own.map_or(text, |(_, own)| own);
    own.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

/// Whether `message` already begins with an invariant's name, as in `closed_admits_nobody: ...`.
fn names_an_invariant(message: &str) -> bool {
    message.split_once(": ").is_some_and(|(name, _)| {
        name.contains('_') && name.chars().all(|c| c == '_' || c.is_ascii_lowercase())
    })
}

fn text_of(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| {
        payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
    })
    .unwrap_or_else(|| "a panic without a message".to_owned())
}

/// `file:line` with the file named from the repository's root.
pub(crate) fn place(site: &Location<'_>) -> String {
    format!("{}:{}", file_of(site), site.line())
}

/// The file of `site`, without the detour that `#[path]` takes.
pub(crate) fn file_of(site: &Location<'_>) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in site.file().split('/') {
        match part {
            "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// From now on a panic under exploration is kept for the report and not printed.
///
/// Shuttle installs a hook of its own the first time it runs, which prints: it is made to do that
/// now, so that ours replaces it.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        crate::under_shuttle::engine::warm_up();
        panic::set_hook(Box::new(move |info| {
            if !EXPLORING.try_with(Cell::get).unwrap_or(false) {
                return before(info);
            }
            let text = text_of(info.payload());
            let place = info.location().map(place).unwrap_or_default();
            _ = PANICS.try_with(|panics| {
                if let Ok(mut panics) = panics.try_borrow_mut() {
                    panics.push((text, place));
                }
            });
        }));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_commute_and_writes_do_not() {
        let class = |accesses: &[(u64, Access)]| {
            let mut object = Object::default();
            for (who, access) in accesses {
                object.access(*who, *access);
            }
            object.history.wrapping_add(object.reads)
        };
        use Access::{Read, Write};
        assert_eq!(
            class(&[(1, Read), (2, Read), (1, Write)]),
            class(&[(2, Read), (1, Read), (1, Write)])
        );
        assert_ne!(
            class(&[(1, Write), (2, Write)]),
            class(&[(2, Write), (1, Write)])
        );
        assert_ne!(
            class(&[(1, Read), (2, Write)]),
            class(&[(2, Write), (1, Read)])
        );
    }

    #[test]
    fn a_message_is_prefixed_once() {
        assert!(names_an_invariant(
            "closed_admits_nobody: a pass after close"
        ));
        assert!(!names_an_invariant("deadlock; threads = [..]"));
        assert!(!names_an_invariant("Causality violation: concurrent write"));
        let equal = "assertion `left == right` failed: limit_holds: out\n  left: 3\n right: 2";
        assert_eq!(said(equal), "limit_holds: out; left: 3; right: 2");
    }
}
