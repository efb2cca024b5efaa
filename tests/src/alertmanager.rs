//! A real Prometheus Alertmanager: Debian's package.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Context, Launch, Port, Process, Result, debian, ensure, guard, http, wait_until};

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
        let program = debian::program("prometheus-alertmanager", "usr/bin/prometheus-alertmanager")?;
        let mut process = Launch::new("alertmanager", program, self.dir.path())
            .args(["--config.file=alertmanager.yml", "--storage.path=data", "--cluster.listen-address="])
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port.number()))
            .working_dir(self.dir.path())
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

    /// Kills it, as a crash would.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn kill(&mut self) -> Result {
        self.process.take().context("Alertmanager is not running")?.kill()
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
