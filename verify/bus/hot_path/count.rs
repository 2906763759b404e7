//! What a run of publishes came to, and its lines of the report.

use crate::apart::Taken;
use crate::{Answers, Meanwhile, Way};
use clearway::PublishError;

/// What a run of publishes came to.
#[derive(Default)]
pub(crate) struct Count {
    pub(crate) publishes: usize,
    pub(crate) taken: Taken,
    /// Publishes that ended otherwise: refused by the close, or unknown because their session was lost.
    pub(crate) failed: usize,
    pub(crate) taken_by_failed: Taken,
}

impl Count {
    /// One more publish, by how it ended.
    pub(crate) fn book(&mut self, result: &Result<(), PublishError>, taken: Taken) {
        match result {
            Ok(()) => {
                self.publishes += 1;
                self.taken = self.taken + taken;
            }
            Err(_) => {
                self.failed += 1;
                self.taken_by_failed = self.taken_by_failed + taken;
            }
        }
    }

    pub(crate) fn add(&mut self, more: Self) {
        self.publishes += more.publishes;
        self.taken = self.taken + more.taken;
        self.failed += more.failed;
        self.taken_by_failed = self.taken_by_failed + more.taken_by_failed;
    }
}

/// The lines of the report. The first says what the promise is about; the others what stands apart from it.
pub(crate) fn tell(
    way: Way,
    answers: Answers,
    meanwhile: Meanwhile,
    count: &Count,
    elsewhere: Option<Taken>,
) {
    let way = match way {
        Way::ByName => "publish by name",
        Way::ByHandle => "publish by handle",
        Way::Enqueued => "enqueue and receipt",
    };
    let answers = match answers {
        Answers::Prompt => "prompt answers",
        Answers::Delayed => "delayed answers",
    };
    let meanwhile = match meanwhile {
        Meanwhile::Nothing => "",
        Meanwhile::Configure => ", configured meanwhile",
        Meanwhile::Reconnect => ", reconnected meanwhile",
        Meanwhile::Close => ", closed at the end",
    };
    println!(
        "hot path: {way}, {answers}{meanwhile}: {} ({} publishes)",
        count.taken, count.publishes
    );
    if count.failed > 0 {
        println!(
            "apart: {way}, {answers}{meanwhile}: failed or refused: {} ({} publishes)",
            count.taken_by_failed, count.failed
        );
    }
    if let Some(elsewhere) = elsewhere {
        println!(
            "apart: {way}, {answers}{meanwhile}: the broker and the bus's tasks, on their thread: {elsewhere}"
        );
    }
}
