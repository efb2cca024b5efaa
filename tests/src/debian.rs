//! Programs of Debian's packages: what is installed, else the package's files in the cache, unpacked and not installed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{Failure, Launch, Result, cache, ensure};

/// A package is some tens of megabytes.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(600);

/// The path of a program (`usr/bin/...`) of a package.
///
/// # Errors
///
/// When it is not installed, and the package cannot be fetched: there is no `apt-get`, or it knows of no such package.
pub fn program(package: &str, path: &str) -> Result<PathBuf> {
    let installed = Path::new("/").join(path);
    if installed.is_file() {
        return Ok(installed);
    }
    unpacked(package, path)
}

/// The same, from the cache, whatever is installed.
///
/// # Errors
///
/// When the package cannot be fetched.
pub fn unpacked(package: &str, path: &str) -> Result<PathBuf> {
    let files = cache::obtain(&format!("debian-{package}"), |draft| {
        let missing = |why: &str| Failure::fatal(format!("{package} is missing: apt-get install {package} ({why})"));
        let logs = tempfile::tempdir()?;
        let apt = |args: &[&str]| {
            let launch = Launch::new("apt-get", "apt-get", logs.path()).args(args);
            launch.working_dir(logs.path()).run(DOWNLOAD_LIMIT)
        };
        if !apt(&["download", package])?.status.success() {
            // Lists may be old, or not there at all; only root may fetch them.
            apt(&["update"])?;
            let outcome = apt(&["download", package])?;
            ensure!(outcome.status.success(), "{}", missing(outcome.stderr.lines().last().unwrap_or("")));
        }
        let mut archives = std::fs::read_dir(logs.path())?.filter_map(|entry| Some(entry.ok()?.path()));
        let archive = archives.find(|path| path.extension().is_some_and(|e| e == "deb"));
        let archive = archive.ok_or_else(|| missing("apt-get fetched no archive"))?;
        let unpack = Launch::new("dpkg-deb", "dpkg-deb", logs.path())
            .arg("--extract")
            .arg(&archive)
            .arg(draft);
        unpack.run(DOWNLOAD_LIMIT)?.success().map(drop)
    })?;
    Ok(files.join(path))
}
