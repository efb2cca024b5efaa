#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::alert::Alert;
use crate::alert::tests::row;
use crate::message::{Change, Part, What};
use crate::routes::{Language, Plan};
use peakdesk_model::alert::{Severity, TransitionKind};
use peakdesk_model::time::UtcOffset;

fn words() -> Words {
    Words {
        language: Language::Chinese,
        offset: UtcOffset::CHINA,
        console_url: None,
    }
}

fn delivery(n: usize) -> Delivery {
    let change = |i: usize| {
        let alert = Alert::new(&row(&format!("agent-{i}"), 5, 0, TransitionKind::Firing, Severity::Major), 0, 9, 9);
        Change {
            what: What::Firing,
            severity: alert.severity,
            alert,
            ends_at: None,
        }
    };
    let part = Part {
        group: "r\u{1f}s1".into(),
        changes: (0..n).map(change).collect(),
        open: [0, n as u32, 0],
        repeats: 0,
        since: 0,
    };
    Delivery::new("r", vec![part], 7)
}

fn receiver(more: &str) -> Receiver {
    let text = format!("[[receiver]]\nname = \"r\"\n{more}\n[[route]]\nreceivers = [\"r\"]\n");
    Plan::parse(&text).unwrap().receivers.remove(0)
}

// The expected signatures were computed with another program: Python's hmac, by the platforms' published examples.

#[test]
fn dingtalk_signs_in_the_address() {
    assert_eq!(
        dingtalk_sign("SECtest0123456789", 1_762_790_400_000),
        "YdnjxfKwevsafbS0%2FGT20JCDwwiTWOLyzFIqJBD09HM%3D"
    );
    let receiver = receiver("type = \"dingtalk\"\nurl_env = \"TEST_send?access_token=t\"\nsecret_env = \"TEST_x\"");
    let request = request(&receiver, &delivery(1), &words(), 1_762_790_400_000).unwrap();
    assert!(
        request
            .url
            .starts_with("http://127.0.0.1:1/send?access_token=t&timestamp=1762790400000&sign="),
        "{}",
        request.url
    );
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body["msgtype"], "markdown");
    assert_eq!(body["markdown"]["title"], "[重要] 买家等待过久 · 店铺 s1：1 条告警");
    assert!(body["markdown"]["text"].as_str().unwrap().contains("客服 agent-0"));
}

#[test]
fn feishu_signs_in_the_body() {
    assert_eq!(
        feishu_sign("feishu-demo-secret", 1_762_790_400),
        "qWW2nIOe8GruefDM3u6pKYiKzXohZNVKP85LXzpPtdM="
    );
    let receiver = receiver("type = \"feishu\"\nurl_env = \"TEST_hook\"\nsecret_env = \"TEST_x\"");
    let request = request(&receiver, &delivery(1), &words(), 1_762_790_400_999).unwrap();
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body["timestamp"], "1762790400");
    assert_eq!(body["sign"].as_str().unwrap().len(), 44);
    assert_eq!(body["msg_type"], "interactive");
    assert_eq!(body["card"]["elements"][0]["tag"], "markdown");
}

#[test]
fn webhooks_sign_time_and_body() {
    assert_eq!(
        webhook_sign("duty-secret", 1_762_790_400_000, "{\"a\":1}"),
        "85e4b4afc8a46f399c8e3c34e479d15aceeb807919fc15f4893768edf586e302"
    );
    let receiver =
        receiver("type = \"webhook\"\nurl = \"http://h\"\ntemplate = \"{{ message_id }} {{ firing }}\"\ncontent_type = \"text/plain\"");
    let delivery = delivery(3);
    let request = request(&receiver, &delivery, &words(), 5).unwrap();
    assert_eq!(request.body, format!("{} 3", delivery.id));
    assert!(request.headers.contains(&("idempotency-key", delivery.id)));
    assert!(request.headers.contains(&("content-type", "text/plain".into())));
}

#[test]
fn wecom_gets_no_more_than_it_takes() {
    let receiver = receiver("type = \"wecom\"\nurl_env = \"TEST_send?key=k\"");
    let request = request(&receiver, &delivery(300), &words(), 5).unwrap();
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let content = body["markdown"]["content"].as_str().unwrap();
    assert!(content.len() <= 4_096 && content.contains("新告警 300"), "{content}");
}

#[test]
fn answers_by_what_to_do() {
    let kind = |more: &str| receiver(more).kind;
    let dingtalk = kind("type = \"dingtalk\"\nurl_env = \"TEST_x\"");
    let feishu = kind("type = \"feishu\"\nurl_env = \"TEST_x\"");
    let wecom = kind("type = \"wecom\"\nurl_env = \"TEST_x\"");
    let webhook = kind("type = \"webhook\"\nurl = \"http://h\"");
    let name = |outcome: Outcome| match outcome {
        Outcome::Delivered => "delivered",
        Outcome::NotNow { .. } => "not now",
        Outcome::Refused { .. } => "refused",
        Outcome::Unknown { .. } => "unknown",
    };
    for (kind, status, body, expected) in [
        (&dingtalk, 200, r#"{"errcode":0,"errmsg":"ok"}"#, "delivered"),
        (&dingtalk, 200, r#"{"errcode":310000,"errmsg":"sign not match"}"#, "refused"),
        (&dingtalk, 200, r#"{"errcode":130101,"errmsg":"send too fast"}"#, "not now"),
        (&dingtalk, 200, "<html>", "refused"),
        (&feishu, 200, r#"{"code":0,"msg":"success","data":{}}"#, "delivered"),
        (&feishu, 200, r#"{"code":19021,"msg":"sign match fail"}"#, "refused"),
        (&feishu, 200, r#"{"code":11232,"msg":"frequency limited"}"#, "not now"),
        (&wecom, 200, r#"{"errcode":0,"errmsg":"ok"}"#, "delivered"),
        (&wecom, 200, r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#, "refused"),
        (&wecom, 200, r#"{"errcode":45009,"errmsg":"freq out of limit"}"#, "not now"),
        (&webhook, 204, "", "delivered"),
        (&webhook, 302, "", "refused"),
        (&webhook, 403, "", "refused"),
        (&webhook, 429, "", "not now"),
        (&webhook, 500, "", "unknown"),
        (&webhook, 503, "", "not now"),
    ] {
        assert_eq!(name(judge(kind, status, body, None)), expected, "{status} {body}");
    }
    let outcome = judge(&webhook, 429, "", Some(30));
    assert!(matches!(outcome, Outcome::NotNow { wait_ms: Some(30_000), .. }), "{outcome:?}");
}
