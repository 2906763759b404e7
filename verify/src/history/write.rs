//! Writing a history: an event gets its time and its place under one lock, and reaches the disk in
//! large pieces.

use super::event::LineRef;
use super::{Entry, Event, Header, History};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Where the events of a run are kept while it lasts. Shared by reference between threads.
pub struct Log {
    header: Header,
    /// Nanoseconds since the start of the run, or since one that all its processes share.
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    kept: Mutex<Kept>,
}

struct Kept {
    last: u64,
    place: Place,
    failed: Option<io::Error>,
}

enum Place {
    Memory(Vec<Entry>),
    File(BufWriter<File>),
    /// Each line on its own: what was recorded survives the process.
    Lines(File),
}

impl Log {
    /// Keeps the events in memory, for [`into_history`](Self::into_history).
    pub fn in_memory(header: Header) -> Self {
        Self::new(header, Place::Memory(Vec::new()), since_now())
    }

    /// Keeps the events in memory, by a clock of the caller's own, in nanoseconds.
    pub fn in_memory_by(header: Header, clock: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self::new(header, Place::Memory(Vec::new()), Box::new(clock))
    }

    /// Writes the events to a file, which is created or replaced.
    pub fn to_file(path: impl AsRef<Path>, header: Header) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(1 << 16, File::create(path)?);
        serde_json::to_writer(&mut file, &header)?;
        file.write_all(b"\n")?;
        Ok(Self::new(header, Place::File(file), since_now()))
    }

    /// Writes the events of one process of several to a file, which is created or replaced. When an event is recorded it is in
    /// the kernel's hands: a process that is killed loses no more than the line it is at. `clock` is one that all of
    /// them read, in nanoseconds; [`merge`](super::merge) goes by it.
    pub fn of_process(
        path: impl AsRef<Path>,
        header: Header,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let mut file = File::create(path)?;
        let mut line = serde_json::to_vec(&header)?;
        line.push(b'\n');
        file.write_all(&line)?;
        Ok(Self::new(header, Place::Lines(file), Box::new(clock)))
    }

    fn new(header: Header, place: Place, clock: Box<dyn Fn() -> u64 + Send + Sync>) -> Self {
        Self {
            header,
            clock,
            kept: Mutex::new(Kept {
                last: 0,
                place,
                failed: None,
            }),
        }
    }

    /// Records that something happens now.
    pub fn record(&self, event: impl Into<Event>) {
        let event = event.into();
        let mut kept = self.kept();
        // The clock is read under the lock, so that file order and time agree.
        let at = (self.clock)();
        kept.push(at, event);
    }

    /// Records that something happens at a time of the caller's own clock, which must not fall.
    pub fn record_at(&self, at: u64, event: impl Into<Event>) {
        let event = event.into();
        self.kept().push(at, event);
    }

    /// Everything is on disk, or the first thing that went wrong.
    pub fn finish(self) -> io::Result<()> {
        let kept = self
            .kept
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = kept.failed {
            return Err(error);
        }
        match kept.place {
            Place::Memory(_) | Place::Lines(_) => Ok(()),
            Place::File(mut file) => file.flush(),
        }
    }

    /// The history, if it was kept in memory.
    pub fn into_history(self) -> Option<History> {
        let kept = self
            .kept
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        match kept.place {
            Place::Memory(entries) => Some(History {
                header: self.header,
                entries,
            }),
            Place::File(_) | Place::Lines(_) => None,
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A recorder that panicked elsewhere has left a whole event or none.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, at: u64, event: Event) {
        let at = at.max(self.last);
        self.last = at;
        let file: &mut dyn Write = match &mut self.place {
            Place::Memory(entries) => {
                let line = entries.len() + 2;
                entries.push(Entry { line, at, event });
                return;
            }
            Place::File(file) => file,
            Place::Lines(file) => file,
        };
        // One write a line: half of one is all that a kill can leave.
        let text = line(at, &event) + "\n";
        if let Err(error) = file.write_all(text.as_bytes()) {
            self.failed.get_or_insert(error);
        }
    }
}

fn since_now() -> Box<dyn Fn() -> u64 + Send + Sync> {
    let begun = Instant::now();
    Box::new(move || begun.elapsed().as_nanos() as u64)
}

/// An event as its line reads.
pub(super) fn line(at: u64, event: &Event) -> String {
    serde_json::to_string(&LineRef { at, event }).expect("an event is plain data")
}

#[cfg(test)]
mod tests {
    use super::super::{Drained, read};
    use super::*;

    #[test]
    fn a_file_written_by_many_threads_reads_back_whole_and_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        let log = Log::to_file(&path, Header::new("memory")).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let log = &log;
                scope.spawn(move || {
                    for n in 0..500 {
                        let topic = format!("{thread}-{n}");
                        log.record(Drained {
                            topic,
                            group: "g".into(),
                        });
                    }
                });
            }
        });
        log.finish().unwrap();
        let history = read(&path).unwrap();
        assert_eq!(history.entries.len(), 2000);
        assert!(history.entries.is_sorted_by_key(|entry| entry.at));
    }
}
