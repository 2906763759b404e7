//! What a handler does with the bus that it is called from: it subscribes, drains a subscription, and closes the bus.
//!
//! A handler that waits for the drain of its own subscription, or for the close of its bus, waits for itself: it is cut off when the time of
//! that is up, or its own, and never hears the end. What it handled is not settled. Nobody else waits for longer because of it.

use super::*;
use clearway::{DrainReport, HandlerError, SubscribeError};
use std::task::Poll;

/// So long after its time is up a subscription has ended, and what is asked of it is answered.
const ENDED_BY: Duration = Duration::from_millis(1500);

/// Whoever asks for so long has his answer when another's time is up.
const LONG: Duration = Duration::from_secs(3600);

impl Life {
    /// A handler subscribes for the guests of some topic. A place that is taken is refused, and no other is.
    pub(in super::super) async fn subscribe_within(self: &Arc<Self>) {
        let topic = self.some_topic();
        let place = (topic, GUESTS);
        let (bus, is_taken) = {
            let mut state = self.state();
            let held = state.subscriptions.get(&place);
            let (is_taken, is_draining) = (held.is_some(), held.is_some_and(|it| it.is_draining));
            let Some(bus) = state.bus.clone().filter(|_| !is_draining) else {
                return;
            };
            if !is_taken && !state.begins.insert(place) {
                return;
            }
            (bus, is_taken)
        };
        if is_taken {
            return self.is_refused(&bus, topic).await;
        }
        match self.subscribe_guests(&bus, place).await {
            Ok(()) => self.common.weather.goal("a handler that subscribed"),
            Err(SubscribeError::Taken { .. }) => self.common.record.complain(format!(
                "{:?} has no subscription of {place:?}, and another was refused",
                self.process
            )),
            // As it goes where brokers are away, topics are deleted and buses close.
            Err(_) => {}
        }
    }

    /// Somebody subscribes, at a place that is noted as his.
    async fn subscribe_guests(
        self: &Arc<Self>,
        bus: &Bus,
        place: Place,
    ) -> Result<(), SubscribeError> {
        let _until_it_has_begun = Begins(self, place);
        self.common.guested().insert(place.0);
        self.subscribe(bus, place).await
    }

    /// Handlers have subscribed to the topic for guests, and none are there any more: the group is to catch up all the same. Says whether there
    /// is a place for them here.
    pub fn invite_guests(self: &Arc<Self>, topic: &'static str) -> bool {
        let place = (topic, GUESTS);
        let bus = {
            let mut state = self.state();
            let is_free = !state.subscriptions.contains_key(&place);
            let Some(bus) = state.bus.clone().filter(|_| is_free) else {
                return false;
            };
            if !state.begins.insert(place) {
                return true;
            }
            bus
        };
        let life = self.clone();
        let inviting = async move { drop(life.subscribe_guests(&bus, place).await) };
        self.process.spawn("sim-guests", Box::pin(inviting));
        true
    }

    /// Seldom the one that has most: whoever subscribes to it is given all of that.
    fn some_topic(&self) -> &'static str {
        TOPICS[usize::from(self.common.weather.below(8) > 0)]
    }

    /// There is a subscription of that topic's guests.
    async fn is_refused(&self, bus: &Bus, topic: &str) {
        let Ok(handle) = bus.raw_topic(topic) else {
            return;
        };
        let nobody = |_| async { Ok::<_, HandlerError>(()) };
        let refused = handle.subscribe(GUESTS, nobody).await;
        if !matches!(
            refused,
            Err(SubscribeError::Taken { .. } | SubscribeError::Closed)
        ) {
            let of = &self.process;
            let what = format!("{of:?} has the guests of {topic} twice, or was told: {refused:?}");
            self.common.record.complain(what);
        }
    }

    /// A handler of the subscription at `own` drains that of some guests: its own, if it is theirs.
    pub(in super::super) async fn drain_within(self: &Arc<Self>, own: Place) {
        let weather = &self.common.weather;
        let place = match own.1 == GUESTS && weather.below(2) == 0 {
            true => own,
            false => (self.some_topic(), GUESTS),
        };
        let limit = Duration::from_millis([0, 50, 1000, 10_000][weather.below(4) as usize]);
        let (number, of) = {
            let mut state = self.state();
            let held = state.subscriptions.get_mut(&place);
            let Some(held) = held.filter(|held| !held.is_draining) else {
                return;
            };
            held.is_draining = true;
            (held.number, held.of.clone())
        };
        let draining = of.clone();
        let mut draining = Box::pin(async move { draining.drain(limit).await });
        let begun = poll_once(&mut draining).await;
        self.watch_drain(place, (number, of), limit);
        let waits = begun.is_none() && weather.below(4) > 0;
        if place != own {
            weather.goal("a handler that drained another subscription");
        } else if waits {
            weather.goal("a handler that waited for its own drain");
        }
        if waits {
            draining.await;
        }
        if place == own && (waits || begun.is_some()) {
            let what = format!(
                "a handler of {:?} heard the end of {place:?}, which is its own",
                self.process
            );
            self.common.record.complain(what);
        }
    }

    /// Hears how a drain ends, whatever became of whoever began it: from the begin, or when its time is over.
    fn watch_drain(
        self: &Arc<Self>,
        place: Place,
        (number, of): (u32, Subscription),
        limit: Duration,
    ) {
        let (life, still) = (self.clone(), self.still());
        let comes_late = self.common.weather.below(2) == 0;
        let watching = async move {
            if comes_late {
                life.process.sleep(limit + ENDED_BY).await;
                let has_ended = of.status().await.state == SubscriptionState::Ended;
                if !has_ended && life.still() == still {
                    let what = format!(
                        "{:?} was told to drain {place:?} within {limit:?}, and does so still",
                        life.process
                    );
                    life.common.record.complain(what);
                }
            }
            let report = of.drain(LONG).await;
            life.drained(place, number, &report);
        };
        self.process.spawn("sim-drain", Box::pin(watching));
    }

    /// Its end is written down, unless the close of its bus has done so.
    fn drained(&self, place: Place, number: u32, report: &DrainReport) {
        let mut state = self.state();
        let held = state.subscriptions.get(&place);
        if held.is_none_or(|held| held.number != number) {
            return;
        }
        state.subscriptions.remove(&place);
        drop(state);
        self.common.record.recorder.record(ended(number, report));
    }

    /// A handler closes its bus, and waits for that or goes on. Says whether it goes on.
    pub(in super::super) async fn close_within(self: &Arc<Self>) -> bool {
        let weather = &self.common.weather;
        let limit = self.common.close_limit();
        let Some(shut) = self.shut(limit) else {
            return false;
        };
        let bus = shut.bus.clone();
        let mut closing = Box::pin(async move { bus.close(limit).await });
        let begun = poll_once(&mut closing).await;
        // Whoever comes later hears the same, within the first one's limit.
        let life = self.clone();
        let watching = async move {
            let report = shut.bus.close(LONG).await;
            life.closed(shut, &report).await;
        };
        self.process.spawn("sim-close", Box::pin(watching));
        if begun.is_none() && weather.below(2) == 0 {
            weather.goal("a handler that closed its bus and went on");
            return true;
        }
        if begun.is_none() {
            weather.goal("a handler that waited for the close of its bus");
            closing.await;
        }
        let what = format!("a handler of {:?} heard the end of its bus", self.process);
        self.common.record.complain(what);
        false
    }
}

/// Begins a future.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let polled = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut *future).poll(cx))).await;
    match polled {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A place at which somebody subscribes, until he has or has not.
struct Begins<'l>(&'l Life, Place);

impl Drop for Begins<'_> {
    fn drop(&mut self) {
        self.0.state().begins.remove(&self.1);
    }
}
