//! A scorer: the real core with the real keeper of checkpoints, on a log, a producer and a store of the simulated world.

use crate::broker::{Broker, Post, ScorerPost, Topic as Out};
use crate::store::{FAIR, Front, Objects, Put, Weather};
use crate::world::Mutant;
use peakdesk_checkpoint::keeper::Keeper;
use peakdesk_checkpoint::store::Store;
use peakdesk_log::error::LogError;
use peakdesk_log::group::Start;
use peakdesk_runtime::config::{CheckpointConfig, Config};
use peakdesk_runtime::health::Health;
use peakdesk_runtime::layers::Sources;
use peakdesk_runtime::metrics::Metrics;
use peakdesk_runtime::shutdown::Shutdown;
use peakdesk_scorer::core::{Core, LogMessage, Seat};
use peakdesk_scorer::{Aside, Held, Refusals, ScorerMetrics, Shared};
use peakdesk_scoring::policy::{Constants, Policies};
use rand::Rng;
use rand::rngs::SmallRng;
use std::cell::{OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// Lives of all scorers of a world.
pub const LIVES_MAX: usize = 400;

/// What processes are made of; each life needs one of its own, as states are held in it.
pub type Lives = [OnceCell<Shared>];

static SETTINGS: LazyLock<(Config, Metrics, ScorerMetrics)> = LazyLock::new(|| {
    let (config, metrics) = (Config::load(&Sources::default()).unwrap(), Metrics::new("simulated").unwrap());
    let scorer = ScorerMetrics::new(&metrics).unwrap();
    (config, metrics, scorer)
});

/// A counter of the scorers of all worlds so far, such as `restores`, by outcome.
pub fn counted(what: &str, outcome: &str) -> u64 {
    let (text, label) = (
        SETTINGS.1.render().unwrap(),
        format!("scorer_{what}_total{{outcome=\"{outcome}\"}} "),
    );
    let value = text.lines().find_map(|line| line.split_once(&label)?.1.parse().ok());
    value.unwrap_or(0)
}

#[derive(Debug)]
struct Position {
    next: i64,
    paused: bool,
    end_told: bool,
}

/// The consumer.
#[derive(Debug, Default)]
struct Reading {
    positions: RefCell<BTreeMap<i32, Position>>,
    skips: bool,
}

impl Seat for Reading {
    fn hold(&self, _: &str, partition: i32, offset: i64) -> Result<(), LogError> {
        if let Some(position) = self.positions.borrow_mut().get_mut(&partition) {
            *position = Position {
                next: offset + i64::from(self.skips) * 2,
                paused: true,
                end_told: false,
            };
        }
        Ok(())
    }

    fn resume(&self, _: &str, partition: i32) -> Result<(), LogError> {
        if let Some(position) = self.positions.borrow_mut().get_mut(&partition) {
            position.paused = false;
        }
        Ok(())
    }

    /// Nobody watches.
    fn waits_for(&self, _: &str, _: i32, _: &'static str) {}

    /// Nothing of the log is ever deleted here.
    fn watermarks(&self, _: &str, partition: i32) -> Result<(i64, i64), LogError> {
        Ok((0, self.positions.borrow().get(&partition).map_or(0, |position| position.next)))
    }
}

struct Life<'s> {
    core: Core<'s>,
    reading: Reading,
    outbox: ScorerPost,
}

pub struct Scorer<'s> {
    lives: &'s Lives,
    checkpoints: CheckpointConfig,
    keeper: Arc<Keeper>,
    front: Arc<Front>,
    shared: Option<&'s Shared>,
    life: Option<Life<'s>>,
    mutant: Option<Mutant>,
}

impl<'s> Scorer<'s> {
    pub fn new(lives: &'s Lives, objects: Arc<Objects>, every: Duration, mutant: Option<Mutant>) -> Self {
        let front = Arc::new(Front::new(objects));
        let checkpoints = CheckpointConfig {
            every,
            ..SETTINGS.0.checkpoint.clone()
        };
        let store = Store::over(front.clone(), "simulated", checkpoints.keep);
        Scorer {
            lives,
            checkpoints,
            keeper: Arc::new(Keeper::without_threads(store)),
            front,
            shared: None,
            life: None,
            mutant,
        }
    }

    pub fn is_alive(&self) -> bool {
        self.life.is_some()
    }

    /// A new process.
    pub fn start(&mut self) {
        let life = self
            .lives
            .iter()
            .find(|life| life.get().is_none())
            .expect("more lives than LIVES_MAX");
        let mut config = SETTINGS.0.clone();
        config.checkpoint = self.checkpoints.clone();
        let shared = life.get_or_init(|| Shared {
            config,
            constants: Constants::default(),
            policies: Policies::default(),
            metrics: SETTINGS.2.clone(),
            keeper: Some(self.keeper.clone()),
            aside: Aside::default(),
            refusals: Refusals::new(Health::new().condition("simulated")),
            held: Held::new(&self.checkpoints),
            shutdown: Shutdown::new(),
        });
        self.shared = Some(shared);
        self.start_again();
    }

    /// The thread begins again in the same process.
    pub fn start_again(&mut self) {
        let Some(shared) = self.shared else { return };
        self.life = Some(Life {
            core: Core::new(shared),
            reading: Reading {
                skips: self.mutant == Some(Mutant::ReadsFromBehindItsState),
                ..Reading::default()
            },
            outbox: ScorerPost {
                post: Post::default(),
                lies: self.mutant == Some(Mutant::SavesBeforeAcknowledged),
            },
        });
    }

    /// It dies; what it had sent may still arrive, and a write that was under way ends as said, or not at all.
    pub fn crash(&mut self, write: Option<Put>) -> Option<Post> {
        if let Some(put) = write {
            self.front.release_unheard(put);
        }
        self.life.take().map(|life| life.outbox.post)
    }

    pub fn post(&self) -> Option<&Post> {
        self.life.as_ref().map(|life| &life.outbox.post)
    }

    pub fn has(&self, partition: i32) -> bool {
        self.life
            .as_ref()
            .is_some_and(|life| life.reading.positions.borrow().contains_key(&partition))
    }

    /// How many messages it has not read, of the partitions it thinks that it has.
    pub fn behind(&self, broker: &Broker) -> i64 {
        let Some(life) = &self.life else { return 0 };
        let positions = life.reading.positions.borrow();
        let behind = |(partition, p): (&i32, &Position)| broker.end(Out::Log, *partition) - p.next + i64::from(p.paused);
        positions.iter().map(behind).sum()
    }

    pub fn is_writing(&self) -> bool {
        self.front.is_waiting()
    }

    /// Ends the write that is under way.
    pub fn end_write(&mut self, put: Put) {
        self.front.release(put);
    }

    pub fn take_over(&mut self, start: &Start, now: Instant) {
        let Some(life) = &mut self.life else { return };
        let position = Position {
            next: start.offset,
            paused: true,
            end_told: false,
        };
        life.reading.positions.borrow_mut().insert(start.partition, position);
        life.core.take_over(start, now);
    }

    pub fn give_up(&mut self, partition: i32) {
        let Some(life) = &mut self.life else { return };
        life.reading.positions.borrow_mut().remove(&partition);
        life.core.give_up(partition, &life.outbox);
    }

    /// Reads up to `most` messages, then goes on with what is under way. An error ends the thread.
    pub fn work(&mut self, most: usize, broker: &Broker, weather: Weather, now: Instant, rng: &mut SmallRng) -> Result<usize, String> {
        self.front.set_weather(weather);
        let Some(life) = &mut self.life else { return Ok(0) };
        let mut read = 0;
        for _ in 0..most.max(1) {
            let next = life.next(broker, rng);
            match &next {
                Some((partition, offset, Some(bytes))) => {
                    let message = LogMessage {
                        partition: *partition,
                        offset: *offset,
                        payload: bytes,
                    };
                    life.core.read(&message, now).map_err(|e| e.to_string())?;
                    read += 1;
                }
                Some((partition, _, None)) => life.core.reached_end(*partition, now),
                None => {}
            }
            life.outbox.post.check().map_err(|e| e.to_string())?;
            life.core.step(&life.reading, &mut life.outbox, now).map_err(|e| e.to_string())?;
            if next.is_none() {
                break;
            }
        }
        self.front.set_weather(FAIR);
        Ok(read)
    }
}

/// Partition, offset and value; without one, the end of the partition.
type Next = (i32, i64, Option<Rc<[u8]>>);

impl Life<'_> {
    /// The next message of a partition that is read, or its end.
    fn next(&self, broker: &Broker, rng: &mut SmallRng) -> Option<Next> {
        let mut positions = self.reading.positions.borrow_mut();
        let news: Vec<i32> = positions
            .iter()
            .filter(|(partition, p)| !p.paused && (!p.end_told || p.next < broker.end(Out::Log, **partition)))
            .map(|(partition, _)| *partition)
            .collect();
        let partition = *news.get(rng.random_range(0..news.len().max(1)))?;
        let position = positions.get_mut(&partition)?;
        let offset = position.next;
        let message = broker.get(Out::Log, partition, offset);
        position.end_told = message.is_none();
        position.next += i64::from(message.is_some());
        Some((partition, offset, message))
    }
}
