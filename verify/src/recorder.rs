//! Records a workload: one call before and one after each call of the bus, and the lines of the
//! history come out right.
//!
//! ```
//! use clearway_verify::{check, history::{Header, Log}, recorder::{Publish, Recorder}};
//!
//! let recorder = Recorder::new(Log::in_memory(Header::new("memory")));
//! let process = recorder.process(0);
//! let op = process.invoke(Publish { topic: "orders", id: "a", key: Some("k"), size: 3, ..Publish::default() });
//! // receipt = bus.publish(..).await
//! recorder.acked(op, 0, 0, false, None);
//! let subscription = recorder.subscribe(0, "orders", "billing", Default::default());
//! let delivery = subscription.deliver(0, 0, "a", Some("k"), Some(1), 0);
//! // handler(envelope).await
//! delivery.ack();
//! recorder.drained("orders", "billing");
//! let verdict = check::history(&recorder.into_history().unwrap());
//! assert!(verdict.is_ok(), "{verdict}");
//! ```

use crate::history::{
    Acked, Close, ClosePhase, Commit, Deliver, Disconnect, Drained, Durability, Erased, Event,
    Fault, Frozen, History, Invoke, Log, Order, Phase, Rebalance, Reconnect, Rejected, Resend,
    Settle, Settled, Subscribe, Unknown,
};
use serde_json::Value;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A publish, as it was invoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use = "a publish without an outcome is a violation"]
pub struct OpId(u64);

/// What is published.
#[derive(Clone, Copy, Debug, Default)]
pub struct Publish<'a> {
    /// Where to.
    pub topic: &'a str,
    /// The envelope's id.
    pub id: &'a str,
    /// The envelope's key.
    pub key: Option<&'a str>,
    /// Bytes of payload.
    pub size: u64,
    /// Whether publishes of one key keep their order though an answer is still out.
    pub ordered: bool,
    /// What an ack has to mean, if not what the header says.
    pub durability: Option<Durability>,
}

/// Writes the events of one run. Shared by reference, or in an `Arc`, between tasks.
pub struct Recorder {
    log: Log,
    ops: AtomicU64,
    processes: AtomicU32,
    subscriptions: AtomicU32,
}

impl Recorder {
    /// A recorder that writes to `log`.
    pub fn new(log: Log) -> Self {
        Self {
            log,
            ops: AtomicU64::new(0),
            processes: AtomicU32::new(0),
            subscriptions: AtomicU32::new(0),
        }
    }

    /// A new thread of control that publishes on `bus`.
    pub fn process(&self, bus: u32) -> Process<'_> {
        Process {
            recorder: self,
            bus,
            // Relaxed, here and below: a number of its own is all that is wanted.
            process: self.processes.fetch_add(1, Ordering::Relaxed),
            seq: AtomicU64::new(0),
        }
    }

    /// A publish begins, the `seq`-th of a thread of control whose [`Process`] nobody keeps.
    pub fn invoke(&self, (bus, process, seq): (u32, u32, u64), publish: Publish<'_>) -> OpId {
        let op = self.ops.fetch_add(1, Ordering::Relaxed);
        self.log.record(Invoke {
            op,
            process,
            bus,
            topic: publish.topic.to_owned(),
            id: publish.id.to_owned(),
            key: publish.key.map(str::to_owned),
            seq,
            size: publish.size,
            ordered: publish.ordered,
            durability: publish.durability,
        });
        OpId(op)
    }

    /// The publish is stored.
    pub fn acked(
        &self,
        op: OpId,
        partition: u32,
        position: u64,
        duplicate: bool,
        durability: Option<Durability>,
    ) {
        self.log.record(Acked {
            op: op.0,
            partition,
            position,
            duplicate,
            durability,
        });
    }

    /// The publish is surely not stored.
    pub fn rejected(&self, op: OpId, reason: impl ToString) {
        self.log.record(Rejected {
            op: op.0,
            reason: reason.to_string(),
        });
    }

    /// The publish may be stored.
    pub fn unknown(&self, op: OpId, reason: impl ToString) {
        self.log.record(Unknown {
            op: op.0,
            reason: reason.to_string(),
        });
    }

    /// An attempt had no answer and the envelope is sent once more.
    pub fn resend(&self, topic: &str, id: &str) {
        self.log.record(Resend {
            op: None,
            id: Some(id.to_owned()),
            topic: Some(topic.to_owned()),
        });
    }

    /// A subscription begins.
    pub fn subscribe(&self, bus: u32, topic: &str, group: &str, order: Order) -> Subscription<'_> {
        let subscription = self.subscriptions.fetch_add(1, Ordering::Relaxed);
        let (topic, group) = (topic.to_owned(), group.to_owned());
        self.log.record(Subscribe {
            subscription,
            bus,
            topic: topic.clone(),
            group: group.clone(),
            order,
        });
        Subscription {
            recorder: self,
            bus,
            subscription,
            topic,
            group,
        }
    }

    /// The partitions of a topic changed hands inside a group.
    pub fn rebalance(&self, topic: &str, group: &str, epoch: u64) {
        self.log.record(Rebalance {
            topic: topic.to_owned(),
            group: group.to_owned(),
            epoch,
            subscription: None,
            from: None,
            partitions: Vec::new(),
        });
    }

    /// Partitions were taken away from a bus; who has them now is not known.
    pub fn taken_away(&self, bus: u32, topic: &str, group: &str, partitions: &[u32]) {
        self.log.record(Rebalance {
            topic: topic.to_owned(),
            group: group.to_owned(),
            epoch: 0,
            subscription: None,
            from: Some(bus),
            partitions: partitions.to_vec(),
        });
    }

    /// The broker, asked from outside, has said what a group has committed.
    pub fn committed(&self, topic: &str, group: &str, partition: u32, position: u64) {
        self.log.record(Commit {
            subscription: None,
            topic: topic.to_owned(),
            group: group.to_owned(),
            partition,
            position,
            epoch: 0,
        });
    }

    /// A bus uses a new session.
    pub fn reconnect(&self, bus: u32, generation: u64) {
        self.log.record(Reconnect { bus, generation });
    }

    /// A bus has lost its session. `killed`: with its whole process.
    pub fn disconnect(&self, bus: u32, killed: bool) {
        self.log.record(Disconnect { bus, killed });
    }

    /// The process of a bus stands still, or goes on. Between the two lines it has surely done nothing.
    pub fn frozen(&self, bus: u32, phase: Phase) {
        self.log.record(Frozen { bus, phase });
    }

    /// Somebody breaks something until the answer is dropped.
    pub fn fault(&self, what: impl Into<String>) -> FaultWindow<'_> {
        let what = what.into();
        self.log.record(Fault {
            what: what.clone(),
            phase: Phase::Begin,
        });
        FaultWindow {
            recorder: self,
            what,
        }
    }

    /// What a topic held is about to be destroyed, or has been.
    pub fn erased(&self, topic: &str, phase: Phase) {
        self.log.record(Erased {
            topic: topic.to_owned(),
            phase,
        });
    }

    /// A caller closes a bus.
    pub fn close(&self, bus: u32, process: u32) {
        self.log.record(Close {
            process,
            bus,
            phase: ClosePhase::Invoke,
            report: None,
        });
    }

    /// Close has answered.
    pub fn closed(&self, bus: u32, process: u32, report: Option<Value>) {
        self.log.record(Close {
            process,
            bus,
            phase: ClosePhase::Return,
            report,
        });
    }

    /// A group has caught up with a topic: what it has not seen by now is lost.
    pub fn drained(&self, topic: &str, group: &str) {
        self.log.record(Drained {
            topic: topic.to_owned(),
            group: group.to_owned(),
        });
    }

    /// Anything else.
    pub fn record(&self, event: impl Into<Event>) {
        self.log.record(event);
    }

    /// Everything is on disk, or the first thing that went wrong.
    pub fn finish(self) -> io::Result<()> {
        self.log.finish()
    }

    /// The history, if it was kept in memory.
    pub fn into_history(self) -> Option<History> {
        self.log.into_history()
    }
}

/// One thread of control that publishes.
pub struct Process<'r> {
    recorder: &'r Recorder,
    bus: u32,
    process: u32,
    seq: AtomicU64,
}

impl Process<'_> {
    /// The number of the process, as `close` wants it.
    pub fn number(&self) -> u32 {
        self.process
    }

    /// A publish begins. To be called before the bus is.
    pub fn invoke(&self, publish: Publish<'_>) -> OpId {
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        self.recorder.invoke((self.bus, self.process, seq), publish)
    }
}

/// One subscription.
pub struct Subscription<'r> {
    recorder: &'r Recorder,
    bus: u32,
    subscription: u32,
    topic: String,
    group: String,
}

impl Subscription<'_> {
    /// A handler begins with an envelope. To be called first thing in the handler.
    pub fn deliver(
        &self,
        partition: u32,
        position: u64,
        id: &str,
        key: Option<&str>,
        attempt: Option<u32>,
        epoch: u64,
    ) -> Running<'_> {
        self.recorder.log.record(Deliver {
            subscription: self.subscription,
            bus: self.bus,
            topic: self.topic.clone(),
            group: self.group.clone(),
            partition,
            position,
            id: id.to_owned(),
            key: key.map(str::to_owned),
            attempt,
            epoch,
        });
        Running {
            subscription: self,
            partition,
            position,
            open: true,
        }
    }
}

/// A handler at work. Dropped without an answer, it was cut off.
pub struct Running<'r> {
    subscription: &'r Subscription<'r>,
    partition: u32,
    position: u64,
    open: bool,
}

impl Running<'_> {
    /// The handler is about to say that the envelope is done.
    pub fn ack(self) {
        self.settle(Settled::Ack);
    }

    /// The handler is about to say that it wants the envelope again.
    pub fn nack(self) {
        self.settle(Settled::Nack);
    }

    /// The envelope is put aside.
    pub fn dead_letter(self) {
        self.settle(Settled::DeadLetter);
    }

    fn settle(mut self, how: Settled) {
        self.open = false;
        self.record(how);
    }

    fn record(&self, how: Settled) {
        self.subscription.recorder.log.record(Settle {
            subscription: self.subscription.subscription,
            topic: self.subscription.topic.clone(),
            partition: self.partition,
            position: self.position,
            how,
            why: None,
        });
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if self.open {
            self.record(Settled::Cancelled);
        }
    }
}

/// Something is broken for as long as this lives.
pub struct FaultWindow<'r> {
    recorder: &'r Recorder,
    what: String,
}

impl Drop for FaultWindow<'_> {
    fn drop(&mut self) {
        let what = std::mem::take(&mut self.what);
        self.recorder.log.record(Fault {
            what,
            phase: Phase::End,
        });
    }
}
