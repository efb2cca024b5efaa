//! The generic webhook: its JSON, and templates that make something else of it.

use crate::message::{Delivery, What};
use crate::text::{self, Text};
use crate::words::{Words, value};
use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Value, json};

/// A template that has been tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(String);

impl Template {
    /// Checks a template by making a body of an example; what it names and is not there is an error.
    pub fn parse(text: &str) -> Result<Self, String> {
        let template = Template(text.to_owned());
        template.render(&example()).map(|_| template)
    }

    /// The body.
    pub fn render(&self, context: &Value) -> Result<String, String> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment
            .render_str(&self.0, minijinja::Value::from(minijinja::value::Serde(context)))
            .map_err(|e| {
                let line = e.line().unwrap_or(1);
                let detail = e.detail().map(|d| format!(": {d}")).unwrap_or_default();
                format!(
                    "template: line {line}: {}{detail}; it is given message_id, receiver, status, title, text, firing, resolved, alerts",
                    e.kind()
                )
            })
    }
}

/// What a template is given, and what is sent where there is none.
pub fn context(delivery: &Delivery, words: &Words, text: &Text) -> Value {
    let alerts: Vec<Value> = delivery
        .changes()
        .map(|change| {
            let alert = &change.alert;
            json!({
                "what": change.what.name(),
                "alert_id": &*alert.id,
                "transition": alert.transition,
                "rule": alert.rule.name(),
                "shop": &*alert.shop,
                "agent": alert.agent.as_deref(),
                "severity": change.severity.name(),
                "value": value(alert, words),
                "value_num": alert.value_num,
                "value_den": alert.value_den,
                "onset_ms": alert.onset,
                "at_ms": alert.at,
                "line": text::line(change, words),
                "evidence": serde_json::from_str(&alert.evidence).unwrap_or(Value::Null),
            })
        })
        .collect();
    let resolved = delivery.count(What::Resolved);
    let firing = alerts.len() - resolved;
    json!({
        "message_id": delivery.id,
        "receiver": delivery.receiver,
        "status": if firing > 0 { "firing" } else { "resolved" },
        "title": text.title,
        "text": text.body,
        "firing": firing,
        "resolved": resolved,
        "alerts": alerts,
    })
}

fn example() -> Value {
    json!({
        "message_id": "0", "receiver": "r", "status": "firing", "title": "t", "text": "x", "firing": 1, "resolved": 0,
        "alerts": [{
            "what": "firing", "alert_id": "0", "transition": 0, "rule": "buyer_waiting", "shop": "s", "agent": "a",
            "severity": "warning", "value": "v", "value_num": 1, "value_den": 1, "onset_ms": 0, "at_ms": 0, "line": "l",
            "evidence": [{"buyer_key": "0", "since": 0, "age_ms": 1}],
        }],
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn templates_are_tried_before_they_are_needed() {
        let good = Template::parse("{% for a in alerts %}{{ a.agent | tojson }}:{{ a.evidence[0].age_ms }} {% endfor %}").unwrap();
        assert_eq!(good.render(&example()).unwrap(), "\"a\":1 ");
        for (bad, word) in [
            ("{{ titel }}", "undefined"),
            ("{% for %}", "syntax"),
            ("{{ title | shout }}", "shout"),
        ] {
            let problem = Template::parse(bad).unwrap_err();
            assert!(problem.starts_with("template: line 1: ") && problem.contains(word), "{problem}");
        }
    }
}
