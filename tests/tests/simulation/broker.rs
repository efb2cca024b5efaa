//! Topics of our own, in memory, and the mail on its way to them.
//!
//! ```text
//! actor ─► Post (counted, in order per partition) ─► the world carries a letter: once, twice, unheard, or not at all ─► Topic
//! ```
//!
//! Always holds: what lies in a topic stays where it is. Letters of a sender that died may still arrive.

use peakdesk_log::error::LogError;
use peakdesk_scorer::core::Outbox;
use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::rc::Rc;

/// The topics that Peakdesk writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    Log,
    Results,
    Alerts,
    Letters,
}

/// Messages by topic and partition.
#[derive(Debug)]
pub struct Broker {
    topics: [Vec<Vec<Rc<[u8]>>>; 4],
}

impl Broker {
    pub fn new(partitions: usize) -> Self {
        Broker {
            topics: std::array::from_fn(|_| vec![Vec::new(); partitions]),
        }
    }

    pub fn append(&mut self, topic: Topic, partition: i32, bytes: Rc<[u8]>) {
        self.topics[topic as usize][partition as usize].push(bytes);
    }

    pub fn end(&self, topic: Topic, partition: i32) -> i64 {
        self.topics[topic as usize][partition as usize].len() as i64
    }

    pub fn get(&self, topic: Topic, partition: i32, offset: i64) -> Option<Rc<[u8]>> {
        self.topics[topic as usize][partition as usize].get(offset as usize).cloned()
    }

    pub fn all(&self, topic: Topic, partition: i32) -> &[Rc<[u8]>] {
        &self.topics[topic as usize][partition as usize]
    }
}

#[derive(Debug)]
struct Letter {
    number: u64,
    topic: Topic,
    partition: i32,
    bytes: Rc<[u8]>,
}

/// What becomes of a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carry {
    /// It arrives.
    Once,
    /// It arrives twice, and the sender knows of one.
    Twice,
    /// It arrives, and the sender is told that it did not.
    Unheard,
    /// It does not arrive, and the sender is told so; those behind it may still arrive.
    Lost,
    /// It does not arrive, and the sender is told that it did: no broker may do this.
    Betrayed,
}

#[derive(Debug, Default)]
struct Mail {
    queue: VecDeque<Letter>,
    sent: u64,
    acknowledged: BTreeSet<u64>,
    acknowledged_until: u64,
    failed: bool,
}

/// A producer.
#[derive(Debug, Clone, Default)]
pub struct Post(Rc<RefCell<Mail>>);

impl Post {
    pub fn put(&self, topic: Topic, partition: i32, bytes: &[u8]) -> Result<(), LogError> {
        self.check()?;
        let mut mail = self.0.borrow_mut();
        let letter = Letter {
            number: mail.sent,
            topic,
            partition,
            bytes: bytes.into(),
        };
        mail.queue.push_back(letter);
        mail.sent += 1;
        Ok(())
    }

    /// Fails if any letter so far did not arrive.
    pub fn check(&self) -> Result<(), LogError> {
        let failed = self.0.borrow().failed;
        let error = || LogError::Delivery {
            topic: "simulated".to_owned(),
            cause: "it was lost".to_owned(),
        };
        if failed { Err(error()) } else { Ok(()) }
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().queue.is_empty()
    }

    pub fn acknowledged_until(&self) -> u64 {
        self.0.borrow().acknowledged_until
    }

    /// Everything that was sent is acknowledged.
    pub fn is_acknowledged(&self) -> bool {
        let mail = self.0.borrow();
        mail.acknowledged_until == mail.sent
    }

    /// Topic and partition of every lane on which letters wait.
    pub fn lanes(&self) -> Vec<(Topic, i32)> {
        let mail = self.0.borrow();
        let lanes: BTreeSet<_> = mail.queue.iter().map(|l| (l.topic, l.partition)).collect();
        lanes.into_iter().collect()
    }

    /// Carries the first letter of a lane.
    pub fn carry(&self, lane: (Topic, i32), how: Carry, broker: &mut Broker) {
        let mut mail = self.0.borrow_mut();
        let Some(at) = mail.queue.iter().position(|l| (l.topic, l.partition) == lane) else {
            return;
        };
        let Some(letter) = mail.queue.remove(at) else { return };
        let times = match how {
            Carry::Once | Carry::Unheard => 1,
            Carry::Twice => 2,
            Carry::Lost | Carry::Betrayed => 0,
        };
        for _ in 0..times {
            broker.append(letter.topic, letter.partition, letter.bytes.clone());
        }
        if matches!(how, Carry::Unheard | Carry::Lost) {
            mail.failed = true;
            return;
        }
        mail.acknowledged.insert(letter.number);
        let mut until = mail.acknowledged_until;
        while mail.acknowledged.remove(&until) {
            until += 1;
        }
        mail.acknowledged_until = until;
    }
}

/// A producer as a scorer sees it.
#[derive(Debug)]
pub struct ScorerPost {
    pub post: Post,
    /// Says that everything is acknowledged: no client may do this.
    pub lies: bool,
}

impl Outbox for ScorerPost {
    fn send(&mut self, topic: &str, partition: i32, payload: &[u8]) -> Result<(), LogError> {
        let topic = if topic.contains("alerts") { Topic::Alerts } else { Topic::Results };
        self.post.put(topic, partition, payload)
    }

    fn sent(&self) -> u64 {
        self.post.0.borrow().sent
    }

    fn acknowledged_until(&self) -> u64 {
        if self.lies { self.sent() } else { self.post.acknowledged_until() }
    }
}
