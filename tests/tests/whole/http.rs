//! What a role says about itself, and how it ends while there is work.

use std::time::{Duration, Instant};

use peakdesk_tests::{Result, ensure, http, scene, wait_until};

use crate::support::{SOON, Topics, text};

/// A role drains and ends within this time, whatever it does.
const SECONDS: Duration = Duration::from_secs(15);

#[test]
fn roles_answer_and_end_in_good_order_under_load() {
    scene(|scene| {
        let topics = Topics::new(scene, "avro")?;
        topics.create([4, 2, 1], &[])?;
        // Paced, so that it goes on until it is told to end.
        let load = ["--shops", "4", "--speed-up", "3000", "--duration", "30d"];
        let mut simulator = topics.launch("simulator", "simulator")?.args(load).spawn()?;
        let tables = scene.path("tables");
        let mut roles = [
            ("intake", topics.role("intake", "intake", &[])?, "peakdesk_intake_records_total"),
            ("scorer", topics.role("scorer", "scorer", &[])?, "peakdesk_scorer_events_total"),
            (
                "warehouse",
                topics.role("warehouse", "warehouse", &[format!("warehouse.output={}", text(&tables)?)])?,
                "peakdesk_warehouse_rows_total",
            ),
        ];
        for (name, role, metric) in &mut roles {
            wait_until(&format!("the {name} to have work"), SOON, || {
                simulator.alive()?;
                let done: f64 = role.metric(metric, "")?.iter().sum();
                ensure!(done > 1_000.0, "{metric} is {done}");
                Ok(Some(()))
            })?;
            for path in ["livez", "readyz", "metrics"] {
                let answer = http::get(&format!("{}/{path}", role.url))?;
                ensure!(answer.status == 200, "{name}: /{path} is {}: {}", answer.status, answer.body);
            }
            let missing = http::get(&format!("{}/nothing", role.url))?;
            ensure!(missing.status == 404, "{name}: /nothing is {}", missing.status);
        }
        for (name, role, _) in &mut roles {
            ends_soon(name, || role.terminate())?;
        }
        simulator.alive()?;
        ends_soon("simulator", || {
            let status = simulator.terminate()?;
            ensure!(status.success(), "it ended with {status}");
            Ok(())
        })
    });
}

fn ends_soon(name: &str, end: impl FnOnce() -> Result) -> Result {
    let begun = Instant::now();
    end()?;
    let took = begun.elapsed();
    ensure!(took < SECONDS, "{name} took {took:?} to end");
    println!("{name} ended in {took:?}");
    Ok(())
}

/// When one member of a group leaves, its partitions go to the next, which is just about to leave too.
#[test]
fn intakes_that_end_one_after_the_other_end_soon() {
    scene(|scene| {
        let topics = Topics::new(scene, "avro")?;
        topics.create([4, 4, 4], &[])?;
        for round in 0..4 {
            let mut intakes = Vec::new();
            for n in 0..2 {
                intakes.push(topics.role(&format!("intake-{round}-{n}"), "intake", &[])?);
            }
            wait_until("each intake to have its part of every topic", SOON, || {
                for intake in &mut intakes {
                    let parts = intake.metric("peakdesk_intake_source_partitions", "")?;
                    ensure!(parts == [2.0, 2.0, 2.0], "{} has {parts:?}", intake.url);
                }
                Ok(Some(()))
            })?;
            let mut last = intakes.pop().unwrap();
            ends_soon("the first intake", || intakes[0].terminate())?;
            // The others are on their way then.
            wait_until("the first partitions to be taken over", SOON, || {
                let parts = last.metric("peakdesk_intake_source_partitions", "")?;
                ensure!(parts.contains(&4.0), "it has {parts:?}");
                Ok(Some(()))
            })?;
            ends_soon("the last intake", || last.terminate())?;
        }
        Ok(())
    });
}
