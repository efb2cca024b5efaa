//! What always holds of the machine, whatever happens to a buyer.

use super::*;
use peakdesk_model::time::{HOUR_MS, MINUTE_MS, SECOND_MS};
use proptest::prelude::*;

const STEPS: [i64; 12] = [
    0,
    1,
    SECOND_MS,
    30 * SECOND_MS,
    10 * MINUTE_MS - 1,
    10 * MINUTE_MS,
    10 * MINUTE_MS + 1,
    HOUR_MS,
    2 * HOUR_MS,
    8 * HOUR_MS,
    15 * HOUR_MS,
    26 * HOUR_MS,
];

fn steps() -> impl Strategy<Value = Vec<ChatStep>> {
    let kind = prop::sample::select(vec![
        Kind::BuyerMessage,
        Kind::BuyerMessage,
        Kind::AgentMessage,
        Kind::RobotMessage,
        Kind::Transfer,
        Kind::Rating,
    ]);
    let one = (
        0..STEPS.len(),
        kind,
        prop::option::of(0u32..3),
        prop::option::of(0u32..3),
        any::<[bool; 2]>(),
        1u8..=5,
    );
    prop::collection::vec(one, 0..60).prop_map(|drawn| {
        let mut t = UtcOffset::CHINA.start(20_000) + 22 * HOUR_MS;
        let step = |(step, kind, agent, to_agent, [spam, full], rating): (usize, Kind, Option<u32>, Option<u32>, [bool; 2], u8)| {
            t += STEPS[step];
            let needs_agent = matches!(kind, Kind::AgentMessage | Kind::Rating) || (kind == Kind::Transfer && to_agent.is_none());
            let agent = if needs_agent { agent.or(Some(0)) } else { agent };
            let robot_kind = if full { RobotKind::Full } else { RobotKind::Welcome };
            ChatStep {
                t,
                kind,
                agent,
                to_agent,
                spam: spam && rating == 1,
                assisted: false,
                rating,
                robot_kind,
            }
        };
        let mut steps: Vec<ChatStep> = drawn.into_iter().map(step).collect();
        steps.sort_by_key(|s| (s.t, s.kind));
        steps
    })
}

fn rounds(steps: &[ChatStep], rules: &Rules<'_>) -> (Vec<Round>, Machine) {
    let (mut machine, mut rounds) = (Machine::default(), Vec::new());
    let mut sink = |atom: Atom| {
        if let Atom::Round(round) = atom {
            rounds.push(round);
        }
    };
    steps.iter().for_each(|s| machine.step(s, rules, &mut sink));
    (rounds, machine)
}

proptest! {
    #[test]
    fn rounds_are_numbered_within_their_chain_and_lie_in_time(steps in steps()) {
        let policy = Policy::default();
        let rules = Rules {
            utc: UtcOffset::CHINA,
            policy: &policy,
            chat_sealed_until: 0,
        };
        let (rounds, _) = rounds(&steps, &rules);
        for pair in rounds.windows(2) {
            prop_assert!(pair[0].t0 <= pair[1].t0);
            prop_assert_eq!(pair[1].seq, if pair[0].t0 == pair[1].t0 { pair[0].seq + 1 } else { 0 });
            prop_assert!(pair[0].t0 != pair[1].t0 || !pair[0].ends_chain(), "a chain goes on behind its end");
        }
        for round in &rounds {
            prop_assert!(round.t0 <= round.a0);
            prop_assert!(round.ended_at.is_none_or(|end| end >= round.a0 && end <= rules.deadline(round.t0, round.a0)));
            prop_assert_eq!(round.ended_at.is_none(), round.outcome == Outcome::Unanswered);
            prop_assert!(round.chain_first || !round.first);
        }
    }

    #[test]
    fn time_that_runs_on_closes_what_the_next_event_would_have_closed(steps in steps(), at in any::<prop::sample::Index>()) {
        let policy = Policy::default();
        let rules = Rules {
            utc: UtcOffset::CHINA,
            policy: &policy,
            chat_sealed_until: 0,
        };
        let (mut expected, mut plain) = rounds(&steps, &rules);
        let at = at.index(steps.len() + 1);
        let (mut found, mut machine) = rounds(&steps[..at], &rules);
        let mut sink = |atom: Atom| {
            if let Atom::Round(round) = atom {
                found.push(round);
            }
        };
        if let Some(next) = steps.get(at) {
            machine.close_if_past(next.t, &rules, &mut sink);
        }
        steps[at..].iter().for_each(|s| machine.step(s, &rules, &mut sink));
        let end = i64::MAX;
        machine.close_if_past(end, &rules, &mut sink);
        plain.close_if_past(end, &rules, &mut |atom| {
            if let Atom::Round(round) = atom {
                expected.push(round);
            }
        });
        prop_assert_eq!(found, expected);
    }
}
