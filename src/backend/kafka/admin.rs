//! Admin: the client that asks about topics, and another in its place once it gets no answers.
//!
//! A broker that comes up may say for a moment that there are no brokers. librdkafka (2.12; its issue 5301) then lets go of those it knew; a client
//! that has nothing else to do may never look for them again, so that every later question to it ends without an answer. It says so nowhere:
//! there is no telling it from one whose brokers are silent. So who has no answer, or no patience to wait for one, leaves the next to a client
//! of its own, which begins with `bootstrap.servers`.

use super::native;
use super::options::Options;
use super::threads::Elsewhere;
use crate::error::{Failure, FailureKind};
use crate::protocol::sync::Mutex;
use rdkafka::ClientContext;
use rdkafka::admin::AdminClient;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::KafkaError;
use std::ops::Deref;
use std::sync::Arc;

/// A client. Its end joins threads.
pub(super) type Admin = Elsewhere<AdminClient<Silent>>;

/// A client whose log and errors nobody reads: its answers say it all.
pub(super) struct Silent;

impl ClientContext for Silent {}

/// The client of a connection.
pub(super) struct Admins {
    options: Arc<Options>,
    /// `None` once it was closed.
    client: Mutex<Option<Arc<Admin>>>,
}

/// A question under way. Dropped before [`heard`](Self::heard) was called it had no answer.
pub(super) struct Asking<'a> {
    admins: &'a Admins,
    client: Arc<Admin>,
    is_answered: bool,
}

impl Admins {
    pub(super) fn new(options: Arc<Options>) -> Result<Self, KafkaError> {
        let client = Arc::new(client(&options)?);
        Ok(Self {
            options,
            client: Mutex::new(Some(client)),
        })
    }

    /// Begins a question, unless it was closed.
    pub(super) fn ask(&self) -> Result<Asking<'_>, Failure> {
        let closed = || Failure::new(FailureKind::Disconnected, "the connection was closed");
        Ok(Asking {
            admins: self,
            client: self.client.lock().clone().ok_or_else(closed)?,
            is_answered: false,
        })
    }

    /// Closes it. What is left is to end: who is still asking something has it for a moment longer.
    pub(super) fn close(&self) -> Option<Admin> {
        self.client.lock().take().and_then(Arc::into_inner)
    }

    fn replace(&self, unanswered: &Arc<Admin>) {
        let mut current = self.client.lock();
        // Of several that ask the same one the first has done it.
        if !(current.as_ref()).is_some_and(|current| Arc::ptr_eq(current, unanswered)) {
            return;
        }
        match client(&self.options) {
            Ok(next) => *current = Some(Arc::new(next)),
            Err(error) => {
                tracing::warn!(target: "clearway::kafka", %error, "no other client to ask about topics");
            }
        }
    }
}

impl Asking<'_> {
    /// What has come of it: `None`, or why it failed.
    pub(super) fn heard(mut self, failure: Option<&Failure>) {
        let kind = failure.map(Failure::kind);
        self.is_answered = !matches!(
            kind,
            Some(FailureKind::TimedOut | FailureKind::Disconnected)
        );
    }

    pub(super) fn client(&self) -> Arc<Admin> {
        self.client.clone()
    }
}

impl Deref for Asking<'_> {
    type Target = Arc<Admin>;

    fn deref(&self) -> &Arc<Admin> {
        &self.client
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.admins.replace(&self.client);
        }
    }
}

fn client(options: &Options) -> Result<Admin, KafkaError> {
    let client = AdminClient::from_config_and_context(&native::admin(options), Silent)?;
    Ok(Elsewhere::new(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admins() -> Admins {
        let options = Options::from_url("kafka://127.0.0.1:1").expect("fine");
        Admins::new(Arc::new(options)).expect("a client")
    }

    fn current(admins: &Admins) -> Arc<Admin> {
        admins
            .ask()
            .map(|asking| {
                let client = asking.client();
                asking.heard(None);
                client
            })
            .expect("open")
    }

    #[test]
    fn whoever_has_no_answer_leaves_the_next_to_another_client() {
        let admins = admins();
        let first = current(&admins);
        let refused = Failure::new(FailureKind::Unauthorized, "no");
        admins.ask().expect("open").heard(Some(&refused));
        assert!(Arc::ptr_eq(&first, &current(&admins)), "that is an answer");
        for kind in [FailureKind::TimedOut, FailureKind::Disconnected] {
            let before = current(&admins);
            let [one, other] = [admins.ask(), admins.ask()].map(|asking| asking.expect("open"));
            one.heard(Some(&Failure::new(kind, "nobody there")));
            let after = current(&admins);
            assert!(!Arc::ptr_eq(&before, &after));
            drop(other);
            assert!(Arc::ptr_eq(&after, &current(&admins)), "it had the old one");
        }
        let before = current(&admins);
        drop(admins.ask());
        assert!(!Arc::ptr_eq(&before, &current(&admins)), "given up");
    }

    #[test]
    fn once_closed_there_is_no_other() {
        let admins = admins();
        let asking = admins.ask().expect("open");
        assert!(admins.close().is_none(), "it is in use");
        drop(asking);
        assert!(admins.ask().is_err());
    }
}
