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
