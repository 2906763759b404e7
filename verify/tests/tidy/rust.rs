//! As much of Rust as the rules need: comments and literals out of the way, words, `use` items.

/// `text` with comments and the insides of literals blanked; lines stay where they are.
pub fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = match bytes[at] {
            b'/' if bytes[at..].starts_with(b"//") => line_end(bytes, at),
            b'/' if bytes[at..].starts_with(b"/*") => comment_end(bytes, at),
            b'"' => string_end(bytes, at + 1),
            b'r' if !part_of_word(bytes, at) => match raw_string_end(bytes, at) {
                Some(end) => end,
                None => at,
            },
            b'\'' => char_end(bytes, at).unwrap_or(at),
            _ => at,
        };
        if end == at {
            at += 1;
            continue;
        }
        blank(&mut out[at..end]);
        at = end;
    }
    String::from_utf8(out).expect("whole characters were blanked")
}

/// The part before the unit tests, which by custom are last.
pub fn production(text: &str) -> &str {
    match text.find("#[cfg(test)]\nmod ") {
        Some(tests) => &text[..tests],
        None => text,
    }
}

/// Identifiers and keywords, with the number of their line.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(at, line)| {
        line.split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|word| word.starts_with(|c: char| c.is_alphabetic() || c == '_'))
            .map(move |word| (at + 1, word))
    })
}

/// The parts of an identifier, in small letters: `lastConn`, `last_conn` and `LAST_CONN` have `conn`.
pub fn parts(word: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut before = '_';
    for c in word.chars() {
        if c == '_' || (c.is_uppercase() && before.is_lowercase()) {
            parts.push(String::new());
        }
        if c != '_' {
            parts
                .last_mut()
                .expect("there is a first")
                .extend(c.to_lowercase());
        }
        before = c;
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// Every path that a `use` item brings in, written out: `use a::{b, c::d};` is `a::b` and `a::c::d`.
pub fn uses(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let flat = code.replace('\n', " ");
    for item in flat.split(';') {
        let Some(at) = item.rfind("use ") else {
            continue;
        };
        if item[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        spread("", item[at + 4..].trim(), &mut paths);
    }
    paths
}

fn spread(prefix: &str, rest: &str, paths: &mut Vec<String>) {
    match rest.find('{') {
        None => paths.push(format!("{prefix}{}", rest.trim())),
        Some(open) => {
            let prefix = format!("{prefix}{}", rest[..open].trim());
            let inner = &rest[open + 1..rest.rfind('}').unwrap_or(rest.len())];
            let (mut depth, mut start) = (0, 0);
            for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 0 => {
                        if !inner[start..at].trim().is_empty() {
                            spread(&prefix, inner[start..at].trim(), paths);
                        }
                        start = at + 1;
                    }
                    _ => {}
                }
            }
        }
    }
}

fn blank(bytes: &mut [u8]) {
    bytes
        .iter_mut()
        .filter(|byte| **byte != b'\n')
        .for_each(|byte| *byte = b' ');
}

fn part_of_word(bytes: &[u8], at: usize) -> bool {
    // `br"..."` and `cr"..."` are raw strings as well.
    let before = match at {
        0 => return false,
        1 => bytes[0],
        _ if matches!(bytes[at - 1], b'b' | b'c') => bytes[at - 2],
        _ => bytes[at - 1],
    };
    before.is_ascii_alphanumeric() || before == b'_'
}

fn line_end(bytes: &[u8], at: usize) -> usize {
    bytes[at..]
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(bytes.len(), |n| at + n)
}

fn comment_end(bytes: &[u8], at: usize) -> usize {
    let (mut depth, mut at) = (0, at);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if bytes[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    bytes.len()
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..]
        .iter()
        .take_while(|byte| **byte == b'#')
        .count();
    let open = at + 1 + hashes;
    (bytes.get(open) == Some(&b'"')).then(|| {
        let close: Vec<u8> = [b'"']
            .into_iter()
            .chain(std::iter::repeat_n(b'#', hashes))
            .collect();
        let inner = &bytes[open + 1..];
        let end = inner
            .windows(close.len())
            .position(|window| window == close);
        end.map_or(bytes.len(), |n| open + 1 + n + close.len())
    })
}

/// `'x'` and `'\n'` are literals, `'a` in `<'a>` is not.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = std::str::from_utf8(&bytes[at + 1..]).ok()?;
    let mut chars = rest.char_indices();
    let (_, first) = chars.next()?;
    if first == '\\' {
        let close = rest[2..].find('\'')?;
        return Some(at + 1 + 2 + close + 1);
    }
    let (next, close) = chars.next()?;
    (close == '\'').then_some(at + 1 + next + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_out_of_the_way_and_lines_stay() {
        let text =
            "let a = \"x // y\"; // b\n/* c /* d */ e */ f('\"', '\\'', r#\"g\"h\"#, 'i: j);";
        let seen = code(text);
        assert_eq!(seen.len(), text.len());
        assert_eq!(seen.lines().count(), 2);
        let words: Vec<_> = words(&seen).map(|(_, word)| word).collect();
        assert_eq!(words, ["let", "a", "f", "i", "j"]);
    }

    #[test]
    fn a_word_comes_apart_at_humps_and_underscores() {
        assert_eq!(parts("lastConnId"), ["last", "conn", "id"]);
        assert_eq!(parts("LAST_CONN"), ["last", "conn"]);
        assert_eq!(parts("connection"), ["connection"]);
    }

    #[test]
    fn a_use_item_is_written_out() {
        let paths = uses("pub use a::{b, c::{d, e as f}};\nlet x = 1;\nuse g::*;");
        assert_eq!(paths, ["a::b", "a::c::d", "a::c::e as f", "g::*"]);
    }
}
