//! Options: everything about a NATS connection that is not in the URL.

use super::names;
use super::url::{self, Login, Server};
use crate::config::Durability;
use crate::error::ConnectError;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How to connect to NATS, and how topics, publishes and consumers are there.
///
/// ```
/// use clearway::backend::nats::{Nats, Options};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), clearway::ConnectError> {
/// let options = Options::from_url("tls://one:4222,two:4222")?
///     .user_password("orders", "s3cret")
///     .tls_ca("/etc/clearway/ca.pem")
///     .publish_timeout(Duration::from_secs(5));
/// let backend = Nats::new(options);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) servers: Vec<Server>,
    pub(super) auth: Auth,
    pub(super) tls_ca: Option<PathBuf>,
    pub(super) tls_client: Option<(PathBuf, PathBuf)>,
    pub(super) client_name: String,
    pub(super) domain: Option<String>,
    pub(super) stream: Option<String>,
    pub(super) storage: Durability,
    pub(super) replicas: u32,
    pub(super) duplicate_window: Duration,
    pub(super) ack_wait: Duration,
    pub(super) share: bool,
    pub(super) connect_timeout: Duration,
    pub(super) request_timeout: Duration,
    pub(super) publish_timeout: Duration,
    pub(super) ping_interval: Duration,
}

/// Who we are. Its `Debug` keeps secrets to itself.
#[derive(Clone)]
pub(super) enum Auth {
    Nobody,
    Password { user: String, password: String },
    Token(String),
    CredentialsFile(PathBuf),
    NkeySeed(String),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("Nobody"),
            Self::Password { user, .. } => write!(f, "Password({user:?}, ***)"),
            Self::Token(_) => f.write_str("Token(***)"),
            Self::CredentialsFile(path) => write!(f, "CredentialsFile({path:?})"),
            Self::NkeySeed(_) => f.write_str("NkeySeed(***)"),
        }
    }
}

impl Options {
    /// Options for `nats://[user:password@|token@]host[:port][,host[:port]...]`, or the same with `tls://`.
    /// All else is as its method says.
    pub fn from_url(url: &str) -> Result<Self, ConnectError> {
        let url::Parsed { servers, login } = url::parse(url)?;
        Ok(Self {
            servers,
            auth: match login {
                None => Auth::Nobody,
                Some(Login::Password { user, password }) => Auth::Password { user, password },
                Some(Login::Token(token)) => Auth::Token(token),
            },
            tls_ca: None,
            tls_client: None,
            client_name: "clearway".into(),
            domain: None,
            stream: None,
            storage: Durability::Stored,
            replicas: 1,
            duplicate_window: Duration::from_secs(120),
            ack_wait: Duration::from_secs(30),
            share: true,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            publish_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(5),
        })
    }

    /// Adds the servers of another URL. They are tried in a random order; a login in it replaces
    /// the one there was.
    pub fn and_url(mut self, url: &str) -> Result<Self, ConnectError> {
        let url::Parsed { servers, login } = url::parse(url)?;
        self.servers.extend(servers);
        Ok(match login {
            None => self,
            Some(Login::Password { user, password }) => self.user_password(user, password),
            Some(Login::Token(token)) => self.token(token),
        })
    }

    /// Logs in with a user and a password.
    pub fn user_password(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.auth = Auth::Password {
            user: user.into(),
            password: password.into(),
        };
        self
    }

    /// Logs in with a token.
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.auth = Auth::Token(token.into());
        self
    }

    /// Logs in with a credentials file (`.creds`: a JWT and a seed).
    pub fn credentials_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.auth = Auth::CredentialsFile(path.into());
        self
    }

    /// Logs in with an nkey, by its seed (`SU...`).
    pub fn nkey_seed(mut self, seed: impl Into<String>) -> Self {
        self.auth = Auth::NkeySeed(seed.into());
        self
    }

    /// Trusts the certificate authorities in this PEM file, instead of the system's, and asks for TLS.
    pub fn tls_ca(mut self, path: impl Into<PathBuf>) -> Self {
        self.tls_ca = Some(path.into());
        self
    }

    /// Shows this certificate (PEM file) with this key (PEM file), and asks for TLS.
    pub fn tls_client(mut self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.tls_client = Some((certificate.into(), key.into()));
        self
    }

    /// The name under which the server lists the connection. `clearway` if not set.
    pub fn client_name(mut self, name: impl Into<String>) -> Self {
        self.client_name = name.into();
        self
    }

    /// The JetStream domain to work in.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.domain = Some(domain.into());
        self
    }

    /// Keeps every topic in this one stream, instead of a stream for each. Its retention is then the
    /// stream's own: it cannot be set for a topic.
    ///
    /// The server takes a stream's whole configuration at each change, and the last writer wins. A
    /// change is therefore looked at again a moment later and repeated if another writer undid it.
    pub fn stream(mut self, name: impl Into<String>) -> Self {
        self.stream = Some(name.into());
        self
    }

    /// Where streams that we make keep what they have when a topic does not say:
    /// [`Stored`](Durability::Stored) in files (if not set), [`Volatile`](Durability::Volatile) in memory.
    pub fn storage(mut self, storage: Durability) -> Self {
        self.storage = storage;
        self
    }

    /// How many servers hold a copy of streams that we make, when a topic does not say. 1 if not set.
    pub fn replicas(mut self, replicas: u32) -> Self {
        self.replicas = replicas;
        self
    }

    /// For how long streams that we make recognise an envelope sent twice. 2 minutes if not set.
    pub fn duplicate_window(mut self, window: Duration) -> Self {
        self.duplicate_window = window;
        self
    }

    /// After how long a delivery that was not answered is made again. 30 s if not set. It is also how
    /// long a group's member that fell silent keeps its partitions, and how often it looks whether somebody has changed its durables,
    /// every 30 s at least.
    ///
    /// Of the members of one group the longest counts: a durable that waits longer already is let be.
    pub fn ack_wait(mut self, wait: Duration) -> Self {
        self.ack_wait = wait;
        self
    }

    /// Whether members of a group give up partitions for each other, so that none has more than its share. `true` if not set.
    ///
    /// Members tell each other that they are there over core NATS, on `_CLEARWAY.MEMBERS.>`, every eighth of [`ack_wait`](Self::ack_wait)
    /// (250 ms to 3 s). Who has had more than its share for two of these gives up one partition after the other, each once its handlers
    /// have ended, and who has its share asks for no more. A member that may not publish or
    /// subscribe there, or has this turned off, is not counted and gives up nothing; one that was not heard for three and a
    /// half of its beats is gone.
    pub fn share(mut self, on: bool) -> Self {
        self.share = on;
        self
    }

    /// How long connecting may take, over all servers. 5 s if not set.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long the server may take to answer a request about streams and consumers. 5 s if not set.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// How long a publish may wait for its acknowledgement, reconnects included. 10 s if not set.
    pub fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = timeout;
        self
    }

    /// How often a quiet connection is tried. 5 s if not set; a server that has not answered two of them
    /// at the third is lost.
    pub fn ping_interval(mut self, interval: Duration) -> Self {
        self.ping_interval = interval;
        self
    }

    /// Refuses what cannot work, before anything is tried.
    pub(super) fn check(&self) -> Result<(), ConnectError> {
        let refuse = |setting: &str, reason: &str| Err(ConnectError::config(setting, reason));
        if let Some(reason) = self.stream.as_deref().and_then(names::refuse_stream) {
            return refuse("stream", &reason);
        }
        if let Some(domain) = &self.domain
            && names::refuse_stream(domain).is_some()
        {
            return refuse(
                "domain",
                "it must be one token without '.', '*', '>' or spaces",
            );
        }
        if self.storage > Durability::Stored {
            return refuse(
                "storage",
                "NATS cannot promise Synced; the strongest is Stored",
            );
        }
        if !(1..=5).contains(&self.replicas) {
            return refuse("replicas", "must be 1 to 5");
        }
        for (setting, value) in [
            ("ack_wait", self.ack_wait),
            ("duplicate_window", self.duplicate_window),
            ("ping_interval", self.ping_interval),
            ("connect_timeout", self.connect_timeout),
            ("request_timeout", self.request_timeout),
            ("publish_timeout", self.publish_timeout),
        ] {
            let least = match setting {
                "ack_wait" => Duration::from_secs(1),
                "duplicate_window" | "ping_interval" => Duration::from_millis(100),
                _ => Duration::from_millis(1),
            };
            if value < least {
                return refuse(setting, &format!("must be at least {least:?}"));
            }
        }
        Ok(())
    }

    /// The servers, without secrets.
    pub(super) fn endpoint(&self) -> String {
        let all: Vec<_> = self.servers.iter().map(Server::to_string).collect();
        all.join(",")
    }

    pub(super) fn wants_tls(&self) -> bool {
        self.tls_ca.is_some() || self.tls_client.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_and_endpoint_keep_secrets() {
        let options = Options::from_url("nats://u:hunter2@h").expect("fine");
        let shown = [
            format!("{options:?}"),
            options.endpoint(),
            format!("{:?}", options.clone().token("hunter2")),
            format!("{:?}", options.clone().nkey_seed("hunter2")),
        ];
        assert!(!shown.concat().contains("hunter2"), "{shown:?}");
        assert_eq!(options.endpoint(), "nats://h:4222");
    }

    #[test]
    fn options_that_cannot_work_are_refused_by_name() {
        let fine = || Options::from_url("nats://h").expect("fine");
        assert!(fine().check().is_ok());
        for (options, setting) in [
            (fine().stream("a.b"), "stream"),
            (fine().domain("a.b"), "domain"),
            (fine().storage(Durability::Synced), "storage"),
            (fine().replicas(0), "replicas"),
            (fine().publish_timeout(Duration::ZERO), "publish_timeout"),
            (fine().ack_wait(Duration::from_millis(5)), "ack_wait"),
        ] {
            let error = options.check().expect_err(setting);
            assert!(error.to_string().starts_with(setting), "{error}");
        }
    }

    #[test]
    fn another_url_adds_servers() {
        let options = Options::from_url("nats://a").and_then(|o| o.and_url("tls://t@b:1"));
        assert_eq!(options.expect("fine").endpoint(), "nats://a:4222,tls://b:1");
    }
}
