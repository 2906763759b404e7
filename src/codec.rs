//! Codec: how a value becomes a payload, and how it comes back.

use bytes::Bytes;
use std::error::Error;

/// Why a value could not be encoded or decoded.
pub type CodecError = Box<dyn Error + Send + Sync>;

/// Turns values of `T` into payloads and back. The bus itself never looks into a payload.
pub trait Codec<T>: Send + Sync + 'static {
    /// The payload of `value`.
    fn encode(&self, value: &T) -> Result<Bytes, CodecError>;

    /// The value in `payload`.
    fn decode(&self, payload: &Bytes) -> Result<T, CodecError>;
}

/// Payloads as they are: `T` is [`Bytes`]. Copies nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Codec<Bytes> for Raw {
    fn encode(&self, value: &Bytes) -> Result<Bytes, CodecError> {
        Ok(value.clone())
    }

    fn decode(&self, payload: &Bytes) -> Result<Bytes, CodecError> {
        Ok(payload.clone())
    }
}

/// JSON by serde: the default of typed topics.
#[cfg(feature = "json")]
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

#[cfg(feature = "json")]
impl<T: serde::Serialize + serde::de::DeserializeOwned> Codec<T> for Json {
    fn encode(&self, value: &T) -> Result<Bytes, CodecError> {
        Ok(Bytes::from(serde_json::to_vec(value)?))
    }

    fn decode(&self, payload: &Bytes) -> Result<T, CodecError> {
        Ok(serde_json::from_slice(payload)?)
    }
}
