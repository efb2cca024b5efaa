//! What time of which day it is for the shops: volumes of chats and orders, and everything else that follows the clock.

use crate::config::{DAY_MS, HOUR_MS, MINUTE_MS, Profile, SECOND_MS, SimConfig};
use crate::curve::Curve;

/// Cumulated share of the sale day's orders, by seconds after midnight. The published figures of the night, with a linear
/// ramp of the rate over the first 21 s.
const SALE_ORDERS: [(i64, f64); 10] = [
    (5, 0.000_27),
    (10, 0.001_07),
    (15, 0.002_40),
    (21, 0.004_70),
    (125, 0.047),
    (673, 0.178),
    (6_480, 0.468),
    (29_340, 0.565),
    (55_140, 0.756),
    (86_400, 1.0),
];

/// Conversations begun on the sale day: rate in multiples of the day's mean, up to the given minute. Messages come over the length of
/// a conversation and so have a lower peak, 15 to 25 times their mean.
const SALE_CHATS: [(i64, f64); 10] = [
    (15, 26.0),
    (30, 10.0),
    (60, 3.0),
    (120, 1.5),
    (420, 0.15),
    (540, 0.6),
    (660, 1.6),
    (1_080, 0.48),
    (1_320, 0.6),
    (1_440, 0.55),
];

/// Chats of the evening before the sale: as above, from 22:00 on.
const EVE_CHATS: [(i64, f64); 5] = [(1_350, 2.0), (1_380, 4.0), (1_410, 6.0), (1_430, 12.0), (1_440, 24.0)];
const EVE_CHATS_FROM_MINUTE: i64 = 1_320;

/// An ordinary day's rate by hour, before it is scaled to a mean of 1.
const ORDINARY: [f64; 24] = [
    0.5, 0.25, 0.12, 0.08, 0.07, 0.1, 0.25, 0.5, 0.8, 1.2, 1.7, 1.7, 1.5, 1.5, 1.3, 1.1, 1.1, 1.1, 1.2, 1.7, 2.0, 2.1, 1.8, 1.2,
];

/// Local time of the shops, and the sale in it.
#[derive(Debug, Clone)]
pub(crate) struct Calendar {
    offset_ms: i64,
    start_ms: i64,
    end_ms: i64,
    /// The midnight at which the sale opens; `None` on ordinary days.
    pub(crate) sale_ms: Option<i64>,
}

impl Calendar {
    pub(crate) fn new(config: &SimConfig) -> Self {
        let offset_ms = i64::from(config.utc_offset_minutes) * MINUTE_MS;
        let local = config.start_ms + offset_ms;
        let midnight = local + (DAY_MS - local.rem_euclid(DAY_MS)) % DAY_MS - offset_ms;
        Self {
            offset_ms,
            start_ms: config.start_ms,
            end_ms: config.end_ms(),
            sale_ms: (config.profile == Profile::Double11).then_some(midnight),
        }
    }

    /// Local midnight at or before `at_ms`.
    pub(crate) fn midnight_ms(&self, at_ms: i64) -> i64 {
        at_ms - self.since_midnight_ms(at_ms)
    }

    /// Number of the local day, for "once a day".
    pub(crate) fn day(&self, at_ms: i64) -> i64 {
        (at_ms + self.offset_ms).div_euclid(DAY_MS)
    }

    fn since_midnight_ms(&self, at_ms: i64) -> i64 {
        (at_ms + self.offset_ms).rem_euclid(DAY_MS)
    }

    /// Days since the sale opened: 0 on the day itself, negative before; `None` on ordinary days.
    fn sale_day(&self, at_ms: i64) -> Option<i64> {
        self.sale_ms.map(|sale_ms| (at_ms - sale_ms).div_euclid(DAY_MS))
    }

    /// From a quarter of an hour before the sale opens to two hours after.
    pub(crate) fn is_peak(&self, at_ms: i64) -> bool {
        self.sale_ms
            .is_some_and(|sale_ms| (sale_ms - 15 * MINUTE_MS..sale_ms + 2 * HOUR_MS).contains(&at_ms))
    }

    /// Whether people, not only robots, are there to answer.
    pub(crate) fn is_staffed(&self, at_ms: i64) -> bool {
        let hour = self.since_midnight_ms(at_ms) / HOUR_MS;
        hour >= 8 || (self.sale_day(at_ms) == Some(0) && !(3..7).contains(&hour))
    }

    /// Share of consulting buyers who come about something they have bought.
    pub(crate) fn after_sale_share(&self, at_ms: i64) -> f64 {
        match self.sale_ms {
            Some(sale_ms) if (sale_ms..sale_ms + 2 * HOUR_MS).contains(&at_ms) => 0.15,
            Some(sale_ms) if at_ms >= sale_ms + DAY_MS => 0.60,
            _ => 0.35,
        }
    }

    /// Share of orders that are presales.
    pub(crate) fn presale_share(&self, at_ms: i64) -> f64 {
        match self.sale_day(at_ms) {
            Some(day) if day < 0 => 0.40,
            Some(0) => 0.0,
            _ => 0.10,
        }
    }

    /// Share of orders that are paid within a quarter of an hour.
    pub(crate) fn prompt_payment_share(&self, at_ms: i64) -> f64 {
        if self.is_peak(at_ms) { 0.80 } else { 0.72 }
    }

    /// How long an unpaid order stays open.
    pub(crate) fn unpaid_timeout_ms(&self, at_ms: i64) -> i64 {
        if self.sale_day(at_ms) == Some(0) { 2 * HOUR_MS } else { DAY_MS }
    }

    /// Chats over the period; unit: the mean day (`double11`: the day of the sale).
    pub(crate) fn chat_curve(&self) -> Curve {
        self.curve(|curve, midnight, day| match day {
            Some(0) => steps(curve, midnight, 0, &SALE_CHATS),
            Some(-1) => {
                hours(curve, midnight, EVE_CHATS_FROM_MINUTE / 60, 0.3);
                steps(curve, midnight, EVE_CHATS_FROM_MINUTE, &EVE_CHATS);
            }
            Some(1) => hours(curve, midnight, 24, 0.4),
            Some(2) => hours(curve, midnight, 24, 0.25),
            Some(_) => hours(curve, midnight, 24, 0.14),
            None => hours(curve, midnight, 24, 1.0),
        })
    }

    /// Orders over the period; unit as in [`Calendar::chat_curve`].
    pub(crate) fn order_curve(&self) -> Curve {
        self.curve(|curve, midnight, day| match day {
            Some(0) => {
                let mut before = 0.0;
                for (second, share) in SALE_ORDERS {
                    curve.add(midnight + second * SECOND_MS, share - before);
                    before = share;
                }
            }
            Some(-1) => hours(curve, midnight, 24, 0.08),
            Some(_) => hours(curve, midnight, 24, 0.14),
            None => hours(curve, midnight, 24, 1.0),
        })
    }

    fn curve(&self, day_shape: impl Fn(&mut CurveBuilder, i64, Option<i64>)) -> Curve {
        let mut builder = CurveBuilder {
            curve: Curve::new(self.start_ms),
            at_ms: self.midnight_ms(self.start_ms),
        };
        let mut midnight = builder.at_ms;
        while midnight < self.end_ms {
            day_shape(&mut builder, midnight, self.sale_day(midnight));
            midnight += DAY_MS;
        }
        builder.curve
    }
}

/// Adds stretches in order and drops what lies before the curve's beginning.
struct CurveBuilder {
    curve: Curve,
    at_ms: i64,
}

impl CurveBuilder {
    fn add(&mut self, to_ms: i64, volume: f64) {
        let length = to_ms - self.at_ms;
        let kept = to_ms - self.at_ms.max(self.curve.end_ms());
        if length > 0 && kept > 0 {
            self.curve.extend(to_ms, volume * kept as f64 / length as f64);
        }
        self.at_ms = self.at_ms.max(to_ms);
    }
}

fn steps(curve: &mut CurveBuilder, midnight: i64, from_minute: i64, rates: &[(i64, f64)]) {
    let mut from = from_minute;
    for &(to, rate) in rates {
        curve.add(midnight + to * MINUTE_MS, rate * (to - from) as f64 / 1_440.0);
        from = to;
    }
}

fn hours(curve: &mut CurveBuilder, midnight: i64, count: i64, level: f64) {
    let sum: f64 = ORDINARY.iter().sum();
    for (hour, rate) in (1..=count).zip(ORDINARY) {
        curve.add(midnight + hour * HOUR_MS, level * rate / sum);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sale_night(hours_before: i64) -> (Calendar, i64) {
        let midnight = 1_762_790_400_000; // 2025-11-11T00:00:00+08:00
        let config = SimConfig {
            start_ms: midnight - hours_before * HOUR_MS,
            duration_ms: hours_before * HOUR_MS + DAY_MS,
            ..SimConfig::default()
        };
        (Calendar::new(&config), midnight)
    }

    #[test]
    fn the_sale_opens_at_the_next_local_midnight() {
        for hours_before in [0, 2, 23] {
            let (calendar, midnight) = sale_night(hours_before);
            assert_eq!(calendar.sale_ms, Some(midnight));
            assert_eq!(calendar.midnight_ms(midnight + 5 * HOUR_MS), midnight);
            assert!(calendar.is_peak(midnight) && !calendar.is_peak(midnight + 2 * HOUR_MS));
        }
    }

    #[test]
    fn the_night_has_the_published_shape() {
        let (calendar, midnight) = sale_night(0);
        let orders = calendar.order_curve();
        assert!((orders.total() - 1.0).abs() < 1e-9);
        for (share, second) in [(0.047, 125), (0.178, 673), (0.468, 6_480), (0.756, 55_140)] {
            let at = orders.time_of(share).unwrap();
            assert!((at - midnight - second * SECOND_MS).abs() < SECOND_MS, "{share} at {at}");
        }
        let peak = (0.047 - 0.0047) / 104.0 * 86_400.0;
        assert!((35.0..42.0).contains(&peak));
        assert!((calendar.chat_curve().total() - 1.0).abs() < 0.01);
    }

    #[test]
    fn an_evening_start_keeps_only_its_part_of_the_day() {
        let (calendar, midnight) = sale_night(2);
        let chats = calendar.chat_curve();
        let before = (30.0 * 2.0 + 30.0 * 4.0 + 30.0 * 6.0 + 20.0 * 12.0 + 10.0 * 24.0) / 1_440.0;
        assert!((chats.total() - 1.0 - before).abs() < 0.01, "{}", chats.total());
        assert!((chats.time_of(before).unwrap() - midnight).abs() < SECOND_MS);
    }
}
