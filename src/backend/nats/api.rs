//! JetStream's JSON API, as far as we need it.
//!
//! Configurations stay JSON on the way through, so that a change of one setting gives back every
//! other one as the server had it, also those that a newer server has and we do not know.

use crate::error::{Failure, FailureKind};
use async_nats::client::{Client, Request, RequestErrorKind};
use bytes::Bytes;
use serde_json::Value;
use std::sync::Arc;

/// A client, and where JetStream listens.
#[derive(Clone, Debug)]
pub(super) struct Api {
    pub(super) client: Client,
    prefix: Arc<str>,
}

/// Why a request had no result.
#[derive(Clone, Debug)]
pub(super) enum ApiError {
    /// JetStream said no.
    Refused { code: u64, text: String },
    /// There was no answer.
    Failed(Failure),
}

/// JetStream's error codes that mean something to us.
pub(super) mod code {
    const CONSUMER_NOT_FOUND: u64 = 10014;
    pub(in super::super) const NOT_ENABLED_FOR_ACCOUNT: u64 = 10039;
    pub(in super::super) const INVALID_CONFIG: u64 = 10052;
    pub(in super::super) const STREAM_EXISTS: u64 = 10058;
    pub(in super::super) const STREAM_NOT_FOUND: u64 = 10059;
    pub(in super::super) const SUBJECTS_OVERLAP: u64 = 10065;
    pub(in super::super) const REPLICAS_NOT_SUPPORTED: u64 = 10074;
    pub(in super::super) const NOT_ENABLED: u64 = 10076;

    /// There is no such durable: of a stream that is gone, JetStream names only the stream.
    pub(in super::super) const NO_DURABLE: &[u64] = &[CONSUMER_NOT_FOUND, STREAM_NOT_FOUND];
}

impl Api {
    pub(super) fn new(client: Client, domain: Option<&str>) -> Self {
        let prefix = match domain {
            Some(domain) => format!("$JS.{domain}.API").into(),
            None => "$JS.API".into(),
        };
        Self { client, prefix }
    }

    /// The subject of `verb`.
    pub(super) fn subject(&self, verb: &str) -> String {
        format!("{}.{verb}", self.prefix)
    }

    /// Asks, and gives what JetStream answered.
    pub(super) async fn call(&self, verb: &str, body: &Value) -> Result<Value, ApiError> {
        let payload = match body {
            Value::Null => Bytes::new(),
            body => body.to_string().into(),
        };
        let request = Request::new().payload(payload);
        let answer = self.client.send_request(self.subject(verb), request).await;
        let answer = answer.map_err(|error| {
            let (kind, text) = match error.kind() {
                RequestErrorKind::TimedOut => {
                    (FailureKind::TimedOut, "JetStream did not answer in time")
                }
                RequestErrorKind::NoResponders => {
                    (FailureKind::Broker, "nobody answers for JetStream there")
                }
                _ => (FailureKind::Disconnected, "the connection is down"),
            };
            ApiError::Failed(Failure::caused(kind, format!("{text} ({verb})"), error))
        })?;
        let value: Value = serde_json::from_slice(&answer.payload).map_err(|error| {
            let text = format!("JetStream's answer to {verb} is not JSON");
            ApiError::Failed(Failure::caused(FailureKind::Broker, text, error))
        })?;
        match value.get("error") {
            None => Ok(value),
            Some(error) => Err(ApiError::Refused {
                code: error["err_code"].as_u64().unwrap_or(0),
                text: error["description"]
                    .as_str()
                    .unwrap_or("no reason given")
                    .into(),
            }),
        }
    }

    /// What is there, or `None` if JetStream says that it is not: by one of `missing`, never by any other error.
    pub(super) async fn look(
        &self,
        verb: &str,
        missing: &[u64],
    ) -> Result<Option<Value>, ApiError> {
        match self.call(verb, &Value::Null).await {
            Ok(value) => Ok(Some(value)),
            Err(ApiError::Refused { code, .. }) if missing.contains(&code) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn stream(&self, name: &str) -> Result<Option<Value>, ApiError> {
        let verb = format!("STREAM.INFO.{name}");
        self.look(&verb, &[code::STREAM_NOT_FOUND]).await
    }
}

impl ApiError {
    pub(super) fn is(&self, wanted: u64) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted)
    }

    /// The same for people, and for those who may try again.
    pub(super) fn into_failure(self) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::Refused { code, text } => {
                Failure::new(FailureKind::Broker, format!("JetStream: {text} ({code})"))
            }
        }
    }
}
