//! From the text of a routes file to receivers and routes.

use super::*;
use peakdesk_model::time::{MINUTE_MS, SECOND_MS, parse_duration_ms};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Names are labels of metrics: there are few of them, and short ones.
const NAME_LEN_MAX: usize = 40;
const RECEIVERS_MAX: usize = 64;
const ROUTES_MAX: usize = 1_000;
/// A secret or an address is one line.
const SECRET_FILE_LEN_MAX: u64 = 64 << 10;
/// A part of a path at least this long may be a token.
const TOKEN_LEN_MIN: usize = 20;
const TEMPLATE_FILE_LEN_MAX: u64 = 256 << 10;

/// Of a DingTalk or WeCom robot: more than 20 messages within a minute are refused, and the robot is silenced for a while.
const ROBOT_PER_MINUTE: u32 = 20;
/// Of a Feishu bot.
const FEISHU_PER_MINUTE: u32 = 100;
const WEBHOOK_PER_MINUTE: u32 = 60;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlan {
    #[serde(default)]
    receiver: Vec<RawReceiver>,
    #[serde(default)]
    route: Vec<RawRoute>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawReceiver {
    name: String,
    r#type: String,
    url: Option<String>,
    url_file: Option<PathBuf>,
    url_env: Option<String>,
    secret_file: Option<PathBuf>,
    secret_env: Option<String>,
    bearer_file: Option<PathBuf>,
    bearer_env: Option<String>,
    language: Option<String>,
    per_minute: Option<u32>,
    timeout: Option<String>,
    tries: Option<u32>,
    retry_max: Option<String>,
    resend: Option<String>,
    template: Option<String>,
    template_file: Option<PathBuf>,
    content_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    name: Option<String>,
    #[serde(default)]
    shops: Vec<String>,
    #[serde(default)]
    rules: Vec<String>,
    severity: Option<String>,
    receivers: Vec<String>,
    #[serde(default)]
    r#continue: bool,
    group_by: Option<Vec<String>>,
    group_wait: Option<String>,
    group_interval: Option<String>,
    repeat_interval: Option<String>,
    #[serde(default)]
    quiet_hours: Vec<String>,
    #[serde(default)]
    critical_passes: bool,
}

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

pub(super) fn plan(text: &str, language: Language, env: Env<'_>) -> Result<Plan, String> {
    let raw: RawPlan = toml::from_str(text).map_err(|e| {
        let line = e.span().map_or(1, |s| text.get(..s.start).unwrap_or("").matches('\n').count() + 1);
        let message = e.message().split_whitespace().collect::<Vec<_>>().join(" ");
        format!("line {line}: {message}; correct the file, schemas/alerter.example.toml shows every key")
    })?;
    if raw.receiver.is_empty() || raw.receiver.len() > RECEIVERS_MAX {
        let n = raw.receiver.len();
        return Err(format!("it has {n} receivers; write 1 to {RECEIVERS_MAX} tables [[receiver]]"));
    }
    if raw.route.is_empty() || raw.route.len() > ROUTES_MAX {
        let n = raw.route.len();
        return Err(format!("it has {n} routes; write 1 to {ROUTES_MAX} tables [[route]]"));
    }
    let mut plan = Plan {
        receivers: Vec::new(),
        routes: Vec::new(),
    };
    for receiver in raw.receiver {
        let name = name(&receiver.name)?;
        let place = |problem: String| format!("receiver {name}: {problem}");
        if plan.receiver(&name).is_some() {
            return Err(place("there are two of this name; rename one".into()));
        }
        plan.receivers
            .push(self::receiver(receiver, name.clone(), language, env).map_err(place)?);
    }
    for (at, route) in raw.route.into_iter().enumerate() {
        let name = match &route.name {
            Some(given) => name(given)?,
            None => format!("route-{}", at + 1),
        };
        let place = |problem: String| format!("route {name}: {problem}");
        if plan.route(&name).is_some() {
            return Err(place("there are two of this name; rename one".into()));
        }
        let route = self::route(route, name.clone(), &plan.receivers).map_err(place)?;
        plan.routes.push(route);
    }
    Ok(plan)
}

fn name(text: &str) -> Result<String, String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > NAME_LEN_MAX || !text.chars().all(legal) {
        return Err(format!(
            "name {text:?}: not a name; use 1 to {NAME_LEN_MAX} of the characters a-z A-Z 0-9 . _ -"
        ));
    }
    Ok(text.to_owned())
}

fn receiver(raw: RawReceiver, name: String, default_language: Language, env: Env<'_>) -> Result<Receiver, String> {
    let secret = |what: &str, file: &Option<PathBuf>, variable: &Option<String>| secret(what, file.as_deref(), variable.as_deref(), env);
    let kind = kind(&raw)?;
    let url = url(&raw, secret("url", &raw.url_file, &raw.url_env)?)?;
    let signing = secret("secret", &raw.secret_file, &raw.secret_env)?;
    let bearer = secret("bearer", &raw.bearer_file, &raw.bearer_env)?;
    let is_alertmanager = matches!(kind, Kind::Alertmanager { .. });
    if signing.is_some() && matches!(kind, Kind::Alertmanager { .. } | Kind::Wecom) {
        return Err(format!("secret_file and secret_env are not for {}; remove them", kind.name()));
    }
    if bearer.is_some() && !matches!(kind, Kind::Alertmanager { .. } | Kind::Webhook { .. }) {
        return Err(format!("bearer_file and bearer_env are not for {}; remove them", kind.name()));
    }
    let language = match raw.language.as_deref() {
        None => default_language,
        Some(text) => Language::from_name(text).ok_or_else(|| format!("language = {text:?}: must be zh or en"))?,
    };
    let per_minute = match (&kind, raw.per_minute) {
        (Kind::Alertmanager { .. }, Some(_)) => return Err("per_minute is not for alertmanager; remove it".into()),
        (_, Some(0)) => return Err("per_minute = 0: must be at least 1".into()),
        (_, Some(n)) => n.min(10_000),
        (Kind::Alertmanager { .. }, None) => 0,
        (Kind::Feishu, None) => FEISHU_PER_MINUTE,
        (Kind::Dingtalk | Kind::Wecom, None) => ROBOT_PER_MINUTE,
        (Kind::Webhook { .. }, None) => WEBHOOK_PER_MINUTE,
    };
    let timeout_ms = duration("timeout", &raw.timeout, "10s")?;
    if !(100..=MINUTE_MS).contains(&timeout_ms) {
        return Err("timeout: must be 100ms to 1m".into());
    }
    let retry_max_ms = duration("retry_max", &raw.retry_max, if is_alertmanager { "15s" } else { "1m" })?;
    if !(SECOND_MS..=60 * MINUTE_MS).contains(&retry_max_ms) {
        return Err("retry_max: must be 1s to 1h".into());
    }
    let tries_max = raw.tries.unwrap_or(5);
    if !(1..=100).contains(&tries_max) {
        return Err("tries: must be 1 to 100".into());
    }
    Ok(Receiver {
        name,
        kind,
        url,
        secret: signing,
        bearer,
        language,
        per_minute,
        timeout: Duration::from_millis(timeout_ms.unsigned_abs()),
        tries_max,
        retry_max_ms,
    })
}

fn kind(raw: &RawReceiver) -> Result<Kind, String> {
    let is = |name: &str| raw.r#type == name;
    if raw.resend.is_some() && !is("alertmanager") {
        return Err("resend is only for alertmanager; remove it".into());
    }
    if !is("webhook") && (raw.template.is_some() || raw.template_file.is_some() || raw.content_type.is_some()) {
        return Err("template, template_file and content_type are only for webhook; remove them".into());
    }
    match raw.r#type.as_str() {
        "dingtalk" => Ok(Kind::Dingtalk),
        "feishu" => Ok(Kind::Feishu),
        "wecom" => Ok(Kind::Wecom),
        "alertmanager" => {
            let resend_ms = duration("resend", &raw.resend, "1m")?;
            if !(SECOND_MS..=60 * MINUTE_MS).contains(&resend_ms) {
                return Err("resend: must be 1s to 1h".into());
            }
            Ok(Kind::Alertmanager { resend_ms })
        }
        "webhook" => {
            let text = match (&raw.template, &raw.template_file) {
                (Some(_), Some(_)) => return Err("template and template_file are both set; keep one of them".into()),
                (Some(text), None) => Some(text.clone()),
                (None, Some(file)) => Some(read_file(file, TEMPLATE_FILE_LEN_MAX).map_err(|e| format!("template_file {e}"))?),
                (None, None) => None,
            };
            let template = text.map(|text| Template::parse(&text)).transpose()?;
            let content_type = raw.content_type.clone().unwrap_or_else(|| "application/json".into());
            if content_type.is_empty() || !content_type.chars().all(|c| (' '..='~').contains(&c)) {
                return Err("content_type: not a media type; write it like text/plain".into());
            }
            Ok(Kind::Webhook { template, content_type })
        }
        other => Err(format!(
            "type = {other:?}: must be alertmanager, dingtalk, feishu, wecom or webhook"
        )),
    }
}

fn url(raw: &RawReceiver, hidden: Option<Secret<String>>) -> Result<Secret<String>, String> {
    let url = match (&raw.url, hidden) {
        (Some(_), Some(_)) => return Err("url is set, and url_file or url_env too; keep one of them".into()),
        (None, None) => return Err("it has no address; set url_file or url_env (or url, where it holds no secret)".into()),
        (None, Some(hidden)) => hidden,
        (Some(url), None) => {
            let is_open = matches!(raw.r#type.as_str(), "alertmanager" | "webhook");
            if !is_open || url.contains(['@', '?']) || has_token(url) {
                return Err(
                    "the address may hold a secret (a token, a password); put it into a file and name that as url_file, or set url_env"
                        .into(),
                );
            }
            Secret::new(url.clone())
        }
    };
    let rest = url
        .reveal()
        .strip_prefix("http://")
        .or_else(|| url.reveal().strip_prefix("https://"));
    let authority = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or(""));
    let legal = |c: char| ('!'..='~').contains(&c);
    if authority.is_none_or(str::is_empty) || !url.reveal().chars().all(legal) {
        return Err("its address is not one; it must begin with http:// or https:// and a host".into());
    }
    Ok(url)
}

/// Whether a part of the path looks like a token, as in the webhooks of chat platforms: long, and of letters and digits.
fn has_token(url: &str) -> bool {
    let is_token = |part: &str| {
        let legal = part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        let has = |class: fn(&char) -> bool| part.chars().any(|c| class(&c));
        part.len() >= TOKEN_LEN_MIN && legal && has(char::is_ascii_digit) && has(char::is_ascii_alphabetic)
    };
    url.split('/').skip(3).any(is_token)
}

/// A secret from a file or a variable of the environment.
fn secret(what: &str, file: Option<&Path>, variable: Option<&str>, env: Env<'_>) -> Result<Option<Secret<String>>, String> {
    let text = match (file, variable) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => return Err(format!("{what}_file and {what}_env are both set; keep one of them")),
        (Some(file), None) => read_file(file, SECRET_FILE_LEN_MAX).map_err(|e| format!("{what}_file {e}"))?,
        (None, Some(name)) => env(name).ok_or_else(|| format!("{what}_env = {name:?}: the environment has no such variable; set it"))?,
    };
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("the {what} is empty; put it into the file or variable")),
        text if text.contains(['\r', '\n']) => Err(format!("the {what} has more than one line; keep one")),
        text => Ok(Some(Secret::new(text.to_owned()))),
    }
}

fn read_file(file: &Path, len_max: u64) -> Result<String, String> {
    let failed = |e: std::io::Error| format!("{}: cannot be read: {e}; give a readable file", file.display());
    if std::fs::metadata(file).map_err(failed)?.len() > len_max {
        return Err(format!("{}: larger than {len_max} bytes; is it the right file?", file.display()));
    }
    std::fs::read_to_string(file).map_err(failed)
}

fn duration(key: &str, value: &Option<String>, default: &str) -> Result<i64, String> {
    let text = value.as_deref().unwrap_or(default);
    parse_duration_ms(text).ok_or_else(|| format!("{key} = {text:?}: not a duration; write a whole number and a unit, like 5s, 15m or 4h"))
}

fn route(raw: RawRoute, name: String, receivers: &[Receiver]) -> Result<Route, String> {
    if raw.receivers.is_empty() {
        return Err("it has no receivers; name at least one".into());
    }
    for receiver in &raw.receivers {
        let Some(known) = receivers.iter().find(|r| r.name == *receiver) else {
            let names: Vec<&str> = receivers.iter().map(|r| r.name.as_str()).collect();
            return Err(format!("there is no receiver {receiver:?}; the file has {}", names.join(", ")));
        };
        if !raw.quiet_hours.is_empty() && matches!(known.kind, Kind::Alertmanager { .. }) {
            return Err(format!(
                "quiet_hours are not for {receiver}: alertmanager has mute_time_intervals of its own; use a route without them"
            ));
        }
    }
    let rule = |text: &String| {
        let names: BTreeMap<&str, Rule> = Rule::ALL.iter().map(|r| (r.name(), *r)).collect();
        let known = || names.keys().copied().collect::<Vec<_>>().join(", ");
        names
            .get(text.as_str())
            .copied()
            .ok_or_else(|| format!("there is no rule {text:?}; the rules are {}", known()))
    };
    let group = |text: &String| match text.as_str() {
        "shop" => Ok(GroupBy::Shop),
        "rule" => Ok(GroupBy::Rule),
        "agent" => Ok(GroupBy::Agent),
        "severity" => Err("group_by cannot hold \"severity\": alerts change it; use routes of different severity".to_owned()),
        other => Err(format!("group_by: {other:?} is not one of shop, rule, agent")),
    };
    let hours = |text: &String| {
        Hours::parse(text).ok_or_else(|| format!("quiet_hours: {text:?} is not a part of a day; write it like 23:00-08:00"))
    };
    let severity = match raw.severity.as_deref() {
        None => Severity::Warning,
        Some(text) => Severity::from_name(text).ok_or_else(|| format!("severity = {text:?}: must be warning, major or critical"))?,
    };
    let default_groups = vec!["shop".to_owned(), "rule".to_owned()];
    Ok(Route {
        name,
        shops: raw.shops.iter().map(|s| Glob::new(s)).collect(),
        rules: raw.rules.iter().map(rule).collect::<Result<_, _>>()?,
        severity,
        receivers: raw.receivers,
        and_on: raw.r#continue,
        group_by: raw.group_by.unwrap_or(default_groups).iter().map(group).collect::<Result<_, _>>()?,
        group_wait_ms: duration("group_wait", &raw.group_wait, "5s")?,
        group_interval_ms: duration("group_interval", &raw.group_interval, "1m")?,
        repeat_interval_ms: duration("repeat_interval", &raw.repeat_interval, "4h")?,
        quiet: raw.quiet_hours.iter().map(hours).collect::<Result<_, _>>()?,
        critical_passes: raw.critical_passes,
    })
}
