//! What changed, for everybody who watches: the events of a shop, each the newest value of its key, in one shared sequence.
//!
//! A feed is a log that is compacted at once: an event of a key replaces the one before. A client is a place in it. It gets
//! every event behind its place, which is the newest value of whatever changed since; so nothing is queued for a client, a slow
//! one misses only what is outdated, and one that comes back after a while resumes as it would have gone on.
//!
//! ```text
//! push, push, push … flush (10 times a second) ─► a batch: made once, sent to everybody whose place is where it begins
//!                                             └─► pull: the same for one client, from any place, or of a part only
//! ```
//!
//! A place below the floor cannot be resumed: something it may still show is no longer there to be corrected.

use axum::body::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::watch;

/// What a client is sent at a time where it is not a batch; one event may be larger.
const PULL_BYTES: usize = 64 << 10;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Shop,
    Agent,
    Detail,
    Curve,
    Alert,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 5] = [Kind::Shop, Kind::Agent, Kind::Detail, Kind::Curve, Kind::Alert];

    /// The name in the stream.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Shop => "shop",
            Kind::Agent => "agent",
            Kind::Detail => "detail",
            Kind::Curve => "curve",
            Kind::Alert => "alert",
        }
    }
}

/// An event: the JSON of a thing, and the bytes that carry it in a stream.
#[derive(Debug)]
pub struct Event {
    /// Place in the sequence.
    pub seq: u64,
    /// What it is about.
    pub kind: Kind,
    /// Which shop.
    pub shop: Arc<str>,
    /// Which agent, if it is about one.
    pub agent: Option<Arc<str>>,
    /// When it was made, by the wall clock (ms).
    pub wall_ms: i64,
    frame: Bytes,
    data: Range<usize>,
}

impl Event {
    /// Frames `json`, which has no line breaks, as an event.
    pub fn new(epoch: &str, seq: u64, kind: Kind, shop: Arc<str>, agent: Option<Arc<str>>, wall_ms: i64, json: &str) -> Self {
        let head = format!("event: {}\nid: {epoch}-{seq}\ndata: ", kind.name());
        let data = head.len()..head.len() + json.len();
        let frame = Bytes::from([head.as_str(), json, "\n\n"].concat());
        Event {
            seq,
            kind,
            shop,
            agent,
            wall_ms,
            frame,
            data,
        }
    }

    /// The JSON.
    pub fn json(&self) -> &str {
        let bytes = self.frame.get(self.data.clone()).unwrap_or_default();
        // It was made from text.
        std::str::from_utf8(bytes).unwrap_or_default()
    }

    /// As it is sent.
    pub fn frame(&self) -> &Bytes {
        &self.frame
    }
}

/// Everything that changed between two flushes, but for details.
#[derive(Debug, Default)]
pub struct Batch {
    /// It follows on this place.
    pub from: u64,
    /// It leads to this one.
    pub to: u64,
    /// The events.
    pub frames: Bytes,
}

/// What a client is sent.
#[derive(Debug, Default)]
pub struct Pull {
    /// The events; may be empty.
    pub frames: Bytes,
    /// The place they lead to.
    pub to: u64,
    /// When the oldest of them was made (ms).
    pub oldest_ms: Option<i64>,
}

/// The events of a shop, or of all shops.
#[derive(Debug)]
pub struct Feed {
    events: BTreeMap<u64, Arc<Event>>,
    floor: u64,
    newest: u64,
    published: watch::Sender<Arc<Batch>>,
}

impl Feed {
    /// Without events, at a place.
    pub fn new(at: u64) -> Self {
        let start = Batch {
            from: at,
            to: at,
            frames: Bytes::new(),
        };
        Feed {
            events: BTreeMap::new(),
            floor: 0,
            newest: at,
            published: watch::Sender::new(Arc::new(start)),
        }
    }

    /// Appends an event, in place of the one that `replaced` its key had.
    pub fn push(&mut self, event: Arc<Event>, replaced: Option<u64>) {
        if let Some(seq) = replaced {
            self.events.remove(&seq);
        }
        self.newest = self.newest.max(event.seq);
        self.events.insert(event.seq, event);
    }

    /// Forgets an event whose key is gone. `correct`: who has seen it must not go on as if nothing had happened.
    pub fn forget(&mut self, seq: u64, correct: bool) {
        self.events.remove(&seq);
        if correct {
            self.floor = self.floor.max(seq);
        }
    }

    /// Publishes what was pushed since the last time; how many events of each kind, in the order of [`Kind::ALL`].
    pub fn flush(&mut self) -> [u64; Kind::ALL.len()] {
        let mut made = [0; Kind::ALL.len()];
        let from = self.published.borrow().to;
        if self.newest == from {
            return made;
        }
        for (_, event) in self.events.range(from + 1..) {
            if let Some(n) = made.get_mut(event.kind as usize) {
                *n += 1;
            }
        }
        let new = self.events.range(from + 1..).map(|(_, event)| event);
        let shared: Vec<&Arc<Event>> = new.filter(|event| event.kind != Kind::Detail).collect();
        let frames = match shared[..] {
            [one] => one.frame.clone(),
            _ => Bytes::from(shared.iter().map(|event| &event.frame[..]).collect::<Vec<_>>().concat()),
        };
        self.published.send_replace(Arc::new(Batch {
            from,
            to: self.newest,
            frames,
        }));
        made
    }

    /// The place up to which is published.
    pub fn published(&self) -> u64 {
        self.published.borrow().to
    }

    /// Whether a client at this place can go on.
    pub fn can_resume(&self, at: u64) -> bool {
        at >= self.floor && at <= self.published()
    }

    /// Tells of new batches.
    pub fn watch(&self) -> watch::Receiver<Arc<Batch>> {
        self.published.subscribe()
    }

    /// Events behind `at` that are published, those for which `wanted` holds, a limited number of bytes.
    pub fn pull(&self, at: u64, wanted: impl Fn(&Event) -> bool) -> Pull {
        let end = self.published();
        let mut bytes = Vec::new();
        let mut pull = Pull {
            to: end.max(at),
            ..Pull::default()
        };
        if at >= end {
            return pull;
        }
        for event in self.events.range(at + 1..=end).map(|(_, event)| event) {
            if bytes.len() >= PULL_BYTES {
                pull.to = event.seq - 1;
                break;
            }
            if wanted(event) {
                pull.oldest_ms = Some(pull.oldest_ms.map_or(event.wall_ms, |oldest| oldest.min(event.wall_ms)));
                bytes.extend_from_slice(&event.frame);
            }
        }
        pull.frames = bytes.into();
        pull
    }
}

#[cfg(test)]
#[path = "feed_tests.rs"]
mod tests;
