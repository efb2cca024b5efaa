//! The tables of a replay are those that the batch oracle computes from the same dump, under the default policy and under one
//! that changes in the middle.

use std::fs;
use std::path::Path;

use peakdesk_tests::{Result, Scene, ensure, scene};

use crate::support::{LONG, compare, replay, script, text};

/// A policy that changes at the start of a day in the middle of the dump, in every knob that the tables depend on.
const POLICY: &str = r#"profile = "sale"

[[version]]
session_gap = "8m"
latency_cap = "300s"
assessed_hours = "09:00-22:00"

[[version]]
from = 2025-11-11
session_gap = "15m"
latency_cap = "120s"
close_of_day = "20m"
assessed_hours = "00:00-24:00"
attribution_window = "24h"
after_sale_lookback = "1d"
refund_promise = "6h"

[[version]]
from = 2025-11-13
attribution_window = "5d"
close_of_day = "0s"
"#;

/// Three and a half days of few shops, with everything that makes records late, double or dead. The seed is printed by the
/// test, and fixed: two runs see the same.
fn simulate(scene: &Scene, dump: &Path, seed: u64) -> Result {
    println!("seed {seed}");
    let seed = seed.to_string();
    let flags = [
        "--seed",
        &seed,
        "--shops",
        "4",
        "--agents",
        "3",
        "--buyers-per-agent",
        "60",
        "--start",
        "2025-11-10T20:00",
        "--duration",
        "84h",
        "--late-share",
        "0.02",
        "--dead-share",
        "0.01",
        "--duplicates",
        "0.02",
        "--disorder",
        "3",
    ];
    let launch = scene.peakdesk("simulator")?.arg("simulator").arg("--dump").arg(dump);
    launch.args(flags).run(LONG)?.success().map(drop)
}

/// Replays a dump and lets the oracle compute it, and compares.
fn agree(scene: &Scene, dump: &Path, policy: &[&str]) -> Result {
    let (product, expected) = (scene.path("product"), scene.path("expected"));
    println!("{}", replay(scene, dump, &product, policy)?);
    let arguments = [&[text(dump)?, text(&expected)?], policy].concat();
    script(scene, "oracle.py", &arguments)?.success()?;
    let said = compare(scene, &[text(&expected)?, text(&product)?])?;
    for table in [
        "reply_rounds",
        "orders",
        "refunds",
        "buyer_days",
        "agent_windows",
        "shop_windows",
        "late_events",
        "dead_letters",
    ] {
        ensure!(
            said.contains(&format!("{table}: expected ")) && !said.contains(&format!("{table}: expected 0,")),
            "table {table} was not really compared"
        );
    }
    Ok(())
}

#[test]
fn the_oracle_finds_the_same_tables() {
    scene(|scene| {
        let dump = scene.path("dump");
        simulate(scene, &dump, 20_251_111)?;
        agree(scene, &dump, &[])
    });
}

#[test]
fn the_oracle_finds_the_same_tables_under_a_policy_that_changes() {
    scene(|scene| {
        let (dump, policy) = (scene.path("dump"), scene.path("sale.toml"));
        fs::write(&policy, POLICY)?;
        simulate(scene, &dump, 20_251_212)?;
        agree(scene, &dump, &["--policy", text(&policy)?])
    });
}
