//! What a checkpoint costs at a million buyers in one partition: how long taking the snapshot holds up the fold, how the next
//! events are slowed down while parts are copied, how long storing and restoring take beside it.
//!
//! ```sh
//! cargo bench -p peakdesk-benches --bench checkpoint
//! ```
//!
//! Half of the buyers order; a fiftieth ask for a refund. One shop holds them all: the hardest case, as nothing is small.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use peakdesk_checkpoint::form::{Head, decode, encode};
use peakdesk_model::event::{BuyerKey, Event, Kind};
use peakdesk_model::frame::{FrameHead, SourceRange};
use peakdesk_model::input::Topic;
use peakdesk_model::position::{SourcePartition, SourcePosition};
use peakdesk_scoring::fold::Fold;
use peakdesk_scoring::output::Output;
use peakdesk_scoring::policy::{Constants, Policies};
use peakdesk_scoring::snapshot::STATE_VERSION;
use std::time::{Duration, Instant};

/// As in the product.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const BUYERS: u64 = 1_000_000;
const AGENTS: u64 = 400;
const BEGIN_MS: i64 = 1_762_790_400_000;
/// The buyers of a million come within some hours.
const STEP_MS: i64 = 20;
const BUYERS_PER_FRAME: u64 = 200;
const PROBE_EVENTS: usize = 10_000;

const CHAT: SourcePartition = SourcePartition {
    topic: Topic::Chat,
    partition: 0,
    generation: 1,
};
const ORDERS: SourcePartition = SourcePartition {
    topic: Topic::Orders,
    partition: 0,
    generation: 1,
};
const REFUNDS: SourcePartition = SourcePartition {
    topic: Topic::Refunds,
    partition: 0,
    generation: 1,
};
const SOURCES: [SourcePartition; 3] = [CHAT, ORDERS, REFUNDS];

/// Writes the log of a shop and folds it as it goes.
struct Story {
    fold: Fold,
    policies: Policies,
    offset: i64,
    read: [i64; 3],
    events: usize,
}

/// One event before it has a place.
struct Said {
    source: usize,
    kind: Kind,
    buyer: u64,
    id: String,
    agent: Option<String>,
    order: Option<String>,
    refund: Option<String>,
}

impl Said {
    fn new(source: usize, kind: Kind, buyer: u64, id: String) -> Self {
        Said {
            source,
            kind,
            buyer,
            id,
            agent: None,
            order: None,
            refund: None,
        }
    }

    /// What happens between a shop and a buyer.
    fn of_buyer(buyer: u64, round: u64) -> Vec<Said> {
        let agent = Some(format!("a{}", (buyer * 7 + round) % AGENTS));
        let id = |what: &str| format!("{what}{round}-{buyer}");
        let mut said = vec![
            Said::new(0, Kind::BuyerMessage, buyer, id("b")),
            Said::new(0, Kind::AgentMessage, buyer, id("a")),
        ];
        said.iter_mut().for_each(|s| s.agent.clone_from(&agent));
        if buyer.is_multiple_of(2) {
            for kind in [Kind::OrderCreated, Kind::OrderPaid] {
                let mut order = Said::new(1, kind, buyer, id(kind.name()));
                order.order = Some(id("o"));
                said.push(order);
            }
        }
        if buyer.is_multiple_of(50) {
            let mut refund = Said::new(2, Kind::RefundRequested, buyer, id("r"));
            (refund.order, refund.refund) = (Some(id("o")), Some(id("f")));
            said.push(refund);
        }
        said
    }
}

impl Story {
    fn new() -> Self {
        Story {
            fold: Fold::new(Constants::default()),
            policies: Policies::default(),
            offset: 0,
            read: [0; 3],
            events: 0,
        }
    }

    /// Folds a frame about some buyers; the time it took.
    fn frame(&mut self, buyers: impl Iterator<Item = u64>, round: u64) -> Duration {
        let from = self.read;
        let mut said = Vec::new();
        for buyer in buyers {
            let t = BEGIN_MS + (round * BUYERS + buyer) as i64 * STEP_MS;
            said.extend(Said::of_buyer(buyer, round).into_iter().zip(0..).map(|(s, i)| (t + i * 2_000, s)));
        }
        let now = said.iter().map(|s| s.0).max().unwrap_or(BEGIN_MS);
        let events: Vec<Event<'_>> = said.iter().map(|(t, s)| self.place(*t, now, s)).collect();
        let range = |(i, partition): (usize, SourcePartition)| SourceRange {
            partition,
            origin: 0,
            from: from[i],
            to: self.read[i],
            clock: Some(now),
        };
        let head = FrameHead {
            wall_ms: now,
            ranges: SOURCES.into_iter().enumerate().map(range).collect(),
            caught_up: true,
            ..FrameHead::default()
        };
        let mut out = Output::default();
        self.offset += 1;
        self.events += events.len();
        let begun = Instant::now();
        self.fold.apply(self.offset, &head, events.into_iter(), &self.policies, &mut out);
        begun.elapsed()
    }

    fn place<'a>(&mut self, t: i64, now: i64, said: &'a Said) -> Event<'a> {
        let next = &mut self.read[said.source];
        let source = SourcePosition {
            partition: SOURCES[said.source],
            offset: *next,
        };
        *next += 1;
        let mut key = [0; 16];
        key[..8].copy_from_slice(&said.buyer.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes());
        Event {
            agent_id: said.agent.as_deref(),
            order_id: said.order.as_deref(),
            refund_id: said.refund.as_deref(),
            amount_fen: said.order.as_ref().map(|_| 9_900),
            item_count: said.order.as_ref().map(|_| 1),
            order_created_at: said.order.as_ref().map(|_| t),
            ..Event::new(source, now, t, said.kind, "shop", &said.id, BuyerKey(key))
        }
    }

    /// Folds events about buyers all over the state; how long the slowest frame and all of them took.
    fn probe(&mut self, seed: u64, round: u64) -> (Duration, Duration) {
        let (mut slowest, mut total, end) = (Duration::ZERO, Duration::ZERO, self.events + PROBE_EVENTS);
        let mut at = seed;
        while self.events < end {
            let buyers: Vec<u64> = (0..BUYERS_PER_FRAME)
                .map(|_| {
                    at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    (at >> 33) % BUYERS
                })
                .collect();
            let took = self.frame(buyers.into_iter(), round);
            (slowest, total) = (slowest.max(took), total + took);
        }
        (slowest, total)
    }
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = work();
    println!("{what:<60} {:>10.1?}", begun.elapsed());
    result
}

fn main() {
    let mut story = Story::new();
    timed("building the state", || {
        for first in (0..BUYERS).step_by(BUYERS_PER_FRAME as usize) {
            story.frame(first..first + BUYERS_PER_FRAME, 0);
        }
    });
    println!("{:?}, {} events", story.fold.size(), story.events);
    let (slowest, total) = story.probe(1, 1);
    println!("{PROBE_EVENTS} events before: {total:.1?}, the slowest frame {slowest:.1?}");
    for n in 2..5 {
        let snapshot = timed("snapshot: the pause", || story.fold.snapshot());
        let (slowest, total) = story.probe(n, n);
        println!("{PROBE_EVENTS} events after: {total:.1?}, the slowest frame {slowest:.1?}");
        timed("letting go of it", || drop(snapshot));
    }
    let snapshot = story.fold.snapshot();
    let head = Head {
        state_version: STATE_VERSION,
        topic: "log".into(),
        partition: 0,
        offset: story.offset,
        last_message: 0,
        taken_at_ms: 0,
    };
    let bytes = timed("storing, on a thread of its own", || encode(&head, &snapshot).unwrap());
    println!("{} bytes", bytes.len());
    let (_, fold) = timed("restoring, on a thread of its own", || {
        decode::<Fold>(&bytes, STATE_VERSION).unwrap()
    });
    assert_eq!(fold.size(), story.fold.size());
    assert!(fold.finds_the_same(&story.fold));
}
