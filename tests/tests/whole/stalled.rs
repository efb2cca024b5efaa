//! Consumers whose loops turn and that do not get on: their processes say that they are not alive, until things move again.

use peakdesk_tests::{Kafka, Message, Port, Result, ensure, http, scene, wait_until};

use crate::alerter_support::ROUTE;
use crate::support::{LONG, Role, SOON, Topics, text};

const LARGE: usize = 600_000;

/// Clients with partitions give nothing for so long (s), from the first that has one on: long enough to look at all of them meanwhile.
const DEAF_S: u64 = 40;

fn livez(role: &mut Role) -> Result<http::Response> {
    role.process.alive()?;
    http::get(&format!("{}/livez", role.url))
}

/// The values of the gauge for one consumer's partitions of a topic.
fn stalled(role: &mut Role, consumer: &str, topic: &str) -> Result<Vec<f64>> {
    let labels = format!("consumer=\"{consumer}\",partition=");
    let all = role.metric("peakdesk_consumer_stalled", &labels)?;
    let of_topic = role.metric("peakdesk_consumer_stalled", &format!("topic=\"{topic}\""))?;
    ensure!(
        all.len() == of_topic.len(),
        "{consumer} reads {} partitions, {} of {topic}",
        all.len(),
        of_topic.len()
    );
    Ok(all)
}

/// How often a process has said something.
fn said(role: &Role, words: &str) -> Result<usize> {
    let log = role.process.stderr()? + &role.process.stdout()?;
    Ok(log.lines().filter(|line| line.contains(words)).count())
}

/// A dead letter that its topic does not take: the intake can neither go on nor leave it out.
#[test]
fn a_stalled_consumer_fails_livez() {
    scene(|scene| {
        let topics = Topics::new(scene, "json")?.with("health.consumer_patience=5s".to_owned());
        topics.create([1, 1, 1], &[])?;
        let kafka = Kafka::shared()?;
        kafka.create_topic(&scene.name("dead-letters"), 1, &[("max.message.bytes", "100000")])?;
        let record = |value: Vec<u8>| Message {
            partition: Some(0),
            value: Some(value),
            ..Message::default()
        };
        kafka.produce(&scene.name("orders"), &[record(b"{}".to_vec())])?;
        let mut intake = topics.role("intake", "intake", &[])?;
        let metric = |role: &mut Role| -> Result<f64> { Ok(role.metric("peakdesk_consumer_stalled", "topic=")?.iter().sum()) };
        wait_until("every input to be read", SOON, || {
            let read: f64 = intake.metric("peakdesk_intake_records_total", "")?.iter().sum();
            ensure!(read == 1.0, "{read}");
            let live = livez(&mut intake)?;
            ensure!(live.status == 200, "{}", live.body);
            Ok(Some(()))
        })?;
        ensure!(metric(&mut intake)? == 0.0, "stalled while nothing waits");

        // Noise, which compression does not make small.
        let mut noise = 1_u64;
        let bytes = std::iter::repeat_with(|| {
            noise = noise
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (noise >> 56) as u8
        });
        kafka.produce(&scene.name("chat"), &[record(bytes.take(LARGE).collect())])?;
        let expected = format!("intake-chat {}[0]", scene.name("chat"));
        wait_until("the process to say that it is stalled", SOON, || {
            let live = livez(&mut intake)?;
            ensure!(live.status == 503, "{}: {}", live.status, live.body);
            ensure!(
                live.body.lines().any(|line| line.starts_with("BAD") && line.contains(&expected)),
                "{}",
                live.body
            );
            ensure!(metric(&mut intake)? == 1.0, "the gauge does not say it");
            Ok(Some(()))
        })?;
        let said = said(&intake, "does not get on")?;
        ensure!(said == 1, "said {said} times");

        kafka.alter_topic(&scene.name("dead-letters"), "max.message.bytes", "2000000")?;
        wait_until("the process to be well again", LONG, || {
            let live = livez(&mut intake)?;
            ensure!(live.status == 200, "{}: {}", live.status, live.body);
            ensure!(metric(&mut intake)? == 0.0, "the gauge does not say it");
            Ok(Some(()))
        })
    });
}

/// Clients that are given partitions in which records lie, and then give nothing, though their loops turn.
#[test]
fn every_consumer_that_reads_nothing_fails_livez() {
    scene(|scene| {
        let topics = Topics::new(scene, "json")?.with("health.consumer_patience=5s".to_owned());
        topics.create([1, 1, 1], &[])?;
        let (kafka, name) = (Kafka::shared()?, |topic| scene.name(topic));
        let garbage = Message {
            partition: Some(0),
            key: Some(b"key".to_vec()),
            value: Some(b"{}".to_vec()),
            ..Message::default()
        };
        kafka.produce(&name("orders"), std::slice::from_ref(&garbage))?;
        let _intake = topics.role("intake", "intake", &[])?;
        let mut scorer = topics.role("healthy", "scorer", &[])?;
        for topic in ["live", "acknowledgements"] {
            kafka.produce(&name(topic), std::slice::from_ref(&garbage))?;
        }
        wait_until("something in every topic", SOON, || {
            for topic in ["shop-log", "results", "alerts", "dead-letters"] {
                let ends = kafka.high_watermarks(&name(topic))?;
                ensure!(ends.iter().any(|end| *end > 0), "{topic} ends at {ends:?}");
            }
            Ok(Some(()))
        })?;
        scorer.terminate()?;

        let routes = scene.path("routes.toml");
        let nowhere = Port::reserve()?;
        let receiver = format!(
            "[[receiver]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{}\"\n",
            nowhere.number()
        );
        std::fs::write(&routes, format!("{receiver}[[route]]\nreceivers = [\"hook\"]\n{ROUTE}"))?;
        let begin = |role: &str, flags: &[&str], settings: &[String]| {
            let launch = topics
                .launch(role, role)?
                .args(flags)
                .env("PEAKDESK_FAILPOINT", format!("log-read:1:{DEAF_S}000"));
            topics.begin(launch, settings)
        };
        let mut roles = [
            (begin("scorer", &["--threads", "1"], &[])?, vec![("scorer-0", "shop-log")]),
            (
                begin("warehouse", &[], &[format!("warehouse.output={}", text(&scene.path("tables"))?)])?,
                vec![
                    ("warehouse-results", "results"),
                    ("warehouse-alerts", "alerts"),
                    ("warehouse-letters", "dead-letters"),
                ],
            ),
            (
                begin(
                    "alerter",
                    &[],
                    &[
                        format!("alerter.routes_file={}", text(&routes)?),
                        "alerter.state_dir=state".to_owned(),
                    ],
                )?,
                vec![("alerter", "alerts")],
            ),
            (
                begin("console", &[], &[])?,
                vec![
                    ("console-live", "live"),
                    ("console-alerts", "alerts"),
                    ("console-acknowledgements", "acknowledgements"),
                ],
            ),
        ];
        for (role, consumers) in &mut roles {
            for (consumer, topic) in consumers.iter() {
                let stall = format!("BAD {consumer} {}[", name(topic));
                wait_until(&format!("{consumer} to be stalled"), SOON, || {
                    let live = livez(role)?;
                    let line = live
                        .body
                        .lines()
                        .find(|line| line.starts_with(&stall) && line.contains("stands at"));
                    let stood_s = line.and_then(|line| line.rsplit_once(" for ")?.1.strip_suffix(" s")?.parse::<u64>().ok());
                    ensure!(live.status == 503 && stood_s.is_some(), "{}: {}", live.status, live.body);
                    // Later the client tells it, for a moment: too late for one that stays deaf.
                    ensure!(stood_s < Some(DEAF_S), "seen only when it read again: {}", live.body);
                    let gauge = stalled(role, consumer, &name(topic))?;
                    ensure!(gauge.contains(&1.0), "the gauge does not say it: {gauge:?}");
                    ensure!(said(role, "does not get on")? >= consumers.len(), "the log does not say it");
                    Ok(Some(()))
                })?;
            }
        }
        for (role, consumers) in &mut roles {
            wait_until("the process to be well again", SOON, || {
                let live = livez(role)?;
                ensure!(live.status == 200, "{}: {}", live.status, live.body);
                for (consumer, topic) in consumers.iter() {
                    let gauge = stalled(role, consumer, &name(topic))?;
                    ensure!(!gauge.is_empty() && gauge.iter().all(|n| *n == 0.0), "{consumer}: {gauge:?}");
                }
                ensure!(said(role, "gets on again")? >= consumers.len(), "the log does not say it");
                Ok(Some(()))
            })?;
        }
        Ok(())
    });
}
