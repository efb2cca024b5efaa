//! Worked examples as short scripts: one line per event, in the order in which it arrives.
//!
//! ```text
//! 10:00:00 Mia > Amy             a valid message to Amy; `Mia >` to nobody; `Mia spam`
//! 10:01:00 Amy : Mia             Amy writes to Mia; `Amy :: Mia` with a robot's help
//! 10:01:10 robot FULL Mia
//! 10:02:00 transfer Mia Amy Ben  `-` stands for nobody
//! 10:05:00 rating Mia Amy 5
//! 11:00:00 created O1 Mia 20000 2     likewise paid; deposit O1 Mia 5000; shipped, completed, closed O1 Mia
//! 12:00:00 requested R1 O1 Mia 5000   likewise succeeded; agreed, refused, ended R1 O1 Mia
//! ```
//!
//! Times are local, of 11 November 2025 unless a date `MM-DD/` stands before them. Behind an event may stand `@TIME` (its arrival,
//! else at once), `p=N` (its source partition), `id=NAME`, `told=TIME` (order_created_at) and `fake`.

use crate::kit::{Cutting, Item, Reader, Record, buyer_name, frames, nonzero, receive};
use peakdesk_model::event::{Kind, RefundPhase, RefundReason, RobotKind};
use peakdesk_model::table::{FIGURES, Grain, Outcome, Rows, WindowRow};
use peakdesk_model::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, UtcOffset, parse_date};
use peakdesk_scoring::policy::{Constants, Policies, Policy};
use std::collections::BTreeMap;

/// Milliseconds of `[MM-DD/]HH:MM[:SS[.mmm]]`.
pub fn at(text: &str) -> i64 {
    let (date, clock) = text.split_once('/').unwrap_or(("11-11", text));
    let day = parse_date(&format!("2025-{date}")).unwrap_or_else(|| panic!("no date in {text}"));
    let (clock, ms) = clock.split_once('.').unwrap_or((clock, "0"));
    let parts: Vec<i64> = clock
        .split(':')
        .map(|p| p.parse().unwrap_or_else(|_| panic!("no time in {text}")))
        .collect();
    let unit = [HOUR_MS, MINUTE_MS, SECOND_MS];
    UtcOffset::CHINA.start(day) + parts.iter().zip(unit).map(|(n, u)| n * u).sum::<i64>() + ms.parse::<i64>().unwrap()
}

/// `HH:MM:SS` of a moment, with milliseconds and date only where there is something to say.
pub fn clock(t: i64) -> String {
    let utc = UtcOffset::CHINA;
    let (ms, date) = (utc.time_of_day_ms(t), peakdesk_model::time::format_date(utc.day(t)));
    let date = if date == "2025-11-11" {
        String::new()
    } else {
        format!("{}/", &date[5..])
    };
    let tail = if ms % SECOND_MS == 0 {
        String::new()
    } else {
        format!(".{:03}", ms % SECOND_MS)
    };
    format!(
        "{date}{:02}:{:02}:{:02}{tail}",
        ms / HOUR_MS,
        ms / MINUTE_MS % 60,
        ms / SECOND_MS % 60
    )
}

fn name(text: &str) -> Option<String> {
    (text != "-").then(|| text.to_owned())
}

fn record(number: usize, line: &str) -> Record {
    let words: Vec<&str> = line.split_whitespace().collect();
    let extra = |w: &&str| w.starts_with('@') || w.contains('=') || *w == "fake";
    let (extras, words): (Vec<&str>, Vec<&str>) = words.into_iter().partition(extra);
    let t = at(words[0]);
    let new = |kind, buyer: &str| Item::new(kind, "shop", format!("e{number}"), buyer, t);
    let fen = |i: usize| words.get(i).map(|w| w.parse().unwrap());
    let mut item = match words[1..] {
        [buyer, ">"] => new(Kind::BuyerMessage, buyer),
        [buyer, ">", agent] => Item {
            agent: name(agent),
            ..new(Kind::BuyerMessage, buyer)
        },
        [buyer, "spam"] => Item {
            spam: true,
            ..new(Kind::BuyerMessage, buyer)
        },
        [agent, ":", buyer] => Item {
            agent: name(agent),
            ..new(Kind::AgentMessage, buyer)
        },
        [agent, "::", buyer] => Item {
            agent: name(agent),
            assisted: true,
            ..new(Kind::AgentMessage, buyer)
        },
        ["robot", kind, buyer] => Item {
            robot: RobotKind::from_name(kind).unwrap(),
            ..new(Kind::RobotMessage, buyer)
        },
        ["transfer", buyer, from, to] => Item {
            agent: name(from),
            to_agent: name(to),
            ..new(Kind::Transfer, buyer)
        },
        ["rating", buyer, agent, stars] => Item {
            agent: name(agent),
            rating: stars.parse().unwrap(),
            ..new(Kind::Rating, buyer)
        },
        [status, order, buyer, ..] if order.starts_with('O') => {
            let kind = Kind::ALL
                .into_iter()
                .find(|k| k.is_order() && k.name().split('_').next().unwrap().eq_ignore_ascii_case(status));
            Item {
                order: name(order),
                fen: fen(4),
                items: fen(5),
                ..new(kind.unwrap_or_else(|| panic!("{line}")), buyer)
            }
        }
        [status, refund, order, buyer, ..] => {
            let status = if status == "ended" { "closed" } else { status };
            let kind = Kind::ALL
                .into_iter()
                .find(|k| k.is_refund() && k.name().eq_ignore_ascii_case(status))
                .unwrap_or_else(|| panic!("{line}"));
            let given = kind == Kind::RefundRequested;
            Item {
                order: name(order),
                refund: name(refund),
                fen: fen(5),
                reason: given.then_some(RefundReason::Quality),
                phase: given.then_some(RefundPhase::AfterReceipt),
                ..new(kind, buyer)
            }
        }
        _ => panic!("not understood: {line}"),
    };
    let (mut arrival, mut partition) = (t, 0);
    for extra in extras {
        match extra.split_once('=') {
            None if extra == "fake" => item.fake = true,
            None => arrival = at(&extra[1..]),
            Some(("p", n)) => partition = n.parse().unwrap(),
            Some(("id", id)) => item.id = id.to_owned(),
            Some(("told", time)) => item.told_created_at = Some(at(time)),
            Some(_) => panic!("not understood: {line}"),
        }
    }
    Record { partition, arrival, item }
}

/// What became of a script: all rows ever published.
#[derive(Debug)]
pub struct Told {
    pub rows: Rows,
}

/// Plays a script under the default policy.
pub fn tell(script: &str) -> Told {
    tell_under(script, Policy::default())
}

/// Plays a script, and time runs on until nothing can change.
pub fn tell_under(script: &str, policy: Policy) -> Told {
    let mut reader = play(script, policy);
    reader.run_on(HOUR_MS);
    Told { rows: reader.out.rows }
}

/// Plays a script: a frame per line, a tick per hour as far as nothing that is still to come arrived before.
pub fn play(script: &str, policy: Policy) -> Reader {
    let lines = script.lines().map(str::trim).filter(|l| !l.is_empty());
    let records: Vec<Record> = lines.enumerate().map(|(i, l)| record(i, l)).collect();
    let mut reader = Reader::new(Policies::new(policy, BTreeMap::new()));
    let opening = records.iter().map(|r| r.arrival).min().map(|t| t - HOUR_MS);
    let mut deliveries = frames(
        &receive(&records),
        &Cutting {
            sizes: vec![1],
            opening,
            stand: false,
        },
    );
    // As a dump is read, where the script is one: alerts are exact then.
    let in_step = records.is_sorted_by_key(|r| r.arrival);
    deliveries.iter_mut().for_each(|d| d.head.in_step = in_step);
    // The first frame only opens the partitions.
    for (i, delivery) in deliveries.iter().enumerate() {
        let stand = records[i.saturating_sub(1)..].iter().map(|r| r.arrival).min().unwrap_or(0);
        while reader.fold.complete_until().is_some_and(|c| c + HOUR_MS < stand) {
            reader.tick(reader.fold.complete_until().unwrap() + HOUR_MS);
        }
        reader.read(delivery);
    }
    reader
}

/// A policy file's `[[version]]` tables.
pub fn policy(versions: &str) -> Policy {
    Policy::parse(&format!("profile = \"p\"\n{versions}"), &Constants::default()).unwrap()
}

impl Told {
    /// `t0 seq agent a0 ended_at outcome n customer agent first`, in order; latencies in seconds.
    pub fn rounds(&self) -> Vec<String> {
        let mut rows: Vec<_> = self.rows.reply_rounds.iter().collect();
        rows.sort_by_key(|r| (r.t0, r.seq));
        let seconds = |ms: Option<i64>| ms.map_or("-".into(), |ms| format!("{}s", ms as f64 / 1000.0));
        rows.iter()
            .map(|r| {
                let outcome = match r.outcome {
                    Outcome::Replied => "replied",
                    Outcome::Transferred => "transferred",
                    Outcome::Moved => "moved",
                    Outcome::Unanswered => "unanswered",
                };
                format!(
                    "{} {} {} {} {} {outcome} {} {} {}{}",
                    clock(r.t0),
                    r.seq,
                    r.agent_id.as_deref().unwrap_or("-"),
                    clock(r.a0),
                    r.ended_at.map_or("-".into(), clock),
                    r.buyer_messages,
                    seconds(r.latency_customer_ms),
                    seconds(r.latency_agent_ms),
                    if r.first_in_session { " first" } else { "" }
                )
            })
            .collect()
    }

    fn window(&self, scope: &str, grain: Grain, start: &str, before: i64) -> Option<&WindowRow> {
        let rows = if scope == "shop" {
            &self.rows.shop_windows
        } else {
            &self.rows.agent_windows
        };
        rows.iter().rfind(|r| {
            r.grain == grain
                && r.window_start == at(start)
                && r.agent_id.as_deref().unwrap_or("shop") == scope
                && r.stamp.published_at < before
        })
    }

    /// Every named figure of a window as it is in the end: `"rounds 1, replied 1"`; `-` for null. Without a row all are zero.
    pub fn has(&self, scope: &str, grain: Grain, start: &str, figures: &str) {
        self.had(scope, grain, start, i64::MAX, figures);
    }

    /// As [`Told::has`], of the row that was current at a moment (ms).
    pub fn had(&self, scope: &str, grain: Grain, start: &str, when: i64, figures: &str) {
        let row = self.window(scope, grain, start, when);
        for figure in figures.split(", ") {
            let (name, value) = figure.trim().split_once(' ').unwrap_or_else(|| panic!("no value for {figure}"));
            let index = FIGURES
                .iter()
                .position(|f| f.0 == name)
                .unwrap_or_else(|| panic!("no figure {name}"));
            let found = row.map_or(0, |r| r.values[index]);
            let expected = if value == "-" {
                peakdesk_model::table::NULL
            } else {
                value.parse().unwrap()
            };
            assert_eq!(
                found,
                expected,
                "{name} of {scope}, {} {start}: {:?}",
                grain.name(),
                row.map(nonzero)
            );
        }
    }

    /// No row of a window was ever published.
    pub fn has_not(&self, scope: &str, grain: Grain, start: &str) {
        assert_eq!(self.window(scope, grain, start, i64::MAX), None);
    }

    /// The order as it is in the end.
    pub fn order(&self, id: &str) -> &peakdesk_model::table::OrderRow {
        self.rows
            .orders
            .iter()
            .rfind(|r| &*r.order_id == id)
            .unwrap_or_else(|| panic!("no order {id}"))
    }

    /// `rule agent last_touch_at lag`, lag in seconds.
    pub fn credit(&self, id: &str) -> String {
        let r = self.order(id);
        let lag = r.lag_ms.map_or("-".into(), |ms| format!("{}s", ms as f64 / 1000.0));
        format!(
            "{} {} {} {lag}",
            r.rule.name(),
            r.agent_id.as_deref().unwrap_or("-"),
            r.last_touch_at.map_or("-".into(), clock)
        )
    }

    /// The refund as it is in the end.
    pub fn refund(&self, id: &str) -> &peakdesk_model::table::RefundRow {
        self.rows
            .refunds
            .iter()
            .rfind(|r| &*r.refund_id == id)
            .unwrap_or_else(|| panic!("no refund {id}"))
    }

    /// `INQUIRY` or `AFTERSALE`, `+` where an after-sale is open, and the flags that are set.
    pub fn day(&self, buyer: &str, date: &str) -> String {
        let day = parse_date(&format!("2025-{date}")).unwrap();
        let row = self.rows.buyer_days.iter().rfind(|r| buyer_name(r.buyer) == buyer && r.day == day);
        let Some(row) = row else { return "none".into() };
        let mut out = format!(
            "{}{}",
            if row.is_inquiry { "INQUIRY" } else { "AFTERSALE" },
            if row.open_after_sale { "+" } else { "" }
        );
        for ((name, _), _) in FIGURES[30..40].iter().zip(row.flags).filter(|(_, on)| *on) {
            out.push(' ');
            out.push_str(name);
        }
        out
    }

    /// `scope kind severity value onset at` of a rule's transitions, in order of publication.
    pub fn alerts(&self, rule: &str) -> Vec<String> {
        let of_rule = self.rows.alerts.iter().filter(|r| r.rule.name() == rule);
        of_rule
            .map(|r| {
                format!(
                    "{} {} {} {}/{} onset {} at {}",
                    r.agent_id.as_deref().unwrap_or("shop"),
                    r.kind.name(),
                    r.severity.name(),
                    r.value_num,
                    r.value_den,
                    clock(r.onset),
                    clock(r.at)
                )
            })
            .collect()
    }

    /// `event reason kind`, in order of publication.
    pub fn late(&self) -> Vec<String> {
        self.rows
            .late_events
            .iter()
            .map(|r| format!("{} {} {}", r.event_id, r.reason, r.kind))
            .collect()
    }
}

/// A day in milliseconds, for moments at which figures are looked at.
pub const DAY: i64 = DAY_MS;
