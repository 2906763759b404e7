//! When: a time as JetStream reads it, RFC 3339 in UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Later ones the server cannot count in nanoseconds: the last day of 2261.
const LATEST: Duration = Duration::from_secs(9_214_646_400 - 1);

/// `time`, or the nearest one that the server can count.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = since.min(LATEST);
    let seconds = since.as_secs();
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let nanos = since.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Whether `one` is later than `other`: times as the server writes them, in UTC and with no zeros behind a fraction.
pub(super) fn is_later(one: &str, other: &str) -> bool {
    let parts = |time| match str::split_once(time, '.') {
        Some((seconds, fraction)) => (seconds, fraction.trim_end_matches('Z')),
        None => (time.trim_end_matches('Z'), ""),
    };
    parts(one) > parts(other)
}

/// Year, month and day, `days` after 1970-01-01. Counts in eras of 400 years that begin on a first of March, so
/// that the day that comes every fourth year is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    const ERA: u64 = 146_097;
    let days = days + 719_468;
    let (era, of_era) = (days / ERA, days % ERA);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / (ERA - 1)) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, nanos: u32) -> String {
        rfc3339(UNIX_EPOCH + Duration::new(seconds, nanos))
    }

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        for (seconds, written) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_799, "2000-02-29T23:59:59"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_709_164_799, "2024-02-28T23:59:59"),
            (1_709_164_800, "2024-02-29T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (1_764_139_321, "2025-11-26T06:42:01"),
            (4_107_542_399, "2100-02-28T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
        ] {
            assert_eq!(at(seconds, 7), format!("{written}.000000007Z"));
        }
    }

    #[test]
    fn what_the_server_cannot_count_is_the_nearest_that_it_can() {
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc3339(before), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(at(u32::MAX.into(), 0), "2106-02-07T06:28:15.000000000Z");
        assert_eq!(at(1 << 40, 5), "2261-12-31T23:59:59.000000000Z");
    }
}
