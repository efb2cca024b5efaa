//! The broker goes away, or the way to it does.

use std::time::Duration;

use peakdesk_tests::support::LONG;
use peakdesk_tests::{Line, Result, ensure, wait_until};

use crate::Plant;
use crate::stage::{Stage, lasts};

/// The broker is stopped in good order, and killed, and comes back on its data.
pub fn restarts(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    for _ in 0..plant.times(1, 5) {
        for hard in [false, true] {
            stage.after_records(&mut plant.random, 1..300)?;
            stage.ensure_load()?;
            if hard {
                plant.kafka.kill()?;
            } else {
                plant.kafka.stop()?;
            }
            stage.tally.injected += 1;
            plant.kafka.start_again()?;
            stage.recovered()?;
        }
    }
    Ok(())
}

/// The line between all roles and the broker: cut, one way only, half open, slow.
pub fn lines(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    // In the long form longer than a session and a request may take.
    let lasting = Duration::from_secs(plant.times(2, 8) as u64);
    ensure!(plant.proxy.passed() > 0, "the roles do not use the proxy");
    for _ in 0..plant.times(1, 5) {
        for line in [Line::Cut, Line::Mute, Line::Deaf, Line::HalfOpen, Line::Slow(30_000)] {
            stage.after_records(&mut plant.random, 1..200)?;
            stage.ensure_load()?;
            plant.proxy.set(line);
            stage.tally.injected += 1;
            lasts(lasting);
            plant.proxy.set(Line::Whole);
            stage.recovered()?;
        }
    }
    Ok(())
}

/// Members are asked to end while nothing passes to or from the broker: they do not wait for it.
pub fn ended_without_broker(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    for _ in 0..plant.times(1, 5) {
        stage.after_records(&mut plant.random, 1..200)?;
        let members: Vec<usize> = ["intake", "scorer", "warehouse"]
            .iter()
            .filter_map(|role| stage.members_of(role).first().copied())
            .collect();
        plant.proxy.set(Line::HalfOpen);
        stage.tally.injected += members.len();
        let ended = stage.terminate_all(&members);
        plant.proxy.set(Line::Whole);
        ended?;
        for member in members {
            stage.start(member)?;
        }
        stage.ensure_load()?;
        stage.recovered()?;
    }
    Ok(())
}

/// The brokers are not heard for longer than a delivery may take: messages are given up, whether they arrived or not.
pub fn given_up(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    let short = ["kafka.options.delivery.timeout.ms=1500".to_owned()];
    let writers = [stage.members_of("intake"), stage.members_of("scorer")].concat();
    for number in &writers {
        stage.kill(*number)?;
        stage.start_with(*number, &short, None)?;
    }
    // One that has no partition yet has nothing to deliver.
    stage.recovered()?;
    for _ in 0..plant.times(1, 10) {
        for line in [Line::Deaf, Line::Mute] {
            stage.after_records(&mut plant.random, 1..200)?;
            stage.ensure_load()?;
            let before = stage.sum("", "peakdesk_thread_restarts_total", "")?;
            plant.proxy.set(line);
            stage.tally.injected += 1;
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
    for number in writers {
        stage.kill(number)?;
        stage.start(number)?;
    }
    stage.recovered()
}
