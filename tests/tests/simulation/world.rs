//! One world: a story, topics, and the actors that run on them, all of it driven by one seed on one thread.
//!
//! ```text
//! story ─► Sources ─► intakes ─► log ─► scorers ─► results, alerts ─► warehouses ─► files
//!             every step the seed picks an actor and a deed, a letter and its fate, or a fault
//! ```
//!
//! Always holds: the same seed gives the same steps; time is what the world says it is. While it is disturbed anybody may die
//! between any two deeds, partitions move with and without the word of their old owner (who goes on as a zombie, commits and
//! all), and the network, the store and the disk do what they may do. Then it is healed: the dead start again, the network
//! carries, and nothing else is done for anybody.
//!
//! Not here: what the outcome should be (`judge`).

use crate::broker::{Broker, Carry, Post, Topic as Out};
use crate::chaos::Chaos;
use crate::intake::Intake;
use crate::scorer::{Lives, Scorer};
use crate::shelf::{Disk, Memory};
use crate::sources::Sources;
use crate::store::{FAIR, Objects, Put};
use crate::story::Story;
use crate::warehouse::Warehouse;
use peakdesk_intake::decode::Edge;
use peakdesk_model::input::Topic;
use peakdesk_model::time::{DAY_MS, MINUTE_MS, SECOND_MS};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const LOG_PARTITIONS: i32 = 2;
/// After so much time nothing can change any more: orders are followed for 45 days after their last event.
const HORIZON_MS: i64 = 75 * DAY_MS;
const JUMP_MS: i64 = 25 * DAY_MS;
const LONG_JUMPS: i64 = HORIZON_MS / JUMP_MS;
/// So many rounds in which nothing happens mean that nothing will.
const QUIET_ROUNDS: usize = 2;
/// Healing takes no longer than this, or something is stuck.
const ROUNDS_MAX: usize = 3_000;

/// A consumer group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    Intake(Topic),
    Scorer,
    Results,
    Alerts,
}

/// Committed offsets with what stands beside them.
pub type Commits = BTreeMap<(Group, i32), (i64, String)>;

/// A fault that no part of the system may have, planted to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// An intake commits before the log has acknowledged.
    CommitsBeforeAcknowledged,
    /// An intake goes on one record behind what is committed.
    SkipsARecord,
    /// An intake's clocks run on although it hears nothing.
    ImaginesToHear,
    /// A scorer publishes a checkpoint before its rows are acknowledged.
    SavesBeforeAcknowledged,
    /// A scorer goes on behind its state.
    ReadsFromBehindItsState,
    /// The broker acknowledges what it loses.
    BrokerLoses,
    /// A warehouse commits rows that are in no file.
    CommitsWhatIsInNoFile,
}

pub struct World<'s> {
    pub rng: SmallRng,
    pub chaos: Chaos,
    pub mutant: Option<Mutant>,
    edge: &'s Edge,
    pub sources: Sources<'s>,
    ends: i64,
    epoch: (Instant, i64),
    pub broker: Broker,
    pub commits: Commits,
    pub owners: BTreeMap<(Group, i32), usize>,
    pub intakes: Vec<Intake>,
    pub scorers: Vec<Scorer<'s>>,
    pub warehouses: Vec<Warehouse>,
    /// The mail of the dead.
    pub ghosts: Vec<Post>,
    pub shelf: Arc<Memory>,
    /// What was done, if anybody wants to know.
    pub trace: Option<Vec<String>>,
}

impl<'s> World<'s> {
    pub fn new(seed: u64, story: &'s Story, edge: &'s Edge, lives: &'s Lives, mutant: Option<Mutant>, traced: bool) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let chaos = Chaos::draw(&mut rng);
        let (objects, shelf) = (Arc::new(Objects::default()), Arc::new(Memory::default()));
        let every = Duration::from_secs(chaos.checkpoint_every_s);
        let warehouse = |group| Warehouse::new(group, shelf.clone(), chaos.slice_ms);
        World {
            mutant,
            edge,
            sources: Sources::new(story),
            ends: story.ends,
            epoch: (Instant::now(), story.begins),
            broker: Broker::new(LOG_PARTITIONS as usize),
            commits: Commits::new(),
            owners: BTreeMap::new(),
            intakes: Topic::ALL.into_iter().cycle().take(3 * chaos.intakes).map(Intake::new).collect(),
            scorers: (0..chaos.scorers)
                .map(|_| Scorer::new(lives, objects.clone(), every, mutant))
                .collect(),
            warehouses: [Group::Results, Group::Alerts]
                .into_iter()
                .cycle()
                .take(2 * chaos.warehouses)
                .map(warehouse)
                .collect(),
            ghosts: Vec::new(),
            trace: traced.then(Vec::new),
            shelf,
            rng,
            chaos,
        }
    }

    /// Lives through the disturbed time and is healed. An error is something that must not happen.
    pub fn run(&mut self) -> Result<(), String> {
        for member in 0..self.members() {
            self.start(member);
        }
        self.groups()
            .into_iter()
            .for_each(|(group, partition)| self.rebalance(group, partition));
        while self.sources.now < self.ends + self.chaos.disturbed_after_ms {
            self.step()?;
        }
        self.heal()
    }

    pub fn now(&self) -> Instant {
        self.epoch.0 + Duration::from_millis((self.sources.now - self.epoch.1).max(0).unsigned_abs())
    }

    pub fn say(&mut self, what: impl FnOnce() -> String) {
        let now = self.sources.now - self.epoch.1;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>10.3} {}", now as f64 / 1000.0, what()));
        }
    }

    fn posts(&self) -> Vec<Post> {
        let intakes = self.intakes.iter().filter(|i| !i.cut_off).filter_map(Intake::post);
        let scorers = self.scorers.iter().filter_map(Scorer::post);
        let all = intakes.chain(scorers).chain(&self.ghosts);
        all.filter(|post| !post.is_empty()).cloned().collect()
    }

    /// Carries up to `most` letters; how many.
    fn carry(&mut self, most: usize, fair: bool) -> usize {
        for carried in 0..most {
            let posts = self.posts();
            let Some(post) = posts.choose(&mut self.rng) else { return carried };
            let lanes = post.lanes();
            let Some(lane) = lanes.choose(&mut self.rng) else { return carried };
            let mut how = if fair { Carry::Once } else { self.chaos.carry(&mut self.rng) };
            if self.mutant == Some(Mutant::BrokerLoses) && lane.0 == Out::Results && self.rng.random_bool(0.02) {
                how = Carry::Betrayed;
            }
            if how != Carry::Once {
                self.say(|| format!("a letter to {lane:?} arrives {how:?}"));
            }
            post.carry(*lane, how, &mut self.broker);
        }
        most
    }

    fn step(&mut self) -> Result<(), String> {
        let roll = self.rng.random_range(0..100);
        match roll {
            0..12 => {
                self.sources.now += self.chaos.time_passes(&mut self.rng);
                Ok(())
            }
            12..35 => {
                self.carry(8, false);
                Ok(())
            }
            35..94 => {
                let number = self.rng.random_range(0..self.members());
                let most = self.rng.random_range(0..8);
                if self.rng.random_bool(self.chaos.lazy[number % self.chaos.lazy.len()]) {
                    return Ok(());
                }
                self.work(number, most, false).map(drop)
            }
            _ => {
                self.disturb();
                Ok(())
            }
        }
    }

    /// An actor does something; how much it read.
    fn work(&mut self, number: usize, most: usize, fair: bool) -> Result<usize, String> {
        let lost = !fair && self.rng.random_bool(0.1);
        let now = self.now();
        match self.member(number) {
            (Group::Intake(_), place) => {
                let intake = &mut self.intakes[place];
                if self.mutant == Some(Mutant::ImaginesToHear) {
                    intake.imagine(self.sources.now);
                }
                let settled = intake.settle(&mut self.commits, lost, self.mutant);
                let worked = settled.and_then(|settled| {
                    let read = intake.poll(most, &self.sources, self.edge, &mut self.rng)?;
                    if fair || self.rng.random_bool(0.3) {
                        intake.tick(self.rng.random_bool(0.3) || fair, self.sources.now)?;
                    }
                    Ok(read + usize::from(settled && !fair))
                });
                Ok(worked.unwrap_or_else(|error| {
                    self.failed(number, &error);
                    1
                }))
            }
            (Group::Scorer, place) => {
                let weather = if fair { FAIR } else { self.chaos.weather(&mut self.rng) };
                if self.scorers[place].is_writing() && (fair || self.rng.random_bool(0.2)) {
                    let put = if fair { Put::Good } else { self.chaos.put(&mut self.rng) };
                    self.scorers[place].end_write(put);
                }
                let worked = self.scorers[place].work(most, &self.broker, weather, now, &mut self.rng);
                Ok(worked.unwrap_or_else(|error| {
                    self.failed(number, &error);
                    1
                }))
            }
            (_, place) => {
                let disk = if fair { Disk::Takes } else { self.chaos.disk(&mut self.rng) };
                let read = self.warehouses[place].work(most, &self.broker, disk, &mut self.rng)?;
                if fair || self.rng.random_bool(0.4) {
                    self.warehouses[place].commit(&mut self.commits, lost, self.mutant);
                }
                Ok(read)
            }
        }
    }

    fn disturb(&mut self) {
        let number = self.rng.random_range(0..self.members());
        match self.rng.random_range(0..12) {
            0..3 if !self.is_alive(number) => self.start(number),
            0..3 if self.rng.random_bool(self.chaos.deaths) => self.crash(number),
            3..7 => {
                let (group, partition) = *self.groups().choose(&mut self.rng).unwrap();
                self.rebalance(group, partition);
            }
            7 => self.wake_zombies(),
            8 => {
                if let (Group::Intake(_), place) = self.member(number) {
                    self.intakes[place].cut_off ^= true;
                }
            }
            9 if !self.ghosts.is_empty() => {
                let gone = self.rng.random_range(0..self.ghosts.len());
                self.ghosts.swap_remove(gone);
            }
            10 => {
                // What was sent long ago arrives again.
                let topic = *[Out::Log, Out::Results, Out::Alerts].choose(&mut self.rng).unwrap();
                let partition = self.rng.random_range(0..LOG_PARTITIONS);
                let again = self.rng.random_range(0..self.broker.end(topic, partition).max(1));
                if let Some(bytes) = self.broker.get(topic, partition, again) {
                    self.say(|| format!("{topic:?} {partition}: {again} again"));
                    self.broker.append(topic, partition, bytes);
                }
            }
            _ => {
                // Partitions without an owner find one.
                for (group, partition) in self.groups() {
                    if !self.owners.contains_key(&(group, partition)) {
                        self.rebalance(group, partition);
                    }
                }
            }
        }
    }

    /// How many messages of our own topics are not read.
    fn behind(&self) -> i64 {
        let scorers: i64 = self.scorers.iter().map(|s| s.behind(&self.broker)).sum();
        scorers + self.warehouses.iter().map(|w| w.behind(&self.broker)).sum::<i64>()
    }

    /// The dead start, the network carries, and everybody goes on until every horizon has passed.
    fn heal(&mut self) -> Result<(), String> {
        self.say(|| "healing".to_owned());
        if self.rng.random_bool(0.5) {
            self.ghosts.clear();
        }
        for number in 0..self.members() {
            if self.is_alive(number) && self.rng.random_bool(self.chaos.restarts_to_heal) {
                self.crash(number);
            }
            if !self.is_alive(number) {
                self.start(number);
            }
        }
        self.intakes.iter_mut().for_each(|i| i.cut_off = false);
        let (mut quiet, mut left) = (0, LONG_JUMPS + 3);
        for _ in 0..ROUNDS_MAX {
            self.wake_zombies();
            for (group, partition) in self.groups() {
                if !self.owners.contains_key(&(group, partition)) {
                    self.rebalance(group, partition);
                }
            }
            let mut read = 0;
            for number in 0..self.members() {
                let records = self.work(number, 200, true)?;
                read += if number < self.intakes.len() { records } else { 0 };
                self.carry(usize::MAX, true);
            }
            self.sources.now += 2 * SECOND_MS;
            quiet = if read == 0 && self.behind() == 0 { quiet + 1 } else { 0 };
            if quiet < QUIET_ROUNDS {
                continue;
            }
            if left == 0 {
                return Ok(());
            }
            (quiet, left) = (0, left - 1);
            self.sources.now += if left >= LONG_JUMPS { 30 * MINUTE_MS } else { JUMP_MS };
        }
        Err(format!("after {ROUNDS_MAX} rounds of healing something still goes on"))
    }
}
