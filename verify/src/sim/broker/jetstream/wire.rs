//! The wire between clients and the server: what is sent arrives later, in the order of its connection, or not at all.
//!
//! It is the world's, not a client's: what a process had sent arrives though the process stands still or is dead. A connection that is cut
//! lets through a part of what was under way, the first of it, and nothing of what the server says.

use super::connection::Link;
use crate::sim::fault::Weather;
use clearway::backend::{Answer, Outcome};
use clearway::{Envelope, Runtime};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// What a client says.
pub(super) enum Up {
    Publish {
        ticket: u64,
        topic: Arc<str>,
        partition: u32,
        envelope: Envelope,
    },
    Answer {
        at: At,
        answer: Answer,
        /// Who is to be told that it has come.
        confirm: Option<u64>,
    },
    /// So many more deliveries of a partition; and it is still there.
    Pull {
        member: u64,
        partition: u32,
        epoch: u64,
        more: usize,
        since: Duration,
    },
    Release {
        member: u64,
        partition: u32,
        epoch: u64,
    },
    Leave {
        member: u64,
    },
}

/// A delivery, as its answer names it.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub(super) topic: Arc<str>,
    pub(super) group: Arc<str>,
    pub(super) born: u64,
    pub(super) partition: u32,
    pub(super) sequence: u64,
}

/// What the server says.
pub(super) enum Down {
    Outcome {
        ticket: u64,
        outcome: Outcome,
        missing: Option<Arc<str>>,
    },
    Mail {
        member: u64,
        mail: Mail,
    },
}

/// What a member of a group hears.
pub(super) enum Mail {
    Pinned {
        partition: u32,
        epoch: u64,
    },
    /// Give it back when nothing of it is at work any more.
    AskedBack {
        partition: u32,
        epoch: u64,
    },
    /// It is another's.
    Unpinned {
        partition: u32,
        epoch: u64,
    },
    /// What is pinned was still so when this was answered.
    Heard {
        since: Duration,
    },
    Message {
        partition: u32,
        epoch: u64,
        sequence: u64,
        times: u32,
        envelope: Envelope,
        repeated: bool,
    },
    Confirmed {
        partition: u32,
        sequence: u64,
    },
    /// The stream is gone.
    Gone,
}

/// The wire of a broker.
pub(super) struct Wire {
    weather: Weather,
    now: Mutex<Now>,
}

/// Boxed: what is large is not moved to and fro when something goes in between.
type UnderWay = Box<(Arc<Link>, Packet)>;

#[derive(Default)]
struct Now {
    under_way: BTreeMap<(Duration, u64), UnderWay>,
    sent: u64,
    waker: Option<Waker>,
}

pub(super) enum Packet {
    Up(u64, Up),
    Down(Down),
}

impl Wire {
    pub(super) fn new(weather: &Weather) -> Self {
        Self {
            weather: weather.clone(),
            now: Mutex::default(),
        }
    }

    pub(super) fn up(&self, link: &Arc<Link>, up: Up) {
        let Some(number) = link.sends() else {
            return;
        };
        self.send(link, Packet::Up(number, up), Duration::ZERO);
    }

    /// `extra`: it is so late that others may be before it.
    pub(super) fn down(&self, link: &Arc<Link>, down: Down, extra: Duration) {
        self.send(link, Packet::Down(down), extra);
    }

    fn send(&self, link: &Arc<Link>, packet: Packet, extra: Duration) {
        let now = self.weather.world().now();
        let is_up = matches!(packet, Packet::Up(..));
        let due = link.arrives(is_up, now + self.weather.delay()) + extra;
        let waker = {
            let mut now = self.now();
            now.sent += 1;
            let key = (due, now.sent);
            now.under_way.insert(key, Box::new((link.clone(), packet)));
            now.waker.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// Nothing that is under way arrives.
    pub(super) fn clear(&self) {
        let gone = std::mem::take(&mut self.now().under_way);
        drop(gone);
    }

    /// The next packet that arrives, when it does.
    pub(super) async fn next(&self) -> (Arc<Link>, Packet) {
        let mut sleep: Option<(Duration, clearway::Task)> = None;
        std::future::poll_fn(|cx| {
            loop {
                let due = {
                    let mut now = self.now();
                    // First: what is earlier than all that is there wakes it again.
                    now.waker = Some(cx.waker().clone());
                    let at = self.weather.world().now();
                    match now.under_way.first_entry() {
                        Some(first) if first.key().0 <= at => return Poll::Ready(*first.remove()),
                        Some(first) => first.key().0,
                        None => return Poll::Pending,
                    }
                };
                let world = self.weather.world();
                if sleep.as_ref().is_none_or(|(armed, _)| *armed != due) {
                    sleep = Some((due, world.sleep(due.saturating_sub(world.now()))));
                }
                let (_, timer) = sleep.as_mut().expect("armed above");
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                sleep = None;
            }
        })
        .await
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
