#![allow(clippy::unwrap_used)]
use super::*;
use crate::registry::Schemas;
use std::sync::Arc;

fn edge() -> Edge {
    Edge {
        buyer_key: [1; 32],
        future_skew_ms: 0,
        order_retention_ms: 0,
        schemas: Arc::new(Schemas::shipped().unwrap()),
    }
}

fn core() -> Core {
    let mut core = Core::new(Settings {
        topic: Topic::Chat,
        generation: 1,
        format: Format::Json,
        log_partitions: 1,
        max_frame_events: 100,
        expected: Vec::new(),
    });
    let start = |partition| Start {
        topic: "chat".to_owned(),
        partition,
        offset: 0,
        low: 0,
        high: 0,
        metadata: None,
    };
    core.change(&[], &[start(0), start(1)]);
    core
}

/// Reads a record that arrived at `at`, at the wall time `wall`; dead letters move clocks too.
fn read(core: &mut Core, partition: i32, offset: i64, at: i64, wall: i64) {
    let record = Incoming {
        partition,
        offset,
        timestamp: Some(at),
        payload: None,
    };
    assert!(matches!(
        core.read(&record, &edge(), wall),
        Taken::Dead(_, DeadReason::Undecodable, _)
    ));
}

/// Clocks as they are told at a wall time, when so much was heard of both partitions.
fn clocks(core: &mut Core, wall: i64, heard: [Heard; 2]) -> Vec<Option<i64>> {
    let messages = core.tick(wall, |partition| heard[partition as usize], 1.0).unwrap();
    let frame = Frame::decode(&messages[0].bytes).unwrap();
    frame.head.ranges.iter().map(|range| range.clock).collect()
}

#[test]
fn a_clock_does_not_run_on_over_what_came_and_was_not_read() {
    let mut core = core();
    for partition in [0, 1] {
        read(&mut core, partition, 0, 1_000, 1_000);
        core.reached_end(partition, 1_000);
    }
    let heard = |at_ms, until| Heard { at_ms, until };
    assert_eq!(
        clocks(&mut core, 2_000, [heard(2_000, 0), heard(1_500, 1)]),
        [Some(2_000), Some(1_500)]
    );
    // A record of partition 1 came, and waits behind others: its time is not known yet.
    assert_eq!(
        clocks(&mut core, 600_000, [heard(600_000, 0), heard(600_000, 2)]),
        [Some(600_000), Some(1_500)]
    );
    read(&mut core, 1, 1, 3_000, 600_000);
    core.reached_end(1, 600_000);
    assert_eq!(clocks(&mut core, 600_000, [heard(0, 0), heard(600_000, 2)])[1], Some(3_000));
    assert_eq!(clocks(&mut core, 600_500, [heard(0, 0), heard(600_500, 2)])[1], Some(3_500));
}
