//! The reply subject of a delivery: where it came from, and where its answer goes.

/// What the reply subject of every delivery begins with, and of nothing else.
pub(in super::super) const REPLY: &str = "$JS.ACK.";

/// As many of its dots matter.
const DOTS: usize = 10;

/// The reply subject of a delivery, taken apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in super::super) struct Reply<'a> {
    /// Up to and including the durable.
    head: &'a str,
    pub(in super::super) attempt: u64,
    pub(in super::super) sequence: u64,
    pub(in super::super) time_ns: u64,
}

impl<'a> Reply<'a> {
    /// Reads `$JS.ACK.<stream>.<durable>.<attempt>.<sequence>.<count>.<time>.<pending>`, or the longer form with
    /// domain and account before the stream.
    pub(in super::super) fn parse(subject: &'a str) -> Option<Self> {
        if !subject.starts_with(REPLY) {
            return None;
        }
        // Every delivery comes by here: one pass.
        let (mut dots, mut count) = ([0; DOTS], 0);
        for (at, byte) in subject.bytes().enumerate() {
            if byte == b'.' && count < DOTS {
                dots[count] = at;
                count += 1;
            }
        }
        // The one behind the durable.
        let numbers = match count {
            8 => 3,
            10.. => 5,
            _ => return None,
        };
        let number = |n: usize| {
            let (before, behind) = (dots[numbers + n], dots[numbers + n + 1]);
            subject[before + 1..behind].parse().ok()
        };
        Some(Self {
            head: &subject[..dots[numbers]],
            attempt: number(0)?,
            sequence: number(1)?,
            time_ns: number(3)?,
        })
    }

    /// Whether it is of this durable.
    pub(in super::super) fn is_of(&self, durable: &str) -> bool {
        let stream = self.head.strip_suffix(durable);
        stream.is_some_and(|stream| stream.ends_with('.'))
    }

    /// The subject to answer another delivery of the same durable on, of which only the sequence is known.
    pub(super) fn for_other(&self, sequence: u64, count: u64) -> String {
        format!("{}.1.{sequence}.{count}.0.0", self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_subjects_are_read_in_both_forms() {
        for (subject, head) in [
            ("$JS.ACK.s.d~t~0.2.17.9.1234000000.3", "$JS.ACK.s.d~t~0"),
            (
                "$JS.ACK.hub.hash.s.d~t~0.2.17.9.1234000000.3",
                "$JS.ACK.hub.hash.s.d~t~0",
            ),
            (
                "$JS.ACK.hub.hash.s.d~t~0.2.17.9.1234000000.3.rnd",
                "$JS.ACK.hub.hash.s.d~t~0",
            ),
        ] {
            let reply = Reply::parse(subject).expect(subject);
            assert_eq!(
                (reply.attempt, reply.sequence, reply.time_ns),
                (2, 17, 1_234_000_000)
            );
            assert!(reply.is_of("d~t~0") && !reply.is_of("t~0") && !reply.is_of("d~t~1"));
            assert_eq!(reply.for_other(5, 6), format!("{head}.1.5.6.0.0"));
        }
        for other in [
            "",
            "$JS.ACK.s.d",
            "x.s.d.1.2.3.4.5",
            "$JS.ACK.s.d.1.2.3.4",
            "$JS.ACK.hub.s.d.1.2.3.4.5",
            "$JS.ACK........",
            "$JS.ACK.s.d.a.b.c.d.e",
        ] {
            assert_eq!(Reply::parse(other), None, "{other}");
        }
    }
}
