//! A real schema registry: Apicurio, in memory, through its Confluent-compatible API.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;

use crate::{Context, Failure, Launch, Port, Process, Result, cache, guard, http, tools, wait_until};

const VERSION: &str = "2.6.13.Final";

/// It is up in seconds; a busy machine of two cores takes longer.
const START_LIMIT: Duration = Duration::from_secs(180);

/// A registry on a loopback port of its own. Its schemas live as long as it does.
#[derive(Debug)]
pub struct Registry {
    process: Process,
    port: Port,
    _dir: TempDir,
}

impl Registry {
    /// The registry that all tests of this run share; subjects have names of their own ([`Scene::name`](crate::Scene::name)).
    ///
    /// # Errors
    ///
    /// When it cannot be obtained or started.
    pub fn shared() -> Result<&'static Registry> {
        static SHARED: OnceLock<std::result::Result<Registry, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Registry::start().map_err(|failure| failure.to_string()));
        shared.as_ref().map_err(Failure::fatal)
    }

    /// Starts a registry.
    ///
    /// # Errors
    ///
    /// When it cannot be obtained, or does not answer in time.
    pub fn start() -> Result<Registry> {
        let java = tools::java()?;
        let app = obtain()?;
        let dir = tempfile::Builder::new().prefix("peakdesk-registry-").tempdir()?;
        guard::remove_at_end(dir.path())?;
        let port = Port::reserve()?;
        let process = Launch::new("registry", java, dir.path())
            .args(["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg(format!("-Djava.io.tmpdir={}", dir.path().display()))
            .arg("-jar")
            .arg(app.join(format!("apicurio-registry-app-{VERSION}-runner.jar")))
            .env("QUARKUS_HTTP_HOST", "127.0.0.1")
            .env("QUARKUS_HTTP_PORT", port.number().to_string())
            .env("QUARKUS_LOG_LEVEL", "WARN")
            .working_dir(dir.path())
            .spawn()?;
        let mut registry = Registry { process, port, _dir: dir };
        let subjects = format!("{}/subjects", registry.url());
        wait_until("the schema registry to answer", START_LIMIT, || {
            registry.process.alive()?;
            http::get(&subjects)?.json().map(Some)
        })?;
        Ok(registry)
    }

    /// The base URL, as a client's configuration names it; paths like `/subjects` come after it.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port.number())
    }

    /// Registers an Avro schema (its JSON text) under a subject and returns its id; the same schema has the same id.
    ///
    /// # Errors
    ///
    /// When the registry refuses it.
    pub fn register(&self, subject: &str, schema: &str) -> Result<u32> {
        let url = format!("{}/subjects/{subject}/versions", self.url());
        let answer = http::post_json(&url, &json!({ "schema": schema }))?
            .json()
            .context(format!("registering {subject}"))?;
        let id = answer["id"].as_u64().and_then(|id| u32::try_from(id).ok());
        id.context(format!("the registry gave no id for {subject}: {answer}"))
    }

    /// The JSON text of the schema with this id.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn schema(&self, id: u32) -> Result<String> {
        let answer = http::get(&format!("{}/schemas/ids/{id}", self.url()))?
            .json()
            .context(format!("fetching schema {id}"))?;
        answer["schema"]
            .as_str()
            .map(str::to_owned)
            .context(format!("the registry gave no schema for {id}: {answer}"))
    }

    /// The process: to pause (a registry that does not answer), resume or kill it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn obtain() -> Result<PathBuf> {
    cache::obtain(&format!("apicurio-registry-{VERSION}"), |draft| {
        let artifact = format!("-Dartifact=io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all");
        let goal = format!("{}:unpack", tools::DEPENDENCY_PLUGIN);
        let to = format!("-DoutputDirectory={}", draft.display());
        tools::maven(&format!("Apicurio Registry {VERSION}"), &[&goal, &artifact, &to])
    })
}
