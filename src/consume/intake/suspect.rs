//! Suspects: deliveries that came so often, and were never answered, that they may be what ends the process each time.

use crate::backend::Position;
use crate::consume::job::Failed;
use crate::middleware::retry::Retry;

/// Which delivery this subscription gives up without its handler. One: a broker counts whatever was taken, so all that was in
/// flight beside the culprit is as suspect as it is. The first of them was at its handler each time; those behind it most likely
/// were not. If it was another, the process ends once more, and the next one is the first.
#[derive(Debug, Default)]
pub(super) struct Suspects {
    /// Partition and offset. It may come again, under another epoch too, before its dead letter is stored.
    given_up: Option<(u32, u64)>,
}

impl Suspects {
    /// Why a delivery is to be given up, if it is.
    pub(super) fn give_up(
        &mut self,
        retry: &Retry,
        position: Position,
        attempt: u32,
    ) -> Option<Failed> {
        if !retry.is_too_often(attempt) {
            return None;
        }
        let place = (position.partition, position.offset);
        if *self.given_up.get_or_insert(place) != place {
            return None;
        }
        let attempts = attempt - 1;
        Some(Failed {
            error: format!("delivered {attempts} times, and no handler lived to answer"),
            attempts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_came_too_often_is_given_up_and_no_other() {
        let retry = Retry::new().attempts_max(3).deliveries_max(3);
        let mut suspects = Suspects::default();
        let mut gives_up = |offset, epoch, attempt| {
            let position = Position {
                partition: 1,
                offset,
                epoch,
            };
            let given_up = suspects.give_up(&retry, position, attempt);
            given_up.map(|failed| failed.attempts)
        };
        assert_eq!(gives_up(6, 1, 3), None);
        assert_eq!(gives_up(7, 1, 4), Some(3));
        assert_eq!(gives_up(8, 1, 4), None, "it was beside it");
        assert_eq!(gives_up(7, 2, 5), Some(4), "its letter was not stored");
    }
}
