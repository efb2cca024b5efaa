//! The form of a dump that any tool can read: a JSON object per line and record.

use super::record::{Record, Value, compact, json_of_bytes, json_of_headers};
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::fs::File;
use std::io::{BufWriter, Write};

const BUFFER_BYTES: usize = 1 << 20;

/// Writes the file of a topic.
pub struct LinesWriter {
    file: BufWriter<File>,
    line: Vec<u8>,
    len: u64,
}

impl LinesWriter {
    /// Writes to `file`, which is empty.
    pub fn new(file: File) -> Self {
        LinesWriter {
            file: BufWriter::with_capacity(BUFFER_BYTES, file),
            line: Vec::new(),
            len: 0,
        }
    }

    /// Appends a record.
    pub fn push(&mut self, record: &Record<'_>) -> anyhow::Result<()> {
        self.line.clear();
        self.encode(record)?;
        self.len += self.line.len() as u64;
        self.file.write_all(&self.line).context("cannot write")
    }

    /// What is short comes first, so that a reader finds it before it has looked at the value.
    fn encode(&mut self, record: &Record<'_>) -> anyhow::Result<()> {
        let line = &mut self.line;
        write!(line, "{{\"partition\":{},\"offset\":{}", record.partition, record.offset)?;
        if let Some(timestamp_ms) = record.timestamp_ms {
            write!(line, ",\"timestamp_ms\":{timestamp_ms}")?;
        }
        if let Some(key) = &record.key {
            write!(line, ",\"key\":{}", json_of_bytes(key))?;
        }
        if !record.headers.is_empty() {
            write!(line, ",\"headers\":{}", json_of_headers(&record.headers))?;
        }
        match &record.value {
            Value::Json(text) => write!(line, ",\"value\":{}", compact(text))?,
            Value::Raw(bytes) => write!(line, ",\"raw\":\"{}\"", STANDARD.encode(bytes))?,
            Value::Missing => {}
        }
        line.extend_from_slice(b"}\n");
        Ok(())
    }

    /// Writes everything to the disk; gives the length in bytes.
    pub fn finish(self) -> anyhow::Result<u64> {
        let file = self.file.into_inner().map_err(|e| e.into_error()).context("cannot write")?;
        file.sync_all().context("cannot write to the disk")?;
        Ok(self.len)
    }
}
