//! Kills what the test run leaves behind.
//!
//! The shared broker lives in a `static`, which is never dropped, and a run that is killed with signal 9 drops nothing.
//! So one small shell watches: it reads from a pipe whose other end only this process holds. When the pipe closes, by
//! whatever end, it kills the processes and removes the directories it was told of.
//!
//! Parent-death signals would not do: they follow the thread that started the child, and tests run on threads that end.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::{Context, Failure, Result};

/// `+ PID` and `- PID` add and take away a process, `d PATH` adds a directory. Signals to the terminal's group must not
/// end the guard before its work is done. Directories go when nothing writes to them any more; a zombie, which nobody
/// may ever reap in a container, does not.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
pids=' '
while read -r op what; do
  case $op in
    +) pids="$pids$what " ;;
    -) case $pids in *" $what "*) pids="${pids%% $what *} ${pids#* $what }" ;; esac ;;
    d) set -- "$@" "$what" ;;
  esac
done
for pid in $pids; do kill -9 "$pid"; done
for pid in $pids; do
  tries=100
  while [ $tries -gt 0 ] && kill -0 "$pid" && ! grep -q '^[0-9]* (.*) Z' "/proc/$pid/stat"; do
    tries=$((tries - 1))
    sleep 0.05
  done
done
for dir in "$@"; do rm -rf "$dir"; done
"#;

/// Has the process killed when this one ends, unless it is [released](release) before.
///
/// # Errors
///
/// When the guard cannot be started or has died.
pub fn watch(pid: u32) -> Result {
    send(&format!("+ {pid}\n"))
}

/// The opposite of [`watch`]: the process has been reaped, and its id may be given to another.
///
/// # Errors
///
/// When the guard has died.
pub fn release(pid: u32) -> Result {
    send(&format!("- {pid}\n"))
}

/// Has the directory and all in it removed when this process ends, after every watched process is dead.
///
/// # Errors
///
/// When the guard cannot be started or has died, or the path is not absolute text of one line.
pub fn remove_at_end(dir: &Path) -> Result {
    let text = dir
        .to_str()
        .filter(|text| text.starts_with('/') && text.len() > 1 && !text.contains('\n'));
    send(&format!(
        "d {}\n",
        text.context(format!("cannot guard the directory {}", dir.display()))?
    ))
}

fn send(line: &str) -> Result {
    static GUARD: OnceLock<std::result::Result<Mutex<ChildStdin>, String>> = OnceLock::new();
    let guard = GUARD.get_or_init(|| start().map_err(|failure| failure.to_string()));
    let pipe = guard.as_ref().map_err(Failure::fatal)?;
    pipe.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .write_all(line.as_bytes())
        .context("the guard of the test processes has died")
}

fn start() -> Result<Mutex<ChildStdin>> {
    let mut child = Command::new("sh")
        .args(["-c", SCRIPT, "guard"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Not in the terminal's foreground group, which an interrupt reaches as a whole.
        .process_group(0)
        .spawn()
        .context("cannot start sh, the guard of the test processes")?;
    Ok(Mutex::new(child.stdin.take().context("the guard has no pipe")?))
}
