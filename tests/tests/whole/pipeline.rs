//! The whole system on a real Kafka: what the roles write while they run is what a replay of the topics' dump gives.

use peakdesk_tests::{ensure, scene, wait_until};

use crate::support::{LONG, SOON, Topics, compare, query, replay, text};

const PARTITIONS: [i32; 3] = [4, 2, 1];
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
        let mut simulator = topics.simulate("simulator", &flags)?;
        let output = [format!("warehouse.output={}", text(&live)?)];
        let mut intakes = Vec::new();
        let mut scorers = Vec::new();
        for n in 0..2 {
            intakes.push(topics.role(&format!("intake-{n}"), "intake", &[])?);
            scorers.push(topics.role(&format!("scorer-{n}"), "scorer", &[])?);
        }
        let mut warehouse = topics.role("warehouse", "warehouse", &output)?;
        wait_until("both intakes and both scorers to have a part of the work", SOON, || {
            simulator.alive()?;
            for (roles, metric) in [
                (&mut intakes, "peakdesk_intake_records_total"),
                (&mut scorers, "peakdesk_scorer_frames_total"),
            ] {
                for role in roles {
                    let done: f64 = role.metric(metric, "")?.iter().sum();
                    ensure!(done > 0.0, "{metric} of {} is {done}", role.url);
                }
            }
            Ok(Some(()))
        })?;
        ensure!(
            simulator.ended()?.is_none(),
            "the simulator was done before the roles ran: nothing was live"
        );
        ensure!(simulator.wait(LONG)?.success(), "the simulator failed: {}", simulator.stderr()?);
        let records = topics.wait_until_read(&mut intakes)?;
        ensure!(records.iter().all(|count| *count > 50), "too little was simulated: {records:?}");
        topics.finish(intakes, &mut scorers, &mut warehouse)?;

        let (dump, again) = (scene.path("dump"), scene.path("again"));
        topics.dump(&dump)?;
        println!("{}", replay(scene, &dump, &again, &[])?);
        let late = format!(
            "SELECT reason, count(*) FROM '{}/late_events/**/*.parquet' GROUP BY 1 ORDER BY 1",
            live.display()
        );
        let late = query(scene, &late)?;
        println!("late events: {late:?}");
        ensure!(
            late.iter().all(|row| row.first() != Some(&Some("sealed".to_owned()))),
            "events came after their time was sealed: {late:?}"
        );
        compare(scene, &["--products", text(&live)?, text(&again)?, "--ignore-position"])?;
        // The product's own dumps hold the same: here not even positions may differ.
        for form in ["ndjson", "parquet"] {
            compare(scene, &["--products", text(&again)?, text(&topics.dump_and_replay(form)?)?])?;
        }
        Ok(())
    });
}
