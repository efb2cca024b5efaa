//! One form of a dump from the other.

use super::sink::Sink;
use super::{DumpReport, Form};
use crate::replay::dump::open;
use anyhow::bail;
use peakdesk_model::input::Topic;
use std::path::PathBuf;

/// What is to be converted.
#[derive(Debug, Clone)]
pub struct ConvertSettings {
    /// Directory of a dump, in either form.
    pub from: PathBuf,
    /// Directory to write to; must hold no dump.
    pub output: PathBuf,
    /// The form to write; converting a dump to the form it has puts its records in order of partitions.
    pub form: Form,
}

/// How often progress is told.
const RECORDS_BETWEEN_REPORTS: u64 = 65_536;

/// Writes a dump again. `progress` is called now and then with the records written so far; where it answers false, nothing is
/// left behind and the result is an error.
pub fn convert(settings: &ConvertSettings, mut progress: impl FnMut(u64) -> bool) -> anyhow::Result<DumpReport> {
    let mut readers = open(&settings.from)?;
    let mut sink = Sink::create(&settings.output, settings.form)?;
    let mut records = 0_u64;
    for topic in Topic::ALL {
        // A topic without file stays one.
        if !Form::ALL.iter().any(|form| settings.from.join(form.file_name(topic)).exists()) {
            continue;
        }
        sink.begin(topic)?;
        for reader in readers.iter_mut().filter(|reader| reader.topic == topic) {
            while reader.advance()?.is_some() {
                sink.push(&reader.record()?)?;
                records += 1;
                if records.is_multiple_of(RECORDS_BETWEEN_REPORTS) && !progress(records) {
                    bail!("stopped after {records} records; nothing was written");
                }
            }
        }
    }
    sink.finish()
}
