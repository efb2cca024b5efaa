//! Files in memory, on a disk that may refuse.

use arrow::array::RecordBatch;
use peakdesk_warehouse::file::{Shelf, WriteError};
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

pub type Files = BTreeMap<PathBuf, RecordBatch>;

/// What the next file meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    Takes,
    Refuses,
    /// It is there, and an error is answered.
    TakesUnheard,
}

#[derive(Debug)]
pub struct Memory {
    files: Mutex<Files>,
    disk: Mutex<Disk>,
    /// A file that was written again with other rows.
    changed: Mutex<Option<PathBuf>>,
}

impl Default for Memory {
    fn default() -> Self {
        Memory {
            files: Mutex::default(),
            disk: Mutex::new(Disk::Takes),
            changed: Mutex::default(),
        }
    }
}

impl Memory {
    pub fn set_disk(&self, disk: Disk) {
        *self.disk.lock().unwrap() = disk;
    }

    pub fn files(&self) -> Files {
        self.files.lock().unwrap().clone()
    }

    pub fn changed(&self) -> Option<PathBuf> {
        self.changed.lock().unwrap().clone()
    }
}

impl Shelf for Memory {
    fn put(&self, dir: &Path, name: &str, batch: &RecordBatch) -> Result<PathBuf, WriteError> {
        let path = dir.join(name);
        let disk = *self.disk.lock().unwrap();
        if disk != Disk::Refuses {
            let before = self.files.lock().unwrap().insert(path.clone(), batch.clone());
            if before.is_some_and(|before| before != *batch) {
                self.changed.lock().unwrap().get_or_insert(path.clone());
            }
        }
        match disk {
            Disk::Takes => Ok(path),
            Disk::Refuses | Disk::TakesUnheard => Err(WriteError::Io {
                path,
                source: Error::new(ErrorKind::StorageFull, "simulated"),
            }),
        }
    }
}
