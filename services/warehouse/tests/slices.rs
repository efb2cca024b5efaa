//! The law of slices: whoever writes them, from whichever messages, writes the same files with the same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use arrow::array::RecordBatch;
use peakdesk_model::position::LogPosition;
use peakdesk_model::table::{LateRow, Rows, Stamp, Table};
use peakdesk_warehouse::slice::{Mark, Slicer};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

const SLICE_MS: i64 = 300_000;
const PART_ROWS: usize = 7;

fn row(offset: i64, index: u32, published_at: i64, day: i32) -> LateRow {
    let position = LogPosition { offset, index };
    LateRow {
        stamp: Stamp {
            policy: "default".into(),
            is_final: true,
            published_at,
            dt: day,
            position,
        },
        topic: "chat",
        partition: (offset % 3) as i32,
        generation: 1,
        offset,
        reason: "late",
        shop_id: format!("s{}", offset % 4).into(),
        event_id: format!("e{offset}-{index}").into(),
        kind: "RATING",
        event_time: published_at - 1,
        clock: published_at,
    }
}

/// Rows of frames whose log time moves by the given steps (ms), so many rows each.
fn story(frames: &[(i64, u32)]) -> Vec<LateRow> {
    let mut at = 1_762_790_400_000;
    let mut rows = Vec::new();
    for (offset, (step, n)) in frames.iter().enumerate() {
        at += step;
        rows.extend((0..*n).map(|i| row(offset as i64, i, at, 20_400 + (i % 3) as i32)));
    }
    rows
}

fn batches(rows: &[LateRow]) -> Vec<(Table, RecordBatch)> {
    Rows {
        late_events: rows.to_vec(),
        ..Rows::default()
    }
    .to_batches(5)
    .unwrap()
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut out = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                out.insert(path.strip_prefix(dir).unwrap().display().to_string(), std::fs::read(&path).unwrap());
            }
        }
    }
    out
}

/// Feeds the rows in messages that end where `cuts` say.
fn feed(slicer: &mut Slicer, rows: &[LateRow], cuts: &[usize]) {
    let mut begin = 0;
    for end in cuts.iter().copied().chain([rows.len()]) {
        let end = end.clamp(begin, rows.len());
        let log_time = rows.get(end.saturating_sub(1)).map_or(0, |r| r.stamp.published_at);
        slicer.push(batches(&rows[begin..end]), log_time).unwrap();
        begin = end;
    }
}

fn slicer(dir: &Path, mark: Mark) -> Slicer {
    Slicer::new(dir, 5, SLICE_MS, mark).with_part_rows(PART_ROWS)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn messages_may_be_cut_anywhere(
        frames in prop::collection::vec((0i64..200_000, 0u32..6), 1..30),
        cuts in prop::collection::vec(0usize..90, 0..12),
    ) {
        let rows = story(&frames);
        let mut cuts = cuts;
        cuts.sort_unstable();
        let (whole, pieces) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut a = slicer(whole.path(), Mark::default());
        feed(&mut a, &rows, &[]);
        a.finish().unwrap();
        let mut b = slicer(pieces.path(), Mark::default());
        feed(&mut b, &rows, &cuts);
        b.finish().unwrap();
        prop_assert_eq!(files(whole.path()), files(pieces.path()));
    }

    #[test]
    fn a_restart_goes_on_where_the_files_end(
        frames in prop::collection::vec((0i64..200_000, 0u32..6), 1..30),
        stop in 0usize..90,
        again in 0usize..30,
    ) {
        let rows = story(&frames);
        let (undisturbed, disturbed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut a = slicer(undisturbed.path(), Mark::default());
        feed(&mut a, &rows, &[]);
        a.finish().unwrap();

        let stop = stop.min(rows.len());
        let mut b = slicer(disturbed.path(), Mark::default());
        feed(&mut b, &rows[..stop], &[]);
        // Killed here. It was told to go on from the mark, and reads some rows again that are in files.
        let mark = b.mark();
        let first = rows.iter().position(|r| r.stamp.position >= mark.covered).unwrap_or(rows.len());
        let mut c = slicer(disturbed.path(), mark);
        feed(&mut c, &rows[first.saturating_sub(again)..], &[]);
        c.finish().unwrap();
        prop_assert_eq!(files(undisturbed.path()), files(disturbed.path()));
    }
}

#[test]
fn an_error_keeps_the_rows_for_the_next_attempt() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("tables");
    std::fs::write(&dir, "in the way").unwrap();
    let rows = story(&[(0, 3), (SLICE_MS, 2)]);
    let mut slicer = slicer(&dir, Mark::default());
    let later = rows.last().unwrap().stamp.published_at;
    let error = slicer.push(batches(&rows), later).unwrap_err().to_string();
    assert!(error.contains("cannot write") && error.contains("tables"), "{error}");
    assert_eq!(slicer.pending_rows(), 5);
    std::fs::remove_file(&dir).unwrap();
    slicer.push(Vec::new(), later).unwrap();
    assert_eq!(slicer.pending_rows(), 2);
    assert!(!files(&dir).is_empty());
}
