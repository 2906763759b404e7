//! Is there an order of these calls that one thread could have made?
//!
//! Wing and Gong's search with Lowe's memory of what was tried: the calls lie in a doubly linked
//! list by time; a call is taken out when it is put next in the order, and put back when that led
//! nowhere. What was tried is remembered as the set of calls taken and the state they led to. The
//! question is hard in general, so a long history is parted by key first and the search has a
//! deadline, after which the answer is [`Answer::Unknown`] and never "yes".

use foldhash::HashSet;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The object as if there were one thread. The value is its state.
pub trait Spec: Clone + Eq + Hash {
    /// What is called.
    type Op: Clone + Debug + Send + 'static;
    /// What is answered.
    type Ret: Clone + Debug + Send + 'static;

    /// The state after `op` answered `ret`, or `None` if it cannot have. Without an answer: the
    /// state after `op` took effect and nobody heard.
    fn step(&self, op: &Self::Op, ret: Option<&Self::Ret>) -> Option<Self>;

    /// The invariant that is broken if `op` answers `ret` in a state where it cannot.
    fn promise(&self, op: &Self::Op, ret: Option<&Self::Ret>) -> &'static str;
}

/// One call: when it began, when it returned and what was said. `begin` and `end` are of one
/// clock, and no two calls end at the same time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call<Op, Ret> {
    /// Whose call it was.
    pub process: usize,
    /// What was called.
    pub op: Op,
    /// When it began.
    pub begin: u64,
    /// The answer and when it came; `None` if it never did, or nobody knows it.
    pub end: Option<(u64, Ret)>,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The calls have an order.
    Linear,
    /// They have none.
    Broken(Counterexample),
    /// The deadline came first.
    Unknown,
}

/// How far an order was found. The numbers are places in the slice of calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counterexample {
    /// The longest order that could be found.
    pub explained: Vec<usize>,
    /// The call that returned next and has no place after them.
    pub stuck: usize,
    /// The invariant that its answer breaks.
    pub promise: &'static str,
}

/// Looks for an order of `calls` from `start` on.
pub fn check<S: Spec>(start: &S, calls: &[Call<S::Op, S::Ret>], within: Duration) -> Answer {
    let all: Vec<usize> = (0..calls.len()).collect();
    Search::new(start, calls, &all).run(Instant::now() + within)
}

/// The same, where calls of different keys are of different objects, each from `start` on.
pub fn check_by_key<S: Spec, K: Ord>(
    start: &S,
    calls: &[Call<S::Op, S::Ret>],
    key: impl Fn(&S::Op) -> K,
    within: Duration,
) -> Answer {
    let deadline = Instant::now() + within;
    let mut parts: BTreeMap<K, Vec<usize>> = BTreeMap::new();
    for (place, call) in calls.iter().enumerate() {
        parts.entry(key(&call.op)).or_default().push(place);
    }
    let mut answer = Answer::Linear;
    for part in parts.values() {
        match Search::new(start, calls, part).run(deadline) {
            Answer::Linear => {}
            // One part without an order is enough, whatever the others would say.
            broken @ Answer::Broken(_) => return broken,
            Answer::Unknown => answer = Answer::Unknown,
        }
    }
    answer
}

/// A beginning or an end of a call, in the list of those that are not in the order yet.
struct Event {
    /// The place in the part, not in the whole.
    call: usize,
    is_call: bool,
    before: usize,
    after: usize,
    /// Of a beginning, the end.
    end: usize,
}

const HEAD: usize = 0;

/// How many steps between two looks at the clock.
const STEPS: u64 = 1024;

struct Search<'s, S: Spec> {
    calls: &'s [Call<S::Op, S::Ret>],
    part: &'s [usize],
    events: Vec<Event>,
    taken: Box<[u64]>,
    state: S,
    /// The beginnings taken so far, each with the state before it.
    order: Vec<(usize, S)>,
    tried: HashSet<(Box<[u64]>, S)>,
    answered: usize,
    best: Option<(Vec<usize>, usize, S)>,
}

impl<'s, S: Spec> Search<'s, S> {
    fn new(start: &S, calls: &'s [Call<S::Op, S::Ret>], part: &'s [usize]) -> Self {
        Self {
            calls,
            part,
            events: list(part.iter().map(|&place| &calls[place])),
            taken: vec![0; part.len().div_ceil(64)].into(),
            state: start.clone(),
            order: Vec::new(),
            tried: HashSet::default(),
            answered: part
                .iter()
                .filter(|&&place| calls[place].end.is_some())
                .count(),
            best: None,
        }
    }

    fn run(mut self, deadline: Instant) -> Answer {
        let (mut at, mut steps) = (self.events[HEAD].after, 0_u64);
        loop {
            if steps.is_multiple_of(STEPS) && Instant::now() >= deadline {
                return Answer::Unknown;
            }
            steps += 1;
            // Calls that nobody heard the end of need no place.
            if self.answered == 0 {
                return Answer::Linear;
            }
            if self.events[at].is_call {
                at = if self.take(at) {
                    self.events[HEAD].after
                } else {
                    self.events[at].after
                };
                continue;
            }
            // Whoever returned here had to be in the order by now.
            self.note(at);
            match self.put_back() {
                Some(next) => at = next,
                None => return self.broken(),
            }
        }
    }

    /// Puts the call that begins at `at` next in the order, if it can be and was not tried.
    fn take(&mut self, at: usize) -> bool {
        let call = self.events[at].call;
        let Call { op, end, .. } = &self.calls[self.part[call]];
        let Some(state) = self.state.step(op, end.as_ref().map(|(_, ret)| ret)) else {
            return false;
        };
        self.taken[call / 64] |= 1 << (call % 64);
        if !self.tried.insert((self.taken.clone(), state.clone())) {
            self.taken[call / 64] &= !(1 << (call % 64));
            return false;
        }
        self.answered -= usize::from(end.is_some());
        self.order
            .push((at, std::mem::replace(&mut self.state, state)));
        let end = self.events[at].end;
        self.unlink(at);
        self.unlink(end);
        true
    }

    /// Takes the last call out of the order again, and gives where to go on.
    fn put_back(&mut self) -> Option<usize> {
        let (at, state) = self.order.pop()?;
        let Event { call, end, .. } = self.events[at];
        self.state = state;
        self.taken[call / 64] &= !(1 << (call % 64));
        self.answered += usize::from(self.calls[self.part[call]].end.is_some());
        // In the reverse of the order in which they were unlinked: each finds its neighbours.
        self.link(end);
        self.link(at);
        Some(self.events[at].after)
    }

    fn unlink(&mut self, at: usize) {
        let Event { before, after, .. } = self.events[at];
        self.events[before].after = after;
        self.events[after].before = before;
    }

    fn link(&mut self, at: usize) {
        let Event { before, after, .. } = self.events[at];
        self.events[before].after = at;
        self.events[after].before = at;
    }

    fn note(&mut self, at: usize) {
        if self
            .best
            .as_ref()
            .is_none_or(|(order, ..)| order.len() < self.order.len())
        {
            let order = self
                .order
                .iter()
                .map(|&(begin, _)| self.events[begin].call)
                .collect();
            self.best = Some((order, self.events[at].call, self.state.clone()));
        }
    }

    fn broken(self) -> Answer {
        let (order, stuck, state) = self.best.expect("a search ends at a return");
        let stuck = self.part[stuck];
        let Call { op, end, .. } = &self.calls[stuck];
        Answer::Broken(Counterexample {
            explained: order.into_iter().map(|call| self.part[call]).collect(),
            stuck,
            promise: state.promise(op, end.as_ref().map(|(_, ret)| ret)),
        })
    }
}

/// Beginnings and ends by time, linked, between a head and a tail. A call that never returned
/// ends after everything.
fn list<'c, Op: 'c, Ret: 'c>(calls: impl Iterator<Item = &'c Call<Op, Ret>>) -> Vec<Event> {
    let mut times = Vec::new();
    for (place, call) in calls.enumerate() {
        times.push((call.begin, true, place));
        times.push((
            call.end.as_ref().map_or(u64::MAX, |&(end, _)| end),
            false,
            place,
        ));
    }
    // At the same time a beginning is before an end: they overlap.
    times.sort_by_key(|&(at, is_call, place)| (at, !is_call, place));
    let link = |at: usize, call, is_call| Event {
        call,
        is_call,
        before: at.saturating_sub(1),
        after: at + 1,
        end: HEAD,
    };
    let mut events = vec![link(HEAD, usize::MAX, false)];
    let mut begins = vec![HEAD; times.len() / 2];
    for (at, (_, is_call, call)) in (1..).zip(times) {
        events.push(link(at, call, is_call));
        if is_call {
            begins[call] = at;
        } else {
            events[begins[call]].end = at;
        }
    }
    events.push(link(events.len(), usize::MAX, false));
    events
}

/// Records calls from many threads, and is cheap to clone. Its lock is the standard library's, so
/// a model checker does not see it.
pub struct Calls<Op, Ret>(Arc<Mutex<Recorded<Op, Ret>>>);

struct Recorded<Op, Ret> {
    clock: u64,
    calls: Vec<Call<Op, Ret>>,
}

/// A call that has begun.
#[must_use = "a call without an end counts as one that nobody heard of again"]
pub struct Begun(usize);

impl<Op, Ret> Calls<Op, Ret> {
    /// Nothing recorded.
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Recorded {
            clock: 0,
            calls: Vec::new(),
        })))
    }

    /// Runs `call` and records it.
    pub fn call<T>(&self, process: usize, op: Op, call: impl FnOnce() -> (T, Ret)) -> T {
        let begun = self.begin(process, op);
        let (value, ret) = call();
        self.end(begun, ret);
        value
    }

    /// A call begins.
    pub fn begin(&self, process: usize, op: Op) -> Begun {
        let mut recorded = self.recorded();
        recorded.clock += 1;
        let begin = recorded.clock;
        recorded.calls.push(Call {
            process,
            op,
            begin,
            end: None,
        });
        Begun(recorded.calls.len() - 1)
    }

    /// A call has returned.
    pub fn end(&self, begun: Begun, ret: Ret) {
        let mut recorded = self.recorded();
        recorded.clock += 1;
        let end = recorded.clock;
        recorded.calls[begun.0].end = Some((end, ret));
    }

    /// A call has returned, and with it `others`, which are recorded as having lasted as long:
    /// the moments of a call that does not happen at one.
    pub fn end_together(
        &self,
        begun: Begun,
        ret: Ret,
        others: impl IntoIterator<Item = (Op, Ret)>,
    ) {
        let mut recorded = self.recorded();
        let Call { process, begin, .. } = recorded.calls[begun.0];
        for (op, ret) in others {
            recorded.clock += 1;
            let end = Some((recorded.clock, ret));
            recorded.calls.push(Call {
                process,
                op,
                begin,
                end,
            });
        }
        drop(recorded);
        self.end(begun, ret);
    }

    /// What was recorded, which is forgotten.
    pub fn take(&self) -> Vec<Call<Op, Ret>> {
        std::mem::take(&mut self.recorded().calls)
    }

    fn recorded(&self) -> MutexGuard<'_, Recorded<Op, Ret>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Op, Ret> Clone for Calls<Op, Ret> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Op, Ret> Default for Calls<Op, Ret> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
