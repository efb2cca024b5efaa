//! The input topics as they stand at a moment: records become visible when they arrive.

use crate::story::{Record, Story};
use peakdesk_model::input::Topic;
use peakdesk_model::position::SourcePartition;
use std::collections::BTreeMap;

#[derive(Debug)]
pub struct Sources<'s> {
    partitions: BTreeMap<(Topic, i32), Vec<&'s Record>>,
    /// Wall time (ms).
    pub now: i64,
}

impl<'s> Sources<'s> {
    pub fn new(story: &'s Story) -> Self {
        let mut partitions: BTreeMap<_, Vec<&Record>> = BTreeMap::new();
        for record in &story.records {
            partitions.entry((record.topic, record.partition)).or_default().push(record);
        }
        Sources {
            partitions,
            now: story.begins,
        }
    }

    /// The partitions of a topic.
    pub fn partitions(&self, topic: Topic) -> i32 {
        self.partitions.keys().filter(|(t, _)| *t == topic).count() as i32
    }

    /// The offset that the next record will get.
    pub fn end(&self, topic: Topic, partition: i32) -> i64 {
        let records = self.partitions.get(&(topic, partition));
        records.map_or(0, |r| r.partition_point(|record| record.arrival <= self.now)) as i64
    }

    pub fn get(&self, topic: Topic, partition: i32, offset: i64) -> Option<&'s Record> {
        let record = *self.partitions.get(&(topic, partition))?.get(usize::try_from(offset).ok()?)?;
        (record.arrival <= self.now).then_some(record)
    }

    /// Partitions that hold records, and up to where.
    pub fn expected(&self) -> Vec<(SourcePartition, i64)> {
        let expected = |(topic, partition): &(Topic, i32)| {
            let end = self.end(*topic, *partition);
            let partition = SourcePartition {
                topic: *topic,
                partition: *partition,
                generation: 1,
            };
            (end > 0).then_some((partition, end))
        };
        self.partitions.keys().filter_map(expected).collect()
    }
}
