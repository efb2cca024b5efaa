//! Live figures and alerts through the whole pipeline: what a supervisor sees on the page when all is read is what finance finds in
//! the Parquet, and the console's alerts are those of the table.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use peakdesk_tests::{Context, Kafka, Result, Scene, ensure, http, scene, wait_until};
use serde_json::Value;

use crate::page::{chromium, copy_of, node, npm};
use crate::support::{INPUTS, LONG, Role, SOON, Topics, query, text};

const SHOP: &str = "s1";
const DAY: &str = "2025-11-11";

/// What is of the moment only.
const PASSING: [&str; 3] = ["waiting.", "oldest_since", "open_alerts."];

/// The clocks run on as fast as the night does, so that open waits soon find their end.
const SPEED_UP: &str = "150";

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
            SPEED_UP,
            "--partitions",
            "2,1,1",
        ];
        let mut simulator = topics.launch("simulator", "simulator")?.args(flags).spawn()?;
        wait_until("records in every partition", LONG, || {
            simulator.alive()?;
            for topic in INPUTS {
                let ends = Kafka::shared()?.high_watermarks(&scene.name(topic))?;
                ensure!(ends.iter().all(|end| *end > 0), "{topic} ends at {ends:?}");
            }
            Ok(Some(()))
        })?;
        let mut intakes = vec![topics.role("intake", "intake", &[format!("intake.clock_speed={SPEED_UP}")])?];
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
        wait_until("the console to have heard of it, and of the end of every wait", LONG, || {
            let shop = get(&console, &format!("/api/shops/{SHOP}"))?;
            ensure!(
                shop["sent_wall_ms"].as_i64() > Some(folded_at) && shop["caught_up"] == true && shop["waiting"]["buyers"] == 0,
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
            "--chromium",
            text(&chromium(scene)?)?,
        ])
        .run(LONG)?
        .success()?;
    Ok(serde_json::from_str(&shown.stdout)?)
}

/// Every lasting figure that the page showed against the current rows of the day.
fn compare(scene: &Scene, output: &Path, shown: &Value) -> Result {
    let agents = shown["agents"].as_object().context("no agents on the page")?;
    ensure!(agents.len() == 4, "{} agents on the page", agents.len());
    let mut compared = 0;
    for (agent, of) in agents
        .iter()
        .map(|(id, of)| (Some(id.as_str()), of))
        .chain([(None, &shown["totals"])])
    {
        let figures = of["figures"].as_object().context("no figures on the page")?;
        let mut expected: BTreeMap<String, String> = BTreeMap::new();
        for (name, raw) in figures.iter().filter(|(name, _)| !PASSING.iter().any(|p| name.starts_with(p))) {
            let raw = raw.as_str().map_or_else(|| raw.to_string(), str::to_owned);
            for (column, value) in name.split('/').zip(raw.split('/')).filter(|(column, _)| !PASSING.contains(column)) {
                expected.insert(column.to_owned(), value.to_owned());
            }
        }
        let found = row(scene, output, agent, &expected.keys().map(String::as_str).collect::<Vec<_>>())?;
        for ((column, value), found) in expected.iter().zip(found) {
            // Nothing was shown where there is nothing: no reply, no percentile.
            let found = found.unwrap_or_default();
            ensure!(
                *value == found || (value == "0" && found.is_empty()),
                "{agent:?} {column}: page {value}, table {found}"
            );
            compared += 1;
        }
    }
    println!("{compared} figures of the page are those of the tables");
    ensure!(compared >= 5 * 8, "only {compared} figures were compared");
    Ok(())
}

/// Columns of the current row of the day of an agent, or of the shop.
fn row(scene: &Scene, output: &Path, agent: Option<&str>, columns: &[&str]) -> Result<Vec<Option<String>>> {
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
        "SELECT {list} FROM read_parquet('{}/{table}/dt={DAY}/*.parquet') WHERE grain = 'day' AND shop_id = '{SHOP}' {who} \
         ORDER BY log_offset DESC, log_index DESC LIMIT 1",
        output.display()
    );
    query(scene, &sql)?.into_iter().next().context(format!("no row of {agent:?}"))
}
