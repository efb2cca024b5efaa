//! Which dead letters are meant: flags, and their validated form.

use anyhow::Context;
use clap::Args;
use clap::builder::PossibleValuesParser;
use peakdesk_log::letter::Letter;
use peakdesk_model::event::DeadReason;
use peakdesk_model::input::Topic;
use peakdesk_model::time::{UtcOffset, parse_local};
use std::ops::Range;

/// Flags that choose; all of them must agree.
#[derive(Args, Debug, Default)]
pub struct FilterFlags {
    /// Records of this input; may be repeated
    #[arg(long, value_parser = PossibleValuesParser::new(Topic::ALL.map(Topic::name)))]
    topic: Vec<String>,
    /// Refused for this reason; may be repeated
    #[arg(long, value_parser = PossibleValuesParser::new(DeadReason::ALL.map(DeadReason::name)))]
    reason: Vec<String>,
    /// Read from this partition of the input; may be repeated
    #[arg(long, value_name = "N")]
    partition: Vec<i32>,
    /// Read at these offsets of the input, the last one not included
    #[arg(long, value_name = "FROM..TO")]
    offsets: Option<String>,
    /// Refused at this local time or later, YYYY-MM-DD or YYYY-MM-DDTHH:MM
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Refused before this local time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

/// Which dead letters are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    topics: Vec<Topic>,
    reasons: Vec<DeadReason>,
    partitions: Vec<i32>,
    offsets: Option<Range<i64>>,
    since_ms: Option<i64>,
    until_ms: Option<i64>,
}

impl FilterFlags {
    /// The filter that the flags say.
    pub fn validated(&self, utc: UtcOffset) -> anyhow::Result<Filter> {
        let time = |flag: &str, text: &Option<String>| {
            let parse = |text: &String| {
                parse_local(text, utc).with_context(|| format!("--{flag} {text}: not a local time like 2025-11-11 or 2025-11-11T00:05"))
            };
            text.as_ref().map(parse).transpose()
        };
        let range = |text: &String| {
            let ends = text
                .split_once("..")
                .and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
            ends.filter(|range: &Range<i64>| !range.is_empty())
                .with_context(|| format!("--offsets {text}: not a range like 100..200"))
        };
        Ok(Filter {
            topics: Topic::ALL
                .into_iter()
                .filter(|t| self.topic.iter().any(|n| n == t.name()))
                .collect(),
            reasons: DeadReason::ALL
                .into_iter()
                .filter(|r| self.reason.iter().any(|n| n == r.name()))
                .collect(),
            partitions: self.partition.clone(),
            offsets: self.offsets.as_ref().map(range).transpose()?,
            since_ms: time("since", &self.since)?,
            until_ms: time("until", &self.until)?,
        })
    }
}

impl Filter {
    /// Whether it chooses everything.
    pub fn is_all(&self) -> bool {
        *self == Filter::default()
    }

    /// Whether it chooses a letter that was refused at this time (ms). Without a time, none that was asked for can be right.
    pub fn chooses(&self, letter: &Letter, refused_ms: Option<i64>) -> bool {
        let at = letter.position;
        let any = |empty: bool, found: bool| empty || found;
        any(self.topics.is_empty(), self.topics.contains(&at.partition.topic))
            && any(self.reasons.is_empty(), self.reasons.contains(&letter.reason))
            && any(self.partitions.is_empty(), self.partitions.contains(&at.partition.partition))
            && self.offsets.as_ref().is_none_or(|range| range.contains(&at.offset))
            && self.since_ms.is_none_or(|since| refused_ms.is_some_and(|at| at >= since))
            && self.until_ms.is_none_or(|until| refused_ms.is_some_and(|at| at < until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use peakdesk_model::position::{SourcePartition, SourcePosition};

    fn letter(topic: Topic, partition: i32, offset: i64, reason: DeadReason) -> Letter {
        Letter {
            position: SourcePosition {
                partition: SourcePartition {
                    topic,
                    partition,
                    generation: 1,
                },
                offset,
            },
            reason,
            timestamp_ms: None,
            clock: None,
            headers: Vec::new(),
        }
    }

    #[test]
    fn all_flags_must_agree() {
        let flags = FilterFlags {
            topic: vec!["chat".into(), "orders".into()],
            reason: vec!["bad_id".into()],
            partition: vec![2],
            offsets: Some("10..20".into()),
            since: Some("2025-11-11".into()),
            until: Some("2025-11-11T00:05".into()),
        };
        let filter = flags.validated(UtcOffset::CHINA).unwrap();
        let midnight = 1_762_790_400_000;
        let chosen = letter(Topic::Orders, 2, 10, DeadReason::BadId);
        assert!(filter.chooses(&chosen, Some(midnight)));
        assert!(!filter.chooses(&chosen, Some(midnight - 1)));
        assert!(!filter.chooses(&chosen, Some(midnight + 300_000)));
        assert!(!filter.chooses(&chosen, None));
        for other in [
            letter(Topic::Refunds, 2, 10, DeadReason::BadId),
            letter(Topic::Chat, 2, 10, DeadReason::BadValue),
            letter(Topic::Chat, 1, 10, DeadReason::BadId),
            letter(Topic::Chat, 2, 20, DeadReason::BadId),
        ] {
            assert!(!filter.chooses(&other, Some(midnight)), "{other:?}");
        }
    }

    #[test]
    fn no_flag_chooses_all_and_bad_ones_are_refused() {
        let none = FilterFlags::default().validated(UtcOffset::CHINA).unwrap();
        assert!(none.is_all() && none.chooses(&letter(Topic::Chat, 0, 0, DeadReason::Future), None));
        for offsets in ["5", "5..5", "a..b"] {
            let flags = FilterFlags {
                offsets: Some(offsets.into()),
                ..FilterFlags::default()
            };
            assert!(flags.validated(UtcOffset::CHINA).is_err(), "{offsets}");
        }
    }
}
