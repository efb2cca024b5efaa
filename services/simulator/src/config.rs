//! Settings of a simulation and their limits.

use serde::{Deserialize, Serialize};

use crate::SimError;

/// Which days are simulated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// The sale: it opens at the first local midnight at or after the start. The evening before it and the days after it
    /// have their own shapes.
    Double11,
    /// Working days with a hump at 10–14 h and one at 19–23 h.
    Ordinary,
}

/// How record values are encoded for Kafka. A dump is always JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One JSON object.
    Json,
    /// Avro datum in Confluent framing.
    Avro,
}

/// Partitions per input topic, each 1 to 1024.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Partitions {
    /// Of the chat topic.
    pub chat: i32,
    /// Of the order topic.
    pub orders: i32,
    /// Of the refund topic.
    pub refunds: i32,
}

impl Default for Partitions {
    fn default() -> Self {
        Self {
            chat: 4,
            orders: 2,
            refunds: 1,
        }
    }
}

/// What to simulate. Two equal configurations give the same records.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimConfig {
    /// Seed of every random choice.
    pub seed: u64,
    /// Number of shops, 1 to 100000.
    pub shops: u32,
    /// Agents per shop, 1 to 300; absent: Zipf (s = 1.1) on 1..200, with a few shops of 100 to 300, and shops of very
    /// different activity.
    pub agents: Option<u32>,
    /// Consulting buyers per agent and day, mean over all shops (robot conversations count too); absent: 500 for
    /// `double11` (on the day of the sale), 72 for `ordinary`.
    pub buyers_per_agent: Option<f64>,
    /// Start of the simulated period, milliseconds since the Unix epoch.
    pub start_ms: i64,
    /// Length of the simulated period in milliseconds, at least one second and at most 400 days.
    pub duration_ms: i64,
    /// Kind of days.
    pub profile: Profile,
    /// Local time of the shops, minutes east of UTC.
    pub utc_offset_minutes: i32,
    /// Partitions of the topics.
    pub partitions: Partitions,
    /// 0: every record arrives at its event time. 1: 2 % take more than a second, up to a day. Other values scale the 2 %.
    pub disorder: f64,
    /// Share of records that are delivered a second time, mostly five minutes later.
    pub duplicate_share: f64,
    /// Share of records that are made late on purpose: chat by 16 min to 24 h, orders and refunds by 24 to 48 h.
    /// The disorder makes a few of its own.
    pub late_share: f64,
    /// Share of records followed by a damaged copy that no reader can accept.
    pub dead_share: f64,
    /// Share of orders that are brushing (flagged `fake`, at once or later).
    pub brushing_share: f64,
    /// Encoding for Kafka.
    pub format: Format,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            seed: 11,
            shops: 20,
            agents: None,
            buyers_per_agent: None,
            start_ms: 1_762_783_200_000, // 2025-11-10T22:00:00+08:00
            duration_ms: 26 * HOUR_MS,
            profile: Profile::Double11,
            utc_offset_minutes: 480,
            partitions: Partitions::default(),
            disorder: 1.0,
            duplicate_share: 0.002,
            late_share: 0.0,
            dead_share: 0.0,
            brushing_share: 0.005,
            format: Format::Json,
        }
    }
}

pub(crate) const SECOND_MS: i64 = 1_000;
pub(crate) const MINUTE_MS: i64 = 60 * SECOND_MS;
pub(crate) const HOUR_MS: i64 = 60 * MINUTE_MS;
pub(crate) const DAY_MS: i64 = 24 * HOUR_MS;

impl SimConfig {
    /// End of the simulated period (exclusive), milliseconds since the Unix epoch.
    pub fn end_ms(&self) -> i64 {
        self.start_ms.saturating_add(self.duration_ms)
    }

    /// Mean consulting buyers per agent and day, with the profile's default filled in.
    pub fn buyers_per_agent_mean(&self) -> f64 {
        self.buyers_per_agent.unwrap_or(match self.profile {
            Profile::Double11 => 500.0,
            Profile::Ordinary => 72.0,
        })
    }

    /// Checks every limit.
    ///
    /// # Errors
    /// [`SimError::Config`] with the first setting that is out of range.
    pub fn check(&self) -> Result<(), SimError> {
        let bad = |field, problem: String| Err(SimError::Config { field, problem });
        if !(1..=100_000).contains(&self.shops) {
            return bad("shops", format!("{} is not in 1..=100000", self.shops));
        }
        if let Some(agents) = self.agents
            && !(1..=300).contains(&agents)
        {
            return bad("agents", format!("{agents} is not in 1..=300"));
        }
        if !(0.1..=100_000.0).contains(&self.buyers_per_agent_mean()) {
            return bad(
                "buyers_per_agent",
                format!("{} is not in 0.1..=100000", self.buyers_per_agent_mean()),
            );
        }
        if !(0..=253_402_300_799_999).contains(&self.start_ms) {
            return bad("start_ms", format!("{} is not between the years 1970 and 9999", self.start_ms));
        }
        if !(SECOND_MS..=400 * DAY_MS).contains(&self.duration_ms) {
            return bad(
                "duration_ms",
                format!("{} is not between one second and 400 days", self.duration_ms),
            );
        }
        if !(-1_440..=1_440).contains(&self.utc_offset_minutes) {
            return bad("utc_offset_minutes", format!("{} is not within a day", self.utc_offset_minutes));
        }
        for (field, count) in [
            ("partitions.chat", self.partitions.chat),
            ("partitions.orders", self.partitions.orders),
            ("partitions.refunds", self.partitions.refunds),
        ] {
            if !(1..=1024).contains(&count) {
                return bad(field, format!("{count} is not in 1..=1024"));
            }
        }
        if !(0.0..=50.0).contains(&self.disorder) {
            return bad("disorder", format!("{} is not in 0..=50", self.disorder));
        }
        for (field, share) in [
            ("duplicate_share", self.duplicate_share),
            ("late_share", self.late_share),
            ("dead_share", self.dead_share),
            ("brushing_share", self.brushing_share),
        ] {
            if !(0.0..=0.5).contains(&share) {
                return bad(field, format!("{share} is not in 0..=0.5"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn the_default_is_accepted_and_unknown_settings_are_not() {
        SimConfig::default().check().unwrap();
        let partial: SimConfig = serde_json::from_str(r#"{"seed": 3, "partitions": {"chat": 8}}"#).unwrap();
        assert_eq!((partial.seed, partial.partitions.chat, partial.partitions.orders), (3, 8, 2));
        assert!(serde_json::from_str::<SimConfig>(r#"{"sed": 3}"#).is_err());
    }

    #[test]
    fn each_limit_names_its_setting() {
        type Spoil = fn(&mut SimConfig);
        let cases: [(&str, Spoil); 9] = [
            ("shops", |c| c.shops = 0),
            ("agents", |c| c.agents = Some(301)),
            ("buyers_per_agent", |c| c.buyers_per_agent = Some(f64::NAN)),
            ("start_ms", |c| c.start_ms = -1),
            ("duration_ms", |c| c.duration_ms = 999),
            ("utc_offset_minutes", |c| c.utc_offset_minutes = 1_441),
            ("partitions.refunds", |c| c.partitions.refunds = 0),
            ("disorder", |c| c.disorder = -0.1),
            ("dead_share", |c| c.dead_share = 0.6),
        ];
        for (field, spoil) in cases {
            let mut config = SimConfig::default();
            spoil(&mut config);
            let error = config.check().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
