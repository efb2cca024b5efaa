//! A warehouse's thread for the results or for the alerts: the real reader, on topics and a disk of the simulated world.

use crate::broker::{Broker, Topic as Out};
use crate::shelf::{Disk, Memory};
use crate::world::{Commits, Group, Mutant};
use peakdesk_model::results;
use peakdesk_warehouse::reader::{Committed, Reader};
use rand::Rng;
use rand::rngs::SmallRng;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Rows in a part of a slice, so that slices have several.
pub const PART_ROWS: usize = 60;

#[derive(Debug)]
struct Reading {
    reader: Reader,
    next: i64,
}

#[derive(Debug, Default)]
struct Life {
    readings: BTreeMap<i32, Reading>,
    /// A file could not be written: nothing is read before it is.
    blocked: bool,
}

#[derive(Debug)]
pub struct Warehouse {
    pub group: Group,
    topic: Out,
    shelf: Arc<Memory>,
    slice_ms: i64,
    life: Option<Life>,
}

impl Warehouse {
    pub fn new(group: Group, shelf: Arc<Memory>, slice_ms: i64) -> Self {
        Warehouse {
            group,
            topic: if group == Group::Alerts { Out::Alerts } else { Out::Results },
            shelf,
            slice_ms,
            life: None,
        }
    }

    pub fn is_alive(&self) -> bool {
        self.life.is_some()
    }

    pub fn start(&mut self) {
        self.life = Some(Life::default());
    }

    pub fn crash(&mut self) {
        self.life = None;
    }

    pub fn has(&self, partition: i32) -> bool {
        self.life.as_ref().is_some_and(|life| life.readings.contains_key(&partition))
    }

    pub fn take_over(&mut self, partition: i32, commits: &Commits) {
        let Some(life) = &mut self.life else { return };
        let (next, committed) = match commits.get(&(self.group, partition)) {
            Some((offset, beside)) => (*offset, serde_json::from_str(beside).unwrap()),
            None => (0, Committed::default()),
        };
        let shelf = self.shelf.clone();
        let reader = Reader::new(Path::new(""), partition, self.slice_ms, next, committed);
        let reader = reader.with(|slicer| slicer.on(shelf).with_part_rows(PART_ROWS));
        life.readings.insert(partition, Reading { reader, next });
    }

    pub fn give_up(&mut self, partition: i32) {
        if let Some(life) = &mut self.life {
            life.readings.remove(&partition);
        }
    }

    /// Reads up to `most` messages and writes the files that are whole.
    pub fn work(&mut self, most: usize, broker: &Broker, disk: Disk, rng: &mut SmallRng) -> Result<usize, String> {
        self.shelf.set_disk(disk);
        let Some(life) = &mut self.life else { return Ok(0) };
        let mut read = 0;
        for _ in 0..most {
            if life.blocked {
                life.blocked = life.readings.values_mut().any(|r| r.reader.write(Vec::new()).is_err());
                break;
            }
            let news: Vec<i32> = life
                .readings
                .iter()
                .filter(|(partition, r)| r.next < broker.end(self.topic, **partition))
                .map(|(partition, _)| *partition)
                .collect();
            let Some(partition) = news.get(rng.random_range(0..news.len().max(1))) else {
                break;
            };
            let Some(reading) = life.readings.get_mut(partition) else { break };
            let Some(bytes) = broker.get(self.topic, *partition, reading.next) else {
                break;
            };
            let (span, batches) = results::decode(&bytes).map_err(|e| e.to_string())?;
            let (_, batches) = reading.reader.take(reading.next, &span, batches);
            reading.next += 1;
            read += 1;
            life.blocked = reading.reader.write(batches).is_err();
        }
        self.shelf.set_disk(Disk::Takes);
        Ok(read)
    }

    /// How many messages it has not read, of the partitions it thinks that it has.
    pub fn behind(&self, broker: &Broker) -> i64 {
        let readings = self.life.iter().flat_map(|life| &life.readings);
        readings.map(|(partition, r)| broker.end(self.topic, *partition) - r.next).sum()
    }

    /// Commits what is in files.
    pub fn commit(&mut self, commits: &mut Commits, lost: bool, mutant: Option<Mutant>) {
        let Some(life) = &mut self.life else { return };
        for (partition, reading) in &mut life.readings {
            let Some((mut offset, mut committed)) = reading.reader.to_commit() else {
                continue;
            };
            if mutant == Some(Mutant::CommitsWhatIsInNoFile) {
                (offset, committed.at) = (reading.next, reading.reader.at());
            }
            if !lost {
                let beside = serde_json::to_string(&committed).unwrap();
                commits.insert((self.group, *partition), (offset, beside));
            }
        }
    }
}
