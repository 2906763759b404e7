//! The URL: which servers, and who we are. What it does not know it refuses.

use crate::backend::url::{read_host, unescape, wrong};
use crate::error::ConnectError;
use std::fmt;

/// One server of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// A name or an address; IPv6 in brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) servers: Vec<Server>,
    pub(super) login: Option<Login>,
}

/// The part before the `@`.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    Password { user: String, password: String },
    Token(String),
}

const PORT: u16 = 4222;
const A_LOGIN: &str = "the part before `@`";

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "nats" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user}, ***)"),
            Self::Token(_) => f.write_str("Token(***)"),
        }
    }
}

/// Reads `nats://[user:password@|token@]host[:port][,host[:port]...]`, or the same with `tls://`.
pub(super) fn parse(url: &str) -> Result<Parsed, ConnectError> {
    let (scheme, rest) = url.split_once("://").ok_or_else(|| {
        wrong("there is no scheme; expected nats://host:4222 or tls://host:4222".into())
    })?;
    let tls = match scheme {
        "nats" => false,
        "tls" => true,
        other => {
            return Err(wrong(format!(
                "the scheme `{other}` is not known here; expected nats or tls"
            )));
        }
    };
    let (login, hosts) = match rest.rsplit_once('@') {
        Some((login, hosts)) => (Some(read_login(login)?), hosts),
        None => (None, rest),
    };
    // A single slash at the end is what URL libraries add by themselves.
    let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
    if let Some(at) = hosts.find(['/', '?', '#']) {
        return Err(wrong(format!(
            "`{}` is not understood: set options with nats::Options, not in the URL",
            &hosts[at..]
        )));
    }
    let servers = hosts.split(',').map(|host| {
        let (host, port) = read_host(host, PORT)?;
        Ok(Server {
            host: host.into(),
            port,
            tls,
        })
    });
    let servers = servers.collect::<Result<_, ConnectError>>()?;
    Ok(Parsed { servers, login })
}

fn read_login(login: &str) -> Result<Login, ConnectError> {
    if login.contains(['/', '@', ',']) {
        // Not quoted: it may be a part of the password.
        return Err(wrong(
            "the part before `@` has a character that must be written as %XX; it goes once, before the first host"
                .into(),
        ));
    }
    let login = match login.split_once(':') {
        Some((user, password)) => Login::Password {
            user: unescape(user, A_LOGIN)?,
            password: unescape(password, A_LOGIN)?,
        },
        None => Login::Token(unescape(login, A_LOGIN)?),
    };
    match &login {
        Login::Password { user, .. } if user.is_empty() => {
            Err(wrong("the user before `@` is empty".into()))
        }
        Login::Token(token) if token.is_empty() => {
            Err(wrong("there is nothing before the `@`".into()))
        }
        _ => Ok(login),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, port: u16, tls: bool) -> Server {
        Server {
            host: host.into(),
            port,
            tls,
        }
    }

    #[test]
    fn hosts_ports_and_logins() {
        let plain = parse("nats://localhost").expect("a host");
        assert_eq!(plain.servers, [server("localhost", 4222, false)]);
        assert_eq!(plain.login, None);

        let list = parse("tls://u%40x:p%3Aw@a:1,b,[::1]:9,10.0.0.1/").expect("a list");
        assert_eq!(
            list.servers,
            [
                server("a", 1, true),
                server("b", 4222, true),
                server("[::1]", 9, true),
                server("10.0.0.1", 4222, true)
            ]
        );
        assert_eq!(
            list.login,
            Some(Login::Password {
                user: "u@x".into(),
                password: "p:w".into()
            })
        );
        let token = parse("nats://s3cret@h").expect("a token").login;
        assert_eq!(token, Some(Login::Token("s3cret".into())));
    }

    #[test]
    fn what_is_not_known_is_refused_and_named() {
        for (url, named) in [
            ("localhost:4222", "scheme"),
            ("http://h", "`http`"),
            ("nats://", "not a host"),
            ("nats://h:0", "`0`"),
            ("nats://h:99999", "`99999`"),
            ("nats://h:x", "`x`"),
            ("nats://h/stream", "`/stream`"),
            ("nats://h?tls=1", "`?tls=1`"),
            ("nats://h#a", "`#a`"),
            ("nats://a,,b", "not a host"),
            ("nats://a b", "`a b`"),
            ("nats://::1", "not a"),
            ("nats://@h", "nothing before"),
            ("nats://:p@h", "user"),
            ("nats://u:%zz@h", "hex"),
            ("nats://u:p@a,u:p@b", "once"),
        ] {
            let error = parse(url).expect_err(url);
            assert!(matches!(error, ConnectError::Config { .. }), "{url}");
            assert!(error.to_string().contains(named), "{url}: {error}");
        }
    }

    #[test]
    fn an_error_never_tells_the_password() {
        for url in [
            "nats://u:hunter2/@h",
            "nats://u:hunter2%@h",
            "nats://u:hunter2@h/x",
        ] {
            let error = parse(url).expect_err(url).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
        let login = parse("nats://u:hunter2@h").expect("fine").login;
        assert!(!format!("{login:?}").contains("hunter2"));
    }
}
