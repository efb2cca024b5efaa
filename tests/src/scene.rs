//! One test: its directory, its names, its processes.

use std::any::type_name_of_val;
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::process::tail;
use crate::{Context, Failure, Launch, Result, guard, peakdesk};

/// Lines of each log that are shown when a test fails.
const LOG_LINES: usize = 80;

/// What a test has for itself.
#[derive(Debug)]
pub struct Scene {
    dir: TempDir,
    prefix: String,
}

impl Scene {
    /// The test's own directory, removed when it ends (kept if `PEAKDESK_TEST_KEEP` is set and the test fails).
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// A name for a topic, a consumer group or a subject that no other test and no earlier run has. It begins with the
    /// scene's [`prefix`](Scene::prefix).
    pub fn name(&self, what: &str) -> String {
        format!("{}.{what}", self.prefix)
    }

    /// What the scene's names begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A launch of the product, with its output in this scene's logs. `name` tells instances apart in messages.
    ///
    /// # Errors
    ///
    /// When the product does not build.
    pub fn peakdesk(&self, name: &str) -> Result<Launch> {
        Ok(Launch::new(name, peakdesk()?, self.dir()).working_dir(self.dir()))
    }

    /// A launch of any program, with its output in this scene's logs.
    pub fn program(&self, name: &str, program: impl AsRef<std::ffi::OsStr>) -> Launch {
        Launch::new(name, program, self.dir()).working_dir(self.dir())
    }

    fn print_logs(&self) {
        let entries = fs::read_dir(self.dir()).into_iter().flatten().flatten();
        let mut logs: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "log"))
            .collect();
        logs.sort();
        for path in logs {
            let text = fs::read(&path)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .unwrap_or_default();
            if !text.trim().is_empty() {
                let name = path.file_name().unwrap_or_default().display();
                eprintln!("---- {name} (last {LOG_LINES} lines)\n{}", tail(&text, LOG_LINES));
            }
        }
    }
}

/// Runs the body of a test in its own [`Scene`], named after the function that `body` is in. When it fails, by an error or a panic, the ends of the logs of all it
/// started are printed.
///
/// # Panics
///
/// When the body returns an error, or panics; that is how a test fails.
pub fn scene<F: FnOnce(&Scene) -> Result>(body: F) {
    let name = type_name_of_val(&body).trim_end_matches("::{{closure}}");
    scene_named(name.rsplit("::").next().unwrap_or("test"), body);
}

/// The same under a name, where the function that `body` is in does not tell what it is about.
///
/// # Panics
///
/// As [`scene`].
pub fn scene_named(name: &str, body: impl FnOnce(&Scene) -> Result) {
    let scene = open(name).unwrap_or_else(|failure| fail(&failure));
    let result = catch_unwind(AssertUnwindSafe(|| body(&scene)));
    if matches!(result, Ok(Ok(()))) {
        return;
    }
    scene.print_logs();
    if std::env::var_os("PEAKDESK_TEST_KEEP").is_some() {
        eprintln!("---- kept: {}", scene.dir.keep().display());
    }
    match result {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => fail(&failure),
        Err(panic) => resume_unwind(panic),
    }
}

/// Fails the test with one line. A `panic!` would add a backtrace of the harness, which says nothing about the failure.
fn fail(failure: &Failure) -> ! {
    eprintln!("{failure}");
    resume_unwind(Box::new(failure.to_string()))
}

fn open(name: &str) -> Result<Scene> {
    let run = RandomState::new().hash_one(std::process::id()) as u32;
    let prefix = format!("{name}-{run:08x}");
    let dir = tempfile::Builder::new()
        .prefix(&format!("peakdesk-{name}-"))
        .tempdir()
        .context("making a directory for the test")?;
    if std::env::var_os("PEAKDESK_TEST_KEEP").is_none() {
        guard::remove_at_end(dir.path())?;
    }
    Ok(Scene { dir, prefix })
}
