//! Reading a dump: three NDJSON files, a line per Kafka record, the lines of a partition in offset order.
//!
//! Lines of different partitions may be interleaved in any way, so a file is looked through once to find which stretches
//! belong to which partition; then every partition is read on its own. Nothing but the places of the stretches is kept.

use anyhow::{Context, bail};
use peakdesk_model::input::Topic;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of a partition's next lines is read at once.
const READ_AHEAD_BYTES: usize = 256 * 1024;

/// One line of a dump.
#[derive(Debug, Deserialize)]
pub struct Line<'a> {
    /// Kafka partition.
    pub partition: i32,
    /// Kafka offset.
    pub offset: i64,
    /// Kafka record timestamp (ms).
    #[serde(default)]
    pub timestamp_ms: Option<i64>,
    /// The record's value, if it was one JSON value.
    #[serde(borrow, default)]
    pub value: Option<&'a RawValue>,
    /// Its bytes in base64, if not.
    #[serde(borrow, default)]
    pub raw: Option<Cow<'a, str>>,
    /// The record's key.
    #[serde(borrow, default)]
    pub key: Option<&'a RawValue>,
    /// The record's headers.
    #[serde(borrow, default)]
    pub headers: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PartitionOnly {
    partition: i32,
}

/// The partition a line belongs to, without reading all of it where it begins as our own dumps do.
fn partition_of(line: &[u8]) -> Option<i32> {
    if let Some(rest) = line.strip_prefix(b"{\"partition\":") {
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits > 0 && rest.get(digits) == Some(&b',') {
            return std::str::from_utf8(&rest[..digits]).ok()?.parse().ok();
        }
    }
    serde_json::from_slice::<PartitionOnly>(line).ok().map(|p| p.partition)
}

/// A stretch of consecutive lines of one partition.
#[derive(Debug, Clone)]
struct Stretch {
    bytes: Range<u64>,
    first_line: u64,
}

/// The lines of one partition of one topic, in the order of the file.
pub struct PartitionReader {
    /// Which topic.
    pub topic: Topic,
    /// Which partition.
    pub partition: i32,
    path: Arc<PathBuf>,
    file: Arc<File>,
    stretches: std::vec::IntoIter<Stretch>,
    stretch: Stretch,
    buffer: Vec<u8>,
    at: usize,
    line_number: u64,
    last_offset: Option<i64>,
}

/// Opens the files of a dump; one that does not exist counts as empty, but one of them must.
pub fn open(dir: &Path) -> anyhow::Result<Vec<PartitionReader>> {
    if !dir.is_dir() {
        bail!(
            "{} is not a directory; name the directory that holds chat.ndjson, orders.ndjson and refunds.ndjson",
            dir.display()
        );
    }
    let mut readers = Vec::new();
    let mut found = false;
    for topic in Topic::ALL {
        let path = dir.join(format!("{}.ndjson", topic.name()));
        if path.exists() {
            found = true;
            readers.append(&mut open_file(topic, &path)?);
        }
    }
    if !found {
        bail!(
            "{} holds none of chat.ndjson, orders.ndjson, refunds.ndjson (nor chat.parquet and its like)",
            dir.display()
        );
    }
    Ok(readers)
}

fn open_file(topic: Topic, path: &Path) -> anyhow::Result<Vec<PartitionReader>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut reader = BufReader::with_capacity(1 << 20, &file);
    let mut stretches: BTreeMap<i32, Vec<Stretch>> = BTreeMap::new();
    let (mut line, mut at, mut number, mut last) = (Vec::new(), 0u64, 0u64, None);
    loop {
        line.clear();
        let read = reader
            .read_until(b'\n', &mut line)
            .with_context(|| format!("cannot read {}", path.display()))? as u64;
        if read == 0 {
            break;
        }
        number += 1;
        if !line.iter().all(u8::is_ascii_whitespace) {
            let partition = partition_of(&line).with_context(|| {
                format!("{}:{number}: not a record of a dump (a JSON object with \"partition\", \"offset\", \"timestamp_ms\", \"value\"); the file is damaged or not a dump", path.display())
            })?;
            let own = stretches.entry(partition).or_default();
            match own.last_mut().filter(|s| last == Some(partition) && s.bytes.end == at) {
                Some(stretch) => stretch.bytes.end = at + read,
                None => own.push(Stretch {
                    bytes: at..at + read,
                    first_line: number,
                }),
            }
            last = Some(partition);
        }
        at += read;
    }
    let (file, path) = (Arc::new(file), Arc::new(path.to_owned()));
    let reader = |(partition, stretches): (i32, Vec<Stretch>)| PartitionReader {
        topic,
        partition,
        path: path.clone(),
        file: file.clone(),
        stretches: stretches.into_iter(),
        stretch: Stretch {
            bytes: 0..0,
            first_line: 0,
        },
        buffer: Vec::new(),
        at: 0,
        line_number: 0,
        last_offset: None,
    };
    Ok(stretches.into_iter().map(reader).collect())
}

impl PartitionReader {
    /// Copies the next line into `line`; `false` at the end.
    pub fn next_line(&mut self, line: &mut Vec<u8>) -> anyhow::Result<bool> {
        loop {
            let rest = self.buffer.get(self.at..).unwrap_or(&[]);
            if let Some(n) = rest.iter().position(|b| *b == b'\n') {
                line.clear();
                line.extend_from_slice(&rest[..n]);
                self.at += n + 1;
                self.line_number += 1;
                return Ok(true);
            }
            if self.stretch.bytes.is_empty() {
                if !rest.is_empty() {
                    line.clear();
                    line.extend_from_slice(rest);
                    self.at = self.buffer.len();
                    self.line_number += 1;
                    return Ok(true);
                }
                let Some(next) = self.stretches.next() else { return Ok(false) };
                self.line_number = next.first_line - 1;
                self.stretch = next;
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        self.buffer.drain(..self.at.min(self.buffer.len()));
        self.at = 0;
        let begin = self.buffer.len();
        let n = (self.stretch.bytes.end - self.stretch.bytes.start).min(READ_AHEAD_BYTES as u64) as usize;
        self.buffer.resize(begin + n, 0);
        self.file
            .read_exact_at(&mut self.buffer[begin..], self.stretch.bytes.start)
            .with_context(|| format!("cannot read {}; did it change while it was read?", self.path.display()))?;
        self.stretch.bytes.start += n as u64;
        Ok(())
    }

    /// Parses a line that [`PartitionReader::next_line`] gave, and checks that offsets ascend.
    pub fn parse<'a>(&mut self, line: &'a [u8]) -> anyhow::Result<Line<'a>> {
        let place = || format!("{}:{}", self.path.display(), self.line_number);
        let parsed: Line<'a> =
            serde_json::from_slice(line).map_err(|e| anyhow::anyhow!("{}: not a record of a dump: {e}; the file is damaged", place()))?;
        if self.last_offset.is_some_and(|last| parsed.offset <= last) {
            bail!(
                "{}: offset {} of partition {} does not come after {}; a dump holds the lines of a partition in offset order",
                place(),
                parsed.offset,
                self.partition,
                self.last_offset.unwrap_or_default()
            );
        }
        self.last_offset = Some(parsed.offset);
        Ok(parsed)
    }
}
