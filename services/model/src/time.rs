//! Business time: a fixed offset from UTC, no daylight saving; milliseconds since the Unix epoch.
//!
//! All windows are half-open and aligned to local time. A business day is named by its number of days since 1970-01-01
//! (local), which is also what an Arrow `Date32` holds.

use serde::{Deserialize, Serialize};

/// One second, in milliseconds.
pub const SECOND_MS: i64 = 1_000;
/// One minute, in milliseconds.
pub const MINUTE_MS: i64 = 60 * SECOND_MS;
/// One hour, in milliseconds.
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
/// One day, in milliseconds.
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// A business day: days since 1970-01-01 in local time.
pub type Day = i32;

/// The deployment's offset from UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UtcOffset {
    offset_ms: i64,
}

impl UtcOffset {
    /// `+08:00`, the default.
    pub const CHINA: UtcOffset = UtcOffset { offset_ms: 8 * HOUR_MS };

    /// Parses `+08:00` or `-03:30`; `None` if it is not of that form or beyond 18 hours.
    pub fn parse(text: &str) -> Option<Self> {
        let (sign, rest) = match text.as_bytes().first()? {
            b'+' => (1, &text[1..]),
            b'-' => (-1, &text[1..]),
            _ => return None,
        };
        let (hours, minutes) = rest.split_once(':')?;
        let two_digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        if !two_digits(hours) || !two_digits(minutes) {
            return None;
        }
        let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
        if hours > 18 || minutes > 59 {
            return None;
        }
        Some(UtcOffset {
            offset_ms: sign * (hours * HOUR_MS + minutes * MINUTE_MS),
        })
    }

    /// The offset in milliseconds.
    pub fn as_ms(self) -> i64 {
        self.offset_ms
    }

    /// The business day that contains `t`.
    pub fn day(self, t: i64) -> Day {
        (t + self.offset_ms).div_euclid(DAY_MS) as Day
    }

    /// When a business day begins.
    pub fn start(self, day: Day) -> i64 {
        i64::from(day) * DAY_MS - self.offset_ms
    }

    /// When a business day ends (exclusive): `end(D)` of the metric definitions.
    pub fn end(self, day: Day) -> i64 {
        self.start(day + 1)
    }

    /// Start of the local hour that contains `t`.
    pub fn hour_start(self, t: i64) -> i64 {
        (t + self.offset_ms).div_euclid(HOUR_MS) * HOUR_MS - self.offset_ms
    }

    /// Start of the local minute that contains `t`.
    pub fn minute_start(self, t: i64) -> i64 {
        (t + self.offset_ms).div_euclid(MINUTE_MS) * MINUTE_MS - self.offset_ms
    }

    /// Milliseconds since local midnight.
    pub fn time_of_day_ms(self, t: i64) -> i64 {
        (t + self.offset_ms).rem_euclid(DAY_MS)
    }
}

/// Parses a local time `YYYY-MM-DD` or `YYYY-MM-DDTHH:MM` into milliseconds since the Unix epoch.
pub fn parse_local(text: &str, utc: UtcOffset) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "00:00"));
    let (hours, minutes) = time.split_once(':')?;
    let (hours, minutes): (i64, i64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let in_range = (0..24).contains(&hours) && (0..60).contains(&minutes);
    in_range.then_some(utc.start(parse_date(date)?) + hours * HOUR_MS + minutes * MINUTE_MS)
}

/// A time as a local `YYYY-MM-DDTHH:MM:SS.mmm`.
pub fn format_local(t: i64, utc: UtcOffset) -> String {
    let ms = utc.time_of_day_ms(t);
    let (hours, minutes) = (ms / HOUR_MS, ms / MINUTE_MS % 60);
    let (seconds, rest) = (ms / SECOND_MS % 60, ms % SECOND_MS);
    format!("{}T{hours:02}:{minutes:02}:{seconds:02}.{rest:03}", format_date(utc.day(t)))
}

/// Parses a duration: a whole number and one of `ms`, `s`, `m`, `h`, `d`. Returns milliseconds.
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.parse().ok()?;
    let unit_ms = match unit {
        "ms" => 1,
        "s" => SECOND_MS,
        "m" | "min" => MINUTE_MS,
        "h" => HOUR_MS,
        "d" => DAY_MS,
        _ => return None,
    };
    number.checked_mul(unit_ms).filter(|ms| *ms <= 10_000 * DAY_MS)
}

/// Parses a calendar date `YYYY-MM-DD` into days since 1970-01-01.
pub fn parse_date(text: &str) -> Option<Day> {
    let mut parts = text.splitn(3, '-');
    let (y, m, d) = (parts.next()?, parts.next()?, parts.next()?);
    if y.len() != 4 || m.len() != 2 || d.len() != 2 {
        return None;
    }
    let (y, m, d): (i32, i32, i32) = (y.parse().ok()?, m.parse().ok()?, d.parse().ok()?);
    let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
    let days_in_month = match m {
        2 => 28 + i32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days_in_month).contains(&d) {
        return None;
    }
    // Days of the proleptic Gregorian calendar, counted in eras of 400 years that begin on 1 March.
    let shifted = if m <= 2 { y - 1 } else { y };
    let era = shifted.div_euclid(400);
    let year_of_era = shifted.rem_euclid(400);
    let day_of_year = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Formats a day as `YYYY-MM-DD`.
pub fn format_date(day: Day) -> String {
    let z = day + 719_468;
    let era = z.div_euclid(146_097);
    let day_of_era = z.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let d = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let m = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let y = year_of_era + era * 400 + i32::from(m <= 2);
    format!("{y:04}-{m:02}-{d:02}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn local_times_are_read_and_written() {
        let china = UtcOffset::CHINA;
        assert_eq!(parse_local("2025-11-11", china), Some(1_762_790_400_000));
        assert_eq!(parse_local("2025-11-11T10:30", china), Some(1_762_828_200_000));
        for bad in ["2025-11-31", "2025-11-11T24:00", "2025-11-11T10", "2025-11-11T-1:00", "now"] {
            assert_eq!(parse_local(bad, china), None, "{bad}");
        }
        assert_eq!(format_local(1_762_828_201_002, china), "2025-11-11T10:30:01.002");
    }

    #[test]
    fn the_business_day_begins_at_local_midnight() {
        let china = UtcOffset::CHINA;
        let eleventh = parse_date("2025-11-11").unwrap();
        assert_eq!(china.start(eleventh), 1_762_790_400_000);
        assert_eq!(china.day(1_762_790_400_000), eleventh);
        assert_eq!(china.day(1_762_790_399_999), eleventh - 1);
        assert_eq!(format_date(eleventh), "2025-11-11");
    }

    #[test]
    fn hours_follow_a_half_hour_offset() {
        let india = UtcOffset::parse("+05:30").unwrap();
        let midnight = india.start(20_000);
        assert_eq!(india.hour_start(midnight + HOUR_MS - 1), midnight);
        assert_eq!(india.time_of_day_ms(midnight), 0);
    }

    #[test]
    fn what_is_no_offset_duration_or_date_is_refused() {
        for bad in ["8", "++8:00", "+8:00", "+08:60", "08:00", "+19:00", ""] {
            assert_eq!(UtcOffset::parse(bad), None, "{bad}");
        }
        for bad in ["", "5", "m", "-5m", "5 m", "1.5h", "5w"] {
            assert_eq!(parse_duration_ms(bad), None, "{bad}");
        }
        for bad in ["2025-13-01", "2025-02-29", "2025-1-1", "x", "2025-00-10"] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
        assert_eq!(parse_duration_ms("21d"), Some(21 * DAY_MS));
    }

    proptest! {
        #[test]
        fn dates_round_trip(day in -100_000i32..100_000) {
            prop_assert_eq!(parse_date(&format_date(day)).filter(|_| (-719_528..2_932_897).contains(&day)), Some(day));
        }
    }
}
