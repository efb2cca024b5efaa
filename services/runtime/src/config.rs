//! The validated configuration: what the roles are given.
//!
//! [`Config::load`] reads the layers ([`crate::layers`]) and turns them, once, into types that cannot hold a bad value. Every
//! error is one line that says where the setting stands, what is wrong with it and what to do.
//!
//! Policy files are named here and read by the scoring crate.

use crate::layers::{LayerError, Layers, Origin, Setting, Sources};
use crate::secret::{REDACTED, Secret, is_secret_key};
use ipnet::IpNet;
use peakdesk_model::input::Topic;
use peakdesk_model::time::{DAY_MS, MINUTE_MS, SECOND_MS, UtcOffset};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

#[path = "config_read.rs"]
mod read;

/// The key that hashes buyer ids unless another is configured: bytes 00, 01 … 1f. Everybody knows it.
pub const DEVELOPMENT_BUYER_KEY: [u8; 32] = {
    let mut key = [0; 32];
    let mut byte = 0;
    while byte < 32 {
        key[byte as usize] = byte;
        byte += 1;
    }
    key
};

/// The configuration of a process, valid as a whole.
#[derive(Debug, Clone)]
pub struct Config {
    /// The broker and its client.
    pub kafka: KafkaConfig,
    /// Topics, the input's and our own.
    pub topics: TopicsConfig,
    /// Where writers' schemas come from; `None`: the shipped ones.
    pub schema_registry: Option<SchemaRegistryConfig>,
    /// The intake role.
    pub intake: IntakeConfig,
    /// The deployment constants of the metric definitions.
    pub scoring: ScoringConfig,
    /// Policy files.
    pub policy: PolicyConfig,
    /// Where the scorer keeps its state.
    pub checkpoint: CheckpointConfig,
    /// The warehouse role.
    pub warehouse: WarehouseConfig,
    /// The console role.
    pub console: ConsoleConfig,
    /// The alerter role.
    pub alerter: AlerterConfig,
    /// The HTTP server for metrics and probes; `None`: none.
    pub http_listen: Option<SocketAddr>,
    /// How long a consumer may stand while records wait before it counts as stalled.
    pub consumer_patience: Duration,
    /// Logging.
    pub log: LogConfig,
    layers: Layers,
}

/// `[kafka]`
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// Brokers, separated by commas.
    pub bootstrap: String,
    /// Consumer groups are named `PREFIX-ROLE`.
    pub group_prefix: String,
    /// How groups share partitions.
    pub group_protocol: GroupProtocol,
    /// Client options passed through; none of those Peakdesk sets itself.
    pub options: BTreeMap<String, Secret<String>>,
}

/// How the members of a group share partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupProtocol {
    /// The members do it, cooperative-sticky; every broker knows it.
    Classic,
    /// The broker does it (KIP-848); Kafka 4.0 or newer.
    Consumer,
}

/// How the values of a topic are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicFormat {
    /// Avro in Confluent framing.
    Avro,
    /// JSON objects.
    Json,
}

/// `[topics.chat]` and its like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputTopicConfig {
    /// Kafka topic.
    pub name: String,
    /// How its values are written.
    pub format: TopicFormat,
    /// 1 at first; counted up when the topic was made anew.
    pub generation: i32,
}

/// `[topics]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicsConfig {
    /// Chat records.
    pub chat: InputTopicConfig,
    /// Order records.
    pub orders: InputTopicConfig,
    /// Refund records.
    pub refunds: InputTopicConfig,
    /// The log of the shops.
    pub shop_log: String,
    /// Records that were refused.
    pub dead_letters: String,
    /// Rows of the tables.
    pub results: String,
    /// Transitions of alerts.
    pub alerts: String,
    /// The newest figures.
    pub live: String,
    /// Who has taken on which alert.
    pub acknowledgements: String,
    /// Partitions of the shop log (and of what the scorer writes).
    pub log_partitions: i32,
    /// Create our own topics where they are missing.
    pub create: bool,
    /// Replicas of topics we create; `None`: the broker's default.
    pub replication: Option<i32>,
}

impl TopicsConfig {
    /// The configuration of an input topic.
    pub fn input(&self, topic: Topic) -> &InputTopicConfig {
        match topic {
            Topic::Chat => &self.chat,
            Topic::Orders => &self.orders,
            Topic::Refunds => &self.refunds,
        }
    }
}

/// `[schema_registry]`
#[derive(Debug, Clone)]
pub struct SchemaRegistryConfig {
    /// Base address, without user and password.
    pub url: String,
    /// User and password of HTTP basic authentication.
    pub auth: Option<(String, Secret<String>)>,
}

/// `[intake]`
#[derive(Debug, Clone)]
pub struct IntakeConfig {
    /// A caught-up source partition tells the log so this often.
    pub tick: Duration,
    /// Speed at which the clock of a caught-up partition runs on; 1 in life.
    pub clock_speed: f64,
    /// Events in one message of the shop log.
    pub max_frame_events: usize,
    /// Hashes buyer ids.
    pub buyer_key: Secret<[u8; 32]>,
}

impl IntakeConfig {
    /// Whether buyer ids are hashed with a key that everybody knows; to be warned about.
    pub fn has_development_key(&self) -> bool {
        *self.buyer_key.reveal() == DEVELOPMENT_BUYER_KEY
    }
}

/// `[scoring]`: the deployment constants of the metric definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoringConfig {
    /// Business days begin at midnight of this offset.
    pub utc_offset: UtcOffset,
    /// Lc (ms).
    pub allowed_lateness_chat_ms: i64,
    /// Lm (ms), at least Lc.
    pub allowed_lateness_money_ms: i64,
    /// How far an event may be ahead of its partition's clock (ms).
    pub future_skew_ms: i64,
    /// How far behind, and how long orders are kept (ms).
    pub order_retention_ms: i64,
    /// How long touches are kept (ms), more than Lm.
    pub touch_retention_ms: i64,
    /// Distance of the moments at which alert rules are evaluated (ms); divides a minute.
    pub alert_step_ms: i64,
    /// After this much wall time a standing source partition no longer holds alerts back (ms).
    pub stall_patience_ms: i64,
}

impl Default for ScoringConfig {
    /// The defaults of the metric definitions.
    fn default() -> Self {
        ScoringConfig {
            utc_offset: UtcOffset::CHINA,
            allowed_lateness_chat_ms: 15 * MINUTE_MS,
            allowed_lateness_money_ms: DAY_MS,
            future_skew_ms: 5 * MINUTE_MS,
            order_retention_ms: 45 * DAY_MS,
            touch_retention_ms: 7 * DAY_MS,
            alert_step_ms: 200,
            stall_patience_ms: 30 * SECOND_MS,
        }
    }
}

/// `[policy]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PolicyConfig {
    /// For all shops; `None`: the shipped default policy.
    pub file: Option<PathBuf>,
    /// Shops with a policy file of their own.
    pub shop_files: BTreeMap<String, PathBuf>,
}

/// `[checkpoint]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointConfig {
    /// Whether there are any.
    pub enabled: bool,
    /// `s3://BUCKET/PREFIX`, `file:///DIRECTORY`, or a directory.
    pub url: String,
    /// Address of an S3-compatible server; `None`: Amazon's.
    pub endpoint: Option<String>,
    /// Its region; `None`: as the environment says.
    pub region: Option<String>,
    /// Whether the endpoint may be plain HTTP.
    pub allow_http: bool,
    /// How long a whole request to a server may take.
    pub request_timeout: Duration,
    /// Of each partition, this often.
    pub every: Duration,
    /// How many of each partition are kept.
    pub keep: usize,
    /// States of partitions given up that stay in memory, in case they come back.
    pub hold: usize,
}

/// `[warehouse]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WarehouseConfig {
    /// Directory of the Parquet files.
    pub output: PathBuf,
    /// Log time that one file holds at most (ms); divides a day.
    pub slice_ms: i64,
}

/// How the console knows who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConsoleAuth {
    /// Not at all; only on a loopback address.
    None,
    /// By a token, or a session that began with one.
    Token,
    /// By the headers of a proxy that has done it.
    Proxy,
}

/// `[console]`
#[derive(Debug, Clone)]
pub struct ConsoleConfig {
    /// How it knows who asks.
    pub auth: ConsoleAuth,
    /// Who may see what.
    pub users_file: Option<PathBuf>,
    /// Whose headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Names the user; lower case.
    pub proxy_user_header: String,
    /// Names the user's groups; lower case.
    pub proxy_groups_header: String,
    /// How long a session holds.
    pub session: Duration,
    /// Signs sessions; `None`: random at each start.
    pub session_key: Option<Secret<[u8; 32]>>,
    /// Whether the session's cookie is for HTTPS only.
    pub secure_cookie: bool,
    /// `zh` or `en`.
    pub locale: &'static str,
    /// Event streams at a time.
    pub max_streams: usize,
    /// Resolved alerts that are kept.
    pub past_alerts: usize,
}

/// `[alerter]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlerterConfig {
    /// Who is told of what; read by the alerter's crate. `None`: the role does not start.
    pub routes_file: Option<PathBuf>,
    /// Where it keeps what was delivered and what is to be.
    pub state_dir: PathBuf,
    /// Language of messages, `zh` or `en`, where a receiver does not choose its own.
    pub language: &'static str,
    /// Address of the console's pages for links in messages, without a slash at its end.
    pub console_url: Option<String>,
    /// What was written to Kafka longer ago than this is a backlog (ms).
    pub behind_max_ms: i64,
    /// What `GET /api/deliveries` asks for; `None`: it answers on loopback only.
    pub api_token: Option<Secret<String>>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// How lines are written.
    pub format: LogFormat,
    /// A level, or a filter per module.
    pub level: String,
}

/// Why there is no configuration. One line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A layer cannot be read, or holds what nobody knows.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// A setting has a bad value.
    #[error("{origin}: {key} = {shown}: {problem}")]
    Invalid {
        /// Where it stands.
        origin: Origin,
        /// The setting.
        key: String,
        /// Its value, unless it is a secret.
        shown: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl Config {
    /// Reads all layers and validates the whole.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        read::config(Layers::read(sources)?)
    }

    /// The effective configuration as TOML that [`Config::load`] would accept, each setting with its origin; secrets are
    /// left out.
    pub fn render(&self) -> String {
        let mut out = String::new();
        let mut section = "";
        for (path, setting) in self.layers.iter() {
            let (first, rest) = path.split_once('.').unwrap_or(("", path));
            if first != section {
                out.push_str(if section.is_empty() { "" } else { "\n" });
                out.push_str(&format!("[{first}]\n"));
                section = first;
            }
            let key = match (first, rest.split_once('.')) {
                ("kafka", Some((table, option))) | ("policy", Some((table, option))) => {
                    format!("{table}.{}", toml::Value::String(option.to_owned()))
                }
                _ => rest.to_owned(),
            };
            let comment = if is_secret_key(path) { "# " } else { "" };
            out.push_str(&format!("{comment}{key} = {}  # {}\n", shown(path, setting), setting.origin));
        }
        out
    }
}

/// The value as it may be shown.
fn shown(path: &str, setting: &Setting) -> String {
    match setting.value.as_str() {
        Some(text) if is_secret_key(path) && !text.is_empty() => format!("\"{REDACTED}\""),
        _ => setting.value.to_string(),
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
