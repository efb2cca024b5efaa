//! Windows form a group: whatever is added can be taken back, in any order.

use super::*;
use crate::policy::Policy;
use peakdesk_model::time::{DAY_MS, MINUTE_MS, UtcOffset};
use proptest::prelude::*;

fn atom() -> impl Strategy<Value = Atom> {
    let start = UtcOffset::CHINA.start(20_000);
    let t = prop_oneof![
        start..start + 2 * DAY_MS,
        Just(start),
        Just(start + DAY_MS - 1),
        Just(start + DAY_MS)
    ];
    let agent = 0u32..3;
    let outcome = prop::sample::select(vec![Outcome::Replied, Outcome::Transferred, Outcome::Moved, Outcome::Unanswered]);
    let round = (
        t.clone(),
        0..90 * MINUTE_MS,
        0..90 * MINUTE_MS,
        prop::option::of(agent.clone()),
        outcome,
        any::<[bool; 2]>(),
    );
    prop_oneof![
        (t.clone(), prop::option::of(agent.clone())).prop_map(|(t, agent)| Atom::BuyerMessage { t, agent }),
        (t.clone(), agent.clone(), any::<bool>()).prop_map(|(t, agent, assisted)| Atom::AgentMessage { t, agent, assisted }),
        (t.clone(), any::<bool>()).prop_map(|(t, full)| Atom::RobotMessage { t, full }),
        t.clone().prop_map(|t| Atom::Spam { t }),
        (t.clone(), prop_oneof![agent.clone(), Just(SHOP)], any::<[bool; 3]>()).prop_map(
            |(t, scope, [received, new_to_day, new_to_hour])| {
                Atom::Distinct {
                    t,
                    scope,
                    received,
                    new_to_day,
                    new_to_hour,
                }
            }
        ),
        (t, agent.clone()).prop_map(|(t, agent)| Atom::Touch { t, agent }),
        (agent, 1u8..=5, prop::sample::select(vec![1i64, -1]), 20_000..20_002).prop_map(|(agent, stars, sign, day)| Atom::Rating {
            day,
            agent,
            stars,
            sign
        }),
        round.prop_map(|(t0, before, within, agent, outcome, [first, chain_first])| {
            let a0 = t0 + before;
            let ended_at = (outcome != Outcome::Unanswered).then_some(a0 + within);
            Atom::Round(Round {
                t0,
                seq: 0,
                a0,
                agent,
                ended_at,
                outcome,
                n: 1,
                first,
                chain_first,
            })
        }),
    ]
}

/// The values of all windows that are not all zeros.
fn values(windows: &mut Windows) -> Vec<(Grain, i64, Agent, Vec<i64>)> {
    let mut out = Vec::new();
    for grain in [Grain::Minute, Grain::Hour, Grain::Day] {
        for (start, block) in windows.blocks(grain) {
            for (scope, window) in block.iter_mut().filter(|(_, w)| !w.is_zero()) {
                out.push((grain, *start, scope, window.values(grain, scope == SHOP).to_vec()));
            }
        }
    }
    out
}

fn rules(policy: &Policy) -> Rules<'_> {
    Rules {
        utc: UtcOffset::CHINA,
        policy,
        chat_sealed_until: 0,
    }
}

proptest! {
    #[test]
    fn taking_every_atom_back_leaves_zeros(atoms in prop::collection::vec(atom(), 0..40), turn in any::<prop::sample::Index>()) {
        let policy = Policy::default();
        let rules = rules(&policy);
        let mut windows = Windows::default();
        atoms.iter().for_each(|a| windows.apply(&rules, a, 1));
        let turn = turn.index(atoms.len().max(1));
        atoms[turn.min(atoms.len())..].iter().chain(&atoms[..turn]).for_each(|a| windows.apply(&rules, a, -1));
        prop_assert_eq!(values(&mut windows), vec![]);
        for grain in [Grain::Minute, Grain::Hour, Grain::Day] {
            for block in windows.blocks(grain).values_mut() {
                for (_, window) in block.iter_mut() {
                    prop_assert_eq!(window.publish(grain, true, true, i64::MIN), None);
                    prop_assert_eq!(window.latencies.as_ref().and_then(|l| l.summary()), None);
                }
            }
        }
    }

    #[test]
    fn taking_some_back_leaves_the_others(kept in prop::collection::vec(atom(), 0..30), extra in prop::collection::vec(atom(), 0..30)) {
        let policy = Policy::default();
        let rules = rules(&policy);
        let (mut plain, mut tried) = (Windows::default(), Windows::default());
        extra.iter().for_each(|a| tried.apply(&rules, a, 1));
        kept.iter().for_each(|a| plain.apply(&rules, a, 1));
        kept.iter().for_each(|a| tried.apply(&rules, a, 1));
        extra.iter().rev().for_each(|a| tried.apply(&rules, a, -1));
        prop_assert_eq!(values(&mut plain), values(&mut tried));
    }

    #[test]
    fn compact_windows_say_the_same_and_take_the_same_corrections(atoms in prop::collection::vec(atom(), 0..30), later in prop::collection::vec((0usize..50, -5i64..5), 0..5)) {
        let policy = Policy::default();
        let rules = rules(&policy);
        let mut windows = Windows::default();
        atoms.iter().for_each(|a| windows.apply(&rules, a, 1));
        let mut compact = windows.clone();
        for (windows, compacts) in [(&mut windows, false), (&mut compact, true)] {
            for block in windows.blocks(Grain::Day).values_mut() {
                if compacts {
                    block.compact();
                }
                for (_, window) in block.iter_mut() {
                    // Counts of latencies stay as they are: rounds are sealed long before.
                    later.iter().filter(|(fig, _)| *fig > figure::LATENCY_P99).for_each(|(fig, delta)| window.add(*fig, *delta));
                }
            }
        }
        prop_assert_eq!(values(&mut windows), values(&mut compact));
    }
}
