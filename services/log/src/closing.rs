//! The end of a client, beside the thread that used it.
//!
//! A client that is dropped leaves its group, and waits until the brokers have agreed: for as long as none answers. Whoever wants to end, or
//! to begin again, waits some seconds only; the others of the group go on when the session has ended.

use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

/// Together with a last flush well below the half minute after which a process that was asked to end is killed.
const PATIENCE: Duration = Duration::from_secs(8);

/// To be the last field of the owner of a client: it is dropped after the client's other handle.
pub(crate) struct Closing<C: ConsumerContext + 'static>(Option<Arc<BaseConsumer<C>>>);

impl<C: ConsumerContext> Default for Closing<C> {
    fn default() -> Self {
        Closing(None)
    }
}

impl<C: ConsumerContext> Closing<C> {
    /// The owner is being dropped.
    pub(crate) fn begin(&mut self, consumer: &Arc<BaseConsumer<C>>) {
        self.0 = Some(consumer.clone());
    }
}

impl<C: ConsumerContext> Drop for Closing<C> {
    fn drop(&mut self) {
        let Some(consumer) = self.0.take() else { return };
        let (sender, closed) = sync_channel(1);
        let close = move || {
            drop(consumer);
            // Nobody waits any more.
            let _ = sender.send(());
        };
        let spawned = std::thread::Builder::new().name("leave group".into()).spawn(close);
        match spawned.map(|thread| (closed.recv_timeout(PATIENCE), thread)) {
            // The process may end right now; its exit handlers and the end of a thread do not get on with each other.
            Ok((Ok(()), thread)) => drop(thread.join()),
            _ => tracing::warn!("the group is not left in good order, as no broker answers; its others go on when the session ends"),
        }
    }
}
