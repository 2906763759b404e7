//! The URL: which brokers, and native options. What it does not know it refuses.

use crate::backend::url::{read_host, unescape, wrong};
use crate::error::ConnectError;

/// What a URL says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    /// `host:port`, each.
    pub(super) servers: Vec<String>,
    /// Names and values, in order.
    pub(super) options: Vec<(String, String)>,
}

const PORT: u16 = 9092;
const AN_OPTION: &str = "an option";

/// Reads `kafka://host[:port][,host[:port]...][/?option=value[&option=value...]]`.
pub(super) fn parse(url: &str) -> Result<Parsed, ConnectError> {
    let rest = url
        .strip_prefix("kafka://")
        .ok_or_else(|| wrong("the scheme is not kafka; expected kafka://host:9092".into()))?;
    let (hosts, query) = match rest.split_once('?') {
        Some((hosts, query)) => (hosts, Some(query)),
        None => (rest, None),
    };
    if hosts.contains('@') {
        // Not quoted: it may be a password.
        return Err(wrong(
            "there is an `@`: a login goes into the options sasl.username and sasl.password".into(),
        ));
    }
    // A single slash at the end is what URL libraries add by themselves.
    let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
    if let Some(at) = hosts.find(['/', '#']) {
        return Err(wrong(format!(
            "`{}` is not understood; options come behind `/?`",
            &hosts[at..]
        )));
    }
    let servers = hosts.split(',').map(|host| {
        let (host, port) = read_host(host, PORT)?;
        Ok(format!("{host}:{port}"))
    });
    let servers = servers.collect::<Result<_, ConnectError>>()?;
    let options = match query {
        None | Some("") => Vec::new(),
        Some(query) => query
            .split('&')
            .map(read_option)
            .collect::<Result<_, _>>()?,
    };
    Ok(Parsed { servers, options })
}

fn read_option(text: &str) -> Result<(String, String), ConnectError> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(wrong("an option has no `=`; expected option=value".into()));
    };
    let name = unescape(name, AN_OPTION)?;
    let fine = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_');
    if name.is_empty() || !name.bytes().all(fine) {
        return Err(wrong(format!("`{name}` is not the name of an option")));
    }
    Ok((name, unescape(value, AN_OPTION)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_ports_and_options() {
        let plain = parse("kafka://localhost").expect("a host");
        assert_eq!(plain.servers, ["localhost:9092"]);
        assert_eq!(plain.options, []);

        let list = parse("kafka://a:1,b,[::1]:9,10.0.0.1/?linger.ms=5&sasl.password=p%26%3D%25w")
            .expect("a list");
        assert_eq!(list.servers, ["a:1", "b:9092", "[::1]:9", "10.0.0.1:9092"]);
        let options: Vec<_> = (list.options.iter())
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(options, [("linger.ms", "5"), ("sasl.password", "p&=%w")]);
    }

    #[test]
    fn what_is_not_known_is_refused_and_named() {
        for (url, named) in [
            ("localhost:9092", "scheme"),
            ("nats://h", "scheme"),
            ("kafka://", "not a host"),
            ("kafka://h:0", "`0`"),
            ("kafka://h:99999", "`99999`"),
            ("kafka://h/topic", "`/topic`"),
            ("kafka://h#a", "`#a`"),
            ("kafka://a,,b", "not a host"),
            ("kafka://a b", "`a b`"),
            ("kafka://u:p@h", "sasl.username"),
            ("kafka://h/?linger.ms", "no `=`"),
            ("kafka://h/?=5", "not the name"),
            ("kafka://h/?Linger=5", "`Linger`"),
            ("kafka://h/?a=%zz", "hex"),
        ] {
            let error = parse(url).expect_err(url);
            assert!(matches!(error, ConnectError::Config { .. }), "{url}");
            assert!(error.to_string().contains(named), "{url}: {error}");
        }
    }

    #[test]
    fn an_error_never_tells_the_password() {
        for url in [
            "kafka://u:hunter2@h",
            "kafka://h/?sasl.password=hunter2%",
            "kafka://h/?sasl.passwordhunter2",
        ] {
            let error = parse(url).expect_err(url).to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
