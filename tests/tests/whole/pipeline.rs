//! The whole system on a real Kafka: what the roles write while they run is what a replay of the topics' dump gives.

use peakdesk_tests::{Kafka, Result, Scene, ensure, scene, wait_until};

use crate::support::{INPUTS, LONG, Role, SOON, Topics, compare, query, replay, sum, text};

const PARTITIONS: [i32; 3] = [4, 2, 1];
const DAY_MS: f64 = 86_400_000.0;

/// Simulated seconds per second once everything is read: every horizon, the longest of them 45 days and a bit, passes in
/// seconds.
const HURRY: &str = "intake.clock_speed=1000000";

/// Days after the last event when nothing can change any more: orders are kept for 45 days after their last event.
const HORIZON_DAYS: f64 = 75.0;

fn start_of(roles: &str, n: usize) -> String {
    format!("{roles}-{n}")
}

/// Waits until the intakes have read what is in the topics, each record once.
fn wait_until_read(topics: &Topics<'_>, intakes: &mut [Role]) -> Result<[i64; 3]> {
    let records = topics.records()?;
    for (topic, count) in INPUTS.iter().zip(records) {
        wait_until(&format!("the intakes to read {topic}"), LONG, || {
            let read = sum(intakes, "peakdesk_intake_records_total", &format!("topic=\"{topic}\""))?;
            ensure!(read >= count as f64, "{read} of {count}");
            Ok(Some(()))
        })?;
    }
    Ok(records)
}

/// The lowest point up to which the scorers are complete, over the partitions of the log; all of them must be assigned.
fn complete_until(scorers: &mut [Role]) -> Result<f64> {
    let mut all = Vec::new();
    for scorer in scorers {
        all.extend(scorer.metric("peakdesk_scorer_complete_until_milliseconds", "")?);
    }
    ensure!(all.len() == 4, "the scorers have {} of 4 partitions", all.len());
    Ok(all.iter().copied().fold(f64::INFINITY, f64::min))
}

fn newest(scene: &Scene) -> Result<i64> {
    let mut newest = 0;
    for topic in INPUTS {
        let records = Kafka::shared()?.read_all(&scene.name(topic))?;
        newest = newest.max(records.iter().map(|record| record.timestamp_ms).max().unwrap_or(0));
    }
    Ok(newest)
}

#[test]
fn the_live_tables_are_those_of_a_replay() {
    scene(|scene| {
        let live = scene.path("live");
        let topics = Topics::new(scene, "json")?;
        topics.create(PARTITIONS, &[])?;
        let flags = [
            "--shops",
            "3",
            "--agents",
            "4",
            "--buyers-per-agent",
            "60",
            "--duration",
            "2d",
            "--start",
            "2025-11-10T20:00",
            "--late-share",
            "0.01",
            "--dead-share",
            "0.01",
            "--duplicates",
            "0.02",
            "--speed-up",
            "15000",
        ];
        let mut simulator = topics.launch("simulator", "simulator")?.args(flags).spawn()?;
        // From the first record of every partition on, the readers know whom they have to wait for.
        wait_until("records in every partition", LONG, || {
            simulator.alive()?;
            for topic in INPUTS {
                let ends = Kafka::shared()?.high_watermarks(&scene.name(topic))?;
                ensure!(ends.iter().all(|end| *end > 0), "{topic} ends at {ends:?}");
            }
            Ok(Some(()))
        })?;
        let output = [format!("warehouse.output={}", text(&live)?)];
        let mut intakes = Vec::new();
        let mut scorers = Vec::new();
        for n in 0..2 {
            intakes.push(topics.role(&start_of("intake", n), "intake", &[])?);
            scorers.push(topics.role(&start_of("scorer", n), "scorer", &[])?);
        }
        let mut warehouse = topics.role("warehouse", "warehouse", &output)?;
        ensure!(simulator.ended()?.is_none(), "the simulator was done before the roles ran: nothing was live");
        ensure!(simulator.wait(LONG)?.success(), "the simulator failed: {}", simulator.stderr()?);
        let records = wait_until_read(&topics, &mut intakes)?;
        ensure!(records.iter().all(|count| *count > 50), "too little was simulated: {records:?}");

        for intake in &mut intakes {
            intake.terminate()?;
        }
        let end = newest(scene)? as f64 + HORIZON_DAYS * DAY_MS;
        let mut intakes = Vec::new();
        for n in 2..4 {
            intakes.push(topics.role(&start_of("intake", n), "intake", &[HURRY.to_owned()])?);
        }
        wait_until("every horizon to pass", LONG, || {
            let at = complete_until(&mut scorers)?;
            ensure!(at > end, "complete until {at}, wanted {end}");
            Ok(Some(()))
        })?;
        for role in intakes.iter_mut().chain(&mut scorers) {
            role.terminate()?;
        }
        topics.wait_for_warehouse(&mut warehouse)?;
        wait_until("no row to be pending", SOON, || {
            let pending: f64 = warehouse.metric("peakdesk_warehouse_pending_rows", "")?.iter().sum();
            ensure!(pending == 0.0, "{pending} rows");
            Ok(Some(()))
        })?;
        ensure!(warehouse.metric("peakdesk_warehouse_gaps_total", "")?.iter().sum::<f64>() == 0.0, "results had gaps");
        warehouse.terminate()?;

        let (dump, again) = (scene.path("dump"), scene.path("again"));
        topics.dump(&dump)?;
        println!("{}", replay(scene, &dump, &again, &[])?);
        let late = format!("SELECT reason, count(*) FROM '{}/late_events/**/*.parquet' GROUP BY 1 ORDER BY 1", live.display());
        let late = query(scene, &late)?;
        println!("late events: {late:?}");
        ensure!(
            late.iter().all(|row| row.first() != Some(&Some("sealed".to_owned()))),
            "events came after their time was sealed: {late:?}"
        );
        compare(scene, &["--products", text(&live)?, text(&again)?, "--ignore-position"]).map(drop)
    });
}
