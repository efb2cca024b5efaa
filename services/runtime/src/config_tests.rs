#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use std::path::Path;

fn load(sets: &[&str]) -> Result<Config, String> {
    let sources = Sources {
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
        ..Sources::default()
    };
    Config::load(&sources).map_err(|error| {
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    })
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn set_file(key: &str, path: &Path) -> String {
    format!("{key}={}", path.display())
}

#[test]
fn the_defaults_are_valid_and_those_of_the_metric_definitions() {
    let config = load(&[]).unwrap();
    assert_eq!(config.scoring, ScoringConfig::default());
    assert_eq!(config.topics.log_partitions, 64);
    assert_eq!(config.topics.replication, None);
    assert_eq!(config.topics.input(Topic::Refunds).name, "refunds");
    assert!(config.topics.create);
    assert_eq!(config.intake.tick, Duration::from_millis(100));
    assert!(config.intake.has_development_key());
    assert_eq!(config.warehouse.slice_ms, 300_000);
    assert_eq!(config.kafka.group_protocol, GroupProtocol::Classic);
    let checkpoint = CheckpointConfig {
        enabled: true,
        url: "peakdesk-checkpoints".into(),
        endpoint: None,
        region: None,
        allow_http: false,
        request_timeout: Duration::from_secs(240),
        every: Duration::from_secs(180),
        keep: 3,
        hold: 8,
    };
    assert_eq!(config.checkpoint, checkpoint);
    assert_eq!(config.http_listen, Some("127.0.0.1:9464".parse().unwrap()));
    assert!(config.schema_registry.is_none());
    assert_eq!(config.policy, PolicyConfig::default());
    assert_eq!(
        config.log,
        LogConfig {
            format: LogFormat::Text,
            level: "info".into()
        }
    );
}

#[test]
fn settings_arrive_where_they_belong() {
    let config = load(&[
        "topics.chat.format=json",
        "topics.chat.generation=3",
        "topics.replication=3",
        "scoring.utc_offset=-03:30",
        "scoring.allowed_lateness_chat=20m",
        "scoring.allowed_lateness_money=48h",
        "scoring.alert_step=1s",
        "policy.file=p.toml",
        "policy.shops.s.1=q.toml",
        "http.listen=",
        "log.format=json",
        "log.level=warn,peakdesk_intake=debug",
        "kafka.options.security.protocol=SSL",
        "schema_registry.url=https://r:8081/path",
    ])
    .unwrap();
    let chat = InputTopicConfig {
        name: "chat".into(),
        format: TopicFormat::Json,
        generation: 3,
    };
    assert_eq!(config.topics.chat, chat);
    assert_eq!(config.topics.replication, Some(3));
    assert_eq!(config.scoring.utc_offset, UtcOffset::parse("-03:30").unwrap());
    assert_eq!(
        (config.scoring.allowed_lateness_chat_ms, config.scoring.allowed_lateness_money_ms),
        (1_200_000, 172_800_000)
    );
    assert_eq!(config.scoring.alert_step_ms, 1000);
    assert_eq!(config.policy.file, Some("p.toml".into()));
    assert_eq!(
        config.policy.shop_files,
        BTreeMap::from([("s.1".to_owned(), PathBuf::from("q.toml"))])
    );
    assert_eq!(config.http_listen, None);
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.kafka.options["security.protocol"].reveal(), "SSL");
    let registry = config.schema_registry.unwrap();
    assert!(registry.url == "https://r:8081/path" && registry.auth.is_none());
}

#[test]
fn a_bad_value_is_refused_with_its_place() {
    let cases = [
        "kafka.bootstrap=",
        "kafka.group_prefix= ",
        "kafka.options.group.id=x",
        "kafka.options.enable.idempotence=false",
        "topics.chat.name=a b",
        "topics.chat.name=",
        "topics.chat.name=..",
        "topics.chat.format=xml",
        "topics.chat.generation=0",
        "topics.results=shop-log",
        "topics.orders.name=chat",
        "topics.log_partitions=0",
        "topics.log_partitions=10001",
        "topics.replication=-1",
        "schema_registry.url=registry:8081",
        "schema_registry.url=http://",
        "schema_registry.url=ftp://r",
        "intake.tick=0ms",
        "intake.tick=1h",
        "intake.tick=100",
        "intake.clock_speed=0",
        "intake.clock_speed=-1",
        "intake.clock_speed=nan",
        "intake.clock_speed=inf",
        "intake.max_frame_events=0",
        "intake.buyer_key=00",
        "intake.buyer_key=",
        "intake.buyer_key_file=/no/such/file",
        "scoring.utc_offset=8",
        "scoring.allowed_lateness_chat=1.5h",
        "scoring.allowed_lateness_chat=ten minutes",
        "scoring.allowed_lateness_chat=-1s",
        "scoring.allowed_lateness_money=14m",
        "scoring.touch_retention=24h",
        "scoring.order_retention=23h",
        "scoring.alert_step=0s",
        "scoring.alert_step=7s",
        "scoring.alert_step=2m",
        "policy.shops.s=",
        "kafka.group_protocol=new",
        "checkpoint.url=",
        "checkpoint.url=gs://bucket",
        "checkpoint.url=file://relative",
        "checkpoint.endpoint=s3.example",
        "checkpoint.endpoint=http://s3.example",
        "checkpoint.every=500ms",
        "checkpoint.every=2d",
        "checkpoint.request_timeout=900ms",
        "checkpoint.request_timeout=2h",
        "checkpoint.keep=0",
        "checkpoint.hold=-1",
        "warehouse.output=",
        "warehouse.slice=500ms",
        "warehouse.slice=7m",
        "warehouse.slice=48h",
        "http.listen=9464",
        "http.listen=localhost:9464",
        "health.consumer_patience=500ms",
        "log.format=xml",
        "log.level=",
        "log.level=a=loud",
    ];
    for set in cases {
        let error = load(&[set]).expect_err(set);
        let key = set.split('=').next().unwrap();
        assert!(error.starts_with(&format!("flag --set: {key} = ")), "{set}: {error}");
    }
}

#[test]
fn the_error_names_both_of_two_settings_that_do_not_fit() {
    assert_eq!(
        load(&["scoring.allowed_lateness_chat=25h"]).unwrap_err(),
        "default: scoring.allowed_lateness_money = \"24h\": must be at least scoring.allowed_lateness_chat = \"25h\" (flag --set); change one of them"
    );
    assert!(load(&["scoring.allowed_lateness_chat=24h"]).is_ok());
    assert!(load(&["schema_registry.user=u"]).unwrap_err().contains("no address"));
    assert!(
        load(&["schema_registry.url=http://r", "schema_registry.password=p"])
            .unwrap_err()
            .contains("no user")
    );
}

#[test]
fn secrets_come_from_files_too() {
    let key = file(&("ab".repeat(32) + "\n"));
    let password = file("hunter2\r\n");
    let sets = [
        set_file("intake.buyer_key_file", key.path()),
        set_file("schema_registry.password_file", password.path()),
        set_file("kafka.password_file", password.path()),
        "schema_registry.url=http://r".to_owned(),
        "schema_registry.user=u".to_owned(),
    ];
    let mut sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let config = load(&sets).unwrap();
    assert_eq!(config.intake.buyer_key.reveal(), &[0xab; 32]);
    assert!(!config.intake.has_development_key());
    assert_eq!(config.kafka.options["sasl.password"].reveal(), "hunter2");
    let (user, password) = config.schema_registry.unwrap().auth.unwrap();
    assert_eq!((user.as_str(), password.reveal().as_str()), ("u", "hunter2"));
    for twice in ["intake.buyer_key=00", "schema_registry.password=x", "kafka.options.sasl.password=x"] {
        sets.push(twice);
        assert!(load(&sets).unwrap_err().contains("keep one of them"), "{twice}");
        sets.pop();
    }
}

#[test]
fn a_secret_file_must_hold_a_secret() {
    let empty = file("\n");
    let huge = file(&"x".repeat(100_000));
    for path in [empty.path(), huge.path(), Path::new("/")] {
        let set = set_file("kafka.password_file", path);
        assert!(
            load(&[&set]).unwrap_err().starts_with("flag --set: kafka.password_file = "),
            "{set}"
        );
    }
}

#[test]
fn secrets_are_not_printed() {
    let secrets = [
        "kafka.options.sasl.password=hunter2",
        "schema_registry.password=hunter2",
        "schema_registry.user=u",
    ];
    let mut sets = secrets.to_vec();
    let key = "ef".repeat(32);
    let set_key = format!("intake.buyer_key={key}");
    sets.extend(["schema_registry.url=http://r", &set_key]);
    let config = load(&sets).unwrap();
    for text in [
        config.render(),
        format!("{:?}", config.kafka),
        format!("{:?}", config.schema_registry),
        format!("{:?}", config.intake),
    ] {
        assert!(!text.contains("hunter2") && !text.contains(&key), "{text}");
    }
    assert!(!format!("{config:?}").contains("hunter2"));
    for error in [
        load(&["intake.buyer_key=hunter2"]).unwrap_err(),
        load(&["schema_registry.url=http://u:hunter2@r:8081"]).unwrap_err(),
        load(&["schema_registry.password=hunter2"]).unwrap_err(),
    ] {
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn what_is_rendered_can_be_read_again() {
    let config = load(&[
        "kafka.options.client.rack=a \"b\"",
        "policy.shops.店.1=q.toml",
        "topics.chat.name=talk",
        "intake.clock_speed=60",
    ])
    .unwrap();
    let rendered = config.render();
    assert!(rendered.contains("chat.name = \"talk\"  # flag --set\n"), "{rendered}");
    assert!(rendered.contains("output = \"peakdesk-data\"  # default\n"), "{rendered}");
    let file = file(&rendered);
    let again = Config::load(&Sources {
        file: Some(file.path().to_owned()),
        ..Sources::default()
    })
    .unwrap();
    assert_eq!(again.topics, config.topics);
    assert_eq!(again.policy, config.policy);
    assert_eq!(again.scoring, config.scoring);
    assert_eq!(again.kafka.options["client.rack"].reveal(), "a \"b\"");
    assert_eq!(again.intake.clock_speed, 60.0);
}
