//! The facade's list: who may wait or lock outside of a protocol, and what for. No rule is here.

/// The files that may use parts of the facade, and what for. `Mutex` here is the counted one, on the cold path.
pub(super) const FACADE: &[(&str, &[&str], &str)] = &[
    ("src/close.rs", &["Mutex"], "whether close has begun"),
    (
        "src/core.rs",
        &["Mutex"],
        "the inbox of the bus's tasks; what close has drained",
    ),
    (
        "src/events.rs",
        &["Mutex"],
        "who watches, and what they have not seen yet",
    ),
    (
        "src/signal.rs",
        &["Mutex"],
        "who waits for something that is said once",
    ),
    (
        "src/answer.rs",
        &["Mutex"],
        "one answer between a worker and who gives it, in streams and batches",
    ),
    (
        "src/batch.rs",
        &["Mutex"],
        "the batch that fills, for who asked for batches",
    ),
    (
        "src/middleware/throttle.rs",
        &["Mutex"],
        "when the table of keys is looked through, for who asked for a limit by key",
    ),
    (
        "src/stream.rs",
        &["Mutex"],
        "between workers and the reader of a stream, who asked for it",
    ),
    (
        "src/subscription.rs",
        &["Mutex"],
        "what a subscription says of itself",
    ),
    (
        "src/subscription/registry.rs",
        &["Mutex"],
        "the open subscriptions",
    ),
    (
        "src/topic.rs",
        &["ArcCell", "Mutex"],
        "the topic now, read whole; the threshold of a topic not yet ensured",
    ),
    (
        "src/publish/admission.rs",
        &["Mutex"],
        "the overflow policy, changed when a result stream begins",
    ),
    (
        "src/publish/ordered.rs",
        &["Mutex"],
        "the lines of `ordered` handles, which say that they pay for it",
    ),
    (
        "src/backend/memory/broker.rs",
        &["Mutex"],
        "the broker itself, which is no part of the bus",
    ),
    (
        "src/backend/memory/connection.rs",
        &["AtomicWaker", "Mutex"],
        "the queue of publishes under way and its task",
    ),
    (
        "src/backend/kafka/admin.rs",
        &["Mutex"],
        "the client that asks about topics, and which one that is now",
    ),
    (
        "src/backend/kafka/connection.rs",
        &["Mutex"],
        "the control plane of a connection",
    ),
    (
        "src/backend/kafka/ends.rs",
        &["Mutex"],
        "the client that asks where logs end, made when it is needed first",
    ),
    (
        "src/backend/kafka/log.rs",
        &["Mutex"],
        "the last trouble that a client told",
    ),
    (
        "src/backend/kafka/poller/context.rs",
        &["Mutex"],
        "what happened to a group, between the client and who polls it: the same thread",
    ),
    (
        "src/backend/kafka/poller/mod.rs",
        &["Mutex"],
        "the last epoch that a consumer was given",
    ),
    (
        "src/backend/kafka/poller/wire.rs",
        &["AtomicWaker", "Mutex"],
        "between a consumer's thread and its task; an answer that is waited for",
    ),
    (
        "src/backend/kafka/produce.rs",
        &["ArcCell", "Mutex"],
        "the client, until it has ended; when to end, and what it says of itself",
    ),
    (
        "src/backend/kafka/produce/taker.rs",
        &["ArcCell", "Mutex"],
        "the same, from the thread that takes reports",
    ),
    (
        "src/backend/kafka/stranded.rs",
        &["Mutex"],
        "how often in a row a client knew no broker: only its statistics lock it",
    ),
    (
        "src/backend/kafka/threads.rs",
        &["Mutex"],
        "the answer of a call that blocks",
    ),
    (
        "src/backend/kafka/waiting.rs",
        &["Mutex"],
        "what has no report yet: only the thread that takes reports locks it",
    ),
    (
        "src/backend/kafka/witness.rs",
        &["Mutex"],
        "what a test's bus was told; no part of what ships",
    ),
    (
        "src/backend/nats/connection.rs",
        &["Mutex"],
        "the control plane of a connection",
    ),
    (
        "src/backend/nats/latch.rs",
        &["Mutex"],
        "who waits for a connection to end",
    ),
    (
        "src/backend/nats/pins.rs",
        &["Mutex"],
        "which member a partition is pinned to",
    ),
    (
        "src/backend/nats/produce.rs",
        &["AtomicWaker", "Mutex"],
        "the queue of publishes under way and its task",
    ),
];
