//! `replay`: a dump of the input topics through the same intake, frames, fold and slices as in life, without Kafka.
//!
//! ```text
//! files ─► in step by clocks ─► edge ─► router ─► frames ─┬─► lane: fold, slices ─► Parquet
//!                                 └─► dead letters         └─► lane …
//! ```
//!
//! One thread reads; others take turns at the lanes, one for each log partition. The clock of every partition is where the
//! reading stands, since no record behind it can be older. At the end time runs on until nothing can change any more.

use super::dump::{PartitionReader, Payload};
use super::pool::Pool;
use super::step::{InStep, Next};
use crate::dump::record::Record;
use anyhow::{Context, bail, ensure};
use arrow::array::RecordBatch;
use peakdesk_intake::decode::{Edge, Format, Reject, SourceRecord};
use peakdesk_intake::loose::Loose;
use peakdesk_intake::router::{Router, Source};
use peakdesk_model::event::DeadReason;
use peakdesk_model::frame::{Frame, FrameHead, SourceRange};
use peakdesk_model::position::{SourcePartition, SourcePosition};
use peakdesk_model::time::HOUR_MS;
use peakdesk_runtime::metrics::Memory;
use peakdesk_scoring::fold::{Fold, Size};
use peakdesk_scoring::output::{Counts, Output};
use peakdesk_scoring::policy::{Constants, Policies};
use peakdesk_warehouse::dead::{DeadLetter, DeadLetterFiles};
use peakdesk_warehouse::slice::{Mark, Slicer, Written};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Events that go into one round of frames: enough to make a frame's own cost vanish, few enough to stay in the caches.
const ROUND_EVENTS: usize = 8_192;
/// Rows of a lane that are turned into columns at a time: a single frame has too few of a table to be worth it.
const ROWS_AT_ONCE: usize = 4_096;
/// From how many records on the growth of memory is noted.
const GROWTH_FROM: u64 = 250_000;
/// Log time that a file of a replay spans: a replay writes much at once, and the number of rows in a file is bounded anyway.
const SLICE_MS: i64 = 32 * 24 * HOUR_MS;

/// What a replay needs to know.
#[derive(Debug)]
pub struct Settings {
    /// Directory of the dump.
    pub input: PathBuf,
    /// Directory of the tables; must be empty.
    pub output: PathBuf,
    /// Log partitions.
    pub log_partitions: i32,
    /// Threads that fold.
    pub workers: usize,
    /// Decoding and dead-letter rules.
    pub edge: Edge,
    /// Constants of the deployment.
    pub constants: Constants,
    /// Policies.
    pub policies: Policies,
    /// Generations by topic, as configured.
    pub generation: i32,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    /// Records by topic name.
    pub records: BTreeMap<&'static str, u64>,
    /// Dead letters by reason.
    pub dead: BTreeMap<&'static str, u64>,
    /// Decisions about events.
    pub counts: Counts,
    /// State just before the end, when time had not run on yet.
    pub size: Size,
    /// Rows by table.
    pub rows: BTreeMap<&'static str, u64>,
    /// Files.
    pub files: u64,
    /// Seconds for all of it.
    pub seconds: f64,
    /// `(records read, resident MiB)` at doubling numbers of records: how memory grows.
    pub growth: Vec<(u64, u64)>,
}

enum Job {
    Frame(FrameHead, Option<RecordBatch>),
    /// The input has ended; time runs on from here (ms).
    RunOn(i64),
}

/// Replays a dump.
pub fn run(settings: &Settings) -> anyhow::Result<Report> {
    let begun = Instant::now();
    refuse_used_output(&settings.output)?;
    peakdesk_warehouse::file::check_writable(&settings.output)?;
    let mut merge = InStep::new(super::dump::open(&settings.input)?)?;
    let pool = Pool::new((0..settings.log_partitions).map(|number| Lane::new(settings, number)));
    let mut report = Report::default();
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let spawn = |i| {
            let thread = std::thread::Builder::new().name(format!("fold-{i}"));
            thread.spawn_scoped(scope, || pool.work(|lane, job| lane.work(job, &settings.policies)))
        };
        let workers: Vec<_> = (0..settings.workers.max(1)).map(spawn).collect::<Result<_, _>>()?;
        let fed = feed(settings, &mut merge, &pool, &mut report);
        pool.close();
        let mut failed = None;
        for worker in workers {
            match worker.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failed = Some(error),
                Err(_) => failed = failed.or_else(|| Some(anyhow::anyhow!("a thread that folds panicked; its message stands above"))),
            }
        }
        // When folding fails the reader fails too: the fold's error is the cause.
        failed.map_or(fed, Err)
    })?;
    pool.into_lanes().into_iter().for_each(|lane| report.add(lane));
    report.seconds = begun.elapsed().as_secs_f64();
    Ok(report)
}

fn refuse_used_output(output: &Path) -> anyhow::Result<()> {
    if output.exists() {
        let mut entries = std::fs::read_dir(output).with_context(|| format!("cannot read output directory {}", output.display()))?;
        if entries.next().is_some() {
            bail!(
                "output directory {} is not empty; rows of two replays in one place would be counted together: name a new one",
                output.display()
            );
        }
    }
    Ok(())
}

fn feed(settings: &Settings, merge: &mut InStep, pool: &Pool<Lane, Job>, report: &mut Report) -> anyhow::Result<()> {
    let mut feeder = Feeder::new(settings, merge)?;
    while let Some(next) = merge.next() {
        feeder.take(&next, merge, report)?;
        merge.go_on(next.source)?;
        if feeder.waiting >= ROUND_EVENTS {
            feeder.send(pool)?;
            report.note_growth();
        }
    }
    feeder.send(pool)?;
    if let Some(at) = feeder.reading_at {
        for lane in 0..settings.log_partitions {
            push(pool, lane, 0, Job::RunOn(at))?;
        }
    }
    feeder.dead.finish()?;
    Ok(())
}

fn push(pool: &Pool<Lane, Job>, lane: i32, weight: usize, job: Job) -> anyhow::Result<()> {
    ensure!(pool.push(lane as usize, weight, job), "a thread that folds ended early");
    Ok(())
}

struct Feeder<'s> {
    settings: &'s Settings,
    router: Router,
    dead: DeadLetterFiles,
    waiting: usize,
    reading_at: Option<i64>,
}

impl<'s> Feeder<'s> {
    fn new(settings: &'s Settings, merge: &mut InStep) -> anyhow::Result<Self> {
        let sources: Vec<Source> = merge
            .readers()
            .iter()
            .map(|r| {
                let partition = SourcePartition {
                    topic: r.topic,
                    partition: r.partition,
                    generation: settings.generation,
                };
                Source {
                    partition,
                    origin: 0,
                    next: 0,
                    clock: None,
                }
            })
            .collect();
        Ok(Feeder {
            router: Router::new(sources, settings.log_partitions).in_step(),
            dead: DeadLetterFiles::new(&settings.output.join("dead_letters"), "replay"),
            settings,
            waiting: 0,
            reading_at: None,
        })
    }

    fn take(&mut self, next: &Next, merge: &InStep, report: &mut Report) -> anyhow::Result<()> {
        let (Some(reader), Some(source)) = (merge.readers().get(next.source), self.router.sources().get(next.source)) else {
            return Ok(());
        };
        *report.records.entry(reader.topic.name()).or_default() += 1;
        let position = SourcePosition {
            partition: source.partition,
            offset: next.offset,
        };
        let outcome = match next.stand {
            Err(reason) => Err(reason),
            Ok(clock) => self.decode(next.source, position, clock, reader)?,
        };
        if let Ok(clock) = next.stand {
            self.reading_at = self.reading_at.max(Some(clock));
        }
        self.router.advance(next.source, next.offset + 1, merge.clock(next.source));
        if let Err(reason) = outcome {
            *report.dead.entry(reason.name()).or_default() += 1;
            self.dead.push(dead_letter(position, reason, next.stand.ok(), reader.record()?))?;
        }
        Ok(())
    }

    fn decode(
        &mut self,
        source: usize,
        position: SourcePosition,
        clock: i64,
        reader: &PartitionReader,
    ) -> anyhow::Result<Result<(), DeadReason>> {
        let edge = &self.settings.edge;
        let mut loose = Loose::default();
        let mut payload = reader.payload(false)?;
        loop {
            let decoded = match payload {
                Payload::Undecodable => Err(DeadReason::Undecodable),
                Payload::Row(row) => edge.judge(row, position, clock),
                Payload::Json { text, .. } => {
                    let record = SourceRecord {
                        position,
                        clock,
                        format: Format::JsonOfDump,
                        payload: Some(text),
                    };
                    edge.decode(&record, &mut loose).map_err(|reject| match reject {
                        Reject::Dead(reason) => reason,
                        Reject::Retry(_) => DeadReason::Undecodable,
                    })
                }
            };
            match (decoded, payload) {
                (Ok(decoded), _) => {
                    // What a message is about is for people who look at the present.
                    self.router.push(source, &decoded.event, 0);
                    self.waiting += 1;
                    return Ok(Ok(()));
                }
                (Err(_), Payload::Json { sure: false, .. }) => payload = reader.payload(true)?,
                (Err(reason), _) => return Ok(Err(reason)),
            }
        }
    }

    /// Hands what waits to the lanes, with the clocks where the reading stands.
    fn send(&mut self, pool: &Pool<Lane, Job>) -> anyhow::Result<()> {
        self.waiting = 0;
        if let Some(at) = self.reading_at {
            self.router.run_on(at);
        }
        for lane in 0..self.router.log_partitions() {
            let (head, batch) = self.router.take(lane, 0)?;
            let weight = batch.as_ref().map_or(1, RecordBatch::num_rows);
            push(pool, lane, weight, Job::Frame(head, batch))?;
        }
        Ok(())
    }
}

fn dead_letter(position: SourcePosition, reason: DeadReason, clock: Option<i64>, record: Record<'_>) -> DeadLetter {
    DeadLetter {
        position,
        reason,
        clock,
        timestamp_ms: record.timestamp_ms,
        key: record.key.map(|key| key.into_owned()),
        value: record.value.into_bytes(),
        headers: record
            .headers
            .into_iter()
            .map(|(name, value)| (name.into_owned(), value.map(|value| value.into_owned())))
            .collect(),
    }
}

/// One log partition.
struct Lane {
    number: i32,
    fold: Fold,
    out: Output,
    slicer: Slicer,
    offset: i64,
    ranges: Vec<SourceRange>,
    size: Size,
    rows: BTreeMap<&'static str, u64>,
    files: u64,
}

impl Lane {
    fn new(settings: &Settings, number: i32) -> Self {
        Lane {
            number,
            fold: Fold::new(settings.constants.clone()),
            out: Output::default(),
            slicer: Slicer::new(&settings.output, number, SLICE_MS, Mark::default()),
            offset: 0,
            ranges: Vec::new(),
            size: Size::default(),
            rows: BTreeMap::new(),
            files: 0,
        }
    }

    fn work(&mut self, job: Job, policies: &Policies) -> anyhow::Result<()> {
        match job {
            Job::Frame(head, batch) => {
                self.ranges.clone_from(&head.ranges);
                self.apply(&Frame::new(head, batch.as_ref())?, policies)
            }
            Job::RunOn(at) => {
                self.size = self.fold.size();
                self.run_on(at, policies)?;
                self.hand_on()?;
                let files = self.slicer.finish()?;
                self.note(&files);
                Ok(())
            }
        }
    }

    fn apply(&mut self, frame: &Frame, policies: &Policies) -> anyhow::Result<()> {
        self.fold.apply(self.offset, &frame.head, frame.events(), policies, &mut self.out);
        self.offset += 1;
        if self.out.rows.len() >= ROWS_AT_ONCE {
            self.hand_on()?;
        }
        Ok(())
    }

    fn hand_on(&mut self) -> anyhow::Result<()> {
        let rows = std::mem::take(&mut self.out.rows);
        let files = self.slicer.push(rows.to_batches(self.number)?, self.fold.now())?;
        self.note(&files);
        Ok(())
    }

    /// Ticks until nothing is left to be said, by the hour where something is due.
    fn run_on(&mut self, from: i64, policies: &Policies) -> anyhow::Result<()> {
        let mut at = from;
        while let Some(due) = self.fold.next_timer_at().filter(|_| self.fold.may_say_more()) {
            at = (at + HOUR_MS).max((due.div_euclid(HOUR_MS) + 1) * HOUR_MS);
            let ranges = self
                .ranges
                .iter()
                .map(|r| SourceRange {
                    from: r.to,
                    clock: r.clock.map(|c| c.max(at)),
                    ..*r
                })
                .collect();
            let head = FrameHead {
                ranges,
                in_step: true,
                ..FrameHead::default()
            };
            self.apply(&Frame::new(head, None)?, policies)?;
        }
        Ok(())
    }

    fn note(&mut self, files: &[Written]) {
        for file in files {
            self.files += 1;
            *self.rows.entry(file.table.name()).or_default() += file.rows as u64;
        }
    }
}

impl Report {
    fn add(&mut self, lane: Lane) {
        self.counts.add(&lane.fold.counts());
        self.size += lane.size;
        self.files += lane.files;
        for (table, rows) in lane.rows {
            *self.rows.entry(table).or_default() += rows;
        }
    }

    fn note_growth(&mut self) {
        let (total, next) = (self.total(), self.growth.last().map_or(GROWTH_FROM, |g| g.0 * 2));
        if total >= next
            && let Some(memory) = Memory::of_process()
        {
            self.growth.push((total, memory.resident_bytes >> 20));
        }
    }

    /// All records read.
    pub fn total(&self) -> u64 {
        self.records.values().sum()
    }
}
