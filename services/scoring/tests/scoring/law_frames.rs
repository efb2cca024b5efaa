//! Frames are transport: how events are cut into them, what is repeated or missing for a while, where a reader stops and goes
//! on again, makes no difference.

use crate::generate::{cases, delays, items, send};
use crate::kit::{Cutting, Delivery, Reader, frames, in_step, run, same, tables, two_policies};
use peakdesk_model::frame::{FrameHead, SourceRange};
use peakdesk_model::time::{DAY_MS, HOUR_MS, MINUTE_MS};
use peakdesk_scoring::fold::Fold;
use peakdesk_scoring::live::LiveValue;
use peakdesk_scoring::snapshot::Snapshot;
use proptest::prelude::*;

fn cut(sizes: &[usize]) -> Cutting {
    Cutting {
        sizes: sizes.to_vec(),
        ..Cutting::default()
    }
}

/// The second of two frames and, before it in the same message, all that the first has: a retry that was put together anew.
fn overlap(first: &Delivery, second: &Delivery) -> Delivery {
    let from = |r: &SourceRange| {
        first
            .head
            .ranges
            .iter()
            .find(|f| f.partition == r.partition)
            .map_or(r.from, |f| f.from)
    };
    Delivery {
        head: FrameHead {
            ranges: second.head.ranges.iter().map(|r| SourceRange { from: from(r), ..*r }).collect(),
            ..FrameHead::default()
        },
        events: first.events.iter().chain(&second.events).cloned().collect(),
    }
}

fn through_bytes(snapshot: &Snapshot) -> Fold {
    postcard::from_bytes(&postcard::to_stdvec(snapshot).unwrap()).unwrap()
}

/// All that can be told of the state.
fn told(reader: &mut Reader) -> Vec<LiveValue> {
    let mut values = Vec::new();
    reader.fold.tell(true, |value| values.push(value));
    values
}

proptest! {
    #![proptest_config(cases(80))]

    #[test]
    fn any_cut_into_frames_gives_the_same_tables(
        items in items(50, false), delays in delays(), sizes in prop::collection::vec(0usize..6, 1..8), stand: bool,
        step in prop::sample::select(vec![HOUR_MS, 7 * HOUR_MS + 1, 3 * DAY_MS]),
    ) {
        let logged = in_step(&send(&items, &delays, true));
        let policies = two_policies();
        let at_once = run(&frames(&logged, &cut(&[])), &policies);
        let mut reader = Reader::new(policies);
        reader.read_all(&frames(&logged, &Cutting { sizes, stand, opening: None }));
        reader.run_on(step);
        prop_assert_eq!(at_once.fold.counts(), reader.fold.counts());
        same(&tables(&at_once.out.rows), &tables(&reader.out.rows)).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn any_cut_into_frames_gives_the_same_tables_over_months(
        items in items(40, true), delays in delays(), sizes in prop::collection::vec(0usize..6, 1..8),
    ) {
        let logged = in_step(&send(&items, &delays, true));
        let policies = two_policies();
        let at_once = run(&frames(&logged, &cut(&[])), &policies);
        let piecemeal = run(&frames(&logged, &Cutting { sizes, stand: true, opening: None }), &policies);
        prop_assert_eq!(at_once.fold.counts(), piecemeal.fold.counts());
        same(&tables(&at_once.out.rows), &tables(&piecemeal.out.rows)).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn repeated_and_overlapping_frames_change_nothing_at_all(
        items in items(40, false), delays in delays(), back in prop::collection::vec(0usize..4, 1..8),
    ) {
        let deliveries = frames(&in_step(&send(&items, &delays, true)), &cut(&[2, 3]));
        let mut plain = Reader::new(two_policies());
        let mut tried = Reader::new(two_policies());
        for (i, delivery) in deliveries.iter().enumerate() {
            plain.read(delivery);
            match back[i % back.len()] {
                1 if i > 0 => {
                    tried.offset += 10;
                    tried.read_at(tried.offset, &overlap(&deliveries[i - 1], delivery));
                }
                n => {
                    tried.read(delivery);
                    for (k, repeat) in deliveries[(i + 1).saturating_sub(n)..=i].iter().enumerate() {
                        tried.read_at(tried.offset + 1 + k as i64, repeat);
                    }
                }
            }
        }
        plain.run_on(DAY_MS);
        tried.run_on(DAY_MS);
        prop_assert_eq!(&plain.out.rows, &tried.out.rows);
        prop_assert_eq!(plain.fold.counts().accepted, tried.fold.counts().accepted);
        prop_assert_eq!(tried.fold.counts().gaps, 0);
    }

    #[test]
    fn a_gap_holds_time_until_its_repeat_heals_it(
        items in items(40, false), delays in delays(), lost in any::<prop::sample::Index>(), ahead in 1usize..5,
    ) {
        let policies = two_policies();
        let deliveries = frames(&in_step(&send(&items, &delays, false)), &cut(&[2, 1]));
        let undisturbed = run(&deliveries, &policies);
        let lost = lost.index(deliveries.len());
        let mut reader = Reader::new(policies);
        reader.read_all(&deliveries[..lost]);
        let before = reader.fold.complete_until();
        let (accepted, gaps) = (reader.fold.counts().accepted, reader.fold.counts().gaps);
        let mut ahead_of_it = 0;
        for delivery in deliveries.iter().skip(lost + 1).take(ahead) {
            reader.read(delivery);
            ahead_of_it += delivery.events.len() as u64;
        }
        if ahead_of_it > 0 {
            prop_assert!(reader.fold.counts().gaps > gaps);
            prop_assert!(reader.fold.counts().accepted <= accepted + ahead_of_it);
            let missing: Vec<_> = deliveries[lost].head.ranges.iter().filter(|r| r.from < r.to).map(|r| r.partition).collect();
            let stood = deliveries[..lost].last().into_iter().flat_map(|d| &d.head.ranges).filter(|r| missing.contains(&r.partition));
            let held = stood.filter_map(|r| r.clock).min();
            let new = missing.len() > deliveries[..lost].last().map_or(0, |d| d.head.ranges.iter().filter(|r| missing.contains(&r.partition) && r.clock.is_some()).count());
            prop_assert!(held.is_none_or(|h| reader.fold.complete_until() <= Some(h)), "time went past a gap");
            prop_assert!(!new || reader.fold.complete_until() == before, "time went past a gap at the beginning of a partition");
        }
        reader.read_all(&deliveries[lost..]);
        reader.run_on(100 * DAY_MS);
        prop_assert_eq!(reader.fold.counts().sealed, 0);
        prop_assert_eq!(reader.fold.counts().accepted, undisturbed.fold.counts().accepted);
        same(&tables(&undisturbed.out.rows), &tables(&reader.out.rows)).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_reader_that_goes_on_from_a_copy_or_a_snapshot_says_the_same(
        items in items(50, false), delays in delays(), at in any::<prop::sample::Index>(), idle in 0i64..4,
    ) {
        let deliveries = frames(&in_step(&send(&items, &delays, true)), &Cutting { stand: true, ..cut(&[2, 1, 4]) });
        let at = at.index(deliveries.len() + 1);
        let mut whole = Reader::new(two_policies());
        whole.read_all(&deliveries[..at]);
        if at == deliveries.len() {
            (0..idle).for_each(|i| whole.tick(whole.fold.now() + i * 31 * MINUTE_MS));
        }
        let said = whole.out.rows.len();
        // One is stored at once, another after the fold has gone on: a snapshot does not change.
        let (early, late) = (whole.fold.snapshot(), whole.fold.snapshot());
        let mut resumed = vec![whole.resume(whole.fold.clone()), whole.resume(through_bytes(&early))];
        let stand = whole.fold.clone();
        let mut behind = whole.resume(stand.clone());
        for reader in [&mut whole, &mut resumed[0]] {
            reader.read_all(&deliveries[at..]);
            reader.run_on(HOUR_MS);
        }
        behind.fold = through_bytes(&late);
        prop_assert!(behind.fold.finds_the_same(&stand), "maps made again differ");
        resumed.push(behind);
        for reader in resumed.iter_mut().skip(1) {
            reader.read_all(&deliveries[at..]);
            reader.run_on(HOUR_MS);
            prop_assert!(reader.fold.finds_the_same(&whole.fold), "maps differ in the end");
        }
        let in_the_end = told(&mut whole);
        for reader in &mut resumed {
            prop_assert_eq!(&told(reader), &in_the_end);
        }
        for reader in &resumed {
            prop_assert_eq!(whole.out.rows.len(), said + reader.out.rows.len());
            prop_assert_eq!(whole.fold.counts(), reader.fold.counts());
            for (name, left, right) in [
                ("rounds", format!("{:?}", tail(&whole.out.rows.reply_rounds, &reader.out.rows.reply_rounds)), format!("{:?}", reader.out.rows.reply_rounds)),
                ("orders", format!("{:?}", tail(&whole.out.rows.orders, &reader.out.rows.orders)), format!("{:?}", reader.out.rows.orders)),
                ("refunds", format!("{:?}", tail(&whole.out.rows.refunds, &reader.out.rows.refunds)), format!("{:?}", reader.out.rows.refunds)),
                ("days", format!("{:?}", tail(&whole.out.rows.buyer_days, &reader.out.rows.buyer_days)), format!("{:?}", reader.out.rows.buyer_days)),
                ("agents", format!("{:?}", tail(&whole.out.rows.agent_windows, &reader.out.rows.agent_windows)), format!("{:?}", reader.out.rows.agent_windows)),
                ("shops", format!("{:?}", tail(&whole.out.rows.shop_windows, &reader.out.rows.shop_windows)), format!("{:?}", reader.out.rows.shop_windows)),
                ("alerts", format!("{:?}", tail(&whole.out.rows.alerts, &reader.out.rows.alerts)), format!("{:?}", reader.out.rows.alerts)),
                ("late", format!("{:?}", tail(&whole.out.rows.late_events, &reader.out.rows.late_events)), format!("{:?}", reader.out.rows.late_events)),
            ] {
                prop_assert_eq!(left, right, "{}", name);
            }
        }
    }
}

/// The last rows of a table, as many as another has.
fn tail<'a, T>(whole: &'a [T], part: &[T]) -> &'a [T] {
    &whole[whole.len().saturating_sub(part.len())..]
}
