#![allow(clippy::unwrap_used)]
use super::*;
use crate::{Aside, Held, Refusals, ScorerMetrics};
use peakdesk_model::frame::{Frame, FrameHead};
use peakdesk_runtime::config::Config;
use peakdesk_runtime::health::Health;
use peakdesk_runtime::layers::Sources;
use peakdesk_runtime::metrics::Metrics;
use peakdesk_runtime::shutdown::Shutdown;
use peakdesk_scoring::policy::{Constants, Policies};
use prometheus::core::Collector;
use std::time::Duration;

struct Anywhere;

impl Seat for Anywhere {
    fn hold(&self, _: &str, _: i32, _: i64) -> Result<(), LogError> {
        Ok(())
    }

    fn resume(&self, _: &str, _: i32) -> Result<(), LogError> {
        Ok(())
    }

    fn waits_for(&self, _: &str, _: i32, _: &'static str) {}

    fn watermarks(&self, _: &str, _: i32) -> Result<(i64, i64), LogError> {
        Ok((0, 0))
    }
}

/// Counts what is sent; somebody else says what is acknowledged.
#[derive(Default)]
struct Counting {
    sent: u64,
    acknowledged: u64,
}

impl Outbox for Counting {
    fn send(&mut self, _: &str, _: i32, _: &[u8]) -> Result<(), LogError> {
        self.sent += 1;
        Ok(())
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn acknowledged_until(&self) -> u64 {
        self.acknowledged
    }
}

fn shared() -> Shared {
    let config = Config::load(&Sources::default()).unwrap();
    Shared {
        constants: Constants::default(),
        policies: Policies::default(),
        metrics: ScorerMetrics::new(&Metrics::new("test").unwrap()).unwrap(),
        keeper: None,
        aside: Aside::default(),
        refusals: Refusals::new(Health::new().condition("test")),
        held: Held::new(&config.checkpoint),
        shutdown: Shutdown::new(),
        config,
    }
}

#[test]
fn a_state_is_kept_only_once_what_it_sent_is_acknowledged() {
    let (shared, mut outbox, now) = (shared(), Counting::default(), Instant::now());
    let mut core = Core::new(&shared);
    let start = Start {
        topic: shared.config.topics.shop_log.clone(),
        partition: 3,
        offset: 0,
        low: 0,
        high: 0,
        metadata: None,
    };
    core.take_over(&start, now);
    // It looks for a checkpoint, then goes to where the log begins.
    (0..3).for_each(|_| core.step(&Anywhere, &mut outbox, now).unwrap());
    let message = LogMessage {
        partition: 3,
        offset: 0,
        payload: &Frame::encode(&FrameHead::default(), None).unwrap(),
    };
    core.read(&message, now).unwrap();
    let later = now + Duration::from_secs(2);
    core.step(&Anywhere, &mut outbox, later).unwrap();
    assert_eq!(outbox.sent, 2, "the span of the frame, to the results and to the alerts");

    core.give_up(3, &outbox);
    outbox.acknowledged = 1;
    core.step(&Anywhere, &mut outbox, later).unwrap();
    assert!(
        shared.held.take(3, later).is_none(),
        "another thread would go on behind what may be lost"
    );
    outbox.acknowledged = 2;
    core.step(&Anywhere, &mut outbox, later).unwrap();
    assert_eq!(shared.held.take(3, later).unwrap().next, 1);
}

#[test]
fn what_is_left_to_replay_is_shown_until_there_is_nothing() {
    let (shared, mut outbox, now) = (shared(), Counting::default(), Instant::now());
    let mut core = Core::new(&shared);
    let left = || -> Vec<f64> {
        let families = shared.metrics.left.collect();
        families
            .iter()
            .flat_map(|f| f.get_metric())
            .map(|m| m.get_gauge().get_value())
            .collect()
    };
    let start = Start {
        topic: shared.config.topics.shop_log.clone(),
        partition: 3,
        offset: 0,
        low: 0,
        high: 2,
        metadata: None,
    };
    core.take_over(&start, now);
    assert_eq!(left(), [2.0], "without a state all of it");
    (0..3).for_each(|_| core.step(&Anywhere, &mut outbox, now).unwrap());
    for (offset, expected) in [(0, vec![1.0]), (1, vec![])] {
        let message = LogMessage {
            partition: 3,
            offset,
            payload: &Frame::encode(&FrameHead::default(), None).unwrap(),
        };
        core.read(&message, now).unwrap();
        core.show(now);
        assert_eq!(left(), expected);
    }
    core.give_up(3, &outbox);
    core.take_over(&start, now);
    core.give_up(3, &outbox);
    assert!(left().is_empty(), "the partition is somebody else's");
}
