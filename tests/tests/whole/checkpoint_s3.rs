//! Checkpoints in a bucket of an S3-compatible server that goes away and comes back.

use peakdesk_tests::object_store::{ACCESS_KEY, ObjectStore, REGION, SECRET_KEY};
use peakdesk_tests::{ensure, http, scene, wait_until};

use crate::checkpoint_support::{PARTITIONS, Stage, count, stored, wait_until_restored, wait_until_stored};
use crate::support::{LONG, Topics};

const BUCKET: &str = "states";

#[test]
fn scoring_goes_on_while_the_store_is_away() {
    scene(|scene| {
        let mut store = ObjectStore::start(BUCKET)?;
        let settings = [
            format!("checkpoint.url=s3://{BUCKET}/of/scorers"),
            format!("checkpoint.endpoint={}", store.url()),
            format!("checkpoint.region={REGION}"),
            "checkpoint.allow_http=true".to_owned(),
            "checkpoint.keep=2".to_owned(),
        ];
        let topics = settings.into_iter().fold(Topics::new(scene, "json")?, Topics::with);
        let topics = topics
            .with_env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
            .with_env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
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
