//! What the tests of the alerter share: alerts that a test writes as a scorer would, routes, what the role says of its deliveries.

use std::cell::Cell;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use peakdesk_model::alert::{AlertRow, Rule, Severity, TransitionKind};
use peakdesk_model::position::LogPosition;
use peakdesk_model::results::{self, Span};
use peakdesk_model::table::{Rows, Stamp};
use peakdesk_tests::{Kafka, Message, Result, Scene, ensure, http, wait_until};
use serde_json::Value;

use crate::console_support::wall_ms;
use crate::support::{Role, SOON, Topics, text};

/// Within this time nothing more comes, if nothing is to come: longer than the waits of [`ROUTE`].
pub const NOTHING_MORE: Duration = Duration::from_secs(3);

/// The knobs of a route that hurries.
pub const ROUTE: &str = "group_wait = \"300ms\"\ngroup_interval = \"500ms\"\nrepeat_interval = \"0s\"\n";

/// Topics, and a topic of alerts that a test writes to.
pub struct Desk<'s> {
    /// The topics.
    pub topics: Topics<'s>,
    scene: &'s Scene,
    next: Cell<i64>,
}

impl<'s> Desk<'s> {
    /// Makes the topics, and a caught-up span without alerts in the first partition.
    pub fn new(scene: &'s Scene) -> Result<Desk<'s>> {
        let mut topics = Topics::new(scene, "json")?;
        for topic in ["live", "alerts", "acknowledgements"] {
            topics = topics.with(format!("topics.{topic}={}", scene.name(topic)));
        }
        topics.create([1, 1, 1], &[])?;
        Kafka::shared()?.create_topic(&scene.name("alerts"), 4, &[])?;
        let next = Cell::new(0);
        Ok(Desk { topics, scene, next })
    }

    /// Writes a span with these rows, which get their positions here.
    pub fn say(&self, rows: &[AlertRow], caught_up: bool) -> Result {
        let (from, to) = (self.next.get(), self.next.get() + 1);
        self.next.set(to);
        self.write(from, to, rows, caught_up)
    }

    /// Writes a span of these offsets.
    pub fn write(&self, from: i64, to: i64, rows: &[AlertRow], caught_up: bool) -> Result {
        let mut all = Rows::default();
        for (index, row) in rows.iter().enumerate() {
            let mut row = row.clone();
            row.stamp.position = LogPosition {
                offset: from,
                index: u32::try_from(index)?,
            };
            all.alerts.push(row);
        }
        let span = Span {
            log_partition: 0,
            from: LogPosition::start_of(from),
            to: LogPosition::start_of(to),
            // A day of the past: what is a backlog, only the flag says.
            log_time_ms: EVENING + 300_000,
            complete_until_ms: None,
            caught_up,
        };
        let batches = all.to_batches(0).map_err(|e| peakdesk_tests::Failure::fatal(e.to_string()))?;
        let value = results::encode(&span, &batches).map_err(|e| peakdesk_tests::Failure::fatal(e.to_string()))?;
        let message = Message {
            partition: Some(0),
            value: Some(value),
            ..Message::default()
        };
        Kafka::shared()?.produce(&self.scene.name("alerts"), &[message]).map(drop)
    }

    /// Writes a file into the test's directory.
    pub fn file(&self, name: &str, content: &str) -> Result<PathBuf> {
        let path = self.scene.path(name);
        fs::write(&path, content)?;
        Ok(path)
    }

    /// Starts the role with these receivers and routes.
    pub fn alerter(&self, name: &str, routes: &str, settings: &[&str]) -> Result<Role> {
        let file = self.file(&format!("{name}.toml"), routes)?;
        let mut all = vec![
            format!("alerter.routes_file={}", text(&file)?),
            "alerter.state_dir=state".to_owned(),
        ];
        all.extend(settings.iter().map(|s| (*s).to_owned()));
        self.topics.role(name, "alerter", &all)
    }

    /// Waits until an alerter is live on the first partition.
    pub fn wait_until_live(&self, alerter: &mut Role) -> Result {
        wait_until("the alerter to be caught up", SOON, || {
            let live = alerter.metric("peakdesk_alerter_caught_up", "partition=\"0\"")?;
            ensure!(live == [1.0], "{live:?}");
            Ok(Some(()))
        })
    }
}

/// 2025-11-11 20:00:00 in China.
pub const EVENING: i64 = 1_762_862_400_000;

/// A row of an agent's alert whose condition began `onset_s` seconds after [`EVENING`].
pub fn row(shop: &str, agent: &str, onset_s: i64, transition: u32, kind: TransitionKind, severity: Severity) -> AlertRow {
    let (rule, onset) = (Rule::BuyerWaiting, EVENING + onset_s * 1_000);
    AlertRow {
        stamp: Stamp {
            policy: "default".into(),
            is_final: true,
            published_at: onset,
            dt: 20_403,
            position: LogPosition::start_of(0),
        },
        alert_id: AlertRow::id_of(rule, shop, Some(agent), onset).into(),
        transition,
        kind,
        rule,
        shop_id: shop.into(),
        agent_id: Some(agent.into()),
        severity,
        value_num: 120_000,
        value_den: 1,
        onset,
        at: onset + 1_000 * i64::from(transition),
        evidence: "[{\"buyer_key\":\"00\",\"since\":1,\"age_ms\":120000}]".into(),
    }
}

/// Its beginning.
pub fn fires(shop: &str, agent: &str, severity: Severity) -> AlertRow {
    row(shop, agent, 0, 0, TransitionKind::Firing, severity)
}

/// Its end.
pub fn resolves(shop: &str, agent: &str, severity: Severity) -> AlertRow {
    row(shop, agent, 0, 9, TransitionKind::Resolved, severity)
}

/// What the role says of its deliveries, newest first.
pub fn deliveries(alerter: &Role) -> Result<Vec<Value>> {
    let answer = http::get(&format!("{}/api/deliveries", alerter.url))?.json()?;
    Ok(answer["deliveries"].as_array().cloned().unwrap_or_default())
}

/// Insists that a count stays as it is while nothing is to happen: there is no condition to wait for.
pub fn stays<T: PartialEq + std::fmt::Debug>(what: &str, look: impl Fn() -> Result<T>) -> Result {
    let (before, begun) = (look()?, wall_ms());
    while wall_ms() - begun < NOTHING_MORE.as_millis() as i64 {
        let now = look()?;
        ensure!(now == before, "{what}: {now:?} after {before:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
