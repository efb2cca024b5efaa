//! Kafka clients: every option we set, and why.

use peakdesk_runtime::config::{GroupProtocol, KafkaConfig};
use rdkafka::ClientConfig;

/// Our own messages stay below this; dead letters may hold a record of any size that the input allows.
pub const MESSAGE_BYTES_MAX: usize = 900_000;

/// What every client has: the brokers and the options passed through.
fn base(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &kafka.bootstrap);
    config.set("client.id", "peakdesk");
    // Tells within seconds that a broker went away; the default waits a minute.
    config.set("socket.timeout.ms", "10000");
    config.set("socket.keepalive.enable", "true");
    config.set("reconnect.backoff.max.ms", "2000");
    pass_through(kafka, &mut config);
    config
}

/// Options of the configuration go over ours.
fn pass_through(kafka: &KafkaConfig, config: &mut ClientConfig) {
    for (name, value) in &kafka.options {
        config.set(name, value.reveal());
    }
}

/// A member of the group `PREFIX-name`. Offsets are committed by hand, after what they stand for is acknowledged.
pub fn consumer(kafka: &KafkaConfig, name: &str) -> ClientConfig {
    let mut config = fetching(kafka, name);
    match kafka.group_protocol {
        GroupProtocol::Classic => {
            config.set("partition.assignment.strategy", "cooperative-sticky");
            config.set("session.timeout.ms", "10000");
            config.set("heartbeat.interval.ms", "1000");
        }
        // The broker assigns, and sets these times.
        GroupProtocol::Consumer => {
            config.set("group.protocol", "consumer");
        }
    }
    pass_through(kafka, &mut config);
    config
}

fn fetching(kafka: &KafkaConfig, name: &str) -> ClientConfig {
    let mut config = base(kafka);
    config.set("group.id", format!("{}-{name}", kafka.group_prefix));
    config.set("enable.auto.commit", "false");
    config.set("enable.auto.offset.store", "false");
    config.set("auto.offset.reset", "error");
    // Says when a partition is read to its end: only then silence is silence.
    config.set("enable.partition.eof", "true");
    config.set("fetch.wait.max.ms", "50");
    // Memory: what is fetched ahead, over all partitions of the client.
    config.set("queued.max.messages.kbytes", "65536");
    config.set("fetch.message.max.bytes", "2097152");
    // Carries the time of the last word from each broker.
    config.set("statistics.interval.ms", "500");
    config
}

/// A reader outside of any group.
pub fn reader(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = fetching(kafka, "reader");
    config.set("statistics.interval.ms", "0");
    pass_through(kafka, &mut config);
    config
}

/// An idempotent producer: in order and once per session, or an error.
pub fn producer(kafka: &KafkaConfig) -> ClientConfig {
    let mut config = base(kafka);
    config.set("enable.idempotence", "true");
    config.set("acks", "all");
    // Frames are batches already; waiting for more of them only adds delay.
    config.set("linger.ms", "2");
    config.set("compression.type", "lz4");
    config.set("message.max.bytes", "33554432");
    config.set("queue.buffering.max.kbytes", "262144");
    // Longer than a broker's restart.
    config.set("delivery.timeout.ms", "120000");
    pass_through(kafka, &mut config);
    config
}

/// A client for topics' metadata.
pub fn admin(kafka: &KafkaConfig) -> ClientConfig {
    base(kafka)
}
