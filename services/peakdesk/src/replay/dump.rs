//! Reading a dump, in either form: the records of every partition of every topic, each partition on its own.
//!
//! The form of a topic is told by its file, `chat.ndjson` or `chat.parquet`; both at once are refused. Partitions are read
//! independently, in little memory, wherever their records lie in the file.

use super::{lines, rows};
use crate::dump::Form;
use crate::dump::record::Record;
use anyhow::bail;
use peakdesk_model::input::Topic;
use std::path::Path;

/// What the order of records follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Kafka offset.
    pub offset: i64,
    /// Kafka record timestamp (ms).
    pub timestamp_ms: Option<i64>,
}

/// What there is to decode of a record.
#[derive(Debug, Clone, Copy)]
pub enum Payload<'a> {
    /// A JSON value. Unless it is `sure`, a bad one may come of a line that was read too hastily, and counts only if
    /// [`PartitionReader::payload`] says the same when it reads with care.
    Json {
        /// Its bytes.
        text: &'a [u8],
        /// The line was read as a whole.
        sure: bool,
    },
    /// Typed columns.
    Row(rows::Row<'a>),
    /// Nothing that could be an event: no value, or bytes that did not decode when they were dumped.
    Undecodable,
}

enum Inner {
    Lines(lines::Lines),
    Rows(Box<rows::Rows>),
}

/// The records of one partition of one topic, in the order of offsets.
pub struct PartitionReader {
    /// Which topic.
    pub topic: Topic,
    /// Which partition.
    pub partition: i32,
    inner: Inner,
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
        let [ndjson, parquet] = [Form::Ndjson, Form::Parquet].map(|form| dir.join(form.file_name(topic)));
        let mut add = |partition, inner| {
            readers.push(PartitionReader {
                topic,
                partition,
                inner,
                last_offset: None,
            })
        };
        match (ndjson.exists(), parquet.exists()) {
            (true, true) => bail!(
                "{} and {} are two forms of the same topic; remove one of them",
                ndjson.display(),
                parquet.display()
            ),
            (true, false) => lines::open(&ndjson)?
                .into_iter()
                .for_each(|(partition, lines)| add(partition, Inner::Lines(lines))),
            (false, true) => rows::open(topic, &parquet)?
                .into_iter()
                .for_each(|(partition, rows)| add(partition, Inner::Rows(Box::new(rows)))),
            (false, false) => continue,
        }
        found = true;
    }
    if !found {
        bail!(
            "{} holds none of chat.ndjson, orders.ndjson, refunds.ndjson (nor chat.parquet and its like)",
            dir.display()
        );
    }
    Ok(readers)
}

impl PartitionReader {
    /// Goes on to the next record; `None` at the end.
    pub fn advance(&mut self) -> anyhow::Result<Option<Stamp>> {
        let stamp = match &mut self.inner {
            Inner::Lines(lines) => lines.advance()?,
            Inner::Rows(rows) => rows.advance()?,
        };
        if let (Some(stamp), Some(last)) = (stamp, self.last_offset)
            && stamp.offset <= last
        {
            bail!(
                "{}: offset {} of partition {} does not come after {last}; a dump holds the records of a partition in offset order",
                self.place(),
                stamp.offset,
                self.partition,
            );
        }
        self.last_offset = stamp.map(|s| s.offset).or(self.last_offset);
        Ok(stamp)
    }

    /// What there is to decode of the record that [`PartitionReader::advance`] went on to.
    pub fn payload(&self, carefully: bool) -> anyhow::Result<Payload<'_>> {
        match &self.inner {
            Inner::Lines(lines) => lines.payload(carefully),
            Inner::Rows(rows) => Ok(rows.payload()),
        }
    }

    /// The whole of that record.
    pub fn record(&self) -> anyhow::Result<Record<'_>> {
        match &self.inner {
            Inner::Lines(lines) => lines.record(),
            Inner::Rows(rows) => rows.record(),
        }
    }

    /// Where in the dump that record is.
    pub fn place(&self) -> String {
        match &self.inner {
            Inner::Lines(lines) => lines.place(),
            Inner::Rows(rows) => rows.place(),
        }
    }
}
