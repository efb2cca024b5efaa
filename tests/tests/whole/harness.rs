//! The harness itself: what every other test here relies on.

use std::time::Duration;

use peakdesk_tests::{Context, Failure, Kafka, Launch, Message, Record, Registry, Result, bail, http, peakdesk, python, scene, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

/// 2025-11-11 00:00 in China, in milliseconds: a past that no retention may eat.
const MIDNIGHT_MS: i64 = 1_762_790_400_000;

fn thousand() -> Vec<Message> {
    let message = |index: i64| Message {
        partition: Some((index % 3) as i32),
        timestamp_ms: Some(MIDNIGHT_MS + index),
        key: (index % 5 != 0).then(|| format!("key-{index}").into_bytes()),
        value: (index % 7 != 0).then(|| vec![(index % 251) as u8; (index % 400) as usize]),
        headers: (0..index % 3)
            .map(|n| (format!("h{n}"), (n == 0).then(|| index.to_be_bytes().to_vec())))
            .collect(),
    };
    (0..1000).map(message).collect()
}

/// What must be read back of [`thousand`], by partition and offset.
fn expected(messages: &[Message]) -> Vec<(i32, i64, Message)> {
    let partition = |partition: i32| {
        let of_it = messages.iter().filter(move |message| message.partition == Some(partition));
        of_it.zip(0..).map(move |(message, offset)| (partition, offset, message.clone()))
    };
    (0..3).flat_map(partition).collect()
}

fn seen(records: &[Record]) -> Vec<(i32, i64, Message)> {
    let message = |record: &Record| Message {
        partition: Some(record.position.partition),
        timestamp_ms: Some(record.timestamp_ms),
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record.headers.clone(),
    };
    records
        .iter()
        .map(|record| (record.position.partition, record.position.offset, message(record)))
        .collect()
}

#[test]
fn kafka_gives_back_what_it_was_given() {
    scene(|scene| {
        let kafka = Kafka::shared()?;
        let topic = scene.name("events");
        kafka.create_topic(&topic, 3, &[("max.message.bytes", "16777216")])?;
        let positions = kafka.produce(&topic, &thousand())?;
        let mut offsets = [0i64; 3];
        for (position, message) in positions.iter().zip(thousand()) {
            let next = &mut offsets[position.partition as usize];
            assert_eq!((Some(position.partition), position.offset), (message.partition, *next));
            *next += 1;
        }
        assert_eq!(kafka.high_watermarks(&topic)?, offsets);
        assert_eq!(seen(&kafka.read_all(&topic)?), expected(&thousand()));
        Ok(())
    });
}

#[test]
fn kafka_takes_a_message_of_many_megabytes_and_no_unknown_topic() {
    scene(|scene| {
        let kafka = Kafka::shared()?;
        let topic = scene.name("large");
        kafka.create_topic(&topic, 1, &[])?;
        let large = Message {
            value: Some(vec![7; 15 << 20]),
            ..Message::default()
        };
        kafka.produce(&topic, std::slice::from_ref(&large))?;
        assert_eq!(kafka.read_all(&topic)?[0].value, large.value);
        let failure = kafka.high_watermarks(&scene.name("nowhere")).unwrap_err();
        assert!(failure.to_string().contains("nowhere"), "{failure}");
        Ok(())
    });
}

#[test]
fn kafka_keeps_its_data_over_a_stop_and_a_crash() {
    scene(|scene| {
        let mut kafka = Kafka::start()?;
        let topic = scene.name("events");
        kafka.create_topic(&topic, 3, &[])?;
        kafka.produce(&topic, &thousand())?;
        kafka.restart()?;
        assert_eq!(seen(&kafka.read_all(&topic)?), expected(&thousand()));
        kafka.kill()?;
        assert!(std::net::TcpStream::connect(kafka.bootstrap()).is_err());
        kafka.start_again()?;
        assert_eq!(seen(&kafka.read_all(&topic)?), expected(&thousand()));
        Ok(())
    });
}

#[test]
fn committed_offsets_are_seen_with_their_metadata() {
    use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
    use rdkafka::{Offset, TopicPartitionList};
    scene(|scene| {
        let kafka = Kafka::shared()?;
        let (topic, group) = (scene.name("events"), scene.name("group"));
        kafka.create_topic(&topic, 2, &[])?;
        assert_eq!(kafka.committed(&group, &topic)?, [None, None]);
        let consumer: BaseConsumer = kafka.config().set("group.id", &group).create()?;
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&topic, 1, Offset::Offset(17))?;
        offsets.find_partition(&topic, 1).context("just added")?.set_metadata("clock=5");
        consumer.commit(&offsets, CommitMode::Sync)?;
        let committed = kafka.committed(&group, &topic)?;
        assert_eq!(committed[0], None);
        let committed = committed[1].as_ref().context("nothing committed")?;
        assert_eq!((committed.offset, committed.metadata.as_str()), (17, "clock=5"));
        Ok(())
    });
}

#[test]
fn registry_gives_a_schema_by_its_id() {
    scene(|scene| {
        let registry = Registry::shared()?;
        let schema = |fields: &str| format!(r#"{{"type":"record","name":"Order","fields":[{fields}]}}"#);
        let old = schema(r#"{"name":"id","type":"string"}"#);
        let new = schema(r#"{"name":"id","type":"string"},{"name":"note","type":"string","default":""}"#);
        let subject = scene.name("orders-value");
        let (old_id, new_id) = (registry.register(&subject, &old)?, registry.register(&subject, &new)?);
        assert_ne!(old_id, new_id);
        assert_eq!(registry.register(&subject, &old)?, old_id);
        assert_eq!((registry.schema(old_id)?, registry.schema(new_id)?), (old, new));
        let missing = http::get(&format!("{}/schemas/ids/999999", registry.url()))?;
        assert_eq!(missing.status, 404, "{}", missing.body);
        Ok(())
    });
}

#[test]
fn python_has_the_packages_of_the_oracle() {
    scene(|scene| {
        let script =
            "import duckdb, pyarrow as pa; t = pa.table({'n': [19, 23]}); print(duckdb.sql('select sum(n) from t').fetchall()[0][0])";
        let outcome = scene.program("python", python()?).args(["-c", script]).run(LIMIT)?.success()?;
        assert_eq!(outcome.stdout.trim(), "42");
        Ok(())
    });
}

#[test]
fn the_product_builds_and_runs() {
    scene(|scene| {
        assert!(peakdesk()?.is_absolute());
        scene.peakdesk("help")?.arg("--help").run(LIMIT)?.success()?;
        Ok(())
    });
}

#[test]
fn a_process_is_captured_and_ends_when_it_is_told() {
    scene(|scene| {
        let script = r#"trap 'echo drained; exit 3' TERM; echo "$GREETING $1"; echo oops >&2; while :; do sleep 0.05; done"#;
        let launch = scene
            .program("service", "sh")
            .args(["-c", script, "sh", "two words"])
            .env("GREETING", "hello");
        let mut service = launch.spawn()?;
        wait_until("the greeting", LIMIT, || {
            Ok((service.stdout()? == "hello two words\n").then_some(()))
        })?;
        wait_until("the complaint", LIMIT, || Ok((service.stderr()? == "oops\n").then_some(())))?;
        assert_eq!(service.terminate()?.code(), Some(3));
        assert_eq!(service.stdout()?, "hello two words\ndrained\n");
        let failure = service.alive().unwrap_err();
        assert!(failure.is_fatal() && failure.to_string().contains("drained"), "{failure}");
        assert!(service.kill().is_err(), "a process that ended by itself was not killed");
        let mut victim = launch.spawn()?;
        victim.kill()?;
        let pid = launch.spawn()?.pid();
        wait_until("the dropped process to be gone", LIMIT, || Ok((!runs(pid)).then_some(())))
    });
}

#[test]
fn a_wait_for_a_process_that_never_ends_is_bounded() {
    scene(|scene| {
        let failure = scene
            .program("sleeper", "sleep")
            .arg("1000")
            .run(Duration::from_millis(200))
            .unwrap_err();
        assert!(failure.to_string().starts_with("waited 0.2 s for the end of sleeper"), "{failure}");
        Ok(())
    });
}

/// Starts what the next test kills. Alone it does nothing.
#[test]
fn left_behind() {
    let Some(dir) = std::env::var_os("PEAKDESK_TEST_LEFT_BEHIND") else {
        return;
    };
    let dir = std::path::PathBuf::from(dir);
    peakdesk_tests::guard::remove_at_end(&dir.join("data")).unwrap();
    let sleepers: Vec<_> = (0..3)
        .map(|n| Launch::new(&format!("s{n}"), "sleep", &dir).arg("1000").spawn().unwrap())
        .collect();
    let mut ended = Launch::new("short", "true", &dir).spawn().unwrap();
    ended.wait(LIMIT).unwrap();
    let pids: Vec<String> = sleepers.iter().map(|sleeper| sleeper.pid().to_string()).collect();
    std::fs::write(dir.join("pids.new"), pids.join(" ")).unwrap();
    std::fs::rename(dir.join("pids.new"), dir.join("pids")).unwrap();
    std::thread::sleep(Duration::from_secs(1000));
}

#[test]
fn nothing_outlives_a_test_run_that_is_killed() {
    scene(|scene| {
        std::fs::create_dir(scene.path("data"))?;
        let this = std::env::current_exe()?;
        let launch = scene
            .program("inner", this)
            .args(["--exact", "harness::left_behind", "--nocapture"]);
        let mut inner = launch.env("PEAKDESK_TEST_LEFT_BEHIND", scene.dir()).spawn()?;
        let pids = wait_until("the inner run's processes", LIMIT, || {
            inner.alive()?;
            Ok(Some(std::fs::read_to_string(scene.path("pids"))?))
        })?;
        let pids: Vec<u32> = pids.split(' ').map(|pid| pid.parse().unwrap()).collect();
        assert!(pids.len() == 3 && pids.iter().all(|pid| runs(*pid)));
        inner.kill()?;
        wait_until("the inner run's processes to be gone", LIMIT, || none_runs(&pids))?;
        wait_until("the inner run's directory to be gone", LIMIT, || {
            Ok((!scene.path("data").exists()).then_some(()))
        })
    });
}

fn none_runs(pids: &[u32]) -> Result<Option<()>> {
    let left: Vec<&u32> = pids.iter().filter(|pid| runs(**pid)).collect();
    if left.is_empty() { Ok(Some(())) } else { bail!("{left:?} run") }
}

/// Whether a process exists and is more than a zombie.
fn runs(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z')
}

#[test]
#[should_panic(expected = "3 of 4 rows")]
fn a_scene_fails_with_the_message_of_its_failure() {
    scene(|scene| {
        assert!(
            scene.prefix().starts_with("a_scene_fails_with_the_message_of_its_failure-"),
            "{}",
            scene.prefix()
        );
        Err(Failure::new("3 of 4 rows"))
    });
}
