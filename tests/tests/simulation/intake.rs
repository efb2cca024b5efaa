//! An intake's thread for one topic: the real core, with a consumer and a producer of the simulated world.
//!
//! As in the role, a tick sends, waits for all acknowledgements, and commits; nothing is read meanwhile. Here each of these is a
//! step of its own, and between any two the thread may die.

use crate::broker::{Post, Topic as Out};
use crate::sources::Sources;
use crate::world::{Commits, Group, Mutant};
use peakdesk_intake::core::{Core, Incoming, Settings, Taken};
use peakdesk_intake::decode::{Edge, Format};
use peakdesk_log::group::{Heard, Start};
use peakdesk_model::input::Topic;
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;

pub const MAX_FRAME_EVENTS: usize = 6;

/// A change of the assignment that the thread has not looked at.
#[derive(Debug)]
pub enum Change {
    Assigned(Start),
    Revoked(i32),
}

#[derive(Debug)]
struct Position {
    next: i64,
    end_told: bool,
}

#[derive(Debug)]
struct Life {
    core: Core,
    post: Post,
    positions: BTreeMap<i32, Position>,
    /// What was heard of the partitions.
    heard: BTreeMap<i32, Heard>,
    /// A tick waits for its acknowledgements; whether idle partitions are to be committed too, and its wall time.
    flushing: Option<(bool, i64)>,
    changes: Vec<Change>,
}

#[derive(Debug)]
pub struct Intake {
    pub topic: Topic,
    life: Option<Life>,
    /// It hears nothing from the brokers, and nothing of what it sends arrives.
    pub cut_off: bool,
}

impl Intake {
    pub fn new(topic: Topic) -> Self {
        Intake {
            topic,
            life: None,
            cut_off: false,
        }
    }

    pub fn is_alive(&self) -> bool {
        self.life.is_some()
    }

    pub fn start(&mut self, sources: &Sources<'_>, log_partitions: i32) {
        let core = Core::new(Settings {
            topic: self.topic,
            generation: 1,
            format: Format::Json,
            log_partitions,
            max_frame_events: MAX_FRAME_EVENTS,
            expected: sources.expected(),
        });
        self.life = Some(Life {
            core,
            post: Post::default(),
            positions: BTreeMap::new(),
            heard: BTreeMap::new(),
            flushing: None,
            changes: Vec::new(),
        });
    }

    /// It dies; what it had sent may still arrive.
    pub fn crash(&mut self) -> Option<Post> {
        self.life.take().map(|life| life.post)
    }

    pub fn post(&self) -> Option<&Post> {
        self.life.as_ref().map(|life| &life.post)
    }

    /// Whether it thinks that it has a partition.
    pub fn has(&self, partition: i32) -> bool {
        let Some(life) = &self.life else { return false };
        let last = life.changes.iter().rev().find_map(|change| match change {
            Change::Assigned(start) => (start.partition == partition).then_some(true),
            Change::Revoked(gone) => (*gone == partition).then_some(false),
        });
        last.unwrap_or_else(|| life.positions.contains_key(&partition))
    }

    pub fn change(&mut self, change: Change) {
        if let Some(life) = &mut self.life {
            life.changes.push(change);
        }
    }

    /// Reads up to `most` records, unless a tick waits; what is refused goes to the dead letters.
    pub fn poll(&mut self, most: usize, sources: &Sources<'_>, edge: &Edge, rng: &mut SmallRng) -> Result<usize, String> {
        let (topic, cut_off) = (self.topic, self.cut_off);
        let Some(life) = &mut self.life else { return Ok(0) };
        if life.flushing.is_some() || cut_off {
            return Ok(0);
        }
        if !life.changes.is_empty() {
            life.tick(true, sources.now)?;
            return Ok(0);
        }
        let mut read = 0;
        for _ in 0..most {
            let end = |partition: i32| sources.end(topic, partition);
            let news: Vec<i32> = life
                .positions
                .iter()
                .filter(|(partition, p)| p.next < end(**partition) || !p.end_told)
                .map(|(partition, _)| *partition)
                .collect();
            if news.is_empty() {
                break;
            }
            let partition = news[rng.random_range(0..news.len())];
            life.read(topic, partition, sources, edge)?;
            read += 1;
        }
        life.hear(topic, sources);
        Ok(read)
    }

    /// Sends what waits, and how far the sources are.
    pub fn tick(&mut self, all: bool, now: i64) -> Result<(), String> {
        match &mut self.life {
            Some(life) if life.flushing.is_none() => life.tick(all, now),
            _ => Ok(()),
        }
    }

    /// A tick whose messages are all acknowledged is committed; then changes are looked at. An error ends the thread.
    pub fn settle(&mut self, commits: &mut Commits, lost: bool, mutant: Option<Mutant>) -> Result<bool, String> {
        let Some(life) = &mut self.life else { return Ok(false) };
        life.post.check().map_err(|e| e.to_string())?;
        let Some((all, wall)) = life.flushing else { return Ok(false) };
        if !life.post.is_acknowledged() && mutant != Some(Mutant::CommitsBeforeAcknowledged) {
            return Ok(false);
        }
        life.flushing = None;
        for commit in life.core.to_commit(all, wall) {
            if !lost {
                commits.insert((Group::Intake(self.topic), commit.partition), (commit.offset, commit.beside));
            }
        }
        for change in std::mem::take(&mut life.changes) {
            match change {
                Change::Assigned(start) => {
                    life.core.change(&[], std::slice::from_ref(&start));
                    let next = start.offset + i64::from(mutant == Some(Mutant::SkipsARecord) && start.offset > 0);
                    life.positions.insert(start.partition, Position { next, end_told: false });
                }
                Change::Revoked(gone) => {
                    life.core.change(&[gone], &[]);
                    life.positions.remove(&gone);
                }
            }
        }
        Ok(true)
    }

    /// It believes to hear the brokers although it does not: no client may do this.
    pub fn imagine(&mut self, now: i64) {
        let Some(life) = &mut self.life else { return };
        for partition in life.positions.keys() {
            life.heard.insert(*partition, Heard { at_ms: now, until: 0 });
        }
    }
}

impl Life {
    fn read(&mut self, topic: Topic, partition: i32, sources: &Sources<'_>, edge: &Edge) -> Result<(), String> {
        let Some(position) = self.positions.get_mut(&partition) else {
            return Ok(());
        };
        let Some(record) = sources.get(topic, partition, position.next) else {
            position.end_told = true;
            self.core.reached_end(partition, sources.now);
            return Ok(());
        };
        let incoming = Incoming {
            partition,
            offset: record.offset,
            timestamp: Some(record.arrival),
            payload: Some(&record.value),
        };
        position.next += 1;
        position.end_told = false;
        match self.core.read(&incoming, edge, sources.now) {
            Taken::Known | Taken::Event(None) => {}
            Taken::Event(Some(log_partition)) => {
                let message = self.core.message(log_partition, sources.now).map_err(|e| e.to_string())?;
                self.post.put(Out::Log, log_partition, &message.bytes).map_err(|e| e.to_string())?;
            }
            Taken::Dead(position, reason, _) => {
                let letter = serde_json::to_vec(&(topic, partition, position.offset, reason.name())).map_err(|e| e.to_string())?;
                self.post.put(Out::Letters, 0, &letter).map_err(|e| e.to_string())?;
            }
            Taken::Later(error) => return Err(error.to_string()),
        }
        Ok(())
    }

    fn tick(&mut self, all: bool, now: i64) -> Result<(), String> {
        self.flushing = Some((all, now));
        if self.core.sources() == 0 {
            return Ok(());
        }
        for message in self
            .core
            .tick(now, |partition| self.heard.get(&partition).copied().unwrap_or_default(), 1.0)
            .map_err(|e| e.to_string())?
        {
            self.post
                .put(Out::Log, message.log_partition, &message.bytes)
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn hear(&mut self, topic: Topic, sources: &Sources<'_>) {
        for partition in self.positions.keys() {
            let heard = Heard {
                at_ms: sources.now,
                until: sources.end(topic, *partition),
            };
            self.heard.insert(*partition, heard);
        }
    }
}
