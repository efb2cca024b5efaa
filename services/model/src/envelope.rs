//! The container of our own Kafka messages: a JSON head and any number of named Arrow batches, with a checksum.
//!
//! ```text
//! "PKD1" | u32 length of head | head (JSON: kind, version, names of the parts, the kind's own fields)
//!        | per part: u32 length | Arrow IPC stream
//!        | u64 xxh3 of everything before
//! ```
//!
//! All numbers are little-endian. The head is text so that any Kafka tool can show what a message is about.

use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamDecoder;
use arrow::ipc::writer::StreamWriter;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use xxhash_rust::xxh3::xxh3_64;

const MAGIC: &[u8; 4] = b"PKD1";
const CHECKSUM_BYTES: usize = 8;

/// Why a message could not be read.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not a message of ours.
    #[error("message does not begin with PKD1: not written by peakdesk, or by another version of it")]
    Magic,
    /// Cut short or changed.
    #[error("message of {bytes} bytes is damaged: {what}")]
    Damaged {
        /// Its length.
        bytes: usize,
        /// What does not fit.
        what: &'static str,
    },
    /// The head is not what the reader expects.
    #[error("message head: {0}")]
    Head(String),
    /// A part is not an Arrow stream.
    #[error("message part: {0}")]
    Part(#[from] ArrowError),
}

#[derive(Debug, Serialize, Deserialize)]
struct RawHead {
    kind: String,
    version: u32,
    parts: Vec<String>,
    head: Box<serde_json::value::RawValue>,
}

/// A message, decoded or under construction.
#[derive(Debug)]
pub struct Envelope {
    raw: RawHead,
    parts: Vec<Vec<u8>>,
}

impl Envelope {
    /// A message without parts.
    pub fn new(kind: &str, version: u32, head: &impl Serialize) -> Result<Self, EnvelopeError> {
        let head = serde_json::value::to_raw_value(head).map_err(|e| EnvelopeError::Head(e.to_string()))?;
        Ok(Envelope {
            raw: RawHead {
                kind: kind.to_owned(),
                version,
                parts: Vec::new(),
                head,
            },
            parts: Vec::new(),
        })
    }

    /// Adds a batch.
    pub fn push_batch(&mut self, name: &str, batch: &RecordBatch) -> Result<(), EnvelopeError> {
        let mut bytes = Vec::with_capacity(batch.get_array_memory_size() + 1024);
        let mut writer = StreamWriter::try_new(&mut bytes, &batch.schema())?;
        writer.write(batch)?;
        writer.finish()?;
        drop(writer);
        self.raw.parts.push(name.to_owned());
        self.parts.push(bytes);
        Ok(())
    }

    /// The bytes of the message.
    pub fn encode(&self) -> Vec<u8> {
        // A head of strings and numbers always has a JSON form.
        let head = serde_json::to_vec(&self.raw).unwrap_or_default();
        let size = MAGIC.len() + 4 + head.len() + self.parts.iter().map(|p| p.len() + 4).sum::<usize>() + CHECKSUM_BYTES;
        let mut out = Vec::with_capacity(size);
        out.extend_from_slice(MAGIC);
        for block in std::iter::once(&head).chain(&self.parts) {
            out.extend_from_slice(&(block.len() as u32).to_le_bytes());
            out.extend_from_slice(block);
        }
        out.extend_from_slice(&xxh3_64(&out).to_le_bytes());
        out
    }

    /// Reads a message; nothing is allocated beyond its own length before the checksum is right.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let damaged = |what| EnvelopeError::Damaged { bytes: bytes.len(), what };
        if !bytes.starts_with(MAGIC) {
            return Err(EnvelopeError::Magic);
        }
        let (body, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(damaged("no checksum"))?;
        if xxh3_64(body) != u64::from_le_bytes(*checksum) {
            return Err(damaged("wrong checksum"));
        }
        let mut rest = body.get(MAGIC.len()..).unwrap_or(&[]);
        let mut block = || -> Result<&[u8], EnvelopeError> {
            let (length, tail) = rest.split_first_chunk::<4>().ok_or(damaged("a length is cut short"))?;
            let length = u32::from_le_bytes(*length) as usize;
            let (block, tail) = tail.split_at_checked(length).ok_or(damaged("a part is cut short"))?;
            rest = tail;
            Ok(block)
        };
        let raw: RawHead = serde_json::from_slice(block()?).map_err(|e| EnvelopeError::Head(e.to_string()))?;
        let parts = raw.parts.iter().map(|_| block().map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
        Ok(Envelope { raw, parts })
    }

    /// The head, if the message is of this kind and no newer version.
    pub fn head<T: DeserializeOwned>(&self, kind: &str, version: u32) -> Result<T, EnvelopeError> {
        if self.raw.kind != kind {
            return Err(EnvelopeError::Head(format!("a {} where a {kind} is expected", self.raw.kind)));
        }
        if self.raw.version > version {
            return Err(EnvelopeError::Head(format!(
                "{kind} of version {}; this program reads up to {version}",
                self.raw.version
            )));
        }
        serde_json::from_str(self.raw.head.get()).map_err(|e| EnvelopeError::Head(e.to_string()))
    }

    /// The batches with their names.
    pub fn batches(&self) -> Result<Vec<(&str, RecordBatch)>, EnvelopeError> {
        let mut out = Vec::with_capacity(self.parts.len());
        for (name, bytes) in self.raw.parts.iter().zip(&self.parts) {
            // The library panics at offsets beyond the part; nothing of ours is left half done by that.
            let batches = catch_unwind(AssertUnwindSafe(|| read_stream(bytes)));
            let batches = batches.map_err(|_| EnvelopeError::Damaged {
                bytes: bytes.len(),
                what: "an arrow stream contradicts itself",
            })??;
            out.extend(batches.into_iter().map(|batch| (name.as_str(), batch)));
        }
        Ok(out)
    }
}

/// Reads an Arrow stream. Not with the library's reader of streams, which allocates whatever lengths the stream claims: the decoder
/// takes pieces of the bytes that are there.
fn read_stream(bytes: &[u8]) -> Result<Vec<RecordBatch>, ArrowError> {
    let (mut rest, mut decoder, mut batches) = (Buffer::from(bytes), StreamDecoder::new(), Vec::new());
    while let Some(batch) = decoder.decode(&mut rest)? {
        batches.push(batch);
    }
    decoder.finish()?;
    Ok(batches)
}
