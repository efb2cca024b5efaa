//! Live figures and alerts through the whole pipeline: what a supervisor sees on the page when all is read is what finance finds in
//! the Parquet, and the console's alerts are those of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use peakdesk_tests::{Context, Kafka, Message, Result, Scene, ensure, http, scene, wait_until};
use serde_json::{Value, json};

use crate::page::{chromium, copy_of, node, npm};
use crate::support::{LONG, Role, SOON, Topics, query, text};

const SHOP: &str = "s1";
const DAY: &str = "2025-11-11";
/// Whose page is looked at.
const AGENT: &str = "a1";

/// What is of the moment only.
const PASSING: [&str; 3] = ["waiting.", "oldest_since", "open_alerts."];

#[test]
fn the_page_ends_with_the_figures_of_the_parquet() {
    scene(|scene| {
        let scripts = copy_of(scene, "tests/page", "scripts")?;
        npm(scene, &scripts, &["ci"])?;
        let output = scene.path("live");
        // Nobody sleeps on the night of the sale: its policy raises alerts around the clock.
        let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/policy.double11.toml");
        let topics = Topics::new(scene, "json")?.with(format!("policy.file={}", text(&policy)?));
        topics.create([2, 1, 1], &[])?;
        let flags = [
            "--shops",
            "2",
            "--agents",
            "4",
            "--buyers-per-agent",
            "200",
            "--duration",
            "70m",
            "--start",
            "2025-11-11T00:00",
            "--speed-up",
            "150",
            "--partitions",
            "2,1,1",
        ];
        let mut simulator = topics.simulate("simulator", &flags)?;
        let mut intakes = vec![topics.role("intake", "intake", &[])?];
        let mut scorers = vec![topics.role("scorer", "scorer", &[])?];
        let mut warehouse = topics.role("warehouse", "warehouse", &[format!("warehouse.output={}", text(&output)?)])?;
        let mut console = topics.role("console", "console", &[])?;
        wait_until("an open alert while it goes on", LONG, || {
            simulator.alive()?;
            ensure!(!alerts(&console, "open")?.is_empty(), "none yet");
            Ok(Some(()))
        })?;
        ensure!(simulator.wait(LONG)?.success(), "the simulator failed: {}", simulator.stderr()?);
        let records: i64 = topics.wait_until_read(&mut intakes)?.iter().sum();
        let dead: f64 = intakes[0].metric("peakdesk_intake_dead_letters_total", "")?.iter().sum();
        wait_until("the scorer to have folded everything", LONG, || {
            let events: f64 = scorers[0].metric("peakdesk_scorer_events_total", "")?.iter().sum();
            ensure!(events + dead >= records as f64, "{events} and {dead} dead of {records}");
            Ok(Some(()))
        })?;
        let folded_at = crate::console_support::wall_ms();
        wait_until("the console to have heard of it", SOON, || {
            let shop = get(&console, &format!("/api/shops/{SHOP}"))?;
            ensure!(
                shop["sent_wall_ms"].as_i64() > Some(folded_at) && shop["caught_up"] == true,
                "{shop}"
            );
            Ok(Some(()))
        })?;
        let shown = page(scene, &scripts, &console)?;
        topics.finish(intakes, &mut scorers, &mut warehouse)?;

        compare(scene, &output, &shown)?;
        let written = written_alerts(scene, &output)?;
        println!("{} transitions of alerts", written.len());
        wait_until("the console to have all alerts of the table", SOON, || {
            let seen: BTreeSet<String> = alerts(&console, "all")?.iter().flat_map(transitions).collect();
            ensure!(
                seen == written,
                "{:?}",
                seen.symmetric_difference(&written).take(5).collect::<Vec<_>>()
            );
            Ok(Some(()))
        })?;
        let open = alerts(&console, "open")?;
        ensure!(open.is_empty(), "not resolved at the end: {open:?}");
        console.terminate()
    });
}

/// One buyer writes and nothing else ever happens: the alert comes all the same, gets worse, and is over when nobody may answer any more.
#[test]
fn alerts_fire_in_silence() {
    scene(|scene| {
        let policy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/policy.double11.toml");
        let topics = Topics::new(scene, "json")?.with(format!("policy.file={}", text(&policy)?));
        topics.create([1, 1, 1], &[])?;
        let _intake = topics.role("intake", "intake", &["intake.clock_speed=600".to_owned()])?;
        let _scorer = topics.role("scorer", "scorer", &[])?;
        let mut console = topics.role("console", "console", &[])?;
        let now = crate::console_support::wall_ms();
        let question = json!({"event_id": "m1", "shop_id": SHOP, "buyer_id": "b", "event_time": now, "kind": "BUYER_MESSAGE", "agent_id": AGENT, "text": "在吗"});
        let message = Message {
            partition: Some(0),
            timestamp_ms: Some(now),
            value: Some(question.to_string().into_bytes()),
            ..Message::default()
        };
        Kafka::shared()?.produce(&scene.name("chat"), &[message])?;
        let told = wait_until("the alert, and its end", LONG, || {
            let all = alerts(&console, "all")?;
            let waiting = all.iter().find(|a| a["rule"] == "buyer_waiting" && a["agent_id"] == AGENT);
            let kinds: Vec<String> = waiting.map(transitions).unwrap_or_default();
            ensure!(kinds.iter().any(|t| t.contains(" resolved ")), "{kinds:?}");
            Ok(Some(kinds))
        })?;
        let expected = ["firing warning", "escalated major", "escalated critical", "resolved critical"];
        ensure!(
            told.len() == expected.len() && told.iter().zip(expected).all(|(t, e)| t.contains(e)),
            "{told:?}"
        );
        console.terminate()
    });
}

fn get(console: &Role, path: &str) -> Result<Value> {
    let answer = http::get(&format!("{}{path}", console.url))?;
    ensure!(answer.status == 200, "{path}: {} {}", answer.status, answer.body);
    answer.json()
}

fn alerts(console: &Role, state: &str) -> Result<Vec<Value>> {
    let answer = get(console, &format!("/api/alerts?state={state}&limit=1000"))?;
    Ok(answer["alerts"].as_array().context("no alerts in the answer")?.clone())
}

/// `id kind severity at value` of each transition.
fn transitions(alert: &Value) -> Vec<String> {
    let line = |t: &Value| {
        let words = [
            &alert["alert_id"],
            &t["kind"],
            &t["severity"],
            &t["at"],
            &t["value_num"],
            &t["value_den"],
        ];
        words.map(|w| w.as_str().map_or_else(|| w.to_string(), str::to_owned)).join(" ")
    };
    alert["transitions"].as_array().into_iter().flatten().map(line).collect()
}

fn written_alerts(scene: &Scene, output: &Path) -> Result<BTreeSet<String>> {
    let sql = format!(
        "SELECT alert_id, transition, concat_ws(' ', alert_id, kind, severity, epoch_ms(\"at\"), value_num, value_den) \
         FROM read_parquet('{}/alerts/*/*.parquet')",
        output.display()
    );
    let rows = query(scene, &sql)?;
    let keys: BTreeSet<_> = rows.iter().map(|row| row.iter().take(2).cloned().collect::<Vec<_>>()).collect();
    ensure!(keys.len() == rows.len(), "{} rows of {} transitions", rows.len(), keys.len());
    Ok(rows.into_iter().filter_map(|row| row.into_iter().nth(2)?).collect())
}

/// What the floor shows.
fn page(scene: &Scene, scripts: &Path, console: &Role) -> Result<Value> {
    let launch = scene.program("figures", node()?).working_dir(scripts);
    let shown = launch
        .args([
            "figures.mjs",
            "--base",
            &console.url,
            "--shop",
            SHOP,
            "--agent",
            AGENT,
            "--screen",
            "--chromium",
            text(&chromium(scene)?)?,
        ])
        .run(LONG)?
        .success()?;
    Ok(serde_json::from_str(&shown.stdout)?)
}

/// Every lasting figure that the pages showed against the tables.
fn compare(scene: &Scene, output: &Path, shown: &Value) -> Result {
    let agents = shown["agents"].as_object().context("no agents on the page")?;
    ensure!(agents.len() == 4, "{} agents on the page", agents.len());
    let ranking = shown["screen"]["ranking"].as_array().context("no ranking on the screen")?;
    ensure!(!ranking.is_empty(), "nobody is ranked");
    let scopes = agents
        .iter()
        .map(|(id, of)| (Some(id.as_str()), of))
        .chain([(None, &shown["totals"]), (Some(AGENT), &shown["agent"]), (None, &shown["screen"])])
        .chain(ranking.iter().map(|of| (of["agent"].as_str(), of)));
    let mut compared = 0;
    for (agent, of) in scopes {
        compared += same_figures(scene, output, agent, "grain = 'day'", of)?;
    }
    let hours = shown["agent"]["hours"].as_object().context("no hours of the agent")?;
    ensure!(!hours.is_empty(), "the agent has no hours");
    for (start, of) in hours {
        let window = format!("grain = 'hour' AND epoch_ms(window_start) = {start}");
        compared += same_figures(scene, output, Some(AGENT), &window, of)?;
    }
    println!("{compared} figures of the pages are those of the tables");
    ensure!(compared >= 100, "only {compared} figures were compared");

    let tables = output.display();
    let credited = shown["agent"]["orders"].as_array().context("no orders of the agent")?;
    let credited = credited.iter().filter_map(|id| Some(id.as_str()?.to_owned())).collect();
    let orders = format!(
        "SELECT order_id FROM (SELECT * FROM read_parquet('{tables}/orders/dt={DAY}/*.parquet') WHERE shop_id = '{SHOP}' \
         QUALIFY row_number() OVER (PARTITION BY order_id ORDER BY log_offset DESC, log_index DESC) = 1) WHERE agent_id = '{AGENT}'"
    );
    same_set("credited orders", &credited, &column(scene, &orders)?)?;

    let missed = shown["agent"]["missed"].as_array().context("no missed rounds of the agent")?;
    let missed = missed
        .iter()
        .map(|m| format!("{} {}", m["buyer"].as_str().unwrap_or_default(), m["t0"]));
    // Rounds without an answer are closed hours later, when nobody looks at the page any more.
    let rounds = format!(
        "SELECT concat(buyer_key, ' ', epoch_ms(t0)) FROM read_parquet('{tables}/reply_rounds/dt={DAY}/*.parquet') \
         WHERE shop_id = '{SHOP}' AND agent_id = '{AGENT}' \
         AND (outcome = 'transferred' OR (outcome = 'replied' AND epoch_ms(ended_at) - epoch_ms(a0) > 180000))"
    );
    same_set("missed rounds", &missed.collect(), &column(scene, &rounds)?)
}

/// Compares the lasting figures of a scope with its current row; how many there are.
fn same_figures(scene: &Scene, output: &Path, agent: Option<&str>, window: &str, of: &Value) -> Result<usize> {
    let figures = of["figures"].as_object().context("no figures on the page")?;
    let waiting = figures
        .get("waiting.buyers")
        .and_then(Value::as_str)
        .and_then(|n| n.parse::<i64>().ok());
    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    for (name, raw) in figures.iter().filter(|(name, _)| !PASSING.iter().any(|p| name.starts_with(p))) {
        let raw = raw.as_str().map_or_else(|| raw.to_string(), str::to_owned);
        for (column, value) in name.split('/').zip(raw.split('/')) {
            // A wait that is open becomes a round without answer at its deadline, hours later.
            let value = match (column, waiting) {
                ("rounds" | "unanswered", Some(waiting)) => (value.parse::<i64>()? + waiting).to_string(),
                ("rounds" | "unanswered", None) => continue,
                _ => value.to_owned(),
            };
            expected.insert(column.to_owned(), value);
        }
    }
    let found = row(
        scene,
        output,
        agent,
        window,
        &expected.keys().map(String::as_str).collect::<Vec<_>>(),
    )?;
    for ((column, value), found) in expected.iter().zip(found) {
        // Nothing was shown where there is nothing: no reply, no percentile.
        let found = found.unwrap_or_default();
        ensure!(
            *value == found || (value == "0" && found.is_empty()) || (value.is_empty() && found == "0"),
            "{agent:?} {window} {column}: page {value}, table {found}"
        );
    }
    Ok(expected.len())
}

fn same_set(what: &str, page: &BTreeSet<String>, table: &BTreeSet<String>) -> Result {
    ensure!(!table.is_empty(), "no {what} in the tables");
    let differences: Vec<_> = page.symmetric_difference(table).take(5).collect();
    ensure!(
        differences.is_empty(),
        "{what}: {} on the page, {} in the table, differing {differences:?}",
        page.len(),
        table.len()
    );
    println!("{} {what} of the page are those of the table", page.len());
    Ok(())
}

/// The first column of a query.
fn column(scene: &Scene, sql: &str) -> Result<BTreeSet<String>> {
    Ok(query(scene, sql)?.into_iter().filter_map(|row| row.into_iter().next()?).collect())
}

/// Columns of the current row of a window of an agent, or of the shop.
fn row(scene: &Scene, output: &Path, agent: Option<&str>, window: &str, columns: &[&str]) -> Result<Vec<Option<String>>> {
    let (table, who) = match agent {
        Some(agent) => ("agent_windows", format!("AND agent_id = '{agent}'")),
        None => ("shop_windows", String::new()),
    };
    let list = columns
        .iter()
        .map(|c| format!("CAST({c} AS VARCHAR)"))
        .collect::<Vec<_>>()
        .join(", ");
    let sql = format!(
        "SELECT {list} FROM read_parquet('{}/{table}/dt={DAY}/*.parquet') WHERE {window} AND shop_id = '{SHOP}' {who} \
         ORDER BY log_offset DESC, log_index DESC LIMIT 1",
        output.display()
    );
    query(scene, &sql)?
        .into_iter()
        .next()
        .context(format!("no row of {agent:?} where {window}"))
}
