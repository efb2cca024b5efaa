//! Saving and finding checkpoints, beside the threads that need them.
//!
//! ```text
//! role thread ── save(head, state) ─────► worker: encode ─► store.put ─► Task: how many bytes
//!             ── find(topic, partition) ► worker: list ─► get ─► decode ─► Task: the newest good one, and what was not
//! ```
//!
//! A [`Task`] is looked at from time to time; dropping it cancels what is not yet begun. A keeper must not be dropped on a
//! thread of an asynchronous runtime.
//!
//! A keeper [without threads](Keeper::without_threads) does the same work when a task is looked at, so that a simulation decides
//! what happens when.

use crate::form::{self, FormError, Head};
use crate::store::{Store, StoreError};
use peakdesk_runtime::failpoint;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::task::{Context, Poll, Waker};
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
pub struct Task<T>(Work<T>);

enum Work<T> {
    /// On the keeper's threads.
    Beside { result: Receiver<T>, abort: AbortHandle },
    /// Whenever it is looked at; `None` once it is done.
    Here(Option<Pin<Box<dyn Future<Output = T> + Send>>>),
}

impl<T> std::fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Task")
    }
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
    pub fn look(&mut self) -> Progress<T> {
        match &mut self.0 {
            Work::Beside { result, .. } => match result.try_recv() {
                Ok(result) => Progress::Done(result),
                Err(TryRecvError::Empty) => Progress::Running,
                Err(TryRecvError::Disconnected) => Progress::Lost,
            },
            Work::Here(work) => {
                let Some(running) = work else { return Progress::Lost };
                match running.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Pending => Progress::Running,
                    Poll::Ready(result) => {
                        *work = None;
                        Progress::Done(result)
                    }
                }
            }
        }
    }

    /// Waits until it is done, at most `limit`; without threads it is looked at once.
    pub fn wait(mut self, limit: Duration) -> Option<T> {
        if let Work::Beside { result, .. } = &self.0 {
            return result.recv_timeout(limit).ok();
        }
        match self.look() {
            Progress::Done(result) => Some(result),
            Progress::Running | Progress::Lost => None,
        }
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let Work::Beside { abort, .. } = &self.0 {
            abort.abort();
        }
    }
}

/// Threads for checkpoints, and the store they are in.
#[derive(Debug)]
pub struct Keeper {
    /// Taken out when the keeper ends; `None` from the beginning without threads.
    runtime: Option<Runtime>,
    store: Store,
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
            runtime: Some(runtime),
            store,
        })
    }

    /// Over a store that needs no runtime: nothing goes on but when a task is looked at.
    pub fn without_threads(store: Store) -> Self {
        Keeper { runtime: None, store }
    }

    /// Where checkpoints are.
    pub fn url(&self) -> &str {
        self.store.url()
    }

    /// Writes a state; its size in bytes is the result.
    pub fn save<T: Serialize + Send + 'static>(&self, head: Head, state: T) -> Task<Result<u64, SaveError>> {
        let (store, threads) = (self.store.clone(), self.threads());
        self.spawn(async move {
            let (topic, partition, offset) = (head.topic.clone(), head.partition, head.offset);
            // The state is dropped there too: that takes time.
            let encoded = beside(threads, move || form::encode(&head, &state)).await;
            let bytes = encoded.map_err(FormError::Encode)??;
            let len = bytes.len() as u64;
            failpoint::reach("checkpoint-encoded");
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
        let (store, threads, topic) = (self.store.clone(), self.threads(), topic.to_owned());
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
                let outcome = beside(threads.clone(), read).await.unwrap_or_else(Err);
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

    fn threads(&self) -> Option<Handle> {
        self.runtime.as_ref().map(|runtime| runtime.handle().clone())
    }

    fn spawn<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Task<T> {
        let Some(threads) = self.threads() else {
            return Task(Work::Here(Some(Box::pin(work))));
        };
        let (sender, result) = sync_channel(1);
        let work = async move {
            // Nobody waits any more: the task was cancelled.
            let _ = sender.send(work.await);
        };
        let abort = threads.spawn(work).abort_handle();
        Task(Work::Beside { result, abort })
    }
}

/// Does what takes a core on one of the threads for that; in place, where there are none.
async fn beside<T: Send + 'static>(threads: Option<Handle>, work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    match threads {
        Some(threads) => threads.spawn_blocking(work).await.map_err(|e| e.to_string()),
        None => Ok(work()),
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
