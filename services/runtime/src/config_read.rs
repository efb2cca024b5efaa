//! From settings to the validated configuration, a section at a time.

use super::*;
use peakdesk_model::time::{HOUR_MS, parse_duration_ms};
use std::net::IpAddr;
use std::path::Path;

/// Options of the Kafka client on which correctness rests; Peakdesk sets them itself.
const RESERVED_OPTIONS: [&str; 9] = [
    "bootstrap.servers",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "transactional.id",
];

const SASL_PASSWORD: &str = "sasl.password";

/// More than this many partitions no cluster wants for one topic.
const LOG_PARTITIONS_MAX: i64 = 10_000;

/// A frame is one Kafka message; this many events stay well below its usual limit of 1 MB only if they are small, so intake
/// also cuts frames by size.
const FRAME_EVENTS_MAX: i64 = 100_000;

/// A secret file holds one line.
const SECRET_FILE_LEN_MAX: u64 = 64 << 10;

pub(super) fn config(layers: Layers) -> Result<Config, ConfigError> {
    let reader = Reader { layers: &layers };
    Ok(Config {
        kafka: kafka(reader)?,
        topics: topics(reader)?,
        schema_registry: schema_registry(reader)?,
        intake: intake(reader)?,
        scoring: scoring(reader)?,
        policy: policy(reader)?,
        checkpoint: checkpoint(reader)?,
        warehouse: warehouse(reader)?,
        console: console(reader)?,
        alerter: alerter(reader)?,
        http_listen: http_listen(reader)?,
        consumer_patience: consumer_patience(reader)?,
        log: log(reader)?,
        layers,
    })
}

fn kafka(read: Reader<'_>) -> Result<KafkaConfig, ConfigError> {
    let mut options = BTreeMap::new();
    for (name, setting) in read.layers.open_table("kafka.options") {
        if RESERVED_OPTIONS.contains(&name) {
            return Err(read.invalid(&format!("kafka.options.{name}"), "peakdesk sets this option itself; remove it"));
        }
        options.insert(name.to_owned(), Secret::new(setting.value.as_str().unwrap_or_default().to_owned()));
    }
    if let Some(password) = read.secret_file("kafka.password_file")?
        && options.insert(SASL_PASSWORD.to_owned(), password).is_some()
    {
        return Err(read.invalid(
            "kafka.password_file",
            "kafka.options.\"sasl.password\" is set too; keep one of them",
        ));
    }
    Ok(KafkaConfig {
        bootstrap: read.filled("kafka.bootstrap")?,
        group_prefix: read.filled("kafka.group_prefix")?,
        group_protocol: read.one_of(
            "kafka.group_protocol",
            &[("classic", GroupProtocol::Classic), ("consumer", GroupProtocol::Consumer)],
        )?,
        options,
    })
}

fn topics(read: Reader<'_>) -> Result<TopicsConfig, ConfigError> {
    let input = |topic: &str| {
        let path = |key: &str| format!("topics.{topic}.{key}");
        Ok::<_, ConfigError>(InputTopicConfig {
            name: read.topic(&path("name"))?,
            format: read.one_of(&path("format"), &[("avro", TopicFormat::Avro), ("json", TopicFormat::Json)])?,
            generation: read.int_in(&path("generation"), 1, i64::from(i32::MAX))? as i32,
        })
    };
    let topics = TopicsConfig {
        chat: input("chat")?,
        orders: input("orders")?,
        refunds: input("refunds")?,
        shop_log: read.topic("topics.shop_log")?,
        dead_letters: read.topic("topics.dead_letters")?,
        results: read.topic("topics.results")?,
        alerts: read.topic("topics.alerts")?,
        live: read.topic("topics.live")?,
        acknowledgements: read.topic("topics.acknowledgements")?,
        log_partitions: read.int_in("topics.log_partitions", 1, LOG_PARTITIONS_MAX)? as i32,
        create: read.boolean("topics.create"),
        replication: Some(read.int_in("topics.replication", 0, i64::from(i16::MAX))? as i32).filter(|replicas| *replicas > 0),
    };
    let named = [
        ("topics.chat.name", &topics.chat.name),
        ("topics.orders.name", &topics.orders.name),
        ("topics.refunds.name", &topics.refunds.name),
        ("topics.shop_log", &topics.shop_log),
        ("topics.dead_letters", &topics.dead_letters),
        ("topics.results", &topics.results),
        ("topics.alerts", &topics.alerts),
        ("topics.live", &topics.live),
        ("topics.acknowledgements", &topics.acknowledgements),
    ];
    for (index, (path, name)) in named.iter().enumerate() {
        if let Some((other, _)) = named.iter().take(index).find(|(_, other)| other == name) {
            return Err(read.invalid(path, &format!("{other} is the same topic; every topic needs a name of its own")));
        }
    }
    Ok(topics)
}

fn schema_registry(read: Reader<'_>) -> Result<Option<SchemaRegistryConfig>, ConfigError> {
    let url = read.text("schema_registry.url");
    let user = read.text("schema_registry.user");
    let password = read.secret_or_file("schema_registry.password", "schema_registry.password_file")?;
    if url.is_empty() {
        if !user.is_empty() || password.is_some() {
            return Err(read.invalid("schema_registry.url", "a user or password is set, but no address; set the url"));
        }
        return Ok(None);
    }
    let authority = url
        .strip_prefix("http://")
        .or_else(|| url.strip_prefix("https://"))
        .map(|rest| rest.split('/').next().unwrap_or(""));
    match authority {
        None | Some("") => return Err(read.invalid("schema_registry.url", "not an address; write it like http://registry:8081")),
        Some(authority) if authority.contains('@') => {
            let problem = "user and password do not belong into the address; set schema_registry.user and schema_registry.password";
            return Err(read.invalid_hidden("schema_registry.url", problem));
        }
        Some(_) => {}
    }
    let auth = match (user.is_empty(), password) {
        (true, None) => None,
        (true, Some(_)) => return Err(read.invalid("schema_registry.user", "a password is set, but no user; set both")),
        (false, password) => Some((user.to_owned(), password.unwrap_or_else(|| Secret::new(String::new())))),
    };
    Ok(Some(SchemaRegistryConfig { url: url.to_owned(), auth }))
}

fn intake(read: Reader<'_>) -> Result<IntakeConfig, ConfigError> {
    let clock_speed = read.float("intake.clock_speed");
    if !(clock_speed.is_finite() && clock_speed > 0.0) {
        return Err(read.invalid("intake.clock_speed", "must be more than 0; 1 is the speed of life"));
    }
    let tick_ms = read.duration_ms("intake.tick")?;
    if !(10..=10 * SECOND_MS).contains(&tick_ms) {
        return Err(read.invalid("intake.tick", "must be 10ms to 10s; 100ms is usual"));
    }
    Ok(IntakeConfig {
        tick: Duration::from_millis(tick_ms.unsigned_abs()),
        clock_speed,
        max_frame_events: read.int_in("intake.max_frame_events", 1, FRAME_EVENTS_MAX)? as usize,
        buyer_key: buyer_key(read)?,
    })
}

fn buyer_key(read: Reader<'_>) -> Result<Secret<[u8; 32]>, ConfigError> {
    const KEY: &str = "intake.buyer_key";
    const FILE: &str = "intake.buyer_key_file";
    let (path, text) = match read.secret_file(FILE)? {
        Some(_) if !read.is_default(KEY) => return Err(read.invalid(FILE, "intake.buyer_key is set too; keep one of them")),
        Some(text) => (FILE, text),
        None => (KEY, Secret::new(read.text(KEY).to_owned())),
    };
    parse_key(text.reveal()).map(Secret::new).ok_or_else(|| {
        read.invalid(
            path,
            "the key must be 64 hexadecimal digits (32 bytes); make one with: openssl rand -hex 32",
        )
    })
}

fn parse_key(hex: &str) -> Option<[u8; 32]> {
    let digits: Vec<u32> = hex.chars().map(|digit| digit.to_digit(16)).collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks_exact(2)
        .filter_map(|pair| u8::try_from(pair.iter().fold(0, |byte, digit| byte << 4 | digit)).ok())
        .collect();
    if digits.len() == 64 { bytes.try_into().ok() } else { None }
}

fn scoring(read: Reader<'_>) -> Result<ScoringConfig, ConfigError> {
    let scoring = ScoringConfig {
        utc_offset: UtcOffset::parse(read.text("scoring.utc_offset"))
            .ok_or_else(|| read.invalid("scoring.utc_offset", "not an offset; write it like +08:00"))?,
        allowed_lateness_chat_ms: read.duration_ms("scoring.allowed_lateness_chat")?,
        allowed_lateness_money_ms: read.duration_ms("scoring.allowed_lateness_money")?,
        future_skew_ms: read.duration_ms("scoring.future_skew")?,
        order_retention_ms: read.duration_ms("scoring.order_retention")?,
        touch_retention_ms: read.duration_ms("scoring.touch_retention")?,
        alert_step_ms: read.duration_ms("scoring.alert_step")?,
        stall_patience_ms: read.duration_ms("scoring.stall_patience")?,
    };
    if scoring.allowed_lateness_money_ms < scoring.allowed_lateness_chat_ms {
        return Err(read.invalid_pair(
            "scoring.allowed_lateness_money",
            "must be at least",
            "scoring.allowed_lateness_chat",
        ));
    }
    if scoring.touch_retention_ms <= scoring.allowed_lateness_money_ms {
        return Err(read.invalid_pair("scoring.touch_retention", "must be more than", "scoring.allowed_lateness_money"));
    }
    if scoring.order_retention_ms < scoring.allowed_lateness_money_ms {
        return Err(read.invalid_pair("scoring.order_retention", "must be at least", "scoring.allowed_lateness_money"));
    }
    if scoring.alert_step_ms == 0 || MINUTE_MS % scoring.alert_step_ms != 0 {
        return Err(read.invalid("scoring.alert_step", "must divide a minute; choose 200ms, 500ms, 1s or the like"));
    }
    Ok(scoring)
}

fn policy(read: Reader<'_>) -> Result<PolicyConfig, ConfigError> {
    let mut shop_files = BTreeMap::new();
    for (shop, setting) in read.layers.open_table("policy.shops") {
        match setting.value.as_str() {
            Some(file) if !file.is_empty() => shop_files.insert(shop.to_owned(), PathBuf::from(file)),
            _ => {
                return Err(read.invalid(
                    &format!("policy.shops.{shop}"),
                    "names no file; give a policy file or remove the shop",
                ));
            }
        };
    }
    Ok(PolicyConfig {
        file: read.path("policy.file"),
        shop_files,
    })
}

fn checkpoint(read: Reader<'_>) -> Result<CheckpointConfig, ConfigError> {
    const ENDPOINT: &str = "checkpoint.endpoint";
    let endpoint = Some(read.text(ENDPOINT).to_owned()).filter(|text| !text.is_empty());
    let allow_http = read.boolean("checkpoint.allow_http");
    match &endpoint {
        Some(address) if address.starts_with("http://") && !allow_http => {
            return Err(read.invalid(
                ENDPOINT,
                "would send states over plain HTTP; write https://, or set checkpoint.allow_http",
            ));
        }
        Some(address) if !address.starts_with("http://") && !address.starts_with("https://") => {
            return Err(read.invalid(ENDPOINT, "not an address; write it like https://s3.example"));
        }
        _ => {}
    }
    let url = read.filled("checkpoint.url")?;
    if url.contains("://") && !url.starts_with("s3://") && !url.starts_with("file:///") {
        return Err(read.invalid(
            "checkpoint.url",
            "not an address; write a directory, file:///directory or s3://bucket/prefix",
        ));
    }
    let every_ms = read.duration_ms("checkpoint.every")?;
    if !(SECOND_MS..=DAY_MS).contains(&every_ms) {
        return Err(read.invalid("checkpoint.every", "must be 1s to 1d; 3m is usual"));
    }
    let request_timeout_ms = read.duration_ms("checkpoint.request_timeout")?;
    if !(SECOND_MS..=HOUR_MS).contains(&request_timeout_ms) {
        return Err(read.invalid("checkpoint.request_timeout", "must be 1s to 1h; 4m is usual"));
    }
    Ok(CheckpointConfig {
        enabled: read.boolean("checkpoint.enabled"),
        url,
        endpoint,
        region: Some(read.text("checkpoint.region").to_owned()).filter(|text| !text.is_empty()),
        allow_http,
        request_timeout: Duration::from_millis(request_timeout_ms.unsigned_abs()),
        every: Duration::from_millis(every_ms.unsigned_abs()),
        keep: read.int_in("checkpoint.keep", 1, 1_000)? as usize,
        hold: read.int_in("checkpoint.hold", 0, LOG_PARTITIONS_MAX)? as usize,
    })
}

fn warehouse(read: Reader<'_>) -> Result<WarehouseConfig, ConfigError> {
    let slice_ms = read.duration_ms("warehouse.slice")?;
    if slice_ms < SECOND_MS || DAY_MS % slice_ms != 0 {
        return Err(read.invalid(
            "warehouse.slice",
            "must be at least 1s and divide a day; choose 1m, 5m, 15m, 1h or the like",
        ));
    }
    Ok(WarehouseConfig {
        output: PathBuf::from(read.filled("warehouse.output")?),
        slice_ms,
    })
}

fn console(read: Reader<'_>) -> Result<ConsoleConfig, ConfigError> {
    let choices = [
        ("none", ConsoleAuth::None),
        ("token", ConsoleAuth::Token),
        ("proxy", ConsoleAuth::Proxy),
    ];
    let auth = read.one_of("console.auth", &choices)?;
    let users_file = read.path("console.users_file");
    if auth != ConsoleAuth::None && users_file.is_none() {
        return Err(read.invalid(
            "console.auth",
            "needs console.users_file, which says who may see which shops; set it",
        ));
    }
    let header = |path: &str| {
        let name = read.filled(path)?.to_lowercase();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.chars().all(legal) {
            Ok(name)
        } else {
            Err(read.invalid(path, "not the name of a header; write it like x-forwarded-user"))
        }
    };
    let session_ms = read.duration_ms("console.session")?;
    if !(MINUTE_MS..=31 * DAY_MS).contains(&session_ms) {
        return Err(read.invalid("console.session", "must be 1m to 31d"));
    }
    let session_key = match read.secret_file("console.session_key_file")? {
        None => None,
        Some(text) => Some(Secret::new(parse_key(text.reveal()).ok_or_else(|| {
            read.invalid(
                "console.session_key_file",
                "the key must be 64 hexadecimal digits (32 bytes); make one with: openssl rand -hex 32",
            )
        })?)),
    };
    Ok(ConsoleConfig {
        auth,
        users_file,
        trusted_proxies: networks(read, "console.trusted_proxies")?,
        proxy_user_header: header("console.proxy_user_header")?,
        proxy_groups_header: header("console.proxy_groups_header")?,
        session: Duration::from_millis(session_ms.unsigned_abs()),
        session_key,
        secure_cookie: read.boolean("console.secure_cookie"),
        locale: read.one_of("console.locale", &[("zh", "zh"), ("en", "en")])?,
        max_streams: read.int_in("console.max_streams", 1, 1_000_000)? as usize,
        past_alerts: read.int_in("console.past_alerts", 0, 1_000_000)? as usize,
    })
}

/// Addresses and networks, separated by commas.
fn networks(read: Reader<'_>, path: &str) -> Result<Vec<IpNet>, ConfigError> {
    let parts = read.text(path).split(',').map(str::trim).filter(|part| !part.is_empty());
    let network = |part: &str| part.parse().or_else(|_| part.parse::<IpAddr>().map(IpNet::from));
    parts
        .map(|part| {
            network(part).map_err(|_| {
                read.invalid(
                    path,
                    &format!("{part} is neither an address nor a network; write them like 10.1.2.3 or 10.0.0.0/8"),
                )
            })
        })
        .collect()
}

/// A token is a secret that nobody can guess, however many try.
const API_TOKEN_LEN_MIN: usize = 16;

fn alerter(read: Reader<'_>) -> Result<AlerterConfig, ConfigError> {
    let console_url = read.text("alerter.console_url").trim_end_matches('/');
    if !console_url.is_empty() && !console_url.starts_with("http://") && !console_url.starts_with("https://") {
        return Err(read.invalid("alerter.console_url", "not an address; write it like https://peakdesk.example"));
    }
    let behind_max_ms = read.duration_ms("alerter.behind_max")?;
    if behind_max_ms < SECOND_MS {
        return Err(read.invalid("alerter.behind_max", "must be at least 1s"));
    }
    let api_token = read.secret_file("alerter.api_token_file")?;
    if api_token.as_ref().is_some_and(|token| token.reveal().len() < API_TOKEN_LEN_MIN) {
        return Err(read.invalid(
            "alerter.api_token_file",
            "the token is shorter than 16 characters; make a longer one",
        ));
    }
    Ok(AlerterConfig {
        routes_file: read.path("alerter.routes_file"),
        state_dir: PathBuf::from(read.filled("alerter.state_dir")?),
        language: read.one_of("alerter.language", &[("zh", "zh"), ("en", "en")])?,
        console_url: Some(console_url.to_owned()).filter(|url| !url.is_empty()),
        behind_max_ms,
        api_token,
    })
}

fn http_listen(read: Reader<'_>) -> Result<Option<SocketAddr>, ConfigError> {
    match read.text("http.listen") {
        "" => Ok(None),
        text => text
            .parse()
            .map(Some)
            .map_err(|_| read.invalid("http.listen", "not an address and port; write it like 127.0.0.1:9464 or [::]:9464")),
    }
}

fn consumer_patience(read: Reader<'_>) -> Result<Duration, ConfigError> {
    let ms = read.duration_ms("health.consumer_patience")?;
    match u64::try_from(ms) {
        Ok(ms) if ms >= 1_000 => Ok(Duration::from_millis(ms)),
        _ => Err(read.invalid("health.consumer_patience", "must be 1s or more")),
    }
}

fn log(read: Reader<'_>) -> Result<LogConfig, ConfigError> {
    let level = read.filled("log.level")?;
    if level.parse::<tracing_subscriber::EnvFilter>().is_err() {
        return Err(read.invalid(
            "log.level",
            "not a filter; write error, warn, info, debug or trace, or info,peakdesk_intake=debug",
        ));
    }
    Ok(LogConfig {
        format: read.one_of("log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])?,
        level,
    })
}

/// Reads single settings. That a setting is there, and of its type, the layers have seen to.
#[derive(Clone, Copy)]
struct Reader<'l> {
    layers: &'l Layers,
}

impl<'l> Reader<'l> {
    fn invalid(self, path: &str, problem: &str) -> ConfigError {
        let value = self.layers.get(path).map(|setting| shown(path, setting));
        self.error(path, value.unwrap_or_default(), problem)
    }

    fn invalid_hidden(self, path: &str, problem: &str) -> ConfigError {
        self.error(path, REDACTED.to_owned(), problem)
    }

    /// The setting of the two that is not a default is the one to be named first.
    fn invalid_pair(self, path: &str, relation: &str, other: &str) -> ConfigError {
        let bound = self
            .layers
            .get(other)
            .map_or_else(String::new, |setting| format!("{} ({})", setting.value, setting.origin));
        self.invalid(path, &format!("{relation} {other} = {bound}; change one of them"))
    }

    fn error(self, path: &str, shown: String, problem: &str) -> ConfigError {
        let origin = self.layers.get(path).map_or(Origin::Default, |setting| setting.origin.clone());
        ConfigError::Invalid {
            origin,
            key: path.to_owned(),
            shown,
            problem: problem.to_owned(),
        }
    }

    fn is_default(self, path: &str) -> bool {
        self.layers.get(path).is_none_or(|setting| setting.origin == Origin::Default)
    }

    fn text(self, path: &str) -> &'l str {
        self.layers.get(path).and_then(|setting| setting.value.as_str()).unwrap_or_default()
    }

    fn filled(self, path: &str) -> Result<String, ConfigError> {
        match self.text(path).trim() {
            "" => Err(self.invalid(path, "must not be empty")),
            text => Ok(text.to_owned()),
        }
    }

    fn boolean(self, path: &str) -> bool {
        self.layers
            .get(path)
            .and_then(|setting| setting.value.as_bool())
            .unwrap_or_default()
    }

    fn float(self, path: &str) -> f64 {
        self.layers
            .get(path)
            .and_then(|setting| setting.value.as_float())
            .unwrap_or_default()
    }

    fn int_in(self, path: &str, least: i64, most: i64) -> Result<i64, ConfigError> {
        let value = self
            .layers
            .get(path)
            .and_then(|setting| setting.value.as_integer())
            .unwrap_or_default();
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(self.invalid(path, &format!("must be {least} to {most}")))
        }
    }

    fn duration_ms(self, path: &str) -> Result<i64, ConfigError> {
        parse_duration_ms(self.text(path)).ok_or_else(|| {
            self.invalid(
                path,
                "not a duration; write a whole number and a unit, like 200ms, 30s, 15m, 24h or 7d",
            )
        })
    }

    fn one_of<T: Copy>(self, path: &str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let chosen = choices.iter().find(|(name, _)| *name == self.text(path)).map(|(_, value)| *value);
        chosen.ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.invalid(path, &format!("must be {}", names.join(" or ")))
        })
    }

    fn topic(self, path: &str) -> Result<String, ConfigError> {
        let name = self.text(path);
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(legal) {
            return Err(self.invalid(path, "not a topic name; use 1 to 249 of the characters a-z A-Z 0-9 . _ -"));
        }
        Ok(name.to_owned())
    }

    fn path(self, path: &str) -> Option<PathBuf> {
        Some(self.text(path)).filter(|text| !text.is_empty()).map(PathBuf::from)
    }

    /// A secret that may be given itself or in a file.
    fn secret_or_file(self, path: &str, file_path: &str) -> Result<Option<Secret<String>>, ConfigError> {
        let given = Some(self.text(path))
            .filter(|text| !text.is_empty())
            .map(|text| Secret::new(text.to_owned()));
        match (given, self.secret_file(file_path)?) {
            (Some(_), Some(_)) => Err(self.invalid(file_path, &format!("{path} is set too; keep one of them"))),
            (given, from_file) => Ok(given.or(from_file)),
        }
    }

    /// The content of a secret file without the end of its line; `None` where no file is named.
    fn secret_file(self, path: &str) -> Result<Option<Secret<String>>, ConfigError> {
        let Some(file) = self.path(path) else { return Ok(None) };
        let text = read_secret(&file).map_err(|error| self.invalid(path, &format!("cannot be read: {error}; give a readable file")))?;
        match text.trim_end_matches(['\r', '\n']) {
            "" => Err(self.invalid(path, "the file is empty; put the secret into it")),
            text => Ok(Some(Secret::new(text.to_owned()))),
        }
    }
}

fn read_secret(file: &Path) -> std::io::Result<String> {
    if std::fs::metadata(file)?.len() > SECRET_FILE_LEN_MAX {
        return Err(std::io::Error::other("too large for a secret"));
    }
    std::fs::read_to_string(file)
}
