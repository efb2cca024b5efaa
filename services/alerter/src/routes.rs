//! Who is told of what: the receivers and routes of `alerter.routes_file`, validated.
//!
//! Routes are tried in order. The first that matches an alert decides, and those behind it are asked only if it says `continue`.
//! An alert that matches no route is told to nobody. Secrets (tokens, signing keys, and the address of a robot, which holds its token) stand in
//! files or in the environment, never in this file.
//!
//! Every error is one line: the file, where in it, what is wrong, what to do. See `schemas/alerter.example.toml` for every key.

use crate::alert::{Alert, Target};
use crate::glob::Glob;
use crate::quiet::Hours;
use crate::webhook::Template;
use peakdesk_model::alert::{Rule, Severity};
use peakdesk_runtime::secret::Secret;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

#[path = "routes_read.rs"]
mod read;

/// Why there are no routes. One line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("alerter routes file {}: {problem}", file.display())]
pub struct RoutesError {
    /// The file.
    pub file: PathBuf,
    /// Where in it, what is wrong and what to do.
    pub problem: String,
}

/// A language of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Chinese.
    Chinese,
    /// English.
    English,
}

impl Language {
    /// `zh` or `en`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "zh" => Some(Language::Chinese),
            "en" => Some(Language::English),
            _ => None,
        }
    }
}

/// What kind of receiver, and what it needs to be reached.
#[derive(Debug, Clone)]
pub enum Kind {
    /// Prometheus Alertmanager, API v2.
    Alertmanager {
        /// What fires is sent again this often (ms), and holds for four times as long.
        resend_ms: i64,
    },
    /// A robot of a DingTalk group.
    Dingtalk,
    /// A custom bot of a Feishu or Lark group.
    Feishu,
    /// A robot of a WeCom group.
    Wecom,
    /// Any HTTP address.
    Webhook {
        /// Makes the body; `None`: the alerter's own JSON.
        template: Option<Template>,
        /// Of the body.
        content_type: String,
    },
}

impl Kind {
    /// The name in the routes file and in `/api/deliveries`.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Alertmanager { .. } => "alertmanager",
            Kind::Dingtalk => "dingtalk",
            Kind::Feishu => "feishu",
            Kind::Wecom => "wecom",
            Kind::Webhook { .. } => "webhook",
        }
    }
}

/// Somebody to be told.
#[derive(Debug, Clone)]
pub struct Receiver {
    /// In routes, metrics and `/api/deliveries`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Its address, which may hold a token.
    pub url: Secret<String>,
    /// Signs what is sent.
    pub secret: Option<Secret<String>>,
    /// Goes into the header `authorization`.
    pub bearer: Option<Secret<String>>,
    /// Of its messages.
    pub language: Language,
    /// Messages within a minute; 0: no limit.
    pub per_minute: u32,
    /// For one attempt, from looking up the host to the last byte.
    pub timeout: Duration,
    /// Refusals after which a delivery has failed for good.
    pub tries_max: u32,
    /// The longest pause between attempts (ms).
    pub retry_max_ms: i64,
}

/// What messages of one route are grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum GroupBy {
    Shop,
    Rule,
    Agent,
}

/// Which alerts go where, and how.
#[derive(Debug, Clone)]
pub struct Route {
    /// In the state of the alerter; where none is given, its place in the file.
    pub name: String,
    shops: Vec<Glob>,
    rules: Vec<Rule>,
    severity: Severity,
    receivers: Vec<String>,
    and_on: bool,
    /// One message holds alerts that agree in these.
    pub group_by: Vec<GroupBy>,
    /// A new group waits this long for more (ms).
    pub group_wait_ms: i64,
    /// Two messages of a group are at least this far apart (ms); for what is critical the wait of a new group is enough.
    pub group_interval_ms: i64,
    /// What still fires is told again after this long (ms); 0: never.
    pub repeat_interval_ms: i64,
    /// No message within these.
    pub quiet: Vec<Hours>,
    /// But for what is critical.
    pub critical_passes: bool,
}

impl Route {
    fn matches(&self, alert: &Alert) -> bool {
        (self.shops.is_empty() || self.shops.iter().any(|g| g.matches(&alert.shop)))
            && (self.rules.is_empty() || self.rules.contains(&alert.rule))
            && alert.severity >= self.severity
    }

    /// The group of an alert: the values it is grouped by.
    pub fn group_of(&self, alert: &Alert) -> String {
        let part = |by: &GroupBy| match by {
            GroupBy::Shop => &alert.shop,
            GroupBy::Rule => alert.rule.name(),
            GroupBy::Agent => alert.agent.as_deref().unwrap_or(""),
        };
        // Ids hold no control characters.
        let parts: Vec<&str> = self.group_by.iter().map(part).collect();
        parts.join("\u{1f}")
    }
}

/// All receivers and routes.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In the order of the file.
    pub receivers: Vec<Receiver>,
    /// In the order of the file.
    pub routes: Vec<Route>,
}

impl Plan {
    /// Reads the file and every secret and template it names. `language` is that of receivers without one of their own.
    pub fn load(file: &Path, language: Language) -> Result<Self, RoutesError> {
        let failed = |problem| RoutesError {
            file: file.to_owned(),
            problem,
        };
        let text = std::fs::read_to_string(file).map_err(|e| failed(format!("cannot be read: {e}; give a readable file")))?;
        read::plan(&text, language, &|name| std::env::var(name).ok()).map_err(failed)
    }

    /// Reads a text instead of a file.
    #[cfg(test)]
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        read::plan(text, Language::English, &|name| {
            name.strip_prefix("TEST_").map(|rest| format!("http://127.0.0.1:1/{rest}"))
        })
    }

    /// Whom an alert is told to; by the first route where two lead to the same receiver.
    pub fn targets(&self, alert: &Alert) -> BTreeSet<Target> {
        let mut targets: Vec<Target> = Vec::new();
        for route in self.routes.iter().filter(|r| r.matches(alert)) {
            for receiver in &route.receivers {
                if !targets.iter().any(|t| t.receiver == *receiver) {
                    targets.push(Target {
                        receiver: receiver.clone(),
                        route: route.name.clone(),
                    });
                }
            }
            if !route.and_on {
                break;
            }
        }
        targets.into_iter().collect()
    }

    /// The route of this name.
    pub fn route(&self, name: &str) -> Option<&Route> {
        self.routes.iter().find(|r| r.name == name)
    }

    /// The receiver of this name.
    pub fn receiver(&self, name: &str) -> Option<&Receiver> {
        self.receivers.iter().find(|r| r.name == name)
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
