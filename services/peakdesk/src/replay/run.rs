//! `replay`: a dump of the input topics through the same intake, frames, fold and slices as in life, without Kafka.
//!
//! ```text
//! files ─► in step by clocks ─► edge ─► router ─► frames ─┬─► worker: fold, slices ─► Parquet
//!                                 └─► dead letters         └─► worker …
//! ```
//!
//! One thread reads; a worker has some of the log partitions to itself. The clock of every partition is where the reading
//! stands, since no record behind it can be older. At the end time runs on until nothing can change any more.

use super::dump::{PartitionReader, Payload};
use super::judge::decode_row;
use super::step::{InStep, Next};
use crate::dump::record::Record;
use anyhow::{Context, bail};
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
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;

/// Events that go into one round of frames: enough to make a frame's own cost vanish, few enough to stay in the caches.
const ROUND_EVENTS: usize = 8_192;
/// From how many records on the growth of memory is noted.
const GROWTH_FROM: u64 = 250_000;
/// Rounds that may wait for a worker.
const ROUNDS_AHEAD: usize = 4;
/// Log time that a file of a replay spans: a replay writes much at once, and the number of rows in a file is bounded anyway.
const SLICE_MS: i64 = 8 * 24 * HOUR_MS;

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
    Frames(Vec<(i32, FrameHead, Option<RecordBatch>)>),
    /// The input has ended; time runs on from here (ms).
    RunOn(i64),
}

struct Worker {
    jobs: SyncSender<Job>,
    thread: std::thread::JoinHandle<anyhow::Result<WorkerReport>>,
}

#[derive(Default)]
struct WorkerReport {
    counts: Counts,
    size: Size,
    rows: BTreeMap<&'static str, u64>,
    files: u64,
}

/// Replays a dump.
pub fn run(settings: &Settings) -> anyhow::Result<Report> {
    let begun = Instant::now();
    refuse_used_output(&settings.output)?;
    peakdesk_warehouse::file::check_writable(&settings.output)?;
    let mut merge = InStep::new(super::dump::open(&settings.input)?)?;
    let workers: Vec<Worker> = (0..settings.workers.clamp(1, settings.log_partitions.max(1) as usize))
        .map(|w| spawn(settings, w))
        .collect();
    let mut report = Report::default();
    let fed = feed(settings, &mut merge, &workers, &mut report);
    let mut failed = None;
    for worker in workers {
        drop(worker.jobs);
        match worker.thread.join() {
            Ok(Ok(part)) => report.add(part),
            Ok(Err(error)) => failed = Some(error),
            Err(_) => failed = failed.or_else(|| Some(anyhow::anyhow!("a worker thread panicked; its message stands above"))),
        }
    }
    // A worker that fails closes its channel, so that the reader fails too: the worker's error is the cause.
    match (failed, fed) {
        (Some(error), _) => return Err(error),
        (None, fed) => fed?,
    }
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

fn feed(settings: &Settings, merge: &mut InStep, workers: &[Worker], report: &mut Report) -> anyhow::Result<()> {
    let mut feeder = Feeder::new(settings, merge)?;
    while let Some(next) = merge.next() {
        feeder.take(&next, merge, report)?;
        merge.go_on(next.source)?;
        if feeder.waiting >= ROUND_EVENTS {
            feeder.send(workers)?;
            report.note_growth();
        }
    }
    feeder.send(workers)?;
    if let Some(at) = feeder.reading_at {
        for worker in workers {
            send(worker, Job::RunOn(at))?;
        }
    }
    feeder.dead.finish()?;
    Ok(())
}

fn send(worker: &Worker, job: Job) -> anyhow::Result<()> {
    worker.jobs.send(job).map_err(|_| anyhow::anyhow!("a worker thread ended early"))
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
            router: Router::new(sources, settings.log_partitions),
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
                Payload::Row(row) => decode_row(edge, row, position, clock, &mut loose),
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
                    self.router
                        .push(source, &decoded.event, decoded.question.map_or(0, |q| q as u8 + 1));
                    self.waiting += 1;
                    return Ok(Ok(()));
                }
                (Err(_), Payload::Json { sure: false, .. }) => payload = reader.payload(true)?,
                (Err(reason), _) => return Ok(Err(reason)),
            }
        }
    }

    /// Sends what waits to the workers, with the clocks where the reading stands.
    fn send(&mut self, workers: &[Worker]) -> anyhow::Result<()> {
        self.waiting = 0;
        if let Some(at) = self.reading_at {
            self.router.run_on(at);
        }
        let mut jobs: Vec<Vec<(i32, FrameHead, Option<RecordBatch>)>> = workers.iter().map(|_| Vec::new()).collect();
        let n = workers.len().max(1);
        for lane in 0..self.router.log_partitions() {
            let (head, batch) = self.router.take(lane, 0)?;
            if let Some(job) = jobs.get_mut(lane as usize % n) {
                job.push((lane, head, batch));
            }
        }
        for (worker, frames) in workers.iter().zip(jobs) {
            send(worker, Job::Frames(frames))?;
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

fn spawn(settings: &Settings, worker: usize) -> Worker {
    let (jobs, inbox) = sync_channel(ROUNDS_AHEAD);
    let (constants, policies, output) = (settings.constants.clone(), settings.policies.clone(), settings.output.clone());
    let n = settings.workers.clamp(1, settings.log_partitions.max(1) as usize);
    let lanes: Vec<i32> = (0..settings.log_partitions).filter(|l| *l as usize % n == worker).collect();
    let thread = std::thread::spawn(move || work(&inbox, &lanes, &constants, &policies, &output));
    Worker { jobs, thread }
}

struct Lane {
    fold: Fold,
    slicer: Slicer,
    offset: i64,
    ranges: Vec<SourceRange>,
}

fn work(inbox: &Receiver<Job>, lanes: &[i32], constants: &Constants, policies: &Policies, output: &Path) -> anyhow::Result<WorkerReport> {
    let mut report = WorkerReport::default();
    let lane = |l: &i32| Lane {
        fold: Fold::new(constants.clone()),
        slicer: Slicer::new(output, *l, SLICE_MS, Mark::default()),
        offset: 0,
        ranges: Vec::new(),
    };
    let mut state: BTreeMap<i32, Lane> = lanes.iter().map(|l| (*l, lane(l))).collect();
    while let Ok(job) = inbox.recv() {
        match job {
            Job::Frames(frames) => {
                for (number, head, batch) in frames {
                    let Some(lane) = state.get_mut(&number) else { continue };
                    lane.ranges.clone_from(&head.ranges);
                    let frame = Frame::new(head, batch.as_ref())?;
                    lane.apply(number, &frame, policies, &mut report)?;
                }
            }
            Job::RunOn(at) => {
                for (number, lane) in &mut state {
                    report.size += lane.fold.size();
                    lane.run_on(*number, at, policies, &mut report)?;
                }
            }
        }
    }
    for lane in state.values_mut() {
        report.note(&lane.slicer.finish()?);
        report.counts.add(&lane.fold.counts());
    }
    Ok(report)
}

impl Lane {
    fn apply(&mut self, number: i32, frame: &Frame, policies: &Policies, report: &mut WorkerReport) -> anyhow::Result<()> {
        let mut out = Output::default();
        self.fold.apply(self.offset, &frame.head, frame.events(), policies, &mut out);
        self.offset += 1;
        report.note(&self.slicer.push(out.rows.to_batches(number)?, self.fold.now())?);
        Ok(())
    }

    /// Ticks until nothing is left to be done, by the hour where something is due.
    fn run_on(&mut self, number: i32, from: i64, policies: &Policies, report: &mut WorkerReport) -> anyhow::Result<()> {
        let mut at = from;
        while let Some(due) = self.fold.next_timer_at() {
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
            let frame = Frame::new(
                FrameHead {
                    ranges,
                    ..FrameHead::default()
                },
                None,
            )?;
            self.apply(number, &frame, policies, report)?;
        }
        Ok(())
    }
}

impl WorkerReport {
    fn note(&mut self, files: &[Written]) {
        for file in files {
            self.files += 1;
            *self.rows.entry(file.table.name()).or_default() += file.rows as u64;
        }
    }
}

impl Report {
    fn add(&mut self, part: WorkerReport) {
        self.counts.add(&part.counts);
        self.size += part.size;
        self.files += part.files;
        for (table, rows) in part.rows {
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
