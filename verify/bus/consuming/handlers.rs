//! Handlers that wait until the machine tells them what to do.

use crate::ops::How;
use clearway::{Delivery, HandlerError, Json, Outcome, Topic};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::oneshot;

/// A handler at work, as the machine sees it.
pub(crate) struct Running {
    pub(crate) group: usize,
    pub(crate) value: u32,
    pub(crate) attempt: u32,
    pub(crate) answer: oneshot::Sender<How>,
}

pub(crate) type AtWork = Arc<Mutex<Vec<Running>>>;

/// When a handler ends, however it does, it is at work no more.
struct Guard {
    at_work: AtWork,
    group: usize,
    value: u32,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut at_work = self.at_work.lock().unwrap();
        at_work.retain(|running| (running.group, running.value) != (self.group, self.value));
    }
}

/// Does as it is told.
pub(crate) async fn handle(
    delivery: Delivery<u32>,
    group: usize,
    at_work: AtWork,
    orders: Topic<u32, Json>,
) -> Result<Outcome, HandlerError> {
    let value = delivery.value;
    let (answer, told) = oneshot::channel();
    at_work.lock().unwrap().push(Running {
        group,
        value,
        attempt: delivery.attempt,
        answer,
    });
    let _guard = Guard {
        at_work,
        group,
        value,
    };
    match told.await? {
        How::Ack => Ok(Outcome::Ack),
        How::Skip => Ok(Outcome::Skip),
        How::Fail => Err("told to fail".into()),
        How::Panic => std::panic::resume_unwind(Box::new("told to panic")),
        How::Again(millis) => Ok(Outcome::Retry {
            after: Duration::from_millis(millis),
        }),
        How::PublishAndAck(key, value) => {
            orders.publish(&value).key(vec![key]).await?;
            Ok(Outcome::Ack)
        }
    }
}
