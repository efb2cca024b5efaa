//! What the tests of the product share: its roles on topics of their own, what it says about itself, dumps and comparisons.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::IgnoredAny;

use crate::{Broker, Context, Kafka, Launch, Outcome, Port, Process, Record, Result, Scene, bail, ensure, http, python, wait_until};

/// For a role to start, or to do what takes it a moment.
pub const SOON: Duration = Duration::from_secs(60);

/// For all that has to be read, folded and written.
pub const LONG: Duration = Duration::from_secs(240);

/// Simulated seconds per second once everything is read, so that every horizon passes in seconds.
const HURRY: &str = "intake.clock_speed=1000000";

/// After this time (ms) nothing can change any more: orders are kept for 45 days after their last event.
const HORIZON_MS: f64 = 75.0 * 86_400_000.0;

/// The input topics, as the product calls them.
pub const INPUTS: [&str; 3] = ["chat", "orders", "refunds"];

/// The topics that a scorer writes.
const OUTPUTS: [&str; 3] = ["results", "alerts", "live"];

/// Topics and consumer groups of one test, and the settings that name them.
#[derive(Clone)]
pub struct Topics<'s> {
    scene: &'s Scene,
    broker: Broker,
    /// Beside the names of groups and of what scorers write.
    tag: String,
    settings: Vec<String>,
    env: Vec<(String, String)>,
}

impl<'s> Topics<'s> {
    /// Names for the topics of a test on the shared broker; `format` is `json` or `avro`. The product makes its own topics, with
    /// four partitions.
    pub fn new(scene: &'s Scene, format: &str) -> Result<Topics<'s>> {
        Ok(Topics::on(scene, Kafka::shared()?, format))
    }

    /// The same on any broker.
    pub fn on(scene: &'s Scene, broker: &Broker, format: &str) -> Topics<'s> {
        let mut settings = vec![
            format!("kafka.bootstrap={}", broker.bootstrap()),
            format!("kafka.group_prefix={}", scene.prefix()),
            "topics.log_partitions=4".to_owned(),
            format!("checkpoint.url={}", scene.path("checkpoints").display()),
        ];
        for topic in INPUTS {
            settings.push(format!("topics.{topic}.name={}", scene.name(topic)));
            settings.push(format!("topics.{topic}.format={format}"));
        }
        for (key, name) in [
            ("shop_log", "shop-log"),
            ("dead_letters", "dead-letters"),
            ("results", "results"),
            ("alerts", "alerts"),
            ("live", "live"),
            ("acknowledgements", "acknowledgements"),
        ] {
            settings.push(format!("topics.{key}={}", scene.name(name)));
        }
        Topics {
            scene,
            broker: broker.clone(),
            tag: String::new(),
            settings,
            env: Vec::new(),
        }
    }

    /// Other groups that read the same inputs and the same log, and write to topics of their own.
    #[must_use]
    pub fn again(&self, tag: &str) -> Topics<'s> {
        let mut again = Topics {
            tag: format!("-{tag}"),
            ..self.clone()
        };
        again
            .settings
            .push(format!("kafka.group_prefix={}{}", self.scene.prefix(), again.tag));
        // States of their own too: who goes on from another's says nothing of what lies before.
        let checkpoints = self.scene.path(&format!("checkpoints{}", again.tag));
        again.settings.push(format!("checkpoint.url={}", checkpoints.display()));
        for topic in OUTPUTS {
            again.settings.push(format!("topics.{topic}={}", again.topic(topic)));
        }
        again
    }

    /// The broker.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// The full name of a topic, such as `shop-log`.
    pub fn topic(&self, what: &str) -> String {
        let tag = if OUTPUTS.contains(&what) { &self.tag } else { "" };
        format!("{}{tag}", self.scene.name(what))
    }

    /// The full name of a consumer group, such as `intake-chat`.
    pub fn group(&self, what: &str) -> String {
        format!("{}{}-{what}", self.scene.prefix(), self.tag)
    }

    /// Another setting for every process.
    #[must_use]
    pub fn with(mut self, setting: String) -> Topics<'s> {
        self.settings.push(setting);
        self
    }

    /// A variable in the environment of every process.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: &str) -> Topics<'s> {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Makes the input topics with these numbers of partitions.
    pub fn create(&self, partitions: [i32; 3], config: &[(&str, &str)]) -> Result {
        for (topic, count) in INPUTS.iter().zip(partitions) {
            self.broker.create_topic(&self.topic(topic), count, config)?;
        }
        Ok(())
    }

    /// A launch of a subcommand with the settings, without a server for HTTP.
    pub fn launch(&self, name: &str, subcommand: &str) -> Result<Launch> {
        let mut launch = self.scene.peakdesk(name)?.arg(subcommand);
        for setting in &self.settings {
            launch = launch.arg("--set").arg(setting);
        }
        for (name, value) in &self.env {
            launch = launch.env(name, value);
        }
        Ok(launch)
    }

    /// Starts the simulator and waits until every partition of the inputs has a record: from then on readers know for whom they
    /// have to wait.
    pub fn simulate(&self, name: &str, flags: &[&str]) -> Result<Process> {
        let mut simulator = self.launch(name, "simulator")?.args(flags).spawn()?;
        wait_until("records in every partition", LONG, || {
            simulator.alive()?;
            for topic in INPUTS {
                let ends = self.broker.high_watermarks(&self.topic(topic))?;
                ensure!(ends.iter().all(|end| *end > 0), "{topic} ends at {ends:?}");
            }
            Ok(Some(()))
        })?;
        Ok(simulator)
    }

    /// Starts a role that serves HTTP on a port of its own, and waits until it says that it is ready.
    pub fn role(&self, name: &str, subcommand: &str, settings: &[String]) -> Result<Role> {
        self.role_with(name, subcommand, &[], settings)
    }

    /// The same with flags.
    pub fn role_with(&self, name: &str, subcommand: &str, flags: &[&str], settings: &[String]) -> Result<Role> {
        self.role_of(name, self.launch(name, subcommand)?.args(flags), settings)
    }

    /// The same with a marked point of the code at which it dies or hangs, such as `intake-produced:3`.
    pub fn role_at(&self, name: &str, subcommand: &str, settings: &[String], failpoint: Option<&str>) -> Result<Role> {
        let launch = self.launch(name, subcommand)?;
        let launch = match failpoint {
            Some(point) => launch.env("PEAKDESK_FAILPOINT", point),
            None => launch,
        };
        self.role_of(name, launch, settings)
    }

    fn role_of(&self, name: &str, launch: Launch, settings: &[String]) -> Result<Role> {
        let mut role = self.begin(launch, settings)?;
        wait_until(&format!("{name} to be ready"), SOON, || {
            role.process.alive()?;
            let answer = http::get(&format!("{}/readyz", role.url))?;
            ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
            Ok(Some(()))
        })?;
        Ok(role)
    }

    /// Starts a role from a launch of [`Topics::launch`], on a port of its own; does not wait until it is ready.
    pub fn begin(&self, launch: Launch, settings: &[String]) -> Result<Role> {
        let port = Port::reserve()?;
        let mut launch = launch.args(["--set", &format!("http.listen=127.0.0.1:{}", port.number())]);
        for setting in settings {
            launch = launch.arg("--set").arg(setting);
        }
        let process = launch.spawn()?;
        let url = format!("http://127.0.0.1:{}", port.number());
        Ok(Role { process, url, _port: port })
    }

    /// Records in each input topic.
    pub fn records(&self) -> Result<[i64; 3]> {
        let mut counts = [0; 3];
        for (topic, count) in INPUTS.iter().zip(&mut counts) {
            *count = self.broker.high_watermarks(&self.topic(topic))?.iter().sum();
        }
        Ok(counts)
    }

    /// Waits until the intakes have read all that is in the input topics; how much that is, by topic.
    pub fn wait_until_read(&self, intakes: &mut [Role]) -> Result<[i64; 3]> {
        let records = self.records()?;
        for (topic, count) in INPUTS.iter().zip(records) {
            wait_until(&format!("the intakes to read {topic}"), LONG, || {
                let read = sum(intakes, "peakdesk_intake_records_total", &format!("topic=\"{topic}\""))?;
                ensure!(read >= count as f64, "{read} of {count}");
                Ok(Some(()))
            })?;
        }
        Ok(records)
    }

    /// Waits until the intakes have committed all that is in the input topics now; the ends of their partitions. `alive` is asked
    /// meanwhile whether it is worth to wait.
    pub fn wait_until_forwarded(&self, alive: &mut dyn FnMut() -> Result) -> Result<[Vec<i64>; 3]> {
        let mut all = [const { Vec::new() }; 3];
        for (input, ends) in INPUTS.iter().zip(&mut all) {
            let (topic, group) = (self.topic(input), self.group(&format!("intake-{input}")));
            *ends = self.broker.high_watermarks(&topic)?;
            wait_until(&format!("the intakes to commit {input}"), LONG, || {
                alive()?;
                let committed = self.broker.committed(&group, &topic)?;
                let at: Vec<i64> = committed.iter().map(|c| c.as_ref().map_or(0, |c| c.offset)).collect();
                ensure!(at.iter().zip(&*ends).all(|(at, end)| at >= end), "{at:?} of {ends:?}");
                Ok(Some(()))
            })?;
        }
        Ok(all)
    }

    /// Runs until every row is final and in a file, without a gap in the results; then ends all roles. What is in the input topics
    /// must have been read.
    pub fn finish(&self, intakes: Vec<Role>, scorers: &mut [Role], warehouse: &mut Role) -> Result {
        self.run_out(intakes, scorers)?;
        self.wait_for_warehouse(warehouse)?;
        let gaps: f64 = warehouse.metric("peakdesk_warehouse_gaps_total", "")?.iter().sum();
        ensure!(gaps == 0.0, "the results had {gaps} gaps");
        warehouse.terminate()
    }

    /// Ends the intakes, and starts as many whose clocks hurry, until every horizon has passed; then ends these and the scorers.
    pub fn run_out(&self, mut intakes: Vec<Role>, scorers: &mut [Role]) -> Result {
        for intake in &mut intakes {
            intake.terminate()?;
        }
        for (n, intake) in intakes.iter_mut().enumerate() {
            *intake = self.role(&format!("hurrying-intake-{n}"), "intake", &[HURRY.to_owned()])?;
        }
        self.wait_for_horizon(scorers)?;
        for role in intakes.iter_mut().chain(scorers) {
            role.terminate()?;
        }
        Ok(())
    }

    /// Waits until these scorers have seen the time after which nothing changes any more.
    pub fn wait_for_horizon(&self, scorers: &mut [Role]) -> Result {
        let end = self.newest_ms()? as f64 + HORIZON_MS;
        wait_until("every horizon to pass", LONG, || {
            let at = complete_until_ms(&mut *scorers)?;
            ensure!(at > end, "complete until {at}, wanted {end}");
            Ok(Some(()))
        })
    }

    /// The newest arrival time in the input topics (ms).
    fn newest_ms(&self) -> Result<i64> {
        let mut newest = 0;
        for topic in INPUTS {
            let records = self.broker.read_all(&self.topic(topic))?;
            newest = newest.max(records.iter().map(|record| record.timestamp_ms).max().unwrap_or(0));
        }
        Ok(newest)
    }

    /// Waits until the warehouse has committed all that is in the topics it reads, and has no row left that is in no file.
    /// Nothing may be written to these topics any more.
    pub fn wait_for_warehouse(&self, warehouse: &mut Role) -> Result {
        let kafka = &self.broker;
        for (topic, group) in [
            ("results", "warehouse"),
            ("alerts", "warehouse-alerts"),
            ("dead-letters", "warehouse-dead-letters"),
        ] {
            let (topic, group) = (self.topic(topic), self.group(group));
            let ends = kafka.high_watermarks(&topic)?;
            wait_until(&format!("the warehouse to commit the end of {topic}"), LONG, || {
                warehouse.process.alive()?;
                let committed = kafka.committed(&group, &topic)?;
                let at: Vec<i64> = committed.iter().map(|c| c.as_ref().map_or(0, |c| c.offset)).collect();
                ensure!(at == ends, "{at:?} of {ends:?}");
                Ok(Some(()))
            })?;
        }
        wait_until("no row to be pending", SOON, || {
            let pending: f64 = warehouse.metric("peakdesk_warehouse_pending_rows", "")?.iter().sum();
            ensure!(pending == 0.0, "{pending} rows");
            Ok(Some(()))
        })
    }

    /// Lets the product dump the input topics, and replays that; the directory of the tables. `form` is `ndjson` or `parquet`.
    pub fn dump_and_replay(&self, form: &str) -> Result<PathBuf> {
        let (dump, tables) = (self.scene.path(&format!("dump-{form}")), self.scene.path(&format!("tables-{form}")));
        let launch = self.launch("dump", "dump")?.args(["--form", form, "--output"]).arg(&dump);
        launch.run(LONG)?.success()?;
        replay(self.scene, &dump, &tables, &[])?;
        Ok(tables)
    }

    /// Writes what is in the input topics as a dump, with no help of the product.
    pub fn dump(&self, dir: &Path) -> Result {
        fs::create_dir_all(dir)?;
        for topic in INPUTS {
            let mut text = String::new();
            for record in self.broker.read_all(&self.topic(topic))? {
                text.push_str(&line(&record)?);
                text.push('\n');
            }
            fs::write(dir.join(format!("{topic}.ndjson")), text)?;
        }
        Ok(())
    }
}

/// A record as a line of a dump: a JSON value as it stands, everything else in base64.
fn line(record: &Record) -> Result<String> {
    let position = record.position;
    let mut line = format!(
        "{{\"partition\":{},\"offset\":{},\"timestamp_ms\":{}",
        position.partition, position.offset, record.timestamp_ms
    );
    if let Some(key) = &record.key {
        write!(line, ",\"key\":{}", serde_json::to_string(&String::from_utf8(key.clone())?)?)?;
    }
    if let Some(value) = &record.value {
        let text = std::str::from_utf8(value).ok().filter(|text| !text.contains('\n'));
        // Not a parsed value: those have a limit of nesting, JSON has none.
        match text.filter(|text| serde_json::from_str::<IgnoredAny>(text).is_ok()) {
            Some(text) => write!(line, ",\"value\":{text}")?,
            None => write!(line, ",\"raw\":\"{}\"", STANDARD.encode(value))?,
        }
    }
    if !record.headers.is_empty() {
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
        let headers: Vec<(&String, Option<String>)> = record.headers.iter().map(|(k, v)| (k, v.as_ref().map(text))).collect();
        write!(line, ",\"headers\":{}", serde_json::to_string(&headers)?)?;
    }
    line.push('}');
    Ok(line)
}

/// The lowest point up to which the scorers are complete (ms), over the partitions of the log; all of them must be assigned. A
/// member may still show what it lost, so the newest value of a partition counts.
pub fn complete_until_ms<'r>(scorers: impl IntoIterator<Item = &'r mut Role>) -> Result<f64> {
    let mut newest = [None; 4];
    for scorer in scorers {
        for (partition, newest) in newest.iter_mut().enumerate() {
            let labels = format!("partition=\"{partition}\"");
            for at in scorer.metric("peakdesk_scorer_complete_until_milliseconds", &labels)? {
                *newest = Some(newest.map_or(at, |before: f64| before.max(at)));
            }
        }
    }
    let assigned: Vec<f64> = newest.into_iter().flatten().collect();
    ensure!(assigned.len() == 4, "the scorers have {} of 4 partitions", assigned.len());
    Ok(assigned.into_iter().fold(f64::INFINITY, f64::min))
}

/// A running role with its HTTP address.
pub struct Role {
    /// The process.
    pub process: Process,
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    _port: Port,
}

impl Role {
    /// The values of a metric, whatever its labels, whose label text contains `labels`.
    pub fn metric(&mut self, name: &str, labels: &str) -> Result<Vec<f64>> {
        self.process.alive()?;
        let answer = http::get(&format!("{}/metrics", self.url))?;
        ensure!(answer.status == 200, "/metrics: status {}", answer.status);
        Ok(samples(&answer.body, name, labels))
    }

    /// Asks it to end and insists on status 0.
    pub fn terminate(&mut self) -> Result {
        let status = self.process.terminate()?;
        ensure!(status.success(), "it ended with {status}: {}", self.process.stderr()?);
        Ok(())
    }
}

/// The values of `name{..labels..}` in the Prometheus text format.
fn samples(text: &str, name: &str, labels: &str) -> Vec<f64> {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let (head, value) = rest.rsplit_once(' ')?;
        ((head.is_empty() || head.starts_with('{')) && head.contains(labels)).then(|| value.parse().ok())?
    };
    text.lines().filter_map(value).collect()
}

/// The sum of a metric over roles.
fn sum(roles: &mut [Role], name: &str, labels: &str) -> Result<f64> {
    let mut sum = 0.0;
    for role in roles {
        sum += role.metric(name, labels)?.iter().sum::<f64>();
    }
    Ok(sum)
}

/// A file of the oracle's directory.
fn oracle(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("oracle").join(file)
}

/// Runs a script of the oracle's directory.
pub fn script(scene: &Scene, file: &str, args: &[&str]) -> Result<Outcome> {
    scene.program(file, python()?).arg(oracle(file)).args(args).run(LONG)
}

/// Compares two directories of tables with `compare.py`; prints what it found, and fails where they are not equal.
pub fn compare(scene: &Scene, args: &[&str]) -> Result<String> {
    let outcome = script(scene, "compare.py", args)?;
    println!("{}", outcome.stdout);
    ensure!(
        outcome.status.success(),
        "compare.py {args:?} found differences, printed above: {}",
        outcome.stderr
    );
    Ok(outcome.stdout)
}

/// Answers a query over Parquet files as JSON: a list of rows, each a list of texts or nulls.
pub fn query(scene: &Scene, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
    // What takes it some seconds it says so on the standard output, unless it is told not to.
    let code = "import duckdb, json, sys\nduckdb.execute('SET enable_progress_bar = false')\nrows = duckdb.sql(sys.argv[1]).fetchall()\n\
        text = lambda v: None if v is None else v.decode('utf-8', 'replace') if isinstance(v, bytes) else str(v)\n\
        print(json.dumps([[text(v) for v in row] for row in rows]))";
    let outcome = scene.program("query", python()?).args(["-c", code, sql]).run(SOON)?.success()?;
    serde_json::from_str(&outcome.stdout).context(sql)
}

/// Runs `peakdesk replay` and gives what it printed.
pub fn replay(scene: &Scene, input: &Path, output: &Path, flags: &[&str]) -> Result<String> {
    let launch = scene
        .peakdesk("replay")?
        .arg("replay")
        .arg("--input")
        .arg(input)
        .arg("--output")
        .arg(output);
    Ok(launch.args(flags).run(LONG)?.success()?.stdout)
}

/// A path as text for a command line.
pub fn text(path: &Path) -> Result<&str> {
    match path.to_str() {
        Some(text) => Ok(text),
        None => bail!("{} is not text", path.display()),
    }
}
