//! Pythons with the packages of the batch oracle, or of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::{Context, Failure, Launch, Outcome, Result, cache};

const INSTALL_LIMIT: Duration = Duration::from_secs(900);

/// The Python interpreter of a virtual environment that has the packages of `oracle/requirements.txt`.
///
/// The environment is in the cache, under a name that follows from the requirements and from the Python it is made of.
///
/// # Errors
///
/// When there is no Python 3 with `venv`, or the packages cannot be installed.
pub fn python() -> Result<PathBuf> {
    static PYTHON: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    PYTHON
        .get_or_init(|| python_with("oracle/requirements.txt").map_err(|failure| failure.to_string()))
        .clone()
        .map_err(Failure::fatal)
}

/// The interpreter of a virtual environment that has the packages of another file of requirements, by its path in the test
/// crate; in the cache as that of [`python`].
///
/// # Errors
///
/// As [`python`].
pub fn python_with(requirements: &str) -> Result<PathBuf> {
    let requirements = Path::new(env!("CARGO_MANIFEST_DIR")).join(requirements);
    let wanted = fs::read(&requirements).context(format!("cannot read {}", requirements.display()))?;
    let logs = tempfile::tempdir()?;
    let describe = Launch::new("python3", "python3", logs.path()).args(["-c", "import sys; print(sys.version, sys.base_prefix)"]);
    let base = found(describe.run(INSTALL_LIMIT)?)?.stdout;
    let key = xxh3_64(&[wanted.as_slice(), base.as_bytes()].concat());
    let entry = cache::obtain(&format!("python-{key:016x}"), |draft| install(&requirements, draft, logs.path()))?;
    Ok(entry.join("bin/python"))
}

/// Makes the environment in `draft`. Only its interpreter is used, which finds its packages from where it is; so the
/// environment may be renamed, which its scripts would not bear.
fn install(requirements: &Path, draft: &Path, logs: &Path) -> Result {
    found(
        Launch::new("python3 -m venv", "python3", logs)
            .args(["-m", "venv"])
            .arg(draft)
            .run(INSTALL_LIMIT)?,
    )?;
    let python = draft.join("bin/python");
    let pip = Launch::new("pip", python, logs)
        .args([
            "-m",
            "pip",
            "--quiet",
            "--disable-pip-version-check",
            "install",
            "--only-binary",
            ":all:",
            "--requirement",
        ])
        .arg(requirements);
    pip.run(INSTALL_LIMIT)?
        .success()
        .context(format!("could not install the packages of {}", requirements.display()))?;
    Ok(())
}

fn found(outcome: Outcome) -> Result<Outcome> {
    if outcome.status.success() {
        return Ok(outcome);
    }
    Err(Failure::fatal(
        "python3 with venv not found: install Python 3.9 or newer (Debian: apt-get install python3-venv)",
    ))
}
