//! A real Prometheus Alertmanager: Debian's package.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Context, Launch, Port, Process, Result, debian, ensure, guard, http, wait_until};

const TEMPLATES: &str = "/usr/share/prometheus/alertmanager";
const START_LIMIT: Duration = Duration::from_secs(60);

/// An Alertmanager on a loopback port of its own.
#[derive(Debug)]
pub struct Alertmanager {
    process: Option<Process>,
    port: Port,
    dir: TempDir,
}

impl Alertmanager {
    /// Starts one that groups by shop and rule, within a second, and tells `webhook` of it.
    ///
    /// # Errors
    ///
    /// When it cannot be obtained, or does not answer in time.
    pub fn start(webhook: &str) -> Result<Alertmanager> {
        let dir = tempfile::Builder::new().prefix("peakdesk-alertmanager-").tempdir()?;
        guard::remove_at_end(dir.path())?;
        let config = format!(
            "route:\n  receiver: hook\n  group_by: [shop, rule]\n  group_wait: 1s\n  group_interval: 1s\n  repeat_interval: 1h\n\
             receivers:\n- name: hook\n  webhook_configs:\n  - url: {webhook}\n    send_resolved: true\n"
        );
        fs::write(dir.path().join("alertmanager.yml"), config)?;
        let mut alertmanager = Alertmanager {
            process: None,
            port: Port::reserve()?,
            dir,
        };
        alertmanager.start_again()?;
        Ok(alertmanager)
    }

    /// Starts one that was killed, on its port and its data.
    ///
    /// # Errors
    ///
    /// When it is running, or does not answer in time.
    pub fn start_again(&mut self) -> Result {
        ensure!(self.process.is_none(), "Alertmanager is running already");
        let (program, place) = self.program()?;
        let at = |name: &str| self.dir.path().join(name).display().to_string();
        let mut process = Launch::new("alertmanager", program, self.dir.path())
            .arg(format!("--config.file={}", at("alertmanager.yml")))
            .arg(format!("--storage.path={}", at("data")))
            // Else it forgets at a crash whom it told of what within the last quarter of an hour.
            .args(["--data.maintenance-interval=1s", "--cluster.listen-address="])
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port.number()))
            .working_dir(&place)
            .spawn()?;
        let ready = format!("{}/-/ready", self.url());
        wait_until("Alertmanager to be ready", START_LIMIT, || {
            process.alive()?;
            let answer = http::get(&ready)?;
            ensure!(answer.status == 200, "status {}", answer.status);
            Ok(Some(()))
        })?;
        self.process = Some(process);
        Ok(())
    }

    /// The program, and where it is to run. Debian's build has the absolute place of its templates in it, which is there only where the package
    /// is installed; from the cache it gets one of the same length that means where it runs.
    fn program(&self) -> Result<(PathBuf, PathBuf)> {
        let program = debian::program("prometheus-alertmanager", "usr/bin/prometheus-alertmanager")?;
        if Path::new(TEMPLATES).is_dir() {
            return Ok((program, self.dir.path().to_owned()));
        }
        let files = program.ancestors().nth(3).context("the package has no root")?;
        let place = files.join(TEMPLATES.trim_start_matches('/'));
        let ours = self.dir.path().join("alertmanager");
        if !ours.exists() {
            let mut bytes = fs::read(&program)?;
            let here = format!(".{}", "/".repeat(TEMPLATES.len() - 1));
            let mut from = 0;
            while let Some(at) = bytes
                .get(from..)
                .and_then(|rest| rest.windows(here.len()).position(|w| w == TEMPLATES.as_bytes()))
            {
                from += at + here.len();
                bytes[from - here.len()..from].copy_from_slice(here.as_bytes());
            }
            ensure!(from > 0, "{} does not name {TEMPLATES}", program.display());
            fs::copy(&program, &ours)?;
            fs::write(&ours, bytes)?;
        }
        Ok((ours, place))
    }

    /// Kills it, as a crash would.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn kill(&mut self) -> Result {
        self.process.take().context("Alertmanager is not running")?.kill()
    }

    /// Which of these labels are of groups of which it has not written down that it told of them. One that crashes before it has
    /// forgotten that, and tells of no end then.
    ///
    /// # Errors
    ///
    /// When it has written nothing down yet.
    pub fn unwritten<'l>(&self, labels: &'l [String]) -> Result<Vec<&'l str>> {
        let file = self.dir.path().join("data/nflog");
        let written = fs::read(&file).context(file.display().to_string())?;
        let holds = |label: &&str| written.windows(label.len()).any(|part| part == label.as_bytes());
        Ok(labels.iter().map(String::as_str).filter(|label| !holds(label)).collect())
    }

    /// What receivers' configuration names.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// What it says at a path of its API, such as `alerts` or `alerts/groups`: a list.
    ///
    /// # Errors
    ///
    /// When it does not answer with one.
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        let answer = http::get(&format!("{}/api/v2/{path}", self.url()))?.json()?;
        answer.as_array().cloned().context(format!("{path}: not a list: {answer}"))
    }
}
