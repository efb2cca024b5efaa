//! Writing acknowledgements: a thread with a producer, asked through a bounded queue.
//!
//! What always holds: who asked is told the offset at which the broker has it, or that it is not known whether it has.

use crate::book::Acknowledgement;
use crate::shared::{ConsoleError, Shared};
use peakdesk_log::client;
use peakdesk_log::error::LogError;
use peakdesk_runtime::health::Heartbeat;
use rdkafka::ClientContext;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use std::sync::PoisonError;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::oneshot;

/// Requests that may wait: more than people click while a broker restarts.
const QUEUE: usize = 1_000;
const WAIT: Duration = Duration::from_millis(20);
/// The broker has this long; whoever clicked waits for it.
const DELIVERY_TIMEOUT_MS: &str = "10000";
/// How long what was asked for is still delivered when the process ends.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// Where an acknowledgement was written; or why it is not known to be.
pub type Written = Result<i64, String>;

/// An acknowledgement to be written; `None` takes it back.
pub struct Request {
    alert_id: String,
    acknowledgement: Option<Acknowledgement>,
    answer: oneshot::Sender<Written>,
}

/// Takes requests from any thread.
pub struct Outbox(SyncSender<Request>);

impl Outbox {
    /// With the end from which [`run_writer`] takes them.
    pub fn new() -> (Self, Receiver<Request>) {
        let (sender, receiver) = sync_channel(QUEUE);
        (Outbox(sender), receiver)
    }

    /// Asks; `None` if too many wait already.
    pub fn ask(&self, alert_id: &str, acknowledgement: Option<Acknowledgement>) -> Option<oneshot::Receiver<Written>> {
        let (answer, receiver) = oneshot::channel();
        let request = Request {
            alert_id: alert_id.to_owned(),
            acknowledgement,
            answer,
        };
        self.0.try_send(request).ok().map(|()| receiver)
    }
}

struct Context;

impl ClientContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<oneshot::Sender<Written>>;

    fn delivery(&self, result: &DeliveryResult<'_>, answer: Self::DeliveryOpaque) {
        let written = match result {
            Ok(message) => Ok(message.offset()),
            Err((error, _)) => Err(error.to_string()),
        };
        // Who asked may have gone.
        let _ = answer.send(written);
    }
}

/// Runs the thread that writes acknowledgements until shutdown.
pub fn run_writer(shared: &Shared, heartbeat: &Heartbeat) -> Result<(), ConsoleError> {
    let requests = shared.requests.lock().unwrap_or_else(PoisonError::into_inner);
    let mut config = client::producer(&shared.config.kafka);
    config.set("delivery.timeout.ms", DELIVERY_TIMEOUT_MS);
    let producer: BaseProducer<Context> = config.create_with_context(Context).map_err(LogError::Client)?;
    let topic = shared.config.topics.acknowledgements.as_str();
    while !shared.shutdown.is_requested() {
        heartbeat.beat();
        match requests.recv_timeout(WAIT) {
            Ok(request) => send(&producer, topic, request),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        producer.poll(Duration::ZERO);
        if let Some((error, cause)) = producer.client().fatal_error() {
            // A producer that has failed so does not recover; another begins.
            return Err(ConsoleError::Log(LogError::Delivery {
                topic: topic.to_owned(),
                cause: format!("{error}: {cause}"),
            }));
        }
    }
    if let Err(error) = producer.flush(END_PATIENCE) {
        tracing::warn!(%error, "acknowledgements may not have been written");
    }
    Ok(())
}

fn send(producer: &BaseProducer<Context>, topic: &str, request: Request) {
    let value = request.acknowledgement.and_then(|a| serde_json::to_string(&a).ok());
    let mut record = BaseRecord::<str, str, _>::with_opaque_to(topic, Box::new(request.answer))
        .partition(0)
        .key(&request.alert_id);
    record.payload = value.as_deref();
    if let Err((error, record)) = producer.send(record) {
        let _ = record.delivery_opaque.send(Err(error.to_string()));
    }
}
