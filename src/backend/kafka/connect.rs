//! Connecting: a client that a broker has let in and answered.

use super::admin::Admins;
use super::options::Options;
use super::produce::Pipe;
use super::threads;
use crate::backend::Host;
use crate::error::{ConnectError, Failure, FailureKind};
use rdkafka::error::KafkaError;
use std::sync::Arc;
use std::time::Duration;

pub(super) const NAME: &str = "kafka";

/// How often it is looked whether a login was refused while a broker is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The clients of a connection.
pub(super) struct Connected {
    pub(super) pipe: Pipe,
    pub(super) admins: Admins,
}

/// Connects, within the connect timeout.
pub(super) async fn connect(
    options: Arc<Options>,
    host: Arc<dyn Host>,
    generation: u64,
) -> Result<Connected, ConnectError> {
    options.check()?;
    let (endpoint, limit) = (options.endpoint(), options.connect_timeout);
    let connecting = threads::off("clearway-kafka-connect", move || {
        reach(&options, host, generation)
    });
    connecting.await.unwrap_or_else(|failure| {
        Err(ConnectError::Unreachable {
            endpoint,
            limit,
            failure,
        })
    })
}

/// Blocks.
fn reach(
    options: &Arc<Options>,
    host: Arc<dyn Host>,
    generation: u64,
) -> Result<Connected, ConnectError> {
    let runtime = host.runtime().clone();
    let until = runtime.now() + options.connect_timeout;
    let pipe = Pipe::start(options, host, generation).map_err(|error| refused(&error))?;
    let failure = loop {
        let left = until.saturating_sub(runtime.now());
        let Err(failure) = pipe.reach(left.min(LOOK_EVERY)) else {
            break None;
        };
        if let Some(failure) = pipe.state.trouble.refusal() {
            return Err(ConnectError::Unauthorized {
                endpoint: options.endpoint(),
                failure,
            });
        }
        if left.is_zero() {
            break Some(failure);
        }
    };
    if let Some(failure) = failure {
        return Err(ConnectError::Unreachable {
            endpoint: options.endpoint(),
            limit: options.connect_timeout,
            failure,
        });
    }
    let admins = Admins::new(options.clone()).map_err(|error| refused(&error))?;
    Ok(Connected { pipe, admins })
}

/// Why the client cannot be made: a setting that it does not know, or that does not fit the others.
fn refused(error: &KafkaError) -> ConnectError {
    match error {
        KafkaError::ClientConfig(_, reason, name, _) => ConnectError::config(name, reason),
        KafkaError::ClientCreation(reason) => ConnectError::config("kafka::Options", reason),
        other => ConnectError::config("kafka::Options", other.to_string()),
    }
}

/// The same, for who subscribes.
pub(super) fn refused_failure(error: &KafkaError) -> Failure {
    let refused = refused(error);
    Failure::caused(FailureKind::Mismatch, refused.to_string(), refused)
}
