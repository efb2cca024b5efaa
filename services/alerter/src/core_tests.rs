#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::alert::tests::row;
use crate::message::{Change, What};
use peakdesk_model::time::{HOUR_MS, MINUTE_MS};

#[path = "core_law_tests.rs"]
mod law;

/// Noon in China.
const NOON: i64 = 1_762_833_600_000;
const SECOND: i64 = 1_000;

const CHAT: &str = r#"
[[receiver]]
name = "chat"
type = "webhook"
url = "http://h"
per_minute = 20
[[route]]
name = "all"
receivers = ["chat"]
group_wait = "5s"
group_interval = "1m"
repeat_interval = "4h"
"#;

const MANAGER: &str = r#"
[[receiver]]
name = "am"
type = "alertmanager"
url = "http://h"
resend = "1m"
[[route]]
receivers = ["am"]
"#;

/// A core with its store and its clock.
struct Desk {
    plan: Arc<Plan>,
    core: Core,
    store: BTreeMap<String, Vec<u8>>,
    now: i64,
    at: BTreeMap<i32, i64>,
}

impl Desk {
    fn new(routes: &str) -> Desk {
        let plan = Arc::new(Plan::parse(routes).unwrap());
        let core = Core::load(plan.clone(), UtcOffset::CHINA, 15_000, &BTreeMap::new(), NOON).unwrap();
        let mut desk = Desk {
            plan,
            core,
            store: BTreeMap::new(),
            now: NOON,
            at: BTreeMap::new(),
        };
        desk.live(0);
        desk
    }

    /// Assigns a partition, reads it to its end, and has the scorer say that it has caught up.
    fn live(&mut self, partition: i32) {
        self.core.assigned(partition, 0, self.now);
        self.core.end_reached(partition);
        self.span(partition, &[], true);
    }

    fn span(&mut self, partition: i32, rows: &[AlertRow], caught_up: bool) {
        let at = self.at.entry(partition).or_insert(0);
        let span = Span {
            log_partition: partition,
            from: LogPosition::start_of(*at),
            to: LogPosition::start_of(*at + 1),
            // Log time is another year's: only the flag says what is a backlog.
            log_time_ms: 1_000_000,
            complete_until_ms: None,
            caught_up,
        };
        *at += 1;
        assert_eq!(self.core.coverage(partition, &span).0, Coverage::Apply);
        self.core.apply(partition, &span, rows, self.now, self.now);
        self.core.end_reached(partition);
        self.write();
    }

    fn rows(&mut self, rows: &[AlertRow]) {
        self.span(0, rows, true);
    }

    fn write(&mut self) {
        for (key, value) in self.core.take_writes() {
            match value {
                Some(value) => self.store.insert(key, value),
                None => self.store.remove(&key),
            };
        }
    }

    fn next(&mut self, receiver: &str) -> Option<Delivery> {
        let next = self.core.next(receiver, self.now);
        self.write();
        next
    }

    fn end(&mut self, delivery: &Delivery, outcome: Outcome) -> Fate {
        let fate = self.core.outcome(delivery, &outcome, self.now);
        self.write();
        fate
    }

    /// Takes the next delivery, which must be there, and says that it was delivered.
    fn deliver(&mut self, receiver: &str) -> Vec<(What, String, Severity)> {
        let delivery = self.next(receiver).expect("nothing is due");
        assert_eq!(self.end(&delivery, Outcome::Delivered), Fate::Delivered);
        said(&delivery)
    }

    fn quiet(&mut self, receiver: &str) {
        let next = self.next(receiver);
        assert!(next.is_none(), "{next:?}");
    }

    fn pass(&mut self, ms: i64) {
        self.now += ms;
    }

    /// Killed, and started anew from what is in the store.
    fn kill(&mut self, routes: Option<&str>) {
        if let Some(routes) = routes {
            self.plan = Arc::new(Plan::parse(routes).unwrap());
        }
        self.core = Core::load(self.plan.clone(), UtcOffset::CHINA, 15_000, &self.store, self.now).unwrap();
        self.write();
    }
}

fn said(delivery: &Delivery) -> Vec<(What, String, Severity)> {
    let one = |c: &Change| (c.what, c.alert.agent.as_deref().unwrap_or("").to_owned(), c.severity);
    delivery.changes().map(one).collect()
}

fn fires(agent: &str, severity: Severity) -> AlertRow {
    row(agent, 5_000, 0, TransitionKind::Firing, severity)
}

fn escalates(agent: &str, severity: Severity) -> AlertRow {
    row(agent, 5_000, 1, TransitionKind::Escalated, severity)
}

fn resolves(agent: &str, severity: Severity) -> AlertRow {
    row(agent, 5_000, 9, TransitionKind::Resolved, severity)
}

fn not_now() -> Outcome {
    Outcome::NotNow {
        why: "x".into(),
        wait_ms: None,
    }
}

fn unknown() -> Outcome {
    Outcome::Unknown { why: "x".into() }
}

fn refused() -> Outcome {
    Outcome::Refused { why: "x".into() }
}

use Severity::{Critical, Major, Warning};
use What::{Escalated, Firing, Resolved, Still};

fn a(what: What, severity: Severity) -> Vec<(What, String, Severity)> {
    vec![(what, "a".to_owned(), severity)]
}

#[test]
fn a_life_of_an_alert() {
    let mut desk = Desk::new(CHAT);
    desk.rows(&[fires("a", Warning)]);
    desk.pass(4 * SECOND);
    desk.quiet("chat");
    desk.pass(SECOND);
    assert_eq!(desk.deliver("chat"), a(Firing, Warning));
    desk.quiet("chat");
    // Major waits for the interval of the group.
    desk.rows(&[escalates("a", Major)]);
    desk.pass(30 * SECOND);
    desk.quiet("chat");
    desk.pass(30 * SECOND);
    assert_eq!(desk.deliver("chat"), a(Escalated, Major));
    desk.pass(4 * HOUR_MS - 1);
    desk.quiet("chat");
    desk.pass(1);
    assert_eq!(desk.deliver("chat"), a(Still, Major));
    desk.rows(&[resolves("a", Major)]);
    desk.pass(MINUTE_MS);
    assert_eq!(desk.deliver("chat"), a(Resolved, Major));
    desk.pass(24 * HOUR_MS);
    desk.quiet("chat");
    assert!(!desk.store.keys().any(|k| k.starts_with("a/")), "{:?}", desk.store.keys());
}

#[test]
fn what_gets_critical_does_not_wait_for_the_interval() {
    let mut desk = Desk::new(CHAT);
    desk.rows(&[fires("a", Warning)]);
    desk.pass(5 * SECOND);
    desk.deliver("chat");
    desk.rows(&[escalates("a", Critical)]);
    desk.pass(5 * SECOND);
    assert_eq!(desk.deliver("chat"), a(Escalated, Critical));
}

#[test]
fn what_is_over_before_it_is_told_is_not_told() {
    let mut desk = Desk::new(CHAT);
    desk.rows(&[fires("a", Critical)]);
    desk.pass(SECOND);
    desk.rows(&[escalates("a", Critical), resolves("a", Critical)]);
    desk.pass(HOUR_MS);
    desk.quiet("chat");
    assert_eq!(desk.core.open().iter().map(|(_, n)| n).sum::<usize>(), 0);
}

#[test]
fn a_burst_is_one_message() {
    let mut desk = Desk::new(CHAT);
    for i in 0..300 {
        desk.rows(&[fires(&format!("a{i}"), if i % 10 == 0 { Critical } else { Warning })]);
        desk.pass(10);
    }
    desk.pass(5 * SECOND);
    let delivery = desk.next("chat").unwrap();
    assert_eq!((delivery.parts.len(), delivery.changes().count()), (1, 300));
    assert_eq!(delivery.parts[0].open, [270, 0, 30]);
    assert!(delivery.changes().take(30).all(|c| c.severity == Critical));
    desk.quiet("chat");
    desk.end(&delivery, Outcome::Delivered);
    desk.quiet("chat");
}

#[test]
fn a_burst_that_trickles_in_is_few_messages() {
    let mut desk = Desk::new(CHAT);
    let (mut told, mut messages) = (BTreeSet::new(), 0);
    let words = crate::words::Words {
        language: crate::routes::Language::English,
        offset: UtcOffset::CHINA,
        console_url: None,
    };
    // 300 within two minutes; each gets worse 2 s after it began, every second one critical.
    for i in 0..300_usize {
        let worse = |i: usize| escalates(&format!("a{i}"), if i.is_multiple_of(2) { Critical } else { Major });
        let mut rows = vec![fires(&format!("a{i}"), Warning)];
        rows.extend(i.checked_sub(5).map(worse));
        desk.rows(&rows);
        for _ in 0..4 {
            desk.pass(100);
            let Some(delivery) = desk.next("chat") else { continue };
            messages += 1;
            let text = crate::text::of(&delivery, &words, 16_000);
            assert!(text.body.contains("firing ") && text.body.contains("open"), "{}", text.body);
            assert!(text.body.contains("oldest: shop s1, agent a"), "{}", text.body);
            told.extend(delivery.changes().map(|c| c.alert.id.clone()));
            desk.end(&delivery, Outcome::Delivered);
        }
    }
    desk.pass(MINUTE_MS);
    told.extend(desk.next("chat").unwrap().changes().map(|c| c.alert.id.clone()));
    assert_eq!(told.len(), 300);
    assert!((5..=9).contains(&messages), "{messages} messages within two minutes");
}

#[test]
fn more_groups_than_messages_are_merged_and_nothing_is_lost() {
    let mut desk = Desk::new(CHAT);
    let of_shop = |n: usize| {
        let mut row = fires("a", Warning);
        row.shop_id = format!("shop-{n}").into();
        row.alert_id = format!("{n:032x}").into();
        row
    };
    // As many as may be sent are sent one by one.
    desk.rows(&(0..20).map(of_shop).collect::<Vec<_>>());
    desk.pass(5 * SECOND);
    for _ in 0..20 {
        let delivery = desk.next("chat").unwrap();
        assert_eq!(delivery.parts.len(), 1);
        desk.end(&delivery, Outcome::Delivered);
        desk.pass(SECOND);
    }
    desk.rows(&(20..500).map(of_shop).collect::<Vec<_>>());
    desk.pass(5 * SECOND);
    desk.quiet("chat");
    desk.pass(MINUTE_MS);
    let merged = desk.next("chat").unwrap();
    assert_eq!((merged.parts.len(), merged.changes().count()), (480, 480));
    desk.end(&merged, Outcome::Delivered);
    desk.pass(HOUR_MS);
    desk.quiet("chat");
}

#[test]
fn in_quiet_hours_only_what_is_critical_is_told() {
    let routes = format!("{CHAT}quiet_hours = [\"11:00-13:00\"]\ncritical_passes = true\n");
    let mut desk = Desk::new(&routes);
    desk.rows(&[fires("a", Critical), fires("b", Warning), fires("c", Major)]);
    desk.pass(5 * SECOND);
    assert_eq!(desk.deliver("chat"), a(Firing, Critical));
    assert_eq!(desk.core.outstanding("chat", desk.now).changes, 0);
    desk.rows(&[resolves("c", Major)]);
    desk.pass(HOUR_MS - 6 * SECOND);
    desk.quiet("chat");
    desk.pass(SECOND);
    // At the end what still fires is told.
    assert_eq!(desk.deliver("chat"), [(Firing, "b".to_owned(), Warning)]);

    let mut desk = Desk::new(&routes.replace("critical_passes = true", ""));
    desk.rows(&[fires("a", Critical)]);
    desk.pass(MINUTE_MS);
    desk.quiet("chat");
}

#[test]
fn in_quiet_hours_nothing_is_repeated_but_what_is_critical() {
    // Quiet from a minute after noon on.
    let routes = format!("{CHAT}quiet_hours = [\"12:01-13:00\"]\ncritical_passes = true\n");
    let b = |what, severity| vec![(what, "b".to_owned(), severity)];
    for kill in [false, true] {
        let mut desk = Desk::new(&routes);
        desk.rows(&[fires("a", Warning), fires("b", Warning)]);
        desk.pass(50 * SECOND);
        let first = desk.next("chat").unwrap();
        if kill {
            desk.kill(None);
            desk.live(0);
        } else {
            desk.end(&first, unknown());
        }
        desk.pass(2 * MINUTE_MS);
        desk.quiet("chat");
        assert_eq!(desk.core.outstanding("chat", desk.now).changes, 0);
        assert_eq!(desk.core.put_aside("chat").join(" "), first.id);
        // What passes does not wait for it.
        desk.rows(&[escalates("b", Critical), fires("c", Critical)]);
        desk.pass(5 * SECOND);
        let second = desk.next("chat").unwrap();
        assert_eq!(
            said(&second),
            [(Firing, "b".to_owned(), Critical), (Firing, "c".to_owned(), Critical)]
        );
        desk.end(&second, unknown());
        desk.pass(2 * MINUTE_MS);
        assert_eq!(desk.next("chat").unwrap(), second);
        desk.end(&second, Outcome::Delivered);
        desk.kill(None);
        desk.live(0);
        desk.pass(10 * MINUTE_MS);
        desk.quiet("chat");
        // It is over: that may be told at once, as it was critical.
        desk.rows(&[resolves("b", Critical)]);
        desk.pass(MINUTE_MS);
        assert_eq!(desk.deliver("chat"), b(Resolved, Critical));
        desk.pass(HOUR_MS);
        let again = desk.next("chat").unwrap();
        assert_eq!(again, first, "repeated unchanged when quiet hours are over");
        desk.end(&again, Outcome::Delivered);
        desk.rows(&[resolves("a", Warning), resolves("c", Critical)]);
        desk.pass(2 * MINUTE_MS);
        // The repeat says that b fires; so it is told once more that it is over.
        let mut over = desk.deliver("chat");
        over.sort();
        assert_eq!(
            over,
            [
                (Resolved, "a".to_owned(), Warning),
                (Resolved, "b".to_owned(), Critical),
                (Resolved, "c".to_owned(), Critical)
            ]
        );
        desk.pass(2 * HOUR_MS);
        desk.quiet("chat");
        assert!(!desk.store.keys().any(|k| k.starts_with("a/")), "{:?}", desk.store.keys());
    }
}

#[test]
fn nothing_is_told_of_a_backlog_but_what_still_fires_at_its_end() {
    for routes in [CHAT, MANAGER] {
        let mut desk = Desk::new(routes);
        let name = desk.plan.receivers[0].name.clone();
        desk.span(0, &[fires("a", Critical), fires("b", Critical), fires("c", Critical)], false);
        desk.pass(HOUR_MS);
        desk.quiet(&name);
        desk.span(0, &[resolves("b", Critical)], false);
        desk.pass(MINUTE_MS);
        desk.quiet(&name);
        desk.span(0, &[resolves("c", Critical)], true);
        desk.pass(5 * SECOND);
        assert_eq!(desk.deliver(&name), a(Firing, Critical));
        desk.pass(5 * SECOND);
        desk.quiet(&name);
    }
}

#[test]
fn a_partition_is_live_when_its_end_was_seen_too() {
    let mut desk = Desk::new(CHAT);
    desk.core.assigned(1, 0, desk.now);
    let span = |from: i64, log_time_ms: i64| Span {
        log_partition: 1,
        from: LogPosition::start_of(from),
        to: LogPosition::start_of(from + 1),
        log_time_ms,
        complete_until_ms: None,
        caught_up: false,
    };
    desk.core.apply(1, &span(0, desk.now - 20 * SECOND), &[], desk.now, desk.now);
    desk.core.end_reached(1);
    assert!(!desk.core.is_live(1));
    // The scorer of a busy log may never see its end, and is not behind.
    desk.core.apply(1, &span(1, desk.now - 5 * SECOND), &[], desk.now, desk.now);
    assert!(desk.core.is_live(1));
    // A reader that slept reads old messages.
    desk.core.apply(1, &span(2, desk.now), &[], desk.now - 16 * SECOND, desk.now);
    assert!(!desk.core.is_live(1));
    desk.core.end_reached(1);
    assert!(!desk.core.is_live(1), "written long after its log time");
    desk.core.apply(1, &span(3, desk.now), &[], desk.now, desk.now);
    assert!(desk.core.is_live(1));
    desk.core.revoked(1, desk.now);
    assert!(!desk.core.is_live(1));
}

#[test]
fn a_receiver_that_was_away_is_told_what_is_left() {
    let mut desk = Desk::new(CHAT);
    desk.rows(&[fires("a", Warning), fires("b", Warning)]);
    desk.pass(5 * SECOND);
    let first = desk.next("chat").unwrap();
    assert_eq!(desk.end(&first, not_now()), Fate::Retrying);
    desk.quiet("chat");
    desk.rows(&[resolves("b", Warning), fires("c", Warning), escalates("a", Major)]);
    desk.pass(2 * SECOND);
    let second = desk.next("chat").unwrap();
    assert_eq!(said(&second), [(Firing, "a".to_owned(), Major), (Firing, "c".to_owned(), Warning)]);
    assert_ne!(first.id, second.id);
    desk.end(&second, Outcome::Delivered);
    desk.pass(HOUR_MS);
    desk.quiet("chat");
}

#[test]
fn what_may_have_been_received_is_repeated_unchanged() {
    let mut desk = Desk::new(CHAT);
    desk.rows(&[fires("a", Warning), fires("b", Warning)]);
    desk.pass(5 * SECOND);
    let first = desk.next("chat").unwrap();
    assert_eq!(desk.end(&first, unknown()), Fate::Retrying);
    desk.rows(&[resolves("b", Warning), fires("c", Warning)]);
    for outcome in [not_now(), refused(), unknown(), Outcome::Delivered] {
        desk.pass(2 * MINUTE_MS);
        let again = desk.next("chat").unwrap();
        assert_eq!(again, first);
        desk.end(&again, outcome);
    }
    desk.pass(MINUTE_MS);
    assert_eq!(
        desk.deliver("chat"),
        [(Firing, "c".to_owned(), Warning), (Resolved, "b".to_owned(), Warning)]
    );
}

#[test]
fn a_kill_between_sending_and_its_answer_repeats_under_the_same_id() {
    let mut desk = Desk::new(CHAT);
    desk.rows(&[fires("a", Warning)]);
    desk.pass(5 * SECOND);
    let first = desk.next("chat").unwrap();
    desk.kill(None);
    // Not before it is known that this is still so: there is no later span.
    desk.pass(SECOND);
    desk.quiet("chat");
    desk.core.assigned(0, 0, desk.now);
    desk.quiet("chat");
    desk.core.end_reached(0);
    let again = desk.next("chat").unwrap();
    assert_eq!(again, first);
    desk.end(&again, Outcome::Delivered);
    desk.kill(None);
    desk.live(0);
    desk.pass(HOUR_MS);
    desk.quiet("chat");
    desk.rows(&[resolves("a", Warning)]);
    desk.pass(5 * SECOND);
    assert_eq!(desk.deliver("chat"), a(Resolved, Warning));
}

#[test]
fn what_may_have_been_received_and_is_over_is_told_to_be_over() {
    let mut desk = Desk::new(CHAT);
    desk.rows(&[fires("a", Warning)]);
    desk.pass(5 * SECOND);
    let first = desk.next("chat").unwrap();
    desk.end(&first, unknown());
    desk.rows(&[resolves("a", Warning)]);
    desk.pass(2 * SECOND);
    desk.quiet("chat");
    assert_eq!(desk.core.take_dropped(), [first]);
    desk.pass(MINUTE_MS);
    assert_eq!(desk.deliver("chat"), a(Resolved, Warning));
}

#[test]
fn what_was_refused_for_good_gets_no_resolved_message() {
    let mut desk = Desk::new(CHAT);
    desk.rows(&[fires("a", Warning)]);
    for n in 1..=5 {
        desk.pass(2 * MINUTE_MS);
        let delivery = desk.next("chat").unwrap();
        let fate = desk.end(&delivery, refused());
        assert_eq!(fate, if n < 5 { Fate::Retrying } else { Fate::Failed });
    }
    desk.pass(HOUR_MS);
    desk.quiet("chat");
    // Its repeat is another chance.
    desk.pass(4 * HOUR_MS);
    let still = desk.next("chat").unwrap();
    assert_eq!(said(&still), a(Still, Warning));
    desk.end(&still, not_now());
    desk.rows(&[resolves("a", Warning)]);
    desk.pass(HOUR_MS);
    desk.quiet("chat");
    assert!(!desk.store.keys().any(|k| k.starts_with("a/")));
}

#[test]
fn routes_may_change_while_it_fires() {
    let mut desk = Desk::new(CHAT);
    desk.rows(&[fires("a", Warning)]);
    desk.pass(5 * SECOND);
    desk.deliver("chat");
    // Grouped otherwise: told already.
    desk.kill(Some(&format!("{CHAT}group_by = [\"agent\"]\n")));
    desk.live(0);
    desk.pass(MINUTE_MS);
    desk.quiet("chat");
    // Another receiver: not told yet. The old one is no more.
    desk.kill(Some(&CHAT.replace("\"chat\"", "\"other\"")));
    desk.live(0);
    desk.pass(5 * SECOND);
    assert_eq!(desk.deliver("other"), a(Firing, Warning));
    assert!(!desk.store.keys().any(|k| k.contains("/chat")), "{:?}", desk.store.keys());
}

#[test]
fn who_was_told_of_less_is_told_of_more() {
    let routes = r#"
[[receiver]]
name = "chat"
type = "webhook"
url = "http://h"
[[receiver]]
name = "boss"
type = "webhook"
url = "http://h"
[[route]]
severity = "critical"
receivers = ["boss"]
[[route]]
receivers = ["chat"]
"#;
    let mut desk = Desk::new(routes);
    desk.rows(&[fires("a", Warning)]);
    desk.pass(5 * SECOND);
    desk.deliver("chat");
    desk.quiet("boss");
    desk.rows(&[escalates("a", Critical)]);
    desk.pass(5 * SECOND);
    assert_eq!(desk.deliver("chat"), a(Escalated, Critical));
    assert_eq!(desk.deliver("boss"), a(Firing, Critical));
}

#[test]
fn alertmanager_is_kept_informed() {
    let mut desk = Desk::new(MANAGER);
    desk.rows(&[fires("a", Warning)]);
    assert_eq!(desk.deliver("am"), a(Firing, Warning));
    desk.pass(59 * SECOND);
    desk.quiet("am");
    desk.pass(SECOND);
    assert_eq!(desk.deliver("am"), a(Still, Warning));
    // Worse: over as it was, and begun as it is.
    desk.rows(&[escalates("a", Critical)]);
    assert_eq!(
        desk.deliver("am"),
        [(Firing, "a".to_owned(), Critical), (Resolved, "a".to_owned(), Warning)]
    );
    desk.rows(&[resolves("a", Critical)]);
    let last = desk.next("am").unwrap();
    assert_eq!(said(&last), a(Resolved, Critical));
    let ends_at = last.parts[0].changes[0].ends_at.unwrap();
    assert_eq!(ends_at, desk.now);
    desk.end(&last, Outcome::Delivered);
    // It is told again for a while, with the same end.
    desk.pass(MINUTE_MS);
    let again = desk.next("am").unwrap();
    assert!(again.changes().all(|c| c.what == Resolved) && again.changes().any(|c| c.ends_at == Some(ends_at)));
    desk.end(&again, Outcome::Delivered);
    desk.pass(20 * MINUTE_MS);
    desk.next("am");
    assert!(
        !desk.store.keys().any(|k| k.starts_with("e/") || k.starts_with("a/")),
        "{:?}",
        desk.store.keys()
    );
}

#[test]
fn alertmanager_is_told_the_same_after_a_kill() {
    let mut desk = Desk::new(MANAGER);
    desk.rows(&[fires("a", Warning), fires("b", Warning)]);
    let first = desk.next("am").unwrap();
    desk.pass(SECOND);
    desk.kill(None);
    desk.quiet("am");
    // While it was away one was over: it may have been told of, so it is told to be over.
    desk.core.assigned(0, 0, desk.now);
    desk.span(0, &[resolves("b", Warning)], true);
    let again = desk.next("am").unwrap();
    assert_eq!(
        said(&again),
        [(Firing, "a".to_owned(), Warning), (Resolved, "b".to_owned(), Warning)]
    );
    let starts = |d: &Delivery| d.changes().map(|c| c.alert.starts_at).collect::<BTreeSet<_>>();
    assert_eq!(starts(&first), starts(&again));
}

#[test]
fn alertmanager_is_not_told_what_it_surely_does_not_know_to_be_over() {
    let mut desk = Desk::new(MANAGER);
    desk.rows(&[fires("a", Warning)]);
    let first = desk.next("am").unwrap();
    desk.end(&first, not_now());
    desk.rows(&[resolves("a", Warning)]);
    desk.pass(MINUTE_MS);
    desk.quiet("am");
    assert!(
        !desk.store.keys().any(|k| k.starts_with("e/") || k.starts_with("a/")),
        "{:?}",
        desk.store.keys()
    );
}

#[test]
fn what_has_moved_to_another_alerter_is_not_kept_alive() {
    let mut desk = Desk::new(MANAGER);
    desk.rows(&[fires("a", Warning)]);
    desk.deliver("am");
    desk.core.revoked(0, desk.now);
    // For a while it may come back.
    desk.pass(MINUTE_MS);
    assert_eq!(desk.deliver("am"), a(Still, Warning));
    for _ in 0..10 {
        desk.pass(MINUTE_MS + SECOND);
        desk.quiet("am");
    }
    assert!(!desk.store.keys().any(|k| k.starts_with("e/")), "{:?}", desk.store.keys());
    // It is ours again, and still fires.
    desk.live(0);
    desk.pass(SECOND);
    assert_eq!(desk.deliver("am"), a(Firing, Warning));
}

#[test]
fn a_new_alert_with_the_labels_of_an_old_one_replaces_it() {
    let mut desk = Desk::new(MANAGER);
    desk.rows(&[fires("a", Warning)]);
    desk.deliver("am");
    desk.rows(&[resolves("a", Warning)]);
    desk.deliver("am");
    desk.rows(&[row("a", 500_000, 0, TransitionKind::Firing, Warning)]);
    assert_eq!(desk.deliver("am"), a(Firing, Warning));
    desk.pass(MINUTE_MS);
    assert_eq!(desk.deliver("am"), a(Still, Warning));
}
