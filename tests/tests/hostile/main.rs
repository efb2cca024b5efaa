//! Hostile bytes at every edge: each is refused or read without a panic and without allocating much, whatever lengths it claims.
//!
//! The targets are those of the fuzzer (`tests/fuzz`); so are the files of its corpus, of which each that once did harm stays there.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../fuzz/src/lib.rs"]
mod targets;

mod bombs;

use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// What is allocated is counted for the whole process: one at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// The newest panic. Those of the Arrow library are caught where it is called, by the thousand; a backtrace of each would take memory too.
static SAID: Mutex<String> = Mutex::new(String::new());

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// Gives every input to a target; how many there were.
fn feed(name: &str, target: targets::Target, inputs: impl IntoIterator<Item = (String, Vec<u8>)>) -> usize {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let usual = panic::take_hook();
    panic::set_hook(Box::new(|info| {
        *SAID.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string()
    }));
    // What is made once is no input's doing.
    target(b"");
    let (mut count, mut harm) = (0, None);
    for (what, input) in inputs {
        count += 1;
        if panic::catch_unwind(|| target(&input)).is_err() {
            let said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
            harm = Some(format!("{name}: {what} ({} bytes): {said}", input.len()));
            break;
        }
    }
    panic::set_hook(usual);
    assert!(harm.is_none(), "{}", harm.unwrap_or_default());
    count
}

#[test]
fn the_corpus_does_no_harm() {
    for (name, target) in targets::TARGETS {
        let dir = corpus(name);
        let files = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let inputs = files.map(|file| {
            let path = file.unwrap().path();
            (path.display().to_string(), fs::read(&path).unwrap())
        });
        let count = feed(name, target, inputs.collect::<Vec<_>>());
        assert!(count >= 4, "{name}: only {count} files in its corpus");
    }
}

#[test]
fn bombs_do_no_harm() {
    for (name, target) in targets::TARGETS {
        feed(name, target, bombs::of(name));
    }
}
