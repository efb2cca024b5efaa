//! Records of a dump in step: of all partitions the one whose clock stands lowest comes next.

use super::dump::PartitionReader;
use peakdesk_intake::clock::SourceClock;
use peakdesk_model::event::DeadReason;
use peakdesk_model::input::Topic;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What the clock of a partition says at its next record.
type Stand = Result<i64, DeadReason>;

/// A record that was read but is not done with.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    offset: i64,
    stand: Stand,
}

/// Merges the partitions of a dump by their clocks.
pub struct InStep {
    readers: Vec<PartitionReader>,
    clocks: Vec<SourceClock>,
    waiting: Vec<Option<Waiting>>,
    heap: BinaryHeap<Reverse<(i64, Topic, i32, usize)>>,
}

/// The next record: the one that its partition's reader stands at.
#[derive(Debug, Clone, Copy)]
pub struct Next {
    /// Place of its partition among the readers.
    pub source: usize,
    /// Its offset.
    pub offset: i64,
    /// Its clock, or why its own timestamp is bad.
    pub stand: Stand,
}

impl InStep {
    /// Begins with the first record of every partition.
    pub fn new(readers: Vec<PartitionReader>) -> anyhow::Result<Self> {
        let n = readers.len();
        let mut merge = InStep {
            readers,
            clocks: vec![SourceClock::new(); n],
            waiting: vec![None; n],
            heap: BinaryHeap::new(),
        };
        for source in 0..n {
            merge.go_on(source)?;
        }
        Ok(merge)
    }

    /// The partitions.
    pub fn readers(&self) -> &[PartitionReader] {
        &self.readers
    }

    /// The clock of a partition as far as handed out (ms).
    pub fn clock(&self, source: usize) -> Option<i64> {
        self.clocks.get(source).and_then(|c| c.at())
    }

    /// The next record of all; go on in its partition with [`InStep::go_on`] when it is done with.
    pub fn next(&mut self) -> Option<Next> {
        let Reverse((_, _, _, source)) = self.heap.pop()?;
        let Waiting { offset, stand } = self.waiting.get_mut(source).and_then(Option::take)?;
        if let (Ok(at), Some(clock)) = (stand, self.clocks.get_mut(source)) {
            *clock = SourceClock::resume(at);
        }
        Some(Next { source, offset, stand })
    }

    /// Reads the following record of a partition, after the one handed out is done with.
    pub fn go_on(&mut self, source: usize) -> anyhow::Result<()> {
        let (Some(reader), Some(clock)) = (self.readers.get_mut(source), self.clocks.get(source)) else {
            return Ok(());
        };
        let Some(stamp) = reader.advance()? else { return Ok(()) };
        let mut ahead = *clock;
        let stand = ahead.observe(stamp.timestamp_ms, None);
        // A record without a timestamp of its own comes where its partition stands.
        let order = stand.ok().or(clock.at()).unwrap_or(i64::MIN);
        self.heap.push(Reverse((order, reader.topic, reader.partition, source)));
        if let Some(place) = self.waiting.get_mut(source) {
            *place = Some(Waiting {
                offset: stamp.offset,
                stand,
            });
        }
        Ok(())
    }
}
