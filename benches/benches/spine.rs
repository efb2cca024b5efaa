//! The three costs that every event of the spine pays, each for the same simulated hour around midnight: decoding at the
//! edge, going through a frame of the shop log, and being folded.
//!
//! `cargo bench -p peakdesk-benches`; criterion prints events per second beside the times.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use peakdesk_intake::clock::SourceClock;
use peakdesk_intake::decode::{Edge, Format, SourceRecord};
use peakdesk_intake::loose::Loose;
use peakdesk_intake::registry::Schemas;
use peakdesk_intake::router::{Router, Source};
use peakdesk_model::frame::Frame;
use peakdesk_model::position::{SourcePartition, SourcePosition};
use peakdesk_scoring::fold::Fold;
use peakdesk_scoring::output::Output;
use peakdesk_scoring::policy::{Constants, Policies};
use peakdesk_simulator::{Encoder, Format as SimFormat, Generator, SchemaIds, SimConfig};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

/// As in the product.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const EVENTS_PER_FRAME: usize = 1_000;

struct Record {
    partition: SourcePartition,
    offset: i64,
    timestamp_ms: i64,
    json: Vec<u8>,
    avro: Vec<u8>,
}

/// The records of an hour of a few shops, in the order of their arrival.
fn records() -> Vec<Record> {
    let config = SimConfig {
        shops: 4,
        agents: Some(20),
        start_ms: 1_762_788_600_000,
        duration_ms: 3_600_000,
        ..SimConfig::default()
    };
    let json = Encoder::new(SimFormat::Json, SchemaIds::default()).unwrap();
    let avro = Encoder::new(SimFormat::Avro, SchemaIds::default()).unwrap();
    let mut offsets: BTreeMap<SourcePartition, i64> = BTreeMap::new();
    Generator::new(&config)
        .unwrap()
        .map(|record| {
            let partition = SourcePartition {
                topic: record.topic,
                partition: record.partition,
                generation: 1,
            };
            let offset = offsets.entry(partition).or_default();
            *offset += 1;
            let (mut a, mut b) = (Vec::new(), Vec::new());
            json.encode(&record.body, &mut a).unwrap();
            avro.encode(&record.body, &mut b).unwrap();
            Record {
                partition,
                offset: *offset - 1,
                timestamp_ms: record.timestamp_ms,
                json: a,
                avro: b,
            }
        })
        .collect()
}

fn edge() -> Edge {
    let schemas = Arc::new(Schemas::shipped().unwrap());
    Edge {
        buyer_key: [7; 32],
        future_skew_ms: 300_000,
        order_retention_ms: 45 * 86_400_000,
        schemas,
    }
}

/// The messages of one log partition.
fn frames(records: &[Record]) -> Vec<Vec<u8>> {
    let edge = edge();
    let mut partitions: Vec<SourcePartition> = records.iter().map(|r| r.partition).collect();
    partitions.sort_unstable();
    partitions.dedup();
    let sources = partitions
        .iter()
        .map(|p| Source {
            partition: *p,
            origin: 0,
            next: 0,
            clock: None,
        })
        .collect();
    let mut router = Router::new(sources, 1);
    let mut clocks: BTreeMap<SourcePartition, SourceClock> = BTreeMap::new();
    let mut out = Vec::new();
    for record in records {
        let clock = clocks
            .entry(record.partition)
            .or_default()
            .observe(Some(record.timestamp_ms), None)
            .unwrap();
        let place = router.find(record.partition).unwrap();
        let position = SourcePosition {
            partition: record.partition,
            offset: record.offset,
        };
        let mut loose = Loose::default();
        let source = SourceRecord {
            position,
            clock,
            format: Format::Json,
            payload: Some(&record.json),
        };
        if let Ok(decoded) = edge.decode(&source, &mut loose) {
            router.push(place, &decoded.event, 0);
        }
        router.advance(place, record.offset + 1, Some(clock));
        if router.waiting(0) >= EVENTS_PER_FRAME {
            router.run_on(record.timestamp_ms);
            let (head, batch) = router.take(0, 0).unwrap();
            out.push(Frame::encode(&head, batch.as_ref()).unwrap());
        }
    }
    out
}

fn decode(c: &mut Criterion) {
    let records = records();
    let edge = edge();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(records.len() as u64)).sample_size(10);
    for (name, format) in [("json", Format::Json), ("avro", Format::Avro)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut good = 0;
                for record in &records {
                    let payload = if format == Format::Json { &record.json } else { &record.avro };
                    let position = SourcePosition {
                        partition: record.partition,
                        offset: record.offset,
                    };
                    let mut loose = Loose::default();
                    let source = SourceRecord {
                        position,
                        clock: record.timestamp_ms,
                        format,
                        payload: Some(payload),
                    };
                    good += usize::from(edge.decode(&source, &mut loose).is_ok());
                }
                black_box(good)
            });
        });
    }
    group.finish();
}

fn read_frames(c: &mut Criterion) {
    let frames = frames(&records());
    let events = (frames.len() * EVENTS_PER_FRAME) as u64;
    let mut group = c.benchmark_group("frame");
    group.throughput(Throughput::Elements(events)).sample_size(10);
    group.bench_function("decode", |b| {
        b.iter(|| {
            frames
                .iter()
                .map(|f| Frame::decode(f).unwrap().events().filter(|e| e.spam).count())
                .sum::<usize>()
        });
    });
    group.finish();
}

fn fold(c: &mut Criterion) {
    let frames: Vec<Frame> = frames(&records()).iter().map(|f| Frame::decode(f).unwrap()).collect();
    let events = (frames.len() * EVENTS_PER_FRAME) as u64;
    let policies = Policies::default();
    let mut group = c.benchmark_group("fold");
    group.throughput(Throughput::Elements(events)).sample_size(10);
    group.bench_function("hour", |b| {
        b.iter(|| {
            let mut fold = Fold::new(Constants::default());
            let mut rows = 0;
            for (offset, frame) in frames.iter().enumerate() {
                let mut out = Output::default();
                fold.apply(offset as i64, &frame.head, frame.events(), &policies, &mut out);
                rows += out.rows.len();
            }
            black_box(rows)
        });
    });
    group.finish();
}

criterion_group!(spine, decode, read_frames, fold);
criterion_main!(spine);
