//! Checkpoints in a bucket of an S3-compatible server that goes away and comes back.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use peakdesk_tests::object_store::{ACCESS_KEY, ObjectStore, REGION, SECRET_KEY, stored};
use peakdesk_tests::{Context, Kafka, Line, Message, Proxy, Result, Scene, ensure, http, scene, wait_until};

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

/// What is said of the log that is still to be folded, by partition.
fn left(scorer: &mut Role) -> Result<Vec<f64>> {
    scorer.metric("peakdesk_scorer_replay_messages_left", "")
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
            let left = left(&mut first)?;
            ensure!(left.len() == 2 && left.iter().all(|n| *n > 0.0), "left of them: {left:?}");
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
                let left = left(other)?;
                ensure!(left.is_empty(), "{}: left to fold: {left:?}", other.url);
                Ok(Some(()))
            })?;
        }
        stage.still_runs()?;
        stage.end_load()?;
        others.push(first);
        stage.tables_are_those_of_a_replay(&mut others)
    });
}

/// Accepts the next connection of a scorer that asks which checkpoints a partition has, and does not answer; partition and connection.
fn asked(store: &TcpListener) -> Result<(usize, TcpStream)> {
    let mut connection = None;
    wait_until("a scorer to ask for checkpoints", SOON, || {
        connection = match store.accept() {
            Ok((stream, _)) => Some(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        Ok(Some(()))
    })?;
    let mut stream = connection.context("no connection")?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SOON))?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8(head)?;
    let partition = (0..PARTITIONS).find(|p| head.contains(&format!("shop-log%2F{p}")) || head.contains(&format!("shop-log/{p}")));
    Ok((partition.context(head)?, stream))
}

/// Whether the other side has closed a connection on which nothing else comes.
fn is_closed(stream: &mut TcpStream) -> Result<bool> {
    stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    match stream.read(&mut [0]) {
        Ok(0) => Ok(true),
        Ok(_) => Err(peakdesk_tests::Failure::fatal("it says more")),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Its requests are the test's own connections: those of the partitions that are taken away end, those of the others do not.
#[test]
fn a_restore_that_is_under_way_ends_with_its_partition() {
    scene(|scene| {
        let store = TcpListener::bind(("127.0.0.1", 0))?;
        store.set_nonblocking(true)?;
        let topics = topics(scene, &format!("http://{}", store.local_addr()?))?;
        let topics = topics.with("health.consumer_patience=2s".to_owned());
        topics.create([1, 1, 1], &[])?;
        let record = Message {
            partition: Some(0),
            value: Some(b"{}".to_vec()),
            ..Message::default()
        };
        Kafka::shared()?.produce(&scene.name("chat"), &[record])?;
        let mut intake = topics.role("intake", "intake", &[])?;
        wait_until("something in every partition of the log", SOON, || {
            let ends = Kafka::shared()?.high_watermarks(&scene.name("shop-log"))?;
            ensure!(ends.iter().all(|end| *end > 0), "{ends:?}");
            Ok(Some(()))
        })?;
        intake.terminate()?;

        let begin = |name| topics.begin(topics.launch(name, "scorer")?.args(["--threads", "1"]), &[]);
        let mut first = begin("first")?;
        let mut of_first: BTreeMap<usize, TcpStream> = (0..PARTITIONS).map(|_| asked(&store)).collect::<Result<_>>()?;
        ensure!(of_first.len() == PARTITIONS, "asked for {:?}", of_first.keys());
        for (partition, stream) in &mut of_first {
            ensure!(!is_closed(stream)?, "the request for partition {partition} ended by itself");
        }
        wait_until("it to say for how long it has been waiting, and for what", SOON, || {
            let waited = first.metric("peakdesk_consumer_waiting_seconds", "consumer=\"scorer-0\"")?;
            ensure!(waited.len() == PARTITIONS && waited.iter().all(|s| *s >= 2.0), "{waited:?}");
            let live = http::get(&format!("{}/livez", first.url))?;
            let lines = live
                .body
                .lines()
                .filter(|line| line.ends_with("its state is being restored from a checkpoint"));
            ensure!(live.status == 200 && lines.count() == PARTITIONS, "{}: {}", live.status, live.body);
            let log = first.process.stderr()?;
            let said = log.lines().filter(|line| line.contains("the partition waits for long")).count();
            ensure!(said == PARTITIONS, "said {said} times");
            Ok(Some(()))
        })?;
        let second = begin("second")?;
        let of_second: BTreeMap<usize, TcpStream> = (0..PARTITIONS / 2).map(|_| asked(&store)).collect::<Result<_>>()?;
        for partition in of_second.keys() {
            let mut gone = of_first.remove(partition).context("a partition that the first did not have")?;
            wait_until("the request for a partition that was taken away to end", SOON, || {
                ensure!(is_closed(&mut gone)?, "the request for partition {partition} is still open");
                Ok(Some(()))
            })?;
        }
        ensure!(restoring(&mut first)? == of_first.len(), "it still restores what it has not");
        let none = "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
        for (partition, stream) in &mut of_first {
            ensure!(!is_closed(stream)?, "the request for partition {partition}, which stayed, ended");
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{none}", none.len())?;
        }
        wait_until("the first to fold the partitions that it kept", SOON, || {
            let folded = folded(&mut first)?;
            ensure!(folded == of_first.len() && restoring(&mut first)? == 0, "it folds {folded}");
            Ok(Some(()))
        })?;
        drop(second);
        drop(of_second);
        Ok(())
    });
}
