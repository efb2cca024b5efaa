//! The page of the console in a real Chromium, and that its built files are what its sources give.
//!
//! A floor writes live figures and alerts to a real broker ([`crate::page_floor`]), a real console serves them, and the scripts of
//! `tests/page` drive the page: its figures against the API, order, search, languages, themes, phone, keyboard, accessibility, a
//! connection that breaks, taking alerts, roles. They run with the packages of their lock files, in copies of their directories, so that
//! nothing is written beside the sources. `PEAKDESK_TEST_SCREENSHOTS` names a directory that keeps the screenshots.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use peakdesk_tests::{Context, Failure, Kafka, Outcome, Result, Scene, bail, ensure, scene, wait_until};

use crate::page_floor::Floor;
use crate::support::{LONG, Role, SOON, Topics, text};

/// Agents of the shop: a large shift.
const AGENTS: usize = 300;

/// Between two steps of the floor.
const STEP: Duration = Duration::from_millis(250);

/// For all checks in the browser; on a busy machine every page takes seconds.
const CHECKS_LIMIT: Duration = Duration::from_secs(1_500);

/// For the packages of a package manager, downloaded or from its cache.
const PACKAGES_LIMIT: Duration = Duration::from_secs(900);

/// The oldest Node that builds and drives the page.
const NODE_MIN: u32 = 20;

const SEED: u64 = 20_251_111;

const ADMIN: &str = "admin-token-0123456789abcdef0123456789abcdef";
const VIEWER: &str = "viewer-token-0123456789abcdef0123456789abcdef";
const AGENT: &str = "agent-token-0123456789abcdef0123456789abcdef";

/// The agent who has a token.
const AGENT_ID: &str = "售前-1";

#[test]
fn the_built_page_is_what_its_sources_give() {
    scene(|scene| {
        let page = copy_of(scene, "services/console/page", "page")?;
        npm(scene, &page, &["ci"])?;
        npm(scene, &page, &["run", "types"])?;
        npm(scene, &page, &["test"])?;
        npm(scene, &page, &["run", "check-dist"])?;
        // A byte more is found.
        let index = page.join("dist/index.html");
        fs::write(&index, fs::read_to_string(&index)? + "\n")?;
        let outcome = npm_outcome(scene, &page, &["run", "check-dist"])?;
        ensure!(
            !outcome.status.success() && outcome.stderr.contains("index.html"),
            "{}",
            outcome.stderr
        );
        for lock in [page.join("package-lock.json"), root().join("tests/page/package-lock.json")] {
            let hosts = fs::read_to_string(&lock)?.matches("\"resolved\"").count();
            ensure!(hosts == 0, "{} names where packages came from", lock.display());
        }
        Ok(())
    });
}

#[test]
fn the_page_in_a_browser() {
    scene(|scene| {
        let scripts = copy_of(scene, "tests/page", "scripts")?;
        npm(scene, &scripts, &["ci"])?;
        let chromium = chromium(scene)?;
        let kafka = Kafka::shared()?;
        let (live, alerts) = (scene.name("live"), scene.name("alerts"));
        for topic in [&live, &alerts] {
            kafka.create_topic(topic, 1, &[])?;
        }
        println!("seed {SEED}");
        let mut floor = Floor::new("s1", AGENTS, live, alerts, SEED)?;
        let mut small = Floor::new("s2", 2, scene.name("live"), scene.name("no-alerts"), SEED + 1)?;
        kafka.create_topic(&scene.name("no-alerts"), 1, &[])?;
        floor.step()?;
        small.step()?;
        let mut console = console(scene)?;
        let ended = AtomicBool::new(false);
        let outcome = thread::scope(|threads| {
            let writer = threads.spawn(|| -> Result {
                while !ended.load(Ordering::Relaxed) {
                    floor.step()?;
                    small.step()?;
                    thread::sleep(STEP);
                }
                Ok(())
            });
            let outcome = checks(scene, &scripts, &chromium, &console);
            ended.store(true, Ordering::Relaxed);
            let written = writer.join().map_err(|_| Failure::fatal("the floor panicked"))?;
            written.and(outcome)
        })?;
        println!("{}", outcome.stdout);
        ensure!(
            outcome.status.success(),
            "the page failed checks, printed above: {}",
            outcome.stderr
        );
        console.terminate()
    });
}

/// Runs all checks against the console.
fn checks(scene: &Scene, scripts: &Path, chromium: &Path, console: &Role) -> Result<Outcome> {
    let shots = std::env::var_os("PEAKDESK_TEST_SCREENSHOTS").map_or_else(|| scene.path("screenshots"), PathBuf::from);
    let launch = scene.program("checks", node()?).working_dir(scripts);
    launch
        .args(["run.mjs", "--shop", "s1", "--base", &console.url, "--agent", AGENT_ID])
        .args(["--out", text(&shots)?, "--chromium", text(chromium)?])
        .env("PEAKDESK_TOKEN", ADMIN)
        .env("PEAKDESK_VIEWER_TOKEN", VIEWER)
        .env("PEAKDESK_AGENT_TOKEN", AGENT)
        .run(CHECKS_LIMIT)
}

/// A console that asks for tokens: an admin, a viewer of one shop, an agent.
fn console(scene: &Scene) -> Result<Role> {
    let mut users = String::new();
    for (name, role, shops, token) in [
        ("boss", "admin", "*", ADMIN),
        ("wall", "viewer", "s1", VIEWER),
        ("小美", "agent", "s1", AGENT),
    ] {
        let file = scene.path(&format!("{role}.token"));
        fs::write(&file, token)?;
        users.push_str(&format!(
            "[[user]]\nname = \"{name}\"\nrole = \"{role}\"\nshops = [\"{shops}\"]\ntoken_file = \"{}\"\n",
            text(&file)?
        ));
        if role == "agent" {
            users.push_str(&format!("agent = \"{AGENT_ID}\"\n"));
        }
    }
    let file = scene.path("users.toml");
    fs::write(&file, users)?;
    let mut topics = Topics::new(scene, "json")?;
    for topic in ["live", "alerts", "acknowledgements"] {
        topics = topics.with(format!("topics.{topic}={}", scene.name(topic)));
    }
    // Every role looks for its inputs when it starts.
    topics.create([1; 3], &[])?;
    let settings = [
        "topics.log_partitions=1".to_owned(),
        "console.auth=token".to_owned(),
        format!("console.users_file={}", text(&file)?),
    ];
    topics.role("console", "console", &settings)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Copies a directory of the project into the scene, without installed packages.
pub fn copy_of(scene: &Scene, dir: &str, name: &str) -> Result<PathBuf> {
    fn copy(from: &Path, to: &Path) -> Result {
        fs::create_dir_all(to)?;
        for entry in fs::read_dir(from).context(format!("reading {}", from.display()))? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_name() == "node_modules" {
                continue;
            }
            if entry.file_type()?.is_dir() {
                copy(&entry.path(), &target)?;
            } else {
                fs::copy(entry.path(), &target)?;
            }
        }
        Ok(())
    }
    let to = scene.path(name);
    copy(&root().join(dir), &to)?;
    Ok(to)
}

fn npm_outcome(scene: &Scene, dir: &Path, args: &[&str]) -> Result<Outcome> {
    node()?;
    scene.program("npm", "npm").args(args).working_dir(dir).run(PACKAGES_LIMIT)
}

pub fn npm(scene: &Scene, dir: &Path, args: &[&str]) -> Result {
    npm_outcome(scene, dir, args)?.success().map(drop)
}

/// Node, which is new enough.
pub fn node() -> Result<PathBuf> {
    let logs = tempfile::tempdir()?;
    let said = peakdesk_tests::Launch::new("node", "node", logs.path())
        .arg("--version")
        .run(SOON)?;
    let major = said
        .stdout
        .trim()
        .strip_prefix('v')
        .and_then(|version| version.split('.').next()?.parse().ok());
    match major {
        Some(major) if major >= NODE_MIN => Ok(PathBuf::from("node")),
        found => {
            let found = found.map_or(String::new(), |major: u32| format!(" (only node {major})"));
            Err(Failure::fatal(format!(
                "node {NODE_MIN} or newer not found{found}: install Node.js with npm; it builds and drives the page"
            )))
        }
    }
}

/// Debian's Chromium; as root it is installed where it is missing.
pub fn chromium(scene: &Scene) -> Result<PathBuf> {
    let path = PathBuf::from("/usr/bin/chromium");
    if path.is_file() {
        return Ok(path);
    }
    if !rustix::process::geteuid().is_root() {
        bail!(
            "{} not found: apt-get install chromium fonts-noto-cjk; it drives the page",
            path.display()
        );
    }
    let apt = |args: &[&str]| {
        scene
            .program("apt-get", "apt-get")
            .args(args)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .run(LONG)
    };
    wait_until("apt-get to install chromium", PACKAGES_LIMIT, || {
        apt(&["-qq", "update"])?.success()?;
        apt(&["-qq", "install", "--yes", "--no-install-recommends", "chromium", "fonts-noto-cjk"])?.success()?;
        Ok(Some(()))
    })?;
    ensure!(path.is_file(), "apt-get installed no {}", path.display());
    Ok(path)
}
