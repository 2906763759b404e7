//! Backlog: publishes pile up, because the broker answers slowly or not at all.
//!
//! The other side of [`Recovery`](crate::Recovery). A task looks now and then at how many publishes have no outcome yet and how
//! long the oldest has had none. Publishes pay nothing for it.

use crate::backend::Backend;
use crate::core::Core;
use crate::events::BusEvent;
use crate::protocol::ledger::Slot;
use crate::protocol::mode::{Kind, Mode, Thresholds};
use std::sync::Arc;
use std::time::Duration;

/// When a bus says that its publishes pile up: with so many in flight, or one that has been there so long.
///
/// It says so as [`BusEvent::BacklogEntered`] and `BacklogLeft`. What to do about it is the service's to say: the bus itself makes
/// publishers wait when [`in_flight`](crate::BusBuilder::in_flight) is reached.
///
/// ```
/// use clearway::{Backlog, Bus};
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = Bus::builder()
///     .backend(clearway::memory::Memory::new())
///     .backlog(Backlog::new(2_000, 500).age_max(Duration::from_secs(5)))
///     .connect()
///     .await?;
/// # bus.close(Duration::from_secs(1)).await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Backlog {
    thresholds: Thresholds,
    age_max: Option<Duration>,
    look_every: Duration,
}

impl Backlog {
    /// Entered with `enter_above` publishes in flight or more; left when there have been `leave_below` or less for ten seconds.
    ///
    /// # Panics
    ///
    /// When `leave_below` is not less than `enter_above`.
    pub fn new(enter_above: u64, leave_below: u64) -> Self {
        assert!(
            leave_below < enter_above,
            "a backlog is left below where it is entered: {leave_below} is not less than {enter_above}"
        );
        Self {
            thresholds: Thresholds {
                enter_above,
                leave_below,
                hold: 10_000,
            },
            age_max: None,
            look_every: Duration::from_secs(1),
        }
    }

    /// Entered as well when a publish has been in flight for longer than this, however few there are. It is left when none has.
    pub fn age_max(mut self, age: Duration) -> Self {
        self.age_max = Some(age);
        self
    }

    /// How long it must have been calm before the backlog is left.
    pub fn hold(mut self, hold: Duration) -> Self {
        self.thresholds.hold = hold.as_millis().try_into().unwrap_or(u64::MAX);
        self
    }

    /// How often the bus looks: every second, unless this says something else. Ages are known as exactly as this.
    pub fn look_every(mut self, every: Duration) -> Self {
        self.look_every = every.max(Duration::from_millis(1));
        self
    }
}

/// Looks until the bus stops, if it was asked to.
pub(crate) fn spawn<B: Backend>(core: &Arc<Core<B>>) {
    let Some(backlog) = core.settings.backlog.clone() else {
        return;
    };
    let looking = core.clone();
    core.spawn("clearway-backlog", async move {
        let mode = Mode::new(backlog.thresholds);
        let mut ages = Ages::default();
        let runtime = looking.shared.runtime.clone();
        let pause = || looking.stopped.until(runtime.sleep(backlog.look_every));
        while pause().await.is_some() {
            look(&looking, &backlog, &mode, &mut ages);
        }
    });
}

fn look<B: Backend>(core: &Core<B>, backlog: &Backlog, mode: &Mode, ages: &mut Ages) {
    let now = core.shared.runtime.now();
    let admission = &core.shared.admission;
    let oldest = ages.oldest(admission.ledger.open_slots(), now);
    let in_flight = admission.counters.in_flight();
    let is_late = (backlog.age_max).is_some_and(|max| oldest.is_some_and(|age| age > max));
    // What is late counts as too many, so that one hold is over both.
    let level = if is_late {
        backlog.thresholds.enter_above.max(in_flight)
    } else {
        in_flight
    };
    let at = now.as_millis().try_into().unwrap_or(u64::MAX);
    let Some(change) = mode.observe(level, at) else {
        return;
    };
    let oldest = oldest.unwrap_or_default();
    tracing::warn!(in_flight, ?oldest, to = ?change.to, "backlog of publishes");
    core.shared.board.tell(match change.to {
        Kind::Recovery => BusEvent::BacklogEntered { in_flight, oldest },
        Kind::Normal => BusEvent::BacklogLeft { in_flight, oldest },
    });
}

/// Since when each publish that is in flight has been seen there.
#[derive(Default)]
struct Ages(Vec<(Slot, Duration)>);

impl Ages {
    /// How long the oldest of `open` has been there, as far as was seen. In the order of slots.
    fn oldest(&mut self, open: impl Iterator<Item = Slot>, now: Duration) -> Option<Duration> {
        let mut before = std::mem::take(&mut self.0).into_iter().peekable();
        for slot in open {
            while before
                .next_if(|(known, _)| known.index() < slot.index())
                .is_some()
            {}
            let known = before.next_if(|(known, _)| *known == slot);
            self.0.push(known.unwrap_or((slot, now)));
        }
        let first = self.0.iter().map(|(_, since)| *since).min();
        first.map(|since| now.saturating_sub(since))
    }
}
