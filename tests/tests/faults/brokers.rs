//! The broker goes away, or the way to it does.

use std::time::Duration;

use peakdesk_tests::support::LONG;
use peakdesk_tests::{Line, Result, Scene, ensure, wait_until};

use crate::stage::{Plan, Stage, lasts};
use crate::{Plant, Tally};

/// The broker is stopped in good order, and killed, and comes back on its data.
pub fn restarts(plant: &mut Plant, scene: &Scene) -> Result<Tally> {
    let rounds = plant.times(1, 5);
    let plan = Plan {
        seconds: plant.times(40, 240) as u32,
        ..Plan::default()
    };
    let mut stage = Stage::begin(scene, plant, &plan)?;
    for _ in 0..rounds {
        for hard in [false, true] {
            stage.after_records(&mut plant.random, 200..1_000)?;
            stage.ensure_load()?;
            if hard {
                plant.kafka.kill()?;
            } else {
                plant.kafka.stop()?;
            }
            plant.kafka.start_again()?;
            stage.recovered()?;
        }
    }
    stage.end()
}

/// The line between all roles and the broker: cut, one way only, half open, slow.
pub fn lines(plant: &mut Plant, scene: &Scene) -> Result<Tally> {
    let rounds = plant.times(1, 5);
    // In the long form longer than a session and a request may take.
    let lasting = Duration::from_secs(plant.times(2, 8) as u64);
    let plan = Plan {
        seconds: plant.times(45, 600) as u32,
        settings: vec![format!("kafka.bootstrap=127.0.0.1:{}", plant.proxy.port())],
        ..Plan::default()
    };
    let mut stage = Stage::begin(scene, plant, &plan)?;
    let disturbed = [Line::Cut, Line::Mute, Line::Deaf, Line::HalfOpen, Line::Slow(30_000)];
    for _ in 0..rounds {
        for line in disturbed {
            stage.after_records(&mut plant.random, 50..300)?;
            stage.ensure_load()?;
            let before = plant.proxy.passed();
            ensure!(before > 0, "the roles do not use the proxy");
            plant.proxy.set(line);
            lasts(lasting);
            plant.proxy.set(Line::Whole);
            stage.recovered()?;
        }
    }
    stage.end()
}

/// The brokers are not heard for longer than a delivery may take: messages are given up, whether they arrived or not.
pub fn given_up(plant: &mut Plant, scene: &Scene) -> Result<Tally> {
    let rounds = plant.times(1, 10);
    let plan = Plan {
        seconds: plant.times(40, 400) as u32,
        settings: vec![
            format!("kafka.bootstrap=127.0.0.1:{}", plant.proxy.port()),
            "kafka.options.delivery.timeout.ms=1500".to_owned(),
        ],
        ..Plan::default()
    };
    let mut stage = Stage::begin(scene, plant, &plan)?;
    for _ in 0..rounds {
        for line in [Line::Deaf, Line::Mute] {
            stage.after_records(&mut plant.random, 50..300)?;
            stage.ensure_load()?;
            let before = stage.sum("", "peakdesk_thread_restarts_total", "")?;
            plant.proxy.set(line);
            let given_up = wait_until("deliveries to be given up", LONG, || {
                let now = stage.sum("", "peakdesk_thread_restarts_total", "")?;
                ensure!(now > before, "{now} threads began again");
                Ok(Some(()))
            });
            plant.proxy.set(Line::Whole);
            given_up?;
            stage.recovered()?;
        }
    }
    stage.end()
}
