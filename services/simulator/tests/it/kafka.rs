//! The Kafka sink against the client library's mock cluster.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use peakdesk_model::input::Topic;
use peakdesk_simulator::{Encoder, Format, Generator, KafkaSink, KafkaSinkConfig, SchemaIds, SimConfig, SimError, SimRecord};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::busy_night;

fn cluster(config: &SimConfig) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    for (topic, partitions) in [
        ("chat", config.partitions.chat),
        ("orders", config.partitions.orders),
        ("refunds", config.partitions.refunds),
    ] {
        cluster.create_topic(topic, partitions, 1).unwrap();
    }
    cluster
}

fn records(config: &SimConfig, count: usize) -> Vec<SimRecord> {
    Generator::new(config).unwrap().take(count).collect()
}

/// Timestamp, key and value of each record, by topic and partition in offset order.
type Held = HashMap<(String, i32), Vec<(i64, Vec<u8>, Vec<u8>)>>;

/// Reads what the cluster holds until `count` records came.
fn read_back(brokers: &str, config: &SimConfig, count: usize) -> Held {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut assignment = TopicPartitionList::new();
    for (topic, partitions) in [
        ("chat", config.partitions.chat),
        ("orders", config.partitions.orders),
        ("refunds", config.partitions.refunds),
    ] {
        for partition in 0..partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
    }
    consumer.assign(&assignment).unwrap();
    let mut found: Held = HashMap::new();
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut read = 0;
    while read < count {
        assert!(Instant::now() < deadline, "{read} of {count} records after a minute");
        let Some(message) = consumer.poll(Duration::from_millis(200)) else {
            continue;
        };
        let message = message.unwrap();
        found.entry((message.topic().to_owned(), message.partition())).or_default().push((
            message.timestamp().to_millis().unwrap(),
            message.key().unwrap().to_vec(),
            message.payload().unwrap().to_vec(),
        ));
        read += 1;
    }
    found
}

#[test]
fn every_record_arrives_on_its_partition_with_its_time() {
    for format in [Format::Json, Format::Avro] {
        let simulation = SimConfig {
            dead_share: 0.01,
            ..busy_night(1)
        };
        let cluster = cluster(&simulation);
        let sent = records(&simulation, 6_000);
        let mut sink = KafkaSink::new(KafkaSinkConfig {
            format,
            ..KafkaSinkConfig::new(cluster.bootstrap_servers())
        })
        .unwrap();
        let report = sink.run(sent.iter().cloned(), &AtomicBool::new(false)).unwrap();
        assert_eq!((report.acknowledged, report.stopped), (6_000, false));
        let progress = sink.progress();
        assert_eq!(progress.sent.load(Ordering::Acquire), 6_000);
        assert_eq!(progress.sim_time_ms.load(Ordering::Acquire), sent.last().unwrap().timestamp_ms);

        let encoder = Encoder::new(format, SchemaIds::default()).unwrap();
        let mut expected: Held = HashMap::new();
        for record in sent {
            let mut value = Vec::new();
            encoder.encode(&record.body, &mut value).unwrap();
            expected
                .entry((record.topic.name().to_owned(), record.partition))
                .or_default()
                .push((record.timestamp_ms, record.key.into_bytes(), value));
        }
        assert!(read_back(&cluster.bootstrap_servers(), &simulation, 6_000) == expected);
    }
}

#[test]
fn a_small_queue_makes_the_run_wait_and_loses_nothing() {
    let simulation = busy_night(2);
    let cluster = cluster(&simulation);
    let mut config = KafkaSinkConfig::new(cluster.bootstrap_servers());
    config.options.insert("queue.buffering.max.messages".to_owned(), "50".to_owned());
    let mut sink = KafkaSink::new(config).unwrap();
    let report = sink.run(records(&simulation, 1_000).into_iter(), &AtomicBool::new(false)).unwrap();
    assert_eq!(report.acknowledged, 1_000);
    read_back(&cluster.bootstrap_servers(), &simulation, 1_000);
}

#[test]
fn pacing_keeps_simulated_time_and_a_stop_ends_it() {
    let simulation = SimConfig {
        disorder: 0.0,
        ..busy_night(3)
    };
    let cluster = cluster(&simulation);
    let mut sent = records(&simulation, 2);
    sent[1].timestamp_ms = sent[0].timestamp_ms + 30_000;
    let paced = KafkaSinkConfig {
        speed_up: Some(100.0),
        ..KafkaSinkConfig::new(cluster.bootstrap_servers())
    };
    let begun = Instant::now();
    let report = KafkaSink::new(paced.clone())
        .unwrap()
        .run(sent.clone().into_iter(), &AtomicBool::new(false))
        .unwrap();
    assert!(
        begun.elapsed() >= Duration::from_millis(300),
        "30 simulated seconds took {:?}",
        begun.elapsed()
    );
    assert_eq!(report.acknowledged, 2);

    // The second waits for hours when the stop comes; it has been taken and is sent. The third is not taken.
    sent[1].timestamp_ms = sent[0].timestamp_ms + 1_000 * 3_600_000;
    sent.push(sent[1].clone());
    let taken = AtomicUsize::new(0);
    let mut rest = sent.into_iter().inspect(|_| {
        taken.fetch_add(1, Ordering::AcqRel);
    });
    let mut sink = KafkaSink::new(paced).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let run = scope.spawn(|| sink.run(rest.by_ref(), &stop));
        let deadline = Instant::now() + Duration::from_secs(30);
        while taken.load(Ordering::Acquire) < 2 {
            assert!(Instant::now() < deadline, "the second record was not taken in 30 s");
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Release);
        let report = run.join().unwrap().unwrap();
        assert_eq!((report.acknowledged, report.stopped), (2, true));
    });
    assert_eq!(rest.count(), 1);
}

#[test]
fn a_broker_that_is_not_there_ends_the_run_with_its_address() {
    // Nothing listens on the port of a listener that is gone.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let brokers = format!("127.0.0.1:{port}");
    let config = KafkaSinkConfig {
        stall_timeout: Duration::from_millis(500),
        ..KafkaSinkConfig::new(&brokers)
    };
    let error = KafkaSink::new(config)
        .unwrap()
        .run(records(&busy_night(1), 5).into_iter(), &AtomicBool::new(false))
        .unwrap_err();
    assert!(matches!(error, SimError::Stalled { in_flight: 5, .. }), "{error}");
    assert!(error.to_string().contains(&brokers), "{error}");
}

#[test]
fn a_failed_delivery_is_an_error_with_its_cause() {
    let simulation = busy_night(1);
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("chat", 1, 1).unwrap();
    let mut sent = records(&simulation, 200);
    sent.retain(|record| record.topic == Topic::Chat);
    for record in &mut sent {
        record.partition = 0;
    }
    sent[7].partition = 9;
    let mut config = KafkaSinkConfig::new(cluster.bootstrap_servers());
    config.options.insert("message.timeout.ms".to_owned(), "2000".to_owned());
    let error = KafkaSink::new(config)
        .unwrap()
        .run(sent.into_iter(), &AtomicBool::new(false))
        .unwrap_err();
    // The client refuses an unknown partition at once if it knows the topic already, and fails its delivery if it does not.
    assert!(matches!(error, SimError::Undelivered { .. } | SimError::Kafka { .. }), "{error}");
    assert!(error.to_string().to_lowercase().contains("partition"), "{error}");
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let speed = KafkaSinkConfig {
        speed_up: Some(0.0),
        ..KafkaSinkConfig::new("127.0.0.1:1")
    };
    assert!(matches!(KafkaSink::new(speed), Err(SimError::Config { field: "speed_up", .. })));
    let mut option = KafkaSinkConfig::new("127.0.0.1:1");
    option.options.insert("no.such.option".to_owned(), "1".to_owned());
    let Err(error) = KafkaSink::new(option) else {
        panic!("an unknown option was taken")
    };
    assert!(error.to_string().contains("no.such.option"), "{error}");
}
