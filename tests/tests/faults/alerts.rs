//! What a receiver is told while everything dies: no firing is lost, and what comes twice is known by its id.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use peakdesk_model::alert::{AlertRow, TransitionKind};
use peakdesk_model::position::LogPosition;
use peakdesk_model::results;
use peakdesk_tests::support::{LONG, text};
use peakdesk_tests::{Failure, Receiver, Reply, Result, ensure, wait_until};
use serde_json::Value;

use crate::Plant;
use crate::stage::Stage;

/// The alerter and all that is before it are killed again and again while a receiver is told. Then the load ends.
pub fn told(plant: &mut Plant, stage: &mut Stage<'_>) -> Result {
    let hook = Receiver::start(|_| Reply::Now(200, "{}".into()))?;
    let routes = stage.scene.path("routes.toml");
    fs::write(
        &routes,
        format!(
            "[[receiver]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}/hook\"\nper_minute = 10000\nretry_max = \"1s\"\n\
             [[route]]\nreceivers = [\"hook\"]\ngroup_wait = \"300ms\"\ngroup_interval = \"500ms\"\nrepeat_interval = \"0s\"\n",
            hook.url()
        ),
    )?;
    let settings = [
        format!("alerter.routes_file={}", text(&routes)?),
        format!("alerter.state_dir={}", text(&stage.scene.path("state"))?),
    ];
    let alerter = stage.add("alerter", "alerter", &settings)?;
    for round in 0..plant.times(4, 40) {
        stage.after_records(&mut plant.random, 1..300)?;
        stage.ensure_load()?;
        let victim = if round % 2 == 0 { alerter } else { round % stage.members() };
        stage.kill(victim)?;
        stage.tally.injected += 1;
        stage.start(victim)?;
        if round % 4 == 3 {
            stage.recovered()?;
        }
    }
    // Dead with the delivery noted and not sent.
    stage.terminate(alerter)?;
    stage.start_with(alerter, &[], Some("alerter-stored:1"))?;
    stage.wait_for_death(alerter)?;
    stage.tally.injected += 1;
    stage.ensure_load()?;
    stage.start(alerter)?;
    stage.end_load()?;
    stage.recovered()?;
    wait_until("the receiver to know of what is open, and of nothing else", LONG, || {
        let (open, told) = (open(stage)?, told_open(&hook)?);
        ensure!(!open.is_empty(), "no alert is open: nothing to compare");
        let differ: Vec<_> = open.symmetric_difference(&told).take(5).collect();
        ensure!(differ.is_empty(), "{} open, {} told; {differ:?}", open.len(), told.len());
        Ok(Some(()))
    })?;
    stage.dismiss(alerter)
}

/// Alerts that fire by the topic, read with no help of a role.
fn open(stage: &Stage<'_>) -> Result<BTreeSet<String>> {
    let mut last: BTreeMap<String, (LogPosition, bool)> = BTreeMap::new();
    for record in stage.topics.broker().read_all(&stage.topics.topic("alerts"))? {
        let (_, batches) = results::decode(record.value.as_deref().unwrap_or(&[])).map_err(Failure::fatal)?;
        for row in AlertRow::of_message(&batches, LogPosition::start_of(0)).unwrap_or_default() {
            let state = (row.stamp.position, row.kind != TransitionKind::Resolved);
            let entry = last.entry(row.alert_id.to_string()).or_insert(state);
            *entry = state.max(*entry);
        }
    }
    Ok(last.into_iter().filter(|(_, (_, open))| *open).map(|(id, _)| id).collect())
}

/// Alerts of which the receiver was told last that they fire. One id is always one message.
fn told_open(hook: &Receiver) -> Result<BTreeSet<String>> {
    let mut messages: BTreeMap<String, Vec<(String, bool)>> = BTreeMap::new();
    let mut last: BTreeMap<String, bool> = BTreeMap::new();
    for request in hook.requests_to("/hook") {
        let body = request.json();
        let id = body["message_id"].as_str().unwrap_or("").to_owned();
        ensure!(!id.is_empty(), "a message without an id: {body}");
        let one = |alert: &Value| (alert["alert_id"].as_str().unwrap_or("").to_owned(), alert["what"] != "resolved");
        let says: Vec<_> = body["alerts"].as_array().into_iter().flatten().map(one).collect();
        if let Some(before) = messages.get(&id) {
            ensure!(*before == says, "one id for two messages: {before:?} and {body}");
            continue;
        }
        last.extend(says.clone());
        messages.insert(id, says);
    }
    Ok(last.into_iter().filter(|(_, open)| *open).map(|(id, _)| id).collect())
}
