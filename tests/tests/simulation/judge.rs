//! Whether a world that was disturbed says what an undisturbed one says.
//!
//! ```text
//! its log ──► straight: frames folded in one go, cut into files ──► the same files, row for row (alerts too)
//! its story ─► undisturbed: one intake, one fold, no fault ───────► the same current rows, but for alerts and positions
//!          └─► auditor: what must be in the tables, counted by naive means
//! ```
//!
//! Alerts follow from how the source partitions were mixed, so two logs may differ in them; of one log they are exact.

use crate::broker::{Broker, Topic as Out};
use crate::intake::MAX_FRAME_EVENTS;
use crate::shelf::{Files, Memory};
use crate::sources::Sources;
use crate::story::Story;
use crate::warehouse::PART_ROWS;
use crate::world::LOG_PARTITIONS;
use peakdesk_intake::core::{Core, Incoming, Message, Settings};
use peakdesk_intake::decode::{Edge, Format};
use peakdesk_log::group::{Heard, Start};
use peakdesk_model::frame::Frame;
use peakdesk_model::input::Topic;
use peakdesk_model::position::LogPosition;
use peakdesk_model::table::{NULL, Rows, Stamp, WindowRow};
use peakdesk_model::time::{DAY_MS, MINUTE_MS};
use peakdesk_scoring::fold::Fold;
use peakdesk_scoring::output::Output;
use peakdesk_scoring::policy::{Constants, Policies};
use peakdesk_warehouse::slice::{Mark, Slicer};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, LazyLock};

static POLICIES: LazyLock<Policies> = LazyLock::new(Policies::default);

/// Files and rows of a log that is folded in one go.
pub fn straight(broker: &Broker, slice_ms: i64) -> Result<(Files, Rows), String> {
    let (shelf, mut all) = (Arc::new(Memory::default()), Rows::default());
    for partition in 0..LOG_PARTITIONS {
        let slicer = || {
            Slicer::new(Path::new(""), partition, slice_ms, Mark::default())
                .on(shelf.clone())
                .with_part_rows(PART_ROWS)
        };
        let (mut fold, mut rows) = (Fold::new(Constants::default()), Rows::default());
        for (offset, bytes) in (0..).zip(broker.all(Out::Log, partition)) {
            rows.append(fold_one(&mut fold, offset, bytes)?);
        }
        let alerts = Rows {
            alerts: std::mem::take(&mut rows.alerts),
            ..Rows::default()
        };
        for rows in [&rows, &alerts] {
            let batches = rows.to_batches(partition).map_err(|e| e.to_string())?;
            slicer().push(batches, fold.now()).map_err(|e| e.to_string())?;
        }
        all.append(rows);
        all.append(alerts);
    }
    Ok((shelf.files(), all))
}

fn fold_one(fold: &mut Fold, offset: i64, bytes: &[u8]) -> Result<Rows, String> {
    let frame = Frame::decode(bytes).map_err(|e| e.to_string())?;
    let mut out = Output::default();
    fold.apply(offset, &frame.head, frame.events(), &POLICIES, &mut out);
    Ok(out.rows)
}

/// The rows of a story that nothing disturbs.
pub fn undisturbed(story: &Story, edge: &Edge) -> Result<Rows, String> {
    let mut sources = Sources::new(story);
    let mut cores: Vec<Core> = Topic::ALL.into_iter().map(|topic| core(topic, &sources)).collect();
    let mut folds: Vec<(Fold, i64)> = (0..LOG_PARTITIONS).map(|_| (Fold::new(Constants::default()), 0)).collect();
    let mut rows = Rows::default();
    let mut tell = |messages: Vec<Message>| -> Result<(), String> {
        for message in messages {
            let (fold, offset) = &mut folds[message.log_partition as usize];
            rows.append(fold_one(fold, *offset, &message.bytes)?);
            *offset += 1;
        }
        Ok(())
    };
    let mut told_at = sources.now;
    for record in &story.records {
        sources.now = record.arrival;
        let incoming = Incoming {
            partition: record.partition,
            offset: record.offset,
            timestamp: Some(record.arrival),
            payload: Some(&record.value),
        };
        cores[record.topic as usize].read(&incoming, edge, sources.now);
        if sources.now - told_at > 7 * MINUTE_MS {
            told_at = sources.now;
            for core in &mut cores {
                tell(tick(core, &sources)?)?;
            }
        }
    }
    for _ in 0..30 {
        for core in &mut cores {
            tell(tick(core, &sources)?)?;
        }
        sources.now += 3 * DAY_MS;
    }
    Ok(rows)
}

fn core(topic: Topic, sources: &Sources<'_>) -> Core {
    let mut core = Core::new(Settings {
        topic,
        generation: 1,
        format: Format::Json,
        log_partitions: LOG_PARTITIONS,
        max_frame_events: MAX_FRAME_EVENTS * 1_000,
        expected: sources.expected(),
    });
    let start = |partition| Start {
        topic: topic.name().to_owned(),
        partition,
        offset: 0,
        low: 0,
        high: 0,
        metadata: None,
    };
    let starts: Vec<Start> = (0..sources.partitions(topic)).map(start).collect();
    core.change(&[], &starts);
    core
}

fn tick(core: &mut Core, sources: &Sources<'_>) -> Result<Vec<Message>, String> {
    (0..core.sources() as i32).for_each(|partition| core.reached_end(partition, sources.now));
    let heard = |_| Heard {
        at_ms: sources.now,
        until: 0,
    };
    core.tick(sources.now, heard, 1.0).map_err(|e| e.to_string())
}

/// Insists on the same files with the same rows.
pub fn same_files(found: &Files, expected: &Files) -> Result<(), String> {
    let name = |path: &Path| path.display().to_string();
    if let Some(path) = expected.keys().find(|path| !found.contains_key(*path)) {
        return Err(format!(
            "file {} is missing, among {} of {}",
            name(path),
            found.len(),
            expected.len()
        ));
    }
    if let Some(path) = found.keys().find(|path| !expected.contains_key(*path)) {
        return Err(format!("file {} is one too many", name(path)));
    }
    match expected.iter().find(|(path, rows)| found.get(*path) != Some(*rows)) {
        Some((path, rows)) => {
            let has = found.get(path).map_or(0, |batch| batch.num_rows());
            Err(format!("file {} has other rows: {has}, not {}", name(path), rows.num_rows()))
        }
        None => Ok(()),
    }
}

/// Insists on the same current rows, wherever and whenever they were published.
pub fn same_rows(found: &Rows, expected: &Rows) -> Result<(), String> {
    let same = |table: &str, outcome: Result<(), String>| outcome.map_err(|e| format!("{table}: {e}"));
    // First, as what came late explains most else.
    same(
        "late_events",
        compare(
            &found.late_events,
            &expected.late_events,
            |r| (r.topic, r.partition, r.generation, r.offset),
            |r| &mut r.stamp,
        ),
    )?;
    same(
        "reply_rounds",
        compare(
            &found.reply_rounds,
            &expected.reply_rounds,
            |r| (r.shop_id.clone(), r.buyer.0, r.t0, r.seq),
            |r| &mut r.stamp,
        ),
    )?;
    same(
        "orders",
        compare(
            &found.orders,
            &expected.orders,
            |r| (r.shop_id.clone(), r.order_id.clone()),
            |r| &mut r.stamp,
        ),
    )?;
    same(
        "refunds",
        compare(
            &found.refunds,
            &expected.refunds,
            |r| (r.shop_id.clone(), r.refund_id.clone()),
            |r| &mut r.stamp,
        ),
    )?;
    same(
        "buyer_days",
        compare(
            &found.buyer_days,
            &expected.buyer_days,
            |r| (r.shop_id.clone(), r.buyer.0, r.day),
            |r| &mut r.stamp,
        ),
    )?;
    for (table, found, expected) in [
        ("agent_windows", &found.agent_windows, &expected.agent_windows),
        ("shop_windows", &found.shop_windows, &expected.shop_windows),
    ] {
        let [found, expected] = [found, expected].map(|rows| windows(rows));
        let key = |r: &WindowRow| (r.shop_id.clone(), r.agent_id.clone(), r.grain, r.window_start);
        same(table, compare(&found, &expected, key, |r| &mut r.stamp))?;
    }
    Ok(())
}

/// Current windows; one that says nothing is as good as none.
fn windows(rows: &[WindowRow]) -> Vec<WindowRow> {
    let key = |r: &WindowRow| (r.shop_id.clone(), r.agent_id.clone(), r.grain, r.window_start);
    let current = current(rows, key);
    let says = |r: &&WindowRow| r.values.iter().any(|v| *v != 0 && *v != NULL);
    current.into_values().filter(says).cloned().collect()
}

/// The row of every key with the highest position.
pub fn current<R, K: Ord>(rows: &[R], key: impl Fn(&R) -> K) -> BTreeMap<K, &R> {
    rows.iter().map(|row| (key(row), row)).collect()
}

fn compare<R: Clone + PartialEq + Debug, K: Ord + Debug>(
    found: &[R],
    expected: &[R],
    key: impl Fn(&R) -> K,
    stamp: impl Fn(&mut R) -> &mut Stamp,
) -> Result<(), String> {
    let (found, expected) = (current(found, &key), current(expected, &key));
    if let Some(key) = expected.keys().find(|key| !found.contains_key(key)) {
        return Err(format!("row {key:?} is missing, among {} of {}", found.len(), expected.len()));
    }
    if let Some(key) = found.keys().find(|key| !expected.contains_key(key)) {
        return Err(format!("row {key:?} is one too many"));
    }
    // The day under which a row is filed follows from what was known when it was first published.
    let plain = |row: &R| {
        let mut row = row.clone();
        let stamp = stamp(&mut row);
        (stamp.published_at, stamp.dt, stamp.position) = (0, 0, LogPosition::start_of(0));
        row
    };
    match expected
        .iter()
        .map(|(key, row)| (plain(found[key]), plain(row)))
        .find(|(f, e)| f != e)
    {
        Some((found, expected)) => Err(format!("a row differs\n  found    {found:?}\n  expected {expected:?}")),
        None => Ok(()),
    }
}
