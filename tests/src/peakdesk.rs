//! The product's binary, built from this workspace.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::process::tail;
use crate::{Context, Failure, Launch, Result, ensure};

/// A release build from nothing, with its C libraries, on a small machine.
const BUILD_LIMIT: Duration = Duration::from_secs(3600);

/// The path of the `peakdesk` binary, built once per test run.
///
/// It is the release build when the tests are one, or `PEAKDESK_TEST_RELEASE` is 1; otherwise that of the dev profile,
/// whose dependencies the tests have built already.
///
/// # Errors
///
/// When it does not build.
pub fn peakdesk() -> Result<PathBuf> {
    static BINARY: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    BINARY
        .get_or_init(|| build().map_err(|failure| failure.to_string()))
        .clone()
        .map_err(Failure::fatal)
}

fn build() -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("the test crate is not in a workspace")?;
    let release = !cfg!(debug_assertions) || std::env::var("PEAKDESK_TEST_RELEASE").is_ok_and(|value| value == "1");
    let logs = tempfile::tempdir()?;
    // The whole workspace with its development dependencies, which `--test` brings in, has the features that `cargo test
    // --workspace` has built with; any smaller choice would compile most dependencies a second time.
    let mut launch = unset_own_package(Launch::new("cargo build of peakdesk", "env", logs.path()))
        .arg(env!("CARGO"))
        .args([
            "build",
            "--locked",
            "--workspace",
            "--bin",
            "peakdesk",
            "--test",
            "faults",
            "--message-format=json-render-diagnostics",
        ])
        .working_dir(root);
    if release {
        launch = launch.arg("--release");
    }
    let outcome = launch.run(BUILD_LIMIT)?;
    ensure!(
        outcome.status.success(),
        "the product does not build: {}",
        tail(&outcome.stderr, 30)
    );
    executable(&outcome.stdout).context("cargo built no executable named peakdesk")
}

/// Arguments of `env` that unset what cargo tells this test of its own package. To build scripts that ask for theirs (ring's does)
/// it would look like a change, and they and all that depends on them would be built again, in every run.
fn unset_own_package(launch: Launch) -> Launch {
    let own = |name: &std::ffi::OsString| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    };
    let names = std::env::vars_os().map(|(name, _)| name).filter(own);
    names.fold(launch, |launch, name| launch.arg("-u").arg(name))
}

/// The executable in cargo's messages, one JSON object a line.
fn executable(messages: &str) -> Option<PathBuf> {
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut binaries = artifacts.filter(|message| message["target"]["name"] == "peakdesk" && message["target"]["kind"][0] == "bin");
    binaries.find_map(|message| message["executable"].as_str().map(PathBuf::from))
}
