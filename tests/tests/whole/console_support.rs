//! What the tests of the console share: a floor whose live figures and alerts a test writes itself, requests, event streams.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use peakdesk_model::alert::{AlertRow, Rule, Severity, TransitionKind};
use peakdesk_model::live::{AgentDetail, AgentLive, Curve, LiveKey, ShopLive};
use peakdesk_model::position::LogPosition;
use peakdesk_model::results::{self, Span};
use peakdesk_model::table::{Rows, Stamp};
use peakdesk_tests::{Context, Kafka, Message, Result, Scene, Writer, ensure, wait_until};
use serde_json::Value;

use crate::support::{Role, SOON, Topics};

/// Business day of all figures.
pub const DAY: &str = "2025-11-11";
const START: i64 = 1_762_790_400_000;

/// The wall clock (ms).
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// Topics of a test, into which it writes as a scorer would.
pub struct Floor<'s> {
    /// The topics.
    pub topics: Topics<'s>,
    scene: &'s Scene,
    /// Kept, so that the time it takes to make one is in no delay that a test measures.
    writer: RefCell<Writer>,
    /// Where the next span of a partition begins.
    next: BTreeMap<i32, i64>,
}

impl<'s> Floor<'s> {
    /// On the broker that all tests share.
    pub fn new(scene: &'s Scene) -> Result<Floor<'s>> {
        Floor::on(scene, Kafka::shared()?)
    }

    /// On a broker.
    pub fn on(scene: &'s Scene, kafka: &'s Kafka) -> Result<Floor<'s>> {
        let mut topics = Topics::new(scene, "json")?.with(format!("kafka.bootstrap={}", kafka.bootstrap()));
        for topic in ["live", "alerts", "acknowledgements"] {
            topics = topics.with(format!("topics.{topic}={}", scene.name(topic)));
        }
        for topic in crate::support::INPUTS {
            kafka.create_topic(&scene.name(topic), 1, &[])?;
        }
        Ok(Floor {
            topics,
            scene,
            writer: RefCell::new(kafka.writer()?),
            next: BTreeMap::new(),
        })
    }

    /// Starts a console; it is ready, so it has read everything.
    pub fn console(&self, name: &str, settings: &[String]) -> Result<Role> {
        self.topics.role(name, "console", settings)
    }

    /// Writes values of live keys, in order.
    pub fn live(&self, values: &[(LiveKey, String)]) -> Result {
        let message = |(key, value): &(LiveKey, String)| Message {
            partition: Some(0),
            key: Some(key.encode().into_bytes()),
            value: Some(value.clone().into_bytes()),
            ..Message::default()
        };
        let messages: Vec<Message> = values.iter().map(message).collect();
        self.writer.borrow_mut().write(&self.scene.name("live"), &messages)?;
        Ok(())
    }

    /// Writes transitions as the next span of a partition.
    pub fn alerts(&mut self, partition: i32, rows: &[AlertRow]) -> Result {
        let from = *self.next.entry(partition).or_insert(0);
        self.next.insert(partition, from + 1);
        self.span(partition, from, from + 1, rows)
    }

    /// Writes transitions as a span of log offsets.
    pub fn span(&self, partition: i32, from: i64, to: i64, rows: &[AlertRow]) -> Result {
        let mut all = Rows::default();
        for (n, row) in (0..).zip(rows) {
            let mut row = row.clone();
            row.stamp.position = LogPosition { offset: to - 1, index: n };
            all.alerts.push(row);
        }
        let span = Span {
            log_partition: partition,
            from: LogPosition::start_of(from),
            to: LogPosition::start_of(to),
            log_time_ms: START,
            complete_until_ms: Some(START),
            caught_up: true,
        };
        let value = results::encode(&span, &all.to_batches(partition)?)?;
        let message = Message {
            partition: Some(partition),
            value: Some(value),
            ..Message::default()
        };
        self.writer.borrow_mut().write(&self.scene.name("alerts"), &[message])?;
        Ok(())
    }
}

/// Figures of a shop, `step` seconds into the day.
pub fn shop(shop: &str, step: i64) -> (LiveKey, String) {
    let live = ShopLive {
        shop_id: shop.into(),
        at: START + step * 1_000,
        complete_until: Some(START + step * 1_000 - 500),
        caught_up: true,
        sent_wall_ms: wall_ms(),
        day: DAY.into(),
        day_start: START,
        utc_offset_minutes: 480,
        figures: [("orders_paid".to_owned(), step)].into(),
        ..ShopLive::default()
    };
    (LiveKey::Shop { shop: shop.into() }, json(&live))
}

/// Figures of an agent.
pub fn agent(shop: &str, agent: &str, step: i64) -> (LiveKey, String) {
    let live = AgentLive {
        shop_id: shop.into(),
        agent_id: agent.into(),
        at: START + step * 1_000,
        day: DAY.into(),
        figures: ["received_buyers", "inquiry_buyers", "rounds", "replied_3min", "orders_paid"]
            .map(|name| (name.to_owned(), step))
            .into(),
        ..AgentLive::default()
    };
    let key = LiveKey::Agent {
        shop: shop.into(),
        agent: agent.into(),
    };
    (key, json(&live))
}

/// The day of an agent.
pub fn detail(shop: &str, agent: &str, step: i64) -> (LiveKey, String) {
    let detail = AgentDetail {
        shop_id: shop.into(),
        agent_id: agent.into(),
        at: START + step * 1_000,
        day: DAY.into(),
        ..AgentDetail::default()
    };
    let key = LiveKey::Detail {
        shop: shop.into(),
        agent: agent.into(),
    };
    (key, json(&detail))
}

/// The first hour of a shop.
pub fn curve(shop: &str, step: i64) -> (LiveKey, String) {
    let curve = Curve {
        shop_id: shop.into(),
        hour: START,
        at: START + step * 1_000,
        minutes: vec![],
    };
    let key = LiveKey::Curve {
        shop: shop.into(),
        hour: START,
    };
    (key, json(&curve))
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap()
}

/// The id of the alert that [`transition`] is about.
pub fn alert_id(shop: &str, agent: Option<&str>, onset: i64) -> String {
    AlertRow::id_of(Rule::BuyerWaiting, shop, agent, onset)
}

/// A transition of a waiting buyer's alert.
pub fn transition(shop: &str, agent: Option<&str>, onset: i64, number: u32, kind: TransitionKind, severity: Severity) -> AlertRow {
    AlertRow {
        stamp: Stamp {
            policy: "default".into(),
            is_final: true,
            published_at: START,
            dt: 20_403,
            position: LogPosition::start_of(0),
        },
        alert_id: alert_id(shop, agent, onset).into(),
        transition: number,
        kind,
        rule: Rule::BuyerWaiting,
        shop_id: shop.into(),
        agent_id: agent.map(Into::into),
        severity,
        value_num: 100_000,
        value_den: 1,
        onset: START + onset,
        at: START + onset + i64::from(number),
        evidence: "[{\"buyer_key\":\"00\",\"since\":1,\"age_ms\":2}]".into(),
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON; the status must be 200.
    pub fn json(&self) -> Result<Value> {
        ensure!(self.status == 200, "status {}: {}", self.status, self.body);
        serde_json::from_str(&self.body).context(format!("not json: {}", self.body))
    }
}

/// Sends a request; `path` with its query.
pub fn call(role: &Role, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<Answer> {
    let mut stream = open(role, method, path, headers, body)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut text = String::new();
    stream.read_to_string(&mut text).context(format!("{method} {path}"))?;
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without a head")?;
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("an answer without a status")?;
    Ok(Answer {
        status,
        head: head.to_lowercase(),
        body: body.to_owned(),
    })
}

/// GET, with a token if it is not empty.
pub fn get(role: &Role, token: &str, path: &str) -> Result<Answer> {
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    call(role, "GET", path, if token.is_empty() { &[] } else { &headers }, "")
}

/// Connects and asks. Version 1.0, so that the answer is as it is sent, up to the end of the connection.
fn open(role: &Role, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Result<TcpStream> {
    let address = role.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).context(format!("connecting to {address}"))?;
    let mut head = format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    Ok(stream)
}

/// An event of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What it is about.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// What it says.
    pub data: Value,
}

/// A stream of events that is read when a test waits for something.
pub struct Events {
    stream: TcpStream,
    raw: Vec<u8>,
    /// The id of the last event, or of the greeting.
    pub last_id: String,
    /// All events so far.
    pub events: Vec<Event>,
    ended: bool,
}

impl Events {
    /// Opens a stream, and waits for its greeting.
    pub fn open(role: &Role, path: &str, headers: &[(&str, &str)]) -> Result<Events> {
        let stream = open(role, "GET", path, headers, "")?;
        stream.set_read_timeout(Some(Duration::from_millis(20)))?;
        let mut events = Events {
            stream,
            raw: Vec::new(),
            last_id: String::new(),
            events: Vec::new(),
            ended: false,
        };
        let head = wait_until("the head of a stream", SOON, || {
            events.fill()?;
            let text = String::from_utf8_lossy(&events.raw).into_owned();
            Ok(text.find("\r\n\r\n").map(|at| text[..at].to_owned()))
        })?;
        ensure!(
            head.starts_with("HTTP/1.0 200") && head.contains("content-type: text/event-stream"),
            "{path}: {head}"
        );
        events.raw.drain(..head.len() + 4);
        events.until("the greeting of a stream", |events| (!events.last_id.is_empty()).then_some(()))?;
        Ok(events)
    }

    /// Waits for something.
    pub fn until<T>(&mut self, what: &str, mut met: impl FnMut(&Events) -> Option<T>) -> Result<T> {
        wait_until(what, SOON, || {
            self.read()?;
            match met(self) {
                Some(value) => Ok(Some(value)),
                None => Err(peakdesk_tests::Failure::new(format!(
                    "{} events, the last {:?}",
                    self.events.len(),
                    self.events.last()
                ))),
            }
        })
    }

    /// Waits for an event for which `wanted` holds; forgets those up to it.
    pub fn next(&mut self, what: &str, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
        let at = self.until(what, |events| events.events.iter().position(&wanted))?;
        self.events.drain(..=at).next_back().context("it was there")
    }

    /// Waits for the end of the stream.
    pub fn end(&mut self) -> Result {
        self.until("the end of a stream", |events| events.ended.then_some(()))
    }

    fn fill(&mut self) -> Result {
        let mut buffer = [0; 64 << 10];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(n) => {
                    self.raw.extend_from_slice(&buffer[..n]);
                    continue;
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.ended = true,
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        }
    }

    fn read(&mut self) -> Result {
        self.fill()?;
        while let Some(at) = self.raw.windows(2).position(|pair| pair == b"\n\n") {
            let block: Vec<u8> = self.raw.drain(..at + 2).collect();
            let (mut kind, mut data) = (String::new(), None);
            for line in String::from_utf8(block)?.lines() {
                match line.split_once(": ") {
                    Some(("id", id)) => self.last_id = id.to_owned(),
                    Some(("event", name)) => kind = name.to_owned(),
                    Some(("data", text)) => data = Some(serde_json::from_str(text)?),
                    _ => {}
                }
            }
            if let Some(data) = data {
                let id = self.last_id.clone();
                self.events.push(Event { kind, id, data });
            }
        }
        Ok(())
    }
}
