//! Records of a dump in step: of all partitions the one whose clock stands lowest comes next.

use super::dump::PartitionReader;
use peakdesk_intake::clock::SourceClock;
use peakdesk_model::event::DeadReason;
use peakdesk_model::input::Topic;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What the clock of a partition says at its next record.
type Stand = Result<i64, DeadReason>;

/// A line that has been read but not handed out.
struct Waiting {
    line: Vec<u8>,
    stand: Stand,
}

/// Merges the partitions of a dump by their clocks.
pub struct InStep {
    readers: Vec<PartitionReader>,
    clocks: Vec<SourceClock>,
    waiting: Vec<Option<Waiting>>,
    heap: BinaryHeap<Reverse<(i64, Topic, i32, usize)>>,
    spare: Vec<Vec<u8>>,
}

/// The next line, of the partition at `source`.
pub struct Next {
    /// Place of its partition among the readers.
    pub source: usize,
    /// The line.
    pub line: Vec<u8>,
    /// Its clock, or why its own timestamp is bad.
    pub stand: Stand,
    /// Where the reading stands (ms).
    pub reading_at: i64,
}

impl InStep {
    /// Begins with the first line of every partition.
    pub fn new(readers: Vec<PartitionReader>) -> anyhow::Result<Self> {
        let n = readers.len();
        let mut merge = InStep {
            readers,
            clocks: vec![SourceClock::new(); n],
            waiting: (0..n).map(|_| None).collect(),
            heap: BinaryHeap::new(),
            spare: Vec::new(),
        };
        for source in 0..n {
            merge.fill(source)?;
        }
        Ok(merge)
    }

    /// The partitions.
    pub fn readers(&mut self) -> &mut [PartitionReader] {
        &mut self.readers
    }

    /// The clock of a partition as far as handed out (ms).
    pub fn clock(&self, source: usize) -> Option<i64> {
        self.clocks.get(source).and_then(|c| c.at())
    }

    fn fill(&mut self, source: usize) -> anyhow::Result<()> {
        let mut line = self.spare.pop().unwrap_or_default();
        let Some(reader) = self.readers.get_mut(source) else {
            return Ok(());
        };
        if !reader.next_line(&mut line)? {
            return Ok(());
        }
        let timestamp = timestamp_of(&line);
        let Some(clock) = self.clocks.get(source) else { return Ok(()) };
        let mut ahead = *clock;
        let stand = ahead.observe(timestamp, None);
        // A record without a timestamp of its own comes where its partition stands.
        let order = stand.ok().or(clock.at()).unwrap_or(i64::MIN);
        self.heap.push(Reverse((order, reader.topic, reader.partition, source)));
        if let Some(place) = self.waiting.get_mut(source) {
            *place = Some(Waiting { line, stand });
        }
        Ok(())
    }

    /// The next line of all; give its buffer back with [`InStep::recycle`].
    pub fn next(&mut self) -> anyhow::Result<Option<Next>> {
        let Some(Reverse((reading_at, _, _, source))) = self.heap.pop() else {
            return Ok(None);
        };
        let Some(Waiting { line, stand }) = self.waiting.get_mut(source).and_then(Option::take) else {
            return Ok(None);
        };
        if let (Ok(at), Some(clock)) = (stand, self.clocks.get_mut(source)) {
            *clock = SourceClock::resume(at);
        }
        Ok(Some(Next {
            source,
            line,
            stand,
            reading_at,
        }))
    }

    /// Reads the following line of a partition, after the one handed out is done with.
    pub fn recycle(&mut self, source: usize, line: Vec<u8>) -> anyhow::Result<()> {
        self.spare.push(line);
        self.fill(source)
    }
}

#[derive(serde::Deserialize)]
struct TimestampOnly {
    #[serde(default)]
    timestamp_ms: Option<i64>,
}

/// The record timestamp of a line; lines that are no records are reported when they are parsed.
fn timestamp_of(line: &[u8]) -> Option<i64> {
    const KEY: &[u8] = b"\"timestamp_ms\":";
    // Our own dumps have it near the beginning, before anything a record could hold.
    let head = &line[..line.len().min(96)];
    let before_value = head
        .windows(8)
        .position(|w| w == b"\"value\":" || w == b"\"key\":\"\"")
        .unwrap_or(head.len());
    if let Some(i) = head[..before_value].windows(KEY.len()).position(|w| w == KEY) {
        let rest = &head[i + KEY.len()..];
        let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        if digits > 0
            && matches!(rest.get(digits), Some(b',' | b'}'))
            && let Some(t) = std::str::from_utf8(&rest[..digits]).ok().and_then(|d| d.parse().ok())
        {
            return Some(t);
        }
    }
    serde_json::from_slice::<TimestampOnly>(line).ok().and_then(|t| t.timestamp_ms)
}
