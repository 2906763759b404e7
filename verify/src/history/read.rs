//! Reading a history: a file from anybody, so every refusal says where and what was expected.

use super::event::Line;
use super::{Entry, Header, History, VERSION};
use serde::Deserialize;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Why a file is not a history.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be read.
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is not what the format says.
    Line {
        /// The line, from 1.
        line: usize,
        /// The column, from 1; 0 where the whole line is meant.
        column: usize,
        /// What is wrong and what was expected.
        what: String,
    },
    /// The file is of another version.
    Version {
        /// The version it says it is.
        found: u64,
    },
    /// There is no header.
    Empty,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Line {
                line,
                column: 0,
                what,
            } => write!(f, "line {line}: {what}"),
            Self::Line { line, column, what } => write!(f, "line {line}, column {column}: {what}"),
            Self::Version { found } => write!(
                f,
                "line 1: this history is of version {found}, and this `verify` reads version \
                 {VERSION} only: use the `verify` that goes with it"
            ),
            Self::Empty => f.write_str(
                "line 1: the file is empty, expected a header like \
                 {\"clearway_history\":1,\"backend\":\"memory\"}",
            ),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Reads the history in a file.
pub fn read(path: impl AsRef<Path>) -> Result<History, ReadError> {
    let path = path.as_ref();
    let named = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(named)?;
    read_from(BufReader::with_capacity(1 << 16, file), named)
}

/// Reads the history of a process that was killed: the line it was at, which may be half there, is left out.
pub fn read_cut(path: impl AsRef<Path>) -> Result<History, ReadError> {
    let path = path.as_ref();
    let named = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read(path).map_err(named)?;
    let whole = text.iter().rposition(|&byte| byte == b'\n');
    read_from(&text[..whole.map_or(0, |at| at + 1)], named)
}

/// Reads a history from memory.
pub fn read_str(text: &str) -> Result<History, ReadError> {
    read_from(text.as_bytes(), |source| ReadError::Io {
        path: PathBuf::from("text"),
        source,
    })
}

fn read_from(
    mut input: impl BufRead,
    failed: impl Fn(io::Error) -> ReadError,
) -> Result<History, ReadError> {
    let (mut header, mut entries) = (None, Vec::new());
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        if input.read_until(b'\n', &mut text).map_err(&failed)? == 0 {
            break;
        }
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if header.is_none() {
            header = Some(read_header(line, &text)?);
            continue;
        }
        let Line { at, event } = parse(line, &text)?;
        entries.push(Entry { line, at, event });
    }
    let header = header.ok_or(ReadError::Empty)?;
    Ok(History { header, entries })
}

/// The version first: a later one may have other fields, and then its number is the answer.
fn read_header(line: usize, text: &[u8]) -> Result<Header, ReadError> {
    #[derive(Deserialize)]
    struct Version {
        clearway_history: Option<u64>,
    }
    let Version { clearway_history } = parse(line, text)?;
    match clearway_history {
        Some(found) if found == u64::from(VERSION) => parse(line, text),
        Some(found) => Err(ReadError::Version { found }),
        None => Err(ReadError::Line {
            line,
            column: 0,
            what: format!(
                "no `clearway_history`: expected a header like \
                 {{\"clearway_history\":{VERSION},\"backend\":\"memory\"}}"
            ),
        }),
    }
}

fn parse<'t, T: Deserialize<'t>>(line: usize, text: &'t [u8]) -> Result<T, ReadError> {
    serde_json::from_slice(text).map_err(|error| {
        let what = error.to_string();
        // serde_json counts the lines of one line; the place is said once, and rightly.
        let what = what
            .rsplit_once(" at line ")
            .map_or(&*what, |(what, _)| what);
        let cut = match error.is_eof() {
            true => ": the line is cut off",
            false => "",
        };
        ReadError::Line {
            line,
            column: error.column(),
            what: format!("{what}{cut}"),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        read_str(text).unwrap_err().to_string()
    }

    const HEADER: &str = "{\"clearway_history\":1,\"backend\":\"memory\"}\n";

    #[test]
    fn a_later_version_is_refused_by_its_number() {
        let said = refusal("{\"clearway_history\":2,\"backends\":[\"memory\"]}\n");
        assert!(
            said.starts_with("line 1: this history is of version 2"),
            "{said}"
        );
    }

    #[test]
    fn what_is_no_history_is_refused_at_its_first_line() {
        assert!(refusal("").contains("the file is empty"));
        assert!(refusal("{\"at\":1}\n").contains("no `clearway_history`"));
        assert!(refusal("hello\n").starts_with("line 1, column 1: expected value"));
    }

    #[test]
    fn a_wrong_line_is_refused_with_line_column_and_what_was_expected() {
        let said = refusal(&format!(
            "{HEADER}\n{{\"at\":1,\"drained\":{{\"topic\":\"t\",\"gruop\":\"g\"}}}}\n"
        ));
        assert!(
            said.starts_with("line 3, column 38: unknown field `gruop`, expected"),
            "{said}"
        );
        let said = refusal(&format!("{HEADER}{{\"at\":1,\"drain\":{{}}}}\n"));
        assert!(
            said.contains("line 2") && said.contains("unknown event `drain`"),
            "{said}"
        );
        let said = refusal(&format!("{HEADER}{{\"at\":1}}\n"));
        assert!(
            said.contains("line 2") && said.contains("no event, expected one of: invoke"),
            "{said}"
        );
        let said = refusal(&format!(
            "{HEADER}{{\"drained\":{{\"topic\":\"t\",\"group\":\"g\"}}}}\n"
        ));
        assert!(said.contains("missing field `at`"), "{said}");
        let said = refusal(&format!("{HEADER}{{\"at\":1,\"drained\":{{\"topic\":\"t\""));
        assert!(said.starts_with("line 2, column 30: EOF"), "{said}");
        assert!(said.ends_with("the line is cut off"), "{said}");
        let said = refusal(&format!(
            "{HEADER}{{\"at\":1,\"rejected\":{{\"op\":-1,\"reason\":\"\"}}}}"
        ));
        assert!(
            said.contains("invalid value: integer `-1`, expected u64"),
            "{said}"
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let text = format!(
            "{HEADER}{}\n{}\n",
            r#"{"at":5,"invoke":{"op":1,"process":0,"topic":"t","id":"a","seq":0,"size":3}}"#,
            r#"{"at":9,"acked":{"op":1,"partition":2,"position":7,"durability":"synced"}}"#,
        );
        let history = read_str(&text).unwrap();
        assert_eq!(history.entries[1].line, 3);
        assert_eq!(history.to_text(), text);
    }
}
