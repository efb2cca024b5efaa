//! The beginnings of the fuzzer's corpus, out of what the simulator writes and the fold says of it.
//!
//! Made anew with `cargo run --package peakdesk-tests --example fuzz_seeds`, when a form has changed. Files that the fuzzer found and that
//! are kept for it have other names, and stay.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../fuzz/src/lib.rs"]
#[allow(dead_code)]
mod targets;

use std::fs;
use std::path::Path;

use peakdesk_checkpoint::form;
use peakdesk_intake::decode::{Format, SourceRecord};
use peakdesk_intake::loose::Loose;
use peakdesk_intake::router::{Router, Source};
use peakdesk_model::frame::Frame;
use peakdesk_model::input::Topic;
use peakdesk_model::position::{LogPosition, SourcePartition, SourcePosition};
use peakdesk_model::results::{self, Span};
use peakdesk_runtime::layers::DEFAULTS;
use peakdesk_scoring::fold::Fold;
use peakdesk_scoring::output::Output;
use peakdesk_scoring::policy::{Constants, Policies, Policy};
use peakdesk_simulator::{Encoder, Generator, SchemaIds, SimConfig, SimRecord};

/// Files per target and kind.
const EACH: usize = 12;

fn keep(target: &str, name: &str, bytes: &[u8]) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(format!("seed-{name}")), bytes).unwrap();
}

fn records() -> Vec<SimRecord> {
    let config = SimConfig {
        seed: 7,
        shops: 1,
        agents: Some(2),
        buyers_per_agent: Some(40.0),
        start_ms: targets::CLOCK_MS,
        duration_ms: 96 * 3_600_000,
        ..SimConfig::default()
    };
    Generator::new(&config).unwrap().collect()
}

fn main() {
    let records = records();
    for (target, format) in [
        ("avro_edge", peakdesk_simulator::Format::Avro),
        ("json_edge", peakdesk_simulator::Format::Json),
    ] {
        let encoder = Encoder::new(format, SchemaIds::default()).unwrap();
        for topic in Topic::ALL {
            let of_topic: Vec<&SimRecord> = records.iter().filter(|record| record.topic == topic).collect();
            for (n, record) in of_topic
                .iter()
                .step_by((of_topic.len() / (EACH / 3)).max(1))
                .take(EACH / 3)
                .enumerate()
            {
                let mut bytes = Vec::new();
                encoder.encode(&record.body, &mut bytes).unwrap();
                // The target frames a datum itself.
                let input = if target == "avro_edge" { &bytes[5..] } else { &bytes[..] };
                keep(target, &format!("{}-{n}", topic.name()), input);
            }
        }
    }
    messages(&records);
    for (name, text) in [
        ("default", include_str!("../../schemas/policy.default.toml")),
        ("double11", include_str!("../../schemas/policy.double11.toml")),
    ] {
        keep("policy", name, text.as_bytes());
        pieces("policy", name, text);
    }
    keep("config", "defaults", DEFAULTS.as_bytes());
    pieces("config", "defaults", DEFAULTS);
}

/// The sections of a file, each a file.
fn pieces(target: &str, name: &str, text: &str) {
    let beginning = if target == "policy" { "profile = \"p\"\n" } else { "" };
    for (n, section) in text.split("\n[").skip(1).take(EACH).enumerate() {
        let lines: Vec<&str> = section.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
        keep(
            target,
            &format!("{name}-{n}"),
            format!("{beginning}[{}", lines.join("\n")).as_bytes(),
        );
    }
}

/// Frames of a few events, ticks, and the messages of results that follow from them.
fn messages(records: &[SimRecord]) {
    let encoder = Encoder::new(peakdesk_simulator::Format::Avro, SchemaIds::default()).unwrap();
    let partition = |topic| SourcePartition {
        topic,
        partition: 0,
        generation: 1,
    };
    let source = |topic| Source {
        partition: partition(topic),
        origin: 0,
        next: 0,
        clock: None,
    };
    let mut router = Router::new(Topic::ALL.map(source).to_vec(), 1);
    let mut fold = Fold::new(Constants::default());
    let policies = Policies::new(Policy::default(), Default::default());
    let (mut next, mut offset, mut kept) = ([0_i64; 3], 0_i64, 0);
    for (n, record) in records.iter().enumerate() {
        let place = record.topic as usize;
        let mut payload = Vec::new();
        encoder.encode(&record.body, &mut payload).unwrap();
        let source = SourceRecord {
            position: SourcePosition {
                partition: partition(record.topic),
                offset: next[place],
            },
            clock: record.timestamp_ms,
            format: Format::Avro,
            payload: Some(&payload),
        };
        next[place] += 1;
        let mut loose = Loose::default();
        if let Ok(decoded) = targets::edge().decode(&source, &mut loose) {
            router.push(place, &decoded.event, 0);
        }
        for (topic, next) in next.iter().enumerate() {
            router.advance(topic, *next, Some(record.timestamp_ms));
        }
        if n % 3 != 0 {
            continue;
        }
        let (head, batch) = router.take(0, record.timestamp_ms).unwrap();
        let bytes = Frame::encode(&head, batch.as_ref()).unwrap();
        let frame = Frame::decode(&bytes).unwrap();
        let mut out = Output::default();
        fold.apply(offset, &frame.head, frame.events(), &policies, &mut out);
        let span = Span {
            log_partition: 0,
            from: LogPosition::start_of(offset),
            to: LogPosition::start_of(offset + 1),
            log_time_ms: fold.now(),
            complete_until_ms: fold.complete_until(),
            caught_up: false,
        };
        if n < 3 * EACH {
            keep("frame", &offset.to_string(), &bytes);
        }
        let batches = out.rows.to_batches(0).unwrap();
        if !batches.is_empty() && kept < EACH {
            keep("results", &kept.to_string(), &results::encode(&span, &batches).unwrap());
            kept += 1;
        }
        offset += 1;
        if n == 300 {
            checkpoints(&fold);
        }
    }
}

/// The state after a few frames: its plain form, and a whole file.
fn checkpoints(fold: &Fold) {
    keep("checkpoint", "state", &postcard::to_stdvec(fold).unwrap());
    keep(
        "checkpoint",
        "state-empty",
        &postcard::to_stdvec(&Fold::new(Constants::default())).unwrap(),
    );
    let file = form::encode(&targets::checkpoint_head(), &fold.snapshot()).unwrap();
    keep("checkpoint", "file", &file);
    keep("checkpoint", "file-cut", &file[..file.len() / 2]);
}
