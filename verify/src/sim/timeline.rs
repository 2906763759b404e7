//! What matters of a run that does not hold: the lines of its history around the violation, for a terminal and for a picture.
//!
//! It is cut to what the violation is about, its key and its partition, and to the faults near it. It judges nothing: what is violated is
//! the checker's word.

mod focus;
mod say;

use super::breaks::Breaks;
use super::counterexample::{self, PlanError};
use super::run::Ran;
use crate::check::Violation;
use crate::history::{Event, History};
use focus::Focus;
use say::Names;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::{fmt, fs};

/// See the module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeline {
    /// What is violated.
    pub breaks: Breaks,
    /// That in a sentence.
    pub said: String,
    /// How many lines the history has, its header included.
    pub lines: usize,
    /// Those that matter.
    pub rows: Vec<Row>,
}

/// One line of the history.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Which, from 1.
    pub line: usize,
    /// When, in nanoseconds of virtual time.
    pub at: u64,
    /// The broker, or a bus.
    pub who: String,
    /// What happened.
    pub what: String,
    /// With which values.
    pub values: String,
    /// As what it is drawn.
    pub kind: Kind,
    /// Of what begins here the line at which it ends; one past the last if it never does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<usize>,
    /// Whether the violation names the line.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shows: bool,
}

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A publish.
    Publish,
    /// A handler.
    Handler,
    /// Something goes wrong, or is mended.
    Fault,
    /// Anything else.
    Other,
}

impl Timeline {
    /// Of a run that violated `breaks`. None: nothing was recorded.
    pub fn of(ran: &Ran, breaks: Breaks) -> Option<Self> {
        let history = ran.history.as_ref()?;
        let of_it = |violation: &&Violation| Breaks::History(violation.property) == breaks;
        let shown = ran.shown.iter().find(of_it);
        let said = match shown {
            Some(violation) => violation.what.clone(),
            None => ran.violations.first().cloned().unwrap_or_default(),
        };
        let twice = format!("{breaks}: ");
        let said = said.strip_prefix(&twice).unwrap_or(&said).to_owned();
        Some(Self::around(history, (breaks, said), shown))
    }

    /// Of a history, around what shows the violation; or around what is open, where nothing shows it.
    fn around(history: &History, of: (Breaks, String), shown: Option<&Violation>) -> Self {
        let focus = match shown {
            Some(violation) => Focus::of_violation(history, violation),
            None => Focus::of_what_is_open(history),
        };
        let names = Names::of(history);
        let lines = history.entries.last().map_or(1, |last| last.line);
        let row = |at: &usize| {
            let entry = &history.entries[*at];
            let (what, values) = names.say(&entry.event);
            Row {
                line: entry.line,
                at: entry.at,
                who: names.who(&entry.event),
                what,
                values,
                kind: say::kind(&entry.event),
                until: end_of(history, *at).map(|end| end.unwrap_or(lines + 1)),
                shows: focus.names(entry.line),
            }
        };
        let rows = focus.choose(history).iter().map(row).collect();
        let (breaks, said) = of;
        Self {
            breaks,
            said,
            lines,
            rows,
        }
    }
}

impl Timeline {
    /// Reads one from a file.
    pub fn read(path: &Path) -> Result<Self, PlanError> {
        let named = |what: &dyn fmt::Display| PlanError::new(format!("{}: {what}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| named(&error))?;
        counterexample::parse(&text).map_err(|error| named(&error))
    }

    /// As a file has it: a row a line.
    pub fn to_text(&self) -> String {
        let rows = self
            .rows
            .iter()
            .map(|row| serde_json::to_string(row).expect("a row is plain data"));
        let rows: Vec<_> = rows.collect();
        let said = serde_json::to_string(&self.said).expect("a sentence is plain data");
        format!(
            "{{\"breaks\":\"{}\",\n\"said\":{said},\n\"lines\":{},\n\"rows\":[\n{}\n]}}\n",
            self.breaks,
            self.lines,
            rows.join(",\n")
        )
    }
}

impl Timeline {
    /// What the lines are that are marked.
    pub fn marked(&self) -> &'static str {
        match self.breaks {
            Breaks::History(_) => "the lines that show it",
            _ => "no line shows it: what has no end, or was handled last",
        }
    }
}

/// Of what begins at an entry the line of its end, if it has one. None: nothing begins there.
fn end_of(history: &History, at: usize) -> Option<Option<usize>> {
    use crate::history::{ClosePhase, Phase};
    let behind = history.entries[at + 1..].iter();
    let first = |is_end: &dyn Fn(&Event) -> bool| {
        let mut behind = behind.clone();
        Some(
            behind
                .find(|entry| is_end(&entry.event))
                .map(|entry| entry.line),
        )
    };
    match &history.entries[at].event {
        Event::Invoke(of) => first(&|event| match event {
            Event::Acked(end) => end.op == of.op,
            Event::Rejected(end) => end.op == of.op,
            Event::Unknown(end) => end.op == of.op,
            _ => false,
        }),
        Event::Deliver(of) => first(&|event| match event {
            Event::Settle(end) => {
                (end.subscription, end.partition, end.position)
                    == (of.subscription, of.partition, of.position)
            }
            Event::Disconnect(end) => end.killed && end.bus == of.bus,
            _ => false,
        }),
        Event::Frozen(of) if of.phase == Phase::Begin => first(&|event| match event {
            Event::Frozen(end) => end.bus == of.bus,
            Event::Disconnect(end) => end.killed && end.bus == of.bus,
            _ => false,
        }),
        Event::Fault(of) if of.phase == Phase::Begin => {
            first(&|event| matches!(event, Event::Fault(end) if end.what == of.what))
        }
        Event::Erased(of) if of.phase == Phase::Begin => {
            first(&|event| matches!(event, Event::Erased(end) if end.topic == of.topic))
        }
        Event::Close(of) if of.phase == ClosePhase::Invoke => {
            first(&|event| matches!(event, Event::Close(end) if end.bus == of.bus))
        }
        _ => None,
    }
}

/// A time of a run, as people read it.
pub fn seconds(at: u64) -> String {
    format!("{:.3} s", at as f64 / 1e9)
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} is violated: {}", self.breaks, self.said)?;
        let of = |width: fn(&Row) -> usize| self.rows.iter().map(width).max().unwrap_or_default();
        let line = of(|row| row.line.to_string().len()).max("line".len());
        let time = of(|row| seconds(row.at).len()).max("time".len());
        let who = of(|row| row.who.len()).max("who".len());
        let what = of(|row| row.what.len()).max("what".len());
        write!(
            f,
            "  {:>line$}  {:>time$}  {:who$}  {:what$}  values",
            "line", "time", "who", "what"
        )?;
        for row in &self.rows {
            let mark = if row.shows { '!' } else { ' ' };
            let told = format!(
                "{:>line$}  {:>time$}  {:who$}  {:what$}  {}",
                row.line,
                seconds(row.at),
                row.who,
                row.what,
                row.values
            );
            write!(f, "\n{mark} {}", told.trim_end())?;
        }
        let (shown, lines) = (self.rows.len(), self.lines);
        write!(f, "\n  {shown} of {lines} lines; `!`: {}", self.marked())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::history;
    use std::path::PathBuf;

    fn here(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
    }

    fn of(history: &History, violation: &Violation) -> Timeline {
        let of = (Breaks::History(violation.property), violation.what.clone());
        Timeline::around(history, of, Some(violation))
    }

    #[test]
    fn the_lines_that_show_it_are_there_and_marked_and_it_is_short() {
        let mut seen = 0;
        for path in fs::read_dir(here("canaries")).unwrap() {
            let path = path.unwrap().path();
            let history = history::read(&path).unwrap();
            for violation in check::history(&history).violations {
                let timeline = of(&history, &violation);
                let marked = timeline.rows.iter().filter(|row| row.shows);
                let marked: Vec<_> = marked.map(|row| row.line).collect();
                let named = violation.lines.iter().filter(|line| **line > 1);
                assert_eq!(
                    marked,
                    named.copied().collect::<Vec<_>>(),
                    "{path:?} {violation}"
                );
                let text = timeline.to_string();
                assert_eq!(text.matches("\n! ").count(), marked.len(), "{text}");
                assert!(timeline.rows.len() <= 40, "{text}");
                seen += 1;
            }
        }
        assert!(seen > 19, "{seen}");
    }

    #[test]
    fn what_is_about_other_keys_and_partitions_is_left_out() {
        let mut history = history::read(here("histories/nats-fault.jsonl")).unwrap();
        let is_delivery = |entry: &&history::Entry| matches!(entry.event, Event::Deliver(_));
        let mut again = history.entries.iter().find(is_delivery).unwrap().clone();
        let last = history.entries.last().unwrap();
        (again.line, again.at) = (last.line + 1, last.at);
        history.entries.push(again.clone());
        let Event::Deliver(of_it) = &again.event else {
            unreachable!("it is one")
        };
        let violations = check::history(&history).violations;
        let shows = |violation: &&Violation| violation.lines.contains(&again.line);
        let timeline = of(&history, violations.iter().find(shows).unwrap());
        assert!((3..=40).contains(&timeline.rows.len()), "{timeline}");
        for row in &timeline.rows {
            let entry = history.entries.iter().find(|entry| entry.line == row.line);
            if let Event::Deliver(other) = &entry.unwrap().event {
                let is_near = other.key == of_it.key || other.partition == of_it.partition;
                assert!(is_near && other.topic == of_it.topic, "{timeline}");
            }
        }
    }

    #[test]
    fn it_is_read_back_as_it_was() {
        let history = history::read(here("histories/nats-fault.jsonl")).unwrap();
        let timeline = Timeline::around(&history, (Breaks::Liveness, "\"a\nb\"".into()), None);
        assert!(!timeline.rows.is_empty());
        let read: Timeline = counterexample::parse(&timeline.to_text()).unwrap();
        assert_eq!(read, timeline);
    }
}
