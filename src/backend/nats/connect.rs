//! Connecting: one attempt at one server at a time, all within one timeout, and the reason typed.
//!
//! The bus alone decides when to connect again: it makes a session of a new generation. The
//! client's own reconnect would bring a lost connection back to life and send what it had buffered.
//! It cannot be switched off, so it is given nowhere to go: once connected, the client's list
//! of servers is replaced by an address at which nobody can listen, and one attempt at it is all
//! that it may make. From then on a lost connection ends the client, and nothing it held is sent.

use super::api::{Api, ApiError, code};
use super::latch::{Latch, SetOnDrop};
use super::options::{Auth, Options};
use super::url::Server;
use crate::backend::Host;
use crate::error::{ConnectError, Failure, FailureKind, Unsupported};
use crate::runtime::{Runtime, timeout};
use async_nats::{ConnectErrorKind, ConnectOptions};
use serde_json::Value;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

pub(super) const NAME: &str = "NATS";

/// Port 0 is no port: connecting to it fails at once, and nobody can listen there.
const NOWHERE: &str = "nats://127.0.0.1:0";

/// The oldest server that can do what we need of every server.
const OLDEST: (i64, i64) = (2, 10);

/// A client that will never reconnect, and the latch of its end.
pub(super) struct Connected {
    pub(super) api: Api,
    pub(super) client_gone: Arc<Latch>,
    /// Whether one member of a group at a time can be pinned (server 2.11).
    pub(super) can_pin: bool,
}

/// Connects to one of the servers.
#[allow(clippy::disallowed_methods, reason = "only looks whether it is there")]
pub(super) async fn connect(options: &Options, host: &dyn Host) -> Result<Connected, ConnectError> {
    options.check()?;
    // The client runs on tokio whatever the bus runs on.
    if tokio::runtime::Handle::try_current().is_err() {
        return Err(ConnectError::NoRuntime);
    }
    let runtime = host.runtime();
    let started = runtime.now();
    let mut servers: Vec<&Server> = options.servers.iter().collect();
    shuffle(&mut servers, runtime);
    let mut last = None;
    for (tried, server) in servers.iter().enumerate() {
        let left = options
            .connect_timeout
            .saturating_sub(runtime.now() - started);
        // Each gets its share, so that a silent one does not use up the time of the others.
        let share = left / (servers.len() - tried) as u32;
        let attempt = try_server(options, server, share, host.slots());
        match timeout(runtime, share, attempt).await {
            Some(Ok(connected)) => return Ok(connected),
            Some(Err(
                error @ (ConnectError::Config { .. } | ConnectError::Unauthorized { .. }),
            )) => {
                return Err(error);
            }
            Some(Err(error)) => last = Some(error),
            None => last = Some(silent(options, server)),
        }
    }
    Err(last.unwrap_or_else(|| ConnectError::config("URL", "there is no server in it")))
}

fn shuffle<T>(items: &mut [T], runtime: &Arc<dyn Runtime>) {
    for last in (1..items.len()).rev() {
        items.swap(last, (runtime.random() % (last as u64 + 1)) as usize);
    }
}

async fn try_server(
    options: &Options,
    server: &Server,
    share: Duration,
    slots: usize,
) -> Result<Connected, ConnectError> {
    let client_gone = Arc::new(Latch::default());
    let client = client_options(options, server, share, slots, client_gone.clone())
        .await?
        .connect(server.to_string())
        .await
        .map_err(|error| typed(options, server, error))?;
    let lost = |reason: String| unreachable(options, server, FailureKind::Disconnected, reason);
    client
        .set_server_pool(NOWHERE)
        .await
        .map_err(|error| lost(format!("the connection was lost again at once: {error}")))?;
    let version = client.server_info().version;
    let at_least = |(major, minor)| client.is_server_compatible(major, minor, 0);
    if !at_least(OLDEST) {
        return Err(unsupported(format!(
            "work with nats-server {version}; it must be {}.{} or newer",
            OLDEST.0, OLDEST.1
        )));
    }
    let can_pin = at_least((2, 11));
    let api = Api::new(client, options.domain.as_deref());
    ask_for_jetstream(&api, options, server).await?;
    Ok(Connected {
        api,
        client_gone,
        can_pin,
    })
}

async fn client_options(
    options: &Options,
    server: &Server,
    share: Duration,
    slots: usize,
    gone: Arc<Latch>,
) -> Result<ConnectOptions, ConnectError> {
    let gone = SetOnDrop(gone);
    let mut client = ConnectOptions::new()
        .name(&options.client_name)
        .connection_timeout(share)
        .request_timeout(Some(options.request_timeout))
        .ping_interval(options.ping_interval)
        // One attempt; see above why it leads nowhere.
        .max_reconnects(1)
        .ignore_discovered_servers()
        // An acknowledgement that finds no room is lost: there is room for all that can be in flight.
        .subscription_capacity(slots.saturating_mul(2).max(1 << 16))
        // The client drops this closure with its last task: that is how we know that it has ended.
        .event_callback(move |event| {
            let _ = &gone;
            tracing::debug!(%event, "nats client");
            std::future::ready(())
        });
    if options.wants_tls() || server.tls {
        client = client.require_tls(true);
    }
    let files = [
        ("tls_ca", options.tls_ca.as_ref()),
        (
            "tls_client",
            options.tls_client.as_ref().map(|(file, _)| file),
        ),
        (
            "tls_client",
            options.tls_client.as_ref().map(|(_, file)| file),
        ),
    ];
    for (setting, file) in files {
        // The client would say what is wrong, but not with which file.
        if let Some(file) = file
            && let Err(error) = std::fs::File::open(file)
        {
            let reason = format!("{}: {error}", file.display());
            return Err(ConnectError::config(setting, reason));
        }
    }
    if let Some(ca) = &options.tls_ca {
        client = client.add_root_certificates(ca.clone());
    }
    if let Some((certificate, key)) = &options.tls_client {
        client = client.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(match options.auth.clone() {
        Auth::Nobody => client,
        Auth::Password { user, password } => client.user_and_password(user, password),
        Auth::Token(token) => client.token(token),
        Auth::NkeySeed(seed) => client.nkey(seed),
        Auth::CredentialsFile(path) => client.credentials_file(&path).await.map_err(|error| {
            ConnectError::config("credentials_file", format!("{}: {error}", path.display()))
        })?,
    })
}

async fn ask_for_jetstream(
    api: &Api,
    options: &Options,
    server: &Server,
) -> Result<(), ConnectError> {
    let Err(error) = api.call("INFO", &Value::Null).await else {
        return Ok(());
    };
    Err(match error {
        ApiError::Refused {
            code: code::NOT_ENABLED | code::NOT_ENABLED_FOR_ACCOUNT,
            text,
        } => unsupported(format!(
            "work with {server}: {text}; start it with JetStream (-js)"
        )),
        ApiError::Failed(failure) if failure.kind() == FailureKind::Broker => unsupported(format!(
            "work with {server}: {failure}; start it with JetStream (-js), or check the domain"
        )),
        error => {
            let failure = error.into_failure();
            unreachable(options, server, failure.kind(), failure.to_string())
        }
    })
}

/// What the client says, as what the caller asks next: is it the settings, the credentials, or the way there?
fn typed(options: &Options, server: &Server, error: async_nats::ConnectError) -> ConnectError {
    let text = chain(error.kind().to_string(), error.source());
    let unauthorized = |text: String| ConnectError::Unauthorized {
        endpoint: server.to_string(),
        failure: Failure::new(FailureKind::Unauthorized, text),
    };
    let no_nats = |text: String| ConnectError::NotABroker {
        endpoint: server.to_string(),
        backend: NAME,
        failure: Failure::new(FailureKind::Unsupported, text),
    };
    let lower = text.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    match error.kind() {
        ConnectErrorKind::ServerParse => ConnectError::config("URL", text),
        ConnectErrorKind::Authentication => ConnectError::config(
            "credentials",
            format!("the nkey seed or the credentials file cannot be used: {text}"),
        ),
        ConnectErrorKind::Tls => ConnectError::config("tls", text),
        ConnectErrorKind::AuthorizationViolation => unauthorized(text),
        ConnectErrorKind::TimedOut => silent(options, server),
        _ if says(REFUSES) => unauthorized(text),
        _ if says(UNTRUSTED) => {
            let text = format!("{text}; name the authority that signed it with Options::tls_ca");
            unreachable(options, server, FailureKind::Unauthorized, text)
        }
        _ if says(NO_TLS) => no_nats(format!("it does not speak TLS: {text}")),
        _ if says(NO_GREETING) => no_nats(format!("no NATS greeting came: {text}")),
        _ => unreachable(options, server, FailureKind::Disconnected, text),
    }
}

/// What the client and its TLS say, in lower case, that has no kind of its own.
const REFUSES: &[&str] = &[
    "authorization",
    "authentication",
    "certificate required",
    "certificaterequired",
    "bad certificate",
    "badcertificate",
];
const UNTRUSTED: &[&str] = &["invalid peer certificate", "invalid certificate"];
const NO_TLS: &[&str] = &["corrupt message"];
const NO_GREETING: &[&str] = &[
    "invalid server operation",
    "expected info",
    "unable to parse",
];

fn silent(options: &Options, server: &Server) -> ConnectError {
    let text = "nothing came: either nobody is there, or what is there does not greet as a NATS server does";
    unreachable(options, server, FailureKind::TimedOut, text.into())
}

fn unreachable(
    options: &Options,
    server: &Server,
    kind: FailureKind,
    text: String,
) -> ConnectError {
    ConnectError::Unreachable {
        endpoint: server.to_string(),
        limit: options.connect_timeout,
        failure: Failure::new(kind, text),
    }
}

pub(super) fn unsupported(what: String) -> ConnectError {
    Unsupported {
        backend: NAME,
        what: what.into(),
    }
    .into()
}

/// A reason and all that caused it, in one line, each said once.
fn chain(mut text: String, mut next: Option<&(dyn Error + 'static)>) -> String {
    while let Some(cause) = next {
        let more = cause.to_string();
        if more.contains(&text) {
            text = more;
        } else if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    // It may quote what came, which may be anything.
    text.trim_end().chars().map(visible).collect()
}

fn visible(c: char) -> char {
    if c.is_control() { ' ' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: ConnectErrorKind, text: &str) -> ConnectError {
        let options = Options::from_url("nats://h:1").expect("fine");
        let error = async_nats::ConnectError::with_source(kind, text.to_owned());
        typed(&options, &options.servers[0], error)
    }

    #[test]
    fn every_reason_has_its_type() {
        use ConnectErrorKind::*;
        for (error, wanted) in [
            (
                of(AuthorizationViolation, "authorization violation"),
                "Unauthorized",
            ),
            (of(Io, "nats: User Authentication Expired"), "Unauthorized"),
            (
                of(Io, "received fatal alert: CertificateRequired"),
                "Unauthorized",
            ),
            (of(Io, "invalid server operation: 'SSH-2.0'"), "NotABroker"),
            (of(Io, "expected INFO, got nothing"), "NotABroker"),
            (
                of(Io, "received corrupt message of type InvalidContentType"),
                "NotABroker",
            ),
            (of(Io, "Connection refused (os error 111)"), "Unreachable"),
            (
                of(Io, "invalid peer certificate: UnknownIssuer"),
                "Unreachable",
            ),
            (of(TimedOut, ""), "Unreachable"),
            (of(Dns, "failed to lookup address"), "Unreachable"),
            (of(Tls, "No such file"), "Config"),
            (of(Authentication, "seed"), "Config"),
        ] {
            assert!(format!("{error:?}").starts_with(wanted), "{error:?}");
            assert!(
                error.to_string().contains("h:1") || wanted == "Config",
                "{error}"
            );
        }
        let untrusted = of(Io, "invalid peer certificate: UnknownIssuer").to_string();
        assert!(untrusted.contains("tls_ca"), "{untrusted}");
        let quoted = of(Io, "invalid server operation: 'SSH-2.0\r\n'").to_string();
        assert!(!quoted.contains(char::is_control), "{quoted:?}");
    }
}
