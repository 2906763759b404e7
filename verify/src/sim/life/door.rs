//! The door: who may publish while a bus closes. From the close on nobody from outside gets in, a handler does until its subscription
//! has ended, and what is inside is not given up before the time of the close is.

use super::*;
use clearway::FailureKind;

/// Who publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Whose {
    /// A thread of control outside.
    Outside,
    /// A handler of the bus.
    Handler,
}

/// The door of one bus.
#[derive(Default)]
pub(in super::super) struct Door {
    /// Until when the close may take, from the moment in which it is called.
    until: Mutex<Option<Duration>>,
    /// Handlers that it was shut to.
    shut_out: Mutex<Vec<String>>,
}

impl Door {
    /// Close is called.
    pub(super) fn shut(&self, until: Duration) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    fn until(&self) -> Option<Duration> {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looked at when a publish is begun, for [`passed`](Self::passed).
    pub(super) fn is_shut(&self) -> bool {
        self.until().is_some()
    }

    /// A publish that was begun when it `was_shut` has ended. What does not hold goes to the record.
    pub(super) fn passed(
        &self,
        whose: Whose,
        was_shut: bool,
        (record, what): (&Record, &str),
        (ended, now): (&Outcome, Duration),
    ) {
        if let Err(PublishError::Rejected(failure) | PublishError::Unknown(failure)) = ended
            && failure.kind() == FailureKind::Closed
            && self.until().is_none_or(|until| now < until)
        {
            record.complain(format!(
                "{what} was given up by a close that had time: {failure}"
            ));
        }
        let is_refused = matches!(ended, Err(PublishError::Closed));
        match whose {
            Whose::Outside if was_shut && !is_refused => record.complain(format!(
                "{what} was published from outside after close was called, and not refused"
            )),
            Whose::Handler if is_refused => {
                let mut shut_out = self.shut_out.lock().unwrap_or_else(PoisonError::into_inner);
                shut_out.push(format!("{what} was refused to a handler at work"));
            }
            _ => {}
        }
    }

    /// Handlers that were at work and not let in. A handler that could not be stopped is not let in either, and means nothing.
    pub(super) fn shut_out(&self) -> Vec<String> {
        std::mem::take(&mut self.shut_out.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
