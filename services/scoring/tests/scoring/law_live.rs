//! What is told live of a day, when everything of it is read, is what the tables say of it.

use crate::generate::{cases, delays, items, send};
use crate::kit::{Cutting, Reader, frames, in_step, two_policies};
use peakdesk_model::table::Outcome;
use peakdesk_model::time::{DAY_MS, HOUR_MS, SECOND_MS};
use peakdesk_scoring::live::LiveValue;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// A round, as both tell it: buyer, customer clock, agent clock, end, outcome.
type Told = (String, i64, i64, Option<i64>, &'static str);

/// `(shop, agent)`.
type Scope = (String, String);

proptest! {
    #![proptest_config(cases(160))]

    /// Rounds that nobody answered are told when they are closed, hours later, so they are not compared.
    #[test]
    fn missed_rounds_of_an_agent_are_those_of_the_table(items in items(60, false), delays in delays(), often in any::<bool>()) {
        let mut reader = Reader::new(two_policies());
        let cutting = Cutting { sizes: vec![2, 0, 1], stand: true, opening: None };
        let mut told: BTreeMap<Scope, (i64, BTreeSet<Told>)> = BTreeMap::new();
        let mut look = |reader: &mut Reader| {
            let now = reader.fold.now();
            reader.fold.tell(true, |value| {
                if let LiveValue::Detail(detail) = value {
                    let ended = detail.missed.iter().filter(|m| m.ended_at.is_some());
                    let rounds = ended.map(|m| {
                        let outcome = [Outcome::Replied, Outcome::Transferred].into_iter().find(|o| o.name() == m.outcome);
                        (m.buyer_key.clone(), m.t0, m.a0, m.ended_at, outcome.map_or("", |o| o.name()))
                    });
                    told.insert((detail.shop_id, detail.agent_id), (now, rounds.collect()));
                }
            });
        };
        for delivery in frames(&in_step(&send(&items, &delays, true)), &cutting) {
            reader.read(&delivery);
            if often {
                look(&mut reader);
            }
        }
        look(&mut reader);
        let utc = peakdesk_model::time::UtcOffset::CHINA;
        let today = utc.day(reader.fold.now());
        reader.run_on(HOUR_MS);

        let mut written: BTreeMap<Scope, BTreeSet<Told>> = BTreeMap::new();
        for r in &reader.out.rows.reply_rounds {
            let late = match (r.outcome, r.ended_at) {
                (Outcome::Replied, Some(end)) => end - r.a0 > 180 * SECOND_MS,
                (outcome, _) => outcome == Outcome::Transferred,
            };
            if let Some(agent) = r.agent_id.as_deref().filter(|_| late && r.a0 >= utc.start(today)) {
                let scope = (r.shop_id.to_string(), agent.to_owned());
                written.entry(scope).or_default().insert((r.buyer.to_hex(), r.t0, r.a0, r.ended_at, r.outcome.name()));
            }
        }
        for (scope, (at, rounds)) in told {
            if utc.day(at) == today {
                prop_assert_eq!(&rounds, &written.remove(&scope).unwrap_or_default(), "{:?} at {}", &scope, at % DAY_MS);
            }
        }
        prop_assert!(written.is_empty(), "never told: {:?}", written);
    }
}
