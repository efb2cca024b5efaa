//! Checkpoints in a bucket of an S3-compatible server that goes away and comes back.

use peakdesk_tests::object_store::{ACCESS_KEY, ObjectStore, REGION, SECRET_KEY, stored};
use peakdesk_tests::{Line, Proxy, Result, Scene, ensure, http, scene, wait_until};

use crate::checkpoint_support::{PARTITIONS, Stage, count, wait_until_restored, wait_until_stored};
use crate::support::{LONG, Role, SOON, Topics};

const BUCKET: &str = "states";

/// Topics of services whose checkpoints are in the bucket of the server at `url`.
fn topics<'s>(scene: &'s Scene, url: &str) -> Result<Topics<'s>> {
    let settings = [
        format!("checkpoint.url=s3://{BUCKET}/of/scorers"),
        format!("checkpoint.endpoint={url}"),
        format!("checkpoint.region={REGION}"),
        "checkpoint.allow_http=true".to_owned(),
        "checkpoint.keep=2".to_owned(),
    ];
    let topics = settings.into_iter().fold(Topics::new(scene, "json")?, Topics::with);
    Ok(topics
        .with_env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .with_env("AWS_SECRET_ACCESS_KEY", SECRET_KEY))
}

#[test]
fn scoring_goes_on_while_the_store_is_away() {
    scene(|scene| {
        let mut store = ObjectStore::start(BUCKET)?;
        let topics = topics(scene, &store.url())?;
        let root = store.files(BUCKET).join("of/scorers");
        let mut stage = Stage::begin(scene, topics, "600")?;
        let mut scorer = stage.scorer("scorer", "1s")?;
        wait_until_stored(&root, 2)?;

        store.kill()?;
        wait_until("a checkpoint to fail", LONG, || {
            Ok((count(&mut scorer, "checkpoints_total", "outcome=\"failed\"")? > 0.0).then_some(()))
        })?;
        let frames = count(&mut scorer, "frames_total", "")?;
        wait_until("scoring to go on", LONG, || {
            Ok((count(&mut scorer, "frames_total", "")? > frames + 20.0).then_some(()))
        })?;
        ensure!(
            http::get(&format!("{}/readyz", scorer.url))?.status == 200,
            "it is not ready without the store"
        );
        store.start_again()?;
        let saved = count(&mut scorer, "checkpoints_total", "outcome=\"saved\"")?;
        wait_until("checkpoints again", LONG, || {
            Ok((count(&mut scorer, "checkpoints_total", "outcome=\"saved\"")? >= saved + 2.0 * PARTITIONS as f64).then_some(()))
        })?;
        scorer.process.kill()?;
        for partition in 0..PARTITIONS {
            let kept = stored(&root, partition)?.len();
            // A scorer that is killed between writing and deleting leaves one more.
            ensure!((2..=3).contains(&kept), "{kept} checkpoints of partition {partition} are kept");
        }
        let mut scorer = stage.scorer("again", "1s")?;
        wait_until_restored(&mut scorer, "checkpoint", PARTITIONS)?;
        stage.still_runs()?;
        scorer.terminate()
    });
}

/// Partitions of which the scorer waits for a state.
fn restoring(scorer: &mut Role) -> Result<usize> {
    Ok(count(scorer, "restoring", "")? as usize)
}

/// The partitions that a scorer folds: those with a log time.
fn folded(scorer: &mut Role) -> Result<usize> {
    Ok(scorer.metric("peakdesk_scorer_now_milliseconds", "")?.len())
}

#[test]
fn a_state_that_does_not_come_blocks_nobody_and_is_given_up_with_its_partition() {
    scene(|scene| {
        let store = ObjectStore::start(BUCKET)?;
        let way = Proxy::to(store.port())?;
        let topics = topics(scene, &format!("http://127.0.0.1:{}", way.port()))?;
        let mut stage = Stage::begin(scene, topics, "400")?;
        let mut first = stage.scorer("first", "1s")?;
        let mut second = stage.scorer("second", "1s")?;
        wait_until_stored(&store.files(BUCKET).join("of/scorers"), 1)?;
        wait_until("two partitions for each", LONG, || {
            let shares = (folded(&mut first)?, folded(&mut second)?);
            ensure!(shares == (2, 2), "{shares:?}");
            Ok(Some(()))
        })?;

        way.set(Line::HalfOpen);
        second.process.kill()?;
        wait_until("the other two partitions to wait for their states", LONG, || {
            let n = restoring(&mut first)?;
            ensure!(n == 2, "{n} are waiting");
            Ok(Some(()))
        })?;
        let frames = count(&mut first, "frames_total", "")?;
        wait_until("the first two partitions to be folded meanwhile", SOON, || {
            let more = count(&mut first, "frames_total", "")? - frames;
            ensure!(more > 20.0, "{more} frames");
            Ok(Some(()))
        })?;
        ensure!(restoring(&mut first)? == 2, "a state came from a store that does not answer");

        // Whoever joins gets three of the four, at least one of which the first was still waiting for.
        let mut others = Vec::new();
        for name in ["third", "fourth", "fifth"] {
            others.push(stage.scorer(name, "1s")?);
        }
        wait_until(
            "a partition for each, and the states of three to be waited for by their new owners",
            LONG,
            || {
                let of_first = (folded(&mut first)?, restoring(&mut first)?);
                ensure!(
                    of_first.0 + of_first.1 == 1,
                    "the first folds {} and waits for {}",
                    of_first.0,
                    of_first.1
                );
                for other in &mut others {
                    let n = restoring(other)?;
                    ensure!(n == 1, "{} waits for {n}", other.url);
                }
                Ok(Some(()))
            },
        )?;
        way.set(Line::Whole);
        for other in &mut others {
            wait_until("the state", LONG, || {
                ensure!(restoring(other)? == 0 && folded(other)? == 1, "{} still waits", other.url);
                Ok(Some(()))
            })?;
        }
        stage.still_runs()?;
        stage.end_load()?;
        others.push(first);
        stage.tables_are_those_of_a_replay(&mut others)
    });
}
