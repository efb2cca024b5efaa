//! What survives the process: entries by key, in an embedded store (redb) in the alerter's state directory.
//!
//! A batch of writes is on disk as a whole when [`Store::write`] returns, or not at all. One process at a time has the store.

use crate::core::Writes;
use redb::{Database, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const FILE: &str = "alerter.redb";
const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
/// The name of this store, given when it is made: what is committed in Kafka belongs to it.
const NAME: &str = "meta/name";

/// The store does not do its work: a full disk, missing rights, another process.
#[derive(Debug, thiserror::Error)]
#[error("alerter state {}: {cause}; give the alerter a directory of its own with alerter.state_dir", place.display())]
pub struct StoreError {
    place: PathBuf,
    cause: String,
}

/// The store.
pub struct Store {
    database: Database,
    place: PathBuf,
    name: String,
}

impl Store {
    /// Opens the store of a directory, or makes it.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let place = dir.join(FILE);
        let failed = |cause: String| StoreError {
            place: place.clone(),
            cause,
        };
        std::fs::create_dir_all(dir).map_err(|e| failed(e.to_string()))?;
        let database = Database::create(&place).map_err(|e| failed(e.to_string()))?;
        Store::begin(database, place)
    }

    /// A store on any bytes.
    pub fn on(backend: impl StorageBackend) -> Result<Self, StoreError> {
        let place = PathBuf::from("(memory)");
        match Database::builder().create_with_backend(backend) {
            Ok(database) => Store::begin(database, place),
            Err(error) => Err(StoreError {
                place,
                cause: error.to_string(),
            }),
        }
    }

    fn begin(database: Database, place: PathBuf) -> Result<Self, StoreError> {
        let mut store = Store {
            database,
            place,
            name: String::new(),
        };
        let name = store.entries()?.remove(NAME);
        store.name = match name.and_then(|bytes| String::from_utf8(bytes).ok()) {
            Some(name) => name,
            None => {
                let name = new_name();
                store.write(&vec![(NAME.to_owned(), Some(name.clone().into_bytes()))])?;
                name
            }
        };
        Ok(store)
    }

    /// What tells this store from any other.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// All entries.
    pub fn entries(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        let read = || -> Result<_, redb::Error> {
            let transaction = self.database.begin_read()?;
            let table = match transaction.open_table(ENTRIES) {
                Ok(table) => table,
                Err(redb::TableError::TableDoesNotExist(_)) => return Ok(BTreeMap::new()),
                Err(error) => return Err(error.into()),
            };
            let mut entries = BTreeMap::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                entries.insert(key.value().to_owned(), value.value().to_vec());
            }
            Ok(entries)
        };
        read().map_err(|e| self.failed(&e))
    }

    /// Writes all of it, or nothing; on disk when it returns.
    pub fn write(&self, writes: &Writes) -> Result<(), StoreError> {
        if writes.is_empty() {
            return Ok(());
        }
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            {
                let mut table = transaction.open_table(ENTRIES)?;
                for (key, value) in writes {
                    match value {
                        Some(value) => table.insert(key.as_str(), value.as_slice())?,
                        None => table.remove(key.as_str())?,
                    };
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|e| self.failed(&e))
    }

    fn failed(&self, error: &redb::Error) -> StoreError {
        StoreError {
            place: self.place.clone(),
            cause: error.to_string(),
        }
    }
}

/// 16 hex digits that no other store has: from the system's randomness, by way of the standard library's hash keys.
fn new_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
