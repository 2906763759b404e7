//! Where a server under test came from, for the reader of a run or of a history.

use serde::Serialize;
use std::fmt;

/// Which server a test ran against, from which image, and how it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Which backend of the bus it is for, as histories name it: `nats` or `kafka`.
    pub backend: &'static str,
    /// Product and version as the server itself says, for example `nats-server 2.15.1`.
    pub server: String,
    /// The image, where the server runs in a container of ours.
    pub image: Option<String>,
    /// How it was found: given, pulled, built here.
    pub way: String,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.image {
            Some(image) => write!(f, "{}, {image} ({})", self.server, self.way),
            None => write!(f, "{}, {}", self.server, self.way),
        }
    }
}
