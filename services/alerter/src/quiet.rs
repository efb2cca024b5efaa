//! Quiet hours: parts of the day, on the wall clock of the deployment's offset, in which people are left alone.

use peakdesk_model::time::{DAY_MS, HOUR_MS, MINUTE_MS, UtcOffset};

/// A part of every day; one that ends before it begins goes over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    from_ms: i64,
    to_ms: i64,
}

impl Hours {
    /// Reads `23:00-08:00`; `None` if it is not of that form, or empty.
    pub fn parse(text: &str) -> Option<Self> {
        let time = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            let number = |t: &str| (t.len() == 2 && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse::<i64>().ok())?;
            let (hours, minutes) = (number(hours)?, number(minutes)?);
            let ms = hours * HOUR_MS + minutes * MINUTE_MS;
            (minutes < 60 && ms <= DAY_MS).then_some(ms)
        };
        let (from, to) = text.split_once('-')?;
        let hours = Hours {
            from_ms: time(from)? % DAY_MS,
            to_ms: time(to)?,
        };
        (hours.from_ms != hours.to_ms).then_some(hours)
    }

    /// Whether a moment (ms, wall time) lies in it.
    pub fn contains(self, at: i64, offset: UtcOffset) -> bool {
        let time = offset.time_of_day_ms(at);
        if self.from_ms < self.to_ms {
            (self.from_ms..self.to_ms).contains(&time)
        } else {
            time >= self.from_ms || time < self.to_ms
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hours_may_go_over_midnight() {
        let midnight = UtcOffset::CHINA.start(20_000);
        let at = |h: i64, m: i64| midnight + h * HOUR_MS + m * MINUTE_MS;
        let night = Hours::parse("23:00-08:00").unwrap();
        for (h, m, quiet) in [
            (22, 59, false),
            (23, 0, true),
            (0, 0, true),
            (7, 59, true),
            (8, 0, false),
            (12, 0, false),
        ] {
            assert_eq!(night.contains(at(h, m), UtcOffset::CHINA), quiet, "{h}:{m}");
        }
        let noon = Hours::parse("12:00-13:30").unwrap();
        assert!(noon.contains(at(13, 29), UtcOffset::CHINA) && !noon.contains(at(13, 30), UtcOffset::CHINA));
        assert!(Hours::parse("00:00-24:00").unwrap().contains(at(23, 59), UtcOffset::CHINA));
    }

    #[test]
    fn what_is_no_part_of_a_day_is_refused() {
        for bad in [
            "",
            "23-8",
            "23:00",
            "8:00-9:00",
            "24:01-08:00",
            "08:60-09:00",
            "08:00-08:00",
            "-1:00-02:00",
        ] {
            assert_eq!(Hours::parse(bad), None, "{bad}");
        }
    }
}
