//! A simulation as a dump: `chat.ndjson`, `orders.ndjson`, `refunds.ndjson`, one line per record.
//!
//! Each line is `{"partition":…,"offset":…,"timestamp_ms":…,"key":…,"value":{…}}`, with `"raw"` (base64) in place of `value` for
//! bytes that are no record. Offsets count from 0 per partition; a partition's lines come in offset order.
//!
//! The files get their names only when all of them are complete; until then, and after a failure, none of them is there.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use peakdesk_model::input::Topic;
use serde::Serialize;

use crate::SimError;
use crate::config::SimConfig;
use crate::generator::Generator;
use crate::record::{SimBody, SimRecord};
use crate::totals::SimTotals;

/// Writes a dump. Dropped without [`DumpWriter::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct DumpWriter {
    chat: Part,
    orders: Part,
    refunds: Part,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<File>>,
    next_offsets: Vec<i64>,
}

#[derive(Serialize)]
struct Line<'a, V: Serialize> {
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: &'a str,
    value: V,
}

#[derive(Serialize)]
struct RawLine<'a> {
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    key: &'a str,
    raw: String,
}

impl DumpWriter {
    /// Creates the directory, if need be, and the temporary files in it. Files of an earlier dump are replaced at the end.
    ///
    /// # Errors
    /// [`SimError::Dump`] with the path that could not be created.
    pub fn create(directory: &Path) -> Result<Self, SimError> {
        fs::create_dir_all(directory).map_err(|source| SimError::Dump {
            path: directory.to_owned(),
            source,
        })?;
        Ok(Self {
            chat: Part::create(directory, Topic::Chat)?,
            orders: Part::create(directory, Topic::Orders)?,
            refunds: Part::create(directory, Topic::Refunds)?,
        })
    }

    /// Appends a record under the next offset of its partition.
    ///
    /// # Errors
    /// [`SimError::Dump`] if the file cannot be written.
    pub fn write(&mut self, record: &SimRecord) -> Result<(), SimError> {
        match record.topic {
            Topic::Chat => self.chat.write(record),
            Topic::Orders => self.orders.write(record),
            Topic::Refunds => self.refunds.write(record),
        }
    }

    /// Writes everything to disk and gives the files their names.
    ///
    /// # Errors
    /// [`SimError::Dump`]; the temporary files are removed then.
    pub fn finish(mut self) -> Result<(), SimError> {
        for part in [&mut self.chat, &mut self.orders, &mut self.refunds] {
            part.sync()?;
        }
        for part in [&mut self.chat, &mut self.orders, &mut self.refunds] {
            part.publish()?;
        }
        Ok(())
    }
}

impl Part {
    fn create(directory: &Path, topic: Topic) -> Result<Self, SimError> {
        let name = format!("{}.ndjson", topic.name());
        let temporary = directory.join(format!(".{name}.{}.tmp", std::process::id()));
        let file = File::create(&temporary).map_err(|source| SimError::Dump {
            path: temporary.clone(),
            source,
        })?;
        let file = Some(BufWriter::with_capacity(1 << 20, file));
        Ok(Self {
            path: directory.join(name),
            temporary,
            file,
            next_offsets: Vec::new(),
        })
    }

    fn next_offset(&mut self, partition: i32) -> i64 {
        let partition = partition.unsigned_abs() as usize;
        if self.next_offsets.len() <= partition {
            self.next_offsets.resize(partition + 1, 0);
        }
        let Some(next) = self.next_offsets.get_mut(partition) else {
            return 0;
        };
        *next += 1;
        *next - 1
    }

    fn write(&mut self, record: &SimRecord) -> Result<(), SimError> {
        let offset = self.next_offset(record.partition);
        let SimRecord {
            partition,
            timestamp_ms,
            ref key,
            ..
        } = *record;
        let Some(file) = &mut self.file else { return Ok(()) };
        let written = match &record.body {
            SimBody::Chat(value) => line(
                file,
                &Line {
                    partition,
                    offset,
                    timestamp_ms,
                    key,
                    value,
                },
            ),
            SimBody::Order(value) => line(
                file,
                &Line {
                    partition,
                    offset,
                    timestamp_ms,
                    key,
                    value,
                },
            ),
            SimBody::Refund(value) => line(
                file,
                &Line {
                    partition,
                    offset,
                    timestamp_ms,
                    key,
                    value,
                },
            ),
            SimBody::Raw(bytes) => {
                let raw = STANDARD.encode(bytes);
                line(
                    file,
                    &RawLine {
                        partition,
                        offset,
                        timestamp_ms,
                        key,
                        raw,
                    },
                )
            }
        };
        written.map_err(|source| SimError::Dump {
            path: self.temporary.clone(),
            source,
        })
    }

    fn sync(&mut self) -> Result<(), SimError> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.flush()
            .and_then(|()| file.get_ref().sync_all())
            .map_err(|source| SimError::Dump {
                path: self.temporary.clone(),
                source,
            })
    }

    fn publish(&mut self) -> Result<(), SimError> {
        fs::rename(&self.temporary, &self.path).map_err(|source| SimError::Dump {
            path: self.path.clone(),
            source,
        })
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After a successful rename there is nothing under this name.
        let _ = fs::remove_file(&self.temporary);
    }
}

fn line<T: Serialize>(file: &mut BufWriter<File>, line: &T) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, line)?;
    file.write_all(b"\n")
}

/// Runs a whole simulation into a dump, as fast as it goes. `progress` is called now and then with the simulated time reached, in
/// milliseconds since the Unix epoch, and the records written so far; it returns false to stop early.
///
/// A dump that was stopped early is complete as far as it goes.
///
/// # Errors
/// [`SimError::Config`] and [`SimError::Dump`].
pub fn write_dump(config: &SimConfig, directory: &Path, mut progress: impl FnMut(i64, u64) -> bool) -> Result<SimTotals, SimError> {
    /// Often enough for a display and a prompt stop, seldom enough to cost nothing.
    const RECORDS_BETWEEN_REPORTS: u64 = 8_192;
    let mut generator = Generator::new(config)?;
    let mut writer = DumpWriter::create(directory)?;
    while let Some(record) = generator.next() {
        writer.write(&record)?;
        let records = generator.totals().records;
        if records.is_multiple_of(RECORDS_BETWEEN_REPORTS) && !progress(record.timestamp_ms, records) {
            break;
        }
    }
    writer.finish()?;
    Ok(generator.totals().clone())
}
