//! The files of a dump, under temporary names until all of them are complete.

use super::columns::ColumnsWriter;
use super::lines::LinesWriter;
use super::record::Record;
use super::{DumpReport, Form};
use anyhow::{Context, bail};
use peakdesk_model::input::Topic;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

enum Writer {
    Lines(LinesWriter),
    Columns(Box<ColumnsWriter>),
}

/// A file that is removed again unless all of the dump is complete.
struct Pending {
    path: PathBuf,
    /// Under which name it is to be removed.
    remove: Option<PathBuf>,
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(path) = &self.remove {
            // What cannot be removed is at worst in the way of the next dump, which says so.
            let _ = fs::remove_file(path);
        }
    }
}

/// Takes in the records of topic after topic.
pub struct Sink {
    dir: PathBuf,
    form: Form,
    pending: Vec<Pending>,
    open: Option<(Topic, Writer)>,
    report: DumpReport,
}

impl Sink {
    /// A dump in `dir`, which is made if need be and must not hold another.
    pub fn create(dir: &Path, form: Form) -> anyhow::Result<Self> {
        peakdesk_warehouse::file::check_writable(dir)?;
        for name in Topic::ALL.iter().flat_map(|topic| Form::ALL.map(|form| form.file_name(*topic))) {
            if dir.join(&name).exists() {
                bail!(
                    "{} already holds {name}; records of two dumps in one place would be counted together: name another directory",
                    dir.display()
                );
            }
        }
        Ok(Sink {
            dir: dir.to_owned(),
            form,
            pending: Vec::new(),
            open: None,
            report: DumpReport::default(),
        })
    }

    /// Begins the file of a topic; the one before is complete.
    pub fn begin(&mut self, topic: Topic) -> anyhow::Result<()> {
        self.end()?;
        let name = self.form.file_name(topic);
        let temporary = self.dir.join(format!(".{name}.{}.tmp", std::process::id()));
        let file = File::create(&temporary).with_context(|| format!("cannot create {}", temporary.display()))?;
        self.pending.push(Pending {
            path: self.dir.join(name),
            remove: Some(temporary),
        });
        let writer = match self.form {
            Form::Ndjson => Writer::Lines(LinesWriter::new(file)),
            Form::Parquet => Writer::Columns(Box::new(ColumnsWriter::new(topic, file)?)),
        };
        self.open = Some((topic, writer));
        self.report.records.entry(topic.name()).or_default();
        Ok(())
    }

    /// Appends a record to the file of the topic; its records come partition by partition, in offset order.
    pub fn push(&mut self, record: &Record<'_>) -> anyhow::Result<()> {
        let Some((topic, writer)) = &mut self.open else {
            bail!("no topic was begun")
        };
        *self.report.records.entry(topic.name()).or_default() += 1;
        let pushed = match writer {
            Writer::Lines(lines) => lines.push(record),
            Writer::Columns(columns) => columns.push(record),
        };
        pushed.with_context(|| self.place())
    }

    /// Counts a record whose JSON a replay will find too large.
    pub fn count_oversized(&mut self) {
        self.report.oversized += 1;
    }

    fn place(&self) -> String {
        self.pending
            .last()
            .map(|p| format!("cannot write {}", p.path.display()))
            .unwrap_or_default()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let finished = match self.open.take() {
            None => return Ok(()),
            Some((_, Writer::Lines(lines))) => lines.finish(),
            Some((_, Writer::Columns(columns))) => columns.finish(),
        };
        self.report.bytes += finished.with_context(|| self.place())?;
        Ok(())
    }

    /// Completes the last file and gives all of them their names.
    pub fn finish(mut self) -> anyhow::Result<DumpReport> {
        self.end()?;
        for file in &mut self.pending {
            let Some(temporary) = &file.remove else { continue };
            fs::rename(temporary, &file.path).with_context(|| format!("cannot write {}", file.path.display()))?;
            // Not before: a file of this name that is somebody else's is not ours to remove.
            file.remove = Some(file.path.clone());
        }
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .with_context(|| format!("cannot write {}", self.dir.display()))?;
        for file in &mut self.pending {
            file.remove = None;
        }
        Ok(std::mem::take(&mut self.report))
    }
}
