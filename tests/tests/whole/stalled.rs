//! A consumer that cannot get past a record: its loop turns, and yet the process says that it is not alive.

use peakdesk_tests::{Kafka, Message, Result, ensure, http, scene, wait_until};

use crate::support::{Role, SOON, Topics};

const LARGE: usize = 600_000;

fn livez(role: &mut Role) -> Result<http::Response> {
    role.process.alive()?;
    http::get(&format!("{}/livez", role.url))
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
        let log = intake.process.stderr()? + &intake.process.stdout()?;
        let said = log.lines().filter(|line| line.contains("does not get on")).count();
        ensure!(said == 1, "said {said} times");
        Ok(())
    });
}
