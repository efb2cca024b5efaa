//! NDJSON dumps: a line per record, the lines of a partition in offset order.
//!
//! Lines of different partitions may be interleaved in any way, so a file is looked through once to find which stretches
//! belong to which partition; then every partition is read on its own. Only the places of the stretches are kept, in about
//! four bytes each. Partitions that are read side by side share the blocks of the file that they are in.
//!
//! A line that begins as our own dumps do is not parsed as a whole where its value alone will do.

use super::dump::{Payload, Stamp};
use crate::dump::record::{Record, Value, headers_of, key_of};
use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memchr;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Bytes of a file that are read at once; every partition holds one such block.
const BLOCK_BYTES: u64 = 256 * 1024;

/// One line of a dump.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    partition: i32,
    offset: i64,
    #[serde(default)]
    timestamp_ms: Option<i64>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    raw: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    headers: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct PartitionOnly {
    partition: i32,
}

/// What the beginning of a line says, if it is as our own dumps write it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Head {
    stamp: Stamp,
    /// Where its value lies, if nothing follows it.
    value: Range<usize>,
}

/// Takes a number off the front, if a comma follows it.
fn number(text: &[u8]) -> Option<(i64, &[u8])> {
    // A nineteenth digit might not fit, and a leading zero is no JSON: both are for the real parser to judge.
    let digits = text.iter().take(19).take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = text.split_at_checked(digits)?;
    if digits == 0 || digits > 18 || (digits > 1 && number.first() == Some(&b'0')) {
        return None;
    }
    let value = number.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    Some((value, rest.strip_prefix(b",")?))
}

/// Takes a text without escapes off the front, if a comma follows it.
fn plain_text(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(b"\"")?;
    let (plain, rest) = rest.split_at_checked(memchr(b'"', rest)?)?;
    let is_plain = plain.iter().all(|b| *b >= 0x20 && *b != b'\\') && std::str::from_utf8(plain).is_ok();
    if is_plain { rest.strip_prefix(b"\",") } else { None }
}

fn head_of(line: &[u8]) -> Option<Head> {
    let (_, rest) = number(line.strip_prefix(b"{\"partition\":")?)?;
    let (offset, mut rest) = number(rest.strip_prefix(b"\"offset\":")?)?;
    let mut timestamp_ms = None;
    if let Some(after) = rest.strip_prefix(b"\"timestamp_ms\":") {
        let (value, after) = number(after)?;
        (timestamp_ms, rest) = (Some(value), after);
    }
    if let Some(after) = rest.strip_prefix(b"\"key\":") {
        rest = plain_text(after)?;
    }
    let value = rest.strip_prefix(b"\"value\":")?.strip_suffix(b"}")?;
    // The object of the line ends where the line does.
    Some(Head {
        stamp: Stamp { offset, timestamp_ms },
        value: line.len() - 1 - value.len()..line.len() - 1,
    })
}

/// The partition a line belongs to, without reading all of it where it begins as our own dumps do.
fn partition_of(line: &[u8]) -> Option<i32> {
    let fast = line
        .strip_prefix(b"{\"partition\":")
        .and_then(number)
        .and_then(|(partition, _)| i32::try_from(partition).ok());
    fast.or_else(|| serde_json::from_slice::<PartitionOnly>(line).ok().map(|p| p.partition))
}

/// Stretches of consecutive lines of one partition, each as the gap before it and its length.
#[derive(Debug, Default)]
struct Stretches {
    packed: Vec<u8>,
    /// End of the last one that is packed.
    packed_end: u64,
    open: Option<Range<u64>>,
}

impl Stretches {
    fn add(&mut self, line: Range<u64>) {
        match &mut self.open {
            Some(open) if open.end == line.start => open.end = line.end,
            _ => {
                self.close();
                self.open = Some(line);
            }
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            pack(&mut self.packed, open.start - self.packed_end);
            pack(&mut self.packed, open.end - open.start);
            self.packed_end = open.end;
        }
    }
}

/// Seven bits a byte, the lowest first; the last byte has its high bit clear.
fn pack(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn unpack(packed: &[u8], at: &mut usize) -> Option<u64> {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let byte = *packed.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
        shift += 7;
    }
}

/// A file and those of its blocks that somebody holds.
struct Shared {
    path: PathBuf,
    file: File,
    len: u64,
    blocks: Mutex<HashMap<u64, Weak<Vec<u8>>>>,
}

impl Shared {
    fn block(&self, number: u64) -> anyhow::Result<Arc<Vec<u8>>> {
        let mut blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = blocks.get(&number).and_then(Weak::upgrade) {
            return Ok(block);
        }
        let start = number * BLOCK_BYTES;
        let mut block = vec![0; self.len.saturating_sub(start).min(BLOCK_BYTES) as usize];
        self.file
            .read_exact_at(&mut block, start)
            .with_context(|| format!("cannot read {}; did it change while it was read?", self.path.display()))?;
        let block = Arc::new(block);
        blocks.retain(|_, held| held.strong_count() > 0);
        blocks.insert(number, Arc::downgrade(&block));
        Ok(block)
    }

    /// The number of the line that begins at `start`; only errors ask for it.
    fn line_number(&self, start: u64) -> u64 {
        let Ok(file) = File::open(&self.path) else { return 0 };
        let mut reader = BufReader::new(file.take(start));
        let mut number = 1;
        while let Ok(bytes) = reader.fill_buf() {
            let n = bytes.len();
            if n == 0 {
                break;
            }
            number += bytes.iter().filter(|b| **b == b'\n').count() as u64;
            reader.consume(n);
        }
        number
    }
}

/// The lines of one partition, in the order of the file.
pub struct Lines {
    shared: Arc<Shared>,
    stretches: Vec<u8>,
    unpacked: usize,
    /// What is left of the stretch that is being read.
    stretch: Range<u64>,
    block: Option<(u64, Arc<Vec<u8>>)>,
    /// Where the line lies in the block; a line that crosses blocks lies in `spilled` instead.
    in_block: Option<Range<usize>>,
    spilled: Vec<u8>,
    line_start: u64,
    head: Option<Head>,
}

/// Opens a file; its partitions, each with its lines.
pub fn open(path: &Path) -> anyhow::Result<Vec<(i32, Lines)>> {
    let cannot = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(cannot)?;
    let partitions = find_stretches(path, &file).with_context(cannot)?;
    let len = file.metadata().with_context(cannot)?.len();
    let shared = Arc::new(Shared {
        path: path.to_owned(),
        file,
        len,
        blocks: Mutex::default(),
    });
    let lines = |(partition, mut stretches): (i32, Stretches)| {
        stretches.close();
        let lines = Lines {
            shared: shared.clone(),
            stretches: stretches.packed,
            unpacked: 0,
            stretch: 0..0,
            block: None,
            in_block: None,
            spilled: Vec::new(),
            line_start: 0,
            head: None,
        };
        (partition, lines)
    };
    Ok(partitions.into_iter().map(lines).collect())
}

fn find_stretches(path: &Path, file: &File) -> anyhow::Result<BTreeMap<i32, Stretches>> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut partitions: BTreeMap<i32, Stretches> = BTreeMap::new();
    let (mut carried, mut at, mut number) = (Vec::new(), 0_u64, 0_u64);
    let mut see = |line: &[u8], at: u64| -> anyhow::Result<()> {
        number += 1;
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        let partition = partition_of(line).with_context(|| {
            format!("{}:{number}: not a record of a dump (a JSON object with \"partition\", \"offset\", \"timestamp_ms\", \"value\"); the file is damaged or not a dump", path.display())
        })?;
        partitions.entry(partition).or_default().add(at..at + line.len() as u64);
        Ok(())
    };
    loop {
        let bytes = reader.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        let n = bytes.len();
        let mut rest = bytes;
        while let Some((line, after)) = memchr(b'\n', rest).and_then(|i| rest.split_at_checked(i + 1)) {
            if carried.is_empty() {
                see(line, at)?;
                at += line.len() as u64;
            } else {
                carried.extend_from_slice(line);
                see(&carried, at)?;
                at += carried.len() as u64;
                carried.clear();
            }
            rest = after;
        }
        carried.extend_from_slice(rest);
        reader.consume(n);
    }
    if !carried.is_empty() {
        see(&carried, at)?;
    }
    Ok(partitions)
}

impl Lines {
    /// Goes on to the next line.
    pub fn advance(&mut self) -> anyhow::Result<Option<Stamp>> {
        if self.stretch.is_empty() && !self.next_stretch() {
            return Ok(None);
        }
        self.take_line()?;
        self.head = head_of(self.line());
        if let Some(head) = &self.head {
            return Ok(Some(head.stamp));
        }
        let line = self.parse()?;
        Ok(Some(Stamp {
            offset: line.offset,
            timestamp_ms: line.timestamp_ms,
        }))
    }

    fn next_stretch(&mut self) -> bool {
        let gap = unpack(&self.stretches, &mut self.unpacked);
        let len = unpack(&self.stretches, &mut self.unpacked);
        let (Some(gap), Some(len)) = (gap, len) else { return false };
        let start = self.stretch.end + gap;
        self.stretch = start..start + len;
        true
    }

    /// Takes one line off the stretch.
    fn take_line(&mut self) -> anyhow::Result<()> {
        self.line_start = self.stretch.start;
        self.in_block = None;
        self.spilled.clear();
        while !self.stretch.is_empty() {
            let number = self.stretch.start / BLOCK_BYTES;
            let block = match &self.block {
                Some((held, block)) if *held == number => block.clone(),
                _ => {
                    self.block = None;
                    self.block.insert((number, self.shared.block(number)?)).1.clone()
                }
            };
            let begin = (self.stretch.start - number * BLOCK_BYTES) as usize;
            let end = block.len().min((self.stretch.end - number * BLOCK_BYTES) as usize);
            let rest = block.get(begin..end).unwrap_or(&[]);
            let newline = memchr(b'\n', rest);
            let taken = newline.map_or(rest.len(), |i| i + 1);
            anyhow::ensure!(
                taken > 0,
                "cannot read {}; did it change while it was read?",
                self.shared.path.display()
            );
            self.stretch.start += taken as u64;
            let is_whole = newline.is_some() || self.stretch.is_empty();
            if is_whole && self.spilled.is_empty() {
                self.in_block = Some(begin..begin + taken);
                return Ok(());
            }
            self.spilled.extend_from_slice(rest.get(..taken).unwrap_or(rest));
            if is_whole {
                return Ok(());
            }
        }
        Ok(())
    }

    fn line(&self) -> &[u8] {
        let line = match (&self.in_block, &self.block) {
            (Some(range), Some((_, block))) => block.get(range.clone()).unwrap_or(&[]),
            _ => &self.spilled,
        };
        line.trim_ascii_end()
    }

    fn parse(&self) -> anyhow::Result<Line<'_>> {
        serde_json::from_slice(self.line())
            .map_err(|e| anyhow::anyhow!("{}: not a record of a dump: {e}; the file is damaged", self.place()))
    }

    /// What there is to decode.
    pub fn payload(&self, carefully: bool) -> anyhow::Result<Payload<'_>> {
        if !carefully && let Some(head) = &self.head {
            return Ok(Payload::Json {
                text: self.line().get(head.value.clone()).unwrap_or(&[]),
                sure: false,
            });
        }
        let line = self.parse()?;
        Ok(match (line.raw, line.value) {
            (None, Some(value)) => Payload::Json {
                text: value.get().as_bytes(),
                sure: true,
            },
            // Bytes that did not decode once are not tried again: their writer's schema is not here.
            _ => Payload::Undecodable,
        })
    }

    /// The whole record.
    pub fn record(&self) -> anyhow::Result<Record<'_>> {
        let line = self.parse()?;
        let value = match (line.raw, line.value) {
            (Some(raw), _) => {
                let bytes = STANDARD
                    .decode(raw.as_bytes())
                    .map_err(|e| anyhow::anyhow!("{}: `raw` is not base64: {e}", self.place()))?;
                Value::Raw(Cow::Owned(bytes))
            }
            (None, Some(value)) => Value::Json(Cow::Borrowed(value.get())),
            (None, None) => Value::Missing,
        };
        Ok(Record {
            partition: line.partition,
            offset: line.offset,
            timestamp_ms: line.timestamp_ms,
            key: key_of(line.key).map(Cow::Owned),
            headers: headers_of(line.headers),
            value,
        })
    }

    /// File and line.
    pub fn place(&self) -> String {
        format!("{}:{}", self.shared.path.display(), self.shared.line_number(self.line_start))
    }
}
