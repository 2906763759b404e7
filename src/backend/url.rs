//! What the URLs of brokers share: hosts with their ports, and what is written as `%XX`. It never quotes what may be a password.

use crate::error::ConnectError;

/// Reads `host[:port]`, where the host is a name, an IPv4 address, or an IPv6 address in brackets, which it keeps.
pub(super) fn read_host(text: &str, port_if_none: u16) -> Result<(&str, u16), ConnectError> {
    let (host, port) = match text.rsplit_once(':') {
        // The colons inside brackets are the address's own.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        None => port_if_none,
        Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(|| {
            wrong(format!(
                "`{port}` in `{text}` is not a port, which is 1 to 65535"
            ))
        })?,
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let fine = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    };
    if !fine {
        return Err(wrong(format!(
            "`{text}` is not a host: expected a name, an IPv4 address, or an IPv6 address in brackets"
        )));
    }
    Ok((host, port))
}

/// Reads what is written with `%XX`. `what` says of which part of the URL an error is.
pub(super) fn unescape(text: &str, what: &str) -> Result<String, ConnectError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(high), Some(low)) => out.push((high << 4 | low) as u8),
            _ => {
                return Err(wrong(format!(
                    "a `%` in {what} is not followed by two hex digits"
                )));
            }
        }
    }
    String::from_utf8(out).map_err(|_| wrong(format!("{what} is not UTF-8")))
}

/// The URL is not understood.
pub(super) fn wrong(reason: String) -> ConnectError {
    ConnectError::config("URL", reason)
}
