//! Live figures to their topic: the newest values, as far as the brokers take them.

use crate::partition::Partition;
use crate::{ScorerError, Shared};
use peakdesk_log::client;
use peakdesk_log::delivery::{Delivery, Outgoing};
use peakdesk_log::group::wall_ms;
use peakdesk_scoring::live::LiveValue;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How often what has changed is told.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// How often details of agents are.
const DETAILS_EVERY: Duration = Duration::from_secs(2);
/// With so many messages on their way the next ones wait: newer values will replace them.
const IN_FLIGHT_MAX: u64 = 20_000;

/// Tells live figures with a producer of its own, so that their trouble is nobody else's.
pub(crate) struct Teller<'s> {
    shared: &'s Shared,
    delivery: Delivery,
    told_at: Instant,
    details_at: Instant,
}

impl<'s> Teller<'s> {
    pub(crate) fn new(shared: &'s Shared) -> Result<Self, ScorerError> {
        Ok(Teller {
            shared,
            delivery: Delivery::new(&client::producer(&shared.config.kafka))?,
            told_at: Instant::now(),
            details_at: Instant::now(),
        })
    }

    /// Tells what has changed, when it is time to.
    pub(crate) fn tell(&mut self, partitions: &mut BTreeMap<i32, Partition>) {
        self.delivery.poll();
        if self.told_at.elapsed() < TELL_EVERY || self.delivery.in_flight() > IN_FLIGHT_MAX {
            return;
        }
        self.told_at = Instant::now();
        let details = self.details_at.elapsed() >= DETAILS_EVERY;
        if details {
            self.details_at = Instant::now();
        }
        for (number, partition) in partitions {
            let caught_up = partition.caught_up(self.told_at);
            let mut failed = None;
            partition.fold.tell(details, |mut value| {
                match &mut value {
                    LiveValue::Shop(shop) => {
                        shop.caught_up = caught_up;
                        shop.sent_wall_ms = wall_ms();
                    }
                    LiveValue::Agent(agent) => agent.sent_wall_ms = wall_ms(),
                    LiveValue::Detail(_) | LiveValue::Curve(_) => {}
                }
                if failed.is_none() {
                    failed = send(&mut self.delivery, &self.shared.config.topics.live, *number, &value).err();
                    self.shared.metrics.live.inc();
                }
            });
            if let Some(error) = failed {
                self.shared.metrics.live_failures.inc();
                tracing::warn!(error, "live figures could not be written; the next ones will be tried");
                if let Ok(delivery) = Delivery::new(&client::producer(&self.shared.config.kafka)) {
                    self.delivery = delivery;
                }
                return;
            }
        }
    }
}

fn send(delivery: &mut Delivery, topic: &str, partition: i32, value: &LiveValue) -> Result<(), String> {
    let key = value.key().encode();
    let json = match value {
        LiveValue::Shop(v) => serde_json::to_vec(v),
        LiveValue::Agent(v) => serde_json::to_vec(v),
        LiveValue::Detail(v) => serde_json::to_vec(v),
        LiveValue::Curve(v) => serde_json::to_vec(v),
    };
    let json = json.map_err(|e| e.to_string())?;
    let message = Outgoing {
        topic,
        partition,
        key: Some(key.as_bytes()),
        payload: Some(&json),
        headers: None,
    };
    delivery.send(message).map_err(|e| e.to_string())
}
