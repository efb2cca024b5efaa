//! What the alerter shows and to whom, and what on its topic is not its own.

use peakdesk_model::alert::Severity;
use peakdesk_tests::{Kafka, Message, Port, Receiver, Reply, Result, ensure, http, scene, wait_until};

use crate::alerter_support::{Desk, ROUTE, deliveries, fires};
use crate::console_support;
use crate::support::{Role, SOON};

fn routes(url: &str) -> String {
    format!(
        "[[receiver]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{url}/hook\"\ntries = 1\n[[route]]\nreceivers = [\"hook\"]\n{ROUTE}"
    )
}

#[test]
fn alerter_passes_over_what_is_no_span() {
    scene(|scene| {
        let desk = Desk::new(scene)?;
        let hook = Receiver::start(|_| Reply::Now(200, "{}".into()))?;
        desk.say(&[], true)?;
        let mut alerter = desk.alerter("alerter", &routes(&hook.url()), &[])?;
        for value in [Some("not a span".into()), None] {
            let message = Message {
                partition: Some(0),
                value,
                ..Message::default()
            };
            Kafka::shared()?.produce(&scene.name("alerts"), &[message])?;
        }
        desk.say(&[fires("s1", "a", Severity::Critical)], true)?;
        wait_until("the alert behind it to be told", SOON, || {
            alerter.process.alive()?;
            ensure!(hook.requests().len() == 1, "{:?}", hook.requests());
            Ok(Some(()))
        })?;
        let unreadable = alerter.metric("peakdesk_alerter_unreadable_total", "")?;
        ensure!(unreadable == [2.0], "{unreadable:?}");
        let restarts: f64 = alerter.metric("peakdesk_thread_restarts_total", "")?.iter().sum();
        ensure!(restarts == 0.0, "{restarts} restarts");
        alerter.terminate()
    })
}

#[test]
fn alerter_remembers_what_failed_and_shows_it_to_who_may_see_it() {
    scene(|scene| {
        let desk = Desk::new(scene)?;
        let hook = Receiver::start(|_| Reply::Now(400, "no".into()))?;
        desk.say(&[], true)?;
        let mut alerter = desk.alerter("alerter", &routes(&hook.url()), &[])?;
        desk.say(&[fires("s1", "a", Severity::Critical)], true)?;
        let failed = |alerter: &Role| -> Result<String> {
            let all = deliveries(alerter)?;
            let one = all.iter().find(|d| d["state"] == "failed").cloned().unwrap_or_default();
            ensure!(one["last_error"].as_str().is_some_and(|e| e.contains("400")), "{all:?}");
            Ok(one["id"].as_str().unwrap_or("").to_owned())
        };
        let id = wait_until("the delivery to fail for good", SOON, || failed(&alerter).map(Some))?;
        alerter.terminate()?;
        drop(alerter);
        let mut alerter = desk.alerter("again", &routes(&hook.url()), &[])?;
        let again = wait_until("it to be shown after a restart", SOON, || failed(&alerter).map(Some))?;
        ensure!(again == id, "{again} instead of {id}");
        alerter.terminate()?;
        drop(alerter);

        let token = desk.file("api.token", "a token of some length\n")?;
        let set = format!("alerter.api_token_file={}", token.display());
        let mut alerter = desk.alerter("token", &routes(&hook.url()), &[&set])?;
        let refused = http::get(&format!("{}/api/deliveries", alerter.url))?;
        ensure!(refused.status == 401, "without a token: {}", refused.status);
        let given = console_support::get(&alerter, "a token of some length", "/api/deliveries")?;
        ensure!(given.status == 200, "with it: {}", given.status);
        alerter.terminate()?;
        drop(alerter);

        // On every address and without a token nobody is answered.
        let port = Port::reserve()?;
        let file = desk.file("open.toml", &routes(&hook.url()))?;
        let mut open = desk
            .topics
            .launch("open", "alerter")?
            .args(["--set", &format!("alerter.routes_file={}", file.display())])
            .args(["--set", "alerter.state_dir=state"])
            .args(["--set", &format!("http.listen=0.0.0.0:{}", port.number())])
            .spawn()?;
        let url = format!("http://127.0.0.1:{}", port.number());
        wait_until("the open one to be alive", SOON, || {
            open.alive()?;
            let answer = http::get(&format!("{url}/livez"))?;
            ensure!(answer.status == 200, "{}", answer.status);
            Ok(Some(()))
        })?;
        let answer = http::get(&format!("{url}/api/deliveries"))?;
        ensure!(answer.status == 404, "{}: {}", answer.status, answer.body);
        let status = open.terminate()?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    })
}
