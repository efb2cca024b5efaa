//! The words: what, who, since when, how bad, what to do; in Chinese and English.
//!
//! Texts are Markdown of the kind that DingTalk, Feishu and WeCom have in common: headings, bold, lists, links. Ids come from outside; characters
//! that would make links, mentions or markup of them are replaced by their full-width forms.

use crate::alert::Alert;
use crate::message::{Change, Delivery, Part, What};
use crate::routes::Language;
use crate::words::{Words, advice, rule_name, severity_name, value};
use peakdesk_model::alert::Severity;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// How many groups and lines per group are tried, until the text is short enough.
const SIZES: [(usize, usize); 6] = [(20, 10), (20, 3), (20, 1), (8, 1), (3, 1), (1, 1)];

/// A title without markup, and a body of Markdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// One line.
    pub title: String,
    /// Begins with a heading of its own.
    pub body: String,
}

/// The text of a delivery, with a body of at most `bytes_max` bytes.
pub fn of(delivery: &Delivery, words: &Words, bytes_max: usize) -> Text {
    let title = title(delivery, words);
    let mut body = String::new();
    for (parts, lines) in SIZES {
        body = self::body(delivery, words, parts, lines);
        if body.len() <= bytes_max {
            break;
        }
    }
    if body.len() > bytes_max {
        let mut end = bytes_max.saturating_sub('…'.len_utf8());
        while !body.is_char_boundary(end) {
            end -= 1;
        }
        body.truncate(end);
        body.push('…');
    }
    Text { title, body }
}

fn title(delivery: &Delivery, words: &Words) -> String {
    let zh = words.language == Language::Chinese;
    let begun: Vec<&Change> = delivery.changes().filter(|c| c.what != What::Resolved).collect();
    let subject = match delivery.parts.as_slice() {
        [part] => subject(part, words),
        parts if zh => format!("{} 组告警", parts.len()),
        parts => format!("{} groups of alerts", parts.len()),
    };
    let resolved = delivery.count(What::Resolved);
    match (begun.iter().map(|c| c.severity).max(), zh) {
        (Some(worst), true) => format!("[{}] {subject}：{} 条告警", severity_name(worst, words.language), begun.len()),
        (Some(worst), false) => format!("[{}] {subject}: {} firing", severity_name(worst, words.language), begun.len()),
        (None, true) => format!("[恢复] {subject}：{resolved} 条"),
        (None, false) => format!("[resolved] {subject}: {resolved}"),
    }
}

/// What the changes of a group have in common.
fn subject(part: &Part, words: &Words) -> String {
    let zh = words.language == Language::Chinese;
    let rules: BTreeSet<_> = part.changes.iter().map(|c| c.alert.rule).collect();
    let shops: BTreeSet<&str> = part.changes.iter().map(|c| &*c.alert.shop).collect();
    let rule = match (rules.first(), rules.len()) {
        (Some(rule), 1) => rule_name(*rule, words.language).to_owned(),
        (_, n) if zh => format!("{n} 种告警"),
        (_, n) => format!("{n} rules"),
    };
    let shop = match (shops.first(), shops.len(), zh) {
        (Some(shop), 1, true) => format!("店铺 {}", plain(shop)),
        (Some(shop), 1, false) => format!("shop {}", plain(shop)),
        (_, n, true) => format!("{n} 家店铺"),
        (_, n, false) => format!("{n} shops"),
    };
    format!("{rule} · {shop}")
}

fn body(delivery: &Delivery, words: &Words, parts_max: usize, lines_max: usize) -> String {
    let zh = words.language == Language::Chinese;
    let mut out = String::new();
    for part in delivery.parts.iter().take(parts_max) {
        write_part(&mut out, part, words, lines_max);
    }
    let rest: Vec<&Part> = delivery.parts.iter().skip(parts_max).collect();
    if !rest.is_empty() {
        let changes: usize = rest.iter().map(|p| p.changes.len()).sum();
        let line = if zh {
            format!("另有 {} 组，共 {changes} 条\n\n", rest.len())
        } else {
            format!("and {} more groups with {changes} alerts\n\n", rest.len())
        };
        out.push_str(&line);
    }
    write_advice(&mut out, delivery, words);
    if let Some(url) = &words.console_url {
        let name = if zh { "打开控制台" } else { "Open the console" };
        let _ = writeln!(out, "[{name}]({url}/alerts)\n");
    }
    let name = if zh { "消息" } else { "message" };
    let _ = write!(out, "{name} {}", delivery.id);
    out
}

fn write_part(out: &mut String, part: &Part, words: &Words, lines_max: usize) {
    let _ = writeln!(out, "### {}\n\n{}\n", subject(part, words), counts(part, words));
    let begun = part.changes.iter().filter(|c| c.what != What::Resolved).count();
    // What is over needs no list where something fires.
    let listed: Vec<&Change> = part
        .changes
        .iter()
        .take(if begun > 0 { begun } else { part.changes.len() })
        .collect();
    for change in listed.iter().take(lines_max) {
        let _ = writeln!(out, "- {}", line(change, words));
    }
    let zh = words.language == Language::Chinese;
    if listed.len() > lines_max {
        let n = listed.len() - lines_max;
        let _ = if zh {
            writeln!(out, "- 另有 {n} 条")
        } else {
            writeln!(out, "- and {n} more")
        };
    }
    let oldest = listed
        .iter()
        .filter(|c| c.what != What::Resolved)
        .min_by_key(|c| (c.alert.onset, &c.alert.id));
    if let Some(oldest) = oldest.filter(|_| begun > 1) {
        let since = words.time(oldest.alert.onset, oldest.alert.at);
        let who = who(&oldest.alert, words);
        let _ = if zh {
            writeln!(out, "\n持续最久：{who}，自 {since} 起")
        } else {
            writeln!(out, "\noldest: {who}, since {since}")
        };
    }
    out.push('\n');
}

/// What to do about each of the rules that fire: one of nine at most.
fn write_advice(out: &mut String, delivery: &Delivery, words: &Words) {
    let begun = delivery.changes().filter(|c| c.what != What::Resolved);
    let rules: BTreeSet<_> = begun.map(|c| c.alert.rule).collect();
    let (name, colon) = match words.language {
        Language::Chinese => ("建议", "："),
        Language::English => ("What to do", ": "),
    };
    let is_only = rules.len() == 1;
    for rule in rules {
        let advice = advice(rule, words.language);
        let _ = if is_only {
            writeln!(out, "{name}{colon}{advice}\n")
        } else {
            writeln!(out, "- {name} · {}{colon}{advice}", rule_name(rule, words.language))
        };
    }
    if !is_only && !out.ends_with("\n\n") {
        out.push('\n');
    }
}

/// `**新告警 300**（严重 12，重要 30，警告 258） · 恢复 3 · 仍有 297 条`
fn counts(part: &Part, words: &Words) -> String {
    let zh = words.language == Language::Chinese;
    let mut all = Vec::new();
    for what in [What::Firing, What::Escalated, What::Still, What::Resolved] {
        let changes: Vec<&Change> = part.changes.iter().filter(|c| c.what == what).collect();
        if changes.is_empty() {
            continue;
        }
        let name = match (what, zh) {
            (What::Firing, true) => "新告警",
            (What::Firing, false) => "firing",
            (What::Escalated, true) => "升级",
            (What::Escalated, false) => "worse",
            (What::Still, true) => "仍在告警",
            (What::Still, false) => "still firing",
            (What::Resolved, true) => "恢复",
            (What::Resolved, false) => "resolved",
        };
        let mut text = format!("**{name} {}**", changes.len());
        if what != What::Resolved {
            let by = |s: Severity| changes.iter().filter(|c| c.severity == s).count();
            let each = Severity::ALL.iter().rev().filter(|s| by(**s) > 0);
            let each: Vec<String> = each.map(|s| format!("{} {}", severity_name(*s, words.language), by(*s))).collect();
            let _ = if zh {
                write!(text, "（{}）", each.join("，"))
            } else {
                write!(text, " ({})", each.join(", "))
            };
        }
        all.push(text);
    }
    let open: u32 = part.open.iter().sum();
    all.push(if zh {
        format!("共 {open} 条未恢复")
    } else {
        format!("{open} open")
    });
    all.join(" · ")
}

/// A line on one alert.
pub fn line(change: &Change, words: &Words) -> String {
    let (alert, zh) = (&change.alert, words.language == Language::Chinese);
    let who = who(alert, words);
    let since = words.time(alert.onset, alert.at);
    if change.what == What::Resolved {
        let lasted = words.span(alert.at - alert.onset);
        return if zh {
            format!("【恢复】{who}：自 {since} 起，持续 {lasted}")
        } else {
            format!("[resolved] {who}: since {since}, lasted {lasted}")
        };
    }
    let (bad, value) = (severity_name(change.severity, words.language), value(alert, words));
    if zh {
        format!("【{bad}】{who}：{value}，自 {since} 起")
    } else {
        format!("[{bad}] {who}: {value}, since {since}")
    }
}

/// `店铺 s1 客服 a`
pub fn who(alert: &Alert, words: &Words) -> String {
    let shop = plain(&alert.shop);
    match (&alert.agent, words.language) {
        (Some(agent), Language::Chinese) => format!("店铺 {shop} 客服 {}", plain(agent)),
        (Some(agent), Language::English) => format!("shop {shop}, agent {}", plain(agent)),
        (None, Language::Chinese) => format!("店铺 {shop}"),
        (None, Language::English) => format!("shop {shop}"),
    }
}

/// An id that is text and nothing else, of bounded length.
fn plain(id: &str) -> String {
    let safe = |c: char| match c {
        '<' => '＜',
        '>' => '＞',
        '[' => '［',
        ']' => '］',
        '(' => '（',
        ')' => '）',
        '*' => '＊',
        '`' => '｀',
        '@' => '＠',
        '#' => '＃',
        c if c.is_control() => ' ',
        c => c,
    };
    id.chars().take(64).map(safe).collect()
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
