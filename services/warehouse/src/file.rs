//! Parquet files that appear whole or not at all.
//!
//! A file is written under a hidden temporary name in its directory, flushed to the disk and renamed. Its name and its bytes
//! follow from the rows alone, so writing it again replaces it by itself.

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use peakdesk_runtime::failpoint;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The directory or file system refused.
    #[error("cannot write {}: {source}; check that the directory exists, is writable and has space", path.display())]
    Io {
        /// Which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The rows have no Parquet form.
    #[error("cannot write {}: {source}", path.display())]
    Parquet {
        /// Which file.
        path: PathBuf,
        /// What the library said.
        source: ParquetError,
    },
    /// Rows do not fit together.
    #[error("rows of one table do not fit together: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> WriteError + '_ {
    |source| WriteError::Io {
        path: path.to_owned(),
        source,
    }
}

/// Makes sure that a directory exists and can be written to, before anything depends on it.
pub fn check_writable(dir: &Path) -> Result<(), WriteError> {
    fs::create_dir_all(dir).map_err(io_error(dir))?;
    let probe = dir.join(format!(".probe-{}", std::process::id()));
    File::create(&probe).map_err(io_error(&probe))?;
    fs::remove_file(&probe).map_err(io_error(&probe))
}

/// Where files are put.
pub trait Shelf: std::fmt::Debug + Send + Sync {
    /// Puts the batch there as `dir/name`, whole or not at all; what lies there under this name is replaced.
    fn put(&self, dir: &Path, name: &str, batch: &RecordBatch) -> Result<PathBuf, WriteError>;
}

/// The file system.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

impl Shelf for Disk {
    fn put(&self, dir: &Path, name: &str, batch: &RecordBatch) -> Result<PathBuf, WriteError> {
        write(dir, name, batch)
    }
}

/// Writes the batch as `dir/name`, creating `dir`.
pub fn write(dir: &Path, name: &str, batch: &RecordBatch) -> Result<PathBuf, WriteError> {
    fs::create_dir_all(dir).map_err(io_error(dir))?;
    let path = dir.join(name);
    let temporary = dir.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = write_temporary(&temporary, batch).and_then(|()| {
        failpoint::reach("file-written");
        fs::rename(&temporary, &path).map_err(io_error(&path))
    });
    if let Err(error) = written {
        // The rows are still there and will be written again; a leftover would only cost space.
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    failpoint::reach("file-renamed");
    File::open(dir).and_then(|d| d.sync_all()).map_err(io_error(dir))?;
    Ok(path)
}

fn write_temporary(path: &Path, batch: &RecordBatch) -> Result<(), WriteError> {
    let failed = |source| WriteError::Parquet {
        path: path.to_owned(),
        source,
    };
    let file = File::create(path).map_err(io_error(path))?;
    let properties = properties(batch.schema_ref()).map_err(failed)?;
    let mut writer = ArrowWriter::try_new(file.try_clone().map_err(io_error(path))?, batch.schema(), Some(properties)).map_err(failed)?;
    writer.write(batch).map_err(failed)?;
    writer.close().map_err(failed)?;
    file.sync_all().map_err(io_error(path))
}

/// Dictionaries are on by default: right for ids, names and figures. Times hardly ever repeat; their differences take less room,
/// and less time to find, than a dictionary of them.
fn properties(schema: &Schema) -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        // The library's own default level.
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_created_by(concat!("peakdesk ", env!("CARGO_PKG_VERSION")).to_owned());
    for field in schema.fields() {
        if matches!(field.data_type(), DataType::Timestamp(..)) {
            let column = ColumnPath::from(field.name().as_str());
            builder = builder
                .set_column_dictionary_enabled(column.clone(), false)
                .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED);
        }
    }
    Ok(builder.build())
}
