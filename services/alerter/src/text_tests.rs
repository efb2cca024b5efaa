#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::alert::tests::row;
use peakdesk_model::alert::{Rule, TransitionKind};
use peakdesk_model::time::UtcOffset;

/// 2025-11-11 20:00:00 in China.
const EVENING: i64 = 1_762_862_400_000;

fn words(language: Language) -> Words {
    Words {
        language,
        offset: UtcOffset::CHINA,
        console_url: Some("https://desk.example".into()),
    }
}

fn change(what: What, agent: &str, onset: i64, severity: Severity) -> Change {
    let mut alert = Alert::new(&row(agent, onset, 0, TransitionKind::Firing, severity), 0, onset, onset);
    (alert.at, alert.value_num) = (onset + 320_000, 320_000);
    Change {
        what,
        alert,
        severity,
        ends_at: None,
    }
}

fn delivery(mut groups: Vec<Vec<Change>>) -> Delivery {
    let part = |changes: &mut Vec<Change>| {
        crate::message::sort(changes);
        let open = changes.iter().filter(|c| c.what != What::Resolved).count();
        Part {
            group: "r".into(),
            changes: std::mem::take(changes),
            open: [open as u32, 0, 0],
            repeats: 0,
            since: 0,
        }
    };
    Delivery::new("r", groups.iter_mut().map(part).collect(), EVENING)
}

#[test]
fn a_burst_is_counts_the_worst_and_the_oldest() {
    let severity = |i: i64| match i {
        0..12 => Severity::Critical,
        12..42 => Severity::Major,
        _ => Severity::Warning,
    };
    let changes = (0..300).map(|i| change(What::Firing, &format!("a{i}"), EVENING - i * 1_000, severity(i)));
    let delivery = delivery(vec![changes.collect()]);
    let zh = of(&delivery, &words(Language::Chinese), 16_000);
    assert_eq!(zh.title, "[严重] 买家等待过久 · 店铺 s1：300 条告警");
    for expected in [
        "### 买家等待过久 · 店铺 s1",
        "**新告警 300**（严重 12，重要 30，警告 258） · 共 300 条未恢复",
        "- 【严重】店铺 s1 客服 a11：最长已等待 5分20秒，自 19:59:49 起",
        "- 另有 290 条",
        "持续最久：店铺 s1 客服 a299，自 19:55:01 起",
        "建议：请立即回复",
        "[打开控制台](https://desk.example/alerts)",
        delivery.id.as_str(),
    ] {
        assert!(zh.body.contains(expected), "{expected} is not in\n{}", zh.body);
    }
    let en = of(&delivery, &words(Language::English), 16_000);
    assert_eq!(en.title, "[critical] A buyer waits too long · shop s1: 300 firing");
    for expected in [
        "**firing 300** (critical 12, major 30, warning 258) · 300 open",
        "- [critical] shop s1, agent a11: longest wait 5 min 20 s, since 19:59:49",
        "oldest: shop s1, agent a299, since 19:55:01",
        "What to do: answer the buyer",
    ] {
        assert!(en.body.contains(expected), "{expected} is not in\n{}", en.body);
    }
}

#[test]
fn what_is_over_says_how_long_it_lasted() {
    let delivery = delivery(vec![vec![change(What::Resolved, "a", EVENING, Severity::Major)]]);
    let zh = of(&delivery, &words(Language::Chinese), 16_000);
    assert_eq!(zh.title, "[恢复] 买家等待过久 · 店铺 s1：1 条");
    assert!(
        zh.body.contains("【恢复】店铺 s1 客服 a：自 20:00:00 起，持续 5分20秒"),
        "{}",
        zh.body
    );
    assert!(!zh.body.contains("建议"), "{}", zh.body);
}

#[test]
fn every_rule_that_fires_gets_advice() {
    let of_rule = |what, (at, rule): (usize, Rule)| {
        let mut one = change(what, &format!("a{at}"), EVENING, Severity::Major);
        one.alert.rule = rule;
        one
    };
    let begun = Rule::ALL.into_iter().skip(1).enumerate().map(|one| of_rule(What::Firing, one));
    let over = of_rule(What::Resolved, (20, Rule::ALL[0]));
    let together: Vec<Change> = begun.clone().chain([over]).collect();
    let apart: Vec<Vec<Change>> = begun.map(|one| vec![one.clone(), one]).collect();
    for delivery in [delivery(vec![together]), delivery(apart)] {
        for language in [Language::Chinese, Language::English] {
            let limit = 4_096;
            let text = of(&delivery, &words(language), limit);
            assert!(text.body.len() <= limit && text.body.ends_with(&delivery.id), "{}", text.body);
            for rule in Rule::ALL.into_iter().skip(1) {
                let lines = text.body.lines().filter(|l| l.contains(advice(rule, language)));
                let lines: Vec<&str> = lines.collect();
                assert!(lines.len() == 1 && lines[0].contains(rule_name(rule, language)), "{}", text.body);
            }
            assert!(!text.body.contains(advice(Rule::ALL[0], language)), "{}", text.body);
        }
    }
}

#[test]
fn every_rule_has_words_in_both_languages() {
    for rule in Rule::ALL {
        for language in [Language::Chinese, Language::English] {
            let mut one = change(What::Firing, "a", EVENING, Severity::Warning);
            (one.alert.rule, one.alert.value_num, one.alert.value_den) = (rule, 7_000, 9_000);
            let text = of(&delivery(vec![vec![one]]), &words(language), 16_000);
            assert!(text.body.contains(rule_name(rule, language)) && text.body.contains(advice(rule, language)));
            let chinese = text.body.replace("s1", "").chars().filter(|c| ('一'..='鿿').contains(c)).count();
            assert_eq!(chinese > 0, language == Language::Chinese, "{}", text.body);
        }
    }
}

#[test]
fn a_text_is_never_longer_than_allowed() {
    let group = |g: i64| {
        (0..40)
            .map(move |i| change(What::Firing, &format!("客服{g}-{i}"), EVENING, Severity::Major))
            .collect()
    };
    let delivery = delivery((0..30).map(group).collect());
    for limit in [30, 100, 500, 1_000, 4_096, 8_000, 100_000] {
        for language in [Language::Chinese, Language::English] {
            let text = of(&delivery, &words(language), limit);
            assert!(text.body.len() <= limit, "{limit}: {}", text.body.len());
        }
    }
    let text = of(&delivery, &words(Language::Chinese), 4_096);
    assert!(
        text.body.contains("另有") && text.title == "[重要] 30 组告警：1200 条告警",
        "{text:?}"
    );
}

#[test]
fn ids_make_no_markup() {
    let one = change(What::Firing, "<at id=all></at>[x](http://evil) @all `*#", EVENING, Severity::Major);
    let text = of(&delivery(vec![vec![one]]), &words(Language::English), 16_000);
    assert!(
        !text.body.contains("<at") && !text.body.contains("](http://evil)") && !text.body.contains("@all"),
        "{}",
        text.body
    );
}
