//! A scorer that dies goes on from its checkpoints, and from older ones or the beginning where they are damaged; where the log no
//! longer has what is needed, that partition says so and the others go on.

use peakdesk_tests::object_store::{damage, stored};
use peakdesk_tests::{Kafka, Port, ensure, http, scene, wait_until};

use crate::checkpoint_support::{PARTITIONS, Stage, count, wait_until_restored, wait_until_stored};
use crate::support::{LONG, SOON, Topics};

/// A byte of the body, seen from the end of the file.
const IN_THE_BODY: usize = 40;

#[test]
fn a_killed_scorer_goes_on_from_the_newest_checkpoint_that_is_good() {
    scene(|scene| {
        let root = scene.path("checkpoints");
        let mut stage = Stage::begin(scene, Topics::new(scene, "json")?, "1200")?;
        let mut scorer = stage.scorer("scorer", "1s")?;
        wait_until_stored(&root, 3)?;
        scorer.process.kill()?;
        stage.still_runs()?;

        // The newest is good: what lies before it is not folded again.
        let newest: Vec<i64> = (0..PARTITIONS)
            .map(|p| Ok(stored(&root, p)?[0].0))
            .collect::<peakdesk_tests::Result<_>>()?;
        ensure!(newest.iter().all(|offset| *offset > 10), "too little to tell: {newest:?}");
        let mut scorer = stage.scorer("again", "1h")?;
        wait_until_restored(&mut scorer, "checkpoint", PARTITIONS)?;
        let frames = wait_until("frames behind the checkpoints", SOON, || {
            let frames = count(&mut scorer, "frames_total", "")?;
            Ok((frames > 0.0).then_some(frames))
        })?;
        let behind = stage.log_ends()?.iter().sum::<i64>() - newest.iter().sum::<i64>();
        ensure!(
            frames <= behind as f64,
            "{frames} frames were folded, {behind} lie behind {newest:?}"
        );
        println!("from {newest:?}: {frames} frames folded so far, {behind} lie behind");
        scorer.process.kill()?;

        // The newest is damaged: the one before.
        for partition in 0..PARTITIONS {
            damage(&stored(&root, partition)?[0].1, IN_THE_BODY)?;
        }
        let mut scorer = stage.scorer("older", "1h")?;
        wait_until_restored(&mut scorer, "checkpoint", PARTITIONS)?;
        let unusable = count(&mut scorer, "checkpoints_total", "outcome=\"unusable\"")?;
        ensure!(unusable == PARTITIONS as f64, "{unusable} were found unusable");
        scorer.process.kill()?;

        // All are damaged: the beginning of the log.
        for partition in 0..PARTITIONS {
            for (_, file) in stored(&root, partition)?.iter().skip(1) {
                damage(file, IN_THE_BODY)?;
            }
        }
        let mut scorer = stage.scorer("beginning", "1s")?;
        wait_until_restored(&mut scorer, "beginning", PARTITIONS)?;
        stage.still_runs()?;
        stage.tables_are_those_of_a_replay(&mut [scorer])
    });
}

#[test]
fn without_a_checkpoint_a_truncated_partition_refuses_to_start_and_the_others_go_on() {
    scene(|scene| {
        let (kafka, root, log) = (Kafka::shared()?, scene.path("checkpoints"), scene.name("shop-log"));
        let stage = Stage::begin(scene, Topics::new(scene, "json")?, "600")?;
        let mut scorer = stage.scorer("scorer", "1s")?;
        wait_until_stored(&root, 2)?;
        scorer.process.kill()?;
        // Partition 0 has only damaged checkpoints to begin from, partition 2 none; partition 1 has its newest, at the first offset of the
        // log.
        let lost = stored(&root, 0)?[0].0;
        for (_, file) in stored(&root, 0)? {
            damage(&file, IN_THE_BODY)?;
        }
        let kept = stored(&root, 1)?[0].0;
        let gone = stored(&root, 2)?;
        for (_, file) in &gone {
            std::fs::remove_file(file)?;
        }
        kafka.delete_records(&log, &[(0, lost), (1, kept), (2, gone[0].0)])?;

        let port = Port::reserve()?;
        let listen = format!("http.listen=127.0.0.1:{}", port.number());
        let launch = stage.topics.launch("truncated", "scorer")?;
        let mut process = launch.args(["--set", &listen, "--set", "checkpoint.every=1h"]).spawn()?;
        let url = format!("http://127.0.0.1:{}", port.number());
        let said = wait_until("both partitions to refuse", LONG, || {
            process.alive()?;
            let answer = http::get(&format!("{url}/readyz"))?;
            ensure!(answer.status == 503, "{}: {}", answer.status, answer.body);
            Ok((answer.body.matches("cannot start").count() == 2).then_some(answer.body))
        })?;
        println!("{said}");
        let has = format!("{log}[0] cannot start: the log holds offsets {lost} to ");
        let without = format!("{log}[2] cannot start: the log holds offsets {} to ", gone[0].0);
        let nothing = format!("checkpoints at {}: none; bring back", root.display());
        for words in [
            has.as_str(),
            &without,
            &nothing,
            "checkpoints at ",
            &format!(": {lost} (damaged: "),
            "bring back a checkpoint or the log and restart",
        ] {
            ensure!(said.contains(words), "{words:?} is missing in {said}");
        }
        wait_until("the other partitions to be folded", SOON, || {
            process.alive()?;
            let metrics = http::get(&format!("{url}/metrics"))?.body;
            let holds = |line: &str| metrics.lines().any(|l| l == line);
            ensure!(holds("peakdesk_scorer_restores_total{outcome=\"checkpoint\"} 2"), "{metrics}");
            ensure!(holds("peakdesk_scorer_restores_total{outcome=\"refused\"} 2"), "{metrics}");
            ensure!(holds("peakdesk_scorer_refused{partition=\"0\"} 1"), "{metrics}");
            ensure!(holds("peakdesk_scorer_refused{partition=\"2\"} 1"), "{metrics}");
            let live = http::get(&format!("{url}/livez"))?;
            let waits = live.body.lines().find(|line| line.contains(&format!("{log}[0]: waits at ")));
            let why = waits.is_some_and(|line| line.ends_with("it cannot start without a state; /readyz and the log say what it needs"));
            ensure!(live.status == 200 && why, "{}: {}", live.status, live.body);
            let frames = metrics
                .lines()
                .find_map(|l| l.strip_prefix("peakdesk_scorer_frames_total ")?.parse::<f64>().ok());
            Ok(frames.filter(|n| *n > 0.0))
        })?;
        process.kill()
    });
}
