//! Figures are a function of the set of accepted events: neither the order in which they arrive, nor copies, nor the source
//! partitions they come by make a difference.

use crate::generate::{cases, delays, items, send};
use crate::kit::{Cutting, Logged, Reader, Record, figures_only, first_day, frames, in_step, receive, run, same, tables, two_policies};
use peakdesk_model::position::SourcePartition;
use peakdesk_model::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use peakdesk_scoring::policy::Constants;
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

fn cut(sizes: &[usize]) -> Cutting {
    Cutting {
        sizes: sizes.to_vec(),
        ..Cutting::default()
    }
}

fn arrival_order_makes_no_difference(items: &[crate::kit::Item], delays: [&[u8]; 2]) -> Result<(), TestCaseError> {
    let policies = two_policies();
    let [left, right] = delays.map(|d| run(&frames(&in_step(&send(items, d, false)), &cut(&[3, 1, 7])), &policies));
    for reader in [&left, &right] {
        let counts = reader.fold.counts();
        prop_assert_eq!((counts.late, counts.raised, counts.sealed, counts.duplicates), (0, 0, 0, 0));
        prop_assert_eq!(counts.accepted, items.len() as u64);
    }
    same(&figures_only(&left.out.rows), &figures_only(&right.out.rows)).map_err(TestCaseError::fail)
}

/// Other partitions first, as `picks` choose; within a partition nothing overtakes.
fn interleave(logged: &[Logged], picks: &[u8]) -> Vec<Logged> {
    let mut queues: BTreeMap<SourcePartition, VecDeque<Logged>> = BTreeMap::new();
    for l in logged {
        queues.entry(l.source.partition).or_default().push_back(l.clone());
    }
    let mut out = Vec::new();
    for pick in picks.iter().cycle() {
        let n = queues.len();
        let Some((partition, queue)) = queues.iter_mut().nth(usize::from(*pick) % n.max(1)) else {
            return out;
        };
        // Runs of several, so that one partition gets far ahead of the others.
        for _ in 0..1 + pick / 64 {
            out.extend(queue.pop_front());
        }
        if queue.is_empty() {
            let done = *partition;
            queues.remove(&done);
        }
    }
    out
}

/// Copies of the events that `choices` pick, on partitions of their own, arriving no sooner than the originals.
fn copies(sent: &[Record], choices: &[u8]) -> Vec<Record> {
    let mut out = Vec::new();
    for (i, record) in sent.iter().enumerate() {
        let choice = choices[i % choices.len()];
        if choice.is_multiple_of(3) {
            let later = [0, 1, MINUTE_MS, 14 * MINUTE_MS, 6 * 60 * MINUTE_MS][usize::from(choice) % 5];
            let mut copy = record.clone();
            copy.partition = 7 + i32::from(choice % 2);
            copy.arrival += later;
            if !copy.item.kind.is_chat() {
                // Not beyond what is raised, which would be an event of another time.
                copy.arrival = copy.arrival.min(copy.item.t + 13 * 60 * MINUTE_MS).max(record.arrival);
            }
            out.push(copy);
        }
    }
    out
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn any_arrival_order_within_lateness_gives_the_same_figures(items in items(60, false), a in delays(), b in delays()) {
        arrival_order_makes_no_difference(&items, [&a, &b])?;
    }

    #[test]
    fn any_arrival_order_gives_the_same_figures_over_months(items in items(40, true), a in delays(), b in delays()) {
        arrival_order_makes_no_difference(&items, [&a, &b])?;
    }

    #[test]
    fn touches_are_kept_for_as_long_as_they_may_be_asked_for(items in items(50, true), delays in delays()) {
        let deliveries = frames(&in_step(&send(&items, &delays, true)), &cut(&[3, 1]));
        // The least that the attribution window of three days allows, and longer than the story goes on.
        let [short, long] = [4 * DAY_MS, 200 * DAY_MS].map(|touch_retention_ms| {
            let constants = Constants { touch_retention_ms, ..Constants::default() };
            let mut reader = Reader::with_constants(two_policies(), constants);
            reader.read_all(&deliveries);
            reader.run_on(12 * HOUR_MS);
            reader
        });
        same(&figures_only(&short.out.rows), &figures_only(&long.out.rows)).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn any_interleaving_of_source_partitions_gives_the_same_tables(
        items in items(50, false), delays in delays(), doubled in delays(), picks in prop::collection::vec(any::<u8>(), 16),
    ) {
        let mut sent = send(&items, &delays, true);
        let more = copies(&sent, &doubled);
        sent.extend(more);
        sent.sort_by_key(|r| r.item.t);
        let logged = receive(&sent);
        let policies = two_policies();
        let opening = Some(first_day() - 2 * DAY_MS);
        let left = run(&frames(&logged, &Cutting { opening, ..cut(&[5]) }), &policies);
        let right = run(&frames(&interleave(&logged, &picks), &Cutting { opening, ..cut(&[2, 9]) }), &policies);
        let (l, r) = (left.fold.counts(), right.fold.counts());
        prop_assert_eq!((l.accepted, l.duplicates, l.late, l.raised, l.sealed), (r.accepted, r.duplicates, r.late, r.raised, 0));
        same(&tables(&left.out.rows), &tables(&right.out.rows)).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn copies_change_nothing_but_counts(items in items(50, false), delays in delays(), doubled in delays()) {
        let sent = send(&items, &delays, false);
        let more = copies(&sent, &doubled);
        let chat = more.iter().filter(|r| r.item.kind.is_chat()).count() as u64;
        let money = more.len() as u64 - chat;
        let mut all = sent.clone();
        all.extend(more);
        let policies = two_policies();
        let once = run(&frames(&in_step(&sent), &cut(&[4])), &policies);
        let twice = run(&frames(&in_step(&all), &cut(&[4, 1])), &policies);
        let counts = twice.fold.counts();
        prop_assert_eq!(counts.duplicates + counts.late, chat);
        prop_assert_eq!(counts.accepted, once.fold.counts().accepted + money);
        same(&figures_only(&once.out.rows), &figures_only(&twice.out.rows)).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn any_split_into_source_partitions_gives_the_same_figures(
        items in items(50, false), delays in delays(), places in prop::collection::vec(0i32..5, 16),
    ) {
        let sent = send(&items, &delays, true);
        let mut moved = sent.clone();
        for (i, record) in moved.iter_mut().enumerate() {
            record.partition = places[i % places.len()];
        }
        let policies = two_policies();
        let left = run(&frames(&in_step(&sent), &cut(&[3])), &policies);
        let right = run(&frames(&in_step(&moved), &cut(&[3])), &policies);
        prop_assert_eq!(left.fold.counts(), right.fold.counts());
        same(&figures_only(&left.out.rows), &figures_only(&right.out.rows)).map_err(TestCaseError::fail)?;
        let late = |rows: &peakdesk_model::table::Rows| {
            let mut late: Vec<_> = rows.late_events.iter().map(|r| (r.event_id.clone(), r.shop_id.clone(), r.reason, r.clock)).collect();
            late.sort();
            late
        };
        prop_assert_eq!(late(&left.out.rows), late(&right.out.rows));
    }
}
