//! Saving and finding checkpoints, beside the threads that need them.
//!
//! ```text
//! role thread ── save(head, state) ─────► worker: encode ─► store.put ─► Task: how many bytes
//!             ── find(topic, partition) ► worker: list ─► get ─► decode ─► Task: the newest good one, and what was not
//! ```
//!
//! A [`Task`] is looked at from time to time; dropping it cancels what is not yet begun. A keeper must not be dropped on a
//! thread of an asynchronous runtime.

use crate::form::{self, FormError, Head};
use crate::store::{Store, StoreError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::AbortHandle;

/// Encoding and decoding at a time: each needs a core and the memory of a state.
const WORKERS: usize = 2;
/// For what still runs when the keeper ends.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Why a checkpoint was not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The state could not be written as bytes.
    #[error(transparent)]
    Form(#[from] FormError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What was found.
#[derive(Debug)]
pub struct Found<T> {
    /// The newest that can be used.
    pub newest: Option<(Head, T)>,
    /// Newer ones that cannot, by offset, and why.
    pub refused: Vec<(i64, String)>,
}

/// Work of a keeper.
#[derive(Debug)]
pub struct Task<T> {
    result: Receiver<T>,
    abort: AbortHandle,
}

/// How far a task is.
#[derive(Debug)]
pub enum Progress<T> {
    /// Not done.
    Running,
    /// Done.
    Done(T),
    /// It will not come to an end: it panicked, or the keeper ended.
    Lost,
}

impl<T> Task<T> {
    /// Looks whether it is done; does not wait.
    pub fn look(&self) -> Progress<T> {
        match self.result.try_recv() {
            Ok(result) => Progress::Done(result),
            Err(TryRecvError::Empty) => Progress::Running,
            Err(TryRecvError::Disconnected) => Progress::Lost,
        }
    }

    /// Waits until it is done, at most `limit`.
    pub fn wait(&self, limit: Duration) -> Option<T> {
        self.result.recv_timeout(limit).ok()
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

/// Threads for checkpoints, and the store they are in.
#[derive(Debug)]
pub struct Keeper {
    /// Taken out when the keeper ends.
    runtime: Option<Runtime>,
    handle: Handle,
    store: Store,
    /// Cloned by every task that has not ended.
    running: Arc<()>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(END_PATIENCE);
        }
    }
}

impl Keeper {
    /// Over a store.
    pub fn new(store: Store) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .max_blocking_threads(WORKERS)
            .thread_name("checkpoint")
            .enable_all()
            .build()?;
        Ok(Keeper {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
            store,
            running: Arc::new(()),
        })
    }

    /// Where checkpoints are.
    pub fn url(&self) -> &str {
        self.store.url()
    }

    /// Tasks that have not ended.
    pub fn in_flight(&self) -> usize {
        Arc::strong_count(&self.running) - 1
    }

    /// Writes a state; its size in bytes is the result.
    pub fn save<T: Serialize + Send + 'static>(&self, head: Head, state: T) -> Task<Result<u64, SaveError>> {
        let store = self.store.clone();
        self.spawn(async move {
            let (topic, partition, offset) = (head.topic.clone(), head.partition, head.offset);
            // The state is dropped there too: that takes time.
            let encoded = tokio::task::spawn_blocking(move || form::encode(&head, &state)).await;
            let bytes = encoded.map_err(|e| FormError::Encode(e.to_string()))??;
            let len = bytes.len() as u64;
            store.put(&topic, partition, offset, bytes).await?;
            Ok(len)
        })
    }

    /// Finds the newest checkpoint whose offset lies in `offsets`, that can be read and that `accept` takes.
    pub fn find<T: DeserializeOwned + Send + 'static>(
        &self,
        topic: &str,
        partition: i32,
        offsets: RangeInclusive<i64>,
        state_version: u32,
        accept: impl Fn(&T) -> Result<(), String> + Send + Sync + Clone + 'static,
    ) -> Task<Result<Found<T>, StoreError>> {
        let (store, topic) = (self.store.clone(), topic.to_owned());
        self.spawn(async move {
            let mut found = Found {
                newest: None,
                refused: Vec::new(),
            };
            for entry in store.list(&topic, partition).await? {
                if !offsets.contains(&entry.offset) {
                    let (first, last) = (offsets.start(), offsets.end());
                    let why = format!("lies outside of what is asked for, offsets {first} to {last}");
                    found.refused.push((entry.offset, why));
                    continue;
                }
                tracing::info!(topic, partition, offset = entry.offset, bytes = entry.bytes, "reading a checkpoint");
                let Some(bytes) = store.get(&topic, partition, entry.offset).await? else {
                    continue;
                };
                let (of, accept) = ((topic.clone(), partition, entry.offset), accept.clone());
                let read = move || read(&bytes, &of, state_version, accept);
                let outcome = tokio::task::spawn_blocking(read).await.unwrap_or_else(|e| Err(e.to_string()));
                match outcome {
                    Ok(newest) => {
                        found.newest = Some(newest);
                        break;
                    }
                    Err(why) => found.refused.push((entry.offset, why)),
                }
            }
            Ok(found)
        })
    }

    fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        let (sender, result) = sync_channel(1);
        let running = self.running.clone();
        let work = async move {
            let _running = running;
            // Nobody waits any more: the task was cancelled.
            let _ = sender.send(work.await);
        };
        let abort = self.handle.spawn(work).abort_handle();
        Task { result, abort }
    }
}

/// Reads a checkpoint that must be the one its key names.
fn read<T: DeserializeOwned>(
    bytes: &[u8],
    of: &(String, i32, i64),
    state_version: u32,
    accept: impl Fn(&T) -> Result<(), String>,
) -> Result<(Head, T), String> {
    let (head, state) = form::decode::<T>(bytes, state_version).map_err(|e| e.to_string())?;
    if (&head.topic, head.partition, head.offset) != (&of.0, of.1, of.2) {
        return Err(format!(
            "is one of {}[{}] at offset {} under a wrong name",
            head.topic, head.partition, head.offset
        ));
    }
    accept(&state)?;
    Ok((head, state))
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
