//! A real Apache Kafka: one node, broker and controller in one.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, TopicPartitionList};
use tempfile::TempDir;

use crate::{Context, Failure, Launch, Port, Process, Proxy, Result, cache, ensure, guard, tools, wait_until};

const VERSION: &str = "4.3.1";
const LOG4J_VERSION: &str = "2.25.4";

/// It is up in seconds; a busy machine of two cores takes longer.
const START_LIMIT: Duration = Duration::from_secs(180);
const FORMAT_LIMIT: Duration = Duration::from_secs(120);

/// For one request while it starts.
const PROBE_LIMIT: Duration = Duration::from_secs(5);

/// Any 16 bytes in URL-safe base64; each broker is a cluster by itself.
const CLUSTER_ID: &str = "cGVha2Rlc2stdGVzdHMtMQ";

/// Where a broker is: all that its clients need. It may be down.
#[derive(Debug, Clone)]
pub struct Broker {
    bootstrap: String,
}

impl Broker {
    /// What clients connect to, `host:port`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// A client configuration that reaches it.
    pub fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap).set("broker.address.family", "v4");
        config
    }
}

/// A broker on loopback ports of its own, with its data in a directory that goes with it.
///
/// Topics are made only by request; messages may have 16 MiB; nothing expires, as tests write the times of past and
/// simulated days. The broker's limit on times in the future is its default (an hour): a test that goes beyond it sets
/// `message.timestamp.after.max.ms` on its topic.
#[derive(Debug)]
pub struct Kafka {
    process: Option<Process>,
    broker: Broker,
    _ports: Vec<Port>,
    dir: TempDir,
}

impl Deref for Kafka {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

impl Kafka {
    /// The broker that all tests of this run share. It can be neither stopped nor killed.
    ///
    /// # Errors
    ///
    /// When it cannot be obtained or started.
    pub fn shared() -> Result<&'static Kafka> {
        static SHARED: OnceLock<std::result::Result<Kafka, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Kafka::start().map_err(|failure| failure.to_string()))
            .as_ref()
            .map_err(Failure::fatal)
    }

    /// Starts a broker that belongs to the caller.
    ///
    /// # Errors
    ///
    /// When it cannot be obtained, or does not answer in time.
    pub fn start() -> Result<Kafka> {
        Kafka::with_listeners(Vec::new())
    }

    /// The same with a second way to it that leads through a proxy: who connects to the proxy is told of no other address.
    ///
    /// # Errors
    ///
    /// As [`start`](Kafka::start).
    pub fn start_behind(proxy: &Proxy) -> Result<Kafka> {
        Kafka::with_listeners(vec![Listener {
            name: "PROXIED",
            port: proxy.upstream(),
            advertised: proxy.port(),
        }])
    }

    fn with_listeners(mut listeners: Vec<Listener>) -> Result<Kafka> {
        let dir = tempfile::Builder::new().prefix("peakdesk-kafka-").tempdir()?;
        guard::remove_at_end(dir.path())?;
        let (client, controller) = (Port::reserve()?, Port::reserve()?);
        let broker = Broker {
            bootstrap: format!("127.0.0.1:{}", client.number()),
        };
        listeners.push(Listener {
            name: "CLIENT",
            port: client.number(),
            advertised: client.number(),
        });
        fs::write(
            dir.path().join("server.properties"),
            properties(dir.path(), &listeners, controller.number()),
        )?;
        fs::write(dir.path().join("log4j2.properties"), LOGGING)?;
        let format = java(dir.path(), "kafka format", "128m")?.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID]);
        format
            .args(["--config", "server.properties"])
            .run(FORMAT_LIMIT)?
            .success()
            .context("formatting Kafka's storage")?;
        let mut kafka = Kafka {
            process: None,
            broker,
            _ports: vec![client, controller],
            dir,
        };
        kafka.start_again()?;
        Ok(kafka)
    }

    /// Stops the broker in good order; its data stay. [`start_again`](Kafka::start_again) is the way back.
    ///
    /// # Errors
    ///
    /// When it is not running, or does not stop.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.process.take().context("Kafka is not running")?.terminate()
    }

    /// Kills the broker, as a crash would; its data stay.
    ///
    /// # Errors
    ///
    /// When it is not running.
    pub fn kill(&mut self) -> Result {
        self.process.take().context("Kafka is not running")?.kill()
    }

    /// Starts a broker that was stopped or killed, on its ports and data, and waits until it answers.
    ///
    /// # Errors
    ///
    /// When it is running already, or does not answer in time.
    pub fn start_again(&mut self) -> Result {
        ensure!(self.process.is_none(), "Kafka is running already");
        let process = java(self.dir.path(), "kafka", "512m")?
            .args(["kafka.Kafka", "server.properties"])
            .spawn()?;
        self.process = Some(process);
        self.wait_until_it_answers()
    }

    /// [`stop`](Kafka::stop), then [`start_again`](Kafka::start_again).
    ///
    /// # Errors
    ///
    /// As these.
    pub fn restart(&mut self) -> Result {
        self.stop()?;
        self.start_again()
    }

    /// The running process: to pause (a broker that does not answer) and resume it.
    ///
    /// # Errors
    ///
    /// When it is stopped.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("Kafka is not running")
    }

    /// Waits for the broker and for its group coordinator: the topic of the committed offsets is made on the first
    /// question, and until it is loaded, clients get errors that have nothing to do with what a test is about.
    fn wait_until_it_answers(&mut self) -> Result {
        let probe: BaseConsumer = self.config().set("group.id", "peakdesk-tests-probe").create()?;
        let process = self.process()?;
        wait_until("Kafka to answer a metadata request", START_LIMIT, || {
            process.alive()?;
            let metadata = probe.fetch_metadata(None, PROBE_LIMIT)?;
            ensure!(!metadata.brokers().is_empty(), "the broker is not yet registered");
            Ok(Some(()))
        })?;
        let mut nothing = TopicPartitionList::new();
        nothing.add_partition("peakdesk-tests-probe", 0);
        wait_until("Kafka's group coordinator", START_LIMIT, || {
            process.alive()?;
            probe.committed_offsets(nothing.clone(), PROBE_LIMIT)?;
            Ok(Some(()))
        })
    }
}

/// A launch of Kafka's classes in its directory; the class and its arguments follow.
fn java(dir: &Path, name: &str, heap: &str) -> Result<Launch> {
    // Java first: without it Maven fails too, with a worse message.
    let (java, libraries) = (tools::java()?, obtain()?);
    Ok(Launch::new(name, java, dir)
        .arg(format!("-Xmx{heap}"))
        .arg("-XX:+UseSerialGC")
        .arg(format!("-Djava.io.tmpdir={}", dir.display()))
        .arg("-Dlog4j2.configurationFile=log4j2.properties")
        .arg("-cp")
        .arg(libraries.join("*"))
        .working_dir(dir))
}

/// The directory with Kafka's jars.
fn obtain() -> Result<PathBuf> {
    cache::obtain(&format!("kafka-{VERSION}-log4j-{LOG4J_VERSION}"), |draft| {
        let project = tempfile::tempdir()?;
        let pom = project.path().join("pom.xml");
        fs::write(&pom, project_file())?;
        let goal = format!("{}:copy-dependencies", tools::DEPENDENCY_PLUGIN);
        let (file, to) = (
            format!("--file={}", pom.display()),
            format!("-DoutputDirectory={}", draft.display()),
        );
        tools::maven(&format!("Kafka {VERSION}"), &[&file, &goal, &to])
    })
}

fn project_file() -> String {
    let dependency = |group: &str, name: &str, version: &str| {
        format!("<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>\n")
    };
    let dependencies = [
        dependency("org.apache.kafka", "kafka_2.13", VERSION),
        dependency("org.apache.kafka", "kafka-tools", VERSION),
        dependency("org.apache.logging.log4j", "log4j-core", LOG4J_VERSION),
        dependency("org.apache.logging.log4j", "log4j-slf4j-impl", LOG4J_VERSION),
    ];
    format!(
        r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion>
<groupId>peakdesk</groupId><artifactId>test-kafka</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
{}</dependencies>
</project>
"#,
        dependencies.concat()
    )
}

/// An address at which the broker listens, and the port that it tells its clients.
struct Listener {
    name: &'static str,
    port: u16,
    advertised: u16,
}

fn properties(dir: &Path, listeners: &[Listener], controller: u16) -> String {
    let each = |text: &dyn Fn(&Listener) -> String| listeners.iter().map(text).collect::<Vec<_>>().join(",");
    let listen = each(&|l| format!("{}://127.0.0.1:{}", l.name, l.port));
    let advertised = each(&|l| format!("{}://127.0.0.1:{}", l.name, l.advertised));
    let protocols = each(&|l| format!("{}:PLAINTEXT", l.name));
    format!(
        "\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={listen},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={advertised}
listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENT
log.dirs={data}
{FIXED_PROPERTIES}",
        data = dir.join("data").display()
    )
}

/// One node, so every internal topic has one replica; one partition of each is enough, and quick to load. Groups form
/// at once, and those that the broker assigns miss a member as soon as the others do. Threads and buffers are those of a small machine.
const FIXED_PROPERTIES: &str = "\
auto.create.topics.enable=false
message.max.bytes=16777216
log.retention.ms=-1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=10000
group.consumer.min.session.timeout.ms=1000
group.consumer.heartbeat.interval.ms=1000
group.consumer.min.heartbeat.interval.ms=1000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=16777216
log.segment.bytes=67108864
";

const LOGGING: &str = "\
status = warn
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c)%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
";
