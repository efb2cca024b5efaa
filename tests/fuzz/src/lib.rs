//! What is fuzzed: everything that reads bytes which somebody else wrote. One function for each target, the same for cargo-fuzz
//! and for the test `hostile`, which gives them the kept corpus and bombs made by hand.
//!
//! | target | reads | must |
//! | --- | --- | --- |
//! | `avro_edge` | a value of an input topic, in each shipped schema and in one of a foreign writer | event or reason |
//! | `json_edge` | a value of an input topic | event or reason; the same for blanks more or less |
//! | `frame` | a message of the shop log; the checksum is also made right, so that what lies behind it is reached | error or frame |
//! | `results` | a message of results or alerts; likewise | error or rows |
//! | `config` | a configuration file | error or configuration |
//! | `policy` | a policy file | error or policy |
//! | `checkpoint` | a checkpoint's file; likewise, and as a body in a file that is right | error or state |
//!
//! For all: no panic, and no more than [`limit`] bytes allocated in sum, what was freed again included; of a compressed body, as many
//! as its plain form may. Checkpoints are our own and have a checksum, so what counts is that damage is an error.

use peakdesk_checkpoint::form::{self, Head};
use peakdesk_intake::decode::{Edge, Format, SourceRecord};
use peakdesk_intake::loose::Loose;
use peakdesk_intake::registry::Schemas;
use peakdesk_intake::schema::{shipped, shipped_id};
use peakdesk_model::frame::Frame;
use peakdesk_model::input::Topic;
use peakdesk_model::position::{LogPosition, SourcePartition, SourcePosition};
use peakdesk_model::results;
use peakdesk_runtime::config::Config;
use peakdesk_runtime::layers::Sources;
use peakdesk_scoring::fold::Fold;
use peakdesk_scoring::policy::{Constants, Policy};
use peakdesk_scoring::snapshot::STATE_VERSION;
use serde::ser::{Serialize, SerializeTuple, Serializer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::sync::{Arc, OnceLock};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 7] = [
    ("avro_edge", avro_edge),
    ("json_edge", json_edge),
    ("frame", frame),
    ("results", results),
    ("config", config),
    ("policy", policy),
    ("checkpoint", checkpoint),
];

/// A foreign writer's schema, with everything that Avro has: lists of nothing, recursion, unions of many kinds.
pub const FOREIGN: &str = include_str!("../foreign.avsc");
/// Its id.
pub const FOREIGN_ID: u32 = 9;

/// The clock of every record (ms): 2025-11-11 12:00 in China.
pub const CLOCK_MS: i64 = 1_762_833_600_000;

/// What reading so many bytes may allocate: 4 MiB, which a record of 1 KB must never exceed, and some times its own length.
pub fn limit(len: usize) -> usize {
    (4 << 20) + 64 * len
}

/// Does the work and holds it to its limit.
fn bounded<T>(len: usize, work: impl FnOnce() -> T) -> T {
    let region = Region::new(ALLOCATOR);
    let value = work();
    let allocated = region.change().bytes_allocated;
    assert!(allocated <= limit(len), "{len} bytes made it allocate {allocated}");
    value
}

/// The edge is made once: preparing schemas is no record's doing.
pub fn edge() -> &'static Edge {
    static EDGE: OnceLock<Edge> = OnceLock::new();
    EDGE.get_or_init(|| {
        let all = Topic::ALL.map(|topic| (shipped_id(topic), shipped(topic)));
        let schemas = Schemas::fixed(all.into_iter().chain([(FOREIGN_ID, FOREIGN)]));
        Edge {
            buyer_key: [7; 32],
            future_skew_ms: 300_000,
            order_retention_ms: 45 * 86_400_000,
            schemas: Arc::new(schemas.expect("the schemas are good")),
        }
    })
}

fn decode(topic: Topic, format: Format, payload: &[u8]) -> bool {
    let partition = SourcePartition {
        topic,
        partition: 0,
        generation: 1,
    };
    let record = SourceRecord {
        position: SourcePosition { partition, offset: 1 },
        clock: CLOCK_MS,
        format,
        payload: Some(payload),
    };
    let edge = edge();
    bounded(payload.len(), || edge.decode(&record, &mut Loose::default()).is_ok())
}

/// The input is a datum; it is read by every schema, as a record of every topic. Then it is read with its own frame.
pub fn avro_edge(input: &[u8]) {
    for id in [1, 2, 3, FOREIGN_ID] {
        let payload = peakdesk_intake::decode::frame(id, input);
        for topic in Topic::ALL {
            decode(topic, Format::Avro, &payload);
        }
    }
    decode(Topic::Chat, Format::Avro, input);
}

/// The input is a value; it is read as a record of every topic.
pub fn json_edge(input: &[u8]) {
    for topic in Topic::ALL {
        let good = decode(topic, Format::Json, input);
        let padded = [b" ".as_slice(), input, b"\n"].concat();
        assert_eq!(good, decode(topic, Format::Json, &padded), "blanks around it change the outcome");
        assert!(
            !good || decode(topic, Format::JsonOfDump, input),
            "good live and not good in a dump"
        );
    }
}

/// The input with a right checksum in place of its last eight bytes.
fn sealed(input: &[u8]) -> Vec<u8> {
    let body = input.split_last_chunk::<8>().map_or(input, |(body, _)| body);
    [body, &xxh3_64(body).to_le_bytes()].concat()
}

/// The input is a message of the shop log, as it is and with its checksum made right.
pub fn frame(input: &[u8]) {
    for bytes in [input, &sealed(input)] {
        bounded(bytes.len(), || {
            if let Ok(frame) = Frame::decode(bytes) {
                let named = frame.events().filter(|event| !event.shop_id.is_empty()).count();
                assert!(named <= frame.len());
            }
        });
    }
}

/// The input is a message of results, as it is and with its checksum made right.
pub fn results(input: &[u8]) {
    for bytes in [input, &sealed(input)] {
        bounded(bytes.len(), || {
            if let Ok((span, batches)) = results::decode(bytes) {
                for (_, batch) in &batches {
                    results::rows_before(batch, span.from);
                }
                peakdesk_model::alert::AlertRow::of_message(&batches, LogPosition::start_of(0));
            }
        });
    }
}

/// The input is a configuration file.
pub fn config(input: &[u8]) {
    static FILE: OnceLock<tempfile::NamedTempFile> = OnceLock::new();
    let file = FILE.get_or_init(|| tempfile::NamedTempFile::new().expect("a temporary file"));
    std::fs::write(file.path(), input).expect("writing the temporary file");
    let sources = Sources {
        file: Some(file.path().to_owned()),
        ..Sources::default()
    };
    bounded(input.len(), || {
        if let Ok(config) = Config::load(&sources) {
            config.render();
        }
    });
}

/// The input is a policy file.
pub fn policy(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let constants = Constants::default();
    bounded(input.len(), || drop(Policy::parse(text, &constants)));
}

/// Bytes that are their own stored form.
struct Plain<'a>(&'a [u8]);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.0.len())?;
        self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
        tuple.end()
    }
}

/// The head of a checkpoint whose body is read.
pub fn checkpoint_head() -> Head {
    Head {
        state_version: STATE_VERSION,
        topic: "log".to_owned(),
        partition: 0,
        offset: 1,
        last_message: 0,
        taken_at_ms: CLOCK_MS,
    }
}

/// The input is a checkpoint, as it is and with its checksum made right; and the plain body of one.
pub fn checkpoint(input: &[u8]) {
    let checked = input.split_last_chunk::<16>().map_or(input, |(body, _)| body);
    let sealed = [checked, &xxh3_128(checked).to_le_bytes()].concat();
    for bytes in [input, &sealed] {
        drop(form::decode::<Fold>(bytes, STATE_VERSION));
    }
    let file = form::encode(&checkpoint_head(), &Plain(input)).expect("bytes have a stored form");
    // Decompressing takes a window of its own, of some megabytes.
    bounded(input.len() + (1 << 18), || drop(form::decode::<Fold>(&file, STATE_VERSION)));
}
