//! The alerter with a real Alertmanager, and killed at bad moments.

use std::collections::{BTreeMap, BTreeSet};

use peakdesk_model::alert::{Rule, Severity, TransitionKind};
use peakdesk_tests::{Alertmanager, Received, Receiver, Reply, Result, debian, ensure, http, scene, wait_until};
use serde_json::Value;

use crate::alerter_support::{Desk, ROUTE, deliveries, fires, resolves, row, stays};
use crate::support::{LONG, SOON};

fn ok(_: &Received) -> Reply {
    Reply::Now(200, "{}".into())
}

fn webhook(name: &str, url: &str, more: &str) -> String {
    format!("[[receiver]]\nname = \"{name}\"\ntype = \"webhook\"\nurl = \"{url}\"\n{more}\n")
}

/// Alerts by agent, with their severities, that an Alertmanager says are active.
fn active(alertmanager: &Alertmanager) -> Result<BTreeSet<(String, String)>> {
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let labels = |alert: &Value| (text(&alert["labels"]["agent"]), text(&alert["labels"]["severity"]));
    Ok(alertmanager.list("alerts")?.iter().map(labels).collect())
}

/// Statuses of alerts that Alertmanager told its own receiver, by agent and severity, the last word on each.
fn notified(hook: &Receiver) -> BTreeMap<(String, String), String> {
    let mut last = BTreeMap::new();
    for request in hook.requests_to("/am") {
        for alert in request.json()["alerts"].as_array().into_iter().flatten() {
            let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
            let key = (text(&alert["labels"]["agent"]), text(&alert["labels"]["severity"]));
            last.insert(key, text(&alert["status"]));
        }
    }
    last
}

#[test]
fn alerter_keeps_a_real_alertmanager_informed() {
    scene(|scene| {
        let desk = Desk::new(scene)?;
        let hook = Receiver::start(ok)?;
        let mut alertmanager = Alertmanager::start(&format!("{}/am", hook.url()))?;
        let routes = format!(
            "[[receiver]]\nname = \"am\"\ntype = \"alertmanager\"\nurl = \"{}\"\nresend = \"1s\"\nlanguage = \"en\"\n[[route]]\nreceivers = [\"am\"]\n",
            alertmanager.url()
        );
        desk.say(&[], true)?;
        let mut alerter = desk.alerter("alerter", &routes, &["alerter.console_url=http://desk.example"])?;
        let mut rows: Vec<_> = (0..30).map(|n| fires("s1", &format!("a{n}"), Severity::Warning)).collect();
        let mut shop = fires("s1", "", Severity::Major);
        (shop.rule, shop.agent_id, shop.alert_id) = (Rule::ShopWaiting, None, "5h0b".repeat(8).into());
        rows.push(shop);
        desk.say(&rows, true)?;
        let alerts = wait_until("31 alerts in Alertmanager", SOON, || {
            alerter.process.alive()?;
            let alerts = alertmanager.list("alerts")?;
            ensure!(alerts.len() == 31, "{}", alerts.len());
            Ok(Some(alerts))
        })?;
        check_alert(&alerts)?;
        let groups = alertmanager.list("alerts/groups")?;
        let sizes: BTreeSet<usize> = groups.iter().filter_map(|g| Some(g["alerts"].as_array()?.len())).collect();
        ensure!(sizes == BTreeSet::from([1, 30]), "{groups:?}");
        // Kept alive: it is longer there than it was said to hold at first.
        let first = alerts[0]["endsAt"].as_str().unwrap_or("").to_owned();
        wait_until("Alertmanager's alerts to hold for longer", SOON, || {
            let updated = alertmanager
                .list("alerts")?
                .iter()
                .filter_map(|a| Some(a["updatedAt"].as_str()?.to_owned()))
                .min();
            ensure!(updated.as_ref() > Some(&first), "{updated:?}, {first}");
            Ok(Some(()))
        })?;
        ensure!(active(&alertmanager)?.len() == 31, "some have ended by themselves");

        let worse = row("s1", "a0", 0, 1, TransitionKind::Escalated, Severity::Critical);
        desk.say(&[worse], true)?;
        let is = |agent: &str, severity: &str| (agent.to_owned(), severity.to_owned());
        wait_until("the alert to be critical and not a warning", SOON, || {
            let active = active(&alertmanager)?;
            ensure!(
                active.contains(&is("a0", "critical")) && !active.contains(&is("a0", "warning")),
                "{active:?}"
            );
            Ok(Some(()))
        })?;

        // It forgets everything but what it has told; it is told again.
        alertmanager.kill()?;
        desk.say(
            &[resolves("s1", "a1", Severity::Warning), fires("s1", "late", Severity::Warning)],
            true,
        )?;
        wait_until("an attempt to fail", SOON, || {
            let failed: f64 = alerter
                .metric("peakdesk_alerter_deliveries_total", "outcome=\"retrying\"")?
                .iter()
                .sum();
            ensure!(failed > 0.0, "none");
            Ok(Some(()))
        })?;
        alertmanager.start_again()?;
        wait_until("all alerts to be back", SOON, || {
            let active = active(&alertmanager)?;
            ensure!(
                active.len() == 31 && active.contains(&is("late", "warning")) && !active.contains(&is("a1", "warning")),
                "{active:?}"
            );
            Ok(Some(()))
        })?;

        let mut ends: Vec<_> = (2..30).map(|n| resolves("s1", &format!("a{n}"), Severity::Warning)).collect();
        ends.push(resolves("s1", "a0", Severity::Critical));
        desk.say(&ends, true)?;
        wait_until("what is over to be gone", SOON, || {
            let active = active(&alertmanager)?;
            ensure!(active == BTreeSet::from([is("", "major"), is("late", "warning")]), "{active:?}");
            Ok(Some(()))
        })?;
        wait_until("Alertmanager to have told its receiver", SOON, || {
            let last = notified(&hook);
            let firing: Vec<_> = last.iter().filter(|(_, s)| *s == "firing").map(|(k, _)| k.clone()).collect();
            ensure!(firing == [is("", "major"), is("late", "warning")], "{firing:?}");
            Ok(Some(()))
        })?;
        // Without an alerter they end by themselves.
        alerter.terminate()?;
        wait_until("what is not kept alive to be gone", SOON, || {
            let active = active(&alertmanager)?;
            ensure!(active.is_empty(), "{active:?}");
            Ok(Some(()))
        })
    });
}

fn check_alert(alerts: &[Value]) -> Result {
    let alert = alerts.iter().find(|a| a["labels"]["agent"] == "a3").cloned().unwrap_or_default();
    let labels = serde_json::json!({
        "alertname": "PeakdeskBuyerWaiting", "rule": "buyer_waiting", "shop": "s1", "agent": "a3", "severity": "warning",
    });
    ensure!(alert["labels"] == labels, "{alert}");
    ensure!(
        alert["annotations"]["summary"] == "A buyer waits too long: shop s1, agent a3",
        "{alert}"
    );
    let description = alert["annotations"]["description"].as_str().unwrap_or("");
    ensure!(
        description.starts_with("warning: longest wait 2 min, since 20:00:00. What to do: "),
        "{alert}"
    );
    ensure!(
        alert["generatorURL"].as_str().unwrap_or("").starts_with("http://desk.example/"),
        "{alert}"
    );
    let shop = alerts
        .iter()
        .find(|a| a["labels"]["alertname"] == "PeakdeskShopWaiting")
        .cloned()
        .unwrap_or_default();
    ensure!(shop["labels"]["agent"].is_null() && shop["labels"]["severity"] == "major", "{shop}");
    Ok(())
}

#[test]
fn alerter_tells_of_a_backlog_only_what_still_fires() {
    scene(|scene| {
        let desk = Desk::new(scene)?;
        let hook = Receiver::start(ok)?;
        let routes = format!(
            "{}[[route]]\nreceivers = [\"hook\"]\n{ROUTE}",
            webhook("hook", &format!("{}/hook", hook.url()), "")
        );
        desk.say(
            &[fires("s1", "over", Severity::Critical), fires("s1", "still", Severity::Critical)],
            false,
        )?;
        desk.say(&[resolves("s1", "over", Severity::Critical)], false)?;
        let mut alerter = desk.alerter("alerter", &routes, &[])?;
        wait_until("the backlog to be read", SOON, || {
            let read: f64 = alerter.metric("peakdesk_alerter_transitions_total", "")?.iter().sum();
            ensure!(read == 3.0, "{read} of 3 transitions");
            Ok(Some(()))
        })?;
        stays("messages before it has caught up", || Ok(hook.requests().len()))?;
        ensure!(hook.requests().is_empty(), "told of a backlog");
        // A gap is not applied; its repeat is, once.
        desk.write(3, 4, &[fires("s1", "behind the gap", Severity::Critical)], true)?;
        wait_until("the gap to be seen", SOON, || {
            let gaps = alerter.metric("peakdesk_alerter_gaps_total", "")?;
            ensure!(gaps == [1.0], "{gaps:?}");
            Ok(Some(()))
        })?;
        desk.write(1, 3, &[], false)?;
        desk.write(0, 3, &[], false)?;
        desk.write(3, 4, &[], true)?;
        wait_until("the message", SOON, || {
            ensure!(hook.requests().len() == 1, "{:?}", hook.requests());
            Ok(Some(()))
        })?;
        let body = hook.requests()[0].json();
        ensure!(
            body["alerts"].as_array().map(Vec::len) == Some(1) && body["alerts"][0]["agent"] == "still",
            "{body}"
        );
        let repeats: f64 = alerter.metric("peakdesk_alerter_repeats_total", "")?.iter().sum();
        ensure!(repeats == 1.0, "{repeats} repeats");
        stays("messages", || Ok(hook.requests().len()))
    });
}

/// By message id: the alerts it tells of and how often it came.
#[allow(clippy::type_complexity)]
fn messages(hook: &Receiver) -> Result<BTreeMap<String, (BTreeSet<(String, String)>, usize)>> {
    let mut all: BTreeMap<String, (BTreeSet<(String, String)>, usize)> = BTreeMap::new();
    for request in hook.requests_to("/hook") {
        let body = request.json();
        let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
        let id = text(&body["message_id"]);
        ensure!(request.header("idempotency-key") == Some(&id), "{request:?}");
        let told = body["alerts"].as_array().into_iter().flatten();
        let told: BTreeSet<_> = told.map(|a| (text(&a["shop"]), text(&a["what"]))).collect();
        let entry = all.entry(id).or_insert_with(|| (told.clone(), 0));
        ensure!(entry.0 == told, "one id for two messages: {body}");
        entry.1 += 1;
    }
    Ok(all)
}

#[test]
fn alerter_killed_at_bad_moments_loses_and_repeats_nothing() {
    const ROUNDS: usize = 6;
    const SHOPS: usize = 4;
    scene(|scene| {
        let desk = Desk::new(scene)?;
        let hook = Receiver::start(ok)?;
        let more = "per_minute = 10000\ntimeout = \"20s\"\nretry_max = \"1s\"";
        let routes = format!(
            "{}[[route]]\nreceivers = [\"hook\"]\n{ROUTE}",
            webhook("hook", &format!("{}/hook", hook.url()), more)
        );
        desk.say(&[], true)?;
        for round in 0..ROUNDS {
            // In every second round the receiver takes the message and the alerter dies before it learns of it; in the others it dies
            // right after it has answered, before or after what it then does.
            let hangs = round % 2 == 0;
            hook.answer(move |r| if hangs { Reply::Never } else { ok(r) });
            let mut alerter = desk.alerter(&format!("alerter-{round}"), &routes, &[])?;
            let before = hook.requests().len();
            let shops: Vec<_> = (0..SHOPS)
                .map(|n| fires(&format!("shop-{round}-{n}"), "a", Severity::Critical))
                .collect();
            desk.say(&shops, true)?;
            let enough = if hangs { 1 } else { 3 };
            wait_until("requests", SOON, || {
                alerter.process.alive()?;
                let n = hook.requests().len() - before;
                ensure!(n >= enough, "{n} of {enough}");
                Ok(Some(()))
            })?;
            alerter.process.kill()?;
        }
        hook.answer(ok);
        let mut alerter = desk.alerter("alerter-last", &routes, &[])?;
        let mut wanted: BTreeSet<(String, String)> = (0..ROUNDS)
            .flat_map(|round| (0..SHOPS).map(move |n| (format!("shop-{round}-{n}"), "firing".to_owned())))
            .collect();
        let mut wait_for = |wanted: &BTreeSet<(String, String)>| {
            wait_until("everything to be told", LONG, || {
                alerter.process.alive()?;
                let told: BTreeSet<_> = messages(&hook)?.into_values().flat_map(|(told, _)| told).collect();
                let missing: Vec<_> = wanted.symmetric_difference(&told).collect();
                ensure!(missing.is_empty(), "missing or too much: {missing:?}");
                Ok(Some(()))
            })
        };
        wait_for(&wanted)?;
        let ends: Vec<_> = (0..SHOPS)
            .map(|n| resolves(&format!("shop-0-{n}"), "a", Severity::Critical))
            .collect();
        desk.say(&ends, true)?;
        wanted.extend((0..SHOPS).map(|n| (format!("shop-0-{n}"), "resolved".to_owned())));
        wait_for(&wanted)?;
        stays("messages", || Ok(hook.requests().len()))?;
        let mut times: BTreeMap<(String, String), usize> = BTreeMap::new();
        for one in messages(&hook)?.into_values().flat_map(|(told, _)| told) {
            *times.entry(one).or_default() += 1;
        }
        ensure!(times.values().all(|n| *n == 1), "told twice under different ids: {times:?}");
        let repeated: usize = messages(&hook)?.values().map(|(_, n)| n - 1).sum();
        ensure!(repeated >= ROUNDS / 2, "only {repeated} repeats; the kills were at no bad moment");
        alerter.terminate()
    });
}

/// Every second request gets a 500 after the receiver has taken it; nobody else is delayed by a receiver that never answers.
#[test]
fn alerter_retries_and_no_receiver_delays_another() {
    scene(|scene| {
        let desk = Desk::new(scene)?;
        let hook = Receiver::start(ok)?;
        let away = peakdesk_tests::Port::reserve()?;
        hook.answer({
            let seen = std::sync::Mutex::new(BTreeSet::new());
            move |r| match r.path() {
                "/never" => Reply::Never,
                "/hook" if seen.lock().unwrap().insert(r.body.clone()) => Reply::Now(500, "hm".into()),
                "/slow" => Reply::After(std::time::Duration::from_secs(2), 204, String::new()),
                _ => ok(r),
            }
        });
        let url = |path: &str| format!("{}/{path}", hook.url());
        let hurry = "retry_max = \"1s\"";
        let routes = [
            webhook("hook", &url("hook"), hurry),
            webhook("never", &url("never"), "timeout = \"1s\"\nretry_max = \"1s\""),
            webhook("slow", &url("slow"), hurry),
            webhook("away", &format!("http://127.0.0.1:{}/away", away.number()), hurry),
            format!("[[route]]\nreceivers = [\"never\", \"slow\", \"away\", \"hook\"]\n{ROUTE}"),
        ]
        .concat();
        desk.say(&[], true)?;
        let mut alerter = desk.alerter("alerter", &routes, &[])?;
        desk.say(&[fires("s1", "a", Severity::Warning), fires("s1", "b", Severity::Warning)], true)?;
        wait_until("the message to be taken after a 500", SOON, || {
            alerter.process.alive()?;
            let requests = hook.requests_to("/hook");
            ensure!(requests.len() == 2 && requests[0].body == requests[1].body, "{requests:?}");
            Ok(Some(()))
        })?;
        wait_until("two attempts at who never answers, the same", SOON, || {
            let requests = hook.requests_to("/never");
            ensure!(
                requests.len() >= 2 && requests.iter().all(|r| r.body == requests[0].body),
                "{requests:?}"
            );
            Ok(Some(()))
        })?;
        wait_until("the slow one to be done", SOON, || {
            let delivered = alerter.metric("peakdesk_alerter_deliveries_total", "outcome=\"delivered\",receiver=\"slow\"")?;
            ensure!(delivered == [1.0], "{delivered:?}");
            Ok(Some(()))
        })?;
        wait_until("attempts at who is away, and how long it lasts", SOON, || {
            let all = deliveries(&alerter)?;
            let one = all.iter().find(|d| d["receiver"] == "away").cloned().unwrap_or_default();
            ensure!(one["last_error"].as_str().is_some_and(|e| e.contains("refused")), "{all:?}");
            let oldest = alerter.metric("peakdesk_alerter_oldest_undelivered_seconds", "receiver=\"away\"")?;
            ensure!(oldest.iter().any(|s| *s > 1.0), "{oldest:?}");
            Ok(Some(()))
        })?;
        // Who comes back is told what is left.
        desk.say(&[resolves("s1", "b", Severity::Warning)], true)?;
        wait_until("the resolved message elsewhere", SOON, || {
            let requests = hook.requests_to("/hook");
            ensure!(requests.last().is_some_and(|r| r.json()["status"] == "resolved"), "{requests:?}");
            Ok(Some(()))
        })?;
        let back = Receiver::start_at(away.number(), ok)?;
        wait_until("the message to who was away", SOON, || {
            let requests = back.requests();
            ensure!(requests.len() == 1, "{requests:?}");
            let told = requests[0].json();
            ensure!(
                told["alerts"].as_array().map(Vec::len) == Some(1) && told["alerts"][0]["agent"] == "a",
                "{told}"
            );
            Ok(Some(()))
        })?;
        alerter.terminate()
    });
}

#[test]
fn alerter_and_check_config_say_what_is_wrong_with_routes() {
    scene(|scene| {
        let desk = Desk::new(scene)?;
        let file = desk.file(
            "bad.toml",
            "[[receiver]]\nname = \"r\"\ntype = \"webhook\"\nurl = \"http://h\"\nulr = \"\"\n",
        )?;
        let set = format!("alerter.routes_file={}", file.display());
        let outcome = desk.topics.launch("check", "check-config")?.args(["--set", &set]).run(SOON)?;
        let error = outcome.stderr.trim_end().to_owned();
        ensure!(!outcome.status.success() && error.lines().count() == 1, "{error}");
        ensure!(error.contains("bad.toml: line 5: unknown field `ulr`"), "{error}");
        let outcome = desk.topics.launch("none", "alerter")?.args(["--set", "http.listen="]).run(SOON)?;
        ensure!(
            !outcome.status.success() && outcome.stderr.contains("alerter.routes_file is empty"),
            "{}",
            outcome.stderr
        );
        let good = webhook("r", "http://h", "") + "[[route]]\nreceivers = [\"r\"]\n";
        let file = desk.file("good.toml", &good)?;
        let set = format!("alerter.routes_file={}", file.display());
        desk.topics
            .launch("check", "check-config")?
            .args(["--set", &set])
            .run(SOON)?
            .success()?;
        // Two cannot have one state.
        let alerter = desk.alerter("first", &good, &[])?;
        let arguments = ["--set", &set, "--set", "alerter.state_dir=state", "--set", "http.listen="];
        let outcome = desk.topics.launch("second", "alerter")?.args(arguments).run(SOON)?;
        ensure!(
            !outcome.status.success() && outcome.stderr.contains("alerter.state_dir"),
            "{}",
            outcome.stderr
        );
        ensure!(http::get(&format!("{}/livez", alerter.url))?.status == 200, "the first one suffers");
        Ok(())
    });
}

#[test]
fn debian_packages_are_unpacked_without_being_installed() {
    scene(|scene| {
        let program = debian::unpacked("prometheus-alertmanager", "usr/bin/prometheus-alertmanager")?;
        let outcome = scene.program("alertmanager", program).arg("--version").run(SOON)?.success()?;
        let said = outcome.stdout + &outcome.stderr;
        ensure!(said.contains("alertmanager, version"), "{said}");
        Ok(())
    });
}
