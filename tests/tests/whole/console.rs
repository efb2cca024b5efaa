//! The console on a real Kafka: what is written to its topics is what it answers and streams, to those who may see it.

use std::fs;

use peakdesk_model::alert::{Severity, TransitionKind};
use peakdesk_tests::{Kafka, Launch, Port, Result, Scene, bail, ensure, scene, wait_until};
use serde_json::{Value, json};

use crate::console_support::{Events, Floor, agent, alert_id, call, curve, detail, get, shop, transition, wall_ms};
use crate::support::{Role, SOON, text};

const FIRING: TransitionKind = TransitionKind::Firing;
const RESOLVED: TransitionKind = TransitionKind::Resolved;

/// Users of a console, each with the token `TOKEN-NAME`.
pub fn users(scene: &Scene) -> Result<Vec<String>> {
    let mut file = String::new();
    for (name, role, shops, agent) in [
        ("admin", "admin", "*", ""),
        ("supervisor", "supervisor", "s1", ""),
        ("viewer", "viewer", "s1", ""),
        ("elsewhere", "supervisor", "s2", ""),
        ("agent", "agent", "s1", "a1"),
    ] {
        let path = scene.path(&format!("token-{name}"));
        fs::write(&path, format!("{}\n", token(name)))?;
        file.push_str(&format!(
            "[[user]]\nname = \"{name}\"\nrole = \"{role}\"\nshops = [\"{shops}\"]\ntoken_file = \"{}\"\n",
            text(&path)?
        ));
        if !agent.is_empty() {
            file.push_str(&format!("agent = \"{agent}\"\n"));
        }
        let group = format!("[[group]]\nname = \"all-{name}\"\nrole = \"{role}\"\nshops = [\"{shops}\"]\n");
        if agent.is_empty() {
            file.push_str(&group);
        }
    }
    fs::write(scene.path("users.toml"), file)?;
    Ok(vec![
        "console.auth=token".to_owned(),
        format!("console.users_file={}", text(&scene.path("users.toml"))?),
    ])
}

/// The token of a user of [`users`].
pub fn token(name: &str) -> String {
    format!("a-token-that-is-long-enough-for-{name}")
}

/// Waits until what a console answers is as it should be.
fn answers(console: &mut Role, path: &str, met: impl Fn(&Value) -> bool) -> Result<Value> {
    wait_until(&format!("{path} to be as it should"), SOON, || {
        console.process.alive()?;
        let answer = get(console, "", path)?.json()?;
        if met(&answer) { Ok(Some(answer)) } else { bail!("{answer}") }
    })
}

#[test]
fn the_console_shows_what_is_written() {
    scene(|scene| {
        let mut floor = Floor::new(scene)?;
        let mut console = floor.console("console", &[])?;
        let values = [
            shop("s1", 5),
            agent("s1", "a1", 5),
            agent("s1", "a2", 5),
            detail("s1", "a1", 5),
            curve("s1", 5),
            shop("s2", 5),
        ];
        floor.live(&values)?;
        floor.alerts(1, &[transition("s1", Some("a1"), 7, 0, FIRING, Severity::Warning)])?;
        let expected: Vec<Value> = values.iter().map(|(_, value)| serde_json::from_str(value).unwrap()).collect();
        let shops = answers(&mut console, "/api/shops", |shops| {
            shops["shops"].as_array().is_some_and(|all| all.len() == 2) && shops["shops"][0]["open_alerts"]["warning"] == 1
        })?;
        let mut first = shops["shops"][0].clone();
        ensure!(
            first.as_object_mut().unwrap().remove("open_alerts") == Some(json!({"warning": 1, "major": 0, "critical": 0})),
            "{shops}"
        );
        ensure!(first == expected[0], "{first} is not {}", expected[0]);
        let agents = get(&console, "", "/api/shops/s1/agents")?.json()?;
        ensure!(agents["agents"].as_array().map(Vec::len) == Some(2), "{agents}");
        let one = get(&console, "", "/api/shops/s1/agents/a1")?.json()?;
        ensure!(one["detail"] == expected[3] && one["live"]["at"] == expected[1]["at"], "{one}");
        let curves = get(&console, "", "/api/shops/s1/curve?hours=24")?.json()?;
        ensure!(curves["curves"] == json!([expected[4]]), "{curves}");
        let alerts = get(&console, "", "/api/alerts")?.json()?;
        let alert = &alerts["alerts"][0];
        ensure!(
            alert["alert_id"] == alert_id("s1", Some("a1"), 7) && alert["state"] == "firing",
            "{alerts}"
        );
        ensure!(
            alert["threshold"]["warning"] == 100_000 && alert["evidence"][0]["age_ms"] == 2,
            "{alert}"
        );
        ensure!(one["alerts"] == json!([alert]), "{one}");

        let page = get(&console, "", "/floor/s1")?;
        ensure!(page.status == 200 && page.head.contains("content-type: text/html"), "{}", page.head);
        for header in [
            "content-security-policy: default-src 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
        ] {
            ensure!(page.head.contains(header), "no {header} in {}", page.head);
        }
        console.terminate()
    });
}

#[test]
fn spans_that_repeat_overlap_or_leave_a_gap_count_once() {
    scene(|scene| {
        let floor = Floor::new(scene)?;
        let mut console = floor.console("console", &[])?;
        floor.live(&[shop("s1", 1)])?;
        let fire = |onset| transition("s1", None, onset, 0, FIRING, Severity::Major);
        floor.span(2, 0, 1, &[fire(1)])?;
        floor.span(2, 0, 1, &[fire(1)])?;
        // What lies behind a gap waits for its repeat.
        floor.span(2, 3, 4, &[fire(4)])?;
        floor.span(2, 0, 2, &[fire(2)])?;
        floor.span(2, 2, 3, &[fire(3)])?;
        answers(&mut console, "/api/alerts", |found| {
            found["alerts"].as_array().map(Vec::len) == Some(3)
        })?;
        let gaps = console.metric("peakdesk_console_alert_gaps_total", "")?;
        ensure!(gaps == [1.0], "gaps: {gaps:?}");
        floor.span(2, 3, 4, &[fire(4)])?;
        let found = answers(&mut console, "/api/shops/s1", |shop| shop["open_alerts"]["major"] == 4)?;
        ensure!(found["open_alerts"]["warning"] == 0, "{found}");
        // Messages that are none change nothing and stop nothing.
        let bad = peakdesk_tests::Message {
            partition: Some(2),
            key: Some(b"shop".to_vec()),
            value: Some(b"nonsense".to_vec()),
            ..peakdesk_tests::Message::default()
        };
        for topic in ["live", "alerts", "acknowledgements"] {
            let partition = if topic == "acknowledgements" { 0 } else { 2 };
            let message = peakdesk_tests::Message {
                partition: Some(partition),
                ..bad.clone()
            };
            Kafka::shared()?.produce(&scene.name(topic), &[message])?;
        }
        floor.live(&[shop("s1", 2)])?;
        answers(&mut console, "/api/shops/s1", |shop| shop["figures"]["orders_paid"] == 2)?;
        wait_until("the bad messages to be counted", SOON, || {
            let bad = console.metric("peakdesk_console_messages_total", "unreadable")?;
            ensure!(bad.iter().sum::<f64>() == 3.0, "{bad:?}");
            Ok(Some(()))
        })
    });
}

#[test]
fn a_stream_brings_changes_within_a_second_and_resumes() {
    scene(|scene| {
        let mut floor = Floor::new(scene)?;
        let mut console = floor.console("console", &[])?;
        floor.live(&[shop("s1", 1), agent("s1", "a1", 1), shop("s2", 1)])?;
        answers(&mut console, "/api/shops", |shops| {
            shops["shops"].as_array().map(Vec::len) == Some(2)
        })?;
        let path = "/api/events?shop=s1&agent=a1";
        let mut events = Events::open(&console, path, &[])?;
        let mut delays = Vec::new();
        for step in 2..12 {
            floor.live(&[
                shop("s2", step),
                agent("s1", "a1", step),
                detail("s1", "a1", step),
                shop("s1", step),
            ])?;
            let event = events.next("the shop's figures", |e| {
                e.kind == "shop" && e.data["figures"]["orders_paid"] == step
            })?;
            delays.push(wall_ms() - event.data["sent_wall_ms"].as_i64().unwrap());
        }
        delays.sort_unstable();
        println!("from writing to the event (ms): {delays:?}");
        ensure!(
            delays[delays.len() / 2] <= 1_000,
            "half of the events took longer than a second: {delays:?}"
        );
        floor.alerts(0, &[transition("s1", Some("a1"), 3, 0, FIRING, Severity::Critical)])?;
        let alert = events.next("the alert", |e| e.kind == "alert")?;
        let listed = get(&console, "", "/api/alerts?shop=s1")?.json()?;
        ensure!(listed["alerts"] == json!([alert.data]), "{listed} and {alert:?}");
        events.next("the agent with its alert", |e| {
            e.kind == "agent" && e.data["open_alerts"]["critical"] == 1
        })?;

        // What happened while it was away, and of each key the newest.
        let place = events.last_id.clone();
        drop(events);
        for step in 20..23 {
            floor.live(&[agent("s1", "a1", step), agent("s1", "a2", step), agent("s2", "b1", step)])?;
        }
        answers(&mut console, "/api/shops/s2/agents", |all| {
            all["agents"][0]["figures"]["rounds"] == 22
        })?;
        let mut again = Events::open(&console, path, &[("Last-Event-ID", &place)])?;
        again.until("both agents", |e| (e.events.len() >= 2).then_some(()))?;
        let seen: Vec<(&str, &Value)> = again.events.iter().map(|e| (e.kind.as_str(), &e.data["agent_id"])).collect();
        ensure!(seen == [("agent", &json!("a1")), ("agent", &json!("a2"))], "{seen:?}");
        ensure!(again.events.iter().all(|e| e.data["figures"]["rounds"] == 22), "{:?}", again.events);

        // Another life of the console knows nothing of these places.
        let place = again.last_id.clone();
        console.terminate()?;
        again.end()?;
        let console = floor.console("console-again", &[])?;
        let mut reset = Events::open(&console, path, &[("Last-Event-ID", &place)])?;
        reset.next("to be told to fetch again", |e| e.kind == "reset")?;
        floor.live(&[agent("s1", "a1", 30)])?;
        reset.next("what comes then", |e| e.kind == "agent" && e.data["figures"]["rounds"] == 30)?;
        Ok(())
    });
}

#[test]
fn an_acknowledgement_outlives_the_console_and_is_seen_by_another() {
    scene(|scene| {
        let mut floor = Floor::new(scene)?;
        let settings = users(scene)?;
        let mut one = floor.console("console-1", &settings)?;
        let other = floor.console("console-2", &settings)?;
        floor.live(&[shop("s1", 1)])?;
        floor.alerts(0, &[transition("s1", None, 3, 0, FIRING, Severity::Major)])?;
        let id = alert_id("s1", None, 3);
        let path = format!("/api/alerts/{id}/acknowledge");
        let bearer = format!("Bearer {}", token("supervisor"));
        let headers = [
            ("Authorization", bearer.as_str()),
            ("X-Peakdesk", "1"),
            ("Content-Type", "application/json"),
        ];
        let mut events = Events::open(&other, "/api/events", &headers[..1])?;
        let taken = wait_until("the alert to be taken on", SOON, || {
            one.process.alive()?;
            call(&one, "POST", &path, &headers, "{\"note\":\"我来\"}")?.json().map(Some)
        })?;
        ensure!(
            taken["acknowledged"]["by"] == "supervisor" && taken["acknowledged"]["note"] == "我来",
            "{taken}"
        );
        let seen = |console: &Role| -> Result<Value> {
            Ok(get(console, &token("viewer"), "/api/alerts")?.json()?["alerts"][0]["acknowledged"].clone())
        };
        // Who was answered sees it at once; others soon.
        ensure!(seen(&one)? == taken["acknowledged"], "{}", seen(&one)?);
        events.next("the other console to see it", |e| {
            e.kind == "alert" && e.data["acknowledged"] == taken["acknowledged"]
        })?;

        one.process.kill()?;
        let again = floor.console("console-3", &settings)?;
        ensure!(seen(&again)? == taken["acknowledged"], "{}", seen(&again)?);
        let back = call(&again, "DELETE", &path, &headers[..2], "")?.json()?;
        ensure!(back["acknowledged"].is_null() && seen(&again)?.is_null(), "{back}");
        events.next("the other console to see it taken back", |e| {
            e.kind == "alert" && e.data["acknowledged"].is_null()
        })?;

        floor.alerts(0, &[transition("s1", None, 3, 1, RESOLVED, Severity::Major)])?;
        events.next("its end", |e| e.kind == "alert" && e.data["state"] == "resolved")?;
        let past = get(&other, &token("viewer"), "/api/alerts?state=past")?.json()?;
        ensure!(past["alerts"][0]["alert_id"] == *id, "{past}");
        Ok(())
    });
}

#[test]
fn a_broker_that_comes_back_is_read_on() {
    scene(|scene| {
        let mut kafka = Kafka::start()?;
        let console;
        {
            let floor = Floor::on(scene, &kafka)?;
            console = floor.console("console", &[])?;
            floor.live(&[shop("s1", 1)])?;
        }
        let mut console = console;
        answers(&mut console, "/api/shops/s1", |shop| shop["figures"]["orders_paid"] == 1)?;
        let mut events = Events::open(&console, "/api/events?shop=s1", &[])?;
        kafka.kill()?;
        // What is known is still told, and how old it is.
        ensure!(get(&console, "", "/api/shops/s1")?.status == 200, "no answer without a broker");
        kafka.start_again()?;
        let message = peakdesk_tests::Message {
            partition: Some(0),
            key: Some(shop("s1", 2).0.encode().into_bytes()),
            value: Some(shop("s1", 2).1.into_bytes()),
            ..peakdesk_tests::Message::default()
        };
        kafka.produce(&scene.name("live"), &[message])?;
        events.next("what was written after the restart", |e| e.data["figures"]["orders_paid"] == 2)?;
        console.terminate()
    });
}

#[test]
fn what_would_show_everything_to_everybody_is_refused() {
    scene(|scene| {
        let floor = Floor::new(scene)?;
        let port = Port::reserve()?;
        let open = [format!("http.listen=0.0.0.0:{}", port.number())];
        refused(floor.topics.launch("open", "console")?, &open, "console.auth")?;
        refused(
            floor.topics.launch("no-server", "console")?,
            &["http.listen=".to_owned()],
            "http.listen",
        )?;
        refused(
            floor.topics.launch("no-users", "console")?,
            &["console.auth=token".to_owned()],
            "console.users_file",
        )?;
        fs::write(scene.path("bad.toml"), "[[user]]\nname = \"x\"\nrole = \"boss\"\nshops = [\"s\"]\n")?;
        let bad = [
            "console.auth=token".to_owned(),
            format!("console.users_file={}", text(&scene.path("bad.toml"))?),
        ];
        refused(floor.topics.launch("bad-users", "console")?, &bad, "bad.toml")?;
        refused(floor.topics.launch("check", "check-config")?, &bad, "bad.toml")?;
        let secured = [open.as_slice(), &users(scene)?].concat();
        let mut launch = floor.topics.launch("secured", "check-config")?;
        for setting in &secured {
            launch = launch.arg("--set").arg(setting);
        }
        let shown = launch.run(SOON)?.success()?.stdout;
        ensure!(shown.contains("auth = \"token\"") && !shown.contains("long-enough"), "{shown}");
        Ok(())
    });
}

fn refused(mut launch: Launch, settings: &[String], part: &str) -> Result {
    for setting in settings {
        launch = launch.arg("--set").arg(setting);
    }
    let outcome = launch.run(SOON)?;
    ensure!(!outcome.status.success(), "it was not refused: {settings:?}");
    let last = outcome.stderr.trim_end().lines().last().unwrap_or_default();
    ensure!(last.starts_with("peakdesk: ") && last.contains(part), "{}", outcome.stderr);
    Ok(())
}
