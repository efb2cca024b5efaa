//! A short run of every fuzz target (`tests/fuzz`), from the kept corpus on. A long one is the same command by hand:
//!
//! ```text
//! RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none --fuzz-dir tests/fuzz --target-dir target/fuzz frame -- -max_total_time=3600
//! ```
//!
//! Without the address sanitizer: the code under test is safe Rust, and the C libraries beside it, which are not what is fuzzed, do not
//! build with it. The instrumentation wants a compiler that takes unstable options; `RUSTC_BOOTSTRAP` lets the stable one take them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use peakdesk_tests::{Context, Launch, Result, cache, ensure, scene};

/// The tool, in a fixed version.
const TOOL: &str = "cargo-fuzz";
const TOOL_VERSION: &str = "0.13.1";
/// A build from nothing, with its C libraries, on a small machine.
const BUILD_LIMIT: Duration = Duration::from_secs(3_600);
const SECONDS_EACH: u32 = 10;
/// Reading the corpus, running, and ending; the machine may be busy.
const RUN_LIMIT: Duration = Duration::from_secs(240);
/// What a target may take beside the corpus, the sanitizer included.
const MEMORY_MB_MAX: u32 = 2_048;
const TARGETS: [&str; 7] = ["avro_edge", "json_edge", "frame", "results", "config", "policy", "checkpoint"];

fn tests_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The directory with the tool's executable.
fn tool() -> Result<PathBuf> {
    let entry = cache::obtain(&format!("{TOOL}-{TOOL_VERSION}"), |draft| {
        let logs = tempfile::tempdir()?;
        let install = Launch::new("cargo install", env!("CARGO"), logs.path());
        let install = install
            .args(["install", TOOL, "--locked", "--version", TOOL_VERSION, "--root"])
            .arg(draft);
        let outcome = install.run(BUILD_LIMIT)?.success();
        outcome
            .map(|_| ())
            .context("cargo-fuzz cannot be had; the machine must reach the registry of crates once")
    })?;
    Ok(entry.join("bin").join(TOOL))
}

fn target_dir() -> PathBuf {
    let workspace = || tests_dir().join("../target");
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(workspace, PathBuf::from)
        .join("fuzz")
}

#[test]
fn a_short_run_of_every_target() {
    scene(|scene| {
        let tool = tool()?;
        // The target directory's layout is that of cargo, and cargo-fuzz knows it.
        let fuzz = |name: &str, action: &[&str]| {
            let launch = scene
                .program(name, &tool)
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO", env!("CARGO"))
                .arg("fuzz");
            let launch = launch.args(action).arg("--fuzz-dir").arg(tests_dir().join("fuzz"));
            launch.arg("--target-dir").arg(target_dir()).args(["--sanitizer", "none"])
        };
        let built = fuzz("build", &["build"]).run(BUILD_LIMIT)?.success();
        built.context("the fuzz targets do not build; they need a C++ compiler (Debian: apt-get install g++)")?;
        for target in TARGETS {
            let (found, kept) = (scene.path(target), tests_dir().join("fuzz/corpus").join(target));
            fs::create_dir(&found)?;
            ensure!(kept.is_dir(), "{target} has no corpus");
            let run = fuzz(target, &["run"]).arg(target).arg(&found).arg(&kept).arg("--");
            let outcome = run
                .arg(format!("-max_total_time={SECONDS_EACH}"))
                .arg(format!("-rss_limit_mb={MEMORY_MB_MAX}"))
                .arg(format!("-artifact_prefix={}/{target}-", scene.dir().display()))
                .args(["-timeout=20", "-print_final_stats=1"])
                .run(RUN_LIMIT)?;
            let done = outcome
                .stderr
                .lines()
                .find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
            // On a failure the end of this holds the input in base64.
            ensure!(
                outcome.status.success(),
                "{target} found something; the input stands in the log printed below"
            );
            let done: u64 = done.context("no statistics")?.trim().parse()?;
            println!("{target}: {done} inputs");
            ensure!(done > 100, "{target}: only {done} inputs in {SECONDS_EACH} s");
        }
        Ok(())
    });
}
