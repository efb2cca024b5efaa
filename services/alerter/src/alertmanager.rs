//! The body of `POST /api/v2/alerts`.

use crate::message::{Change, Delivery, What};
use crate::routes::Language;
use crate::text;
use crate::words::{Words, advice, alertname, rule_name, severity_name, value};
use peakdesk_model::time::{DAY_MS, Day, format_date};
use serde_json::{Map, Value, json};

/// What fires holds for so many times the pause after which it is sent again, so that a lost request or two do not end it; as Prometheus does.
pub const HOLDS_TIMES: i64 = 4;

/// The body, at a moment (ms, wall time).
pub fn body(delivery: &Delivery, words: &Words, resend_ms: i64, now: i64) -> String {
    let alerts: Vec<Value> = delivery.changes().map(|c| alert(c, words, resend_ms, now)).collect();
    Value::Array(alerts).to_string()
}

fn alert(change: &Change, words: &Words, resend_ms: i64, now: i64) -> Value {
    let alert = &change.alert;
    let mut labels = Map::new();
    let mut label = |name: &str, value: &str| labels.insert(name.into(), value.into());
    label("alertname", &alertname(alert.rule));
    label("rule", alert.rule.name());
    label("shop", &alert.shop);
    if let Some(agent) = &alert.agent {
        label("agent", agent);
    }
    label("severity", change.severity.name());
    let ends_at = match change.what {
        What::Resolved => change.ends_at.unwrap_or(now),
        _ => now + resend_ms * HOLDS_TIMES,
    };
    let mut whole = json!({
        "labels": labels,
        "annotations": annotations(change, words),
        "startsAt": rfc3339(alert.starts_at),
        "endsAt": rfc3339(ends_at),
    });
    if let Some(url) = &words.console_url
        && let Some(whole) = whole.as_object_mut()
    {
        whole.insert("generatorURL".into(), format!("{url}/alerts?shop={}", encoded(&alert.shop)).into());
    }
    whole
}

fn annotations(change: &Change, words: &Words) -> Value {
    let alert = &change.alert;
    let since = words.time(alert.onset, alert.at);
    let (name, who) = (rule_name(alert.rule, words.language), text::who(alert, words));
    let (bad, value) = (severity_name(change.severity, words.language), value(alert, words));
    let advice = advice(alert.rule, words.language);
    let (summary, description) = match words.language {
        Language::Chinese => (format!("{name}：{who}"), format!("{bad}：{value}，自 {since} 起。建议：{advice}")),
        Language::English => (
            format!("{name}: {who}"),
            format!("{bad}: {value}, since {since}. What to do: {advice}."),
        ),
    };
    json!({
        "summary": summary,
        "description": description,
        "value": value,
        "since": since,
        "what_to_do": advice,
        "alert_id": &*alert.id,
    })
}

/// A value of a query.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// `2025-11-11T00:00:00.123Z`
fn rfc3339(ms: i64) -> String {
    let time = ms.rem_euclid(DAY_MS);
    let (seconds, millis) = (time / 1_000, time % 1_000);
    format!(
        "{}T{:02}:{:02}:{:02}.{millis:03}Z",
        format_date(ms.div_euclid(DAY_MS) as Day),
        seconds / 3_600,
        seconds / 60 % 60,
        seconds % 60
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::alert::Alert;
    use crate::alert::tests::row;
    use crate::message::Part;
    use peakdesk_model::alert::{Severity, TransitionKind};
    use peakdesk_model::time::UtcOffset;

    fn parsed(what: What, ends_at: Option<i64>) -> Value {
        let alert = Alert::new(
            &row("a", 1_762_790_400_000, 0, TransitionKind::Firing, Severity::Major),
            0,
            1_762_790_500_000,
            1_762_790_460_000,
        );
        let change = Change {
            what,
            severity: alert.severity,
            alert,
            ends_at,
        };
        let part = Part {
            group: String::new(),
            changes: vec![change],
            open: [0; 3],
            repeats: 0,
            since: 0,
        };
        let words = Words {
            language: Language::English,
            offset: UtcOffset::CHINA,
            console_url: Some("https://desk.example".into()),
        };
        let delivery = Delivery::new("am", vec![part], 5);
        serde_json::from_str(&body(&delivery, &words, 60_000, 1_762_790_510_000)).unwrap()
    }

    #[test]
    fn an_alert_that_fires() {
        let body = parsed(What::Firing, None);
        assert_eq!(
            body[0]["labels"],
            json!({"alertname": "PeakdeskBuyerWaiting", "rule": "buyer_waiting", "shop": "s1", "agent": "a", "severity": "major"})
        );
        assert_eq!(body[0]["startsAt"], "2025-11-10T16:00:40.000Z");
        assert_eq!(body[0]["endsAt"], "2025-11-10T16:05:50.000Z");
        assert!(
            body[0]["generatorURL"]
                .as_str()
                .unwrap()
                .starts_with("https://desk.example/alerts?shop=s1")
        );
        assert_eq!(body[0]["annotations"]["summary"], "A buyer waits too long: shop s1, agent a");
        assert!(
            body[0]["annotations"]["description"]
                .as_str()
                .unwrap()
                .starts_with("major: longest wait 2 min, since 00:00:00. What to do: ")
        );
    }

    #[test]
    fn any_shop_goes_into_an_address() {
        assert_eq!(encoded("a b&店-1"), "a%20b%26%E5%BA%97-1");
    }

    #[test]
    fn one_that_is_over_ends_when_it_did() {
        assert_eq!(
            parsed(What::Resolved, Some(1_762_790_505_007))[0]["endsAt"],
            "2025-11-10T16:01:45.007Z"
        );
    }
}
