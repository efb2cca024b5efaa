//! Things that are obtained once per machine: downloads, and what is built from them.
//!
//! An entry is a directory. It is made under another name and renamed when it is whole, under a lock among all
//! processes; so an entry that exists is complete, and an interrupted download is never used. An entry never changes:
//! its name carries version and whatever else it depends on.
//!
//! Nothing is ever evicted. Removing the whole directory is always safe while no test runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::{Context, Result};

/// The cache directory: `PEAKDESK_TEST_CACHE`, or `.cache/peakdesk` in the home directory. It exists on return.
///
/// # Errors
///
/// When neither variable is set, or it cannot be made.
pub fn dir() -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let dir = set("PEAKDESK_TEST_CACHE")
        .or_else(|| set("HOME").map(|home| home.join(".cache/peakdesk")))
        .context("no place for the test cache: set PEAKDESK_TEST_CACHE or HOME")?;
    let dir = std::path::absolute(dir)?;
    fs::create_dir_all(&dir).context(format!("cannot make the test cache {}", dir.display()))?;
    Ok(dir)
}

/// The entry `name`, made by `make` if there is none.
///
/// `make` fills the directory it is given. It runs under the entry's lock: others who want the same wait.
///
/// # Errors
///
/// When `make` fails, or the cache cannot be written. Nothing is left of a failed attempt.
pub fn obtain(name: &str, make: impl FnOnce(&Path) -> Result) -> Result<PathBuf> {
    obtain_in(&dir()?, name, make)
}

fn obtain_in(cache: &Path, name: &str, make: impl FnOnce(&Path) -> Result) -> Result<PathBuf> {
    let entry = cache.join(name);
    let lock = File::create(cache.join(format!("{name}.lock")))?;
    lock.lock().context(format!("locking {name} in {}", cache.display()))?;
    if entry.is_dir() {
        return Ok(entry);
    }
    let draft = cache.join(format!("{name}.draft"));
    remove_if_there(&draft)?;
    fs::create_dir(&draft)?;
    match make(&draft) {
        Ok(()) => fs::rename(&draft, &entry)?,
        Err(failure) => {
            remove_if_there(&draft)?;
            return Err(failure);
        }
    }
    Ok(entry)
}

fn remove_if_there(path: &Path) -> Result {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).context(format!("removing the half-made {}", path.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::bail;

    #[test]
    fn many_at_once_make_it_once() {
        let cache = tempfile::tempdir().unwrap();
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let entry = obtain_in(cache.path(), "thing-1", |draft| {
                        made.fetch_add(1, Ordering::SeqCst);
                        fs::write(draft.join("half"), "1")?;
                        std::thread::yield_now();
                        Ok(fs::write(draft.join("whole"), "2")?)
                    });
                    assert!(entry.unwrap().join("whole").is_file());
                });
            }
        });
        assert_eq!(made.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_or_interrupted_attempt_leaves_nothing_that_is_used() {
        let cache = tempfile::tempdir().unwrap();
        // What a process leaves that was killed half-way.
        fs::create_dir(cache.path().join("thing-1.draft")).unwrap();
        fs::write(cache.path().join("thing-1.draft/stale"), "").unwrap();
        let failure = obtain_in(cache.path(), "thing-1", |draft| {
            assert!(!draft.join("stale").exists());
            fs::write(draft.join("half"), "")?;
            bail!("the line was cut")
        });
        assert_eq!(failure.unwrap_err().to_string(), "the line was cut");
        assert!(!cache.path().join("thing-1").exists());
        let entry = obtain_in(cache.path(), "thing-1", |draft| Ok(fs::write(draft.join("whole"), "")?)).unwrap();
        assert!(entry.join("whole").exists() && !entry.join("half").exists());
    }
}
