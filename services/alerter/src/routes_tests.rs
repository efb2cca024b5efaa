#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::alert::tests::row;
use peakdesk_model::alert::TransitionKind;

const TWO: &str = r#"
[[receiver]]
name = "duty"
type = "dingtalk"
url_env = "TEST_robot?access_token=t"
secret_env = "TEST_key"

[[receiver]]
name = "all"
type = "webhook"
url = "http://127.0.0.1:1/all"
"#;

fn alert(shop: &str, severity: Severity) -> Alert {
    let mut row = row("a", 5, 0, TransitionKind::Firing, severity);
    row.shop_id = shop.into();
    Alert::new(&row, 0, 9, 9)
}

fn names(plan: &Plan, alert: &Alert) -> Vec<(String, String)> {
    plan.targets(alert).into_iter().map(|t| (t.receiver, t.route)).collect()
}

#[test]
fn the_first_route_decides_unless_it_goes_on() {
    let routes = r#"
[[route]]
name = "flags"
shops = ["flag-*", "s9"]
severity = "major"
receivers = ["duty"]
continue = true
[[route]]
rules = ["buyer_waiting"]
receivers = ["all", "duty"]
[[route]]
receivers = ["duty"]
"#;
    let plan = Plan::parse(&format!("{TWO}{routes}")).unwrap();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        names(&plan, &alert("flag-1", Severity::Critical)),
        [pair("all", "route-2"), pair("duty", "flags")]
    );
    assert_eq!(
        names(&plan, &alert("flag-1", Severity::Warning)),
        [pair("all", "route-2"), pair("duty", "route-2")]
    );
    let mut other = alert("s1", Severity::Warning);
    other.rule = Rule::RefundSpike;
    assert_eq!(names(&plan, &other), [pair("duty", "route-3")]);
}

#[test]
fn groups_are_by_shop_and_rule_unless_told_otherwise() {
    let plan = Plan::parse(&format!(
        "{TWO}[[route]]\nreceivers = [\"all\"]\n[[route]]\nreceivers = [\"all\"]\ngroup_by = []\n"
    ))
    .unwrap();
    assert_eq!(plan.routes[0].group_of(&alert("s1", Severity::Major)), "s1\u{1f}buyer_waiting");
    assert_eq!(plan.routes[1].group_of(&alert("s1", Severity::Major)), "");
}

#[test]
fn limits_of_the_platforms_are_the_defaults() {
    let plan = Plan::parse(&format!("{TWO}[[route]]\nreceivers = [\"all\"]\n")).unwrap();
    assert_eq!(plan.receivers.iter().map(|r| r.per_minute).collect::<Vec<_>>(), [20, 60]);
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let route = "[[route]]\nreceivers = [\"all\"]\n";
    let receiver = |more: &str| format!("[[receiver]]\nname = \"r\"\n{more}\n[[route]]\nreceivers = [\"r\"]\n");
    for (text, expected) in [
        (String::new(), "it has 0 receivers"),
        (TWO.to_owned(), "it has 0 routes"),
        (format!("{TWO}{TWO}{route}"), "receiver duty: there are two of this name"),
        (format!("{TWO}[[route]]\nreceivers = [\"al\"]\n"), "route route-1: there is no receiver \"al\"; the file has duty, all"),
        (format!("{TWO}[[route]]\nreceivers = [\"all\"]\nshop = [\"x\"]\n"), "line 14: unknown field `shop`"),
        (format!("{TWO}{route}rules = [\"buyer_waits\"]\n"), "there is no rule \"buyer_waits\"; the rules are buyer_waiting,"),
        (format!("{TWO}{route}severity = \"bad\"\n"), "must be warning, major or critical"),
        (format!("{TWO}{route}group_wait = \"5\"\n"), "group_wait = \"5\": not a duration"),
        (format!("{TWO}{route}group_by = [\"severity\"]\n"), "alerts change it"),
        (format!("{TWO}{route}quiet_hours = [\"23-8\"]\n"), "not a part of a day"),
        (receiver("type = \"pigeon\"\nurl = \"http://x\""), "type = \"pigeon\": must be alertmanager"),
        (receiver("type = \"webhook\""), "it has no address"),
        (receiver("type = \"webhook\"\nurl = \"ftp://x\""), "its address is not one"),
        (receiver("type = \"webhook\"\nurl = \"http://u:p@x\""), "may hold a secret"),
        (receiver("type = \"webhook\"\nurl = \"https://hooks.example/services/T0/B0/XXXXXXXXXXXXXXXXXXXX1234\""), "may hold a secret"),
        (receiver("type = \"webhook\"\nurl = \"https://open.example/hook/0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f\""), "may hold a secret"),
        (receiver("type = \"wecom\"\nurl = \"http://x\""), "may hold a secret"),
        (receiver("type = \"wecom\"\nurl_env = \"MISSING\""), "the environment has no such variable"),
        (receiver("type = \"wecom\"\nurl_env = \"TEST_x\"\nsecret_env = \"TEST_x\""), "not for wecom"),
        (receiver("type = \"feishu\"\nurl_file = \"/nowhere/x\""), "url_file /nowhere/x: cannot be read"),
        (receiver("type = \"webhook\"\nurl = \"http://x\"\ntemplate = \"{{ nothing }}\""), "template"),
        (receiver("type = \"webhook\"\nurl = \"http://x\"\nresend = \"1m\""), "resend is only for alertmanager"),
        (receiver("type = \"webhook\"\nurl = \"http://x\"\nper_minute = 0"), "per_minute = 0"),
        (receiver("type = \"webhook\"\nurl = \"http://x\"\ntries = 0"), "tries: must be"),
        (receiver("type = \"webhook\"\nurl = \"http://x\"\nlanguage = \"de\""), "must be zh or en"),
        (
            "[[receiver]]\nname = \"r\"\ntype = \"alertmanager\"\nurl = \"http://x\"\n[[route]]\nreceivers = [\"r\"]\nquiet_hours = [\"23:00-08:00\"]\n".to_owned(),
            "mute_time_intervals",
        ),
    ] {
        let problem = Plan::parse(&text).unwrap_err();
        assert!(problem.contains(expected), "{problem} does not hold {expected}");
        assert!(!problem.contains('\n'), "{problem}");
    }
}

#[test]
fn addresses_without_a_token_may_stand_in_the_file() {
    for url in [
        "https://duty.example/hooks/peakdesk",
        "https://a-long-name-with-digit-1.example:8443/alerts-of-the-customer-service/v2",
    ] {
        let text = format!("[[receiver]]\nname = \"r\"\ntype = \"webhook\"\nurl = \"{url}\"\n[[route]]\nreceivers = [\"r\"]\n");
        assert_eq!(Plan::parse(&text).unwrap().receivers[0].url.reveal(), url);
    }
}

#[test]
fn no_secret_is_printed() {
    let plan = Plan::parse(&format!("{TWO}[[route]]\nreceivers = [\"all\"]\n")).unwrap();
    let shown = format!("{plan:?}");
    assert!(
        !shown.contains("access_token") && !shown.contains("TEST") && !shown.contains("/key"),
        "{shown}"
    );
}

#[test]
fn the_shipped_example_holds() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/alerter.example.toml");
    let text = std::fs::read_to_string(file).unwrap();
    // The example names files that only its reader has.
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().display().to_string();
    for (name, content) in [
        ("dingtalk.url", "https://oapi.dingtalk.com/robot/send?access_token=x\n"),
        ("dingtalk.secret", "SECx\n"),
        ("feishu.url", "https://open.feishu.cn/open-apis/bot/v2/hook/x\n"),
        ("feishu.secret", "x\n"),
        ("wecom.url", "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=x\n"),
        ("duty.secret", "x\n"),
    ] {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    let plan = Plan::parse(&text.replace("/etc/peakdesk", &place)).unwrap();
    let kinds: Vec<&str> = plan.receivers.iter().map(|r| r.kind.name()).collect();
    assert_eq!(kinds, ["alertmanager", "dingtalk", "feishu", "wecom", "webhook"]);
    assert!(plan.routes.len() >= 3 && plan.routes.iter().any(|r| !r.quiet.is_empty() && r.critical_passes));
}
