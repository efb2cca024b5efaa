//! Child processes that are captured, bounded in every wait, and never outlive the test run.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::{Context, Failure, Result, bail, guard, wait_until};

/// How long a process may take to drain and exit after SIGTERM.
const TERMINATION_LIMIT: Duration = Duration::from_secs(30);

/// How long the kernel may take to end a process after SIGKILL.
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// Waits for one line before it becomes the program, so that the guard knows the process before it can do anything. A
/// harness that dies in between closes the pipe, and the program never starts.
const START: &str = r#"read -r go || exit 125; exec "$@" </dev/null"#;

/// What to start: a program, its arguments, its environment, and where its output goes.
#[derive(Debug, Clone)]
pub struct Launch {
    name: String,
    log_dir: PathBuf,
    command: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    working_dir: Option<PathBuf>,
}

impl Launch {
    /// A launch of `program` whose output goes to files in `log_dir`; `name` is used in their names and in messages.
    pub fn new(name: &str, program: impl AsRef<OsStr>, log_dir: &Path) -> Launch {
        Launch {
            name: name.to_owned(),
            log_dir: log_dir.to_owned(),
            command: vec![program.as_ref().to_owned()],
            env: Vec::new(),
            working_dir: None,
        }
    }

    /// Appends an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Launch {
        self.command.push(arg.as_ref().to_owned());
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Launch {
        self.command.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Launch {
        self.env.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Sets the directory it runs in.
    #[must_use]
    pub fn working_dir(mut self, dir: &Path) -> Launch {
        self.working_dir = Some(dir.to_owned());
        self
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// When the process or its log files cannot be made. A program that does not exist is a process that ends with
    /// status 127.
    pub fn spawn(&self) -> Result<Process> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let stem = format!("{:03}-{}", COUNT.fetch_add(1, Ordering::Relaxed), self.name);
        let stdout = self.log_dir.join(format!("{stem}.stdout.log"));
        let stderr = self.log_dir.join(format!("{stem}.stderr.log"));
        let mut command = Command::new("sh");
        command
            .args(["-c", START, "sh"])
            .args(&self.command)
            .envs(self.env.iter().map(|(key, value)| (key, value)));
        command
            .stdin(Stdio::piped())
            .stdout(File::create_new(&stdout)?)
            .stderr(File::create_new(&stderr)?);
        if let Some(dir) = &self.working_dir {
            command.current_dir(dir);
        }
        let child = command.spawn().context(format!("cannot start {}", self.name))?;
        let mut process = Process {
            name: self.name.clone(),
            child,
            ended: None,
            stdout,
            stderr,
        };
        guard::watch(process.pid())?;
        let mut go = process.child.stdin.take().context("the process has no stdin")?;
        go.write_all(b"go\n").context(format!("cannot start {}", self.name))?;
        Ok(process)
    }

    /// Starts it and waits for its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or still runs after `limit`; it is killed then. A non-zero status is an [`Outcome`].
    pub fn run(&self, limit: Duration) -> Result<Outcome> {
        let mut process = self.spawn()?;
        let status = process.wait(limit)?;
        Ok(Outcome {
            name: self.name.clone(),
            status,
            stdout: process.stdout()?,
            stderr: process.stderr()?,
        })
    }
}

/// How a process ended, and all it said.
#[derive(Debug, Clone)]
pub struct Outcome {
    name: String,
    /// Exit code or signal.
    pub status: ExitStatus,
    /// Its whole standard output.
    pub stdout: String,
    /// Its whole standard error.
    pub stderr: String,
}

impl Outcome {
    /// This outcome, if the status is 0.
    ///
    /// # Errors
    ///
    /// Otherwise, with the status and the end of what it said.
    pub fn success(self) -> Result<Outcome> {
        if self.status.success() {
            return Ok(self);
        }
        let words = if self.stderr.trim().is_empty() {
            &self.stdout
        } else {
            &self.stderr
        };
        Err(Failure::fatal(format!(
            "{} ended with {}: {}",
            self.name,
            self.status,
            tail(words, 20)
        )))
    }
}

/// A running (or ended) child process. Dropping it kills it with SIGKILL and reaps it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// The process id; of the program itself, there is no shell in between.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All it has written to its standard output.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn stdout(&self) -> Result<String> {
        read_lossy(&self.stdout)
    }

    /// All it has written to its standard error.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn stderr(&self) -> Result<String> {
        read_lossy(&self.stderr)
    }

    /// How it ended, or `None` while it runs.
    ///
    /// # Errors
    ///
    /// When the system cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait()?;
            if self.ended.is_some() {
                guard::release(self.pid())?;
            }
        }
        Ok(self.ended)
    }

    /// An error when it has ended: for probes that wait for something it should do.
    ///
    /// # Errors
    ///
    /// A [fatal](Failure::fatal) failure with the status and the last it said.
    pub fn alive(&mut self) -> Result {
        let Some(status) = self.ended()? else { return Ok(()) };
        let words = format!("{}\n{}", tail(&self.stdout()?, 10), tail(&self.stderr()?, 10));
        Err(Failure::fatal(format!("{} has ended with {status}: {}", self.name, words.trim())))
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// When it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        wait_until(&format!("the end of {}", self.name.clone()), limit, || self.ended())
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    ///
    /// # Errors
    ///
    /// When it still runs after 30 s.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(TERMINATION_LIMIT)
    }

    /// Ends it at once (SIGKILL), as a crash would, and waits until it is gone.
    ///
    /// # Errors
    ///
    /// When it had already ended by itself, which a test that kills must not take for its kill.
    pub fn kill(&mut self) -> Result {
        self.signal(Signal::KILL)?;
        let status = self.wait(KILL_LIMIT)?;
        if status.signal() != Some(Signal::KILL.as_raw()) {
            bail!("{} ended with {status} before it was killed", self.name);
        }
        Ok(())
    }

    /// Stops it without its knowing (SIGSTOP): a hanging peer, or a zombie that will come back.
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn pause(&mut self) -> Result {
        self.signal(Signal::STOP)
    }

    /// The opposite of [`pause`](Process::pause).
    ///
    /// # Errors
    ///
    /// When it has ended.
    pub fn resume(&mut self) -> Result {
        self.signal(Signal::CONT)
    }

    fn signal(&mut self, signal: Signal) -> Result {
        self.alive()?;
        kill_process(Pid::from_child(&self.child), signal).context(format!("signalling {}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // Neither can fail for a child that was not reaped; and a drop has nobody to tell.
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = guard::release(self.pid());
        }
    }
}

/// The last `lines` lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.trim_end().lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn read_lossy(path: &Path) -> Result<String> {
    let bytes = fs::read(path).context(format!("reading {}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
