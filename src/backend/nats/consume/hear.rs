//! Hearing: the inbox, and what only time brings.

use super::NatsConsumer;
use super::attend::REPAIR_EVERY;
use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

/// As many messages are taken before anything else is done.
const HEAR_MAX: usize = 64;
/// How often each partition is looked at, also when there is always another message.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl NatsConsumer {
    /// Takes what has come, or waits until something comes or the tick is over. Says whether the connection is still there.
    pub(super) async fn hear(&mut self) -> bool {
        let beat = self.pace.heartbeat;
        let length = beat.min(REPAIR_EVERY.max(beat / 2));
        poll_fn(|cx| {
            let mut heard = 0;
            // Messages first: what is here already is no silence.
            while heard < HEAR_MAX
                && let Poll::Ready(next) = Pin::new(&mut self.inbox).poll_next(cx)
            {
                let Some(message) = next else {
                    return Poll::Ready(false);
                };
                if heard == 0 {
                    self.wake();
                }
                heard += 1;
                self.take(message, self.woken);
            }
            if heard > 0 {
                return Poll::Ready(true);
            }
            if let Poll::Ready(Some(advisory)) = Pin::new(&mut self.given_up).poll_next(cx) {
                self.wake();
                self.take(advisory, self.woken);
                return Poll::Ready(true);
            }
            let runtime = self.host.runtime();
            let sleep = self.tick.get_or_insert_with(|| runtime.sleep(length));
            if sleep.as_mut().poll(cx).is_ready() {
                self.tick = None;
                self.wake();
                self.on_tick();
                return Poll::Ready(true);
            }
            Poll::Pending
        })
        .await
    }

    fn on_tick(&mut self) {
        let now = self.woken;
        let mut silent = None;
        for partition in &mut self.partitions {
            partition.on_tick();
            silent = partition.on_silence(now, &self.pace).or(silent);
            self.touched.insert(partition.number);
        }
        if let Some(reason) = silent {
            self.in_doubt = self.partitions.iter().any(|partition| partition.in_doubt);
            self.restarted(reason);
        }
    }

    /// Looks at the clock, and sees whether we have stood still, so that the server may have given away what we have.
    pub(super) fn wake(&mut self) {
        let now = self.now();
        self.woken = now;
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            for partition in &self.partitions {
                self.touched.insert(partition.number);
            }
        }
        if now > self.sure + self.pace.lease && !self.in_doubt {
            for partition in &mut self.partitions {
                partition.doubt();
                self.touched.insert(partition.number);
                self.in_doubt |= partition.in_doubt;
            }
        }
        if !self.in_doubt {
            self.sure = now;
        }
    }
}
