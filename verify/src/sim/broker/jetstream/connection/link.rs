//! The link: sending, hearing outcomes and giving up what waited too long, and how a connection comes to be cut.

use super::*;

impl Link {
    pub(in super::super) fn new(
        weather: &Weather,
        process: u32,
        host: Arc<dyn Host>,
        generation: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            process,
            weather: weather.clone(),
            host,
            generation,
            state: Mutex::default(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of the next packet, unless nothing goes out any more.
    pub(in super::super) fn sends(&self) -> Option<u64> {
        let mut state = self.state();
        if state.cut_behind.is_some() {
            return None;
        }
        state.sent += 1;
        Some(state.sent)
    }

    /// When a packet arrives that would at `due`: none overtakes another.
    pub(in super::super) fn arrives(&self, is_up: bool, due: Duration) -> Duration {
        let mut state = self.state();
        let until = match is_up {
            true => &mut state.up_until,
            false => &mut state.down_until,
        };
        *until = (*until).max(due);
        *until
    }

    /// A packet is there. Whether it came through.
    pub(in super::super) fn comes_through(&self, number: u64) -> bool {
        let mut state = self.state();
        state.arrived = number;
        state.cut_behind.is_none_or(|last| number <= last)
    }

    pub(in super::super) fn is_cut(&self) -> bool {
        self.state().cut_behind.is_some()
    }

    /// Nothing goes over it any more, and the first of what is under way to the server still arrives.
    pub(in super::super) fn cut(&self) {
        let weather = &self.weather;
        let mut state = self.state();
        if state.cut_behind.is_none() {
            let under_way = state.sent - state.arrived;
            state.cut_behind = Some(state.arrived + weather.below(under_way + 1));
        }
    }

    /// Nothing more goes over it, and all that is under way to the server arrives. Consumers over it fail.
    pub(in super::super) fn end(&self) {
        let inboxes = {
            let mut state = self.state();
            let sent = state.sent;
            state.cut_behind.get_or_insert(sent);
            state.is_lost = true;
            state.inboxes.values().cloned().collect::<Vec<_>>()
        };
        inboxes.iter().for_each(|inbox| inbox.lose());
    }

    /// The client finds that it is cut. Says whether it did not know.
    pub(in super::super) fn lose(&self) -> bool {
        let (task, inboxes) = {
            let mut state = self.state();
            if std::mem::replace(&mut state.is_lost, true) {
                return false;
            }
            (
                state.task.take(),
                state.inboxes.values().cloned().collect::<Vec<_>>(),
            )
        };
        task.into_iter().for_each(Waker::wake);
        inboxes.iter().for_each(|inbox| inbox.lose());
        self.host.lost(self.generation, disconnected());
        true
    }

    pub(in super::super) fn alive(&self) -> Result<(), Failure> {
        match self.state().is_lost {
            true => Err(disconnected()),
            false => Ok(()),
        }
    }

    /// The server says something.
    pub(in super::super) fn hear(&self, down: Down) {
        let mut state = self.state();
        if state.cut_behind.is_some() {
            return;
        }
        match down {
            Down::Outcome {
                ticket,
                outcome,
                missing,
            } => {
                state.answers.push((ticket, outcome, missing));
                let task = state.task.take();
                drop(state);
                task.into_iter().for_each(Waker::wake);
            }
            Down::Mail { member, mail } => {
                let inbox = state.inboxes.get(&member).cloned();
                drop(state);
                if let Some(inbox) = inbox {
                    inbox.put(mail);
                }
            }
        }
    }

    pub(in super::super) fn forget(&self, member: u64) {
        self.state().inboxes.remove(&member);
    }

    /// Sends, hears outcomes and gives up what waited too long, until the connection is left.
    pub(in super::super) async fn run(self: Arc<Self>, wire: Arc<Wire>) {
        let runtime = self.host.runtime().clone();
        let mut sleep: Option<(Duration, clearway::Task)> = None;
        poll_fn(|cx| {
            loop {
                // First: what comes from now on wakes it again.
                self.state().task = Some(cx.waker().clone());
                let now = runtime.now();
                self.send_all(&wire, now);
                self.settle_all(now);
                let mut state = self.state();
                if state.has_ended || (state.is_closing && state.in_flight.is_empty()) {
                    state.has_ended = true;
                    std::mem::take(&mut state.closers)
                        .into_iter()
                        .for_each(Waker::wake);
                    return Poll::Ready(());
                }
                let first = state.in_flight.values().next();
                let Some(due) = first.map(|of| of.since + PUBLISH_TIMEOUT) else {
                    sleep = None;
                    return Poll::Pending;
                };
                drop(state);
                if sleep
                    .as_ref()
                    .is_none_or(|(armed, _)| *armed > due || *armed <= now)
                {
                    sleep = Some((due, runtime.sleep(due.saturating_sub(now))));
                }
                let (_, timer) = sleep.as_mut().expect("armed above");
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                sleep = None;
            }
        })
        .await;
    }

    pub(super) fn send_all(self: &Arc<Self>, wire: &Wire, now: Duration) {
        let mut to_send = Vec::new();
        {
            let mut state = self.state();
            if state.is_lost {
                return;
            }
            for ticket in std::mem::take(&mut state.queue) {
                if let Some(of) = state.in_flight.get_mut(&ticket) {
                    of.sent.get_or_insert(now);
                    to_send.push(Up::Publish {
                        ticket,
                        topic: of.topic.clone(),
                        partition: of.partition,
                        envelope: of.envelope.clone(),
                    });
                }
            }
        }
        for up in to_send {
            wire.up(self, up);
        }
    }

    pub(super) fn settle_all(&self, now: Duration) {
        let mut settled = Vec::new();
        let mut state = self.state();
        for (ticket, outcome, missing) in std::mem::take(&mut state.answers) {
            // Given up already.
            let Some(of) = state.in_flight.remove(&ticket) else {
                continue;
            };
            let outcome = match outcome {
                Outcome::Rejected(failure) if of.is_ambiguous => Outcome::Unknown(failure),
                other => other,
            };
            settled.push((of.slot, outcome, missing));
        }
        while let Some(first) = state.in_flight.first_entry()
            && first.get().since + PUBLISH_TIMEOUT <= now
        {
            let of = first.remove();
            let failure = Failure::new(FailureKind::TimedOut, "no answer came in time");
            let outcome = match of.sent {
                None => Outcome::Rejected(failure),
                Some(_) => Outcome::Unknown(failure),
            };
            settled.push((of.slot, outcome, None));
        }
        drop(state);
        for (slot, outcome, missing) in settled {
            if let Some(topic) = missing {
                self.host.topic_missing(&topic);
            }
            self.host.settle(slot, outcome);
        }
    }

    /// A question and its answer.
    pub(in super::super) async fn round_trip<T>(
        self: &Arc<Self>,
        shared: &Shared,
        ask: impl FnOnce(&mut crate::sim::broker::jetstream::server::Server) -> T,
    ) -> Result<T, Failure> {
        let runtime = self.host.runtime();
        runtime.sleep(self.weather.delay()).await;
        self.alive()?;
        let answer = {
            let mut server = shared.server();
            (server.is_up && !self.is_cut()).then(|| ask(&mut server))
        };
        let Some(answer) = answer else {
            // Whoever cut it says so in a moment.
            runtime.sleep(Duration::from_millis(100)).await;
            return Err(disconnected());
        };
        runtime.sleep(self.weather.delay()).await;
        self.alive()?;
        Ok(answer)
    }
}
