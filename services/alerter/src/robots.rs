//! The published rules of each kind of receiver: what a request looks like, how it is signed, which answer means that it was taken.
//!
//! | receiver | signature | taken | limits |
//! | --- | --- | --- | --- |
//! | DingTalk | `sign` in the address: base64 of HMAC-SHA256(secret, `timestamp_ms \n secret`), URL-encoded | 200, `errcode` 0 | 20 a minute |
//! | Feishu | `sign` in the body: base64 of HMAC-SHA256(key `timestamp_s \n secret`, no data) | 200, `code` 0 | 100 a minute, 5 a second, 20 KB |
//! | WeCom | the key in the address | 200, `errcode` 0 | 20 a minute, 4,096 bytes of Markdown |
//! | webhook | headers, see `schemas/alerter.example.toml` | 2xx | – |
//! | Alertmanager | bearer token | 2xx | – |

use crate::alertmanager;
use crate::message::{Delivery, Outcome};
use crate::routes::{Kind, Receiver};
use crate::text;
use crate::webhook;
use crate::words::Words;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

/// Of WeCom's Markdown.
const WECOM_BYTES_MAX: usize = 4_096;
/// A little below the 20 KB of a whole request to Feishu or DingTalk.
const ROBOT_BYTES_MAX: usize = 16_000;
/// Of the text in a webhook's JSON.
const WEBHOOK_BYTES_MAX: usize = 32_000;
/// A receiver that asks for more rest than this gets less (ms).
const WAIT_MAX_MS: i64 = 600_000;

/// A request; all of it may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    /// Where to, with tokens and signatures.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(&'static str, String)>,
    /// What.
    pub body: String,
}

/// The request of an attempt at a moment (ms, wall time); an error where a template fails.
pub fn request(receiver: &Receiver, delivery: &Delivery, words: &Words, now: i64) -> Result<Request, String> {
    let mut url = receiver.url.reveal().clone();
    let secret = receiver.secret.as_ref().map(|s| s.reveal().as_str());
    let mut headers = vec![("idempotency-key", delivery.id.clone())];
    if let Some(token) = &receiver.bearer {
        headers.push(("authorization", format!("Bearer {}", token.reveal())));
    }
    let mut content_type = "application/json";
    let body = match &receiver.kind {
        Kind::Alertmanager { resend_ms } => {
            url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
            alertmanager::body(delivery, words, *resend_ms, now)
        }
        Kind::Dingtalk => {
            if let Some(secret) = secret {
                let separator = if url.contains('?') { '&' } else { '?' };
                url = format!("{url}{separator}timestamp={now}&sign={}", dingtalk_sign(secret, now));
            }
            let text = text::of(delivery, words, ROBOT_BYTES_MAX);
            json!({"msgtype": "markdown", "markdown": {"title": text.title, "text": text.body}}).to_string()
        }
        Kind::Feishu => feishu_body(delivery, words, secret, now / 1_000).to_string(),
        Kind::Wecom => {
            let text = text::of(delivery, words, WECOM_BYTES_MAX);
            json!({"msgtype": "markdown", "markdown": {"content": text.body}}).to_string()
        }
        Kind::Webhook {
            template,
            content_type: given,
        } => {
            content_type = given;
            let text = text::of(delivery, words, WEBHOOK_BYTES_MAX);
            let context = webhook::context(delivery, words, &text);
            let body = match template {
                Some(template) => template.render(&context)?,
                None => context.to_string(),
            };
            if let Some(secret) = secret {
                headers.push(("x-peakdesk-timestamp", now.to_string()));
                headers.push(("x-peakdesk-signature", format!("sha256={}", webhook_sign(secret, now, &body))));
            }
            body
        }
    };
    headers.push(("content-type", content_type.to_owned()));
    Ok(Request { url, headers, body })
}

fn feishu_body(delivery: &Delivery, words: &Words, secret: Option<&str>, now_s: i64) -> Value {
    let text = text::of(delivery, words, ROBOT_BYTES_MAX);
    let colour = if text.title.starts_with("[恢复]") || text.title.starts_with("[resolved]") {
        "green"
    } else {
        "red"
    };
    let mut body = json!({
        "msg_type": "interactive",
        "card": {
            "config": {"wide_screen_mode": true},
            "header": {"template": colour, "title": {"tag": "plain_text", "content": text.title}},
            "elements": [{"tag": "markdown", "content": text.body}],
        },
    });
    if let (Some(secret), Some(body)) = (secret, body.as_object_mut()) {
        body.insert("timestamp".into(), now_s.to_string().into());
        body.insert("sign".into(), feishu_sign(secret, now_s).into());
    }
    body
}

fn mac(key: &[u8], data: &[u8]) -> Vec<u8> {
    // A key of any length is one.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new();
    };
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

fn dingtalk_sign(secret: &str, now_ms: i64) -> String {
    let sign = STANDARD.encode(mac(secret.as_bytes(), format!("{now_ms}\n{secret}").as_bytes()));
    sign.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D")
}

fn feishu_sign(secret: &str, now_s: i64) -> String {
    STANDARD.encode(mac(format!("{now_s}\n{secret}").as_bytes(), b""))
}

fn webhook_sign(secret: &str, now_ms: i64, body: &str) -> String {
    let sign = mac(secret.as_bytes(), format!("{now_ms}.{body}").as_bytes());
    sign.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What an answer means. `retry_after_s` is the header of that name.
pub fn judge(kind: &Kind, status: u16, body: &str, retry_after_s: Option<i64>) -> Outcome {
    let wait_ms = retry_after_s.map(|s| s.saturating_mul(1_000).clamp(0, WAIT_MAX_MS));
    let why = || format!("status {status}: {}", one_line(body));
    match status {
        200..=299 => match kind {
            Kind::Alertmanager { .. } | Kind::Webhook { .. } => Outcome::Delivered,
            Kind::Dingtalk => judge_code(body, "errcode", "errmsg", &[-1, 130_101, 130_102, 410_100]),
            Kind::Feishu => judge_code(body, "code", "msg", &[11_232]),
            Kind::Wecom => judge_code(body, "errcode", "errmsg", &[-1, 45_009]),
        },
        // Not taken, says who was asked.
        408 | 425 | 429 | 503 => Outcome::NotNow { why: why(), wait_ms },
        500..=599 => Outcome::Unknown { why: why() },
        _ => Outcome::Refused { why: why() },
    }
}

/// The answer of a robot; codes of a busy platform or of too many messages pass.
fn judge_code(body: &str, code: &str, message: &str, passing: &[i64]) -> Outcome {
    let answer: Option<Value> = serde_json::from_str(body).ok();
    let number = answer.as_ref().and_then(|a| a.get(code)).and_then(Value::as_i64);
    let Some(number) = number else {
        // A login page, a proxy: not the platform.
        let why = format!("the answer has no {code}: {}", one_line(body));
        return Outcome::Refused { why };
    };
    let message = answer.as_ref().and_then(|a| a.get(message)).and_then(Value::as_str).unwrap_or("");
    let why = format!("{code} {number}: {}", one_line(message));
    match number {
        0 => Outcome::Delivered,
        number if passing.contains(&number) => Outcome::NotNow {
            why,
            wait_ms: Some(15_000),
        },
        _ => Outcome::Refused { why },
    }
}

fn one_line(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().take(200).collect()
}

#[cfg(test)]
#[path = "robots_tests.rs"]
mod tests;
