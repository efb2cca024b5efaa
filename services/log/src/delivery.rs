//! Deliveries: a producer whose messages are counted until they are acknowledged, and that fails once one is not.

use crate::error::LogError;
use peakdesk_runtime::failpoint;
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, ProducerContext};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a full send queue may stay full.
const QUEUE_PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Default)]
struct Acknowledged {
    delivered: AtomicU64,
    failed: AtomicU64,
    first_failure: Mutex<Option<(String, String)>>,
    order: Mutex<Order>,
}

/// Which messages are acknowledged, by their numbers. Partitions overtake each other.
#[derive(Debug, Default)]
struct Order {
    /// All before it are.
    until: usize,
    beyond: BTreeSet<usize>,
}

impl Order {
    fn acknowledge(&mut self, number: usize) {
        self.beyond.insert(number);
        while self.beyond.remove(&self.until) {
            self.until += 1;
        }
    }
}

#[derive(Clone, Default)]
struct Context(Arc<Acknowledged>);

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, number: usize) {
        match result {
            Ok(_) => {
                self.0.order.lock().unwrap_or_else(PoisonError::into_inner).acknowledge(number);
                self.0.delivered.fetch_add(1, Ordering::Release);
            }
            Err((error, message)) => {
                let mut first = self.0.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
                first.get_or_insert_with(|| (message.topic().to_owned(), error.to_string()));
                self.0.failed.fetch_add(1, Ordering::Release);
            }
        }
    }
}

/// A producer; one that has failed does not recover, its owner makes a new one and repeats from what is committed.
pub struct Delivery {
    producer: BaseProducer<Context>,
    context: Context,
    sent: u64,
}

/// A message to send.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Partition.
    pub partition: i32,
    /// Key.
    pub key: Option<&'a [u8]>,
    /// Value.
    pub payload: Option<&'a [u8]>,
    /// Headers.
    pub headers: Option<OwnedHeaders>,
}

impl Delivery {
    /// A producer with these options.
    pub fn new(config: &ClientConfig) -> Result<Self, LogError> {
        let context = Context::default();
        let producer = config.create_with_context(context.clone()).map_err(LogError::Client)?;
        Ok(Delivery {
            producer,
            context,
            sent: 0,
        })
    }

    /// Queues a message with the time of now; waits while the queue is full.
    pub fn send(&mut self, message: Outgoing<'_>) -> Result<(), LogError> {
        self.send_at(message, None)
    }

    /// Queues a message with a timestamp (ms) of its own; waits while the queue is full.
    pub fn send_at(&mut self, message: Outgoing<'_>, timestamp_ms: Option<i64>) -> Result<(), LogError> {
        self.check()?;
        failpoint::reach("delivery-send");
        let begun = Instant::now();
        let number = self.sent as usize;
        let mut record: BaseRecord<'_, [u8], [u8], usize> = BaseRecord::with_opaque_to(message.topic, number).partition(message.partition);
        record.key = message.key;
        record.payload = message.payload;
        record.headers = message.headers;
        record.timestamp = timestamp_ms;
        loop {
            match self.producer.send(record) {
                Ok(()) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if begun.elapsed() < QUEUE_PATIENCE => {
                    record = back;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => {
                    return Err(LogError::Delivery {
                        topic: message.topic.to_owned(),
                        cause: error.to_string(),
                    });
                }
            }
        }
    }

    /// Lets the client report acknowledgements.
    pub fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// How many messages were sent: the number of the next one.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Every message whose number is below it is acknowledged.
    pub fn acknowledged_until(&self) -> u64 {
        let order = self.context.0.order.lock().unwrap_or_else(PoisonError::into_inner);
        order.until as u64
    }

    /// Messages that are not acknowledged yet.
    pub fn in_flight(&self) -> u64 {
        self.sent - self.context.0.delivered.load(Ordering::Acquire) - self.context.0.failed.load(Ordering::Acquire)
    }

    /// Fails if any message so far was not delivered.
    pub fn check(&self) -> Result<(), LogError> {
        if self.context.0.failed.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let first = self.context.0.first_failure.lock().unwrap_or_else(PoisonError::into_inner);
        let (topic, cause) = first.clone().unwrap_or_default();
        Err(LogError::Delivery { topic, cause })
    }

    /// Waits until every message is acknowledged, at most `limit`.
    pub fn flush(&self, limit: Duration) -> Result<(), LogError> {
        self.flush_within(|| limit)
    }

    /// The same with a limit that may change while it waits, as when somebody wants to end.
    pub fn flush_within(&self, limit: impl Fn() -> Duration) -> Result<(), LogError> {
        let begun = Instant::now();
        while self.in_flight() > 0 {
            self.check()?;
            let limit = limit();
            if begun.elapsed() > limit {
                let cause = format!("{} messages are not acknowledged after {limit:?}", self.in_flight());
                return Err(LogError::Delivery {
                    topic: "(all)".into(),
                    cause,
                });
            }
            // The client's own flush looks up only every 100 ms.
            self.producer.poll(Duration::from_millis(1));
        }
        self.check()
    }
}

#[cfg(test)]
mod tests {
    use super::Order;

    #[test]
    fn one_missing_acknowledgement_holds_back_those_after_it() {
        let mut order = Order::default();
        let mut until = |number| {
            order.acknowledge(number);
            order.until
        };
        assert_eq!([0, 2, 3, 1, 5, 4].map(&mut until), [1, 1, 1, 4, 4, 6]);
    }
}
