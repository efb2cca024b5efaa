//! Topics: those of the input must exist; our own are created where that is wished.

use crate::client;
use crate::error::LogError;
use peakdesk_model::input::Topic;
use peakdesk_runtime::config::{KafkaConfig, TopicsConfig};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a broker may take to answer at all.
const PATIENCE: Duration = Duration::from_secs(15);
/// Between two looks for a new topic.
const PAUSE: Duration = Duration::from_millis(50);

/// Dead letters hold whole records of the input, of any size it allows.
const LETTER_BYTES_MAX: &str = "33554432";

/// What a newer value has replaced is gone after this long, so that a page that begins to read does not read a day of them.
const COMPACTION_LAG_MAX_MS: &str = "600000";

/// How many partitions each topic has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partitions(BTreeMap<String, i32>);

impl Partitions {
    /// The partitions of a topic, 0 if it is not known.
    pub fn of(&self, topic: &str) -> i32 {
        self.0.get(topic).copied().unwrap_or(0)
    }
}

/// Asks for all topics of the configuration; creates our own where they are missing and that is wished.
pub fn prepare(kafka: &KafkaConfig, topics: &TopicsConfig) -> Result<Partitions, LogError> {
    let admin: AdminClient<DefaultClientContext> = client::admin(kafka).create().map_err(LogError::Client)?;
    let mut found = list(&admin, kafka)?;
    let n = topics.log_partitions;
    let own = [
        Own::kept(&topics.shop_log, n),
        Own::kept(&topics.results, n),
        Own::kept(&topics.alerts, n),
        Own {
            compacted: true,
            ..Own::kept(&topics.live, n)
        },
        Own {
            compacted: true,
            ..Own::kept(&topics.acknowledgements, 1)
        },
        Own {
            bytes_max: Some(LETTER_BYTES_MAX),
            any_partitions: true,
            ..Own::kept(&topics.dead_letters, n.min(8))
        },
    ];
    let missing: Vec<_> = own.iter().filter(|own| !found.0.contains_key(own.name)).collect();
    if topics.create && !missing.is_empty() {
        for own in missing {
            create(&admin, own, topics.replication)?;
        }
        found = list_with(&admin, kafka, &own.each_ref().map(|own| own.name))?;
    }
    let inputs = Topic::ALL.map(|t| topics.input(t).name.as_str());
    for name in inputs.into_iter().chain(own.iter().map(|own| own.name)) {
        if !found.0.contains_key(name) {
            return Err(LogError::NoTopic(name.to_owned()));
        }
    }
    match own.iter().find(|own| !own.any_partitions && found.of(own.name) != own.partitions) {
        Some(own) => Err(LogError::Partitions {
            topic: own.name.to_owned(),
            expected: own.partitions,
            found: found.of(own.name),
        }),
        None => Ok(found),
    }
}

/// A topic of ours.
struct Own<'a> {
    name: &'a str,
    partitions: i32,
    /// It may have another number of them.
    any_partitions: bool,
    /// Only the newest message of a key is kept.
    compacted: bool,
    bytes_max: Option<&'static str>,
}

impl<'a> Own<'a> {
    fn kept(name: &'a str, partitions: i32) -> Self {
        Own {
            name,
            partitions,
            any_partitions: false,
            compacted: false,
            bytes_max: None,
        }
    }
}

fn list(admin: &AdminClient<DefaultClientContext>, kafka: &KafkaConfig) -> Result<Partitions, LogError> {
    let metadata = admin.inner().fetch_metadata(None, PATIENCE).map_err(|e| LogError::Unreachable {
        bootstrap: kafka.bootstrap.clone(),
        cause: e.to_string(),
    })?;
    let topics = metadata
        .topics()
        .iter()
        .filter(|t| t.error().is_none() && !t.partitions().is_empty());
    Ok(Partitions(
        topics.map(|t| (t.name().to_owned(), t.partitions().len() as i32)).collect(),
    ))
}

/// Lists again and again until these topics are there: a broker acknowledges a new topic before its metadata show it.
fn list_with(admin: &AdminClient<DefaultClientContext>, kafka: &KafkaConfig, wanted: &[&str]) -> Result<Partitions, LogError> {
    let begun = Instant::now();
    loop {
        let found = list(admin, kafka)?;
        if wanted.iter().all(|name| found.0.contains_key(*name)) || begun.elapsed() >= PATIENCE {
            return Ok(found);
        }
        std::thread::sleep(PAUSE);
    }
}

fn create(admin: &AdminClient<DefaultClientContext>, own: &Own<'_>, replication: Option<i32>) -> Result<(), LogError> {
    let name = own.name;
    let failed = |cause: String| LogError::Create {
        topic: name.to_owned(),
        cause,
    };
    let mut topic = NewTopic::new(name, own.partitions, TopicReplication::Fixed(replication.unwrap_or(-1)));
    topic = if own.compacted {
        topic
            .set("cleanup.policy", "compact")
            .set("max.compaction.lag.ms", COMPACTION_LAG_MAX_MS)
    } else {
        // The log and what follows from it are kept: state and tables are rebuilt from them.
        topic
            .set("retention.ms", "-1")
            .set("retention.bytes", "-1")
            .set("cleanup.policy", "delete")
    };
    if let Some(bytes) = own.bytes_max {
        topic = topic.set("max.message.bytes", bytes);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| failed(e.to_string()))?;
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let results = runtime
        .block_on(admin.create_topics([&topic], &options))
        .map_err(|e| failed(e.to_string()))?;
    for result in results {
        match result {
            Ok(_) | Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((_, code)) => return Err(failed(code.to_string())),
        }
    }
    tracing::info!(topic = name, own.partitions, "topic created");
    Ok(())
}
