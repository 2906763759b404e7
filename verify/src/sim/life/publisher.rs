//! A thread of control that publishes, and what it writes down.

use super::*;

/// How a publish ended, the last time it was tried.
pub(super) type Outcome = Result<Receipt, PublishError>;

/// A thread of control that publishes, and writes down what it publishes and how each ends.
pub struct Publisher {
    common: Arc<Common>,
    process: Process,
    number: u32,
    seq: AtomicU64,
    whose: Whose,
    door: Arc<Door>,
    results: Arc<Results>,
}

impl Publisher {
    pub(super) fn new(
        common: &Arc<Common>,
        process: &Process,
        (whose, door, results): (Whose, Arc<Door>, Arc<Results>),
    ) -> Self {
        Self {
            whose,
            door,
            results,
            common: common.clone(),
            process: process.clone(),
            number: common.record.recorder.process(process.number()).number(),
            seq: AtomicU64::new(0),
        }
    }

    /// Publishes an envelope of that key, and waits for room and for the answer. Again while it is surely not stored.
    pub async fn publish(&self, topic: &RawTopic, key: &str) -> Outcome {
        let envelope = envelope(topic, key);
        let mut tries = 0;
        loop {
            let open = self.invoke(topic, &envelope, false);
            let was_shut = self.door.is_shut();
            let ended = topic.publish_envelope(envelope.clone()).await;
            self.passed(was_shut, &envelope, &ended);
            write(open, topic, &ended);
            tries += 1;
            if !ended.as_ref().is_err_and(worth_a_retry) || tries > RETRIES {
                return ended;
            }
        }
    }

    /// Begins to publish without waiting.
    pub(super) fn begin<'t>(
        &'t self,
        topic: &'t RawTopic,
        key: &str,
        ordered: bool,
    ) -> impl Future<Output = Outcome> + Send + use<'t> {
        let envelope = envelope(topic, key);
        let open = self.invoke(topic, &envelope, ordered);
        let was_shut = self.door.is_shut();
        let receipt = topic.publish_envelope(envelope.clone()).enqueue();
        async move {
            let ended = match receipt {
                Ok(receipt) => receipt.await,
                Err(refused) => Err(refused.error),
            };
            self.passed(was_shut, &envelope, &ended);
            write(open, topic, &ended);
            ended
        }
    }

    fn passed(&self, was_shut: bool, envelope: &Envelope, ended: &Outcome) {
        let (record, id) = (&*self.common.record, envelope.id.to_string());
        let now = self.process.now();
        if self.common.plan.results {
            self.results.ended(envelope.id, ended);
        }
        (self.door).passed(self.whose, was_shut, (record, &id), (ended, now));
    }

    fn invoke(&self, topic: &RawTopic, envelope: &Envelope, ordered: bool) -> Open {
        let recorder = &self.common.record.recorder;
        let key = envelope
            .key
            .as_deref()
            .map(|key| String::from_utf8_lossy(key).into_owned());
        let seq = self.seq.fetch_add(1, Ordering::Relaxed);
        let of = (self.process.number(), self.number, seq);
        let op = recorder.invoke(
            of,
            Publish {
                topic: topic.name(),
                id: &envelope.id.to_string(),
                key: key.as_deref(),
                size: envelope.payload.len() as u64,
                ordered,
                durability: None,
            },
        );
        Open::new(recorder, op, &self.process)
    }
}

fn write(open: Open, topic: &RawTopic, ended: &Outcome) {
    open.ended(|recorder, op| match ended {
        Ok(receipt) => {
            let durability = topic.durability().map(|_| Durability::Stored);
            recorder.acked(
                op,
                receipt.partition,
                receipt.position,
                receipt.duplicate,
                durability,
            );
        }
        Err(error) if error.may_be_published() => recorder.unknown(op, error),
        Err(error) => recorder.rejected(op, error),
    });
}

fn worth_a_retry(error: &PublishError) -> bool {
    error.is_retryable() && !error.may_be_published()
}

fn envelope(topic: &RawTopic, key: &str) -> Envelope {
    let publish = topic
        .publish(&Bytes::from_static(b"payload"))
        .key(key.to_owned());
    publish.envelope().cloned().expect("bytes need no encoding")
}
