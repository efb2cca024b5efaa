//! Laws, for any course of alerts, failures, kills and rebalances:
//!
//! * a receiver is told of an alert that fires before it is told that it got worse or is over, and of nothing after that;
//! * nothing is told twice but under the same id;
//! * in the end a receiver knows exactly what fires, with its severity, and of everything it was told that is over it knows that;
//! * no more messages within a minute than allowed;
//! * in quiet hours nothing is sent without anything critical, and no law but one is broken by them: a repeat that waited for their end may
//!   say that something fires that was told to be over in them, and then it is told again to be over;
//! * a delivery is in the store before it is sent.

use super::*;
use proptest::prelude::*;

const LIMITED: &str = r#"
[[receiver]]
name = "chat"
type = "webhook"
url = "http://h"
per_minute = 7
tries = 100
retry_max = "5s"
[[receiver]]
name = "am"
type = "alertmanager"
url = "http://h"
resend = "10s"
tries = 100
[[route]]
name = "worse"
severity = "major"
receivers = ["chat"]
group_by = ["shop"]
group_wait = "2s"
group_interval = "10s"
repeat_interval = "0s"
continue = true
[[route]]
name = "all"
receivers = ["chat", "am"]
group_wait = "1s"
group_interval = "5s"
repeat_interval = "1m"
"#;

#[derive(Debug, Clone)]
enum Step {
    /// The next transition of the alert of a scope: fires, gets worse, is over.
    Turn {
        scope: usize,
        over: bool,
    },
    Pass(i64),
    /// One attempt, and what comes of it: 0 delivered, 1 not received, 2 received without an answer, 3 not received without an answer, 4 refused.
    Attempt {
        manager: bool,
        how: u8,
    },
    /// Killed; before or after the receiver has what is under way.
    Kill {
        manager: bool,
        received: bool,
    },
    Backlog(bool),
    Rebalance,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..12_usize, any::<bool>()).prop_map(|(scope, over)| Step::Turn { scope, over }),
        4 => (1..20_000_i64).prop_map(Step::Pass),
        6 => (any::<bool>(), 0..5_u8).prop_map(|(manager, how)| Step::Attempt { manager, how }),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(manager, received)| Step::Kill { manager, received }),
        1 => any::<bool>().prop_map(Step::Backlog),
        1 => Just(Step::Rebalance),
    ]
}

/// What a receiver believes of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Belief {
    Fires(Severity),
    Over,
}

#[derive(Default)]
struct Chat {
    seen: BTreeSet<String>,
    beliefs: BTreeMap<String, Belief>,
    /// Attempts whose fate nobody knew: what they said may be believed or not.
    maybe: BTreeSet<String>,
    times: Vec<i64>,
    /// There are quiet hours.
    quiet: bool,
}

impl Chat {
    fn receive(&mut self, delivery: &Delivery) {
        // A receiver recognises a repeat by its id.
        if !self.seen.insert(delivery.id.clone()) {
            return;
        }
        for change in delivery.changes() {
            let id = change.alert.id.to_string();
            let before = self.beliefs.get(&id).cloned();
            match (change.what, &before) {
                (Firing, None) => {}
                // An older delivery, repeated late: it may say what is so no more.
                (_, Some(_)) if self.quiet && self.maybe.contains(&id) => {}
                (Escalated, Some(Belief::Fires(old))) => assert!(change.severity > *old, "{change:?}"),
                (Still, Some(Belief::Fires(old))) => assert!(change.severity >= *old),
                (Resolved, Some(Belief::Fires(_))) => {}
                // What was dropped as over is told to be over, had or not.
                (Resolved, None) => assert!(self.maybe.contains(&id), "{change:?} without having been told"),
                _ => panic!("{change:?} after {before:?}"),
            }
            let belief = match (change.what, before) {
                (Resolved, _) => Belief::Over,
                (_, Some(Belief::Fires(old))) => Belief::Fires(old.max(change.severity)),
                _ => Belief::Fires(change.severity),
            };
            self.beliefs.insert(id, belief);
        }
    }
}

/// Beliefs by labels, as Alertmanager has them.
#[derive(Default)]
struct Manager {
    beliefs: BTreeMap<(String, Severity), (String, Option<i64>, i64)>,
}

impl Manager {
    fn receive(&mut self, delivery: &Delivery) {
        for change in delivery.changes() {
            let key = (change.alert.agent.as_deref().unwrap_or("").to_owned(), change.severity);
            let ends = (change.what == Resolved).then(|| change.ends_at.unwrap());
            self.beliefs
                .insert(key, (change.alert.id.to_string(), ends, change.alert.starts_at));
        }
    }
}

/// The alerts as they are, by scope: id, severity, transitions, whether it is open.
type Truth = BTreeMap<usize, (AlertRow, bool)>;

fn turn(truth: &mut Truth, scope: usize, over: bool, onset: i64) -> AlertRow {
    let agent = format!("agent-{scope}");
    let row = match truth.get(&scope) {
        Some((last, true)) if over || last.severity == Critical => {
            row(&agent, last.onset, last.transition + 1, TransitionKind::Resolved, last.severity)
        }
        Some((last, true)) => {
            let worse = if last.severity == Warning { Major } else { Critical };
            row(&agent, last.onset, last.transition + 1, TransitionKind::Escalated, worse)
        }
        _ => row(&agent, onset, 0, TransitionKind::Firing, [Warning, Major, Critical][scope % 3]),
    };
    truth.insert(scope, (row.clone(), row.kind != TransitionKind::Resolved));
    row
}

struct World {
    desk: Desk,
    truth: Truth,
    chat: Chat,
    manager: Manager,
    onset: i64,
}

impl World {
    fn attempt(&mut self, manager: bool, how: u8) {
        let Some(delivery) = self.desk.next(if manager { "am" } else { "chat" }) else {
            return;
        };
        self.sent(&delivery, manager);
        let received = matches!(how, 0 | 2);
        if received {
            self.receive(&delivery, manager);
        }
        let outcome = match how {
            0 => Outcome::Delivered,
            1 => not_now(),
            2 | 3 => unknown(),
            _ => refused(),
        };
        if matches!(how, 2 | 3) {
            self.chat.maybe.extend(delivery.changes().map(|c| c.alert.id.to_string()));
        }
        self.desk.end(&delivery, outcome);
    }

    fn sent(&mut self, delivery: &Delivery, manager: bool) {
        if manager {
            return;
        }
        self.chat.times.push(self.desk.now);
        let asleep = (NOON + QUIET_FROM_MS..NOON + QUIET_TO_MS).contains(&self.desk.now);
        if self.chat.quiet && asleep {
            assert!(delivery.changes().any(|c| c.severity == Critical), "{delivery:?}");
        }
        let kept: serde_json::Value = serde_json::from_slice(&self.desk.store["f/chat"]).unwrap();
        assert_eq!(kept["delivery"]["id"], delivery.id, "sent before it was in the store");
    }

    fn receive(&mut self, delivery: &Delivery, manager: bool) {
        if manager {
            self.manager.receive(delivery);
        } else {
            self.chat.receive(delivery);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Turn { scope, over } => {
                self.onset += 1;
                let row = turn(&mut self.truth, *scope, *over, self.onset);
                self.desk.rows(&[row]);
            }
            Step::Pass(ms) => self.desk.pass(*ms),
            Step::Attempt { manager, how } => self.attempt(*manager, *how),
            Step::Kill { manager, received } => {
                if let Some(delivery) = self.desk.next(if *manager { "am" } else { "chat" }) {
                    self.sent(&delivery, *manager);
                    self.chat.maybe.extend(delivery.changes().map(|c| c.alert.id.to_string()));
                    if *received {
                        self.receive(&delivery, *manager);
                    }
                }
                self.desk.kill(None);
                self.desk.live(0);
            }
            Step::Backlog(caught_up) => self.desk.span(0, &[], *caught_up),
            Step::Rebalance => {
                self.desk.core.revoked(0, self.desk.now);
                self.desk.live(0);
            }
        }
    }

    fn settle(&mut self) {
        self.desk.span(0, &[], true);
        for _ in 0..200 {
            self.desk.pass(3 * SECOND);
            self.attempt(false, 0);
            self.attempt(true, 0);
        }
    }
}

/// 12:02 to 12:12.
const QUIET_FROM_MS: i64 = 2 * MINUTE_MS;
const QUIET_TO_MS: i64 = 12 * MINUTE_MS;

fn check(steps: &[Step], quiet: bool) {
    let hours = "severity = \"warning\"\nreceivers = [\"chat\"]\nquiet_hours = [\"12:02-12:12\"]\ncritical_passes = true\n";
    let routes = if quiet {
        let of_manager = "\ncontinue = true\n[[route]]\nreceivers = [\"am\"]\n";
        let chat = LIMITED.replace("severity = \"major\"\nreceivers = [\"chat\"]\n", hours);
        chat.replace("receivers = [\"chat\", \"am\"]\n", hours) + of_manager
    } else {
        LIMITED.to_owned()
    };
    let mut world = World {
        desk: Desk::new(&routes),
        truth: Truth::new(),
        chat: Chat { quiet, ..Chat::default() },
        manager: Manager::default(),
        onset: 5_000,
    };
    for step in steps {
        world.step(step);
    }
    if quiet {
        world.desk.now = world.desk.now.max(NOON + QUIET_TO_MS);
    }
    world.settle();
    let open: BTreeMap<String, Severity> = world
        .truth
        .values()
        .filter(|(_, open)| *open)
        .map(|(row, _)| (row.alert_id.to_string(), row.severity))
        .collect();
    let believed: BTreeMap<String, Severity> = world
        .chat
        .beliefs
        .iter()
        .filter_map(|(id, b)| match b {
            Belief::Fires(s) => Some((id.clone(), *s)),
            Belief::Over => None,
        })
        .collect();
    assert_eq!(believed, open, "chat");
    let of_manager: BTreeMap<String, Severity> = world
        .manager
        .beliefs
        .iter()
        .filter(|(_, (_, ends, _))| ends.is_none())
        .map(|((_, severity), (id, ..))| (id.clone(), *severity))
        .collect();
    assert_eq!(of_manager, open, "alertmanager");
    let times = &world.chat.times;
    assert!(times.windows(8).all(|w| w[7] - w[0] >= MINUTE_MS), "{times:?}");
    // What is over and told leaves nothing behind.
    world.desk.pass(HOUR_MS);
    let kept = world.desk.store.keys().filter(|k| k.starts_with("a/")).count();
    assert_eq!(kept, open.len(), "{:?}", world.desk.store.keys());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn receivers_know_what_is_so(steps in prop::collection::vec(step(), 0..150)) {
        check(&steps, false);
    }

    #[test]
    fn receivers_know_what_is_so_after_quiet_hours(steps in prop::collection::vec(step(), 0..150)) {
        check(&steps, true);
    }
}
