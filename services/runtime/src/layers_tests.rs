#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

fn sources(file: Option<&str>, environment: &[(&str, &str)], sets: &[&str]) -> (Sources, Option<tempfile::NamedTempFile>) {
    let file = file.map(|text| {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    });
    let sources = Sources {
        file: file.as_ref().map(|file| file.path().to_owned()),
        environment: environment.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        sets: sets.iter().map(|set| (*set).to_owned()).collect(),
    };
    (sources, file)
}

fn read(file: Option<&str>, environment: &[(&str, &str)], sets: &[&str]) -> Result<Layers, String> {
    let (sources, _file) = sources(file, environment, sets);
    Layers::read(&sources).map_err(|error| {
        let text = error.to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    })
}

fn value(layers: &Layers, path: &str) -> Value {
    layers.get(path).unwrap_or_else(|| panic!("{path} is not there")).value.clone()
}

#[test]
fn the_defaults_are_toml_and_hold_only_scalars() {
    let table: Table = DEFAULTS.parse().unwrap();
    assert!(table.len() >= 9);
    for (path, setting) in Layers::defaults().iter() {
        assert_eq!(setting.origin, Origin::Default);
        assert!(
            matches!(
                setting.value,
                Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_)
            ),
            "{path}"
        );
    }
}

#[test]
fn each_layer_goes_over_the_one_before() {
    let file = "[kafka]\nbootstrap = 'file:1'\ngroup_prefix = 'file'\n[topics]\nresults = 'file'\n[topics.chat]\ngeneration = 2\n";
    let environment = [
        ("PEAKDESK__KAFKA__GROUP_PREFIX", "env"),
        ("PEAKDESK__TOPICS__RESULTS", "env"),
        ("PEAKDESK_OTHER", "x"),
        ("HOME", "/"),
    ];
    let layers = read(Some(file), &environment, &["topics.results=first", "topics.results=flag"]).unwrap();
    assert_eq!(value(&layers, "topics.shop_log"), Value::from("shop-log"));
    assert_eq!(value(&layers, "kafka.bootstrap"), Value::from("file:1"));
    assert_eq!(value(&layers, "topics.chat.generation"), Value::from(2));
    assert_eq!(value(&layers, "topics.orders.generation"), Value::from(1));
    assert_eq!(value(&layers, "kafka.group_prefix"), Value::from("env"));
    assert_eq!(value(&layers, "topics.results"), Value::from("flag"));
    assert!(matches!(layers.get("kafka.bootstrap").unwrap().origin, Origin::File(_)));
    assert_eq!(
        layers.get("kafka.group_prefix").unwrap().origin,
        Origin::Environment("PEAKDESK__KAFKA__GROUP_PREFIX".into())
    );
    assert_eq!(layers.get("topics.results").unwrap().origin, Origin::Flag);
}

#[test]
fn texts_are_read_by_the_type_of_their_setting() {
    let environment = [
        ("PEAKDESK__KAFKA__BOOTSTRAP", "9092"),
        ("PEAKDESK__KAFKA__GROUP_PREFIX", "\"quoted\""),
        ("PEAKDESK__TOPICS__CREATE", "false"),
        ("PEAKDESK__TOPICS__LOG_PARTITIONS", "8"),
        ("PEAKDESK__INTAKE__CLOCK_SPEED", "60"),
        ("PEAKDESK__SCHEMA_REGISTRY__PASSWORD", "a=b #c"),
        ("PEAKDESK__KAFKA__OPTIONS__SECURITY_PROTOCOL", "SASL_SSL"),
    ];
    let layers = read(
        None,
        &environment,
        &[
            "intake.tick = 1s",
            "kafka.options.queue.buffering.max.ms=5",
            "policy.shops.Shop.1=vip.toml",
        ],
    )
    .unwrap();
    assert_eq!(value(&layers, "kafka.bootstrap"), Value::from("9092"));
    assert_eq!(value(&layers, "kafka.group_prefix"), Value::from("quoted"));
    assert_eq!(value(&layers, "topics.create"), Value::from(false));
    assert_eq!(value(&layers, "topics.log_partitions"), Value::from(8));
    assert_eq!(value(&layers, "intake.clock_speed"), Value::from(60.0));
    assert_eq!(value(&layers, "schema_registry.password"), Value::from("a=b #c"));
    assert_eq!(value(&layers, "intake.tick"), Value::from("1s"));
    let options: Vec<_> = layers
        .open_table("kafka.options")
        .map(|(key, setting)| (key, setting.value.as_str().unwrap()))
        .collect();
    assert_eq!(options, [("queue.buffering.max.ms", "5"), ("security.protocol", "SASL_SSL")]);
    let shops: Vec<_> = layers.open_table("policy.shops").map(|(key, _)| key).collect();
    assert_eq!(shops, ["Shop.1"]);
}

#[test]
fn open_tables_take_any_key_from_a_file() {
    let file = "[kafka.options]\n\"linger.ms\" = 5\nsasl.username = 'u'\n\"enable.x\" = true\n[policy.shops]\n'店.1' = 'a.toml'\n";
    let layers = read(Some(file), &[], &[]).unwrap();
    assert_eq!(value(&layers, "kafka.options.linger.ms"), Value::from("5"));
    assert_eq!(value(&layers, "kafka.options.sasl.username"), Value::from("u"));
    assert_eq!(value(&layers, "kafka.options.enable.x"), Value::from("true"));
    assert_eq!(value(&layers, "policy.shops.店.1"), Value::from("a.toml"));
}

#[test]
fn empty_sections_are_fine() {
    assert!(read(Some("[kafka]\n[topics.chat]\n[kafka.options]\n[policy.shops]\n"), &[], &[]).is_ok());
    assert!(read(Some(""), &[], &[]).is_ok());
    assert!(read(Some("[kafak]\n"), &[], &[]).unwrap_err().contains("unknown key kafak"));
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_known_key() {
    let (sources, file) = sources(Some("[kafka]\nbootstrp = 'x'\n"), &[], &[]);
    let error = Layers::read(&sources).unwrap_err().to_string();
    let path = file.unwrap().path().display().to_string();
    assert_eq!(
        error,
        format!("file {path}: unknown key kafka.bootstrp; did you mean kafka.bootstrap?")
    );
    assert_eq!(
        read(None, &[("PEAKDESK__INTAKE__CLOCKSPEED", "1")], &[]).unwrap_err(),
        "environment variable PEAKDESK__INTAKE__CLOCKSPEED: unknown key intake.clockspeed; did you mean intake.clock_speed?"
    );
    assert_eq!(
        read(None, &[], &["topic.results=x"]).unwrap_err(),
        "flag --set: unknown key topic.results; did you mean topics.results?"
    );
    assert!(
        read(Some("bootstrap = 'x'\n"), &[], &[])
            .unwrap_err()
            .contains("did you mean kafka.bootstrap?")
    );
    assert!(
        read(Some("[topics.chat]\nretention = 1\n"), &[], &[])
            .unwrap_err()
            .contains("unknown key topics.chat.retention")
    );
    assert!(read(None, &[("PEAKDESK__", "1")], &[]).unwrap_err().contains("unknown key"));
}

#[test]
fn a_value_of_a_wrong_type_is_refused() {
    let cases = [
        ("[kafka]\nbootstrap = 9092\n", "kafka.bootstrap must be a text"),
        ("[topics]\nlog_partitions = '64'\n", "topics.log_partitions must be a whole number"),
        ("[topics]\nlog_partitions = 6.4\n", "topics.log_partitions must be a whole number"),
        ("[topics]\ncreate = 'yes'\n", "topics.create must be true or false"),
        ("[intake]\nclock_speed = true\n", "intake.clock_speed must be a number"),
        ("[intake]\ntick = 100\n", "intake.tick must be a text"),
        ("kafka = 1\n", "unknown key kafka"),
        ("[policy]\nshops = 1\n", "policy.shops must be a table"),
        ("[policy.shops]\ns = 1\n", "policy.shops.s must be a text"),
        ("[kafka.options]\nbrokers = ['a']\n", "kafka.options.brokers must be a text"),
    ];
    for (file, expected) in cases {
        let error = read(Some(file), &[], &[]).unwrap_err();
        assert!(error.contains(expected), "{file}: {error}");
    }
    for (name, value) in [
        ("PEAKDESK__TOPICS__CREATE", "yes"),
        ("PEAKDESK__TOPICS__LOG_PARTITIONS", "many"),
        ("PEAKDESK__INTAKE__CLOCK_SPEED", "fast"),
    ] {
        let error = read(None, &[(name, value)], &[]).unwrap_err();
        assert!(
            error.starts_with(&format!("environment variable {name}: ")) && error.contains(" must be "),
            "{error}"
        );
    }
    assert!(
        read(None, &[], &["kafka.options=x"])
            .unwrap_err()
            .contains("kafka.options must be a table")
    );
}

#[test]
fn what_cannot_be_read_says_what_to_do() {
    let missing = Sources {
        file: Some("/no/such/file.toml".into()),
        ..Sources::default()
    };
    let error = Layers::read(&missing).unwrap_err().to_string();
    assert!(
        error.starts_with("config file /no/such/file.toml: ") && error.ends_with("give a readable file with --config"),
        "{error}"
    );
    let error = read(Some("[kafka]\nbootstrap = 'x'\ngroup_prefix = oops\n"), &[], &[]).unwrap_err();
    assert!(error.contains(": line 3: "), "{error}");
    let error = read(Some("[kafka]\n[kafka]\n"), &[], &[]).unwrap_err();
    assert!(error.contains(": line 2: "), "{error}");
    assert!(
        read(None, &[], &["kafka.bootstrap"])
            .unwrap_err()
            .contains("is not of the form section.key=value")
    );
    assert!(
        read(None, &[("PEAKDESK__POLICY__SHOPS__S1", "x")], &[])
            .unwrap_err()
            .contains("use the file or --set")
    );
}

#[cfg(unix)]
#[test]
fn an_environment_value_that_is_no_text_is_refused() {
    use std::os::unix::ffi::OsStringExt;
    let value = std::ffi::OsString::from_vec(vec![0xff]);
    let sources = Sources {
        environment: vec![("PEAKDESK__KAFKA__BOOTSTRAP".into(), value)],
        ..Sources::default()
    };
    assert!(Layers::read(&sources).unwrap_err().to_string().contains("is not UTF-8 text"));
}
