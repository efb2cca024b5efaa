//! The tools of the machine that the tests stand on, and one clear line for each that is missing.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use crate::{Failure, Launch, Outcome, Result};

/// The oldest Java that Kafka 4 and the schema registry run on.
const JAVA_MIN: u32 = 17;

/// How long a tool may take to say its version; a cold Java on a busy machine is slow.
const VERSION_LIMIT: Duration = Duration::from_secs(60);

/// How long a download may take.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(900);

/// The `java` to use: of `JAVA_HOME`, or on the path.
///
/// # Errors
///
/// When there is none, or it is older than 17.
pub fn java() -> Result<PathBuf> {
    static JAVA: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    JAVA.get_or_init(|| find_java().map_err(|failure| failure.to_string()))
        .clone()
        .map_err(Failure::fatal)
}

fn find_java() -> Result<PathBuf> {
    let home = std::env::var_os("JAVA_HOME")
        .map(|home| Path::new(&home).join("bin/java"))
        .filter(|java| java.is_file());
    let java = home.unwrap_or_else(|| PathBuf::from("java"));
    let logs = tempfile::tempdir()?;
    let said = Launch::new("java", &java, logs.path()).arg("-version").run(VERSION_LIMIT)?;
    match java_major(&said.stderr) {
        Some(major) if said.status.success() && major >= JAVA_MIN => Ok(java),
        found => Err(Failure::fatal(missing_java(found))),
    }
}

fn missing_java(found: Option<u32>) -> String {
    let found = found.map_or(String::new(), |major| format!(" (only java {major})"));
    format!(
        "java {JAVA_MIN} or newer not found{found}: install a Java runtime (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME"
    )
}

/// The major version in what `java -version` says, as in `openjdk version "17.0.15" 2025-04-15`.
fn java_major(said: &str) -> Option<u32> {
    let version = said.split('"').nth(1)?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The Maven plugin that fetches artifacts, of a fixed version.
pub(crate) const DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1";

/// Runs Maven quietly.
///
/// # Errors
///
/// When Maven is missing, or fails: `what` could not be obtained, and its first error line.
pub(crate) fn maven(what: &str, args: &[&str]) -> Result {
    let logs = tempfile::tempdir()?;
    let launch = Launch::new("mvn", "mvn", logs.path()).args(["--batch-mode", "--quiet", "-Dstyle.color=never"]);
    let outcome = launch.args(args).working_dir(logs.path()).run(DOWNLOAD_LIMIT)?;
    if outcome.status.success() {
        return Ok(());
    }
    Err(Failure::fatal(maven_failure(what, &outcome)))
}

fn maven_failure(what: &str, outcome: &Outcome) -> String {
    if outcome.status.code() == Some(127) {
        return format!("mvn not found: install Maven (Debian: apt-get install maven); it fetches {what}");
    }
    let said = outcome.stdout.lines().chain(outcome.stderr.lines());
    // Colour codes may stand before the mark; what comes after the first such line is advice about Maven.
    let error = said
        .filter_map(|line| line.split_once("[ERROR] "))
        .map(|(_, text)| text.trim())
        .find(|text| !text.is_empty());
    format!(
        "could not obtain {what} through Maven: {}",
        error.unwrap_or("it gave no reason").trim_end_matches(" -> [Help 1]")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_java_versions() {
        assert_eq!(java_major("openjdk version \"17.0.15\" 2025-04-15\nOpenJDK"), Some(17));
        assert_eq!(java_major("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(java_major("java version \"1.8.0_292\""), Some(1));
        assert_eq!(java_major("openjdk version \"25-ea\" 2025"), Some(25));
        assert_eq!(java_major("sh: 1: exec: java: not found"), None);
    }

    #[test]
    fn a_missing_maven_is_named() {
        let logs = tempfile::tempdir().unwrap();
        let outcome = Launch::new("mvn", "no-such-mvn", logs.path()).run(Duration::from_secs(60)).unwrap();
        assert_eq!(
            maven_failure("Kafka 4.3.1", &outcome),
            "mvn not found: install Maven (Debian: apt-get install maven); it fetches Kafka 4.3.1"
        );
    }

    #[test]
    fn a_maven_that_cannot_fetch_gives_its_reason() {
        let logs = tempfile::tempdir().unwrap();
        let script = r"printf '[INFO] hm\n\033[0m[ERROR] no route to the repository -> [Help 1]\n[ERROR] more\n'; exit 1";
        let outcome = Launch::new("mvn", "sh", logs.path())
            .args(["-c", script])
            .run(Duration::from_secs(60))
            .unwrap();
        assert_eq!(
            maven_failure("Kafka 4.3.1", &outcome),
            "could not obtain Kafka 4.3.1 through Maven: no route to the repository"
        );
    }
}
