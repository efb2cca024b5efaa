//! Messages to chat robots, checked by the platforms' published rules; and secrets, which nobody gets to see.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use peakdesk_model::alert::Severity;
use peakdesk_tests::{Received, Receiver, Reply, Result, ensure, http, scene, wait_until};
use serde_json::json;
use sha2::Sha256;

use crate::alerter_support::{Desk, ROUTE, deliveries, fires, resolves, stays};
use crate::console_support::wall_ms;
use crate::support::{Role, SOON};

const DINGTALK_SECRET: &str = "SECdingtalk0123456789abcdef";
const FEISHU_SECRET: &str = "feishu-secret-0123456789";
const DUTY_SECRET: &str = "duty-secret-0123456789";
const DUTY_TOKEN: &str = "duty-token-0123456789";
/// In the addresses.
const TOKENS: [&str; 3] = ["dingtalk-token-0123456789", "feishu-token-0123456789", "wecom-key-0123456789"];

fn mac(key: &str, data: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(data.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn refuse(code: i64, message: &str) -> Reply {
    Reply::Now(
        200,
        json!({"errcode": code, "code": code, "errmsg": message, "msg": message}).to_string(),
    )
}

/// Timestamp and sign in the address, at most an hour old; Markdown with a title.
fn dingtalk(request: &Received) -> Reply {
    if request.query("access_token").as_deref() != Some(TOKENS[0]) {
        return refuse(300_001, "token is not exist");
    }
    let timestamp = request.query("timestamp").unwrap_or_default();
    let age = wall_ms() - timestamp.parse::<i64>().unwrap_or(0);
    let sign = STANDARD.encode(mac(DINGTALK_SECRET, &format!("{timestamp}\n{DINGTALK_SECRET}")));
    if age.abs() > 3_600_000 || request.query("sign") != Some(sign) {
        return refuse(310_000, "sign not match");
    }
    let body = request.json();
    let is_text = |at: &str| body["markdown"][at].as_str().is_some_and(|t| !t.is_empty());
    if body["msgtype"] == "markdown" && is_text("title") && is_text("text") && request.body.len() <= 20_000 {
        refuse(0, "ok")
    } else {
        refuse(400_101, "bad message")
    }
}

/// Timestamp in seconds and sign in the body: the key is "timestamp \n secret", and there is no data.
fn feishu(request: &Received) -> Reply {
    if !request.path().ends_with(TOKENS[1]) {
        return refuse(19_001, "token is invalid");
    }
    let body = request.json();
    let timestamp = body["timestamp"].as_str().unwrap_or("");
    let age = wall_ms() / 1_000 - timestamp.parse::<i64>().unwrap_or(0);
    let sign = STANDARD.encode(mac(&format!("{timestamp}\n{FEISHU_SECRET}"), ""));
    if age.abs() > 3_600 || body["sign"] != sign.as_str() {
        return refuse(19_021, "sign match fail or timestamp is not within one hour from current time");
    }
    let card = &body["card"];
    let good = body["msg_type"] == "interactive"
        && card["header"]["title"]["content"].as_str().is_some_and(|t| !t.is_empty())
        && card["elements"][0]["content"].as_str().is_some_and(|t| !t.is_empty());
    if good && request.body.len() <= 20_480 {
        refuse(0, "success")
    } else {
        refuse(9_499, "Bad Request")
    }
}

/// The key in the address; Markdown of at most 4096 bytes.
fn wecom(request: &Received) -> Reply {
    if request.query("key").as_deref() != Some(TOKENS[2]) {
        return refuse(93_000, "invalid webhook url");
    }
    let body = request.json();
    let content = body["markdown"]["content"].as_str().unwrap_or("");
    if body["msgtype"] == "markdown" && (1..=4_096).contains(&content.len()) {
        refuse(0, "ok")
    } else {
        refuse(40_058, "markdown.content exceed max length 4096")
    }
}

/// The project's own rule: HMAC of time and body, and a bearer token.
fn duty(request: &Received) -> Reply {
    let timestamp = request.header("x-peakdesk-timestamp").unwrap_or("");
    let mac = mac(DUTY_SECRET, &format!("{timestamp}.{}", request.body));
    let hex: String = mac.iter().map(|b| format!("{b:02x}")).collect();
    let signed = request.header("x-peakdesk-signature") == Some(&format!("sha256={hex}"));
    let token = request.header("authorization") == Some(&format!("Bearer {DUTY_TOKEN}"));
    Reply::Now(if signed && token { 204 } else { 403 }, String::new())
}

fn platform(request: &Received) -> Reply {
    match request.path() {
        "/robot/send" => dingtalk(request),
        "/cgi-bin/webhook/send" => wecom(request),
        "/duty" => duty(request),
        _ => feishu(request),
    }
}

/// Four receivers; addresses and secrets in files.
fn routes(desk: &Desk<'_>, url: &str, dingtalk_secret: &str) -> Result<String> {
    let file = |name: &str, content: &str| desk.file(name, &format!("{content}\n")).map(|path| path.display().to_string());
    let hook = format!("{url}/open-apis/bot/v2/hook/{}", TOKENS[1]);
    Ok(format!(
        "[[receiver]]\nname = \"ding\"\ntype = \"dingtalk\"\nurl_file = \"{}\"\nsecret_file = \"{}\"\ntries = 2\nretry_max = \"1s\"\n\
         [[receiver]]\nname = \"lark\"\ntype = \"feishu\"\nurl_file = \"{}\"\nsecret_file = \"{}\"\n\
         [[receiver]]\nname = \"work\"\ntype = \"wecom\"\nurl_file = \"{}\"\nlanguage = \"en\"\n\
         [[receiver]]\nname = \"duty\"\ntype = \"webhook\"\nurl = \"{url}/duty\"\nsecret_file = \"{}\"\nbearer_file = \"{}\"\n\
         template = '{{\"said\": {{{{ title | tojson }}}}, \"of\": {{{{ firing }}}}}}'\n\
         [[route]]\nreceivers = [\"ding\", \"lark\", \"work\", \"duty\"]\n{ROUTE}",
        file("ding.url", &format!("{url}/robot/send?access_token={}", TOKENS[0]))?,
        file("ding.secret", dingtalk_secret)?,
        file("lark.url", &hook)?,
        file("lark.secret", FEISHU_SECRET)?,
        file("work.url", &format!("{url}/cgi-bin/webhook/send?key={}", TOKENS[2]))?,
        file("duty.secret", DUTY_SECRET)?,
        file("duty.token", DUTY_TOKEN)?,
    ))
}

fn delivered(alerter: &Role, receiver: &str) -> Result<usize> {
    let all = deliveries(alerter)?;
    let of = |d: &&serde_json::Value| d["receiver"] == receiver && d["state"] == "delivered";
    Ok(all.iter().filter(of).count())
}

/// Nothing that the role wrote or answers holds a secret.
fn no_secret_is_seen(alerter: &Role, wrong: &[&str]) -> Result {
    let mut said = alerter.process.stderr()? + &alerter.process.stdout()?;
    for path in ["api/deliveries", "metrics", "readyz"] {
        said += &http::get(&format!("{}/{path}", alerter.url))?.body;
    }
    let secrets = [DINGTALK_SECRET, FEISHU_SECRET, DUTY_SECRET, DUTY_TOKEN];
    for secret in secrets.iter().chain(&TOKENS).chain(wrong) {
        ensure!(!said.contains(secret), "{secret} is in what the role says:\n{said}");
    }
    Ok(())
}

#[test]
fn alerter_speaks_to_robots_by_their_rules() {
    scene(|scene| {
        let desk = Desk::new(scene)?;
        let robots = Receiver::start(platform)?;
        let routes = routes(&desk, &robots.url(), DINGTALK_SECRET)?;
        desk.say(&[], true)?;
        let mut alerter = desk.alerter("alerter", &routes, &["log.level=trace"])?;
        desk.wait_until_live(&mut alerter)?;
        let severity = |n: i32| if n < 12 { Severity::Critical } else { Severity::Warning };
        let rows: Vec<_> = (0..300).map(|n| fires("s1", &format!("客服{n}"), severity(n))).collect();
        desk.say(&rows, true)?;
        let wait_for = |n: usize| {
            wait_until(&format!("{n} messages to each"), SOON, || {
                for receiver in ["ding", "lark", "work", "duty"] {
                    let got = delivered(&alerter, receiver)?;
                    ensure!(got == n, "{receiver} has {got}: {:?}", deliveries(&alerter)?);
                }
                Ok(Some(()))
            })
        };
        wait_for(1)?;
        ensure!(robots.requests().len() == 4, "{} requests for one burst", robots.requests().len());
        let ding = robots.requests_to("/robot/send").remove(0).json();
        ensure!(ding["markdown"]["title"] == "[严重] 买家等待过久 · 店铺 s1：300 条告警", "{ding}");
        let text = ding["markdown"]["text"].as_str().unwrap_or("");
        for part in [
            "**新告警 300**（严重 12，警告 288）",
            "持续最久",
            "20:00:00",
            "建议：",
            "- 另有 290 条",
        ] {
            ensure!(text.contains(part), "{part} is not in {text}");
        }
        let work = robots.requests_to("/cgi-bin/webhook/send").remove(0).json();
        let text = work["markdown"]["content"].as_str().unwrap_or("");
        ensure!(
            text.contains("**firing 300** (critical 12, warning 288)") && text.contains("What to do: "),
            "{text}"
        );
        let duty = robots.requests_to("/duty").remove(0).json();
        ensure!(
            duty == json!({"said": "[严重] 买家等待过久 · 店铺 s1：300 条告警", "of": 300}),
            "{duty}"
        );

        let ends: Vec<_> = (0..300).map(|n| resolves("s1", &format!("客服{n}"), Severity::Critical)).collect();
        desk.say(&ends, true)?;
        wait_for(2)?;
        let last = robots.requests_to("/robot/send").remove(1).json();
        ensure!(last["markdown"]["title"] == "[恢复] 买家等待过久 · 店铺 s1：300 条", "{last}");
        stays("requests", || Ok(robots.requests().len()))?;
        no_secret_is_seen(&alerter, &[])?;
        alerter.terminate()
    });
}

#[test]
fn alerter_shows_a_wrong_secret_and_hides_the_right_ones() {
    scene(|scene| {
        let desk = Desk::new(scene)?;
        // One that repeats what it was asked, secrets and all.
        let robots = Receiver::start(|request| match request.path() {
            "/robot/send" => match dingtalk(request) {
                Reply::Now(status, body) => Reply::Now(status, body.replace("not match", &format!("not match: {}", request.target))),
                other => other,
            },
            "/duty" => Reply::Now(403, format!("no: {:?}", request.headers)),
            _ => platform(request),
        })?;
        let wrong = "SECwrong0123456789";
        let routes = routes(&desk, &robots.url(), wrong)?;
        desk.say(&[], true)?;
        let mut alerter = desk.alerter("alerter", &routes, &["log.level=trace"])?;
        desk.say(&[fires("s1", "a", Severity::Critical)], true)?;
        wait_until("the delivery to fail for good", SOON, || {
            let all = deliveries(&alerter)?;
            let one = all
                .iter()
                .find(|d| d["receiver"] == "ding" && d["state"] == "failed")
                .cloned()
                .unwrap_or_default();
            ensure!(one["attempts"] == 2, "{all:?}");
            ensure!(
                one["last_error"]
                    .as_str()
                    .is_some_and(|e| e.starts_with("errcode 310000: sign not match")),
                "{one}"
            );
            Ok(Some(()))
        })?;
        wait_until("the metric", SOON, || {
            let failed = alerter.metric("peakdesk_alerter_deliveries_total", "outcome=\"failed\",receiver=\"ding\"")?;
            ensure!(failed == [1.0], "{failed:?}");
            Ok(Some(()))
        })?;
        ensure!(
            alerter.process.stderr()?.contains("a delivery has failed for good"),
            "the log says nothing of it"
        );
        // Others are not concerned.
        wait_until("the others to have it", SOON, || {
            for receiver in ["lark", "work"] {
                ensure!(delivered(&alerter, receiver)? == 1, "{receiver} has not");
            }
            let duty = deliveries(&alerter)?
                .iter()
                .any(|d| d["receiver"] == "duty" && d["last_error"].is_string());
            ensure!(duty, "duty has no error");
            Ok(Some(()))
        })?;
        no_secret_is_seen(&alerter, &[wrong])?;
        // What failed is not told to be over.
        desk.say(&[resolves("s1", "a", Severity::Critical)], true)?;
        wait_until("the end to be told to the others", SOON, || {
            ensure!(delivered(&alerter, "lark")? == 2, "not yet");
            Ok(Some(()))
        })?;
        stays("messages to the robot", || Ok(robots.requests_to("/robot/send").len()))?;
        no_secret_is_seen(&alerter, &[wrong])?;
        alerter.terminate()
    });
}
