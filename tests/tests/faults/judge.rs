//! Whether what a disturbed system has published is what an undisturbed one says.
//!
//! ```text
//! shop log ─► another scorer and warehouse, undisturbed ─► files: the same names, the same bytes (alerts too)
//! inputs   ─► dump ─► replay                            ─► tables: the same rows, but for positions
//! ```
//!
//! The first holds the scorers and warehouses to the log, the second holds the log to the inputs.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use peakdesk_tests::support::{query, replay, script, text};
use peakdesk_tests::{Context, Result, Scene, ensure};

use crate::stage::Stage;

/// Rows that were compared; an error when any differs.
pub fn judge(stage: &Stage<'_>) -> Result<usize> {
    let reference = undisturbed(stage)?;
    let files = same_files(&stage.output, &reference)?;
    ensure!(files > 0, "no file was written");
    let alerts = count(stage.scene, &reference, "alerts")?;
    ensure!(alerts > 0, "no alert was written: nothing to compare");
    Ok(alerts + replayed(stage)?)
}

/// What one scorer and one warehouse make of the log.
pub fn undisturbed(stage: &Stage<'_>) -> Result<std::path::PathBuf> {
    let output = stage.scene.path("undisturbed");
    let topics = stage.topics.again("undisturbed");
    let mut scorers = [topics.role("undisturbed-scorer", "scorer", &[])?];
    let mut warehouse = topics.role(
        "undisturbed-warehouse",
        "warehouse",
        &[format!("warehouse.output={}", text(&output)?)],
    )?;
    topics.wait_for_horizon(&mut scorers)?;
    let [mut scorer] = scorers;
    scorer.terminate()?;
    topics.wait_for_warehouse(&mut warehouse)?;
    warehouse.terminate()?;
    Ok(output)
}

/// Compares the tables with a replay of what is in the inputs; how many rows there are.
fn replayed(stage: &Stage<'_>) -> Result<usize> {
    let (dump, again) = (stage.scene.path("dump"), stage.scene.path("replayed"));
    stage.topics.dump(&dump)?;
    replay(stage.scene, &dump, &again, &[])?;
    same_rows(stage.scene, &stage.output, &again, &[])
}

/// Compares current rows, whatever their positions; how many there are.
pub fn same_rows(scene: &Scene, output: &Path, reference: &Path, more: &[&str]) -> Result<usize> {
    let args = [&["--products", text(reference)?, text(output)?, "--ignore-position"], more].concat();
    let outcome = script(scene, "compare.py", &args)?;
    ensure!(
        outcome.status.success(),
        "the tables differ from a replay of the inputs: {}{}",
        outcome.stdout,
        outcome.stderr
    );
    let expected = |line: &str| line.split_once(": expected ")?.1.split(',').next()?.parse::<usize>().ok();
    Ok(outcome.stdout.lines().filter_map(expected).sum())
}

fn count(scene: &Scene, output: &Path, table: &str) -> Result<usize> {
    let sql = format!("SELECT count(*) FROM read_parquet('{}/{table}/*/*.parquet')", output.display());
    let rows = query(scene, &sql)?;
    let cell = rows.first().and_then(|row| row.first()?.clone());
    Ok(cell.context("no count")?.parse()?)
}

/// Insists that two directories have the same files with the same bytes; how many. How dead letters are cut into files depends on
/// when they were read, so they are left to their rows.
pub fn same_files(output: &Path, reference: &Path) -> Result<usize> {
    let (found, wanted) = (files(output)?, files(reference)?);
    let missing: Vec<_> = wanted.keys().filter(|name| !found.contains_key(*name)).collect();
    let extra: Vec<_> = found.keys().filter(|name| !wanted.contains_key(*name)).collect();
    let other: Vec<_> = wanted
        .iter()
        .filter(|(name, bytes)| found.get(*name).is_some_and(|f| f != *bytes))
        .collect();
    let first = |names: &[&String]| names.iter().take(5).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let other: Vec<_> = other.into_iter().map(|(name, _)| name).collect();
    ensure!(
        missing.is_empty() && extra.is_empty() && other.is_empty(),
        "of {} files {} are missing ({}), {} have other bytes ({}), and {} are too many ({})",
        wanted.len(),
        missing.len(),
        first(&missing),
        other.len(),
        first(&other),
        extra.len(),
        first(&extra)
    );
    Ok(wanted.len())
}

/// Files by their path below a directory, without those of a write that never ended.
fn files(dir: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).context(at.display())? {
            let path = entry?.path();
            let name = path.strip_prefix(dir)?.to_string_lossy().into_owned();
            if path.is_dir() && name != "dead_letters" {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "parquet") {
                all.insert(name, fs::read(&path)?);
            }
        }
    }
    Ok(all)
}
