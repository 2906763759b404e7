//! How a NATS server of our own is set up, and the configuration file that says so.

use crate::authority::Identity;
use std::fmt::Write;

/// Port of the server inside its container.
pub(crate) const PORT: u16 = 4222;
pub(crate) const CONFIG: &str = "/clearway.conf";
pub(crate) const DATA: &str = "/data";

/// A NATS server with JetStream. By default open to everybody, without TLS, its data on a volume.
#[derive(Clone, Debug, Default)]
pub struct Nats {
    pub(crate) access: Access,
    pub(crate) tls: Option<Tls>,
    pub(crate) store: Store,
    pub(crate) extra: String,
}

/// Whom the server lets in.
#[derive(Clone, Debug, Default)]
pub enum Access {
    /// Everybody.
    #[default]
    Open,
    /// Who knows this user and password.
    Password {
        /// The user.
        user: String,
        /// The password, in the clear.
        password: String,
    },
    /// Who knows this token.
    Token(String),
    /// Who can sign with the seed of this public user key.
    Nkey(String),
}

/// Where the server keeps its streams.
#[derive(Clone, Debug, Default)]
pub enum Store {
    /// A volume: survives stop and kill.
    #[default]
    Volume,
    /// A memory disk of so many bytes, for a disk that fills up. Emptied by a stop.
    Small {
        /// Size of the disk in bytes.
        bytes: u64,
        /// What the server believes it may use. `None`: a part of the disk, so it refuses in time; more than
        /// `bytes`: it runs into the end of the disk.
        limit: Option<u64>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) server: Identity,
    pub(crate) authority: String,
    pub(crate) ask_client: bool,
}

impl Nats {
    /// Lets in only who passes this.
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// User and password.
    pub fn password(self, user: &str, password: &str) -> Self {
        self.access(Access::Password {
            user: user.into(),
            password: password.into(),
        })
    }

    /// Users of this operator's account, each with a credentials file.
    pub fn operator(self, operator: &crate::Operator) -> anyhow::Result<Self> {
        Ok(self.line(&operator.config()?))
    }

    /// TLS with a certificate of this authority.
    pub fn tls(mut self, authority: &crate::Authority) -> anyhow::Result<Self> {
        let (server, authority) = (authority.server()?, authority.certificate().to_owned());
        self.tls = Some(Tls {
            server,
            authority,
            ask_client: false,
        });
        Ok(self)
    }

    /// TLS in both directions: a client needs a certificate of this authority too.
    pub fn mutual_tls(self, authority: &crate::Authority) -> anyhow::Result<Self> {
        let mut options = self.tls(authority)?;
        options.tls.iter_mut().for_each(|tls| tls.ask_client = true);
        Ok(options)
    }

    /// Keeps streams here.
    pub fn store(mut self, store: Store) -> Self {
        self.store = store;
        self
    }

    /// Adds a line to the server's configuration, for example `max_payload: 4096`.
    pub fn line(mut self, line: &str) -> Self {
        self.extra.push_str(line);
        self.extra.push('\n');
        self
    }

    /// The configuration file.
    pub(crate) fn config(&self, name: &str) -> String {
        let mut text = format!("server_name: {name}\nport: {PORT}\n");
        let limit = match self.store {
            Store::Small {
                limit: Some(limit), ..
            } => format!(", max_file_store: {limit}"),
            Store::Small { limit: None, .. } | Store::Volume => String::new(),
        };
        let _ = writeln!(text, "jetstream {{ store_dir: {DATA:?}{limit} }}");
        if let Some(tls) = &self.tls {
            let ask = if tls.ask_client { ", verify: true" } else { "" };
            let _ = writeln!(
                text,
                "tls {{ cert_file: /server.pem, key_file: /server.key, ca_file: /ca.pem{ask} }}"
            );
        }
        let _ = match &self.access {
            Access::Open => Ok(()),
            Access::Password { user, password } => {
                writeln!(
                    text,
                    "authorization {{ user: {user:?}, password: {password:?} }}"
                )
            }
            Access::Token(token) => writeln!(text, "authorization {{ token: {token:?} }}"),
            Access::Nkey(key) => writeln!(text, "authorization {{ users: [ {{ nkey: {key} }} ] }}"),
        };
        text + &self.extra
    }

    /// Every file the server reads, with its path in the container.
    pub(crate) fn files(&self, name: &str) -> Vec<(&'static str, String)> {
        let mut files = vec![(CONFIG, self.config(name))];
        if let Some(Tls {
            server, authority, ..
        }) = &self.tls
        {
            files.push(("/server.pem", server.certificate.clone()));
            files.push(("/server.key", server.key.clone()));
            files.push(("/ca.pem", authority.clone()));
        }
        files
    }
}
