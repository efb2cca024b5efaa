//! A real S3-compatible object store: versitygw over a directory, built from the Go module registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::{Context, Failure, Launch, Port, Process, Result, cache, ensure, guard, http, wait_until};

const VERSION: &str = "v1.8.0";
const BUILD_LIMIT: Duration = Duration::from_secs(900);
const START_LIMIT: Duration = Duration::from_secs(60);

/// The one user of each server.
pub const ACCESS_KEY: &str = "peakdesk-tests";
/// Their secret.
pub const SECRET_KEY: &str = "not-a-secret";
/// The region it says it is in.
pub const REGION: &str = "us-east-1";

/// A server on a loopback port of its own, with its buckets in a directory that goes with it.
#[derive(Debug)]
pub struct ObjectStore {
    process: Option<Process>,
    port: Port,
    dir: TempDir,
}

impl ObjectStore {
    /// Starts one that has a bucket.
    ///
    /// # Errors
    ///
    /// When it cannot be obtained, or does not answer in time.
    pub fn start(bucket: &str) -> Result<ObjectStore> {
        let dir = tempfile::Builder::new().prefix("peakdesk-object-store-").tempdir()?;
        guard::remove_at_end(dir.path())?;
        fs::create_dir_all(dir.path().join("buckets").join(bucket))?;
        let mut store = ObjectStore {
            process: None,
            port: Port::reserve()?,
            dir,
        };
        store.start_again()?;
        Ok(store)
    }

    /// Starts one that was killed, on its port and its data.
    ///
    /// # Errors
    ///
    /// When it is running, or does not answer in time.
    pub fn start_again(&mut self) -> Result {
        ensure!(self.process.is_none(), "the object store is running already");
        let mut process = Launch::new("versitygw", obtain()?.join("versitygw"), self.dir.path())
            .args(["--port", &format!("127.0.0.1:{}", self.port.number()), "--region", REGION])
            .args(["--access", ACCESS_KEY, "--secret", SECRET_KEY, "--health", "/health"])
            .args(["posix", "buckets"])
            .working_dir(self.dir.path())
            .spawn()?;
        let health = format!("{}/health", self.url());
        wait_until("the object store to answer", START_LIMIT, || {
            process.alive()?;
            let answer = http::get(&health)?;
            ensure!(answer.status == 200, "status {}", answer.status);
            Ok(Some(()))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// Kills it, as a crash would.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn kill(&mut self) -> Result {
        self.process.take().context("the object store is not running")?.kill()
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Its endpoint.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Where it keeps a bucket's objects, as files.
    pub fn files(&self, bucket: &str) -> PathBuf {
        self.dir.path().join("buckets").join(bucket)
    }
}

fn obtain() -> Result<PathBuf> {
    cache::obtain(&format!("versitygw-{VERSION}"), |draft| {
        let logs = tempfile::tempdir()?;
        let install = format!("github.com/versity/versitygw/cmd/versitygw@{VERSION}");
        let launch = Launch::new("go", "go", logs.path()).args(["install", &install]);
        let outcome = launch
            .env("GOBIN", draft)
            .env("GOFLAGS", "")
            .working_dir(logs.path())
            .run(BUILD_LIMIT)?;
        match outcome.status.code() {
            Some(127) => Err(Failure::fatal(
                "go not found: install Go (Debian: apt-get install golang); it builds the object store of the tests",
            )),
            _ => outcome.success().map(|_| ()).context(format!("building versitygw {VERSION}")),
        }
    })
}

/// Makes the one byte at `at` from the end of a file another.
///
/// # Errors
///
/// When the file is shorter, or cannot be written.
pub fn damage(file: &Path, at: usize) -> Result {
    let mut bytes = fs::read(file)?;
    let place = bytes.len().checked_sub(at).and_then(|i| bytes.get_mut(i));
    *place.context(format!("{} is shorter than {at} bytes", file.display()))? ^= 0x20;
    Ok(fs::write(file, bytes)?)
}

/// The checkpoints of a partition in a directory: offset and file, the newest first.
///
/// # Errors
///
/// When the directory cannot be read.
pub fn stored(root: &Path, partition: usize) -> Result<Vec<(i64, PathBuf)>> {
    let mut found = Vec::new();
    for topic in fs::read_dir(root).context(format!("{}", root.display()))? {
        let dir = topic?.path().join(partition.to_string());
        if !dir.is_dir() {
            continue;
        }
        for file in fs::read_dir(dir)? {
            let path = file?.path();
            let offset = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".ckpt")?.parse().ok());
            found.extend(offset.map(|offset: i64| (offset, path)));
        }
    }
    found.sort_unstable_by_key(|(offset, _)| std::cmp::Reverse(*offset));
    Ok(found)
}
